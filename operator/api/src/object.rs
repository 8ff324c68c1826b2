//! From an object of an API server to a spec. The server holds objects to the schema and rules of the version that it was
//! given; here they are held to this program's own, for objects are older than the program that reads them.

use serde_json::{Value, json};

use crate::{set::MySQLReplicaSetSpec, validate};

/// The spec of a MySQLReplicaSet as an API server stores it.
///
/// # Errors
/// What breaks the rules, each by its field, in one line.
pub fn spec_of(name: &str, spec: &Value) -> Result<MySQLReplicaSetSpec, String> {
    let object = json!({ "metadata": { "name": name }, "spec": spec });
    let violations: Vec<String> =
        validate::validate(&object, None).iter().map(|violation| violation.message.clone()).collect();
    if !violations.is_empty() {
        return Err(violations.join("; "));
    }
    let object = validate::with_defaults(&object);
    serde_json::from_value(object["spec"].clone()).map_err(|error| format!("spec cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_a_rule_is_told_by_its_field() {
        let spec = spec_of("shop", &json!({ "version": "9.7", "members": 3 })).expect("valid");
        assert_eq!((spec.members, spec.read_replicas), (3, 0));
        let told = spec_of("shop", &json!({ "version": "9.7", "members": 4 })).expect_err("even");
        assert_eq!(told, "spec.members must be 1, 3 or 5");
        let told = spec_of("shop", &json!({ "version": 9 })).expect_err("a number");
        assert!(told.starts_with("spec.version must be a string"), "{told}");
        let told = spec_of("shop", &Value::Null).expect_err("nothing");
        assert!(told.contains("spec"), "{told}");
    }
}

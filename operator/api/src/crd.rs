//! The CustomResourceDefinition as the API server gets it: derived from the types, then given what a derive cannot say,
//! the bounds and CEL rules of one table (`rules`). The same schema judges manifests where there is no API server.

mod rules;

use std::sync::LazyLock;

use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use crate::set::MySQLReplicaSet;

/// Where the CRD lies in the repository.
pub const FILE: &str = "crds/mysqlreplicasets.drover.dev.yaml";

/// Whole numbers that the derive writes with the format of a Rust type; an API server warns of formats it does not know.
const UNKNOWN_FORMATS: &[&str] = &["uint", "uint8", "uint16", "uint32", "uint64"];

/// The whole CustomResourceDefinition.
pub fn crd() -> Value {
    let mut crd = serde_json::to_value(MySQLReplicaSet::crd()).expect("a CRD is made of JSON types only");
    let schema = crd
        .pointer_mut("/spec/versions/0/schema/openAPIV3Schema")
        .expect("the derive writes one version with a schema");
    *schema = SCHEMA.clone();
    crd
}

/// The schema of a whole object, from its root: `apiVersion`, `kind`, `metadata`, `spec` and `status`.
pub fn schema() -> &'static Value {
    &SCHEMA
}

/// The CustomResourceDefinition as the text of [`FILE`].
///
/// # Errors
/// Where the YAML writer fails; it writes into memory.
pub fn yaml() -> Result<String, serde_saphyr::ser::Error> {
    let body = serde_saphyr::to_string(&crd())?;
    Ok(format!("# Generated from operator/api: UPDATE_CRDS=1 cargo test -p drover-api --test crd\n{body}"))
}

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let crd = serde_json::to_value(MySQLReplicaSet::crd()).expect("a CRD is made of JSON types only");
    let mut schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    tidy(&mut schema);
    about_the_root(&mut schema);
    for (path, keyword, value) in rules::bounds() {
        node(&mut schema, path).insert(keyword.to_owned(), value);
    }
    for rule in rules::rules() {
        let validations = node(&mut schema, rule.at).entry("x-kubernetes-validations").or_insert_with(|| json!([]));
        validations.as_array_mut().expect("only this loop writes validations").push(rule.to_json());
    }
    schema
});

/// What the derive leaves open about the object itself.
fn about_the_root(schema: &mut Value) {
    let description = schema["properties"]["spec"]["description"].clone();
    let root = schema.as_object_mut().expect("a schema is an object");
    root.insert("description".into(), description);
    root.remove("title");
    let properties = &mut schema["properties"];
    properties["apiVersion"] = json!({ "type": "string" });
    properties["kind"] = json!({ "type": "string" });
    properties["metadata"] = json!({ "type": "object" });
    // The one rule on members says all: a range beside it would say half of it again.
    for bound in ["minimum", "maximum"] {
        node(schema, "spec.members").remove(bound);
    }
    node(schema, "status.conditions").remove("default");
    // An object with neither conditions nor an observed generation counts as done for kstatus: the default has to sit on
    // status itself, for a default inside an absent object is never reached.
    schema["properties"]["status"]["default"] = json!({});
}

/// Takes away what an API server warns of or what says nothing: Rust's number formats and their bounds, `nullable` (an API
/// server drops a null where null is not allowed, so that it means "left out"), line ends inside a paragraph.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Array(items) => {
            items.retain(|item| !item.is_null());
            items.iter_mut().for_each(tidy);
        }
        Value::Object(keywords) => {
            if keywords.remove("nullable").is_some() && keywords.get("default") == Some(&Value::Null) {
                keywords.remove("default");
            }
            let format = keywords.get("format").and_then(Value::as_str).unwrap_or_default();
            if UNKNOWN_FORMATS.contains(&format) {
                keywords.remove("format");
            }
            if let Some(Value::String(text)) = keywords.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            for bound in ["minimum", "maximum"] {
                let whole = keywords.get(bound).and_then(Value::as_f64).map(|number| number as i64);
                if let Some(whole) = whole {
                    keywords.insert(bound.into(), whole.into());
                }
            }
            keywords.values_mut().for_each(tidy);
        }
        _ => {}
    }
}

/// The schema at a path such as `spec.machine.subnets.ids[]`: `[]` is a list's item, `{}` a map's value.
fn node<'a>(schema: &'a mut Value, path: &str) -> &'a mut Map<String, Value> {
    let mut at = schema;
    for segment in path.split('.').filter(|segment| !segment.is_empty()) {
        let name = segment.trim_end_matches("[]").trim_end_matches("{}");
        at = &mut at["properties"][name];
        if segment.ends_with("[]") {
            at = &mut at["items"];
        } else if segment.ends_with("{}") {
            at = &mut at["additionalProperties"];
        }
    }
    at.as_object_mut()
        .unwrap_or_else(|| unreachable!("the table of bounds and rules names {path}, which the schema does not have"))
}

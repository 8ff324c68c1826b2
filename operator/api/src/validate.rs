//! The CRD's schema and CEL rules where there is no API server: a directory of manifests is held to the very rules that a
//! cluster would hold it to, and each mistake is told by its field and what is allowed there.

use std::{collections::BTreeSet, fmt, sync::LazyLock};

use kube_cel::CompiledSchema;
use serde_json::{Map, Value, json};

use crate::{crd, set::DataVolumeSpec};

/// One mistake in an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Such as `spec.machine.subnets.ids[0]`.
    pub field: String,
    /// Names the field and says what is allowed.
    pub message: String,
}

/// Every mistake in an object, or none. `old` is the same object before, for what cannot be changed. Both are taken with the
/// schema's defaults filled in, and a null as left out, as an API server does.
pub fn validate(new: &Value, old: Option<&Value>) -> Vec<Violation> {
    let new = with_defaults(new);
    let mut walk = Walk::default();
    walk.value(crd::schema(), &new, &Path::root());
    // Rules are written for the types and bounds of the schema: they are asked once those hold.
    if !walk.blocks {
        let old = old.map(with_defaults);
        walk.violations.extend(broken_rules(&new, old.as_ref()));
    }
    walk.violations
}

/// Every mistake in a `machine` that stands at `at` instead of in a manifest's `spec`.
pub fn validate_machine(machine: &Value, at: &str) -> Vec<Violation> {
    let object = json!({ "metadata": { "name": "defaults" }, "spec": { "version": "0.0", "machine": machine } });
    let elsewhere = |violation: Violation| Violation {
        field: violation.field.replacen("spec.machine", at, 1),
        message: violation.message.replace("spec.machine", at),
    };
    validate(&object, None).into_iter().map(elsewhere).collect()
}

/// Where a value differs from a schema that has no rules.
pub(crate) fn by_schema(schema: &Value, value: &Value) -> Vec<Violation> {
    let mut walk = Walk::default();
    walk.value(schema, value, &Path::root());
    walk.violations
}

/// What the rules say against a data volume whose parts may come from different places, a line each.
pub fn validate_data_volume(volume: &DataVolumeSpec) -> Vec<String> {
    let path = ["spec", "machine", "dataVolume"];
    let rules = path.iter().try_fold(compiled(), |rules, name| rules.properties.get(*name));
    let rules = rules.expect("the schema has a data volume");
    let volume = serde_json::to_value(volume).expect("a volume is made of JSON types only");
    let broken = kube_cel::validate_compiled(rules, &volume, None).err().into_iter().flatten();
    let mut messages: Vec<String> = broken.map(|error| error.message).collect();
    messages.sort();
    messages.dedup();
    messages
}

/// The object as an API server would store it: the schema's defaults filled in, nulls left out.
pub fn with_defaults(object: &Value) -> Value {
    let mut object = object.clone();
    fill_in(crd::schema(), &mut object);
    object
}

fn compiled() -> &'static CompiledSchema {
    static COMPILED: LazyLock<CompiledSchema> = LazyLock::new(|| kube_cel::compile_schema(crd::schema()));
    &COMPILED
}

fn broken_rules(new: &Value, old: Option<&Value>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for error in kube_cel::validate_compiled(compiled(), new, old).err().into_iter().flatten() {
        match map_at(compiled(), new, &error.field_path) {
            Some((rules, entries)) => violations.extend(broken_by_entries(rules, entries, &error.field_path)),
            None => violations.push(Violation {
                field: if error.field_path.is_empty() { "metadata.name".into() } else { error.field_path },
                message: error.message,
            }),
        }
    }
    // kube-cel walks properties in no order of its own: reports of one object are to be equal.
    violations.sort_by(|a, b| (&a.field, &a.message).cmp(&(&b.field, &b.message)));
    violations.dedup();
    violations
}

/// A rule on a map stops at the first bad entry, whichever that is. Asked about one entry at a time, it names each.
fn broken_by_entries(rules: &CompiledSchema, entries: &Map<String, Value>, path: &str) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (key, value) in entries {
        let alone = Value::Object(Map::from_iter([(key.clone(), value.clone())]));
        for error in kube_cel::validate_compiled(rules, &alone, None).err().into_iter().flatten() {
            violations.push(Violation { field: format!("{path}.{key}"), message: error.message });
        }
    }
    violations
}

/// The rules and entries of the map at `path`, where there is a map.
fn map_at<'a>(
    root: &'a CompiledSchema,
    object: &'a Value,
    path: &str,
) -> Option<(&'a CompiledSchema, &'a Map<String, Value>)> {
    let (mut rules, mut value) = (root, object);
    for name in path.split('.').filter(|name| !name.is_empty()) {
        (rules, value) = (rules.properties.get(name)?, value.get(name)?);
    }
    let entries = value.as_object().filter(|_| rules.is_map)?;
    Some((rules, entries))
}

/// Fills in a schema's defaults, and leaves nulls out.
pub(crate) fn fill_in(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let Some(properties) = schema["properties"].as_object() else {
                return;
            };
            fields.retain(|name, value| !(value.is_null() && properties.contains_key(name)));
            for (name, schema) in properties {
                if let Some(default) = schema.get("default") {
                    fields.entry(name).or_insert_with(|| default.clone());
                }
                if let Some(field) = fields.get_mut(name) {
                    fill_in(schema, field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill_in(&schema["items"], item)),
        _ => {}
    }
}

/// Where in the object, in the words of a manifest.
struct Path(String);

#[derive(Default)]
struct Walk {
    violations: Vec<Violation>,
    /// A type or a bound is broken, so that CEL could fail or run long.
    blocks: bool,
}

impl Walk {
    fn value(&mut self, schema: &Value, value: &Value, path: &Path) {
        let wanted = schema["type"].as_str().unwrap_or_default();
        if !has_type(wanted, value) {
            return self.blocking(path, wrong_type(wanted, value));
        }
        if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
            let allowed: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
            self.tell(path, format!("must be {}, not {value}", or(&allowed)));
        }
        match value {
            Value::Number(number) => self.number(schema, number.as_i64(), path),
            Value::String(text) => self.size(schema, "Length", text.chars().count(), "characters", path),
            Value::Array(items) => self.list(schema, items, path),
            Value::Object(fields) => self.object(schema, fields, path),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn object(&mut self, schema: &Value, fields: &Map<String, Value>, path: &Path) {
        self.size(schema, "Properties", fields.len(), "entries", path);
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                let wanted = schema["properties"][name]["type"].as_str().unwrap_or_default();
                self.blocking(&path.field(name), format!("is required: {}", a(wanted)));
            }
        }
        if let Some(properties) = schema["properties"].as_object() {
            for (name, value) in fields {
                match properties.get(name) {
                    Some(schema) => self.value(schema, value, &path.field(name)),
                    None => self.unknown(properties, name, path),
                }
            }
        } else if let Some(schema) = schema.get("additionalProperties") {
            for (name, value) in fields {
                self.value(schema, value, &path.field(name));
            }
        }
    }

    fn list(&mut self, schema: &Value, items: &[Value], path: &Path) {
        self.size(schema, "Items", items.len(), "entries", path);
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let at = path.item(index);
            if schema["x-kubernetes-list-type"] == "set" && !seen.insert(item.to_string()) {
                self.tell(&at, format!("must not repeat {item}"));
            }
            self.value(&schema["items"], item, &at);
        }
    }

    fn number(&mut self, schema: &Value, number: Option<i64>, path: &Path) {
        let bounds = (schema["minimum"].as_i64(), schema["maximum"].as_i64());
        let fits = number.is_some_and(|n| bounds.0.is_none_or(|min| n >= min) && bounds.1.is_none_or(|max| n <= max));
        if !fits {
            self.tell(path, format!("must be {}", range(bounds)));
        }
    }

    /// Checks `min<what>` and `max<what>`.
    fn size(&mut self, schema: &Value, what: &str, size: usize, unit: &str, path: &Path) {
        let bounds = (schema[format!("min{what}")].as_i64(), schema[format!("max{what}")].as_i64());
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        if bounds.0.is_some_and(|min| size < min) || bounds.1.is_some_and(|max| size > max) {
            self.blocking(path, format!("must have {} {unit}, and has {size}", range(bounds)));
        }
    }

    fn unknown(&mut self, known: &Map<String, Value>, name: &str, path: &Path) {
        let known: Vec<&str> = known.keys().map(String::as_str).collect();
        self.tell(&path.field(name), format!("is not a field; {path} has {}", and(&known)));
    }

    fn blocking(&mut self, path: &Path, told: String) {
        self.blocks = true;
        self.tell(path, told);
    }

    fn tell(&mut self, path: &Path, told: String) {
        self.violations.push(Violation { field: path.0.clone(), message: format!("{path} {told}") });
    }
}

impl Path {
    fn root() -> Self {
        Path(String::new())
    }

    fn field(&self, name: &str) -> Self {
        match self.0.is_empty() {
            true => Path(name.to_owned()),
            false => Path(format!("{}.{name}", self.0)),
        }
    }

    fn item(&self, index: usize) -> Self {
        Path(format!("{}[{index}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "the object" } else { &self.0 })
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

fn has_type(wanted: &str, value: &Value) -> bool {
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        _ => false,
    }
}

fn wrong_type(wanted: &str, value: &Value) -> String {
    match (wanted, value) {
        ("string", Value::Number(_) | Value::Bool(_)) => "must be a string: put the value in quotes".into(),
        ("string", Value::Null) => "must be a string: \"\" is the empty one".into(),
        (_, Value::Object(_)) => format!("must be {}, not a map", a(wanted)),
        (_, Value::Array(_)) => format!("must be {}, not a list", a(wanted)),
        _ => format!("must be {}, not {value}", a(wanted)),
    }
}

fn a(wanted: &str) -> &'static str {
    match wanted {
        "object" => "a map",
        "array" => "a list",
        "string" => "a string",
        "boolean" => "true or false",
        "integer" => "a whole number",
        _ => "a value",
    }
}

fn range(bounds: (Option<i64>, Option<i64>)) -> String {
    match bounds {
        (Some(min), Some(max)) => format!("{min} to {max}"),
        (Some(min), None) => format!("at least {min}"),
        (None, Some(max)) => format!("at most {max}"),
        (None, None) => "a whole number of 64 bits".into(),
    }
}

fn or(words: &[&str]) -> String {
    join(words, "or")
}

fn and(words: &[&str]) -> String {
    join(words, "and")
}

fn join(words: &[&str], last: &str) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [most @ .., end] => format!("{} {last} {end}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The schema keywords that are checked here or that only explain.
    const KEYWORDS: &[&str] = &[
        "additionalProperties",
        "default",
        "description",
        "enum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "properties",
        "required",
        "type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-validations",
    ];

    fn keywords(schema: &Value, found: &mut BTreeSet<String>) {
        found.extend(schema.as_object().into_iter().flatten().map(|(keyword, _)| keyword.clone()));
        let children = schema["properties"].as_object().into_iter().flatten().map(|(_, child)| child);
        children
            .chain(schema.get("items"))
            .chain(schema.get("additionalProperties"))
            .for_each(|child| keywords(child, found));
    }

    #[test]
    fn no_keyword_of_the_schema_is_ignored() {
        let mut found = BTreeSet::new();
        keywords(crd::schema(), &mut found);
        let ignored: Vec<&String> = found.iter().filter(|keyword| !KEYWORDS.contains(&keyword.as_str())).collect();
        assert_eq!(ignored, Vec::<&String>::new());
    }

    #[test]
    fn defaults_are_filled_in_at_every_depth() {
        let object = with_defaults(&json!({ "spec": { "version": "9.7", "mysql": { "durability": null } } }));
        assert_eq!(object["spec"]["members"], 3);
        assert_eq!(object["spec"]["mysql"], json!({ "settings": {}, "durability": "standard" }));
        assert_eq!(object["status"], json!({ "observedGeneration": -1 }));
    }
}

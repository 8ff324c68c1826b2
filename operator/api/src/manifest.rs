//! From a file of YAML to manifests. Every mistake is told with its line and field, and one bad document stops no other.

use serde_json::{Map, Value};

use crate::{
    Namespace, ResourceKey, ResourceName,
    defaults::{ResolvedSet, SCHEMA_FIELDS, Terms, Unresolved},
    set::{GROUP, KIND, MySQLReplicaSetSpec, VERSION},
    validate::{self, Violation},
    yaml::{self, Document, Mistake, Places, at_line},
};

/// The most text that one file may have, in bytes, and the most documents.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
pub const DOCUMENTS_MAX: usize = 1000;

/// One set that is wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    pub key: ResourceKey,
    pub spec: MySQLReplicaSetSpec,
    pub file: String,
    /// Where the document begins in the file, counted from 1.
    pub line: u64,
    /// The object with the schema's defaults, and where each of its fields stands.
    object: Value,
    places: Places,
    /// Of the fields that the schema has a value for, those that the document does not say.
    left_out: Vec<&'static str>,
}

/// Reads all documents of one file. Good ones are returned beside the mistakes of the others.
pub fn parse(file: &str, text: &str) -> (Vec<Manifest>, Vec<Mistake>) {
    let mut errors = Vec::new();
    let mut manifests: Vec<Manifest> = Vec::new();
    if text.len() > FILE_BYTES_MAX {
        let message = format!("the file has {} bytes, and may have {FILE_BYTES_MAX}", text.len());
        errors.push(at_line(file, 1, message));
        return (manifests, errors);
    }
    let documents = documents(text);
    if let Some((line, _)) = documents.get(DOCUMENTS_MAX) {
        let message = format!("a file may have {DOCUMENTS_MAX} documents: those from here on are not read");
        errors.push(at_line(file, *line, message));
    }
    for (line, document) in documents.into_iter().take(DOCUMENTS_MAX) {
        match one(file, line, &document) {
            Ok(None) => {}
            Ok(Some(manifest)) => match manifests.iter().find(|known| known.key == manifest.key) {
                Some(first) => errors.push(manifest.declared_already(first)),
                None => manifests.push(manifest),
            },
            Err(found) => errors.extend(found),
        }
    }
    (manifests, errors)
}

impl Manifest {
    /// The set that is declared, with the operator's defaults filled in, and where each value came from.
    pub fn resolve(&self, terms: &Terms) -> Result<ResolvedSet, Unresolved> {
        terms.resolve(self.key.clone(), &self.spec, &self.left_out)
    }

    /// That this manifest is for a set which `first` is for already, in this file or another.
    pub fn declared_already(&self, first: &Manifest) -> Mistake {
        let place = match first.file == self.file {
            true => format!("at line {}", first.line),
            false => format!("in {}, line {}", first.file, first.line),
        };
        let what = format!("{} is declared already {place}, which is used: remove one of the two", self.key);
        let violation = told("metadata.name", &what);
        self.places.mistake(&self.file, violation)
    }

    /// What in this manifest cannot be reached from what the set is now.
    pub fn refused_changes(&self, now: &MySQLReplicaSetSpec) -> Vec<Mistake> {
        let mut old = self.object.clone();
        old["spec"] = serde_json::to_value(now).expect("a spec is made of JSON types only");
        let told = |violation| self.places.mistake(&self.file, violation);
        validate::validate(&self.object, Some(&old)).into_iter().map(told).collect()
    }
}

/// The documents of a file, each with the number of its first line. A line that begins with `---` begins a document even
/// inside block scalars (YAML 1.2, "Document Markers"), so that each can be read on its own.
fn documents(text: &str) -> Vec<(u64, String)> {
    let mut documents: Vec<(u64, String)> = Vec::new();
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let marker =
            line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        match documents.last_mut().filter(|_| !marker) {
            Some((_, document)) => document.push_str(line),
            None => documents.push((number, line.to_owned())),
        }
    }
    documents
}

/// One document; `None` where it is empty.
fn one(file: &str, first_line: u64, text: &str) -> Result<Option<Manifest>, Vec<Mistake>> {
    let Document { value: mut object, places } = yaml::read(file, first_line, text).map_err(|mistake| vec![mistake])?;
    if object.is_null() {
        return Ok(None);
    }
    let mut violations = Vec::new();
    if let Err(violation) = is_ours(&object) {
        return Err(vec![places.mistake(file, violation)]);
    }
    let key = metadata(&mut object, &mut violations);
    if object.get("status").is_some() {
        violations.push(told("status", "is written by Drover: a manifest has apiVersion, kind, metadata and spec"));
    }
    violations.extend(validate::validate(&object, None));
    violations.dedup();
    let (Some(key), true) = (key, violations.is_empty()) else {
        return Err(violations.into_iter().map(|violation| places.mistake(file, violation)).collect());
    };
    let says = |field: &&str| object.pointer(&format!("/{}", field.replace('.', "/"))).is_some_and(|at| !at.is_null());
    let left_out = SCHEMA_FIELDS.into_iter().filter(|field| !says(field)).collect();
    let object = validate::with_defaults(&object);
    // The schema and the type come from one source, and the schema has just been held: a difference would be our mistake,
    // and is told like any other rather than hidden.
    let spec = serde_json::from_value(object["spec"].clone())
        .map_err(|error| vec![places.mistake(file, told("spec", &format!("cannot be read: {error}")))])?;
    Ok(Some(Manifest { key, spec, file: file.to_owned(), line: places.place("").0, object, places, left_out }))
}

/// Whether the document is of a kind and version that this build knows.
fn is_ours(object: &Value) -> Result<(), Violation> {
    if !object.is_object() {
        return Err(Violation {
            field: String::new(),
            message: "a document must be a map with apiVersion, kind, metadata and spec".into(),
        });
    }
    for (field, known) in [("kind", KIND.to_owned()), ("apiVersion", format!("{GROUP}/{VERSION}"))] {
        match object.get(field) {
            Some(found) if *found == known => {}
            Some(found) => return Err(told(field, &format!("must be {known}, not {found}"))),
            None => return Err(told(field, &format!("is required: {known}"))),
        }
    }
    Ok(())
}

/// Reads who the object is. Where it has no readable name it gets one, so that its spec is still judged.
fn metadata(object: &mut Value, violations: &mut Vec<Violation>) -> Option<ResourceKey> {
    const UNNAMED: &str = "unnamed";
    let Some(Value::Object(metadata)) = object.get_mut("metadata") else {
        violations.push(told("metadata", "is required: a map with a name"));
        object["metadata"] = Map::from_iter([("name".to_owned(), UNNAMED.into())]).into();
        return None;
    };
    for (field, value) in metadata.iter() {
        let field = format!("metadata.{field}");
        match field.as_str() {
            "metadata.name" | "metadata.namespace" => {}
            "metadata.labels" | "metadata.annotations" => labels(&field, value, violations),
            _ => violations
                .push(told(&field, "is not read from a manifest; name, namespace, labels and annotations are")),
        }
    }
    let namespace = match metadata.get("namespace") {
        None | Some(Value::Null) => Namespace::new("default").ok(),
        Some(value) => value.as_str().and_then(|text| Namespace::new(text).ok()),
    };
    if namespace.is_none() {
        let rule = "must be 1 to 63 lower-case letters, digits and '-', beginning and ending with a letter or digit";
        violations.push(told("metadata.namespace", rule));
    }
    match metadata.get("name") {
        // What a name may be is a rule of the schema.
        Some(Value::String(name)) => {
            Some(ResourceKey { namespace: namespace?, name: ResourceName::new(name.as_str()).ok()? })
        }
        found => {
            let message = match found {
                None | Some(Value::Null) => "is required: a string",
                Some(_) => "must be a string: put the value in quotes",
            };
            violations.push(told("metadata.name", message));
            metadata.insert("name".into(), UNNAMED.into());
            None
        }
    }
}

fn labels(field: &str, value: &Value, violations: &mut Vec<Violation>) {
    match value {
        Value::Null => {}
        Value::Object(entries) => {
            for (name, _) in entries.iter().filter(|(_, value)| !value.is_string()) {
                violations.push(told(&format!("{field}.{name}"), "must be a string: put the value in quotes"));
            }
        }
        _ => violations.push(told(field, "must be a map of strings")),
    }
}

fn told(field: &str, what: &str) -> Violation {
    Violation { field: field.to_owned(), message: format!("{field} {what}") }
}

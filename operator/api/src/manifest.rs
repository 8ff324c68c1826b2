//! From a file of YAML to manifests. Every mistake is told with its line and field, and one bad document stops no other.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, MessageFormatter as _, Spanned, UserMessageFormatter};

use crate::{
    Namespace, ResourceKey, ResourceName,
    set::{GROUP, KIND, MySQLReplicaSetSpec, VERSION},
    validate::{self, Violation},
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
}

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct ManifestError {
    pub file: String,
    /// Counted from 1.
    pub line: u64,
    pub column: u64,
    /// Such as `spec.members`; empty where it is not about a field.
    pub field: String,
    /// Names the field and says what is allowed.
    pub message: String,
}

/// Reads all documents of one file. Good ones are returned beside the mistakes of the others.
pub fn parse(file: &str, text: &str) -> (Vec<Manifest>, Vec<ManifestError>) {
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
    /// That this manifest is for a set which `first` is for already, in this file or another.
    pub fn declared_already(&self, first: &Manifest) -> ManifestError {
        let place = match first.file == self.file {
            true => format!("at line {}", first.line),
            false => format!("in {}, line {}", first.file, first.line),
        };
        let violation = told("metadata.name", &format!("{} is declared already {place}", self.key));
        self.places.error(&self.file, violation)
    }

    /// What in this manifest cannot be reached from what the set is now.
    pub fn refused_changes(&self, now: &MySQLReplicaSetSpec) -> Vec<ManifestError> {
        let mut old = self.object.clone();
        old["spec"] = serde_json::to_value(now).expect("a spec is made of JSON types only");
        let told = |violation| self.places.error(&self.file, violation);
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
fn one(file: &str, first_line: u64, text: &str) -> Result<Option<Manifest>, Vec<ManifestError>> {
    let options = serde_saphyr::options! { with_snippet: false, budget: serde_saphyr::budget! { max_depth: 64 } };
    let root: Spanned<Node> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let (line, column) = error.location().and_then(|at| in_file(first_line, at)).unwrap_or((first_line, 1));
        let message = UserMessageFormatter.format_message(error.without_snippet()).into_owned();
        vec![ManifestError { column, ..at_line(file, line, message) }]
    })?;
    let mut places = Places::new(first_line);
    let mut object = root.value.flatten("", &mut places);
    if object.is_null() {
        return Ok(None);
    }
    let mut violations = Vec::new();
    if let Err(violation) = is_ours(&object) {
        return Err(vec![places.error(file, violation)]);
    }
    let key = metadata(&mut object, &mut violations);
    if object.get("status").is_some() {
        violations.push(told("status", "is written by Drover: a manifest has apiVersion, kind, metadata and spec"));
    }
    violations.extend(validate::validate(&object, None));
    violations.dedup();
    let (Some(key), true) = (key, violations.is_empty()) else {
        return Err(violations.into_iter().map(|violation| places.error(file, violation)).collect());
    };
    let object = validate::with_defaults(&object);
    // The schema and the type come from one source, and the schema has just been held: a difference would be our mistake,
    // and is told like any other rather than hidden.
    let spec = serde_json::from_value(object["spec"].clone())
        .map_err(|error| vec![places.error(file, told("spec", &format!("cannot be read: {error}")))])?;
    Ok(Some(Manifest { key, spec, file: file.to_owned(), line: places.place("").0, object, places }))
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

fn at_line(file: &str, line: u64, message: String) -> ManifestError {
    ManifestError { file: file.to_owned(), line, column: 1, field: String::new(), message: printable(&message) }
}

/// A message quotes what the file says; on a terminal that must not be more than text.
fn printable(message: &str) -> String {
    message.replace(char::is_control, "\u{fffd}")
}

/// Line and column in the file of a place in one of its documents; `None` where the reader does not know (its line 0).
fn in_file(first_line: u64, at: Location) -> Option<(u64, u64)> {
    Some((first_line + at.line().checked_sub(1)?, at.column()))
}

/// Line and column of each field, in lines of the file.
#[derive(Clone, Debug, PartialEq)]
struct Places {
    first_line: u64,
    by_field: BTreeMap<String, (u64, u64)>,
}

impl Places {
    fn new(first_line: u64) -> Self {
        Self { first_line, by_field: BTreeMap::new() }
    }

    fn note(&mut self, field: &str, at: Location) {
        if let Some(place) = in_file(self.first_line, at) {
            self.by_field.insert(field.to_owned(), place);
        }
    }

    /// Where a field stands, or the nearest that it lies in.
    fn place(&self, field: &str) -> (u64, u64) {
        let mut field = field;
        loop {
            if let Some(place) = self.by_field.get(field) {
                return *place;
            }
            match field.rfind(['.', '[']) {
                Some(end) => field = &field[..end],
                None if field.is_empty() => return (self.first_line, 1),
                None => field = "",
            }
        }
    }

    fn error(&self, file: &str, violation: Violation) -> ManifestError {
        let (line, column) = self.place(&violation.field);
        ManifestError { column, field: violation.field, ..at_line(file, line, violation.message) }
    }
}

/// A YAML node that remembers where its parts stand.
enum Node {
    Scalar(Value),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl Node {
    fn flatten(self, path: &str, places: &mut Places) -> Value {
        match self {
            Node::Scalar(value) => value,
            Node::List(items) => {
                let item = |(index, item): (usize, Spanned<Node>)| {
                    let path = format!("{path}[{index}]");
                    places.note(&path, item.referenced);
                    item.value.flatten(&path, places)
                };
                Value::Array(items.into_iter().enumerate().map(item).collect())
            }
            Node::Map(entries) => {
                if let Some((first, _)) = entries.first().filter(|_| path.is_empty()) {
                    places.note("", first.referenced);
                }
                let entry = |(name, value): (Spanned<String>, Spanned<Node>)| {
                    let path = if path.is_empty() { name.value.clone() } else { format!("{path}.{}", name.value) };
                    places.note(&path, name.referenced);
                    (name.value, value.value.flatten(&path, places))
                };
                Value::Object(entries.into_iter().map(entry).collect())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyNode)
    }
}

struct AnyNode;

impl<'de> Visitor<'de> for AnyNode {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Node, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number must be finite"))?;
        Ok(Node::Scalar(Value::Number(number)))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
}

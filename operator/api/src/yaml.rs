//! YAML that remembers where its fields stand, so that each mistake can be told with its file, line and field.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Number, Value};
use serde_saphyr::{Location, MessageFormatter as _, Spanned, UserMessageFormatter};

use crate::validate::Violation;

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct Mistake {
    pub file: String,
    /// Counted from 1.
    pub line: u64,
    pub column: u64,
    /// Such as `spec.members`; empty where it is not about a field.
    pub field: String,
    /// Names the field and says what is allowed.
    pub message: String,
}

/// A document as plain data, and where each of its fields stands.
pub(crate) struct Document {
    pub value: Value,
    pub places: Places,
}

/// Reads one document that begins in `first_line` of its file.
pub(crate) fn read(file: &str, first_line: u64, text: &str) -> Result<Document, Mistake> {
    let options = serde_saphyr::options! { with_snippet: false, budget: serde_saphyr::budget! { max_depth: 64 } };
    let root: Spanned<Node> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let (line, column) = error.location().and_then(|at| in_file(first_line, at)).unwrap_or((first_line, 1));
        let message = UserMessageFormatter.format_message(error.without_snippet()).into_owned();
        Mistake { column, ..at_line(file, line, message) }
    })?;
    let mut places = Places::new(first_line);
    let value = root.value.flatten("", &mut places);
    Ok(Document { value, places })
}

pub(crate) fn at_line(file: &str, line: u64, message: String) -> Mistake {
    Mistake { file: file.to_owned(), line, column: 1, field: String::new(), message: printable(&message) }
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
pub(crate) struct Places {
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
    pub fn place(&self, field: &str) -> (u64, u64) {
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

    pub fn mistake(&self, file: &str, violation: Violation) -> Mistake {
        let (line, column) = self.place(&violation.field);
        Mistake { column, field: violation.field, ..at_line(file, line, violation.message) }
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

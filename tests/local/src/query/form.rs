//! Reading an EC2 Query request: `Action=...&Filter.1.Name=...` to typed values, strictly. What no reader asked for is an
//! unknown parameter and is refused, so that nothing a client sent is ever ignored.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use percent_encoding::percent_decode_str;

/// The most parameters of one request: 1,000 ids with as many tags would not be one request on EC2 either.
const PARAMETERS_MAX: usize = 10_000;
/// The most elements of one list (EC2 User Guide: CreateTags and TerminateInstances take up to 1,000 ids).
const LIST_MAX: usize = 1_000;

/// A request that cannot be read. The names are EC2's error codes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("The request is not a form: {0}")]
    MalformedQueryString(&'static str),
    #[error("The request must contain the parameter {0}")]
    MissingParameter(String),
    #[error("The parameter {0} is not recognized")]
    UnknownParameter(String),
    #[error("Value ({value}) for parameter {name} is invalid. {reason}")]
    InvalidParameterValue { name: String, value: String, reason: &'static str },
    #[error("The parameter {0} has more than 1000 elements")]
    TooManyElements(String),
}

/// All parameters of one request, and which of them were read.
#[derive(Debug)]
pub struct Form {
    values: BTreeMap<String, String>,
    read: RefCell<BTreeSet<String>>,
}

/// The parameters below one prefix: the whole request, or `Filter.1.`.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    form: &'a Form,
    prefix: String,
}

/// A value that one parameter can hold.
pub trait Value: Sized {
    /// What a value must be, as the error message says it.
    const EXPECTED: &'static str;
    fn parse(text: &str) -> Option<Self>;
}

impl Form {
    /// Splits and decodes the body of a request.
    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(body).map_err(|_| Malformed::MalformedQueryString("it is not UTF-8"))?;
        let mut values = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if values.insert(decode(name)?, decode(value)?).is_some() {
                return Err(Malformed::MalformedQueryString("a parameter occurs twice"));
            }
            if values.len() > PARAMETERS_MAX {
                return Err(Malformed::MalformedQueryString("it has more than 10000 parameters"));
            }
        }
        Ok(Self { values, read: RefCell::default() })
    }

    /// A reader of the whole request.
    pub fn reader(&self) -> Reader<'_> {
        Reader { form: self, prefix: String::new() }
    }

    /// The ids that the request names, joined by a space, the first ten: for people who read the log.
    pub fn ids(&self) -> String {
        let named = |name: &str| {
            let stem = name.split('.').next().unwrap_or_default();
            stem.ends_with("Id") && !stem.starts_with("ImageId")
        };
        let ids = self.values.iter().filter(|(name, _)| named(name)).map(|(_, value)| value.as_str());
        ids.take(10).collect::<Vec<_>>().join(" ")
    }

    /// Fails when a parameter was sent that nobody read.
    pub fn finish(&self) -> Result<(), Malformed> {
        let read = self.read.borrow();
        match self.values.keys().find(|name| !read.contains(*name)) {
            Some(name) => Err(Malformed::UnknownParameter(name.clone())),
            None => Ok(()),
        }
    }
}

impl<'a> Reader<'a> {
    /// The parameter, if it was sent.
    pub fn optional<T: Value>(&self, name: &str) -> Result<Option<T>, Malformed> {
        let name = format!("{}{name}", self.prefix);
        let Some(text) = self.form.values.get(&name) else {
            return Ok(None);
        };
        self.form.read.borrow_mut().insert(name.clone());
        match T::parse(text) {
            Some(value) => Ok(Some(value)),
            None => Err(Malformed::InvalidParameterValue { name, value: text.clone(), reason: T::EXPECTED }),
        }
    }

    /// The parameter, which must be sent.
    pub fn required<T: Value>(&self, name: &str) -> Result<T, Malformed> {
        self.optional(name)?.ok_or_else(|| Malformed::MissingParameter(format!("{}{name}", self.prefix)))
    }

    /// A parameter that may be sent, with the one value that everything has here.
    pub fn only(&self, name: &str, default: &str) -> Result<(), Malformed> {
        match self.optional::<String>(name)? {
            Some(value) if value != default => {
                let name = format!("{}{name}", self.prefix);
                Err(Malformed::InvalidParameterValue { name, value, reason: "Only the default is supported here." })
            }
            _ => Ok(()),
        }
    }

    /// `Name.1`, `Name.2`, ... in the order of their numbers.
    pub fn list<T: Value>(&self, name: &str) -> Result<Vec<T>, Malformed> {
        let indices = self.indices(name)?;
        indices.iter().map(|index| self.required(&format!("{name}.{index}"))).collect()
    }

    /// `Name.1.X`, `Name.2.X`, ...: each read by `read`.
    pub fn structures<T>(
        &self,
        name: &str,
        read: impl Fn(Reader<'a>) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let indices = self.indices(name)?;
        indices.iter().map(|index| read(self.below(&format!("{name}.{index}")))).collect()
    }

    /// `Name.X`: `None` where nothing below the name was sent.
    pub fn structure<T>(
        &self,
        name: &str,
        read: impl Fn(Reader<'a>) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        let below = self.below(name);
        let sent = self.form.values.keys().any(|key| key.starts_with(&below.prefix));
        if sent { read(below).map(Some) } else { Ok(None) }
    }

    /// The parameter's full name, for an error message.
    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn below(&self, name: &str) -> Reader<'a> {
        Reader { form: self.form, prefix: format!("{}{name}.", self.prefix) }
    }

    fn indices(&self, name: &str) -> Result<BTreeSet<u32>, Malformed> {
        let prefix = format!("{}{name}.", self.prefix);
        let rest = self.form.values.keys().filter_map(|key| key.strip_prefix(&prefix));
        // What is not a canonical number stays unread, so that `finish` names it.
        let index = |rest: &str| {
            let digits = rest.split('.').next().unwrap_or_default();
            digits.parse().ok().filter(|index: &u32| index.to_string() == digits)
        };
        let indices: BTreeSet<u32> = rest.filter_map(index).collect();
        if indices.len() > LIST_MAX { Err(Malformed::TooManyElements(self.name(name))) } else { Ok(indices) }
    }
}

fn decode(text: &str) -> Result<String, Malformed> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(Into::into).map_err(|_| Malformed::MalformedQueryString("a value is not UTF-8"))
}

impl Value for String {
    const EXPECTED: &'static str = "Expected a string.";
    fn parse(text: &str) -> Option<Self> {
        Some(text.into())
    }
}

impl Value for bool {
    const EXPECTED: &'static str = "Expected true or false.";
    fn parse(text: &str) -> Option<Self> {
        match text {
            "true" | "True" | "1" => Some(true),
            "false" | "False" | "0" => Some(false),
            _ => None,
        }
    }
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Value for $type {
            const EXPECTED: &'static str = "Expected a number.";
            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )*};
}
number!(i32, i64, u8, u16, u32, u64, usize);

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T>(body: &str, read: impl Fn(Reader<'_>) -> Result<T, Malformed>) -> Result<T, Malformed> {
        let form = Form::parse(body.as_bytes())?;
        let value = read(form.reader())?;
        form.finish()?;
        Ok(value)
    }

    #[test]
    fn lists_are_read_in_the_order_of_their_numbers() {
        let ids = |reader: Reader<'_>| reader.list::<String>("InstanceId");
        assert_eq!(
            read("InstanceId.10=c&InstanceId.2=b&InstanceId.1=a", ids),
            Ok(vec!["a".into(), "b".into(), "c".into()])
        );
        assert_eq!(read("", ids), Ok(vec![]));
    }

    #[test]
    fn structures_nest() {
        let filters = |reader: Reader<'_>| {
            reader.structures("Filter", |filter| {
                Ok((filter.required::<String>("Name")?, filter.list::<String>("Value")?))
            })
        };
        let body = "Filter.1.Name=tag%3Aa&Filter.1.Value.1=x+y&Filter.1.Value.2=%2B&Filter.2.Name=b";
        assert_eq!(
            read(body, filters),
            Ok(vec![("tag:a".into(), vec!["x y".into(), "+".into()]), ("b".into(), vec![])])
        );
    }

    #[test]
    fn what_nobody_reads_is_refused_by_name() {
        for (body, expected) in [
            ("Id=a&Color=red", Malformed::UnknownParameter("Color".into())),
            ("Id=a&Tag.1.Key=k&Tag.x=v", Malformed::UnknownParameter("Tag.x".into())),
            ("Id=a&Tag.01.Key=k", Malformed::UnknownParameter("Tag.01.Key".into())),
            ("Id=a&Tag.1.Key=k&Tag.1.Kay=v", Malformed::UnknownParameter("Tag.1.Kay".into())),
            ("Tag.1.Key=k", Malformed::MissingParameter("Id".into())),
            ("Id=a&Tag.1.Kay=k", Malformed::MissingParameter("Tag.1.Key".into())),
            ("Id=a&Id=b", Malformed::MalformedQueryString("a parameter occurs twice")),
            ("Id=%ff", Malformed::MalformedQueryString("a value is not UTF-8")),
        ] {
            let got = read(body, |reader| {
                reader.required::<String>("Id")?;
                reader.structures("Tag", |tag| tag.required::<String>("Key"))
            });
            assert_eq!(got, Err(expected), "{body}");
        }
    }

    #[test]
    fn values_have_types_and_lists_have_bounds() {
        let number = |reader: Reader<'_>| reader.optional::<u32>("MaxResults");
        assert_eq!(read("MaxResults=5", number), Ok(Some(5)));
        assert!(matches!(read("MaxResults=-1", number), Err(Malformed::InvalidParameterValue { .. })));
        let flag = |reader: Reader<'_>| reader.optional::<bool>("DryRun");
        assert_eq!(read("DryRun=true", flag), Ok(Some(true)));
        assert!(matches!(read("DryRun=maybe", flag), Err(Malformed::InvalidParameterValue { .. })));
        let long: Vec<String> = (1..=1_001).map(|n| format!("Id.{n}=x")).collect();
        let ids = |reader: Reader<'_>| reader.list::<String>("Id");
        assert_eq!(read(&long.join("&"), ids), Err(Malformed::TooManyElements("Id".into())));
        assert_eq!(read(&long[..1_000].join("&"), ids).map(|ids| ids.len()), Ok(1_000));
    }
}

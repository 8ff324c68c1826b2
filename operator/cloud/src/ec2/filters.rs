//! Filters: all of a request AND, also two of one name; the values of one OR; `*` and `?` are wildcards and `\` makes the next
//! character itself. A name that the action does not have is refused.

use super::{ApiError, Filter, Tags};

/// A filter's name and what a resource shows for it: several values where it has several of the thing.
pub(super) type Field<T> = (&'static str, fn(&T) -> Vec<String>);

/// What can be filtered: named fields and, where it has any, tags.
pub(super) struct Fields<T: 'static> {
    pub named: &'static [Field<T>],
    /// EC2's names of what nothing here has: no value matches, and nobody is refused for asking.
    pub absent: &'static [&'static str],
    /// None where the action has no `tag:<key>` and `tag-key`.
    pub tags: Option<fn(&T) -> &Tags>,
}

/// The most values of one filter ("Using filtering").
const VALUES_MAX: usize = 200;

/// A request's filters, each resolved to what it asks of a resource.
pub(super) struct Compiled<'a, T: 'static>(Vec<Test<'a, T>>);

struct Test<'a, T: 'static> {
    source: Source<'a, T>,
    values: &'a [String],
}

enum Source<'a, T> {
    Field(fn(&T) -> Vec<String>),
    Tag(&'a str, fn(&T) -> &Tags),
    TagKey(fn(&T) -> &Tags),
}

impl<T> Fields<T> {
    /// Refuses an unknown name whether or not there is anything to filter.
    pub(super) fn compile<'a>(&self, filters: &'a [Filter]) -> Result<Compiled<'a, T>, ApiError> {
        filters.iter().map(|filter| self.test(filter)).collect::<Result<_, _>>().map(Compiled)
    }

    fn test<'a>(&self, filter: &'a Filter) -> Result<Test<'a, T>, ApiError> {
        let invalid = || ApiError::value(format!("The filter '{}' is invalid", filter.name));
        if filter.values.is_empty() {
            return Err(ApiError::missing(&format!("Values of the filter '{}'", filter.name)));
        }
        if filter.values.len() > VALUES_MAX {
            let message = format!("The filter '{}' has more than {VALUES_MAX} values", filter.name);
            return Err(ApiError::new("FilterLimitExceeded", message));
        }
        let source = match (filter.name.strip_prefix("tag:"), self.tags) {
            (Some(key), Some(tags)) => Source::Tag(key, tags),
            (None, Some(tags)) if filter.name == "tag-key" => Source::TagKey(tags),
            _ if self.absent.contains(&filter.name.as_str()) => Source::Field(|_| Vec::new()),
            _ => {
                let field = self.named.iter().find(|(name, _)| *name == filter.name);
                Source::Field(field.ok_or_else(invalid)?.1)
            }
        };
        Ok(Test { source, values: &filter.values })
    }
}

impl<T> Compiled<'_, T> {
    pub(super) fn matches(&self, resource: &T) -> bool {
        self.0.iter().all(|test| test.matches(resource))
    }
}

impl<T> Test<'_, T> {
    fn matches(&self, resource: &T) -> bool {
        match &self.source {
            Source::Field(field) => field(resource).iter().any(|value| self.accepts(value)),
            Source::Tag(key, tags) => tags(resource).get(*key).is_some_and(|value| self.accepts(value)),
            Source::TagKey(tags) => tags(resource).keys().any(|key| self.accepts(key)),
        }
    }

    fn accepts(&self, value: &str) -> bool {
        self.values.iter().any(|pattern| glob(pattern, value))
    }
}

/// Whether `pattern` covers all of `text`.
pub(super) fn glob(pattern: &str, text: &str) -> bool {
    if !pattern.contains(['*', '?', '\\']) {
        return pattern == text;
    }
    let tokens = tokens(pattern);
    let text: Vec<char> = text.chars().collect();
    // The position after the last star seen, in pattern and text: the one place worth going back to.
    let (mut p, mut t, mut retry) = (0, 0, None);
    while t < text.len() {
        match tokens.get(p) {
            Some(Token::Star) => {
                p += 1;
                retry = Some((p, t));
            }
            Some(Token::One) => (p, t) = (p + 1, t + 1),
            Some(Token::Char(c)) if *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match retry {
                Some((star, from)) => {
                    (p, t) = (star, from + 1);
                    retry = Some((star, from + 1));
                }
                None => return false,
            },
        }
    }
    tokens[p..].iter().all(|token| matches!(token, Token::Star))
}

#[derive(Clone, Copy)]
enum Token {
    Char(char),
    One,
    Star,
}

fn tokens(pattern: &str) -> Vec<Token> {
    let mut chars = pattern.chars();
    let mut tokens = Vec::new();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => Token::Star,
            '?' => Token::One,
            // A backslash at the end stands for itself.
            '\\' => Token::Char(chars.next().unwrap_or('\\')),
            c => Token::Char(c),
        });
    }
    tokens
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wildcards_cover_what_ec2_says_they_cover() {
        let table = [
            ("web", "web", true),
            ("web", "webs", false),
            ("WEB", "web", false),
            ("*", "", true),
            ("web*", "web", true),
            ("*b*b", "abab", true),
            ("*b*c", "abab", false),
            ("w?b", "web", true),
            ("w?b", "wb", false),
            ("a\\*b", "a*b", true),
            ("a\\*b", "aXb", false),
            ("a\\?b", "a?b", true),
            ("a\\\\*", "a\\b", true),
            ("?", "é", true),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(glob(pattern, text), expected, "{pattern:?} on {text:?}");
        }
    }

    proptest! {
        #[test]
        fn an_escaped_text_covers_itself_only(text in "[ab*?\\\\]{0,8}", other in "[ab*?\\\\]{0,8}") {
            let escaped: String = text.chars().flat_map(|c| ['\\', c]).collect();
            prop_assert_eq!(glob(&escaped, &other), text == other);
        }

        #[test]
        fn a_star_is_any_text(head in "[ab]{0,4}", middle in "[abc]{0,6}", tail in "[ab]{0,4}") {
            let pattern = format!("{head}*{tail}");
            let text = format!("{head}{middle}{tail}");
            prop_assert!(glob(&pattern, &text));
        }
    }
}

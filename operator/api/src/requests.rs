//! What a person asks for once, beside what is declared for good: an annotation `drover.dev/request-<verb>: "<token> <words>"`
//! on a resource, or the same through an operator's socket. A request is known by its token: with another token it is another
//! request, and one whose token is among the handled ones is over.

use serde::{Deserialize, Serialize};

use crate::{
    Slot,
    clients::{DATABASES_MAX, USERS_MAX},
    status::Handled,
};

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub verb: String,
    pub token: String,
    /// What it asks for, or why that is not understood.
    pub asks: Result<Asks, String>,
}

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asks {
    /// `hold SLOT...`: hands off these machines.
    Hold(Vec<Slot>),
    /// `release SLOT...`: they are Drover's again.
    Release(Vec<Slot>),
    /// `restart [SLOT...]`: mysqld ends in order and begins anew on these machines, one after another; without slots on all.
    Restart(Vec<Slot>),
    /// `drop-user NAME...`: users that are not declared any more, and their connections.
    DropUsers(Vec<String>),
    /// `drop-database NAME...`: databases that are not declared any more, with all that is in them.
    DropDatabases(Vec<String>),
}

/// Every verb with what follows the token, for people.
pub const VERBS: &[(&str, &str)] = &[
    ("hold", "SLOT..."),
    ("release", "SLOT..."),
    ("restart", "[SLOT...]"),
    ("drop-user", "NAME..."),
    ("drop-database", "NAME..."),
];

/// A token is in status and logs: short, and of one word.
const TOKEN_CHARS_MAX: usize = 64;
/// More slots than a set can have are a mistake.
const SLOTS_MAX: usize = 105;
/// MySQL's longest name, of a database (MySQL manual, "Identifier Length Limits").
const NAME_CHARS_MAX: usize = 64;

impl Request {
    /// Reads the text of one verb's annotation. What is not understood is a request too: its answer says so.
    pub fn read(verb: &str, text: &str) -> Self {
        let mut words = text.split_whitespace();
        let token: String = words.next().unwrap_or_default().chars().take(TOKEN_CHARS_MAX).collect();
        let slots = || -> Result<Vec<Slot>, String> {
            let slots = words
                .clone()
                .map(|word| word.parse::<Slot>().map_err(|_| format!("{word} is no slot, such as m1 or r0")));
            let slots: Vec<Slot> = slots.take(SLOTS_MAX + 1).collect::<Result<_, _>>()?;
            at_most(slots, SLOTS_MAX)
        };
        let some_slots = || slots().and_then(|slots| some(slots, "name the slots, such as m1"));
        let names = |most: usize| {
            let names: Vec<String> = words.clone().take(most + 1).map(str::to_owned).collect();
            if let Some(long) = names.iter().find(|name| name.chars().count() > NAME_CHARS_MAX) {
                let shown: String = long.chars().take(NAME_CHARS_MAX).collect();
                return Err(format!("{shown}... is longer than a name can be"));
            }
            some(at_most(names, most)?, "name what is to be dropped")
        };
        let asks = match verb {
            "hold" => some_slots().map(Asks::Hold),
            "release" => some_slots().map(Asks::Release),
            "restart" => slots().map(Asks::Restart),
            "drop-user" => names(USERS_MAX).map(Asks::DropUsers),
            "drop-database" => names(DATABASES_MAX).map(Asks::DropDatabases),
            _ => {
                let verbs: Vec<&str> = VERBS.iter().map(|(verb, _)| *verb).collect();
                Err(format!("{verb} is not known; {} are", verbs.join(", ")))
            }
        };
        Self { verb: verb.to_owned(), token, asks }
    }

    /// The answer to it.
    pub fn answered(&self, outcome: impl Into<String>) -> (String, Handled) {
        (self.verb.clone(), Handled { token: self.token.clone(), outcome: outcome.into() })
    }
}

/// Nothing is left out without a word.
fn at_most<T>(all: Vec<T>, most: usize) -> Result<Vec<T>, String> {
    if all.len() > most { Err(format!("name {most} at most in one request")) } else { Ok(all) }
}

fn some<T>(all: Vec<T>, missing: &str) -> Result<Vec<T>, String> {
    if all.is_empty() { Err(missing.to_owned()) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_from_one_line_and_a_mistake_is_answered() {
        let (m1, r0) = (Slot::Member(1), Slot::Reader(0));
        let read = |verb: &str, text: &str| Request::read(verb, text);
        assert_eq!(read("hold", "t-1 m1 r0").asks, Ok(Asks::Hold(vec![m1, r0])));
        assert_eq!(read("release", " t-2  m1 ").asks, Ok(Asks::Release(vec![m1])));
        assert_eq!(read("hold", "t-1").token, "t-1");
        assert_eq!(read("restart", "t").asks, Ok(Asks::Restart(vec![])));
        assert_eq!(read("restart", "t m1").asks, Ok(Asks::Restart(vec![m1])));
        assert_eq!(read("drop-user", "t app old").asks, Ok(Asks::DropUsers(vec!["app".into(), "old".into()])));
        assert_eq!(read("drop-database", "t shop").asks, Ok(Asks::DropDatabases(vec!["shop".into()])));
        for (verb, text, told) in [
            ("hold", "t", "name the slots"),
            ("restart", "t all", "all is no slot"),
            ("drop-user", "t", "name what is to be dropped"),
            ("drop-user", &format!("t {}", "u ".repeat(USERS_MAX + 1)), "name 50 at most"),
            ("drop-database", &format!("t {}", "x".repeat(65)), "longer than a name can be"),
            ("hold", "t x9", "x9 is no slot"),
            ("explode", "t m1", "explode is not known; hold, release, restart, drop-user, drop-database are"),
        ] {
            let asks = read(verb, text).asks;
            assert!(asks.as_ref().is_err_and(|said| said.contains(told)), "{asks:?}");
        }
    }
}

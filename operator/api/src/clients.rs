//! Who connects to a set that is not of ours: databases and users of applications, their passwords, and where those are kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::{
    Millis, Namespace,
    problems::Problem,
    set::{Access, SecretKeySelector},
    wire::MYSQL_PORT,
};

/// How many a set may have: each user is a few statements at most and an account that every observation reads, and the rules
/// about them run on API servers, which price them by these bounds.
pub const DATABASES_MAX: usize = 50;
pub const USERS_MAX: usize = 50;

/// MySQL's own databases, and ours.
pub const DATABASES_TAKEN: &[&str] = &["mysql", "sys", "information_schema", "performance_schema", "drover"];
/// MySQL's own user names that a rule on letters lets pass, and names that look like them.
pub const USERS_TAKEN: &[&str] = &["root", "admin", "sys", "debian-sys-maint", "event-scheduler"];
/// `drover_voter_m1` has an underscore, so no user could be it; nobody should be taken for it either.
pub const USER_PREFIXES_TAKEN: &[&str] = &["drover", "mysql"];

/// A password that somebody chose. It is never printed, and written nowhere but into the orders of a machine.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

/// Why a text is no password; never what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPassword {
    #[error("it has {found} characters, and must have {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX}")]
    Length { found: usize },
    #[error("it has a control character, such as a line end, inside: it must be one line")]
    Control,
    #[error("it is not text in UTF-8")]
    NotText,
}

/// MySQL itself takes the empty one. 256 bytes are the most that caching_sha2_password takes (MySQL source, MAX_PLAINTEXT_LENGTH).
pub const PASSWORD_CHARS_MIN: usize = 8;
pub const PASSWORD_CHARS_MAX: usize = 128;
const PASSWORD_BYTES_MAX: usize = 255;

/// A key of a Secret, wherever Secrets are: in a cluster, or as files of a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SecretRef {
    pub namespace: Namespace,
    pub name: String,
    pub key: String,
}

/// The databases and users that a leader is to have. What is not named here any more stays, unless it is to be dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clients {
    pub databases: Vec<DatabaseOrder>,
    pub users: Vec<UserOrder>,
    /// Asked for by a person, once: of those that an agent of ours made.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub drop_users: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub drop_databases: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseOrder {
    pub name: String,
    /// For its making only.
    pub character_set: Option<String>,
    pub collation: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserOrder {
    pub name: String,
    pub grants: Grants,
    pub password: String,
    /// Stands for name and password, so that whether MySQL has this one can be told without knowing it.
    pub version: String,
}

/// What a user may do, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants {
    pub database: String,
    pub access: Access,
}

/// What we write on an account of ours, in its ATTRIBUTE: so what was applied is where it was applied, changes in the same
/// statement, is on every copy, and is gone with an account that somebody drops. An account without it is somebody else's;
/// one with an empty mark was handed over to us.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mark {
    pub version: String,
    /// When the password was last changed, by the clock of the machine that did it.
    pub changed: Millis,
    /// `None` while not everything is granted.
    pub grants: Option<Grants>,
}

/// The databases and users of a leader as its agent sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientsReport {
    /// Accounts with our mark, by user name: declared or not any more.
    pub users: BTreeMap<String, Mark>,
    /// Databases that an agent of ours made and that are there: declared or not any more.
    pub databases: BTreeSet<String>,
    /// They were looked for since the present order was taken.
    pub databases_known: bool,
    /// Why a user or a database is not as ordered, by its name. Each waits alone.
    pub user_problems: BTreeMap<String, Problem>,
    pub database_problems: BTreeMap<String, Problem>,
}

/// How a client that takes one line connects. What has a meaning in a URI is written by its number (RFC 3986, section 2.1).
pub fn uri(user: &str, password: &str, host: &str, database: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escaped = |text: &str| -> String {
        text.bytes()
            .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
            .collect()
    };
    format!("mysql://{}:{}@{host}:{MYSQL_PORT}/{}", escaped(user), escaped(password), escaped(database))
}

// === impl Password ===

impl Password {
    /// Takes a text as it is; what a file's last line ends with is cut off before.
    pub fn new(text: &str) -> Result<Self, InvalidPassword> {
        let found = text.chars().count();
        if !(PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX).contains(&found) || text.len() > PASSWORD_BYTES_MAX {
            return Err(InvalidPassword::Length { found });
        }
        if text.chars().any(char::is_control) {
            return Err(InvalidPassword::Control);
        }
        Ok(Self(text.to_owned()))
    }

    /// The content of a Secret's key or of a file: one line end at its end is no part of the password.
    pub fn of_bytes(bytes: &[u8]) -> Result<Self, InvalidPassword> {
        let text = std::str::from_utf8(bytes).map_err(|_| InvalidPassword::NotText)?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        Self::new(text.strip_suffix('\r').unwrap_or(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

// === impl SecretRef ===

impl SecretRef {
    pub fn of(namespace: &Namespace, key: &SecretKeySelector) -> Self {
        Self { namespace: namespace.clone(), name: key.name.clone(), key: key.key.clone() }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.name, self.key)
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

// === impl Clients, UserOrder ===

impl Clients {
    pub fn is_empty(&self) -> bool {
        *self == Clients::default()
    }

    /// Something is to be dropped.
    pub fn drops(&self) -> bool {
        !self.drop_users.is_empty() || !self.drop_databases.is_empty()
    }
}

impl UserOrder {
    /// Everything about this user is as ordered.
    pub fn is_made(&self, made: &BTreeMap<String, Mark>) -> bool {
        made.get(&self.name)
            .is_some_and(|mark| mark.version == self.version && mark.grants.as_ref() == Some(&self.grants))
    }
}

impl fmt::Debug for UserOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, grants: Grants { database, access }, version, .. } = self;
        write!(f, "UserOrder({name} {access} {database} version {version}, password hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line_of_8_to_128_characters_and_its_files_last_line_end_is_none_of_it() {
        let taken = |bytes: &[u8]| Password::of_bytes(bytes).map(|password| password.0);
        for (bytes, expected) in [
            (b"correct horse\n".as_slice(), Ok("correct horse".to_owned())),
            (b"correct horse\r\n", Ok("correct horse".to_owned())),
            (b" blanks count ", Ok(" blanks count ".to_owned())),
            ("pässwörd".as_bytes(), Ok("pässwörd".to_owned())),
            (b"", Err(InvalidPassword::Length { found: 0 })),
            (b"short\n", Err(InvalidPassword::Length { found: 5 })),
            (b"two lines\n\n", Err(InvalidPassword::Control)),
            (b"with\0a NUL", Err(InvalidPassword::Control)),
            (b"\xff\xfe\xff\xfe\xff\xfe\xff\xfe", Err(InvalidPassword::NotText)),
        ] {
            assert_eq!(taken(bytes), expected, "{bytes:?}");
        }
        for (length, fits) in [(7, false), (8, true), (128, true), (129, false)] {
            assert_eq!(Password::new(&"x".repeat(length)).is_ok(), fits, "{length}");
        }
        assert!(Password::new(&"€".repeat(100)).is_err(), "more bytes than MySQL takes");
    }

    #[test]
    fn nothing_that_is_printed_shows_a_password() {
        let password = Password::new("canary-canary").expect("valid");
        let grants = Grants { database: "shop".into(), access: Access::ReadWrite };
        let order =
            UserOrder { name: "app".into(), grants, password: password.as_str().into(), version: "ab12".into() };
        let orders = Clients { users: vec![order], ..Clients::default() };
        assert!(!format!("{password:?} {orders:?}").contains("canary"));
    }

    #[test]
    fn a_uri_is_the_same_whatever_a_password_has_in_it() {
        let uri = uri("app", "p@ss:w/rd ä%", "10.0.0.1", "my_shop");
        assert_eq!(uri, "mysql://app:p%40ss%3Aw%2Frd%20%C3%A4%25@10.0.0.1:3306/my_shop");
    }

    #[test]
    fn a_mark_of_which_nothing_is_known_is_read_as_one_that_has_nothing() {
        for text in ["{}", r#"{"from": "the future"}"#] {
            assert_eq!(serde_json::from_str::<Mark>(text).expect("an object"), Mark::default(), "{text}");
        }
    }
}

//! Names as types: once parsed, nothing is a bare `String`, and a volume id cannot be passed where an instance id is meant.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A name that does not have the form its type asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {value:?} is not valid: {rule}")]
pub struct InvalidName {
    /// What was being named, as a person would say it.
    pub kind: &'static str,
    /// The text that was refused.
    pub value: String,
    /// What is allowed.
    pub rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Parses, and refuses what does not have the form.
            pub fn new(value: impl Into<String>) -> Result<Self, InvalidName> {
                let value = value.into();
                let valid: fn(&str) -> bool = $valid;
                if valid(&value) {
                    Ok(Self(value))
                } else {
                    Err(InvalidName { kind: $kind, value, rule: $rule })
                }
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(value: String) -> Result<Self, InvalidName> {
                Self::new(value)
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(value: &str) -> Result<Self, InvalidName> {
                Self::new(value)
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> String {
                value.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

/// A DNS label: lower-case letters, digits and `-`, 1 to 63, beginning and ending with a letter or digit (RFC 1123).
fn is_dns_label(value: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&value.len()) && value.chars().all(inner) && !value.starts_with('-') && !value.ends_with('-')
}

/// What AWS calls an id: a short prefix, `-`, and letters and digits.
fn has_prefix(value: &str, prefix: &str) -> bool {
    value.len() <= 64
        && value
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_alphanumeric()))
}

name!(
    /// The installation: every machine, volume and object of one Drover carries it.
    Realm, "realm", "lower-case letters, digits and '-', at most 63, beginning and ending with a letter or digit", is_dns_label
);
name!(
    /// A Kubernetes namespace; `default` for a directory of manifests that names none.
    Namespace, "namespace", "lower-case letters, digits and '-', at most 63, beginning and ending with a letter or digit", is_dns_label
);
name!(
    /// The name of a resource. At most 40, so that host names and certificate names made from it stay valid.
    ResourceName, "name", "lower-case letters, digits and '-', at most 40, beginning and ending with a letter or digit",
    |value| is_dns_label(value) && value.len() <= 40
);
name!(
    /// Minted once per resource life, so that a namesake never adopts a dead one's machines.
    Incarnation, "incarnation", "8 to 32 lower-case letters and digits",
    |value| (8..=32).contains(&value.len()) && value.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
);
name!(InstanceId, "instance id", "'i-' and letters or digits", |value| { has_prefix(value, "i-") });
name!(VolumeId, "volume id", "'vol-' and letters or digits", |value| { has_prefix(value, "vol-") });
name!(SubnetId, "subnet id", "'subnet-' and letters or digits", |value| { has_prefix(value, "subnet-") });
name!(SecurityGroupId, "security group id", "'sg-' and letters or digits", |value| has_prefix(value, "sg-"));
name!(ImageId, "image id", "'ami-' and letters or digits", |value| has_prefix(value, "ami-"));
name!(Zone, "availability zone", "letters, digits and '-', at most 32", |value| {
    (1..=32).contains(&value.len()) && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
});
name!(
    /// An idempotency token of RunInstances and CreateVolume: at most 64 ASCII characters (AWS.md, Sizes).
    ClientToken, "client token", "1 to 64 ASCII characters",
    |value| (1..=64).contains(&value.len()) && value.is_ascii()
);
name!(
    /// Minted with a data volume: who votes is a volume's content, not a machine.
    VoterId, "voter id", "8 to 36 lower-case letters, digits and '-'",
    |value| (8..=36).contains(&value.len()) && value.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
);
name!(
    /// Fresh in every body of a compare-and-set, so that after a lost reply the writer can tell its own write.
    WriteId, "write id", "8 to 36 lower-case letters, digits and '-'",
    |value| (8..=36).contains(&value.len()) && value.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
);
name!(
    /// Names one attempt to fence an epoch.
    Claim, "claim", "1 to 64 letters, digits and '-'",
    |value| (1..=64).contains(&value.len()) && value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
);
name!(
    /// The SHA-256 of a drover binary, in hex: 64 characters.
    BuildId, "build id", "64 lower-case hex digits",
    |value| value.len() == 64 && value.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
);

/// Namespace and name of a resource of one kind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceKey {
    pub namespace: Namespace,
    pub name: ResourceName,
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A place in a set that survives the machines that fill it: `m0..m4` for members (voters), `r0..` for read replicas.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Slot {
    Member(u8),
    Reader(u16),
}

/// The most members a set has, and the most read replicas: what `server_id` and the CRD's ranges have room for.
pub const MEMBERS_MAX: u8 = 5;
pub const READERS_MAX: u16 = 100;

impl Slot {
    /// Voters hold data that nothing else is sure to hold; their volume outlives the machine.
    pub fn is_member(self) -> bool {
        matches!(self, Slot::Member(_))
    }

    /// `server_id` of mysqld: unique within the set, never 0, the same for every machine that fills the slot.
    pub fn server_id(self) -> u32 {
        match self {
            Slot::Member(n) => 1 + u32::from(n),
            Slot::Reader(n) => 1_000 + u32::from(n),
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Slot::Member(n) => write!(f, "m{n}"),
            Slot::Reader(n) => write!(f, "r{n}"),
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Slot {
    type Err = InvalidName;
    fn from_str(value: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName { kind: "slot", value: value.into(), rule: "m0 to m4, or r0 to r99" };
        let number = |digits: &str| match digits {
            "" => None,
            "0" => Some(0u16),
            _ if digits.starts_with(['0', '+']) => None,
            _ => digits.parse().ok(),
        };
        let (kind, digits) = value.split_at_checked(1).ok_or_else(invalid)?;
        match (kind, number(digits)) {
            ("m", Some(n)) if n < u16::from(MEMBERS_MAX) => Ok(Slot::Member(n as u8)),
            ("r", Some(n)) if n < READERS_MAX => Ok(Slot::Reader(n)),
            _ => Err(invalid()),
        }
    }
}

impl TryFrom<String> for Slot {
    type Error = InvalidName;
    fn try_from(value: String) -> Result<Self, InvalidName> {
        value.parse()
    }
}

impl From<Slot> for String {
    fn from(value: Slot) -> String {
        value.to_string()
    }
}

/// The number of a leadership. Grows only; 0 is "before the first".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}", self.0)
    }
}

/// Milliseconds since the Unix epoch, read at the edge and passed down.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// How long ago `earlier` was; zero where the clock went back.
    pub fn since(self, earlier: Millis) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    pub fn plus(self, duration: std::time::Duration) -> Millis {
        Millis(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Debug for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_round_trip_and_refuse_lookalikes() {
        for text in ["m0", "m4", "r0", "r17", "r99"] {
            assert_eq!(text.parse::<Slot>().map(|slot| slot.to_string()), Ok(text.into()));
        }
        for text in ["", "m", "m5", "r100", "x0", "m00", "m01", "m-1", "r+1", "M0", "m0 ", "é0"] {
            assert!(text.parse::<Slot>().is_err(), "{text:?} was taken for a slot");
        }
    }

    #[test]
    fn server_ids_of_a_set_never_collide() {
        let slots = (0..MEMBERS_MAX).map(Slot::Member).chain((0..READERS_MAX).map(Slot::Reader));
        let ids: std::collections::BTreeSet<u32> = slots.map(Slot::server_id).collect();
        assert_eq!(ids.len(), usize::from(MEMBERS_MAX) + usize::from(READERS_MAX));
        assert!(!ids.contains(&0));
    }

    #[test]
    fn a_refused_name_says_what_is_allowed() {
        let error = Realm::new("Prod_1").expect_err("an upper-case realm");
        assert!(error.to_string().starts_with("realm \"Prod_1\" is not valid: lower-case letters"), "{error}");
    }
}

//! Conditions: what a person and a GitOps tool read first. `Ready` is always there; `Reconciling` and `Stalled` only while true.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConditionType {
    Ready,
    Reconciling,
    Stalled,
    /// The settings or the machine's description changed; only new machines, and new data volumes, get them.
    ChangePending,
    /// The leader's mysqld or machine died and the set stays closed.
    PrimaryLost,
    Suspended,
    /// Clients are let in on the primary.
    Available,
    /// Enough members acknowledge for a commit to return.
    QuorumHeld,
    /// Every follower is known to replicate.
    ReplicationHealthy,
    /// Every declared database and user is in MySQL as declared.
    ClientsReady,
}

/// One fact about a set. A reason is CamelCase and stable; a Stalled message begins with what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: ConditionType,
    /// "True" or "False", as every condition in Kubernetes says it.
    #[serde(with = "word")]
    pub status: bool,
    pub reason: String,
    pub message: String,
}

impl Condition {
    pub fn new(kind: ConditionType, status: bool, reason: &str, message: impl Into<String>) -> Self {
        Self { kind, status, reason: reason.into(), message: message.into() }
    }
}

/// A truth value in the words of Kubernetes.
mod word {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    enum Word {
        True,
        False,
    }

    pub fn serialize<S: Serializer>(value: &bool, serializer: S) -> Result<S::Ok, S::Error> {
        if *value { Word::True } else { Word::False }.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        Ok(matches!(Word::deserialize(deserializer)?, Word::True))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_the_word_that_kubectl_wait_looks_for() {
        for (status, word) in [(true, "True"), (false, "False")] {
            let condition = Condition::new(ConditionType::Ready, status, "AllReady", "4/4");
            let json = serde_json::to_value(&condition).expect("JSON");
            assert_eq!(json["status"], word);
            assert_eq!(serde_json::from_value::<Condition>(json).expect("a condition"), condition);
        }
    }
}

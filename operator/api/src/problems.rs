//! What can be in the way on a machine, by name: the one home of these words. An agent says them in its report, an operator
//! decides by them, and either may be older than the other: a word that this build does not know is kept as it came.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that is in the way, as an agent reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub reason: Reason,
    /// For people.
    pub message: String,
}

/// Each is said on the wire, in conditions and in events by its own name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Reason {
    // The agent and its orders.
    /// What an earlier agent left on this machine could not be looked at.
    LookAroundFailed,
    NoOrders,
    /// The order that came before the volume was there does not hold on it.
    OrdersContradictVolume,
    /// The agent's record cannot be written.
    StorageFailed,
    /// An ordered build was tried and went back.
    BuildRejected,
    BuildFetchFailed,

    // The data volume.
    WaitingForDevice,
    /// It holds something that is not ours, or not what was expected.
    ForeignVolume,
    VolumeFailed,

    // Data and mysqld.
    NoMysqld,
    OtherMysqlVersion,
    /// There is no data, and none may be made.
    NoData,
    /// mysqld runs, but its data directory is gone.
    DataVanished,
    InitialiseFailed,
    NoDonor,
    SeedFailed,
    StartFailed,
    MysqldEnded,
    /// A restart was asked for, and mysqld ends.
    MysqldRestarts,
    MysqldSilent,
    CloseFailed,
    CloseHangs,
    AccountsFailed,

    // Leading.
    LeaderDied,
    /// It is to lead, but its data says that it follows a source.
    FollowsAnother,
    SemiSyncFailed,
    MarkerWaits,
    MarkerFailed,
    RegisterMissing,
    RegisterUnreadable,
    RegisterObjects,
    OpenFailed,
    /// Somebody else made an account of a declared user's name.
    ForeignUser,
    UserFailed,
    DatabaseFailed,

    // Following.
    /// It led: it does not simply follow another.
    LedBefore,
    /// Its channel was removed by someone else.
    ChannelVanished,
    ReplicationStands,
    ReplicationFailed,
    ReceiverFailing,
    ApplierFailed,

    /// Of an agent that is newer than this build.
    #[serde(untagged)]
    Other(String),
}

// === impl Reason ===

impl Reason {
    /// It does not pass by itself: somebody has to look at the machine.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Reason::ForeignVolume
            | Reason::OrdersContradictVolume
            | Reason::NoMysqld
            | Reason::OtherMysqlVersion
            | Reason::NoData
            | Reason::DataVanished
            | Reason::FollowsAnother
            | Reason::LedBefore
            | Reason::ChannelVanished => true,
            Reason::LookAroundFailed
            | Reason::NoOrders
            | Reason::StorageFailed
            | Reason::BuildRejected
            | Reason::BuildFetchFailed
            | Reason::WaitingForDevice
            | Reason::VolumeFailed
            | Reason::InitialiseFailed
            | Reason::NoDonor
            | Reason::SeedFailed
            | Reason::StartFailed
            | Reason::MysqldEnded
            | Reason::MysqldRestarts
            | Reason::MysqldSilent
            | Reason::CloseFailed
            | Reason::CloseHangs
            | Reason::AccountsFailed
            | Reason::LeaderDied
            | Reason::SemiSyncFailed
            | Reason::MarkerWaits
            | Reason::MarkerFailed
            | Reason::RegisterMissing
            | Reason::RegisterUnreadable
            | Reason::RegisterObjects
            | Reason::OpenFailed
            | Reason::ForeignUser
            | Reason::UserFailed
            | Reason::DatabaseFailed
            | Reason::ReplicationStands
            | Reason::ReplicationFailed
            | Reason::ReceiverFailing
            | Reason::ApplierFailed => false,
            // Its message is shown; what it means is not known here.
            Reason::Other(_) => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Other(word) => f.pad(word),
            known => fmt::Debug::fmt(known, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reason_is_its_own_name_on_the_wire_and_for_people() {
        for reason in [Reason::ForeignVolume, Reason::LookAroundFailed, Reason::ApplierFailed] {
            let json = serde_json::to_value(&reason).expect("JSON");
            assert_eq!(json, json!(reason.to_string()));
            assert_eq!(serde_json::from_value::<Reason>(json).expect("a reason"), reason);
        }
        assert_eq!(Reason::ForeignVolume.to_string(), "ForeignVolume");
    }

    #[test]
    fn a_reason_of_a_newer_agent_is_kept_as_it_came_and_nobody_is_called_for_it() {
        let problem = json!({ "reason": "FromTheFuture", "message": "why" });
        let read: Problem = serde_json::from_value(problem.clone()).expect("a problem");
        assert_eq!(read.reason, Reason::Other("FromTheFuture".into()));
        assert!(!read.reason.needs_a_person());
        assert_eq!(
            (serde_json::to_value(&read).expect("JSON"), read.reason.to_string()),
            (problem, "FromTheFuture".into())
        );
    }
}

//! Passwords, derived and never stored: HMAC-SHA-256 of a label under the set's secret, which only the operator reads.

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::{Epoch, Slot, wire::Credential};

/// A set's secret. Never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SetSecret(pub String);

/// What a MySQL account is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountKind {
    /// Replicates and acknowledges.
    Voter(Slot),
    /// Replicates only.
    Learner(Slot),
    /// Copies data from a donor.
    Clone,
    /// For `drover mysql`.
    Admin,
}

/// 128 bits, 32 characters in hex: the longest password that CHANGE REPLICATION SOURCE takes (MySQL error 3056).
const PASSWORD_BYTES: usize = 16;

impl SetSecret {
    /// The account of `kind` in `epoch`: replication passwords change with every epoch, so that a receiver of an earlier one
    /// cannot come back by itself.
    pub fn credential(&self, kind: AccountKind, epoch: Epoch) -> Credential {
        let user = match kind {
            AccountKind::Voter(slot) => format!("drover_voter_{slot}"),
            AccountKind::Learner(slot) => format!("drover_learner_{slot}"),
            AccountKind::Clone => "drover_clone".to_owned(),
            AccountKind::Admin => "drover_admin".to_owned(),
        };
        let epoch = match kind {
            AccountKind::Voter(_) | AccountKind::Learner(_) => epoch,
            AccountKind::Clone | AccountKind::Admin => Epoch(0),
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()).expect("HMAC takes a key of any length");
        mac.update(format!("{user}/{epoch}").as_bytes());
        let password = hex::encode(&mac.finalize().into_bytes()[..PASSWORD_BYTES]);
        Credential { user, password }
    }
}

impl std::fmt::Debug for SetSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SetSecret(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replication_passwords_change_with_slot_kind_and_epoch() {
        let secret = SetSecret("00".repeat(32));
        let (m1, e1) = (Slot::Member(1), Epoch(1));
        let password = |kind, epoch| secret.credential(kind, epoch).password;
        assert_eq!(password(AccountKind::Voter(m1), e1), password(AccountKind::Voter(m1), e1));
        assert_ne!(password(AccountKind::Voter(m1), e1), password(AccountKind::Voter(m1), e1.next()));
        assert_ne!(password(AccountKind::Voter(m1), e1), password(AccountKind::Learner(m1), e1));
        assert_ne!(password(AccountKind::Voter(m1), e1), password(AccountKind::Voter(Slot::Member(2)), e1));
        assert_ne!(
            password(AccountKind::Voter(m1), e1),
            SetSecret("01".repeat(32)).credential(AccountKind::Voter(m1), e1).password
        );
        assert_eq!(password(AccountKind::Admin, e1), password(AccountKind::Admin, e1.next()));
        assert_eq!(password(AccountKind::Voter(m1), e1).len(), 32);
    }
}

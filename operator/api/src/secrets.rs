//! Passwords, derived and never stored: HMAC-SHA-256 of a label under the set's secret, which only the operator reads.

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::{Epoch, Slot, clients::Password, wire::Credential};

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
        let password = self.derive(&format!("{user}/{epoch}"));
        Credential { user, password }
    }

    /// The password that Drover makes for an application's user. Counting `rotation` up makes another.
    pub fn client_password(&self, user: &str, rotation: u32) -> Password {
        Password::new(&self.derive(&format!("client:{user}/{rotation}"))).expect("32 hex digits are a password")
    }

    /// Stands for a user's password, whoever chose it: equal for equal ones, and of no use to whoever does not know the secret.
    pub fn client_version(&self, user: &str, password: &Password) -> String {
        self.derive(&format!("version:{user}/{}", password.as_str()))
    }

    /// 32 hex digits. Labels of different kinds begin differently, up to their first `/` at the latest.
    fn derive(&self, label: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()).expect("HMAC takes a key of any length");
        mac.update(label.as_bytes());
        hex::encode(&mac.finalize().into_bytes()[..PASSWORD_BYTES])
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

    #[test]
    fn what_is_made_for_a_user_changes_with_its_name_the_rotation_and_the_secret() {
        let (secret, other) = (SetSecret("00".repeat(32)), SetSecret("01".repeat(32)));
        let made = |secret: &SetSecret, user, rotation| secret.client_password(user, rotation);
        assert_eq!(made(&secret, "app", 0), made(&secret, "app", 0));
        for another in [made(&secret, "app", 1), made(&secret, "apps", 0), made(&other, "app", 0)] {
            assert_ne!(made(&secret, "app", 0), another);
        }
        let password = made(&secret, "app", 0);
        let version = secret.client_version("app", &password);
        assert_eq!(version, secret.client_version("app", &password));
        assert_ne!(version, password.as_str());
        for another in [
            secret.client_version("apps", &password),
            secret.client_version("app", &made(&secret, "app", 1)),
            other.client_version("app", &password),
        ] {
            assert_ne!(version, another);
        }
    }
}

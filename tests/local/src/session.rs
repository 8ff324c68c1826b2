//! Temporary credentials of a machine's role, as EC2 mints them for an instance with an instance profile.

use drover_cloud::ec2::Instance;
use jiff::{SignedDuration, Timestamp};

use crate::{
    keys::{Key, Keys, Principal},
    policy::SetScope,
};

/// How long a session is valid, and how long before its end the metadata service hands out the next (IAM User Guide:
/// new credentials are there at least five minutes before the old ones expire).
const VALID: SignedDuration = SignedDuration::from_hours(6);
const RENEW: SignedDuration = SignedDuration::from_mins(30);

/// The role credentials of one instance.
#[derive(Debug, Clone)]
pub struct Session {
    pub key: Key,
    pub minted: Timestamp,
    pub expires: Timestamp,
}

impl Session {
    /// Mints credentials that only say which machine they are, and makes them valid.
    pub fn mint(instance: &Instance, keys: &Keys, now: Timestamp) -> Self {
        let key = Key {
            access_key: format!("ASIA{}", random(16).to_uppercase()),
            secret: random(40),
            token: Some(random(128)),
            principal: Principal::Machine {
                instance: instance.instance_id.clone(),
                set: SetScope::from_tags(&instance.tags),
            },
        };
        keys.add(key.clone());
        Self { key, minted: now, expires: now + VALID }
    }

    /// Whether the metadata service still hands these out.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now < self.expires - RENEW
    }
}

/// Letters and digits that nobody can guess.
pub fn random(length: usize) -> String {
    use rand::RngExt;
    let mut rng = rand::rng();
    (0..length).map(|_| char::from(rng.sample(rand::distr::Alphanumeric))).collect()
}

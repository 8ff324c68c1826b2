//! Temporary credentials of a machine's role, as EC2 mints them for an instance with an instance profile.

use std::collections::HashMap;

use drover_cloud::ec2::Instance;
use jiff::{SignedDuration, Timestamp};

use crate::{
    keys::{Key, Keys, Principal, SessionToken},
    policy::SetScope,
};

/// How long a session is valid, and how long before its end the metadata service hands out the next (IAM User Guide:
/// new credentials are there at least five minutes before the old ones expire).
const VALID: SignedDuration = SignedDuration::from_hours(6);
const RENEW: SignedDuration = SignedDuration::from_mins(30);

/// The session that the metadata service of each instance hands out, by instance id.
pub type Sessions = HashMap<String, Session>;

/// The role credentials of one instance.
#[derive(Clone)]
pub struct Session {
    pub access_key: String,
    pub secret: String,
    pub token: String,
    pub minted: Timestamp,
    pub expires: Timestamp,
}

/// What the metadata service of an instance hands out now. A session that is replaced stays valid until its own end.
pub fn current(instance: &Instance, sessions: &mut Sessions, keys: &Keys, now: Timestamp) -> Session {
    match sessions.get(&instance.instance_id) {
        Some(session) if now < session.expires - RENEW => session.clone(),
        Some(_) | None => {
            let session = mint(instance, keys, now, VALID);
            sessions.insert(instance.instance_id.clone(), session.clone());
            session
        }
    }
}

/// Mints credentials that only say which machine they are, and makes them known.
pub fn mint(instance: &Instance, keys: &Keys, now: Timestamp, valid: SignedDuration) -> Session {
    let session = Session {
        access_key: format!("ASIA{}", random(16).to_uppercase()),
        secret: random(40),
        token: random(128),
        minted: now,
        expires: now + valid,
    };
    keys.forget_expired(&instance.instance_id, now);
    keys.add(Key {
        access_key: session.access_key.clone(),
        secret: session.secret.clone(),
        session: Some(SessionToken { token: session.token.clone(), expires: session.expires }),
        principal: Principal::Machine {
            instance: instance.instance_id.clone(),
            set: SetScope::from_tags(&instance.tags),
        },
    });
    session
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("access_key", &self.access_key)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Letters and digits that nobody can guess.
#[expect(clippy::disallowed_methods, reason = "the edge: what nobody may guess cannot come from a seed")]
pub fn random(length: usize) -> String {
    use rand::RngExt;
    let mut rng = rand::rng();
    (0..length).map(|_| char::from(rng.sample(rand::distr::Alphanumeric))).collect()
}

#[cfg(test)]
mod tests {
    use drover_api::Millis;
    use drover_cloud::ec2::{Account, Architecture, Caller, Ec2, ImageSpec, Mode, RunInstances, Tags};

    use super::*;

    fn instance() -> Instance {
        let spec = ImageSpec {
            name: "image".into(),
            description: String::new(),
            architecture: Architecture::X86_64,
            root_size_gib: 8,
            tags: Tags::new(),
        };
        let (mut ec2, now) = (Ec2::new(Account::new("local-1"), 7), Millis(1));
        let request = RunInstances {
            image_id: Some(ec2.register_image(now, spec)),
            instance_type: Some("t3.small".into()),
            min_count: 1,
            max_count: 1,
            ..RunInstances::default()
        };
        let launched = ec2.call(now, &Caller::operator(), Mode::Run, &request).unwrap();
        launched.instances[0].instance.clone()
    }

    #[test]
    fn a_session_is_replaced_before_it_ends_and_ends_on_time() {
        let (keys, mut sessions, instance) = (Keys::new("AKIA", "secret"), Sessions::new(), instance());
        let start: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let at = |minutes: i64| start + SignedDuration::from_mins(minutes);
        let mut handed_out = |minutes| current(&instance, &mut sessions, &keys, at(minutes)).access_key;
        let expired = |access_key: &str, minutes| keys.find(access_key).map(|key| key.has_expired(at(minutes)));
        let first = handed_out(0);
        assert_eq!(handed_out(329), first, "it has half an hour left");
        let second = handed_out(330);
        assert_ne!(second, first);
        assert_eq!((expired(&first, 359), expired(&second, 359)), (Some(false), Some(false)));
        assert_eq!((expired(&first, 360), expired(&second, 360)), (Some(true), Some(false)));
        // The next renewal is the end of what the first is remembered for.
        let third = handed_out(661);
        assert_eq!((expired(&first, 661), expired(&second, 661)), (None, Some(false)));
        assert_ne!(third, second);
    }
}

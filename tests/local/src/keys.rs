//! Access keys: the operator's own, which never change, and one session per machine's role, which does.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use jiff::Timestamp;

use crate::policy::SetScope;

/// Who signed a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// The account's administrator: the static keys that `drover-local env` prints.
    Operator,
    /// The role of one machine. `set` is `None` for a machine that carries no identity tags.
    Machine { instance: String, set: Option<SetScope> },
}

/// An access key, what it is signed with, and whose it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    pub access_key: String,
    pub secret: String,
    /// Of temporary credentials only.
    pub session: Option<SessionToken>,
    pub principal: Principal,
}

/// What temporary credentials have besides: a token that every request must carry, and an end.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionToken {
    pub token: String,
    pub expires: Timestamp,
}

/// Every key that is valid now. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Keys(Arc<RwLock<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    keys: HashMap<String, Key>,
    operator_revoked: bool,
}

impl Keys {
    /// With the operator's key only.
    pub fn new(access_key: &str, secret: &str) -> Self {
        let keys = Self::default();
        keys.add(Key {
            access_key: access_key.into(),
            secret: secret.into(),
            session: None,
            principal: Principal::Operator,
        });
        keys
    }

    /// Makes a key known.
    pub fn add(&self, key: Key) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).keys.insert(key.access_key.clone(), key);
    }

    /// Forgets the sessions of a machine that have expired: known until then, so that they are refused as expired and not as
    /// made up, and no longer, so that a machine that lives for months has few.
    pub fn forget_expired(&self, machine: &str, now: Timestamp) {
        let ends = |key: &Key| {
            matches!(&key.principal, Principal::Machine { instance, .. } if instance == machine) && key.has_expired(now)
        };
        self.0.write().unwrap_or_else(PoisonError::into_inner).keys.retain(|_, key| !ends(key));
    }

    /// Ends the sessions of a machine that is no more.
    pub fn remove_machine(&self, gone: &str) {
        let ends = |key: &Key| matches!(&key.principal, Principal::Machine { instance, .. } if instance == gone);
        self.0.write().unwrap_or_else(PoisonError::into_inner).keys.retain(|_, key| !ends(key));
    }

    /// Makes the operator's key unknown, or known again: the fault "credentials revoked".
    pub fn set_operator_revoked(&self, revoked: bool) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).operator_revoked = revoked;
    }

    /// The key of this id, if it is known; a session may have expired.
    pub fn find(&self, access_key: &str) -> Option<Key> {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let key = inner.keys.get(access_key)?;
        (key.principal != Principal::Operator || !inner.operator_revoked).then(|| key.clone())
    }
}

impl Key {
    /// The session token that a request must carry.
    pub fn token(&self) -> Option<&str> {
        self.session.as_ref().map(|session| session.token.as_str())
    }

    /// Whether this is a session that is over.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.session.as_ref().is_some_and(|session| session.expires <= now)
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionToken").field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("access_key", &self.access_key).field("principal", &self.principal).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_until_they_are_revoked() {
        let keys = Keys::new("AKIA", "secret");
        let session = |access_key: &str, instance: &str| Key {
            access_key: access_key.into(),
            secret: "s".into(),
            session: Some(SessionToken { token: "t".into(), expires: Timestamp::MAX }),
            principal: Principal::Machine { instance: instance.into(), set: None },
        };
        keys.add(session("ASIA1", "i-1"));
        keys.add(session("ASIA2", "i-2"));
        keys.remove_machine("i-1");
        keys.set_operator_revoked(true);
        let valid = |keys: &Keys| ["AKIA", "ASIA1", "ASIA2"].map(|key| keys.find(key).is_some());
        assert_eq!(valid(&keys), [false, false, true]);
        keys.set_operator_revoked(false);
        assert_eq!(valid(&keys), [true, false, true]);
    }
}

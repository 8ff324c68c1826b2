//! What can go wrong with a cloud, by what it asks of us. A class decides the next step; the code and message are for people.

use std::fmt;

/// What a failed call means for the caller (EC2 documentation, "Error codes"; one row per answer to "and now?").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Refused for its rate, not sent or not applied: back off.
    Throttled,
    /// 5xx, a connection error or a deadline: the call may or may not have been applied. Send the identical one again.
    Transient,
    /// Our own fresh write is not visible yet.
    NotVisibleYet,
    /// It is not there, as far as the cloud says now; by itself no proof that it is gone.
    NotFound,
    /// The resource is in a state that forbids this for now.
    WrongState,
    /// No room for this type in this zone.
    Capacity,
    /// The account's own bound.
    Quota,
    /// The token was used with other parameters.
    TokenMismatch,
    /// The machine or volume of this token has ended: the next attempt number.
    TokenSpent,
    /// Termination protection.
    Protected,
    /// A conditional write lost (412, or 409: read again before concluding).
    Conflict,
    /// No permission, wrong credentials, clock skew.
    Denied,
    /// The request itself is wrong: only a change of the spec or of the configuration helps.
    Invalid,
    /// A test stopped this process here; nothing sent after it reaches the cloud.
    Crashed,
}

/// A cloud call that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call} failed: {code}: {message}")]
pub struct CloudError {
    pub class: Class,
    /// The call in the cloud's own word, such as `RunInstances`.
    pub call: &'static str,
    /// The cloud's error code, or a word of ours (`Timeout`, `Connection`).
    pub code: String,
    pub message: String,
}

pub type Result<T> = std::result::Result<T, CloudError>;

impl CloudError {
    pub fn new(class: Class, call: &'static str, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { class, call, code: code.into(), message: message.into() }
    }

    /// The call may have been applied although it failed.
    pub fn is_ambiguous(&self) -> bool {
        matches!(self.class, Class::Transient | Class::Crashed)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

//! Requests that were recorded and may have been sent: when to send again, when to look, when a refusal is final (law 3).

use std::time::Duration;

use drover_api::{ClientToken, Millis};

use crate::observed::{FailureKind, Observed, Send};

/// An error after a possibly sent request is final only when look-ups by token stayed empty for this long.
pub const LOOKED_UP_FOR: Duration = Duration::from_secs(300);
const LOOK_UP_EVERY: Duration = Duration::from_secs(10);
/// Between sends of what only a person or EC2's patience can mend.
const RETRY_DENIED: Duration = Duration::from_secs(30);
const RETRY_QUOTA: Duration = Duration::from_secs(60);
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// What to do about a recorded request whose outcome nothing shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Send {
        why: &'static str,
    },
    /// Look it up by its token first.
    Look,
    Wait {
        reason: &'static str,
        message: String,
    },
    /// Refused, and nothing came of it: another attempt may be made.
    Refused {
        kind: FailureKind,
        message: String,
    },
    /// It was never sent by anyone.
    Unsent,
}

/// What follows for the request of `token`. `wanted` is false when the slot is to end: then a request that nobody can have
/// sent need not be sent at all.
pub fn next(observed: &Observed, token: &ClientToken, wanted: bool) -> Next {
    let now = observed.now;
    let Some(send) = observed.sends.get(token) else {
        return Next::Send {
            why: "recorded earlier; whether it was sent is not known, and sending it again is harmless",
        };
    };
    let Some(failure) = &send.failure else {
        return match (send.count, send.minted_here, wanted) {
            (0, true, false) => Next::Unsent,
            (0, true, true) => Next::Send { why: "recorded" },
            _ => Next::Send { why: "nothing shows it yet; sending it again is harmless" },
        };
    };
    let wait_or_send = |pause: Duration, reason: &'static str| {
        if now.since(failure.at) >= pause {
            Next::Send { why: "the last answer was an error that may pass" }
        } else {
            Next::Wait { reason, message: failure.message.clone() }
        }
    };
    match failure.kind {
        FailureKind::Retry => wait_or_send(backoff(send.count), "Retrying"),
        FailureKind::Denied => wait_or_send(RETRY_DENIED, "PermissionDenied"),
        FailureKind::Quota => wait_or_send(RETRY_QUOTA, "QuotaExceeded"),
        FailureKind::TokenSpent => Next::Refused { kind: failure.kind, message: failure.message.clone() },
        FailureKind::Capacity | FailureKind::Invalid | FailureKind::TokenMismatch => {
            if is_final(send, now) {
                Next::Refused { kind: failure.kind, message: failure.message.clone() }
            } else if send.last_lookup.is_none_or(|at| now.since(at) >= LOOK_UP_EVERY) {
                Next::Look
            } else {
                let message = format!(
                    "{}; it may have been sent before, so it is looked up by its token for 5 minutes",
                    failure.message
                );
                Next::Wait { reason: "OutcomeUnknown", message }
            }
        }
    }
}

fn is_final(send: &Send, now: Millis) -> bool {
    let clean = send.minted_here && !send.ambiguous;
    clean || send.looked_up_empty_since.is_some_and(|since| now.since(since) >= LOOKED_UP_FOR)
}

fn backoff(count: u32) -> Duration {
    BACKOFF_FIRST.saturating_mul(1 << count.saturating_sub(1).min(10)).min(BACKOFF_MAX)
}

//! Requests that were recorded and may have been sent: when to send again, when to look, when a refusal is final (law 3).

use std::time::Duration;

use drover_api::ClientToken;

use crate::observed::{Failure, FailureKind, Observed, Send};

/// An error after a possibly sent request is final only when look-ups by token stayed empty for this long.
pub const LOOKED_UP_FOR: Duration = Duration::from_secs(300);
/// EC2 sees a new instance profile within seconds, at the worst minutes (IAM documentation, "Troubleshooting: changes are not
/// always immediately visible").
const VISIBLE_WITHIN: Duration = Duration::from_secs(600);
const LOOK_UP_EVERY: Duration = Duration::from_secs(10);
/// Between sends of what only a person or EC2's patience can mend.
const RETRY_DENIED: Duration = Duration::from_secs(30);
/// Of what is still not there after [`VISIBLE_WITHIN`]: a person has to change the spec, or make it.
const RETRY_UNSEEN: Duration = Duration::from_secs(60);
const RETRY_QUOTA: Duration = Duration::from_secs(60);
/// Of a volume, which cannot go elsewhere: its machine is there already.
const RETRY_CAPACITY: Duration = Duration::from_secs(60);
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The reason of a wait for an instance profile that EC2 ought to see by now.
pub const NO_PROFILE: &str = "InstanceProfileUnknown";

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

/// What follows for a launch. `wanted` is false when this very request is not wanted any more: then one that nobody can
/// have sent is not sent at all, and a refusal is not tried again.
pub fn launch(observed: &Observed, token: &ClientToken, wanted: bool) -> Next {
    next(observed, token, wanted, None, |send, failure| match looked_up(observed, send, &failure.message) {
        Ok(()) => Next::Refused { kind: failure.kind, message: failure.message.clone() },
        Err(next) => next,
    })
}

/// Whether nothing came of a launch, and nothing will: or what to do until that is known. For one that is not to be sent
/// (again) whatever happened to it, because its slot shows a machine.
pub fn came_to_nothing(observed: &Observed, token: &ClientToken) -> Result<(), Next> {
    match observed.sends.get(token) {
        None => Err(Next::Look),
        Some(send) if send.minted_here && (send.count == 0 || send.failure.is_some() && is_clean(send)) => Ok(()),
        Some(send) => looked_up(observed, send, "a machine of its slot showed up"),
    }
}

/// Looked up by its token for five minutes, from the first look to the last, without a find; or what to do until then.
fn looked_up(observed: &Observed, send: &Send, why: &str) -> Result<(), Next> {
    let looks = send.looked_up_empty_since.zip(send.last_lookup);
    if looks.is_some_and(|(first, last)| last.since(first) >= LOOKED_UP_FOR) {
        return Ok(());
    }
    if send.last_lookup.is_none_or(|at| observed.now.since(at) >= LOOK_UP_EVERY) {
        return Err(Next::Look);
    }
    let message = format!("{why}; it may have been sent before, so it is looked up by its token for 5 minutes");
    Err(Next::Wait { reason: "OutcomeUnknown", message })
}

/// What follows for the creation of a volume. EC2 has no look-up of volumes by token: complete volume lists are it.
pub fn volume(observed: &Observed, token: &ClientToken, wanted: bool) -> Next {
    next(observed, token, wanted, Some(RETRY_CAPACITY), |_, failure| {
        if observed.fleet.volumes_listed.is_some_and(|at| at.since(failure.at) >= LOOKED_UP_FOR) {
            return Next::Refused { kind: failure.kind, message: failure.message.clone() };
        }
        let message =
            format!("{}; it may have been sent before, so volume lists are awaited for 5 minutes", failure.message);
        Next::Wait { reason: "OutcomeUnknown", message }
    })
}

/// `retry_capacity`: what lacks room is asked for again, rather than given up. `unclear` judges a refusal after which a send
/// of it may still have been applied.
fn next(
    observed: &Observed,
    token: &ClientToken,
    wanted: bool,
    retry_capacity: Option<Duration>,
    unclear: impl Fn(&Send, &Failure) -> Next,
) -> Next {
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
    let kind = failure.kind;
    let retried = match kind {
        FailureKind::Retry => Some((backoff(send.count), "Retrying")),
        FailureKind::NotVisibleYet => {
            let long = send.failing_since.is_some_and(|since| failure.at.since(since) >= VISIBLE_WITHIN);
            Some(if long { (RETRY_UNSEEN, NO_PROFILE) } else { (backoff(send.count), "Retrying") })
        }
        FailureKind::Denied => Some((RETRY_DENIED, "PermissionDenied")),
        FailureKind::Quota => Some((RETRY_QUOTA, "QuotaExceeded")),
        FailureKind::Capacity => retry_capacity.map(|pause| (pause, "InsufficientCapacity")),
        FailureKind::Invalid | FailureKind::TokenMismatch | FailureKind::TokenSpent => None,
    };
    let retried = retried.filter(|_| wanted || (kind == FailureKind::Retry && !is_clean(send)));
    match retried {
        Some((pause, reason)) => wait_or_send(observed, failure, pause, reason),
        None if kind == FailureKind::TokenSpent || is_clean(send) => {
            Next::Refused { kind, message: failure.message.clone() }
        }
        None => unclear(send, failure),
    }
}

fn wait_or_send(observed: &Observed, failure: &Failure, pause: Duration, reason: &'static str) -> Next {
    if observed.now.since(failure.at) >= pause {
        Next::Send { why: "the last answer was an error that may pass" }
    } else {
        Next::Wait { reason, message: failure.message.clone() }
    }
}

/// No send of it can have been applied. A token that was used with other parameters was used: something may exist.
fn is_clean(send: &Send) -> bool {
    let used = send.failure.as_ref().is_some_and(|failure| failure.kind == FailureKind::TokenMismatch);
    send.minted_here && !send.ambiguous && !used
}

fn backoff(count: u32) -> Duration {
    BACKOFF_FIRST.saturating_mul(1 << count.saturating_sub(1).min(10)).min(BACKOFF_MAX)
}

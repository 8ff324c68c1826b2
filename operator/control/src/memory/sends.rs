//! What this process did with requests that carry a client token: what a planner needs to tell a refused launch from one
//! whose reply was lost (law 3).

use std::collections::{BTreeMap, BTreeSet};

use drover_api::{ClientToken, Millis};
use drover_cloud::{Class, CloudError};
use drover_plan::observed::{Failure, FailureKind, Send};

/// By client token. Bounded by the tokens that slot records hold: [`Sends::keep`] drops the others.
#[derive(Clone, Debug, Default)]
pub struct Sends {
    sends: BTreeMap<ClientToken, Send>,
}

/// A cloud's error class, as far as the next launch depends on it.
pub fn failure_kind(class: Class) -> FailureKind {
    match class {
        Class::Throttled | Class::Transient | Class::WrongState | Class::Conflict => FailureKind::Retry,
        Class::NotVisibleYet => FailureKind::NotVisibleYet,
        Class::Protected | Class::Crashed => FailureKind::Retry,
        Class::Capacity => FailureKind::Capacity,
        Class::Quota => FailureKind::Quota,
        Class::TokenMismatch => FailureKind::TokenMismatch,
        Class::TokenSpent => FailureKind::TokenSpent,
        Class::Denied => FailureKind::Denied,
        // A launch that names an image, subnet or group which is not there: only another request helps.
        Class::Invalid | Class::NotFound => FailureKind::Invalid,
    }
}

// === impl Sends ===

impl Sends {
    /// This process wrote the record that holds the request, and saw the write succeed.
    pub fn minted(&mut self, token: &ClientToken) {
        self.entry(token).minted_here = true;
    }

    /// The request was sent, and answered or not.
    pub fn sent(&mut self, token: &ClientToken, result: Result<(), &CloudError>, now: Millis) {
        let send = self.entry(token);
        send.count += 1;
        match result {
            Ok(()) => {
                send.ambiguous = false;
                send.failure = None;
                send.failing_since = None;
            }
            Err(error) => {
                let kind = failure_kind(error.class);
                let is_same = send.failure.as_ref().is_some_and(|failure| failure.kind == kind);
                send.failing_since = send.failing_since.filter(|_| is_same).or(Some(now));
                send.ambiguous |= error.is_ambiguous();
                send.failure = Some(Failure { at: now, kind, message: format!("{}: {}", error.code, error.message) });
            }
        }
        send.looked_up_empty_since = None;
        send.last_lookup = None;
    }

    /// A look-up by token showed something, or nothing. One that failed says nothing and is not told here.
    pub fn looked_up(&mut self, token: &ClientToken, found: usize, now: Millis) {
        let send = self.entry(token);
        send.last_lookup = Some(now);
        send.looked_up_empty_since = match found {
            0 => send.looked_up_empty_since.or(Some(now)),
            _ => None,
        };
    }

    /// Forgets what no record names any more.
    pub fn keep(&mut self, named: &BTreeSet<&ClientToken>) {
        self.sends.retain(|token, _| named.contains(token));
    }

    pub fn all(&self) -> BTreeMap<ClientToken, Send> {
        self.sends.clone()
    }

    fn entry(&mut self, token: &ClientToken) -> &mut Send {
        self.sends.entry(token.clone()).or_insert(Send {
            minted_here: false,
            count: 0,
            ambiguous: false,
            failure: None,
            failing_since: None,
            looked_up_empty_since: None,
            last_lookup: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> ClientToken {
        ClientToken::new("t").expect("token")
    }

    type Events<'a> = &'a [&'a dyn Fn(&mut Sends, Millis)];

    fn after(events: Events<'_>) -> Send {
        let mut sends = Sends::default();
        for (second, event) in events.iter().enumerate() {
            event(&mut sends, Millis(second as u64));
        }
        sends.all().remove(&token()).expect("the token is known")
    }

    fn fail(class: Class) -> impl Fn(&mut Sends, Millis) {
        move |sends, now| {
            let error = CloudError::new(class, "RunInstances", "Code", "why");
            sends.sent(&token(), Err(&error), now);
        }
    }

    fn succeed(sends: &mut Sends, now: Millis) {
        sends.sent(&token(), Ok(()), now);
    }

    fn empty(sends: &mut Sends, now: Millis) {
        sends.looked_up(&token(), 0, now);
    }

    fn found(sends: &mut Sends, now: Millis) {
        sends.looked_up(&token(), 1, now);
    }

    #[test]
    fn only_a_request_of_our_own_record_is_minted_here() {
        let mint = |sends: &mut Sends, _| sends.minted(&token());
        assert!(after(&[&mint, &fail(Class::Capacity)]).minted_here);
        assert!(!after(&[&fail(Class::Capacity)]).minted_here);
    }

    #[test]
    fn a_lost_reply_stays_ambiguous_until_an_answer_names_the_machine() {
        assert!(after(&[&fail(Class::Transient)]).ambiguous);
        assert!(after(&[&fail(Class::Transient), &fail(Class::Capacity)]).ambiguous);
        assert!(after(&[&fail(Class::Crashed)]).ambiguous);
        assert!(!after(&[&fail(Class::Transient), &succeed]).ambiguous);
        assert!(!after(&[&fail(Class::Throttled), &fail(Class::Capacity), &fail(Class::Denied)]).ambiguous);
    }

    #[test]
    fn a_failure_lasts_since_the_first_of_its_kind_in_a_row() {
        let since = |events: Events<'_>| after(events).failing_since;
        assert_eq!(since(&[&fail(Class::NotVisibleYet), &fail(Class::NotVisibleYet)]), Some(Millis(0)));
        assert_eq!(since(&[&fail(Class::NotVisibleYet), &fail(Class::Throttled)]), Some(Millis(1)));
        assert_eq!(since(&[&fail(Class::NotVisibleYet), &succeed]), None);
    }

    #[test]
    fn empty_look_ups_count_from_the_first_after_the_last_send() {
        let since = |events: Events<'_>| after(events).looked_up_empty_since;
        assert_eq!(since(&[&fail(Class::Transient), &empty, &empty]), Some(Millis(1)));
        assert_eq!(since(&[&fail(Class::Transient), &empty, &fail(Class::Transient)]), None);
        assert_eq!(since(&[&fail(Class::Transient), &empty, &found]), None);
        assert_eq!(since(&[&fail(Class::Transient), &empty, &found, &empty]), Some(Millis(3)));
    }

    #[test]
    fn every_error_class_has_a_kind_and_only_refusals_are_definite() {
        let kinds = [
            (Class::Throttled, FailureKind::Retry),
            (Class::Transient, FailureKind::Retry),
            (Class::NotVisibleYet, FailureKind::NotVisibleYet),
            (Class::WrongState, FailureKind::Retry),
            (Class::Capacity, FailureKind::Capacity),
            (Class::Quota, FailureKind::Quota),
            (Class::TokenMismatch, FailureKind::TokenMismatch),
            (Class::TokenSpent, FailureKind::TokenSpent),
            (Class::Denied, FailureKind::Denied),
            (Class::Invalid, FailureKind::Invalid),
            (Class::NotFound, FailureKind::Invalid),
        ];
        for (class, kind) in kinds {
            let failure = after(&[&fail(class)]).failure.expect("a failure");
            assert_eq!((failure.kind, failure.message.as_str()), (kind, "Code: why"), "{class}");
        }
    }
}

//! The operator lock as a state machine: what to do next with `lock.json`, and until when this process may act. Pure: times
//! are arguments, measured on this process's own monotonic clock, which counts while it is stopped.
//!
//! The holder's lease begins before its renewing write is *sent*; a challenger's wait begins after it has *seen* the result
//! of that write. So the holder's lease ends before any challenger's wait does, whatever the network did in between.
//!
//! Where somebody removed the object, its absence is waited out like another's lease, and the number goes on above every one
//! that was seen, in the lock or in what agents have taken: agents refuse a lower one for good.

use std::{collections::VecDeque, time::Duration};

use drover_api::{WriteId, records::Lock, wire::Accepted};
use drover_cloud::objects::{Condition, ETag};

/// Who this process is, and how long a lease is.
#[derive(Clone, Debug)]
pub struct Challenger {
    /// Minted at the process's start.
    pub process: WriteId,
    /// For people: host, process id, start.
    pub holder: String,
    /// Whole seconds, as the object says it.
    pub lease: Duration,
}

/// What this process knows of the lock.
#[derive(Clone, Debug)]
pub struct LockState {
    us: Challenger,
    view: View,
    /// What the view says may be out of date: read before anything else is written.
    stale: bool,
    /// When the last read was answered.
    read: Duration,
    /// The highest fencing number that is not our present one, wherever it was seen; 0 before any.
    seen: u64,
    /// Our own writes, by when they were sent: the newest that is seen in the object says how long the lease lasts.
    sent: VecDeque<(WriteId, Duration)>,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Lock(Lock, ETag),
    /// No lock and nothing else of the realm: nobody has acted here yet, as far as the bucket tells.
    Nothing,
    /// No lock, and the realm has other objects: somebody removed it, and whoever held it may still act.
    Removed,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// GET, then [`LockState::saw`].
    Read,
    /// PUT, then [`LockState::wrote`] or [`LockState::lost`].
    Write { lock: Lock, condition: Condition },
    /// Nothing is due.
    Rest,
}

/// Who may act, for people and for the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holding {
    /// Nobody looked yet, or the last look failed.
    Unknown,
    /// This process, until `until` on its monotonic clock.
    Us { fence: u64, until: Duration },
    /// Another one; `fence` is its number.
    Other { holder: String, fence: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum View {
    Unread,
    /// Free to be taken at once.
    Free,
    /// Not there since `since`, and it was.
    Removed {
        since: Duration,
    },
    /// Seen unchanged since `since`.
    Other {
        etag: ETag,
        lock: Lock,
        since: Duration,
    },
    Ours {
        etag: ETag,
        lock: Lock,
        sent: Duration,
    },
}

/// More of our writes than this are never undecided at once: each undecided write is followed by a read.
const SENT_MAX: usize = 8;

/// Two clocks that ought to run alike differ by less: crystal oscillators drift by tens of millionths, this is a hundredth.
/// The holder gives up that much earlier.
const DRIFT: u32 = 100;

// === impl LockState ===

impl LockState {
    pub fn new(us: Challenger) -> Self {
        Self { us, view: View::Unread, stale: true, read: Duration::ZERO, seen: 0, sent: VecDeque::new() }
    }

    /// What is due at `now`. `write_id` is used if that is a write.
    pub fn step(&self, now: Duration, write_id: WriteId) -> Step {
        match &self.view {
            _ if self.stale => Step::Read,
            View::Unread => Step::Read,
            View::Free => self.write(write_id, self.seen + 1, Condition::Absent),
            View::Removed { since } if now.saturating_sub(*since) < self.us.lease => Step::Read,
            View::Removed { .. } => self.write(write_id, self.seen + 1, Condition::Absent),
            // A process that was stopped past its lease looks first: another may act by now, and then nothing is sent.
            View::Ours { sent, .. } if now.saturating_sub(*sent.max(&self.read)) >= self.us.lease => Step::Read,
            // Somebody has acted under a number that ours does not outrank, and it was not the lock that told us.
            View::Ours { etag, lock, .. } if lock.fence <= self.seen => {
                self.write(write_id, self.seen + 1, Condition::Unchanged(etag.clone()))
            }
            View::Ours { etag, lock, sent } => {
                if now.saturating_sub(*sent) >= self.us.lease / 3 {
                    self.write(write_id, lock.fence, Condition::Unchanged(etag.clone()))
                } else {
                    Step::Rest
                }
            }
            View::Other { etag, lock, since } => {
                let waited = now.saturating_sub(*since) >= Duration::from_secs(lock.lease_seconds.into());
                if waited || lock.released {
                    self.write(write_id, lock.fence.max(self.seen) + 1, Condition::Unchanged(etag.clone()))
                } else {
                    Step::Read
                }
            }
        }
    }

    /// The write that gives the lock up, while it is ours.
    pub fn release(&self, write_id: WriteId) -> Option<(Lock, ETag)> {
        match &self.view {
            View::Ours { etag, lock, .. } => Some((Lock { write_id, released: true, ..lock.clone() }, etag.clone())),
            View::Unread | View::Free | View::Removed { .. } | View::Other { .. } => None,
        }
    }

    /// A write is about to be sent at `now`.
    pub fn sending(&mut self, lock: &Lock, now: Duration) {
        self.sent.push_back((lock.write_id.clone(), now));
        if self.sent.len() > SENT_MAX {
            self.sent.pop_front();
        }
    }

    /// A read that was answered at `now`.
    pub fn saw(&mut self, found: Found, now: Duration) {
        self.stale = false;
        self.read = now;
        self.view = match found {
            Found::Nothing if self.seen == 0 && matches!(self.view, View::Unread | View::Free) => View::Free,
            // A bucket that was emptied, or another one: whoever held the lock may still act, and its number was taken.
            Found::Nothing => self.removed(now),
            Found::Removed => self.removed(now),
            Found::Lock(lock, etag) if lock.process == self.us.process && !lock.released => {
                let sent = self.sent.iter().find(|(id, _)| *id == lock.write_id);
                match sent {
                    Some((_, sent)) => View::Ours { etag, lock, sent: *sent },
                    // Ours, but sent longer ago than we remember: like another's, it must be waited out.
                    None => self.watch(etag, lock, now),
                }
            }
            Found::Lock(lock, etag) => self.watch(etag, lock, now),
        };
    }

    /// The write succeeded.
    pub fn wrote(&mut self, lock: Lock, etag: ETag) {
        let sent = self.sent.iter().find(|(id, _)| *id == lock.write_id);
        self.view = match sent {
            Some((_, sent)) if !lock.released => View::Ours { etag, lock, sent: *sent },
            _ => View::Unread,
        };
    }

    /// A write conflicted, or nobody knows whether it was applied: only a read tells. What was granted before it stays.
    pub fn lost(&mut self) {
        self.stale = true;
    }

    /// An agent has taken orders of this fencing number, and not from us: another holds the lock, or it was removed and begun
    /// anew too low. Nothing is permitted until a read has told which.
    pub fn doubt(&mut self, fence: u64) {
        self.seen = self.seen.max(fence);
        self.stale = true;
        self.view = View::Unread;
    }

    /// How long a removed lock is still waited out.
    pub fn waits(&self, now: Duration) -> Option<Duration> {
        match &self.view {
            View::Removed { since } => Some(self.us.lease.saturating_sub(now.saturating_sub(*since))),
            View::Unread | View::Free | View::Other { .. } | View::Ours { .. } => None,
        }
    }

    pub fn holding(&self) -> Holding {
        match &self.view {
            View::Unread | View::Free | View::Removed { .. } => Holding::Unknown,
            View::Other { lock, .. } => Holding::Other { holder: lock.holder.clone(), fence: lock.fence },
            View::Ours { lock, sent, .. } => {
                Holding::Us { fence: lock.fence, until: *sent + self.us.lease - self.us.lease / DRIFT }
            }
        }
    }

    /// May a call be sent at `now` that ends, one way or the other, within `deadline`? What was decided under `fence` is not
    /// done under a later one: another operator acted in between.
    pub fn permits(&self, fence: u64, now: Duration, deadline: Duration) -> bool {
        match self.holding() {
            Holding::Us { fence: ours, until } => ours == fence && now + deadline <= until,
            Holding::Unknown | Holding::Other { .. } => false,
        }
    }

    /// While our lease lasts nobody else can have acted: what is gone is our own, and is put back at once.
    fn removed(&mut self, now: Duration) -> View {
        match &self.view {
            View::Ours { lock, sent, .. } => {
                self.seen = self.seen.max(lock.fence);
                if now.saturating_sub(*sent) < self.us.lease { View::Free } else { View::Removed { since: now } }
            }
            View::Removed { since } => View::Removed { since: *since },
            View::Unread | View::Free | View::Other { .. } => View::Removed { since: now },
        }
    }

    fn watch(&mut self, etag: ETag, lock: Lock, now: Duration) -> View {
        self.seen = self.seen.max(lock.fence);
        match &self.view {
            View::Other { etag: before, since, .. } if *before == etag => View::Other { etag, lock, since: *since },
            _ => View::Other { etag, lock, since: now },
        }
    }

    fn write(&self, write_id: WriteId, fence: u64, condition: Condition) -> Step {
        Step::Write {
            lock: Lock {
                write_id,
                holder: self.us.holder.clone(),
                process: self.us.process.clone(),
                fence,
                lease_seconds: u32::try_from(self.us.lease.as_secs()).unwrap_or(u32::MAX),
                released: false,
            },
            condition,
        }
    }
}

/// The highest fencing number under which agents have taken orders that were not ours; `fence` is ours, and `sent` the last
/// number of an order that we sent under it.
pub fn outranked_by<'a>(accepted: impl Iterator<Item = &'a Accepted>, fence: u64, sent: u64) -> Option<u64> {
    let theirs = |accepted: &&Accepted| (accepted.fence, accepted.seq) > (fence, sent);
    accepted.filter(theirs).map(|accepted| accepted.fence).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: u64 = 30;
    const CALL: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn id(text: &str) -> WriteId {
        WriteId::new(format!("write-id-{text}")).expect("a write id")
    }

    fn etag(text: &str) -> ETag {
        ETag(text.into())
    }

    fn process(name: &str) -> LockState {
        LockState::new(Challenger { process: id(name), holder: name.into(), lease: at(LEASE) })
    }

    fn lock(of: &str, write: &str, fence: u64) -> Lock {
        Lock {
            write_id: id(write),
            holder: of.into(),
            process: id(of),
            fence,
            lease_seconds: LEASE as u32,
            released: false,
        }
    }

    /// `a` holding fence 1 since a write sent at `sent`.
    fn holder(sent: u64) -> LockState {
        let mut state = process("a");
        state.saw(Found::Nothing, at(sent));
        let Step::Write { lock, condition } = state.step(at(sent), id("1")) else {
            panic!("an absent lock is not taken");
        };
        assert_eq!((lock.fence, condition), (1, Condition::Absent));
        state.sending(&lock, at(sent));
        state.wrote(lock, etag("1"));
        state
    }

    #[test]
    fn nothing_is_permitted_before_the_lock_is_ours() {
        let mut state = process("a");
        assert!(!state.permits(1, at(0), Duration::ZERO));
        state.saw(Found::Nothing, at(0));
        assert!(!state.permits(1, at(0), Duration::ZERO));
        state.saw(Found::Lock(lock("b", "9", 4), etag("9")), at(0));
        assert!(!state.permits(1, at(0), Duration::ZERO));
        assert_eq!(state.holding(), Holding::Other { holder: "b".into(), fence: 4 });
    }

    #[test]
    fn a_call_is_permitted_only_when_its_deadline_ends_inside_the_lease() {
        let state = holder(100);
        for (now, permitted) in [(100, true), (119, true), (120, false), (130, false), (4000, false)] {
            assert_eq!(state.permits(1, at(now), CALL), permitted, "at {now} s");
        }
    }

    #[test]
    fn the_holder_renews_at_a_third_and_the_lease_counts_from_before_the_write() {
        let mut state = holder(100);
        assert_eq!(state.step(at(109), id("2")), Step::Rest);
        let Step::Write { lock, condition } = state.step(at(110), id("2")) else {
            panic!("no renewal at a third");
        };
        assert_eq!((lock.fence, condition), (1, Condition::Unchanged(etag("1"))));
        state.sending(&lock, at(110));
        // The reply takes 8 s; the lease does not begin with it.
        state.wrote(lock, etag("2"));
        assert!(state.permits(1, at(129), CALL));
        assert!(!state.permits(1, at(130), CALL));
    }

    #[test]
    fn a_renewal_without_an_answer_keeps_the_old_lease_and_reads_first() {
        let mut state = holder(100);
        let renewal = lock("a", "2", 1);
        state.sending(&renewal, at(110));
        state.lost();
        assert_eq!(state.step(at(111), id("3")), Step::Read);
        assert!(state.permits(1, at(119), CALL) && !state.permits(1, at(120), CALL));
        // The read shows that it was applied: the lease counts from its sending.
        state.saw(Found::Lock(renewal, etag("2")), at(115));
        assert!(state.permits(1, at(129), CALL) && !state.permits(1, at(130), CALL));
    }

    #[test]
    fn a_challenger_waits_a_full_lease_from_when_it_saw_the_object() {
        let mut state = process("b");
        let theirs = lock("a", "1", 7);
        state.saw(Found::Lock(theirs.clone(), etag("1")), at(50));
        assert_eq!(state.step(at(79), id("x")), Step::Read);
        // Seen again unchanged: the wait goes on from the first sight.
        state.saw(Found::Lock(theirs, etag("1")), at(79));
        let Step::Write { lock, condition } = state.step(at(80), id("x")) else {
            panic!("not taken after a full lease");
        };
        assert_eq!((lock.fence, condition), (8, Condition::Unchanged(etag("1"))));
    }

    #[test]
    fn a_renewal_seen_in_time_starts_the_wait_anew() {
        let mut state = process("b");
        state.saw(Found::Lock(lock("a", "1", 7), etag("1")), at(50));
        state.saw(Found::Lock(lock("a", "2", 7), etag("2")), at(79));
        assert_eq!(state.step(at(108), id("x")), Step::Read);
        assert!(matches!(state.step(at(109), id("x")), Step::Write { .. }));
    }

    #[test]
    fn a_released_lock_is_taken_at_once_under_the_next_fence() {
        let mut state = holder(100);
        let (released, unchanged) = state.release(id("2")).expect("ours");
        assert_eq!(unchanged, etag("1"));
        state.sending(&released, at(101));
        state.wrote(released.clone(), etag("2"));
        assert!(!state.permits(1, at(101), Duration::ZERO), "acts after giving the lock up");
        let mut other = process("b");
        other.saw(Found::Lock(released, etag("2")), at(102));
        let Step::Write { lock, .. } = other.step(at(102), id("x")) else {
            panic!("a released lock is waited for");
        };
        assert_eq!(lock.fence, 2);
    }

    #[test]
    fn an_earlier_process_of_the_same_host_is_another_holder() {
        let mut state = process("a2");
        state.saw(Found::Lock(lock("a", "1", 3), etag("1")), at(0));
        assert!(matches!(state.holding(), Holding::Other { fence: 3, .. }));
    }

    #[test]
    fn a_lease_that_lapsed_untaken_is_renewed_under_its_fence() {
        let mut state = holder(100);
        assert_eq!(state.step(at(500), id("2")), Step::Read, "writes without having looked");
        state.saw(Found::Lock(lock("a", "1", 1), etag("1")), at(500));
        assert!(!state.permits(1, at(500), Duration::ZERO), "a read is no renewal");
        let Step::Write { lock, .. } = state.step(at(500), id("2")) else {
            panic!("not renewed");
        };
        assert_eq!(lock.fence, 1);
        state.sending(&lock, at(500));
        state.lost();
        assert!(!state.permits(1, at(500), Duration::ZERO), "an expired lease permits");
        state.saw(Found::Lock(super::tests::lock("b", "7", 2), etag("7")), at(501));
        assert!(matches!(state.holding(), Holding::Other { fence: 2, .. }));
    }

    #[test]
    fn a_lock_that_was_another_s_in_between_permits_nothing_that_was_decided_before() {
        let mut state = holder(100);
        state.saw(Found::Lock(Lock { released: true, ..lock("b", "7", 2) }, etag("7")), at(150));
        let Step::Write { lock, .. } = state.step(at(150), id("3")) else {
            panic!("a released lock is waited for");
        };
        state.sending(&lock, at(150));
        state.wrote(lock, etag("8"));
        assert!(state.permits(3, at(151), CALL));
        assert!(!state.permits(1, at(151), CALL), "a plan of the first fence goes on under the third");
    }

    #[test]
    fn a_higher_fence_at_an_agent_stops_everything_until_the_lock_was_read() {
        let mut state = holder(100);
        state.doubt(2);
        assert!(!state.permits(1, at(101), Duration::ZERO));
        assert_eq!(state.step(at(101), id("2")), Step::Read);
        // Another holds it.
        state.saw(Found::Lock(lock("b", "7", 2), etag("7")), at(101));
        assert!(matches!(state.holding(), Holding::Other { fence: 2, .. }));
    }

    #[test]
    fn a_lock_that_is_ours_and_outranked_by_what_agents_have_taken_is_raised_above_it() {
        for taken in [1, 7] {
            let mut state = holder(100);
            state.doubt(taken);
            state.saw(Found::Lock(lock("a", "1", 1), etag("1")), at(101));
            let Step::Write { lock: raised, condition } = state.step(at(101), id("2")) else {
                panic!("not raised above {taken}");
            };
            assert_eq!((raised.fence, condition), (taken + 1, Condition::Unchanged(etag("1"))));
            state.sending(&raised, at(101));
            state.wrote(raised, etag("2"));
            assert!(matches!(state.holding(), Holding::Us { fence, .. } if fence == taken + 1));
            assert_eq!(state.step(at(102), id("3")), Step::Rest);
        }
    }

    #[test]
    fn a_removed_lock_is_waited_out_and_goes_on_above_every_number_that_was_seen() {
        let mut state = process("b");
        state.saw(Found::Lock(lock("a", "1", 6), etag("1")), at(0));
        state.saw(Found::Removed, at(10));
        assert_eq!(state.step(at(39), id("x")), Step::Read);
        state.saw(Found::Removed, at(39));
        assert_eq!(state.waits(at(39)), Some(at(1)));
        assert!(
            matches!(state.step(at(40), id("x")), Step::Write { lock, condition: Condition::Absent } if lock.fence == 7)
        );
        // Its holder put it back meanwhile.
        state.saw(Found::Lock(lock("a", "2", 7), etag("2")), at(40));
        assert_eq!(state.step(at(69), id("x")), Step::Read);
    }

    #[test]
    fn a_holder_whose_lock_is_removed_puts_it_back_at_once_while_its_lease_lasts() {
        for (now, at_once) in [(111, true), (131, false)] {
            let mut state = holder(100);
            state.lost();
            state.saw(Found::Removed, at(now));
            assert!(!state.permits(1, at(now), Duration::ZERO));
            let step = state.step(at(now), id("2"));
            let put_back = matches!(&step, Step::Write { lock, condition: Condition::Absent } if lock.fence == 2);
            assert_eq!(put_back, at_once, "{step:?}");
        }
    }

    #[test]
    fn only_orders_of_others_outrank() {
        let accepted = |fence, seq| Accepted { fence, epoch: drover_api::Epoch(1), seq, digest: String::new() };
        for (taken, expected) in [
            (vec![], None),
            (vec![accepted(3, 5), accepted(2, 90)], None),
            (vec![accepted(3, 6)], Some(3)),
            (vec![accepted(4, 1), accepted(7, 2), accepted(3, 1)], Some(7)),
        ] {
            assert_eq!(outranked_by(taken.iter(), 3, 5), expected, "{taken:?}");
        }
    }
}

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
mod tests;

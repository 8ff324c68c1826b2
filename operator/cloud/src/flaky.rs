//! Any cloud plus seeded faults: calls that are refused, replies that are lost, answers that are long in coming, and a crash
//! before or after any one call.
//!
//! All handles that share a [`Plan`] are one process. Once its crash has come, every call of that process, also one that was
//! under way, answers `Class::Crashed` and nothing more reaches the cloud; a test then drops what it was driving and starts
//! again with a new plan over the same cloud.

mod calls;

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::{Class, CloudError, Result};

/// A cloud as a process with a [`Plan`] sees it.
#[derive(Clone, Debug)]
pub struct Flaky<C> {
    inner: C,
    plan: Plan,
}

/// What will go wrong, shared by all the handles of one process, and the record of what did.
#[derive(Clone, Debug)]
pub struct Plan(Arc<Mutex<State>>);

/// Out of a thousand calls of any kind, how many end like this. The sum is at most 1000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Odds {
    /// Not sent: RequestLimitExceeded or SlowDown.
    pub throttled: u16,
    /// Not sent, and the caller cannot tell: a connection error.
    pub unsent: u16,
    /// Sent and answered, and the answer does not arrive.
    pub reply_lost: u16,
}

/// Where a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// Counted from 1 over all traits.
    pub nth: u64,
    pub counted: Counted,
    pub when: When,
}

/// Which calls a crash point counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    All,
    Mutating,
}

/// On which side of the call's effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Before,
    After,
}

/// Whether a call is of the kind that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Reads,
    Mutates,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The cloud answered, with this class of error where it refused.
    Answered(Option<Class>),
    /// It never reached the cloud.
    NotSent,
    /// It reached the cloud, and the caller was told of an error.
    ReplyLost,
    CrashedBefore,
    CrashedAfter,
}

/// One call in the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    pub call: &'static str,
    pub effect: Effect,
    pub fate: Fate,
}

/// Enough for every run of a test; of a longer one the beginning is dropped.
const RECORD_MAX: usize = 100_000;

#[derive(Debug)]
struct State {
    rng: ChaCha8Rng,
    odds: Odds,
    crash: Option<Crash>,
    crashed: bool,
    calls: u64,
    mutating_calls: u64,
    record: VecDeque<Made>,
    held: bool,
    /// Who waits while calls are held: a call has an entry for each time that it was asked for its answer.
    waiting: Vec<(&'static str, Waker)>,
}

/// What was decided about one call before it was sent.
#[derive(Clone, Copy)]
enum Verdict {
    Send,
    SendAndLose,
    SendAndCrash,
}

impl Plan {
    /// Nothing goes wrong until [`Plan::set_odds`] or [`Plan::crash_at`] says so.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: ChaCha8Rng::seed_from_u64(seed),
            odds: Odds::default(),
            crash: None,
            crashed: false,
            calls: 0,
            mutating_calls: 0,
            record: VecDeque::new(),
            held: false,
            waiting: Vec::new(),
        })))
    }

    /// From the next call on. The default ends the faults.
    pub fn set_odds(&self, odds: Odds) {
        self.lock().odds = odds;
    }

    pub fn crash_at(&self, crash: Crash) {
        self.lock().crash = Some(crash);
    }

    /// From now on no call is answered, until [`Plan::let_go`].
    pub fn hold(&self) {
        self.lock().held = true;
    }

    pub fn let_go(&self) {
        let mut state = self.lock();
        state.held = false;
        for (_, waker) in state.waiting.drain(..) {
            waker.wake();
        }
    }

    /// The calls that wait to be let go.
    pub fn waiting(&self) -> Vec<&'static str> {
        self.lock().waiting.iter().map(|(call, _)| *call).collect()
    }

    /// Ends the process now.
    pub fn crash(&self) {
        self.lock().crashed = true;
    }

    pub fn crashed(&self) -> bool {
        self.lock().crashed
    }

    /// Calls so far, that of the crash included and those after it not.
    pub fn calls(&self, counted: Counted) -> u64 {
        let state = self.lock();
        match counted {
            Counted::All => state.calls,
            Counted::Mutating => state.mutating_calls,
        }
    }

    /// The calls so far, oldest first.
    pub fn record(&self) -> Vec<Made> {
        self.lock().record.iter().copied().collect()
    }

    /// Calls that may have changed something: sent, mutating, and not refused.
    pub fn changes(&self) -> usize {
        let may_change = |made: &&Made| {
            made.effect == Effect::Mutates
                && matches!(made.fate, Fate::Answered(None) | Fate::ReplyLost | Fate::CrashedAfter)
        };
        self.lock().record.iter().filter(may_change).count()
    }

    /// Runs one call as the plan decides about it.
    async fn pass<T>(&self, call: &'static str, effect: Effect, work: impl Future<Output = Result<T>>) -> Result<T> {
        let verdict = self.lock().decide(call, effect)?;
        poll_fn(|context| {
            let mut state = self.lock();
            if state.held {
                state.waiting.push((call, context.waker().clone()));
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        let answer = work.await;
        self.lock().conclude(call, effect, verdict, answer)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn decide(&mut self, call: &'static str, effect: Effect) -> Result<Verdict> {
        if self.crashed {
            return Err(crashed(call));
        }
        self.calls += 1;
        self.mutating_calls += u64::from(effect == Effect::Mutates);
        let nth = |counted| match (counted, effect) {
            (Counted::All, _) => Some(self.calls),
            (Counted::Mutating, Effect::Mutates) => Some(self.mutating_calls),
            (Counted::Mutating, Effect::Reads) => None,
        };
        match self.crash.filter(|crash| nth(crash.counted) == Some(crash.nth)).map(|crash| crash.when) {
            Some(When::Before) => {
                self.crashed = true;
                self.note(call, effect, Fate::CrashedBefore);
                return Err(crashed(call));
            }
            Some(When::After) => return Ok(Verdict::SendAndCrash),
            None => {}
        }
        let Odds { throttled, unsent, reply_lost } = self.odds;
        let drawn: u16 = self.rng.random_range(0..1000);
        if drawn < throttled {
            self.note(call, effect, Fate::NotSent);
            return Err(CloudError::new(Class::Throttled, call, "RequestLimitExceeded", "injected: throttled"));
        }
        if drawn < throttled + unsent {
            self.note(call, effect, Fate::NotSent);
            return Err(CloudError::new(Class::Transient, call, "Connection", "injected: connection refused"));
        }
        Ok(if drawn < throttled + unsent + reply_lost { Verdict::SendAndLose } else { Verdict::Send })
    }

    fn conclude<T>(&mut self, call: &'static str, effect: Effect, verdict: Verdict, answer: Result<T>) -> Result<T> {
        match verdict {
            // Another call of the process crashed it while this one was under way.
            _ if self.crashed => {
                self.note(call, effect, Fate::CrashedAfter);
                Err(crashed(call))
            }
            Verdict::SendAndCrash => {
                self.crashed = true;
                self.note(call, effect, Fate::CrashedAfter);
                Err(crashed(call))
            }
            Verdict::SendAndLose => {
                self.note(call, effect, Fate::ReplyLost);
                Err(CloudError::new(Class::Transient, call, "Timeout", "injected: the reply was lost"))
            }
            Verdict::Send => {
                self.note(call, effect, Fate::Answered(answer.as_ref().err().map(|error| error.class)));
                answer
            }
        }
    }

    fn note(&mut self, call: &'static str, effect: Effect, fate: Fate) {
        if self.record.len() == RECORD_MAX {
            self.record.pop_front();
        }
        self.record.push_back(Made { call, effect, fate });
    }
}

impl<C> Flaky<C> {
    pub fn new(inner: C, plan: Plan) -> Self {
        Self { inner, plan }
    }

    /// The cloud itself, past the plan.
    pub fn inner(&self) -> &C {
        &self.inner
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

fn crashed(call: &'static str) -> CloudError {
    CloudError::new(Class::Crashed, call, "Crashed", "the process ended here")
}

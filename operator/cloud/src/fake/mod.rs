//! A cloud in memory: the EC2 model and a bucket behind our traits, under a clock that only moves when it is told to.
//!
//! Every handle is a clone of the same cloud. A call takes effect at once and its future is ready at the first poll, so any
//! executor will do and one seed always gives one history. What goes wrong besides the model's own faults is the business of
//! [`crate::flaky`].

mod bucket;
mod convert;
mod machines;
mod volumes;

#[cfg(test)]
pub(crate) mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use drover_api::Millis;

use crate::{
    ec2::{Account, Action, ApiError, Caller, Ec2, HostEvent, Mode},
    error::CloudError,
};

pub use bucket::{Bucket, BucketFault};

/// A handle to one cloud, for one caller.
#[derive(Clone, Debug)]
pub struct Fake {
    world: Arc<Mutex<World>>,
    caller: Caller,
}

/// The cloud itself.
#[derive(Clone, Debug)]
pub struct World {
    now: Millis,
    pub ec2: Ec2,
    pub bucket: Bucket,
}

impl Fake {
    /// A new account and an empty bucket at the time `now`. `seed` decides every id.
    pub fn new(account: Account, seed: u64, now: Millis) -> Self {
        let mut ec2 = Ec2::new(account, seed);
        ec2.advance(now);
        let world = World { now, ec2, bucket: Bucket::default() };
        Self { world: Arc::new(Mutex::new(world)), caller: Caller::operator() }
    }

    /// The same cloud for another caller, by whose name its calls are logged.
    pub fn called_by(&self, caller: Caller) -> Self {
        Self { world: Arc::clone(&self.world), caller }
    }

    /// A cloud of its own that is as this one is now.
    pub fn fork(&self) -> Self {
        Self { world: Arc::new(Mutex::new(self.lock().clone())), caller: self.caller.clone() }
    }

    pub fn now(&self) -> Millis {
        self.lock().now
    }

    /// Lets time pass and answers what a host would have to do.
    pub fn advance(&self, by: Duration) -> Vec<HostEvent> {
        let mut world = self.lock();
        world.now = world.now.plus(by);
        let now = world.now;
        world.ec2.advance(now)
    }

    /// Looks at the cloud or changes it from outside, past every trait: faults, logs, host reports, assertions.
    pub fn look<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.lock())
    }

    /// Makes one EC2 call as this handle's caller.
    fn call<A: Action>(&self, action: &A) -> Result<A::Reply, CloudError> {
        self.send(Mode::Run, action).map_err(|error| convert::error(A::NAME, error))
    }

    fn send<A: Action>(&self, mode: Mode, action: &A) -> Result<A::Reply, ApiError> {
        let mut world = self.lock();
        let now = world.now;
        world.ec2.call(now, &self.caller, mode, action)
    }

    /// A test that panicked while it held the lock fails by itself; the others may go on with what is there.
    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    pub fn now(&self) -> Millis {
        self.now
    }

    /// Calls in EC2's log and in the bucket's that changed something, oldest first, EC2's before the bucket's.
    pub fn changes(&self) -> Vec<String> {
        let both = self.ec2.log().entries().chain(self.bucket.log().entries());
        both.filter(|entry| entry.changed_something()).map(|entry| entry.action.clone()).collect()
    }
}

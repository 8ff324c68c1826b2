//! Following: copied from a donor once, then a receiver and an applier whose relay log is never thrown away while it may be
//! the only other copy of an acknowledged transaction.

use std::time::Duration;

use drover_api::{
    Millis,
    wire::{Orders, ReplicaOrder, RunningRole, ThreadReport},
};

use super::{Next, Observation, Server, State, Task, Wait, orders::digest};
use crate::durable::Origin;

/// A thread that stops again after it was started is started this often.
const RESUME_AGAIN: Duration = Duration::from_secs(5);

impl State {
    pub(super) fn next_replica(&mut self, orders: &Orders, replica: &ReplicaOrder) -> Next {
        if self.durable.as_ref().is_some_and(|durable| durable.led || durable.dirty.is_some()) {
            return Err(Wait::For("LedBefore", "it led: it does not simply follow another".into()));
        }
        if !self.data {
            return self.next_seed(orders, replica);
        }
        let seen = match self.settled(orders) {
            Ok(seen) => seen,
            Err(next) => return *next,
        };
        if !seen.super_read_only || !seen.read_only {
            return Ok(Task::Seal);
        }
        let Some(durable) = &mut self.durable else {
            return Err(Wait::Quiet);
        };
        // MySQL counts whoever acknowledges, so a life that was not admitted never does, and a learner stops before it is
        // pointed anywhere: its receiver would connect as what it was.
        let acknowledges = replica.acknowledges && replica.life == durable.voting.life;
        if seen.replica_semi_sync && !acknowledges {
            return Ok(Task::Acknowledge(false));
        }
        let Some(wired) = &durable.wired else {
            return Ok(Task::Discard);
        };
        if *wired != digest(&(&replica.source, &replica.credential)) {
            return Ok(Task::Follow {
                source: replica.source.clone(),
                credential: replica.credential.clone(),
                fresh: seen.channel.is_none(),
            });
        }
        let Some(channel) = &seen.channel else {
            return Err(Wait::For("ChannelVanished", "its channel was removed by someone else".into()));
        };
        if acknowledges && !seen.replica_semi_sync {
            durable.was_acknowledger = true;
            return Ok(Task::Acknowledge(true));
        }
        let stands = |thread: &ThreadReport| matches!(thread, ThreadReport::Stopped | ThreadReport::Failed { .. });
        if stands(&channel.applying) || stands(&channel.receiving) {
            return self.next_resume();
        }
        if seen.offline && channel.applying == ThreadReport::Running && channel.receiving == ThreadReport::Running {
            return Ok(Task::Expose);
        }
        Err(Wait::Quiet)
    }

    /// Starts what stands, at once the first time, and again after a while.
    fn next_resume(&mut self) -> Next {
        let since = self.resumed.map(|at| self.now.since(at));
        match since.filter(|since| *since < RESUME_AGAIN) {
            None => {
                self.resumed = Some(self.now);
                Ok(Task::Resume)
            }
            Some(since) => {
                Err(Wait::Again("ReplicationStands", "replication was started and stands".into(), RESUME_AGAIN - since))
            }
        }
    }

    fn next_seed(&mut self, orders: &Orders, replica: &ReplicaOrder) -> Next {
        if matches!(self.server, Server::Up { .. }) {
            return Err(Wait::For("DataVanished", "mysqld runs, but its data directory is gone".into()));
        }
        let Some(donor) = &replica.donor else {
            return Err(Wait::For("NoDonor", "there is no data here, and no donor is ordered yet".into()));
        };
        self.may_run(&orders.wanted.mysql)?;
        let Some(durable) = &mut self.durable else { return Err(Wait::Quiet) };
        durable.make_data(Origin::Seeded);
        Ok(Task::Seed {
            mysql: orders.wanted.mysql.clone(),
            donor: donor.clone(),
            credential: replica.clone.clone(),
            server_uuid: durable.voting.server_uuid.clone(),
        })
    }

    pub(super) fn replica_report(&self, replica: &ReplicaOrder, seen: &Observation, at: Millis) -> RunningRole {
        let wired = self.durable.as_ref().and_then(|durable| durable.wired.as_ref());
        let is_wired = wired == Some(&digest(&(&replica.source, &replica.credential)));
        let (receiving, applying, received) = match &seen.channel {
            Some(channel) => (channel.receiving.clone(), channel.applying.clone(), channel.received.clone()),
            None => (ThreadReport::Stopped, ThreadReport::Stopped, Default::default()),
        };
        RunningRole::Replica {
            source: is_wired.then_some(replica.source.slot),
            receiving,
            applying,
            received,
            acknowledges: seen.replica_semi_sync,
            lag_ms: seen.heartbeat.and_then(|beat| u64::try_from(at.since(beat).as_millis()).ok()),
        }
    }
}

//! Following: copied from a donor once, then a receiver and an applier whose relay log is never thrown away while it may be
//! the only other copy of an acknowledged transaction.

use std::time::Duration;

use drover_api::{
    Millis,
    problems::Reason,
    wire::{Orders, ReplicaOrder, RunningRole, ThreadReport},
};

use super::{Next, Observation, Server, State, Task, Wait, orders::digest};
use crate::durable::Origin;

/// A thread that stops again after it was started is started this often.
const RESUME_AGAIN: Duration = Duration::from_secs(5);

impl State {
    pub(super) fn next_replica(&mut self, orders: &Orders, replica: &ReplicaOrder) -> Next {
        if self.durable.as_ref().is_some_and(|durable| durable.led || durable.dirty.is_some()) {
            return Err(Wait::For(Reason::LedBefore, "it led: it does not simply follow another".into()));
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
        let Some(durable) = &self.durable else {
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
        let stands = |thread: &ThreadReport| matches!(thread, ThreadReport::Stopped | ThreadReport::Failed { .. });
        if *wired != digest(&(&replica.source, &replica.credential)) {
            // With its applier standing the relay log may be the only other copy of what was acknowledged, and CHANGE destroys it.
            if seen.channel.as_ref().is_some_and(|channel| stands(&channel.applying)) {
                return self.next_resume(Task::Apply);
            }
            return Ok(Task::Follow {
                source: replica.source.clone(),
                credential: replica.credential.clone(),
                fresh: seen.channel.is_none(),
            });
        }
        let Some(channel) = &seen.channel else {
            return Err(Wait::For(Reason::ChannelVanished, "its channel was removed by someone else".into()));
        };
        if acknowledges && !seen.replica_semi_sync {
            return Ok(Task::Acknowledge(true));
        }
        if stands(&channel.applying) || stands(&channel.receiving) {
            return self.next_resume(Task::Resume);
        }
        if seen.offline && channel.applying == ThreadReport::Running && channel.receiving == ThreadReport::Running {
            return Ok(Task::Expose);
        }
        Err(Wait::Quiet)
    }

    /// Starts what stands, at once the first time, and again after a while.
    fn next_resume(&mut self, task: Task) -> Next {
        let since = self.resumed.map(|at| self.now.since(at));
        match since.filter(|since| *since < RESUME_AGAIN) {
            None => {
                self.resumed = Some(self.now);
                Ok(task)
            }
            Some(since) => Err(Wait::Again(
                Reason::ReplicationStands,
                "replication was started and stands".into(),
                RESUME_AGAIN - since,
            )),
        }
    }

    fn next_seed(&mut self, orders: &Orders, replica: &ReplicaOrder) -> Next {
        if matches!(self.server, Server::Up { .. }) {
            return Err(Wait::For(Reason::DataVanished, "mysqld runs, but its data directory is gone".into()));
        }
        let Some(donor) = &replica.donor else {
            return Err(Wait::For(Reason::NoDonor, "there is no data here, and no donor is ordered yet".into()));
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

    /// How far behind its source it was at a time of ours. Two bounds from below, of which the larger counts: the age of the
    /// newest beat by the two machines' wall clocks, and how long it has been the newest by our own clock alone.
    pub(super) fn behind(&self, at: Millis) -> Option<Duration> {
        let (beat, since) = self.beat?;
        Some(self.wall(at).since(beat).max(at.since(since)))
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
            lag_ms: self.behind(at).and_then(|behind| u64::try_from(behind.as_millis()).ok()),
        }
    }
}

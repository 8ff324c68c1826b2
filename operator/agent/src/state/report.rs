//! What the agent says of itself: to the operator the whole report, to load balancers a yes or no.

use std::time::Duration;

use drover_api::{
    Millis,
    problems::{Problem, Reason},
    wire::{
        Accepted, DataReport, LeaderPhase, MysqlReport, Report, RoleOrder, Running, RunningRole, ServerReport,
        ThreadReport,
    },
};

use super::{Observation, Server, State, Task, Up, Volume};

/// What the report was when its `seq` last grew.
#[derive(Clone, Debug, Default)]
pub(super) struct Published {
    pub(super) report: Option<Report>,
    /// The report without what changes all the time.
    steady: Option<Report>,
    at: Millis,
}

/// What a load balancer may be told, as of `at`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub at: Millis,
    pub role: HealthRole,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthRole {
    Primary,
    /// Receiver and applier run, and reads are let in. `behind`: how far it was behind, at [`Health::at`]; `None` before the
    /// first heartbeat.
    Replica {
        behind: Option<Duration>,
    },
    /// Neither, in a word.
    Neither(&'static str),
}

/// Positions, ages and the clock change every second. They alone make a new report this often, not more.
const VOLATILE_EVERY: Duration = Duration::from_secs(5);
/// mysqld that has not answered for this long is silent, and no longer only starting.
const SILENT_FOR: Duration = Duration::from_secs(15);
/// An observation of mysqld older than this is no answer to a load balancer.
const HEALTH_OLD: Duration = Duration::from_secs(4);

impl Health {
    /// Open leader of the current epoch, by an observation that is fresh at `now`.
    pub fn primary(&self, now: Millis) -> Result<(), &'static str> {
        match &self.role {
            _ if now.since(self.at) > HEALTH_OLD => Err("stale"),
            HealthRole::Primary => Ok(()),
            HealthRole::Replica { .. } => Err("replica"),
            HealthRole::Neither(word) => Err(word),
        }
    }

    /// A replica that replicates and is at most `lag` behind. The primary is none: reads that should go there ask `/primary`.
    ///
    /// A replica that stands still is seen to, whatever the clocks say. For one that moves, the age of a heartbeat compares the
    /// clocks of two machines: where the primary's is ahead by some time, a replica that is catching up counts as that much
    /// fresher than it is. Keep them in step (Amazon Time Sync does, to less than a millisecond).
    pub fn replica(&self, now: Millis, lag: Duration) -> Result<(), &'static str> {
        match &self.role {
            _ if now.since(self.at) > HEALTH_OLD => Err("stale"),
            HealthRole::Replica { behind: Some(behind) } if *behind + now.since(self.at) <= lag => Ok(()),
            HealthRole::Replica { .. } => Err("lagging"),
            HealthRole::Primary => Err("primary"),
            HealthRole::Neither(word) => Err(word),
        }
    }
}

impl State {
    /// Makes the report anew; `seq` grows when something changed that is worth saying. Nothing is told before the agent has
    /// looked around.
    pub(super) fn publish(&mut self, now: Millis) {
        if !self.looked {
            return;
        }
        let mut report = self.make_report(now);
        let steady = report.steady();
        let last = self.report.report.as_ref().map_or(0, |report| report.seq);
        let changed = self.report.steady.as_ref() != Some(&steady) || now.since(self.report.at) >= VOLATILE_EVERY;
        report.seq = last + u64::from(changed);
        if changed {
            self.report = Published { report: Some(report), steady: Some(steady), at: now };
        }
    }

    pub fn health(&self, now: Millis) -> Health {
        if !self.looked {
            return Health { at: now, role: HealthRole::Neither("looking around") };
        }
        let Server::Up { seen: Some(seen), at, .. } = &self.server else {
            return Health { at: now, role: HealthRole::Neither("stopped") };
        };
        let role = match self.running_role(seen) {
            RunningRole::Leader { phase: LeaderPhase::Open, .. } => HealthRole::Primary,
            RunningRole::Replica { receiving: ThreadReport::Running, applying: ThreadReport::Running, .. }
                if !seen.offline =>
            {
                HealthRole::Replica { behind: self.behind(*at) }
            }
            RunningRole::Replica { .. } => HealthRole::Neither("not replicating"),
            RunningRole::Leader { .. } | RunningRole::Closed => HealthRole::Neither("closed"),
        };
        Health { at: *at, role }
    }

    fn make_report(&self, now: Millis) -> Report {
        Report {
            seq: 0,
            started: self.me.started,
            build: self.me.build.clone(),
            incarnation: self.me.incarnation.clone(),
            slot: self.me.slot,
            boot_id: self.me.boot_id.clone(),
            clock: self.wall(now),
            accepted: self.highest().map(|orders| Accepted {
                fence: orders.fence,
                epoch: orders.epoch,
                seq: orders.seq,
                digest: orders.digest.clone(),
            }),
            promised: self.durable.as_ref().and_then(|durable| durable.promised.clone()),
            volume: self.volume_report(),
            mysql: MysqlReport {
                data: self.data_report(),
                server: self.server_report(),
                installed: self.me.installed.clone(),
                restarted: self.restarted(),
                restart_failed: self.restart_failed.clone(),
                asked: self.may_still_be_done(),
            },
            ordered_build: self.update.as_ref().map(|(report, _)| report.clone()),
            problems: self.problems(),
        }
    }

    fn data_report(&self) -> DataReport {
        match (&self.volume, &self.task) {
            (Volume::Mounted(_), Some((Task::Initialise { .. }, _))) => DataReport::Initialising,
            (Volume::Mounted(_), Some((Task::Seed { donor, .. }, started))) => {
                DataReport::Seeding { donor: donor.slot, started: self.wall(*started) }
            }
            (Volume::Mounted(_), _) if self.data => DataReport::Present,
            (Volume::Mounted(_), _) => DataReport::Absent,
            _ => DataReport::Unknown,
        }
    }

    fn server_report(&self) -> ServerReport {
        let died = self.durable.as_ref().and_then(|durable| durable.died.as_ref());
        match (&self.server, &self.task, died) {
            (Server::Up { up, seen: Some(seen), .. }, _, None) => ServerReport::Running(self.running(up, seen)),
            (Server::Up { .. }, _, None) | (Server::Down, Some((Task::Start(_), _)), _) => ServerReport::Starting,
            (_, _, Some(died)) => {
                ServerReport::Died { epoch: died.epoch, how: died.how.clone(), executed: died.executed.clone() }
            }
            (Server::Down, _, None) => ServerReport::Stopped,
        }
    }

    fn running(&self, up: &Up, seen: &Observation) -> Running {
        Running {
            pid: up.pid,
            started: up.since,
            version: seen.version.clone(),
            server_uuid: seen.server_uuid.clone(),
            executed: seen.executed.clone(),
            role: self.running_role(seen),
        }
    }

    fn running_role(&self, seen: &Observation) -> RunningRole {
        let at = match &self.server {
            Server::Up { at, .. } => *at,
            Server::Down => self.now,
        };
        match self.durable.as_ref().and_then(|durable| durable.orders.as_ref()).map(|orders| &orders.wanted.role) {
            Some(RoleOrder::Leader(leader)) => self.leader_report(leader, seen),
            Some(RoleOrder::Replica(replica)) => self.replica_report(replica, seen, at),
            Some(RoleOrder::Closed) | None => RunningRole::Closed,
        }
    }

    fn problems(&self) -> Vec<Problem> {
        let problem = |reason, message: &str| Problem { reason, message: message.into() };
        let mut problems = Vec::new();
        problems.extend(self.storage.as_ref().map(|message| problem(Reason::StorageFailed, message)));
        if let Server::Up { silent: Some(message), at, .. } = &self.server
            && self.now.since(*at) >= SILENT_FOR
        {
            problems.push(problem(Reason::MysqldSilent, message));
        }
        problems.extend(self.failed.clone());
        if let Some(waits) = &self.waits
            && problems.iter().all(|problem| problem.reason != waits.reason)
        {
            problems.push(waits.clone());
        }
        if let Some(channel) = self.seen().and_then(|seen| seen.channel.as_ref()) {
            for (reason, thread) in
                [(Reason::ReceiverFailing, &channel.receiving), (Reason::ApplierFailed, &channel.applying)]
            {
                match thread {
                    ThreadReport::Connecting { error: Some(error) } | ThreadReport::Failed { error } => {
                        problems.push(problem(reason, error));
                    }
                    _ => {}
                }
            }
        }
        problems.extend(self.build_problem().map(|(reason, message)| problem(reason, &message)));
        problems
    }
}

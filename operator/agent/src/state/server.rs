//! mysqld: what is known of it, how it ends, and how it is closed when the host goes down.

use std::time::Duration;

use drover_api::{
    GtidSet, Millis,
    problems::Reason,
    wire::{MysqlOrder, Orders, RoleOrder},
};

use super::{
    CLOSES, Closing, Dump, Effect, Failure, Marker, Next, Observation, Pause, Server, State, Task, Up, Wait,
    clients::Progress,
};
use crate::durable::Died;

/// Whoever connected to acknowledge, and does not within this time, is not waited for.
const JOINED: Duration = Duration::from_secs(10);
/// mysqld is observed this often when nothing else asks for it, and not more often while an observation hangs.
const OBSERVE_EVERY: Duration = Duration::from_millis(900);
/// An observation whose answer never came is asked again after this.
const OBSERVE_LOST: Duration = Duration::from_secs(10);
/// A mysqld that ran this long is started again at once after it ends.
const LIVED_LONG: Duration = Duration::from_secs(60);

impl State {
    pub(super) fn is_up(&mut self, now: Millis, up: Up) {
        self.server = Server::Up { up, begun: now, seen: None, fresh: false, at: now, silent: None };
        self.beat = None;
        self.marker = Marker::Idle;
        (self.heartbeat, self.joined) = (None, None);
        self.clients = Progress::default();
        self.register = None;
        self.resumed = None;
    }

    pub(super) fn observe_again(&mut self) {
        if let Server::Up { fresh, .. } = &mut self.server {
            *fresh = false;
        }
        self.observe.asked = None;
    }

    pub(super) fn observed(&mut self, now: Millis, result: Result<Box<Observation>, String>) {
        self.observe.asked = Some(now);
        let Server::Up { up, seen, fresh, at, silent, .. } = &mut self.server else {
            return;
        };
        match result {
            Ok(observation) if observation.start == up.start => {
                let is_new = |beat: &Millis| self.beat.is_none_or(|(of, _)| of != *beat);
                if let Some(beat) = observation.heartbeat.filter(is_new) {
                    self.beat = Some((beat, now));
                }
                let before = seen.as_ref().map(|seen| seen.dumps.as_slice()).unwrap_or_default();
                let known = |dump: &Dump| before.iter().any(|before| before.id == dump.id);
                if observation.dumps.iter().any(|dump| dump.semi_sync && !known(dump)) {
                    self.joined.get_or_insert(now);
                    self.nudged = None;
                }
                (*seen, *fresh, *at, *silent) = (Some(observation), true, now, None);
            }
            Ok(_) => {}
            Err(message) => *silent = Some(message),
        }
    }

    pub(super) fn ended(&mut self, now: Millis, start: &str, how: String) {
        if !self.runs(start) {
            return;
        }
        let executed = self.seen().map(|seen| seen.executed.clone());
        let lived = match &self.server {
            Server::Up { begun, .. } => now.since(*begun),
            Server::Down => Duration::ZERO,
        };
        self.server = Server::Down;
        self.marker = Marker::Idle;
        (self.heartbeat, self.joined) = (None, None);
        self.clients = Progress::default();
        self.register = None;
        self.led_and_ended(how.clone(), executed);
        if self.terminated.take().is_some_and(|terminated| terminated == start) {
            return;
        }
        self.restarts = if lived >= LIVED_LONG { 0 } else { self.restarts.saturating_add(1) };
        if self.closing == Closing::No {
            self.pause.failures = self.restarts;
            self.pause_after(now, Failure { reason: Reason::MysqldEnded, message: how });
        }
    }

    /// A leader that ended without being closed stays closed: what it wrote last may be acknowledged by nobody.
    pub(super) fn led_and_ended(&mut self, how: String, executed: Option<GtidSet>) {
        if let Some(durable) = &mut self.durable
            && let Some(epoch) = durable.dirty
            && durable.died.is_none()
        {
            durable.died = Some(Died { epoch, how, executed });
        }
    }

    pub(super) fn closed(&mut self, now: Millis, returned: bool, effects: &mut Vec<Effect>) {
        if returned {
            if let Some(durable) = &mut self.durable {
                durable.dirty = None;
            }
            if matches!(self.closing, Closing::Asked { .. }) {
                self.closing = Closing::Closed;
            }
        } else if matches!(self.closing, Closing::Asked { .. }) {
            // A commit waits. SIGTERM would tell its client OK; systemd's SIGKILL tells it nothing.
            effects.push(Effect::Exit);
        } else {
            // Clients are kept out while it is tried: a restart is not worth that for as long as somebody's statement takes.
            let token = self.highest().and_then(|orders| orders.wanted.restart.clone()).filter(|_| self.is_asked());
            self.restart_failed = token.or(self.restart_failed.take());
            let message = "super_read_only did not return: a commit waits for its acknowledgements".into();
            self.pause_after(now, Failure { reason: Reason::CloseHangs, message });
        }
    }

    pub(super) fn host_shutdown(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        if self.closing != Closing::No {
            return;
        }
        // One that is restarted was closed, and told to end, already.
        let asked = Closing::Asked { until: now.plus(CLOSES) };
        self.closing = if self.is_ending() { Closing::Terminated } else { asked };
        self.pause = Pause::default();
        // Making a file system or data takes long, nothing runs meanwhile, and it is redone.
        let begun = |task: &Task| task.is_making() || matches!(task, Task::Start(_));
        if self.task.as_ref().is_some_and(|(task, _)| begun(task)) {
            effects.push(Effect::Exit);
        }
    }

    pub(super) fn ask_to_observe(&mut self, now: Millis, effects: &mut Vec<Effect>) {
        let Server::Up { fresh, silent, .. } = &self.server else {
            return;
        };
        let due = match self.observe.asked {
            None => true,
            Some(at) if *fresh || silent.is_some() => now.since(at) >= OBSERVE_EVERY,
            Some(at) => now.since(at) >= OBSERVE_LOST,
        };
        if due {
            self.observe.ticket += 1;
            self.observe.asked = Some(now);
            effects.push(Effect::Observe { ticket: self.observe.ticket });
        }
    }

    /// What a restart that is asked for still needs. mysqld is closed first, as for the end of the host: what waits for an
    /// acknowledgement then would be told OK by a mysqld that ends. One that ended by itself meanwhile has begun anew as well.
    pub(super) fn next_restart(&mut self, orders: &Orders) -> Option<Next> {
        let serves = matches!(orders.wanted.role, RoleOrder::Leader(_) | RoleOrder::Replica(_)) && self.data;
        let token = orders
            .wanted
            .restart
            .as_ref()
            .filter(|token| serves && self.is_asked() && self.restart_failed.as_ref() != Some(token));
        if self.is_ending() {
            let message = "mysqld was told to end, and begins anew then".into();
            return Some(Err(Wait::For(Reason::MysqldRestarts, message)));
        }
        let awaits = self.awaits_who_joined();
        let durable = self.durable.as_mut()?;
        match &self.server {
            _ if token.is_none() || durable.restarted.as_ref() == token => None,
            Server::Down => {
                durable.restarted = token.cloned();
                None
            }
            Server::Up { .. } if awaits => {
                let message =
                    "commits wait for a member that has just connected: it is closed when they have ended".into();
                Some(Err(Wait::For(Reason::MysqldRestarts, message)))
            }
            Server::Up { seen: Some(seen), fresh: true, .. } => {
                // The variables alone prove nothing: they are set while commits still wait.
                let is_closed = seen.offline && seen.super_read_only && durable.dirty.is_none();
                Some(Ok(if is_closed { Task::Terminate } else { Task::Close }))
            }
            Server::Up { .. } => None,
        }
    }

    /// What was committed before somebody connected to acknowledge it may wait until that one has acknowledged what came after: no
    /// close returns before.
    fn awaits_who_joined(&self) -> bool {
        self.is_unsealed_leader() && self.joined.is_some_and(|joined| self.now.since(joined) < JOINED)
    }

    /// It runs, and was told to end so that it begins anew.
    fn is_ending(&self) -> bool {
        matches!(&self.server, Server::Up { up, .. } if self.terminated.as_ref() == Some(&up.start))
    }

    /// mysqld was told to end. From now on its restart is none that is left to do, whatever is ordered before it has ended.
    pub(super) fn restarts_now(&mut self) {
        self.terminated = self.start().map(str::to_owned);
        if let Some(durable) = &mut self.durable
            && let Some(orders) = &durable.orders
            && orders.wanted.restart.is_some()
        {
            durable.restarted.clone_from(&orders.wanted.restart);
        }
    }

    /// The restart that was last done; not told before what was told to end has ended.
    pub(super) fn restarted(&self) -> Option<String> {
        self.durable.as_ref().filter(|_| self.terminated.is_none())?.restarted.clone()
    }

    pub(super) fn next_closed(&self) -> Next {
        match &self.server {
            Server::Up { seen: Some(seen), fresh: true, .. } if !seen.offline || !seen.super_read_only => {
                Ok(Task::Close)
            }
            _ => Err(Wait::Quiet),
        }
    }

    /// The host goes down: close, and only what was seen closed is told to end.
    pub(super) fn next_closing(&mut self) -> Next {
        match (self.closing, &self.server) {
            (Closing::Asked { .. }, Server::Up { .. }) => Ok(Task::Close),
            (Closing::Closed, Server::Up { .. }) => Ok(Task::Terminate),
            (Closing::Terminated, Server::Up { .. }) => Err(Wait::Quiet),
            (Closing::Asked { .. } | Closing::Closed | Closing::Terminated, Server::Down) if self.durable.is_some() => {
                Ok(Task::Flush)
            }
            (Closing::Flushed, Server::Down) => {
                if let Some(durable) = self.durable.as_mut() {
                    durable.clean = durable.died.is_none();
                }
                Err(Wait::Exit)
            }
            _ => Err(Wait::Exit),
        }
    }

    /// The server as decisions may use it: observed since the last change. Otherwise what is to be done first.
    pub(super) fn settled(&self, orders: &Orders) -> Result<Box<Observation>, Box<Next>> {
        match &self.server {
            Server::Down => {
                Err(Box::new(self.may_run(&orders.wanted.mysql).map(|()| Task::Start(orders.wanted.mysql.clone()))))
            }
            Server::Up { seen: Some(seen), fresh: true, .. } => Ok(seen.clone()),
            Server::Up { silent: Some(message), .. } => {
                Err(Box::new(Err(Wait::For(Reason::MysqldSilent, message.clone()))))
            }
            Server::Up { .. } => Err(Box::new(Err(Wait::Quiet))),
        }
    }

    /// The installed mysqld is the one that is ordered.
    pub(super) fn may_run(&self, order: &MysqlOrder) -> Result<(), Wait> {
        let wanted = order.version.as_str();
        match &self.me.installed {
            None => Err(Wait::For(Reason::NoMysqld, "there is no mysqld on this machine".into())),
            Some(found) if found == wanted || found.starts_with(&format!("{wanted}.")) => Ok(()),
            Some(found) => Err(Wait::For(Reason::OtherMysqlVersion, format!("mysqld is {found}, {wanted} is ordered"))),
        }
    }

    /// The mysqld that runs is not the one that led: that one died, and this one has committed what nobody acknowledged.
    pub(super) fn was_started_by_another(&self) -> bool {
        let led = self.durable.as_ref().filter(|durable| durable.dirty.is_some());
        let started = led.and_then(|durable| durable.start.as_deref());
        matches!((&self.server, started), (Server::Up { up, .. }, Some(started)) if up.start != started)
    }

    pub(super) fn runs(&self, wanted: &str) -> bool {
        matches!(&self.server, Server::Up { up, .. } if up.start == wanted)
    }

    pub(super) fn seen(&self) -> Option<&Observation> {
        match &self.server {
            Server::Up { seen, .. } => seen.as_deref(),
            Server::Down => None,
        }
    }
}

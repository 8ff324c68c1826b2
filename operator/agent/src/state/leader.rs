//! Leading: closed with semi-sync on, then the register, the marker, and only then clients.

use std::time::Duration;

use drover_api::{
    Epoch,
    problems::Reason,
    records::{Register, RegisterState},
    wire::{LeaderOrder, LeaderPhase, Orders, RoleOrder, RunningRole, Voting},
};

use super::{Marker, Next, Observation, Server, State, Task, Wait, admin_digest, orders::digest};
use crate::durable::Origin;

/// The register is asked again this often while it names someone else or nobody.
const REGISTER_AGAIN: Duration = Duration::from_secs(1);
/// A reading of the register older than this says nothing any more; a step normally follows within milliseconds.
const REGISTER_OLD: Duration = Duration::from_secs(5);

impl State {
    pub(super) fn next_leader(&mut self, orders: &Orders, leader: &LeaderOrder) -> Next {
        let epoch = orders.epoch;
        let died = self.durable.as_ref().and_then(|durable| durable.died.as_ref());
        if let Some(died) = died.filter(|died| epoch <= died.epoch) {
            let message = format!("its mysqld ended while it led epoch {}: {}", died.epoch, died.how);
            return match self.next_closed() {
                Ok(close) => Ok(close),
                Err(_) => Err(Wait::For(Reason::LeaderDied, message)),
            };
        }
        if let (Server::Up { .. }, Some(durable)) = (&self.server, &mut self.durable) {
            // Ordered to lead again in a later epoch, with a mysqld that someone else started meanwhile.
            durable.died = None;
        }
        if !self.data {
            return self.next_initialise(orders, leader);
        }
        let seen = match self.settled(orders) {
            Ok(seen) => seen,
            Err(next) => {
                if let (Ok(Task::Start(_)), Some(durable)) = (&*next, &mut self.durable) {
                    // Ordered to lead again in a later epoch: what it holds is the set's. Started closed, it is dirty no more.
                    (durable.died, durable.dirty) = (None, None);
                }
                return *next;
            }
        };
        if seen.channel.is_some() {
            return Err(Wait::For(
                Reason::FollowsAnother,
                "it is to lead, but its data says that it follows a source".into(),
            ));
        }
        let opened = !seen.read_only || !seen.offline;
        let dirty = self.durable.as_ref().and_then(|durable| durable.dirty);
        if opened && (!leader.open || dirty != Some(epoch)) {
            return Ok(Task::Close);
        }
        if seen.source_k != leader.k {
            // Whoever changed it under an open leader: with another quorum nothing may be acknowledged. It is never touched while
            // open, nor on what was made writable and not closed since, whatever one reading says: proven closed first.
            let closed = !opened && dirty.is_none();
            return Ok(if closed { Task::SemiSync { k: leader.k } } else { Task::Close });
        }
        if !self.accounts_made(leader) {
            return Ok(Task::Accounts {
                accounts: leader.accounts.clone(),
                clone: leader.clone.clone(),
                sealed: !opened,
            });
        }
        if leader.open { self.next_opening(orders, leader, &seen) } else { Err(Wait::Quiet) }
    }

    fn next_initialise(&mut self, orders: &Orders, leader: &LeaderOrder) -> Next {
        if !leader.initialise {
            return Err(Wait::For(Reason::NoData, "there is no data here, and none may be made".into()));
        }
        if matches!(self.server, Server::Up { .. }) {
            return Err(Wait::For(Reason::DataVanished, "mysqld runs, but its data directory is gone".into()));
        }
        self.may_run(&orders.wanted.mysql)?;
        let Some(durable) = &mut self.durable else { return Err(Wait::Quiet) };
        if durable.start.is_some() {
            return Err(Wait::For(Reason::DataVanished, "mysqld has run here, and its data directory is gone".into()));
        }
        durable.make_data(Origin::Initialised);
        Ok(Task::Initialise {
            mysql: orders.wanted.mysql.clone(),
            server_uuid: durable.voting.server_uuid.clone(),
            admin: leader.admin.clone(),
        })
    }

    /// Register, writable for us alone, marker, register once more, clients.
    fn next_opening(&mut self, orders: &Orders, leader: &LeaderOrder, seen: &Observation) -> Next {
        let epoch = orders.epoch;
        if seen.read_only {
            self.use_register(orders, seen)?;
            if let Some(durable) = &mut self.durable {
                durable.dirty = Some(epoch);
                durable.led = true;
                durable.marker = None;
            }
            return Ok(Task::Unseal);
        }
        if self.acknowledged_marker(epoch) != Some(leader.marker) && self.marker == Marker::Idle {
            return Err(Wait::Marker(epoch, leader.marker));
        }
        if seen.offline {
            if self.acknowledged_marker(epoch).is_none() {
                return Err(Wait::For(Reason::MarkerWaits, "the marker waits for its acknowledgements".into()));
            }
            self.use_register(orders, seen)?;
            return Ok(Task::Admit);
        }
        if self.durable.as_ref().and_then(|durable| durable.admin.as_ref()) != Some(&admin_digest(&leader.admin)) {
            return Ok(Task::Admin(leader.admin.clone()));
        }
        self.next_client(&leader.clients, seen).ok_or(Wait::Quiet)
    }

    /// Uses up one reading of the register, made for this very step.
    fn use_register(&mut self, orders: &Orders, seen: &Observation) -> Result<(), Wait> {
        let reading = self.register.take().filter(|(_, at)| self.now.since(*at) <= REGISTER_OLD);
        let Some((register, _)) = reading else {
            return Err(Wait::Register);
        };
        match self.register_objection(&register, orders, seen) {
            None => Ok(()),
            Some(message) => Err(Wait::Again(Reason::RegisterObjects, message, REGISTER_AGAIN)),
        }
    }

    /// Another life than the registered one may lack what was acknowledged: nobody opens in it.
    fn register_objection(&self, register: &Register, orders: &Orders, seen: &Observation) -> Option<String> {
        let durable = self.durable.as_ref()?;
        let promised = durable.promised.as_ref().map(|promised| (promised.epoch, &promised.claim));
        let voter = register.voters.iter().find(|voter| voter.slot == self.me.slot);
        let is_me = voter.is_some_and(|voter| {
            let Voting { voter_id, generation, life, .. } = &durable.voting;
            (&voter.voter_id, &voter.generation, &voter.life) == (voter_id, generation, life)
        });
        if register.epoch != orders.epoch || register.claim != orders.claim {
            Some(format!("the register is at epoch {}, the order at {}", register.epoch, orders.epoch))
        } else if register.state != RegisterState::Active {
            Some("the register is not ACTIVE".into())
        } else if register.leader != self.me.slot || !is_me {
            Some(format!("the register names {} and other data, or another life of it, than ours", register.leader))
        } else if let Some(lacking) =
            register.base.as_ref().map(|base| base.minus(&seen.executed)).filter(|lacking| !lacking.is_empty())
        {
            Some(format!("the register says that this data holds {lacking}, and it does not"))
        } else if promised != Some((orders.epoch, &orders.claim)) {
            Some("a later epoch was promised".into())
        } else {
            None
        }
    }

    fn accounts_made(&self, leader: &LeaderOrder) -> bool {
        let made = self.durable.as_ref().and_then(|durable| durable.accounts.as_ref());
        made == Some(&digest(&(&leader.accounts, &leader.clone)))
    }

    fn acknowledged_marker(&self, epoch: Epoch) -> Option<u64> {
        let (of, n) = self.durable.as_ref()?.marker?;
        (of == epoch).then_some(n)
    }

    /// Ordered to lead, and writable: by us, or by everyone.
    pub(super) fn is_unsealed_leader(&self) -> bool {
        let ordered = self.ordered_leader().is_some();
        let dirty = self.durable.as_ref().and_then(|durable| durable.dirty);
        ordered && dirty == Some(self.epoch()) && self.seen().is_some_and(|seen| !seen.read_only)
    }

    pub(super) fn ordered_leader(&self) -> Option<&LeaderOrder> {
        match &self.durable.as_ref()?.orders.as_ref()?.wanted.role {
            RoleOrder::Leader(leader) => Some(leader),
            _ => None,
        }
    }

    pub(super) fn leader_phase(&self, seen: &Observation) -> LeaderPhase {
        let marked = self.acknowledged_marker(self.epoch()).is_some();
        match (self.is_unsealed_leader(), seen.offline) {
            (true, false) if marked => LeaderPhase::Open,
            (true, _) => LeaderPhase::Marking,
            (false, _) => LeaderPhase::Closed,
        }
    }

    pub(super) fn leader_report(&self, leader: &LeaderOrder, seen: &Observation) -> RunningRole {
        let acknowledges = |user: &str| seen.dumps.iter().any(|dump| dump.semi_sync && dump.user == user);
        let connected = leader.accounts.iter().filter(|account| acknowledges(&account.credential.user));
        RunningRole::Leader {
            epoch: self.epoch(),
            phase: self.leader_phase(seen),
            acknowledgers: connected.map(|account| account.slot).collect(),
            accounts_made: self.accounts_made(leader),
            marker: self.acknowledged_marker(self.epoch()),
            heartbeat: self.heartbeat,
            clients: self.clients_report(&leader.clients, seen),
        }
    }
}

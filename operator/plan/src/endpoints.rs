//! Where clients of a set connect, by what the machines do: the one that is open for writes, and those that are fresh enough
//! to read from.

use std::{net::Ipv4Addr, time::Duration};

use drover_api::{Slot, Zone, records::Register, tags::Role, wire::RunningRole};
use serde::{Deserialize, Serialize};

use crate::{observed::Phase, publish, view::View};

/// Addresses that accept clients. Empty means that nobody may be asked, not that nothing is known: see [`crate::SetReport`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// At most one.
    pub primary: Vec<Endpoint>,
    /// For reads that may be two seconds old: never empty while there is a primary, which serves them where nobody else does.
    pub replicas: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub slot: Slot,
    pub address: Ipv4Addr,
    pub zone: Option<Zone>,
}

/// A reader expects what it wrote within this time (Rails' automatic role switching waits two seconds), so a replica that lags
/// more is left out.
const LAG_MAX_MS: u64 = 2_000;
/// An agent that becomes another build, or a connection that is made anew, is silent for a second or two.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The endpoints of a set whose register is known. `slots` are those that are there, the leader's among them.
pub(crate) fn endpoints(view: &View<'_>, register: &Register, slots: &[Slot], lost: bool) -> Endpoints {
    let is_open = !lost && may_be_open(view, register);
    let primary: Vec<Endpoint> =
        Some(register.leader).filter(|_| is_open).and_then(|slot| endpoint(view, slot)).into_iter().collect();
    let is_ending = |slot: Slot| view.record(slot).is_some_and(|record| record.retired);
    let is_cut_off = slots.iter().all(|slot| view.report(*slot).is_none());
    let fresh = slots
        .iter()
        .copied()
        .filter(|slot| *slot != register.leader && !is_ending(*slot) && is_fresh(view, register, *slot, is_cut_off));
    let mut replicas: Vec<Endpoint> = fresh.filter_map(|slot| endpoint(view, slot)).collect();
    if replicas.is_empty() {
        replicas.clone_from(&primary);
    }
    Endpoints { primary, replicas }
}

/// Whether clients are let in, by the leader's own word; one that is not heard stays what it was when clients were let in.
fn may_be_open(view: &View<'_>, register: &Register) -> bool {
    match publish::role(view, register, register.leader) {
        Some(role) => role == Role::Primary,
        None => register.opened,
    }
}

/// `is_cut_off`: nobody at all is heard, so it is the operator that is cut off, and not the machines from their clients.
fn is_fresh(view: &View<'_>, register: &Register, slot: Slot, is_cut_off: bool) -> bool {
    match publish::role(view, register, slot) {
        Some(Role::Replica | Role::Reader) => {
            let lag = view.running(slot).and_then(|running| match running.role {
                RunningRole::Replica { lag_ms, .. } => lag_ms,
                RunningRole::Closed | RunningRole::Leader { .. } => None,
            });
            lag.is_some_and(|lag| lag <= LAG_MAX_MS)
        }
        Some(_) => false,
        None => published_as_replica(view, slot) && (is_cut_off || silence(view, slot) <= SILENCE_MAX),
    }
}

fn published_as_replica(view: &View<'_>, slot: Slot) -> bool {
    let role = view.filling(slot).and_then(|machine| machine.role);
    role.is_some_and(|(role, _)| matches!(role, Role::Replica | Role::Reader))
}

fn silence(view: &View<'_>, slot: Slot) -> Duration {
    let agent = view.filling(slot).and_then(|machine| view.observed.agents.get(&machine.id));
    agent.and_then(|agent| agent.heard).map_or(Duration::MAX, |heard| view.now().since(heard))
}

fn endpoint(view: &View<'_>, slot: Slot) -> Option<Endpoint> {
    let machine = view.filling(slot).filter(|machine| machine.phase == Phase::Running)?;
    Some(Endpoint { slot, address: machine.address?, zone: view.zone_of(slot) })
}

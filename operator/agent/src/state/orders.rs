//! Which orders are taken. An order is the machine's whole wanted state; the highest seen is kept, and nothing that
//! contradicts what is durably known is taken at all.

use drover_api::{
    Epoch, VolumeId,
    digest::sha256_hex,
    wire::{ASKED_FOR, LeaderOrder, Orders, OrdersReply, Promise, RoleOrder},
};
use serde::Serialize;

use super::{Server, State, Task, UserStep, Volume, VolumeContent};
use crate::durable::Origin;

/// SHA-256 of anything that is ordered, hex: what the record keeps instead of a secret.
pub(super) fn digest(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).expect("orders have string keys only, so they always serialise");
    sha256_hex(&json)
}

fn refused(reason: impl Into<String>) -> OrdersReply {
    OrdersReply::Refused { reason: reason.into() }
}

impl State {
    /// Takes the order, or says why not. What it takes is on the record (or in memory, before there is one) when this
    /// returns; the record is persisted before the reply leaves.
    pub(super) fn accept(&mut self, orders: Orders) -> OrdersReply {
        if let Some(reply) = self.objection(&orders) {
            return reply;
        }
        match &mut self.durable {
            Some(durable) => {
                if durable.promised.as_ref().is_none_or(|promised| promised.epoch < orders.epoch) {
                    durable.promised = Some(Promise { epoch: orders.epoch, claim: orders.claim.clone() });
                }
                durable.orders = Some(orders);
            }
            None => {
                if matches!(self.volume, Volume::Refused { mounted: false, .. })
                    && self.early.as_ref().is_none_or(|early| early.wanted.volume != orders.wanted.volume)
                {
                    self.volume = Volume::Unknown;
                }
                self.early = Some(orders);
            }
        }
        OrdersReply::Accepted
    }

    /// What the order asks for once may be begun.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_some_and(|at| self.now.since(at) < ASKED_FOR)
    }

    /// The same for who waits until nothing of it can be done any more.
    pub(super) fn may_still_be_done(&self) -> bool {
        let under_way =
            |task: &Task| matches!(task, Task::Terminate | Task::DropDatabase(_) | Task::User(UserStep::Drop { .. }));
        self.is_asked() || self.terminated.is_some() || self.task.as_ref().is_some_and(|(task, _)| under_way(task))
    }

    /// An operator that lost the lock may wake between its look at the lease and its order. Who took over may have nothing to
    /// order, so a poll of its own is enough to shut that one out, and it is on the record before the poll is answered.
    pub(super) fn raise_fence(&mut self, fence: u64) {
        self.fence = self.fence.max(fence);
        if let Some(durable) = &mut self.durable {
            durable.fence = durable.fence.max(self.fence);
        }
    }

    pub(super) fn highest(&self) -> Option<&Orders> {
        self.durable.as_ref().and_then(|durable| durable.orders.as_ref()).or(self.early.as_ref())
    }

    fn objection(&self, orders: &Orders) -> Option<OrdersReply> {
        if !self.looked {
            // The highest order may be on a volume that was not read yet: nothing can be compared with it.
            return Some(refused(super::NOT_LOOKED));
        }
        if self.awaits_record_on(&orders.wanted.volume.id) {
            return Some(refused(format!("{} was mounted before and is not again yet", orders.wanted.volume.id)));
        }
        if orders.incarnation != self.me.incarnation || orders.slot != self.me.slot {
            let reason = format!("this is {} of incarnation {}", self.me.slot, self.me.incarnation);
            return Some(refused(reason));
        }
        if orders.wanted.epoch != orders.epoch || orders.wanted.claim != orders.claim {
            return Some(refused("the wanted state is of another epoch or claim than the order"));
        }
        if orders.fence < self.fence() {
            let (_, epoch, seq) = self.highest().map(Orders::rank).unwrap_or_default();
            return Some(OrdersReply::Stale { fence: self.fence(), epoch, seq });
        }
        if let Some(highest) = self.highest() {
            if orders.rank() < highest.rank() {
                let (fence, epoch, seq) = highest.rank();
                return Some(OrdersReply::Stale { fence, epoch, seq });
            }
            if orders.rank() == highest.rank() && orders.digest != highest.digest {
                return Some(refused("another order of the same rank was taken before"));
            }
        }
        self.contradicts_promise(orders)
            .or_else(|| self.contradicts_volume(orders))
            .or_else(|| self.contradicts_role(orders))
    }

    /// The highest order may be on a volume that was mounted before and has not been read again: one that is not there yet, or
    /// is about to be mounted. What cannot be mounted any more holds up nothing.
    fn awaits_record_on(&self, volume: &VolumeId) -> bool {
        let is_looked_for = match &self.volume {
            Volume::Unknown | Volume::Unclear | Volume::Seen(_, VolumeContent::NoDevice | VolumeContent::Ours) => true,
            Volume::Seen(..) | Volume::Refused { .. } | Volume::Mounted(_) => false,
        };
        is_looked_for && self.hint.as_ref() == Some(volume)
    }

    fn contradicts_promise(&self, orders: &Orders) -> Option<OrdersReply> {
        let promised = self.durable.as_ref()?.promised.as_ref()?;
        if orders.epoch < promised.epoch {
            let (fence, _, seq) = self.highest().map(Orders::rank).unwrap_or_default();
            return Some(OrdersReply::Stale { fence, epoch: promised.epoch, seq });
        }
        (orders.epoch == promised.epoch && orders.claim != promised.claim)
            .then(|| refused(format!("epoch {} is promised to another claim", promised.epoch)))
    }

    fn contradicts_volume(&self, orders: &Orders) -> Option<OrdersReply> {
        let order = &orders.wanted.volume;
        if let Volume::Mounted(mounted) = &self.volume
            && *mounted != order.id
        {
            return Some(refused(format!("{mounted} is mounted, not {}", order.id)));
        }
        let durable = self.durable.as_ref()?;
        let expected = order.expected.as_ref().filter(|expected| **expected != durable.voting.voter_id)?;
        Some(refused(format!("voter {} is here, not {expected}", durable.voting.voter_id)))
    }

    fn contradicts_role(&self, orders: &Orders) -> Option<OrdersReply> {
        match &orders.wanted.role {
            RoleOrder::Closed => None,
            RoleOrder::Leader(leader) => self.contradicts_leader(orders, leader),
            RoleOrder::Replica(replica) => {
                if replica.source.slot == self.me.slot || replica.donor.as_ref().is_some_and(|d| d.slot == self.me.slot)
                {
                    return Some(refused("a replica cannot follow or copy itself"));
                }
                // What it wrote as a leader would have to be compared and trimmed first; nothing here does that yet.
                self.durable
                    .as_ref()
                    .filter(|durable| durable.led)
                    .map(|_| refused("it led: it does not simply follow another"))
            }
        }
    }

    fn contradicts_leader(&self, orders: &Orders, leader: &LeaderOrder) -> Option<OrdersReply> {
        if leader.initialise && orders.epoch != Epoch(1) {
            return Some(refused("data is initialised in epoch 1 only"));
        }
        let foreign = self.data && self.origin() != Some(Origin::Initialised);
        if leader.initialise && foreign {
            return Some(refused("there is data already that was not initialised here"));
        }
        let open_with = self.open_with();
        if open_with.is_some_and(|(epoch, k)| epoch == orders.epoch && k != leader.k) {
            return Some(refused("k changes only with the leader closed"));
        }
        None
    }

    /// The epoch and k that this node is open with, or may be: what is durable, not what was last seen.
    fn open_with(&self) -> Option<(Epoch, u8)> {
        let durable = self.durable.as_ref()?;
        let RoleOrder::Leader(leader) = &durable.orders.as_ref()?.wanted.role else {
            return None;
        };
        matches!(self.server, Server::Up { .. }).then_some((durable.dirty?, leader.k))
    }
}

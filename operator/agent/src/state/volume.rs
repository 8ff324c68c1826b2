//! The volume: what may be formatted, what may be mounted, and what is never touched.

use drover_api::{
    VolumeId,
    problems::{Problem, Reason},
    wire::{OrdersReply, VolumeReport},
};

use super::{LOOK_AGAIN, Minted, Mounted, Next, Recorded, Server, State, Task, Volume, VolumeContent, Wait};
use crate::durable::Durable;

impl State {
    pub(super) fn mounted(&mut self, mounted: Mounted) {
        let expected = self.early.as_ref().and_then(|orders| orders.wanted.volume.expected.clone());
        let new = self.early.as_ref().is_some_and(|orders| orders.wanted.volume.new);
        let Minted { voter_id, server_uuid, life_step } = mounted.minted;
        let fresh = matches!(mounted.record, Recorded::Empty);
        let mut durable = match mounted.record {
            Recorded::Empty if self.early.is_none() => {
                self.volume = Volume::Unclear;
                return;
            }
            Recorded::Empty if !new || expected.is_some() => {
                return self.refuse_volume("an empty file system of ours, but it is not ordered as new".into());
            }
            Recorded::Empty => {
                let (incarnation, boot_id) = (self.me.incarnation.clone(), self.me.boot_id.clone());
                Durable::fresh(incarnation, self.me.slot, voter_id, server_uuid, boot_id)
            }
            Recorded::Record(durable) => *durable,
            Recorded::Unreadable { found } => return self.refuse_volume(found),
        };
        if durable.incarnation != self.me.incarnation || durable.slot != self.me.slot {
            return self.refuse_volume(format!("the data of {} of incarnation {}", durable.slot, durable.incarnation));
        }
        if let Some(expected) = expected.filter(|expected| *expected != durable.voting.voter_id) {
            return self.refuse_volume(format!("voter {}, where {expected} is expected", durable.voting.voter_id));
        }
        if let Some(orders) = &mut durable.orders {
            // Written by a build that did not understand all of them, they lack something: who sent them is to see that.
            orders.digest = orders.wanted.digest();
        }
        let booted = durable.boot_id != self.me.boot_id;
        if !fresh {
            durable.begin_boot(&self.me.boot_id, mounted.left.as_deref(), mounted.anew, life_step);
        }
        self.durable = Some(durable);
        self.raise_fence(self.fence);
        self.data = mounted.data;
        self.volume = Volume::Mounted(mounted.volume);
        if self.was_started_by_another() {
            self.led_and_ended("mysqld ended, and was started again by someone else".into(), None);
        }
        if let (Server::Up { up, .. }, Some(durable)) = (&self.server, &mut self.durable) {
            durable.start = Some(up.start.clone());
        }
        if matches!(self.server, Server::Down) {
            let how = if booted { "the machine went down under it" } else { "mysqld ended while no agent ran" };
            self.led_and_ended(how.into(), None);
        }
        if let Some(early) = self.early.take()
            && let reply @ (OrdersReply::Stale { .. } | OrdersReply::Refused { .. }) = self.accept(early)
        {
            self.failed = Some(Problem {
                reason: Reason::OrdersContradictVolume,
                message: format!("the order that came before the volume does not hold on it: {reply:?}"),
            });
        }
    }

    pub(super) fn refuse_volume(&mut self, found: String) {
        self.volume = Volume::Refused { found, mounted: true };
    }

    pub(super) fn wanted_volume(&self) -> Option<VolumeId> {
        self.early.as_ref().map(|orders| orders.wanted.volume.id.clone()).or_else(|| self.hint.clone())
    }

    pub(super) fn next_volume(&mut self, id: VolumeId, content: VolumeContent) -> Next {
        let order = self.early.as_ref().map(|orders| &orders.wanted.volume);
        let may_format = order.is_some_and(|order| order.new && order.expected.is_none());
        match content {
            VolumeContent::NoDevice => {
                self.volume = Volume::Unknown;
                Err(Wait::Again(Reason::WaitingForDevice, format!("the device of {id} is not there yet"), LOOK_AGAIN))
            }
            VolumeContent::Ours => Ok(Task::Mount(id)),
            VolumeContent::Blank | VolumeContent::HalfMade if may_format => Ok(Task::Format(id)),
            VolumeContent::Blank | VolumeContent::HalfMade if order.is_none() => {
                Err(Wait::For(Reason::NoOrders, format!("{id} is blank and no order has come yet")))
            }
            VolumeContent::Blank | VolumeContent::HalfMade => {
                self.volume =
                    Volume::Refused { found: "a blank volume, but it is not ordered as new".into(), mounted: false };
                self.next()
            }
            VolumeContent::Foreign { found } => {
                self.volume = Volume::Refused { found, mounted: false };
                self.next()
            }
        }
    }

    pub(super) fn volume_report(&self) -> VolumeReport {
        match (&self.volume, &self.task, &self.durable) {
            (_, Some((Task::Format(_), _)), _) => VolumeReport::Formatting,
            (Volume::Mounted(_), _, Some(durable)) => VolumeReport::Mounted(durable.voting.clone()),
            (Volume::Refused { found, .. }, _, _) => VolumeReport::Foreign { found: found.clone() },
            _ => VolumeReport::Waiting,
        }
    }
}

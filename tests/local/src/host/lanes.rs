//! Which order waits for which: a lane for each machine, and one for each volume's own making and ending.
//!
//! An order that fails is tried again until it is done or nobody waits for it any more: the model reports what it awaits for
//! as long as it awaits it, and a command that passes its deadline on a busy host is no reason to wait for ever.

use std::{collections::HashMap, time::Duration};

use drover_api::InstanceId;
use drover_cloud::ec2::{HostEvent as Order, InstanceStateName, PowerOff};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use super::{Host, HostError};
use crate::machine::Stop;

/// Orders that wait for one machine: more than the model makes while a boot takes the minute that it may take.
const LANE_MAX: usize = 256;

/// Between two attempts. What failed by its deadline has waited long already; what failed at once is not hammered.
const RETRY: Duration = Duration::from_secs(1);

/// The lanes that are open, and what runs in them. Dropping it ends all of them.
pub(super) struct Lanes {
    host: Host,
    senders: HashMap<String, mpsc::Sender<Order>>,
    tasks: JoinSet<()>,
}

impl Lanes {
    pub(super) fn new(host: Host) -> Self {
        Self { host, senders: HashMap::new(), tasks: JoinSet::new() }
    }

    /// Forgets the tasks that ended.
    pub(super) fn tidy(&mut self) {
        while self.tasks.try_join_next().is_some() {}
    }

    /// Hands an order to its lane; waits while the lane is full.
    pub(super) async fn dispatch(&mut self, order: Order) {
        tracing::debug!(?order, "ordered");
        let lane = match &order {
            Order::Boot { instance_id } | Order::Reboot { instance_id } => instance_id.clone(),
            Order::Stop { instance_id, power_off } | Order::Terminate { instance_id, power_off } => {
                if *power_off == PowerOff::AtOnce {
                    self.pull_the_plug(instance_id);
                }
                instance_id.clone()
            }
            Order::AttachVolume { instance_id, .. } => instance_id.clone(),
            Order::CreateVolume { volume_id } | Order::DeleteVolume { volume_id } => volume_id.clone(),
            Order::DetachVolume { .. } => {
                // Not in the machine's lane: a mounted volume keeps it waiting, and a stop must not wait behind it.
                let host = self.host.clone();
                self.tasks.spawn(async move { host.detach(&order).await });
                return;
            }
            Order::AddressMoved { address, .. } => address.clone(),
            Order::StateChanged { instance_id, state: InstanceStateName::Terminated } => {
                self.senders.remove(instance_id);
                self.host.keys.remove_machine(instance_id);
                self.host.cloud.look(|_, sessions| sessions.remove(instance_id));
                self.host.keep_apart().await;
                return;
            }
            // Before the order to boot, which follows.
            Order::StateChanged { state: InstanceStateName::Pending, .. } | Order::GroupsReplaced { .. } => {
                self.host.keep_apart().await;
                return;
            }
            Order::StateChanged { .. } => return,
        };
        if self.host.hypervisor.is_none() {
            return;
        }
        // A lane of an address stays open, so that two moves of it never overtake one another; there are no more than addresses.
        let is_last = matches!(order, Order::DeleteVolume { .. });
        let sender = self.senders.get(&lane).cloned().unwrap_or_else(|| self.open_lane(&lane));
        if sender.send(order).await.is_err() {
            tracing::error!(lane, "a lane ended early; its order is lost until the next start");
        }
        if is_last {
            self.senders.remove(&lane);
        }
    }

    fn open_lane(&mut self, lane: &str) -> mpsc::Sender<Order> {
        let (sender, mut orders) = mpsc::channel(LANE_MAX);
        let host = self.host.clone();
        self.tasks.spawn(async move {
            while let Some(order) = orders.recv().await {
                carry_out(&order, || host.perform(&order), || host.awaits(&order)).await;
            }
        });
        self.senders.insert(lane.into(), sender.clone());
        sender
    }

    fn pull_the_plug(&mut self, instance_id: &str) {
        let (host, instance_id) = (self.host.clone(), instance_id.to_owned());
        self.tasks.spawn(async move {
            if let Some(hypervisor) = &host.hypervisor
                && let Ok(id) = InstanceId::new(instance_id)
                && let Err(error) = hypervisor.stop(&id, Stop::Forced).await
            {
                // The order in the lane tries again and reports.
                tracing::debug!(instance = %id, %error, "the plug was not pulled");
            }
        });
    }
}

/// Attempts an order until it is done, or until it is not awaited any more. The first attempt is always made.
async fn carry_out<A>(order: &Order, attempt: impl Fn() -> A, awaited: impl Fn() -> bool)
where
    A: Future<Output = Result<(), HostError>>,
{
    let mut pause = interval(RETRY);
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pause.tick().await;
    while let Err(error) = attempt().await {
        if !awaited() {
            tracing::warn!(?order, %error, "an order failed that nobody awaits any more");
            return;
        }
        tracing::error!(?order, %error, "an order failed and is tried again");
        pause.tick().await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// How often an order is attempted that fails `failures` times and is awaited for `awaited` attempts.
    async fn attempts(failures: u32, awaited: u32) -> u32 {
        let made = Cell::new(0);
        let order = Order::Stop { instance_id: "i-1".into(), power_off: PowerOff::Graceful };
        let attempt = || {
            made.set(made.get() + 1);
            std::future::ready(if made.get() > failures { Ok(()) } else { Err(HostError::NoMachines) })
        };
        carry_out(&order, attempt, || made.get() < awaited).await;
        made.get()
    }

    #[tokio::test]
    async fn an_order_that_fails_is_tried_until_it_is_done_or_moot() {
        assert_eq!(attempts(0, 0).await, 1);
        assert_eq!(attempts(2, u32::MAX).await, 3);
        assert_eq!(attempts(u32::MAX, 2).await, 2);
    }
}

//! Which order waits for which: a lane for each machine, and one for each volume's own making and ending.

use std::collections::HashMap;

use drover_api::InstanceId;
use drover_cloud::ec2::{HostEvent as Order, InstanceStateName, PowerOff};
use tokio::{sync::mpsc, task::JoinSet};

use super::Host;
use crate::machine::Stop;

/// Orders that wait for one machine: more than the model makes while a boot takes its 20 seconds at most.
const LANE_MAX: usize = 256;

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
            Order::DetachVolume { volume_id, instance_id, .. } => {
                // Not in the machine's lane: a mounted volume keeps it waiting, and a stop must not wait behind it.
                let (host, volume_id, instance_id) = (self.host.clone(), volume_id.clone(), instance_id.clone());
                self.tasks.spawn(async move { host.detach(&volume_id, &instance_id).await });
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
        let is_last = matches!(order, Order::DeleteVolume { .. } | Order::AddressMoved { .. });
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
                if let Err(error) = host.perform(&order).await {
                    tracing::error!(?order, %error, "an order could not be carried out");
                }
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

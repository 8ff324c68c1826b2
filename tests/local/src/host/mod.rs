//! Between the model of the account and the machines: does what the model orders, reports what came of it, and breaks
//! machines on demand.
//!
//! Orders for one machine are done one after the other. Only a power-off "at once" goes past what is under way, because a
//! graceful stop that hangs is ended by it. After a restart of drover-local every machine is dead: what ran is reported as
//! a lost host (EC2's status checks fail, the state stays `running`), and what the model still waits for is ordered again.

mod addresses;
mod breaking;
mod lanes;
mod work;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use drover_api::InvalidName;
use drover_cloud::ec2::{HostEvent as Order, InstanceStateName};
use tokio::sync::mpsc;

use crate::{
    cloud::{Cloud, StateError, Wait},
    fault::MachineFault,
    images::Images,
    keys::Keys,
    machine::{self, Hypervisor},
};

use lanes::Lanes;

/// The model is asked at least this often what is due.
const IDLE: Duration = Duration::from_secs(5);

/// The machines, or their absence: without them the model moves its states by itself.
#[derive(Debug, Clone)]
pub struct Host {
    cloud: Cloud,
    keys: Keys,
    hypervisor: Option<Hypervisor>,
    images: Arc<Images>,
    /// The faults of machines that are set now.
    faults: Arc<Mutex<Vec<MachineFault>>>,
}

/// A machine could not be broken or mended.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("this account runs without machines (--no-machines)")]
    NoMachines,
    #[error("a host that died stays dead: stop and start the instance")]
    DeadHost,
    #[error("there is no running instance {0}")]
    NoSuchInstance(String),
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error(transparent)]
    Machine(#[from] machine::Error),
    #[error(transparent)]
    State(#[from] StateError),
}

impl Host {
    pub fn new(cloud: Cloud, keys: Keys, hypervisor: Option<Hypervisor>, images: Images) -> Self {
        Self { cloud, keys, hypervisor, images: Arc::new(images), faults: Arc::default() }
    }

    /// Takes up a state that was kept: see the module's documentation. Without machines nothing was lost.
    pub fn resume(&self) -> Result<Vec<Order>, StateError> {
        if self.hypervisor.is_none() {
            return Ok(Vec::new());
        }
        self.cloud.change(|ec2, now| {
            let ran = ec2.instances().filter(|it| it.state == InstanceStateName::Running && !it.host_lost);
            for id in ran.map(|it| it.instance_id.clone()).collect::<Vec<_>>() {
                ec2.host_lost(now, &id);
            }
            ec2.unfinished()
        })
    }

    /// Does what the model orders until the future is dropped. `resumed` comes first.
    pub async fn run(self, resumed: Vec<Order>, mut events: Option<mpsc::Receiver<machine::HostEvent>>) {
        let mut lanes = Lanes::new(self.clone());
        self.keep_apart().await;
        for order in resumed {
            lanes.dispatch(order).await;
        }
        loop {
            let event = async {
                match &mut events {
                    Some(events) => events.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                waited = self.cloud.wait(IDLE) => match waited {
                    Ok(Wait::Orders(orders)) => {
                        for order in orders {
                            lanes.dispatch(order).await;
                        }
                    }
                    Ok(Wait::Nothing) => {}
                    Err(error) => tracing::error!(%error, "what became due is not on disk"),
                },
                event = event => match event {
                    Some(event) => self.report(event),
                    None => events = None,
                },
            }
            lanes.tidy();
        }
    }

    fn report(&self, event: machine::HostEvent) {
        let changed = match event {
            machine::HostEvent::PoweredOff(id) => {
                self.cloud.change(|ec2, now| ec2.instance_powered_off(now, id.as_str()))
            }
            machine::HostEvent::Rebooted(id) => {
                tracing::info!(instance = %id, "rebooted from inside");
                Ok(())
            }
            machine::HostEvent::Died { id, reason } => {
                tracing::warn!(instance = %id, reason, "a machine died");
                self.cloud.change(|ec2, now| ec2.host_lost(now, id.as_str()))
            }
        };
        if let Err(error) = changed {
            tracing::error!(%error, "what a machine did is not on disk");
        }
    }
}

//! Facts of a fleet, to be compared: what must not change when nothing may.

use std::collections::BTreeMap;

use anyhow::ensure;

use crate::Cloud;

/// One slot's machine, as the machine itself and EC2 say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub instance: String,
    pub volume: Option<String>,
    pub boot_id: String,
    /// The unit's main process, and systemd's id of that start: a pid may come again, an invocation does not.
    pub mysqld: String,
}

/// Everything that an adoption leaves as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// By set and slot, as `shop/m0`.
    pub machines: BTreeMap<String, Machine>,
    pub volumes: Vec<String>,
    pub tags: BTreeMap<(String, String), String>,
}

impl Cloud {
    /// The machines that run, by slot.
    pub fn fleet(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let tags = self.tags()?;
        let running = self.machines()?.into_iter().filter(|machine| machine.state == "running");
        let slot = |id: &str| tags.get(&(id.to_owned(), "drover:slot".to_owned())).cloned();
        Ok(running.filter_map(|machine| Some((slot(&machine.id)?, machine.id))).collect())
    }

    /// The same of one set, for a cloud with several.
    pub fn fleet_of(&self, name: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let tags = self.tags()?;
        let running = self.machines()?.into_iter().filter(|machine| machine.state == "running");
        let tag = |id: &str, key: &str| tags.get(&(id.to_owned(), key.to_owned())).cloned();
        let own = running.filter(|machine| tag(&machine.id, "drover:name").as_deref() == Some(name));
        Ok(own.filter_map(|machine| Some((tag(&machine.id, "drover:slot")?, machine.id))).collect())
    }

    /// Asks EC2 and every machine.
    pub fn facts(&self) -> anyhow::Result<Facts> {
        let tags = self.tags()?;
        let tag = |id: &str, key: &str| tags.get(&(id.to_owned(), key.to_owned())).cloned();
        let mut machines = BTreeMap::new();
        for found in self.machines()?.into_iter().filter(|machine| machine.state == "running") {
            let (Some(set), Some(slot)) = (tag(&found.id, "drover:name"), tag(&found.id, "drover:slot")) else {
                continue;
            };
            let boot_id = self.inside(&found.id, &["cat", "/proc/sys/kernel/random/boot_id"])?;
            let mysqld = self.mysqld(&found.id)?;
            let machine = Machine { instance: found.id, volume: found.volumes.into_iter().next(), boot_id, mysqld };
            let twin = machines.insert(format!("{set}/{slot}"), machine);
            ensure!(twin.is_none(), "two machines fill {slot} of {set}: {twin:?}");
        }
        Ok(Facts { machines, volumes: self.data_volumes()?, tags })
    }

    /// Which mysqld runs in a machine.
    pub fn mysqld(&self, instance: &str) -> anyhow::Result<String> {
        let command = ["systemctl", "show", "-p", "MainPID,InvocationID", "--value", "drover-mysqld.service"];
        Ok(self.inside(instance, &command)?.trim().replace('\n', " "))
    }
}

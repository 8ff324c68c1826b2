//! What goes between servers: transactions to receivers, acknowledgements back, and the commits that end by them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use drover_agent::state::{Dump, Event, Observation, SeenUser};
use drover_api::{InstanceId, records::Register};

use crate::{
    mysqld::{Data, Link, Mysqld, Transaction, What},
    world::{World, keys},
};

impl World {
    /// Every receiver of the set of a machine fetches what it has not; appliers apply; commits that were acknowledged often
    /// enough end.
    pub(crate) fn replicate(&mut self, id: &InstanceId) {
        let incarnation = &self.machines[id].identity.incarnation;
        let of_set = self.machines.values().filter(|machine| machine.identity.incarnation == *incarnation);
        let replicas: Vec<InstanceId> = of_set.map(|machine| machine.id.clone()).collect();
        for id in &replicas {
            self.fetch(id);
        }
    }

    fn fetch(&mut self, id: &InstanceId) {
        let Ok((mysqld, data)) = self.server(id) else { return };
        if mysqld.applying {
            data.apply_relay();
        }
        let Some(channel) = data.channel.clone() else { return };
        if !mysqld.receiving {
            mysqld.link = None;
            return;
        }
        let (before, semi_sync) = (mysqld.link.clone(), mysqld.replica_semi_sync);
        let source = self.server_at(id, channel.source);
        let source = source.filter(|source| self.data(source).is_some_and(|data| data.lets_in(&channel.credential)));
        let Some(source) = source else {
            let (mysqld, _) = self.server(id).expect("it ran above");
            mysqld.link = None;
            mysqld.refused = Some("the source does not let it in".into());
            return;
        };
        let start = self.machines[&source].mysqld.as_ref().map(|mysqld| mysqld.up.start.clone()).unwrap_or_default();
        let ours = self.data(id).expect("it ran above");
        let known = |uuid: &str| ours.position.get(uuid).max(channel.received.get(uuid)).copied().unwrap_or(0);
        let binlog = &self.data(&source).expect("looked up above").binlog;
        let new = binlog.iter().rev().take_while(|transaction| transaction.n > known(&transaction.uuid));
        let new: Vec<Transaction> = new.cloned().collect();
        // What it had when it connected it is not sent, and so it does not acknowledge it (PROTOCOL, fact 8).
        let is_sent = !new.is_empty();
        let link = before.filter(|link| link.start == start).unwrap_or_else(|| {
            self.links += 1;
            Link { id: self.links, start, semi_sync }
        });
        let semi_sync = link.semi_sync;
        let (mysqld, data) = self.server(id).expect("it ran above");
        mysqld.link = Some(link);
        let channel = data.channel.as_mut().expect("looked up above");
        for transaction in new.into_iter().rev() {
            channel.received.insert(transaction.uuid.clone(), transaction.n);
            channel.relay.push(transaction);
        }
        let (received, user) = (channel.received.clone(), channel.credential.user.clone());
        if mysqld.applying {
            data.apply_relay();
        }
        if semi_sync && is_sent {
            let uuid = self.data(&source).expect("looked up above").uuid.clone();
            let n = received.get(&uuid).copied().unwrap_or(0).max(self.position(id, &uuid));
            self.check_voter(id, &user);
            let (mysqld, _) = self.server(&source).expect("looked up above");
            let ended = mysqld.acknowledged(&user, n);
            self.committed(&source, ended);
        }
    }

    /// Only voters acknowledge, in the life that the register names or admits.
    fn check_voter(&self, id: &InstanceId, user: &str) {
        let machine = &self.machines[id];
        let identity = &machine.identity;
        let key = keys().set(&identity.key).of(&identity.incarnation).register();
        let register: Option<Register> = self.object(&key);
        let record = machine.mounted.as_ref().and_then(|volume| self.disks[volume].record.as_ref());
        // A bucket that was lost says nothing of who may.
        let Some(register) = register else { return };
        let voting = &record.expect("who acknowledges has a volume with a record").voting;
        let voters = register.voters.iter().chain(register.joining.iter().flatten());
        let mut same = voters.filter(|voter| voter.voter_id == voting.voter_id && voter.life == voting.life);
        assert!(
            user.starts_with("drover_voter_") && same.next().is_some(),
            "{} acknowledges as {user}, life {}: {:?}",
            identity.slot,
            voting.life,
            register.voters
        );
    }

    fn position(&self, id: &InstanceId, uuid: &str) -> u64 {
        self.data(id).and_then(|data| data.position.get(uuid)).copied().unwrap_or(0)
    }

    /// Commits on the server of a machine.
    pub(crate) fn commit(&mut self, id: &InstanceId, what: What) {
        let Ok((mysqld, data)) = self.server(id) else { return };
        if let Some(ended) = mysqld.commit(data, what) {
            self.committed(id, vec![ended]);
        }
    }

    fn committed(&mut self, id: &InstanceId, ended: Vec<What>) {
        for what in ended {
            let machine = &self.machines[id];
            let start = machine.mysqld.as_ref().map(|mysqld| mysqld.up.start.clone()).unwrap_or_default();
            let soon = Duration::from_millis(5);
            match what {
                What::Marker(epoch, n) => self.tell(id, Event::MarkerAcknowledged { start, epoch, n }, soon),
                What::Heartbeat(at) => self.tell(id, Event::HeartbeatAcknowledged { start, at }, soon),
                What::Row(row) => {
                    let life = (machine.identity.key.clone(), machine.identity.incarnation.clone());
                    self.acknowledged.entry(life).or_default().insert(row);
                }
                What::Schema | What::Admin | What::Database(_) | What::NoDatabase(_) | What::User(_) => {}
            }
        }
    }

    pub(crate) fn observation(&self, id: &InstanceId) -> Result<Observation, String> {
        let mysqld = self.machines[id].mysqld.as_ref().ok_or("mysqld does not run")?;
        let data = self.data(id).ok_or("there is no data")?;
        let dumps = self.machines.values().filter_map(|replica| {
            let link = replica.mysqld.as_ref()?.link.as_ref()?;
            let channel = self.data(&replica.id)?.channel.as_ref()?;
            let user = channel.credential.user.clone();
            (link.start == mysqld.up.start).then_some(Dump { id: link.id, user, semi_sync: link.semi_sync })
        });
        Ok(mysqld.observe(data, dumps.collect()))
    }

    /// The machine whose mysqld answers at an address, for the machine `from`.
    pub(crate) fn server_at(&self, from: &InstanceId, address: Ipv4Addr) -> Option<InstanceId> {
        let reachable = self.machines.get(from).is_some_and(|machine| !machine.cut);
        let mut found =
            self.machines.values().filter(|machine| machine.on && machine.address == address && !machine.cut);
        found.find(|machine| reachable && machine.mysqld.is_some()).map(|machine| machine.id.clone())
    }

    /// A running server and its data.
    pub(crate) fn server(&mut self, id: &InstanceId) -> Result<(&mut Mysqld, &mut Data), String> {
        let machine = self.machines.get_mut(id).ok_or("there is no such machine")?;
        let mysqld = machine.mysqld.as_mut().ok_or("mysqld does not run")?;
        let volume = machine.mounted.as_ref().ok_or("nothing is mounted")?;
        let disk = self.disks.get_mut(volume).ok_or("the volume is gone")?;
        Ok((mysqld, disk.data.as_mut().ok_or("there is no data")?))
    }

    /// The accounts of applications on a machine's server.
    pub fn users(&self, id: &InstanceId) -> BTreeMap<String, SeenUser> {
        self.data(id).map(|data| data.users.clone()).unwrap_or_default()
    }

    pub fn databases(&self, id: &InstanceId) -> BTreeSet<String> {
        self.data(id).map(|data| data.databases.iter().map(ToString::to_string).collect()).unwrap_or_default()
    }

    pub(crate) fn data(&self, id: &InstanceId) -> Option<&Data> {
        let machine = self.machines.get(id)?;
        machine.mysqld.as_ref()?;
        self.disks.get(machine.mounted.as_ref()?)?.data.as_ref()
    }
}

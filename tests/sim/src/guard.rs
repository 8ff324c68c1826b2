//! The cloud as one operator process has it, with a witness at every mutating call: what is sent is held against the bucket
//! as it is at that very moment. A broken law ends the test where it is broken, not where it is noticed.

use std::collections::BTreeMap;

use drover_api::{
    ClientToken, InstanceId, Realm, Slot, VolumeId,
    bucket::{IncarnationKeys, ObjectKey},
    launch::{LaunchRequest, VolumeRequest},
    records::{IncarnationRecord, IncarnationState, Lock, SlotRecord},
    tags::{self, Identity, TagVerdict, Tags},
};
use drover_cloud::{
    Machines, Objects, Volumes,
    ec2::Caller,
    error::Result,
    fake::Fake,
    machines::{Image, InstanceType, Machine, Protection, SecurityGroup, Selector, Subnet},
    objects::{Condition, ETag, Object},
    volumes::Volume,
};

use crate::{
    process::{Moment, Stops},
    world::{Sim, keys, realm},
};

/// See the module.
#[derive(Clone, Debug)]
pub struct Guarded {
    sim: Sim,
    fake: Fake,
    /// The process's name, as the lock has it.
    holder: String,
    stops: Stops,
}

impl Guarded {
    pub(crate) fn new(sim: Sim, holder: String, stops: Stops) -> Self {
        let fake = sim.lock().fake.called_by(Caller::Operator(holder.clone()));
        Self { sim, fake, holder, stops }
    }

    /// Law 7: who changes something holds the lock now.
    fn witness(&self, call: &str) {
        let lock: Option<Lock> = self.sim.lock().object(&keys().lock());
        let held = lock.as_ref().is_some_and(|lock| lock.holder == self.holder && !lock.released);
        assert!(held, "{} sends {call} while the lock says {lock:?}", self.holder);
    }

    async fn changes<T>(&self, call: String, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.sim.lock().keep(format!("before {call}"));
        let answer = work.await;
        let mut world = self.sim.lock();
        world.changes += 1;
        world.keep(format!("after {call}"));
        drop(world);
        self.stops.changed();
        answer
    }

    fn record(&self, identity: &Identity) -> Option<SlotRecord> {
        self.sim.lock().object(&records(identity).slot(identity.slot))
    }

    fn is_deleting(&self, identity: &Identity) -> bool {
        let record: Option<IncarnationRecord> = self.sim.lock().object(&keys().set(&identity.key).incarnation());
        record.is_some_and(|record| {
            record.incarnation == identity.incarnation && record.state == IncarnationState::Deleting
        })
    }

    fn machine_of(&self, id: &InstanceId) -> Identity {
        let tags = self.fake.look(|world| world.ec2.instance(id.as_str()).map(|instance| instance.tags.clone()));
        identity(&tags.unwrap_or_else(|| panic!("{id} is acted on and is not there")))
    }

    /// Law 2 and law 4: an end needs a deletion, a slot that is not wanted, or a record that names another machine.
    fn may_end(&self, id: &InstanceId, call: &str) {
        let identity = self.machine_of(id);
        let record = self.record(&identity);
        let retired = record.as_ref().is_some_and(|record| record.retired);
        let duplicate = record.as_ref().and_then(|record| record.instance.as_ref()).is_some_and(|named| named != id);
        assert!(
            self.is_deleting(&identity) || retired || duplicate,
            "{call} of {id} ({}) without a deletion, a scale-in or a duplicate: {record:?}",
            identity.slot
        );
    }
}

fn records(identity: &Identity) -> IncarnationKeys {
    keys().set(&identity.key).of(&identity.incarnation)
}

fn identity(tags: &Tags) -> Identity {
    match tags::read(&realm(), tags) {
        TagVerdict::Ours { identity, .. } => identity,
        TagVerdict::HandsOff { reason } => panic!("something that is not ours is acted on: {reason}"),
    }
}

impl Machines for Guarded {
    async fn list(&self, realm: &Realm) -> Result<Vec<Machine>> {
        Machines::list(&self.fake, realm).await
    }

    async fn get(&self, id: &InstanceId) -> Result<Machine> {
        Machines::get(&self.fake, id).await
    }

    async fn find_by_token(&self, token: &ClientToken) -> Result<Vec<Machine>> {
        self.fake.find_by_token(token).await
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Machine> {
        self.witness("RunInstances");
        let identity = identity(&request.tags);
        let record = self.record(&identity);
        let held = record.as_ref().and_then(|record| record.launch.as_ref());
        assert_eq!(held, Some(request), "a launch is sent that the record of {} does not hold", identity.slot);
        self.changes(format!("RunInstances {}", identity.slot), self.fake.launch(request)).await
    }

    async fn untag(&self, id: &InstanceId, key: &str) -> Result<()> {
        self.witness("DeleteTags");
        self.changes(format!("DeleteTags {id}"), self.fake.untag(id, key)).await
    }

    async fn protect(&self, id: &InstanceId, protection: Protection) -> Result<()> {
        self.witness("ModifyInstanceAttribute");
        self.may_end(id, "Unprotect");
        self.changes(format!("Unprotect {id}"), self.fake.protect(id, protection)).await
    }

    async fn terminate(&self, id: &InstanceId) -> Result<()> {
        self.witness("TerminateInstances");
        self.may_end(id, "Terminate");
        self.changes(format!("Terminate {id}"), self.fake.terminate(id)).await
    }

    async fn tag(&self, id: &InstanceId, tags: &BTreeMap<String, String>) -> Result<()> {
        self.witness("CreateTags");
        self.changes(format!("Tag {id}"), self.fake.tag(id, tags)).await
    }

    async fn images(&self, selector: &Selector, owners: &[String]) -> Result<Vec<Image>> {
        self.fake.images(selector, owners).await
    }

    async fn subnets(&self, selector: &Selector) -> Result<Vec<Subnet>> {
        self.fake.subnets(selector).await
    }

    async fn security_groups(&self, selector: &Selector) -> Result<Vec<SecurityGroup>> {
        self.fake.security_groups(selector).await
    }

    async fn instance_types(&self, names: &[String]) -> Result<Vec<InstanceType>> {
        self.fake.instance_types(names).await
    }

    async fn may_launch(&self, request: &LaunchRequest) -> Result<()> {
        self.fake.may_launch(request).await
    }
}

impl Volumes for Guarded {
    async fn list(&self, realm: &Realm) -> Result<Vec<Volume>> {
        Volumes::list(&self.fake, realm).await
    }

    async fn get(&self, id: &VolumeId) -> Result<Volume> {
        Volumes::get(&self.fake, id).await
    }

    async fn create(&self, request: &VolumeRequest) -> Result<Volume> {
        self.witness("CreateVolume");
        let identity = identity(&request.tags);
        let record = self.record(&identity);
        let held = record.as_ref().and_then(|record| record.volume_request.as_ref());
        assert_eq!(held, Some(request), "a volume is asked for that the record of {} does not hold", identity.slot);
        self.changes(format!("CreateVolume {}", identity.slot), self.fake.create(request)).await
    }

    async fn attach(&self, volume: &VolumeId, instance: &InstanceId, device: &str) -> Result<()> {
        self.witness("AttachVolume");
        let record = self.record(&self.machine_of(instance));
        let named = record.map(|record| (record.instance, record.volume));
        assert_eq!(named, Some((Some(instance.clone()), Some(volume.clone()))), "attached beside the record");
        self.changes(format!("Attach {volume}"), self.fake.attach(volume, instance, device)).await
    }

    async fn keep_on_termination(&self, instance: &InstanceId, device: &str) -> Result<()> {
        self.witness("ModifyInstanceAttribute");
        let answer = self.fake.keep_on_termination(instance, device);
        self.changes(format!("Keep {device} of {instance}"), answer).await
    }

    async fn delete(&self, volume: &VolumeId) -> Result<()> {
        self.witness("DeleteVolume");
        let tags = self.fake.look(|world| world.ec2.volume(volume.as_str()).map(|volume| volume.tags.clone()));
        if let Some(tags) = tags {
            let identity = identity(&tags);
            let record = self.record(&identity);
            let retired = record.as_ref().is_some_and(|record| record.retired);
            let without_machine = record.as_ref().is_some_and(|record| record.instance.is_none());
            let reader = matches!(identity.slot, Slot::Reader(_)) && without_machine;
            assert!(
                self.is_deleting(&identity) || (!identity.slot.is_member() && (retired || reader)),
                "DeleteVolume of {volume} ({}), which is wanted: {record:?}",
                identity.slot
            );
        }
        self.changes(format!("DeleteVolume {volume}"), Volumes::delete(&self.fake, volume)).await
    }
}

impl Objects for Guarded {
    async fn get(&self, key: &ObjectKey) -> Result<Option<Object>> {
        Objects::get(&self.fake, key).await
    }

    async fn put(&self, key: &ObjectKey, body: Vec<u8>, condition: Condition) -> Result<ETag> {
        if *key == keys().lock() {
            // The lock is how others are kept out: its own writes are held together by their condition alone.
            let write = self.fake.put(key, body, condition);
            self.sim.lock().keep("before the lock".into());
            let answer = write.await;
            self.sim.lock().keep("after the lock".into());
            return answer;
        }
        self.witness("PutObject");
        self.changes(format!("Put {key}"), self.fake.put(key, body, condition)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectKey>> {
        let answer = Objects::list(&self.fake, prefix).await;
        self.stops.reach(Moment::Listed);
        answer
    }
}

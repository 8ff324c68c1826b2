//! Executes what a plan asks for, exactly, and decides nothing (law 5). Every effect asks the lock first: no mutating call is
//! sent whose deadline ends outside the lease (law 7). What was learned is returned, and taken in by the operator afterwards.

mod error;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use drover_api::{
    Claim, ClientToken, Epoch, Incarnation, InstanceId, ResourceKey, Slot, VolumeId, WriteId,
    bucket::{IncarnationKeys, RealmKeys},
    launch::{DATA_DEVICE, LaunchRequest, VolumeRequest},
    records::{IncarnationRecord, Register, SlotRecord},
    tags::{HOLD, Tags},
    wire::{BuildOrder, Orders, OrdersReply, Wanted},
};
use drover_cloud::{
    Class, CloudError, Machines, Objects, Volumes, machines, machines::Protection, objects::ETag, volumes,
};
use drover_plan::{Action, Planned};

use crate::{
    agents::{Agents, Endpoint},
    certificates,
    edge::{Clock, Entropy},
    lock::Lease,
    store::{self, StoreError, Stored, StoredSet, Written},
};

pub use error::ActError;

/// Everything that an action may touch.
pub struct Hands<'a, C, A> {
    pub cloud: &'a C,
    pub agents: &'a A,
    pub clock: &'a dyn Clock,
    pub entropy: &'a dyn Entropy,
    pub lease: &'a Lease,
    pub fence: u64,
    /// The longest that any call takes before it ends, one way or the other.
    pub deadline: Duration,
    pub keys: &'a RealmKeys,
    pub endpoints: &'a BTreeMap<InstanceId, Endpoint>,
    /// Of orders; grows for as long as this process lives.
    pub seq: &'a AtomicU64,
}

/// How the actions of one set went.
#[derive(Debug)]
pub struct Done {
    pub key: ResourceKey,
    /// The set's records, with what was written.
    pub set: StoredSet,
    pub learned: Vec<Learned>,
    pub done: Vec<Planned>,
    pub failed: Vec<(Planned, ActError)>,
}

/// What an effect taught us about the cloud.
#[derive(Debug)]
pub enum Learned {
    /// A record of ours holds this request now, and did not before.
    Minted(ClientToken),
    Launched(Box<LaunchRequest>, Result<Box<machines::Machine>, CloudError>),
    VolumeCreated(ClientToken, Result<Box<volumes::Volume>, CloudError>),
    FoundByToken(ClientToken, Vec<machines::Machine>),
    Machine(InstanceId, Option<Box<machines::Machine>>),
    Volume(VolumeId, Option<Box<volumes::Volume>>),
    Ended(InstanceId),
    Tagged(InstanceId, Tags),
    Untagged(InstanceId, String),
    Attached(VolumeId, InstanceId),
    Kept(VolumeId),
    VolumeDeleted(VolumeId),
}

/// The state of one set's list while it is worked on.
struct Progress<'a> {
    key: &'a ResourceKey,
    set: StoredSet,
    learned: Vec<Learned>,
}

// === impl Done ===

impl Done {
    /// Whose failures are over. That a slot's next attempt could be written down says nothing about how it will end: only the
    /// cloud and the agents tell. The set's own actions are nothing but records.
    pub fn got_on(&self) -> BTreeSet<Option<Slot>> {
        let got_on = self.done.iter().filter(|planned| planned.slot.is_none() || planned.action.is_effect());
        let has_failed = |slot: &Option<Slot>| self.failed.iter().any(|(planned, _)| planned.slot == *slot);
        got_on.map(|planned| planned.slot).filter(|slot| !has_failed(slot)).collect()
    }
}

// === impl Hands ===

impl<C: Machines + Volumes + Objects, A: Agents> Hands<'_, C, A> {
    /// Does a set's actions in order. One that fails ends those of its slot, so that a slot that cannot get on never holds up
    /// the others; one that is the set's own, or that finds other records than the plan was made from, ends them all.
    pub async fn perform(&self, key: ResourceKey, set: StoredSet, actions: Vec<Planned>) -> Done {
        let mut progress = Progress { key: &key, set, learned: Vec::new() };
        let (mut done, mut failed): (Vec<Planned>, Vec<(Planned, ActError)>) = (Vec::new(), Vec::new());
        for planned in actions {
            if failed.iter().any(|(before, error)| error.ends(before, &planned)) {
                continue;
            }
            match self.act(&mut progress, &planned.action).await {
                Ok(()) => {
                    tracing::info!(set = %key, action = planned.action.kind(), why = planned.why, "done");
                    done.push(planned);
                }
                Err(error) => failed.push((planned, error)),
            }
        }
        let Progress { set, learned, .. } = progress;
        Done { key, set, learned, done, failed }
    }

    async fn act(&self, progress: &mut Progress<'_>, action: &Action) -> Result<(), ActError> {
        match action {
            Action::PutIncarnation { record, expected } => {
                self.put_incarnation(progress, record, expected.as_ref()).await
            }
            Action::CreateCa { incarnation } => self.create_ca(progress, incarnation).await,
            Action::PutRegister { incarnation, register, expected } => {
                self.put_register(progress, incarnation, register, expected.as_ref()).await
            }
            Action::PutJournal { incarnation, register } => self.put_journal(progress, incarnation, register).await,
            Action::CreateBundle { incarnation, slot } => self.create_bundle(progress, incarnation, *slot).await,
            Action::PutSlot { incarnation, slot, record, expected } => {
                self.put_slot(progress, incarnation, *slot, record, expected.as_ref()).await
            }
            Action::Launch { request, .. } => self.launch(progress, request).await,
            Action::FindByToken { token } => self.find_by_token(progress, token).await,
            Action::LookUpMachine { instance } => self.look_up_machine(progress, instance).await,
            Action::LookUpVolume { volume } => self.look_up_volume(progress, volume).await,
            Action::CreateVolume { request, .. } => self.create_volume(progress, request).await,
            Action::Attach { volume, instance } => {
                self.permit()?;
                self.cloud.attach(volume, instance, DATA_DEVICE).await?;
                progress.learned.push(Learned::Attached(volume.clone(), instance.clone()));
                Ok(())
            }
            Action::KeepVolume { volume, instance, device } => {
                self.permit()?;
                self.cloud.keep_on_termination(instance, device).await?;
                progress.learned.push(Learned::Kept(volume.clone()));
                Ok(())
            }
            Action::Unprotect { instance } => {
                self.permit()?;
                Ok(self.cloud.protect(instance, Protection::Off).await?)
            }
            Action::Terminate { instance } => {
                self.permit()?;
                self.cloud.terminate(instance).await?;
                progress.learned.push(Learned::Ended(instance.clone()));
                Ok(())
            }
            Action::DeleteVolume { volume } => self.delete_volume(progress, volume).await,
            Action::Tag { instance, tags } => {
                self.permit()?;
                self.cloud.tag(instance, tags).await?;
                progress.learned.push(Learned::Tagged(instance.clone(), tags.clone()));
                Ok(())
            }
            Action::Hold { instance } => {
                self.permit()?;
                let tags = Tags::from([(HOLD.to_owned(), "requested".to_owned())]);
                self.cloud.tag(instance, &tags).await?;
                progress.learned.push(Learned::Tagged(instance.clone(), tags));
                Ok(())
            }
            Action::Release { instance } => {
                self.permit()?;
                self.cloud.untag(instance, HOLD).await?;
                progress.learned.push(Learned::Untagged(instance.clone(), HOLD.to_owned()));
                Ok(())
            }
            Action::Order { slot, instance, epoch, claim, wanted } => {
                self.order(*slot, instance, *epoch, claim, wanted).await
            }
            Action::Upgrade { instance, build, .. } => {
                let order = BuildOrder { fence: self.fence, build: build.clone() };
                let endpoint = self.endpoint(instance)?;
                self.permit()?;
                Ok(self.agents.upgrade(endpoint, &order).await?)
            }
        }
    }

    /// The gate of law 7, asked right before each mutating call: the lease of the very fence that the plan was made under.
    fn permit(&self) -> Result<(), ActError> {
        let permitted = self.lease.permits(self.fence, self.clock.monotonic(), self.deadline);
        if permitted { Ok(()) } else { Err(ActError::LeaseEnds) }
    }

    async fn put_incarnation(
        &self,
        progress: &mut Progress<'_>,
        record: &IncarnationRecord,
        expected: Option<&WriteId>,
    ) -> Result<(), ActError> {
        let key = self.keys.set(progress.key).incarnation();
        let etag = unchanged(progress.set.incarnation.as_ref(), expected, "incarnation.json")?;
        self.permit()?;
        let stored = store::put(self.cloud, &key, record.clone(), etag, self.entropy.write_id()).await?;
        progress.set.learn(Written::Incarnation(stored));
        Ok(())
    }

    async fn create_ca(&self, progress: &mut Progress<'_>, incarnation: &Incarnation) -> Result<(), ActError> {
        let key = self.incarnation(progress, incarnation)?.ca();
        let secret = self.entropy.hex(32);
        let ca = certificates::authority(incarnation, self.clock.now(), self.entropy.write_id(), secret)?;
        self.permit()?;
        let stored = store::put(self.cloud, &key, ca, None, self.entropy.write_id()).await?;
        let ca = Arc::new(stored.record);
        progress.set.learn(Written::Ca(incarnation.clone(), ca));
        Ok(())
    }

    async fn create_bundle(
        &self,
        progress: &mut Progress<'_>,
        incarnation: &Incarnation,
        slot: Slot,
    ) -> Result<(), ActError> {
        let key = self.incarnation(progress, incarnation)?.bundle(slot);
        let ca = progress.set.ca.as_ref().ok_or_else(|| moved("ca.json"))?;
        let bundle = certificates::bundle(ca, slot, incarnation, self.clock.now(), self.entropy.write_id())?;
        self.permit()?;
        store::put(self.cloud, &key, bundle, None, self.entropy.write_id()).await?;
        progress.set.learn(Written::Bundle(incarnation.clone(), slot));
        Ok(())
    }

    async fn put_register(
        &self,
        progress: &mut Progress<'_>,
        incarnation: &Incarnation,
        register: &Register,
        expected: Option<&WriteId>,
    ) -> Result<(), ActError> {
        let key = self.incarnation(progress, incarnation)?.register();
        let etag = unchanged(progress.set.register.as_ref(), expected, "register.json")?;
        self.permit()?;
        let stored = store::put(self.cloud, &key, register.clone(), etag, self.entropy.write_id()).await?;
        progress.set.learn(Written::Register(incarnation.clone(), Box::new(stored)));
        Ok(())
    }

    /// Written once per epoch: the copy that is there already is the one that counts.
    async fn put_journal(
        &self,
        progress: &mut Progress<'_>,
        incarnation: &Incarnation,
        register: &Register,
    ) -> Result<(), ActError> {
        let key = self.incarnation(progress, incarnation)?.journal(register.epoch);
        self.permit()?;
        match store::put(self.cloud, &key, register.clone(), None, self.entropy.write_id()).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => {
                progress.set.learn(Written::Journal(incarnation.clone(), register.epoch));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn put_slot(
        &self,
        progress: &mut Progress<'_>,
        incarnation: &Incarnation,
        slot: Slot,
        record: &SlotRecord,
        expected: Option<&WriteId>,
    ) -> Result<(), ActError> {
        let key = self.incarnation(progress, incarnation)?.slot(slot);
        let before = progress.set.slots.get(&slot);
        let etag = unchanged(before, expected, "the slot's record")?;
        let old_tokens: Vec<&ClientToken> = before.map(|stored| tokens(&stored.record)).unwrap_or_default();
        let new_tokens = tokens(record).into_iter().filter(|token| !old_tokens.contains(token));
        let new_tokens: Vec<ClientToken> = new_tokens.cloned().collect();
        self.permit()?;
        let stored = store::put(self.cloud, &key, record.clone(), etag, self.entropy.write_id()).await?;
        progress.learned.extend(new_tokens.into_iter().map(Learned::Minted));
        progress.set.learn(Written::Slot(incarnation.clone(), slot, Box::new(stored)));
        Ok(())
    }

    async fn launch(&self, progress: &mut Progress<'_>, request: &LaunchRequest) -> Result<(), ActError> {
        self.permit()?;
        let result = self.cloud.launch(request).await.map(Box::new);
        let failed = result.as_ref().err().cloned();
        progress.learned.push(Learned::Launched(Box::new(request.clone()), result));
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn create_volume(&self, progress: &mut Progress<'_>, request: &VolumeRequest) -> Result<(), ActError> {
        self.permit()?;
        let result = self.cloud.create(request).await.map(Box::new);
        let failed = result.as_ref().err().cloned();
        progress.learned.push(Learned::VolumeCreated(request.token.clone(), result));
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn find_by_token(&self, progress: &mut Progress<'_>, token: &ClientToken) -> Result<(), ActError> {
        let found = self.cloud.find_by_token(token).await?;
        progress.learned.push(Learned::FoundByToken(token.clone(), found));
        Ok(())
    }

    async fn look_up_machine(&self, progress: &mut Progress<'_>, id: &InstanceId) -> Result<(), ActError> {
        let found = there(Machines::get(self.cloud, id).await)?;
        progress.learned.push(Learned::Machine(id.clone(), found.map(Box::new)));
        Ok(())
    }

    async fn look_up_volume(&self, progress: &mut Progress<'_>, id: &VolumeId) -> Result<(), ActError> {
        let found = there(Volumes::get(self.cloud, id).await)?;
        progress.learned.push(Learned::Volume(id.clone(), found.map(Box::new)));
        Ok(())
    }

    /// A volume that is not there any more is deleted: the plan asks only for volumes that a list showed.
    async fn delete_volume(&self, progress: &mut Progress<'_>, volume: &VolumeId) -> Result<(), ActError> {
        self.permit()?;
        there(Volumes::delete(self.cloud, volume).await)?;
        progress.learned.push(Learned::VolumeDeleted(volume.clone()));
        Ok(())
    }

    async fn order(
        &self,
        slot: Slot,
        instance: &InstanceId,
        epoch: Epoch,
        claim: &Claim,
        wanted: &Wanted,
    ) -> Result<(), ActError> {
        let endpoint = self.endpoint(instance)?;
        let orders = Orders {
            incarnation: endpoint.incarnation.clone(),
            slot,
            fence: self.fence,
            epoch,
            claim: claim.clone(),
            seq: self.seq.fetch_add(1, Ordering::Relaxed) + 1,
            digest: wanted.digest(),
            wanted: wanted.clone(),
        };
        self.permit()?;
        match self.agents.order(endpoint, &orders).await? {
            OrdersReply::Accepted => Ok(()),
            OrdersReply::Stale { fence, epoch, seq } => {
                if (fence, seq) > (self.fence, orders.seq) {
                    self.lease.doubt(fence);
                }
                Err(ActError::Stale { slot, fence, epoch, seq })
            }
            OrdersReply::Refused { reason } => Err(ActError::OrderRefused { slot, reason }),
        }
    }

    fn endpoint(&self, instance: &InstanceId) -> Result<&Endpoint, ActError> {
        self.endpoints.get(instance).ok_or_else(|| ActError::NoEndpoint { instance: instance.clone() })
    }

    /// The keys of the incarnation that the records are of, and no other.
    fn incarnation(&self, progress: &Progress<'_>, asked: &Incarnation) -> Result<IncarnationKeys, ActError> {
        match progress.set.incarnation() {
            Some(known) if known == asked => Ok(self.keys.set(progress.key).of(asked)),
            _ => Err(moved("incarnation.json")),
        }
    }
}

impl<C, A> std::fmt::Debug for Hands<'_, C, A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hands(fence {})", self.fence)
    }
}

fn moved(what: &str) -> ActError {
    ActError::Moved { what: what.to_owned() }
}

/// The ETag to write over, given that what lies there is what the plan expects.
fn unchanged<'a, T: store::Record>(
    known: Option<&'a Stored<T>>,
    expected: Option<&WriteId>,
    what: &str,
) -> Result<Option<&'a ETag>, ActError> {
    match (known, expected) {
        (None, None) => Ok(None),
        (Some(stored), Some(expected)) if stored.record.write_id() == expected => Ok(Some(&stored.etag)),
        _ => Err(moved(what)),
    }
}

fn there<T>(result: Result<T, CloudError>) -> Result<Option<T>, CloudError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.class == Class::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn tokens(record: &SlotRecord) -> Vec<&ClientToken> {
    let machine = record.launch.as_ref().map(|request| &request.token);
    let volume = record.volume_request.as_ref().map(|request| &request.token);
    machine.into_iter().chain(volume).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_gets_on_by_what_the_cloud_answers_and_not_by_its_own_records() {
        let (m0, m1) = (Some(Slot::Member(0)), Some(Slot::Member(1)));
        let incarnation = Incarnation::new("k3j9x2m4").expect("an incarnation");
        let record = |slot: Slot| Action::CreateBundle { incarnation: incarnation.clone(), slot };
        let ca = Action::CreateCa { incarnation: incarnation.clone() };
        let machine = InstanceId::new("i-1").expect("an instance");
        let effect = Action::Unprotect { instance: machine.clone() };
        let check = |done: &[(Option<Slot>, &Action)], failed: &[Option<Slot>], expected: &[Option<Slot>]| {
            let planned = |slot: &Option<Slot>, action: &Action| Planned {
                slot: *slot,
                action: action.clone(),
                why: String::new(),
            };
            let done = Done {
                key: ResourceKey {
                    namespace: "default".parse().expect("valid"),
                    name: "orders".parse().expect("valid"),
                },
                set: StoredSet::default(),
                learned: vec![],
                done: done.iter().map(|(slot, action)| planned(slot, action)).collect(),
                failed: failed.iter().map(|slot| (planned(slot, &effect), ActError::LeaseEnds)).collect(),
            };
            assert_eq!(done.got_on().into_iter().collect::<Vec<_>>(), expected);
        };
        check(&[(m0, &record(Slot::Member(0)))], &[], &[]);
        check(&[(m0, &Action::LookUpMachine { instance: machine.clone() })], &[], &[]);
        check(&[(m0, &effect), (m1, &record(Slot::Member(1)))], &[], &[m0]);
        check(&[(m0, &effect), (m1, &effect)], &[m0], &[m1]);
        check(&[(None, &ca)], &[m0], &[None]);
    }
}

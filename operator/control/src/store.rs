//! The bucket's records, read once and then known: only the lock's holder writes them, so what was read under the lock stays
//! true until a write of ours conflicts. Every write is a compare-and-set with a fresh write id; after a conflict or a lost
//! reply the object is read, and our own write id there means that we won (law 7).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use drover_api::{
    Epoch, Incarnation, ResourceKey, Slot, WriteId,
    bucket::{ObjectKey, Part, RealmKeys},
    records::{Bundle, CaRecord, IncarnationRecord, Register, SlotRecord},
    secrets::SetSecret,
};
use drover_cloud::{
    Class, CloudError, Objects,
    objects::{Condition, ETag},
};
use drover_plan::observed::SetRecords;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Serialize, de::DeserializeOwned};

/// A record as it lies in the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored<T> {
    pub record: T,
    pub etag: ETag,
}

/// Everything that the bucket says of one set.
#[derive(Clone, Debug, Default)]
pub struct StoredSet {
    pub incarnation: Option<Stored<IncarnationRecord>>,
    pub ca: Option<Arc<CaRecord>>,
    pub register: Option<Stored<Register>>,
    pub slots: BTreeMap<Slot, Stored<SlotRecord>>,
    pub bundles: BTreeSet<Slot>,
    pub journal: BTreeSet<Epoch>,
}

/// What a write taught us.
#[derive(Clone, Debug)]
pub enum Written {
    Incarnation(Stored<IncarnationRecord>),
    Ca(Incarnation, Arc<CaRecord>),
    Register(Incarnation, Box<Stored<Register>>),
    Journal(Incarnation, Epoch),
    Slot(Incarnation, Slot, Box<Stored<SlotRecord>>),
    Bundle(Incarnation, Slot),
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// Somebody else wrote it, or it changed since the plan was made.
    #[error("{key} was changed by another writer")]
    Conflict { key: ObjectKey },
    #[error("{key} cannot be read: {source}")]
    Unreadable { key: ObjectKey, source: serde_json::Error },
}

/// Objects of one set that are read at the same time.
const READS_MAX: usize = 8;

/// A record that carries its write id, and can be given a fresh one.
pub trait Record: Serialize + DeserializeOwned + Clone {
    fn write_id(&self) -> &WriteId;
    fn with_write_id(self, write_id: WriteId) -> Self;
}

macro_rules! record {
    ($($type:ty),*) => {$(
        impl Record for $type {
            fn write_id(&self) -> &WriteId {
                &self.write_id
            }
            fn with_write_id(self, write_id: WriteId) -> Self {
                Self { write_id, ..self }
            }
        }
    )*};
}
record!(IncarnationRecord, CaRecord, Register, SlotRecord, Bundle);

/// Every object of every set.
pub async fn objects_of_sets(objects: &impl Objects, realm: &RealmKeys) -> Result<BTreeSet<ObjectKey>, CloudError> {
    Ok(objects.list(&realm.sets_prefix()).await?.into_iter().collect())
}

/// Reads everything of one set: one list, and one read per record of its present incarnation.
pub async fn read_set(objects: &impl Objects, realm: &RealmKeys, key: &ResourceKey) -> Result<StoredSet, StoreError> {
    let set = realm.set(key);
    let mut stored = StoredSet { incarnation: read(objects, &set.incarnation()).await?, ..StoredSet::default() };
    let Some(incarnation) = stored.incarnation.as_ref().map(|stored| &stored.record.incarnation) else {
        return Ok(stored);
    };
    let keys = set.of(incarnation);
    let listed = objects.list(keys.prefix()).await?;
    let mut slots = Vec::new();
    for object in &listed {
        match keys.part(object) {
            Some(Part::Register) => stored.register = read(objects, object).await?,
            Some(Part::Ca) => {
                let ca: Option<Stored<CaRecord>> = read(objects, object).await?;
                stored.ca = ca.map(|ca| Arc::new(ca.record));
            }
            Some(Part::Slot(slot)) => slots.push((slot, object.clone())),
            Some(Part::Bundle(slot)) => {
                stored.bundles.insert(slot);
            }
            Some(Part::Journal(epoch)) => {
                stored.journal.insert(epoch);
            }
            None => {}
        }
    }
    stored.slots = stream::iter(slots)
        .map(|(slot, object)| async move {
            let record = read(objects, &object).await?;
            Ok::<_, StoreError>(record.map(|record| (slot, record)))
        })
        .buffered(READS_MAX)
        .try_filter_map(|found| async move { Ok(found) })
        .try_collect()
        .await?;
    Ok(stored)
}

/// Writes `record` under a fresh write id, where `expected` lies there now. The caller has checked the lock.
pub async fn put<T: Record>(
    objects: &impl Objects,
    key: &ObjectKey,
    record: T,
    expected: Option<&ETag>,
    write_id: WriteId,
) -> Result<Stored<T>, StoreError> {
    let record = record.with_write_id(write_id);
    let body = serde_json::to_vec_pretty(&record).expect("records have string keys only, so they always serialise");
    let condition = match expected {
        None => Condition::Absent,
        Some(etag) => Condition::Unchanged(etag.clone()),
    };
    match objects.put(key, body, condition).await {
        Ok(etag) => Ok(Stored { record, etag }),
        Err(error) if matches!(error.class, Class::Conflict | Class::Transient) => {
            match read::<T>(objects, key).await? {
                Some(found) if found.record.write_id() == record.write_id() => Ok(found),
                _ if error.class == Class::Conflict => Err(StoreError::Conflict { key: key.clone() }),
                _ => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// What the machine in a slot of the present incarnation proves itself with, once it is made.
pub async fn read_bundle(
    objects: &impl Objects,
    realm: &RealmKeys,
    key: &ResourceKey,
    incarnation: &Incarnation,
    slot: Slot,
) -> Result<Option<Bundle>, StoreError> {
    let stored: Option<Stored<Bundle>> = read(objects, &realm.set(key).of(incarnation).bundle(slot)).await?;
    Ok(stored.map(|stored| stored.record))
}

async fn read<T: DeserializeOwned>(objects: &impl Objects, key: &ObjectKey) -> Result<Option<Stored<T>>, StoreError> {
    let Some(object) = objects.get(key).await? else {
        return Ok(None);
    };
    match serde_json::from_slice(&object.body) {
        Ok(record) => Ok(Some(Stored { record, etag: object.etag })),
        Err(source) => Err(StoreError::Unreadable { key: key.clone(), source }),
    }
}

// === impl StoredSet ===

impl StoredSet {
    /// What every set has once it began.
    pub fn is_whole(&self) -> bool {
        self.register.is_some() && self.ca.is_some()
    }

    /// In a planner's words.
    pub fn records(&self) -> SetRecords {
        SetRecords {
            incarnation: self.incarnation.as_ref().map(|stored| stored.record.clone()),
            secret: self.ca.as_ref().map(|ca| SetSecret(ca.secret.clone())),
            register: self.register.as_ref().map(|stored| stored.record.clone()),
            slots: self.slots.iter().map(|(slot, stored)| (*slot, stored.record.clone())).collect(),
            bundles: self.bundles.clone(),
            journal: self.journal.clone(),
        }
    }

    /// The incarnation that the records are of.
    pub fn incarnation(&self) -> Option<&Incarnation> {
        self.incarnation.as_ref().map(|stored| &stored.record.incarnation)
    }

    /// Takes in what we wrote. A new incarnation begins with nothing.
    pub fn learn(&mut self, written: Written) {
        match written {
            Written::Incarnation(stored) => {
                if self.incarnation() != Some(&stored.record.incarnation) {
                    *self = StoredSet::default();
                }
                self.incarnation = Some(stored);
            }
            Written::Ca(of, ca) if self.incarnation() == Some(&of) => self.ca = Some(ca),
            Written::Register(of, stored) if self.incarnation() == Some(&of) => self.register = Some(*stored),
            Written::Journal(of, epoch) if self.incarnation() == Some(&of) => {
                self.journal.insert(epoch);
            }
            Written::Slot(of, slot, stored) if self.incarnation() == Some(&of) => {
                self.slots.insert(slot, *stored);
            }
            Written::Bundle(of, slot) if self.incarnation() == Some(&of) => {
                self.bundles.insert(slot);
            }
            Written::Ca(..)
            | Written::Register(..)
            | Written::Journal(..)
            | Written::Slot(..)
            | Written::Bundle(..) => {}
        }
    }
}

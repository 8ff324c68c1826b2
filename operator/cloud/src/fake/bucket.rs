//! `Objects` in memory, as S3 keeps them: an ETag is made from the content alone, so that writing the same bytes again gives
//! the same ETag, and a writer that relies on it being fresh is found out.

use std::collections::BTreeMap;

use drover_api::{Millis, bucket::ObjectKey};
use sha2::{Digest, Sha256};

use super::Fake;
use crate::{
    ec2::{Caller, Credentials, Log, LogEntry},
    error::{Class, CloudError, Result},
    objects::{Condition, ETag, Object, Objects},
};

/// One bucket's objects.
#[derive(Clone, Debug, Default)]
pub struct Bucket {
    objects: BTreeMap<ObjectKey, Vec<u8>>,
    fault: Option<BucketFault>,
    log: Log,
}

/// What can be wrong with the bucket, on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketFault {
    /// There is none of this name.
    Missing,
    /// 503 SlowDown to everything.
    Throttled,
    /// 500 to everything.
    Unavailable,
}

impl Bucket {
    /// None: all is well.
    pub fn set_fault(&mut self, fault: Option<BucketFault>) {
        self.fault = fault;
    }

    /// Every call that reached the bucket.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// An object's bytes, past every fault.
    pub fn object(&self, key: &ObjectKey) -> Option<&[u8]> {
        self.objects.get(key).map(Vec::as_slice)
    }

    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.objects.keys()
    }

    /// Loses every object, as an operator pointed at a wrong bucket would see it.
    pub fn empty(&mut self) {
        self.objects.clear();
    }

    /// Puts or removes an object from outside.
    pub fn set(&mut self, key: ObjectKey, body: Option<Vec<u8>>) {
        match body {
            Some(body) => self.objects.insert(key, body),
            None => self.objects.remove(&key),
        };
    }

    fn put(&mut self, key: &ObjectKey, body: Vec<u8>, condition: &Condition) -> Result<ETag> {
        let refused = |code: &str| Err(error(Class::Conflict, "PutObject", code));
        match (condition, self.objects.get(key)) {
            (Condition::Absent, Some(_)) => return refused("PreconditionFailed"),
            // S3 answers 404 and not 412 where there is nothing to match (S3 user guide, "Conditional writes").
            (Condition::Unchanged(_), None) => return refused("NoSuchKey"),
            (Condition::Unchanged(expected), Some(current)) if etag(current) != *expected => {
                return refused("PreconditionFailed");
            }
            _ => {}
        }
        let etag = etag(&body);
        self.objects.insert(key.clone(), body);
        Ok(etag)
    }
}

impl Objects for Fake {
    async fn get(&self, key: &ObjectKey) -> Result<Option<Object>> {
        self.object_call("GetObject", false, |bucket| {
            Ok(bucket.objects.get(key).map(|body| Object { body: body.clone(), etag: etag(body) }))
        })
    }

    async fn put(&self, key: &ObjectKey, body: Vec<u8>, condition: Condition) -> Result<ETag> {
        self.object_call("PutObject", true, |bucket| bucket.put(key, body, &condition))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectKey>> {
        self.object_call("ListObjectsV2", false, |bucket| {
            Ok(bucket.objects.keys().filter(|key| key.as_str().starts_with(prefix)).cloned().collect())
        })
    }
}

impl Fake {
    fn object_call<T>(
        &self,
        call: &'static str,
        mutating: bool,
        run: impl FnOnce(&mut Bucket) -> Result<T>,
    ) -> Result<T> {
        let mut world = self.lock();
        let credentials = world.ec2.faults().credentials;
        let now: Millis = world.now();
        let bucket = &mut world.bucket;
        let allowed = allow(bucket.fault, credentials, &self.caller, call);
        let answer = allowed.and_then(|()| run(bucket));
        bucket.log.push(LogEntry {
            at: now,
            caller: self.caller.clone(),
            action: call.into(),
            mutating,
            error: answer.as_ref().err().map(|error| error.code.clone()),
            changed: mutating && answer.is_ok(),
        });
        answer
    }
}

/// The policy of machine roles is not modelled here: in memory no machine reads a bucket with credentials of its own.
fn allow(fault: Option<BucketFault>, credentials: Credentials, caller: &Caller, call: &'static str) -> Result<()> {
    match (fault, caller, credentials) {
        (Some(BucketFault::Throttled), _, _) => Err(error(Class::Throttled, call, "SlowDown")),
        (Some(BucketFault::Unavailable), _, _) => Err(error(Class::Transient, call, "InternalError")),
        (_, Caller::Operator(_), Credentials::Revoked) => Err(error(Class::Denied, call, "InvalidAccessKeyId")),
        (_, Caller::Operator(_), Credentials::Unauthorized) => Err(error(Class::Denied, call, "AccessDenied")),
        (Some(BucketFault::Missing), _, _) => Err(error(Class::Invalid, call, "NoSuchBucket")),
        (None, _, _) => Ok(()),
    }
}

fn error(class: Class, call: &'static str, code: &str) -> CloudError {
    let message = match code {
        "PreconditionFailed" => "At least one of the pre-conditions you specified did not hold",
        "NoSuchKey" => "The specified key does not exist.",
        "NoSuchBucket" => "The specified bucket does not exist",
        "SlowDown" => "Please reduce your request rate.",
        "InternalError" => "We encountered an internal error. Please try again.",
        _ => "Access Denied",
    };
    CloudError::new(class, call, code, message)
}

fn etag(body: &[u8]) -> ETag {
    ETag(format!("\"{}\"", hex::encode(&Sha256::digest(body)[..16])))
}

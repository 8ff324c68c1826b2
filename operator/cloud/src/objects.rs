//! Objects as we need them: small JSON documents changed by compare-and-set, and one large binary.

use std::{fmt, future::Future};

use drover_api::bucket::ObjectKey;

use crate::error::Result;

/// What identifies one content of one object; opaque.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ETag(pub String);

/// An object as it was read.
#[derive(Clone, PartialEq, Eq)]
pub struct Object {
    pub body: Vec<u8>,
    pub etag: ETag,
}

/// Under which condition a write may happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// If-None-Match: *.
    Absent,
    /// If-Match.
    Unchanged(ETag),
    /// For what is named by its own hash and never differs.
    Always,
}

/// A bucket, read-after-write consistent (S3 documentation, "Data consistency model").
pub trait Objects: Send + Sync {
    /// `None` where there is no such object. A missing bucket is an error of class `Invalid` (`NoSuchBucket`).
    fn get(&self, key: &ObjectKey) -> impl Future<Output = Result<Option<Object>>> + Send;

    /// `Conflict` when the condition did not hold, which after a lost reply may be our own write: read before concluding.
    fn put(&self, key: &ObjectKey, body: Vec<u8>, condition: Condition) -> impl Future<Output = Result<ETag>> + Send;

    /// Every key under the prefix, all pages, in order.
    fn list(&self, prefix: &str) -> impl Future<Output = Result<Vec<ObjectKey>>> + Send;
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object({} bytes, {:?})", self.body.len(), self.etag)
    }
}

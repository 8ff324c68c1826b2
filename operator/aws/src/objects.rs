//! One S3 bucket: small documents changed by compare-and-set, and the agent binary.

use std::time::Duration;

use aws_sdk_s3::{Client, primitives::ByteStream, types::BucketVersioningStatus};
use drover_api::bucket::ObjectKey;
use drover_cloud::{
    Class, CloudError, Objects, Result,
    examine::Versioning,
    objects::{Condition, ETag, Object},
};

use crate::{
    calls::{Call, GET_BUCKET_VERSIONING, GET_OBJECT, LIST_OBJECTS, PUT_OBJECT},
    classify::failed,
    send::{Sender, pages, unreadable, within},
};

/// A bucket; cheap to clone.
#[derive(Clone, Debug)]
pub struct Bucket {
    client: Client,
    sender: Sender,
    name: String,
}

/// The largest object that is read or written. An agent binary is around 100 MB, everything else kilobytes. One PUT takes up
/// to 5 GiB, so a binary needs no multipart upload, and with it no rule for uploads that were left unfinished.
pub const OBJECT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The slowest link that a transfer is waited for. A choice: S3 gives one request some 85 MB/s, an office uplink a few.
const SLOWEST_BYTES_PER_SECOND: usize = 1024 * 1024;

impl Objects for Bucket {
    async fn get(&self, key: &ObjectKey) -> Result<Option<Object>> {
        let request = self.client.get_object().bucket(&self.name).key(key.as_str());
        let asked = self.sender.now();
        let answer = match self.sender.send(&GET_OBJECT, request.send()).await {
            Err(error) if error.class == Class::NotFound => return Ok(None),
            answer => answer.map_err(|error| self.named(error))?,
        };
        let etag = etag(&GET_OBJECT, answer.e_tag)?;
        let length = answer.content_length.and_then(|length| usize::try_from(length).ok());
        let bound = self.sender.deadline(&GET_OBJECT) + transfer_time(length.unwrap_or(OBJECT_BYTES_MAX));
        let left = bound.saturating_sub(self.sender.since(asked));
        let body = within(&GET_OBJECT, left, collect(answer.body, length)).await??;
        Ok(Some(Object { body, etag }))
    }

    async fn put(&self, key: &ObjectKey, body: Vec<u8>, condition: Condition) -> Result<ETag> {
        let length = body.len();
        if length > OBJECT_BYTES_MAX {
            return Err(too_large(&PUT_OBJECT, length));
        }
        let request = self.client.put_object().bucket(&self.name).key(key.as_str()).body(ByteStream::from(body));
        let request = match &condition {
            Condition::Absent => request.if_none_match("*"),
            Condition::Unchanged(etag) => request.if_match(&etag.0),
            Condition::Always => request,
        };
        // A record must not arrive after its writer's lease, so its transfer is part of the deadline; the binary, which is
        // named by its own hash, may arrive whenever it does.
        let transfer = match condition {
            Condition::Absent | Condition::Unchanged(_) => Duration::ZERO,
            Condition::Always => transfer_time(length),
        };
        let answer = self.sender.send_for(&PUT_OBJECT, transfer, request.send()).await;
        let answer = answer.map_err(|mut error| {
            // If-Match on an object that is gone is answered with NoSuchKey: the condition did not hold.
            if error.class == Class::NotFound {
                error.class = Class::Conflict;
            }
            self.named(error)
        })?;
        etag(&PUT_OBJECT, answer.e_tag)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectKey>> {
        let request = self.client.list_objects_v2().bucket(&self.name).prefix(prefix);
        let mut keys = pages(&LIST_OBJECTS, |token| async {
            let request = request.clone().set_continuation_token(token);
            let answer = self.sender.send(&LIST_OBJECTS, request.send()).await;
            let answer = answer.map_err(|error| self.named(error))?;
            let keys = answer.contents().iter().filter_map(|object| object.key()).map(ObjectKey::raw).collect();
            Ok((keys, answer.next_continuation_token))
        })
        .await?;
        // S3 lists in this order already; other endpoints need not.
        keys.sort_unstable();
        Ok(keys)
    }
}

// === impl Bucket ===

impl Bucket {
    pub(crate) fn new(client: Client, sender: Sender, name: &str) -> Self {
        Self { client, sender, name: name.to_owned() }
    }

    /// Whether it keeps what is overwritten and deleted.
    pub async fn versioning(&self) -> Result<Versioning> {
        let request = self.client.get_bucket_versioning().bucket(&self.name);
        let answer = self.sender.send(&GET_BUCKET_VERSIONING, request.send()).await;
        let answer = answer.map_err(|error| self.named(error))?;
        match answer.status {
            Some(BucketVersioningStatus::Enabled) => Ok(Versioning::Enabled),
            Some(BucketVersioningStatus::Suspended) => Ok(Versioning::Suspended),
            None => Ok(Versioning::Never),
            Some(other) => Err(unreadable(&GET_BUCKET_VERSIONING, format_args!("the status {}", other.as_str()))),
        }
    }

    /// S3's own words do not say which bucket does not exist.
    fn named(&self, mut error: CloudError) -> CloudError {
        if error.code == "NoSuchBucket" {
            error.message = format!("bucket {:?}: {}", self.name, error.message);
        }
        error
    }
}

/// How long a body may take on the slowest link that is waited for.
pub(crate) fn transfer_time(bytes: usize) -> Duration {
    Duration::from_secs(bytes.div_ceil(SLOWEST_BYTES_PER_SECOND) as u64)
}

/// Reads no further than the bound, whatever length was announced.
async fn collect(mut body: ByteStream, announced: Option<usize>) -> Result<Vec<u8>> {
    let announced = announced.unwrap_or_default();
    if announced > OBJECT_BYTES_MAX {
        return Err(too_large(&GET_OBJECT, announced));
    }
    let mut bytes = Vec::with_capacity(announced);
    while let Some(chunk) = body.next().await {
        // A body cut short, stalled, or unlike its checksum.
        let chunk = chunk.map_err(|error| failed(Class::Transient, &GET_OBJECT, "Body", &error.to_string()))?;
        if bytes.len() + chunk.len() > OBJECT_BYTES_MAX {
            return Err(too_large(&GET_OBJECT, bytes.len() + chunk.len()));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Kept verbatim, quotes included: it goes back as it came.
fn etag(call: &Call, etag: Option<String>) -> Result<ETag> {
    etag.map(ETag).ok_or_else(|| unreadable(call, "ETag is missing"))
}

fn too_large(call: &Call, bytes: usize) -> CloudError {
    let message = format!("an object of {bytes} bytes is larger than the {OBJECT_BYTES_MAX} that we handle");
    failed(Class::Invalid, call, "TooLarge", &message)
}

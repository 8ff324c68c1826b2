//! The bucket: `s3s-fs` keeps the objects, and this thin layer gives it the promises of S3 that others build on and that
//! its 0.14 does not keep, because its conditional PUT looks first and writes later, renames the body into place before the
//! checksum is known, and lets a GET pair one write's body with another write's ETag.
//!
//! A body is first written, and its checksum verified, under a staging name. Then, under the lock of its key, the condition
//! is checked and the object moved into place by renames. The order of the renames makes any crash whole: the stored ETag
//! is removed first, and an object without one has the MD5 of its content, which for a PUT is the same ETag.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::{S3, S3ErrorCode, S3Request, S3Response, S3Result, dto::*, s3_error};
use s3s_fs::FileSystem;
use tokio::sync::{Mutex, MutexGuard};

use super::conditions::{check_condition, check_read};

/// The largest object taken in one PUT or part: an operator's binary is some 100 MB, a runaway body must not fill the disk.
pub const OBJECT_BYTES_MAX: i64 = 1 << 30;

/// How long a write waits for the lock of its key before it answers 409, which tells the client to try again.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// Keys share locks by hash, so that the number of locks is fixed. Two keys on one lock only wait for each other.
const LOCKS: usize = 256;

/// Where bodies lie until they are whole. The dot makes it no valid bucket name: no request can name it.
const STAGING: &str = ".staging";

/// Objects in a directory, with the conditional writes of S3.
#[derive(Debug)]
pub struct Objects {
    inner: FileSystem,
    root: PathBuf,
    locks: Vec<Mutex<()>>,
    staged: AtomicU64,
}

/// The objects' directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the bucket directory {path} cannot be prepared: {source}")]
    Directory { path: PathBuf, source: io::Error },
    #[error("the bucket directory {path} cannot be opened: {message}")]
    Open { path: PathBuf, message: String },
}

impl Objects {
    /// Opens the directory, with `bucket` in it. What an interrupted write staged is removed.
    pub fn open(root: &Path, bucket: &str) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Directory { path: root.into(), source };
        let staging = root.join(STAGING);
        if staging.exists() {
            fs::remove_dir_all(&staging).map_err(failed)?;
        }
        fs::create_dir_all(&staging).map_err(failed)?;
        let inner = FileSystem::new(root)
            .map_err(|error| OpenError::Open { path: root.into(), message: format!("{error:?}") })?;
        let root = root.canonicalize().map_err(failed)?;
        fs::create_dir_all(root.join(bucket)).map_err(failed)?;
        let staged_prefix = format!(".bucket-{}.object-", URL_SAFE_NO_PAD.encode(STAGING));
        for entry in fs::read_dir(&root).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().to_string_lossy().starts_with(&staged_prefix) {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        let locks = (0..LOCKS).map(|_| Mutex::new(())).collect();
        Ok(Self { inner, root, locks, staged: AtomicU64::new(0) })
    }

    async fn lock(&self, bucket: &str, key: &str) -> S3Result<MutexGuard<'_, ()>> {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        (bucket, key).hash(&mut hasher);
        let lock = &self.locks[(hasher.finish() % LOCKS as u64) as usize];
        tokio::time::timeout(LOCK_WAIT, lock.lock())
            .await
            .map_err(|_| s3_error!(ConditionalRequestConflict, "another write of this key is under way"))
    }

    fn require_bucket(&self, bucket: &str) -> S3Result<()> {
        if self.root.join(bucket).is_dir() { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }

    /// The ETag of what the key holds now; `None` where it holds nothing.
    async fn etag(&self, bucket: &str, key: &str) -> S3Result<Option<ETag>> {
        let _key = self.lock(bucket, key).await?;
        self.etag_under_lock(bucket, key).await
    }

    /// As [`Self::etag`], by whoever holds the key's lock: between the renames of a write the files of a key do not belong
    /// together, and `s3s-fs` that looks then finds a body without attributes, or none, and calls it an internal error.
    async fn etag_under_lock(&self, bucket: &str, key: &str) -> S3Result<Option<ETag>> {
        let input = HeadObjectInput { bucket: bucket.into(), key: key.into(), ..Default::default() };
        match self.inner.head_object(request(input)).await {
            Ok(head) => Ok(head.output.e_tag),
            Err(error) if *error.code() == S3ErrorCode::NoSuchKey => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The paths of `s3s-fs` 0.14: the body, then its attributes, then its ETag and checksums.
    fn files(&self, bucket: &str, key: &str) -> [PathBuf; 3] {
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let stem = format!(".bucket-{}.object-{}", encode(bucket), encode(key));
        [
            self.root.join(bucket).join(key),
            self.root.join(format!("{stem}.metadata.json")),
            self.root.join(format!("{stem}.internal.json")),
        ]
    }

    /// What was last asked for with PutBucketVersioning. It is remembered and told, and nothing more: no version is kept here.
    fn versioning_file(&self, bucket: &str) -> PathBuf {
        self.root.join(format!(".versioning-{}", URL_SAFE_NO_PAD.encode(bucket)))
    }

    /// An upload that was completed, aborted or never begun is none; `s3s-fs` calls all of them forbidden.
    fn require_upload(&self, upload_id: &str) -> S3Result<()> {
        let is_name = upload_id.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        let begun = is_name && self.root.join(format!(".upload-{upload_id}.json")).exists();
        if begun { Ok(()) } else { Err(s3_error!(NoSuchUpload)) }
    }

    fn publish(&self, staged: &str, bucket: &str, key: &str) -> io::Result<()> {
        let (from, to) = (self.files(STAGING, staged), self.files(bucket, key));
        remove_if_there(&to[2])?;
        if let Some(parent) = to[0].parent() {
            fs::create_dir_all(parent)?;
        }
        from.iter().zip(&to).try_for_each(|(from, to)| fs::rename(from, to))
    }

    fn discard(&self, staged: &str) {
        for path in self.files(STAGING, staged) {
            if let Err(error) = remove_if_there(&path) {
                tracing::warn!(path = %path.display(), %error, "a staged body stays until the next start");
            }
        }
    }
}

/// `encoding-type=url`: what XML might not carry is percent-encoded.
fn encode_names(output: &mut ListObjectsV2Output) {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');
    let encode = |name: &mut Option<String>| {
        *name = name.take().map(|name| utf8_percent_encode(&name, KEPT).to_string());
    };
    output.contents.iter_mut().flatten().for_each(|object| encode(&mut object.key));
    output.common_prefixes.iter_mut().flatten().for_each(|prefix| encode(&mut prefix.prefix));
    [&mut output.prefix, &mut output.delimiter, &mut output.start_after].into_iter().for_each(encode);
}

fn request<T>(input: T) -> S3Request<T> {
    S3Request {
        input,
        method: http::Method::GET,
        uri: http::Uri::default(),
        headers: http::HeaderMap::new(),
        extensions: http::Extensions::new(),
        credentials: None,
        region: None,
        service: None,
        trailing_headers: None,
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A key that `s3s-fs` would store as a directory, or outside its bucket, is refused rather than stored as something else.
fn require_plain(key: &str) -> S3Result<()> {
    if key.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(s3_error!(NotImplemented, "keys with an empty, '.' or '..' part are not kept here"));
    }
    Ok(())
}

fn require_size(length: Option<i64>) -> S3Result<()> {
    match length {
        Some(length) if length > OBJECT_BYTES_MAX => Err(s3_error!(EntityTooLarge)),
        _ => Ok(()),
    }
}

#[async_trait::async_trait]
impl S3 for Objects {
    async fn put_object(&self, mut req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let (if_match, if_none_match) = (req.input.if_match.take(), req.input.if_none_match.take());
        self.require_bucket(&bucket)?;
        require_plain(&key)?;
        require_size(req.input.content_length)?;
        let before = self.etag(&bucket, &key).await?;
        check_condition(if_match.as_ref(), if_none_match.as_ref(), before.as_ref(), before.as_ref())?;

        let staged = self.staged.fetch_add(1, Ordering::Relaxed).to_string();
        req.input.bucket = STAGING.into();
        req.input.key.clone_from(&staged);
        let written = async {
            let written = self.inner.put_object(req).await?;
            let _key = self.lock(&bucket, &key).await?;
            let now = self.etag_under_lock(&bucket, &key).await?;
            check_condition(if_match.as_ref(), if_none_match.as_ref(), before.as_ref(), now.as_ref())?;
            self.publish(&staged, &bucket, &key).map_err(s3s::S3Error::internal_error)?;
            Ok(written)
        };
        let written = written.await;
        if written.is_err() {
            self.discard(&staged);
        }
        written
    }

    async fn complete_multipart_upload(
        &self,
        mut req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let (bucket, key) = (req.input.bucket.clone(), req.input.key.clone());
        let (if_match, if_none_match) = (req.input.if_match.take(), req.input.if_none_match.take());
        self.require_bucket(&bucket)?;
        self.require_upload(&req.input.upload_id)?;
        let _key = self.lock(&bucket, &key).await?;
        let now = self.etag_under_lock(&bucket, &key).await?;
        check_condition(if_match.as_ref(), if_none_match.as_ref(), now.as_ref(), now.as_ref())?;
        self.inner.complete_multipart_upload(req).await
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.require_bucket(&req.input.bucket)?;
        require_plain(&req.input.key)?;
        // The body is an open file when the lock is given back, so that a later rename does not change what is read.
        let _key = self.lock(&req.input.bucket, &req.input.key).await?;
        let now = self.etag_under_lock(&req.input.bucket, &req.input.key).await?;
        check_read(req.input.if_match.as_ref(), req.input.if_none_match.as_ref(), now.as_ref())?;
        self.inner.get_object(req).await
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.require_bucket(&req.input.bucket)?;
        require_plain(&req.input.key)?;
        let _key = self.lock(&req.input.bucket, &req.input.key).await?;
        let now = self.etag_under_lock(&req.input.bucket, &req.input.key).await?;
        check_read(req.input.if_match.as_ref(), req.input.if_none_match.as_ref(), now.as_ref())?;
        self.inner.head_object(req).await
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.require_bucket(&req.input.bucket)?;
        require_plain(&req.input.key)?;
        if req.input.if_match.is_some() {
            return Err(s3_error!(NotImplemented, "conditional deletes are not kept here"));
        }
        let _key = self.lock(&req.input.bucket, &req.input.key).await?;
        self.inner.delete_object(req).await
    }

    async fn delete_objects(&self, req: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let (bucket, quiet) = (req.input.bucket, req.input.delete.quiet == Some(true));
        let mut deleted = Vec::new();
        for object in req.input.delete.objects {
            let input = DeleteObjectInput { bucket: bucket.clone(), key: object.key.clone(), ..Default::default() };
            self.delete_object(request(input)).await?;
            deleted.push(DeletedObject { key: Some(object.key), ..Default::default() });
        }
        let deleted = (!quiet).then_some(deleted);
        Ok(S3Response::new(DeleteObjectsOutput { deleted, ..Default::default() }))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.require_bucket(&req.input.bucket)?;
        require_plain(&req.input.key)?;
        self.inner.create_multipart_upload(req).await
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        require_size(req.input.content_length)?;
        self.require_upload(&req.input.upload_id)?;
        self.inner.upload_part(req).await
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        self.require_upload(&req.input.upload_id)?;
        self.inner.list_parts(req).await
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.require_upload(&req.input.upload_id)?;
        self.inner.abort_multipart_upload(req).await
    }

    async fn list_objects_v2(
        &self,
        mut req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let (bucket, encoding) = (req.input.bucket.clone(), req.input.encoding_type.take());
        let mut response = self.inner.list_objects_v2(req).await?;
        let mut listed = Vec::new();
        for object in response.output.contents.take().into_iter().flatten() {
            let key = object.key.clone().unwrap_or_default();
            let Some(e_tag) = self.etag(&bucket, &key).await? else {
                // Deleted since the directory was read: it is neither shown nor counted.
                response.output.key_count = response.output.key_count.map(|count| count - 1);
                continue;
            };
            listed.push(Object {
                e_tag: Some(e_tag),
                storage_class: Some(ObjectStorageClass::STANDARD.to_owned().into()),
                ..object
            });
        }
        response.output.contents = Some(listed).filter(|listed| !listed.is_empty());
        if encoding.as_ref().is_some_and(|encoding| encoding.as_str() == EncodingType::URL) {
            encode_names(&mut response.output);
            response.output.encoding_type = encoding;
        }
        Ok(response)
    }

    async fn list_buckets(&self, req: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        self.inner.list_buckets(req).await
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.inner.head_bucket(req).await
    }

    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        self.inner.create_bucket(req).await
    }

    async fn get_bucket_versioning(
        &self,
        req: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        self.require_bucket(&req.input.bucket)?;
        let status = match fs::read_to_string(self.versioning_file(&req.input.bucket)) {
            Ok(status) => Some(BucketVersioningStatus::from(status)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(s3s::S3Error::internal_error(error)),
        };
        Ok(S3Response::new(GetBucketVersioningOutput { status, mfa_delete: None }))
    }

    async fn put_bucket_versioning(
        &self,
        req: S3Request<PutBucketVersioningInput>,
    ) -> S3Result<S3Response<PutBucketVersioningOutput>> {
        self.require_bucket(&req.input.bucket)?;
        let VersioningConfiguration { status, mfa_delete } = req.input.versioning_configuration;
        if mfa_delete.is_some() || req.input.mfa.is_some() {
            return Err(s3_error!(NotImplemented, "MFA delete is not kept here"));
        }
        let status = status.ok_or_else(|| s3_error!(IllegalVersioningConfigurationException))?;
        if ![BucketVersioningStatus::ENABLED, BucketVersioningStatus::SUSPENDED].contains(&status.as_str()) {
            return Err(s3_error!(MalformedXML));
        }
        fs::write(self.versioning_file(&req.input.bucket), status.as_str()).map_err(s3s::S3Error::internal_error)?;
        Ok(S3Response::new(PutBucketVersioningOutput::default()))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.inner.get_bucket_location(req).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, body: &'static str) -> S3Request<PutObjectInput> {
        let blob = StreamingBlob::wrap(futures::stream::iter([Ok::<_, io::Error>(body.into())]));
        let input = PutObjectInput { bucket: "b".into(), key: key.into(), body: Some(blob), ..Default::default() };
        request(input)
    }

    #[tokio::test]
    async fn a_crash_between_the_renames_leaves_a_body_and_an_etag_that_belong_together() {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::open(dir.path(), "b").unwrap();
        let first = objects.put_object(put("k", "one")).await.unwrap().output.e_tag;
        assert_eq!(objects.etag("b", "k").await.unwrap(), first);
        let files = objects.files("b", "k");
        assert!(files.iter().all(|file| file.exists()), "s3s-fs keeps its files elsewhere now: {files:?}");

        // As `publish` leaves them when it is killed after its first step, and after its second.
        fs::remove_file(&files[2]).unwrap();
        assert_eq!(objects.etag("b", "k").await.unwrap(), first, "the old body still has its ETag");
        fs::write(&files[0], "two").unwrap();
        let second = objects.etag("b", "k").await.unwrap();
        assert_ne!(second, first);
        assert_eq!(
            objects.put_object(put("other", "two")).await.unwrap().output.e_tag,
            second,
            "the new body has its own"
        );
    }

    #[tokio::test]
    async fn a_body_with_a_wrong_checksum_leaves_the_object_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::open(dir.path(), "b").unwrap();
        let first = objects.put_object(put("k", "one")).await.unwrap().output.e_tag;
        let mut bad = put("k", "two");
        bad.input.content_md5 = Some("AAAAAAAAAAAAAAAAAAAAAA==".into());
        let error = objects.put_object(bad).await.expect_err("a wrong checksum");
        assert_eq!(*error.code(), S3ErrorCode::BadDigest);
        assert_eq!(objects.etag("b", "k").await.unwrap(), first);
        assert_eq!(fs::read_dir(dir.path().join(STAGING)).unwrap().count(), 0, "nothing stays staged");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn who_looks_while_a_key_is_written_again_and_again_never_sees_it_half_written() {
        let dir = tempfile::tempdir().unwrap();
        let objects = std::sync::Arc::new(Objects::open(dir.path(), "b").unwrap());
        objects.put_object(put("k", "first")).await.unwrap();
        let written = tokio::sync::watch::Sender::new(false);
        let looks = (0..3).map(|_| {
            let (objects, written) = (objects.clone(), written.subscribe());
            tokio::spawn(async move {
                while !*written.borrow() {
                    let listed = ListObjectsV2Input { bucket: "b".into(), ..Default::default() };
                    let listed = objects.list_objects_v2(request(listed)).await.unwrap().output.contents.unwrap();
                    assert!(listed.len() == 1 && listed[0].e_tag.is_some(), "{listed:?}");
                    let mut late = put("k", "late");
                    late.input.if_none_match = Some(ETagCondition::Any);
                    let refused = objects.put_object(late).await.expect_err("the key is there");
                    assert_eq!(*refused.code(), S3ErrorCode::PreconditionFailed);
                }
            })
        });
        let looks: Vec<_> = looks.collect();
        for _ in 0..400 {
            objects.put_object(put("k", "again")).await.unwrap();
        }
        written.send_replace(true);
        for look in looks {
            look.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_write_to_a_bucket_that_is_not_there_creates_none() {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::open(dir.path(), "other").unwrap();
        let error = objects.put_object(put("k", "one")).await.expect_err("no such bucket");
        assert_eq!(*error.code(), S3ErrorCode::NoSuchBucket);
        assert!(!dir.path().join("b").exists());
    }
}

//! The bucket: there, versioned, listed, its conditional writes honoured, and who holds the realm's lock.

use drover_api::records::Lock;
use drover_cloud::{
    Class, CloudError, Objects,
    examine::Versioning,
    objects::{Condition, Object},
};
use serde_json::json;

use super::{Context, Examined, Finding, POLICY};

/// What came of writes whose condition does not hold.
#[derive(Clone, Debug)]
struct Tried {
    /// If-None-Match: * over an object.
    create: Result<(), CloudError>,
    /// If-Match with an ETag of an earlier content.
    stale: Result<(), CloudError>,
}

pub(super) async fn bucket<C: Examined>(context: &Context<C>) -> Vec<Finding> {
    let (cloud, keys) = (context.cloud.as_ref(), &context.keys);
    let read = Objects::get(cloud, &keys.lock()).await;
    let found = there(&context.bucket, &context.region, &read);
    let Ok(lock) = read else { return vec![found] };
    let listed = Objects::list(cloud, keys.prefix()).await.map(|keys| keys.len());
    vec![
        found,
        versioned(&context.bucket, &cloud.versioning().await),
        lists(keys.prefix(), &listed),
        conditions(&try_conditions(context).await),
        held(lock.as_ref()),
    ]
}

fn there(bucket: &str, region: &str, read: &Result<Option<Object>, CloudError>) -> Finding {
    match read {
        Ok(_) => Finding::ok("bucket", format!("{bucket} is there and can be read")),
        Err(error) if error.code == "NoSuchBucket" => {
            // This one Region must not be named (S3 API Reference, "CreateBucket").
            let place = if region == "us-east-1" {
                String::new()
            } else {
                format!(" --create-bucket-configuration LocationConstraint={region}")
            };
            let remedy = format!(
                "make it: aws s3api create-bucket --bucket {bucket} --region {region}{place}; or name another with --bucket or `bucket:`"
            );
            Finding::fail("bucket", format!("there is no bucket {bucket}"), remedy)
        }
        Err(error) => Finding::failed("bucket", error, "see what S3 says, and whether the bucket is the right one"),
    }
}

fn versioned(bucket: &str, versioning: &Result<Versioning, CloudError>) -> Finding {
    let name = "bucket versioning";
    let remedy = format!("aws s3api put-bucket-versioning --bucket {bucket} --versioning-configuration Status=Enabled");
    let lost = "what is deleted or overwritten by mistake is lost for good";
    match versioning {
        Ok(Versioning::Enabled) => Finding::ok(name, "enabled"),
        Ok(Versioning::Suspended) => Finding::fail(name, format!("suspended: {lost}"), remedy),
        Ok(Versioning::Never) => Finding::fail(name, format!("not enabled: {lost}"), remedy),
        Err(error) if error.class == Class::Denied => Finding::warn(
            name,
            format!("cannot be told: {}", error.failure()),
            "allow these credentials s3:GetBucketVersioning: `drover iam-policy --for operator --with doctor` has it",
        ),
        Err(error) => Finding::failed(name, error, "see what S3 says"),
    }
}

fn lists(prefix: &str, listed: &Result<usize, CloudError>) -> Finding {
    let name = "bucket list";
    match listed {
        Ok(count) => Finding::ok(name, format!("{count} objects under {prefix}")),
        Err(error) if error.class == Class::Denied => {
            let remedy = format!("allow these credentials s3:ListBucket on the bucket: {POLICY}");
            Finding::fail(name, error.failure(), remedy)
        }
        Err(error) => Finding::failed(name, error, "see what S3 says"),
    }
}

/// Brings an object about that was written twice, then writes twice more under conditions that do not hold.
async fn try_conditions<C: Examined>(context: &Context<C>) -> Result<Tried, CloudError> {
    let (cloud, key) = (context.cloud.as_ref(), context.keys.doctor());
    // An ETag is made from the content, so each content is fresh.
    let body = || {
        let said = json!({ "written_by": "drover doctor", "write_id": context.entropy.write_id() });
        serde_json::to_vec_pretty(&said).expect("it has string keys only, so it always serialises")
    };
    let old = match Objects::get(cloud, &key).await? {
        Some(object) => object.etag,
        None => cloud.put(&key, body(), Condition::Absent).await?,
    };
    cloud.put(&key, body(), Condition::Unchanged(old.clone())).await?;
    let create = cloud.put(&key, body(), Condition::Absent).await.map(drop);
    let stale = cloud.put(&key, body(), Condition::Unchanged(old)).await.map(drop);
    Ok(Tried { create, stale })
}

fn conditions(tried: &Result<Tried, CloudError>) -> Finding {
    let name = "conditional writes";
    let elsewhere = "use S3 itself, or an endpoint that honours If-Match and If-None-Match: without them two operators may act at once";
    let of_error = |error: &CloudError| match error.class {
        Class::Denied if error.code == "AccessDenied" => {
            let remedy = format!("allow these credentials s3:PutObject on the realm's objects: {POLICY}");
            Finding::fail(name, error.failure(), remedy)
        }
        Class::Conflict => {
            Finding::warn(name, "somebody else tried them at the same time", "run `drover doctor` again")
        }
        _ => Finding::failed(name, error, elsewhere),
    };
    let tried = match tried {
        Ok(tried) => tried,
        Err(error) => return of_error(error),
    };
    for (header, result) in [("If-None-Match: *", &tried.create), ("If-Match with an old ETag", &tried.stale)] {
        match result {
            Ok(()) => return Finding::fail(name, format!("{header} did not keep a write back"), elsewhere),
            Err(error) if error.class == Class::Conflict => {}
            Err(error) => return of_error(error),
        }
    }
    Finding::ok(name, "If-Match and If-None-Match are honoured")
}

fn held(lock: Option<&Object>) -> Finding {
    let name = "realm";
    let Some(lock) = lock else { return Finding::ok(name, "no operator has acted yet") };
    match serde_json::from_slice::<Lock>(&lock.body) {
        Ok(Lock { holder, fence, released: false, .. }) => {
            Finding::ok(name, format!("the last to act is {holder}, fence {fence}"))
        }
        Ok(Lock { holder, fence, .. }) => Finding::ok(name, format!("nobody acts: {holder} gave it up, fence {fence}")),
        Err(error) => Finding::fail(
            name,
            format!("lock.json is not a lock of this schema: {error}"),
            "move it away after making sure that no operator runs, or use a drover that knows it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use drover_cloud::objects::ETag;

    use super::{super::Level, *};

    fn error(class: Class, call: &'static str, code: &str) -> CloudError {
        CloudError::new(class, call, code, "as it is")
    }

    fn check(finding: &Finding, level: Level, found: &str, remedy: Option<&str>) {
        assert_eq!(finding.level, level, "{finding:?}");
        assert!(finding.found.contains(found), "{finding:?}");
        match remedy {
            Some(remedy) => assert!(finding.remedy.as_deref().is_some_and(|it| it.contains(remedy)), "{finding:?}"),
            None => assert_eq!(finding.remedy, None),
        }
    }

    #[test]
    fn a_bucket_that_is_not_there_is_made_where_the_machines_are() {
        let missing = || Err(error(Class::Invalid, "GetObject", "NoSuchBucket"));
        check(&there("b", "us-east-1", &Ok(None)), Level::Ok, "b is there", None);
        let there_of = |region| there("b", region, &missing()).remedy.unwrap_or_default();
        assert!(
            there_of("us-east-1").starts_with("make it: aws s3api create-bucket --bucket b --region us-east-1; or")
        );
        assert!(there_of("eu-west-1").contains("--create-bucket-configuration LocationConstraint=eu-west-1; or"));
        let denied = there("b", "eu-west-1", &Err(error(Class::Denied, "GetObject", "AccessDenied")));
        check(&denied, Level::Fail, "GetObject failed: AccessDenied", Some("s3:GetObject and s3:ListBucket"));
        let elsewhere = there("b", "eu-west-1", &Err(error(Class::Invalid, "GetObject", "PermanentRedirect")));
        check(&elsewhere, Level::Fail, "PermanentRedirect", Some("the bucket is in another Region"));
    }

    #[test]
    fn a_bucket_keeps_versions_or_the_command_is_told() {
        check(&versioned("b", &Ok(Versioning::Enabled)), Level::Ok, "enabled", None);
        let command = "aws s3api put-bucket-versioning --bucket b --versioning-configuration Status=Enabled";
        check(&versioned("b", &Ok(Versioning::Never)), Level::Fail, "not enabled", Some(command));
        check(&versioned("b", &Ok(Versioning::Suspended)), Level::Fail, "suspended", Some(command));
        let denied = error(Class::Denied, "GetBucketVersioning", "AccessDenied");
        check(&versioned("b", &Err(denied)), Level::Warn, "cannot be told", Some("s3:GetBucketVersioning"));
    }

    #[test]
    fn conditions_that_do_not_keep_a_write_back_are_found_out() {
        let lost = || Err(error(Class::Conflict, "PutObject", "PreconditionFailed"));
        let unknown = || Err(error(Class::Invalid, "PutObject", "NotImplemented"));
        let tried = |create, stale| conditions(&Ok(Tried { create, stale }));
        check(&tried(lost(), lost()), Level::Ok, "honoured", None);
        check(&tried(Ok(()), lost()), Level::Fail, "If-None-Match: * did not keep", Some("two operators"));
        check(&tried(lost(), Ok(())), Level::Fail, "If-Match with an old ETag did not", Some("two operators"));
        check(&tried(unknown(), lost()), Level::Fail, "NotImplemented", Some("two operators"));
        check(&conditions(&lost().map(|()| unreachable!())), Level::Warn, "somebody else", Some("again"));
        let denied = Err(error(Class::Denied, "PutObject", "AccessDenied"));
        check(&conditions(&denied), Level::Fail, "AccessDenied", Some("s3:PutObject"));
    }

    #[test]
    fn who_acts_is_told() {
        let lock = |body: &str| Object { body: body.into(), etag: ETag("e".into()) };
        let text = |released| {
            let id = "0123456789abcdef";
            format!(
                r#"{{"write_id":"{id}","holder":"a pid 1","process":"{id}","fence":3,"lease_seconds":30,"released":{released}}}"#
            )
        };
        check(&held(None), Level::Ok, "no operator has acted yet", None);
        check(&held(Some(&lock(&text(false)))), Level::Ok, "the last to act is a pid 1, fence 3", None);
        check(&held(Some(&lock(&text(true)))), Level::Ok, "a pid 1 gave it up", None);
        check(&held(Some(&lock("{}"))), Level::Fail, "not a lock", Some("no operator runs"));
    }

    #[test]
    fn a_list_that_is_denied_names_the_permission() {
        check(&lists("realms/r/", &Ok(3)), Level::Ok, "3 objects under realms/r/", None);
        let denied = Err(error(Class::Denied, "ListObjectsV2", "AccessDenied"));
        check(&lists("realms/r/", &denied), Level::Fail, "ListObjectsV2", Some("s3:ListBucket"));
    }
}

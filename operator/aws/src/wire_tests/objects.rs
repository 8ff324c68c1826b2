//! Objects over the wire.

use drover_cloud::examine::Versioning;

use super::*;
use crate::Aws;

fn stored(etag: &str, body: &str) -> Reply {
    Reply::Answer { status: 200, headers: vec![("etag", etag.into())], body: body.into() }
}

#[tokio::test]
async fn an_etag_goes_back_as_it_came_with_its_quotes() {
    let server = serve(vec![stored("\"abc-1\"", "{}"), stored("\"def\"", "")]).await;
    let bucket = server.connect().bucket("bucket");
    let object = bucket.get(&key()).await.expect("read").expect("there");
    assert_eq!((object.body.as_slice(), object.etag.0.as_str()), (&b"{}"[..], "\"abc-1\""));
    let etag = bucket.put(&key(), b"{1}".to_vec(), Condition::Unchanged(object.etag)).await.expect("written");
    assert_eq!(etag, ETag("\"def\"".into()));
    let requests = server.requests();
    assert_eq!(requests[0].line, "GET /bucket/realms/prod/lock.json?x-id=GetObject");
    assert_eq!(requests[1].line, "PUT /bucket/realms/prod/lock.json?x-id=PutObject");
    assert_eq!(requests[1].headers["if-match"], "\"abc-1\"");
    assert!(!requests[1].headers.contains_key("if-none-match"));
    assert_eq!(requests[1].body, b"{1}");
}

/// An address is always spoken to in path style; only a name shows whether we asked for it.
#[tokio::test]
async fn another_endpoint_needs_no_name_for_each_bucket() {
    let server = serve(vec![s3_error(404, "NoSuchKey")]).await;
    let url = server.url.replace("127.0.0.1", "localhost");
    let aws = Aws::new(&config().endpoint_url(&url).build(), Duration::MAX).expect("a Region is set");
    assert_eq!(aws.object_endpoint(), Some(url.as_str()));
    assert_eq!(aws.bucket("bucket").get(&key()).await, Ok(None));
    assert_eq!(server.requests()[0].line, "GET /bucket/realms/prod/lock.json?x-id=GetObject");
}

#[tokio::test]
async fn a_write_says_its_condition_and_carries_a_checksum() {
    let server = serve(vec![stored("\"a\"", "")]).await;
    let bucket = server.connect().bucket("bucket");
    bucket.put(&key(), b"{}".to_vec(), Condition::Absent).await.expect("written");
    bucket.put(&key(), b"{}".to_vec(), Condition::Always).await.expect("written");
    let requests = server.requests();
    assert_eq!(requests[0].headers["if-none-match"], "*");
    assert!(!requests[1].headers.contains_key("if-none-match") && !requests[1].headers.contains_key("if-match"));
    assert!(requests.iter().all(|request| request.headers.keys().any(|name| name.starts_with("x-amz-checksum-crc"))));
}

#[tokio::test]
async fn a_record_is_written_within_the_deadline_or_not_and_only_what_may_be_late_has_time_for_its_transfer() {
    let server = serve(vec![Reply::Silence]).await;
    let bucket = server.connect_within(Duration::from_secs(1)).bucket("b");
    let within = |condition| {
        let (bucket, key) = (bucket.clone(), key());
        let put = async move { bucket.put(&key, b"{}".to_vec(), condition).await };
        tokio::time::timeout(Duration::from_millis(1_500), put)
    };
    let unchanged = Condition::Unchanged(ETag("\"a\"".into()));
    let (absent, unchanged, always) =
        tokio::join!(within(Condition::Absent), within(unchanged), within(Condition::Always));
    for ended in [absent, unchanged] {
        let error = ended.expect("it outlived its deadline").expect_err("no answer");
        assert_eq!((error.class, error.code.as_str()), (Class::Transient, "Timeout"));
    }
    assert!(always.is_err(), "no time for a transfer");
}

#[tokio::test]
async fn objects_answer_in_their_own_classes() {
    let put = Condition::Unchanged(ETag("\"a\"".into()));
    for (reply, class) in [
        (s3_error(412, "PreconditionFailed"), Class::Conflict),
        (s3_error(409, "ConditionalRequestConflict"), Class::Conflict),
        (s3_error(404, "NoSuchKey"), Class::Conflict),
        (s3_error(404, "NoSuchBucket"), Class::Invalid),
        (s3_error(403, "AccessDenied"), Class::Denied),
        (s3_error(503, "SlowDown"), Class::Throttled),
        (answer(503, ""), Class::Transient),
        (Reply::HangUp, Class::Transient),
    ] {
        let server = serve(vec![reply.clone()]).await;
        let error = server.connect().bucket("b").put(&key(), vec![], put.clone()).await.expect_err("an error");
        assert_eq!(error.class, class, "{reply:?} gave {error:?}");
        assert_eq!(server.requests().len(), 1, "sent once");
    }
}

#[tokio::test]
async fn only_no_such_key_means_that_nothing_is_there() {
    let server = serve(vec![s3_error(404, "NoSuchKey")]).await;
    assert_eq!(server.connect().bucket("b").get(&key()).await, Ok(None));
    for reply in [s3_error(404, "NoSuchBucket"), answer(404, ""), s3_error(403, "AccessDenied"), answer(500, "")] {
        let server = serve(vec![reply.clone()]).await;
        assert!(server.connect().bucket("b").get(&key()).await.is_err(), "{reply:?} was taken for an absent object");
    }
}

#[tokio::test]
async fn a_bucket_that_does_not_exist_is_named() {
    let server = serve(vec![s3_error(404, "NoSuchBucket"); 4]).await;
    let bucket = server.connect().bucket("records");
    let errors = [
        bucket.get(&key()).await.map(drop),
        bucket.put(&key(), vec![], Condition::Always).await.map(drop),
        bucket.list("p/").await.map(drop),
    ];
    for error in errors.map(|answer| answer.expect_err("there is none").to_string()) {
        assert!(error.contains("bucket \"records\": ") && error.starts_with("make the bucket"), "{error}");
    }
}

#[tokio::test]
async fn a_body_that_is_cut_or_damaged_is_not_believed() {
    let damaged = vec![("etag", "\"a\"".to_owned()), ("x-amz-checksum-crc32", "AAAAAA==".to_owned())];
    let damaged = Reply::Answer { status: 200, headers: damaged, body: "{\"leader\":1}".into() };
    for reply in [Reply::CutShort(12, "{\"leader\""), damaged] {
        let server = serve(vec![reply]).await;
        let error = server.connect().bucket("b").get(&key()).await.expect_err("half a register");
        assert_eq!((error.class, error.code.as_str()), (Class::Transient, "Body"));
    }
}

#[tokio::test]
async fn an_object_too_large_is_neither_read_nor_sent() {
    let server = serve(vec![Reply::CutShort(OBJECT_BYTES_MAX + 1, "")]).await;
    let bucket = server.connect().bucket("b");
    let sent = bucket.put(&key(), vec![0; OBJECT_BYTES_MAX + 1], Condition::Always).await.map(drop);
    assert_eq!(server.requests().len(), 0);
    let read = bucket.get(&key()).await.map(drop);
    for error in [sent.expect_err("too large"), read.expect_err("too large")] {
        assert_eq!((error.class, error.code.as_str()), (Class::Invalid, "TooLarge"));
    }
}

fn keys_page(keys: &[&str], next: &str) -> Reply {
    let contents: String = keys.iter().map(|key| format!("<Contents><Key>{key}</Key></Contents>")).collect();
    ok(&format!("<ListBucketResult>{contents}<NextContinuationToken>{next}</NextContinuationToken></ListBucketResult>"))
}

#[tokio::test]
async fn keys_are_listed_to_the_last_page_in_order() {
    let server = serve(vec![keys_page(&["p/c", "p/b"], "two"), keys_page(&["p/a"], "")]).await;
    let keys = server.connect().bucket("b").list("p/").await.expect("listed");
    assert_eq!(keys.iter().map(ObjectKey::as_str).collect::<Vec<_>>(), ["p/a", "p/b", "p/c"]);
    let lines: Vec<_> = server.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(lines, ["GET /b/?list-type=2&prefix=p%2F", "GET /b/?list-type=2&prefix=p%2F&continuation-token=two"]);
}

#[tokio::test]
async fn a_list_whose_token_never_ends_is_given_up() {
    let server = serve(vec![keys_page(&["p/a"], "again")]).await;
    let error = server.connect().bucket("b").list("p/").await.expect_err("no end");
    assert_eq!((error.class, error.code.as_str()), (Class::Transient, "Reply"));
    assert_eq!(server.requests().len(), 100);
}

#[tokio::test]
async fn a_bucket_is_versioned_was_or_never_was() {
    for (said, expected) in [
        ("<Status>Enabled</Status>", Versioning::Enabled),
        ("<Status>Suspended</Status>", Versioning::Suspended),
        ("", Versioning::Never),
    ] {
        let server = serve(vec![ok(&format!("<VersioningConfiguration>{said}</VersioningConfiguration>"))]).await;
        assert_eq!(server.connect().bucket("bucket").versioning().await, Ok(expected));
        assert_eq!(server.requests()[0].line, "GET /bucket/?versioning");
    }
    let server = serve(vec![s3_error(404, "NoSuchBucket")]).await;
    let error = server.connect().bucket("bucket").versioning().await.expect_err("there is none");
    assert!(error.message.starts_with("bucket \"bucket\": "), "{error:?}");
}

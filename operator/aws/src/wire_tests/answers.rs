//! What an answer, or none, is taken for.

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future};

use super::*;
use crate::send::LOCAL_RATE;

#[tokio::test]
async fn a_lost_reply_is_ambiguous_and_the_launch_was_sent_once() {
    let (server, error) = launch_against(Reply::HangUp).await;
    assert_eq!((error.class, error.code.as_str(), error.is_ambiguous()), (Class::Transient, "Connection", true));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_ambiguous() {
    for reply in [
        ok("<html>not EC2"),
        ok("<RunInstancesResponse/>"),
        answer(502, "<html>bad gateway</html>"),
        ok(
            "<RunInstancesResponse><instancesSet><item><instanceId>i-1</instanceId></item></instancesSet></RunInstancesResponse>",
        ),
    ] {
        let (server, error) = launch_against(reply.clone()).await;
        assert!(error.is_ambiguous(), "{reply:?} gave {error:?}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let server = serve(vec![Reply::Silence]).await;
    let aws = server.connect_within(Duration::from_secs(1));
    let (ec2, bucket, request, key) = (aws.ec2(), aws.bucket("b"), launch_request(), key());
    let (launched, read) = tokio::join!(ec2.launch(&request), bucket.get(&key));
    for error in [launched.map(drop).expect_err("no answer"), read.map(drop).expect_err("no answer")] {
        assert_eq!((error.class, error.code.as_str()), (Class::Transient, "Timeout"));
    }
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn nobody_listening_is_transient() {
    let server = serve(vec![Reply::HangUp]).await;
    let aws = server.connect();
    drop(server);
    // The port is closed once the aborted task is gone; until then a connection is hung up on, which is the same class.
    let error = aws.ec2().launch(&launch_request()).await.expect_err("nobody is there");
    assert_eq!((error.class, error.code.as_str()), (Class::Transient, "Connection"));
}

#[tokio::test]
async fn a_capacity_error_with_a_server_status_is_not_sent_again() {
    let (server, error) = launch_against(ec2_error(500, "InsufficientInstanceCapacity", "none left")).await;
    assert_eq!((error.class, error.call), (Class::Capacity, "RunInstances"));
    assert_eq!(error.to_string(), "RunInstances failed: InsufficientInstanceCapacity: none left");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_dry_run_that_would_have_succeeded_is_a_yes() {
    let server = serve(vec![ec2_error(412, "DryRunOperation", "Request would have succeeded")]).await;
    server.connect().ec2().may_launch(&launch_request()).await.expect("allowed");
    assert_eq!(server.requests()[0].form()["DryRun"], "true");
    let server = serve(vec![ec2_error(403, "UnauthorizedOperation", "no")]).await;
    let error = server.connect().ec2().may_launch(&launch_request()).await.expect_err("refused");
    assert_eq!(error.class, Class::Denied);
    let server = serve(vec![launched()]).await;
    server.connect().ec2().may_launch(&launch_request()).await.expect_err("the dry run launched a machine");
}

#[tokio::test]
async fn a_wrong_clock_is_named() {
    let headers = vec![("date", "Thu, 01 Jan 2099 00:00:00 GMT".to_owned())];
    let body = "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>".to_owned();
    let server = serve(vec![Reply::Answer { status: 403, headers, body }]).await;
    let error = server.connect().bucket("b").get(&key()).await.expect_err("denied");
    assert_eq!(error.class, Class::Denied);
    assert!(error.message.starts_with("clock skew: this machine's clock is "), "{error}");
    assert!(error.message.ends_with(" s behind the cloud's; no"), "{error}");
}

#[tokio::test]
async fn without_credentials_nothing_is_sent() {
    let server = serve(vec![launched()]).await;
    for failure in [|| CredentialsError::not_loaded("none"), || CredentialsError::provider_error("STS said no")] {
        let config = config().credentials_provider(SharedCredentialsProvider::new(NoCredentials(failure)));
        let aws = Aws::new(&config.endpoint_url(&server.url).build(), Duration::MAX).expect("a Region is set");
        let error = aws.ec2().launch(&launch_request()).await.expect_err("no credentials");
        assert_eq!((error.class, error.code.as_str()), (Class::Denied, "Credentials"), "{error}");
    }
    assert_eq!(server.requests().len(), 0);
}

#[derive(Debug)]
struct NoCredentials(fn() -> CredentialsError);

impl ProvideCredentials for NoCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(self.0()))
    }
}

#[tokio::test]
async fn a_throttled_launch_empties_the_lane_and_a_call_without_patience_is_not_sent() {
    let server = serve(vec![ec2_error(503, "RequestLimitExceeded", "slow down"), launched()]).await;
    let ec2 = server.connect().ec2();
    let error = ec2.launch(&launch_request()).await.expect_err("throttled");
    assert_eq!((error.class, error.code.as_str()), (Class::Throttled, "RequestLimitExceeded"));
    let mut hurried = ec2.clone();
    hurried.sender.deadline_max = Duration::from_millis(100);
    let error = hurried.launch(&launch_request()).await.expect_err("the next token comes after a second");
    assert_eq!((error.class, error.code.as_str()), (Class::Throttled, LOCAL_RATE));
    assert_eq!(server.requests().len(), 1);
    ec2.launch(&launch_request()).await.expect("launched when the token came");
}

#[tokio::test]
async fn a_process_that_was_stopped_while_it_waited_for_its_token_sends_nothing() {
    let server = serve(vec![ec2_error(503, "RequestLimitExceeded", "slow down"), launched()]).await;
    let mut ec2 = server.connect().ec2();
    ec2.launch(&launch_request()).await.expect_err("throttled");
    ec2.sender.deadline_max = Duration::from_millis(1_200);
    // The next token comes after a second; nothing of this process runs until its patience is over.
    let (sender, stopped) = std::sync::mpsc::sync_channel::<()>(1);
    let request = launch_request();
    let (launched, _) = tokio::join!(ec2.launch(&request), async {
        stopped.recv_timeout(Duration::from_millis(1_300)).expect_err("nobody sends");
    });
    drop(sender);
    let error = launched.expect_err("it was sent after its deadline");
    assert_eq!((error.class, error.code.as_str()), (Class::Throttled, LOCAL_RATE));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn the_clock_is_measured_by_every_answer_good_or_bad() {
    for status in [200, 403] {
        let date = vec![("date", "Thu, 01 Jan 1970 00:00:00 GMT".to_owned())];
        let server = serve(vec![Reply::HangUp, Reply::Answer { status, headers: date, body: String::new() }]).await;
        let aws = server.connect();
        drop(aws.bucket("b").get(&key()).await);
        assert_eq!(aws.clock_ahead(), None, "nothing has answered yet");
        drop(aws.bucket("b").get(&key()).await);
        assert!(aws.clock_ahead().is_some_and(|ahead| ahead > 1_700_000_000), "{:?}", aws.clock_ahead());
    }
}

#[tokio::test]
async fn credentials_are_told_by_their_key_and_never_with_their_secret() {
    let server = serve(vec![Reply::HangUp]).await;
    let identity = server.connect().identity().await.expect("they are given");
    assert!(!identity.access_key.is_empty() && !identity.region.is_empty());
    assert!(!format!("{identity:?}").contains(&identity.access_key));
    let mut without = config();
    without.set_credentials_provider(None);
    let nobody = Aws::new(&without.build(), Duration::MAX).expect("a Region is set");
    let error = nobody.identity().await.expect_err("there are none");
    assert_eq!((error.class, error.code.as_str()), (Class::Denied, "Credentials"));
}

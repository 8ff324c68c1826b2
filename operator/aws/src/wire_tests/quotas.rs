//! Quotas over the wire.

use super::*;

fn told(value: &str) -> Reply {
    ok(&format!("{{\"Quota\":{{\"QuotaCode\":\"L-1216C47A\",\"Unit\":\"None\"{value}}}}}"))
}

fn asked(server: &Loopback) -> Vec<(String, String)> {
    let asked = |request: &Received| {
        let body = String::from_utf8(request.body.clone()).expect("text");
        (request.headers["x-amz-target"].clone(), body)
    };
    server.requests().iter().map(asked).collect()
}

const APPLIED: &str = "ServiceQuotasV20190624.GetServiceQuota";
const DEFAULT: &str = "ServiceQuotasV20190624.GetAWSDefaultServiceQuota";

#[tokio::test]
async fn an_applied_quota_is_what_holds() {
    let server = serve(vec![told(",\"Value\":1920.0")]).await;
    assert_eq!(server.connect().quotas().get(quota()).await, Ok(1_920.0));
    let body = "{\"ServiceCode\":\"ec2\",\"QuotaCode\":\"L-1216C47A\"}";
    assert_eq!(asked(&server), [(APPLIED.to_owned(), body.to_owned())]);
    let authorization = &server.requests()[0].headers["authorization"];
    assert!(authorization.contains("/eu-central-1/servicequotas/aws4_request"), "{authorization}");
}

#[tokio::test]
async fn where_none_is_applied_everybodys_holds_and_only_there() {
    let server = serve(vec![json_error(400, "NoSuchResourceException"), told(",\"Value\":5.0")]).await;
    assert_eq!(server.connect().quotas().get(quota()).await, Ok(5.0));
    let targets: Vec<_> = asked(&server).into_iter().map(|(target, _)| target).collect();
    assert_eq!(targets, [APPLIED, DEFAULT]);
    for (reply, class) in [
        (json_error(400, "AccessDeniedException"), Class::Denied),
        (json_error(400, "UnrecognizedClientException"), Class::Denied),
        (json_error(400, "InvalidSignatureException"), Class::Denied),
        (json_error(400, "TooManyRequestsException"), Class::Throttled),
        (json_error(400, "IllegalArgumentException"), Class::Invalid),
        (json_error(500, "ServiceException"), Class::Transient),
        (Reply::HangUp, Class::Transient),
    ] {
        let server = serve(vec![reply.clone()]).await;
        let error = server.connect().quotas().get(quota()).await.expect_err("an error");
        assert_eq!((error.class, error.call), (class, "GetServiceQuota"), "{reply:?} gave {error:?}");
        assert_eq!(server.requests().len(), 1, "sent once");
    }
}

#[tokio::test]
async fn what_there_is_not_is_not_found() {
    let server = serve(vec![json_error(400, "NoSuchResourceException")]).await;
    let error = server.connect().quotas().get(quota()).await.expect_err("there is none");
    assert_eq!((error.class, error.call), (Class::NotFound, "GetAWSDefaultServiceQuota"));
}

#[tokio::test]
async fn an_answer_without_a_value_is_none() {
    for reply in [told(""), told(",\"Value\":-1.0"), told(",\"Value\":\"NaN\""), ok("{}"), ok("<html>not AWS</html>")] {
        let server = serve(vec![reply.clone()]).await;
        let error = server.connect().quotas().get(quota()).await.expect_err("no value");
        assert_eq!((error.class, error.code.as_str()), (Class::Transient, "Reply"), "{reply:?}");
    }
}

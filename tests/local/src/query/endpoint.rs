//! The EC2 endpoint: who signed the request, what the account answers, and what the log and the faults make of it.

use std::time::Duration;

use drover_cloud::ec2::{ApiError, Caller};
use http::{Method, Request as HttpRequest, Response, StatusCode, header::DATE, request::Parts};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};

use super::{Answer, Request, xml::Xml};
use crate::{
    calls::{Call, Calls, is_mutating},
    clock::{self, ServiceClock},
    cloud::Cloud,
    keys::Keys,
    lost::LostReplies,
    s3::signing_key,
    serve::{Body, ReplyLost, text},
    sigv4::{self, Refused, Signed},
};

/// A request of 1,000 ids with 50 tags each is 500 kB.
const BODY_BYTES_MAX: usize = 1 << 20;
/// A client must have sent its request within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Answers EC2 requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub cloud: Cloud,
    pub region: String,
    pub keys: Keys,
    pub clock: ServiceClock,
    pub calls: Calls,
    pub lost: LostReplies,
}

impl Endpoint {
    /// Answers one request.
    pub async fn answer(&self, request: HttpRequest<Incoming>) -> Result<Response<Body>, ReplyLost> {
        let at_ms = clock::now().as_millisecond();
        let request_id = request_id();
        let (parts, body) = request.into_parts();
        let (action, target, answer) = match receive(body).await {
            Ok(body) => self.perform(&parts, &body, &request_id),
            Err(error) => (String::new(), String::new(), Answer::refused(error, false)),
        };
        let reply_lost = self.lost.takes_reply(&action);
        let (status, error, xml) = match answer.result {
            Ok(xml) => (StatusCode::OK, None, xml),
            Err(error) => {
                let xml = Xml::error(&error.code, &error.message, &request_id);
                (StatusCode::from_u16(error.http_status).unwrap_or(StatusCode::BAD_REQUEST), Some(error.code), xml)
            }
        };
        self.calls.record(Call {
            seq: 0,
            at_ms,
            service: "ec2".into(),
            action,
            access_key: signing_key(&parts.headers),
            mutating: answer.mutating,
            changed: answer.changed,
            status: status.as_u16(),
            error,
            reply_lost,
            target,
        });
        if reply_lost {
            return Err(ReplyLost);
        }
        let mut response = Response::new(text(xml));
        *response.status_mut() = status;
        response.headers_mut().insert(DATE, self.clock.date());
        response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/xml;charset=UTF-8"));
        Ok(response)
    }

    /// The action's name and what it was about, for the log, and the answer.
    fn perform(&self, parts: &Parts, body: &[u8], request_id: &str) -> (String, String, Answer) {
        // The Query API takes its parameters from the body of a POST or from the query of a GET.
        let request = match parts.method {
            Method::GET => Request::parse(parts.uri.query().unwrap_or_default().as_bytes()),
            Method::POST => Request::parse(body),
            _ => Err(ApiError::new("MalformedQueryString", "The method is neither GET nor POST")),
        };
        let (action, target) = request
            .as_ref()
            .map_or_else(|_| Default::default(), |request| (request.action().to_owned(), request.target()));
        let signed = Signed { method: &parts.method, uri: &parts.uri, headers: &parts.headers, body };
        let answer = match sigv4::verify(signed, &self.keys, &self.region, "ec2", self.clock.now()) {
            Err(error) => Answer::refused(refusal(&error), is_mutating(&action)),
            Ok(key) => match request {
                Err(error) => Answer::refused(error, false),
                Ok(request) => {
                    let called = self.cloud.call(&Caller::Operator(key.access_key), &request, request_id);
                    called.unwrap_or_else(|error| {
                        tracing::error!(%error, "a change of the account is not on disk");
                        // It is in memory, and with the next change that can be written it will be kept.
                        let error = ApiError::new("InternalError", "An internal error has occurred");
                        Answer { result: Err(error), mutating: is_mutating(&action), changed: is_mutating(&action) }
                    })
                }
            },
        };
        (action, target, answer)
    }
}

pub(crate) async fn receive(body: Incoming) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) => Err(ApiError::new("MalformedQueryString", format!("The request could not be read: {error}"))),
        Err(_elapsed) => Err(ApiError::new("RequestTimeout", "The request was not received in time")),
    }
}

fn refusal(error: &Refused) -> ApiError {
    let (code, status) = match error {
        Refused::MissingAuthenticationToken => ("MissingAuthenticationToken", 403),
        Refused::IncompleteSignature(_) => ("IncompleteSignature", 400),
        Refused::AuthFailure => ("AuthFailure", 401),
        Refused::RequestExpired => ("RequestExpired", 400),
        Refused::UnauthorizedOperation => ("UnauthorizedOperation", 403),
    };
    ApiError { code: code.into(), message: error.to_string(), http_status: status }
}

/// A UUID, as EC2 writes them.
#[expect(clippy::disallowed_methods, reason = "the edge: a request's id is in no decision")]
pub(crate) fn request_id() -> String {
    let hex = format!("{:032x}", rand::random::<u128>());
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

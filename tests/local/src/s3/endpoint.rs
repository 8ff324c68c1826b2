//! The S3 endpoint: `s3s` over our objects, with the log of calls and the fault that withholds answers.

use std::sync::Arc;

use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONNECTION, DATE},
};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use s3s::service::{S3Service, S3ServiceBuilder};

use super::{Access, Called, Objects, access::Operation, body::RequestBody};
use crate::{
    calls::{Call, Calls, is_mutating},
    clock::{self, ServiceClock},
    keys::{Keys, Principal},
    lost::LostReplies,
    serve::{Body, ReplyLost, text},
};

/// Answers S3 requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Endpoint {
    service: S3Service,
    clock: ServiceClock,
    calls: Calls,
    lost: LostReplies,
}

impl Endpoint {
    /// Serves `objects`; machines may use `bucket` only.
    pub fn new(
        objects: Objects,
        bucket: &str,
        keys: Keys,
        clock: ServiceClock,
        calls: Calls,
        lost: LostReplies,
    ) -> Self {
        let access = Access { keys, clock: clock.clone(), bucket: Arc::from(bucket) };
        let mut builder = S3ServiceBuilder::new(objects);
        builder.set_auth(access.clone());
        builder.set_access(access);
        Self { service: builder.build(), clock, calls, lost }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, ReplyLost> {
        let at_ms = clock::now().as_millisecond();
        let called = Called::default();
        let (parts, incoming) = request.into_parts();
        let body = RequestBody::new(incoming);
        let mut request = Request::from_parts(parts, s3s::Body::http_body(body.clone()));
        request.extensions_mut().insert(called.clone());
        let access_key = signing_key(request.headers());
        let method_and_path = format!("{} {}", request.method(), request.uri().path());
        let only_reads = [Method::GET, Method::HEAD].contains(request.method());
        let served = self.service.call(request).await;
        let called = called.take();
        let mut response = match served {
            Ok(response) => with_message(as_told_to(called.as_ref(), response)).await,
            Err(error) => {
                tracing::error!(?error, "s3s could not answer");
                let mut response = Response::new(text(String::new()));
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
            }
        };
        if !body.read_rest().await {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.headers_mut().insert(DATE, self.clock.date());
        let status = response.status();
        // A request that s3s refused before it knew the operation is logged by its method and path.
        let (action, target, mutating) = match called {
            Some(operation) => {
                let mutating = is_mutating(&operation.name);
                (operation.name, operation.target, mutating)
            }
            None => ("Refused".to_owned(), method_and_path, !only_reads),
        };
        let reply_lost = self.lost.takes_reply(&action);
        let failed = !(status.is_success() || status == StatusCode::NOT_MODIFIED);
        self.calls.record(Call {
            seq: 0,
            at_ms,
            service: "s3".into(),
            mutating,
            changed: mutating && !failed,
            action,
            access_key,
            status: status.as_u16(),
            error: failed.then(|| status.to_string()),
            reply_lost,
            target,
        });
        if reply_lost {
            // The body of a read is dropped unread; a write is in place already.
            drop(response.into_body().into_data_stream());
            return Err(ReplyLost);
        }
        Ok(response)
    }
}

/// Nobody may list without `s3:ListBucket`, which a machine's role lacks, and so nobody hears without it that an object is not
/// there: S3 denies access instead (API Reference of GetObject, "Permissions").
fn as_told_to(operation: Option<&Operation>, response: s3s::HttpResponse) -> s3s::HttpResponse {
    let by_machine = operation.is_some_and(|it| matches!(it.principal, Some(Principal::Machine { .. })));
    if response.status() != StatusCode::NOT_FOUND || !by_machine {
        return response;
    }
    let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>AccessDenied</Code></Error>";
    let mut denied = response.map(|_| s3s::Body::from(body.to_owned()));
    *denied.status_mut() = StatusCode::FORBIDDEN;
    denied
}

/// An error of S3 has a message, which `s3s` leaves out of its own; clients print nothing else.
async fn with_message(response: s3s::HttpResponse) -> Response<Body> {
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    if !is_error {
        return response.map(Body::new);
    }
    let (mut parts, body) = response.into_parts();
    let bytes = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => {
            tracing::error!(%error, "an error could not be read");
            hyper::body::Bytes::new()
        }
    };
    let xml = String::from_utf8_lossy(&bytes);
    let code = xml.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    let xml = match code {
        Some(code) if !xml.contains("<Message>") => {
            xml.replacen("</Code>", &format!("</Code><Message>{}</Message>", message(code)), 1)
        }
        _ => xml.into_owned(),
    };
    parts.headers.remove("content-length");
    Response::from_parts(parts, text(xml))
}

/// The words of S3's list of error responses, for those that people meet.
fn message(code: &str) -> &str {
    match code {
        "AccessDenied" => "Access Denied",
        "NoSuchKey" => "The specified key does not exist.",
        "ExpiredToken" => "The provided token has expired.",
        "NoSuchBucket" => "The specified bucket does not exist.",
        "NoSuchUpload" => "The specified multipart upload does not exist.",
        "SignatureDoesNotMatch" => {
            "The request signature we calculated does not match the signature you provided. Check your key and signing method."
        }
        code => code,
    }
}

/// The access key that a request names, without believing it; empty where it names none.
pub fn signing_key(headers: &http::HeaderMap) -> String {
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let credential = authorization.split_once("Credential=").map_or("", |(_, rest)| rest);
    credential.split('/').next().unwrap_or_default().chars().take(128).collect()
}

#[cfg(test)]
mod tests;

//! AWS Signature Version 4 as EC2 checks it: who signed this request, with which key, and when.
//!
//! Recomputed from the published algorithm (IAM User Guide, "Create a signed AWS API request") and tested against requests
//! that the `aws-sigv4` crate signed, so that neither side can be wrong in the same way.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, Method, Uri};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};

use crate::keys::{Key, Keys, Principal};

/// How far a request's date may be from ours (EC2 API Reference, `RequestExpired`; S3's `RequestTimeTooSkewed`).
const SKEW_MAX: Duration = Duration::from_mins(15);

/// What RFC 3986 leaves unreserved is not encoded in a canonical query.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Why a request's signature was not accepted. The names are EC2's own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("Request must contain either a valid (registered) AWS access key ID or X.509 certificate.")]
    MissingAuthenticationToken,
    #[error("the authorization header is malformed: {0}")]
    IncompleteSignature(&'static str),
    #[error("AWS was not able to validate the provided access credentials")]
    AuthFailure,
    #[error("Request has expired.")]
    RequestExpired,
    #[error("You are not authorized to perform this operation.")]
    UnauthorizedOperation,
}

/// A request as it was signed.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    pub method: &'a Method,
    pub uri: &'a Uri,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

/// Verifies that an operator's key signed this request for `service` in `region`, at about `now`.
///
/// A machine's role is known, and refused: no action of EC2 is in its policy.
pub fn verify(request: Signed<'_>, keys: &Keys, region: &str, service: &str, now: Timestamp) -> Result<Key, Refused> {
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let authorization = Authorization::parse(header("authorization").ok_or(Refused::MissingAuthenticationToken)?)?;
    let date = header("x-amz-date").ok_or(Refused::IncompleteSignature("x-amz-date is missing"))?;
    let at = parse_date(date).ok_or(Refused::IncompleteSignature("x-amz-date is not a date"))?;
    let scope = format!("{}/{region}/{service}/aws4_request", &date[..8]);
    if authorization.scope != scope {
        return Err(Refused::AuthFailure);
    }
    let key = keys.find(authorization.access_key).ok_or(Refused::AuthFailure)?;
    let canonical = canonical_request(request, authorization.signed_headers)?;
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
    let signing_key = [&date[..8], region, service, "aws4_request"]
        .iter()
        .fold(format!("AWS4{}", key.secret).into_bytes(), |key, part| mac(&key, part).finalize().into_bytes().to_vec());
    let signature = hex::decode(authorization.signature).map_err(|_| Refused::AuthFailure)?;
    mac(&signing_key, &to_sign).verify_slice(&signature).map_err(|_| Refused::AuthFailure)?;
    if is_skewed(at, now) {
        return Err(Refused::RequestExpired);
    }
    if header("x-amz-security-token") != key.token() {
        return Err(Refused::AuthFailure);
    }
    if key.has_expired(now) {
        return Err(Refused::RequestExpired);
    }
    match key.principal {
        Principal::Operator => Ok(key),
        Principal::Machine { .. } => Err(Refused::UnauthorizedOperation),
    }
}

/// Whether a request dated `at` is too old or too young at `now`.
pub fn is_skewed(at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(at).unsigned_abs() > SKEW_MAX
}

struct Authorization<'a> {
    access_key: &'a str,
    scope: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn parse(text: &'a str) -> Result<Self, Refused> {
        let incomplete = Refused::IncompleteSignature;
        let fields =
            text.strip_prefix("AWS4-HMAC-SHA256 ").ok_or(incomplete("the algorithm is not AWS4-HMAC-SHA256"))?;
        let field =
            |name: &'static str| fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='));
        let credential = field("Credential").ok_or(incomplete("it has no Credential"))?;
        let (access_key, scope) = credential.split_once('/').ok_or(incomplete("its Credential has no scope"))?;
        let signed_headers = field("SignedHeaders").ok_or(incomplete("it has no SignedHeaders"))?;
        let signature = field("Signature").ok_or(incomplete("it has no Signature"))?;
        Ok(Self { access_key, scope, signed_headers, signature })
    }
}

fn canonical_request(request: Signed<'_>, signed_headers: &str) -> Result<String, Refused> {
    let signs = |name: &str| signed_headers.split(';').any(|signed| signed == name);
    if !signs("host") || !signs("x-amz-date") {
        return Err(Refused::IncompleteSignature("host and x-amz-date are not signed"));
    }
    let mut headers = String::new();
    for name in signed_headers.split(';') {
        let values: Vec<&str> = request.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        if values.is_empty() {
            return Err(Refused::IncompleteSignature("a signed header is missing"));
        }
        let values = values.iter().map(|value| value.split_whitespace().collect::<Vec<_>>().join(" "));
        headers.push_str(&format!("{name}:{}\n", values.collect::<Vec<_>>().join(",")));
    }
    let mut query: Vec<(String, String)> = request.uri.query().map(pairs).unwrap_or_default();
    query.sort();
    let query = query
        .iter()
        .map(|(name, value)| {
            format!("{}={}", utf8_percent_encode(name, RESERVED), utf8_percent_encode(value, RESERVED))
        })
        .collect::<Vec<_>>()
        .join("&");
    let payload = hex::encode(Sha256::digest(request.body));
    let path = request.uri.path();
    Ok(format!("{}\n{path}\n{query}\n{headers}\n{signed_headers}\n{payload}", request.method))
}

fn pairs(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pair = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (decode(name), decode(value))
    };
    query.split('&').filter(|text| !text.is_empty()).map(pair).collect()
}

fn mac(key: &[u8], data: &str) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.chain_update(data.as_bytes())
}

/// Reads `x-amz-date`.
pub fn parse_date(text: &str) -> Option<Timestamp> {
    if text.len() != 16 || !text.is_ascii() {
        return None;
    }
    jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text)
        .ok()?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()
        .map(|at| at.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keys::SessionToken, testing::signed};

    fn check(
        change: impl FnOnce(&mut http::Request<Vec<u8>>),
        key: (&str, &str, Option<&str>),
        now: &str,
    ) -> Option<Refused> {
        let at: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let request = http::Request::builder()
            .method("POST")
            .uri("http://127.0.0.1:8000/?b=2&a=%2F%20x")
            .header("host", "127.0.0.1:8000")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(b"Action=DescribeInstances".to_vec())
            .unwrap();
        let mut request = signed("ec2", key, request, at.into());
        change(&mut request);
        let keys = Keys::new("AKIA", "secret");
        keys.add(Key {
            access_key: "ASIA".into(),
            secret: "session".into(),
            session: Some(SessionToken { token: "token".into(), expires: "2026-01-02T03:15:00Z".parse().unwrap() }),
            principal: Principal::Machine { instance: "i-1".into(), set: None },
        });
        let (parts, body) = request.into_parts();
        let signed = Signed { method: &parts.method, uri: &parts.uri, headers: &parts.headers, body: &body };
        verify(signed, &keys, "local-1", "ec2", now.parse().unwrap()).err()
    }

    #[test]
    fn only_what_the_operator_signed_is_accepted() {
        let operator = ("AKIA", "secret", None);
        let soon = "2026-01-02T03:10:00Z";
        let same = |_: &mut http::Request<Vec<u8>>| {};
        assert_eq!(check(same, operator, soon), None);
        assert_eq!(check(same, operator, "2026-01-02T03:18:00Z"), None);
        assert_eq!(check(same, operator, "2026-01-02T03:20:00Z"), Some(Refused::RequestExpired));
        assert_eq!(check(same, operator, "2026-01-02T02:48:00Z"), Some(Refused::RequestExpired));
        assert_eq!(check(same, ("AKIA", "wrong", None), soon), Some(Refused::AuthFailure));
        assert_eq!(check(same, ("AKIB", "secret", None), soon), Some(Refused::AuthFailure));
        assert_eq!(check(same, ("ASIA", "session", Some("token")), soon), Some(Refused::UnauthorizedOperation));
        assert_eq!(
            check(same, ("ASIA", "session", Some("token")), "2026-01-02T03:14:59Z"),
            Some(Refused::UnauthorizedOperation)
        );
        assert_eq!(
            check(same, ("ASIA", "session", Some("token")), "2026-01-02T03:15:00Z"),
            Some(Refused::RequestExpired)
        );
        assert_eq!(check(same, ("ASIA", "session", Some("other")), soon), Some(Refused::AuthFailure));
        assert_eq!(check(same, ("ASIA", "session", None), soon), Some(Refused::AuthFailure));
        assert_eq!(check(|request| request.body_mut().push(b'x'), operator, soon), Some(Refused::AuthFailure));
        let other_query = |request: &mut http::Request<Vec<u8>>| *request.uri_mut() = "/?a=3".parse().unwrap();
        assert_eq!(check(other_query, operator, soon), Some(Refused::AuthFailure));
        let unsigned = |request: &mut http::Request<Vec<u8>>| {
            request.headers_mut().remove("authorization");
        };
        assert_eq!(check(unsigned, operator, soon), Some(Refused::MissingAuthenticationToken));
    }
}

//! Service Quotas in the AWS JSON protocol, at the EC2 endpoint's port: what of the account's quotas can be asked.
//!
//! The shapes are those of the published service model (2019-06-24). An action or a member that is not known here is refused by
//! name.

use drover_cloud::ec2::{Ec2, STANDARD_VCPUS};
use http::{HeaderValue, Method, Request, Response, StatusCode, header::DATE, request::Parts};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    calls::Call,
    clock,
    query::{Endpoint, receive, request_id},
    s3::signing_key,
    serve::{Body, ReplyLost, text},
    sigv4::{self, Refused, Signed},
};

/// As it is signed for, and as IAM names it.
pub const SERVICE: &str = "servicequotas";

/// Every action there is.
pub const ACTIONS: [&str; 2] = [APPLIED, DEFAULT];
const APPLIED: &str = "GetServiceQuota";
const DEFAULT: &str = "GetAWSDefaultServiceQuota";

/// Says which service and action a request asks for.
const TARGET: &str = "x-amz-target";
const VERSION: &str = "ServiceQuotasV20190624";

/// A quota, and what everybody has of it.
struct Quota {
    service: &'static str,
    code: &'static str,
    name: &'static str,
    default: u32,
}

const QUOTAS: [Quota; 5] = [
    Quota {
        service: "ec2",
        code: STANDARD_VCPUS,
        name: "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances",
        default: 5,
    },
    storage("L-7A658B76", "Storage for General Purpose SSD (gp3) volumes, in TiB", 50),
    storage("L-D18FCD1D", "Storage for General Purpose SSD (gp2) volumes, in TiB", 50),
    storage("L-FD252861", "Storage for Provisioned IOPS SSD (io1) volumes, in TiB", 50),
    storage("L-09BD8365", "Storage for Provisioned IOPS SSD (io2) volumes, in TiB", 20),
];

/// What is told of vCPUs where the account has no limit: more than any box has machines for.
const NO_LIMIT: u32 = 1_000_000;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Asked {
    service_code: String,
    quota_code: String,
}

/// An error: its name, and a sentence.
type Failure = (&'static str, String);

/// Whether a request is for this service, which shares its port.
pub fn is_asked<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(TARGET)
}

/// A code, as the command line takes it.
pub fn code(text: &str) -> Result<String, String> {
    match QUOTAS.iter().find(|quota| quota.code == text) {
        Some(quota) => Ok(quota.code.to_owned()),
        None => Err(format!("it is one of {}", QUOTAS.map(|quota| quota.code).join(", "))),
    }
}

/// Answers one request.
pub async fn answer(at: &Endpoint, request: Request<Incoming>) -> Result<Response<Body>, ReplyLost> {
    let at_ms = clock::now().as_millisecond();
    let (parts, body) = request.into_parts();
    let target = parts.headers.get(TARGET).and_then(|target| target.to_str().ok()).unwrap_or_default();
    let action = target.strip_prefix(VERSION).and_then(|rest| rest.strip_prefix('.')).unwrap_or(target).to_owned();
    let (asked, answer) = match receive(body).await {
        Ok(body) => (serde_json::from_slice(&body).ok(), perform(at, &parts, &action, &body)),
        Err(error) => (None, Err(("SerializationException", error.message))),
    };
    let reply_lost = at.lost.takes_reply(&action);
    let (status, error, json) = match answer {
        Ok(json) => (StatusCode::OK, None, json),
        Err((code, message)) => {
            (StatusCode::BAD_REQUEST, Some(code.to_owned()), json!({ "__type": code, "Message": message }))
        }
    };
    at.calls.record(Call {
        seq: 0,
        at_ms,
        service: SERVICE.into(),
        action,
        access_key: signing_key(&parts.headers),
        mutating: false,
        changed: false,
        status: status.as_u16(),
        error,
        reply_lost,
        target: asked
            .map(|Asked { service_code, quota_code }| format!("{service_code}/{quota_code}"))
            .unwrap_or_default(),
    });
    if reply_lost {
        return Err(ReplyLost);
    }
    let mut response = Response::new(text(json.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(DATE, at.clock.date());
    headers.insert("content-type", HeaderValue::from_static("application/x-amz-json-1.1"));
    headers.insert("x-amzn-requestid", HeaderValue::from_str(&request_id()).expect("hex digits and dashes"));
    Ok(response)
}

fn perform(at: &Endpoint, parts: &Parts, action: &str, body: &[u8]) -> Result<Value, Failure> {
    let Parts { method, uri, headers, .. } = parts;
    let signed = Signed { method, uri, headers, body };
    sigv4::verify(signed, &at.keys, &at.region, SERVICE, at.clock.now()).map_err(|error| refusal(&error))?;
    if parts.method != Method::POST || !ACTIONS.contains(&action) {
        return Err(("UnknownOperationException", format!("{action} is not known here")));
    }
    let asked: Asked = serde_json::from_slice(body).map_err(|error| ("SerializationException", error.to_string()))?;
    at.cloud.look(|ec2, _| {
        let permission = format!("{SERVICE}:{action}");
        if ec2.is_denied(&permission) {
            let user = format!("arn:aws:iam::{}:user/operator", ec2.account().owner_id);
            let why = format!("no identity-based policy allows the {permission} action");
            return Err((
                "AccessDeniedException",
                format!("User: {user} is not authorized to perform: {permission} because {why}"),
            ));
        }
        quota(ec2, action, &asked)
    })
}

/// Of a quota that the account has no value of its own of, only what everybody has is told.
fn quota(ec2: &Ec2, action: &str, asked: &Asked) -> Result<Value, Failure> {
    let none = |what: &str| ("NoSuchResourceException", format!("The request failed because {what} does not exist."));
    let of_service = || QUOTAS.iter().filter(|quota| quota.service == asked.service_code);
    if of_service().next().is_none() {
        return Err(none(&format!("the service {}", asked.service_code)));
    }
    let quota = of_service().find(|quota| quota.code == asked.quota_code);
    let quota = quota.ok_or_else(|| none(&format!("the quota {}", asked.quota_code)))?;
    let own = ec2.quota(quota.code).or((quota.code == STANDARD_VCPUS).then_some(NO_LIMIT));
    let value = if action == DEFAULT { Some(quota.default) } else { own };
    let value = value.ok_or_else(|| none(&format!("an applied value of the quota {}", asked.quota_code)))?;
    let Quota { service, code, name, .. } = quota;
    let (region, owner) = (&ec2.account().region, &ec2.account().owner_id);
    let owner = if action == DEFAULT { "" } else { owner };
    Ok(json!({ "Quota": {
        "ServiceCode": service,
        "ServiceName": if *service == "ec2" { EC2 } else { EBS },
        "QuotaArn": format!("arn:aws:servicequotas:{region}:{owner}:{service}/{code}"),
        "QuotaCode": code,
        "QuotaName": name,
        "Value": f64::from(value),
        "Unit": "None",
        "Adjustable": true,
        "GlobalQuota": false,
    } }))
}

const EC2: &str = "Amazon Elastic Compute Cloud (Amazon EC2)";
const EBS: &str = "Amazon Elastic Block Store (Amazon EBS)";

const fn storage(code: &'static str, name: &'static str, default: u32) -> Quota {
    Quota { service: "ebs", code, name, default }
}

/// "Common errors" of the API; a signature that is not ours is answered as an unknown key.
fn refusal(error: &Refused) -> Failure {
    match error {
        Refused::MissingAuthenticationToken => {
            ("MissingAuthenticationTokenException", "Missing Authentication Token".into())
        }
        Refused::IncompleteSignature(_) => ("IncompleteSignatureException", error.to_string()),
        Refused::AuthFailure => {
            ("UnrecognizedClientException", "The security token included in the request is invalid.".into())
        }
        Refused::RequestExpired => ("InvalidSignatureException", "Signature expired".into()),
        Refused::UnauthorizedOperation => ("AccessDeniedException", error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use drover_cloud::ec2::Account;

    use super::*;

    fn value(ec2: &Ec2, action: &str, service: &str, code: &str) -> Result<f64, &'static str> {
        let asked = Asked { service_code: service.into(), quota_code: code.into() };
        let told = quota(ec2, action, &asked).map_err(|(code, _)| code)?;
        assert_eq!((&told["Quota"]["QuotaCode"], &told["Quota"]["ServiceCode"]), (&json!(code), &json!(service)));
        Ok(told["Quota"]["Value"].as_f64().expect("a number"))
    }

    #[test]
    fn the_accounts_own_value_is_told_where_it_has_one_and_everybodys_where_that_is_asked() {
        let mut ec2 = Ec2::new(Account::new("local-1"), 7);
        let none = Err("NoSuchResourceException");
        assert_eq!(value(&ec2, APPLIED, "ec2", STANDARD_VCPUS), Ok(f64::from(NO_LIMIT)));
        assert_eq!(value(&ec2, APPLIED, "ebs", "L-7A658B76"), none);
        ec2.faults().quotas.extend([(STANDARD_VCPUS.to_owned(), 8), ("L-7A658B76".to_owned(), 0)]);
        assert_eq!(value(&ec2, APPLIED, "ec2", STANDARD_VCPUS), Ok(8.0));
        assert_eq!(value(&ec2, APPLIED, "ebs", "L-7A658B76"), Ok(0.0));
        assert_eq!(value(&ec2, DEFAULT, "ec2", STANDARD_VCPUS), Ok(5.0));
        assert_eq!(value(&ec2, DEFAULT, "ebs", "L-7A658B76"), Ok(50.0));
        for (service, code) in [("ebs", STANDARD_VCPUS), ("ec2", "L-00000000"), ("rds", STANDARD_VCPUS)] {
            assert_eq!(value(&ec2, DEFAULT, service, code), none, "{service} {code}");
        }
    }

    #[test]
    fn a_code_that_is_not_known_is_refused_with_those_that_are() {
        assert_eq!(code("L-09BD8365"), Ok("L-09BD8365".to_owned()));
        assert!(code("L-09BD8366").is_err_and(|known| known.contains("L-1216C47A, L-7A658B76")));
    }
}

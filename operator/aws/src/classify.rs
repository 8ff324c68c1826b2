//! What went wrong, by what it asks of us: from the codes of EC2 and S3, the HTTP status and the SDK's own errors to a
//! class. Codes from "Error codes for the Amazon EC2 API" and "Error responses" of the Amazon S3 API.

use std::{error::Error, time::SystemTime};

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::{DateTime, date_time::Format, error::metadata::ProvideErrorMetadata};
use drover_cloud::{Class, CloudError};

use crate::calls::{self, Call};

/// A code that stands for one class whatever the call.
const CODES: &[(Class, &[&str])] = &[
    (
        Class::Throttled,
        &[
            "RequestLimitExceeded",
            "Throttling",
            "ThrottlingException",
            "RequestThrottled",
            "EC2ThrottledException",
            "PriorRequestNotComplete",
            "SlowDown",
            "TooManyRequestsException",
        ],
    ),
    (
        // The last three: what arrived was not what we sent, so the same again.
        Class::Transient,
        &[
            "InternalError",
            "InternalFailure",
            "ServerInternal",
            "ServiceUnavailable",
            "Unavailable",
            "RequestTimeout",
            "RequestTimeoutException",
            "BadDigest",
            "IncompleteBody",
            "XAmzContentChecksumMismatch",
            "XAmzContentSHA256Mismatch",
        ],
    ),
    (
        // NoSuchKey is S3's; EC2's are `Invalid<Resource>.NotFound`, below.
        Class::NotFound,
        &["NoSuchKey", "NoSuchVersion"],
    ),
    (
        Class::WrongState,
        &[
            "IncorrectInstanceState",
            "IncorrectState",
            "IncorrectStateException",
            "VolumeInUse",
            "DependencyViolation",
            "ConcurrentTagAccess",
        ],
    ),
    (
        Class::Capacity,
        &[
            "InsufficientInstanceCapacity",
            "InsufficientHostCapacity",
            "InsufficientReservedInstanceCapacity",
            "InsufficientFreeAddressesInSubnet",
            "InsufficientVolumeCapacity",
            "InsufficientCapacity",
            "UnfulfillableCapacity",
            "Unsupported",
            "VolumeTypeNotAvailableInZone",
            "MaxSpotInstanceCountExceeded",
        ],
    ),
    (
        Class::Quota,
        &[
            "VcpuLimitExceeded",
            "InstanceLimitExceeded",
            "VolumeLimitExceeded",
            "MaxIOPSLimitExceeded",
            "TagLimitExceeded",
            "AddressLimitExceeded",
            "AttachmentLimitExceeded",
            "SecurityGroupsPerInstanceLimitExceeded",
            "ResourceLimitExceeded",
            "PendingVerification",
        ],
    ),
    (Class::TokenMismatch, &["IdempotentParameterMismatch"]),
    (Class::TokenSpent, &["IdempotentInstanceTerminated"]),
    (
        // OperationAborted: a conflicting conditional operation on the same object is under way.
        Class::Conflict,
        &["PreconditionFailed", "ConditionalRequestConflict", "OperationAborted"],
    ),
    (
        // RequestExpired is EC2's word for a clock that is wrong, RequestTimeTooSkewed S3's.
        Class::Denied,
        &[
            "UnauthorizedOperation",
            "AuthFailure",
            "OptInRequired",
            "Blocked",
            "AccessDenied",
            "AccessDeniedException",
            "AllAccessDisabled",
            "AccountProblem",
            "ExpiredToken",
            "ExpiredTokenException",
            "IncompleteSignature",
            "InvalidAccessKeyId",
            "InvalidClientTokenId",
            "InvalidSecurity",
            "InvalidToken",
            "MissingAuthenticationToken",
            "NotSignedUp",
            "RequestExpired",
            "RequestTimeTooSkewed",
            "SignatureDoesNotMatch",
            "TokenRefreshRequired",
            "UnrecognizedClientException",
        ],
    ),
    (
        // An image is named by the spec, so one that is not there is a wrong spec; a missing bucket a wrong configuration.
        Class::Invalid,
        &[
            "InvalidAMIID.NotFound",
            "InvalidAMIID.Unavailable",
            "InvalidAMIID.Malformed",
            "NoSuchBucket",
            "PermanentRedirect",
            "AuthorizationHeaderMalformed",
        ],
    ),
];

/// A difference between our clock and the cloud's that a message names when access is denied. AWS refuses signatures from
/// 5 minutes on (EC2) or 15 (S3); a healthy machine is within a second.
const SKEW_SECONDS_NAMED: i64 = 60;

/// Our code for an answer that cannot be read.
pub(crate) const UNREADABLE: &str = "Reply";

/// Bounds a message that goes into conditions and events; EC2's encoded authorisation messages are longer.
const MESSAGE_CHARS_MAX: usize = 600;

/// The class of an error that the service itself answered with. `code` is empty where the answer had none, as an S3 answer
/// without a body or a proxy's page.
pub fn class(call: &Call, code: &str, message: &str, status: u16) -> Class {
    let ends_machines = [calls::TERMINATE_INSTANCES.action, calls::STOP_INSTANCES.action].contains(&call.action);
    if code == "OperationNotPermitted" && ends_machines {
        return Class::Protected;
    }
    // A new instance profile needs seconds to minutes until EC2 sees it, and EC2 says so only in the text.
    if code == "InvalidParameterValue" && message.contains("Invalid IAM Instance Profile") {
        return Class::NotVisibleYet;
    }
    if let Some((class, _)) = CODES.iter().find(|(_, codes)| codes.contains(&code)) {
        return *class;
    }
    // InvalidInstanceID.NotFound, InvalidVolume.NotFound and their kin. Whether ours is merely not visible yet, the caller
    // knows: it remembers when it was made.
    if code.starts_with("Invalid") && code.ends_with(".NotFound") {
        return Class::NotFound;
    }
    let is_s3 = call.rate.is_none();
    match status {
        429 => Class::Throttled,
        408 | 500.. => Class::Transient,
        401 | 403 => Class::Denied,
        409 | 412 if is_s3 => Class::Conflict,
        // The call succeeded and the answer cannot be read.
        200..300 => Class::Transient,
        _ => Class::Invalid,
    }
}

/// A failed call of the SDK, `now` being this machine's time when it failed.
pub(crate) fn refused<E>(call: &Call, error: &SdkError<E, HttpResponse>, now: SystemTime) -> CloudError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::ServiceError(service) => {
            let (raw, error) = (service.raw(), service.err());
            let code = error.code().unwrap_or_default();
            let status = raw.status().as_u16();
            let message = match error.message() {
                Some(message) => message.to_owned(),
                None => described(error),
            };
            let class = class(call, code, &message, status);
            let message = match skew_seconds(raw, now) {
                Some(skew) if class == Class::Denied => format!("{message} ({})", skew_words(skew)),
                _ => message,
            };
            let code = match status {
                _ if !code.is_empty() => code.to_owned(),
                200..300 => UNREADABLE.to_owned(),
                _ => format!("Http{status}"),
            };
            failed(class, call, &code, &message)
        }
        // The service answered, and the answer could not be read: what was asked may have been done.
        SdkError::ResponseError(_) => failed(Class::Transient, call, UNREADABLE, &described(error)),
        SdkError::TimeoutError(_) => failed(Class::Transient, call, "Timeout", &described(error)),
        SdkError::DispatchFailure(dispatch) => match credentials_error(error) {
            Some(credentials) => failed(credentials_class(credentials), call, "Credentials", &described(error)),
            None if dispatch.is_user() => failed(Class::Invalid, call, "Request", &described(error)),
            None => failed(Class::Transient, call, "Connection", &described(error)),
        },
        SdkError::ConstructionFailure(_) => failed(Class::Invalid, call, "Request", &described(error)),
        // The SDK may grow kinds; of one that we do not know, nobody can say whether the request was sent.
        _ => failed(Class::Transient, call, "Unknown", &described(error)),
    }
}

/// An error of the call with a bounded message.
pub(crate) fn failed(class: Class, call: &Call, code: &str, message: &str) -> CloudError {
    let mut message = message.to_owned();
    if let Some((end, _)) = message.char_indices().nth(MESSAGE_CHARS_MAX) {
        message.truncate(end);
        message.push('…');
    }
    CloudError::new(class, call.action, code, message)
}

/// An error with its causes, without the Debug form that the SDK's own DisplayErrorContext appends.
fn described(error: &(dyn Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}

/// Where credentials could not be had, the request was never sent; the SDK reports it as a failure to dispatch.
fn credentials_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CredentialsError> {
    let mut source = Some(error);
    while let Some(cause) = source {
        if let Some(credentials) = cause.downcast_ref() {
            return Some(credentials);
        }
        source = cause.source();
    }
    None
}

/// None to be found, or a wrong configuration: a person must act. A source that failed or was slow may answer next time.
fn credentials_class(error: &CredentialsError) -> Class {
    match error {
        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_) => Class::Denied,
        _ => Class::Transient,
    }
}

/// How far our clock is ahead of the service's, where that is worth telling.
fn skew_seconds(response: &HttpResponse, now: SystemTime) -> Option<i64> {
    let date = DateTime::from_str(response.headers().get("date")?, Format::HttpDate).ok()?;
    let ahead = DateTime::from(now).secs() - date.secs();
    (ahead.abs() >= SKEW_SECONDS_NAMED).then_some(ahead)
}

fn skew_words(ahead: i64) -> String {
    let side = if ahead > 0 { "ahead of" } else { "behind" };
    format!("clock skew: this machine's clock is {} s {side} the cloud's", ahead.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::{DELETE_VOLUME, GET_OBJECT, MODIFY_INSTANCE_ATTRIBUTE, POWER_OFF, PUT_OBJECT, RUN_INSTANCES};
    use crate::calls::{STOP_INSTANCES, TERMINATE_INSTANCES};

    fn check(expected: Class, rows: &[(&Call, &str, u16)]) {
        for (call, code, status) in rows {
            assert_eq!(class(call, code, "", *status), expected, "{} {code:?} {status}", call.action);
        }
    }

    fn check_codes(expected: Class, codes: &[&str]) {
        for code in codes {
            for (call, status) in
                [(&RUN_INSTANCES, 400), (&RUN_INSTANCES, 503), (&GET_OBJECT, 400), (&DELETE_VOLUME, 500)]
            {
                check(expected, &[(call, code, status)]);
            }
        }
    }

    #[test]
    fn a_code_decides_whatever_the_status() {
        use Class::*;
        let table: &[(Class, &str)] = &[
            (Throttled, "RequestLimitExceeded Throttling ThrottlingException RequestThrottled EC2ThrottledException"),
            (Throttled, "PriorRequestNotComplete SlowDown TooManyRequestsException"),
            (Transient, "InternalError InternalFailure ServerInternal ServiceUnavailable Unavailable RequestTimeout"),
            (Transient, "BadDigest XAmzContentSHA256Mismatch"),
            (WrongState, "IncorrectInstanceState IncorrectState VolumeInUse DependencyViolation ConcurrentTagAccess"),
            (Capacity, "InsufficientInstanceCapacity InsufficientHostCapacity InsufficientReservedInstanceCapacity"),
            (
                Capacity,
                "InsufficientFreeAddressesInSubnet InsufficientVolumeCapacity UnfulfillableCapacity Unsupported",
            ),
            (Capacity, "VolumeTypeNotAvailableInZone MaxSpotInstanceCountExceeded"),
            (
                Quota,
                "VcpuLimitExceeded InstanceLimitExceeded VolumeLimitExceeded TagLimitExceeded AddressLimitExceeded",
            ),
            (TokenMismatch, "IdempotentParameterMismatch"),
            (TokenSpent, "IdempotentInstanceTerminated"),
            (Denied, "UnauthorizedOperation AuthFailure OptInRequired AccessDenied ExpiredToken InvalidClientTokenId"),
            (Denied, "SignatureDoesNotMatch RequestTimeTooSkewed RequestExpired InvalidAccessKeyId"),
            (
                NotFound,
                "InvalidInstanceID.NotFound InvalidVolume.NotFound InvalidGroup.NotFound InvalidSubnetID.NotFound",
            ),
            (NotFound, "InvalidNetworkInterfaceID.NotFound NoSuchKey"),
            (Invalid, "InvalidAMIID.NotFound InvalidAMIID.Unavailable InvalidAMIID.Malformed NoSuchBucket"),
            (Conflict, "PreconditionFailed ConditionalRequestConflict"),
        ];
        for (class, codes) in table {
            check_codes(*class, &codes.split(' ').collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_code_stands_in_two_classes() {
        let mut codes: Vec<_> = CODES.iter().flat_map(|(_, codes)| codes.iter()).collect();
        let all = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), all);
    }

    #[test]
    fn an_unknown_code_is_judged_by_its_status() {
        check(
            Class::Invalid,
            &[
                (&RUN_INSTANCES, "InvalidParameterValue", 400),
                (&RUN_INSTANCES, "InvalidParameterCombination", 400),
                (&RUN_INSTANCES, "InvalidUserData.Malformed", 400),
                (&RUN_INSTANCES, "NeverHeardOf", 400),
                (&RUN_INSTANCES, "NeverHeardOf", 404),
                (&RUN_INSTANCES, "", 400),
                (&PUT_OBJECT, "", 301),
            ],
        );
        check(
            Class::Transient,
            &[
                (&RUN_INSTANCES, "NeverHeardOf", 500),
                (&RUN_INSTANCES, "", 502),
                (&GET_OBJECT, "", 503),
                (&GET_OBJECT, "", 504),
                (&GET_OBJECT, "", 408),
                (&RUN_INSTANCES, "", 200),
            ],
        );
        check(Class::Throttled, &[(&RUN_INSTANCES, "", 429)]);
        check(Class::Denied, &[(&GET_OBJECT, "", 403), (&RUN_INSTANCES, "NeverHeardOf", 401)]);
    }

    #[test]
    fn a_lost_condition_is_a_conflict_on_s3_only() {
        check(Class::Conflict, &[(&PUT_OBJECT, "", 412), (&PUT_OBJECT, "", 409)]);
        check(Class::Invalid, &[(&RUN_INSTANCES, "DryRunOperation", 412), (&RUN_INSTANCES, "", 409)]);
    }

    #[test]
    fn only_ending_a_machine_runs_into_its_protection() {
        check(
            Class::Protected,
            &[
                (&TERMINATE_INSTANCES, "OperationNotPermitted", 400),
                (&STOP_INSTANCES, "OperationNotPermitted", 400),
                (&POWER_OFF, "OperationNotPermitted", 400),
            ],
        );
        check(
            Class::Invalid,
            &[
                (&MODIFY_INSTANCE_ATTRIBUTE, "OperationNotPermitted", 400),
                (&DELETE_VOLUME, "OperationNotPermitted", 400),
            ],
        );
    }

    #[test]
    fn a_new_instance_profile_is_not_visible_yet() {
        let text = "Value (db) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name";
        assert_eq!(class(&RUN_INSTANCES, "InvalidParameterValue", text, 400), Class::NotVisibleYet);
    }

    #[test]
    fn a_long_message_is_cut() {
        let error = failed(Class::Denied, &RUN_INSTANCES, "UnauthorizedOperation", &"é".repeat(5_000));
        assert_eq!(error.message.chars().count(), MESSAGE_CHARS_MAX + 1);
    }
}

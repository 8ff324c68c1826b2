//! The table of error codes: from what EC2, S3 and Service Quotas answer to a class. Codes from "Error codes for the Amazon EC2
//! API", "Error responses" of the Amazon S3 API, and "Common errors" of the Service Quotas API; the services answer with more
//! than their SDK models say.

use drover_cloud::Class;

use crate::calls::{self, Call, Service};

/// A code that stands for one class whatever the call.
const CODES: &[(Class, &[&str])] = &[
    (
        Class::Throttled,
        &[
            "RequestLimitExceeded",
            "BandwidthLimitExceeded",
            "Throttling",
            "ThrottlingException",
            "ThrottledException",
            "RequestThrottled",
            "RequestThrottledException",
            "EC2ThrottledException",
            "PriorRequestNotComplete",
            "SlowDown",
            "TooManyRequestsException",
        ],
    ),
    (
        // The last four: what arrived was not what we sent, so the same again.
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
        // S3's and Service Quotas'; EC2's are `Invalid<Resource>.NotFound`, below.
        Class::NotFound,
        &["NoSuchKey", "NoSuchResourceException"],
    ),
    (
        Class::WrongState,
        &[
            "IncorrectInstanceState",
            "IncorrectState",
            "IncorrectStateException",
            "IncorrectModificationState",
            "InvalidInstanceState",
            "InvalidState",
            "InvalidDevice.InUse",
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
            "InsufficientCapacityOnHost",
            "InsufficientReservedInstanceCapacity",
            "InsufficientReservedInstancesCapacity",
            "InsufficientFreeAddressesInSubnet",
            "InsufficientAddressCapacity",
            "InsufficientVolumeCapacity",
            "InsufficientCapacity",
            "ReservationCapacityExceeded",
            "UnfulfillableCapacity",
            "Unsupported",
            "VolumeTypeNotAvailableInZone",
            "MaxSpotInstanceCountExceeded",
        ],
    ),
    (
        // All others end in LimitExceeded, below.
        Class::Quota,
        &["ResourceCountExceeded", "PendingVerification"],
    ),
    (Class::TokenMismatch, &["IdempotentParameterMismatch"]),
    (Class::TokenSpent, &["IdempotentInstanceTerminated"]),
    (
        // OperationAborted: a conflicting conditional operation on the same object is under way.
        Class::Conflict,
        &["PreconditionFailed", "ConditionalRequestConflict", "OperationAborted"],
    ),
    (
        // The last six are also the words for a clock that is wrong.
        Class::Denied,
        &[
            "UnauthorizedOperation",
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
            "TokenRefreshRequired",
            "UnrecognizedClientException",
            "AuthFailure",
            "InvalidSecurity.RequestHasExpired",
            "InvalidSignatureException",
            "RequestExpired",
            "RequestTimeTooSkewed",
            "SignatureDoesNotMatch",
        ],
    ),
    (
        // An image or zone is named by the spec, so one that is not there is a wrong spec; a missing bucket is a wrong
        // configuration. NotImplemented has a server's status, and will be answered again and again.
        Class::Invalid,
        &[
            "InvalidAMIID.NotFound",
            "InvalidAMIID.Unavailable",
            "InvalidAMIID.Malformed",
            "InvalidZone.NotFound",
            "FilterLimitExceeded",
            "NoSuchBucket",
            "NotImplemented",
            "PermanentRedirect",
            "AuthorizationHeaderMalformed",
        ],
    ),
];

/// The class of an error that the service itself answered with. `code` is empty where the answer had none, as an S3 answer
/// without a body or a proxy's page.
pub(crate) fn class(call: &Call, code: &str, message: &str, status: u16) -> Class {
    if code == "OperationNotPermitted" && call.action == calls::TERMINATE_INSTANCES.action {
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
    if code.ends_with("LimitExceeded") {
        return Class::Quota;
    }
    match status {
        429 => Class::Throttled,
        408 | 500 | 502.. => Class::Transient,
        401 | 403 => Class::Denied,
        409 | 412 if call.service == Service::S3 => Class::Conflict,
        // The call succeeded and the answer cannot be read.
        200..300 => Class::Transient,
        _ => Class::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::{
        DELETE_VOLUME, GET_OBJECT, GET_SERVICE_QUOTA, MODIFY_INSTANCE_ATTRIBUTE, PUT_OBJECT, RUN_INSTANCES,
        TERMINATE_INSTANCES,
    };

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
            (Throttled, "PriorRequestNotComplete SlowDown TooManyRequestsException ThrottledException"),
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
            (Denied, "InvalidSecurity.RequestHasExpired InvalidSignatureException UnrecognizedClientException"),
            (
                NotFound,
                "InvalidInstanceID.NotFound InvalidVolume.NotFound InvalidGroup.NotFound InvalidSubnetID.NotFound",
            ),
            (NotFound, "InvalidNetworkInterfaceID.NotFound NoSuchKey NoSuchResourceException"),
            (Invalid, "InvalidAMIID.NotFound InvalidAMIID.Unavailable InvalidAMIID.Malformed NoSuchBucket"),
            (Invalid, "InvalidZone.NotFound FilterLimitExceeded NotImplemented"),
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
        check(
            Class::Invalid,
            &[(&RUN_INSTANCES, "DryRunOperation", 412), (&RUN_INSTANCES, "", 409), (&GET_SERVICE_QUOTA, "", 409)],
        );
    }

    #[test]
    fn only_ending_a_machine_runs_into_its_protection() {
        check(Class::Protected, &[(&TERMINATE_INSTANCES, "OperationNotPermitted", 400)]);
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
}

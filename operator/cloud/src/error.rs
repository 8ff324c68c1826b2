//! What can go wrong with a cloud, by what it asks of us. A class decides the next step; the code and message are for people.

use std::fmt;

/// What a failed call means for the caller (EC2 documentation, "Error codes"; one row per answer to "and now?").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Refused for its rate, not sent or not applied: back off.
    Throttled,
    /// 5xx, a connection error or a deadline: the call may or may not have been applied. Send the identical one again.
    Transient,
    /// Our own fresh write is not visible yet.
    NotVisibleYet,
    /// It is not there, as far as the cloud says now; by itself no proof that it is gone.
    NotFound,
    /// The resource is in a state that forbids this for now.
    WrongState,
    /// No room for this type in this zone.
    Capacity,
    /// The account's own bound.
    Quota,
    /// The token was used with other parameters.
    TokenMismatch,
    /// The machine or volume of this token has ended: the next attempt number.
    TokenSpent,
    /// Termination protection.
    Protected,
    /// A conditional write lost (412, or 409: read again before concluding).
    Conflict,
    /// No permission, wrong credentials, clock skew.
    Denied,
    /// The request itself is wrong: only a change of the spec or of the configuration helps.
    Invalid,
    /// A test stopped this process here; nothing sent after it reaches the cloud.
    Crashed,
}

/// A cloud call that failed. As text it says first what a person can do, where that is known, then what failed and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", words(self))]
pub struct CloudError {
    pub class: Class,
    /// The call in the cloud's own word, such as `RunInstances`.
    pub call: &'static str,
    /// The cloud's error code, or a word of ours (`Timeout`, `Connection`).
    pub code: String,
    pub message: String,
}

pub type Result<T> = std::result::Result<T, CloudError>;

impl CloudError {
    pub fn new(class: Class, call: &'static str, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { class, call, code: code.into(), message: message.into() }
    }

    /// The call may have been applied although it failed.
    pub fn is_ambiguous(&self) -> bool {
        matches!(self.class, Class::Transient | Class::Crashed)
    }

    /// What failed and why, without what to do.
    pub fn failure(&self) -> String {
        format!("{} failed: {}: {}", self.call, self.code, self.message)
    }

    /// What the person who runs the operator can do about it, where that is known. Not what another try settles.
    pub fn advice(&self) -> Option<String> {
        let code = self.code.as_str();
        let is_skewed = self.message.contains("clock skew") || SKEWED.contains(&code);
        let advice = match (self.class, code) {
            (_, "NoRegion") => "set AWS_REGION, --region, or a profile that has one",
            (_, "NoSuchBucket") => "make the bucket in this Region, or name another with --bucket",
            _ if is_skewed => "set this machine's clock right, for example with `timedatectl set-ntp true`",
            (Class::Denied, "Credentials") => {
                "give AWS credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or an instance role"
            }
            (Class::Denied, "ExpiredToken" | "ExpiredTokenException") => {
                "get new AWS credentials: the session of these has ended"
            }
            (Class::Denied, code) if UNKNOWN_CREDENTIALS.contains(&code) => {
                "AWS does not know these credentials here: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile, and the Region"
            }
            // Without s3:ListBucket S3 answers so for an object that is not there (S3 API reference, "GetObject").
            (Class::Denied, "AccessDenied") if self.call == "GetObject" => {
                "allow these credentials s3:GetObject and s3:ListBucket on the bucket"
            }
            (Class::Denied, _) => return Some(format!("allow these credentials {} in their policy", self.call)),
            (_, code) if OTHER_REGION.contains(&code) => {
                "the bucket is in another Region: set AWS_REGION or --region to its own"
            }
            (Class::Transient, "Connection" | "Timeout") => {
                "check the network, and the endpoint where AWS_ENDPOINT_URL or one of its kind is set"
            }
            _ => return None,
        };
        Some(advice.to_owned())
    }
}

/// EC2's and S3's codes for a signature that is too old or too young.
const SKEWED: [&str; 4] =
    ["RequestTimeTooSkewed", "RequestExpired", "SignatureExpired", "InvalidSecurity.RequestHasExpired"];

/// S3's codes for a bucket that is not where it was asked for.
const OTHER_REGION: [&str; 3] =
    ["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"];

/// Their codes, and in the end Service Quotas', for a key that does not exist, or a secret that is not its.
const UNKNOWN_CREDENTIALS: [&str; 7] = [
    "AuthFailure",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidClientTokenId",
    "InvalidToken",
    "UnrecognizedClientException",
    "InvalidSignatureException",
];

fn words(error: &CloudError) -> String {
    let failed = error.failure();
    error.advice().map_or(failed.clone(), |advice| format!("{advice} ({failed})"))
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_mistake_says_what_to_do() {
        for (class, code, message, expected) in [
            (Class::Invalid, "NoRegion", "", "set AWS_REGION"),
            (Class::Invalid, "NoSuchBucket", "", "make the bucket"),
            (Class::Denied, "RequestTimeTooSkewed", "", "clock"),
            (Class::Denied, "RequestExpired", "", "clock"),
            (Class::Denied, "AuthFailure", "clock skew: this machine's clock is 900 s behind", "clock"),
            (Class::Denied, "AuthFailure", "", "does not know these credentials"),
            (Class::Denied, "UnrecognizedClientException", "", "does not know these credentials"),
            (Class::Denied, "InvalidSignatureException", "clock skew: this machine's clock is 900 s ahead", "clock"),
            (Class::Denied, "ExpiredToken", "", "get new AWS credentials"),
            (Class::Denied, "Credentials", "", "AWS_PROFILE"),
            (Class::Denied, "UnauthorizedOperation", "", "allow these credentials RunInstances"),
            (Class::Transient, "Connection", "refused", "check the network"),
            (Class::Invalid, "PermanentRedirect", "", "another Region"),
        ] {
            let said = CloudError::new(class, "RunInstances", code, message).to_string();
            let failed = format!("(RunInstances failed: {code}: {message})");
            assert!(said.contains(expected) && said.ends_with(&failed), "{said}");
        }
        let unread = CloudError::new(Class::Denied, "GetObject", "AccessDenied", "Access Denied").to_string();
        assert!(unread.contains("s3:ListBucket"), "{unread}");
        let other = CloudError::new(Class::Transient, "RunInstances", "InternalError", "again");
        assert_eq!(other.to_string(), "RunInstances failed: InternalError: again");
    }
}

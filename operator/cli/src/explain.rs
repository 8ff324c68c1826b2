//! What a failed call means for the person in front of it: one sentence that says what to do.

use drover_cloud::{Class, CloudError};

/// The sentence. `bucket` is the one that was asked for.
pub fn explain(error: &CloudError, bucket: &str) -> anyhow::Error {
    let skew = error.message.contains("clock skew") || SKEWED.contains(&error.code.as_str());
    let what = match (error.class, error.code.as_str()) {
        (_, "NoRegion") => "set AWS_REGION, --region, or a profile that has one".to_owned(),
        (_, "NoSuchBucket") => {
            format!("there is no bucket {bucket:?}: make it in this Region, or name another with --bucket")
        }
        _ if skew => "set this machine's clock right, for example with `timedatectl set-ntp true`".to_owned(),
        (Class::Denied, "Credentials") => {
            "give AWS credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or an instance role".into()
        }
        (Class::Denied, code) if UNKNOWN_CREDENTIALS.contains(&code) => {
            "AWS does not know these credentials: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the profile"
                .into()
        }
        // Without s3:ListBucket S3 answers so for an object that is not there (S3 API reference, "GetObject").
        (Class::Denied, "AccessDenied") if error.call == "GetObject" => {
            format!("allow these credentials s3:GetObject and s3:ListBucket on the bucket {bucket:?}")
        }
        (Class::Denied, _) => format!("these credentials may not call {}: allow it in their policy", error.call),
        (_, code) if OTHER_REGION.contains(&code) => {
            format!("the bucket {bucket:?} is in another Region: set AWS_REGION or --region to its own")
        }
        (Class::Transient, "Connection" | "Timeout") => {
            "check the network, and the endpoint where AWS_ENDPOINT_URL or one of its kind is set".to_owned()
        }
        _ => return anyhow::Error::new(error.clone()),
    };
    anyhow::anyhow!("{what} ({error})")
}

/// EC2's and S3's codes for a signature that is too old or too young.
const SKEWED: [&str; 3] = ["RequestTimeTooSkewed", "RequestExpired", "SignatureExpired"];

/// S3's codes for a bucket that is not where it was asked for.
const OTHER_REGION: [&str; 3] =
    ["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"];

/// Their codes for a key that does not exist, or a secret that is not its.
const UNKNOWN_CREDENTIALS: [&str; 6] = [
    "AuthFailure",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidClientTokenId",
    "ExpiredToken",
    "InvalidToken",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_mistake_says_what_to_do() {
        for (class, code, message, expected) in [
            (Class::Invalid, "NoRegion", "", "AWS_REGION"),
            (Class::Invalid, "NoSuchBucket", "", "no bucket \"records\""),
            (Class::Denied, "RequestTimeTooSkewed", "", "clock"),
            (Class::Denied, "AuthFailure", "clock skew: this machine's clock is 900 s behind", "clock"),
            (Class::Denied, "AuthFailure", "", "does not know these credentials"),
            (Class::Denied, "Credentials", "", "AWS_PROFILE"),
            (Class::Denied, "UnauthorizedOperation", "", "may not call RunInstances"),
            (Class::Transient, "Connection", "refused", "network"),
            (Class::Invalid, "PermanentRedirect", "", "another Region"),
        ] {
            let error = CloudError::new(class, "RunInstances", code, message);
            let sentence = explain(&error, "records").to_string();
            assert!(sentence.contains(expected) && sentence.contains(code), "{sentence}");
        }
        let unread = CloudError::new(Class::Denied, "GetObject", "AccessDenied", "Access Denied");
        assert!(explain(&unread, "records").to_string().contains("s3:ListBucket"), "{unread}");
    }
}

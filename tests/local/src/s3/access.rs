//! Who may do what in the bucket. The operator's keys may do everything; a machine's role reads what `policy` says.

use std::sync::{Arc, Mutex};

use s3s::{
    S3Result,
    access::{S3Access, S3AccessContext},
    auth::{S3Auth, SecretKey},
    s3_error,
};

use crate::{
    clock::ServiceClock,
    keys::{Keys, Principal},
    policy, sigv4,
};

/// Authentication and authorisation for `s3s`.
#[derive(Debug, Clone)]
pub struct Access {
    pub keys: Keys,
    pub clock: ServiceClock,
    pub bucket: Arc<str>,
}

/// What a request turned out to be, for the log of calls. Put into the request's extensions before it is served.
#[derive(Debug, Clone, Default)]
pub struct Called(pub Arc<Mutex<Option<(String, String)>>>);

impl Called {
    /// The operation, as S3 names it, and `bucket/key`.
    pub fn take(&self) -> Option<(String, String)> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }
}

#[async_trait::async_trait]
impl S3Auth for Access {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.keys.find(access_key) {
            Some(key) => Ok(SecretKey::from(key.secret)),
            None => {
                Err(s3_error!(InvalidAccessKeyId, "The AWS Access Key Id you provided does not exist in our records."))
            }
        }
    }
}

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = cx.s3_op().name().to_owned();
        let bucket = cx.s3_path().get_bucket_name().unwrap_or_default().to_owned();
        let object = cx.s3_path().get_object_key().unwrap_or_default().to_owned();
        if let Some(Called(called)) = cx.extensions_mut().get() {
            let target = if object.is_empty() { bucket.clone() } else { format!("{bucket}/{object}") };
            *called.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some((operation.clone(), target));
        }
        let Some(credentials) = cx.credentials() else {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        };
        // `s3s` compared the date with the host's clock; ours may be wrong on purpose.
        let date = cx.headers().get("x-amz-date").and_then(|date| sigv4::parse_date(date.to_str().ok()?));
        if date.is_some_and(|date| sigv4::is_skewed(date, self.clock.now())) {
            return Err(s3_error!(
                RequestTimeTooSkewed,
                "The difference between the request time and the current time is too large."
            ));
        }
        let Some(key) = self.keys.find(&credentials.access_key) else {
            return Err(s3_error!(InvalidAccessKeyId));
        };
        let token = cx.headers().get("x-amz-security-token").map(|value| value.as_bytes());
        if token != key.token.as_deref().map(str::as_bytes) {
            return Err(s3_error!(InvalidToken, "The provided token is malformed or otherwise not valid."));
        }
        match key.principal {
            Principal::Operator => Ok(()),
            Principal::Machine { set, .. }
                if *bucket == *self.bucket && policy::machine_may(&operation, &object, set.as_ref()) =>
            {
                Ok(())
            }
            Principal::Machine { .. } => Err(s3_error!(AccessDenied, "Access Denied")),
        }
    }
}

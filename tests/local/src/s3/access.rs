//! Who may do what in the bucket. The operator's keys may do everything; a machine's role reads what `policy` says.

use std::sync::{Arc, Mutex, PoisonError};

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

/// What a request turned out to be. Put into the request's extensions before it is served, and filled while it is.
#[derive(Debug, Clone, Default)]
pub struct Called(Arc<Mutex<Option<Operation>>>);

/// What was asked, and who asked it.
#[derive(Debug)]
pub struct Operation {
    /// As S3 names it.
    pub name: String,
    /// `bucket/key`.
    pub target: String,
    /// `None` for a request that nobody signed.
    pub principal: Option<Principal>,
}

impl Called {
    /// `None` where the request was refused before it was known what it is.
    pub fn take(&self) -> Option<Operation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, operation: Operation) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(operation);
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
        let key = cx.credentials().map(|credentials| self.keys.find(&credentials.access_key));
        if let Some(called) = cx.extensions_mut().get::<Called>() {
            let target = if object.is_empty() { bucket.clone() } else { format!("{bucket}/{object}") };
            let principal = key.clone().flatten().map(|key| key.principal);
            called.put(Operation { name: operation.clone(), target, principal });
        }
        let Some(key) = key else {
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
        let Some(key) = key else {
            return Err(s3_error!(InvalidAccessKeyId));
        };
        let token = cx.headers().get("x-amz-security-token").map(|value| value.as_bytes());
        if token != key.token().map(str::as_bytes) {
            return Err(s3_error!(InvalidToken, "The provided token is malformed or otherwise not valid."));
        }
        if key.has_expired(self.clock.now()) {
            return Err(s3_error!(ExpiredToken, "The provided token has expired."));
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

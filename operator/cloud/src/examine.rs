//! What is asked of a cloud only when a person wants to know whether an installation is whole: `drover doctor`. No decision
//! about a set depends on it.

use std::{fmt, future::Future};

use crate::error::Result;

/// Whose credentials are used, and where.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The id of the access key; the secret that belongs to it is not known here.
    pub access_key: String,
    /// Where the credentials say it: those of most roles do, static keys do not.
    pub account: Option<String>,
    pub region: String,
}

/// Whether a bucket keeps what is overwritten and deleted (S3 API Reference, "GetBucketVersioning").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versioning {
    Enabled,
    /// It did once, and does not now.
    Suspended,
    Never,
}

/// A quota of the account in its Region, as Service Quotas names it: `ec2` and `L-1216C47A`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaCode {
    pub service: &'static str,
    pub code: &'static str,
}

/// See the module.
pub trait Examine: Send + Sync {
    /// Fetches the credentials, from wherever they come. `Denied` (`Credentials`) where there are none.
    fn identity(&self) -> impl Future<Output = Result<Identity>> + Send;

    /// By how many seconds this machine's clock was ahead of the cloud's at the last answer, good or bad; negative where it
    /// was behind. `None` before the first answer with a date.
    fn clock_ahead(&self) -> Option<i64>;

    /// Of the installation's bucket.
    fn versioning(&self) -> impl Future<Output = Result<Versioning>> + Send;

    /// What holds for the account: its own value, or everybody's where it has none. In the quota's own unit, finite and not
    /// negative. What of it is used up already Service Quotas does not say.
    fn quota(&self, code: QuotaCode) -> impl Future<Output = Result<f64>> + Send;
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("account", &self.account).field("region", &self.region).finish_non_exhaustive()
    }
}

//! What the account may have in its Region, by Service Quotas.

use aws_sdk_servicequotas::{Client, types::ServiceQuota};
use drover_cloud::{Class, Result, examine::QuotaCode};

use crate::{
    calls::{Call, GET_AWS_DEFAULT_SERVICE_QUOTA, GET_SERVICE_QUOTA},
    send::{Sender, unreadable},
};

/// The account's quotas; cheap to clone.
#[derive(Clone, Debug)]
pub struct Quotas {
    client: Client,
    sender: Sender,
}

// === impl Quotas ===

impl Quotas {
    pub(crate) fn new(client: Client, sender: Sender) -> Self {
        Self { client, sender }
    }

    /// What holds for the account. Of some quotas Service Quotas has an applied value only where it is another than everybody's
    /// (API Reference, "GetServiceQuota").
    pub async fn get(&self, code: QuotaCode) -> Result<f64> {
        match self.applied(code).await {
            Err(error) if error.class == Class::NotFound => self.default(code).await,
            answer => answer,
        }
    }

    pub(crate) async fn applied(&self, QuotaCode { service, code }: QuotaCode) -> Result<f64> {
        let request = self.client.get_service_quota().service_code(service).quota_code(code);
        let answer = self.sender.send(&GET_SERVICE_QUOTA, request.send()).await?;
        value(&GET_SERVICE_QUOTA, answer.quota())
    }

    pub(crate) async fn default(&self, QuotaCode { service, code }: QuotaCode) -> Result<f64> {
        let request = self.client.get_aws_default_service_quota().service_code(service).quota_code(code);
        let answer = self.sender.send(&GET_AWS_DEFAULT_SERVICE_QUOTA, request.send()).await?;
        value(&GET_AWS_DEFAULT_SERVICE_QUOTA, answer.quota())
    }
}

fn value(call: &Call, quota: Option<&ServiceQuota>) -> Result<f64> {
    let value = quota.and_then(ServiceQuota::value).filter(|value| value.is_finite() && *value >= 0.0);
    value.ok_or_else(|| unreadable(call, "the quota has no value"))
}

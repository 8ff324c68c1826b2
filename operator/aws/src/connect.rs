//! Where credentials, Region and endpoints come from, and how the SDK must behave: it makes each call once, because only
//! our caller knows what a lost reply means, and because the SDK's own retries count a capacity error as a server error
//! and would spend the scarce RunInstances requests on it.

use std::time::Duration;

use aws_config::{AppName, BehaviorVersion, Region, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig};
use aws_types::service_config::ServiceConfigKey;
use drover_cloud::{Class, CloudError, Result, examine::Identity};

use crate::{
    calls::{Service, calls},
    classify::{described, one_line},
    clock::CloudClock,
    machines::Ec2,
    objects::{Bucket, OBJECT_BYTES_MAX, transfer_time},
    quotas::Quotas,
    send::{Observer, Sender},
};

/// What an operator may say beyond the AWS environment and profile.
#[derive(Clone, Debug)]
pub struct Options {
    /// Instead of the default chain's: `AWS_REGION`, the profile, the instance's own Region.
    pub region: Option<String>,
    /// Instead of AWS's own endpoints and the environment's: for an agent, which is told on its command line where its
    /// bucket is and calls nothing else.
    pub endpoint: Option<String>,
    /// No call lasts longer, reading a body and writing one without a condition aside; for a holder of a lease shorter than the calls' own
    /// deadlines.
    pub deadline_max: Duration,
    /// Is told of every call.
    pub observer: Option<Observer>,
}

/// One account in one Region, or an endpoint that speaks its API. Its handles share rate lanes and connections.
#[derive(Clone, Debug)]
pub struct Aws {
    region: String,
    object_endpoint: Option<String>,
    ec2: aws_sdk_ec2::Client,
    s3: aws_sdk_s3::Client,
    quotas: aws_sdk_servicequotas::Client,
    sender: Sender,
    clock: CloudClock,
    credentials: Option<SharedCredentialsProvider>,
}

/// Looking for a Region asks the instance metadata service, which off EC2 never answers.
const CONNECT_BOUND: Duration = Duration::from_secs(30);

/// A TCP and TLS handshake within a Region takes milliseconds; a lost SYN is sent again after one second.
const TCP_CONNECT: Duration = Duration::from_secs(3);

/// Below one byte a second for this long, a body counts as stalled. The SDK's own default depends on its version.
const STALLED: Duration = Duration::from_secs(20);

/// Reads the environment, profile and, on EC2, the metadata service: static keys, web identity (IRSA), container
/// credentials (ECS, EKS Pod Identity), `credential_process`, instance role. Not compiled in: SSO. `AWS_ENDPOINT_URL`,
/// `AWS_ENDPOINT_URL_EC2`, `AWS_ENDPOINT_URL_S3` and `AWS_ENDPOINT_URL_SERVICE_QUOTAS` redirect the calls. Credentials are first
/// fetched by the first call.
///
/// # Errors
/// `Invalid` when no Region is found, `Transient` when looking takes too long.
pub async fn connect(options: &Options) -> Result<Aws> {
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .app_name(AppName::new("drover").expect("the name has only letters"));
    if let Some(region) = &options.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(endpoint) = &options.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    let slow = |_| CloudError::new(Class::Transient, "connect", "Timeout", "no Region was found in time");
    let config = tokio::time::timeout(CONNECT_BOUND, loader.load()).await.map_err(slow)?;
    let aws = Aws::new(&config, options.deadline_max)?;
    Ok(Aws { sender: aws.sender.clone().observed(options.observer.clone()), ..aws })
}

// === impl Options, Aws ===

impl Default for Options {
    fn default() -> Self {
        Self { region: None, endpoint: None, deadline_max: Duration::MAX, observer: None }
    }
}

impl Aws {
    pub(crate) fn new(config: &SdkConfig, deadline_max: Duration) -> Result<Self> {
        let no_region = || {
            let message = "no Region: set it in the configuration, AWS_REGION or the profile";
            CloudError::new(Class::Invalid, "connect", "NoRegion", message)
        };
        let region = config.region().ok_or_else(no_region)?.to_string();
        let (object_endpoint, clock) = (object_endpoint(config), CloudClock::default());
        Ok(Self {
            region,
            ec2: ec2_client(config, deadline_max, clock.clone()),
            s3: s3_client(config, deadline_max, object_endpoint.is_some(), clock.clone()),
            quotas: quotas_client(config, deadline_max, clock.clone()),
            object_endpoint,
            sender: Sender::new(deadline_max),
            clock,
            credentials: config.credentials_provider(),
        })
    }

    pub fn region(&self) -> &str {
        &self.region
    }

    /// The S3 endpoint where it is not AWS's own: machines must be told of it.
    pub fn object_endpoint(&self) -> Option<&str> {
        self.object_endpoint.as_deref()
    }

    /// EC2: `Machines` and `Volumes`.
    pub fn ec2(&self) -> Ec2 {
        Ec2::new(self.ec2.clone(), self.sender.clone())
    }

    /// Fetches the credentials, as the first call would.
    ///
    /// # Errors
    /// `Denied` (`Credentials`) where there are none.
    pub async fn identity(&self) -> Result<Identity> {
        let none = |why: String| CloudError::new(Class::Denied, "credentials", "Credentials", why);
        let provider = self.credentials.as_ref().ok_or_else(|| none("no provider is configured".to_owned()))?;
        let slow = |_| CloudError::new(Class::Transient, "credentials", "Timeout", "they were not had in time");
        let found = tokio::time::timeout(CONNECT_BOUND, provider.provide_credentials()).await.map_err(slow)?;
        let found = found.map_err(|error| none(one_line(&described(&error))))?;
        Ok(Identity {
            access_key: found.access_key_id().to_owned(),
            account: found.account_id().map(|account| account.as_str().to_owned()),
            region: self.region.clone(),
        })
    }

    /// By how many seconds this machine's clock was ahead of the cloud's at the last answer; `None` before the first.
    pub fn clock_ahead(&self) -> Option<i64> {
        self.clock.ahead()
    }

    /// One bucket: `Objects`.
    pub fn bucket(&self, name: &str) -> Bucket {
        Bucket::new(self.s3.clone(), self.sender.clone(), name)
    }

    /// What the account may have.
    pub fn quotas(&self) -> Quotas {
        Quotas::new(self.quotas.clone(), self.sender.clone())
    }
}

// === how the SDK behaves ===

fn ec2_client(config: &SdkConfig, deadline_max: Duration, clock: CloudClock) -> aws_sdk_ec2::Client {
    let config = aws_sdk_ec2::config::Builder::from(config)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts(longest(Service::Ec2).min(deadline_max)))
        .stalled_stream_protection(stalled())
        .interceptor(clock)
        .build();
    aws_sdk_ec2::Client::from_conf(config)
}

/// Checksums both ways wherever the API supports them: a register damaged in transit must not be believed, and computing
/// a CRC of a few kilobytes costs nothing. Another endpoint than AWS's own rarely has a name per bucket, hence path style.
fn s3_client(
    config: &SdkConfig,
    deadline_max: Duration,
    other_endpoint: bool,
    clock: CloudClock,
) -> aws_sdk_s3::Client {
    let bound = longest(Service::S3).min(deadline_max) + transfer_time(OBJECT_BYTES_MAX);
    let config = aws_sdk_s3::config::Builder::from(config)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts(bound))
        .stalled_stream_protection(stalled())
        .interceptor(clock)
        .request_checksum_calculation(RequestChecksumCalculation::WhenSupported)
        .response_checksum_validation(ResponseChecksumValidation::WhenSupported)
        .force_path_style(other_endpoint)
        .build();
    aws_sdk_s3::Client::from_conf(config)
}

fn quotas_client(config: &SdkConfig, deadline_max: Duration, clock: CloudClock) -> aws_sdk_servicequotas::Client {
    let config = aws_sdk_servicequotas::config::Builder::from(config)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts(longest(Service::ServiceQuotas).min(deadline_max)))
        .stalled_stream_protection(stalled())
        .interceptor(clock)
        .build();
    aws_sdk_servicequotas::Client::from_conf(config)
}

/// `Sender` bounds every call to its own deadline; these are the SDK's, which has none unless told, as a second net.
fn timeouts(bound: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(TCP_CONNECT)
        .operation_attempt_timeout(bound)
        .operation_timeout(bound)
        .build()
}

/// The longest deadline of one service's calls.
fn longest(service: Service) -> Duration {
    let deadlines = calls().iter().filter(|call| call.service == service).map(|call| call.deadline);
    deadlines.max().expect("each service has calls")
}

fn stalled() -> StalledStreamProtectionConfig {
    StalledStreamProtectionConfig::enabled().grace_period(STALLED).build()
}

/// As the S3 client itself finds it, which does not tell.
fn object_endpoint(config: &SdkConfig) -> Option<String> {
    let key = ServiceConfigKey::builder()
        .service_id("S3")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build()
        .expect("all three parts are given");
    let own = config.service_config().and_then(|own| own.load_config(key));
    own.or_else(|| config.endpoint_url().map(str::to_owned))
}

//! EC2, one bucket and the account's quotas as one cloud, which is what the operator works with.

use std::{collections::BTreeMap, future::Future, sync::Arc};

use drover_api::{
    ClientToken, InstanceId, Realm, VolumeId,
    bucket::{ObjectKey, RealmKeys},
    launch::{LaunchRequest, VolumeRequest},
};
use drover_aws::{Aws, Bucket, Ec2, Observer, Options, Quotas};
use drover_cloud::{
    Examine, Machines, Objects, Result, Volumes,
    examine::{Identity, QuotaCode, Versioning},
    machines::{Image, InstanceType, Machine, Protection, SecurityGroup, Selector, Subnet},
    objects::{Condition, ETag, Object},
    volumes::Volume,
};

use crate::settings::Settings;

/// One account in one Region, and the bucket of one installation.
#[derive(Clone, Debug)]
pub struct Cloud {
    aws: Aws,
    ec2: Ec2,
    bucket: Bucket,
    quotas: Quotas,
}

/// Connects. Nothing is sent to EC2 or S3 yet. `observer` is told of every call.
pub async fn begin(settings: &Settings, observer: Option<Observer>) -> Result<(Aws, Arc<Cloud>)> {
    let options =
        Options { region: settings.region.clone(), deadline_max: settings.deadline(), observer, ..Options::default() };
    let aws = drover_aws::connect(&options).await?;
    let cloud = Cloud { ec2: aws.ec2(), bucket: aws.bucket(&settings.bucket), quotas: aws.quotas(), aws: aws.clone() };
    Ok((aws, Arc::new(cloud)))
}

/// Connects, and makes sure that the bucket is there and may be read: most mistakes of a configuration show here.
pub async fn connect(settings: &Settings) -> anyhow::Result<(Aws, Arc<Cloud>)> {
    connect_observed(settings, None).await
}

/// The same; `observer` is told of every call.
pub async fn connect_observed(settings: &Settings, observer: Option<Observer>) -> anyhow::Result<(Aws, Arc<Cloud>)> {
    let (aws, cloud) = begin(settings, observer).await?;
    let lock = RealmKeys::new(&settings.prefix, &settings.realm).lock();
    cloud.bucket.get(&lock).await?;
    Ok((aws, cloud))
}

impl Machines for Cloud {
    fn list(&self, realm: &Realm) -> impl Future<Output = Result<Vec<Machine>>> + Send {
        Machines::list(&self.ec2, realm)
    }

    fn get(&self, id: &InstanceId) -> impl Future<Output = Result<Machine>> + Send {
        Machines::get(&self.ec2, id)
    }

    fn find_by_token(&self, token: &ClientToken) -> impl Future<Output = Result<Vec<Machine>>> + Send {
        self.ec2.find_by_token(token)
    }

    fn launch(&self, request: &LaunchRequest) -> impl Future<Output = Result<Machine>> + Send {
        self.ec2.launch(request)
    }

    fn protect(&self, id: &InstanceId, protection: Protection) -> impl Future<Output = Result<()>> + Send {
        self.ec2.protect(id, protection)
    }

    fn terminate(&self, id: &InstanceId) -> impl Future<Output = Result<()>> + Send {
        self.ec2.terminate(id)
    }

    fn tag(&self, id: &InstanceId, tags: &BTreeMap<String, String>) -> impl Future<Output = Result<()>> + Send {
        self.ec2.tag(id, tags)
    }

    fn untag(&self, id: &InstanceId, key: &str) -> impl Future<Output = Result<()>> + Send {
        self.ec2.untag(id, key)
    }

    fn images(&self, selector: &Selector, owners: &[String]) -> impl Future<Output = Result<Vec<Image>>> + Send {
        self.ec2.images(selector, owners)
    }

    fn subnets(&self, selector: &Selector) -> impl Future<Output = Result<Vec<Subnet>>> + Send {
        self.ec2.subnets(selector)
    }

    fn security_groups(&self, selector: &Selector) -> impl Future<Output = Result<Vec<SecurityGroup>>> + Send {
        self.ec2.security_groups(selector)
    }

    fn instance_types(&self, names: &[String]) -> impl Future<Output = Result<Vec<InstanceType>>> + Send {
        self.ec2.instance_types(names)
    }

    fn may_launch(&self, request: &LaunchRequest) -> impl Future<Output = Result<()>> + Send {
        self.ec2.may_launch(request)
    }
}

impl Volumes for Cloud {
    fn list(&self, realm: &Realm) -> impl Future<Output = Result<Vec<Volume>>> + Send {
        Volumes::list(&self.ec2, realm)
    }

    fn get(&self, id: &VolumeId) -> impl Future<Output = Result<Volume>> + Send {
        Volumes::get(&self.ec2, id)
    }

    fn create(&self, request: &VolumeRequest) -> impl Future<Output = Result<Volume>> + Send {
        self.ec2.create(request)
    }

    fn attach(
        &self,
        volume: &VolumeId,
        instance: &InstanceId,
        device: &str,
    ) -> impl Future<Output = Result<()>> + Send {
        self.ec2.attach(volume, instance, device)
    }

    fn keep_on_termination(&self, instance: &InstanceId, device: &str) -> impl Future<Output = Result<()>> + Send {
        self.ec2.keep_on_termination(instance, device)
    }

    fn delete(&self, volume: &VolumeId) -> impl Future<Output = Result<()>> + Send {
        Volumes::delete(&self.ec2, volume)
    }
}

impl Objects for Cloud {
    fn get(&self, key: &ObjectKey) -> impl Future<Output = Result<Option<Object>>> + Send {
        self.bucket.get(key)
    }

    fn put(&self, key: &ObjectKey, body: Vec<u8>, condition: Condition) -> impl Future<Output = Result<ETag>> + Send {
        self.bucket.put(key, body, condition)
    }

    fn list(&self, prefix: &str) -> impl Future<Output = Result<Vec<ObjectKey>>> + Send {
        self.bucket.list(prefix)
    }
}

impl Examine for Cloud {
    fn identity(&self) -> impl Future<Output = Result<Identity>> + Send {
        self.aws.identity()
    }

    fn clock_ahead(&self) -> Option<i64> {
        self.aws.clock_ahead()
    }

    fn versioning(&self) -> impl Future<Output = Result<Versioning>> + Send {
        self.bucket.versioning()
    }

    fn quota(&self, code: QuotaCode) -> impl Future<Output = Result<f64>> + Send {
        self.quotas.get(code)
    }
}

//! The traits, each method through the plan.

use std::collections::BTreeMap;

use drover_api::{
    ClientToken, InstanceId, Realm, VolumeId,
    bucket::ObjectKey,
    launch::{LaunchRequest, VolumeRequest},
};

use super::{Effect, Flaky};
use crate::{
    error::Result,
    machines::{Image, InstanceType, Machine, Machines, Protection, SecurityGroup, Selector, Subnet},
    objects::{Condition, ETag, Object, Objects},
    volumes::{Volume, Volumes},
};

use Effect::{Mutates, Reads};

impl<C: Machines> Machines for Flaky<C> {
    async fn list(&self, realm: &Realm) -> Result<Vec<Machine>> {
        self.plan.pass("DescribeInstances", Reads, self.inner.list(realm)).await
    }

    async fn get(&self, id: &InstanceId) -> Result<Machine> {
        self.plan.pass("DescribeInstances by id", Reads, self.inner.get(id)).await
    }

    async fn find_by_token(&self, token: &ClientToken) -> Result<Vec<Machine>> {
        self.plan.pass("DescribeInstances by token", Reads, self.inner.find_by_token(token)).await
    }

    async fn launch(&self, request: &LaunchRequest) -> Result<Machine> {
        self.plan.pass("RunInstances", Mutates, self.inner.launch(request)).await
    }

    async fn protect(&self, id: &InstanceId, protection: Protection) -> Result<()> {
        self.plan.pass("ModifyInstanceAttribute", Mutates, self.inner.protect(id, protection)).await
    }

    async fn terminate(&self, id: &InstanceId) -> Result<()> {
        self.plan.pass("TerminateInstances", Mutates, self.inner.terminate(id)).await
    }

    async fn tag(&self, id: &InstanceId, tags: &BTreeMap<String, String>) -> Result<()> {
        self.plan.pass("CreateTags", Mutates, self.inner.tag(id, tags)).await
    }

    async fn untag(&self, id: &InstanceId, key: &str) -> Result<()> {
        self.plan.pass("DeleteTags", Mutates, self.inner.untag(id, key)).await
    }

    async fn images(&self, selector: &Selector, owners: &[String]) -> Result<Vec<Image>> {
        self.plan.pass("DescribeImages", Reads, self.inner.images(selector, owners)).await
    }

    async fn subnets(&self, selector: &Selector) -> Result<Vec<Subnet>> {
        self.plan.pass("DescribeSubnets", Reads, self.inner.subnets(selector)).await
    }

    async fn security_groups(&self, selector: &Selector) -> Result<Vec<SecurityGroup>> {
        self.plan.pass("DescribeSecurityGroups", Reads, self.inner.security_groups(selector)).await
    }

    async fn instance_types(&self, names: &[String]) -> Result<Vec<InstanceType>> {
        self.plan.pass("DescribeInstanceTypes", Reads, self.inner.instance_types(names)).await
    }

    async fn may_launch(&self, request: &LaunchRequest) -> Result<()> {
        self.plan.pass("RunInstances dry run", Reads, self.inner.may_launch(request)).await
    }
}

impl<C: Volumes> Volumes for Flaky<C> {
    async fn list(&self, realm: &Realm) -> Result<Vec<Volume>> {
        self.plan.pass("DescribeVolumes", Reads, self.inner.list(realm)).await
    }

    async fn get(&self, id: &VolumeId) -> Result<Volume> {
        self.plan.pass("DescribeVolumes", Reads, self.inner.get(id)).await
    }

    async fn create(&self, request: &VolumeRequest) -> Result<Volume> {
        self.plan.pass("CreateVolume", Mutates, self.inner.create(request)).await
    }

    async fn attach(&self, volume: &VolumeId, instance: &InstanceId, device: &str) -> Result<()> {
        self.plan.pass("AttachVolume", Mutates, self.inner.attach(volume, instance, device)).await
    }

    async fn keep_on_termination(&self, instance: &InstanceId, device: &str) -> Result<()> {
        self.plan.pass("ModifyInstanceAttribute", Mutates, self.inner.keep_on_termination(instance, device)).await
    }

    async fn delete(&self, volume: &VolumeId) -> Result<()> {
        self.plan.pass("DeleteVolume", Mutates, self.inner.delete(volume)).await
    }
}

impl<C: Objects> Objects for Flaky<C> {
    async fn get(&self, key: &ObjectKey) -> Result<Option<Object>> {
        self.plan.pass("GetObject", Reads, self.inner.get(key)).await
    }

    async fn put(&self, key: &ObjectKey, body: Vec<u8>, condition: Condition) -> Result<ETag> {
        self.plan.pass("PutObject", Mutates, self.inner.put(key, body, condition)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectKey>> {
        self.plan.pass("ListObjectsV2", Reads, self.inner.list(prefix)).await
    }
}

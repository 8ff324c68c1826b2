//! The fake through the traits alone: what a caller of a real cloud would see.

use std::{collections::BTreeMap, task::Poll};

use drover_api::{
    ClientToken, ImageId, Realm, SubnetId, Zone,
    bucket::ObjectKey,
    launch::{LaunchRequest, VolumeRequest},
    tags,
};

use super::*;
use crate::{
    Class, Machines, Objects, Volumes,
    ec2::{Architecture, Credentials, ImageSpec, NoCapacity, Tags},
    machines::{Machine, MachineState, Protection, Selector},
    objects::{Condition, ETag},
    volumes::VolumeState,
};

/// Every future of the fake is ready at its first poll.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a future of the fake was not ready at once"),
    }
}

pub(crate) fn cloud() -> Fake {
    let mut account = Account::new("eu-test-1");
    account.images = vec![ImageSpec {
        name: "mysql".into(),
        description: String::new(),
        architecture: Architecture::Arm64,
        root_size_gib: 8,
        tags: Tags::from([("mysql".into(), "9.7".into())]),
    }];
    Fake::new(account, 1, Millis(1_000_000))
}

pub(crate) fn realm() -> Realm {
    Realm::new("test").expect("a valid realm")
}

fn realm_tags() -> BTreeMap<String, String> {
    BTreeMap::from([(tags::REALM.to_owned(), "test".to_owned()), ("Name".to_owned(), "m0".to_owned())])
}

pub(crate) fn request(cloud: &Fake, token: &str) -> LaunchRequest {
    let (image, subnet) = cloud.look(|world| {
        let image = world.ec2.account().images[0].clone();
        let image = world.ec2.register_image(world.now(), image);
        (image, world.ec2.subnets()[0].clone())
    });
    let group = cloud.look(|world| world.ec2.machine_group().expect("made with the account").group_id.clone());
    LaunchRequest {
        token: ClientToken::new(token).expect("a valid token"),
        image: ImageId::new(image).expect("a valid id"),
        instance_type: "m7g.large".into(),
        zone: Zone::new(subnet.zone).expect("a valid zone"),
        subnet: SubnetId::new(subnet.subnet_id).expect("a valid id"),
        security_groups: vec![convert::security_group(&group)],
        instance_profile: "machine".into(),
        user_data: "#!/bin/sh".into(),
        tags: realm_tags(),
        termination_protection: true,
    }
}

fn volume_request() -> VolumeRequest {
    let mut tags = realm_tags();
    tags.insert(tags::VOLUME.into(), tags::VOLUME_VALUE.into());
    VolumeRequest {
        token: ClientToken::new("volume").expect("a valid token"),
        zone: Zone::new("eu-test-1a").expect("a valid zone"),
        size_gib: 10,
        volume_type: "gp3".into(),
        iops: None,
        throughput_mibps: None,
        kms_key_id: None,
        tags,
    }
}

fn pass(cloud: &Fake, seconds: u64) {
    cloud.advance(Duration::from_secs(seconds));
}

fn launched(cloud: &Fake) -> Machine {
    now(cloud.launch(&request(cloud, "token"))).expect("a launch that every rule allows")
}

#[test]
fn a_machine_lives_from_launch_to_its_end() {
    let cloud = cloud();
    let launched = launched(&cloud);
    assert_eq!((launched.state, launched.tags), (MachineState::Pending, realm_tags()));
    pass(&cloud, 60);
    let found = now(Machines::list(&cloud, &realm())).expect("a list");
    assert_eq!(found.len(), 1);
    let machine = &found[0];
    assert_eq!((machine.id.clone(), machine.state), (launched.id.clone(), MachineState::Running));
    assert_eq!(machine.private_ip.map(|ip| ip.to_string()).as_deref(), Some("10.42.1.4"));
    assert_eq!(machine.volumes.len(), 1);
    let other = Realm::new("other").expect("a valid realm");
    assert_eq!(now(Machines::list(&cloud, &other)), Ok(vec![]));

    let refused = now(cloud.terminate(&machine.id)).expect_err("it is protected");
    assert_eq!(refused.class, Class::Protected);
    now(cloud.protect(&machine.id, Protection::Off)).expect("allowed");
    now(cloud.terminate(&machine.id)).expect("allowed now");
    pass(&cloud, 60);
    let gone = now(Machines::get(&cloud, &machine.id)).expect("still listed");
    assert_eq!((gone.state, gone.private_ip, gone.volumes.len()), (MachineState::Terminated, None, 0));
    pass(&cloud, 2 * 3600);
    let error = now(Machines::get(&cloud, &machine.id)).expect_err("forgotten");
    assert_eq!(error.class, Class::NotFound);
    let spent = now(cloud.launch(&request(&cloud, "token"))).expect_err("its machine has ended");
    assert_eq!(spent.class, Class::TokenSpent);
}

#[test]
fn a_launch_is_found_again_by_its_token() {
    let cloud = cloud();
    let machine = launched(&cloud);
    assert_eq!(launched(&cloud).id, machine.id);
    let found = now(cloud.find_by_token(&ClientToken::new("token").expect("valid"))).expect("a list");
    assert_eq!(found.iter().map(|it| &it.id).collect::<Vec<_>>(), [&machine.id]);
    let wild = now(cloud.find_by_token(&ClientToken::new("tok*").expect("valid"))).expect("a list");
    assert_eq!(wild, vec![], "a star in a token is a star");
    let changed = LaunchRequest { user_data: "other".into(), ..request(&cloud, "token") };
    assert_eq!(now(cloud.launch(&changed)).expect_err("other parameters").class, Class::TokenMismatch);
}

#[test]
fn a_machine_shows_its_tags_in_metadata_so_its_keys_are_narrow() {
    let cloud = cloud();
    let machine = launched(&cloud);
    let bad = BTreeMap::from([("a/b".to_owned(), "c".to_owned())]);
    assert_eq!(now(cloud.tag(&machine.id, &bad)).expect_err("not a metadata key").class, Class::Invalid);
    let good = BTreeMap::from([("drover:role".to_owned(), "replica".to_owned())]);
    now(cloud.tag(&machine.id, &good)).expect("allowed");
    let tags = now(Machines::get(&cloud, &machine.id)).expect("there").tags;
    assert_eq!(tags.get("drover:role").map(String::as_str), Some("replica"));
}

#[test]
fn a_fleet_larger_than_a_page_is_listed_whole() {
    let mut account = Account::new("eu-test-1");
    account.images = cloud().look(|world| world.ec2.account().images.clone());
    account.subnets[0].cidr = crate::ec2::Cidr::try_from("10.42.16.0/20".to_owned()).expect("a valid range");
    let cloud = Fake::new(account, 1, Millis(0));
    for n in 0..1_001 {
        now(cloud.launch(&request(&cloud, &format!("token-{n}")))).expect("a launch");
    }
    let position = cloud.look(|world| world.ec2.log().position());
    let found = now(Machines::list(&cloud, &realm())).expect("a list");
    assert_eq!(found.len(), 1_001);
    let calls = cloud.look(|world| world.ec2.log().since(position).count());
    assert_eq!(calls, 2, "one call per thousand machines");
}

#[test]
fn a_data_volume_lives_apart_from_its_machine() {
    let cloud = cloud();
    let machine = launched(&cloud);
    let made = now(cloud.create(&volume_request())).expect("allowed");
    assert_eq!(now(cloud.create(&volume_request())).expect("the same").id, made.id);
    pass(&cloud, 60);
    now(cloud.attach(&made.id, &machine.id, "/dev/sdf")).expect("allowed");
    let listed = now(Volumes::list(&cloud, &realm())).expect("a list");
    assert_eq!(listed.len(), 1, "the root volume is no data volume: {listed:?}");
    assert_eq!(listed[0].attachment.as_ref().map(|at| &at.instance), Some(&machine.id));
    assert_eq!(now(Volumes::delete(&cloud, &made.id)).expect_err("in use").class, Class::WrongState);
    now(cloud.protect(&machine.id, Protection::Off)).expect("allowed");
    now(cloud.terminate(&machine.id)).expect("allowed");
    pass(&cloud, 60);
    assert_eq!(now(Volumes::get(&cloud, &made.id)).expect("there").state, VolumeState::Available);
    now(Volumes::delete(&cloud, &made.id)).expect("allowed");
    pass(&cloud, 60);
    assert_eq!(now(Volumes::get(&cloud, &made.id)).expect_err("deleted").class, Class::NotFound);
}

#[test]
fn what_a_launch_refers_to_is_found_by_id_and_by_tag() {
    let cloud = cloud();
    let wanted = request(&cloud, "token");
    let by_tags = |key: &str, value: &str| Selector::Tags(BTreeMap::from([(key.into(), value.into())]));
    let own = ["self".to_owned()];
    let images = now(cloud.images(&by_tags("mysql", "9.7"), &own)).expect("a list");
    assert_eq!((images.len(), &images[0].id, images[0].architecture.as_str()), (1, &wanted.image, "arm64"));
    assert_eq!(images[0].created, "1970-01-01T00:00:00.000Z");
    assert_eq!(now(cloud.images(&by_tags("mysql", "8.4"), &own)), Ok(vec![]));
    assert_eq!(now(cloud.images(&by_tags("mysql", "9.7"), &["amazon".to_owned()])), Ok(vec![]));
    let subnets = now(cloud.subnets(&Selector::Ids(vec![wanted.subnet.to_string()]))).expect("a list");
    assert_eq!((subnets.len(), subnets[0].free_addresses), (1, 251));
    let groups = now(cloud.security_groups(&Selector::Ids(vec![wanted.security_groups[0].to_string()])));
    let ids = groups.map(|groups| groups.into_iter().map(|group| group.id).collect());
    assert_eq!(ids, Ok(wanted.security_groups.clone()));
    let types = now(cloud.instance_types(&["m7g.large".to_owned()])).expect("a list");
    assert_eq!((types[0].vcpus, types[0].memory_mib), (2, 8_192));
    let some = ["m7g.huge", "m7g.large", "m7g.*"].map(str::to_owned);
    let known = now(cloud.instance_types(&some)).expect("a list").into_iter().map(|known| known.name);
    assert_eq!(known.collect::<Vec<_>>(), ["m7g.large"]);
}

#[test]
fn asking_whether_a_launch_is_allowed_changes_nothing() {
    let cloud = cloud();
    let wanted = request(&cloud, "token");
    assert_eq!(now(cloud.may_launch(&wanted)), Ok(()));
    cloud.look(|world| world.ec2.faults().credentials = Credentials::Unauthorized);
    assert_eq!(now(cloud.may_launch(&wanted)).expect_err("no permission").class, Class::Denied);
    assert!(cloud.look(|world| world.changes()).is_empty());
}

#[test]
fn each_fault_has_its_class() {
    type Break = fn(&mut World);
    let table: [(Break, Class); 6] = [
        (|it| it.ec2.faults().throttling = crate::ec2::Throttling::Buckets, Class::Throttled),
        (|it| it.ec2.faults().no_capacity.push(NoCapacity::default()), Class::Capacity),
        (|it| it.ec2.faults().credentials = Credentials::Revoked, Class::Denied),
        (|it| it.ec2.faults().zone_outages = ["eu-test-1a".to_owned()].into(), Class::Transient),
        (
            |it| {
                let id = it.ec2.subnets()[0].subnet_id.clone();
                it.ec2.faults().full_subnets.insert(id);
            },
            Class::Capacity,
        ),
        (|it| it.ec2.faults().visibility_lag = Duration::from_secs(1), Class::NotFound),
    ];
    for (break_it, expected) in table {
        let cloud = cloud();
        let wanted = request(&cloud, "token");
        cloud.look(break_it);
        if expected == Class::Throttled {
            (0..5).for_each(|_| drop(now(cloud.launch(&wanted)).expect("within the bucket")));
        }
        let error = match now(cloud.launch(&wanted)) {
            Err(error) => error,
            Ok(machine) => now(Machines::get(&cloud, &machine.id)).expect_err("not visible yet"),
        };
        assert_eq!(error.class, expected, "{error}");
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::raw(name)
}

#[test]
fn a_conditional_write_happens_only_under_its_condition() {
    let cloud = cloud();
    let put = |name: &str, body: &str, condition| now(cloud.put(&key(name), body.as_bytes().to_vec(), condition));
    let class = |answer: Result<ETag, CloudError>| answer.map_err(|error| error.class);
    let first = put("a", "1", Condition::Absent).expect("it is absent");
    assert_eq!(class(put("a", "2", Condition::Absent)), Err(Class::Conflict));
    assert_eq!(class(put("a", "2", Condition::Unchanged(ETag("\"other\"".into())))), Err(Class::Conflict));
    assert_eq!(class(put("b", "2", Condition::Unchanged(first.clone()))), Err(Class::Conflict));
    let second = put("a", "2", Condition::Unchanged(first.clone())).expect("it is unchanged");
    assert_eq!(class(put("a", "3", Condition::Unchanged(first.clone()))), Err(Class::Conflict));
    assert_eq!(put("a", "1", Condition::Unchanged(second)), Ok(first), "an ETag is made from the content alone");
    assert!(put("b", "9", Condition::Always).is_ok());
    assert!(put("b", "9", Condition::Always).is_ok());
    let read = now(Objects::get(&cloud, &key("a"))).expect("readable").expect("there");
    assert_eq!(read.body, b"1");
}

#[test]
fn objects_are_listed_by_prefix() {
    let cloud = cloud();
    for name in ["a/2", "a/1", "b/1", "a"] {
        now(cloud.put(&key(name), vec![], Condition::Absent)).expect("absent");
    }
    assert_eq!(now(Objects::list(&cloud, "a/")), Ok(vec![key("a/1"), key("a/2")]));
    assert_eq!(now(Objects::list(&cloud, "")).expect("a list").len(), 4);
}

#[test]
fn a_broken_bucket_says_how() {
    let table = [
        (BucketFault::Missing, Class::Invalid, "NoSuchBucket"),
        (BucketFault::Throttled, Class::Throttled, "SlowDown"),
        (BucketFault::Unavailable, Class::Transient, "InternalError"),
    ];
    let cloud = cloud();
    for (fault, class, code) in table {
        cloud.look(|world| world.bucket.set_fault(Some(fault)));
        let error = now(cloud.put(&key("a"), vec![], Condition::Always)).expect_err("broken");
        assert_eq!((error.class, error.code.as_str()), (class, code));
    }
    cloud.look(|world| world.bucket.set_fault(None));
    cloud.look(|world| world.ec2.faults().credentials = Credentials::Revoked);
    assert_eq!(now(Objects::get(&cloud, &key("a"))).expect_err("revoked").class, Class::Denied);
    assert!(cloud.look(|world| world.changes()).is_empty());
}

#[test]
fn handles_share_one_cloud_and_sign_their_calls() {
    let cloud = cloud();
    let other = cloud.called_by(Caller::Operator("other".into()));
    let machine = launched(&cloud);
    assert_eq!(now(Machines::get(&other, &machine.id)).map(|it| it.id), Ok(machine.id));
    let callers: Vec<Caller> = cloud.look(|world| world.ec2.log().entries().map(|it| it.caller.clone()).collect());
    assert_eq!(callers, [Caller::operator(), Caller::Operator("other".into())]);
}

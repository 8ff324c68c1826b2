//! Whole operators over the cloud in memory: observe, plan, act, report.

mod common;

use std::{collections::BTreeMap, time::Duration};

use common::{World, declare, key};
use drover_api::{
    ResourceKey,
    bucket::{ObjectKey, RealmKeys},
    clients::{Password, SecretRef},
    conditions::ConditionType,
    records::CurrentBuilds,
    set::{Access, DatabaseSpec, SecretKeySelector, UserSpec},
};
use drover_cloud::{
    ec2::{Caller, InstanceChange, Mode, ModifyInstanceAttribute},
    flaky::{Counted, Crash, Flaky, Odds, Plan as Faults, When},
};
use drover_control::{
    Config,
    deletions::DeleteRefused,
    forecast::forecast,
    publish::{Binary, PublishError},
};
use drover_plan::observed::Seen;
use futures::executor::block_on;

#[test]
fn a_declared_set_is_made_and_then_nothing_is_changed_any_more() {
    let world = World::new();
    let (mut operator, faults) = world.start();
    let all = |readers: u16| {
        let sets = [declare("orders", 3, readers), declare("carts", 3, 0), declare("till", 1, 0)];
        sets.into_iter().flatten().collect()
    };
    operator.declare(all(1), vec![]);
    world.settle(&mut operator);
    assert_eq!(world.count(), (8, 8));
    let (records, position, calls) = (world.records(), world.position(), faults.calls(Counted::All));
    world.passes(&mut operator, 40);
    assert_eq!(world.changes_since(position), Vec::<String>::new());
    assert_eq!(world.records(), records);
    // 40 passes in 120 s: ten machine lists, two of volumes, one renewal every ten seconds; nothing per set or machine.
    let idle = faults.calls(Counted::All) - calls;
    assert!(idle <= 10 + 2 + 12 + 2, "{idle} calls in 120 s of an idle realm");
    // What selectors resolve to is not asked for where nothing is launched, however old the last answer is.
    let looks = || faults.record().into_iter().filter(|made| made.call == "DescribeImages").count();
    let before = looks();
    world.passes(&mut operator, 200);
    assert_eq!(looks(), before);
    operator.declare(all(2), vec![]);
    world.settle(&mut operator);
    assert!(looks() > before, "a machine was launched from an image of ten minutes ago");
}

#[test]
fn a_new_process_adopts_everything_and_changes_nothing() {
    let world = World::new();
    let (mut first, _) = world.start();
    first.declare(declare("orders", 3, 1), vec![]);
    world.settle(&mut first);
    let (records, position, orders) = (world.records(), world.position(), world.agents.orders());
    drop(first);
    let (mut second, _) = world.start();
    second.declare(declare("orders", 3, 1), vec![]);
    world.settle(&mut second);
    assert_eq!(world.changes_since(position), Vec::<String>::new());
    assert_eq!(world.records(), records);
    assert_eq!(world.agents.orders(), orders, "an order was sent although nothing new was asked");
}

#[test]
fn an_instance_type_that_the_region_does_not_know_is_passed_over() {
    let world = World::new();
    let (mut operator, _) = world.start();
    let mut intents = declare("orders", 1, 0);
    for intent in intents.values_mut() {
        intent.set.as_mut().expect("whole").instance_types.insert(0, "m9x.large".into());
    }
    operator.declare(intents, vec![]);
    world.settle(&mut operator);
    assert_eq!(world.count(), (1, 1));
}

#[test]
fn a_set_that_nothing_declares_stays_and_is_reported_until_somebody_deletes_it() {
    let world = World::new();
    let (mut operator, _) = world.start();
    operator.declare(declare("orders", 1, 1), vec![]);
    world.settle(&mut operator);
    assert_eq!(operator.delete(&key("orders")), Err(DeleteRefused::Declared { key: key("orders") }));
    assert_eq!(operator.delete(&key("carts")), Err(DeleteRefused::Unknown { key: key("carts") }));
    operator.declare(BTreeMap::<ResourceKey, _>::new(), vec![]);
    let position = world.position();
    world.passes(&mut operator, 40);
    assert_eq!(world.changes_since(position), Vec::<String>::new());
    assert_eq!(operator.snapshots().borrow().unclaimed.len(), 2);
    assert_eq!(operator.delete(&key("orders")), Ok(()));
    world.passes(&mut operator, 2);
    assert!(operator.ends(&key("orders")), "the deletion is not written down");
    // It is written down: a new process goes on with it, unasked.
    drop(operator);
    let (mut next, _) = world.start();
    world.passes(&mut next, 200);
    assert_eq!(world.count(), (0, 0));
    let incarnation = world.records().into_iter().find(|(key, _)| key.ends_with("incarnation.json"));
    let body = String::from_utf8(incarnation.expect("the record stays").1).expect("JSON");
    assert!(body.contains("DEAD"), "{body}");
}

#[test]
fn a_look_without_an_operator_says_how_a_set_is_and_not_whether_it_is_declared() {
    let world = World::new();
    let (mut operator, _) = world.start();
    operator.declare(declare("orders", 3, 1), vec![]);
    world.settle(&mut operator);
    drop(operator);
    let (mut looking, faults) = world.start();
    let (_, _, snapshot) = block_on(looking.look());
    let verdicts: Vec<&str> = snapshot.sets.iter().map(|set| set.verdict.as_str()).collect();
    assert_eq!(verdicts, ["default/orders is ready: m0 is primary, 4/4 machines ready"]);
    assert!(snapshot.is_whole() && !snapshot.sources_read);
    assert_eq!(snapshot.unclaimed, Vec::<String>::new());
    assert_eq!(faults.calls(Counted::Mutating), 0);
    looking.declare(BTreeMap::new(), vec![]);
    let (_, _, snapshot) = block_on(looking.look());
    assert!(snapshot.sources_read && snapshot.sets[0].verdict.contains("is declared by nobody"));
    assert_eq!(snapshot.unclaimed.len(), 4);
}

#[test]
fn a_namesake_of_a_dead_set_is_a_new_life() {
    let world = World::new();
    let (mut operator, _) = world.start();
    operator.declare(declare("orders", 1, 0), vec![]);
    world.settle(&mut operator);
    operator.declare(BTreeMap::new(), vec![]);
    world.passes(&mut operator, 1);
    assert_eq!(operator.delete(&key("orders")), Ok(()));
    world.passes(&mut operator, 120);
    assert_eq!(world.count(), (0, 0));
    operator.declare(declare("orders", 1, 0), vec![]);
    world.settle(&mut operator);
    assert_eq!(world.count(), (1, 1));
    let lives = world.records().into_keys().filter(|key| key.ends_with("ca.json")).count();
    assert_eq!(lives, 2, "a namesake took the dead one's authority");
}

#[test]
fn lost_replies_and_throttling_neither_double_nor_stop_anything() {
    for seed in 1..=8 {
        let world = World::new();
        let (mut operator, faults) = world.start();
        faults.set_odds(Odds { throttled: 60, unsent: 60, reply_lost: 60 });
        operator.declare(declare("orders", 3, 1), vec![]);
        world.passes(&mut operator, 20 * seed);
        faults.set_odds(Odds::default());
        world.settle(&mut operator);
        assert_eq!(world.count(), (4, 4), "faults for {} passes", 20 * seed);
    }
}

#[test]
fn a_process_that_ends_at_any_change_leaves_one_machine_and_one_volume_for_the_next() {
    for nth in 1.. {
        let world = World::new();
        for when in [When::Before, When::After] {
            let (mut operator, faults) = world.start();
            faults.crash_at(Crash { nth, counted: Counted::Mutating, when });
            operator.declare(declare("orders", 1, 0), vec![]);
            world.passes(&mut operator, 60);
            if !faults.crashed() {
                assert!(nth > 10, "a set of one is made with {nth} changes");
                return;
            }
        }
        let (mut last, _) = world.start();
        last.declare(declare("orders", 1, 0), vec![]);
        world.settle(&mut last);
        assert_eq!(world.count(), (1, 1), "crashed at change {nth}");
    }
}

#[test]
fn a_look_changes_nothing_and_says_what_a_pass_would_do() {
    let world = World::new();
    let (mut operator, faults) = world.start();
    operator.declare(declare("orders", 3, 0), vec![]);
    let (_, plan, snapshot) = block_on(operator.look());
    assert!(!plan.is_quiet() && snapshot.has_changes());
    assert_eq!(faults.changes(), 0);
    assert!(world.records().is_empty());
}

#[test]
fn a_forecast_goes_on_to_every_machine_and_its_volume_and_does_none_of_it() {
    let world = World::new();
    let (mut operator, faults) = world.start();
    operator.declare(declare("orders", 3, 1), vec![]);
    let (observed, _, _) = block_on(operator.look());
    let told = forecast(&observed, drover_plan::plan);
    let count = |kind| told[&key("orders")].iter().filter(|planned| planned.action.kind() == kind).count();
    assert_eq!((count("Launch"), count("CreateVolume")), (4, 4));
    let why =
        told[&key("orders")].iter().find(|planned| planned.action.kind() == "Launch").map(|told| told.why.clone());
    assert!(why.as_ref().is_some_and(|why| why.contains("has no machine")), "{why:?}");
    assert_eq!(faults.changes(), 0);
    // Of what is there and as it should be, it tells nothing.
    world.settle(&mut operator);
    let (observed, _, _) = block_on(operator.look());
    assert_eq!(forecast(&observed, drover_plan::plan), BTreeMap::new());
    // Of what is to end, it tells the end.
    operator.declare(BTreeMap::new(), vec![]);
    assert_eq!(operator.delete(&key("orders")), Ok(()));
    let (observed, _, _) = block_on(operator.look());
    let told = forecast(&observed, drover_plan::plan);
    let count = |kind| told[&key("orders")].iter().filter(|planned| planned.action.kind() == kind).count();
    assert_eq!((count("Launch"), count("Terminate"), count("DeleteVolume")), (0, 4, 4));
}

#[test]
fn a_binary_is_published_once_and_named_current_only_inside_the_lease() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("drover");
    std::fs::write(&path, "a program").expect("written");
    let binary = Binary::of(path, "arm64").expect("read");
    let world = World::new();
    let cloud = Flaky::new(world.fake.clone(), Faults::new(1));
    let keys = RealmKeys::new("", &common::realm());
    block_on(binary.publish(&cloud, &keys, || true)).expect("published");
    let records = world.records();
    assert_eq!(records[keys.binary(&binary.build).as_str()], b"a program");
    let current = String::from_utf8(records[keys.current().as_str()].clone()).expect("JSON");
    assert!(current.contains(&format!("\"arm64\": \"{}\"", binary.build)), "{current}");
    let before = cloud.plan().calls(Counted::Mutating);
    block_on(binary.publish(&cloud, &keys, || true)).expect("published");
    assert_eq!(cloud.plan().calls(Counted::Mutating), before);
    // Another build is not uploaded outside the lease, and one whose lease ends meanwhile does not name itself current.
    let other = Binary { build: drover_api::BuildId::new("cd".repeat(32)).expect("a build"), ..binary };
    assert!(matches!(block_on(other.publish(&cloud, &keys, || false)), Err(PublishError::LeaseEnds)));
    assert_eq!(cloud.plan().calls(Counted::Mutating), before);
    let asked = std::cell::Cell::new(0);
    let once = || asked.replace(asked.get() + 1) == 0;
    assert!(matches!(block_on(other.publish(&cloud, &keys, once)), Err(PublishError::LeaseEnds)));
    assert!(world.records().contains_key(keys.binary(&other.build).as_str()));
    assert_eq!(world.records()[keys.current().as_str()], current.as_bytes());
}

#[test]
fn agents_of_other_architectures_are_published_beside_the_operators_own() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    // The beginning of a program for arm64 (elf(5)): its number is 183.
    let program = [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 9], b"\x02\0\xb7\0"].concat();
    for (architecture, content) in [("arm64", program.as_slice()), ("x86_64", b"its own"), ("riscv64", b"no machine's")]
    {
        std::fs::create_dir(path(architecture)).expect("made");
        std::fs::write(path(architecture).join("drover"), content).expect("written");
    }
    let own = Binary::of(path("x86_64").join("drover"), "x86_64").expect("read");
    let others = Binary::beside(directory.path(), "x86_64").expect("read");
    assert_eq!(others.iter().map(|it| it.architecture.as_str()).collect::<Vec<_>>(), ["arm64"]);
    assert_eq!(Binary::beside(&path("nowhere"), "x86_64").expect("none"), []);

    let world = World::new();
    let (mut operator, _) = world.start_with(|config| Config { binaries: [vec![own], others].concat(), ..config });
    world.passes(&mut operator, 1);
    let keys = RealmKeys::new("", &common::realm());
    let current: CurrentBuilds = serde_json::from_slice(&world.records()[keys.current().as_str()]).expect("JSON");
    assert_eq!(current.builds.keys().collect::<Vec<_>>(), ["arm64", "x86_64"]);
    assert_eq!(world.records()[keys.binary(&current.builds["arm64"]).as_str()], program);

    let mistake = Binary::beside(directory.path(), "arm64").expect_err("its own is no program");
    assert!(matches!(mistake, PublishError::OtherArchitecture { .. }), "{mistake}");
}

#[test]
fn a_record_changed_by_another_hand_is_read_again_and_not_written_over() {
    let world = World::new();
    let (mut operator, _) = world.start();
    operator.declare(declare("orders", 1, 0), vec![]);
    world.settle(&mut operator);
    let slot = world.records().into_keys().find(|key| key.ends_with("slots/m0.json")).expect("a slot record");
    let changed = world.fake.look(|world| {
        let slot = drover_api::bucket::ObjectKey::raw(slot);
        let body = String::from_utf8(world.bucket.object(&slot).expect("a body").to_vec()).expect("JSON");
        let mut record: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        record["write_id"] = "by-another-hand".into();
        world.bucket.set(slot, Some(serde_json::to_vec(&record).expect("JSON")));
        record
    });
    // A read replica more makes it write: not over what it did not write.
    operator.declare(declare("orders", 1, 1), vec![]);
    world.settle(&mut operator);
    world.fake.advance(Duration::from_secs(3));
    let records = world.records();
    let (_, body) = records.iter().find(|(key, _)| key.ends_with("slots/m0.json")).expect("a slot record");
    let record: serde_json::Value = serde_json::from_slice(body).expect("JSON");
    assert_eq!(record, changed);
}

#[test]
fn full_subnets_are_asked_once_in_a_while_and_not_in_every_pass() {
    let world = World::new();
    let (mut operator, faults) = world.start();
    let full: Vec<String> = world.fake.look(|world| {
        let subnets: Vec<String> = world.ec2.subnets().iter().map(|subnet| subnet.subnet_id.clone()).collect();
        world.ec2.faults().full_subnets.extend(subnets.iter().cloned());
        subnets
    });
    operator.declare(declare("orders", 1, 0), vec![]);
    world.passes(&mut operator, 40);
    let launches = faults.record().into_iter().filter(|made| made.call == "RunInstances").count();
    // 120 s: each subnet was tried once, and is remembered for three minutes.
    assert_eq!(launches, full.len());
    let waiting = operator.snapshots().borrow().sets[0].awaiting.clone();
    assert!(waiting.iter().any(|line| line.contains("no free address")), "{waiting:?}");
    world.fake.look(|world| world.ec2.faults().full_subnets.clear());
    world.settle(&mut operator);
}

/// What becomes of the bucket, by an object's key: nothing, or these bytes.
type Damage = fn(&str, &[u8]) -> Option<Vec<u8>>;

#[test]
fn a_bucket_that_is_restored_is_noticed_at_the_next_look() {
    let other_life: Damage = |key, body| {
        let body = String::from_utf8(body.to_vec()).expect("JSON");
        let mut record: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        if key.ends_with("incarnation.json") {
            record["incarnation"] = "0therl1fe".into();
        }
        Some(record.to_string().into_bytes())
    };
    let no_register: Damage = |key, body| (!key.ends_with("register.json")).then(|| body.to_vec());
    let nothing: Damage = |_, _| None;
    for (damage, reason) in [(nothing, "RegisterLost"), (no_register, "RegisterLost"), (other_life, "OtherIncarnation")]
    {
        let world = World::new();
        let (mut first, _) = world.start();
        first.declare(declare("orders", 1, 1), vec![]);
        world.settle(&mut first);
        block_on(first.release()).expect("released");
        let (whole, position) = (world.records(), world.position());
        let write = |records: &BTreeMap<String, Vec<u8>>, damage: Damage| {
            world.fake.look(|world| {
                for (key, body) in records {
                    world.bucket.set(ObjectKey::raw(key.as_str()), damage(key, body));
                }
            });
        };
        write(&whole, damage);
        let (mut operator, _) = world.start();
        operator.declare(declare("orders", 1, 1), vec![]);
        world.passes(&mut operator, 3);
        let snapshot = operator.snapshots().borrow().clone();
        let stalled = snapshot.sets[0].condition(ConditionType::Stalled).map(|stalled| stalled.reason.clone());
        assert_eq!(stalled.as_deref(), Some(reason));
        write(&whole, |_, body| Some(body.to_vec()));
        // While records are missing the bucket is looked into every half a minute.
        world.passes(&mut operator, 12);
        assert!(operator.snapshots().borrow().sets[0].ready, "{reason}: {:#?}", operator.snapshots().borrow());
        assert_eq!(world.changes_since(position), Vec::<String>::new());
        assert_eq!(world.records(), whole);
    }
}

#[test]
fn a_bucket_that_loses_its_objects_under_the_operator_is_noticed() {
    // Everything goes, the lock with it; or one set's objects, which the next look into the bucket misses.
    for (is_all, passes) in [(true, 4), (false, 101)] {
        let world = World::new();
        let (mut operator, _) = world.start();
        operator.declare(declare("orders", 1, 1), vec![]);
        world.settle(&mut operator);
        let (fence, position) = (operator.snapshots().borrow().lock.fence, world.position());
        let records = world.records();
        world.fake.look(|world| match is_all {
            true => world.bucket.empty(),
            false => records.keys().for_each(|key| world.bucket.set(ObjectKey::raw(key.as_str()), None)),
        });
        world.passes(&mut operator, passes);
        let snapshot = operator.snapshots().borrow().clone();
        let stalled = snapshot.sets[0].condition(ConditionType::Stalled).map(|stalled| stalled.reason.as_str());
        assert_eq!(stalled, Some("RegisterLost"), "{snapshot:#?}");
        assert_eq!(snapshot.lock.fence > fence, is_all, "a fencing number that was taken is not taken again");
        assert_eq!(world.changes_since(position), Vec::<String>::new());
    }
}

#[test]
fn a_deletion_without_records_says_that_machines_are_there() {
    let world = World::new();
    let (mut first, _) = world.start();
    first.declare(declare("orders", 1, 0), vec![]);
    world.settle(&mut first);
    block_on(first.release()).expect("released");
    world.fake.look(|world| world.bucket.empty());
    let (mut operator, _) = world.start();
    assert!(matches!(operator.delete(&key("orders")), Err(DeleteRefused::Unread { .. })), "nothing was looked at yet");
    world.passes(&mut operator, 2);
    assert_eq!(operator.delete(&key("orders")), Err(DeleteRefused::Lost { key: key("orders") }));
    assert_eq!(operator.delete(&key("carts")), Err(DeleteRefused::Unknown { key: key("carts") }));
}

#[test]
fn a_volume_that_somebody_lets_go_with_its_machine_is_kept_by_one_call() {
    let world = World::new();
    let (mut operator, _) = world.start();
    operator.declare(declare("orders", 3, 0), vec![]);
    world.settle(&mut operator);
    let attachment = |world: &World| {
        world.fake.look(|world| {
            let mut data = world.ec2.volumes().filter(|volume| volume.tags.contains_key("drover:volume"));
            data.find_map(|volume| volume.attachment.clone()).expect("a data volume is attached")
        })
    };
    let at = attachment(&world);
    let changes = vec![InstanceChange::DeleteOnTermination(vec![(at.device, true)])];
    world.fake.look(|world| {
        let now = world.now();
        let person = Caller::Operator("person".into());
        let change = ModifyInstanceAttribute { instance_id: at.instance_id, changes };
        world.ec2.call(now, &person, Mode::Run, &change).expect("a person may")
    });
    assert!(attachment(&world).delete_on_termination);
    let position = world.position();
    world.passes(&mut operator, 60);
    assert!(!attachment(&world).delete_on_termination);
    assert_eq!(world.changes_since(position), ["ModifyInstanceAttribute"]);
}

#[test]
fn how_applications_connect_is_told_beside_the_snapshot_and_only_when_it_changes() {
    let world = World::new();
    let (mut operator, _) = world.start();
    let declared = |rotation| {
        let mut intents = declare("orders", 1, 0);
        let set = intents.get_mut(&key("orders")).expect("declared").set.as_mut().expect("whole");
        set.databases.insert("shop".into(), DatabaseSpec::default());
        let made = UserSpec {
            database: "shop".into(),
            access: Access::ReadWrite,
            password_secret_ref: None,
            rotation: Some(rotation),
        };
        let kept = SecretKeySelector { name: "report".into(), key: "password".into() };
        let chosen = UserSpec { password_secret_ref: Some(kept), rotation: None, ..made.clone() };
        set.users.extend([("app".to_owned(), made), ("report".to_owned(), chosen)]);
        intents
    };
    let reference = SecretRef { namespace: key("orders").namespace, name: "report".into(), key: "password".into() };
    let password = Password::new("correct horse").expect("valid");
    operator.learn_passwords([(reference, Seen::Known(password))].into());
    operator.declare(declared(1), vec![]);
    world.settle(&mut operator);
    let mut connections = operator.connections();
    let known = connections.borrow_and_update().clone();
    let orders = &known[&key("orders")];
    assert!(orders.ca_pem.starts_with("-----BEGIN CERTIFICATE-----"), "{}", orders.ca_pem);
    let told: Vec<_> = orders.users.iter().map(|user| (user.user.as_str(), user.applied)).collect();
    assert_eq!(told, [("app", true), ("report", true)]);
    let shown = format!("{:?} {}", known, serde_json::to_string(&**operator.snapshots().borrow()).expect("JSON"));
    for user in &orders.users {
        assert!(!shown.contains(&user.password), "{shown}");
    }
    world.passes(&mut operator, 5);
    assert!(!connections.has_changed().expect("it lives"), "nothing changed");
    operator.declare(declared(2), vec![]);
    world.settle(&mut operator);
    assert!(connections.has_changed().expect("it lives"));
    let rotated = connections.borrow_and_update()[&key("orders")].users[0].clone();
    assert!(rotated.applied && rotated.password != orders.users[0].password);
}

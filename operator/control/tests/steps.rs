//! A plan leaves no choices, and executing decides nothing (law 5): the plans of a whole life of a set are gone
//! through one action after the other, each alone, and each sends exactly the one call that it says, with what it says.

mod common;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use common::{LEASE, Process, World, declare, key, realm};
use drover_api::{
    BuildId, ResourceKey,
    bucket::{IncarnationKeys, ObjectKey, RealmKeys},
    records::CurrentBuilds,
    requests::Request,
    tags::HOLD,
};
use drover_cloud::{
    ec2::{Caller, InstanceChange, InstanceStateName, Mode, ModifyInstanceAttribute, VolumeState},
    flaky::{Effect, Plan as Faults},
};
use drover_plan::{Action, Observed, Plan, Planned};
use futures::executor::block_on;
use serde::Serialize;

thread_local! {
    /// What is left of the plan that is gone through.
    static LEFT: RefCell<VecDeque<(ResourceKey, Planned)>> = RefCell::default();
}

/// The next action of a real plan, alone; when all of one are done, the first of another.
fn next_alone(observed: &Observed) -> Plan {
    let plan = drover_plan::plan(observed);
    LEFT.with_borrow_mut(|left| {
        if left.is_empty() {
            left.extend(plan.actions.iter().flat_map(|(key, all)| all.iter().map(|it| (key.clone(), it.clone()))));
        }
        let actions = left.pop_front().map(|(key, planned)| (key, vec![planned])).into_iter().collect();
        Plan { actions, ..plan }
    })
}

/// The one call that an action is; `order` and `upgrade` go to an agent.
fn says(action: &Action) -> &'static str {
    match action {
        Action::PutIncarnation { .. }
        | Action::CreateCa { .. }
        | Action::PutRegister { .. }
        | Action::PutJournal { .. }
        | Action::CreateBundle { .. }
        | Action::PutSlot { .. } => "PutObject",
        Action::Launch { .. } => "RunInstances",
        Action::FindByToken { .. } => "DescribeInstances by token",
        Action::LookUpMachine { .. } => "DescribeInstances by id",
        Action::LookUpVolume { .. } => "DescribeVolumes by id",
        Action::CreateVolume { .. } => "CreateVolume",
        Action::Attach { .. } => "AttachVolume",
        Action::KeepVolume { .. } | Action::Unprotect { .. } => "ModifyInstanceAttribute",
        Action::Terminate { .. } => "TerminateInstances",
        Action::DeleteVolume { .. } => "DeleteVolume",
        Action::Tag { .. } | Action::Hold { .. } => "CreateTags",
        Action::Release { .. } => "DeleteTags",
        Action::Order { .. } => "order",
        Action::Upgrade { .. } => "upgrade",
    }
}

/// Whether the world is now as the action says.
fn is_done(world: &World, set: &ResourceKey, action: &Action) -> bool {
    let realm = RealmKeys::new("", &realm());
    let keys = realm.set(set);
    let is_there = |key: ObjectKey| world.records().contains_key(key.as_str());
    let of = |incarnation| -> IncarnationKeys { keys.of(incarnation) };
    let cloud = |look: &dyn Fn(&mut drover_cloud::fake::World) -> bool| world.fake.look(|world| look(world));
    let data =
        |id: &str, is: &dyn Fn(&drover_cloud::ec2::Volume) -> bool| cloud(&|it| it.ec2.volume(id).is_some_and(is));
    let machine =
        |id: &str, is: &dyn Fn(&drover_cloud::ec2::Instance) -> bool| cloud(&|it| it.ec2.instance(id).is_some_and(is));
    match action {
        Action::PutIncarnation { record, .. } => says_the_same(world, &keys.incarnation(), record),
        Action::CreateCa { incarnation } => is_there(of(incarnation).ca()),
        Action::PutRegister { incarnation, register, .. } => {
            says_the_same(world, &of(incarnation).register(), register)
        }
        Action::PutJournal { incarnation, register } => {
            says_the_same(world, &of(incarnation).journal(register.epoch), register)
        }
        Action::CreateBundle { incarnation, slot } => is_there(of(incarnation).bundle(*slot)),
        Action::PutSlot { incarnation, slot, record, .. } => says_the_same(world, &of(incarnation).slot(*slot), record),
        Action::Launch { request, .. } => cloud(&|it| {
            it.ec2.instances().any(|instance| {
                instance.client_token.as_deref() == Some(request.token.as_str())
                    && instance.image_id == request.image.as_str()
                    && instance.instance_type == request.instance_type
                    && instance.zone == request.zone.as_str()
                    && instance.subnet_id == request.subnet.as_str()
                    && instance.user_data.as_deref() == Some(request.user_data.as_bytes())
                    && instance.disable_api_termination
                    && instance.tags == request.tags
            })
        }),
        Action::CreateVolume { request, .. } => cloud(&|it| {
            it.ec2.volumes().any(|volume| {
                volume.zone == request.zone.as_str()
                    && volume.size_gib == request.size_gib
                    && volume.volume_type == request.volume_type
                    && volume.tags == request.tags
            })
        }),
        Action::Attach { volume, instance } => data(volume.as_str(), &|volume| {
            volume.attachment.as_ref().is_some_and(|at| at.instance_id == instance.as_str())
        }),
        Action::KeepVolume { volume, .. } => {
            data(volume.as_str(), &|volume| volume.attachment.as_ref().is_some_and(|at| !at.delete_on_termination))
        }
        Action::Unprotect { instance } => machine(instance.as_str(), &|instance| !instance.disable_api_termination),
        Action::Terminate { instance } => machine(instance.as_str(), &|instance| {
            matches!(instance.state, InstanceStateName::ShuttingDown | InstanceStateName::Terminated)
        }),
        Action::DeleteVolume { volume } => {
            cloud(&|it| it.ec2.volume(volume.as_str()).is_none_or(|volume| volume.state == VolumeState::Deleting))
        }
        Action::Tag { instance, tags } => machine(instance.as_str(), &|instance| {
            tags.iter().all(|(key, value)| instance.tags.get(key) == Some(value))
        }),
        Action::Hold { instance } => machine(instance.as_str(), &|instance| instance.tags.contains_key(HOLD)),
        Action::Release { instance } => machine(instance.as_str(), &|instance| !instance.tags.contains_key(HOLD)),
        Action::Order { slot, instance, epoch, claim, wanted } => world.agents.last(instance).is_some_and(|last| {
            last.slot == *slot && last.epoch == *epoch && last.claim == *claim && last.wanted == **wanted
        }),
        Action::Upgrade { instance, build, .. } => world.agents.build(instance).as_ref() == Some(build),
        Action::FindByToken { .. } | Action::LookUpMachine { .. } | Action::LookUpVolume { .. } => true,
    }
}

/// An object is a record, but for the write id, which its writer mints.
fn says_the_same(world: &World, key: &ObjectKey, record: &impl Serialize) -> bool {
    let body = world.records().remove(key.as_str()).expect("it was written");
    let mut bodies = [serde_json::from_slice(&body), serde_json::to_value(record)].map(|json| json.expect("JSON"));
    for body in &mut bodies {
        body["write_id"].take();
    }
    bodies[0] == bodies[1]
}

/// Passes until nothing was wanted for longer than any list takes; the kinds of actions that were done.
fn go_on(world: &World, operator: &mut Process, faults: &Faults) -> BTreeSet<&'static str> {
    let mut kinds = BTreeSet::new();
    let mut quiet = 0;
    while quiet < 30 {
        let lock = || {
            let key = RealmKeys::new("", &realm()).lock();
            world.fake.look(|world| world.bucket.object(&key).map(<[u8]>::to_vec))
        };
        let (made, orders, upgrades, held) =
            (faults.record().len(), world.agents.orders(), world.agents.upgrades(), lock());
        let outcome = block_on(operator.pass());
        assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
        let mut sent: Vec<&str> = faults.record().split_off(made).iter().filter_map(of_an_action).collect();
        if lock() != held {
            let renewal = sent.iter().position(|call| *call == "PutObject").expect("the lock was written");
            sent.remove(renewal);
        }
        sent.extend((orders..world.agents.orders()).map(|_| "order"));
        sent.extend((upgrades..world.agents.upgrades()).map(|_| "upgrade"));
        let plan = outcome.plan.expect("it holds the lock");
        let planned: Vec<_> = plan.actions.iter().flat_map(|(key, all)| all.iter().map(move |it| (key, it))).collect();
        assert_eq!(sent, planned.iter().map(|(_, it)| says(&it.action)).collect::<Vec<_>>(), "{planned:#?}");
        for (set, planned) in &planned {
            assert!(is_done(world, set, &planned.action), "{planned:#?}");
            kinds.insert(planned.action.kind());
        }
        quiet = if planned.is_empty() { quiet + 1 } else { 0 };
        if LEFT.with_borrow(VecDeque::is_empty) {
            world.fake.advance(Duration::from_secs(3));
        }
    }
    kinds
}

/// What changes something, and what only an action looks up.
fn of_an_action(made: &drover_cloud::flaky::Made) -> Option<&'static str> {
    let looks_up = made.call.ends_with(" by token") || made.call.ends_with(" by id");
    (made.effect == Effect::Mutates || looks_up).then_some(made.call)
}

/// A person has a data volume end with its machine.
fn let_volume_go(world: &World) {
    world.fake.look(|world| {
        let mut data = world.ec2.volumes().filter(|volume| volume.tags.contains_key("drover:volume"));
        let at = data.find_map(|volume| volume.attachment.clone()).expect("a data volume is attached");
        drop(data);
        let changes = vec![InstanceChange::DeleteOnTermination(vec![(at.device, true)])];
        let change = ModifyInstanceAttribute { instance_id: at.instance_id, changes };
        let (now, person) = (world.now(), Caller::Operator("person".into()));
        world.ec2.call(now, &person, Mode::Run, &change).expect("a person may");
    });
}

#[test]
fn each_action_of_a_plan_sends_the_one_call_that_it_says_and_no_other() {
    let world = World::new();
    let build = BuildId::new("cd".repeat(32)).expect("a build");
    let current = CurrentBuilds { builds: BTreeMap::from([("arm64".into(), build)]) };
    let body = serde_json::to_vec(&current).expect("JSON");
    world.fake.look(|world| world.bucket.set(RealmKeys::new("", &realm()).current(), Some(body)));
    let (mut operator, faults) = world.start_deciding(next_alone);
    // A bucket with objects and without a lock: whoever held it may still act.
    world.fake.advance(LEASE);
    block_on(operator.pass());
    world.fake.advance(LEASE);
    operator.declare(declare("orders", 3, 1), vec![]);
    let mut kinds = go_on(&world, &mut operator, &faults);
    assert_eq!(world.count(), (4, 4));

    for (verb, token) in [("hold", "t1"), ("release", "t2")] {
        let mut asked = declare("orders", 3, 1);
        asked.values_mut().for_each(|intent| intent.requests = vec![Request::read(verb, &format!("{token} m1"))]);
        operator.declare(asked, vec![]);
        kinds.extend(go_on(&world, &mut operator, &faults));
    }
    let_volume_go(&world);
    operator.declare(declare("orders", 3, 0), vec![]);
    kinds.extend(go_on(&world, &mut operator, &faults));
    assert_eq!(world.count(), (3, 3));

    operator.declare(BTreeMap::new(), vec![]);
    assert_eq!(operator.delete(&key("orders")), Ok(()));
    kinds.extend(go_on(&world, &mut operator, &faults));
    assert_eq!(world.count(), (0, 0));
    let changing = [
        "Attach",
        "CreateBundle",
        "CreateCa",
        "CreateVolume",
        "DeleteVolume",
        "Hold",
        "KeepVolume",
        "Launch",
        "Order",
        "PutIncarnation",
        "PutJournal",
        "PutRegister",
        "PutSlot",
        "Release",
        "Tag",
        "Terminate",
        "Unprotect",
        "Upgrade",
    ];
    assert_eq!(kinds, BTreeSet::from(changing), "every action that changes something was seen");
}

//! Databases and users of applications: on every server what is declared, whoever operates and whoever leads.

use std::{collections::BTreeMap, time::Duration};

use drover_agent::state::SeenUser;
use drover_api::{
    InstanceId, Slot,
    clients::{Password, SecretRef},
};
use drover_plan::observed::Seen;
use drover_sim::{
    Declared, Process, Sim,
    laws::{self, BUSY, converge, pass_for, slots},
};

const LIMIT: Duration = Duration::from_secs(20 * 60);
const TWO: &str = "databases: {shop: {}, stock: {}}, users: {app: {database: shop, access: ReadWrite}, \
     report: {database: stock, access: ReadOnly}}";

fn with_users(members: u8, readers: u16) -> Declared {
    Declared { clients: TWO, ..Declared::new("shop", members, readers) }
}

fn leader(sim: &Sim, set: &Declared) -> InstanceId {
    sim.lock().machine_in(&set.key(), Slot::Member(0)).expect("it is filled")
}

fn users(sim: &Sim, set: &Declared) -> BTreeMap<String, SeenUser> {
    let leader = leader(sim, set);
    sim.lock().users(&leader)
}

fn users_of(sim: &Sim, set: &Declared) -> BTreeMap<String, (String, bool)> {
    users(sim, set).into_iter().map(|(name, user)| (name, (user.mark.version, user.takes_old))).collect()
}

#[test]
fn another_operator_and_another_epoch_find_the_users_and_rotate_nothing() {
    let till = with_users(1, 1);
    let (sim, operator) = laws::settled(31, &till, LIMIT);
    let before = users(&sim, &till);
    assert_eq!(before.keys().collect::<Vec<_>>(), ["app", "report"]);
    drop(operator);
    let mut next = Process::start(&sim, 'a');
    next.operator.declare(till.intents(), vec![]);
    converge(&sim, &mut next, &[(till.key(), slots(1, 1))], LIMIT);
    assert_eq!(users(&sim, &till), before);

    let lost = leader(&sim, &till);
    sim.lock().terminate(&lost);
    pass_for(&sim, &mut next, Duration::from_secs(60));
    converge(&sim, &mut next, &[(till.key(), slots(1, 1))], LIMIT);
    assert_eq!(sim.lock().register(&till.key()).expect("it lives").epoch.0, 2);
    assert_eq!(users(&sim, &till), before);
}

#[test]
fn a_counted_rotation_changes_one_password_and_the_old_one_is_taken_for_an_hour() {
    let shop = with_users(3, 1);
    let (sim, mut operator) = laws::settled(32, &shop, LIMIT);
    let before = users_of(&sim, &shop);
    let rotated = TWO.replace("access: ReadWrite", "access: ReadWrite, rotation: 1");
    let rotated = Declared { clients: rotated.leak(), generation: 2, ..shop.clone() };
    operator.operator.declare(rotated.intents(), vec![]);
    converge(&sim, &mut operator, &[(shop.key(), slots(3, 1))], LIMIT);
    let after = users_of(&sim, &shop);
    assert_eq!(after["report"], before["report"]);
    assert!(after["app"].0 != before["app"].0 && after["app"].1, "{after:?}");
    sim.advance(Duration::from_secs(3600));
    assert_eq!(users_of(&sim, &shop)["app"], (after["app"].0.clone(), false));
}

#[test]
fn a_user_that_a_person_dropped_comes_back_and_one_that_is_not_declared_any_more_stays() {
    let shop = with_users(3, 0);
    let (sim, mut operator) = laws::settled(33, &shop, LIMIT);
    let leader = leader(&sim, &shop);
    sim.lock().drop_user(&leader, "app");
    sim.advance(BUSY * 3);
    converge(&sim, &mut operator, &[(shop.key(), slots(3, 0))], LIMIT);
    assert!(users(&sim, &shop).contains_key("app"));

    let nobody = Declared { clients: "databases: {}", generation: 2, ..shop.clone() };
    operator.operator.declare(nobody.intents(), vec![]);
    converge(&sim, &mut operator, &[(shop.key(), slots(3, 0))], LIMIT);
    assert_eq!(users(&sim, &shop).len(), 2);
    assert_eq!(operator.operator.snapshots().borrow().sets[0].kept_users, ["app", "report"]);
}

#[test]
fn without_acknowledgements_no_user_is_changed_and_with_them_all_are() {
    let shop = Declared::new("shop", 3, 0);
    let (sim, mut operator) = laws::settled(34, &shop, LIMIT);
    for slot in [1, 2] {
        let id = sim.lock().machine_in(&shop.key(), Slot::Member(slot)).expect("it is filled");
        sim.lock().machine(&id).cut = true;
    }
    pass_for(&sim, &mut operator, Duration::from_secs(60));
    let declared = Declared { generation: 2, ..with_users(3, 0) };
    operator.operator.declare(declared.intents(), vec![]);
    pass_for(&sim, &mut operator, Duration::from_secs(300));
    assert_eq!(users(&sim, &shop), BTreeMap::new());
    for slot in [1, 2] {
        let id = sim.lock().machine_in(&shop.key(), Slot::Member(slot)).expect("it is filled");
        sim.lock().machine(&id).cut = false;
    }
    converge(&sim, &mut operator, &[(shop.key(), slots(3, 0))], LIMIT);
    assert_eq!(users(&sim, &shop).len(), 2);
}

#[test]
fn a_password_that_is_awaited_holds_up_its_user_alone() {
    let clients = "databases: {shop: {}}, users: {app: {database: shop, access: ReadWrite}, \
         report: {database: shop, access: ReadOnly, passwordSecretRef: {name: s, key: k}}}";
    let shop = Declared { clients, ..Declared::new("shop", 1, 0) };
    let (sim, mut operator) = laws::settled(35, &shop, LIMIT);
    assert_eq!(users(&sim, &shop).keys().collect::<Vec<_>>(), ["app"]);
    let reference = SecretRef { namespace: "default".parse().expect("valid"), name: "s".into(), key: "k".into() };
    let password = Password::new("correct horse").expect("valid");
    operator.operator.learn_passwords(BTreeMap::from([(reference, Seen::Known(password))]));
    pass_for(&sim, &mut operator, Duration::from_secs(20));
    converge(&sim, &mut operator, &[(shop.key(), slots(1, 0))], LIMIT);
    assert_eq!(users(&sim, &shop).keys().collect::<Vec<_>>(), ["app", "report"]);
}

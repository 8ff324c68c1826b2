//! Databases and users of applications, on a leader that is open.

use drover_api::{
    clients::{ClientsReport, DatabaseOrder, Grants, UserOrder},
    set::Access,
};

use super::*;

fn user(name: &str, version: &str, access: Access) -> UserOrder {
    let grants = Grants { database: "shop".into(), access };
    UserOrder { name: name.into(), grants, password: "correct horse".into(), version: version.into() }
}

fn database(name: &str) -> DatabaseOrder {
    DatabaseOrder { name: name.into(), character_set: None, collation: None }
}

/// Orders of an open leader with these users of one database.
fn with(epoch: u64, seq: u64, users: &[UserOrder]) -> Orders {
    let clients = Clients { databases: vec![database("shop")], users: users.to_vec(), ..Clients::default() };
    orders(epoch, seq, RoleOrder::Leader(LeaderOrder { clients, ..leader(1, true) }))
}

/// An open leader that has made `app` and `report`.
fn made() -> World {
    let mut world = opened();
    world.order(with(1, 2, &both("1"))).wait(3);
    assert_eq!(world.seen.users.len(), 2, "{:?}", world.done);
    world.take_done();
    world
}

fn both(version: &str) -> [UserOrder; 2] {
    [user("app", version, Access::ReadWrite), user("report", "1", Access::ReadOnly)]
}

fn report(world: &World) -> &ClientsReport {
    match world.server() {
        ServerReport::Running(Running { role: RunningRole::Leader { clients, .. }, .. }) => clients,
        other => panic!("{other:?}"),
    }
}

#[test]
fn databases_come_first_and_each_user_has_its_rights_before_the_next_is_made() {
    let mut world = World::new();
    world.order(with(1, 1, &both("1"))).wait(4);
    let done = world.take_done();
    let after: Vec<&str> = done.iter().skip_while(|done| *done != "Admit").skip(1).map(String::as_str).collect();
    assert_eq!(after, ["Databases", "Make app", "Grant app", "Make report", "Grant report"]);
    let users = &report(&world).users;
    assert!(both("1").iter().all(|order| order.is_made(users)), "{users:?}");
    world.wait(50);
    assert_eq!(world.take_done(), [""; 0], "it is as ordered");
}

#[test]
fn nothing_is_begun_while_acknowledgements_are_missing() {
    let mut world = opened();
    world.acknowledged = false;
    world.wait(5);
    world.order(with(1, 2, &both("1"))).wait(600);
    assert_eq!(world.take_done(), [""; 0]);
    world.acknowledged = true;
    world.wait(3);
    assert_eq!(world.seen.users.len(), 2);
}

#[test]
fn a_closed_leader_and_a_replica_make_nobody() {
    let clients = Clients { databases: vec![database("shop")], users: both("1").to_vec(), ..Clients::default() };
    let mut world = World::new();
    world.order(orders(1, 1, RoleOrder::Leader(LeaderOrder { clients, ..leader(1, false) }))).wait(10);
    assert_eq!(world.take_done(), TO_CLOSED);
}

#[test]
fn a_changed_password_is_changed_once_and_the_old_one_is_taken_for_an_hour_whoever_leads_then() {
    let mut world = made();
    world.order(with(1, 3, &both("2"))).wait(3);
    assert_eq!(world.take_done(), ["Databases", "Rotate app"]);
    // Another agent, and then another mysqld in another epoch: what is there is on the account.
    world.restart_agent("boot-1").wait(600);
    world.register = Some(register(2, me().slot));
    world.kill_mysqld();
    let clients = Clients { users: both("2").to_vec(), ..Clients::default() };
    let again = LeaderOrder { initialise: false, clients, ..leader(1, true) };
    world.order(orders(2, 1, RoleOrder::Leader(again))).wait(600);
    world.take_done();
    let left = 3600 - world.now.since(world.seen.users["app"].mark.changed).as_secs();
    world.wait(left - 2);
    assert!(world.take_done().iter().all(|done| done == "Databases") && world.seen.users["app"].takes_old);
    world.wait(4);
    assert!(world.take_done().contains(&"Discard app".to_owned()) && !world.seen.users["app"].takes_old);
}

#[test]
fn changed_rights_are_given_without_touching_the_password() {
    let mut world = made();
    world.order(with(1, 3, &[user("app", "1", Access::ReadOnly), user("report", "1", Access::ReadOnly)])).wait(3);
    assert_eq!(world.take_done(), ["Databases", "Grant app"]);
}

#[test]
fn who_was_dropped_by_hand_is_made_again_and_who_is_not_ordered_any_more_stays() {
    let mut world = made();
    world.seen.users.remove("app");
    world.wait(3);
    assert_eq!(world.take_done(), ["Make app", "Grant app"]);
    world.order(with(1, 3, &[])).wait(30);
    assert_eq!(world.take_done(), ["Databases"]);
    assert_eq!(report(&world).users.keys().collect::<Vec<_>>(), ["app", "report"]);
    world.order(orders(1, 4, RoleOrder::Leader(leader(1, true)))).wait(3);
    assert_eq!(world.take_done(), ["Databases"]);
    assert_eq!(report(&world).databases, BTreeSet::from(["shop".to_owned()]));
}

#[test]
fn who_cannot_be_made_is_told_and_tried_again_and_holds_up_nobody() {
    let mut world = opened();
    let problem = Problem { reason: Reason::ForeignUser, message: "somebody else's".into() };
    world.failing_users.insert("app".into(), problem.clone());
    world.failing_databases.insert("shop".into(), "no such character set".into());
    world.order(with(1, 2, &both("1"))).wait(10);
    assert_eq!(world.take_done(), ["Databases", "Make app", "Make report", "Grant report"]);
    assert_eq!(report(&world).user_problems, BTreeMap::from([("app".into(), problem)]));
    assert_eq!(report(&world).database_problems["shop"].reason, Reason::DatabaseFailed);
    assert_eq!(world.problems(), [], "it is theirs, and not the machine's");

    world.failing_users.clear();
    world.failing_databases.clear();
    world.wait(60);
    assert_eq!(world.take_done(), ["Make app", "Grant app", "Databases"]);
    assert!(report(&world).user_problems.is_empty() && report(&world).database_problems.is_empty());
}

#[test]
fn a_step_that_was_given_up_and_ended_well_later_is_no_problem_any_more() {
    let mut world = opened();
    let problem = Problem { reason: Reason::UserFailed, message: "it did not return within 5 s".into() };
    world.failing_users.insert("app".into(), problem);
    world.order(with(1, 2, &[user("app", "1", Access::ReadWrite)])).wait(3);
    assert_eq!(report(&world).user_problems.len(), 1);
    let grants = Some(user("app", "1", Access::ReadWrite).grants);
    let mark = Mark { version: "1".into(), changed: world.now, grants };
    world.seen.users.insert("app".into(), SeenUser { mark, takes_old: false });
    world.wait(3);
    assert_eq!(report(&world).user_problems, BTreeMap::new());
}

#[test]
fn an_account_that_was_handed_over_gets_the_ordered_password_beside_its_own() {
    let mut world = opened();
    let problem = Problem { reason: Reason::ForeignUser, message: "somebody else's".into() };
    world.failing_users.insert("app".into(), problem);
    world.order(with(1, 2, &[user("app", "1", Access::ReadWrite)])).wait(3);
    assert_eq!(world.take_done(), ["Databases", "Make app"]);
    world.failing_users.clear();
    let handed = SeenUser { mark: Mark::default(), takes_old: false };
    world.seen.users.insert("app".into(), handed);
    world.wait(3);
    assert_eq!(world.take_done(), ["Rotate app", "Grant app"]);
}

#[test]
fn orders_that_an_older_build_did_not_understand_whole_are_told_to_be_others() {
    let mut world = opened();
    world.order(with(1, 2, &both("1"))).wait(3);
    let accepted = |world: &World| world.report().accepted.clone().expect("accepted").digest;
    let ordered = accepted(&world);
    world.restart_agent("boot-1").wait(1);
    assert_eq!(accepted(&world), ordered);
    let record = world.persisted.as_mut().expect("persisted");
    if let RoleOrder::Leader(leader) = &mut record.orders.as_mut().expect("ordered").wanted.role {
        leader.clients = Clients::default();
    }
    world.restart_agent("boot-1").wait(1);
    assert_ne!(accepted(&world), ordered);
}

#[test]
fn what_is_to_be_dropped_is_dropped_once_and_only_what_is_ours() {
    let mut world = made();
    let dropping = |seq, users: &[&str], databases: &[&str]| {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let clients = Clients { drop_users: set(users), drop_databases: set(databases), ..Clients::default() };
        orders(1, seq, RoleOrder::Leader(LeaderOrder { clients, ..leader(1, true) }))
    };
    world.order(dropping(3, &["app", "somebody"], &["shop", "other"])).wait(40);
    assert_eq!(world.take_done(), ["Databases", "Drop app", "DropDatabase"]);
    assert!(world.databases.is_empty() && world.seen.users.keys().eq(["report"]), "{:?}", world.seen.users);
    assert!(report(&world).databases.is_empty() && report(&world).users.keys().eq(["report"]));
}

#[test]
fn a_database_that_cannot_be_dropped_is_told_and_tried_again() {
    let mut world = made();
    let clients = Clients { drop_databases: ["shop".to_owned()].into(), ..Clients::default() };
    world.failing_databases.insert("shop".into(), "somebody works in it".into());
    world.order(orders(1, 3, RoleOrder::Leader(LeaderOrder { clients, ..leader(1, true) }))).wait(20);
    assert_eq!(world.take_done(), ["Databases", "DropDatabase"]);
    assert_eq!(report(&world).database_problems["shop"].message, "somebody works in it");
    world.failing_databases.clear();
    world.wait(40);
    assert_eq!(world.take_done(), ["Databases"], "what nobody wants any more is looked at, and not dropped");
    let clients = Clients { drop_databases: ["shop".to_owned()].into(), ..Clients::default() };
    world.order(orders(1, 4, RoleOrder::Leader(LeaderOrder { clients, ..leader(1, true) }))).wait(3);
    assert_eq!(world.take_done(), ["Databases", "DropDatabase"]);
    assert!(report(&world).database_problems.is_empty() && report(&world).databases.is_empty());
}

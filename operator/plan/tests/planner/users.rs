//! Databases and users of applications: what is ordered of whom, what is awaited, and who may connect.

use drover_api::{
    clients::{ClientsReport, Password, SecretRef},
    set::{Access, DatabaseSpec, SecretKeySelector, UserSpec},
};

use super::*;

fn user(access: Access, secret: Option<&str>) -> UserSpec {
    let password_secret_ref = secret.map(|name| SecretKeySelector { name: name.into(), key: "password".into() });
    UserSpec { database: "shop".into(), access, password_secret_ref, rotation: None }
}

fn reference(name: &str) -> SecretRef {
    SecretRef { namespace: key().namespace, name: name.into(), key: "password".into() }
}

/// A set at rest with a user whose password is made and one whose is kept elsewhere and known.
pub fn with_users() -> World {
    let mut set = resolved(3, 1);
    set.databases.insert("shop".into(), DatabaseSpec::default());
    set.users.insert("app".into(), user(Access::ReadWrite, None));
    set.users.insert("report".into(), user(Access::ReadOnly, Some("report")));
    let mut world = World::new(set);
    knows(&mut world, "report", "correct horse");
    let plan = world.converge();
    assert!(plan.reports[&key()].ready, "{:#?}", plan.reports[&key()]);
    world.done.clear();
    world
}

fn knows(world: &mut World, secret: &str, password: &str) {
    let password = Password::new(password).expect("valid");
    world.observed.passwords.insert(reference(secret), Seen::Known(password));
}

/// User, access, password and whether it is applied.
fn connections(world: &World) -> Vec<(String, Access, String, bool)> {
    let connections = drover_plan::connections(&world.observed).remove(&key()).expect("a set that is declared");
    connections.into_iter().map(|one| (one.user, one.access, one.password, one.applied)).collect()
}

fn told(world: &World) -> Vec<String> {
    world.plan().reports[&key()].awaiting.clone()
}

pub fn clients(world: &mut World) -> &mut ClientsReport {
    match &mut world.report(M0).mysql.server {
        ServerReport::Running(running) => match &mut running.role {
            RunningRole::Leader { clients, .. } => clients,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn declared_users_are_ordered_of_the_leader_alone_and_may_connect_once_they_are_made() {
    let mut world = with_users();
    let connections = connections(&world);
    let [app, report] = connections.as_slice() else { panic!("{connections:?}") };
    assert_eq!((app.0.as_str(), app.1, app.2.len(), app.3), ("app", Access::ReadWrite, 32, true));
    assert_eq!(*report, ("report".into(), Access::ReadOnly, "correct horse".into(), true));
    let users = world.plan().reports[&key()].users.clone();
    assert!(users.len() == 2 && users.iter().all(|user| user.ready && user.database == "shop"), "{users:?}");
    assert!(told(&world).is_empty());

    world.silence(M0);
    assert!(connections_are(&world, false), "nobody knows it now");
    world.wake(M0);
    assert!(connections_are(&world, true));
}

fn connections_are(world: &World, applied: bool) -> bool {
    connections(world).iter().all(|connection| connection.3 == applied)
}

#[test]
fn a_password_that_changes_is_one_order_of_the_leader_and_nothing_else() {
    type Change = fn(&mut World);
    let changes: [(&str, Change); 3] = [
        ("app", |world| world.set(|set| set.users.get_mut("app").expect("declared").rotation = Some(1))),
        ("report", |world| knows(world, "report", "battery staple")),
        ("app", |world| world.set(|set| set.users.get_mut("app").expect("declared").access = Access::ReadOnly)),
    ];
    for (name, change) in changes {
        let mut world = with_users();
        change(&mut world);
        let ready = |world: &World| -> Vec<String> {
            let users = &world.plan().reports[&key()].users;
            users.iter().filter(|user| user.ready).map(|user| user.name.clone()).collect()
        };
        assert_eq!(told(&world), [format!("user {name} is being made or changed in MySQL")]);
        assert!(ready(&world).len() == 1 && !ready(&world).contains(&name.to_owned()));
        assert!(orders(&world, M1).is_none() && orders(&world, R0).is_none());
        let plan = world.converge();
        assert_eq!(world.done, ["Order"]);
        assert!(plan.reports[&key()].ready && ready(&world).len() == 2);
    }
}

/// Status, reason and message of ClientsReady.
fn ready_clients(world: &World) -> Option<(bool, String, String)> {
    let conditions = world.plan().reports[&key()].conditions.clone();
    let found = conditions.into_iter().find(|condition| condition.kind == ConditionType::ClientsReady)?;
    Some((found.status, found.reason, found.message))
}

#[test]
fn a_condition_says_whether_applications_find_what_is_declared() {
    let mut world = with_users();
    let made = "every declared database and user is in MySQL";
    assert_eq!(ready_clients(&world), Some((true, "ClientsMade".into(), made.into())));
    clients(&mut world).users.remove("app");
    let awaited = "user app is being made or changed in MySQL";
    assert_eq!(ready_clients(&world), Some((false, "ClientsAwaited".into(), awaited.into())));
    world.observed.passwords.insert(reference("report"), Seen::Unknown { why: "make it".into() });
    let told = "the password of user report: make it; and 1 more";
    assert_eq!(ready_clients(&world), Some((false, "PasswordAwaited".into(), told.into())));

    world.observed.passwords.clear();
    assert_eq!(ready_clients(&world), None, "whether there is a password is not known");

    let mut silent = with_users();
    silent.silence(M0);
    assert_eq!(ready_clients(&silent), None);

    let looked_for = "databases and users are being looked for, and made where they are not there";
    let mut more = with_users();
    clients(&mut more).databases_known = false;
    assert_eq!(ready_clients(&more), Some((false, "ClientsAwaited".into(), looked_for.into())));
    clients(&mut more).databases_known = true;
    more.set(|set| drop(set.databases.insert("another".into(), DatabaseSpec::default())));
    assert_eq!(
        ready_clients(&more),
        Some((false, "ClientsAwaited".into(), looked_for.into())),
        "nobody was told of it"
    );

    // What is in the way of a drop is no matter of what is declared.
    let mut kept = with_users();
    let problem = Problem { reason: Reason::DatabaseFailed, message: "it is in use".into() };
    clients(&mut kept).database_problems.insert("old".into(), problem);
    assert_eq!(ready_clients(&kept), Some((true, "ClientsMade".into(), made.into())));
    world.set(|set| {
        set.users.clear();
        set.databases.clear();
    });
    assert_eq!(ready_clients(&world), None);
}

#[test]
fn a_password_that_is_awaited_is_told_and_holds_up_nobody_else() {
    let mut set = resolved(1, 0);
    set.databases.insert("shop".into(), DatabaseSpec::default());
    set.users.insert("app".into(), user(Access::ReadWrite, None));
    set.users.insert("report".into(), user(Access::ReadOnly, Some("report")));
    let mut world = World::new(set);
    let plan = world.converge();
    assert!(plan.reports[&key()].ready);
    assert_eq!(connections(&world).len(), 1);
    assert_eq!(told(&world), ["the password of user report: default/report/password has not been read yet"]);
    let why = "/secrets/default/report/password: there is no such file".to_owned();
    world.observed.passwords.insert(reference("report"), Seen::Unknown { why: why.clone() });
    assert_eq!(told(&world), [format!("the password of user report: {why}")]);

    knows(&mut world, "report", "correct horse");
    world.converge();
    assert!(connections(&world).len() == 2 && connections_are(&world, true));
    // Lost again: nothing is taken back.
    world.observed.passwords.clear();
    world.converge();
    assert!(clients(&mut world).users.contains_key("report"));
    assert_eq!(world.plan().reports[&key()].kept_users, Vec::<String>::new());
}

#[test]
fn what_is_not_declared_any_more_is_told_to_be_kept() {
    let mut world = with_users();
    world.set(|set| {
        set.users.clear();
        set.databases.clear();
    });
    let plan = world.converge();
    let report = &plan.reports[&key()];
    assert!(report.ready && report.users.is_empty());
    assert_eq!((report.kept_users.join(" "), report.kept_databases.join(" ")), ("app report".into(), "shop".into()));
    assert_eq!(connections(&world), []);
}

#[test]
fn what_is_in_the_way_of_one_user_is_told_once_and_the_set_stays_ready() {
    let mut world = with_users();
    let problem = Problem { reason: Reason::ForeignUser, message: "somebody else made it".into() };
    clients(&mut world).users.remove("app");
    clients(&mut world).user_problems.insert("app".into(), problem.clone());
    clients(&mut world).database_problems.insert("shop".into(), problem);
    let plan = world.plan();
    assert!(plan.is_quiet() && plan.reports[&key()].ready);
    assert_eq!(told(&world), ["user app: somebody else made it", "database shop: somebody else made it"]);
    assert_eq!(connections(&world).iter().map(|one| one.3).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn orders_of_a_set_without_users_are_what_they_were_before_there_were_any() {
    let mut world = World::new(resolved(1, 0));
    let mut seen = 0;
    for _ in 0..40 {
        world.passes(1, |_, _| false);
        let Some(wanted) = orders(&world, M0) else { continue };
        let json = serde_json::to_string(&wanted).expect("JSON");
        assert!(!json.contains("clients"), "{json}");
        seen += usize::from(matches!(wanted.role, RoleOrder::Leader(_)));
    }
    assert!(seen > 0);
}

#[test]
fn nothing_but_orders_and_connections_has_a_password() {
    let mut world = with_users();
    world.set(|set| set.users.get_mut("app").expect("declared").rotation = Some(1));
    let plan = world.plan();
    let passwords: Vec<String> = connections(&world).into_iter().map(|one| one.2).collect();
    let shown = format!(
        "{plan:?} {:?} {:?} {}",
        world.observed,
        drover_plan::connections(&world.observed),
        serde_json::to_string(&plan.reports.values().collect::<Vec<_>>()).expect("JSON")
    );
    for password in &passwords {
        assert!(!shown.contains(password), "{password}");
        let wanted = serde_json::to_string(&orders(&world, M0).expect("the rotation")).expect("JSON");
        assert!(wanted.contains(password), "a password that is looked for is one that is used");
    }
}

//! The loop itself, with a socket and a directory of manifests.

mod common;

use std::{
    os::unix::fs::symlink,
    path::Path,
    sync::{Arc, Once},
    time::Duration,
};

use common::{World, config, key, realm};
use drover_api::{
    Incarnation, Millis, WriteId,
    bucket::RealmKeys,
    defaults::Terms,
    records::{IncarnationRecord, IncarnationState, Lock},
};
use drover_cloud::flaky::{Flaky, Plan as Faults};
use drover_control::{
    Snapshot,
    run::{Intents, Running, run},
    socket::{self, DeleteRequest},
};

/// The first pass is over within milliseconds.
const SOON: Duration = Duration::from_secs(120);

/// A process has one provider of cryptography, and this one has several tests.
fn provide_cryptography() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        rustls::crypto::aws_lc_rs::default_provider().install_default().expect("the only one of this process");
    });
}

fn running(manifests: &Path, state: &Path) -> Running {
    Running {
        operator: config("a test"),
        intents: Intents::Directory { manifests: manifests.to_owned(), secrets: None },
        terms: Terms::default(),
        state: state.to_owned(),
        listen: None,
        metrics: Arc::default(),
    }
}

/// Asks the socket until its answer is so.
async fn until(socket: &Path, what: &str, is_so: impl Fn(&Snapshot) -> bool) {
    let asked = async {
        while !socket::ask_status(socket).await.is_ok_and(|status| is_so(&status)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, asked).await.expect(what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_manifest_is_told_of_while_a_pass_takes_long_and_what_changed_is_wanted_after_it() {
    provide_cryptography();
    let world = World::new();
    let faults = Faults::new(1);
    let directory = tempfile::tempdir().expect("a directory");
    let (manifests, state) = (directory.path().join("manifests"), directory.path().join("state"));
    std::fs::create_dir(&manifests).expect("made");
    let cloud = Flaky::new(world.fake.clone(), faults.clone());
    let operator = tokio::spawn(run(Arc::new(cloud), running(&manifests, &state)));
    let socket = socket::path(&state);
    until(&socket, "the first pass ends", |status| status.looked).await;
    // A set that was never looked at: the next pass reads its records, and waits for the bucket.
    faults.hold();
    let text = |name: &str, members: u8| {
        format!(
            "apiVersion: drover.dev/v1alpha1\nkind: MySQLReplicaSet\nmetadata: {{name: {name}}}\n\
             spec: {{members: {members}, version: \"9.7\"}}\n"
        )
    };
    std::fs::write(manifests.join("orders.yaml"), text("orders", 1)).expect("written");
    let held = async {
        while !faults.waiting().contains(&"GetObject") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, held).await.expect("the pass reads the records of the new set");
    std::fs::write(manifests.join("carts.yaml"), text("carts", 4)).expect("written");
    std::fs::write(manifests.join("till.yaml"), text("till", 1)).expect("written");
    let is_told = |status: &Snapshot| status.problems.iter().any(|line| line.contains("carts.yaml"));
    until(&socket, "the broken file is told of", is_told).await;
    let before = socket::ask_status(&socket).await.expect("an answer");
    assert!(before.sets.is_empty(), "the pass has ended: {:?}", before.sets);
    faults.let_go();
    let has = |status: &Snapshot, name: &str| status.sets.iter().any(|set| set.key == key(name));
    until(&socket, "both are wanted", |status| is_told(status) && has(status, "orders") && has(status, "till")).await;
    operator.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_was_just_written_keeps_its_set_from_being_deleted() {
    provide_cryptography();
    let world = World::new();
    let record = IncarnationRecord {
        write_id: WriteId::new("write-id-1").expect("a write id"),
        incarnation: Incarnation::new("k3j9x2m4").expect("an incarnation"),
        state: IncarnationState::Live,
        members: 1,
        version: "9.7".into(),
        created: Millis(1),
    };
    let keys = RealmKeys::new("", &realm());
    let at = keys.set(&key("orders")).incarnation();
    let body = serde_json::to_vec(&record).expect("JSON");
    // Given up by whoever wrote that: a lock that is not there is waited out.
    let lock = Lock {
        write_id: record.write_id.clone(),
        holder: "another".into(),
        process: record.write_id,
        fence: 1,
        lease_seconds: 30,
        released: true,
    };
    let lock = serde_json::to_vec(&lock).expect("JSON");
    world.fake.look(|world| {
        world.bucket.set(at.clone(), Some(body.clone()));
        world.bucket.set(keys.lock(), Some(lock));
    });
    let directory = tempfile::tempdir().expect("a directory");
    let (manifests, state) = (directory.path().join("manifests"), directory.path().join("state"));
    // A link, as a mounted ConfigMap is: what it points to changes without a notice from the directory that is watched.
    let (before, after) = (directory.path().join("before"), directory.path().join("after"));
    for made in [&before, &after] {
        std::fs::create_dir(made).expect("made");
    }
    symlink(&before, &manifests).expect("made");
    let operator = tokio::spawn(run(Arc::new(world.fake.clone()), running(&manifests, &state)));
    let socket = socket::path(&state);
    let is_found = |status: &Snapshot| status.sets.iter().any(|set| set.key == key("orders"));
    until(&socket, "it is found in the bucket", is_found).await;
    // Declared in the same moment: nothing has told the loop of it yet.
    let text = "apiVersion: drover.dev/v1alpha1\nkind: MySQLReplicaSet\nmetadata: {name: orders}\nspec: {members: 1, version: \"9.7\"}\n";
    std::fs::write(after.join("orders.yaml"), text).expect("written");
    let link = directory.path().join("link");
    symlink(&after, &link).and_then(|()| std::fs::rename(&link, &manifests)).expect("pointed elsewhere");
    let request = DeleteRequest { namespace: key("orders").namespace, name: key("orders").name };
    let refused = socket::ask_delete(&socket, &request).await.expect_err("deleted although it is declared").to_string();
    assert!(refused.contains("declared by a manifest"), "{refused}");
    assert_eq!(world.fake.look(|world| world.bucket.object(&at).map(<[u8]>::to_vec)), Some(body));
    operator.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_a_password_that_is_missing_is_named_and_noticed_when_it_comes() {
    provide_cryptography();
    let world = World::new();
    let directory = tempfile::tempdir().expect("a directory");
    let (manifests, state, secrets) =
        (directory.path().join("manifests"), directory.path().join("state"), directory.path().join("secrets"));
    for made in [&manifests, &secrets] {
        std::fs::create_dir(made).expect("made");
    }
    let text = "apiVersion: drover.dev/v1alpha1\nkind: MySQLReplicaSet\nmetadata: {name: orders}\nspec:\n  members: 1\n  version: \"9.7\"\n  \
                mysql:\n    databases: {shop: {}}\n    users:\n      app: {database: shop, access: ReadWrite, passwordSecretRef: {name: app, key: password}}\n  \
                machine: {image: {id: ami-1}, instanceTypes: [m7g.large], subnets: {ids: [subnet-1]}, securityGroups: {ids: [sg-1]}, instanceProfile: db}\n";
    std::fs::write(manifests.join("orders.yaml"), text).expect("written");
    let intents = Intents::Directory { manifests: manifests.clone(), secrets: Some(secrets.clone()) };
    let running = Running { intents, ..running(&manifests, &state) };
    let operator = tokio::spawn(run(Arc::new(world.fake.clone()), running));
    let socket = socket::path(&state);
    let file = secrets.join("default/app/password");
    let named = format!("the password of user app: {}: there is no such file", file.display());
    let told =
        |status: &Snapshot| status.sets.iter().flat_map(|set| &set.awaiting).any(|line| line.starts_with(&named));
    until(&socket, "the file is named", told).await;
    std::fs::create_dir_all(secrets.join("default/app")).expect("made");
    std::fs::write(&file, "correct horse\n").expect("written");
    let is_read = |status: &Snapshot| {
        let lines: Vec<&String> = status.sets.iter().flat_map(|set| &set.awaiting).collect();
        !lines.is_empty() && lines.iter().all(|line| !line.contains("password"))
    };
    until(&socket, "the file is read", is_read).await;
    operator.abort();
}

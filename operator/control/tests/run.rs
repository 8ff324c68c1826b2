//! The loop itself, with a socket and a directory of manifests.

mod common;

use std::{os::unix::fs::symlink, sync::Arc, time::Duration};

use common::{DEADLINE, LEASE, World, key, realm};
use drover_api::{
    Incarnation, Millis, WriteId,
    bucket::RealmKeys,
    defaults::Defaults,
    records::{IncarnationRecord, IncarnationState},
};
use drover_control::{
    Config, Pace,
    run::{Running, run},
    socket::{self, DeleteRequest},
};

/// The first pass is over within milliseconds.
const SOON: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_was_just_written_keeps_its_set_from_being_deleted() {
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("the only one of this process");
    let world = World::new();
    let record = IncarnationRecord {
        write_id: WriteId::new("write-id-1").expect("a write id"),
        incarnation: Incarnation::new("k3j9x2m4").expect("an incarnation"),
        state: IncarnationState::Live,
        members: 1,
        version: "9.7".into(),
        created: Millis(1),
    };
    let at = RealmKeys::new("", &realm()).set(&key("orders")).incarnation();
    let body = serde_json::to_vec(&record).expect("JSON");
    world.fake.look(|world| world.bucket.set(at.clone(), Some(body.clone())));
    let directory = tempfile::tempdir().expect("a directory");
    let (manifests, state) = (directory.path().join("manifests"), directory.path().join("state"));
    // A link, as a mounted ConfigMap is: what it points to changes without a notice from the directory that is watched.
    let (before, after) = (directory.path().join("before"), directory.path().join("after"));
    for made in [&before, &after] {
        std::fs::create_dir(made).expect("made");
    }
    symlink(&before, &manifests).expect("made");
    let running = Running {
        operator: Config {
            realm: realm(),
            prefix: String::new(),
            holder: "a test".into(),
            lease: LEASE,
            deadline: DEADLINE,
            pace: Pace::default(),
            user_data: "#!/bin/sh\n".into(),
            binary: None,
            plan: drover_plan::plan,
        },
        manifests: manifests.clone(),
        defaults: Defaults::default(),
        state: state.clone(),
    };
    let operator = tokio::spawn(run(Arc::new(world.fake.clone()), running));
    let socket = socket::path(&state);
    let unclaimed = async {
        while !socket::ask_status(&socket)
            .await
            .is_ok_and(|status| status.sets.iter().any(|set| set.key == key("orders")))
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, unclaimed).await.expect("it is found in the bucket");
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

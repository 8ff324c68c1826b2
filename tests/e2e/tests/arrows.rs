//! The rooms' arrows point one way: read from `cargo metadata`, so that no new dependency can turn one round unseen.

use std::{collections::BTreeMap, process::Command};

/// Which rooms each room may know, development dependencies aside.
const MAY_KNOW: &[(&str, &[&str])] = &[
    ("drover-api", &[]),
    ("drover-plan", &["drover-api"]),
    ("drover-cloud", &["drover-api"]),
    ("drover-aws", &["drover-api", "drover-cloud"]),
    ("drover-control", &["drover-api", "drover-cloud", "drover-plan"]),
    ("drover-agent", &["drover-api", "drover-cloud"]),
    ("drover-cli", &["drover-agent", "drover-api", "drover-aws", "drover-cloud", "drover-control", "drover-plan"]),
    ("drover-local", &["drover-api", "drover-cloud"]),
];

fn rooms() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages").iter();
    packages
        .map(|package| {
            let name = |value: &serde_json::Value| value["name"].as_str().expect("a name").to_owned();
            let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
            (name(package), dependencies.filter(|dependency| dependency["kind"].is_null()).map(name).collect())
        })
        .collect()
}

#[test]
fn no_room_knows_one_that_it_may_not() {
    let rooms = rooms();
    for (room, may_know) in MAY_KNOW {
        let knows = rooms.get(*room).unwrap_or_else(|| panic!("there is no room {room}"));
        for known in knows.iter().filter(|known| known.starts_with("drover-")) {
            assert!(may_know.contains(&known.as_str()), "{room} depends on {known}");
        }
    }
    let judged: Vec<&str> = MAY_KNOW.iter().map(|(room, _)| *room).collect();
    for room in rooms.keys() {
        assert!(
            judged.contains(&room.as_str()) || room == "drover-sim" || room == "drover-e2e",
            "{room} has no place on the map"
        );
    }
}

#[test]
fn only_one_room_names_the_aws_sdk() {
    for (room, knows) in rooms() {
        let names_sdk = knows.iter().any(|known| known.starts_with("aws-sdk-") || known == "aws-config");
        assert!(!names_sdk || room == "drover-aws", "{room} names the AWS SDK");
    }
}

#[test]
fn deciding_needs_no_runtime_clock_or_randomness() {
    let rooms = rooms();
    for banned in ["tokio", "futures", "tracing", "rand", "jiff"] {
        assert!(!rooms["drover-plan"].iter().any(|known| known == banned), "drover-plan depends on {banned}");
    }
}

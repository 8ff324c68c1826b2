//! Files of manifests: what is read, and what is said about what cannot be.

use std::{fmt::Write, fs, path::PathBuf};

use drover_api::{
    config, crd,
    defaults::{Defaults, Origin, SCHEMA_FIELDS, Terms},
    manifest::{DOCUMENTS_MAX, FILE_BYTES_MAX, Manifest, parse},
    set::MachineSpec,
};
use serde_json::Value;

/// The head of a document; its spec begins on the fifth line.
fn head(name: &str) -> String {
    format!("apiVersion: drover.dev/v1alpha1\nkind: MySQLReplicaSet\nmetadata: {{ name: {name} }}\nspec:\n")
}

fn good(name: &str) -> String {
    head(name) + "  version: \"9.7\"\n"
}

/// The names that are read, and what is said.
fn check(text: &str, names: &[&str], said: &[&str]) {
    let (manifests, errors) = parse("f", text);
    let read: Vec<String> = manifests.iter().map(|manifest| manifest.key.to_string()).collect();
    assert_eq!(read, names, "{text}");
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors, said, "{text}");
}

fn one(text: &str) -> Manifest {
    let (mut manifests, errors) = parse("f", text);
    assert_eq!(errors, []);
    assert_eq!(manifests.len(), 1);
    manifests.remove(0)
}

#[test]
fn what_a_manifest_leaves_out_is_known_with_where_it_came_from() {
    let machine =
        "{image: {id: ami-1}, instanceTypes: [m7g.large], subnets: {ids: [subnet-1]}, securityGroups: {ids: [sg-1]}}";
    let text =
        format!("{}  readReplicas: 0\n  paused:\n  mysql: {{durability: strict}}\n  machine: {machine}\n", good("a"));
    let shared = MachineSpec { instance_profile: Some("db".into()), ..MachineSpec::default() };
    let set = one(&text).resolve(&Terms { defaults: Defaults { machine: shared }, ..Terms::default() }).expect("whole");
    let of = |origin| set.origins.iter().filter(move |(_, of)| **of == origin).map(|(field, _)| field.as_str());
    assert_eq!(
        of(Origin::Schema).collect::<Vec<_>>(),
        ["spec.deletionPolicy", "spec.members", "spec.mysql.settings", "spec.paused"]
    );
    assert_eq!(of(Origin::Operator).collect::<Vec<_>>(), ["spec.machine.instanceProfile"]);
    let own: Vec<&str> = of(Origin::Manifest).collect();
    assert!(own.contains(&"spec.readReplicas") && own.contains(&"spec.mysql.durability"), "{own:?}");
}

/// A default that the schema has and this list lacks would be in force without being told.
#[test]
fn every_field_with_a_default_in_the_schema_is_listed() {
    fn leaves(schema: &Value, path: &str, found: &mut Vec<String>) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            match field["properties"].is_object() {
                true => leaves(field, &path, found),
                false if field.get("default").is_some() => found.push(path),
                false => {}
            }
        }
    }
    let mut found = Vec::new();
    leaves(&crd::schema()["properties"]["spec"], "spec", &mut found);
    found.sort_unstable();
    let mut listed = SCHEMA_FIELDS.to_vec();
    listed.sort_unstable();
    assert_eq!(found, listed);
}

#[test]
fn documents_are_read_each_for_itself() {
    let (a, b) = (good("a"), good("b"));
    check(&a, &["default/a"], &[]);
    check(&format!("---\n{a}---\n# nothing\n---\n{b}...\n"), &["default/a", "default/b"], &[]);
    check(&format!("{a}--- # the second\n{b}"), &["default/a", "default/b"], &[]);
    check(&a.replace('\n', "\r\n"), &["default/a"], &[]);
    check(&a.replace("name: a", "name: a, namespace: shop, labels: { k: v }, annotations: {}"), &["shop/a"], &[]);
    check("", &[], &[]);
    check("# nothing\n---\n", &[], &[]);
}

#[test]
fn what_is_left_empty_is_left_out() {
    let manifest = one(&(head("a") + "  version: \"9.7\"\n  members:\n  machine:\n    instanceTypes:\n  mysql:\n"));
    assert_eq!((manifest.spec.members, manifest.spec.machine.instance_types), (3, None));
    assert!(manifest.spec.mysql.settings.is_empty());
}

#[test]
fn a_mistake_in_one_document_stops_no_other() {
    let wrong = head("b") + "  version: \"9.7\"\n  members: 2\n";
    let text = format!("{}---\n{wrong}---\nspec: [\n---\n{}", good("a"), good("c"));
    let said = ["f:12:3: spec.members must be 1, 3 or 5", "f:14:7: unclosed bracket '['"];
    check(&text, &["default/a", "default/c"], &said);
}

#[test]
fn mistakes_of_yaml_are_told_with_line_and_column() {
    check(&(head("a") + "  version: \"9.7\n"), &[], &["f:5:12: unclosed quote"]);
    check(&(good("a") + "   members: 3\n"), &[], &["f:6:4: while parsing a block mapping, did not find expected key"]);
    check(&(good("a") + "  version: \"9.7\"\n"), &[], &["f:6:3: duplicate mapping key `version` is not allowed here"]);
    check(&(good("a") + "\tmembers: 3\n"), &[], &["f:6:2: tabs disallowed within this context (block indentation)"]);
    check("- a\n", &[], &["f:1:1: a document must be a map with apiVersion, kind, metadata and spec"]);
}

#[test]
fn mistakes_in_fields_are_told_where_they_stand() {
    let spec = "  version: 9.7
  machine:
    tags:
      drover:role: primary
      Name: mine
    subnets:
      ids:
      - subnet-1
      - subnet-1
  mysql: { settings: { sync-binlog: \"0\" } }
";
    check(
        &(head("a") + spec),
        &[],
        &[
            "f:13:9: spec.machine.subnets.ids[1] must not repeat \"subnet-1\"",
            "f:5:3: spec.version must be a string: put the value in quotes",
        ],
    );
    // Rules are asked once types and bounds hold.
    check(
        &(head("a") + &spec.replace("9.7", "\"9.7\"")),
        &[],
        &[
            "f:13:9: spec.machine.subnets.ids[1] must not repeat \"subnet-1\"",
            "f:9:7: spec.machine.tags: Name is written by Drover: choose another key",
            "f:8:7: spec.machine.tags: drover:role begins with a reserved prefix: a key must not begin with drover: or aws:",
            "f:14:24: spec.mysql.settings: sync-binlog cannot be set: without it a committed row can be lost; it is always on",
        ],
    );
    // What is missing is told at what it is missing from.
    check(&head("a").replace("spec:\n", "spec: {}\n"), &[], &["f:4:1: spec.version is required: a string"]);
    check(&head("a").replace("spec:\n", ""), &[], &["f:1:1: spec is required: a map"]);
}

#[test]
fn only_what_this_build_knows_is_taken() {
    let a = good("a");
    check(&a.replace("MySQLReplicaSet", "AppTier"), &[], &["f:2:1: kind must be MySQLReplicaSet, not \"AppTier\""]);
    check(&a.replace("kind: MySQLReplicaSet\n", ""), &[], &["f:1:1: kind is required: MySQLReplicaSet"]);
    let version = "f:1:1: apiVersion must be drover.dev/v1alpha1, not \"drover.dev/v2\"";
    check(&a.replace("drover.dev/v1alpha1", "drover.dev/v2"), &[], &[version]);
    let status = "f:6:1: status is written by Drover: a manifest has apiVersion, kind, metadata and spec";
    check(&format!("{a}status: {{}}\n"), &[], &[status]);
    let field = "f:6:1: extra is not a field; the object has apiVersion, kind, metadata, spec and status";
    check(&format!("{a}extra: 1\n"), &[], &[field]);
}

#[test]
fn a_set_has_a_name_and_only_one_manifest() {
    let metadata = |text: &str| good("a").replace("{ name: a }", text);
    let label = "must be 1 to 63 lower-case letters, digits and '-', beginning and ending with a letter or digit";
    check(&metadata("{}"), &[], &["f:3:1: metadata.name is required: a string"]);
    check(&metadata(""), &[], &["f:3:1: metadata is required: a map with a name"]);
    check(&metadata("{ name: 1 }"), &[], &["f:3:13: metadata.name must be a string: put the value in quotes"]);
    let unread = "f:3:22: metadata.uid is not read from a manifest; name, namespace, labels and annotations are";
    check(&metadata("{ name: a, uid: x }"), &[], &[unread]);
    check(&metadata("{ name: a, namespace: A }"), &[], &[&format!("f:3:22: metadata.namespace {label}")]);
    let label = "f:3:32: metadata.labels.k must be a string: put the value in quotes";
    check(&metadata("{ name: a, labels: { k: 1 } }"), &[], &[label]);
    let twice = "f:9:13: metadata.name default/a is declared already at line 1, which is used: remove one of the two";
    check(&format!("{}---\n{}", good("a"), good("a")), &["default/a"], &[twice]);
    let (first, second) = (one(&good("a")), parse("g", &good("a")).0.remove(0));
    let twice =
        "g:3:13: metadata.name default/a is declared already in f, line 1, which is used: remove one of the two";
    assert_eq!(second.declared_already(&first).to_string(), twice);
}

#[test]
fn a_file_is_bounded_in_size_documents_and_depth() {
    let (manifests, errors) = parse("f", &"#".repeat(FILE_BYTES_MAX + 1));
    assert!(manifests.is_empty());
    assert_eq!(errors[0].message, "the file has 1048577 bytes, and may have 1048576");
    let (_, errors) = parse("f", &"---\n".repeat(DOCUMENTS_MAX + 1));
    assert_eq!(errors.len(), 1);
    assert_eq!((errors[0].line, errors[0].column), (1001, 1));
    let (_, errors) = parse("f", &format!("a: {}", "[".repeat(100_000)));
    assert_eq!(errors.len(), 1, "{errors:?}");
    // Aliases of aliases: 10^9 values in ten lines.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let item = format!("*a{}", level - 1);
        writeln!(bomb, "a{level}: &a{level} [{}]", [item.as_str(); 10].join(", ")).expect("a string takes all");
    }
    let (_, errors) = parse("f", &bomb);
    assert_eq!(errors.len(), 1, "{errors:?}");
}

#[test]
fn what_a_message_quotes_is_only_text() {
    let (_, errors) = parse("f", &(good("a") + "  \"\\e[31mred\": 1\n"));
    assert!(errors[0].message.starts_with("spec.\u{fffd}[31mred is not a field"), "{errors:?}");
}

#[test]
fn a_change_that_cannot_be_made_is_told_where_it_stands() {
    let now = one(&good("a")).spec;
    let wanted = one(&(good("a") + "  readReplicas: 2\n  members: 5\n"));
    let told: Vec<String> = wanted.refused_changes(&now).iter().map(ToString::to_string).collect();
    assert_eq!(told, ["f:7:3: spec.members cannot be changed yet: it must stay 3"]);
    assert_eq!(one(&(good("a") + "  readReplicas: 2\n")).refused_changes(&now), []);
}

fn sample(path: &str) -> String {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../crds/samples").join(path);
    fs::read_to_string(file).expect(path)
}

#[test]
fn the_samples_are_good() {
    let quickstart = one(&sample("quickstart/quickstart.yaml"));
    assert_eq!(quickstart.key.to_string(), "default/quickstart");
    assert_eq!((quickstart.spec.members, quickstart.spec.read_replicas), (3, 1));
    assert_eq!(one(&sample("production.yaml")).key.to_string(), "shop/orders");
    let configuration = config::parse("drover.yaml", &sample("drover.yaml")).expect("a good configuration");
    assert_eq!((configuration.realm.as_deref(), configuration.lease_seconds), (Some("production"), Some(30)));
}

/// The names of all fields below a node.
fn fields(schema: &Value, found: &mut Vec<String>) {
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        found.push(name.clone());
        fields(child, found);
    }
}

#[test]
fn the_production_sample_shows_every_field() {
    let (text, mut names) = (sample("production.yaml"), Vec::new());
    fields(&crd::schema()["properties"]["spec"], &mut names);
    assert!(names.len() > 20);
    for name in names {
        assert!(text.contains(&format!(" {name}:")), "{name} is not shown");
    }
}

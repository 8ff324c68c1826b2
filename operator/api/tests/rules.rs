//! Every rule and every bound of the CRD, each broken alone, with the words that a user gets.

#![expect(clippy::too_many_lines, reason = "tables")]

use std::collections::BTreeSet;

use drover_api::{
    crd, settings, tags,
    validate::{Violation, validate},
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A value that is good at a field and one that breaks just one thing there.
struct Case {
    at: &'static str,
    good: Value,
    bad: Value,
    /// A rule, or the keyword of a bound.
    breaks: &'static str,
    /// The field of the violation, where it is not `at`.
    field: String,
    message: String,
}

const RULE: &str = "x-kubernetes-validations";

fn case(at: &'static str, breaks: &'static str, good: Value, bad: Value, field: &str, message: &str) -> Case {
    let field = format!("{at}{field}");
    Case { at, good, bad, breaks, field, message: message.to_owned() }
}

fn rule(at: &'static str, good: Value, bad: Value, message: &str) -> Case {
    case(at, RULE, good, bad, "", message)
}

fn object(at: &str, value: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "drover.dev/v1alpha1",
        "kind": "MySQLReplicaSet",
        "metadata": { "name": "shop" },
        "spec": { "version": "9.7" },
    });
    let place = at.split('.').fold(&mut object, |place, name| &mut place[name]);
    *place = value.clone();
    object
}

fn entries(count: usize) -> Value {
    (0..count).map(|n| (format!("k{n}"), Value::from("v"))).collect::<serde_json::Map<_, _>>().into()
}

fn items(count: usize, prefix: &str) -> Value {
    (0..count).map(|n| Value::from(format!("{prefix}{n}"))).collect::<Vec<_>>().into()
}

fn accounts(count: usize) -> Value {
    (0..count).map(|n| Value::from(format!("{n:012}"))).collect::<Vec<_>>().into()
}

fn text(length: usize) -> Value {
    Value::from("x".repeat(length))
}

const NAME: &str =
    "metadata.name must be 1 to 40 lower-case letters, digits and '-', beginning and ending with a letter or digit";
const TAG_KEY: &str =
    "spec.machine.tags: a key must be 1 to 128 of letters, digits and -_+=,.@: (instance metadata shows them)";

fn about_the_set() -> Vec<Case> {
    let version = r#"spec.version must be a MySQL release series in quotes, such as "9.7""#;
    vec![
        rule("metadata.name", json!("shop-1"), json!("Shop"), NAME),
        rule("metadata.name", text(40), text(41), NAME),
        rule("metadata.name", json!("a"), json!("a-"), NAME),
        rule("metadata.name", json!("a-b"), json!("a.b"), NAME),
        rule("spec.members", json!(1), json!(0), "spec.members must be 1, 3 or 5"),
        rule("spec.members", json!(3), json!(4), "spec.members must be 1, 3 or 5"),
        rule("spec.members", json!(5), json!(300), "spec.members must be 1, 3 or 5"),
        case("spec.members", "type", json!(3), json!("3"), "", "spec.members must be a whole number, not \"3\""),
        case("spec.members", "type", json!(3), json!(3.5), "", "spec.members must be a whole number, not 3.5"),
        case("spec.readReplicas", "minimum", json!(0), json!(-1), "", "spec.readReplicas must be 0 to 100"),
        case("spec.readReplicas", "maximum", json!(100), json!(101), "", "spec.readReplicas must be 0 to 100"),
        rule("spec.version", json!("8.4"), json!("9.7.1"), version),
        rule("spec.version", json!("9.10"), json!("latest"), version),
        case("spec.version", "type", json!("9.1"), json!(9.1), "", "spec.version must be a string: put 9.1 in quotes"),
        case(
            "spec.version",
            "maxLength",
            json!("111.222"),
            text(17),
            "",
            "spec.version must have at most 16 characters, and has 17",
        ),
        case(
            "spec",
            "required",
            json!({ "version": "9.7" }),
            json!({}),
            ".version",
            "spec.version is required: a string",
        ),
        case(
            "spec",
            "properties",
            json!({ "version": "9.7", "paused": true }),
            json!({ "version": "9.7", "pause": true }),
            ".pause",
            "spec.pause is not a field; spec has deletionPolicy, machine, members, mysql, paused, readReplicas and version",
        ),
        case(
            "spec.deletionPolicy",
            "enum",
            json!("Delete"),
            json!("Keep"),
            "",
            r#"spec.deletionPolicy must be Retain or Delete, not "Keep""#,
        ),
        case("spec.paused", "type", json!(true), json!("yes"), "", r#"spec.paused must be true or false, not "yes""#),
        case(
            "spec.mysql.durability",
            "enum",
            json!("strict"),
            json!("lax"),
            "",
            r#"spec.mysql.durability must be standard or strict, not "lax""#,
        ),
        case("spec.machine", "type", json!({}), json!([]), "", "spec.machine must be a map, not a list"),
    ]
}

fn about_machines() -> Vec<Case> {
    let image = "spec.machine.image";
    let one_image = "spec.machine.image must have exactly one of id and tags";
    let owners =
        "spec.machine.image.owners must be account ids of 12 digits in quotes, self, amazon or aws-marketplace";
    let types = "spec.machine.instanceTypes must be names of instance types, such as r8g.large";
    let profile =
        "spec.machine.instanceProfile must be an instance profile's name, not its ARN: letters, digits and _+=,.@-";
    let id = "spec.machine.image.id must be an image's id, such as ami-0123456789abcdef0";
    vec![
        rule(image, json!({ "id": "ami-1" }), json!({}), one_image),
        rule(image, json!({ "tags": { "a": "b" } }), json!({ "id": "ami-1", "tags": { "a": "b" } }), one_image),
        rule(
            image,
            json!({ "tags": { "a": "b" }, "owners": ["self"] }),
            json!({ "id": "ami-1", "owners": ["self"] }),
            "spec.machine.image.owners is allowed with tags only: an id names one image whoever owns it",
        ),
        case(image, RULE, json!({ "id": "ami-1" }), json!({ "id": "i-1" }), ".id", id),
        case(
            image,
            "maxLength",
            json!({ "id": format!("ami-{}", "1".repeat(60)) }),
            json!({ "id": "1".repeat(65) }),
            ".id",
            "spec.machine.image.id must have at most 64 characters, and has 65",
        ),
        case(
            image,
            RULE,
            json!({ "tags": { "a": "b" }, "owners": ["123456789012"] }),
            json!({ "tags": { "a": "b" }, "owners": ["1234"] }),
            ".owners",
            owners,
        ),
        case(
            image,
            "minItems",
            json!({ "tags": { "a": "b" }, "owners": ["amazon"] }),
            json!({ "tags": { "a": "b" }, "owners": [] }),
            ".owners",
            "spec.machine.image.owners must have 1 to 20 entries, and has 0",
        ),
        case(
            image,
            "maxItems",
            json!({ "tags": { "a": "b" }, "owners": accounts(20) }),
            json!({ "tags": { "a": "b" }, "owners": accounts(21) }),
            ".owners",
            "spec.machine.image.owners must have 1 to 20 entries, and has 21",
        ),
        case(
            image,
            "maxLength",
            json!({ "tags": { "a": "b" }, "owners": ["self"] }),
            json!({ "tags": { "a": "b" }, "owners": [text(33)] }),
            ".owners[0]",
            "spec.machine.image.owners[0] must have at most 32 characters, and has 33",
        ),
        case(
            image,
            "x-kubernetes-list-type",
            json!({ "tags": { "a": "b" }, "owners": ["self", "amazon"] }),
            json!({ "tags": { "a": "b" }, "owners": ["self", "self"] }),
            ".owners[1]",
            r#"spec.machine.image.owners[1] must not repeat "self""#,
        ),
        rule("spec.machine.instanceTypes", json!(["r8g.large", "u-6tb1.56xlarge"]), json!(["r8g"]), types),
        case(
            "spec.machine.instanceTypes",
            "minItems",
            json!(["r8g.large"]),
            json!([]),
            "",
            "spec.machine.instanceTypes must have 1 to 20 entries, and has 0",
        ),
        case(
            "spec.machine.instanceTypes",
            "maxItems",
            items(20, "r8g.x"),
            items(21, "r8g.x"),
            "",
            "spec.machine.instanceTypes must have 1 to 20 entries, and has 21",
        ),
        case(
            "spec.machine.instanceTypes",
            "maxLength",
            json!([format!("r.{}", "x".repeat(62))]),
            json!([text(65)]),
            "[0]",
            "spec.machine.instanceTypes[0] must have at most 64 characters, and has 65",
        ),
        rule(
            "spec.machine.instanceProfile",
            json!("shop_+=,.@-1"),
            json!("arn:aws:iam::123456789012:instance-profile/shop"),
            profile,
        ),
        case(
            "spec.machine.instanceProfile",
            "minLength",
            json!("s"),
            json!(""),
            "",
            "spec.machine.instanceProfile must have 1 to 128 characters, and has 0",
        ),
        case(
            "spec.machine.instanceProfile",
            "maxLength",
            text(128),
            text(129),
            "",
            "spec.machine.instanceProfile must have 1 to 128 characters, and has 129",
        ),
        case(
            "spec.machine.zoneSpread",
            "enum",
            json!("Preferred"),
            json!("Never"),
            "",
            r#"spec.machine.zoneSpread must be Required or Preferred, not "Never""#,
        ),
    ]
}

fn about_networks() -> Vec<Case> {
    let mut cases = Vec::new();
    for (at, prefix, what) in
        [("spec.machine.subnets", "subnet-", "subnets"), ("spec.machine.securityGroups", "sg-", "security groups")]
    {
        let one = format!("{at} must have exactly one of ids and tags");
        let ids = format!("{at}.ids must be ids of {what}, such as {prefix}0123456789abcdef0");
        let good = json!({ "ids": [format!("{prefix}1"), format!("{prefix}2")] });
        let longest = format!("{prefix}{}", "1".repeat(64 - prefix.len()));
        cases.extend([
            rule(at, good.clone(), json!({}), &one),
            rule(
                at,
                json!({ "tags": { "a": "b" } }),
                json!({ "ids": [format!("{prefix}1")], "tags": { "a": "b" } }),
                &one,
            ),
            case(at, RULE, good.clone(), json!({ "ids": ["vpc-1"] }), ".ids", &ids),
            case(
                at,
                "maxLength",
                json!({ "ids": [longest] }),
                json!({ "ids": [text(65)] }),
                ".ids[0]",
                &format!("{at}.ids[0] must have at most 64 characters, and has 65"),
            ),
            case(
                at,
                "x-kubernetes-list-type",
                good.clone(),
                json!({ "ids": [format!("{prefix}1"), format!("{prefix}1")] }),
                ".ids[1]",
                &format!("{at}.ids[1] must not repeat \"{prefix}1\""),
            ),
            case(
                at,
                "minItems",
                good,
                json!({ "ids": [] }),
                ".ids",
                &format!("{at}.ids must have 1 to 20 entries, and has 0"),
            ),
            case(
                at,
                "maxItems",
                json!({ "ids": items(20, prefix) }),
                json!({ "ids": items(21, prefix) }),
                ".ids",
                &format!("{at}.ids must have 1 to 20 entries, and has 21"),
            ),
        ]);
    }
    cases
}

fn about_tags() -> Vec<Case> {
    let own = "spec.machine.tags";
    let reserved = "begins with a reserved prefix: a key must not begin with drover: or aws:";
    let mut cases = vec![
        case(
            own,
            RULE,
            json!({ "team": "x" }),
            json!({ "drover:role": "x" }),
            ".drover:role",
            &format!("{own}: drover:role {reserved}"),
        ),
        case(
            own,
            RULE,
            json!({ "awsome": "x" }),
            json!({ "AWS:x": "x" }),
            ".AWS:x",
            &format!("{own}: AWS:x {reserved}"),
        ),
        case(
            own,
            RULE,
            json!({ "name": "x" }),
            json!({ "Name": "x" }),
            ".Name",
            "spec.machine.tags: Name is written by Drover: choose another key",
        ),
        case(own, RULE, json!({ "a-_+=,.@:Z9": "x" }), json!({ "a/b": "x" }), ".a/b", TAG_KEY),
        case(
            own,
            RULE,
            json!({ "k".repeat(128): "x" }),
            json!({ "k".repeat(129): "x" }),
            &format!(".{}", "k".repeat(129)),
            TAG_KEY,
        ),
        case(own, RULE, json!({ "a": "" }), json!({ "": "x" }), ".", TAG_KEY),
        case(
            own,
            "maxProperties",
            entries(36),
            entries(37),
            "",
            "spec.machine.tags must have at most 36 entries, and has 37",
        ),
        case(
            own,
            "maxLength",
            json!({ "a": "é".repeat(256) }),
            json!({ "a": "é".repeat(257) }),
            ".a",
            "spec.machine.tags.a must have at most 256 characters, and has 257",
        ),
        case(
            own,
            "type",
            json!({ "a": "1" }),
            json!({ "a": 1 }),
            ".a",
            "spec.machine.tags.a must be a string: put 1 in quotes",
        ),
        case(
            own,
            "type",
            json!({ "a": "" }),
            json!({ "a": null }),
            ".a",
            "spec.machine.tags.a must be a string: \"\" is the empty one",
        ),
    ];
    for at in ["spec.machine.image", "spec.machine.subnets", "spec.machine.securityGroups"] {
        let tags = |value: Value| json!({ "tags": value });
        let key = "k".repeat(129);
        cases.extend([
            case(
                at,
                RULE,
                tags(json!({ "a b/é": "x" })),
                tags(json!({ key.as_str(): "x" })),
                &format!(".tags.{key}"),
                &format!("{at}.tags: a key must have 1 to 128 characters"),
            ),
            case(
                at,
                "minProperties",
                tags(entries(1)),
                tags(entries(0)),
                ".tags",
                &format!("{at}.tags must have 1 to 20 entries, and has 0"),
            ),
            case(
                at,
                "maxProperties",
                tags(entries(20)),
                tags(entries(21)),
                ".tags",
                &format!("{at}.tags must have 1 to 20 entries, and has 21"),
            ),
            case(
                at,
                "maxLength",
                tags(json!({ "a": text(256) })),
                tags(json!({ "a": text(257) })),
                ".tags.a",
                &format!("{at}.tags.a must have at most 256 characters, and has 257"),
            ),
        ]);
    }
    cases
}

fn about_volumes() -> Vec<Case> {
    let at = "spec.machine.dataVolume";
    let told = |good: Value, bad: Value, message: &str| rule(at, good, bad, &format!("{at}.{message}"));
    let bound = |keyword, good: Value, bad: Value, field: &str, message: &str| {
        case(at, keyword, good, bad, field, &format!("{at}{field} {message}"))
    };
    let ratio = "iops must be at most 500 for each GiB of a gp3 volume above 3000, 50 for io1, 1000 for io2";
    let quarter = "throughputMiBps must be at most a quarter of iops, which is 3000 where left out";
    vec![
        told(
            json!({ "type": "gp2", "sizeGiB": 16384 }),
            json!({ "type": "gp2", "sizeGiB": 16385 }),
            "sizeGiB of a gp2 volume must be 1 to 16384",
        ),
        told(
            json!({ "type": "io1", "iops": 100, "sizeGiB": 4 }),
            json!({ "type": "io1", "iops": 100, "sizeGiB": 3 }),
            "sizeGiB of an io1 volume must be 4 to 16384",
        ),
        told(
            json!({ "type": "io1", "iops": 100, "sizeGiB": 16384 }),
            json!({ "type": "io1", "iops": 100, "sizeGiB": 16385 }),
            "sizeGiB of an io1 volume must be 4 to 16384",
        ),
        told(
            json!({ "type": "io2", "iops": 100, "sizeGiB": 4 }),
            json!({ "type": "io2", "iops": 100, "sizeGiB": 3 }),
            "sizeGiB of an io2 volume must be 4 to 65536",
        ),
        told(
            json!({ "type": "gp2" }),
            json!({ "type": "gp2", "iops": 3000 }),
            "iops is allowed for gp3, io1 and io2 only: EC2 sets that of gp2 by its size",
        ),
        told(
            json!({ "type": "gp3", "iops": 3000 }),
            json!({ "type": "gp3", "iops": 2999 }),
            "iops of a gp3 volume must be 3000 to 80000",
        ),
        told(json!({ "iops": 80000 }), json!({ "iops": 80001 }), "iops of a gp3 volume must be 3000 to 80000"),
        told(
            json!({ "type": "io1", "iops": 64000 }),
            json!({ "type": "io1", "iops": 64001 }),
            "iops of an io1 volume must be 100 to 64000",
        ),
        told(json!({ "type": "io1", "iops": 100 }), json!({ "type": "io1" }), "iops is required for io1 and io2"),
        told(json!({ "type": "io2", "iops": 100 }), json!({ "type": "io2" }), "iops is required for io1 and io2"),
        told(json!({ "iops": 5000, "sizeGiB": 10 }), json!({ "iops": 5001, "sizeGiB": 10 }), ratio),
        told(
            json!({ "type": "io1", "iops": 500, "sizeGiB": 10 }),
            json!({ "type": "io1", "iops": 501, "sizeGiB": 10 }),
            ratio,
        ),
        told(
            json!({ "type": "io2", "iops": 10000, "sizeGiB": 10 }),
            json!({ "type": "io2", "iops": 10001, "sizeGiB": 10 }),
            ratio,
        ),
        told(json!({ "iops": 3000, "sizeGiB": 1 }), json!({ "iops": 3001, "sizeGiB": 1 }), ratio),
        told(
            json!({ "throughputMiBps": 125 }),
            json!({ "type": "gp2", "throughputMiBps": 125 }),
            "throughputMiBps is allowed for gp3 only",
        ),
        told(json!({ "throughputMiBps": 750 }), json!({ "throughputMiBps": 751 }), quarter),
        told(
            json!({ "iops": 8000, "throughputMiBps": 2000 }),
            json!({ "iops": 7999, "throughputMiBps": 2000 }),
            quarter,
        ),
        bound("minimum", json!({ "sizeGiB": 1 }), json!({ "sizeGiB": 0 }), ".sizeGiB", "must be 1 to 65536"),
        bound("maximum", json!({ "sizeGiB": 65536 }), json!({ "sizeGiB": 65537 }), ".sizeGiB", "must be 1 to 65536"),
        bound(
            "enum",
            json!({ "type": "gp3" }),
            json!({ "type": "st1", }),
            ".type",
            r#"must be gp3, gp2, io1 or io2, not "st1""#,
        ),
        bound(
            "minimum",
            json!({ "type": "io2", "iops": 100 }),
            json!({ "type": "io2", "iops": 99 }),
            ".iops",
            "must be 100 to 256000",
        ),
        bound(
            "maximum",
            json!({ "type": "io2", "iops": 256_000 }),
            json!({ "type": "io2", "iops": 256_001 }),
            ".iops",
            "must be 100 to 256000",
        ),
        bound(
            "minimum",
            json!({ "throughputMiBps": 125 }),
            json!({ "throughputMiBps": 124 }),
            ".throughputMiBps",
            "must be 125 to 2000",
        ),
        bound(
            "maximum",
            json!({ "iops": 9000, "throughputMiBps": 2000 }),
            json!({ "iops": 9000, "throughputMiBps": 2001 }),
            ".throughputMiBps",
            "must be 125 to 2000",
        ),
        bound(
            "minLength",
            json!({ "kmsKeyId": "k" }),
            json!({ "kmsKeyId": "" }),
            ".kmsKeyId",
            "must have 1 to 2048 characters, and has 0",
        ),
        bound(
            "maxLength",
            json!({ "kmsKeyId": text(2048) }),
            json!({ "kmsKeyId": text(2049) }),
            ".kmsKeyId",
            "must have 1 to 2048 characters, and has 2049",
        ),
    ]
}

fn about_settings() -> Vec<Case> {
    let at = "spec.mysql.settings";
    let name =
        "spec.mysql.settings: a key must be the name of a MySQL system variable: 1 to 64 letters, digits, _ and -";
    let mut cases = vec![
        case(at, RULE, json!({ "max_connections": "1" }), json!({ "max connections": "1" }), ".max connections", name),
        case(
            at,
            RULE,
            json!({ "x".repeat(64): "1" }),
            json!({ "x".repeat(65): "1" }),
            &format!(".{}", "x".repeat(65)),
            name,
        ),
        case(at, RULE, json!({ "max_connections": "1" }), json!({ "": "1" }), ".", name),
        case(
            at,
            RULE,
            json!({ "max_connections": "1" }),
            json!({ "Loose-max_connections": "1" }),
            ".Loose-max_connections",
            "spec.mysql.settings: Loose-max_connections must be the variable itself, without loose, skip, disable, enable or maximum before it",
        ),
        case(
            at,
            RULE,
            json!({ "sql_mode": "A,B" }),
            json!({ "sql_mode": "A\nB" }),
            ".sql_mode",
            "spec.mysql.settings: sql_mode must have a value of one line, at most 1024 characters",
        ),
        case(
            at,
            "maxProperties",
            entries(200),
            entries(201),
            "",
            "spec.mysql.settings must have at most 200 entries, and has 201",
        ),
        case(
            at,
            "maxLength",
            json!({ "sql_mode": text(1024) }),
            json!({ "sql_mode": text(1025) }),
            ".sql_mode",
            "spec.mysql.settings.sql_mode must have at most 1024 characters, and has 1025",
        ),
    ];
    for refused in settings::REFUSED {
        let name = refused.names[0].trim_end_matches('*').to_uppercase().replace('_', "-");
        let message = format!("{at}: {name} cannot be set: {}", refused.reason);
        cases.push(case(
            at,
            RULE,
            json!({ "slow_query_log": "1" }),
            json!({ name.as_str(): "1" }),
            &format!(".{name}"),
            &message,
        ));
    }
    cases
}

fn cases() -> Vec<Case> {
    let all = [about_the_set(), about_machines(), about_networks(), about_tags(), about_volumes(), about_settings()];
    all.into_iter().flatten().collect()
}

/// What a set was, what is asked for, and the answer.
fn changes() -> Vec<(Value, Value, &'static str, &'static str)> {
    vec![
        (
            json!({ "version": "9.7", "members": 1 }),
            json!({ "version": "9.7", "members": 3 }),
            "spec.members",
            "spec.members cannot be changed yet: it must stay 1",
        ),
        (
            json!({ "version": "9.7" }),
            json!({ "version": "9.7", "members": 5 }),
            "spec.members",
            "spec.members cannot be changed yet: it must stay 3",
        ),
        (
            json!({ "version": "9.7", "members": 5 }),
            json!({ "version": "9.7" }),
            "spec.members",
            "spec.members cannot be changed yet: it must stay 5",
        ),
        (
            json!({ "version": "8.4" }),
            json!({ "version": "9.7" }),
            "spec.version",
            r#"spec.version cannot be changed yet: it must stay "8.4""#,
        ),
    ]
}

#[test]
fn each_mistake_is_told_in_its_own_words_and_nothing_else_is() {
    for case in cases() {
        let good = validate(&object(case.at, &case.good), None);
        assert_eq!(good, [], "{} = {}", case.at, case.good);
        let told = validate(&object(case.at, &case.bad), None);
        let expected = Violation { field: case.field.clone(), message: case.message.clone() };
        assert_eq!(told, [expected], "{} = {}", case.at, case.bad);
        let field = case.field.trim_end_matches('.');
        let outer = field.split(['[', '.']).take(2).collect::<Vec<_>>().join(".");
        assert!(case.message.starts_with(&outer), "{:?} does not name {field}", case.message);
    }
}

#[test]
fn what_cannot_be_changed_yet_says_what_it_must_stay() {
    for (old, new, field, message) in changes() {
        let (old, new) = (object("spec", &old), object("spec", &new));
        assert_eq!(validate(&new, None), []);
        let expected = Violation { field: field.into(), message: message.into() };
        assert_eq!(validate(&new, Some(&old)), [expected]);
        assert_eq!(validate(&new, Some(&new)), []);
    }
}

/// Path and text of each rule, and path and keyword of each bound, below a node.
fn demands(schema: &Value, path: &str, found: &mut BTreeSet<(String, String)>) {
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        let at = path.trim_start_matches('.').to_owned();
        match keyword.as_str() {
            RULE => found.extend(
                value
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|rule| (at.clone(), rule["rule"].as_str().unwrap_or_default().to_owned())),
            ),
            "x-kubernetes-list-type" if value != "set" => {}
            "type" | "properties" | "items" | "additionalProperties" | "default" | "description" | "format" => {}
            keyword => {
                found.insert((at, keyword.to_owned()));
            }
        }
    }
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        demands(child, &format!("{path}.{name}"), found);
    }
    for (keyword, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if let Some(child) = schema.get(keyword) {
            demands(child, &format!("{path}{suffix}"), found);
        }
    }
}

#[test]
fn no_rule_and_no_bound_goes_untested() {
    let mut untested = BTreeSet::new();
    let mut schema = crd::schema().clone();
    schema["properties"]["status"] = json!({});
    demands(&schema, "", &mut untested);
    untested.remove(&(String::new(), "required".to_owned()));
    let rules_broken_by = |new: &Value, old: Option<&Value>| {
        let errors = kube_cel::validate(crd::schema(), new, old).err().into_iter().flatten();
        errors.map(|error| (error.field_path, error.rule)).collect::<Vec<_>>()
    };
    for (old, new, ..) in changes() {
        for broken in rules_broken_by(&object("spec", &new), Some(&object("spec", &old))) {
            untested.remove(&broken);
        }
    }
    for case in cases() {
        if case.breaks == RULE {
            let broken = rules_broken_by(&object(case.at, &case.bad), None);
            assert_eq!(broken.len(), 1, "{} = {} breaks {broken:?}", case.at, case.bad);
            untested.remove(&broken[0]);
            continue;
        }
        // Where the schema has the bound: the field of the violation, its keys and indexes made general.
        let general = |suffix: &str| {
            let inner = case.field.split('[').next().unwrap_or_default();
            format!("{inner}{suffix}")
        };
        let map = case.field.rsplit_once('.').map_or_else(String::new, |(map, _)| format!("{map}{{}}"));
        let owner = case.field.rsplit_once('.').map_or_else(String::new, |(owner, _)| owner.to_owned());
        for path in [general(""), general("[]"), map, owner] {
            untested.remove(&(path, case.breaks.to_owned()));
        }
    }
    assert!(untested.is_empty(), "no case breaks {untested:#?}");
}

/// Spellings of refused, allowed and ordinary names: cut short, drawn out, in capitals, with dashes and modifiers.
fn spelling() -> impl Strategy<Value = String> {
    let ordinary = ["slow_query_log", "general_log", "max_connections", "sql_mode", "innodb_io_capacity"];
    let names: Vec<&str> =
        settings::REFUSED.iter().flat_map(|refused| refused.names).copied().chain(ordinary).collect();
    let before = prop_oneof![8 => Just(""), 1 => Just("loose_"), 1 => Just("Skip-"), 1 => Just("maximum")];
    let after =
        prop_oneof![8 => Just(""), 1 => Just("_x"), 1 => Just(" "), 1 => Just("é"), 1 => Just("\n"), 1 => Just("K")];
    (before, proptest::sample::select(names), 0..48_usize, any::<[bool; 2]>(), after).prop_map(
        |(before, name, kept, [capitals, dashes], after)| {
            let name = name.trim_end_matches('*');
            let kept = name.get(..kept).unwrap_or(name);
            let name = if capitals { kept.to_uppercase() } else { kept.to_owned() };
            let name = if dashes { name.replace('_', "-") } else { name };
            format!("{before}{name}{after}")
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_crd_refuses_the_settings_that_the_agent_would_refuse(
        name in spelling(),
        value in prop_oneof![4 => Just("1".to_owned()), 1 => "\\PC{0,8}[\\x00-\\x1f\\x7f-\\x9f]?"],
    ) {
        let told = validate(&object("spec.mysql.settings", &json!({ name.as_str(): value.as_str() })), None);
        match settings::refuse(&name, &value) {
            None => prop_assert_eq!(told, []),
            Some(reason) if reason.contains("is not the name") => prop_assert!(!told.is_empty(), "{}", name),
            Some(reason) => {
                let expected = format!("spec.mysql.settings: {reason}");
                prop_assert!(told.iter().any(|violation| violation.message == expected), "{reason}: {told:?}");
            }
        }
    }

    #[test]
    fn the_crd_refuses_the_tags_that_a_machine_cannot_have(
        key in "(drover:|AWS:|aws|Name|Name2|)[a-zA-Z0-9_+=,.@: /é-]{0,3}",
        length in 250..262_usize,
    ) {
        let value = "é".repeat(length);
        let told = validate(&object("spec.machine.tags", &json!({ key.as_str(): value.as_str() })), None);
        prop_assert_eq!(told.is_empty(), tags::refuse_user_tag(&key, &value).is_none(), "{:?}: {:?}", key, told);
    }
}

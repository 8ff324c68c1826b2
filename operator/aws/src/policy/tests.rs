//! The policies as IAM would read them: their grammar, and what they allow and deny.

use serde_json::Value;

use super::*;

/// A request as IAM sees it: who, what, on what, and the keys of its context.
struct Asked<'a> {
    principal: &'a str,
    action: &'a str,
    resource: &'a str,
    context: &'a [(&'a str, &'a str)],
}

const OPERATOR: &str = "arn:aws:iam::123456789012:role/drover";
const MACHINE: &str = "arn:aws:iam::123456789012:role/db";
const SOMEBODY: &str = "arn:aws:iam::123456789012:role/admin";

fn names() -> Names {
    Names {
        partition: "aws".into(),
        account: Some("123456789012".into()),
        region: Some("eu-central-1".into()),
        realm: Realm::new("prod").expect("a realm"),
        bucket: "records".into(),
        prefix: "db/".into(),
    }
}

fn key() -> ResourceKey {
    ResourceKey { namespace: "shop".parse().expect("valid"), name: "orders".parse().expect("valid") }
}

fn roles(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn operator_policy(parties: &[Party]) -> Policy {
    operator(&names(), &roles(&["db"]), parties)
}

fn denied() -> Policy {
    deny(&names(), &roles(&["drover"]), &roles(&["db"]))
}

fn trusts() -> Vec<Policy> {
    let service_account = || ServiceAccount { namespace: "drover".into(), name: "operator".into() };
    let irsa = Trusted::Irsa {
        account: "123456789012".into(),
        provider: "oidc.eks.eu-central-1.amazonaws.com/id/X".into(),
        service_account: service_account(),
    };
    let pod = Trusted::PodIdentity { account: Some("123456789012".into()), service_account: Some(service_account()) };
    [Trusted::Ec2, pod, irsa].iter().map(|trusted| trust("aws", trusted)).collect()
}

fn json(policy: &Policy) -> Value {
    serde_json::to_value(policy).expect("it serialises")
}

fn statements(policy: &Value) -> impl Iterator<Item = &Value> {
    policy["Statement"].as_array().expect("statements").iter()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(|it| it.as_str().expect("a string")).collect()
}

// === a small IAM ===

/// The effects of the statements that apply: an explicit deny counts before any allow, and nothing is allowed by itself.
fn answer(policy: &Policy, asked: &Asked<'_>) -> Option<Effect> {
    let policy = json(policy);
    let effects = statements(&policy).filter(|it| applies(it, asked)).map(|it| it["Effect"].as_str());
    let effects: Vec<_> = effects.collect();
    match (effects.contains(&Some("Deny")), effects.is_empty()) {
        (true, _) => Some(Effect::Deny),
        (false, false) => Some(Effect::Allow),
        (false, true) => None,
    }
}

fn applies(statement: &Value, asked: &Asked<'_>) -> bool {
    let names = |field: &str, value: &str| strings(&statement[field]).iter().any(|pattern| is_like(pattern, value));
    let holds = |(operator, keys): (&String, &Value)| {
        keys.as_object().expect("keys").iter().all(|(key, values)| {
            let of_key = |(name, value): &(&str, &str)| (*name == key.as_str()).then(|| value.to_string());
            let mut given: Vec<String> = asked.context.iter().filter_map(of_key).collect();
            if key == "aws:PrincipalArn" {
                given.push(asked.principal.to_owned());
            }
            condition_holds(operator, &strings(values), &given)
        })
    };
    names("Action", asked.action)
        && names("Resource", asked.resource)
        && statement["Condition"].as_object().into_iter().flatten().all(holds)
}

/// IAM User Guide, "IAM JSON policy elements: Condition operators", as far as they are used here. A key that is not there
/// fails a comparison, a negated one and `ForAllValues` aside.
fn condition_holds(operator: &str, wanted: &[&str], given: &[String]) -> bool {
    let is_wanted = |value: &String| wanted.contains(&value.as_str());
    match operator {
        "StringEquals" => given.iter().any(is_wanted),
        "ForAnyValue:StringEquals" => given.iter().any(is_wanted),
        "ForAllValues:StringEquals" => given.iter().all(is_wanted),
        "ArnNotLike" => !given.iter().any(|value| wanted.iter().any(|pattern| is_like(pattern, value))),
        "Null" => wanted.contains(&"true") == given.is_empty(),
        other => panic!("{other} is not known here"),
    }
}

/// `*` stands for anything.
fn is_like(pattern: &str, value: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == value,
        Some((before, after)) => value.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| is_like(after, &rest[at..]))
        }),
    }
}

fn ec2(resource: &str) -> String {
    format!("arn:aws:ec2:eu-central-1:123456789012:{resource}")
}

// === the grammar ===

#[test]
fn every_document_is_one_that_aws_takes() {
    const OPERATORS: [&str; 5] =
        ["ArnNotLike", "ForAllValues:StringEquals", "ForAnyValue:StringEquals", "Null", "StringEquals"];
    const KEYS: [&str; 9] = [
        "aws:PrincipalArn",
        "aws:RequestTag/drover:realm",
        "aws:RequestTag/kubernetes-namespace",
        "aws:RequestTag/kubernetes-service-account",
        "aws:ResourceTag/drover:realm",
        "aws:SourceAccount",
        "aws:TagKeys",
        "ec2:CreateAction",
        "iam:PassedToService",
    ];
    let is_word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric());
    let permissions = [operator_policy(&[]), operator_policy(&[Party::Doctor]), machine(&names(), &key()), denied()];
    for (policy, is_trust) in permissions.iter().map(|it| (it, false)).chain(trusts().iter().map(|it| (it, true))) {
        let text = json(policy).to_string();
        assert!(text.len() <= 5_120, "{} characters: {text}", text.len());
        let document = json(policy);
        assert_eq!(document["Version"], "2012-10-17");
        let mut sids = BTreeSet::new();
        for statement in statements(&document) {
            let sid = statement["Sid"].as_str().expect("a Sid");
            assert!(is_word(sid) && sids.insert(sid), "{sid}: a Sid is letters and digits, and stands once");
            assert!(["Allow", "Deny"].contains(&statement["Effect"].as_str().expect("an effect")), "{statement}");
            let actions = strings(&statement["Action"]);
            let is_action = |action: &&str| {
                action
                    .split_once(':')
                    .is_some_and(|(service, name)| is_word(&service.replace('-', "")) && is_word(name))
            };
            assert!(!actions.is_empty() && actions.iter().all(is_action), "{statement}");
            let resources = strings(&statement["Resource"]);
            let is_resource = |arn: &&str| *arn == "*" || (arn.starts_with("arn:aws:") && arn.split(':').count() >= 6);
            assert!(resources.is_empty() == is_trust && resources.iter().all(is_resource), "{statement}");
            assert_eq!(statement.get("Principal").is_some(), is_trust, "{statement}");
            for (operator, keys) in statement["Condition"].as_object().into_iter().flatten() {
                assert!(OPERATORS.contains(&operator.as_str()), "{statement}");
                for (key, values) in keys.as_object().expect("keys") {
                    assert!(KEYS.contains(&key.as_str()) || key.starts_with("oidc."), "{key} in {statement}");
                    assert!(!strings(values).is_empty(), "{statement}");
                }
            }
        }
    }
}

// === the operator ===

#[test]
fn the_operator_is_granted_what_is_called_and_no_more() {
    for (parties, policy) in [
        (vec![Party::Operator], operator_policy(&[])),
        (vec![Party::Operator, Party::Doctor], operator_policy(&[Party::Doctor])),
    ] {
        let document = json(&policy);
        let granted: BTreeSet<&str> = statements(&document).flat_map(|it| strings(&it["Action"])).collect();
        let needed: BTreeSet<&str> = permissions(&parties).map(|(action, _)| action).collect();
        assert_eq!(granted, needed);
        for call in calls() {
            let by = call.permissions.iter().flat_map(|it| it.by);
            assert!(by.clone().any(|by| *by == Party::Operator || *by == Party::Doctor), "{} is nobody's", call.action);
        }
        assert!(statements(&document).all(|it| it["Effect"] == "Allow"));
        // Only what cannot be narrowed is allowed everywhere.
        let wide = statements(&document).filter(|it| strings(&it["Resource"]).contains(&"*"));
        let only_looks =
            |action: &str| ["ec2:Describe", "servicequotas:Get"].iter().any(|looks| action.starts_with(looks));
        assert!(wide.flat_map(|it| strings(&it["Action"])).all(only_looks));
    }
}

#[test]
fn the_operator_acts_on_its_own_realm_only() {
    let (made, ours, others) = (
        ("aws:RequestTag/drover:realm", "prod"),
        ("aws:ResourceTag/drover:realm", "prod"),
        ("aws:ResourceTag/drover:realm", "x"),
    );
    let (in_launch, keys) = (("ec2:CreateAction", "RunInstances"), |key| ("aws:TagKeys", key));
    let to = |service| ("iam:PassedToService", service);
    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], bool);
    let table: &[Row<'_>] = &[
        ("ec2:DescribeInstances", "*", &[], true),
        ("ec2:RunInstances", "instance/*", &[made], true),
        ("ec2:RunInstances", "volume/*", &[made], true),
        ("ec2:RunInstances", "network-interface/*", &[made], true),
        ("ec2:RunInstances", "instance/*", &[], false),
        ("ec2:RunInstances", "instance/*", &[("aws:RequestTag/drover:realm", "x")], false),
        ("ec2:RunInstances", "subnet/subnet-1", &[], true),
        ("ec2:RunInstances", "security-group/sg-1", &[], true),
        ("ec2:RunInstances", "key-pair/k", &[], false),
        ("ec2:CreateVolume", "volume/*", &[made], true),
        ("ec2:CreateVolume", "volume/*", &[], false),
        ("ec2:CreateTags", "network-interface/*", &[made, in_launch], true),
        ("ec2:CreateTags", "volume/*", &[made, ("ec2:CreateAction", "CreateVolume")], true),
        ("ec2:CreateTags", "instance/*", &[made, ("ec2:CreateAction", "CreateVolume")], false),
        ("ec2:CreateTags", "instance/i-1", &[made], false),
        ("ec2:CreateTags", "instance/i-1", &[ours, keys("drover:role"), keys("drover:epoch")], true),
        ("ec2:CreateTags", "instance/i-1", &[ours, keys("drover:role"), keys("drover:slot")], false),
        ("ec2:CreateTags", "instance/i-1", &[others, keys("drover:role")], false),
        ("ec2:CreateTags", "instance/i-1", &[keys("drover:role")], false),
        ("ec2:TerminateInstances", "instance/i-1", &[ours], true),
        ("ec2:TerminateInstances", "instance/i-1", &[others], false),
        ("ec2:TerminateInstances", "instance/i-1", &[], false),
        ("ec2:ModifyInstanceAttribute", "instance/i-1", &[ours], true),
        ("ec2:ModifyInstanceAttribute", "instance/i-1", &[others], false),
        ("ec2:AttachVolume", "volume/vol-1", &[ours], true),
        ("ec2:AttachVolume", "volume/vol-1", &[others], false),
        ("ec2:DeleteVolume", "volume/vol-1", &[ours], true),
        ("ec2:DeleteVolume", "volume/vol-1", &[others], false),
        ("ec2:StopInstances", "instance/i-1", &[ours], false),
        ("ec2:DeleteTags", "instance/i-1", &[ours], false),
        ("ec2:DeleteTags", "instance/i-1", &[ours, keys("drover:hold")], true),
        ("ec2:DeleteTags", "instance/i-1", &[others, keys("drover:hold")], false),
        ("ec2:DeleteTags", "instance/i-1", &[ours, keys("drover:role")], false),
        ("ec2:CreateTags", "instance/i-1", &[ours, keys("drover:hold")], true),
        ("iam:PassRole", "role/db", &[to("ec2.amazonaws.com")], true),
        ("iam:PassRole", "role/db", &[to("lambda.amazonaws.com")], false),
        ("iam:PassRole", "role/admin", &[to("ec2.amazonaws.com")], false),
        ("s3:ListBucket", "arn:aws:s3:::records", &[], true),
        ("s3:GetObject", "arn:aws:s3:::records/db/realms/prod/lock.json", &[], true),
        ("s3:PutObject", "arn:aws:s3:::records/db/realms/prod/lock.json", &[], true),
        ("s3:PutObject", "arn:aws:s3:::records/db/realms/prod2/lock.json", &[], false),
        ("s3:PutObject", "arn:aws:s3:::records/realms/prod/lock.json", &[], false),
        ("s3:DeleteObject", "arn:aws:s3:::records/db/realms/prod/lock.json", &[], false),
        ("s3:GetBucketVersioning", "arn:aws:s3:::records", &[], false),
        ("servicequotas:GetServiceQuota", "*", &[], false),
    ];
    for (action, resource, context, allowed) in table {
        let resource = match action.split_once(':') {
            Some(("ec2", _)) if *resource != "*" => ec2(resource),
            Some(("iam", _)) => format!("arn:aws:iam::123456789012:{resource}"),
            _ => (*resource).to_owned(),
        };
        let asked = Asked { principal: OPERATOR, action, resource: &resource, context };
        let allows = answer(&operator_policy(&[]), &asked) == Some(Effect::Allow);
        assert_eq!(allows, *allowed, "{action} {resource} {context:?}");
    }
    let image = Asked {
        principal: OPERATOR,
        action: "ec2:RunInstances",
        resource: "arn:aws:ec2:eu-central-1::image/ami-1",
        context: &[],
    };
    assert_eq!(answer(&operator_policy(&[]), &image), Some(Effect::Allow));
    for (action, resource) in [
        ("s3:GetBucketVersioning", "arn:aws:s3:::records"),
        ("servicequotas:GetServiceQuota", "*"),
        ("servicequotas:GetAWSDefaultServiceQuota", "*"),
    ] {
        let asked = Asked { principal: OPERATOR, action, resource, context: &[] };
        assert_eq!(answer(&operator_policy(&[Party::Doctor]), &asked), Some(Effect::Allow), "{action}");
    }
}

#[test]
fn what_is_not_said_is_any() {
    let any = Names { account: None, region: None, ..names() };
    let document = json(&operator(&any, &roles(&["path/db"]), &[])).to_string();
    for arn in ["arn:aws:ec2:*:*:instance/*", "arn:aws:ec2:*::image/*", "arn:aws:iam::*:role/path/db"] {
        assert!(document.contains(&format!("\"{arn}\"")), "{arn}: {document}");
    }
    let china = Names { partition: "aws-cn".into(), ..names() };
    let document = json(&operator(&china, &roles(&["db"]), &[])).to_string();
    assert!(document.contains("\"ec2.amazonaws.com.cn\"") && !document.contains("arn:aws:"), "{document}");
}

// === machines ===

#[test]
fn machines_read_the_keys_of_the_one_list_and_do_nothing_else() {
    let document = json(&machine(&names(), &key()));
    let [statement] = statements(&document).collect::<Vec<_>>()[..] else { panic!("{document}") };
    assert_eq!(strings(&statement["Action"]), ["s3:GetObject"]);
    let set = "arn:aws:s3:::records/db/realms/prod/mysqlreplicaset/shop/orders/*";
    assert_eq!(
        strings(&statement["Resource"]),
        [
            "arn:aws:s3:::records/db/realms/prod/bin/*",
            &format!("{set}/register.json"),
            &format!("{set}/slots/*/bundle.json"),
        ]
    );
}

// === everybody else ===

#[test]
fn everybody_but_the_operator_is_denied_our_tags_machines_and_objects() {
    let (ours, others) = (("aws:ResourceTag/drover:realm", "prod"), ("aws:ResourceTag/drover:realm", "x"));
    let keys = |key| ("aws:TagKeys", key);
    let (instance, object) = (ec2("instance/i-1"), "arn:aws:s3:::records/db/realms/prod/lock.json");
    let (bucket, role) = ("arn:aws:s3:::records", "arn:aws:iam::123456789012:role/db");
    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);
    let nobody: &[&str] = &[];
    let (all_but_operator, all_but_readers) = (&[SOMEBODY, MACHINE][..], &[SOMEBODY][..]);
    let table: &[Row<'_>] = &[
        ("ec2:CreateTags", &instance, &[keys("drover:realm")], all_but_operator),
        ("ec2:CreateTags", &instance, &[keys("team"), keys("drover:role")], all_but_operator),
        ("ec2:DeleteTags", &instance, &[keys("drover:slot")], all_but_operator),
        // People's own.
        ("ec2:CreateTags", &instance, &[ours, keys("drover:hold")], nobody),
        ("ec2:DeleteTags", &instance, &[ours, keys("drover:hold")], nobody),
        ("ec2:CreateTags", &instance, &[keys("team")], nobody),
        ("ec2:DeleteTags", &instance, &[ours], all_but_operator),
        ("ec2:DeleteTags", &instance, &[others], nobody),
        ("ec2:TerminateInstances", &instance, &[ours], all_but_operator),
        ("ec2:TerminateInstances", &instance, &[others], nobody),
        ("ec2:CreateSnapshot", &instance, &[ours], all_but_operator),
        ("ec2:DescribeInstances", "*", &[], nobody),
        ("s3:PutObject", object, &[], all_but_operator),
        ("s3:DeleteObjectVersion", object, &[], all_but_operator),
        ("s3:GetObject", object, &[], all_but_readers),
        ("s3:GetObject", "arn:aws:s3:::records/db/realms/other/lock.json", &[], nobody),
        ("s3:PutBucketPolicy", bucket, &[], all_but_operator),
        ("s3:ListBucket", bucket, &[], nobody),
        ("iam:PassRole", role, &[], all_but_operator),
        ("iam:PassRole", SOMEBODY, &[], nobody),
    ];
    for (action, resource, context, refused) in table {
        for principal in [OPERATOR, MACHINE, SOMEBODY] {
            let told = answer(&denied(), &Asked { principal, action, resource, context });
            let expected = refused.contains(&principal).then_some(Effect::Deny);
            assert_eq!(told, expected, "{principal} {action} {resource} {context:?}");
        }
    }
}

#[test]
fn nothing_that_the_operator_does_is_denied_to_it() {
    let ours = &[("aws:ResourceTag/drover:realm", "prod"), ("aws:TagKeys", "drover:role")];
    for (action, _) in permissions(&[Party::Operator, Party::Doctor]) {
        for resource in [&ec2("instance/i-1"), "arn:aws:s3:::records", "arn:aws:s3:::records/db/realms/prod/lock.json"]
        {
            let asked = Asked { principal: OPERATOR, action, resource, context: ours };
            assert_eq!(answer(&denied(), &asked), None, "{action}");
        }
    }
}

// === trust ===

#[test]
fn a_role_is_taken_on_by_whom_it_is_for() {
    let documents: Vec<Value> = trusts().iter().map(json).collect();
    let [machines, pods, service_account] = &documents[..] else { panic!("three") };
    assert_eq!(machines["Statement"][0]["Principal"], serde_json::json!({ "Service": "ec2.amazonaws.com" }));
    assert_eq!(machines["Statement"][0]["Action"], serde_json::json!(["sts:AssumeRole"]));
    assert_eq!(pods["Statement"][0]["Principal"], serde_json::json!({ "Service": "pods.eks.amazonaws.com" }));
    assert_eq!(pods["Statement"][0]["Action"], serde_json::json!(["sts:AssumeRole", "sts:TagSession"]));
    assert_eq!(
        pods["Statement"][0]["Condition"]["StringEquals"],
        serde_json::json!({
            "aws:SourceAccount": ["123456789012"],
            "aws:RequestTag/kubernetes-namespace": ["drover"],
            "aws:RequestTag/kubernetes-service-account": ["operator"],
        })
    );
    let provider = "oidc.eks.eu-central-1.amazonaws.com/id/X";
    assert_eq!(
        service_account["Statement"][0],
        serde_json::json!({
            "Sid": "ServiceAccount",
            "Effect": "Allow",
            "Principal": { "Federated": format!("arn:aws:iam::123456789012:oidc-provider/{provider}") },
            "Action": ["sts:AssumeRoleWithWebIdentity"],
            "Condition": { "StringEquals": {
                format!("{provider}:aud"): ["sts.amazonaws.com"],
                format!("{provider}:sub"): ["system:serviceaccount:drover:operator"],
            } },
        })
    );
}

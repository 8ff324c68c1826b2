//! A plan in words: what would be done, and which values nobody wrote down.

use drover_api::{
    conditions::ConditionType,
    defaults::{Origin, ResolvedSet},
};
use drover_control::{
    Snapshot,
    snapshot::{Line, Sign},
};

use super::{conditions, headline, put, section};

/// What would be done, a line each, and which values did not come from the manifest. `forecast` goes as far as can be told.
pub fn plan(snapshot: &Snapshot, forecast: &[Line], sets: &[&ResolvedSet]) -> String {
    let mut text = String::new();
    for set in &snapshot.sets {
        let lines: Vec<&Line> = forecast.iter().filter(|line| line.set == set.key).collect();
        if lines.is_empty() && snapshot.ended.contains(&set.key) {
            continue;
        }
        put(&mut text, format_args!("{}\n", headline(set)));
        for line in lines.iter().filter(|line| !is_record(line)) {
            put(&mut text, format_args!("  {} {}  ({})\n", line.sign, line.what, line.why));
        }
        match lines.iter().filter(|line| is_record(line)).count() {
            0 => {}
            1 => text.push_str("  ~ 1 write of bookkeeping in the bucket\n"),
            count => put(&mut text, format_args!("  ~ {count} writes of bookkeeping in the bucket\n")),
        }
        let resolved = sets.iter().find(|resolved| resolved.key == set.key);
        if let Some(resolved) = resolved {
            origins(&mut text, resolved);
        }
        for awaited in &set.awaiting {
            put(&mut text, format_args!("    waits: {awaited}\n"));
        }
        conditions(&mut text, "    ", set);
    }
    section(&mut text, "Manifests that are not understood", &snapshot.problems);
    section(&mut text, "Waiting", &snapshot.waiting);
    section(&mut text, "Unclaimed, and left alone", &snapshot.unclaimed);
    let count = |sign| forecast.iter().filter(|line| line.sign == sign && !is_record(line)).count();
    if snapshot.has_changes() {
        let (makes, changes, ends) = (count(Sign::Makes), count(Sign::Changes), count(Sign::Ends));
        put(
            &mut text,
            format_args!(
                "{makes} to make, {changes} to change, {ends} to end; what follows depends on the machines' own reports\n"
            ),
        );
    } else if stuck(snapshot) {
        text.push_str("nothing can be done before the above is mended\n");
    } else {
        text.push_str("nothing to do\n");
    }
    text
}

/// Something declared waits for a person: that no action is planned then does not say that all is as declared.
pub fn stuck(snapshot: &Snapshot) -> bool {
    snapshot.sets.iter().any(|set| set.condition(ConditionType::Stalled).is_some_and(|stalled| stalled.status))
}

/// Drover's own bookkeeping: counted, not listed. Who leads, and whether the set lives, is none of it.
fn is_record(line: &Line) -> bool {
    matches!(line.action.as_str(), "PutSlot" | "PutJournal" | "CreateCa" | "CreateBundle")
}

/// Fields that a manifest leaves out, with what they are and whose word that is.
fn origins(text: &mut String, set: &ResolvedSet) {
    for (field, origin) in &set.origins {
        if *origin != Origin::Manifest {
            put(text, format_args!("    {field}: {} ({origin})\n", value(set, field)));
        }
    }
}

fn value(set: &ResolvedSet, field: &str) -> String {
    let volume = &set.data_volume;
    let optional = |value: Option<u32>| value.map(|value| value.to_string());
    let value = match field.strip_prefix("spec.").unwrap_or(field) {
        "members" => Some(set.members.to_string()),
        "readReplicas" => Some(set.read_replicas.to_string()),
        "machine.image" => json(&set.image),
        "machine.instanceTypes" => json(&set.instance_types),
        "machine.subnets" => json(&set.subnets),
        "machine.securityGroups" => json(&set.security_groups),
        "machine.instanceProfile" => Some(set.instance_profile.clone()),
        "machine.zoneSpread" => Some(format!("{:?}", set.zone_spread)),
        "machine.tags" => json(&set.tags),
        "machine.dataVolume.sizeGiB" => Some(volume.size_gib.to_string()),
        "machine.dataVolume.type" => Some(volume.volume_type.as_str().to_owned()),
        "machine.dataVolume.iops" => optional(volume.iops),
        "machine.dataVolume.throughputMiBps" => optional(volume.throughput_mibps),
        "machine.dataVolume.kmsKeyId" => volume.kms_key_id.clone(),
        "mysql.settings" => json(&set.settings),
        "mysql.durability" => Some(format!("{:?}", set.durability).to_lowercase()),
        "deletionPolicy" => Some(format!("{:?}", set.deletion_policy)),
        "paused" => Some(set.paused.to_string()),
        _ => None,
    };
    value.unwrap_or_else(|| "set".to_owned())
}

fn json(value: &impl serde::Serialize) -> Option<String> {
    serde_json::to_string(value).ok()
}

#[cfg(test)]
mod tests {
    use drover_api::{
        Realm,
        defaults::{Defaults, Terms},
    };

    use super::*;
    use crate::words::tests::{key, set};

    fn line(sign: Sign, action: &str, what: &str) -> Line {
        Line { set: key("a"), sign, action: action.into(), what: what.into(), why: format!("why {action}") }
    }

    fn resolved() -> ResolvedSet {
        let text = "apiVersion: drover.dev/v1alpha1\nkind: MySQLReplicaSet\nmetadata: {name: a}\nspec:\n  members: 1\n  version: '9.7'\n";
        let (manifests, errors) = drover_api::manifest::parse("a.yaml", text);
        assert_eq!(errors, []);
        let machine = serde_json::json!({
            "image": { "id": "ami-1" },
            "instanceTypes": ["m7g.large"],
            "subnets": { "ids": ["subnet-1"] },
            "securityGroups": { "ids": ["sg-1"] },
            "instanceProfile": "db",
            "dataVolume": { "iops": 4000 },
        });
        let machine = serde_json::from_value(machine).expect("a machine");
        manifests[0].resolve(&Terms { defaults: Defaults { machine }, ..Terms::default() }).expect("whole")
    }

    const ORIGINS: &str = "    spec.deletionPolicy: Retain (schema's default)
    spec.machine.dataVolume.iops: 4000 (operator's defaults)
    spec.machine.dataVolume.sizeGiB: 20 (built in)
    spec.machine.dataVolume.type: gp3 (built in)
    spec.machine.image: {\"id\":\"ami-1\"} (operator's defaults)
    spec.machine.instanceProfile: db (operator's defaults)
    spec.machine.instanceTypes: [\"m7g.large\"] (operator's defaults)
    spec.machine.securityGroups: {\"ids\":[\"sg-1\"]} (operator's defaults)
    spec.machine.subnets: {\"ids\":[\"subnet-1\"]} (operator's defaults)
    spec.machine.tags: {} (built in)
    spec.machine.zoneSpread: Required (built in)
    spec.mysql.durability: standard (schema's default)
    spec.mysql.settings: {} (schema's default)
    spec.paused: false (schema's default)
    spec.readReplicas: 0 (schema's default)
";

    #[test]
    fn a_plan_lists_what_is_done_and_decided_and_counts_its_bookkeeping() {
        let lines = vec![
            line(Sign::Makes, "Launch", "m1: machine"),
            line(Sign::Changes, "PutSlot", "m1: record"),
            line(Sign::Changes, "PutRegister", "register: epoch 3"),
            line(Sign::Changes, "Tag", "i-1: drover:role=primary"),
            line(Sign::Makes, "PutJournal", "journal of epoch 2"),
            line(Sign::Ends, "Terminate", "i-2"),
            line(Sign::Changes, "PutIncarnation", "incarnation x: deleting"),
        ];
        let snapshot = Snapshot {
            sets: vec![set("a", true)],
            plan: lines.clone(),
            looked: true,
            ..Snapshot::empty(Realm::new("r").expect("a realm"))
        };
        let expected = format!(
            "\
default/a: all is well
  + m1: machine  (why Launch)
  ~ register: epoch 3  (why PutRegister)
  ~ i-1: drover:role=primary  (why Tag)
  - i-2  (why Terminate)
  ~ incarnation x: deleting  (why PutIncarnation)
  ~ 2 writes of bookkeeping in the bucket
{ORIGINS}1 to make, 3 to change, 1 to end; what follows depends on the machines' own reports
"
        );
        assert_eq!(plan(&snapshot, &lines, &[&resolved()]), expected);
    }

    #[test]
    fn where_values_came_from_is_told_also_when_nothing_is_to_be_done() {
        let snapshot =
            Snapshot { sets: vec![set("a", true)], looked: true, ..Snapshot::empty(Realm::new("r").expect("a realm")) };
        let text = plan(&snapshot, &[], &[&resolved()]);
        assert_eq!(text, format!("default/a: all is well\n{ORIGINS}nothing to do\n"));
    }
}

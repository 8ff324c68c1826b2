//! The operator's configuration file: what the installation is called, where its records lie, what its sets share. It is held
//! to rules as manifests are, its `defaults.machine` to those of `spec.machine`, and each mistake is told with line and field.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    Realm,
    allow::Allow,
    defaults::Defaults,
    validate::{self, Violation},
    yaml::{self, Document, Mistake},
};

/// What the file says; every field may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    pub realm: Option<String>,
    pub bucket: Option<String>,
    pub prefix: Option<String>,
    pub region: Option<String>,
    #[serde(default)]
    pub defaults: Defaults,
    #[serde(default)]
    pub allow: Allow,
    #[serde(default)]
    pub limits: Limits,
    /// How long another operator waits before it takes over from one that died.
    pub lease_seconds: Option<u32>,
}

/// What an installation never exceeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Machines of the realm, all sets together: one more is not launched.
    #[serde(default)]
    pub max_machines: Option<u32>,
}

/// A call's deadline is a third of the lease, and AWS answers most within a second: below this, slow answers would be taken
/// for lost ones.
pub const LEASE_SECONDS_MIN: u32 = 9;
/// Nobody wants to be without an operator for longer, whatever became of the last one.
pub const LEASE_SECONDS_MAX: u32 = 600;

/// S3's rules for names (S3 documentation, "General purpose bucket naming rules"), as far as they catch typing errors.
const BUCKET_CHARS: std::ops::RangeInclusive<usize> = 3..=63;

/// Reads the file's text. `file` is what a mistake calls it.
pub fn parse(file: &str, text: &str) -> Result<Config, Vec<Mistake>> {
    let Document { mut value, places } = yaml::read(file, 1, text).map_err(|mistake| vec![mistake])?;
    if value.is_null() {
        value = Map::new().into();
    }
    validate::fill_in(&schema(), &mut value);
    let violations = violations(&value);
    if !violations.is_empty() {
        return Err(violations.into_iter().map(|violation| places.mistake(file, violation)).collect());
    }
    // The schema below names the fields of the type: a difference would be our mistake, told like any other.
    let unread = |error| Violation { field: String::new(), message: format!("the file cannot be read: {error}") };
    serde_json::from_value(value).map_err(|error| vec![places.mistake(file, unread(error))])
}

/// Why this is no name for a realm, or `None`.
pub fn refuse_realm(realm: &str) -> Option<String> {
    Realm::new(realm).err().map(|invalid| invalid.to_string())
}

/// Why this is no bucket, or `None`.
pub fn refuse_bucket(bucket: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let is_bucket = BUCKET_CHARS.contains(&bucket.len()) && bucket.chars().all(allowed);
    (!is_bucket).then(|| format!("bucket {bucket:?} is not valid: 3 to 63 lower-case letters, digits, '-' and '.'"))
}

/// Why this is no prefix of the installation's part of the bucket, or `None`.
pub fn refuse_prefix(prefix: &str) -> Option<String> {
    let is_prefix = prefix.is_empty() || (prefix.ends_with('/') && !prefix.starts_with('/'));
    if !is_prefix {
        return Some(format!(
            "prefix {prefix:?} is not valid: it is empty, or ends with '/' and does not begin with it"
        ));
    }
    // In an IAM policy they stand for something else (IAM User Guide, "Resource" and "Variables").
    let means_more = prefix.chars().find(|c| "*?$".contains(*c));
    means_more.map(|c| format!("prefix {prefix:?} is not valid: a policy cannot name a prefix with {c:?}"))
}

/// What is wrong with a value, if anything is.
type Rule = fn(&str) -> Option<String>;

fn violations(value: &Value) -> Vec<Violation> {
    let mut violations = validate::by_schema(&schema(), value);
    let rules: [(&str, Rule); 3] = [("realm", refuse_realm), ("bucket", refuse_bucket), ("prefix", refuse_prefix)];
    for (field, refuse) in rules {
        let refused = value.get(field).and_then(Value::as_str).and_then(refuse);
        violations.extend(refused.map(|message| Violation { field: field.into(), message }));
    }
    if let Some(machine @ Value::Object(_)) = value.get("defaults").and_then(|defaults| defaults.get("machine")) {
        violations.extend(validate::validate_machine(machine, "defaults.machine"));
    }
    violations
}

fn schema() -> Value {
    let text = json!({ "type": "string" });
    json!({ "type": "object", "properties": {
        "realm": text, "bucket": text, "prefix": text, "region": { "type": "string", "minLength": 1 },
        "leaseSeconds": { "type": "integer", "minimum": LEASE_SECONDS_MIN, "maximum": LEASE_SECONDS_MAX },
        "defaults": { "type": "object", "properties": { "machine": { "type": "object" } } },
        "allow": { "type": "object", "additionalProperties": { "type": "object", "properties": {
            "instanceProfiles": { "type": "array", "items": { "type": "string", "minLength": 1 } },
            "subnets": { "type": "array", "items": { "type": "string", "minLength": 1 } },
        } } },
        "limits": { "type": "object", "properties": { "maxMachines": { "type": "integer", "minimum": 0, "maximum": 1_000_000 } } },
    } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, said: &[&str]) {
        let mistakes = parse("f", text).err().unwrap_or_default();
        assert_eq!(mistakes.iter().map(ToString::to_string).collect::<Vec<_>>(), said, "{text}");
    }

    #[test]
    fn what_is_left_out_or_empty_is_none() {
        for text in ["", "# nothing\n", "realm:\ndefaults:\n", "defaults:\n  machine:\n    image:\n"] {
            assert_eq!(parse("f", text), Ok(Config::default()), "{text:?}");
        }
    }

    #[test]
    fn every_mistake_is_told_with_line_and_field() {
        check(
            "realm: prod\nbuckets: x\n",
            &[
                "f:2:1: buckets is not a field; the object has allow, bucket, defaults, leaseSeconds, limits, prefix, realm and region",
            ],
        );
        check(
            "realm: Prod\nbucket: My_Bucket\nprefix: /x\nregion: \"\"\n",
            &[
                "f:4:1: region must have at least 1 characters, and has 0",
                "f:1:1: realm \"Prod\" is not valid: lower-case letters, digits and '-', at most 63, beginning and ending with a letter or digit",
                "f:2:1: bucket \"My_Bucket\" is not valid: 3 to 63 lower-case letters, digits, '-' and '.'",
                "f:3:1: prefix \"/x\" is not valid: it is empty, or ends with '/' and does not begin with it",
            ],
        );
        check("prefix: a*/\n", &["f:1:1: prefix \"a*/\" is not valid: a policy cannot name a prefix with '*'"]);
        check(
            "realm: 7\nleaseSeconds: 5\n",
            &["f:2:1: leaseSeconds must be 9 to 600", "f:1:1: realm must be a string: put the value in quotes"],
        );
        check(
            "leaseSeconds: soon\ndefaults: []\n",
            &["f:2:1: defaults must be a map, not a list", "f:1:1: leaseSeconds must be a whole number, not \"soon\""],
        );
        check(
            "defaults: { machine: { tags: { a: } } }\n",
            &["f:1:32: defaults.machine.tags.a must be a string: \"\" is the empty one"],
        );
        check(
            "allow: { shop: { profiles: [] } }\nlimits: { maxMachines: many }\n",
            &[
                "f:1:18: allow.shop.profiles is not a field; allow.shop has instanceProfiles and subnets",
                "f:2:11: limits.maxMachines must be a whole number, not \"many\"",
            ],
        );
        check("- realm\n", &["f:1:1: the object must be a map, not a list"]);
        check("realm: [\n", &["f:1:8: unclosed bracket '['"]);
        check("realm: prod\nrealm: test\n", &["f:2:1: duplicate mapping key `realm` is not allowed here"]);
    }

    #[test]
    fn what_sets_share_is_held_to_the_rules_of_a_manifest() {
        let text = "realm: prod
defaults:
  machine:
    tags:
      drover:role: primary
    subnets:
      ids: [subnet-1]
      tags: { a: b }
    instanceType: t3.small
    dataVolume: { sizeGiB: 0 }
";
        check(
            text,
            &[
                "f:10:19: defaults.machine.dataVolume.sizeGiB must be 1 to 65536",
                "f:9:5: defaults.machine.instanceType is not a field; defaults.machine has dataVolume, image, instanceProfile, \
             instanceTypes, securityGroups, subnets, tags and zoneSpread",
                "f:6:5: defaults.machine.subnets must have exactly one of ids and tags",
                "f:5:7: defaults.machine.tags: drover:role begins with a reserved prefix: a key must not begin with drover: or aws:",
            ],
        );
        let many: String = (0..37).map(|n| format!("      t{n}: x\n")).collect();
        let said = "f:3:5: defaults.machine.tags must have at most 36 entries, and has 37";
        check(&format!("defaults:\n  machine:\n    tags:\n{many}"), &[said]);
    }
}

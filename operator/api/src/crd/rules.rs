//! The table of bounds and CEL rules. A message names the field and says what is allowed: it is all that a user sees.
//!
//! Bounds are there for the cost of the rules too: an API server refuses a CRD whose rules could run long over what the
//! schema lets in. Numbers about EC2 are those of its documentation ("Tag restrictions", "Amazon EBS volume types").

use serde_json::{Value, json};

use crate::{
    clients,
    settings::{self, Refused},
    tags,
};

/// One CEL rule on a node of the schema; `self` is the value there.
#[derive(Debug)]
pub(super) struct Rule {
    pub at: &'static str,
    rule: String,
    message: String,
    /// CEL for a better message, one that names what was found.
    message_expression: Option<String>,
}

/// Path, keyword and value of each bound that the derive does not write.
pub(super) fn bounds() -> Vec<(&'static str, &'static str, Value)> {
    let mut bounds = vec![
        ("spec.version", "maxLength", json!(16)),
        ("spec.machine.image.id", "maxLength", json!(64)),
        ("spec.machine.image.owners", "x-kubernetes-list-type", json!("set")),
        ("spec.machine.image.owners[]", "maxLength", json!(32)),
        ("spec.machine.instanceTypes", "x-kubernetes-list-type", json!("atomic")),
        ("spec.machine.instanceTypes[]", "maxLength", json!(64)),
        ("spec.machine.subnets.ids", "x-kubernetes-list-type", json!("set")),
        ("spec.machine.subnets.ids[]", "maxLength", json!(64)),
        ("spec.machine.securityGroups.ids", "x-kubernetes-list-type", json!("set")),
        ("spec.machine.securityGroups.ids[]", "maxLength", json!(64)),
        ("spec.machine.tags", "maxProperties", json!(tags::USER_TAGS_MAX)),
        ("spec.machine.tags{}", "maxLength", json!(tags::VALUE_CHARS_MAX)),
        ("spec.mysql.settings", "maxProperties", json!(settings::SETTINGS_MAX)),
        ("spec.mysql.settings{}", "maxLength", json!(settings::VALUE_CHARS_MAX)),
        ("spec.mysql.databases", "maxProperties", json!(clients::DATABASES_MAX)),
        ("spec.mysql.databases{}.characterSet", "maxLength", json!(64)),
        ("spec.mysql.databases{}.collation", "maxLength", json!(64)),
        ("spec.mysql.users", "maxProperties", json!(clients::USERS_MAX)),
        ("spec.mysql.users{}.database", "maxLength", json!(64)),
        ("spec.mysql.users{}.passwordSecretRef.name", "maxLength", json!(253)),
        ("spec.mysql.users{}.passwordSecretRef.key", "maxLength", json!(253)),
        ("status.conditions", "x-kubernetes-list-type", json!("map")),
        ("status.conditions", "x-kubernetes-list-map-keys", json!(["type"])),
        ("status.conditions", "maxItems", json!(16)),
        ("status.members", "maxItems", json!(128)),
        ("status.handled", "maxProperties", json!(16)),
        ("status.members", "x-kubernetes-list-type", json!("map")),
        ("status.members", "x-kubernetes-list-map-keys", json!(["slot"])),
    ];
    bounds.extend(STATUS_TEXTS.iter().map(|(path, length)| (*path, "maxLength", json!(length))));
    for (selector, value) in SELECTOR_TAGS {
        bounds.push((*selector, "minProperties", json!(1)));
        bounds.push((*selector, "maxProperties", json!(20)));
        bounds.push((*value, "maxLength", json!(tags::VALUE_CHARS_MAX)));
    }
    bounds
}

/// Every rule, in the order of the fields.
pub(super) fn rules() -> Vec<Rule> {
    let mut rules = vec![rule(
        "",
        "self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$')",
        "metadata.name must be 1 to 40 lower-case letters, digits and '-', beginning and ending with a letter or digit",
    )];
    rules.extend(about_the_set());
    rules.extend(about_machines());
    rules.extend(about_tags());
    rules.extend(about_volumes());
    rules.extend(about_settings());
    rules.extend(about_databases());
    rules.extend(about_users());
    rules
}

/// The texts of a status, and the most characters that each may have.
const STATUS_TEXTS: &[(&str, u32)] = &[
    ("status.conditions[].type", 316),
    ("status.conditions[].status", 16),
    ("status.conditions[].reason", 1_024),
    ("status.conditions[].message", 32_768),
    ("status.conditions[].lastTransitionTime", 64),
    ("status.primary", 16),
    ("status.nodes", 16),
    ("status.selector", 128),
    ("status.version", 32),
    ("status.endpoint", 256),
    ("status.readEndpoint", 256),
    ("status.zones", 1_024),
    ("status.members[].slot", 16),
    ("status.members[].instance", 64),
    ("status.members[].zone", 64),
    ("status.members[].address", 64),
    ("status.members[].role", 32),
    ("status.handled{}.token", 128),
    ("status.handled{}.outcome", 1_024),
];

/// Maps of tags that select something: the map, and its values.
const SELECTOR_TAGS: &[(&str, &str)] = &[
    ("spec.machine.image.tags", "spec.machine.image.tags{}"),
    ("spec.machine.subnets.tags", "spec.machine.subnets.tags{}"),
    ("spec.machine.securityGroups.tags", "spec.machine.securityGroups.tags{}"),
];

fn about_the_set() -> Vec<Rule> {
    vec![
        rule("spec.members", "self in [1, 3, 5]", "spec.members must be 1, 3 or 5"),
        rule(
            "spec.members",
            "self == oldSelf",
            "spec.members cannot be changed yet: it must stay what it was when the set was made",
        )
        .saying(
            "'spec.members cannot be changed yet: it must stay ' + (oldSelf == 1 ? '1' : oldSelf == 3 ? '3' : '5')",
        ),
        rule(
            "spec.version",
            "self.matches('^[0-9]{1,3}[.][0-9]{1,3}$')",
            "spec.version must be a MySQL release series in quotes, such as \"9.7\"",
        ),
        rule(
            "spec.version",
            "self == oldSelf",
            "spec.version cannot be changed yet: it must stay what it was when the set was made",
        )
        .saying(r#"'spec.version cannot be changed yet: it must stay "' + oldSelf + '"'"#),
    ]
}

fn about_machines() -> Vec<Rule> {
    vec![
        rule(
            "spec.machine.image",
            "has(self.id) != has(self.tags)",
            "spec.machine.image must have exactly one of id and tags",
        ),
        rule(
            "spec.machine.image",
            "!has(self.owners) || has(self.tags)",
            "spec.machine.image.owners is allowed with tags only: an id names one image whoever owns it",
        ),
        rule(
            "spec.machine.image.id",
            "self.matches('^ami-[0-9a-zA-Z]{1,60}$')",
            "spec.machine.image.id must be an image's id, such as ami-0123456789abcdef0",
        ),
        rule(
            "spec.machine.image.owners",
            "self.all(owner, owner.matches('^([0-9]{12}|self|amazon|aws-marketplace)$'))",
            "spec.machine.image.owners must be account ids of 12 digits in quotes, self, amazon or aws-marketplace",
        ),
        rule(
            "spec.machine.instanceTypes",
            "self.all(name, name.matches('^[a-z0-9-]+[.][a-z0-9-]+$'))",
            "spec.machine.instanceTypes must be names of instance types, such as r8g.large",
        ),
        rule(
            "spec.machine.subnets",
            "has(self.ids) != has(self.tags)",
            "spec.machine.subnets must have exactly one of ids and tags",
        ),
        rule(
            "spec.machine.subnets.ids",
            "self.all(id, id.matches('^subnet-[0-9a-zA-Z]{1,57}$'))",
            "spec.machine.subnets.ids must be ids of subnets, such as subnet-0123456789abcdef0",
        ),
        rule(
            "spec.machine.securityGroups",
            "has(self.ids) != has(self.tags)",
            "spec.machine.securityGroups must have exactly one of ids and tags",
        ),
        rule(
            "spec.machine.securityGroups.ids",
            "self.all(id, id.matches('^sg-[0-9a-zA-Z]{1,61}$'))",
            "spec.machine.securityGroups.ids must be ids of security groups, such as sg-0123456789abcdef0",
        ),
        rule(
            "spec.machine.instanceProfile",
            "self.matches('^[0-9A-Za-z_+=,.@-]+$')",
            "spec.machine.instanceProfile must be an instance profile's name, not its ARN: letters, digits and _+=,.@-",
        ),
    ]
}

fn about_tags() -> Vec<Rule> {
    let own = "spec.machine.tags";
    let mut rules = vec![
        naming(
            own,
            "k.lowerAscii().startsWith('drover:') || k.lowerAscii().startsWith('aws:')",
            "begins with a reserved prefix: a key must not begin with drover: or aws:",
        ),
        rule(own, "!('Name' in self)", "spec.machine.tags: Name is written by Drover: choose another key"),
        rule(
            own,
            "self.all(k, k.matches('^[-0-9A-Za-z_+=,.@:]{1,128}$'))",
            "spec.machine.tags: a key must be 1 to 128 of letters, digits and -_+=,.@: (instance metadata shows them)",
        ),
    ];
    rules.extend(SELECTOR_TAGS.iter().map(|(at, _)| {
        let message = format!("{at}: a key must have 1 to 128 characters");
        rule(at, "self.all(k, size(k) >= 1 && size(k) <= 128)", &message)
    }));
    rules
}

/// What each volume type lets choose. A type that is left out beside iops or throughput is gp3.
fn about_volumes() -> Vec<Rule> {
    let at = "spec.machine.dataVolume";
    let unless = |excused: &str, condition: &str, field_and_rule: &str| {
        let rule_text = format!("{excused} || {condition}").replace("TYPE", "(has(self.type) ? self.type : 'gp3')");
        rule(at, &rule_text, &format!("{at}.{field_and_rule}"))
    };
    vec![
        unless(
            "!has(self.sizeGiB) || TYPE != 'gp2'",
            "self.sizeGiB <= 16384",
            "sizeGiB of a gp2 volume must be 1 to 16384",
        ),
        unless(
            "!has(self.sizeGiB) || TYPE != 'io1'",
            "self.sizeGiB >= 4 && self.sizeGiB <= 16384",
            "sizeGiB of an io1 volume must be 4 to 16384",
        ),
        unless(
            "!has(self.sizeGiB) || TYPE != 'io2'",
            "self.sizeGiB >= 4",
            "sizeGiB of an io2 volume must be 4 to 65536",
        ),
        unless(
            "!has(self.iops)",
            "TYPE != 'gp2'",
            "iops is allowed for gp3, io1 and io2 only: EC2 sets that of gp2 by its size",
        ),
        unless(
            "!has(self.iops) || TYPE != 'gp3'",
            "self.iops >= 3000 && self.iops <= 80000",
            "iops of a gp3 volume must be 3000 to 80000",
        ),
        unless("!has(self.iops) || TYPE != 'io1'", "self.iops <= 64000", "iops of an io1 volume must be 100 to 64000"),
        unless("has(self.iops)", "!(TYPE in ['io1', 'io2'])", "iops is required for io1 and io2"),
        unless(
            "!has(self.iops) || !has(self.sizeGiB) || TYPE == 'gp2'",
            "self.iops <= (TYPE == 'io1' ? 50 : TYPE == 'io2' ? 1000 : 500) * self.sizeGiB || (TYPE == 'gp3' && self.iops <= 3000)",
            "iops must be at most 500 for each GiB of a gp3 volume above 3000, 50 for io1, 1000 for io2",
        ),
        unless("!has(self.throughputMiBps)", "TYPE == 'gp3'", "throughputMiBps is allowed for gp3 only"),
        unless(
            "!has(self.throughputMiBps) || TYPE != 'gp3'",
            "self.throughputMiBps * 4 <= (has(self.iops) ? self.iops : 3000)",
            "throughputMiBps must be at most a quarter of iops, which is 3000 where left out",
        ),
    ]
}

/// The closed list, one rule for each reason, in the words of [`settings::refuse`].
fn about_settings() -> Vec<Rule> {
    let at = "spec.mysql.settings";
    let mut rules = vec![
        rule(
            at,
            "self.all(k, k.matches('^[0-9A-Za-z_-]{1,64}$'))",
            "spec.mysql.settings: a key must be the name of a MySQL system variable: 1 to 64 letters, digits, _ and -",
        ),
        naming(
            at,
            &format!("{}.exists(m, {NORMAL}.startsWith(m))", list(settings::MODIFIERS)),
            "must be the variable itself, without loose, skip, disable, enable or maximum before it",
        ),
        naming(
            at,
            r"self[k].matches('\\p{Cc}')",
            &format!("must have a value of one line, at most {} characters", settings::VALUE_CHARS_MAX),
        ),
    ];
    rules.extend(settings::REFUSED.iter().map(|refused| {
        let told = format!("cannot be set: {}", refused.reason);
        naming(at, &is_refused(refused), &told)
    }));
    rules
}

fn about_databases() -> Vec<Rule> {
    let at = "spec.mysql.databases";
    let is_no_word = |field: &str| format!("has(self[k].{field}) && !self[k].{field}.matches('^[a-z0-9_]+$')");
    vec![
        rule(
            at,
            "self.all(k, k.matches('^[0-9A-Za-z_][0-9A-Za-z_-]{0,63}$'))",
            "spec.mysql.databases: a name must be 1 to 64 letters, digits, _ and -, and must not begin with -",
        ),
        naming(
            at,
            &format!("k.lowerAscii() in {}", list(clients::DATABASES_TAKEN)),
            "is a database of MySQL or of Drover: choose another name",
        ),
        naming(at, &is_no_word("characterSet"), "must have the name of one as characterSet, such as utf8mb4"),
        naming(at, &is_no_word("collation"), "must have the name of one as collation, such as utf8mb4_0900_ai_ci"),
    ]
}

fn about_users() -> Vec<Rule> {
    let at = "spec.mysql.users";
    let is_taken = format!(
        "k in {} || {}.exists(p, k.startsWith(p))",
        list(clients::USERS_TAKEN),
        list(clients::USER_PREFIXES_TAKEN)
    );
    let secret = "has(self[k].passwordSecretRef)";
    let is_undeclared = "!has(self.databases) || !(self.users[k].database in self.databases)";
    let undeclared = "must have one of spec.mysql.databases as database: declare it there";
    vec![
        rule(
            at,
            "self.all(k, k.matches('^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$'))",
            "spec.mysql.users: a name must be 1 to 32 lower-case letters, digits and '-', beginning and ending with a letter or digit: a Secret is named by it, and cannot have _",
        ),
        naming(at, &is_taken, "is a user of MySQL or of Drover: choose another name"),
        naming(
            at,
            &format!("{secret} && has(self[k].rotation)"),
            "must not have both: rotation is for passwords that Drover makes, and one of passwordSecretRef is changed where it is kept",
        ),
        naming(
            at,
            &format!("{secret} && !self[k].passwordSecretRef.name.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')"),
            "must have a Secret's name as passwordSecretRef.name: lower-case letters, digits, '-' and '.'",
        ),
        naming(
            at,
            &format!(
                "{secret} && !self[k].passwordSecretRef.key.matches('^([-_a-zA-Z0-9]|[.][-_a-zA-Z0-9])[-._a-zA-Z0-9]*$')"
            ),
            "must have a Secret's key as passwordSecretRef.key: letters, digits, '-', '_' and '.', not beginning with ..",
        ),
        rule(
            "spec.mysql",
            &format!("!has(self.users) || !self.users.exists(k, {is_undeclared})"),
            &format!("{at}: a user {undeclared}"),
        )
        .saying(&format!(
            "{} + self.users.filter(k, {is_undeclared})[0] + {}",
            text(&format!("{at}: ")),
            text(&format!(" {undeclared}"))
        )),
    ]
}

/// A key as mysqld compares it.
const NORMAL: &str = "k.lowerAscii().replace('-', '_')";

/// CEL that is true where key `k` is one of these, begins like one of the open-ended, or is the beginning of one.
fn is_refused(refused: &Refused) -> String {
    let (open, whole): (Vec<&str>, Vec<&str>) = refused.names.iter().partition(|name| name.ends_with('*'));
    let open: Vec<&str> = open.iter().map(|name| name.trim_end_matches('*')).collect();
    let mut hits = Vec::new();
    if !open.is_empty() {
        hits.push(format!("{}.exists(n, v.startsWith(n) || n.startsWith(v))", list(&open)));
    }
    if !whole.is_empty() {
        hits.push(format!("{}.exists(n, n.startsWith(v))", list(&whole)));
    }
    let allowed = list(settings::ALLOWED);
    // An empty key begins every name; the rule on names has it already.
    format!("k != '' && [{NORMAL}].exists(v, !(v in {allowed}) && ({}))", hits.join(" || "))
}

fn rule(at: &'static str, rule: &str, message: &str) -> Rule {
    Rule { at, rule: rule.to_owned(), message: message.to_owned(), message_expression: None }
}

/// A rule on a map that no key `k` may be `bad`; its message names one that is. An API server prices a key at nothing
/// (a schema cannot bound keys), but only as long as it is not taken through a function first: so `[0]`, not `min()`.
fn naming(at: &'static str, bad: &str, told: &str) -> Rule {
    rule(at, &format!("!self.exists(k, {bad})"), &format!("{at}: a key {told}")).saying(&format!(
        "{} + self.filter(k, {bad})[0] + {}",
        text(&format!("{at}: ")),
        text(&format!(" {told}"))
    ))
}

fn list(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| text(word)).collect();
    format!("[{}]", words.join(", "))
}

/// A CEL string. CEL's escapes hold those of JSON.
fn text(value: &str) -> String {
    match value.contains(['\'', '\\']) {
        true => Value::from(value).to_string(),
        false => format!("'{value}'"),
    }
}

// === impl Rule ===

impl Rule {
    fn saying(mut self, expression: &str) -> Self {
        self.message_expression = Some(expression.to_owned());
        self
    }

    pub(super) fn to_json(&self) -> Value {
        let mut json = json!({ "rule": self.rule, "message": self.message });
        if let Some(expression) = &self.message_expression {
            json["messageExpression"] = json!(expression);
        }
        json
    }
}

//! The API server's audit log: every request, and what became of it.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::Context;
use serde_json::Value;

/// One request. A watch is there from its beginning, everything else once it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    pub user: String,
    pub verb: String,
    /// The empty group is the core's.
    pub api_group: String,
    /// Empty where no resource was asked for: `/readyz`, discovery.
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// No role grants it, in that place and of that name.
    pub forbidden: bool,
    /// HTTP's status.
    pub code: u16,
    /// RFC 3339, with microseconds.
    pub received: String,
}

/// Everything at Metadata level. What is only received is not answered yet.
pub(super) const POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
";

/// In the order in which the API server received them.
pub(super) fn read(log: &Path) -> anyhow::Result<Vec<AuditEntry>> {
    let text = fs::read_to_string(log).with_context(|| format!("cannot read {}", log.display()))?;
    // The last line may be half written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    // A watch is told of at its beginning and at its end: the later one counts.
    let mut by_id = BTreeMap::new();
    for line in whole.lines() {
        let event: Value = serde_json::from_str(line)?;
        by_id.insert(text_at(&event, "/auditID"), entry(&event));
    }
    let mut entries: Vec<AuditEntry> = by_id.into_values().collect();
    entries.sort_by(|a, b| a.received.cmp(&b.received));
    Ok(entries)
}

fn entry(event: &Value) -> AuditEntry {
    let code = event.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default();
    AuditEntry {
        user: text_at(event, "/user/username"),
        verb: text_at(event, "/verb"),
        api_group: text_at(event, "/objectRef/apiGroup"),
        resource: text_at(event, "/objectRef/resource"),
        subresource: text_at(event, "/objectRef/subresource"),
        namespace: text_at(event, "/objectRef/namespace"),
        name: text_at(event, "/objectRef/name"),
        forbidden: text_at(event, "/annotations/authorization.k8s.io~1decision") == "forbid",
        code: u16::try_from(code).unwrap_or_default(),
        received: text_at(event, "/requestReceivedTimestamp"),
    }
}

fn text_at(event: &Value, pointer: &str) -> String {
    event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

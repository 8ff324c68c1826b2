//! How kstatus reads an object (sigs.k8s.io/cli-utils, pkg/kstatus), and so Flux and `helm --wait`.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde_json::Value;

/// Its status, by kstatus' words. An error is what would mislead whoever goes by it: only what is at the newest generation can be
/// done, and the conditions that are against it are there while they are true, and never otherwise.
pub fn of(object: &Value) -> anyhow::Result<&'static str> {
    let status = &object["status"];
    let observed = status["observedGeneration"].as_i64().context("observedGeneration has a default")?;
    let generation = object["metadata"]["generation"].as_i64().context("a generation")?;
    ensure!(observed <= generation, "{observed} of {generation}");
    let mut is = BTreeMap::new();
    for condition in status["conditions"].as_array().into_iter().flatten() {
        let (kind, said) =
            (condition["type"].as_str().context("a type")?, condition["status"].as_str().context("a status")?);
        ensure!(is.insert(kind, said).is_none(), "{kind} twice");
        ensure!(condition["observedGeneration"] == observed, "{condition}");
    }
    for kind in ["Reconciling", "Stalled"] {
        ensure!(is.get(kind).is_none_or(|said| *said == "True"), "{kind} is there and not true");
    }
    ensure!(observed < 0 || is.contains_key("Ready"), "nothing says whether it is ready");
    ensure!(!is.contains_key("Stalled") || is.get("Ready") != Some(&"True"), "ready and stalled");
    Ok(match () {
        () if object["metadata"]["deletionTimestamp"].is_string() => "Terminating",
        () if observed != generation => "InProgress",
        () if is.contains_key("Stalled") => "Failed",
        () if is.contains_key("Reconciling") || is.get("Ready") != Some(&"True") => "InProgress",
        () => "Current",
    })
}

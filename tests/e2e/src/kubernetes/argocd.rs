//! What Argo CD, by its script of ours, and kstatus make of sets that an API server shows.

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::states::{State, state_of};

#[path = "../../../../operator/api/tests/argocd/script.rs"]
mod script;

use script::Script;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Its tests' objects. With `UPDATE_ARGOCD=1` they are made anew of what an API server shows.
const CAPTURED: &str = "tests/kubernetes/argocd";
const TESTS_HEADER: &str = "\
# What Argo CD is to make of each object beside this file, in the form of Argo CD's own tests of health scripts. The objects are as a
# real API server showed them: UPDATE_ARGOCD=1 tests/e2e/run.sh kubernetes_asked kubernetes_sets
";

/// Argo CD.
#[derive(Debug)]
pub struct ArgoCd(Script);

impl ArgoCd {
    /// With the script that the chart brings.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self(Script::new(&fs::read_to_string(format!("{REPOSITORY}/charts/drover/files/argocd/health.lua"))?)))
    }

    /// Health and message.
    pub fn judge(&self, object: &Value) -> (String, String) {
        self.0.judge(object)
    }

    /// Judges all that was shown: every object is as kstatus wants, in a state that somebody has thought of, and judged as people
    /// expect of that state; each of `states` was seen. Answers how each set's health went, by the set's name.
    pub fn judge_all(&self, shown: &[Value], states: &[&str]) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
        let mut histories: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut seen = BTreeMap::new();
        for object in shown {
            is_as_kstatus_wants(object).with_context(|| format!("{object:#}"))?;
            let state = state_of(object).with_context(|| format!("in no state: {object:#}"))?;
            let (health, message) = self.judge(object);
            ensure!(!message.is_empty(), "no word: {object:#}");
            ensure!(health == state.health, "{} is {health}: {object:#}", state.name);
            seen.insert(state.name, (state, object, message));
            let history =
                histories.entry(object["metadata"]["name"].as_str().unwrap_or_default().to_owned()).or_default();
            if history.last() != Some(&health) {
                history.push(health);
            }
        }
        for name in states {
            let (state, object, message) = seen.get(name).with_context(|| format!("no set was ever {name}"))?;
            if is_to_keep() {
                keep(state, object, message)?;
            }
        }
        Ok(histories)
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge of these tests")]
fn is_to_keep() -> bool {
    env::var_os("UPDATE_ARGOCD").is_some()
}

/// Makes that object the one of its state.
fn keep(state: &State, object: &Value, message: &str) -> anyhow::Result<()> {
    let directory = PathBuf::from(REPOSITORY).join(CAPTURED);
    let file = format!("{}.yaml", state.name);
    fs::write(directory.join(&file), serde_saphyr::to_string(object)?)?;
    let tests = directory.join("health_test.yaml");
    let known: Value = serde_saphyr::from_str(&fs::read_to_string(&tests)?)?;
    let known = known["tests"].as_array().into_iter().flatten();
    let mut all: Vec<Value> = known.filter(|test| test["inputPath"] != *file).cloned().collect();
    all.push(json!({ "inputPath": file, "healthStatus": { "status": state.health, "message": message } }));
    all.sort_by_key(|test| test["inputPath"].to_string());
    Ok(fs::write(tests, format!("{TESTS_HEADER}{}", serde_saphyr::to_string(&json!({ "tests": all }))?))?)
}

/// As kstatus reads an object (sigs.k8s.io/cli-utils, pkg/kstatus): only what is at the newest generation can be done, and the
/// conditions that are against it are there while they are true, and never otherwise.
fn is_as_kstatus_wants(object: &Value) -> anyhow::Result<()> {
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
    Ok(())
}

//! What Argo CD, by its script of ours, and kstatus, which Flux and Helm go by, make of sets that an API server shows.

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

mod kstatus;
#[path = "../../../../operator/api/tests/argocd/script.rs"]
mod script;
mod states;

use script::Script;
use states::{State, state_of};

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
/// Its tests' objects. With `UPDATE_ARGOCD=1` they are made anew of what an API server shows.
const CAPTURED: &str = "tests/kubernetes/argocd";
const TESTS_HEADER: &str = "\
# What Argo CD is to make of each object beside this file, in the form of Argo CD's own tests of health scripts. The objects are as a
# real API server showed them: UPDATE_ARGOCD=1 DROVER_SIDE_BY_SIDE=1 tests/e2e/run.sh kubernetes_asked kubernetes_sets
";

/// What follows it in a message.
const HOLDER: &str = "holds the realm: ";

/// Argo CD.
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

    /// Judges all that was shown: every object is in a state that somebody has thought of, and is what people expect of that state to
    /// Argo CD and to kstatus; each of `states` was seen. Answers how each set's health went, by its namespace and name.
    pub fn judge_all(&self, shown: &[Value], states: &[&str]) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
        let mut histories: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut seen = BTreeMap::new();
        for object in shown {
            let state = state_of(object).with_context(|| format!("in no state: {object:#}"))?;
            let (health, message) = self.judge(object);
            ensure!(!message.is_empty(), "no word: {object:#}");
            let kstatus = kstatus::of(object).with_context(|| format!("{object:#}"))?;
            let expected = (state.health, state.kstatus);
            ensure!((health.as_str(), kstatus) == expected, "{} is {health} and {kstatus}: {object:#}", state.name);
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
            let history = histories.entry(format!("{}/{}", text("namespace"), text("name"))).or_default();
            if history.last() != Some(&health) {
                history.push(health);
            }
            // Of the latest of that state the most is known.
            seen.insert(state.name, (state, object, message));
        }
        let wanted = states.iter().map(|name| seen.get(name).with_context(|| format!("no set was ever {name}")));
        let wanted = wanted.collect::<anyhow::Result<Vec<_>>>()?;
        if is_to_keep() {
            wanted.into_iter().try_for_each(|(state, object, message)| keep(state, object, message))?;
        }
        Ok(histories)
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge of these tests")]
fn is_to_keep() -> bool {
    env::var_os("UPDATE_ARGOCD").is_some()
}

/// Makes that object the one of its state. Who holds a realm is a process of the machine that this runs on: another is named.
fn keep(state: &State, object: &Value, message: &str) -> anyhow::Result<()> {
    let anonymous = |text: &str| match text.split_once(HOLDER) {
        Some((before, _)) => format!("{before}{HOLDER}drover-7d9/blue"),
        None => text.to_owned(),
    };
    let mut object = object.clone();
    for condition in object["status"]["conditions"].as_array_mut().into_iter().flatten() {
        condition["message"] = anonymous(condition["message"].as_str().unwrap_or_default()).into();
    }
    let directory = PathBuf::from(REPOSITORY).join(CAPTURED);
    let file = format!("{}.yaml", state.name);
    fs::write(directory.join(&file), serde_saphyr::to_string(&object)?)?;
    let tests = directory.join("health_test.yaml");
    let known: Value = serde_saphyr::from_str(&fs::read_to_string(&tests)?)?;
    let known = known["tests"].as_array().into_iter().flatten();
    let mut all: Vec<Value> = known.filter(|test| test["inputPath"] != *file).cloned().collect();
    all.push(json!({ "inputPath": file, "healthStatus": { "status": state.health, "message": anonymous(message) } }));
    all.sort_by_key(|test| test["inputPath"].to_string());
    Ok(fs::write(tests, format!("{TESTS_HEADER}{}", serde_saphyr::to_string(&json!({ "tests": all }))?))?)
}

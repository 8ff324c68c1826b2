//! The states of a set, as its object shows them, and what Argo CD is to make of each.

use serde_json::Value;

/// One state.
pub(super) struct State {
    pub name: &'static str,
    pub health: &'static str,
    is: fn(&Shown<'_>) -> bool,
}

/// A set's object.
struct Shown<'a>(&'a Value);

/// An object is in the first of these that it is in. Only what waits for a person is Degraded: Argo CD gives a sync up over it.
const STATES: [State; 19] = [
    State { name: "deleting-retained", health: "Progressing", is: |set| set.is_ending() && set.policy() == "Retain" },
    State { name: "deleting", health: "Progressing", is: |set| set.is_ending() && set.is("Reconciling") },
    State { name: "deleted", health: "Progressing", is: |set| set.is_ending() },
    State { name: "new", health: "Progressing", is: |set| set.observed() == Some(-1) },
    State { name: "stalled-before-change", health: "Progressing", is: |set| set.is_changed() && set.is("Stalled") },
    State { name: "spec-changed", health: "Progressing", is: |set| set.is_changed() },
    State { name: "paused-stalled", health: "Degraded", is: |set| set.is("Stalled") && set.is("Suspended") },
    State { name: "primary-lost", health: "Degraded", is: |set| set.is("Stalled") && set.is("PrimaryLost") },
    State { name: "stalled", health: "Degraded", is: |set| set.is("Stalled") },
    State { name: "paused", health: "Suspended", is: |set| set.says("Suspended", "reason") == "Paused" },
    State { name: "held", health: "Suspended", is: |set| set.is("Suspended") },
    State {
        name: "realm-held-by-other",
        health: "Progressing",
        is: |set| set.says("Ready", "reason") == "RealmHeldByOther",
    },
    State { name: "not-known", health: "Progressing", is: |set| set.says("Ready", "status") == "Unknown" },
    State { name: "ready-working", health: "Progressing", is: |set| set.is("Ready") && set.is("Reconciling") },
    State { name: "ready-change-pending", health: "Healthy", is: |set| set.is("Ready") && set.is("ChangePending") },
    State { name: "ready", health: "Healthy", is: |set| set.is("Ready") },
    State { name: "launching", health: "Progressing", is: |set| set.is("Reconciling") && !set.has_primary() },
    State { name: "scaling", health: "Progressing", is: |set| set.is("Reconciling") && set.awaits_reader() },
    State { name: "mending", health: "Progressing", is: |set| set.is("Reconciling") },
];

/// Which state an object is in. Nothing: none that anybody has thought of.
pub(super) fn state_of(object: &Value) -> Option<&'static State> {
    STATES.iter().find(|state| (state.is)(&Shown(object)))
}

impl Shown<'_> {
    fn is_ending(&self) -> bool {
        self.0["metadata"]["deletionTimestamp"].is_string()
    }

    fn policy(&self) -> &str {
        self.0["spec"]["deletionPolicy"].as_str().unwrap_or_default()
    }

    fn observed(&self) -> Option<i64> {
        self.0["status"]["observedGeneration"].as_i64()
    }

    fn is_changed(&self) -> bool {
        self.observed() != self.0["metadata"]["generation"].as_i64()
    }

    fn is(&self, kind: &str) -> bool {
        self.says(kind, "status") == "True"
    }

    fn says(&self, kind: &str, field: &str) -> &str {
        let mut conditions = self.0["status"]["conditions"].as_array().into_iter().flatten();
        let condition = conditions.find(|condition| condition["type"] == kind);
        condition.and_then(|condition| condition[field].as_str()).unwrap_or_default()
    }

    fn has_primary(&self) -> bool {
        self.0["status"]["primary"].is_string()
    }

    fn awaits_reader(&self) -> bool {
        let mut rows = self.0["status"]["members"].as_array().into_iter().flatten();
        rows.any(|row| row["ready"] == false && row["slot"].as_str().is_some_and(|slot| slot.starts_with('r')))
    }
}

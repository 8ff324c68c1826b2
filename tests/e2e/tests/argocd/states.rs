//! The states of a set, as its object shows them, and what Argo CD and kstatus are to make of each.

use serde_json::Value;

/// One state.
pub struct State {
    pub name: &'static str,
    pub health: &'static str,
    pub kstatus: &'static str,
    is: fn(&Shown<'_>) -> bool,
}

/// A set's object.
struct Shown<'a>(&'a Value);

const fn state(name: &'static str, health: &'static str, kstatus: &'static str, is: fn(&Shown<'_>) -> bool) -> State {
    State { name, health, kstatus, is }
}

/// An object is in the first of these that it is in. Only what waits for a person is Degraded: Argo CD gives a sync up over it. What
/// is suspended is done for kstatus once it is ready.
const STATES: [State; 21] = [
    state("deleting-retained", "Progressing", "Terminating", |set| set.is_ending() && set.policy() == "Retain"),
    state("deleting-stopped", "Progressing", "Terminating", |set| set.is_ending() && set.is("Suspended")),
    state("deleting-asked", "Progressing", "Terminating", |set| {
        set.is_ending() && (set.is_changed() || set.is("Ready"))
    }),
    state("deleting", "Progressing", "Terminating", |set| set.is_ending() && set.is("Reconciling")),
    state("new", "Progressing", "InProgress", |set| set.observed() == Some(-1)),
    state("stalled-before-change", "Progressing", "InProgress", |set| set.is_changed() && set.is("Stalled")),
    state("spec-changed", "Progressing", "InProgress", |set| set.is_changed()),
    state("paused-stalled", "Degraded", "Failed", |set| set.is("Stalled") && set.is_paused()),
    state("primary-lost", "Degraded", "Failed", |set| set.is("Stalled") && set.is("PrimaryLost")),
    state("stalled", "Degraded", "Failed", |set| set.is("Stalled")),
    state("paused", "Suspended", "Current", |set| set.is_paused() && set.is("Ready")),
    state("held", "Suspended", "Current", |set| set.is("Suspended") && set.is("Ready") && !set.is("Reconciling")),
    state("suspended-not-ready", "Suspended", "InProgress", |set| set.is("Suspended")),
    state("realm-held-by-other", "Progressing", "InProgress", |set| set.says("Ready", "reason") == "RealmHeldByOther"),
    state("not-known", "Progressing", "InProgress", |set| set.says("Ready", "status") == "Unknown"),
    state("ready-working", "Progressing", "InProgress", |set| set.is("Ready") && set.is("Reconciling")),
    state("ready-change-pending", "Healthy", "Current", |set| set.is("Ready") && set.is("ChangePending")),
    state("ready", "Healthy", "Current", |set| set.is("Ready")),
    state("launching", "Progressing", "InProgress", |set| set.is("Reconciling") && !set.was_open()),
    state("scaling", "Progressing", "InProgress", |set| set.is("Reconciling") && set.awaits("r")),
    state("mending", "Progressing", "InProgress", |set| set.is("Reconciling") && set.awaits("m")),
];

/// Which state an object is in. Nothing: none that anybody has thought of.
pub fn state_of(object: &Value) -> Option<&'static State> {
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

    fn is_paused(&self) -> bool {
        self.says("Suspended", "reason") == "Paused"
    }

    fn is(&self, kind: &str) -> bool {
        self.says(kind, "status") == "True"
    }

    fn says(&self, kind: &str, field: &str) -> &str {
        let mut conditions = self.0["status"]["conditions"].as_array().into_iter().flatten();
        let condition = conditions.find(|condition| condition["type"] == kind);
        condition.and_then(|condition| condition[field].as_str()).unwrap_or_default()
    }

    /// The version that runs is known from when it was first open.
    fn was_open(&self) -> bool {
        self.0["status"]["version"].is_string()
    }

    /// A machine in such a slot.
    fn awaits(&self, slots: &str) -> bool {
        let mut rows = self.0["status"]["members"].as_array().into_iter().flatten();
        rows.any(|row| row["ready"] == false && row["slot"].as_str().is_some_and(|slot| slot.starts_with(slots)))
    }
}

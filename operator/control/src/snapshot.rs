//! What the operator says of itself and its sets: the JSON that its socket serves. Nothing in it is secret.

use drover_api::{Millis, Realm, ResourceKey};
use drover_plan::SetReport;
use serde::{Deserialize, Serialize};

/// The realm as one pass saw it and left it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub realm: Realm,
    /// When this was so; 0 before the first pass. Its age is that of everything in it.
    pub at: Millis,
    /// Whether cloud, bucket and agents were looked at. Where not, because another operator acts, or nobody may, there are no
    /// sets here and nothing is known of them: whoever asks has to look for himself.
    pub looked: bool,
    /// Whether a source of manifests was read. Where not, nothing here says whether a set is declared.
    pub sources_read: bool,
    /// Passes of this process.
    pub passes: u64,
    pub lock: Lock,
    pub sets: Vec<SetReport>,
    /// Sets whose life ended: nothing of them runs any more.
    pub ended: Vec<ResourceKey>,
    /// Deletions that were asked for and of which nothing is left.
    #[serde(default)]
    pub released: Vec<ResourceKey>,
    /// What carries our tags and no resource claims, a line each.
    pub unclaimed: Vec<String>,
    /// What the realm as a whole waits for.
    pub waiting: Vec<String>,
    /// What a source of manifests could not read, a line each.
    pub problems: Vec<String>,
    /// What the pass wanted done.
    pub plan: Vec<Line>,
    /// What of that failed.
    pub failed: Vec<Failed>,
}

/// Who may act.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// Host, process id and start of the holder; empty where it is not known.
    pub holder: String,
    pub fence: u64,
    /// The process that says this holds it.
    pub ours: bool,
    /// Why the lock could not be read or written.
    pub error: Option<String>,
}

/// One action of a plan, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub set: ResourceKey,
    pub sign: Sign,
    pub action: String,
    pub what: String,
    pub why: String,
}

/// What an action does to what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sign {
    #[serde(rename = "+")]
    Makes,
    #[serde(rename = "~")]
    Changes,
    #[serde(rename = "-")]
    Ends,
    #[serde(rename = "?")]
    Looks,
}

/// An action that was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub set: ResourceKey,
    pub action: String,
    pub error: String,
}

// === impl Snapshot ===

impl Snapshot {
    pub fn empty(realm: Realm) -> Self {
        Self {
            realm,
            at: Millis(0),
            looked: false,
            sources_read: false,
            passes: 0,
            lock: Lock::default(),
            sets: Vec::new(),
            ended: Vec::new(),
            released: Vec::new(),
            unclaimed: Vec::new(),
            waiting: Vec::new(),
            problems: Vec::new(),
            plan: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Everything was looked at: what is not named here is not there.
    pub fn is_whole(&self) -> bool {
        self.looked && self.waiting.is_empty()
    }

    /// Something of the plan changes the world: look-ups do not.
    pub fn has_changes(&self) -> bool {
        self.plan.iter().any(|line| line.sign != Sign::Looks)
    }
}

// === impl Sign ===

impl std::fmt::Display for Sign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Sign::Makes => "+",
            Sign::Changes => "~",
            Sign::Ends => "-",
            Sign::Looks => "?",
        })
    }
}

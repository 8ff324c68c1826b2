//! What the programs say as JSON, as far as the scenarios read it: a program of somebody else would read it so too.

use drover_plan::SetReport;
use serde::Deserialize;

/// Where a cloud is: drover-local's `ready.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Endpoints {
    pub ec2: String,
    pub s3: String,
    pub region: String,
    pub access_key: String,
    pub secret_key: String,
}

/// `drover-local calls --json`: a call to EC2, S3 or Service Quotas.
#[derive(Clone, Debug, Deserialize)]
pub struct Call {
    pub seq: u64,
    pub service: String,
    pub action: String,
    /// Whose key signed it: `ASIA...` is a machine's session.
    pub access_key: String,
    pub error: Option<String>,
    /// The call was applied, and not answered.
    pub reply_lost: bool,
    pub target: String,
}

/// `drover-local machines --json`: an instance.
#[derive(Clone, Debug, Deserialize)]
pub struct Instance {
    pub id: String,
    pub name: String,
    pub state: String,
    pub volumes: Vec<String>,
}

/// `drover status --json`, which is also what the operator's socket serves.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    pub passes: u64,
    pub lock: Lock,
    pub sets: Vec<SetReport>,
    pub unclaimed: Vec<String>,
    pub waiting: Vec<String>,
    pub problems: Vec<String>,
}

/// Who may act.
#[derive(Clone, Debug, Deserialize)]
pub struct Lock {
    pub holder: String,
    pub fence: u64,
    pub ours: bool,
    pub error: Option<String>,
}

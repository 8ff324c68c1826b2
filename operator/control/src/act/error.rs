//! Why an action was not done, and what that asks of the next pass.

use drover_api::{Epoch, InstanceId, Slot};
use drover_cloud::CloudError;
use drover_plan::Planned;

use crate::{agents::AgentError, certificates::CertificateError, store::StoreError};

/// Why an action was not done.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    #[error("this operator's lease does not last long enough for another call")]
    LeaseEnds,
    #[error(transparent)]
    Cloud(#[from] CloudError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("{what} is not what it was when the plan was made")]
    Moved { what: String },
    #[error("there is no way to reach the agent of {instance} yet")]
    NoEndpoint { instance: InstanceId },
    #[error("{slot} has taken orders of fence {fence}, epoch {epoch}, number {seq}, which are newer than ours")]
    Stale { slot: Slot, fence: u64, epoch: Epoch, seq: u64 },
    #[error("{slot} refuses the order: {reason}")]
    OrderRefused { slot: Slot, reason: String },
}

// === impl ActError ===

impl ActError {
    /// Whether `later` is not to be tried after `failed` ended like this.
    pub(super) fn ends(&self, failed: &Planned, later: &Planned) -> bool {
        let ends_all = matches!(self, ActError::LeaseEnds) || self.is_conflict() || failed.slot.is_none();
        ends_all || failed.slot == later.slot
    }

    /// The records that the plan was made from are out of date: they are read again before the next plan.
    pub fn is_conflict(&self) -> bool {
        match self {
            ActError::Moved { .. } => true,
            // A lost reply leaves a record in one of two states, and only a read tells which.
            ActError::Store(_) => true,
            ActError::LeaseEnds
            | ActError::Cloud(_)
            | ActError::Agent(_)
            | ActError::Certificate(_)
            | ActError::NoEndpoint { .. }
            | ActError::Stale { .. }
            | ActError::OrderRefused { .. } => false,
        }
    }
}

//! What EC2 answers when it refuses: its own code, a message that says what failed, and the HTTP status.
//!
//! Codes and statuses are those of "Error codes for the Amazon EC2 API"; messages are ours unless a client is known to read
//! them.

use serde::{Deserialize, Serialize};

/// A refusal in EC2's words. `code` is what clients decide by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    pub code: String,
    pub message: String,
    pub http_status: u16,
}

impl ApiError {
    /// A client error: HTTP 400, as EC2 sends for all but a few codes.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        let http_status = match code {
            "AuthFailure" => 401,
            "UnauthorizedOperation" => 403,
            "DryRunOperation" => 412,
            "InsufficientInstanceCapacity" | "InternalError" => 500,
            "RequestLimitExceeded" | "Unavailable" => 503,
            _ => 400,
        };
        Self { code: code.into(), message: message.into(), http_status }
    }

    pub(super) fn value(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterValue", message)
    }

    pub(super) fn combination(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterCombination", message)
    }

    /// A parameter that the action needs was not sent.
    pub fn missing(parameter: &str) -> Self {
        Self::new("MissingParameter", format!("The request must contain the parameter {parameter}"))
    }

    /// A parameter that the action does not have, or that this model does not implement: refused, never ignored.
    pub fn unknown_parameter(parameter: &str) -> Self {
        Self::new("UnknownParameter", format!("The parameter {parameter} is not recognized"))
    }

    /// The action itself is unknown.
    pub fn unknown_action(action: &str) -> Self {
        Self::new("InvalidAction", format!("The action {action} is not valid for this web service."))
    }
}

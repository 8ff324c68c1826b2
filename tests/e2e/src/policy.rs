//! A printed policy, read as IAM reads it: what it allows of what was really called.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde::Deserialize;

use crate::{Call, operator::drover};

/// A policy of Allow statements.
#[derive(Clone, Debug, Deserialize)]
pub struct Policy {
    #[serde(rename = "Statement")]
    statements: Vec<Statement>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    effect: String,
    action: Vec<String>,
    resource: Vec<String>,
}

impl Policy {
    /// What `drover iam-policy` prints for these words.
    pub fn printed(environment: &BTreeMap<&str, String>, words: &[&str]) -> anyhow::Result<Self> {
        let asked = drover(environment, &[&["iam-policy"], words].concat())?;
        ensure!(asked.status.success() && asked.error.is_empty(), "{asked:?}");
        let policy: Self = serde_json::from_str(&asked.out).with_context(|| asked.out.clone())?;
        ensure!(policy.statements.iter().all(|statement| statement.effect == "Allow"), "{policy:?}");
        Ok(policy)
    }

    /// Whether some statement has the action, whatever its conditions.
    pub fn names(&self, action: &str) -> bool {
        self.statements.iter().any(|statement| statement.action.iter().any(|named| named == action))
    }

    /// Whether it allows an action of S3 on a `bucket/key`.
    pub fn allows(&self, action: &str, target: &str) -> bool {
        let arn = format!("arn:aws:s3:::{target}");
        let applies = |statement: &Statement| {
            statement.action.iter().any(|named| named == action)
                && statement.resource.iter().any(|pattern| is_like(pattern, &arn))
        };
        self.statements.iter().any(applies)
    }
}

/// What IAM asks for a call; HEAD and GET are one permission.
pub fn permission(call: &Call) -> String {
    let action = match call.action.as_str() {
        "ListObjectsV2" => "ListBucket",
        "HeadObject" => "GetObject",
        other => other,
    };
    format!("{}:{action}", call.service)
}

/// `*` stands for anything.
fn is_like(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            ends.into_iter().any(|at| is_like(after, &rest[at..]))
        }),
    }
}

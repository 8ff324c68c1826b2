//! What is to be written for one resource: decided from what is known, executed by [`super::hands`]. Pure.

use drover_api::{Millis, set::DeletionPolicy, status::MySQLReplicaSetStatus};
use drover_plan::SetReport;
use serde_json::Value;

use super::{
    resource::Resource,
    secrets::{self, SecretObject},
    services::{self, For},
    status,
};
use crate::Connections;

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Our finalizer on it: from now on its deletion cannot pass unseen.
    Hold,
    /// Our finalizer off it: nothing of ours is left to do for it.
    Release,
    Status(Box<MySQLReplicaSetStatus>),
    Service(Value),
    Slice(Value),
    /// How one user connects.
    Secret(SecretObject),
}

/// What a pass has to say about a resource.
#[derive(Clone, Copy, Debug)]
pub enum Word<'a> {
    /// How the set is.
    Report(&'a SetReport),
    /// The same, of which the status says nothing yet: it is likely to be over in a moment. Clients are sent where it says.
    Hiccup(&'a SetReport),
    /// Its deletion was asked for, and nothing of it is left.
    Ended,
    /// The realm is another operator's, and has been for long enough to say so.
    HeldByOther { holder: &'a str },
    /// Nothing yet.
    Nothing,
}

/// What is known of a resource's Services and slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Services {
    /// They hold what they should.
    Written,
    Unsure,
}

/// What is to be written now.
pub fn writes(
    resource: &Resource,
    word: Word<'_>,
    services: Services,
    connections: Option<&Connections>,
    now: Millis,
) -> Vec<Write> {
    if resource.deleting {
        return of_deleted(resource, word, now);
    }
    let mut writes = Vec::new();
    if !resource.held {
        writes.push(Write::Hold);
    }
    match word {
        Word::Report(report) | Word::Hiccup(report) => {
            if matches!(word, Word::Report(_)) {
                writes.extend(changed(resource, status::of_report(resource, report, now)));
            }
            if services == Services::Unsure {
                writes.extend(of_services(resource, report));
            }
            let secrets = connections.map(|connections| secrets::connections(resource, connections));
            writes.extend(secrets.into_iter().flatten().map(Write::Secret));
        }
        Word::HeldByOther { holder } => writes.extend(changed(resource, status::held_by_other(resource, holder, now))),
        Word::Ended | Word::Nothing => {}
    }
    writes
}

/// Retain needs nothing but to be let go. Delete is let go once everything has ended; until then its status says what is left.
/// Nothing is made for either but events, which may be refused: the namespace may be ending too.
fn of_deleted(resource: &Resource, word: Word<'_>, now: Millis) -> Vec<Write> {
    match (resource.held, resource.policy, word) {
        (false, ..) => Vec::new(),
        (true, DeletionPolicy::Retain, _) | (true, DeletionPolicy::Delete, Word::Ended) => vec![Write::Release],
        (true, DeletionPolicy::Delete, Word::Report(report) | Word::Hiccup(report)) => {
            changed(resource, status::of_report(resource, report, now)).into_iter().collect()
        }
        (true, DeletionPolicy::Delete, Word::HeldByOther { holder }) => {
            changed(resource, status::held_by_other(resource, holder, now)).into_iter().collect()
        }
        (true, DeletionPolicy::Delete, Word::Nothing) => Vec::new(),
    }
}

fn changed(resource: &Resource, status: MySQLReplicaSetStatus) -> Option<Write> {
    (*resource.status != status).then(|| Write::Status(Box::new(status)))
}

/// While it is not known where clients connect, what is there stays. A Service is there from the beginning, so that a Pod which
/// starts before its database has a name to wait for.
fn of_services(resource: &Resource, report: &SetReport) -> Vec<Write> {
    let mut writes = Vec::new();
    for of in [For::Primary, For::Replicas] {
        writes.push(Write::Service(services::service(resource, of)));
        if let Some(endpoints) = &report.endpoints {
            writes.push(Write::Slice(services::slice(resource, of, endpoints)));
        }
    }
    writes
}

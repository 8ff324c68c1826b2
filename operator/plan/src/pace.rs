//! How soon a slot is filled again whose machines end soon after their launch. EC2 accepts a launch and gives it up a moment
//! later where a quota of EBS or a key of KMS is in the way, and a person's clean-up may end every machine that appears:
//! launched again at once it would go on for ever (law 10). All that a pause depends on is in the slot's record, so it
//! outlives any operator.

use std::time::Duration;

use drover_api::{
    Slot,
    records::{EarlyEnds, SlotRecord},
};

use crate::{
    observed::{Phase, StateReason},
    view::{Out, View},
};

/// A machine that ended later than this after its launch had been of use: it boots, gets its volume and its data within
/// minutes. One that a person ends to try things out counts as early, and is replaced without a pause the first time.
const EARLY: Duration = Duration::from_secs(10 * 60);
/// After the second in a row; doubled by each further one.
const PAUSE_FIRST: Duration = Duration::from_secs(15);
/// A quota that was raised or a key that was repaired is found within this time without anybody's help.
const PAUSE_MAX: Duration = Duration::from_secs(60 * 60);
/// This many in a row that nobody asked to end are no accident: four minutes of trying.
const STALLS_AT: u32 = 5;

/// Ends that were asked for, by a person or from inside the machine (EC2 API reference, "StateReason").
const ASKED_FOR: [&str; 3] =
    ["Client.UserInitiatedShutdown", "Client.InstanceInitiatedShutdown", "Client.UserInitiatedHibernate"];

/// What a slot's record is to say once its machine was seen to have ended: the ends in a row grow or end. A machine that lists
/// no longer show tells nothing: its absence took minutes to become sure, and that is a pause of its own.
pub fn after(view: &View<'_>, record: &SlotRecord) -> Option<EarlyEnds> {
    let machine = record.instance.as_ref().and_then(|id| view.observed.fleet.machines.get(id));
    match machine.filter(|machine| machine.phase == Phase::Terminated) {
        Some(machine) if view.now().since(machine.launched) < EARLY => {
            Some(one_more(view, record, reason(machine.state_reason.as_ref())))
        }
        Some(_) => None,
        None => record.early_ends.clone(),
    }
}

/// The same for a machine that ended before anybody saw it: its token is spent.
pub fn after_unseen(view: &View<'_>, record: &SlotRecord, message: &str) -> Option<EarlyEnds> {
    Some(one_more(view, record, message.to_owned()))
}

/// Says that the slot has to wait, where it has to. A change of `spec.machine` (`changed`) is an answer to what went wrong.
pub fn holds_back(view: &View<'_>, slot: Slot, record: &SlotRecord, changed: Changed, out: &mut Out) -> bool {
    let Some(ends) = record.early_ends.as_ref().filter(|_| changed == Changed::No) else { return false };
    let pause = pause(ends.count);
    if view.now().since(ends.seen) >= pause {
        return false;
    }
    let told = format!(
        "{} machines in a row ended soon after their launch, the last with {}; the next is launched {} later",
        ends.count,
        ends.reason,
        words(pause)
    );
    let asked_for = ASKED_FOR.iter().any(|code| ends.reason.starts_with(code));
    if ends.count >= STALLS_AT && !asked_for {
        let message =
            format!("{}, or change spec.machine: {told}, or at once when spec.machine changes", advice(&ends.reason));
        out.stall(slot, "LaunchesFail", message);
    } else {
        out.wait(slot, "LaunchPaused", told);
    }
    true
}

/// Whether the launch inputs are others than those of the attempt that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    Yes,
    No,
}

fn one_more(view: &View<'_>, record: &SlotRecord, reason: String) -> EarlyEnds {
    let before = record.early_ends.as_ref().map_or(0, |ends| ends.count);
    EarlyEnds { count: before.saturating_add(1), seen: view.now(), reason }
}

fn pause(count: u32) -> Duration {
    match count.checked_sub(2) {
        None => Duration::ZERO,
        Some(doubled) => PAUSE_FIRST.saturating_mul(1 << doubled.min(10)).min(PAUSE_MAX),
    }
}

fn reason(reason: Option<&StateReason>) -> String {
    // EC2's messages begin with the code, most of the time.
    match reason {
        None => "no reason given by EC2".into(),
        Some(reason) if reason.message.starts_with(&reason.code) => reason.message.clone(),
        Some(reason) => format!("{}: {}", reason.code, reason.message),
    }
}

/// What a person can do about the reasons that EC2 documents for launches that end at once ("Instance terminates immediately").
fn advice(reason: &str) -> &'static str {
    if reason.contains("VolumeLimitExceeded") {
        "have the account's quota of EBS storage raised"
    } else if reason.contains("KMSKey") || reason.contains("Client.InternalError") {
        "let EC2 use the KMS key that encrypts the machine's volumes"
    } else {
        "see to what EC2 says"
    }
}

fn words(pause: Duration) -> String {
    match pause.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

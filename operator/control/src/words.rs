//! An action in a person's words. What it carries that is secret, or long, is not said.

use drover_plan::{Action, Planned};

use crate::snapshot::{Line, Sign};

pub fn line(set: &drover_api::ResourceKey, planned: &Planned) -> Line {
    let (sign, what) = describe(&planned.action);
    Line { set: set.clone(), sign, action: planned.action.kind().to_owned(), what, why: planned.why.clone() }
}

fn describe(action: &Action) -> (Sign, String) {
    let new = |is_new: bool| if is_new { Sign::Makes } else { Sign::Changes };
    match action {
        Action::PutIncarnation { record, expected } => {
            (new(expected.is_none()), format!("incarnation {}: {:?}", record.incarnation, record.state).to_lowercase())
        }
        Action::CreateCa { .. } => (Sign::Makes, "certificate authority and secret".into()),
        Action::PutRegister { register, expected, .. } => (
            new(expected.is_none()),
            format!(
                "register: epoch {}, {}, leader {}, {} voters, {} acknowledgements",
                register.epoch,
                format!("{:?}", register.state).to_uppercase(),
                register.leader,
                register.voters.len(),
                register.k
            ),
        ),
        Action::PutJournal { register, .. } => (Sign::Makes, format!("journal of epoch {}", register.epoch)),
        Action::CreateBundle { slot, .. } => (Sign::Makes, format!("{slot}: certificate")),
        Action::PutSlot { slot, record, expected, .. } => {
            (new(expected.is_none()), format!("{slot}: record, attempt {}", record.attempt))
        }
        Action::Launch { slot, request } => (
            Sign::Makes,
            format!(
                "{slot}: machine {} in {} ({}) from {}",
                request.instance_type, request.zone, request.subnet, request.image
            ),
        ),
        Action::FindByToken { token } => (Sign::Looks, format!("for the machine of token {}", short(token.as_str()))),
        Action::LookUpMachine { instance } => (Sign::Looks, format!("for {instance}")),
        Action::LookUpVolume { volume } => (Sign::Looks, format!("for {volume}")),
        Action::CreateVolume { slot, request } => (
            Sign::Makes,
            format!("{slot}: volume of {} GiB {} in {}", request.size_gib, request.volume_type, request.zone),
        ),
        Action::Attach { volume, instance } => (Sign::Changes, format!("{volume} to {instance}")),
        Action::KeepVolume { volume, instance, .. } => {
            (Sign::Changes, format!("{volume}: is not deleted together with {instance}"))
        }
        Action::Unprotect { instance } => (Sign::Changes, format!("{instance}: termination protection off")),
        Action::Terminate { instance } => (Sign::Ends, format!("{instance}")),
        Action::DeleteVolume { volume } => (Sign::Ends, format!("{volume} and its data")),
        Action::Tag { instance, tags } => {
            let tags: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
            (Sign::Changes, format!("{instance}: {}", tags.join(" ")))
        }
        Action::Order { slot, wanted, .. } => (Sign::Changes, format!("{slot}: order: {wanted:?}")),
        Action::Hold { instance } => (Sign::Changes, format!("{instance}: hands off")),
        Action::Release { instance } => (Sign::Changes, format!("{instance}: hands on again")),
        Action::Upgrade { slot, build, .. } => {
            (Sign::Changes, format!("{slot}: agent build {}", short(build.as_str())))
        }
    }
}

/// Enough of a hash to tell it from others.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

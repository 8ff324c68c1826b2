//! What people ask for once: each request becomes actions until it is so, and then an answer.

use drover_api::{
    Slot,
    requests::{Asks, Request},
    status::Handled,
    tags,
};

use crate::{
    actions::Action,
    observed::{Machine, Phase},
    view::{Out, View},
};

/// Works on every request, and leaves the answers of those that are over.
pub fn answer(view: &View<'_>, requests: &[Request], out: &mut Out) -> Vec<(String, Handled)> {
    requests.iter().filter_map(|request| Some(request.answered(one(view, request, out)?))).collect()
}

/// The answer, or `None` while it is worked on.
fn one(view: &View<'_>, request: &Request, out: &mut Out) -> Option<String> {
    let (slots, held) = match &request.asks {
        Ok(Asks::Hold(slots)) => (slots, true),
        Ok(Asks::Release(slots)) => (slots, false),
        Err(why) => return Some(format!("refused: {why}")),
    };
    let machines: Result<Vec<(Slot, &Machine)>, Slot> =
        slots.iter().map(|slot| Ok((*slot, standing(view, *slot).ok_or(*slot)?))).collect();
    let machines = match machines {
        Ok(machines) => machines,
        Err(slot) => return Some(format!("refused: there is no machine in {slot}")),
    };
    let others: Vec<_> = machines.iter().filter(|(_, machine)| machine.held != held).collect();
    for (slot, machine) in &others {
        let instance = machine.id.clone();
        let why = format!("{} was asked for, by request {}", request.verb, request.token);
        out.act(*slot, if held { Action::Hold { instance } } else { Action::Release { instance } }, why);
    }
    let told: Vec<String> = machines.iter().map(|(slot, machine)| format!("{slot} ({})", machine.id)).collect();
    let word = if held { "carry" } else { "do not carry" };
    others.is_empty().then(|| format!("done: {} {word} {}", told.join(", "), tags::HOLD))
}

/// The machine that a person means by a slot.
fn standing<'a>(view: &View<'a>, slot: Slot) -> Option<&'a Machine> {
    view.filling(slot).filter(|machine| machine.phase < Phase::ShuttingDown)
}

//! Requests that came by the socket, as long as people wait for their answers. They are this process's word only; what they ask
//! for is done by the planner, which knows them beside those of annotations.

use drover_api::{ResourceKey, requests::Request};
use drover_cloud::{Machines, Objects, Volumes};
use tokio::sync::oneshot;

use crate::{
    agents::Agents,
    lock::Holding,
    operator::{Operator, PassOutcome},
};

/// People who wait for what becomes of a request.
#[derive(Debug, Default)]
pub struct Asks {
    waiting: Vec<(ResourceKey, Request, Reply)>,
}

type Reply = oneshot::Sender<Result<String, String>>;

// === impl Asks ===

impl Asks {
    /// Takes a person's request.
    pub fn take<C: Machines + Volumes + Objects, A: Agents>(
        &mut self,
        operator: &mut Operator<C, A>,
        holding: &Holding,
        (key, request, reply): (ResourceKey, Request, Reply),
    ) {
        let refused = match holding {
            _ if !operator.intents.contains_key(&key) => {
                Some(format!("{key} is not declared: there is nothing to ask for"))
            }
            Holding::Us { .. } => None,
            Holding::Other { holder, .. } => {
                Some(format!("this operator does not act: ask the one that does, {holder}"))
            }
            Holding::Unknown => Some("this operator does not hold the lock yet: try again".to_owned()),
        };
        match refused {
            Some(refused) => tell(reply, Err(refused)),
            None => self.waiting.push((key, request, reply)),
        }
        self.ask(operator);
    }

    /// Answers those whose request a pass has answered, and forgets those whom nobody waits for.
    pub fn answer<C: Machines + Volumes + Objects, A: Agents>(
        &mut self,
        operator: &mut Operator<C, A>,
        outcome: &PassOutcome,
    ) {
        for (key, request, reply) in std::mem::take(&mut self.waiting) {
            let report = outcome.plan.as_ref().and_then(|plan| plan.reports.get(&key));
            let handled = report.and_then(|report| report.handled.get(&request.verb));
            match handled.filter(|handled| handled.token == request.token) {
                Some(handled) => tell(reply, Ok(handled.outcome.clone())),
                None if reply.is_closed() => {}
                None if !matches!(outcome.holding, Holding::Us { .. }) => {
                    tell(reply, Err("this operator lost the lock: ask the one that acts".to_owned()));
                }
                None => self.waiting.push((key, request, reply)),
            }
        }
        self.ask(operator);
    }

    /// What is waited for, and nothing else.
    fn ask<C: Machines + Volumes + Objects, A: Agents>(&self, operator: &mut Operator<C, A>) {
        operator.asked.clear();
        for (key, request, _) in &self.waiting {
            operator.asked.entry(key.clone()).or_default().push(request.clone());
        }
    }
}

fn tell(reply: Reply, answer: Result<String, String>) {
    if reply.send(answer).is_err() {
        tracing::debug!("whoever asked does not wait for the answer any more");
    }
}

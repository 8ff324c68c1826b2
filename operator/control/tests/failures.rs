//! One machine that cannot get on never holds up the rest of its set.

mod common;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
};

use common::{Counting, FakeClock, Playing, World, config, declare, key};
use drover_api::{
    InstanceId, Slot,
    wire::{BuildOrder, Orders, OrdersReply},
};
use drover_control::{AgentError, Agents, Endpoint, Operator};
use drover_plan::observed::Agent;
use futures::executor::block_on;

/// Agents of which one refuses every order.
#[derive(Debug)]
struct Refusing(Playing, Slot);

impl Agents for Refusing {
    async fn reports(&self, endpoints: &BTreeMap<InstanceId, Endpoint>, fence: u64) -> BTreeMap<InstanceId, Agent> {
        self.0.reports(endpoints, fence).await
    }

    async fn order(&self, endpoint: &Endpoint, orders: &Orders) -> Result<OrdersReply, AgentError> {
        if endpoint.slot == self.1 {
            return Ok(OrdersReply::Refused { reason: "a test".into() });
        }
        self.0.order(endpoint, orders).await
    }

    async fn upgrade(&self, endpoint: &Endpoint, order: &BuildOrder) -> Result<(), AgentError> {
        self.0.upgrade(endpoint, order).await
    }
}

#[test]
fn an_agent_that_refuses_every_order_does_not_keep_the_others_from_theirs() {
    let world = World::new();
    let mut operator = Operator::new(
        Arc::new(world.fake.clone()),
        Arc::new(Refusing(world.agents.clone(), Slot::Reader(0))),
        Arc::new(FakeClock(world.fake.clone())),
        Arc::new(Counting(AtomicU64::new(1 << 32))),
        config("a test"),
    );
    operator.declare(declare("orders", 1, 2), vec![]);
    let ready = |operator: &Operator<_, _>| {
        let snapshot = operator.snapshots().borrow().clone();
        let set = snapshot.sets.iter().find(|set| set.key == key("orders")).cloned();
        let members = set.map(|set| set.members).unwrap_or_default();
        members.into_iter().filter(|member| member.ready).map(|member| member.slot).collect::<Vec<_>>()
    };
    for _ in 0..100 {
        block_on(operator.pass());
        world.fake.advance(std::time::Duration::from_secs(3));
    }
    assert_eq!(ready(&operator), [Slot::Member(0), Slot::Reader(1)]);
}

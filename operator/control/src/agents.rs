//! What the operator needs from the agents, as a trait: the latest report of each machine, and a way to send an order.

use std::{collections::BTreeMap, future::Future, net::Ipv4Addr, sync::Arc};

use drover_api::{
    Incarnation, InstanceId, ResourceKey, Slot,
    records::CaRecord,
    wire::{BuildOrder, Orders, OrdersReply},
};
use drover_plan::observed::Agent;

/// Where an agent is asked, and by what it is known: its leaf names the slot, signed by the set's own CA.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub instance: InstanceId,
    pub address: Ipv4Addr,
    pub key: ResourceKey,
    pub incarnation: Incarnation,
    pub slot: Slot,
    pub ca: Arc<CaRecord>,
}

/// An agent that was not reached, or did not understand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    #[error("the agent at {address} does not answer: {why}")]
    Unreachable { address: Ipv4Addr, why: String },
    #[error("the agent at {address} answered {status}: {body}")]
    Refused { address: Ipv4Addr, status: u16, body: String },
    #[error("cannot speak TLS with the agents of {key}: {why}")]
    Credentials { key: ResourceKey, why: String },
}

/// The agents of a realm.
pub trait Agents: Send + Sync {
    /// What is known now of exactly these machines. An implementation that listens starts listening to those that are new,
    /// stops with those that are no longer named, and answers at once from what it has heard.
    fn reports(
        &self,
        endpoints: &BTreeMap<InstanceId, Endpoint>,
        fence: u64,
    ) -> impl Future<Output = BTreeMap<InstanceId, Agent>> + Send;

    /// `PUT /v1/orders`.
    fn order(
        &self,
        endpoint: &Endpoint,
        orders: &Orders,
    ) -> impl Future<Output = Result<OrdersReply, AgentError>> + Send;

    /// `PUT /v1/build`.
    fn upgrade(&self, endpoint: &Endpoint, order: &BuildOrder) -> impl Future<Output = Result<(), AgentError>> + Send;
}

// === impl Endpoint ===

impl PartialEq for Endpoint {
    /// Equal endpoints are reached in the same way, so a listener need not begin anew.
    fn eq(&self, other: &Self) -> bool {
        self.instance == other.instance
            && self.address == other.address
            && self.slot == other.slot
            && self.incarnation == other.incarnation
            && self.ca.write_id == other.ca.write_id
    }
}

//! The API server that `drover run --kubernetes` takes its manifests from.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use clap::Args;
use drover_api::Namespace;
use drover_control::{
    kubernetes::{Cluster, client::client, election::Ballot},
    metrics::Metrics,
};
use kube::{Client, Config};

/// Which cluster, and this process's place in it.
#[derive(Clone, Debug, Args)]
pub struct InCluster {
    /// Keeps what the API server declares: that of the Pod's own cluster, or of the kubeconfig's current context.
    #[arg(long, env = "DROVER_KUBERNETES")]
    pub kubernetes: bool,
    /// Watches these namespaces, separated by commas; all of them where none is given.
    #[arg(long, env = "DROVER_NAMESPACES", value_delimiter = ',', requires = "kubernetes")]
    namespaces: Vec<String>,
    /// Where the Lease of the replicas is: the Pod's own namespace.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    lease_namespace: String,
    /// The Lease's name; replicas of one installation share it.
    #[arg(long, env = "DROVER_LEASE", default_value = "drover")]
    lease_name: String,
    /// A leader that is silent for so many seconds is followed by another replica.
    #[arg(long, env = "DROVER_LEASE_SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(5..=300))]
    lease_seconds: u16,
    /// What this replica is called, by a name that no other has: the Pod's own.
    #[arg(long, env = "POD_NAME")]
    identity: Option<String>,
}

/// A request, a watch aside, that takes longer is not answered any more.
const CONNECT_MAX: Duration = Duration::from_secs(5);
const UNUSABLE: &str = "the API server's configuration cannot be used";

impl InCluster {
    /// Finds the API server, whose answers are counted. It need not be there yet.
    pub async fn connect(self, metrics: &Arc<Metrics>) -> anyhow::Result<Cluster> {
        for namespace in self.namespaces.iter().chain([&self.lease_namespace]) {
            Namespace::new(namespace.as_str())
                .with_context(|| format!("--namespaces or --lease-namespace: {namespace:?}"))?;
        }
        let config = config().await.context("--manifests DIR needs none")?;
        let client = client(config, metrics).context(UNUSABLE)?;
        let identity = self.identity.unwrap_or_else(own_name);
        Ok(Cluster {
            client,
            namespaces: self.namespaces,
            ballot: Ballot {
                namespace: self.lease_namespace,
                name: self.lease_name,
                identity,
                duration: Duration::from_secs(self.lease_seconds.into()),
            },
        })
    }
}

/// A client for a command that looks once.
pub async fn client_once() -> anyhow::Result<Client> {
    Client::try_from(config().await?).context(UNUSABLE)
}

/// Of the Pod's own cluster, or of the kubeconfig's current context.
async fn config() -> anyhow::Result<Config> {
    let found = Config::infer().await;
    let mut config =
        found.context("no API server: run in a Pod with a service account, or name one with KUBECONFIG")?;
    config.connect_timeout = Some(CONNECT_MAX);
    Ok(config)
}

fn own_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}", host.trim(), std::process::id())
}

//! `drover hold`, `release`, `restart`, `drop-user` and `drop-database`: what a person asks for once. In a cluster it is an annotation, answered in the resource's
//! status; beside an operator of a directory it goes through the socket.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use drover_api::{
    ResourceKey,
    requests::Request,
    set::{self, MySQLReplicaSet},
    status::{Handled, MySQLReplicaSetStatus},
};
use drover_control::{
    Entropy,
    edge::SystemEntropy,
    kubernetes::resource::REQUEST,
    socket::{self, AskRequest, REQUEST_MAX},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject},
};
use serde_json::json;

use crate::{cluster, out, settings::Named};

/// A request about machines.
#[derive(Debug, Args)]
pub struct Slots {
    #[command(flatten)]
    set: Named,
    /// The slots whose machines are meant, such as m1 or r0.
    #[arg(required = true)]
    slots: Vec<String>,
    #[command(flatten)]
    way: Way,
}

/// A request about some machines, or about all.
#[derive(Debug, Args)]
pub struct AnySlots {
    #[command(flatten)]
    set: Named,
    /// The slots whose machines are meant, such as m1 or r0; without any, all of the set, one after another.
    slots: Vec<String>,
    #[command(flatten)]
    way: Way,
}

/// A request about users or databases in MySQL.
#[derive(Debug, Args)]
pub struct Names {
    #[command(flatten)]
    set: Named,
    /// What is to be dropped: made by Drover, and not declared any more.
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    way: Way,
}

/// How an operator is asked.
#[derive(Debug, Args)]
struct Way {
    /// Asks through the API server of the kubeconfig's current context, instead of an operator's socket.
    #[arg(long, env = "DROVER_KUBERNETES")]
    kubernetes: bool,
    /// Where the running operator's socket is.
    #[arg(long, env = "DROVER_STATE", default_value = "/run/drover")]
    state: PathBuf,
}

/// Owns the annotations that this program writes.
const MANAGER: &str = "drover-cli";
const LOOK_AGAIN: Duration = Duration::from_millis(500);

pub async fn of_slots(verb: &str, arguments: Slots) -> anyhow::Result<ExitCode> {
    ask(verb, &arguments.set, &arguments.slots, arguments.way).await
}

pub async fn of_any_slots(verb: &str, arguments: AnySlots) -> anyhow::Result<ExitCode> {
    ask(verb, &arguments.set, &arguments.slots, arguments.way).await
}

pub async fn of_names(verb: &str, arguments: Names) -> anyhow::Result<ExitCode> {
    ask(verb, &arguments.set, &arguments.names, arguments.way).await
}

async fn ask(verb: &str, set: &Named, words: &[String], way: Way) -> anyhow::Result<ExitCode> {
    let key = set.key()?;
    let entropy = SystemEntropy::default();
    let token = (&entropy as &dyn Entropy).hex(6);
    let text = format!("{token} {}", words.join(" "));
    let request = Request::read(verb, text.trim_end());
    if let Err(why) = &request.asks {
        bail!("{why}");
    }
    let outcome = if way.kubernetes {
        through_api_server(&key, &request, text.trim_end()).await?
    } else {
        let path = socket::path(&way.state);
        let asked = AskRequest { namespace: key.namespace, name: key.name, request };
        socket::ask_request(&path, &asked).await?
    };
    out::println(&outcome)?;
    Ok(if outcome.starts_with("done") { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn through_api_server(key: &ResourceKey, request: &Request, text: &str) -> anyhow::Result<String> {
    let client = cluster::client_once().await?;
    let sets = ApiResource::erase::<MySQLReplicaSet>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client, key.namespace.as_str(), &sets);
    let name = key.name.as_str();
    // Server-side apply would make what is not there.
    let Some(found) = api.get_metadata_opt(name).await? else {
        bail!("there is no {} {key}: see `kubectl get {} --all-namespaces`", set::KIND, sets.plural);
    };
    let annotation = format!("{REQUEST}{}", request.verb);
    let body = json!({
        "apiVersion": sets.api_version,
        "kind": sets.kind,
        "metadata": { "name": name, "uid": found.metadata.uid, "annotations": { annotation: text } },
    });
    api.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(body)).await?;
    let answered = async {
        loop {
            let object = api.get(name).await?;
            if let Some(handled) = answer(&object, request) {
                return anyhow::Ok(handled.outcome);
            }
            pause(LOOK_AGAIN).await;
        }
    };
    let late =
        "not answered yet: see status.handled of the resource, and whether an operator acts (`kubectl describe`)";
    tokio::time::timeout(REQUEST_MAX, answered).await.context(late)?
}

fn answer(object: &DynamicObject, request: &Request) -> Option<Handled> {
    let status: MySQLReplicaSetStatus = serde_json::from_value(object.data["status"].clone()).ok()?;
    status.handled.get(&request.verb).filter(|handled| handled.token == request.token).cloned()
}

#[expect(clippy::disallowed_methods, reason = "the pace of looking for an answer")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

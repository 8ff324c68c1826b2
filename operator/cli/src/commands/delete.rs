//! `drover delete`.

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use drover_api::ResourceKey;
use drover_control::socket::{self, DeleteRequest};

use crate::{
    commands::status::pause,
    out,
    settings::{Installation, Named},
};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    installation: Installation,
    #[command(flatten)]
    named: Named,
    /// Does not ask again.
    #[arg(long)]
    yes: bool,
    /// Does not wait until everything has ended.
    #[arg(long)]
    no_wait: bool,
}

/// Between two looks at how far it is.
const AGAIN: Duration = Duration::from_secs(2);

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let key = arguments.named.key()?;
    let path = socket::path(&arguments.installation.state);
    let none = "only a running operator ends machines: start `drover run`, or name its state directory with --state";
    socket::ask_status(&path).await.context(none)?;
    if !arguments.yes && !confirmed(key.name.as_str())? {
        bail!("nothing is deleted");
    }
    let request = DeleteRequest { namespace: key.namespace.clone(), name: key.name.clone() };
    socket::ask_delete(&path, &request).await?;
    out::println(format_args!("{key}: its end is written down; machines and volumes are being ended"))?;
    if !arguments.no_wait {
        wait(&path, &key).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Until the operator has seen that nothing of the set is left; says each step once.
async fn wait(path: &Path, key: &ResourceKey) -> anyhow::Result<()> {
    let mut last = String::new();
    loop {
        let snapshot = socket::ask_status(path).await?;
        if snapshot.ended.contains(key) {
            out::println(format_args!("{key}: deleted; nothing of it is left"))?;
            return Ok(());
        }
        if let Some(set) = snapshot.sets.iter().find(|set| set.key == *key)
            && set.verdict != last
        {
            out::println(&set.verdict)?;
            last = set.verdict.clone();
        }
        pause(AGAIN).await;
    }
}

/// A name that is typed is read; a `y` is not.
fn confirmed(name: &str) -> anyhow::Result<bool> {
    out::print(format_args!(
        "This ends every machine of {name} and deletes its data for good. Type its name to go on: "
    ))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == name)
}

//! `drover plan`.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::Args;
use drover_control::{Snapshot, edge::SystemClock, forecast::forecast, live::AskedAgents, watching, words::line};
use drover_plan::observed::Seen;

use crate::{
    cloud,
    commands::run::{looking, must_be_directory},
    out,
    settings::{Installation, Secrets},
    words,
};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    installation: Installation,
    /// A directory of manifests.
    #[arg(long, env = "DROVER_MANIFESTS")]
    manifests: PathBuf,
    #[command(flatten)]
    secrets: Secrets,
    /// JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// Something would be changed.
const CHANGES: u8 = 2;

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let settings = arguments.installation.settings()?;
    must_be_directory(&arguments.manifests)?;
    let secrets = arguments.secrets.directory()?;
    let scan = watching::scan(&arguments.manifests)?;
    let (aws, cloud) = cloud::connect(&settings).await?;
    let agents = Arc::new(AskedAgents::new(Arc::new(SystemClock)));
    let mut operator = looking(&settings, &aws, cloud, agents, Some(scan), secrets.as_deref()).await;
    let (observed, _, snapshot) = operator.look().await;
    let forecast = forecast(&observed, drover_plan::plan);
    let lines = forecast.iter().flat_map(|(key, actions)| actions.iter().map(move |planned| line(key, planned)));
    let lines: Vec<_> = lines.collect();
    if arguments.json {
        out::println(serde_json::to_string_pretty(&Snapshot { plan: lines, ..snapshot.as_ref().clone() })?)?;
    } else {
        let sets: Vec<_> = observed.intents.values().filter_map(|intent| intent.set.as_ref().ok()).collect();
        out::print(words::plan(&snapshot, &lines, &sets))?;
    }
    // A plan made without a part of the world is not the plan: a mistake, even where the rest is quiet.
    let unknown = observed.records.values().any(|seen| matches!(seen, Seen::Unknown { .. }));
    let missing = observed.intents.values().any(|intent| intent.set.is_err());
    let unresolved = observed.catalogs.values().any(|seen| matches!(seen, Seen::Unknown { .. }));
    if unknown || missing || unresolved || observed.fleet.failing.is_some() || !snapshot.problems.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    Ok(match snapshot.has_changes() {
        true => ExitCode::from(CHANGES),
        false if words::stuck(&snapshot) => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

//! `drover status`.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use drover_api::{Namespace, ResourceKey, ResourceName};
use drover_control::{Operator, Snapshot, edge::SystemClock, live::AskedAgents, socket, watching};

use crate::{
    cloud::{self, Cloud},
    commands::run::{looking, must_be_directory},
    settings::Installation,
    words,
};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    installation: Installation,
    /// Only this set.
    name: Option<String>,
    #[arg(long, short, default_value = "default")]
    namespace: String,
    /// Shows it again and again, until Ctrl-C.
    #[arg(long, short)]
    watch: bool,
    /// JSON, for programs.
    #[arg(long)]
    json: bool,
    /// Without a running operator: what is declared, so that it is not called unclaimed.
    #[arg(long, env = "DROVER_MANIFESTS")]
    manifests: Option<PathBuf>,
}

/// Where a status comes from.
pub enum Source {
    Running(PathBuf),
    Own(Box<Operator<Cloud, AskedAgents>>),
}

/// Between two looks of `-w`. Without an operator each costs a handful of calls.
const AGAIN: Duration = Duration::from_secs(2);

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let only = arguments.name.as_deref().map(|name| {
        let key =
            ResourceKey { namespace: Namespace::new(arguments.namespace.as_str())?, name: ResourceName::new(name)? };
        Ok::<_, drover_api::InvalidName>(key)
    });
    let only = only.transpose()?;
    let mut source = Source::find(&arguments.installation, arguments.manifests.as_ref()).await?;
    loop {
        let snapshot = source.look().await?;
        let text = if arguments.json {
            format!("{}\n", serde_json::to_string_pretty(&snapshot)?)
        } else {
            format!("{}\n{}", source.said_by(&snapshot), words::status(&snapshot, only.as_ref()))
        };
        show(&text, arguments.watch && !arguments.json)?;
        if !arguments.watch {
            let is_known = only.as_ref().is_none_or(|key| words::knows(&snapshot, key));
            return Ok(if is_known { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
            () = pause(AGAIN) => {}
        }
    }
}

impl Source {
    /// The running operator, where one answers; else a look of our own.
    pub async fn find(installation: &Installation, manifests: Option<&PathBuf>) -> anyhow::Result<Self> {
        let path = socket::path(&installation.state);
        if socket::ask_status(&path).await.is_ok() {
            return Ok(Source::Running(path));
        }
        let settings = installation.settings()?;
        let scan = match manifests {
            Some(directory) => {
                must_be_directory(directory)?;
                Some(watching::scan(directory)?)
            }
            None => None,
        };
        let (aws, cloud) = cloud::connect(&settings).await?;
        let agents = Arc::new(AskedAgents::new(Arc::new(SystemClock)));
        Ok(Source::Own(Box::new(looking(&settings, &aws, cloud, agents, scan))))
    }

    pub async fn look(&mut self) -> anyhow::Result<Snapshot> {
        match self {
            Source::Running(path) => Ok(socket::ask_status(path).await?),
            Source::Own(operator) => Ok(operator.look().await.2.as_ref().clone()),
        }
    }

    fn said_by(&self, snapshot: &Snapshot) -> String {
        match self {
            Source::Running(path) => format!("{} ({})\n", words::lock(snapshot), path.display()),
            Source::Own(_) => {
                "no operator answers here: this is what cloud, bucket and agents say, and nothing is being done\n"
                    .into()
            }
        }
    }
}

/// On a terminal a later look replaces the one before.
fn show(text: &str, replace: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if replace && out.is_terminal() {
        // Home, then clear to the end of the screen (ECMA-48: CUP, ED).
        out.write_all(b"\x1b[H\x1b[J")?;
    }
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[expect(clippy::disallowed_methods, reason = "the pace of a screen that a person watches")]
pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

//! `drover run`, and how any command makes an operator.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, bail};
use clap::Args;
use drover_agent::userdata::{Boot, user_data};
use drover_aws::{Aws, Observer};
use drover_control::{
    Agents, Clock, Config, Operator, Pace,
    directory::{Directory, Scan},
    edge::{SystemClock, SystemEntropy},
    metrics::Metrics,
    passwords,
    publish::Binary,
    run::{Intents, Running, run as keep_running},
};

use crate::{
    cloud::{self, Cloud},
    cluster::InCluster,
    settings::{Installation, Secrets, Settings},
};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    installation: Installation,
    /// A directory of manifests: its .yaml, .yml and .json files, not those of directories below it.
    #[arg(long, env = "DROVER_MANIFESTS", conflicts_with = "kubernetes", required_unless_present = "kubernetes")]
    manifests: Option<PathBuf>,
    /// Where probes (/live, /ready) and scrapes (/metrics) are answered, such as 0.0.0.0:8080; nowhere unless said.
    #[arg(long, env = "DROVER_LISTEN")]
    listen: Option<SocketAddr>,
    #[command(flatten)]
    secrets: Secrets,
    #[command(flatten)]
    agents: AgentsBeside,
    #[command(flatten)]
    cluster: InCluster,
}

/// What this program hands out to machines of other architectures than its own.
#[derive(Debug, Args)]
pub struct AgentsBeside {
    /// A directory with agents for machines of other architectures than this program's: arm64/drover, x86_64/drover. In the operator's
    /// image it is /agents, which is also looked at where nothing is said.
    #[arg(long, env = "DROVER_AGENTS")]
    agents: Option<PathBuf>,
}

/// Where the operator's image has them.
const AGENTS: &str = "/agents";
/// A process reads its own file here, also after the file was replaced (proc(5), "/proc/self/exe").
const OWN_FILE: &str = "/proc/self/exe";

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let settings = arguments.installation.settings()?;
    let metrics = Arc::new(Metrics::default());
    let intents = match arguments.manifests {
        Some(manifests) => {
            must_be_directory(&manifests)?;
            Intents::Directory { manifests, secrets: arguments.secrets.directory()? }
        }
        None => Intents::Kubernetes(Box::new(arguments.cluster.connect(&metrics).await?)),
    };
    let (aws, cloud) = cloud::connect_observed(&settings, Some(observer(&metrics))).await?;
    let mut binaries = vec![Binary::of(OWN_FILE.into(), architecture())?];
    binaries.extend(arguments.agents.binaries()?);
    let running = Running {
        operator: Config { binaries, ..operator_config(&settings, &aws) },
        intents,
        terms: settings.terms,
        state: arguments.installation.state,
        listen: arguments.listen,
        metrics,
    };
    keep_running(cloud, running).await?;
    Ok(ExitCode::SUCCESS)
}

impl AgentsBeside {
    /// Reads them. A directory that is named and not there is a mistake.
    pub fn binaries(&self) -> anyhow::Result<Vec<Binary>> {
        if let Some(named) = &self.agents {
            let found = std::fs::metadata(named).with_context(|| format!("cannot read {}", named.display()));
            found.context("give the directory of the agents with --agents")?;
        }
        Ok(Binary::beside(self.agents.as_deref().unwrap_or(Path::new(AGENTS)), architecture())?)
    }
}

/// Counts the calls to EC2 and S3.
fn observer(metrics: &Arc<Metrics>) -> Observer {
    let metrics = Arc::clone(metrics);
    Observer(Arc::new(move |call, took, failed| {
        metrics.called(call.service.as_str(), call.action, failed, took);
    }))
}

/// A directory that is not there must not look like "nothing is wanted".
pub fn must_be_directory(path: &Path) -> anyhow::Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => bail!("{} is not a directory: give the directory of the manifests with --manifests", path.display()),
        Err(error) => {
            bail!("cannot read {}: {error}: give the directory of the manifests with --manifests", path.display())
        }
    }
}

/// An operator that looks only, told what a directory declares, where one is given, with the passwords of another.
pub async fn looking<A: Agents>(
    settings: &Settings,
    aws: &Aws,
    cloud: Arc<Cloud>,
    agents: Arc<A>,
    scan: Option<Scan>,
    secrets: Option<&Path>,
) -> Operator<Cloud, A> {
    let config = operator_config(settings, aws);
    let mut operator = Operator::new(cloud, agents, Arc::new(SystemClock), Arc::new(SystemEntropy::default()), config);
    if let Some(scan) = scan {
        let mut directory = Directory::default();
        directory.absorb(scan);
        let intents = directory.intents(&settings.terms);
        operator.learn_passwords(passwords::read(secrets, intents.values()).await);
        operator.declare(intents, directory.problems());
    }
    operator
}

/// What every machine of the installation is given at its first boot.
pub fn machines_user_data(settings: &Settings, aws: &Aws) -> String {
    user_data(&Boot {
        bucket: settings.bucket.clone(),
        prefix: settings.prefix.clone(),
        region: aws.region().to_owned(),
        realm: settings.realm.clone(),
        s3_endpoint: aws.object_endpoint().map(str::to_owned),
    })
}

fn operator_config(settings: &Settings, aws: &Aws) -> Config {
    Config {
        realm: settings.realm.clone(),
        prefix: settings.prefix.clone(),
        holder: holder(),
        lease: settings.lease,
        deadline: settings.deadline(),
        pace: Pace::default(),
        machines_max: settings.machines_max,
        user_data: machines_user_data(settings, aws),
        binaries: vec![],
        plan: drover_plan::plan,
    }
}

/// For people who ask who acts: host, process, start.
fn holder() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let started = i64::try_from(SystemClock.now().0).ok().and_then(|now| jiff::Timestamp::from_millisecond(now).ok());
    let started = started.map(|started| started.strftime("%FT%TZ").to_string()).unwrap_or_default();
    format!("{} pid {} since {started}", host.trim(), std::process::id())
}

/// This program's, as EC2 names it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    }
}

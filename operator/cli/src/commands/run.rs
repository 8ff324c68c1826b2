//! `drover run`, and how any command makes an operator.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::bail;
use clap::Args;
use drover_agent::userdata::{Boot, user_data};
use drover_aws::Aws;
use drover_control::{
    Agents, Clock, Config, Operator, Pace,
    directory::{Directory, Scan},
    edge::{SystemClock, SystemEntropy},
    passwords,
    publish::Binary,
    run::{Running, run as keep_running},
};

use crate::{
    cloud::{self, Cloud},
    settings::{Installation, Secrets, Settings},
};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    installation: Installation,
    /// A directory of manifests: its .yaml, .yml and .json files, not those of directories below it.
    #[arg(long, env = "DROVER_MANIFESTS")]
    manifests: PathBuf,
    #[command(flatten)]
    secrets: Secrets,
}

/// A process reads its own file here, also after the file was replaced (proc(5), "/proc/self/exe").
const OWN_FILE: &str = "/proc/self/exe";

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let settings = arguments.installation.settings()?;
    must_be_directory(&arguments.manifests)?;
    let secrets = arguments.secrets.directory()?;
    let (aws, cloud) = cloud::connect(&settings).await?;
    let binary = Binary::of(OWN_FILE.into(), architecture())?;
    let running = Running {
        operator: Config { binary: Some(binary), ..operator_config(&settings, &aws) },
        manifests: arguments.manifests,
        secrets,
        defaults: settings.defaults,
        state: arguments.installation.state,
    };
    keep_running(cloud, running).await?;
    Ok(ExitCode::SUCCESS)
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
        let intents = directory.intents(&settings.defaults);
        operator.learn_passwords(passwords::read(secrets, intents.values()).await);
        operator.declare(intents, directory.problems());
    }
    operator
}

fn operator_config(settings: &Settings, aws: &Aws) -> Config {
    let boot = Boot {
        bucket: settings.bucket.clone(),
        prefix: settings.prefix.clone(),
        region: aws.region().to_owned(),
        realm: settings.realm.clone(),
        s3_endpoint: aws.object_endpoint().map(str::to_owned),
    };
    Config {
        realm: settings.realm.clone(),
        prefix: settings.prefix.clone(),
        holder: holder(),
        lease: settings.lease,
        deadline: settings.deadline(),
        pace: Pace::default(),
        user_data: user_data(&boot),
        binary: None,
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
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        other => other,
    }
}

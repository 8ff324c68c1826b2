//! `drover run` as a process of this test's own.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use drover_api::conditions::ConditionType;
use drover_plan::SetReport;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    Access, Cloud,
    pace::within,
    programs::{self, finish_alone, run, start},
    said::Status,
};

/// An operator and its directory: configuration, manifests, socket, log.
#[derive(Debug)]
pub struct Operator {
    pub name: String,
    pub manifests: PathBuf,
    pub log: PathBuf,
    pub state: PathBuf,
    pub config: PathBuf,
    child: Child,
}

/// What an installation of the chart gives its Pods: the configuration, and the variables that have a value of their own.
#[derive(Clone, Debug)]
pub struct Installed {
    pub config: String,
    pub environment: BTreeMap<String, String>,
}

/// What a command of `drover` answered.
#[derive(Clone, Debug)]
pub struct Asked {
    pub status: ExitStatus,
    pub out: String,
    pub error: String,
}

/// `drover delete` waits until everything has ended, `drover restart` for every machine in turn.
const COMMAND: Duration = Duration::from_secs(300);
const STATUS: Duration = Duration::from_secs(15);
/// A lease as short as the operator takes it, so that a takeover is soon.
pub const CONFIG: &str = "\
realm: e2e
bucket: drover
leaseSeconds: 9
defaults:
  machine:
    image: {tags: {\"drover:image\": mysql}, owners: [self]}
    instanceTypes: [t3.small]
    subnets: {tags: {\"drover:network\": machines}}
    securityGroups: {tags: {\"drover:network\": machines}}
    instanceProfile: drover-machine
    dataVolume: {sizeGiB: 4}
";

/// A manifest of a small set.
pub fn manifest(name: &str, members: u8, readers: u16) -> String {
    format!(
        "apiVersion: drover.dev/v1alpha1\nkind: MySQLReplicaSet\nmetadata:\n  name: {name}\nspec:\n  members: {members}\n  \
         readReplicas: {readers}\n  version: \"9.7\"\n"
    )
}

impl Operator {
    /// Starts the binary of this build, with a directory of its own that holds these manifests and nothing else.
    pub fn start(cloud: &Cloud, name: &str, manifests: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::launch(cloud, name, manifests, &programs::binary("drover")?, &cloud.environment(), CONFIG)
    }

    /// Starts another build.
    pub fn start_build(cloud: &Cloud, name: &str, declared: &[(&str, &str)], program: &Path) -> anyhow::Result<Self> {
        Self::launch(cloud, name, declared, program, &cloud.environment(), CONFIG)
    }

    /// Starts it in another environment than the cloud's own.
    pub fn start_in(
        cloud: &Cloud,
        name: &str,
        declared: &[(&str, &str)],
        environment: &BTreeMap<&str, String>,
    ) -> anyhow::Result<Self> {
        Self::launch(cloud, name, declared, &programs::binary("drover")?, environment, CONFIG)
    }

    fn launch(
        cloud: &Cloud,
        name: &str,
        declared: &[(&str, &str)],
        program: &Path,
        environment: &BTreeMap<&str, String>,
        text: &str,
    ) -> anyhow::Result<Self> {
        let dir = cloud.dir.join(name);
        let (manifests, state, config) = (dir.join("manifests"), dir.join("state"), dir.join("drover.yaml"));
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::create_dir_all(&manifests)?;
        for (file, text) in declared {
            fs::write(manifests.join(file), text)?;
        }
        fs::write(&config, text)?;
        let log = cloud.dir.join(format!("{name}.log"));
        let mut command = Command::new(program);
        command.args(["run", "--config"]).arg(&config).arg("--state").arg(&state);
        match environment.contains_key("KUBECONFIG") {
            true => command.arg("--kubernetes"),
            false => command.arg("--manifests").arg(&manifests),
        };
        let child = start(command.envs(environment), "KILL", &log)?;
        Ok(Self { name: name.to_owned(), manifests, log, state, config, child })
    }

    /// Starts one that takes its sets from an API server, as a Pod of that name would.
    pub fn start_in_cluster(cloud: &Cloud, name: &str, access: &Access) -> anyhow::Result<Self> {
        let plain = Installed { config: CONFIG.to_owned(), environment: BTreeMap::new() };
        Self::start_installed(cloud, name, access, &plain)
    }

    /// The same, configured as an installation of the chart is.
    pub fn start_installed(cloud: &Cloud, name: &str, access: &Access, chart: &Installed) -> anyhow::Result<Self> {
        let mut environment: BTreeMap<&str, String> = cloud.environment();
        environment.extend(chart.environment.iter().map(|(name, value)| (name.as_str(), value.clone())));
        environment.insert("KUBECONFIG", access.kubeconfig.display().to_string());
        environment.insert("POD_NAME", name.to_owned());
        environment.insert("POD_NAMESPACE", "drover".to_owned());
        environment.insert("DROVER_LEASE_SECONDS", "5".to_owned());
        Self::launch(cloud, name, &[], &programs::binary("drover")?, &environment, &chart.config)
    }

    /// A manifest of this operator's directory, written as a whole.
    pub fn declare(&self, file: &str, text: &str) -> anyhow::Result<()> {
        let temporary = self.manifests.join(format!(".{file}.tmp"));
        fs::write(&temporary, text)?;
        Ok(fs::rename(temporary, self.manifests.join(file))?)
    }

    pub fn withdraw(&self, file: &str) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.manifests.join(file))?)
    }

    /// What its socket says now.
    pub fn status(&self) -> anyhow::Result<Status> {
        let socket = self.state.join("drover.sock").display().to_string();
        let url = "http://drover/v1/status";
        Ok(serde_json::from_str(&run(&["curl", "-sS", "--unix-socket", &socket, url], STATUS)?)?)
    }

    /// One set's report.
    pub fn set(&self, name: &str) -> anyhow::Result<SetReport> {
        let snapshot = self.status()?;
        let found = snapshot.sets.into_iter().find(|set| set.key.name.as_str() == name);
        found.with_context(|| format!("status knows no {name}"))
    }

    /// Waits until what the status says of a set is `right`.
    pub fn await_set(
        &mut self,
        name: &str,
        limit: Duration,
        what: &str,
        right: impl Fn(&SetReport) -> bool,
    ) -> anyhow::Result<SetReport> {
        let mut last = String::new();
        let waited = within(limit, format!("{name} {what}"), || {
            self.must_run()?;
            let set = self.set(name)?;
            last = told(&set);
            Ok(right(&set).then_some(set))
        });
        waited.with_context(|| format!("the last report of {name}: {last}"))
    }

    /// Waits until a set of that many machines is ready and nothing is left to be done.
    pub fn await_ready(&mut self, name: &str, machines: usize, limit: Duration) -> anyhow::Result<SetReport> {
        self.await_set(name, limit, "is ready", |set| {
            let is_quiet = set.condition(ConditionType::Reconciling).is_none();
            set.ready && is_quiet && set.members.len() == machines
        })
    }

    /// Another command of `drover` beside this operator, with its configuration and socket.
    pub fn ask(&self, cloud: &Cloud, words: &[&str]) -> anyhow::Result<Asked> {
        let mut environment = cloud.environment();
        environment.insert("DROVER_CONFIG", self.config.display().to_string());
        environment.insert("DROVER_STATE", self.state.display().to_string());
        drover(&environment, words)
    }

    /// The binary of this build with bytes appended: another build with the same behaviour.
    pub fn newer_build(cloud: &Cloud) -> anyhow::Result<PathBuf> {
        let newer = cloud.dir.join("newer-drover");
        fs::copy(programs::binary("drover")?, &newer)?;
        fs::File::options().append(true).open(&newer)?.write_all(b"another build")?;
        Ok(newer)
    }

    /// Waits until this operator has made that many more passes.
    pub fn await_passes(&mut self, more: u64) -> anyhow::Result<()> {
        let before = self.status()?.passes;
        within(Duration::from_secs(10 * more), format!("{more} more passes of {}", self.name), || {
            self.must_run()?;
            Ok((self.status()?.passes >= before + more).then_some(()))
        })
    }

    pub fn freeze(&self) -> anyhow::Result<()> {
        Ok(kill(self.pid(), Signal::SIGSTOP)?)
    }

    pub fn thaw(&self) -> anyhow::Result<()> {
        Ok(kill(self.pid(), Signal::SIGCONT)?)
    }

    /// kill -9.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        let status = self.child.wait()?;
        ensure!(status.signal() == Some(9), "the operator had ended before: {status}");
        Ok(())
    }

    /// SIGTERM, and its end.
    pub fn stop(mut self) -> anyhow::Result<()> {
        kill(self.pid(), Signal::SIGTERM)?;
        let status = within(Duration::from_secs(20), "the operator ends", || Ok(self.child.try_wait()?))?;
        ensure!(status.success(), "the operator ended with {status}");
        Ok(())
    }

    fn must_run(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("operator {} ended with {status}", self.name),
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Installed {
    /// Release `drover` in the namespace of that name.
    pub fn of(admin: &Access) -> anyhow::Result<Self> {
        let namespace = ["--namespace", "drover"];
        let map = admin.get_json(&[namespace.as_slice(), &["configmap", "drover"]].concat())?;
        let config = map["data"]["drover.yaml"].as_str().context("the configuration")?.to_owned();
        let deployment = admin.get_json(&[namespace.as_slice(), &["deployment", "drover"]].concat())?;
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let variables = container["env"].as_array().context("an environment")?.iter();
        let environment = variables.filter_map(|it| Some((text(&it["name"])?, text(&it["value"])?))).collect();
        Ok(Self { config, environment })
    }
}

/// A command of `drover` with this environment and no other.
pub fn drover(environment: &BTreeMap<&str, String>, words: &[&str]) -> anyhow::Result<Asked> {
    let program = programs::binary("drover")?.display().to_string();
    let output = finish_alone(environment, &[&[program.as_str()], words].concat(), COMMAND, "")?;
    Ok(Asked {
        status: output.status,
        out: String::from_utf8(output.stdout)?,
        error: String::from_utf8(output.stderr)?,
    })
}

/// A report in a few lines.
fn told(set: &SetReport) -> String {
    let rows =
        set.members.iter().map(|row| format!("\n  {} {:?} {:?} {}", row.slot, row.instance, row.role, row.state));
    let awaiting = set.awaiting.iter().map(|line| format!("\n  awaits {line}"));
    format!("{}{}{}", set.verdict, rows.collect::<String>(), awaiting.collect::<String>())
}

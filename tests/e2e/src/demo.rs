//! The demo's own script, run as a person at a terminal would run it, and broken off as one would.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use crate::{
    Asked, Cloud, Instance,
    cloud::image_cache,
    operator::drover,
    pace::within,
    programs::{run, tail},
};

/// A run of a demo's script in a process group of its own, with its directory.
#[derive(Debug)]
pub struct Demo {
    pub home: PathBuf,
    /// What it printed.
    output: PathBuf,
    script: Child,
    kind: Kind,
}

/// Which demo.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Plain,
    Kubernetes,
}

/// A scenario's name makes it whole. One for all runs of a scenario, and where a person's is: each begins where the last one
/// ended, or broke off.
const HOME: &str = "/var/lib/drover-e2e-demo";
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/demo");
/// All machines are killed and unmade.
const DOWN: Duration = Duration::from_secs(120);
const COMMAND: Duration = Duration::from_secs(30);

impl Demo {
    /// `make demo`, with what `make demo NAME=VALUE` would put into its environment.
    pub fn start(scenario: &str, variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::begin(Kind::Plain, scenario, variables)
    }

    /// `make demo-kubernetes`
    pub fn start_kubernetes(scenario: &str, variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::begin(Kind::Kubernetes, scenario, variables)
    }

    fn begin(kind: Kind, scenario: &str, variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        let home = format!("{HOME}-{scenario}");
        let (home, output) = (PathBuf::from(&home), PathBuf::from(format!("{home}.log")));
        let printed = File::create(&output)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(format!("{ROOT}/{}", kind.script())).envs(variables.iter().copied());
        command.env("DROVER_DEMO_DIR", &home).env("DROVER_IMAGE_CACHE", image_cache());
        command.stdin(Stdio::null()).stdout(printed.try_clone()?).stderr(printed).process_group(0);
        let script = command.spawn().context("setpriv(1) cannot be run")?;
        Ok(Self { home, output, script, kind })
    }

    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Waits until it has printed this.
    pub fn await_output(&mut self, text: &str, limit: Duration) -> anyhow::Result<()> {
        within(limit, format!("the demo prints {text:?}"), || {
            if self.output().contains(text) {
                return Ok(Some(()));
            }
            self.must_run()?;
            Ok(None)
        })
    }

    /// Waits until the script has ended, and answers its exit code.
    pub fn end(&mut self, limit: Duration) -> anyhow::Result<Option<i32>> {
        let ended = within(limit, "the demo's script ends", || Ok(self.script.try_wait()?));
        Ok(ended.with_context(|| tail(&self.output(), 40))?.code())
    }

    /// Waits until one of its servers has been started.
    pub fn await_server(&mut self, name: &str, limit: Duration) -> anyhow::Result<()> {
        within(limit, format!("the demo starts its {name}"), || {
            self.must_run()?;
            Ok(self.pid(name).is_ok().then_some(()))
        })
    }

    /// Waits until the script has ended one of its servers.
    pub fn await_end_of(&self, name: &str, limit: Duration) -> anyhow::Result<()> {
        let file = self.home.join(format!("{name}.pid"));
        within(limit, format!("the demo ends its {name}"), || Ok((!file.exists()).then_some(())))
    }

    /// Waits until EC2 shows a machine that `is_new`.
    pub fn await_machine(
        &mut self,
        limit: Duration,
        is_new: impl Fn(&Instance) -> bool,
    ) -> anyhow::Result<Vec<Instance>> {
        within(limit, "the demo launches machines", || {
            self.must_run()?;
            let machines = Cloud::of_another(&self.home)?.machines()?;
            Ok(machines.iter().any(&is_new).then_some(machines))
        })
    }

    /// Ctrl-C at its terminal: SIGINT to everything in the foreground.
    pub fn interrupt(&self) -> anyhow::Result<()> {
        Ok(killpg(self.group(), Signal::SIGINT)?)
    }

    /// Power off for everybody: the script and all that it waits for, then both servers.
    pub fn kill_everything(&mut self) -> anyhow::Result<()> {
        if self.script.try_wait()?.is_none() {
            killpg(self.group(), Signal::SIGKILL)?;
            self.script.wait()?;
        }
        // One may die of another's end.
        let servers = self.kind.servers().iter().map(|server| self.pid(server)).collect::<anyhow::Result<Vec<_>>>()?;
        for server in servers {
            match kill(server, Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// `make demo-down`, which finds by the directory which demo it was.
    pub fn down(&self) -> anyhow::Result<()> {
        down(&self.home)
    }

    /// A command of `drover` as the demo's last words tell a person to run it.
    pub fn drover(&self, cloud: &Cloud, words: &[&str]) -> anyhow::Result<Asked> {
        let mut environment: BTreeMap<&str, String> = cloud.environment();
        environment.extend([
            ("DROVER_BUCKET", "drover".to_owned()),
            ("DROVER_CONFIG", format!("{ROOT}/drover.yaml")),
            ("DROVER_STATE", self.home.join("operator").display().to_string()),
            ("DROVER_MANIFESTS", self.home.join("manifests").display().to_string()),
        ]);
        drover(&environment, words)
    }

    /// What its operator's socket answers.
    pub fn socket(&self, path: &str) -> anyhow::Result<String> {
        let socket = self.home.join("operator/drover.sock").display().to_string();
        run(&["curl", "-sS", "--unix-socket", &socket, &format!("http://drover{path}")], COMMAND)
    }

    fn must_run(&mut self) -> anyhow::Result<()> {
        match self.script.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the demo's script ended with {status}:\n{}", tail(&self.output(), 40)),
        }
    }

    fn pid(&self, server: &str) -> anyhow::Result<Pid> {
        let text = fs::read_to_string(self.home.join(format!("{server}.pid")))?;
        let pid = Pid::from_raw(text.trim().parse()?);
        let name = fs::read_to_string(format!("/proc/{pid}/comm"))?;
        ensure!(name.starts_with("drover") || name.starts_with("demo-"), "process {pid} is {name}");
        Ok(pid)
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.script.id().cast_signed())
    }
}

impl Kind {
    fn script(self) -> &'static str {
        match self {
            Kind::Plain => "run.sh",
            Kind::Kubernetes => "kubernetes.sh",
        }
    }

    /// What its script starts, each with a file of its process id.
    fn servers(self) -> &'static [&'static str] {
        match self {
            Kind::Plain => &["operator", "cloud"],
            Kind::Kubernetes => &["kubernetes", "cloud"],
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Once it was waited for, its number may be another's.
        if matches!(self.script.try_wait(), Ok(None)) {
            if let Err(error) = killpg(self.group(), Signal::SIGKILL) {
                eprintln!("the demo's script is not killed: {error}");
            }
            drop(self.script.wait());
        }
        if let Err(error) = down(&self.home) {
            eprintln!("{} is not swept: {error:#}", self.home.display());
        }
    }
}

fn down(home: &Path) -> anyhow::Result<()> {
    let home = format!("DROVER_DEMO_DIR={}", home.display());
    let script = format!("{ROOT}/down.sh");
    run(&["env", &home, &script], DOWN).map(drop)
}

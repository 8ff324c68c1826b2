//! A node: namespaces of its own on this host (network, mounts, processes), with a first process that takes everything with it when
//! it is killed. So nothing of a node outlives its test but cgroups and files.

use std::{
    fs, mem,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    network::{self, Cable},
    running::Running,
};
use crate::{
    pace::within,
    programs::{PATH, finish, run},
};

/// Below the directory of a cluster: what its node keeps.
pub(super) const HOME: &str = "node";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../kubernetes/node.sh");
const COMMAND: Duration = Duration::from_secs(60);
const UP: Duration = Duration::from_secs(30);

/// Dropped, it is as a host whose power is cut.
#[derive(Debug)]
pub(super) struct Node {
    /// unshare(1), which waits for the first process, and ends it.
    outside: Running,
    /// The first process, as this host numbers it.
    first: u32,
    dir: PathBuf,
    tools: PathBuf,
}

impl Node {
    /// Starts one with nothing in it, at the end of a cable.
    pub(super) fn up(dir: &Path, tag: &str, tools: &Path, cable: Cable) -> anyhow::Result<Self> {
        let ready = dir.join(HOME).join("ready");
        let mut command = Command::new("unshare");
        command.args("--net --mount --pid --fork --kill-child --mount-proc --propagation=private".split(' '));
        command.arg(SCRIPT).arg(dir).arg(tools);
        let mut outside = Running::start(&mut command, dir.join("node.log"))?;
        within(UP, "the node is ready", || {
            outside.must_run()?;
            Ok(ready.exists().then_some(()))
        })?;
        let children = format!("/proc/{id}/task/{id}/children", id = outside.id());
        let text = fs::read_to_string(&children).with_context(|| format!("cannot read {children}"))?;
        let first = text.trim().parse().with_context(|| format!("{children} has one process: {text:?}"))?;
        cable.lay(tag, first)?;
        Ok(Self { outside, first, dir: dir.to_owned(), tools: tools.to_owned() })
    }

    /// Starts a program there.
    pub(super) fn start(&self, program: &str, words: &[&str]) -> anyhow::Result<Running> {
        let mut command = Command::new("nsenter");
        command.args(self.entering().split(' ').skip(1)).arg(self.tools.join(program)).args(words);
        command.env("PATH", format!("{}:{PATH}", self.tools.display()));
        Running::start(&mut command, self.dir.join(format!("{program}.log")))
    }

    /// Runs a command there, which must succeed.
    pub(super) fn inside(&self, command: &[&str]) -> anyhow::Result<String> {
        let entering = self.entering();
        run(&[entering.split(' ').collect::<Vec<_>>().as_slice(), command].concat(), COMMAND)
    }

    /// Puts rules of nftables into force there.
    pub(super) fn rules(&self, ruleset: &str) -> anyhow::Result<()> {
        let command = format!("{} nft -f -", self.entering());
        let output = finish(&command.split(' ').collect::<Vec<_>>(), COMMAND, ruleset)?;
        ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Makes it one of the machines of a switch; see [`network::plug`].
    pub(super) fn plug(&self, tag: &str, switch: &str, gateway: Ipv4Addr) -> anyhow::Result<Ipv4Addr> {
        network::plug(tag, self.first, switch, gateway)
    }

    /// Ends as when the test is killed, which unshare(1) dies of.
    pub(super) fn crash(mut self) -> anyhow::Result<()> {
        let first = PathBuf::from(format!("/proc/{}", self.first));
        self.outside.kill()?;
        mem::forget(self);
        within(COMMAND, "the node's first process has ended", || Ok((!first.exists()).then_some(())))
    }

    /// What stands before a command that is to run there.
    fn entering(&self) -> String {
        format!("nsenter --target={} --net --mount --pid --", self.first)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The kernel kills all the others with it; unshare(1) ends once they have ended.
        let first = Pid::from_raw(self.first.cast_signed());
        if let Err(error) =
            kill(first, Signal::SIGKILL).map_err(Into::into).and_then(|()| self.outside.await_end(COMMAND))
        {
            eprintln!("the node in {} is not ended: {error:#}", self.dir.display());
        }
    }
}

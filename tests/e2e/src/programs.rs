//! The programs under test and the tools beside them: where they are, and how they are run.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, bail, ensure};

/// Where the tools of the host are.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A binary of this workspace: in the directory `DROVER_BIN`, or beside the one that holds the running test.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let path = match kept() {
        Some(kept) => kept.join(name),
        None => {
            let own = std::env::current_exe().context("this test does not know its own path")?;
            own.parent().and_then(Path::parent).context("tests lie in target/<profile>/deps")?.join(name)
        }
    };
    ensure!(path.exists(), "{} is missing: build it with `make build`", path.display());
    Ok(path)
}

#[expect(clippy::disallowed_methods, reason = "the edge: run.sh says where it keeps them while scenarios run")]
fn kept() -> Option<PathBuf> {
    std::env::var_os("DROVER_BIN").map(PathBuf::from)
}

/// Runs a command that must succeed; answers its standard output.
pub fn run(command: &[&str], limit: Duration) -> anyhow::Result<String> {
    let output = finish(command, limit, "")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} ended with {}: {}", command.join(" "), output.status, said.trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs a command to its end; one that takes longer than `limit` is killed, with all that it started.
pub fn finish(command: &[&str], limit: Duration, input: &str) -> anyhow::Result<Output> {
    finish_in(&mut Command::new("setpriv"), command, limit, input)
}

/// The same with nothing in its environment but the way to programs and what is given, so that no secret goes through arguments
/// and nothing of the surrounding shell counts.
pub fn finish_alone(
    environment: &BTreeMap<&str, String>,
    command: &[&str],
    limit: Duration,
    input: &str,
) -> anyhow::Result<Output> {
    finish_in(Command::new("setpriv").env_clear().env("PATH", PATH).envs(environment), command, limit, input)
}

/// It dies with us: timeout(1) hands the signal on.
fn finish_in(setpriv: &mut Command, command: &[&str], limit: Duration, input: &str) -> anyhow::Result<Output> {
    let seconds = limit.as_secs().max(1).to_string();
    let mut child = setpriv
        .args(["--pdeathsig", "TERM", "timeout", "--kill-after=1", &seconds])
        .args(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("setpriv(1) cannot be run")?;
    child.stdin.take().context("there is a pipe")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.code() != Some(124), "{} took longer than {limit:?}", command.join(" "));
    Ok(output)
}

/// Starts a program that lives beside the test and dies with it, by the signal of that name. What it says goes to `log`.
pub fn start(command: &mut Command, signal: &str, log: &Path) -> anyhow::Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    let mut dying = Command::new("setpriv");
    dying.args(["--pdeathsig", signal]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => dying.env(name, value),
            None => dying.env_remove(name),
        };
    }
    dying.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    dying.spawn().context("setpriv(1) cannot be run")
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

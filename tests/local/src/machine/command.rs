//! The host's own tools, each run under a deadline. They are the smallest door to namespaces, links and loop devices without unsafe code.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::spec::{Error, Output, Result};

/// Runs to the end whatever the exit code; the child is killed at the deadline and when the caller goes away.
pub(super) async fn output(argv: &[&str], input: &str, limit: Duration) -> Result<Output> {
    let (program, arguments) = argv.split_first().expect("a command names its program");
    let failed = |source: io::Error| Error::Io { what: format!("cannot run {program}"), source };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut stdin = child.stdin.take().expect("standard input was asked for");
    let run = async {
        match stdin.write_all(input.as_bytes()).await {
            // A command that ends without reading its input is judged by its exit code.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written?,
        }
        drop(stdin);
        child.wait_with_output().await
    };
    let done = tokio::time::timeout(limit, run)
        .await
        .map_err(|_| Error::Deadline { command: argv.join(" "), limit })?
        .map_err(failed)?;
    Ok(Output { status: done.status.code(), stdout: done.stdout, stderr: done.stderr })
}

/// Standard output of a command that must succeed.
pub(super) async fn run(argv: &[&str], limit: Duration) -> Result<String> {
    run_with(argv, "", limit).await
}

pub(super) async fn run_with(argv: &[&str], input: &str, limit: Duration) -> Result<String> {
    let done = output(argv, input, limit).await?;
    if done.status == Some(0) {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    Err(Error::Command {
        command: argv.join(" "),
        status: done.status.map_or_else(|| "killed by a signal".to_owned(), |code| format!("exit code {code}")),
        stderr: String::from_utf8_lossy(&done.stderr).trim().to_owned(),
    })
}

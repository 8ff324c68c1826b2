//! External commands, each with a deadline.

use std::{ffi::OsStr, process::Stdio, time::Duration};

use tokio::process::Command;

#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("{program} could not be started: {source}")]
    Start { program: String, source: std::io::Error },
    #[error("{program} did not end within {} s", deadline.as_secs())]
    Deadline { program: String, deadline: Duration },
    #[error("{program} failed ({code}): {message}")]
    Failed { program: String, code: i32, message: String },
}

/// What a command printed, and how it ended (-1 where a signal ended it).
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs to the end, whatever that is. A command that outlives its deadline, or us, is killed.
pub async fn finish<A: AsRef<OsStr>>(
    program: &str,
    arguments: &[A],
    deadline: Duration,
) -> Result<Ended, CommandError> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).env("LC_ALL", "C").kill_on_drop(true);
    let start = |source| CommandError::Start { program: program.into(), source };
    let output = tokio::time::timeout(deadline, command.output())
        .await
        .map_err(|_| CommandError::Deadline { program: program.into(), deadline })?
        .map_err(start)?;
    Ok(Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// The same, and anything but success is an error with the end of what it said.
pub async fn run<A: AsRef<OsStr>>(program: &str, arguments: &[A], deadline: Duration) -> Result<String, CommandError> {
    let ended = finish(program, arguments, deadline).await?;
    if ended.code == 0 {
        return Ok(ended.stdout);
    }
    let said = if ended.stderr.trim().is_empty() { ended.stdout } else { ended.stderr };
    Err(CommandError::Failed { program: program.into(), code: ended.code, message: last_line(&said) })
}

/// The last line that says something, bounded.
pub fn last_line(text: &str) -> String {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().chars().take(300).collect()
}

/// The last error in what mysqld logged, but for the one that only says that it gives up.
pub fn last_error(log: &str) -> Option<String> {
    let is_error = |line: &&str| line.contains("[ERROR]") && !line.ends_with("Aborting");
    log.lines().rev().find(is_error).map(last_line)
}

//! A server that lives beside the test, and ends with it.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command},
    time::Duration,
};

use anyhow::bail;

use crate::{
    pace::within,
    programs::{start, tail},
};

/// Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// What it says goes to `log`, after what is there.
    pub(super) fn start(command: &mut Command, log: PathBuf) -> anyhow::Result<Self> {
        let child = start(command, "KILL", &log)?;
        Ok(Self { child, log })
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        Ok(self.child.wait().map(drop)?)
    }

    /// Waits until it has ended by itself.
    pub(super) fn await_end(&mut self, limit: Duration) -> anyhow::Result<()> {
        within(limit, format!("{} ends", self.log.display()), || Ok(self.child.try_wait()?)).map(drop)
    }

    /// Errors: it has ended, with the last that it said.
    pub(super) fn must_run(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let said = fs::read(&self.log).unwrap_or_default();
            bail!("{} ended with {status}: {}", self.log.display(), tail(&String::from_utf8_lossy(&said), 20));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

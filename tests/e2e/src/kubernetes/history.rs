//! Every object that an API server shows, in the order of its changes, as `kubectl get --watch` tells them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use anyhow::ensure;
use serde_json::Value;

use super::Access;
use crate::pace::within;

/// What has changed is told within moments.
const SHOWN: Duration = Duration::from_secs(30);

/// A watch over all sets. Dropped, it ends.
#[derive(Debug)]
pub struct History {
    child: Child,
    log: PathBuf,
}

impl History {
    /// Begins with those that are there, of which there must be some: nothing of what comes after is missed.
    pub fn begin(access: &Access, log: &Path) -> anyhow::Result<Self> {
        let words = ["get", "mrs", "--all-namespaces", "--watch", "--output=json"];
        let seen = Self { child: access.begin_kubectl(&words, log)?, log: log.to_owned() };
        within(SHOWN, "the watch shows what is there", || Ok((!seen.shown()?.is_empty()).then_some(())))?;
        Ok(seen)
    }

    /// Ends it once it has shown such an object; every version of every object.
    pub fn end(mut self, is_last: impl Fn(&Value) -> bool) -> anyhow::Result<Vec<Value>> {
        let shown = within(SHOWN, "the watch shows the last of it", || {
            let shown = self.shown()?;
            Ok(shown.iter().any(&is_last).then_some(shown))
        })?;
        // It does not connect again: whatever came after its end would be missing.
        ensure!(self.child.try_wait()?.is_none(), "the watch has ended by itself");
        Ok(shown)
    }

    fn shown(&self) -> anyhow::Result<Vec<Value>> {
        let text = fs::read_to_string(&self.log)?;
        let shown = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        // The last one may be half written.
        let is_whole = |object: &serde_json::Result<Value>| !object.as_ref().is_err_and(serde_json::Error::is_eof);
        Ok(shown.take_while(is_whole).collect::<Result<_, _>>()?)
    }
}

impl Drop for History {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

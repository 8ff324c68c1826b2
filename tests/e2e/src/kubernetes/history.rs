//! Every object that an API server shows, in the order of its changes, as `kubectl get --watch` tells them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use serde_json::Value;

use super::Access;
use crate::pace::within;

const BEGUN: Duration = Duration::from_secs(30);

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
        within(BEGUN, "the watch shows what is there", || Ok((fs::metadata(log)?.len() > 0).then_some(())))?;
        Ok(seen)
    }

    /// Ends it; every version of every object.
    pub fn end(mut self) -> anyhow::Result<Vec<Value>> {
        self.child.kill()?;
        self.child.wait()?;
        let text = fs::read_to_string(&self.log)?;
        let shown = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        // The last one may have been cut off in the middle.
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

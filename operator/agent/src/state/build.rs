//! Becoming another build: what an order of one leads to. Fetching takes long and runs beside everything else, so one is
//! fetched at a time, whoever asks how often, and what came of it is in the report.

use std::time::Duration;

use drover_api::{
    BuildId, Millis,
    problems::Reason,
    wire::{BuildOrder, BuildReport},
};

use super::{Closing, State};

/// A build that could not be fetched is not fetched again for this long: a binary is tens of megabytes, and mysqld shares the
/// network and the disk.
const FETCH_AGAIN: Duration = Duration::from_secs(60);

/// The build that is not ours, and since when that is so.
pub(super) type Update = (BuildReport, Millis);

impl State {
    /// Whether the ordered build is to be fetched now; or why the order is refused.
    pub fn order_build(&mut self, now: Millis, order: &BuildOrder) -> Result<bool, String> {
        self.report()?;
        if order.fence < self.fence() {
            return Err("a higher fence was seen".to_owned());
        }
        if let Some(why) = self.stays() {
            return Err(why.to_owned());
        }
        if order.build == self.me.build {
            return Ok(false);
        }
        match &self.update {
            Some((BuildReport::Fetching { build }, _)) if *build != order.build => {
                return Err(format!("build {build} is being fetched"));
            }
            Some((BuildReport::Fetching { .. }, _)) => return Ok(false),
            Some((BuildReport::SentBack { build }, _)) if *build == order.build => return Ok(false),
            Some((BuildReport::Failed { build, .. }, at)) if *build == order.build && now.since(*at) < FETCH_AGAIN => {
                return Ok(false);
            }
            Some(_) | None => {}
        }
        self.build_is(now, BuildReport::Fetching { build: order.build.clone() });
        Ok(true)
    }

    /// Why this process may not give way to another build now.
    pub fn stays(&self) -> Option<&'static str> {
        if self.closing != Closing::No {
            // The next process would be told nothing of it: systemd has sent its signal, and a leader would open again.
            return Some("the host goes down");
        }
        self.is_making().then_some("data is being made; it would be begun again")
    }

    /// What has become of a build: found at the start, or at the end of fetching it.
    pub fn build_is(&mut self, now: Millis, report: BuildReport) {
        self.update = Some((report, now));
        self.publish(now);
    }

    /// The build that was sent back, for the report's words.
    pub(super) fn build_problem(&self) -> Option<(Reason, String)> {
        let name = |build: &BuildId| build.as_str()[..12].to_owned();
        match &self.update.as_ref()?.0 {
            BuildReport::Fetching { .. } => None,
            BuildReport::SentBack { build } => Some((
                Reason::BuildRejected,
                format!("build {} was tried and did not work: it was sent back", name(build)),
            )),
            BuildReport::Failed { build, why } => {
                Some((Reason::BuildFetchFailed, format!("build {}: {why}", name(build))))
            }
        }
    }
}

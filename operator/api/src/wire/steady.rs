//! What of a report is news: a machine's positions, ages and clock change every second, and nobody is woken for them.

use super::{Report, RunningRole, ServerReport};
use crate::Millis;

impl Report {
    /// The report without its number and what changes all the time: two that are equal say the same.
    pub fn steady(&self) -> Report {
        let mut steady = Report { seq: 0, clock: Millis(0), ..self.clone() };
        if let ServerReport::Running(running) = &mut steady.mysql.server {
            running.executed = Default::default();
            match &mut running.role {
                RunningRole::Leader { heartbeat, .. } => *heartbeat = None,
                RunningRole::Replica { received, lag_ms, .. } => {
                    *received = Default::default();
                    *lag_ms = lag_ms.map(|_| 0);
                }
                RunningRole::Closed => {}
            }
        }
        steady
    }
}

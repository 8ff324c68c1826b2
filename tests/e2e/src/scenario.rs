//! A scenario: a cloud, a walk, and what is printed when it fails.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::{Clock, Cloud};

/// Runs `walk` on a cloud of its own. When it fails or panics, the tail of every log is printed first; the cloud is swept
/// however it ends.
pub fn scenario(name: &str, walk: impl FnOnce(&Cloud) -> anyhow::Result<()>) -> anyhow::Result<()> {
    walk_on(name, Cloud::up, walk)
}

/// The same on a cloud without machines.
pub fn scenario_without_machines(name: &str, walk: impl FnOnce(&Cloud) -> anyhow::Result<()>) -> anyhow::Result<()> {
    walk_on(name, Cloud::without_machines, walk)
}

fn walk_on(
    name: &str,
    start: fn(&str) -> anyhow::Result<Cloud>,
    walk: impl FnOnce(&Cloud) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let clock = Clock::start();
    let cloud = start(name)?;
    let outcome = catch_unwind(AssertUnwindSafe(|| walk(&cloud)));
    if !matches!(outcome, Ok(Ok(()))) {
        eprintln!("{name} failed after {:?}\n{}", clock.elapsed(), cloud.tails());
    }
    drop(cloud);
    eprintln!("{name}: {:.1} s", clock.elapsed().as_secs_f64());
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Says which claim is being walked.
pub fn heading(text: &str) {
    eprintln!("== {text}");
}

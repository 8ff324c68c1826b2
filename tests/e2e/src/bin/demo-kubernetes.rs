//! What `make demo-kubernetes` stands on: drover-local and a whole Kubernetes of one node beside it, as the scenarios have them.
//! `tests/demo/kubernetes.sh` starts it, and says the rest.
//!
//!   demo-kubernetes up DIR ARCHIVE...   imports the images, makes DIR/ready, and runs until it is killed
//!   demo-kubernetes sweep DIR           removes what is left of it, however it ended
//!
//! It heeds no signal: what it started dies with it, and `sweep` is the one way to end it, in order or after a crash.

use std::{
    ffi::OsString,
    fs,
    mem::ManuallyDrop,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use drover_e2e::{Cloud, Cluster, image_of_mysql, sweep_in};
use nix::sys::signal::{SigSet, Signal};

fn main() -> anyhow::Result<()> {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    match &words[..] {
        [word, dir, archives @ ..] if word == "up" => up(Path::new(dir), archives.iter().map(PathBuf::from)),
        [word, dir] if word == "sweep" => sweep_in(Path::new(dir)),
        _ => bail!("say `up DIR ARCHIVE...` or `sweep DIR`"),
    }
}

/// Ends with an error alone. Nothing is dropped then: its logs are still to be read, and `sweep` takes it away.
fn up(dir: &Path, archives: impl Iterator<Item = PathBuf>) -> anyhow::Result<()> {
    let mut cloud = ManuallyDrop::new(Cloud::up_in(dir)?);
    let id = cloud.id().context("it was started here")?;
    fs::write(dir.join("cloud.pid"), id.to_string())?;
    println!("drover-local is up");
    let mut cluster = ManuallyDrop::new(Cluster::up(&dir.join("kubernetes"))?);
    println!("the node is ready");
    cluster.join(&cloud)?;
    for archive in archives {
        cluster.import(&archive)?;
    }
    cluster.import(&image_of_mysql(dir)?)?;
    // A child that ends wakes it; between two looks nothing is missed, for the signal stays pending.
    let mut ended = SigSet::empty();
    ended.add(Signal::SIGCHLD);
    ended.thread_block()?;
    fs::write(dir.join("ready"), "")?;
    println!("the images are on the node");
    loop {
        cloud.must_run()?;
        cluster.must_run()?;
        ended.wait()?;
    }
}

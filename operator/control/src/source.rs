//! Where intents come from: a directory of manifests, or the API server. Both feed the same planner.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
};

use drover_api::{ResourceKey, defaults::Terms};
use drover_plan::observed::Intent;
use tokio::sync::mpsc;

use crate::{
    directory::{Directory, Scan},
    task::Task,
    watching::{self, Watching},
};

/// What is wanted, whole.
#[derive(Debug, Default)]
pub struct Wanted {
    pub intents: BTreeMap<ResourceKey, Intent>,
    /// Resources whose deletion is recorded and is to end machines and data.
    pub deletions: BTreeSet<ResourceKey>,
    /// What cannot be read, a line each.
    pub problems: Vec<String>,
}

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    Nothing,
    /// Something else than before: worth a pass at once.
    Changes,
}

/// Something that says what is wanted.
pub trait Source: Send {
    /// Waits until something was read, and takes it in. Nothing is lost when it is dropped while it waits.
    fn changed(&mut self) -> impl Future<Output = Read> + Send;

    /// Takes in what is there now, although nobody has told of it yet.
    fn refresh(&mut self) -> impl Future<Output = ()> + Send;

    /// `None` as long as it was not read whole once: then nobody knows whether a set is declared.
    fn wanted(&self) -> Option<Wanted>;
}

/// The manifests of a directory.
#[derive(Debug)]
pub struct Manifests {
    path: PathBuf,
    terms: Terms,
    directory: Directory,
    /// Why the latest scan failed, if it did.
    failed: Option<String>,
    scans: mpsc::Receiver<io::Result<Scan>>,
    _watch: Task,
}

// === impl Manifests ===

impl Manifests {
    /// Reads the directory once and watches it from then on.
    ///
    /// # Errors
    /// Where it cannot be read: that is a mistake, and not "nothing is wanted".
    pub fn open(path: PathBuf, terms: Terms) -> io::Result<Self> {
        let mut directory = Directory::default();
        directory.absorb(watching::scan(&path)?);
        let (sender, scans) = mpsc::channel(1);
        let watch = Task(tokio::spawn(watch(Watching::new(path.clone()), sender)));
        Ok(Self { path, terms, directory, failed: None, scans, _watch: watch })
    }

    /// A later scan that fails leaves everything in force, and says so.
    fn absorb(&mut self, scan: io::Result<Scan>) -> Read {
        match scan {
            Ok(scan) => {
                self.failed = None;
                if self.directory.absorb(scan) { Read::Changes } else { Read::Nothing }
            }
            Err(error) => {
                let path = self.path.display();
                self.failed = Some(format!("{path}: cannot be read, what it said stays: {error}"));
                Read::Nothing
            }
        }
    }
}

impl Source for Manifests {
    async fn changed(&mut self) -> Read {
        match self.scans.recv().await {
            Some(scan) => self.absorb(scan),
            // The watching task ends with this source.
            None => std::future::pending().await,
        }
    }

    async fn refresh(&mut self) {
        let scan = watching::scanned(&self.path).await;
        self.absorb(scan);
    }

    fn wanted(&self) -> Option<Wanted> {
        Some(Wanted {
            intents: self.directory.intents(&self.terms),
            deletions: BTreeSet::new(),
            problems: self.failed.iter().cloned().chain(self.directory.problems()).collect(),
        })
    }
}

async fn watch(mut watching: Watching, scans: mpsc::Sender<io::Result<Scan>>) {
    loop {
        watching.changed().await;
        let scan = watching::scanned(watching.directory()).await;
        if scans.send(scan).await.is_err() {
            return;
        }
    }
}

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
    passwords::{self, Passwords},
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
    /// Those that declared users name.
    pub passwords: Passwords,
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
    secrets: Option<PathBuf>,
    terms: Terms,
    directory: Directory,
    /// As they were last read.
    passwords: Passwords,
    /// Why the latest scan failed, if it did.
    failed: Option<String>,
    /// Something was read that nobody was told of yet.
    is_news: bool,
    scans: mpsc::Receiver<io::Result<Scan>>,
    _watch: Task,
}

// === impl Manifests ===

impl Manifests {
    /// Reads the directory once and watches it from then on.
    ///
    /// # Errors
    /// Where it cannot be read: that is a mistake, and not "nothing is wanted".
    pub async fn open(path: PathBuf, secrets: Option<PathBuf>, terms: Terms) -> io::Result<Self> {
        let mut directory = Directory::default();
        directory.absorb(watching::scan(&path)?);
        let (sender, scans) = mpsc::channel(1);
        let watch = Task(tokio::spawn(watch(path.clone(), secrets.clone(), sender)));
        let passwords = Passwords::new();
        let mut manifests =
            Self { path, secrets, terms, directory, passwords, failed: None, is_news: false, scans, _watch: watch };
        manifests.read_passwords().await;
        Ok(manifests)
    }

    /// Reads the passwords as they are now.
    async fn read_passwords(&mut self) {
        let intents = self.directory.intents(&self.terms);
        let passwords = passwords::read(self.secrets.as_deref(), intents.values()).await;
        self.is_news |= self.passwords != passwords;
        self.passwords = passwords;
    }

    /// A later scan that fails leaves everything in force, and says so.
    fn absorb(&mut self, scan: io::Result<Scan>) {
        match scan {
            Ok(scan) => {
                self.failed = None;
                self.is_news |= self.directory.absorb(scan);
            }
            Err(error) => {
                let path = self.path.display();
                self.failed = Some(format!("{path}: cannot be read, what it said stays: {error}"));
            }
        }
    }
}

impl Source for Manifests {
    async fn changed(&mut self) -> Read {
        let scan = match self.scans.recv().await {
            Some(scan) => scan,
            // The watching task ends with this source.
            None => std::future::pending().await,
        };
        self.absorb(scan);
        self.read_passwords().await;
        if std::mem::take(&mut self.is_news) { Read::Changes } else { Read::Nothing }
    }

    async fn refresh(&mut self) {
        let scan = watching::scanned(&self.path).await;
        self.absorb(scan);
        self.read_passwords().await;
    }

    fn wanted(&self) -> Option<Wanted> {
        Some(Wanted {
            intents: self.directory.intents(&self.terms),
            deletions: BTreeSet::new(),
            problems: self.failed.iter().cloned().chain(self.directory.problems()).collect(),
            passwords: self.passwords.clone(),
        })
    }
}

/// A change below the directory of secrets is told by a scan of the manifests too: passwords are read with what names them.
async fn watch(manifests: PathBuf, secrets: Option<PathBuf>, scans: mpsc::Sender<io::Result<Scan>>) {
    let mut watching = Watching::new(manifests);
    let mut secrets = secrets.map(Watching::of_tree);
    loop {
        tokio::select! {
            () = watching.changed() => {}
            () = changed(secrets.as_mut()) => {}
        }
        let scan = watching::scanned(watching.directory()).await;
        if scans.send(scan).await.is_err() {
            return;
        }
    }
}

async fn changed(watching: Option<&mut Watching>) {
    match watching {
        Some(watching) => watching.changed().await,
        None => std::future::pending().await,
    }
}

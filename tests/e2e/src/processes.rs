//! Every process of this host, those in machines too, as anyone could see it while a scenario ran: arguments and environments.

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::anyhow;

use crate::{
    host::{pids, text},
    pace,
};

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub arguments: BTreeSet<String>,
    /// Of processes in the host's own process namespace.
    pub host_environments: BTreeSet<String>,
    pub machine_environments: BTreeSet<String>,
    known: BTreeSet<(u32, String)>,
}

/// Looks again and again, until it is stopped.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Seen>>,
}

impl Watch {
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut seen = Seen::default();
            while !stopped.load(Ordering::SeqCst) {
                seen.look()?;
                pace::pause();
            }
            Ok(seen)
        });
        Self { stop, thread }
    }

    pub fn stop(self) -> anyhow::Result<Seen> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().map_err(|_| anyhow!("the watch over processes panicked"))?
    }
}

impl Seen {
    /// One look. An environment is read once for each program that a process becomes.
    pub fn look(&mut self) -> anyhow::Result<()> {
        let own = fs::read_link("/proc/self/ns/pid")?;
        for pid in pids() {
            let arguments = text(&format!("/proc/{pid}/cmdline"));
            if arguments.is_empty() || !self.known.insert((pid, arguments.clone())) {
                continue;
            }
            // Where it runs comes first: one that ended between the two looks would have an environment of nowhere.
            let Ok(namespace) = fs::read_link(format!("/proc/{pid}/ns/pid")) else { continue };
            let environment = text(&format!("/proc/{pid}/environ"));
            let environments =
                if namespace == own { &mut self.host_environments } else { &mut self.machine_environments };
            environments.insert(environment);
            self.arguments.insert(arguments);
        }
        Ok(())
    }
}

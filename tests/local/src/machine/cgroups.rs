//! A cgroup for each machine: its limit, its freezer, and the list of everything that lives in it. Works on a host with cgroup v2 alone
//! and on one where the controllers are still v1 (cgroup2 beside them without controllers): systemd needs only a v2 hierarchy, so the
//! machine's namespace is cut there, and memory and freezer are used wherever they are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::pace::Pace;
use super::spec::{Error, Result};

/// Where the host mounts what we use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchies {
    unified: PathBuf,
    /// `None`: the controller is in `unified`.
    memory: Option<PathBuf>,
    freezer: Option<PathBuf>,
}

/// One cgroup by its path below the roots: `drover-<tag>/<instance>`.
#[derive(Clone, Debug)]
pub(super) struct Cgroup {
    hierarchies: Hierarchies,
    path: PathBuf,
}

impl Hierarchies {
    /// From `/proc/self/mounts`.
    pub(super) fn of_host() -> Result<Hierarchies> {
        let mounts = fs::read_to_string("/proc/self/mounts")
            .map_err(|source| Error::Io { what: "cannot read /proc/self/mounts".into(), source })?;
        Hierarchies::parse(&mounts).ok_or_else(|| {
            Error::Unfit(
                "it mounts no cgroup2 file system; systemd in a machine needs one (mount -t cgroup2 cgroup2 DIR)"
                    .into(),
            )
        })
    }

    fn parse(mounts: &str) -> Option<Hierarchies> {
        let mut found = (None, None, None);
        for line in mounts.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [_, path, kind, options, ..] = fields[..] else { continue };
            let has = |name| options.split(',').any(|option| option == name);
            match kind {
                "cgroup2" if found.0.is_none() => found.0 = Some(PathBuf::from(path)),
                "cgroup" if has("memory") => found.1 = Some(PathBuf::from(path)),
                "cgroup" if has("freezer") => found.2 = Some(PathBuf::from(path)),
                _ => {}
            }
        }
        Some(Hierarchies { unified: found.0?, memory: found.1, freezer: found.2 })
    }

    /// The v2 cgroup of a process below the root, from its `/proc/<pid>/cgroup`.
    pub(super) fn own_of(&self, cgroups: &str) -> PathBuf {
        let own = cgroups.lines().find_map(|line| line.strip_prefix("0::/"));
        self.unified.join(own.unwrap_or_default())
    }

    pub(super) fn cgroup(&self, path: impl Into<PathBuf>) -> Cgroup {
        Cgroup { hierarchies: self.clone(), path: path.into() }
    }
}

impl Cgroup {
    /// Makes the cgroup with its limit, and below it one for each name: the limit and the freezer hold for all of them.
    pub(super) fn create(&self, memory_max: Option<u64>, below: &[&str]) -> Result<()> {
        for dir in self.dirs() {
            for dir in below.iter().map(|name| dir.join(name)).chain([dir.clone()]) {
                fs::create_dir_all(&dir).map_err(io_error("cannot make", &dir))?;
            }
        }
        // On v2 each level hands down what the next may use; systemd inside goes on from there.
        let mut above = self.hierarchies.unified.clone();
        for part in self.path.iter() {
            hand_down(&above)?;
            above.push(part);
        }
        if !below.is_empty() {
            hand_down(&above)?;
        }
        match (memory_max, &self.hierarchies.memory) {
            (None, _) => Ok(()),
            (Some(bytes), Some(root)) => {
                write(&root.join(&self.path).join("memory.limit_in_bytes"), &bytes.to_string())
            }
            (Some(bytes), None) => write(&above.join("memory.max"), &bytes.to_string()),
        }
    }

    /// The files into which a process writes its id to enter.
    pub(super) fn doors(&self) -> Vec<PathBuf> {
        self.dirs().into_iter().map(|dir| dir.join("cgroup.procs")).collect()
    }

    /// The same for a process that joins later: on v2 `beside`, where a process of the machine is already, because systemd has made its
    /// own cgroups below and a cgroup with children admits none.
    pub(super) fn doors_beside(&self, beside: &Path) -> Vec<PathBuf> {
        let mut doors = self.doors();
        doors[0] = beside.join("cgroup.procs");
        doors
    }

    pub(super) fn freeze(&self) -> Result<()> {
        let (path, [frozen, _]) = self.freezer();
        write(&path, frozen)
    }

    /// A cgroup that a crash left half made has nothing frozen in it.
    pub(super) fn thaw(&self) -> Result<()> {
        let (path, [_, thawed]) = self.freezer();
        if path.exists() { write(&path, thawed) } else { Ok(()) }
    }

    /// Whether it was asked to stand still; what does not exist was not.
    pub(super) fn is_frozen(&self) -> bool {
        let (path, [_, thawed]) = self.freezer();
        fs::read_to_string(path).is_ok_and(|state| state.trim() != thawed)
    }

    fn freezer(&self) -> (PathBuf, [&'static str; 2]) {
        match &self.hierarchies.freezer {
            Some(root) => (root.join(&self.path).join("freezer.state"), ["FROZEN", "THAWED"]),
            None => (self.hierarchies.unified.join(&self.path).join("cgroup.freeze"), ["1", "0"]),
        }
    }

    /// Cgroups directly below, by name, in any hierarchy.
    pub(super) fn children(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .dirs()
            .iter()
            .flat_map(|dir| subdirs(dir))
            .filter_map(|dir| Some(dir.file_name()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// The same cgroup's child.
    pub(super) fn child(&self, name: &str) -> Cgroup {
        Cgroup { hierarchies: self.hierarchies.clone(), path: self.path.join(name) }
    }

    /// Everything that lives in it or below.
    pub(super) fn processes(&self) -> Vec<i32> {
        let mut pids: Vec<i32> = self.dirs().iter().flat_map(|dir| processes_below(dir)).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// SIGKILL to everything, once, at one moment where the kernel can do that (5.14). A process that is not there any more is what is
    /// wanted, and root may kill every other. What is frozen or hangs in a write dies of it before it runs again.
    pub(super) fn signal_all(&self) {
        let switch = self.hierarchies.unified.join(&self.path).join("cgroup.kill");
        if let Err(error) = fs::write(&switch, "1") {
            tracing::debug!(%error, "the kernel does not kill {} as one", self.path.display());
        }
        for pid in self.processes() {
            if let Err(errno) = kill(Pid::from_raw(pid), Signal::SIGKILL) {
                tracing::debug!(pid, %errno, "not killed");
            }
        }
    }

    /// SIGKILL to everything, until nothing is left. Returns how many processes were there at first.
    pub(super) async fn kill(&self, limit: Duration) -> Result<usize> {
        let killed = self.processes().len();
        // A frozen process of the v1 freezer dies only when it is thawed, and must have been signalled by then: a host that dies sends
        // nothing more.
        self.signal_all();
        self.thaw()?;
        let mut pace = Pace::new(limit);
        loop {
            let left = self.processes();
            if left.is_empty() {
                return Ok(killed);
            }
            self.signal_all();
            pace.wait(|| format!("killing every process in {}", self.path.display())).await?;
        }
    }

    /// Removes the cgroup and all below it; a cgroup whose last process is just being reaped is tried again. Returns how many it removed.
    pub(super) async fn remove(&self, limit: Duration) -> Result<usize> {
        let mut pace = Pace::new(limit);
        let mut removed = 0;
        for dir in self.dirs() {
            loop {
                match remove_tree(&dir, &mut removed) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                        pace.wait(|| format!("removing {}", dir.display())).await?;
                    }
                    Err(source) => return Err(io_error("cannot remove", &dir)(source)),
                }
            }
        }
        Ok(removed)
    }

    fn dirs(&self) -> Vec<PathBuf> {
        let roots =
            [Some(&self.hierarchies.unified), self.hierarchies.memory.as_ref(), self.hierarchies.freezer.as_ref()];
        roots.into_iter().flatten().map(|root| root.join(&self.path)).collect()
    }
}

/// Lets the cgroups below use every controller there is that a machine's systemd wants.
fn hand_down(dir: &Path) -> Result<()> {
    let path = dir.join("cgroup.controllers");
    let there = fs::read_to_string(&path).map_err(io_error("cannot read", &path))?;
    for controller in there.split_whitespace().filter(|controller| ["cpu", "io", "memory", "pids"].contains(controller))
    {
        write(&dir.join("cgroup.subtree_control"), &format!("+{controller}"))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(io_error("cannot write", path))
}

fn io_error(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let what = format!("{what} {}", path.display());
    move |source| Error::Io { what, source }
}

fn subdirs(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn processes_below(dir: &Path) -> Vec<i32> {
    let own = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = own.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect();
    for child in subdirs(dir) {
        pids.extend(processes_below(&child));
    }
    pids
}

fn remove_tree(dir: &Path, removed: &mut usize) -> io::Result<()> {
    for child in subdirs(dir) {
        remove_tree(&child, removed)?;
    }
    match fs::remove_dir(dir) {
        Ok(()) => {
            *removed += 1;
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory stands for the hierarchy of a host with v2 alone, where this runs on one without: what is written where is the same.
    #[test]
    fn on_v2_every_level_hands_the_controllers_down_and_the_limit_is_the_machine_s() {
        let root = tempfile::tempdir().unwrap();
        let machine = root.path().join("drover-1/i-1");
        fs::create_dir_all(&machine).unwrap();
        for dir in [root.path(), machine.parent().unwrap(), &machine] {
            fs::write(dir.join("cgroup.controllers"), "cpuset memory hugetlb\n").unwrap();
        }
        let hierarchies = Hierarchies { unified: root.path().into(), memory: None, freezer: None };
        hierarchies.cgroup("drover-1/i-1").create(Some(4096), &["parent", "machine"]).unwrap();
        for dir in [root.path(), machine.parent().unwrap(), &machine] {
            assert_eq!(fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap(), "+memory");
        }
        assert_eq!(fs::read_to_string(machine.join("memory.max")).unwrap(), "4096");
        assert!(machine.join("parent").is_dir() && machine.join("machine").is_dir());
    }

    /// Freezing and killing need no controller, so this runs on every host that has cgroup2 at all.
    #[tokio::test]
    async fn the_freezer_and_the_end_work_on_v2_alone() {
        let hierarchies = Hierarchies { memory: None, freezer: None, ..Hierarchies::of_host().unwrap() };
        let cgroup = hierarchies.cgroup(format!("drover-test-{}", std::process::id()));
        cgroup.create(None, &["machine"]).unwrap();
        let mut child = std::process::Command::new("sleep").arg("infinity").spawn().unwrap();
        let door = cgroup.child("machine").doors().remove(0);
        fs::write(door, child.id().to_string()).unwrap();
        cgroup.freeze().unwrap();
        assert_eq!(cgroup.processes(), [i32::try_from(child.id()).unwrap()]);
        let reaper = std::thread::spawn(move || child.wait().unwrap());
        assert_eq!(cgroup.kill(Duration::from_secs(10)).await.unwrap(), 1, "a frozen process is killed too");
        assert!(!reaper.join().unwrap().success());
        assert_eq!(cgroup.remove(Duration::from_secs(10)).await.unwrap(), 2);
        assert!(cgroup.children().is_empty());
    }

    /// Many and often, because what this guards against is a moment.
    #[tokio::test]
    async fn what_is_killed_while_frozen_never_runs_again() {
        let hierarchies = Hierarchies::of_host().unwrap();
        for round in 0..5 {
            let cgroup = hierarchies.cgroup(format!("drover-test-frozen-{}-{round}", std::process::id()));
            cgroup.create(None, &[]).unwrap();
            let enter: String = cgroup.doors().iter().map(|door| format!("echo $$ >'{}'; ", door.display())).collect();
            let trace = tempfile::NamedTempFile::new().unwrap();
            let script = format!("{enter}while :; do echo >>'{}'; done", trace.path().display());
            let written = || trace.as_file().metadata().unwrap().len();
            let mut children: Vec<_> =
                (0..8).map(|_| std::process::Command::new("bash").args(["-c", &script]).spawn().unwrap()).collect();
            let mut pace = Pace::new(Duration::from_secs(60));
            while cgroup.processes().len() < children.len() || written() == 0 {
                pace.wait(|| "the writers".into()).await.unwrap();
            }
            cgroup.freeze().unwrap();
            // The freezer stops the last of them a moment after it is asked.
            let mut before = 0;
            while before != written() {
                before = written();
                pace.wait(|| "the freeze".into()).await.unwrap();
            }
            let reaper = std::thread::spawn(move || {
                for child in &mut children {
                    child.wait().unwrap();
                }
            });
            cgroup.kill(Duration::from_secs(60)).await.unwrap();
            reaper.join().unwrap();
            cgroup.remove(Duration::from_secs(60)).await.unwrap();
            assert_eq!(written(), before, "something ran between the thaw and its end");
        }
    }

    #[test]
    fn hierarchies_are_found_on_hosts_of_both_kinds() {
        let pure = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nsdelegate 0 0\n";
        assert_eq!(
            Hierarchies::parse(pure),
            Some(Hierarchies { unified: "/sys/fs/cgroup".into(), memory: None, freezer: None })
        );
        let hybrid = "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\ncgroup /c/memory cgroup rw,memory 0 0\n\
                      cgroup /c/freezer cgroup rw,relatime,freezer 0 0\ncgroup2 /c/unified cgroup2 rw 0 0\n";
        assert_eq!(
            Hierarchies::parse(hybrid),
            Some(Hierarchies {
                unified: "/c/unified".into(),
                memory: Some("/c/memory".into()),
                freezer: Some("/c/freezer".into())
            })
        );
        assert_eq!(Hierarchies::parse("cgroup /c/memory cgroup rw,memory 0 0\n"), None);
    }
}

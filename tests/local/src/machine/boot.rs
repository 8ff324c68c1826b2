//! One boot of one machine: the process that becomes its systemd, the thread that is its parent, and its console.
//!
//! A machine must die with drover-local, however that dies. The kernel's parent-death signal does it, and it is sent when the parent
//! *thread* ends: so each machine has a thread of its own, which starts it, reads how it begins and waits for its end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::fcntl::OFlag;
use nix::pty::PtyMaster;
use tokio::sync::{oneshot, watch};

use super::console;

/// What a boot needs, all of it made before.
#[derive(Debug)]
pub(super) struct Boot {
    /// Holds upper/, work/, root/ and boot_id.
    pub home: PathBuf,
    /// Layers in overlayfs's notation.
    pub lower: String,
    pub hostname: String,
    /// Address and names, as /etc/hosts has them.
    pub hosts: String,
    /// Known by EC2's prefix: `ec2.....`.
    pub uuid: String,
    pub namespace: String,
    /// cgroup.procs files that the parent of PID 1 enters: on v2 a cgroup that hands controllers on may hold no process itself.
    pub parent_doors: Vec<PathBuf>,
    /// The same for PID 1, whose cgroup namespace begins there.
    pub doors: Vec<PathBuf>,
    /// One `<minor> <node> <link>` a line.
    pub devices: String,
    /// What /proc/meminfo says is there, in KiB; `None` for the host's own.
    pub memory_kib: Option<u64>,
}

/// How a boot ended. A PID namespace tells its parent by the signal that ends PID 1: see reboot(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    PoweredOff,
    Rebooted,
    /// Neither: killed, or PID 1 failed.
    Died,
}

/// A machine that runs.
#[derive(Debug)]
pub(super) struct Running {
    /// PID 1 of the machine, as the host sees it.
    pub pid: i32,
    pub ended: watch::Receiver<Option<Ending>>,
}

const SCRIPT: &str = include_str!("boot.sh");

/// Starts a machine; the receiver answers when systemd runs, or with the reason why it does not. A receiver that is dropped stops nothing:
/// kill the machine's cgroup.
pub(super) fn start(boot: Boot) -> io::Result<oneshot::Receiver<Result<Running, String>>> {
    let (begun, answer) = oneshot::channel();
    let name = format!("machine {}", boot.hostname);
    std::thread::Builder::new().name(name).spawn(move || live(&boot, begun))?;
    Ok(answer)
}

/// The thread's whole life.
fn live(boot: &Boot, begun: oneshot::Sender<Result<Running, String>>) {
    let (end, ended) = watch::channel(None);
    match begin(boot) {
        Ok((mut child, pid, slave)) => {
            // The far end of the channel is gone when the caller gave up waiting; the machine is then killed through its cgroup.
            if begun.send(Ok(Running { pid, ended })).is_err() {
                tracing::warn!(machine = %boot.hostname, "it booted after its caller had given up");
            }
            let status = child.wait();
            drop(slave);
            end.send_replace(Some(status.map_or(Ending::Died, Ending::from)));
        }
        Err(reason) => {
            if begun.send(Err(reason)).is_err() {
                tracing::warn!(machine = %boot.hostname, "it failed to boot after its caller had given up");
            }
        }
    }
}

/// The child, its systemd, and the slave side of its console, which is held so that the reader ends only with the machine.
fn begin(boot: &Boot) -> Result<(Child, i32, File), String> {
    let (terminal, slave, console) = terminal().map_err(|error| format!("no terminal for the console: {error}"))?;
    console::record(terminal, boot.home.join("console.log"), &boot.hostname).map_err(|e| format!("no console: {e}"))?;
    let mut child = command(boot, &console).spawn().map_err(|error| format!("cannot start it: {error}"))?;
    let stdout = child.stdout.take().expect("standard output was asked for");
    let mut first = String::new();
    let read = BufReader::new(stdout).read_line(&mut first);
    if first != "ready\n" {
        let mut reason = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            stderr.read_to_string(&mut reason).map_err(|error| format!("cannot read why it failed: {error}"))?;
        }
        let status = child.wait().map_err(|error| format!("cannot wait for it: {error}"))?;
        let read = read.err().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!("{}{read}, {status}", reason.trim()));
    }
    match only_child(child.id()) {
        Some(pid) => Ok((child, pid, slave)),
        None => Err(match child.wait() {
            Ok(status) => format!("its first process ended at once, {status}"),
            Err(error) => format!("cannot wait for it: {error}"),
        }),
    }
}

/// A pseudo-terminal: its master, its slave, and the slave's path. Neither is inherited by what other threads start meanwhile.
fn terminal() -> io::Result<(PtyMaster, File, PathBuf)> {
    let master = nix::pty::posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
    nix::pty::grantpt(&master)?;
    nix::pty::unlockpt(&master)?;
    let path = PathBuf::from(nix::pty::ptsname_r(&master)?);
    let slave = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&path)?;
    Ok((master, slave, path))
}

fn command(boot: &Boot, console: &Path) -> Command {
    let enter =
        |doors: &[PathBuf]| doors.iter().map(|door| format!("echo 0 >'{}'; ", door.display())).collect::<String>();
    let inside = format!("set -e; {}exec unshare --cgroup bash -c \"$SCRIPT\"", enter(&boot.doors));
    // Enters its cgroup first, so that everything after is found there; dies with the thread that started it.
    let outside = format!(
        "set -e; {}exec setpriv --pdeathsig KILL nsenter --net=\"$NETNS\" \
         unshare --pid --fork --kill-child --mount --uts --ipc --propagation private bash -c \"$INSIDE\"",
        enter(&boot.parent_doors)
    );
    let mut command = Command::new("bash");
    command
        .args(["-c", &outside])
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .env("INSIDE", inside)
        .env("SCRIPT", SCRIPT)
        .env("NETNS", format!("/run/netns/{}", boot.namespace))
        .env("HOME_DIR", &boot.home)
        .env("LOWER", &boot.lower)
        .env("NAME", &boot.hostname)
        .env("HOSTS", &boot.hosts)
        .env("UUID", &boot.uuid)
        .env("CONSOLE", console)
        .env("DEVICES", &boot.devices)
        .env("MEMORY_KIB", boot.memory_kib.map(|kib| kib.to_string()).unwrap_or_default())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// `unshare` has one child: the machine's PID 1.
fn only_child(parent: u32) -> Option<i32> {
    fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?.split_whitespace().next()?.parse().ok()
}

// === impl Ending ===

impl From<ExitStatus> for Ending {
    fn from(status: ExitStatus) -> Ending {
        // unshare ends as its child did: by the same signal, or with 128 and the signal's number where it catches that one itself.
        let signal = status.signal().or_else(|| status.code().and_then(|code| code.checked_sub(128)));
        match signal {
            Some(libc::SIGHUP) => Ending::Rebooted,
            Some(libc::SIGINT) => Ending::PoweredOff,
            _ if status.success() => Ending::PoweredOff,
            _ => Ending::Died,
        }
    }
}

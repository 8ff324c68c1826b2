//! mysqld in a systemd unit of its own: started and adopted here, ended by SIGKILL only, but for one SIGTERM that follows a
//! proven close. systemd sends SIGTERM to whole cgroups, and a primary that waits for acknowledgements answers SIGTERM by
//! telling its client OK; so the unit's own signal is SIGKILL, nothing restarts it, and nothing starts it at boot.

use std::{io, os::fd::OwnedFd, path::Path, sync::Arc, time::Duration};

use drover_api::{Millis, Slot, records::Bundle, wire::MysqlOrder};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

use super::{
    command::{CommandError, finish, last_error, run},
    mycnf,
    paths::{AGENT_UNIT, MYSQL_ID, MYSQL_USER, MYSQLD, MYSQLD_UNIT, Paths},
};
use crate::{durable::write_file, state::Up};

#[derive(Debug, thiserror::Error)]
pub enum MysqldError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error("a file of mysqld could not be written: {0}")]
    Io(#[from] io::Error),
    #[error("mysqld ended at once: {0}")]
    EndedAtOnce(String),
    #[error("mysqld could not be watched: {0}")]
    Watch(#[source] io::Error),
    #[error("user {MYSQL_USER} cannot have the number {MYSQL_ID}: another user has it on this image")]
    UserTaken,
    #[error("no mysqld is watched")]
    NotWatched,
}

/// A running mysqld by a handle that no other process can take over.
#[derive(Clone, Debug)]
pub struct Watched {
    pub up: Up,
    pidfd: Arc<AsyncFd<OwnedFd>>,
}

const COMMAND: Duration = Duration::from_secs(30);
const UNIT_DIRECTORY: &str = "/etc/systemd/system";
const SYSUSERS_DIRECTORY: &str = "/etc/sysusers.d";

/// The unit. `Before=` the agent's: units stop in the reverse of their order, so that at shutdown the agent goes first.
fn unit(paths: &Paths) -> String {
    let (mycnf, mount) = (paths.mysqld().join("my.cnf"), paths.volume());
    format!(
        "# Written by the Drover agent. Do not enable, start or stop it by hand.\n\
         [Unit]\n\
         Description=mysqld, started and stopped by the Drover agent alone\n\
         Before={AGENT_UNIT}\n\
         RequiresMountsFor={mount}\n\
         \n\
         [Service]\n\
         Type=exec\n\
         User={MYSQL_USER}\n\
         Group={MYSQL_USER}\n\
         RuntimeDirectory=drover-mysqld\n\
         ExecStart={MYSQLD} --defaults-file={mycnf}\n\
         Restart=no\n\
         KillSignal=SIGKILL\n\
         SendSIGHUP=no\n\
         OOMPolicy=continue\n\
         LimitNOFILE=65536\n\
         TimeoutStartSec=30\n",
        mount = mount.display(),
        mycnf = mycnf.display(),
    )
}

/// Makes mysqld's user, and writes the unit where it differs.
pub async fn install_unit(paths: &Paths) -> Result<(), MysqldError> {
    let id = MYSQL_ID.to_string();
    if finish("id", &["-u", MYSQL_USER], COMMAND).await?.stdout.trim() != id {
        let user = format!("u {MYSQL_USER} {MYSQL_ID} \"mysqld of Drover\" /nonexistent\n");
        std::fs::create_dir_all(SYSUSERS_DIRECTORY)?;
        write_file(Path::new(SYSUSERS_DIRECTORY), "drover.conf", user.as_bytes(), 0o644)?;
        run("systemd-sysusers", &[format!("{SYSUSERS_DIRECTORY}/drover.conf")], COMMAND).await?;
        // A number that was taken makes systemd choose another one, and then files would change owners between machines.
        if run("id", &["-u", MYSQL_USER], COMMAND).await?.trim() != id {
            return Err(MysqldError::UserTaken);
        }
    }
    let wanted = unit(paths);
    let path = Path::new(UNIT_DIRECTORY).join(MYSQLD_UNIT);
    if std::fs::read_to_string(&path).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    write_file(Path::new(UNIT_DIRECTORY), MYSQLD_UNIT, wanted.as_bytes(), 0o644)?;
    run("systemctl", &["daemon-reload"], COMMAND).await?;
    Ok(())
}

/// The leaf for replication and clients, readable by mysqld alone.
pub fn write_certificates(paths: &Paths, bundle: &Bundle) -> Result<(), MysqldError> {
    let directory = paths.mysqld();
    std::fs::create_dir_all(&directory)?;
    for (name, text) in
        [("ca.pem", &bundle.ca_pem), ("cert.pem", &bundle.certificate_pem), ("key.pem", &bundle.key_pem)]
    {
        write_file(&directory, name, text.as_bytes(), 0o600)?;
        give(&directory.join(name))?;
    }
    Ok(())
}

/// Starts it, as `order` configures it. It is up when the process runs; whether it answers is observed.
pub async fn start(paths: &Paths, slot: Slot, order: &MysqlOrder) -> Result<Watched, MysqldError> {
    let text = mycnf::serving(paths, slot, order, memory()?);
    write_file(&paths.mysqld(), "my.cnf", text.as_bytes(), 0o600)?;
    give(&paths.mysqld().join("my.cnf"))?;
    make_directory(&paths.temporary())?;
    // A unit that failed before is refused for a while otherwise.
    finish("systemctl", &["reset-failed", MYSQLD_UNIT], COMMAND).await?;
    let started = finish("systemctl", &["start", MYSQLD_UNIT], COMMAND).await?;
    match if started.code == 0 { adopt().await? } else { None } {
        Some(watched) => Ok(watched),
        None => Err(MysqldError::EndedAtOnce(how_it_ended().await)),
    }
}

/// The mysqld that runs in the unit, if one does.
pub async fn adopt() -> Result<Option<Watched>, MysqldError> {
    let properties = ["show", "--timestamp=unix", "-p", "MainPID,InvocationID,ExecMainStartTimestamp", MYSQLD_UNIT];
    let shown = run("systemctl", &properties, COMMAND).await?;
    let Some(pid) = property(&shown, "MainPID").parse().ok().and_then(Pid::from_raw) else { return Ok(None) };
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(error) => return Err(MysqldError::Watch(error.into())),
    };
    let since = property(&shown, "ExecMainStartTimestamp").trim_start_matches('@').parse::<u64>().unwrap_or_default();
    Ok(Some(Watched {
        up: Up {
            start: property(&shown, "InvocationID").to_owned(),
            pid: pid.as_raw_nonzero().get().unsigned_abs(),
            since: Millis(since * 1000),
        },
        pidfd: Arc::new(watchable(pidfd).map_err(MysqldError::Watch)?),
    }))
}

/// What is registered owns its descriptor and keeps it until it is dropped, which is what the constructor cannot check.
#[expect(deprecated, reason = "its successor is unsafe code, for descriptors whose owner may close them early")]
fn watchable(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(pidfd)
}

impl Watched {
    /// Returns when the process has ended, with what is known of how. It waits as long as mysqld lives.
    pub async fn ended(&self) -> String {
        match self.pidfd.readable().await {
            Ok(_) => how_it_ended().await,
            Err(error) => format!("it could not be watched any more: {error}"),
        }
    }

    /// The one SIGTERM, for a server whose super_read_only has returned.
    pub fn terminate(&self) -> Result<(), MysqldError> {
        pidfd_send_signal(self.pidfd.get_ref(), Signal::TERM).map_err(|error| MysqldError::Watch(error.into()))
    }
}

/// systemd's word, and the last error that mysqld itself logged in that life.
async fn how_it_ended() -> String {
    let properties = ["show", "-p", "Result,ExecMainStatus,InvocationID", MYSQLD_UNIT];
    let shown = match run("systemctl", &properties, COMMAND).await {
        Ok(shown) => shown,
        Err(error) => return error.to_string(),
    };
    let how = in_words(&shown);
    let life = format!("_SYSTEMD_INVOCATION_ID={}", property(&shown, "InvocationID"));
    match finish("journalctl", &[&life, "-n", "50", "-o", "cat", "--no-pager"], COMMAND).await {
        Ok(said) => last_error(&said.stdout).map_or(how.clone(), |error| format!("{how}; {error}")),
        Err(_) => how,
    }
}

fn property<'a>(shown: &'a str, key: &str) -> &'a str {
    shown.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
}

/// `Result` and `ExecMainStatus` as systemd.service(5) has them.
fn in_words(shown: &str) -> String {
    let status = property(shown, "ExecMainStatus");
    match property(shown, "Result") {
        "success" => "it ended in order".to_owned(),
        "oom-kill" => "the kernel killed it for memory".to_owned(),
        "signal" | "core-dump" => format!("killed by signal {status}"),
        "exit-code" => format!("exited with {status}"),
        other => other.to_owned(),
    }
}

/// What `mysqld --version` says, such as `9.7.4`; `None` where there is no mysqld.
pub async fn installed_version() -> Result<Option<String>, MysqldError> {
    if !Path::new(MYSQLD).exists() {
        return Ok(None);
    }
    let text = run(MYSQLD, &["--version"], COMMAND).await?;
    Ok(read_version(&text))
}

fn read_version(text: &str) -> Option<String> {
    let version = text.split_once(" Ver ")?.1;
    let digits: String = version.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    (!digits.is_empty()).then_some(digits)
}

/// Gives a file to mysqld.
pub fn give(path: &Path) -> io::Result<()> {
    std::os::unix::fs::chown(path, Some(MYSQL_ID), Some(MYSQL_ID))
}

/// A directory of mysqld's own.
pub fn make_directory(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o750))?;
    give(path)
}

/// Bytes that this machine may use: its memory, or its control group's bound where that is less.
fn memory() -> io::Result<u64> {
    let info = std::fs::read_to_string("/proc/meminfo")?;
    let total = info
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    let total = total.ok_or_else(|| io::Error::other("/proc/meminfo has no MemTotal"))? * 1024;
    let bound = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    Ok(bound.map_or(total, |bound: u64| bound.min(total)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_mysqld_says() {
        let said = "/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))\n";
        assert_eq!(read_version(said).as_deref(), Some("9.7.4"));
        assert_eq!(read_version("mysqld"), None);
    }

    #[test]
    fn how_it_ended_is_said_in_words() {
        assert_eq!(in_words("Result=signal\nExecMainStatus=9\n"), "killed by signal 9");
        assert_eq!(in_words("Result=oom-kill\nExecMainStatus=9\n"), "the kernel killed it for memory");
        assert_eq!(in_words("Result=exit-code\nExecMainStatus=1\n"), "exited with 1");
    }

    #[test]
    fn the_unit_never_sends_sigterm_restarts_or_starts_at_boot() {
        let text = unit(&Paths::default());
        for line in ["KillSignal=SIGKILL", "Restart=no", "Before=drover-agent.service"] {
            assert!(text.lines().any(|found| found == line), "{line}");
        }
        assert!(!text.contains("[Install]"));
    }
}

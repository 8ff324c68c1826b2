//! Making data: in `data.tmp`, by a server that nobody sees, renamed to `data` when it is whole and on disk. Whatever a crash
//! leaves there is removed and made again; `data` itself is never touched.

use std::{fs::File, io, path::Path, process::Stdio, time::Duration};

use drover_api::wire::{Credential, MYSQL_PORT, MysqlOrder, Source};
use tokio::process::{Child, Command};

use super::{
    command::{CommandError, last_error, last_line, run},
    mycnf,
    mysqld::{MysqldError, give, make_directory},
    paths::{MYSQL_ID, MYSQLD, Paths},
    sql::{self, Logged, SCHEMA, Session, SqlError, quote},
    volume::blocking,
};

#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    #[error(transparent)]
    Command(#[from] CommandError),
    #[error(transparent)]
    Sql(#[from] SqlError),
    #[error(transparent)]
    Mysqld(#[from] MysqldError),
    #[error("the data could not be put in place: {0}")]
    Io(#[from] io::Error),
    #[error("the server that makes the data did not {0} in time; its last words: {1}")]
    Scratch(&'static str, String),
    #[error("there is a data directory already")]
    DataThere,
    #[error("nothing came from the donor for {} s", STANDS.as_secs())]
    Stands,
}

const INITIALISE: Duration = Duration::from_secs(300);
const COME_UP: Duration = Duration::from_secs(120);
const GO_DOWN: Duration = Duration::from_secs(120);
/// A copy of a large volume takes hours (measured 0.4 GB/s here).
const CLONE: Duration = Duration::from_secs(12 * 3600);
/// A donor that hangs, or whose host vanished, does not end a copy soon: mysqld reads on, or connects again and again for five
/// minutes (measured), in which another donor could have given it all. Longer than disks of a cloud commonly stall.
const STANDS: Duration = Duration::from_secs(60);
const LOOK_AT_COPY: Duration = Duration::from_secs(2);
const SYNC: Duration = Duration::from_secs(600);
/// The pace of looking for a server's socket, which nothing announces.
const LOOK: Duration = Duration::from_millis(50);

/// A new, empty data directory with our schema and the account for people.
pub async fn initialise(
    paths: &Paths,
    order: &MysqlOrder,
    server_uuid: &str,
    admin: &Credential,
) -> Result<(), SeedError> {
    let scratch = Scratch::make(paths, order, "data").await?;
    let mut session = Session::open(&scratch.socket, Logged::No).await?;
    for statement in SCHEMA {
        session.run_within(statement, Duration::from_secs(30)).await?;
    }
    sql::admin(&mut session, admin).await?;
    scratch.end(session).await?;
    put_in_place(paths, server_uuid).await
}

/// A copy of a donor's data. The server that receives it writes it elsewhere and is thrown away.
pub async fn seed(
    paths: &Paths,
    order: &MysqlOrder,
    donor: &Source,
    credential: &Credential,
    server_uuid: &str,
) -> Result<(), SeedError> {
    let scratch = Scratch::make(paths, order, "scratch").await?;
    let mut session = Session::open(&scratch.socket, Logged::No).await?;
    session.run(&format!("SET GLOBAL clone_valid_donor_list = '{}:{MYSQL_PORT}'", donor.address)).await?;
    let clone = format!(
        "CLONE INSTANCE FROM {}@'{}':{MYSQL_PORT} IDENTIFIED BY {} DATA DIRECTORY = {} REQUIRE SSL",
        quote(&credential.user),
        donor.address,
        quote(&credential.password),
        quote(&paths.making().join("data").display().to_string()),
    );
    tokio::select! {
        copied = session.run_within(&clone, CLONE) => copied?,
        () = stands(&scratch.socket) => return Err(SeedError::Stands),
    }
    scratch.end(session).await?;
    put_in_place(paths, server_uuid).await
}

/// Returns when the copy of files that is under way has got nothing from its donor for [`STANDS`]. What follows the files may
/// stand for longer with a donor in good health: it waits there for commits that wait for acknowledgements (measured).
async fn stands(socket: &str) {
    let mut pace = tokio::time::interval(LOOK_AT_COPY);
    let (mut last, mut same) = (None, Duration::ZERO);
    while same < STANDS {
        pace.tick().await;
        let now = files_got(socket).await.unwrap_or_default();
        same = if now.is_some() && now == last { same + LOOK_AT_COPY } else { Duration::ZERO };
        last = now;
    }
}

/// The bytes that came, while files are copied.
async fn files_got(socket: &str) -> Result<Option<u64>, SqlError> {
    let progress =
        "SELECT network FROM performance_schema.clone_progress WHERE stage = 'FILE COPY' AND state = 'In Progress'";
    Ok(Session::open(socket, Logged::No).await?.rows(progress).await?.into_iter().next())
}

/// Gives the data its identity, waits until all of it is on disk, and only then calls it `data`.
async fn put_in_place(paths: &Paths, server_uuid: &str) -> Result<(), SeedError> {
    let made = paths.making().join("data");
    let identity = made.join("auto.cnf");
    std::fs::write(&identity, format!("[auto]\nserver-uuid={server_uuid}\n"))?;
    give(&identity)?;
    run("sync", &["-f".as_ref(), made.as_os_str()], SYNC).await?;
    if paths.data().exists() {
        return Err(SeedError::DataThere);
    }
    let paths = paths.clone();
    blocking(move || {
        std::fs::rename(&made, paths.data())?;
        if let Err(error) = File::open(paths.volume()).and_then(|volume| volume.sync_all()) {
            // Not in place before it is for good; the next attempt finds room.
            std::fs::rename(paths.data(), &made)?;
            return Err(error);
        }
        if let Err(error) = std::fs::remove_dir_all(paths.making()) {
            tracing::warn!(%error, "what data was made with is left until more is made");
        }
        Ok(())
    })
    .await
    .map_err(SeedError::Io)
}

/// A server on a fresh directory, with a socket and no network. It dies with us.
struct Scratch {
    child: Child,
    socket: String,
    log: std::path::PathBuf,
}

impl Scratch {
    async fn make(paths: &Paths, order: &MysqlOrder, name: &str) -> Result<Self, SeedError> {
        if paths.data().exists() {
            return Err(SeedError::DataThere);
        }
        let making = paths.making();
        blocking({
            let making = making.clone();
            move || match std::fs::remove_dir_all(&making) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => make_directory(&making),
            }
        })
        .await?;
        let (data, socket, log) = (making.join(name), making.join("s.sock"), making.join("log"));
        let (config, socket) = (making.join("my.cnf"), socket.display().to_string());
        std::fs::write(&config, mycnf::scratch(paths, order, &data.display().to_string(), &socket))?;
        give(&config)?;
        let mut initialise = mysqld(&config, &log, &["--initialize-insecure"])?.spawn()?;
        match tokio::time::timeout(INITIALISE, initialise.wait()).await {
            Ok(Ok(status)) if status.success() => {}
            _ => return Err(SeedError::Scratch("initialise", last_words(&log))),
        }
        let child = mysqld(&config, &log, &[])?.spawn()?;
        let mut scratch = Self { child, socket, log };
        scratch.come_up().await?;
        Ok(scratch)
    }

    async fn come_up(&mut self) -> Result<(), SeedError> {
        let mut pace = tokio::time::interval(LOOK);
        let up = async {
            loop {
                pace.tick().await;
                if Session::open(&self.socket, Logged::No).await.is_ok() {
                    return true;
                }
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return false;
                }
            }
        };
        match tokio::time::timeout(COME_UP, up).await {
            Ok(true) => Ok(()),
            _ => Err(SeedError::Scratch("come up", last_words(&self.log))),
        }
    }

    async fn end(mut self, mut session: Session) -> Result<(), SeedError> {
        session.run("SHUTDOWN").await?;
        match tokio::time::timeout(GO_DOWN, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            _ => Err(SeedError::Scratch("end", last_words(&self.log))),
        }
    }
}

/// mysqld as a child of ours that is killed when we end, however we end: an agent that was killed leaves no writer behind.
fn mysqld(config: &Path, log: &Path, more: &[&str]) -> io::Result<Command> {
    let output = File::options().create(true).append(true).open(log)?;
    let mut command = Command::new("setpriv");
    let id = MYSQL_ID.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--pdeathsig", "KILL", MYSQLD]);
    command.arg(format!("--defaults-file={}", config.display())).args(more);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output).kill_on_drop(true);
    Ok(command)
}

fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    last_error(&text).unwrap_or_else(|| last_line(&text))
}

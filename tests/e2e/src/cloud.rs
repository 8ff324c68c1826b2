//! One drover-local of this test's own: started, asked, broken, swept.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    kubernetes,
    pace::within,
    programs::{self, run, start, tail},
    said::{Call, Endpoints, Instance},
};

const BUCKET: &str = "drover";
/// What s3s-fs keeps of its objects beside it begins so: with the bucket's name in base64.
const KEPT: &str = ".bucket-ZHJvdmVy.object-";
/// As often as that it is not there when it stays away: whatever was under way when it was taken has ended by then.
const LOOKS: u32 = 5;
/// The dot makes it no bucket's name.
const LOST: &str = ".gone";
const MOVE: Duration = Duration::from_secs(20);

/// A cloud on this host, and the scratch directory of its scenario.
#[derive(Debug)]
pub struct Cloud {
    /// The scenario's own: logs, manifests, state directories.
    pub dir: PathBuf,
    pub endpoints: Endpoints,
    program: PathBuf,
    /// `None` where another started it, and ends it.
    child: Option<Child>,
    /// Locked as long as this test lives: whoever finds it free may sweep.
    _owner: Option<File>,
}

/// A command inside a machine that is not awaited.
#[derive(Debug)]
pub struct Waiter(Child);

/// How long a command of drover-local or one inside a machine may take.
const COMMAND: Duration = Duration::from_secs(30);
/// All machines are killed and unmade.
const DOWN: Duration = Duration::from_secs(120);
/// The image is there already: `make machine-image`.
const UP: Duration = Duration::from_secs(60);
/// Not below /tmp: mysqld's data is real, and some hosts keep /tmp in memory.
const SCRATCH: &str = "/var/tmp/drover-e2e";
/// In a scenario's directory: locked by the process that it belongs to.
const OWNER: &str = "owner";
/// Beside the scenarios' directories: locked while one is made, or looked at by somebody else.
const DOOR: &str = ".door";
const MYSQL: &str = "/run/drover-mysqld/mysqld.sock";

// === impl Cloud ===

impl Cloud {
    /// One with machines: see [`Cloud::start`].
    pub fn up(name: &str) -> anyhow::Result<Self> {
        Self::start(name, &["--image-cache", &image_cache()])
    }

    /// One whose instances are states and nothing else: it is there at once, and what needs no agent is seen in seconds.
    pub fn without_machines(name: &str) -> anyhow::Result<Self> {
        Self::start(name, &["--no-machines", "--speed", "20"])
    }

    /// One in a directory of the caller's own, `cloud` in `dir`; [`crate::sweep_in`] removes what it leaves, however it ends.
    pub fn up_in(dir: &Path) -> anyhow::Result<Self> {
        Self::start_in(dir, &["--image-cache", &image_cache()])
    }

    /// One that another runs, in the directory `cloud` of `dir`.
    pub fn of_another(dir: &Path) -> anyhow::Result<Self> {
        let ready = fs::read(dir.join("cloud/ready.json")).context("it does not say that it is up")?;
        let endpoints = serde_json::from_slice(&ready)?;
        Ok(Self {
            dir: dir.to_owned(),
            endpoints,
            program: programs::binary("drover-local")?,
            child: None,
            _owner: None,
        })
    }

    /// Starts one. What an earlier test left below the scratch directory is swept first; that of a test that lives is not.
    fn start(name: &str, options: &[&str]) -> anyhow::Result<Self> {
        let program = programs::binary("drover-local")?;
        let (dir, owner) = own(&program, name)?;
        match Self::start_in(&dir, options) {
            Ok(mut cloud) => {
                cloud._owner = Some(owner);
                Ok(cloud)
            }
            Err(error) => {
                leave(&program, &dir)?;
                Err(error)
            }
        }
    }

    fn start_in(dir: &Path, options: &[&str]) -> anyhow::Result<Self> {
        let program = programs::binary("drover-local")?;
        let log = dir.join("drover-local.log");
        let home = dir.join("cloud");
        let mut command = Command::new(&program);
        command.arg("--dir").arg(&home).args(["up", "--ec2-port", "0", "--s3-port", "0"]).args(options);
        let mut child = start(&mut command, "TERM", &log)?;
        let endpoints = within(UP, "drover-local is ready", || match child.try_wait()? {
            None => match fs::read(home.join("ready.json")) {
                Ok(ready) => Ok(Some(serde_json::from_slice(&ready)?)),
                Err(_) => Ok(None),
            },
            Some(status) => bail!("drover-local ended with {status}: {}", fs::read_to_string(&log)?),
        });
        match endpoints {
            Ok(endpoints) => Ok(Self { dir: dir.to_owned(), endpoints, program, child: Some(child), _owner: None }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    /// What points AWS's tools and the operator at this cloud.
    pub fn environment(&self) -> BTreeMap<&'static str, String> {
        let at = &self.endpoints;
        let local = self.home().display().to_string();
        BTreeMap::from([
            ("AWS_ENDPOINT_URL_EC2", at.ec2.clone()),
            ("AWS_ENDPOINT_URL_S3", at.s3.clone()),
            ("AWS_ENDPOINT_URL_SERVICE_QUOTAS", at.ec2.clone()),
            ("AWS_REGION", at.region.clone()),
            ("AWS_ACCESS_KEY_ID", at.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", at.secret_key.clone()),
            ("DROVER_LOCAL_DIR", local),
        ])
    }

    /// The process of one that was started here.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Errors: it has ended by itself.
    pub fn must_run(&mut self) -> anyhow::Result<()> {
        let ended = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
        ended.map_or(Ok(()), |status| bail!("drover-local ended with {status}"))
    }

    /// Sets a fault, in the words of the command line.
    pub fn fault(&self, words: &str) -> anyhow::Result<()> {
        self.ask(&[&["fault"], words.split(' ').collect::<Vec<_>>().as_slice()].concat()).map(drop)
    }

    /// Ends a fault, named as it was set.
    pub fn mend(&self, words: &str) -> anyhow::Result<()> {
        self.fault(&format!("clear {words}"))
    }

    /// Stops all of it as by SIGSTOP: connections are accepted by the kernel, and nobody answers.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Where S3 keeps the objects of a bucket.
    pub fn bucket(&self, name: &str) -> PathBuf {
        self.home().join("objects").join(name)
    }

    /// Takes the account's one bucket away, as if somebody had deleted it. It is gone when it stays away: a write that was under
    /// way may make its directory anew.
    pub fn lose_bucket(&self) -> anyhow::Result<()> {
        fs::rename(self.bucket(BUCKET), self.bucket(LOST))?;
        let mut looks = 0;
        within(MOVE, "the bucket stays away", || {
            looks = if removed(&self.bucket(BUCKET)).unwrap_or(true) { 0 } else { looks + 1 };
            Ok((looks == LOOKS).then_some(()))
        })
    }

    /// Brings it back as it was, in place of what has been made since.
    pub fn restore_bucket(&self) -> anyhow::Result<()> {
        within(MOVE, "the bucket is back", || {
            removed(&self.bucket(BUCKET))?;
            match fs::rename(self.bucket(LOST), self.bucket(BUCKET)) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(None),
                moved => Ok(moved.map(Some)?),
            }
        })?;
        // What s3s-fs keeps of the checksums of objects of those names is of what was there meanwhile; without it, it looks.
        within(MOVE, "nothing is kept of what was there meanwhile", || {
            for entry in fs::read_dir(self.bucket(""))? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if name.starts_with(KEPT) && name.ends_with(".internal.json") {
                    fs::remove_file(path)?;
                }
            }
            Ok(Some(()))
        })
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child = self.child.as_ref().context("another started it")?;
        Ok(kill(Pid::from_raw(child.id().cast_signed()), signal)?)
    }

    /// Calls after number `since` that changed something or would have.
    pub fn mutating(&self, since: u64) -> anyhow::Result<Vec<Call>> {
        let text = self.ask(&["calls", "--mutating", "--since", &since.to_string(), "--json"])?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Calls after number `since`.
    pub fn calls_since(&self, since: u64) -> anyhow::Result<Vec<Call>> {
        let text = self.ask(&["calls", "--since", &since.to_string(), "--json"])?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// The log of all calls.
    pub fn calls(&self) -> anyhow::Result<String> {
        self.ask(&["calls", "--json"])
    }

    /// The number of the latest call.
    pub fn calls_so_far(&self) -> anyhow::Result<u64> {
        let text = self.calls()?;
        let last = text.lines().last().map(serde_json::from_str::<Call>).transpose()?;
        Ok(last.map_or(0, |call| call.seq))
    }

    /// Every instance that EC2 shows.
    pub fn machines(&self) -> anyhow::Result<Vec<Instance>> {
        let text = self.ask(&["machines", "--json"])?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Runs a command inside a machine, as root; answers its standard output.
    pub fn inside(&self, instance: &str, command: &[&str]) -> anyhow::Result<String> {
        self.ask(&[&["exec", instance, "--"], command].concat())
    }

    /// Starts a command inside a machine and does not wait for it.
    pub fn begin_inside(&self, instance: &str, command: &[&str]) -> anyhow::Result<Waiter> {
        let mut started = Command::new(&self.program);
        started.arg("--dir").arg(self.home()).args(["exec", instance, "--"]).args(command);
        let child = started.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        Ok(Waiter(child))
    }

    /// SQL on a machine's mysqld, as root by its socket: a row a line, columns by tabs.
    pub fn sql(&self, instance: &str, statement: &str) -> anyhow::Result<String> {
        self.inside(instance, &sql_command(statement)).map(|text| text.trim_end().to_owned())
    }

    /// SQL that may take for ever.
    pub fn begin_sql(&self, instance: &str, statement: &str) -> anyhow::Result<Waiter> {
        self.begin_inside(instance, &sql_command(statement))
    }

    /// Whatever helps to understand a failure.
    pub fn tails(&self) -> String {
        let mut text = String::new();
        for path in logs(&self.dir) {
            let log = fs::read(&path).unwrap_or_default();
            text += &format!("--- {}\n{}\n", path.display(), tail(&String::from_utf8_lossy(&log), 60));
        }
        for machine in self.machines().unwrap_or_default() {
            let command = ["journalctl", "-q", "--no-pager", "-n", "40", "-u", "drover-agent", "-u", "drover-mysqld"];
            let journal = self.inside(&machine.id, &command).unwrap_or_else(|error| format!("{error:#}"));
            text += &format!("--- journal of {} {} {}\n{journal}\n", machine.id, machine.name, machine.state);
        }
        text
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.join("cloud")
    }

    pub(crate) fn ask(&self, words: &[&str]) -> anyhow::Result<String> {
        let (program, home) = (self.program.display().to_string(), self.home().display().to_string());
        run(&[&[program.as_str(), "--dir", &home], words].concat(), COMMAND)
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        // A frozen one could not be swept.
        let thawed = self.thaw();
        let Some(child) = &mut self.child else { return };
        if let Err(error) = thawed {
            eprintln!("{} is not thawed: {error:#}", self.dir.display());
        }
        if let Err(error) = leave(&self.program, &self.dir) {
            eprintln!("{} is not swept: {error:#}", self.dir.display());
            drop(child.kill());
        }
        drop(child.wait());
    }
}

// === impl Waiter ===

impl Waiter {
    /// Whether it still runs.
    pub fn is_waiting(&mut self) -> anyhow::Result<bool> {
        Ok(self.0.try_wait()?.is_none())
    }

    /// Its exit code and what it said, once it ends.
    pub fn end(mut self, limit: Duration) -> anyhow::Result<(Option<i32>, String)> {
        within(limit, "the command in the machine ends", || Ok(self.0.try_wait()?))?;
        let (mut out, mut error) = (String::new(), String::new());
        self.0.stdout.take().context("a pipe")?.read_to_string(&mut out)?;
        self.0.stderr.take().context("a pipe")?.read_to_string(&mut error)?;
        Ok((self.0.wait()?.code(), out + &error))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Makes the directory of a scenario, after those are swept that belong to nobody any more: their tests were killed.
fn own(program: &Path, name: &str) -> anyhow::Result<(PathBuf, File)> {
    fs::create_dir_all(SCRATCH)?;
    let door = open(&Path::new(SCRATCH).join(DOOR))?;
    door.lock()?;
    for left in fs::read_dir(SCRATCH)? {
        let left = left?.path();
        if !left.is_dir() {
            continue;
        }
        match open(&left.join(OWNER))?.try_lock() {
            Ok(()) => sweep(program, &left)?,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
    let dir = Path::new(SCRATCH).join(name);
    fs::create_dir(&dir).with_context(|| format!("another run of {name} is under way in {}", dir.display()))?;
    let owner = open(&dir.join(OWNER))?;
    owner.try_lock()?;
    Ok((dir, owner))
}

/// What wrote its log into a scenario's directory, or one below that is not a cloud's.
fn logs(dir: &Path) -> Vec<PathBuf> {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let below = entries(dir).flat_map(|path| entries(&path).collect::<Vec<_>>());
    let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "log") && path.is_file();
    entries(dir).chain(below).filter(is_log).collect()
}

fn open(path: &Path) -> anyhow::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    file.with_context(|| format!("cannot open {}", path.display()))
}

fn sweep(program: &Path, dir: &Path) -> anyhow::Result<()> {
    down(program, dir)?;
    fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))
}

/// The same for the directory's owner: nobody looks at it half removed.
fn leave(program: &Path, dir: &Path) -> anyhow::Result<()> {
    down(program, dir)?;
    let door = open(&Path::new(SCRATCH).join(DOOR))?;
    door.lock()?;
    fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))
}

/// Ends everything in the directory of [`Cloud::up_in`] and of the clusters beside it, once whoever started it has ended.
pub fn sweep_in(dir: &Path) -> anyhow::Result<()> {
    down(&programs::binary("drover-local")?, dir)
}

fn down(program: &Path, dir: &Path) -> anyhow::Result<()> {
    let (program, home) = (program.display().to_string(), dir.join("cloud").display().to_string());
    run(&[&program, "--dir", &home, "down"], DOWN)?;
    kubernetes::sweep(dir)
}

fn sql_command(statement: &str) -> [&str; 7] {
    ["mysql", "--socket", MYSQL, "--batch", "--skip-column-names", "-e", statement]
}

/// Where the machine images are.
#[expect(clippy::disallowed_methods, reason = "the edge: the Makefile says where the image is kept")]
pub fn image_cache() -> String {
    std::env::var("DROVER_IMAGE_CACHE").unwrap_or_else(|_| "/var/cache/drover-local".into())
}

/// Whether there was one.
fn removed(directory: &Path) -> io::Result<bool> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    }
}

//! The command `drover-local`: an EC2-compatible cloud, with S3 beside it, on one Linux box.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use drover_local::{
    calls::{Call, Since},
    control::{self, Ask, MachineLine, Told},
    fault::Fault,
    home::{Endpoints, Home},
    machine,
    up::{self, Options, Up},
};
use tokio::signal::unix::{SignalKind, signal};

/// A cloud on one Linux box: EC2's Query API and S3 for every AWS tool and SDK, with real machines behind it.
#[derive(Debug, Parser)]
#[command(name = "drover-local", version)]
struct Cli {
    /// Where the cloud keeps everything. Default: /var/lib/drover-local for root; $XDG_STATE_HOME/drover-local, or
    /// ~/.local/state/drover-local, for others. `drover-local env` exports the variable.
    #[arg(long, global = true, env = "DROVER_LOCAL_DIR")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Commands,
}

#[derive(Debug, Subcommand)]
enum Commands {
    /// Starts the cloud and stays in the foreground until SIGINT or SIGTERM.
    ///
    /// Prints a line when it is ready, and writes ready.json into the directory. At the end every machine is killed and
    /// everything made in the kernel is removed; the account, its bucket and its volumes stay. The next `up` in the same
    /// directory takes them up again: what was running is then an instance whose host was lost (status checks fail; stop
    /// and start it), as after a crash.
    Up(Options),
    /// Ends the cloud and removes everything: what is up, what a crash left, and the directory with the account in it.
    Down,
    /// Prints the exports that point every AWS tool and SDK at this cloud: eval "$(drover-local env)".
    Env,
    /// Makes something go wrong, or right again.
    Fault {
        #[command(subcommand)]
        fault: FaultCommand,
    },
    /// Prints every call to EC2, S3 and Service Quotas since `up`, the latest 100,000.
    Calls(CallsOptions),
    /// Runs a command inside a machine, as root, in this terminal.
    Exec {
        instance: String,
        #[arg(last = true, required = true)]
        argv: Vec<String>,
    },
    /// Prints the exports of a session of a machine's role: those credentials that its metadata service hands out.
    ///
    /// In a subshell, they make every AWS tool and SDK what that machine is: (eval "$(drover-local role-credentials i-...)";
    /// aws s3 cp ...).
    RoleCredentials {
        instance: String,
        /// A session of its own that expires after so many seconds, 0 for at once: to see what happens then.
        #[arg(long, value_name = "N")]
        duration_seconds: Option<u32>,
    },
    /// Lists the machines.
    Machines {
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
enum FaultCommand {
    #[command(flatten)]
    Set(Fault),
    /// Undoes one fault, named as it was set, or every fault where none is named.
    Clear {
        #[command(subcommand)]
        fault: Option<Fault>,
    },
    /// Prints the faults that are set.
    List,
}

#[derive(Debug, Args)]
struct CallsOptions {
    /// Only calls that changed something, or would have.
    #[arg(long)]
    mutating: bool,
    /// Only calls after this number. An error where they are not all kept any more.
    #[arg(long)]
    since: Option<u64>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// How long a command waits for the cloud: freezing a file system may take a while, and runs a command or two that have a minute.
const ASK_TIMEOUT: Duration = Duration::from_secs(150);

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(log_filter()))
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Runtime::new().expect("the runtime needs nothing but threads and epoll");
    match runtime.block_on(run(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("drover-local: {}", in_one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes; one that the text before it has quoted already is not said twice.
fn in_one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text {
        text if text.is_empty() => cause,
        text if text.contains(&cause) => text,
        text => format!("{text}: {cause}"),
    })
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let home = Home::new(cli.dir.map_or_else(default_dir, Ok)?);
    match cli.command {
        Commands::Up(options) => stay_up(home, &options).await,
        Commands::Down => Ok(up::down(&home).await?),
        Commands::Env => env(&home).await,
        Commands::Fault { fault } => faults(&home, fault).await,
        Commands::Calls(options) => calls(&home, &options).await,
        Commands::Exec { instance, argv } => exec(&home, &instance, &argv),
        Commands::RoleCredentials { instance, duration_seconds } => {
            role_credentials(&home, instance, duration_seconds).await
        }
        Commands::Machines { json } => machines(&home, json).await,
    }
}

async fn stay_up(home: Home, options: &Options) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let started = tokio::select! {
        started = Up::start(home.clone(), options) => Some(started),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    let Some(up) = started else { return Ok(up::sweep(&home).await?) };
    let up = up?;
    print(&format!("drover-local is ready: EC2 {}, S3 {}\n", up.endpoints.ec2, up.endpoints.s3))?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = up.ended() => {}
    }
    Ok(up.end().await?)
}

async fn env(home: &Home) -> anyhow::Result<()> {
    let at = endpoints(home).await?;
    let own = [("AWS_ACCESS_KEY_ID", at.access_key.as_str()), ("AWS_SECRET_ACCESS_KEY", &at.secret_key)];
    print_exports(home, &at, &own)
}

async fn role_credentials(home: &Home, instance: String, seconds: Option<u32>) -> anyhow::Result<()> {
    let at = endpoints(home).await?;
    let Told::RoleCredentials(session) = ask(home, &Ask::RoleCredentials { instance, seconds }).await? else {
        bail!("the running drover-local answered something else");
    };
    let own = [
        ("AWS_ACCESS_KEY_ID", session.access_key_id.as_str()),
        ("AWS_SECRET_ACCESS_KEY", &session.secret_access_key),
        ("AWS_SESSION_TOKEN", &session.token),
        ("AWS_CREDENTIAL_EXPIRATION", &session.expiration),
    ];
    print_exports(home, &at, &own)
}

async fn endpoints(home: &Home) -> anyhow::Result<Endpoints> {
    match ask(home, &Ask::Endpoints).await? {
        Told::Endpoints(at) => Ok(at),
        _ => bail!("the running drover-local answered something else"),
    }
}

fn print_exports(home: &Home, at: &Endpoints, credentials: &[(&str, &str)]) -> anyhow::Result<()> {
    let dir = home.dir().canonicalize().with_context(|| format!("cannot find {}", home.dir().display()))?;
    let place = [
        ("DROVER_LOCAL_DIR", dir.to_str().context("the directory's name is not text")?),
        ("AWS_ENDPOINT_URL_EC2", &at.ec2),
        ("AWS_ENDPOINT_URL_S3", &at.s3),
        // At the port of EC2, which tells them apart by what they ask.
        ("AWS_ENDPOINT_URL_SERVICE_QUOTAS", &at.ec2),
        ("AWS_REGION", &at.region),
        ("AWS_DEFAULT_REGION", &at.region),
        ("DROVER_BUCKET", &at.bucket),
    ];
    // A session token or a profile of the surrounding shell would be used instead of these, or beside them.
    let unset = "unset AWS_SESSION_TOKEN AWS_SECURITY_TOKEN AWS_CREDENTIAL_EXPIRATION AWS_PROFILE AWS_DEFAULT_PROFILE AWS_ENDPOINT_URL\n".to_owned();
    let exports = place.iter().chain(credentials);
    print(&exports.fold(unset, |text, (name, value)| format!("{text}export {name}={}\n", quoted(value))))
}

/// One word of a shell, whatever is in it.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

async fn faults(home: &Home, command: FaultCommand) -> anyhow::Result<()> {
    let question = match command {
        FaultCommand::Set(fault) => Ask::Set(fault),
        FaultCommand::Clear { fault: Some(fault) } => Ask::Clear(fault),
        FaultCommand::Clear { fault: None } => Ask::ClearAll,
        FaultCommand::List => Ask::Faults,
    };
    match ask(home, &question).await? {
        Told::Done => Ok(()),
        Told::Faults(faults) => faults.iter().try_for_each(|fault| print(&format!("{fault}\n"))),
        _ => bail!("the running drover-local answered something else"),
    }
}

async fn calls(home: &Home, options: &CallsOptions) -> anyhow::Result<()> {
    let Told::Calls(Since { calls, dropped }) = ask(home, &Ask::Calls { since: options.since.unwrap_or(0) }).await?
    else {
        bail!("the running drover-local answered something else");
    };
    match options.since {
        Some(since) if dropped > 0 => bail!("{dropped} calls after number {since} are not kept any more"),
        Some(_) => {}
        None if dropped > 0 => eprintln!("{dropped} older calls are not kept any more"),
        None => {}
    }
    for call in calls.iter().filter(|call| call.mutating || !options.mutating) {
        print(&if options.json { format!("{}\n", serde_json::to_string(call)?) } else { call_line(call) })?;
    }
    Ok(())
}

fn call_line(call: &Call) -> String {
    let at = jiff::Timestamp::from_millisecond(call.at_ms).map(|at| at.strftime("%H:%M:%S%.3f").to_string());
    let outcome = match (&call.error, call.reply_lost) {
        (Some(error), _) if call.changed => &format!("{error}, applied in part"),
        (Some(error), _) => error.as_str(),
        (None, true) => "applied, reply lost",
        (None, false) => "ok",
    };
    let at = at.unwrap_or_default();
    format!("{:>6} {at} {:<13} {:<32} {outcome:<28} {}\n", call.seq, call.service, call.action, call.target)
}

/// Replaces this process by the command, so that its terminal, its signals and its exit code are the command's own.
fn exec(home: &Home, instance: &str, argv: &[String]) -> anyhow::Result<()> {
    let entrance = machine::entrance_to(&home.machines(), &drover_api::InstanceId::new(instance)?)?;
    let words: Vec<&String> = entrance.iter().chain(argv).collect();
    let (program, arguments) = words.split_first().context("there is no command")?;
    Err(Command::new(program).args(arguments).exec()).with_context(|| format!("cannot run {program}"))
}

async fn machines(home: &Home, json: bool) -> anyhow::Result<()> {
    let Told::Machines(machines) = ask(home, &Ask::Machines).await? else {
        bail!("the running drover-local answered something else");
    };
    for machine in &machines {
        print(&if json { format!("{}\n", serde_json::to_string(machine)?) } else { machine_line(machine) })?;
    }
    Ok(())
}

fn machine_line(machine: &MachineLine) -> String {
    let state = if machine.host_lost { format!("{} (host lost)", machine.state) } else { machine.state.clone() };
    let volumes = machine.volumes.join(" ");
    format!(
        "{:<20} {state:<20} {:<10} {:<15} {:<24} {volumes}\n",
        machine.id, machine.zone, machine.address, machine.name
    )
}

async fn ask(home: &Home, question: &Ask) -> anyhow::Result<Told> {
    let socket = home.socket();
    let told = tokio::time::timeout(ASK_TIMEOUT, control::ask(&socket, question)).await;
    match told.context("the running drover-local did not answer in time")?? {
        Told::Refused(why) => bail!(why),
        told => Ok(told),
    }
}

/// A reader that closed its end (`| head`) ends the command without a panic.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to the standard output")
}

#[expect(clippy::disallowed_methods, reason = "the edge: the binary's main reads the environment")]
fn default_dir() -> anyhow::Result<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Ok("/var/lib/drover-local".into());
    }
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let state = state.or_else(home).context("there is no home directory: name one with --dir")?;
    Ok(state.join("drover-local"))
}

#[expect(clippy::disallowed_methods, reason = "the edge: the binary's main reads the environment")]
fn log_filter() -> String {
    std::env::var("RUST_LOG").unwrap_or_else(|_| "warn,drover_local=info,s3s=off,s3s_fs=off".into())
}

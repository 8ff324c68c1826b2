//! The binary `drover`: arguments and wiring, nothing else.

mod cloud;
mod commands;
mod settings;
mod words;

use std::{ffi::OsString, io::IsTerminal, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::commands::{agent, credentials, delete, mysql, plan, run, status};

/// MySQL replica sets on plain EC2 machines, kept the way their manifests say.
///
/// Credentials and Region come from where every AWS tool finds them: environment, profile, instance role.
#[derive(Debug, Parser)]
#[command(name = "drover", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// What is logged, such as `info` or `drover_control=debug`; `run` and `agent` log at `info`, the others at `warn`.
    #[arg(long, global = true, env = "DROVER_LOG")]
    log: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the operator: keeps what a directory of manifests declares, until SIGTERM or SIGINT.
    Run(run::Arguments),
    /// Runs on every machine of a set, started by its user data.
    Agent(agent::Arguments),
    /// Says what `run` would do now, and changes nothing. Ends with 0 for nothing, 2 for changes, 1 where it cannot be told or
    /// a person is waited for.
    Plan(plan::Arguments),
    /// Says how the sets are: a verdict, the members, and what is awaited.
    Status(status::Arguments),
    /// Ends a set for good: its machines and its data. A manifest must not declare it any more.
    Delete(delete::Arguments),
    /// Opens a MySQL prompt on a set's primary, or on a replica.
    Mysql(mysql::Arguments),
    /// Says how an application connects as a user that a manifest declares: host, database, password. What it prints is secret.
    Credentials(credentials::Arguments),
    /// Prints the custom resource definition.
    Crd,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let default = match cli.command {
        Command::Run(_) | Command::Agent(_) => "info",
        _ => "warn",
    };
    let filter = cli.log.unwrap_or_else(|| default.to_owned());
    let filter = match EnvFilter::try_new(&filter) {
        Ok(filter) => filter,
        Err(error) => return told(&anyhow::anyhow!("--log {filter:?} is not understood: {error}")),
    };
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    // Two crates here could bring a provider; the first to say so wins, and it is always this one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return told(&anyhow::anyhow!("cannot start: {error}")),
    };
    match runtime.block_on(dispatch(cli.command)) {
        Ok(code) => code,
        Err(error) => told(&error),
    }
}

async fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(arguments) => run::run(arguments).await,
        Command::Agent(arguments) => agent::run(arguments, own_arguments()).await,
        Command::Plan(arguments) => plan::run(arguments).await,
        Command::Status(arguments) => status::run(arguments).await,
        Command::Delete(arguments) => delete::run(arguments).await,
        Command::Mysql(arguments) => mysql::run(arguments).await,
        Command::Credentials(arguments) => credentials::run(arguments).await,
        Command::Crd => {
            print!("{}", drover_api::crd::yaml()?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A new build of the agent is started with the same arguments.
fn own_arguments() -> Vec<OsString> {
    std::env::args_os().skip(1).collect()
}

fn told(error: &anyhow::Error) -> ExitCode {
    eprintln!("drover: {}", words::sentence(error));
    ExitCode::FAILURE
}

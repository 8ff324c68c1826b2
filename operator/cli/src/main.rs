//! The binary `drover`: arguments and wiring, nothing else.

#![deny(clippy::print_stdout, reason = "`out` knows what to do where nobody reads")]

mod cloud;
mod cluster;
mod commands;
mod out;
mod settings;
mod words;

use std::{ffi::OsString, io::IsTerminal, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::commands::{agent, credentials, delete, doctor, iam_policy, mysql, plan, ready, request, run, status};

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

    /// How a line of the log is written: for people, or as one JSON object.
    #[arg(long, global = true, env = "DROVER_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
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
    /// Has Drover keep its hands off machines of a set.
    Hold(request::Slots),
    /// Gives held machines back to Drover.
    Release(request::Slots),
    /// Restarts mysqld in order, on one machine after another, the primary's last.
    Restart(request::AnySlots),
    /// Drops users that no manifest declares any more, and their connections.
    DropUser(request::Names),
    /// Drops databases that no manifest declares any more, with everything in them.
    DropDatabase(request::Names),
    /// Opens a MySQL prompt on a set's primary, or on a replica.
    Mysql(mysql::Arguments),
    /// Looks at what an installation needs, and says what to do where it is not there. Ends with 1 where something fails.
    Doctor(doctor::Arguments),
    /// Prints a policy for AWS: what the operator may, what machines may, what others are denied, who may take a role on.
    IamPolicy(iam_policy::Arguments),
    /// Says how an application connects as a user that a manifest declares: host, database, password. What it prints is secret.
    Credentials(credentials::Arguments),
    /// Asks an operator that answers probes whether it is ready, and says what it waits for.
    Ready(ready::Arguments),
    /// Prints the custom resource definition.
    Crd,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let is_service = matches!(cli.command, Command::Run(_) | Command::Agent(_));
    let filter = cli.log.unwrap_or_else(|| if is_service { "info" } else { "warn" }.to_owned());
    let filter = match EnvFilter::try_new(&filter) {
        Ok(filter) => filter,
        Err(error) => return told(&anyhow::anyhow!("--log {filter:?} is not understood: {error}")),
    };
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let format = cli.log_format;
    match format {
        LogFormat::Text => log.with_ansi(colours).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    // Two crates here could bring a provider; the first to say so wins, and it is always this one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return told(&anyhow::anyhow!("cannot start: {error}")),
    };
    match runtime.block_on(dispatch(cli.command)) {
        Ok(code) => code,
        Err(error) => match format {
            // A line of the log like any other, for whoever collects them. Other commands are read by who called them.
            LogFormat::Json if is_service => {
                tracing::error!("{}", words::sentence(&error));
                ExitCode::FAILURE
            }
            LogFormat::Json | LogFormat::Text => told(&error),
        },
    }
}

async fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(arguments) => run::run(arguments).await,
        Command::Agent(arguments) => agent::run(arguments, own_arguments()).await,
        Command::Plan(arguments) => plan::run(arguments).await,
        Command::Status(arguments) => status::run(arguments).await,
        Command::Delete(arguments) => delete::run(arguments).await,
        Command::Hold(arguments) => request::of_slots("hold", arguments).await,
        Command::Release(arguments) => request::of_slots("release", arguments).await,
        Command::Restart(arguments) => request::of_any_slots("restart", arguments).await,
        Command::DropUser(arguments) => request::of_names("drop-user", arguments).await,
        Command::DropDatabase(arguments) => request::of_names("drop-database", arguments).await,
        Command::Mysql(arguments) => mysql::run(arguments).await,
        Command::Doctor(arguments) => doctor::run(arguments).await,
        Command::IamPolicy(arguments) => iam_policy::run(arguments).await,
        Command::Credentials(arguments) => credentials::run(arguments).await,
        Command::Ready(arguments) => ready::run(arguments).await,
        Command::Crd => {
            out::print(drover_api::crd::yaml()?)?;
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_of_every_command_fit_together() {
        Cli::command().debug_assert();
    }
}

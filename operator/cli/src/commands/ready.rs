//! `drover ready`: what a probe would hear, for where nothing else speaks HTTP, such as the operator's own image.

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;
use drover_control::health;

use crate::out;

#[derive(Debug, Args)]
pub struct Arguments {
    /// The operator's host or address.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// The port of its --listen.
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { host, port } = arguments;
    let (is_ready, said) = health::ask(&host, port).await.map_err(|why| {
        anyhow!(
            "nobody answers at {host} port {port}: {why}: say what --listen of `drover run` says; behind a Service no operator is \
             ready: `/drover ready` in its Pod says what it waits for"
        )
    })?;
    out::print(said)?;
    Ok(if is_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

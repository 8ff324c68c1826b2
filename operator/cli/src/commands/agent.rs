//! `drover agent`.

use std::{ffi::OsString, process::ExitCode};

use clap::Args;
use drover_api::Realm;
use drover_aws::Options;

#[derive(Debug, Args)]
pub struct Arguments {
    #[arg(long)]
    realm: String,
    #[arg(long)]
    bucket: String,
    #[arg(long)]
    region: String,
    /// The installation's part of the bucket; empty, or ending with `/`.
    #[arg(long, default_value = "")]
    prefix: String,
    /// Instead of Amazon's own.
    #[arg(long)]
    s3_endpoint: Option<String>,
}

pub async fn run(arguments: Arguments, own: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let Arguments { realm, bucket, region, prefix, s3_endpoint } = arguments;
    let options = Options { region: Some(region), endpoint: s3_endpoint, ..Options::default() };
    let aws = drover_aws::connect(&options).await?;
    let config = drover_agent::Config {
        realm: Realm::new(realm)?,
        prefix,
        imds: drover_agent::identity::IMDS.to_owned(),
        paths: drover_agent::Paths::default(),
        arguments: own,
    };
    drover_agent::run(config, aws.bucket(&bucket)).await?;
    Ok(ExitCode::SUCCESS)
}

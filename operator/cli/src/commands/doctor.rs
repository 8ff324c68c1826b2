//! `drover doctor`.

use std::{
    io, iter,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use clap::Args;
use drover_api::bucket::RealmKeys;
use drover_control::{
    directory::Directory,
    doctor::{self, Context, Finding, Level, Section},
    edge::SystemEntropy,
    watching,
};

use crate::{
    cloud, cluster,
    commands::run::{AgentsBeside, architecture, machines_user_data, must_be_directory},
    out,
    settings::{Installation, Settings},
};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    installation: Installation,
    /// A directory of manifests: what its sets are launched with is looked at, and not what the configuration says for all.
    #[arg(long, env = "DROVER_MANIFESTS")]
    manifests: Option<PathBuf>,
    /// Looks at the API server too: that of the Pod's own cluster, or of the kubeconfig's current context.
    #[arg(long, env = "DROVER_KUBERNETES")]
    kubernetes: bool,
    #[command(flatten)]
    agents: AgentsBeside,
    /// JSON, for programs: a list of objects with `level` (ok, warn, fail), `name`, `found` and, where there is something to do,
    /// `do`.
    #[arg(long)]
    json: bool,
}

/// Told one by one, or kept until the end.
struct Told {
    json: bool,
    findings: Vec<Finding>,
    unwritten: Option<io::Error>,
}

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let settings = arguments.installation.settings()?;
    let mut told = Told { json: arguments.json, findings: Vec::new(), unwritten: None };
    let sections = match arguments.manifests.as_deref() {
        Some(directory) => of_manifests(directory, &settings, &mut told)?,
        None => vec![doctor::of_defaults(&settings.terms.defaults)],
    };
    if arguments.kubernetes {
        match cluster::client_once().await {
            Ok(client) => doctor::cluster(&client).await.iter().for_each(|finding| told.tell(finding)),
            Err(error) => told.tell(&Finding::fail("API server", format!("{error:#}"), "name one with KUBECONFIG")),
        }
    }
    let beside = arguments.agents.binaries()?.into_iter().map(|binary| binary.architecture);
    let architectures = iter::once(architecture().to_owned()).chain(beside).collect();
    match cloud::begin(&settings, None).await {
        Ok((aws, cloud)) => {
            let context = Context {
                cloud,
                entropy: Arc::new(SystemEntropy::default()),
                realm: settings.realm.clone(),
                keys: RealmKeys::new(&settings.prefix, &settings.realm),
                bucket: settings.bucket.clone(),
                region: aws.region().to_owned(),
                user_data: machines_user_data(&settings, &aws),
                architectures,
                sections,
                machines_max: settings.machines_max,
            };
            doctor::examine(&context, |finding| told.tell(finding)).await;
        }
        Err(error) => told.tell(&Finding::failed("credentials", &error, "set AWS_REGION, or --region")),
    }
    told.end()
}

/// What a directory's sets are launched with; what it says that makes no set is a finding of its own.
fn of_manifests(directory: &Path, settings: &Settings, told: &mut Told) -> anyhow::Result<Vec<Section>> {
    must_be_directory(directory)?;
    let mut declared = Directory::default();
    declared.absorb(watching::scan(directory)?);
    let problems = declared.problems();
    for problem in &problems {
        told.tell(&Finding::fail("manifests", problem, "mend the line: nothing of it is acted on before"));
    }
    let intents = declared.intents(&settings.terms);
    let mut sets = Vec::new();
    for (key, intent) in &intents {
        match &intent.set {
            Ok(set) => sets.push(set),
            Err(error) => {
                let place = "see crds/samples/production.yaml for every field of a manifest, drover.yaml for the configuration's";
                told.tell(&Finding::fail(format!("manifest of {key}"), error.to_string(), place));
            }
        }
    }
    if problems.is_empty() && sets.len() == intents.len() {
        told.tell(&Finding::ok("manifests", format!("{} sets in {}", sets.len(), directory.display())));
    }
    Ok(doctor::of_sets(sets))
}

// === impl Told ===

impl Told {
    fn tell(&mut self, finding: &Finding) {
        if !self.json {
            self.unwritten = out::print(line(finding)).err().or(self.unwritten.take());
        }
        self.findings.push(finding.clone());
    }

    fn end(self) -> anyhow::Result<ExitCode> {
        if self.json {
            out::println(serde_json::to_string_pretty(&self.findings)?)?;
        }
        if let Some(error) = self.unwritten {
            return Err(error.into());
        }
        let has_failed = self.findings.iter().any(|finding| finding.level == Level::Fail);
        Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// A finding as a person reads it.
fn line(Finding { level, name, found, remedy }: &Finding) -> String {
    let remedy = remedy.as_ref().map(|remedy| format!("      do: {remedy}\n")).unwrap_or_default();
    format!("{level:<4}  {name}: {found}\n{remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_and_what_to_do_one_below_it() {
        assert_eq!(line(&Finding::ok("clock", "they agree")), "ok    clock: they agree\n");
        let fail = line(&Finding::fail("bucket", "there is none", "make it"));
        assert_eq!(fail, "FAIL  bucket: there is none\n      do: make it\n");
        assert_eq!(line(&Finding::warn("a", "b", "c")), "warn  a: b\n      do: c\n");
    }

    #[test]
    fn programs_read_the_same() {
        let json = serde_json::to_value([Finding::fail("a", "b", "c"), Finding::ok("d", "e")]).expect("JSON");
        let expected = serde_json::json!([
            { "level": "fail", "name": "a", "found": "b", "do": "c" },
            { "level": "ok", "name": "d", "found": "e" },
        ]);
        assert_eq!(json, expected);
    }
}

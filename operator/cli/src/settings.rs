//! What an installation is told: a file, flags and the environment, parsed once and passed down. A flag counts before the
//! environment, and that before the file.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use drover_api::{
    Namespace, Realm, ResourceKey, ResourceName,
    config::{self, Config},
    defaults::Terms,
};

/// Which installation.
#[derive(Clone, Debug, Args)]
pub struct Installation {
    /// A YAML file with `realm`, `bucket`, `prefix`, `region`, `leaseSeconds` (9 to 600; after that time without a sign of it
    /// another operator takes over; 30 where left out), `defaults.machine` (in the shape of a manifest's `spec.machine`), `allow`
    /// (by namespace, or `*`: `instanceProfiles` and `subnets` that its sets may use) and `limits.maxMachines`.
    #[arg(long, env = "DROVER_CONFIG")]
    pub config: Option<PathBuf>,
    /// The installation: everything it makes is tagged with this name.
    #[arg(long, env = "DROVER_REALM")]
    pub realm: Option<String>,
    /// The S3 bucket of the records.
    #[arg(long, env = "DROVER_BUCKET")]
    pub bucket: Option<String>,
    /// The installation's part of the bucket; empty, or ending with `/`.
    #[arg(long, env = "DROVER_PREFIX")]
    pub prefix: Option<String>,
    /// The AWS Region, where it is not found as every AWS tool finds it.
    #[arg(long, env = "DROVER_REGION")]
    pub region: Option<String>,
    /// Where the running operator's socket is; nothing else is kept there.
    #[arg(long, env = "DROVER_STATE", default_value = "/run/drover")]
    pub state: PathBuf,
}

/// Where passwords are that manifests name.
#[derive(Clone, Debug, Default, Args)]
pub struct Secrets {
    /// A directory of passwords, as Secrets look that are mounted: the file NAMESPACE/NAME/KEY in it is key KEY of Secret NAME.
    #[arg(long, env = "DROVER_SECRETS")]
    pub secrets: Option<PathBuf>,
}

/// Which set.
#[derive(Clone, Debug, Args)]
pub struct Named {
    /// The set's name.
    pub name: String,
    #[arg(long, short, default_value = "default")]
    pub namespace: String,
}

/// Everything about an installation.
#[derive(Clone, Debug)]
pub struct Settings {
    pub realm: Realm,
    pub bucket: String,
    pub prefix: String,
    pub region: Option<String>,
    pub terms: Terms,
    pub machines_max: Option<u32>,
    pub lease: Duration,
}

/// Long enough for three tries to renew it, each with its deadline; short enough that a dead operator is missed for half a
/// minute.
const LEASE: Duration = Duration::from_secs(30);
// === impl Installation ===

impl Installation {
    /// Reads the file and puts everything together.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        self.settings_with(None)
    }

    /// The same, with a realm for where none is given: that of the operator that answered.
    pub fn settings_with(&self, known: Option<&Realm>) -> anyhow::Result<Settings> {
        let file = self.config.as_deref().map(read).transpose()?.unwrap_or_default();
        for (flag, value, refuse) in [
            ("--realm", &self.realm, config::refuse_realm as fn(&str) -> Option<String>),
            ("--bucket", &self.bucket, config::refuse_bucket),
            ("--prefix", &self.prefix, config::refuse_prefix),
        ] {
            if let Some(mistake) = value.as_deref().and_then(refuse) {
                bail!("{flag}, or its environment variable: {mistake}");
            }
        }
        let realm = match self.realm.clone().or(file.realm) {
            Some(realm) => Realm::new(realm)?,
            None => known.cloned().context(
                "no realm: name this installation with --realm, DROVER_REALM, or `realm:` in the file of --config",
            )?,
        };
        let bucket = self.bucket.clone().or(file.bucket).context(
            "no bucket: name the S3 bucket of the records with --bucket, DROVER_BUCKET, or `bucket:` in the file of --config",
        )?;
        let prefix = self.prefix.clone().or(file.prefix).unwrap_or_default();
        let lease = file.lease_seconds.map_or(LEASE, |seconds| Duration::from_secs(seconds.into()));
        let region = self.region.clone().or(file.region);
        let terms = Terms { defaults: file.defaults, allow: file.allow };
        Ok(Settings { realm, bucket, prefix, region, terms, machines_max: file.limits.max_machines, lease })
    }
}

fn read(path: &Path) -> anyhow::Result<Config> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration {file}: give a file with --config"))?;
    config::parse(&file, &text).map_err(|mistakes| {
        let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        anyhow!("the configuration is not understood:\n{}", lines.join("\n"))
    })
}

// === impl Secrets ===

impl Secrets {
    /// The directory, where one is named: one that is not there is a mistake, and not a hundred missing passwords.
    pub fn directory(&self) -> anyhow::Result<Option<PathBuf>> {
        let Some(path) = &self.secrets else { return Ok(None) };
        let found = std::fs::metadata(path).with_context(|| format!("cannot read {}", path.display()));
        match found.context("give the directory of the passwords with --secrets")?.is_dir() {
            true => Ok(Some(path.clone())),
            false => {
                bail!("{} is not a directory: give the directory of the passwords with --secrets", path.display())
            }
        }
    }
}

// === impl Named ===

impl Named {
    pub fn key(&self) -> anyhow::Result<ResourceKey> {
        Ok(ResourceKey {
            namespace: Namespace::new(self.namespace.as_str())?,
            name: ResourceName::new(self.name.as_str())?,
        })
    }
}

// === impl Settings ===

impl Settings {
    /// The longest that a call takes: the lease leaves time for two more after one that failed.
    pub fn deadline(&self) -> Duration {
        self.lease / 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation(realm: Option<&str>, bucket: Option<&str>, config: Option<PathBuf>) -> Installation {
        Installation {
            config,
            realm: realm.map(Into::into),
            bucket: bucket.map(Into::into),
            prefix: None,
            region: None,
            state: PathBuf::new(),
        }
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("drover.yaml");
        std::fs::write(&path, text).expect("a file");
        (directory, path)
    }

    fn mistake(installation: &Installation) -> String {
        format!("{:#}", installation.settings().expect_err("a mistake"))
    }

    #[test]
    fn the_help_names_every_field_and_the_bounds_of_the_lease() {
        use clap::CommandFactory;
        let command = crate::Cli::command();
        let run = command.find_subcommand("run").expect("a command");
        let config = run.get_arguments().find(|argument| argument.get_id() == "config").expect("a flag");
        let help = config.get_help().expect("help").to_string();
        let bounds = format!("`leaseSeconds` ({} to {};", config::LEASE_SECONDS_MIN, config::LEASE_SECONDS_MAX);
        let lease = format!("; {} where left out)", LEASE.as_secs());
        for said in [
            "`realm`",
            "`bucket`",
            "`prefix`",
            "`region`",
            "`defaults.machine`",
            "`allow`",
            "`limits.maxMachines`",
            bounds.as_str(),
            lease.as_str(),
        ] {
            assert!(help.contains(said), "{help:?} does not say {said:?}");
        }
    }

    #[test]
    fn a_flag_counts_before_the_file() {
        let text = "realm: prod\nbucket: records\ndefaults:\n  machine:\n    instanceProfile: db\n";
        let (_directory, path) = file(text);
        let settings = installation(Some("test"), None, Some(path)).settings().expect("settings");
        assert_eq!((settings.realm.as_str(), settings.bucket.as_str()), ("test", "records"));
        assert_eq!(settings.terms.defaults.machine.instance_profile.as_deref(), Some("db"));
        assert_eq!(settings.deadline(), Duration::from_secs(10));
    }

    #[test]
    fn every_mistake_says_what_to_do() {
        let (_directory, unknown) = file("realm: prod\nbuckets: records\n");
        let cases = [
            (installation(None, Some("records"), None), "--realm"),
            (installation(Some("Prod"), Some("records"), None), "--realm, or its environment variable: realm \"Prod\""),
            (installation(Some("prod"), None, None), "--bucket"),
            (installation(Some("prod"), Some("My_Bucket"), None), "3 to 63"),
            (installation(None, None, Some("/nowhere/drover.yaml".into())), "--config"),
            (installation(None, None, Some(unknown)), "drover.yaml:2:1: buckets is not a field"),
            (installation(Some("a"), Some("records"), Some("/".into())), "cannot read the configuration /"),
        ];
        for (installation, expected) in cases {
            let mistake = mistake(&installation);
            assert!(mistake.contains(expected), "{mistake:?} does not say {expected:?}");
        }
    }
}

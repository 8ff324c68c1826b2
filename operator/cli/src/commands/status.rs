//! `drover status`.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;
use drover_api::{Namespace, Realm, ResourceKey, ResourceName};
use drover_control::{
    Clock, Operator, Snapshot, edge::SystemClock, live::AskedAgents, snapshot::Lock, socket, watching,
};

use crate::{
    cloud::{self, Cloud},
    commands::run::{looking, must_be_directory},
    out,
    settings::{Installation, Secrets},
    words,
};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    installation: Installation,
    /// Only this set, also with --json.
    name: Option<String>,
    #[arg(long, short, default_value = "default")]
    namespace: String,
    /// Shows it again and again, until Ctrl-C.
    #[arg(long, short)]
    watch: bool,
    /// JSON, for programs.
    #[arg(long)]
    json: bool,
    /// Where no operator has looked: a directory of manifests, so that it is said which sets are declared and which are not.
    #[arg(long, env = "DROVER_MANIFESTS")]
    manifests: Option<PathBuf>,
    #[command(flatten)]
    secrets: Secrets,
}

/// Asks the running operator, and looks itself where none answers or the one that does has not looked.
pub struct Looking<'a> {
    installation: &'a Installation,
    manifests: Option<&'a Path>,
    secrets: &'a Secrets,
    own: Option<Box<Operator<Cloud, AskedAgents>>>,
}

/// What is known now.
pub struct Look {
    pub snapshot: Snapshot,
    /// Who says it, and why nobody says more: lines, the first is the operator's own state.
    pub by: String,
}

/// Between two looks of `-w`. Without an operator each costs a handful of calls.
const AGAIN: Duration = Duration::from_secs(2);

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let only = arguments.name.as_deref().map(|name| {
        let key =
            ResourceKey { namespace: Namespace::new(arguments.namespace.as_str())?, name: ResourceName::new(name)? };
        Ok::<_, drover_api::InvalidName>(key)
    });
    let only = only.transpose()?;
    let mut looking = Looking::new(&arguments.installation, arguments.manifests.as_deref(), &arguments.secrets);
    loop {
        let Look { snapshot, by } = looking.look().await?;
        let is_answered = words::answers(&snapshot, only.as_ref());
        let text = if arguments.json {
            format!("{}\n", serde_json::to_string_pretty(&words::narrowed(snapshot, only.as_ref()))?)
        } else {
            in_order(&snapshot, &by, &words::status(&snapshot, only.as_ref(), SystemClock.now()))
        };
        let is_read = show(&text, arguments.watch && !arguments.json)?;
        if !arguments.watch {
            if arguments.json && !is_answered {
                eprint!("{by}");
            }
            return Ok(if is_answered { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        if !is_read {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
            () = pause(AGAIN) => {}
        }
    }
}

impl<'a> Looking<'a> {
    pub fn new(installation: &'a Installation, manifests: Option<&'a Path>, secrets: &'a Secrets) -> Self {
        Self { installation, manifests, secrets, own: None }
    }

    /// An error where no operator answers and nothing can be looked at from here.
    pub async fn look(&mut self) -> anyhow::Result<Look> {
        let path = socket::path(&self.installation.state);
        match socket::ask_status(&path).await {
            Ok(asked) if asked.looked => {
                let age = words::age(&asked, SystemClock.now());
                Ok(Look { by: format!("{} ({}), {age}\n", words::lock(&asked), path.display()), snapshot: asked })
            }
            Ok(asked) => {
                let own = self.look_itself(Some(&asked.realm)).await;
                Ok(instead(asked, &path, own))
            }
            Err(silent) => {
                let by = format!("{silent}: this is what cloud, bucket and agents say\n");
                Ok(Look { snapshot: self.look_itself(None).await?, by })
            }
        }
    }

    /// `known` is the realm of the operator that answered.
    async fn look_itself(&mut self, known: Option<&Realm>) -> anyhow::Result<Snapshot> {
        if self.own.is_none() {
            self.own = Some(Box::new(self.connect(known).await?));
        }
        let operator = self.own.as_mut().context("it was just made")?;
        Ok(operator.look().await.2.as_ref().clone())
    }

    async fn connect(&self, known: Option<&Realm>) -> anyhow::Result<Operator<Cloud, AskedAgents>> {
        let settings = self.installation.settings_with(known)?;
        if let Some(theirs) = known.filter(|theirs| **theirs != settings.realm) {
            bail!("that operator's realm is {theirs}, and the one that is named here is {}", settings.realm);
        }
        let scan = match self.manifests {
            Some(directory) => {
                must_be_directory(directory)?;
                Some(watching::scan(directory)?)
            }
            None => None,
        };
        let secrets = self.secrets.directory()?;
        let (aws, cloud) = cloud::connect(&settings).await?;
        let agents = Arc::new(AskedAgents::new(Arc::new(SystemClock)));
        Ok(looking(&settings, &aws, cloud, agents, scan, secrets.as_deref()).await)
    }
}

/// How the sets are comes first, and who says so last. Where nobody acts that is said first, for nothing else will change.
fn in_order(snapshot: &Snapshot, by: &str, sets: &str) -> String {
    let is_acting = snapshot.lock.ours && snapshot.lock.error.is_none();
    if is_acting { format!("{}\n\n{by}", sets.trim_end()) } else { format!("{by}\n{sets}") }
}

/// What is known where the operator that answered has not looked: what a look from here found, or nothing, and why.
fn instead(asked: Snapshot, path: &Path, own: anyhow::Result<Snapshot>) -> Look {
    let why = if asked.waiting.is_empty() { String::new() } else { format!(" ({})", asked.waiting.join("; ")) };
    let operator = format!("{} ({})\nit has not looked{why}", words::lock(&asked), path.display());
    match own {
        Ok(own) => {
            let problems = if own.problems.is_empty() { asked.problems } else { own.problems };
            // Who says this is not who holds the lock.
            let lock = Lock { ours: false, ..asked.lock };
            Look {
                by: format!("{operator}: this is what cloud, bucket and agents say to a look from here\n"),
                snapshot: Snapshot { lock, problems, ..own },
            }
        }
        Err(error) => Look {
            by: format!("{operator}, and a look from here fails: {}\n", words::sentence(&error)),
            snapshot: asked,
        },
    }
}

/// On a terminal a later look replaces the one before. False where nobody reads any more.
fn show(text: &str, replace: bool) -> std::io::Result<bool> {
    // Home, then clear to the end of the screen (ECMA-48: CUP, ED).
    let clear = if replace && std::io::stdout().is_terminal() { "\x1b[H\x1b[J" } else { "" };
    out::print(format_args!("{clear}{text}"))
}

#[expect(clippy::disallowed_methods, reason = "the pace of a screen that a person watches")]
pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an operator says that has not looked, because of its lock.
    fn not_looked(lock: Lock) -> Snapshot {
        Snapshot { lock, ..Snapshot::empty(Realm::new("r").expect("a realm")) }
    }

    fn stands_by() -> Snapshot {
        not_looked(Lock { holder: "other pid 7".into(), fence: 4, ours: false, error: None })
    }

    fn shown(look: &Look, only: Option<&ResourceKey>) -> String {
        format!("{}{}", look.by, words::status(&look.snapshot, only, SystemClock.now()))
    }

    #[test]
    fn how_the_sets_are_is_said_before_who_says_so_unless_nobody_acts() {
        let acting = not_looked(Lock { holder: "us".into(), fence: 1, ours: true, error: None });
        assert_eq!(in_order(&acting, "us acts\n", "shop is ready\n"), "shop is ready\n\nus acts\n");
        let away = not_looked(Lock { holder: "us".into(), fence: 1, ours: true, error: Some("no bucket".into()) });
        for nobody in [stands_by(), away] {
            assert_eq!(in_order(&nobody, "who\n", "shop\n"), "who\n\nshop\n");
        }
    }

    #[test]
    fn where_nobody_could_look_nothing_is_denied_and_both_reasons_are_told() {
        let key = ResourceKey { namespace: "default".parse().expect("valid"), name: "orders".parse().expect("valid") };
        let path = Path::new("/run/drover/drover.sock");
        let unreachable = Lock { error: Some("cannot read lock.json: no such bucket".into()), ..Lock::default() };
        for (asked, said) in [
            (stands_by(), "this operator does nothing: other pid 7 acts, fence 4 (/run/drover/drover.sock)\n"),
            (
                not_looked(unreachable),
                "no operator acts: cannot read lock.json: no such bucket (/run/drover/drover.sock)\n",
            ),
        ] {
            let look = instead(asked, path, Err(anyhow::anyhow!("no credentials")));
            for only in [None, Some(&key)] {
                let text = shown(&look, only);
                assert!(text.starts_with(said), "{text}");
                assert!(text.contains("it has not looked, and a look from here fails: no credentials\n"), "{text}");
                assert!(text.contains("nothing is known of "), "{text}");
                assert!(!text.contains("no sets") && !text.contains("no manifest"), "{text}");
                assert!(!words::answers(&look.snapshot, only));
            }
        }
    }

    #[test]
    fn a_look_from_here_takes_the_place_of_one_that_the_operator_has_not_made() {
        let own = Snapshot { looked: true, ..Snapshot::empty(Realm::new("r").expect("a realm")) };
        let look = instead(stands_by(), Path::new("/s"), Ok(own));
        assert_eq!(
            look.by,
            "this operator does nothing: other pid 7 acts, fence 4 (/s)\nit has not looked: this is what cloud, bucket and agents say to a look from here\n"
        );
        assert!(words::status(&look.snapshot, None, SystemClock.now()).starts_with("no sets: "));
        assert!(words::answers(&look.snapshot, None));
        assert_eq!((look.snapshot.lock.ours, look.snapshot.lock.fence), (false, 4));
    }

    #[test]
    fn why_an_operator_that_acts_has_not_looked_is_told() {
        let lock = Lock { holder: "us".into(), fence: 1, ours: true, error: None };
        let asked = Snapshot { waiting: vec!["BinaryUploading: first".into()], ..not_looked(lock) };
        let look = instead(asked, Path::new("/s"), Err(anyhow::anyhow!("x")));
        let said = "us acts, fence 1 (/s)\nit has not looked (BinaryUploading: first), and a look from here fails: x\n";
        assert_eq!(look.by, said);
    }
}

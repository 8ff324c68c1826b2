//! Ways into an API server: as somebody, with the programs that people use.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use anyhow::ensure;
use serde_json::{Value, json};

use super::{authority::Pair, tools};
use crate::{
    operator::Asked,
    pace::within,
    programs::{PATH, finish_alone, run, start},
};

/// A kubeconfig, and what goes by it.
#[derive(Clone, Debug)]
pub struct Access {
    pub kubeconfig: PathBuf,
    /// Where kubectl and helm keep what they remember: nobody's home.
    home: PathBuf,
    /// The directory of kubectl, helm and the like.
    pub tools: PathBuf,
}

/// An API server as its clients find it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub url: String,
    pub authority: PathBuf,
    pub tools: PathBuf,
}

/// What a client shows.
pub(super) enum Proof<'a> {
    Certificate(&'a Pair),
    Token(&'a str),
}

/// `kubectl wait` and `helm --wait` say themselves how long they wait; this is longer.
const COMMAND: Duration = Duration::from_secs(300);
const FORWARD: Duration = Duration::from_secs(30);

impl Access {
    /// Writes `<dir>/<name>.kubeconfig`.
    pub(super) fn write(place: &Place, dir: &Path, name: &str, proof: &Proof<'_>) -> anyhow::Result<Self> {
        let user = match proof {
            Proof::Certificate(pair) => json!({ "client-certificate": pair.certificate, "client-key": pair.key }),
            Proof::Token(token) => json!({ "token": token }),
        };
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "test", "cluster": { "server": place.url, "certificate-authority": place.authority } }],
            "users": [{ "name": name, "user": user }],
            "contexts": [{ "name": name, "context": { "cluster": "test", "user": name } }],
            "current-context": name,
        });
        let kubeconfig = dir.join(format!("{name}.kubeconfig"));
        let home = dir.join("home").join(name);
        fs::create_dir_all(&home)?;
        let mut file = fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(&kubeconfig)?;
        file.write_all(config.to_string().as_bytes())?;
        Ok(Self { kubeconfig, home, tools: place.tools.clone() })
    }

    /// By a kubeconfig that another wrote.
    pub fn of_another(kubeconfig: PathBuf) -> anyhow::Result<Self> {
        let home = kubeconfig.with_extension("home");
        fs::create_dir_all(&home)?;
        Ok(Self { kubeconfig, home, tools: tools::of_cluster()? })
    }

    /// `kubectl WORDS`, which must succeed; its standard output.
    pub fn kubectl(&self, words: &[&str]) -> anyhow::Result<String> {
        succeeded("kubectl", words, self.ask_kubectl(words, "")?)
    }

    /// `kubectl WORDS` with that standard input, whatever comes of it.
    pub fn ask_kubectl(&self, words: &[&str], input: &str) -> anyhow::Result<Asked> {
        self.ask("kubectl", words, input)
    }

    /// `kubectl apply -f -`
    pub fn apply(&self, yaml: &str) -> anyhow::Result<String> {
        let words = ["apply", "-f", "-"];
        succeeded("kubectl", &words, self.ask_kubectl(&words, yaml)?)
    }

    /// `kubectl get WORDS -o json`
    pub fn get_json(&self, words: &[&str]) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.kubectl(&[&["get"], words, &["-o", "json"]].concat())?)?)
    }

    /// `helm WORDS`, which must succeed; its standard output.
    pub fn helm(&self, words: &[&str]) -> anyhow::Result<String> {
        succeeded("helm", words, self.ask_helm(words)?)
    }

    /// `helm WORDS`, whatever comes of it.
    pub fn ask_helm(&self, words: &[&str]) -> anyhow::Result<Asked> {
        self.ask("helm", words, "")
    }

    /// A program of ours with this kubeconfig, which must succeed; what it says.
    pub fn run(&self, program: &Path, words: &[&str]) -> anyhow::Result<String> {
        let name = program.display().to_string();
        let output = finish_alone(&self.environment(), &[&[name.as_str()], words].concat(), COMMAND, "")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{name}: {}\n{said}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(said)
    }

    /// `kubectl WORDS`, which goes on beside the test.
    pub(super) fn begin_kubectl(&self, words: &[&str], log: &Path) -> anyhow::Result<Child> {
        let mut command = Command::new(self.tools.join("kubectl"));
        start(command.args(words).envs(self.environment()), "KILL", log)
    }

    /// What a Pod answers by HTTP, by way of the API server and kubelet.
    pub fn fetch(&self, namespace: &str, pod: &str, port: u16, path: &str) -> anyhow::Result<String> {
        let log = self.home.join("forward.log");
        // What an earlier one said is not this one's port.
        fs::write(&log, "")?;
        let words = ["port-forward", "--namespace", namespace, &format!("pod/{pod}"), &format!(":{port}")];
        let mut forward = self.begin_kubectl(&words, &log)?;
        let fetched = within(FORWARD, format!("{pod} is reached"), || {
            ensure!(forward.try_wait()?.is_none(), "{}", fs::read_to_string(&log)?);
            let said = fs::read_to_string(&log)?;
            let local = said.split_whitespace().find(|word| word.starts_with("127.0.0.1:")).map(str::to_owned);
            Ok(local.filter(|_| said.contains('\n')))
        })
        .and_then(|local| {
            run(&["curl", "-sS", "-m", "10", "--noproxy", "*", &format!("http://{local}{path}")], FORWARD)
        });
        forward.kill()?;
        forward.wait()?;
        fetched
    }

    fn environment(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("HOME", self.home.display().to_string()),
            ("KUBECONFIG", self.kubeconfig.display().to_string()),
            ("PATH", format!("{}:{PATH}", self.tools.display())),
        ])
    }

    fn ask(&self, program: &str, words: &[&str], input: &str) -> anyhow::Result<Asked> {
        let program = self.tools.join(program).display().to_string();
        let output = finish_alone(&self.environment(), &[&[program.as_str()], words].concat(), COMMAND, input)?;
        Ok(Asked {
            status: output.status,
            out: String::from_utf8(output.stdout)?,
            error: String::from_utf8(output.stderr)?,
        })
    }
}

fn succeeded(program: &str, words: &[&str], asked: Asked) -> anyhow::Result<String> {
    let (words, Asked { status, out, error }) = (words.join(" "), asked);
    ensure!(status.success(), "{program} {words} ended with {status}: {}", error.trim());
    Ok(out)
}

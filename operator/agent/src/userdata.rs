//! What a machine runs at its first boot: a small script that is the same on every machine of a realm, so that a new version of
//! the operator never makes a machine look drifted. It holds no secret: who the machine is and what it may read come from its
//! tags and its role.

use drover_api::{Realm, bucket::RealmKeys};

/// Where a realm's agent and bundles lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    pub bucket: String,
    /// The operator's part of the bucket: empty, or ending with `/`.
    pub prefix: String,
    pub region: String,
    pub realm: Realm,
    /// Instead of Amazon's own; always used with the bucket in the path.
    pub s3_endpoint: Option<String>,
}

/// EC2 takes 16,384 bytes; ours stays far below, so that a person can read it.
pub const USER_DATA_MAX: usize = 4096;

/// The script. It installs a unit and starts it; the unit fetches the agent, and systemd tries again until it has it.
pub fn user_data(boot: &Boot) -> String {
    let endpoint = boot.s3_endpoint.clone().unwrap_or_else(|| amazon(&boot.region));
    let current = RealmKeys::new(&boot.prefix, &boot.realm).current();
    let bin = current.as_str().trim_end_matches("/current");
    let mut arguments = vec!["--realm", boot.realm.as_str(), "--bucket", &boot.bucket, "--region", &boot.region];
    if !boot.prefix.is_empty() {
        arguments.extend(["--prefix", &boot.prefix]);
    }
    if let Some(endpoint) = &boot.s3_endpoint {
        arguments.extend(["--s3-endpoint", endpoint]);
    }
    let arguments: Vec<String> = arguments.into_iter().map(systemd_quote).collect();
    SCRIPT
        .replace("@BASE@", &shell_quote(&format!("{}/{}/{bin}", endpoint.trim_end_matches('/'), boot.bucket)))
        .replace("@REGION@", &shell_quote(&boot.region))
        .replace("@ARGUMENTS@", &arguments.join(" "))
}

/// Regions of China have a domain of their own (AWS documentation, "S3 endpoints").
fn amazon(region: &str) -> String {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    format!("https://s3.{region}.{domain}")
}

fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// For ExecStart (systemd.service(5), "Command lines").
fn systemd_quote(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{escaped}\"")
}

const SCRIPT: &str = r#"#!/bin/sh
# Drover: makes this machine a member. Constant for the realm; identity comes from the machine's tags.
set -eu
mkdir -p /opt/drover/bin /var/lib/drover
cat >/opt/drover/bootstrap <<'EOF'
#!/bin/sh
# Before every start of the agent: sends a build back that keeps ending, and fetches the first one, or one that is torn.
set -eu
cd /opt/drover/bin
if [ -e trial ]; then
  echo start >>trial
  if [ "$(wc -l <trial)" -gt 4 ]; then
    cp trial failed
    sync -f .
    ln -sfn "$(readlink previous)" back
    mv -T back current
    sync -f .
    rm trial
  fi
fi
# A power loss may have torn a file that was fetched: its directory's name is its hash.
if [ -e current ] && echo "$(basename "$(dirname "$(readlink current)")")  current" | sha256sum -c --quiet; then exit 0; fi
BASE=@BASE@
REGION=@REGION@
IMDS=http://169.254.169.254/latest
TOKEN=$(curl -sSf -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $IMDS/api/token)
meta() { curl -sSf -m 5 -H "X-aws-ec2-metadata-token: $TOKEN" "$IMDS/meta-data/iam/security-credentials/$1"; }
ROLE=$(meta '' | head -n 1)
CREDENTIALS=$(meta "$ROLE" | tr -d '\n')
field() { printf %s "$CREDENTIALS" | sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p"; }
# The key goes through a pipe: arguments are for everyone to see. EMPTY is the hash of no body, which S3 wants signed and older curls omit.
EMPTY=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
get() { printf 'user = "%s:%s"\nheader = "x-amz-security-token: %s"\nheader = "x-amz-content-sha256: %s"\n' "$(field AccessKeyId)" \
  "$(field SecretAccessKey)" "$(field Token)" $EMPTY | curl -sSf -m 150 -K - --aws-sigv4 "aws:amz:$REGION:s3" -o "$2" "$BASE/$1"; }
case $(uname -m) in aarch64) ARCH=arm64 ;; *) ARCH=$(uname -m) ;; esac
get current current.json
SHA=$(tr -d ' \n' <current.json | sed -n "s/.*\"$ARCH\":\"\([0-9a-f]\{64\}\)\".*/\1/p")
[ -n "$SHA" ] || { echo "no build for $ARCH"; exit 1; }
mkdir -p "$SHA"
get "$SHA/drover" "$SHA/fetched"
echo "$SHA  $SHA/fetched" | sha256sum -c --quiet
chmod 755 "$SHA/fetched"
mv "$SHA/fetched" "$SHA/drover"
sync -f .
ln -sfn "/opt/drover/bin/$SHA/drover" first
mv -T first current
sync -f .
EOF
chmod 755 /opt/drover/bootstrap
cat >/etc/systemd/system/drover-agent.service <<'EOF'
[Unit]
Description=Drover agent
Wants=network-online.target
After=network-online.target var-lib-drover-volume.mount
StartLimitIntervalSec=0
[Service]
Type=exec
ExecStartPre=/opt/drover/bootstrap
ExecStart=/opt/drover/bin/current agent @ARGUMENTS@
Restart=always
RestartSec=2
KillMode=process
TimeoutStartSec=240
TimeoutStopSec=90
OOMScoreAdjust=-900
UMask=0077
[Install]
WantedBy=multi-user.target
EOF
systemctl daemon-reload
systemctl enable drover-agent.service
systemctl start --no-block drover-agent.service
"#;

/// The part of the script that guards starts, for a directory of builds.
#[cfg(test)]
pub(crate) fn guard(bin: &std::path::Path) -> String {
    let start = SCRIPT.find("if [ -e trial ]").expect("the guard begins so");
    let end = SCRIPT.find("# A power loss").expect("the guard ends there");
    format!("cd '{}'\n{}", bin.display(), &SCRIPT[start..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot() -> Boot {
        Boot {
            bucket: "herd".into(),
            prefix: "teams/db's/".into(),
            region: "eu-central-1".into(),
            realm: Realm::new("prod").expect("valid"),
            s3_endpoint: None,
        }
    }

    #[test]
    fn it_is_small_and_a_shell_reads_it() {
        let script = user_data(&boot());
        assert!(script.len() < USER_DATA_MAX, "{} bytes", script.len());
        assert!(!script.contains('@'), "{script}");
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("user-data");
        std::fs::write(&path, &script).expect("written");
        let checked = std::process::Command::new("sh").arg("-n").arg(&path).output().expect("sh runs");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }

    #[test]
    fn a_build_that_a_power_loss_tore_is_fetched_again() {
        let check =
            &SCRIPT[SCRIPT.find("# A power loss").expect("it checks")..SCRIPT.find("BASE=").expect("it fetches")];
        let bin = tempfile::tempdir().expect("a directory");
        let script = format!("cd '{}'\n{check}echo fetches", bin.path().display());
        let fetches = || {
            let run = std::process::Command::new("sh").args(["-euc", &script]).output().expect("sh runs");
            assert!(run.status.success(), "{run:?}");
            String::from_utf8_lossy(&run.stdout).contains("fetches")
        };
        assert!(fetches(), "the first start");
        // SHA-256 of "new".
        let build = bin.path().join("11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437").join("drover");
        std::os::unix::fs::symlink(&build, bin.path().join("current")).expect("linked");
        assert!(fetches(), "a link that leads nowhere");
        std::fs::create_dir(build.parent().expect("it has one")).expect("made");
        for (content, expected) in [("", true), ("ne", true), ("new", false)] {
            std::fs::write(&build, content).expect("written");
            assert_eq!(fetches(), expected, "{content:?}");
        }
    }

    #[test]
    fn a_machine_takes_the_build_of_its_architecture() {
        let choice = &SCRIPT
            [SCRIPT.find("case $(uname -m)").expect("it asks")..SCRIPT.find("mkdir -p \"$SHA\"").expect("it fetches")];
        let directory = tempfile::tempdir().expect("a directory");
        let hash = |digit: &str| digit.repeat(64);
        let current = serde_json::json!({ "builds": { "arm64": hash("a"), "x86_64": hash("b") } });
        let text = serde_json::to_string_pretty(&current).expect("JSON");
        std::fs::write(directory.path().join("current"), text).expect("written");
        let choose = |machine: &str| {
            let script = format!("uname() {{ echo {machine}; }}\nget() {{ cp $1 $2; }}\n{choice}echo $SHA");
            let run = std::process::Command::new("sh").args(["-euc", &script]).current_dir(directory.path()).output();
            String::from_utf8_lossy(&run.expect("sh runs").stdout).trim().to_owned()
        };
        assert_eq!((choose("aarch64"), choose("x86_64")), (hash("a"), hash("b")));
        assert_eq!(choose("riscv64"), "no build for riscv64");
    }

    #[test]
    fn nothing_is_linked_before_it_is_on_the_disk() {
        let fetched = SCRIPT.find(r#"mv "$SHA/fetched""#).expect("it is put in place");
        let after = &SCRIPT[fetched..];
        let (synced, linked) = (after.find("sync -f .").expect("synced"), after.find("ln -sfn").expect("linked"));
        assert!(synced < linked && after[linked..].contains("sync -f ."));
    }

    #[test]
    fn it_says_where_to_look_and_nothing_about_the_machine() {
        let script = user_data(&boot());
        assert!(script.contains(r"BASE='https://s3.eu-central-1.amazonaws.com/herd/teams/db'\''s/realms/prod/bin'"));
        assert!(script.contains(
            r#"agent "--realm" "prod" "--bucket" "herd" "--region" "eu-central-1" "--prefix" "teams/db's/""#
        ));
        let local = Boot { s3_endpoint: Some("http://10.0.0.1:9000/".into()), prefix: String::new(), ..boot() };
        let script = user_data(&local);
        assert!(script.contains("BASE='http://10.0.0.1:9000/herd/realms/prod/bin'"));
        assert!(script.contains(r#""--s3-endpoint" "http://10.0.0.1:9000/""#));
        assert!(user_data(&Boot { region: "cn-north-1".into(), ..boot() }).contains("s3.cn-north-1.amazonaws.com.cn/"));
    }
}

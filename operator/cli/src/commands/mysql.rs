//! `drover mysql`: a prompt on a set's primary, or on a replica. The password goes through a file that only its owner reads,
//! never through arguments or the environment, and the server must show a certificate of the set's own authority.

mod client;

use std::{
    ffi::OsString,
    io::Write,
    net::Ipv4Addr,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Command, ExitCode, ExitStatus, Stdio},
};

use anyhow::{Context, bail};
use clap::Args;
use drover_api::{
    Epoch, InstanceId, ResourceKey, Slot,
    bucket::RealmKeys,
    records::Bundle,
    records::CaRecord,
    secrets::{AccountKind, SetSecret},
    tags::Role,
    wire::{Credential, MYSQL_PORT},
};
use drover_control::{Snapshot, store};
use drover_plan::report::MemberReport;

use client::Client;

use crate::{
    cloud,
    commands::status::{Look, Looking},
    settings::{Installation, Named, Secrets},
};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    installation: Installation,
    #[command(flatten)]
    named: Named,
    /// On a replica instead of the primary.
    #[arg(long)]
    replica: bool,
    /// The client to run.
    #[arg(long, env = "DROVER_MYSQL", default_value = "mysql")]
    client: PathBuf,
    /// Where drover-local keeps its cloud, for where no client is installed here: the machine's own is used.
    #[arg(long, env = "DROVER_LOCAL_DIR")]
    local: Option<PathBuf>,
    /// For the client: `-- -e 'select 1'`.
    #[arg(last = true)]
    more: Vec<OsString>,
}

/// Where to connect to.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    slot: Slot,
    instance: InstanceId,
    address: Ipv4Addr,
}

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let key = arguments.named.key()?;
    let Look { snapshot, by } = Looking::new(&arguments.installation, None, &Secrets::default()).look().await?;
    let target = target(&snapshot, &by, &key, arguments.replica)?;
    let settings = arguments.installation.settings_with(Some(&snapshot.realm))?;
    let (_, cloud) = cloud::connect(&settings).await?;
    let keys = RealmKeys::new(&settings.prefix, &settings.realm);
    let set = store::read_set(&*cloud, &keys, &key).await?;
    let incarnation = set.incarnation().with_context(|| format!("there is no {key} in the bucket"))?.clone();
    let ca = set.ca.with_context(|| format!("{key} has no secret yet: it is being made, see `drover status`"))?;
    let credential = SetSecret(ca.secret.clone()).credential(AccountKind::Admin, Epoch(0));
    let status = match client::installed(&arguments.client)? {
        Some(client) => {
            let bundle = store::read_bundle(&*cloud, &keys, &key, &incarnation, target.slot).await?;
            let bundle = bundle.with_context(|| format!("{} of {key} has no certificate yet", target.slot))?;
            here(&arguments, &target, &credential, client, &bundle)?
        }
        None => in_machine(&arguments, &target, &credential, &ca)?,
    };
    Ok(code(status))
}

/// The primary, or the replica that is least behind. `by` says who looked, or why nobody could.
fn target(snapshot: &Snapshot, by: &str, key: &ResourceKey, replica: bool) -> anyhow::Result<Target> {
    let set = snapshot.sets.iter().find(|set| set.key == *key);
    let set = set.with_context(|| match snapshot.is_whole() {
        true => format!("there is no {key}: see `drover status`"),
        false => {
            let reasons = by.lines().chain(snapshot.waiting.iter().map(String::as_str));
            format!("nothing is known of {key} now: {}", reasons.collect::<Vec<_>>().join("; "))
        }
    })?;
    let fits = |member: &&MemberReport| match member.role {
        Some(Role::Primary) => !replica,
        Some(Role::Replica | Role::Reader) => replica,
        _ => false,
    };
    let mut fitting: Vec<&MemberReport> = set.members.iter().filter(fits).collect();
    fitting.sort_by_key(|member| (!member.ready, member.lag_ms.unwrap_or(u64::MAX), member.slot));
    let reachable = fitting.iter().find_map(|member| {
        Some(Target { slot: member.slot, instance: member.instance.clone()?, address: member.address? })
    });
    let what = if replica { "replica" } else { "primary" };
    reachable.with_context(|| format!("{key} has no {what} to connect to now: {}", set.verdict))
}

/// The client of this machine, with an option file that goes when it ends.
fn here(
    arguments: &Arguments,
    target: &Target,
    credential: &Credential,
    client: Client,
    bundle: &Bundle,
) -> anyhow::Result<ExitStatus> {
    // A directory of 0700, and files of 0600 in it.
    let directory =
        tempfile::Builder::new().prefix("drover-mysql-").tempdir().context("no place for an option file")?;
    let roots = directory.path().join("ca.pem");
    std::fs::write(&roots, &bundle.ca_pem)?;
    let mut file = tempfile::Builder::new().suffix(".cnf").tempfile_in(directory.path())?;
    let tls = client.tls(&roots, bundle)?;
    file.write_all(option_file(credential, target.address, &tls).as_bytes())?;
    let mut option = OsString::from("--defaults-extra-file=");
    option.push(file.path());
    Command::new(&arguments.client)
        .arg(option)
        .args(&arguments.more)
        .status()
        .with_context(|| format!("cannot run {}", arguments.client.display()))
}

/// The machine's own client, through drover-local, which can reach into its machines.
fn in_machine(
    arguments: &Arguments,
    target: &Target,
    credential: &Credential,
    ca: &CaRecord,
) -> anyhow::Result<ExitStatus> {
    let Some(directory) = &arguments.local else {
        bail!(
            "there is no client {}: install one (Debian: default-mysql-client), or name it with --client; \
             on drover-local, eval \"$(drover-local env)\" first",
            arguments.client.display()
        );
    };
    let exec = |words: &[&str]| {
        let mut command = Command::new(drover_local());
        command.arg("--dir").arg(directory).args(["exec", target.instance.as_str(), "--"]).args(words);
        command
    };
    let write = |path: &str, text: &str| {
        let mut writer = exec(&["sh", "-c", "umask 077; cat >\"$0\"", path]).stdin(Stdio::piped()).spawn()?;
        let mut input = writer.stdin.take().context("no pipe to drover-local")?;
        input.write_all(text.as_bytes())?;
        drop(input);
        match writer.wait()?.success() {
            true => Ok(()),
            false => bail!("drover-local could not write into {}: see `drover-local machines`", target.instance),
        }
    };
    let stem = format!("/run/drover-mysql-{}", std::process::id());
    let (roots, options) = (format!("{stem}.pem"), format!("{stem}.cnf"));
    let tls = format!("ssl-ca={roots}\nssl-mode=VERIFY_CA\n");
    let status = write(&roots, &ca.certificate_pem)
        .and_then(|()| write(&options, &option_file(credential, target.address, &tls)))
        .and_then(|()| {
            let option = format!("--defaults-extra-file={options}");
            exec(&["mysql", &option]).args(&arguments.more).status().context("cannot run drover-local")
        });
    let removed = exec(&["rm", "-f", &options, &roots]).status();
    if !removed.is_ok_and(|removed| removed.success()) {
        eprintln!("drover: {options} is left in {}: remove it, it holds a password", target.instance);
    }
    status
}

/// Beside this program, or wherever the shell finds it.
fn drover_local() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("drover-local"));
    beside.filter(|beside| beside.exists()).unwrap_or_else(|| "drover-local".into())
}

fn option_file(credential: &Credential, address: Ipv4Addr, tls: &str) -> String {
    format!(
        "[client]\nuser={}\npassword={}\nhost={address}\nport={MYSQL_PORT}\nprotocol=TCP\n{tls}",
        credential.user, credential.password
    )
}

/// The client's own, or 128 and its signal, as a shell would say it.
fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use drover_api::{Realm, Slot};
    use drover_plan::SetReport;

    use super::*;

    fn member(slot: Slot, role: Role, lag_ms: Option<u64>, number: u8) -> MemberReport {
        MemberReport {
            slot,
            instance: Some(format!("i-{number}").parse().expect("an instance")),
            zone: None,
            address: Some(Ipv4Addr::new(10, 42, 1, number)),
            role: Some(role),
            epoch: None,
            position: None,
            lag_ms,
            report_age_ms: None,
            state: String::new(),
            ready: true,
        }
    }

    fn snapshot(members: Vec<MemberReport>) -> (Snapshot, ResourceKey) {
        let key = ResourceKey { namespace: "default".parse().expect("valid"), name: "orders".parse().expect("valid") };
        let set = SetReport {
            key: key.clone(),
            generation: 1,
            verdict: "m0 is booting".into(),
            ready: true,
            primary: None,
            epoch: None,
            members,
            conditions: vec![],
            handled: Default::default(),
            endpoints: None,
            version: None,
            awaiting: vec![],
            users: vec![],
            kept_users: vec![],
            kept_databases: vec![],
        };
        (Snapshot { sets: vec![set], ..Snapshot::empty(Realm::new("r").expect("a realm")) }, key)
    }

    #[test]
    fn the_primary_or_the_replica_least_behind_is_taken() {
        let (snapshot, key) = snapshot(vec![
            member(Slot::Member(0), Role::Primary, None, 1),
            member(Slot::Member(1), Role::Replica, Some(900), 2),
            member(Slot::Member(2), Role::Joining, Some(0), 3),
            member(Slot::Reader(0), Role::Reader, Some(20), 4),
        ]);
        let address = |replica| target(&snapshot, "", &key, replica).map(|target| target.address.octets()[3]).ok();
        assert_eq!((address(false), address(true)), (Some(1), Some(4)));
    }

    #[test]
    fn where_there_is_none_the_verdict_says_why() {
        let (snapshot, key) = snapshot(vec![member(Slot::Member(0), Role::Joining, None, 1)]);
        let error = target(&snapshot, "", &key, false).expect_err("no primary").to_string();
        assert_eq!(error, "default/orders has no primary to connect to now: m0 is booting");
    }

    #[test]
    fn that_there_is_no_such_set_is_only_said_after_a_look() {
        let (snapshot, _) = snapshot(vec![]);
        let other = ResourceKey { namespace: "default".parse().expect("valid"), name: "other".parse().expect("valid") };
        let told = |snapshot: &Snapshot| {
            target(snapshot, "x acts\nit has not looked\n", &other, false).expect_err("there is none").to_string()
        };
        assert_eq!(told(&snapshot), "nothing is known of default/other now: x acts; it has not looked");
        let looked = Snapshot { looked: true, ..snapshot };
        assert_eq!(told(&looked), "there is no default/other: see `drover status`");
        let failing = Snapshot { waiting: vec!["FleetUnknown: EC2 denies".into()], ..looked };
        assert!(told(&failing).ends_with("it has not looked; FleetUnknown: EC2 denies"));
    }

    #[test]
    fn the_password_is_in_the_file_and_nowhere_else() {
        let credential = Credential { user: "drover_admin".into(), password: "canary".into() };
        let text = option_file(&credential, Ipv4Addr::new(10, 42, 1, 4), "ssl-mode=REQUIRED\n");
        assert_eq!(
            text,
            "[client]\nuser=drover_admin\npassword=canary\nhost=10.42.1.4\nport=3306\nprotocol=TCP\nssl-mode=REQUIRED\n"
        );
    }
}

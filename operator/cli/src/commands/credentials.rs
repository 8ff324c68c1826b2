//! `drover credentials`: how an application connects as a declared user. What it prints is secret.

use std::{net::Ipv4Addr, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context;
use clap::Args;
use drover_api::{clients, tags::Role, wire::MYSQL_PORT};
use drover_control::{Connections, edge::SystemClock, live::AskedAgents, watching};
use drover_plan::SetReport;
use serde::Serialize;

use crate::{
    cloud,
    commands::run::{looking, must_be_directory},
    out,
    settings::{Installation, Named, Secrets},
};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    installation: Installation,
    #[command(flatten)]
    named: Named,
    /// One of the set's spec.mysql.users.
    user: String,
    /// The directory of the manifest that declares the user.
    #[arg(long, env = "DROVER_MANIFESTS")]
    manifests: PathBuf,
    #[command(flatten)]
    secrets: Secrets,
    /// JSON, for programs.
    #[arg(long)]
    json: bool,
    /// Only the certificate of the set's authority, for a client's VERIFY_CA.
    #[arg(long, conflicts_with = "json")]
    ca: bool,
}

/// Everything that a client needs.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Credentials {
    host: Ipv4Addr,
    port: u16,
    database: String,
    user: String,
    password: String,
    uri: String,
    reader_hosts: Vec<Ipv4Addr>,
    /// The certificate of the set's authority.
    ca: String,
    /// MySQL has the user with this password.
    applied: bool,
}

pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let key = arguments.named.key()?;
    let settings = arguments.installation.settings()?;
    must_be_directory(&arguments.manifests)?;
    let secrets = arguments.secrets.directory()?;
    let scan = watching::scan(&arguments.manifests)?;
    let (aws, cloud) = cloud::connect(&settings).await?;
    let agents = Arc::new(AskedAgents::new(Arc::new(SystemClock)));
    let mut operator = looking(&settings, &aws, cloud, agents, Some(scan), secrets.as_deref()).await;
    let (_, _, snapshot) = operator.look().await;
    let set = snapshot.sets.iter().find(|set| set.key == key);
    let set = set.with_context(|| format!("no manifest in {} declares {key}", arguments.manifests.display()))?;
    let connections = operator.connections().borrow().get(&key).cloned();
    let connections = connections.with_context(|| format!("{key} is not made yet: {}", set.verdict))?;
    if arguments.ca {
        out::print(&connections.ca_pem)?;
        return Ok(ExitCode::SUCCESS);
    }
    let credentials = credentials(set, &connections, &arguments.user)?;
    if !credentials.applied {
        eprintln!("drover: MySQL does not have {} with this password yet: see `drover status`", arguments.user);
    }
    match arguments.json {
        true => out::println(serde_json::to_string_pretty(&credentials)?)?,
        false => out::print(lines(&credentials))?,
    };
    Ok(ExitCode::SUCCESS)
}

fn credentials(set: &SetReport, connections: &Connections, user: &str) -> anyhow::Result<Credentials> {
    let key = &set.key;
    let declared: Vec<&str> = set.users.iter().map(|user| user.name.as_str()).collect();
    let connection = connections.users.iter().find(|connection| connection.user == user);
    let connection = connection.with_context(|| match declared.contains(&user) {
        true => format!("the password of {user} is awaited: {}", set.awaiting.join("; ")),
        false => format!("{key} declares no user {user}: it has {}", declared.join(", ")),
    })?;
    let addresses = |roles: &[Role]| -> Vec<Ipv4Addr> {
        let fits = set.members.iter().filter(|member| member.role.is_some_and(|role| roles.contains(&role)));
        fits.filter(|member| member.ready).filter_map(|member| member.address).collect()
    };
    let host = addresses(&[Role::Primary]).first().copied();
    let host = host.with_context(|| format!("{key} has no primary to connect to now: {}", set.verdict))?;
    let (database, password) = (connection.database.clone(), connection.password.clone());
    Ok(Credentials {
        host,
        port: MYSQL_PORT,
        uri: clients::uri(user, &password, &host.to_string(), &database),
        database,
        user: user.to_owned(),
        password,
        reader_hosts: addresses(&[Role::Replica, Role::Reader]),
        ca: connections.ca_pem.clone(),
        applied: connection.applied,
    })
}

fn lines(credentials: &Credentials) -> String {
    let Credentials { host, port, database, user, password, uri, reader_hosts, .. } = credentials;
    let readers: String = reader_hosts.iter().map(|host| format!("reader-host: {host}\n")).collect();
    format!(
        "host: {host}\nport: {port}\ndatabase: {database}\nuser: {user}\npassword: {password}\nuri: {uri}\n{readers}"
    )
}

#[cfg(test)]
mod tests {
    use drover_api::set::Access;
    use drover_plan::{Connection, report::UserReport};

    use super::*;
    use crate::words::tests::set;

    fn declared() -> (SetReport, Connections) {
        let user = |name: &str, ready| UserReport {
            name: name.into(),
            database: "shop".into(),
            access: Access::ReadWrite,
            ready,
        };
        let connection = Connection {
            user: "app".into(),
            database: "shop".into(),
            access: Access::ReadWrite,
            password: "a/b c".into(),
            applied: true,
        };
        let awaiting = vec!["the password of user late: x: there is no such file".into()];
        let set = SetReport { users: vec![user("app", true), user("late", false)], awaiting, ..set("a", true) };
        (set, Connections { ca_pem: "PEM\n".into(), users: vec![connection] })
    }

    #[test]
    fn a_client_is_told_all_it_needs_in_lines() {
        let (set, connections) = declared();
        let credentials = credentials(&set, &connections, "app").expect("declared and applied");
        assert_eq!((credentials.applied, credentials.ca.as_str()), (true, "PEM\n"));
        assert_eq!(
            lines(&credentials),
            "host: 10.42.1.4\nport: 3306\ndatabase: shop\nuser: app\npassword: a/b c\n\
             uri: mysql://app:a%2Fb%20c@10.42.1.4:3306/shop\n"
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let (mut set, connections) = declared();
        let told = |set: &SetReport, user| credentials(set, &connections, user).expect_err("missing").to_string();
        assert_eq!(told(&set, "apps"), "default/a declares no user apps: it has app, late");
        assert!(told(&set, "late").starts_with("the password of late is awaited: the password of user late: x:"));
        set.members[0].role = Some(Role::Joining);
        assert!(told(&set, "app").starts_with("default/a has no primary to connect to now"));
    }
}

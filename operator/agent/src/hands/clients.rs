//! Databases and users of applications, on a leader that is open: everything is logged, so it is on every copy.
//!
//! A statement about accounts that waits for an acknowledgement lets no new connection in, an acknowledger's neither. So a row
//! is committed right before each, which holds nothing up while it waits: only where that is acknowledged the statement follows.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drover_api::{
    clients::{DatabaseOrder, Grants, UserOrder},
    problems::{Problem, Reason},
    set::Access,
};
use serde_json::{Value, json};

use super::{
    HEARTBEAT_LANES, SOCKET,
    sql::{FOR_EVER, Logged, Session, SqlError, end_connections, quote},
};
use crate::{
    edge,
    state::{Outcome, UserStep},
};

/// What of a database's privileges changes something: all but SELECT and SHOW VIEW. (EXECUTE runs with the rights of whoever
/// made the routine.)
const CHANGES: &str = "INSERT, UPDATE, DELETE, CREATE, DROP, REFERENCES, INDEX, ALTER, CREATE TEMPORARY TABLES, LOCK TABLES, \
     CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE, EXECUTE, EVENT, TRIGGER";

/// Here and not with the other tables of ours: data that an earlier build made has it not.
const NOTES: &str =
    "CREATE TABLE IF NOT EXISTS drover.made_databases (name VARCHAR(64) COLLATE utf8mb4_bin PRIMARY KEY)";
/// MySQL's number of the error.
const NO_SUCH_TABLE: u16 = 1146;
/// For those who work in a database that is to be dropped.
const DROP_WAITS: Duration = Duration::from_secs(5);
/// Files of large tables take their time; what is not done by then is given up, and begun again. Nothing else changes this machine
/// meanwhile, and the host may be about to go down.
const DROP: Duration = Duration::from_secs(20);
/// For connections of an account that is locked.
const GONE: Duration = Duration::from_secs(5);

/// Makes those that are not there, and notes each before, so that it is known as ours when nobody declares it any more. One
/// that cannot be made holds up no other.
pub async fn make_databases(session: &mut Session, ordered: &[DatabaseOrder]) -> Result<Outcome, SqlError> {
    let there = databases(session).await?;
    let mut failed = BTreeMap::new();
    for order in ordered.iter().filter(|order| !there.contains(&order.name)) {
        if let Err(error) = make_database(session, order).await {
            failed.insert(order.name.clone(), error.to_string());
        }
    }
    let noted: Vec<String> = match session.rows("SELECT name FROM drover.made_databases").await {
        // None was ever made here.
        Err(error) if error.code() == Some(NO_SUCH_TABLE) => Vec::new(),
        noted => noted?,
    };
    let there = databases(session).await?;
    Ok(Outcome::Databases { made: noted.into_iter().filter(|name| there.contains(name)).collect(), failed })
}

async fn databases(session: &mut Session) -> Result<BTreeSet<String>, SqlError> {
    let names: Vec<String> = session.rows("SELECT schema_name FROM information_schema.schemata").await?;
    Ok(names.into_iter().collect())
}

async fn make_database(session: &mut Session, order: &DatabaseOrder) -> Result<(), SqlError> {
    acknowledged(session).await?;
    session.run(NOTES).await?;
    session.run(&format!("INSERT IGNORE INTO drover.made_databases (name) VALUES ({})", quote(&order.name))).await?;
    session.run(&creation(order)).await
}

/// The note last: what is there is known as ours until it is not there any more. Whoever works in it holds this up for a while, and
/// this in turn whoever begins to.
pub async fn drop_database(session: &mut Session, name: &str) -> Result<(), Problem> {
    let failed = |error: SqlError| Problem { reason: Reason::DatabaseFailed, message: error.to_string() };
    acknowledged(session).await.map_err(failed)?;
    session.run(&format!("SET SESSION lock_wait_timeout = {}", DROP_WAITS.as_secs())).await.map_err(failed)?;
    let own: Vec<u64> = session.rows("SELECT CONNECTION_ID()").await.map_err(failed)?;
    let dropped = session.run_within(&format!("DROP DATABASE IF EXISTS {}", identifier(name)), DROP).await;
    if let Err(error @ SqlError::Deadline { .. }) = dropped {
        // Left to itself it would hold up whoever closes this server.
        let other = &mut Session::open(SOCKET, Logged::Yes).await.map_err(failed)?;
        for id in own {
            other.kill(id).await.map_err(failed)?;
        }
        return Err(failed(error));
    }
    dropped.map_err(failed)?;
    session.run(&format!("DELETE FROM drover.made_databases WHERE name = {}", quote(name))).await.map_err(failed)
}

/// One step about a user, which may be begun again wherever it was cut short.
pub async fn step(session: &mut Session, step: &UserStep) -> Result<(), Problem> {
    let failed = |error: SqlError| Problem { reason: Reason::UserFailed, message: error.to_string() };
    acknowledged(session).await.map_err(failed)?;
    match step {
        UserStep::Make(order) => {
            let look = format!("SELECT host FROM mysql.user WHERE user = {}", quote(&order.name));
            let found: Vec<String> = session.rows(&look).await.map_err(failed)?;
            if let Some(host) = found.first() {
                return Err(foreign(&order.name, host));
            }
            session.run(&making(order, edge::wall().0)).await
        }
        UserStep::Rotate(order) => session.run(&rotation(order, edge::wall().0)).await,
        UserStep::Grant(order) => grant(session, order).await,
        UserStep::Discard { name } => session.run(&format!("ALTER USER {} DISCARD OLD PASSWORD", account(name))).await,
        UserStep::Drop { name } => return drop_user(session, name).await,
    }
    .map_err(failed)
}

/// The account last, so that it is known until nothing of it is left: MySQL lets a connection of a dropped account go on (MySQL
/// manual, DROP USER).
async fn drop_user(session: &mut Session, name: &str) -> Result<(), Problem> {
    let failed = |error: SqlError| Problem { reason: Reason::UserFailed, message: error.to_string() };
    let look = format!("SELECT host FROM mysql.user WHERE user = {} AND host <> '%'", quote(name));
    let others: Vec<String> = session.rows(&look).await.map_err(failed)?;
    if let Some(host) = others.first() {
        let message =
            format!("drop {name}@{host} first, which somebody else made: whose connections are whose is not told");
        return Err(Problem { reason: Reason::ForeignUser, message });
    }
    // Whoever declares it again meanwhile has its password set, and with that the lock taken off.
    let locked = format!("ALTER USER {} ACCOUNT LOCK ATTRIBUTE {}", account(name), mark(json!({ "version": "" })));
    session.run(&locked).await.map_err(failed)?;
    let whose = format!("CAST(processlist_user AS BINARY) = {}", quote(name));
    end_connections(session, &whose, &format!("ending the connections of {name}"), GONE).await.map_err(failed)?;
    session.run(&format!("DROP USER IF EXISTS {}", account(name))).await.map_err(failed)
}

/// Somebody else's: its password and rights are theirs to change.
fn foreign(name: &str, host: &str) -> Problem {
    let message = format!(
        "somebody else made the account {name}@{host}, and it is left alone: drop it, or declare another name; \
         to hand {name}@% over to Drover: ALTER USER `{name}`@`%` ATTRIBUTE '{{\"drover\": {{}}}}'"
    );
    Problem { reason: Reason::ForeignUser, message }
}

/// A commit of now has its acknowledgements. In the rows of the lanes, which are there wherever one was acknowledged; a nudge's are
/// free for the next.
async fn acknowledged(session: &mut Session) -> Result<(), SqlError> {
    session
        .run(&format!(
            "UPDATE drover.heartbeat SET at_ms = GREATEST(at_ms + 1, {}) WHERE lane < {HEARTBEAT_LANES}",
            edge::wall().0
        ))
        .await
}

/// What is ordered first, so that nothing is refused meanwhile that is allowed before and after.
async fn grant(session: &mut Session, order: &UserOrder) -> Result<(), SqlError> {
    let look = format!("SELECT db FROM mysql.db WHERE user = {} AND host = '%'", quote(&order.name));
    let found: Vec<String> = session.rows(&look).await?;
    for statement in grants(order, &found) {
        session.run(&statement).await?;
    }
    Ok(())
}

/// From rights on the databases in `found`, as MySQL spells them, to exactly those ordered.
fn grants(order: &UserOrder, found: &[String]) -> Vec<String> {
    let (user, Grants { database, access }) = (account(&order.name), &order.grants);
    let wanted = identifier(database);
    let mut statements = match access {
        Access::ReadWrite => vec![format!("GRANT ALL PRIVILEGES ON {wanted}.* TO {user}")],
        Access::ReadOnly => vec![
            format!("GRANT SELECT, SHOW VIEW ON {wanted}.* TO {user}"),
            format!("REVOKE IF EXISTS {CHANGES} ON {wanted}.* FROM {user}"),
        ],
    };
    let others = found.iter().filter(|other| *other != database);
    statements
        .extend(others.map(|other| format!("REVOKE IF EXISTS ALL PRIVILEGES ON {}.* FROM {user}", identifier(other))));
    statements.push(format!("ALTER USER {user} ATTRIBUTE {}", mark(json!({ "grants": order.grants }))));
    statements
}

fn creation(order: &DatabaseOrder) -> String {
    let word = |what: &str, value: &Option<String>| {
        value.as_ref().map(|value| format!(" {what} {}", identifier(value))).unwrap_or_default()
    };
    format!(
        "CREATE DATABASE IF NOT EXISTS {}{}{}",
        identifier(&order.name),
        word("CHARACTER SET", &order.character_set),
        word("COLLATE", &order.collation)
    )
}

/// Without rights: those follow, and are on the mark when all are there.
fn making(order: &UserOrder, now: u64) -> String {
    let mark = mark(json!({ "version": order.version, "changed": now }));
    format!("CREATE USER {} {} REQUIRE SSL {FOR_EVER} ATTRIBUTE {mark}", account(&order.name), identified(order))
}

/// MySQL merges an ATTRIBUTE into what is there.
fn rotation(order: &UserOrder, now: u64) -> String {
    let mark = mark(json!({ "version": order.version, "changed": now }));
    let user = account(&order.name);
    format!("ALTER USER {user} {} RETAIN CURRENT PASSWORD REQUIRE SSL {FOR_EVER} ATTRIBUTE {mark}", identified(order))
}

fn identified(order: &UserOrder) -> String {
    format!("IDENTIFIED WITH caching_sha2_password BY {}", quote(&order.password))
}

fn mark(mark: Value) -> String {
    quote(&json!({ "drover": mark }).to_string())
}

fn account(name: &str) -> String {
    format!("{}@'%'", quote(name))
}

/// Also where MySQL takes a database's name as a pattern: with partial_revokes, which every mysqld of ours has, `_` and `%` stand
/// for themselves there, and an escaped `\_` for those two characters (measured: who has rights on my\_shop is denied my_shop).
fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(database: &str, access: Access) -> UserOrder {
        UserOrder {
            name: "app".into(),
            grants: Grants { database: database.into(), access },
            password: "it's".into(),
            version: "ab12".into(),
        }
    }

    #[test]
    fn a_users_rights_become_exactly_those_that_are_ordered_and_the_ordered_ones_first() {
        let statements = grants(&order("my_shop", Access::ReadWrite), &["old".into(), "my_shop".into()]);
        assert_eq!(
            statements,
            [
                "GRANT ALL PRIVILEGES ON `my_shop`.* TO 'app'@'%'",
                "REVOKE IF EXISTS ALL PRIVILEGES ON `old`.* FROM 'app'@'%'",
                r#"ALTER USER 'app'@'%' ATTRIBUTE '{"drover":{"grants":{"access":"ReadWrite","database":"my_shop"}}}'"#,
            ]
        );
        let statements = grants(&order("shop", Access::ReadOnly), &["shop".into()]);
        assert_eq!(statements[0], "GRANT SELECT, SHOW VIEW ON `shop`.* TO 'app'@'%'");
        assert!(statements[1].starts_with("REVOKE IF EXISTS INSERT, UPDATE, DELETE,"), "{statements:?}");
        assert_eq!(statements.len(), 3);
    }

    #[test]
    fn a_password_is_quoted_and_the_one_before_is_kept() {
        let order = order("shop", Access::ReadOnly);
        let identified = r"'app'@'%' IDENTIFIED WITH caching_sha2_password BY 'it\'s' ";
        assert!(
            making(&order, 7).starts_with(&format!("CREATE USER {identified}REQUIRE SSL")),
            "{}",
            making(&order, 7)
        );
        let rotation = rotation(&order, 7);
        assert!(rotation.starts_with(&format!("ALTER USER {identified}RETAIN CURRENT PASSWORD REQUIRE SSL")));
        assert!(rotation.ends_with(r#" ATTRIBUTE '{"drover":{"changed":7,"version":"ab12"}}'"#), "{rotation}");
    }

    #[test]
    fn a_database_is_made_as_it_is_declared() {
        let (character_set, collation) = (Some("latin1".into()), Some("latin1_bin".into()));
        let plain = DatabaseOrder { name: "my_shop".into(), character_set: None, collation: None };
        assert_eq!(creation(&plain), "CREATE DATABASE IF NOT EXISTS `my_shop`");
        let whole = DatabaseOrder { character_set, collation, ..plain };
        assert_eq!(
            creation(&whole),
            "CREATE DATABASE IF NOT EXISTS `my_shop` CHARACTER SET `latin1` COLLATE `latin1_bin`"
        );
    }
}

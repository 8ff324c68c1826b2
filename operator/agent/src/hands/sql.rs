//! What is said to mysqld: over its socket, as root by auth_socket, each statement with a deadline.

use std::time::Duration;

use drover_api::wire::{Account, Credential, Source, ThreadReport};
use mysql_async::{Conn, OptsBuilder, prelude::Queryable};

use super::{
    mycnf::{AGENT_CONNECTIONS, TIMEOUT_INFINITE},
    paths::Paths,
};
use crate::edge;

#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    #[error("mysqld does not accept a connection: {0}")]
    Connect(#[source] mysql_async::Error),
    #[error("{what} failed: {source}")]
    Statement { what: String, source: mysql_async::Error },
    #[error("{what} did not return within {} s", deadline.as_secs())]
    Deadline { what: String, deadline: Duration },
    #[error("{0}")]
    Contradiction(String),
}

/// Unlogged statements stay on this server; logged ones replicate, and wait for acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logged {
    No,
    Yes,
}

/// One connection of ours.
#[derive(Debug)]
pub struct Session(Conn);

/// For what answers at once on a server that works.
const PROMPT: Duration = Duration::from_secs(5);
/// For what waits for threads of mysqld to start or end.
const SLOW: Duration = Duration::from_secs(30);
/// How long a close may wait for commits in flight.
const CLOSE: Duration = Duration::from_secs(10);
/// A connection that was killed is gone within milliseconds, but for one whose thread writes to a peer that does not read.
const GONE: Duration = Duration::from_secs(20);
const GONE_LOOK: Duration = Duration::from_millis(50);
/// An applier that keeps up has executed what was received within milliseconds.
const EXECUTED_LOOK: Duration = Duration::from_millis(50);
const EXECUTED_LOOKS: u32 = 400;
/// A replica's one connection, and those of its that were killed and wait.
const REPLICA_CONNECTIONS: u32 = 16;
/// MySQL's error numbers.
const NO_SUCH_THREAD: u16 = 1094;
const LOCK_WAIT_TIMEOUT: u16 = 1205;

/// Whatever a user's settings make of new sessions, ours have what our statements rely on. A statement that returns is a
/// commit (measured: with autocommit off, a marker returns that no voter has seen); quoting relies on backslashes; nothing but
/// our own deadlines ends a statement, and nothing limits what a look may read.
const SESSION: &str = "SET SESSION autocommit = 1, completion_type = 'NO_CHAIN', transaction_read_only = 0, \
     transaction_isolation = 'READ-COMMITTED', sql_mode = '', time_zone = '+00:00', lock_wait_timeout = 31536000, \
     innodb_lock_wait_timeout = 50, wait_timeout = 28800, net_read_timeout = 30, net_write_timeout = 60, \
     max_execution_time = 0, sql_select_limit = 18446744073709551615, sql_big_selects = 1, sql_safe_updates = 0";

impl SqlError {
    /// mysqld's number of the error, where it is mysqld's.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            SqlError::Statement { source: mysql_async::Error::Server(error), .. } => Some(error.code),
            _ => None,
        }
    }
}

impl Session {
    pub async fn open(socket: &str, logged: Logged) -> Result<Self, SqlError> {
        let options = OptsBuilder::default()
            .user(Some("root"))
            .socket(Some(socket))
            .prefer_socket(Some(true))
            .max_allowed_packet(Some(16 << 20))
            .wait_timeout(Some(3600));
        let deadline = SqlError::Deadline { what: "connecting".into(), deadline: PROMPT };
        let conn =
            tokio::time::timeout(PROMPT, Conn::new(options)).await.map_err(|_| deadline)?.map_err(SqlError::Connect)?;
        let mut session = Self(conn);
        session.run(SESSION).await?;
        if logged == Logged::No {
            session.run("SET SESSION sql_log_bin = 0").await?;
        }
        Ok(session)
    }

    pub async fn run(&mut self, statement: &str) -> Result<(), SqlError> {
        self.run_within(statement, PROMPT).await
    }

    pub async fn run_within(&mut self, statement: &str, deadline: Duration) -> Result<(), SqlError> {
        let done = tokio::time::timeout(deadline, self.0.query_drop(statement)).await;
        done.map_err(|_| SqlError::Deadline { what: name(statement), deadline })?
            .map_err(|source| SqlError::Statement { what: name(statement), source })
    }

    /// Ends a connection, which may have ended by itself.
    pub async fn kill(&mut self, id: u64) -> Result<(), SqlError> {
        match self.run(&format!("KILL CONNECTION {id}")).await {
            Err(error) if error.code() == Some(NO_SUCH_THREAD) => Ok(()),
            other => other,
        }
    }

    /// A statement that may wait as long as its acknowledgements need. It cannot be taken back (KILL does not end the wait), so
    /// what bounds it is the life of mysqld, whose end closes the connection, and that each caller has one at a time.
    pub async fn run_waiting(&mut self, statement: &str) -> Result<(), SqlError> {
        self.0.query_drop(statement).await.map_err(|source| SqlError::Statement { what: name(statement), source })
    }

    pub async fn rows<T>(&mut self, statement: &str) -> Result<Vec<T>, SqlError>
    where
        T: mysql_async::prelude::FromRow + Send + 'static,
    {
        let done = tokio::time::timeout(PROMPT, self.0.query(statement)).await;
        done.map_err(|_| SqlError::Deadline { what: name(statement), deadline: PROMPT })?
            .map_err(|source| SqlError::Statement { what: name(statement), source })
    }
}

/// The first words of a statement: never what it carries, which may be a password.
fn name(statement: &str) -> String {
    statement.split([' ', '\n']).take(4).filter(|word| !word.contains('\'')).collect::<Vec<_>>().join(" ")
}

/// A string literal, under a sql_mode with backslash escapes.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'").replace('\0', "\\0"))
}

/// What every data directory of ours begins with, beside what mysqld itself makes.
pub const SCHEMA: [&str; 4] = [
    "CREATE DATABASE drover",
    "CREATE TABLE drover.heartbeat (lane TINYINT UNSIGNED PRIMARY KEY, epoch BIGINT UNSIGNED NOT NULL, \
     at_ms BIGINT UNSIGNED NOT NULL)",
    "CREATE TABLE drover.marker (epoch BIGINT UNSIGNED, n BIGINT UNSIGNED, at TIMESTAMP(6) NOT NULL, PRIMARY KEY (epoch, n))",
    // CLONE overwrites accounts; this one is the same on every server, and only root of this machine can be it.
    "ALTER USER root@localhost IDENTIFIED WITH auth_socket",
];

/// super_read_only is lifted for the moment, read_only is not: only root may write, and nothing of it is logged.
pub async fn accounts(
    session: &mut Session,
    accounts: &[Account],
    clone: &Credential,
    sealed: bool,
) -> Result<(), SqlError> {
    if sealed {
        session.run("SET GLOBAL super_read_only = OFF").await?;
    }
    let found = session.rows(&format!("SELECT user FROM mysql.user WHERE {OURS}")).await?;
    let mut made = Ok(());
    for step in account_steps(found, accounts, clone) {
        made = match step {
            AccountStep::Drop(user) => session.run(&format!("DROP USER {}@'%'", quote(&user))).await,
            AccountStep::AwaitGone => {
                end_connections(session, &shut_out(accounts), "shutting a replica out", GONE).await
            }
            AccountStep::Make(credential, grants) => make_user(session, credential, REPLICA_CONNECTIONS, grants).await,
        };
        if made.is_err() {
            break;
        }
    }
    if sealed {
        session.run("SET GLOBAL super_read_only = ON").await?;
    }
    made
}

/// Accounts of replicas, as a condition on a column `user`.
const OURS: &str = "user LIKE 'drover\\\\_voter\\\\_%' OR user LIKE 'drover\\\\_learner\\\\_%'";

#[derive(Debug, PartialEq, Eq)]
enum AccountStep<'a> {
    Drop(String),
    /// Connections of accounts that are no more are killed until none is seen.
    AwaitGone,
    Make(&'a Credential, &'static str),
}

/// From the accounts that were found to exactly these. MySQL counts whoever acknowledges, so who leaves is gone before anyone
/// joins: that somebody follows by a new account proves it.
fn account_steps<'a>(found: Vec<String>, accounts: &'a [Account], clone: &'a Credential) -> Vec<AccountStep<'a>> {
    let leave = found.into_iter().filter(|user| !has_account(accounts, user)).map(AccountStep::Drop);
    // CONNECTION_ADMIN: without it offline_mode cuts replication off. SYSTEM_USER: who has it not, as people, cannot alter,
    // drop or kill it.
    let join = accounts.iter().map(|account| &account.credential);
    let join = join.map(|credential| AccountStep::Make(credential, "REPLICATION SLAVE, CONNECTION_ADMIN, SYSTEM_USER"));
    let copy = AccountStep::Make(clone, "BACKUP_ADMIN, CONNECTION_ADMIN, SYSTEM_USER");
    leave.chain([AccountStep::AwaitGone]).chain(join).chain([copy]).collect()
}

fn has_account(accounts: &[Account], user: &str) -> bool {
    accounts.iter().any(|account| account.credential.user == user)
}

/// Connections of replicas whose accounts are no more, as a condition on `performance_schema.threads`.
fn shut_out(accounts: &[Account]) -> String {
    let ours = OURS.replace("user", "processlist_user");
    // By bytes, as MySQL tells accounts apart, whatever the column's collation.
    let user = "CAST(processlist_user AS BINARY)";
    let stay = accounts.iter().map(|account| format!(" AND {user} <> {}", quote(&account.credential.user)));
    format!("({ours}){}", stay.collect::<String>())
}

/// Kills the connections that a condition on `performance_schema.threads` names until none is seen: KILL returns before its
/// thread has ended, and until then what its peer acknowledges counts, or what its client began is done.
pub(super) async fn end_connections(
    session: &mut Session,
    whose: &str,
    what: &str,
    limit: Duration,
) -> Result<(), SqlError> {
    let look = format!("SELECT processlist_id FROM performance_schema.threads WHERE {whose}");
    let gone = async {
        loop {
            let left: Vec<u64> = session.rows(&look).await?;
            if left.is_empty() {
                return Ok(());
            }
            for id in left {
                session.kill(id).await?;
            }
            edge::pause(GONE_LOOK).await;
        }
    };
    let deadline = SqlError::Deadline { what: what.into(), deadline: limit };
    tokio::time::timeout(limit, gone).await.map_err(|_| deadline)?
}

/// Whatever a user's settings demand of passwords: ours are long and random, never typed, and made again with the same one.
pub(super) const FOR_EVER: &str = "PASSWORD EXPIRE NEVER PASSWORD HISTORY 0 PASSWORD REUSE INTERVAL 0 DAY \
     PASSWORD REQUIRE CURRENT OPTIONAL FAILED_LOGIN_ATTEMPTS 0 PASSWORD_LOCK_TIME 0 ACCOUNT UNLOCK";

/// `connections` at a time; 0: as many as any client.
async fn make_user(
    session: &mut Session,
    credential: &Credential,
    connections: u32,
    grants: &str,
) -> Result<(), SqlError> {
    let user = format!("{}@'%'", quote(&credential.user));
    let identified = format!(
        "IDENTIFIED WITH caching_sha2_password BY {} REQUIRE SSL WITH MAX_USER_CONNECTIONS {connections} {FOR_EVER}",
        quote(&credential.password)
    );
    session.run(&format!("CREATE USER IF NOT EXISTS {user} {identified}")).await?;
    session.run(&format!("ALTER USER {user} {identified}")).await?;
    session.run(&format!("GRANT {grants} ON *.* TO {user}")).await
}

/// All that people may read of MySQL's own tables: what there is in a later version is not among it before somebody has looked.
/// `slave_master_info` has, in clear, the password by which this server replicates, which lets in past offline_mode, and may acknowledge.
const READABLE: [&str; 28] = [
    "columns_priv",
    "component",
    "db",
    "default_roles",
    "engine_cost",
    "func",
    "general_log",
    "global_grants",
    "gtid_executed",
    "help_category",
    "help_keyword",
    "help_relation",
    "help_topic",
    "innodb_index_stats",
    "innodb_table_stats",
    "plugin",
    "procs_priv",
    "proxies_priv",
    "role_edges",
    "server_cost",
    "slow_log",
    "tables_priv",
    "time_zone",
    "time_zone_leap_second",
    "time_zone_name",
    "time_zone_transition",
    "time_zone_transition_type",
    "user",
];

/// The account for people: everything but what would let it past offline_mode, read_only or the protocol. Of RELOAD, which
/// includes RESET BINARY LOGS AND GTIDS, only what is harmless; and nothing by which it could give itself the rest: a row in
/// mysql.user would do, and INSERT on mysql.component loads a component. (Partial revokes: what it grants to others inherits them.)
pub async fn admin(session: &mut Session, credential: &Credential) -> Result<(), SqlError> {
    let user = format!("{}@'%'", quote(&credential.user));
    let change = "INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, CREATE VIEW, TRIGGER, EVENT, CREATE ROUTINE, \
                  ALTER ROUTINE, CREATE TEMPORARY TABLES, LOCK TABLES";
    make_user(session, credential, 0, "SELECT").await?;
    for grants in [
        change,
        "SELECT, SHOW VIEW, EXECUTE, CREATE USER, CREATE ROLE, DROP ROLE, PROCESS, SHOW DATABASES, REPLICATION CLIENT, \
         FLUSH_TABLES, FLUSH_STATUS, FLUSH_USER_RESOURCES, FLUSH_OPTIMIZER_COSTS",
    ] {
        session.run(&format!("GRANT {grants} ON *.* TO {user} WITH GRANT OPTION")).await?;
    }
    for schema in ["mysql", "drover"] {
        session.run(&format!("REVOKE {change} ON {schema}.* FROM {user}")).await?;
    }
    // Whatever clients are limited to, the agent is not. Here, for an account of MySQL's own is changed where it is acknowledged.
    session.run(&format!("ALTER USER root@localhost WITH MAX_USER_CONNECTIONS {AGENT_CONNECTIONS}")).await?;
    session.run(&format!("REVOKE SELECT ON mysql.* FROM {user}")).await?;
    for table in READABLE {
        session.run(&format!("GRANT SELECT ON mysql.{table} TO {user} WITH GRANT OPTION")).await?;
    }
    Ok(())
}

/// Switched on before opening and never touched while open; the caller sees to that.
pub async fn semi_sync(session: &mut Session, k: u8) -> Result<(), SqlError> {
    if k == 0 {
        return session.run("SET GLOBAL rpl_semi_sync_source_enabled = OFF").await;
    }
    let settings = [
        ("timeout", TIMEOUT_INFINITE.to_string()),
        ("wait_for_replica_count", k.to_string()),
        ("wait_no_replica", "ON".into()),
        ("wait_point", "'AFTER_SYNC'".into()),
        ("enabled", "ON".into()),
    ];
    for (name, value) in settings {
        session.run(&format!("SET GLOBAL rpl_semi_sync_source_{name} = {value}")).await?;
    }
    let found: Vec<(u64, u64, u8, String)> = session
        .rows(
            "SELECT @@GLOBAL.rpl_semi_sync_source_timeout, @@GLOBAL.rpl_semi_sync_source_wait_for_replica_count, \
             @@GLOBAL.rpl_semi_sync_source_wait_no_replica, @@GLOBAL.rpl_semi_sync_source_wait_point",
        )
        .await?;
    if found != [(TIMEOUT_INFINITE, u64::from(k), 1, "AFTER_SYNC".to_owned())] {
        return Err(SqlError::Contradiction(format!("semi-sync was set and reads {found:?}")));
    }
    Ok(())
}

/// offline_mode never hangs and cuts clients at once; super_read_only waits for commits in flight. Only its return proves that
/// nothing commits any more. Answers whether it returned.
///
/// mysqld itself gives the statement up before we do: one that is only left behind goes on waiting (measured), and would make a
/// leader read-only that was opened meanwhile.
pub async fn close(session: &mut Session) -> Result<bool, SqlError> {
    session.run("SET GLOBAL offline_mode = ON").await?;
    session.run(&format!("SET SESSION lock_wait_timeout = {}", CLOSE.as_secs())).await?;
    match session.run_within("SET GLOBAL super_read_only = ON", CLOSE + PROMPT).await {
        Ok(()) => Ok(true),
        Err(SqlError::Deadline { .. }) => Ok(false),
        Err(error) if error.code() == Some(LOCK_WAIT_TIMEOUT) => Ok(false),
        Err(error) => Err(error),
    }
}

pub async fn unseal(session: &mut Session) -> Result<(), SqlError> {
    session.run("SET GLOBAL super_read_only = OFF").await?;
    session.run("SET GLOBAL read_only = OFF").await
}

pub async fn seal(session: &mut Session) -> Result<(), SqlError> {
    session.run_within("SET GLOBAL super_read_only = ON", CLOSE).await
}

pub async fn let_in(session: &mut Session) -> Result<(), SqlError> {
    session.run("SET GLOBAL offline_mode = OFF").await
}

pub async fn discard(session: &mut Session) -> Result<(), SqlError> {
    session.run_within("STOP REPLICA", SLOW).await?;
    session.run_within("RESET REPLICA ALL", SLOW).await
}

/// Any CHANGE with both threads stopped destroys the relay log, which may hold the only other copy of an acknowledged
/// transaction; with the applier running it is kept, and then SOURCE_AUTO_POSITION may not be in the statement. No form of it
/// is refused when the applier has just ended, so nothing is left in the relay log to be destroyed: the receiver is stopped,
/// and what it received is executed, before.
pub async fn follow(
    session: &mut Session,
    paths: &Paths,
    source: &Source,
    credential: &Credential,
    fresh: bool,
) -> Result<(), SqlError> {
    let mut change = format!(
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{}', SOURCE_PORT = {}, SOURCE_USER = {}, SOURCE_PASSWORD = {}, \
         SOURCE_SSL = 1, SOURCE_SSL_CA = {}, SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 4294967295, \
         SOURCE_HEARTBEAT_PERIOD = 1",
        source.address,
        drover_api::wire::MYSQL_PORT,
        quote(&credential.user),
        quote(&credential.password),
        quote(&paths.mysqld().join("ca.pem").display().to_string()),
    );
    if fresh {
        change.push_str(", SOURCE_AUTO_POSITION = 1");
        session.run_within(&change, SLOW).await?;
        return session.run_within("START REPLICA", SLOW).await;
    }
    session.run_within("STOP REPLICA IO_THREAD", SLOW).await?;
    await_executed(session).await?;
    session.run_within(&change, SLOW).await?;
    session.run_within("START REPLICA IO_THREAD", SLOW).await
}

/// Everything that was received is executed, by an applier that runs. A backlog takes its time; the next attempt goes on with
/// what is left of it.
async fn await_executed(session: &mut Session) -> Result<(), SqlError> {
    for _ in 0..EXECUTED_LOOKS {
        let executed: Vec<u8> = session.rows(EXECUTED).await?;
        if applying(session).await? != ThreadReport::Running {
            return Err(SqlError::Contradiction("the applier does not run: it is not pointed elsewhere".into()));
        }
        if executed == [1] {
            return Ok(());
        }
        edge::pause(EXECUTED_LOOK).await;
    }
    Err(SqlError::Contradiction("what was received is not executed yet: it is not pointed elsewhere".into()))
}

const EXECUTED: &str = "SELECT GTID_SUBSET(received_transaction_set, @@GLOBAL.gtid_executed) \
     FROM performance_schema.replication_connection_status WHERE channel_name = ''";

/// The receiver connects anew, so that the source learns of it.
pub async fn acknowledge(session: &mut Session, on: bool) -> Result<(), SqlError> {
    for statement in acknowledge_steps(on) {
        session.run_within(statement, SLOW).await?;
    }
    Ok(())
}

/// What a receiver does was decided when it connected, and the variable is all that is looked at: so it is stopped before the variable
/// changes.
fn acknowledge_steps(on: bool) -> [&'static str; 4] {
    let set = match on {
        true => "SET GLOBAL rpl_semi_sync_replica_enabled = ON",
        false => "SET GLOBAL rpl_semi_sync_replica_enabled = OFF",
    };
    ["STOP REPLICA IO_THREAD", set, "START REPLICA SQL_THREAD", "START REPLICA IO_THREAD"]
}

pub async fn apply(session: &mut Session) -> Result<(), SqlError> {
    session.run_within("START REPLICA SQL_THREAD", SLOW).await
}

pub async fn resume(session: &mut Session) -> Result<(), SqlError> {
    session.run_within("START REPLICA SQL_THREAD", SLOW).await?;
    session.run_within("START REPLICA IO_THREAD", SLOW).await
}

/// The applier of the one channel, with its error where it stands.
pub async fn applying(session: &mut Session) -> Result<ThreadReport, SqlError> {
    let state: Vec<String> = session
        .rows("SELECT service_state FROM performance_schema.replication_applier_status WHERE channel_name = ''")
        .await?;
    if state.iter().any(|state| state == "ON") {
        return Ok(ThreadReport::Running);
    }
    let errors: Vec<String> = session
        .rows(
            "SELECT last_error_message FROM performance_schema.replication_applier_status_by_coordinator \
             WHERE channel_name = '' AND last_error_number <> 0 UNION ALL \
             SELECT last_error_message FROM performance_schema.replication_applier_status_by_worker \
             WHERE channel_name = '' AND last_error_number <> 0",
        )
        .await?;
    Ok(errors.into_iter().next().map_or(ThreadReport::Stopped, |error| ThreadReport::Failed { error }))
}

/// Whether anyone listens on the socket; its file outlives a mysqld that was killed.
pub fn listens(socket: &str) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_named_without_what_it_carries() {
        assert_eq!(name("ALTER USER 'a'@'%' IDENTIFIED BY 'secret'"), "ALTER USER IDENTIFIED");
        assert_eq!(name("SET GLOBAL super_read_only = ON"), "SET GLOBAL super_read_only =");
    }

    #[test]
    fn who_leaves_is_dropped_and_gone_before_anyone_joins() {
        let credential = |user: &str| Credential { user: user.into(), password: "secret".into() };
        let account =
            |n| Account { slot: drover_api::Slot::Member(n), credential: credential(&format!("drover_voter_m{n}")) };
        let (accounts, clone) = ([account(1), account(2)], credential("drover_clone"));
        let found = ["drover_voter_m1", "drover_learner_m2", "drover_voter_m3"].map(str::to_owned).to_vec();
        let steps = account_steps(found, &accounts, &clone);
        let leave = ["drover_learner_m2", "drover_voter_m3"].map(|user| AccountStep::Drop(user.into()));
        assert_eq!(steps[..2], leave);
        assert_eq!(steps[2], AccountStep::AwaitGone);
        let made = |step: &AccountStep<'_>| matches!(step, AccountStep::Make(..));
        assert!(steps.len() == 6 && steps[3..].iter().all(made), "{steps:?}");
    }

    #[test]
    fn connections_are_shut_out_whose_account_is_no_more() {
        let credential = Credential { user: "drover_voter_m1".into(), password: "secret".into() };
        let stays = Account { slot: drover_api::Slot::Member(1), credential };
        let ours = r"(processlist_user LIKE 'drover\\_voter\\_%' OR processlist_user LIKE 'drover\\_learner\\_%')";
        assert_eq!(shut_out(&[]), ours);
        assert_eq!(shut_out(&[stays]), format!("{ours} AND CAST(processlist_user AS BINARY) <> 'drover_voter_m1'"));
    }

    #[test]
    fn cut_short_anywhere_no_receiver_does_otherwise_than_the_variable_says() {
        for on in [true, false] {
            let steps = acknowledge_steps(on);
            for cut in 0..=steps.len() {
                // The variable, and what the receiver that runs does.
                let (mut variable, mut receiver) = (!on, Some(!on));
                for step in &steps[..cut] {
                    match *step {
                        "STOP REPLICA IO_THREAD" => receiver = None,
                        "START REPLICA IO_THREAD" => receiver = receiver.or(Some(variable)),
                        step if step.starts_with("SET ") => variable = step.ends_with("ON"),
                        _ => {}
                    }
                }
                assert!(receiver.is_none_or(|does| does == variable), "on: {on}, cut after {cut}");
                assert!(cut < steps.len() || (receiver, variable) == (Some(on), on));
            }
        }
    }

    #[test]
    fn a_literal_cannot_be_left() {
        assert_eq!(quote(r"a'b\c"), r"'a\'b\\c'");
    }
}

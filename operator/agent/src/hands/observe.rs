//! Looking at mysqld, only by queries that answer also while commits wait for acknowledgements. (Those that do not:
//! log_status, FLUSH, and any DDL.)

use std::collections::BTreeMap;

use drover_api::{GtidSet, Millis, wire::ThreadReport};

use super::{
    mycnf::TIMEOUT_INFINITE,
    sql::{Logged, Session, SqlError, applying},
};
use crate::state::{Channel, Dump, Observation, SeenUser};

type Server = (String, String, String, u8, u8, u8, String, u8);

/// One look. `start` names the mysqld that is asked.
pub async fn observe(socket: &str, start: &str) -> Result<Observation, SqlError> {
    let mut session = Session::open(socket, Logged::No).await?;
    let rows: Vec<Server> = session
        .rows(
            "SELECT @@version, @@server_uuid, @@GLOBAL.gtid_executed, @@GLOBAL.read_only, @@GLOBAL.super_read_only, \
             @@GLOBAL.offline_mode, CONCAT_WS(' ', @@GLOBAL.rpl_semi_sync_source_enabled, \
             @@GLOBAL.rpl_semi_sync_source_timeout, @@GLOBAL.rpl_semi_sync_source_wait_no_replica, \
             @@GLOBAL.rpl_semi_sync_source_wait_point, @@GLOBAL.rpl_semi_sync_source_wait_for_replica_count), \
             @@GLOBAL.rpl_semi_sync_replica_enabled",
        )
        .await?;
    let Some((version, server_uuid, executed, read_only, super_read_only, offline, source, replica)) =
        rows.into_iter().next()
    else {
        return Err(SqlError::Contradiction("mysqld answered with no row".into()));
    };
    let heartbeat: Vec<Option<u64>> = session.rows("SELECT MAX(at_ms) FROM drover.heartbeat").await?;
    Ok(Observation {
        start: start.to_owned(),
        version: version.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect(),
        server_uuid,
        executed: gtids(&executed)?,
        read_only: read_only == 1,
        super_read_only: super_read_only == 1,
        offline: offline == 1,
        source_k: source_k(&source),
        replica_semi_sync: replica == 1,
        channel: channel(&mut session).await?,
        dumps: dumps(&mut session).await?,
        heartbeat: heartbeat.into_iter().next().flatten().map(Millis),
        users: users(&mut session).await?,
    })
}

/// From: enabled, timeout, wait_no_replica, wait_point, wait_for_replica_count.
fn source_k(said: &str) -> u8 {
    let safe = format!("1 {TIMEOUT_INFINITE} 1 AFTER_SYNC ");
    match said.strip_prefix(&safe) {
        Some(k) => k.parse().unwrap_or(u8::MAX),
        None if said.starts_with("0 ") => 0,
        None => u8::MAX,
    }
}

async fn channel(session: &mut Session) -> Result<Option<Channel>, SqlError> {
    type Row = (String, Option<String>, Option<String>, Option<u64>, Option<String>);
    let rows: Vec<Row> = session
        .rows(
            "SELECT c.host, s.service_state, s.received_transaction_set, s.last_error_number, s.last_error_message \
             FROM performance_schema.replication_connection_configuration c \
             LEFT JOIN performance_schema.replication_connection_status s USING (channel_name) WHERE c.channel_name = ''",
        )
        .await?;
    let Some((host, state, received, number, message)) = rows.into_iter().next().filter(|row| !row.0.is_empty()) else {
        return Ok(None);
    };
    let error =
        number.filter(|number| *number != 0).map(|number| format!("{} ({number})", message.unwrap_or_default()));
    let receiving = match (state.as_deref(), error) {
        (Some("ON"), _) => ThreadReport::Running,
        (Some("CONNECTING"), error) => ThreadReport::Connecting { error },
        (_, Some(error)) => ThreadReport::Failed { error },
        (_, None) => ThreadReport::Stopped,
    };
    Ok(Some(Channel {
        address: host.parse().ok(),
        receiving,
        applying: applying(session).await?,
        received: gtids(&received.unwrap_or_default())?,
    }))
}

/// A receiver says in a variable of its session whether it acknowledges (MySQL source, `repl_semi_slave_request_dump`).
async fn dumps(session: &mut Session) -> Result<Vec<Dump>, SqlError> {
    let rows: Vec<(u64, String, i64)> = session
        .rows(
            "SELECT t.processlist_id, t.processlist_user, COALESCE(MAX(v.variable_value), 0) <> 0 FROM performance_schema.threads t \
             LEFT JOIN performance_schema.user_variables_by_thread v \
             ON v.thread_id = t.thread_id AND v.variable_name = 'rpl_semi_sync_replica' \
             WHERE t.processlist_command = 'Binlog Dump GTID' GROUP BY t.thread_id, t.processlist_id, t.processlist_user",
        )
        .await?;
    Ok(rows.into_iter().map(|(id, user, semi_sync)| Dump { id, user, semi_sync: semi_sync != 0 }).collect())
}

/// Accounts with our mark. One that cannot be read says nothing of the account but that it is ours.
async fn users(session: &mut Session) -> Result<BTreeMap<String, SeenUser>, SqlError> {
    let rows: Vec<(String, String, u8)> = session
        .rows(
            "SELECT user, CAST(JSON_EXTRACT(user_attributes, '$.metadata.drover') AS CHAR), \
             JSON_CONTAINS_PATH(user_attributes, 'one', '$.additional_password') FROM mysql.user \
             WHERE host = '%' AND JSON_CONTAINS_PATH(user_attributes, 'one', '$.metadata.drover')",
        )
        .await?;
    let seen = |(name, mark, takes_old): (String, String, u8)| {
        let mark = serde_json::from_str(&mark).unwrap_or_default();
        (name, SeenUser { mark, takes_old: takes_old != 0 })
    };
    Ok(rows.into_iter().map(seen).collect())
}

fn gtids(text: &str) -> Result<GtidSet, SqlError> {
    text.parse().map_err(|error| SqlError::Contradiction(format!("mysqld says {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semi_sync_that_could_release_a_wait_is_not_taken_for_ours() {
        let said = |enabled, timeout, alone, point, k| source_k(&format!("{enabled} {timeout} {alone} {point} {k}"));
        assert_eq!(said(1, TIMEOUT_INFINITE, 1, "AFTER_SYNC", 2), 2);
        assert_eq!(said(0, 10_000, 1, "AFTER_SYNC", 1), 0);
        assert_eq!(said(1, 10_000, 1, "AFTER_SYNC", 1), u8::MAX);
        assert_eq!(said(1, TIMEOUT_INFINITE, 0, "AFTER_SYNC", 1), u8::MAX);
        assert_eq!(said(1, TIMEOUT_INFINITE, 1, "AFTER_COMMIT", 1), u8::MAX);
    }
}

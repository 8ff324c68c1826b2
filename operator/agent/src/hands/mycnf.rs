//! mysqld's option file: what the user asked for first, what safety needs after it, so that ours wins.

use std::fmt::Write;

use drover_api::{
    Slot,
    names::{MEMBERS_MAX, READERS_MAX},
    set::Durability,
    settings::{normalise, refuse},
    wire::{MYSQL_PORT, MysqlOrder},
};

use super::paths::{Paths, SOCKET};

/// Plugins must be the same on donor and recipient of a CLONE, so every mysqld of ours loads all (MySQL manual, "Cloning
/// Remote Data": the recipient needs every plugin that is active on the donor).
const PLUGINS: [&str; 4] = ["auth_socket.so", "mysql_clone.so", "semisync_source.so", "semisync_replica.so"];
/// Milliseconds, the most that mysqld takes: a wait for acknowledgements never ends unacknowledged.
pub const TIMEOUT_INFINITE: u64 = 1_000_000_000_000_000_000;
const MIB: u64 = 1 << 20;
/// What is not copied by CLONE, or not there after a crash. A MEMORY table is emptied by a restart, by a transaction of the server's
/// own even where it is read-only (MySQL manual, "Replication and MEMORY Tables"): a replica has errant ones then.
const DISABLED_ENGINES: &str = "MyISAM,MRG_MYISAM,BLACKHOLE,FEDERATED,ARCHIVE,MEMORY,CSV";
/// Connections beside those that an account of clients may have: for every member and read replica, twice for those that reconnect, and
/// for the agent. Clients whose commits wait for acknowledgements keep theirs whatever they do, and come again; whoever is to
/// acknowledge, and the agent that lets it, must get in all the same.
const RESERVED_CONNECTIONS: u32 = 2 * (MEMBERS_MAX as u32 + READERS_MAX as u32) + AGENT_CONNECTIONS;
/// Its lanes, nudges, looks and tasks, and those of agents that were killed while they waited.
pub const AGENT_CONNECTIONS: u32 = 46;
/// What mysqld has by itself, and the most that it takes.
const CONNECTIONS: u32 = 151;
const CONNECTIONS_MAX: u32 = 100_000;

/// The server that serves.
pub fn serving(paths: &Paths, slot: Slot, order: &MysqlOrder, memory: u64) -> String {
    let mut text = beginning(order, memory);
    let sync_relay_log = match order.durability {
        Durability::Standard => 10_000,
        Durability::Strict => 1,
    };
    let (data, temporary) = (paths.data(), paths.temporary());
    let ours = [
        ("datadir", data.display().to_string()),
        ("tmpdir", temporary.display().to_string()),
        ("socket", SOCKET.into()),
        ("port", MYSQL_PORT.to_string()),
        ("bind_address", "0.0.0.0".into()),
        ("server_id", slot.server_id().to_string()),
        ("skip_name_resolve", "ON".into()),
        ("performance_schema", "ON".into()),
        // For the account of people, which must not give itself what it has not.
        ("partial_revokes", "ON".into()),
        ("mysqlx", "OFF".into()),
        ("super_read_only", "ON".into()),
        ("read_only", "ON".into()),
        ("offline_mode", "ON".into()),
        ("skip_replica_start", "ON".into()),
        ("persisted_globals_load", "OFF".into()),
        ("log_bin", "binlog".into()),
        ("relay_log", "relay".into()),
        ("relay_log_recovery", "OFF".into()),
        ("sync_relay_log", sync_relay_log.to_string()),
        ("sync_binlog", "1".into()),
        ("innodb_flush_log_at_trx_commit", "1".into()),
        ("innodb_doublewrite", "ON".into()),
        ("innodb_undo_log_truncate", "OFF".into()),
        ("gtid_mode", "ON".into()),
        ("enforce_gtid_consistency", "ON".into()),
        ("log_replica_updates", "ON".into()),
        ("replica_preserve_commit_order", "ON".into()),
        ("replication_sender_observe_commit_only", "OFF".into()),
        ("binlog_format", "ROW".into()),
        ("disabled_storage_engines", DISABLED_ENGINES.into()),
        ("loose_rpl_semi_sync_source_enabled", "OFF".into()),
        ("loose_rpl_semi_sync_replica_enabled", "OFF".into()),
        ("loose_rpl_semi_sync_source_timeout", TIMEOUT_INFINITE.to_string()),
        ("loose_rpl_semi_sync_source_wait_no_replica", "ON".into()),
        ("loose_rpl_semi_sync_source_wait_point", "AFTER_SYNC".into()),
        ("ssl_ca", paths.mysqld().join("ca.pem").display().to_string()),
        ("ssl_cert", paths.mysqld().join("cert.pem").display().to_string()),
        ("ssl_key", paths.mysqld().join("key.pem").display().to_string()),
    ];
    set(&mut text, &ours);
    if let Some(clients) = connections(order, memory) {
        let all = clients.saturating_add(RESERVED_CONNECTIONS).min(CONNECTIONS_MAX);
        // Of each account: mysqld has no limit for all clients together that leaves out who is not one.
        set(&mut text, &[("max_connections", all.to_string()), ("max_user_connections", clients.to_string())]);
    }
    text
}

/// How many connections an account of clients may have. None where mysqld is to say what is wrong with what was asked for.
fn connections(order: &MysqlOrder, memory: u64) -> Option<u32> {
    match order.settings.iter().find(|(name, _)| normalise(name) == "max_connections") {
        Some((_, asked)) => number(asked).filter(|asked| *asked > 0),
        None if memory < SMALL => Some(SMALL_CONNECTIONS),
        None => Some(CONNECTIONS),
    }
}

/// As mysqld reads one in an option file: `2K` is 2048.
fn number(text: &str) -> Option<u32> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" | "k" => 1 << 10,
        "M" | "m" => 1 << 20,
        _ => return None,
    };
    digits.parse::<u32>().ok()?.checked_mul(unit)
}

/// A server that only makes data, seen by nobody.
pub fn scratch(paths: &Paths, order: &MysqlOrder, data: &str, socket: &str) -> String {
    let mut text = beginning(order, 0);
    let ours = [
        ("datadir", data.into()),
        ("tmpdir", paths.making().display().to_string()),
        ("socket", socket.into()),
        ("skip_networking", "ON".into()),
        ("mysqlx", "OFF".into()),
        ("skip_log_bin", String::new()),
        ("partial_revokes", "ON".into()),
        ("persisted_globals_load", "OFF".into()),
        ("innodb_buffer_pool_size", (128 * MIB).to_string()),
        ("loose_clone_ssl_ca", paths.mysqld().join("ca.pem").display().to_string()),
    ];
    set(&mut text, &ours);
    text
}

fn beginning(order: &MysqlOrder, memory: u64) -> String {
    let mut text =
        String::from("# Written by the Drover agent at every start of mysqld; changes here are lost.\n[mysqld]\n");
    set(&mut text, &defaults(memory));
    // An order may be older than what is refused now.
    let allowed = order.settings.iter().filter(|(name, value)| refuse(name, value).is_none());
    set(&mut text, &allowed.map(|(name, value)| (name.as_str(), value.clone())).collect::<Vec<_>>());
    // Debian's mysqld names a directory here that its own packages make, and does not start without it.
    set(&mut text, &[("secure_file_priv", "NULL".into())]);
    for plugin in PLUGINS {
        writeln!(text, "plugin_load_add = {plugin}").expect("a String takes everything");
    }
    text
}

/// Machines with less memory have small caches and room for fewer clients.
const SMALL: u64 = 2048 * MIB;
const SMALL_CONNECTIONS: u32 = 100;

/// What suits the machine where the user says nothing: half of the memory for pages on machines of 4 GiB or more, a quarter
/// below; small caches below 2 GiB, where mysqld's own defaults take 200 MB more (measured: 525 against 305 MB).
fn defaults(memory: u64) -> Vec<(&'static str, String)> {
    let pool = if memory >= 4096 * MIB { memory / 2 } else { (memory / 4).max(128 * MIB) };
    let mut defaults = vec![
        ("innodb_buffer_pool_size", (pool / MIB * MIB).to_string()),
        // Fewer events in the relay log: with `durability: strict` each costs an fsync.
        ("binlog_transaction_compression", "ON".into()),
    ];
    if memory < SMALL {
        let small = [("table_open_cache", "400"), ("table_definition_cache", "400")];
        defaults.extend(small.map(|(name, value)| (name, value.to_owned())));
    }
    defaults
}

fn set(text: &mut String, options: &[(&str, String)]) {
    for (name, value) in options {
        let name = normalise(name);
        // Quoted, with the escapes of option files, so that neither `#` nor a space ends it.
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ");
        let line = if value.is_empty() { name } else { format!("{name} = \"{quoted}\"") };
        writeln!(text, "{line}").expect("a String takes everything");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(settings: &[(&str, &str)]) -> MysqlOrder {
        let settings = settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        MysqlOrder { version: "9.7".into(), settings, durability: Durability::Standard }
    }

    /// mysqld takes the last of two.
    fn value(text: &str, name: &str) -> Option<String> {
        let lines = text.lines().rev();
        lines
            .filter_map(|line| line.split_once(" = "))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.replace('"', ""))
    }

    #[test]
    fn what_safety_needs_wins_over_what_the_user_asked_for() {
        let wrong =
            [("super-read-only", "OFF"), ("sync_binlog", "0"), ("relay_log_recovery", "ON"), ("datadir", "/tmp")];
        let text = serving(&Paths::default(), Slot::Member(2), &order(&wrong), 8192 * MIB);
        for (name, expected) in [
            ("super_read_only", "ON"),
            ("offline_mode", "ON"),
            ("skip_replica_start", "ON"),
            ("sync_binlog", "1"),
            ("relay_log_recovery", "OFF"),
            ("datadir", "/var/lib/drover/volume/data"),
            ("server_id", "3"),
            ("sync_relay_log", "10000"),
        ] {
            assert_eq!(value(&text, name).as_deref(), Some(expected), "{name}");
        }
    }

    /// Else a setting would be taken from the user and silently overruled, or not overruled at all in another spelling.
    #[test]
    fn whatever_we_set_for_safety_is_refused_to_the_user() {
        let text = serving(&Paths::default(), Slot::Member(0), &order(&[]), 8192 * MIB);
        let suits = ["innodb_buffer_pool_size", "binlog_transaction_compression", "max_connections"];
        let names = text.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
        let open: Vec<&str> = names.filter(|name| !suits.contains(name) && refuse(name, "1").is_none()).collect();
        assert_eq!(open, [""; 0]);
    }

    #[test]
    fn what_an_older_order_asks_for_and_is_refused_now_is_not_set() {
        let old = order(&[("autocommit", "0"), ("wait_timeout", "60")]);
        let text = serving(&Paths::default(), Slot::Member(0), &old, 8192 * MIB);
        assert_eq!((value(&text, "autocommit"), value(&text, "wait_timeout")), (None, Some("60".into())));
    }

    #[test]
    fn the_user_wins_over_our_defaults_and_a_value_cannot_break_out_of_its_line() {
        let text = serving(
            &Paths::default(),
            Slot::Member(0),
            &order(&[
                ("innodb_buffer_pool_size", "1G"),
                ("sql_mode", "A # \"b"),
                ("time_zone", "x\nsuper_read_only=OFF"),
            ]),
            8192 * MIB,
        );
        assert_eq!(value(&text, "innodb_buffer_pool_size").as_deref(), Some("1G"));
        assert!(text.contains("sql_mode = \"A # \\\"b\"\n") && !text.contains("x super"), "{text}");
    }

    /// An account of clients never takes what is kept for replicas and the agent.
    #[test]
    fn connections_are_kept_for_whoever_acknowledges() {
        let limits = |settings: &[(&str, &str)], mib: u64| {
            let text = serving(&Paths::default(), Slot::Member(0), &order(settings), mib * MIB);
            (value(&text, "max_connections"), value(&text, "max_user_connections"))
        };
        let told = |all: &str, clients: &str| (Some(all.to_owned()), Some(clients.to_owned()));
        assert_eq!(limits(&[], 8192), told("407", "151"));
        assert_eq!(limits(&[], 1024), told("356", "100"));
        assert_eq!(limits(&[("max_connections", "500")], 1024), told("756", "500"));
        assert_eq!(limits(&[("max_connections", "2K")], 8192), told("2304", "2048"));
        assert_eq!(limits(&[("max-connections", "100000")], 8192), told("100000", "100000"));
        assert_eq!(limits(&[("max_connections", "many")], 8192), (Some("many".into()), None));
    }

    #[test]
    fn memory_and_durability_are_followed() {
        let pool = |mib: u64| {
            value(&serving(&Paths::default(), Slot::Member(0), &order(&[]), mib * MIB), "innodb_buffer_pool_size")
        };
        assert_eq!(pool(16_384), Some((8192 * MIB).to_string()));
        assert_eq!(pool(2048), Some((512 * MIB).to_string()));
        assert_eq!(pool(256), Some((128 * MIB).to_string()));
        let strict = MysqlOrder { durability: Durability::Strict, ..order(&[]) };
        let text = serving(&Paths::default(), Slot::Member(0), &strict, 1024 * MIB);
        assert_eq!(value(&text, "sync_relay_log").as_deref(), Some("1"));
        assert_eq!(value(&text, "table_open_cache").as_deref(), Some("400"));
    }
}

//! Which `mysql.settings` are refused, and why: the closed list. What decides who may write, what is durable, how
//! replication runs and where files lie belongs to Drover; a user's value there could lose acknowledged rows.

/// Variables that share one reason. A name that ends with `*` stands for all that begin so.
#[derive(Debug)]
pub struct Refused {
    pub reason: &'static str,
    pub names: &'static [&'static str],
}

/// How a `mysql.settings` value may look: one line, bounded.
pub const VALUE_CHARS_MAX: usize = 1024;
pub const SETTINGS_MAX: usize = 200;

pub const REFUSED: &[Refused] = &[
    Refused {
        reason: "replication identity and GTIDs are Drover's: a change could make two histories",
        names: &[
            "gtid_*",
            "enforce_gtid_consistency",
            "server_id",
            "server_id_bits",
            "server_uuid",
            "log_bin",
            "log_bin_basename",
            "log_bin_index",
            "binlog_format",
            "binlog_gtid_simple_recovery",
            "log_replica_updates",
            "log_slave_updates",
            "binlog_row_image",
            "binlog_checksum",
            "binlog_do_db",
            "binlog_ignore_db",
            "max_binlog_dump_events",
            "sporadic_binlog_dump_fail",
        ],
    },
    Refused {
        reason: "semi-synchronous replication is what makes an acknowledged row safe; Drover sets it",
        names: &["rpl_semi_sync_*", "rpl_stop_replica_timeout", "rpl_stop_slave_timeout", "replication_*"],
    },
    Refused {
        reason: "how a replica receives and applies is Drover's; set mysql.durability to choose how relay logs are synced",
        names: &[
            "relay_log*",
            "max_relay_log_size",
            "replica_*",
            "replicate_*",
            "slave_*",
            "skip_replica_start",
            "skip_slave_start",
            "sync_relay_log*",
            "sync_source_info",
            "sync_master_info",
            "master_info_repository",
            "master_retry_count",
            "report_host",
            "report_port",
            "report_user",
            "report_password",
            "init_replica",
            "init_slave",
        ],
    },
    Refused {
        reason: "who may write is decided by the epoch, never by a setting",
        names: &[
            "read_only",
            "super_read_only",
            "offline_mode",
            "transaction_read_only",
            "init_connect",
            "init_file",
            "mandatory_roles",
            "partial_revokes",
        ],
    },
    Refused {
        reason: "a statement that returns is a commit: Drover proves a quorum by it, and so do its users",
        names: &["autocommit", "completion_type"],
    },
    Refused {
        reason: "without it a committed row can be lost; it is always on",
        names: &[
            "sync_binlog",
            "innodb_flush_log_at_trx_commit",
            "innodb_flush_log_at_timeout",
            "innodb_doublewrite*",
            "innodb_force_*",
            "innodb_flush_method",
            "innodb_checksum_algorithm",
            "innodb_log_checksums",
            "binlog_error_action",
            "binlog_order_commits",
            "innodb_undo_log_truncate",
            "innodb_read_only",
            "innodb_fast_shutdown",
            "sync_frm",
            "binlog_cache_fail*",
            "innodb_extend_and_initialize",
            "log_tc*",
            "tc_heuristic_recover",
        ],
    },
    Refused {
        reason: "every copy has to hold and to apply data in the same way, whenever it was made",
        names: &[
            "innodb_page_size",
            "innodb_native_foreign_keys",
            "lower_case_table_names",
            "terminology_use_previous",
        ],
    },
    Refused {
        reason: "Drover would not see who is connected to it, or could not reach mysqld itself",
        names: &[
            "performance_schema",
            "performance_schema_max_thread_*",
            "protocol_compression_algorithms",
            "thread_handling",
            "max_user_connections",
        ],
    },
    Refused {
        reason: "paths, ports and sockets are Drover's: the agent has to find mysqld and its files",
        names: &[
            "datadir",
            "basedir",
            "tmpdir",
            "replica_load_tmpdir",
            "socket",
            "port",
            "bind_address",
            "admin_address",
            "admin_port",
            "create_admin_listener_thread",
            "mysqlx*",
            "pid_file",
            "log_error*",
            "log_isam",
            "innodb_data_home_dir",
            "innodb_data_file_path",
            "innodb_log_group_home_dir",
            "innodb_undo_directory",
            "innodb_temp_*",
            "innodb_tmpdir",
            "innodb_directories",
            "innodb_redo_log_archive_dirs",
            "innodb_buffer_pool_filename",
            "secure_file_priv",
            "general_log_file",
            "slow_query_log_file",
            "ft_stopword_file",
            "lc_messages_dir",
            "character_sets_dir",
        ],
    },
    Refused {
        reason: "how mysqld is started and ended is the agent's",
        names: &[
            "user",
            "chroot",
            "daemonize",
            "console",
            "core_file",
            "exit_info",
            "gdb",
            "help",
            "initialize*",
            "upgrade",
            "validate_config",
            "verbose",
            "version*",
        ],
    },
    Refused {
        reason: "plugins, components and TLS are loaded by Drover",
        names: &[
            "plugin_*",
            "plugin",
            "early_plugin_load",
            "allow_suspicious_udfs",
            "clone_*",
            "clone",
            "ssl_*",
            "tls_*",
            "admin_ssl_*",
            "admin_tls_*",
            "auto_generate_certs",
            "require_secure_transport",
            "authentication_*",
            "auth_socket",
            "default_authentication_plugin",
            "persist_*",
            "persisted_globals_load",
            "caching_sha2_password_*",
            "sha256_password_*",
            "skip_grant_tables",
            "group_replication*",
            "mysql_native_password",
        ],
    },
    Refused {
        reason: "it needs a keyring, which Drover does not load; machine.dataVolume.kmsKeyId encrypts the whole volume",
        names: &[
            "keyring_*",
            "binlog_encryption",
            "binlog_rotate_encryption_master_key_at_startup",
            "default_table_encryption",
            "innodb_redo_log_encrypt",
            "innodb_undo_log_encrypt",
        ],
    },
    Refused {
        reason: "only InnoDB survives a crash and can be cloned",
        names: &[
            "disabled_storage_engines",
            "default_storage_engine",
            "default_tmp_storage_engine",
            "internal_tmp_disk_storage_engine",
            "external_table_*",
            "archive",
            "blackhole",
            "federated",
            "ndb*",
        ],
    },
    Refused { reason: "it would write passwords to the log", names: &["log_raw"] },
];

/// Variables whose whole name is the beginning of a refused one: mysqld takes a whole name before a beginning.
pub(crate) const ALLOWED: &[&str] = &["slow_query_log", "general_log", "lc_messages"];

/// Prefixes of option files that are no part of a variable's name (MySQL manual, "Program Option Modifiers").
pub(crate) const MODIFIERS: &[&str] = &["loose_", "skip_", "disable_", "enable_", "maximum_"];

/// A variable's name as mysqld compares it: lower case, `_` for `-`.
pub fn normalise(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

/// Why this setting cannot be made, or `None`. MySQL's programs take an unambiguous beginning for an option's name (MySQL
/// manual, "Command-Line Options"); mysqld 9.7.4 does not (measured), but a beginning of a refused name is refused like the
/// name, so that nothing hangs on which program reads it.
pub fn refuse(name: &str, value: &str) -> Option<String> {
    let variable = normalise(name);
    let well_formed = !variable.is_empty()
        && variable.len() <= 64
        && variable.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !well_formed {
        return Some(format!("{name:?} is not the name of a MySQL system variable"));
    }
    if MODIFIERS.iter().any(|modifier| variable.starts_with(modifier)) {
        return Some(format!(
            "{name} must be the variable itself, without loose, skip, disable, enable or maximum before it"
        ));
    }
    for refused in REFUSED.iter().filter(|_| !ALLOWED.contains(&variable.as_str())) {
        let hit = refused.names.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => variable.starts_with(prefix) || prefix.starts_with(&variable),
            None => pattern.starts_with(&variable),
        });
        if hit {
            return Some(format!("{name} cannot be set: {}", refused.reason));
        }
    }
    if value.chars().count() > VALUE_CHARS_MAX || value.chars().any(char::is_control) {
        return Some(format!("{name} must have a value of one line, at most {VALUE_CHARS_MAX} characters"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dangerous_settings_are_refused_in_every_spelling() {
        for name in [
            "gtid_mode",
            "GTID-MODE",
            "gtid_mod",
            "super_read_only",
            "super-read-onl",
            "sync_binlog",
            "rpl_semi_sync_source_timeout",
            "rpl-semi-sync",
            "skip_grant_tables",
            "loose_gtid_mode",
            "skip-log-bin",
            "disable_log_bin",
            "relay_log_recovery",
            "datadir",
            "plugin-load-add",
            "innodb_flush_log_at_trx_commit",
            "innodb_flush_log",
            "autocommit",
            "skip_autocommit",
            "completion-type",
            "performance_schema",
            "skip_performance_schema",
            "performance_schema_max_thread_instances",
            "mandatory_roles",
            "max_user_connections",
            "thread_handling",
            "tc_heuristic_recover",
            "innodb_page_size",
            "initialize-insecure",
            "keyring_migration_source",
            "log_raw",
            "",
            "a b",
            "x\ny",
            "é",
        ] {
            assert!(refuse(name, "1").is_some(), "{name:?} was allowed");
        }
    }

    #[test]
    fn ordinary_settings_are_allowed() {
        for name in [
            "innodb_buffer_pool_size",
            "max_connections",
            "innodb-io-capacity",
            "long_query_time",
            "slow_query_log",
            "sql_mode",
            "binlog_expire_logs_seconds",
            "innodb_redo_log_capacity",
            "performance_schema_instrument",
            "table_open_cache",
            "wait_timeout",
            "binlog_transaction_compression",
            "character_set_server",
            "default_time_zone",
            "default_password_lifetime",
            "password_history",
            "transaction_isolation",
            "max_allowed_packet",
            "event_scheduler",
        ] {
            assert_eq!(refuse(name, "1"), None, "{name}");
        }
    }

    #[test]
    fn a_value_cannot_smuggle_a_second_line() {
        assert!(refuse("max_connections", "10\nsuper_read_only=0").is_some());
    }

    #[test]
    fn a_refusal_names_its_reason() {
        let message = refuse("sync_binlog", "0").expect("refused");
        assert_eq!(message, "sync_binlog cannot be set: without it a committed row can be lost; it is always on");
    }
}

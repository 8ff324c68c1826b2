//! Rows of a shop, written on a primary and compared on every member.

use std::time::Duration;

use crate::{Cloud, pace::within};

/// A replica applies what it received; one whose disk was full looks again after a minute (MySQL manual, "How MySQL handles a full disk").
const APPLIED: Duration = Duration::from_secs(180);

impl Cloud {
    /// The table, once; its rows follow by [`Cloud::write_rows`].
    pub fn make_shop(&self, primary: &str) -> anyhow::Result<()> {
        let statement = "CREATE DATABASE shop; CREATE TABLE shop.t (n INT PRIMARY KEY, pad CHAR(64) NOT NULL)";
        self.sql(primary, statement).map(drop)
    }

    /// Rows from `first` to `last`, all of them acknowledged when this returns.
    pub fn write_rows(&self, primary: &str, first: u32, last: u32) -> anyhow::Result<()> {
        let statement = format!(
            "SET SESSION cte_max_recursion_depth = 1000000; INSERT INTO shop.t WITH RECURSIVE s (n) AS (SELECT {first} \
             UNION ALL SELECT n + 1 FROM s WHERE n < {last}) SELECT n, SHA2(n, 256) FROM s"
        );
        self.sql(primary, &statement).map(drop)
    }

    /// How many rows a machine has, and a checksum of them.
    pub fn rows(&self, instance: &str) -> anyhow::Result<String> {
        self.sql(instance, "SELECT COUNT(*), COALESCE(BIT_XOR(CRC32(CONCAT(n, pad))), 0) FROM shop.t")
    }

    /// Waits until every machine of a set has the rows from 1 to `last`, and the same.
    pub fn await_equal_rows(&self, name: &str, last: u32) -> anyhow::Result<()> {
        within(APPLIED, format!("every machine of {name} has the same {last} rows"), || {
            let rows =
                self.fleet_of(name)?.values().map(|instance| self.rows(instance)).collect::<Result<Vec<_>, _>>()?;
            let is_all = |rows: &String| rows.starts_with(&format!("{last}\t"));
            Ok((rows.iter().all(is_all) && rows.windows(2).all(|pair| pair[0] == pair[1])).then_some(()))
        })
    }
}

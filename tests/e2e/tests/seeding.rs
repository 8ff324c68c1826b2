//! A copy between members that is cut short, by the end of either side: it is made again, nothing of it is served, and no machine
//! is launched twice.

use std::time::Duration;

use anyhow::{Context, ensure};
use drover_api::Slot;
use drover_e2e::{Cloud, Operator, heading, manifest, scenario, within};

/// Three machines boot on two cores.
const LAUNCH: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(120);
const SET: &str = "copies";
/// A tablespace that is all there at once: to be copied, it takes seconds.
const LONG: &str = "CREATE TABLE shop.long_to_copy (n INT PRIMARY KEY) AUTOEXTEND_SIZE = 1G";
const VOLUME: &str = "/var/lib/drover/volume";

/// The set's walk through its copies.
struct Walk<'a> {
    cloud: &'a Cloud,
    operator: Operator,
    /// How many were written and acknowledged.
    rows: u32,
}

#[test]
fn a_copy_that_is_cut_short_is_made_again_and_none_of_it_is_served() -> anyhow::Result<()> {
    scenario("seeding", |cloud| {
        let text = manifest(SET, 3, 0);
        let operator = Operator::start(cloud, "operator", &[("copies.yaml", &text)])?;
        let mut walk = Walk { cloud, operator, rows: 0 };
        walk.first_donor()?;
        walk.donors_mysqld()?;
        walk.recipients_mysqld()?;
        walk.recipients_machine()?;
        walk.donors_machine()?;
        assert_eq!((cloud.machines()?.len(), cloud.data_volumes()?.len()), (5, 3));
        Ok(())
    })
}

impl Walk<'_> {
    fn first_donor(&mut self) -> anyhow::Result<()> {
        heading(
            "mysqld of the leader is killed while the first copies are made of it: the set becomes ready all the same",
        );
        self.operator.await_set(SET, LAUNCH, "is being copied", |set| {
            set.members.iter().any(|row| row.state == "copying from m0")
        })?;
        let leader = self.machine(0)?;
        let mysqld = self.cloud.mysqld(&leader)?;
        self.kill_mysqld(&leader)?;
        self.operator.await_ready(SET, 3, LAUNCH)?;
        assert_ne!(self.cloud.mysqld(&leader)?, mysqld);
        self.cloud.make_shop(&leader)?;
        self.cloud.sql(&leader, LONG).map(drop)
    }

    fn donors_mysqld(&mut self) -> anyhow::Result<()> {
        heading(
            "the donor's mysqld is killed: it returns by itself as the voter that it was, and the copy is made again",
        );
        let (donor, voters) = (self.machine(1)?, self.cloud.register(SET)?.voters);
        let mysqld = self.cloud.mysqld(&donor)?;
        let recipient = self.copying()?;
        self.kill_mysqld(&donor)?;
        self.await_failure(&recipient)?;
        self.await_ready(None)?;
        assert_ne!(self.cloud.mysqld(&donor)?, mysqld);
        let now = self.cloud.register(SET)?.voters;
        assert_eq!((&now[..2], now[2].generation), (&voters[..2], voters[2].generation + 1), "{now:?}");
        Ok(())
    }

    fn recipients_mysqld(&mut self) -> anyhow::Result<()> {
        heading("the recipient's mysqld is killed: the copy is made again");
        let recipient = self.copying()?;
        self.cloud.inside(&recipient, &["pkill", "-KILL", "-f", "^/usr/sbin/mysqld .*/data.tmp/"])?;
        self.await_failure(&recipient)?;
        self.await_ready(None)
    }

    fn recipients_machine(&mut self) -> anyhow::Result<()> {
        heading(
            "the recipient's host dies, and its machine is ended: the next makes the copy again on the same volume",
        );
        let recipient = self.copying()?;
        let volume = self.cloud.volume_of(&recipient)?;
        self.cloud.fault(&format!("kill {recipient}"))?;
        self.cloud.end_machine(&recipient)?;
        self.await_ready(Some(&recipient))?;
        let now = self.machine(2)?;
        assert_eq!(self.cloud.volume_of(&now)?, volume);
        let journal = self.cloud.inside(&now, &["journalctl", "-q", "-o", "cat", "-u", "drover-agent"])?;
        assert!(journal.contains("begins task=Seed"), "what was cut short was whole");
        Ok(())
    }

    fn donors_machine(&mut self) -> anyhow::Result<()> {
        heading(
            "the donor's host dies, and its machine is ended: the copy is given up soon, and made of whom there is",
        );
        let donor = self.machine(1)?;
        let recipient = self.copying()?;
        self.cloud.fault(&format!("kill {donor}"))?;
        self.cloud.end_machine(&donor)?;
        self.await_failure(&recipient)?;
        self.await_ready(Some(&donor))
    }

    /// Takes m2's data away, writes some rows, and waits until it is in the middle of a copy of m1's. Answers m2's machine.
    fn copying(&mut self) -> anyhow::Result<String> {
        let recipient = self.machine(2)?;
        let take = format!(
            "systemctl stop drover-agent; systemctl kill -s KILL drover-mysqld; \
             while systemctl is-active --quiet drover-mysqld; do sleep 0.05; done; rm -r {VOLUME}/data; \
             journalctl -q --rotate; journalctl -q --vacuum-time=1s; systemctl start drover-agent"
        );
        self.cloud.inside(&recipient, &["sh", "-ec", &take])?;
        self.cloud.write_rows(&self.machine(0)?, self.rows + 1, self.rows + 1000)?;
        self.rows += 1000;
        self.operator.await_set(SET, SOON, "copies m1's data", |set| {
            set.members.get(2).is_some_and(|row| row.state == "copying from m1")
        })?;
        self.nothing_is_served(&recipient)?;
        let progress = "SELECT COUNT(*) FROM performance_schema.clone_progress \
                        WHERE stage = 'FILE COPY' AND state = 'In Progress' AND data > 0";
        let socket = format!("{VOLUME}/data.tmp/s.sock");
        within(SOON, "a part of m1's data is copied", || {
            let query = ["mysql", "--socket", &socket, "-u", "root", "-N", "-e", progress];
            Ok((self.cloud.inside(&recipient, &query)?.trim() == "1").then_some(()))
        })?;
        Ok(recipient)
    }

    /// The recipient says that its copy failed, and still serves nothing.
    fn await_failure(&self, recipient: &str) -> anyhow::Result<()> {
        within(SOON, "the copy fails", || {
            let journal = self.cloud.inside(recipient, &["journalctl", "-q", "-o", "cat", "-u", "drover-agent"])?;
            Ok(journal.contains("SeedFailed").then_some(()))
        })?;
        self.nothing_is_served(recipient)
    }

    fn nothing_is_served(&self, recipient: &str) -> anyhow::Result<()> {
        self.cloud.inside(recipient, &["test", "!", "-e", &format!("{VOLUME}/data")]).context("there is data")?;
        let url = "http://127.0.0.1:7071/replica?lag=60s";
        let code = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "3", url];
        let code = self.cloud.inside(recipient, &code)?;
        ensure!(code == "503", "a half copy is offered: {code}");
        Ok(())
    }

    /// Waits until all three are ready, with another machine in place of the one that ended, and have every row.
    fn await_ready(&mut self, ended: Option<&str>) -> anyhow::Result<()> {
        self.operator.await_set(SET, LAUNCH, "is ready", |set| {
            let mut ids = set.members.iter().map(|row| row.instance.as_ref().map(|id| id.as_str()));
            set.ready && ids.all(|id| id.is_some() && id != ended)
        })?;
        self.cloud.await_equal_rows(SET, self.rows)
    }

    fn kill_mysqld(&self, instance: &str) -> anyhow::Result<()> {
        self.cloud.inside(instance, &["systemctl", "kill", "-s", "KILL", "drover-mysqld.service"]).map(drop)
    }

    fn machine(&self, member: u8) -> anyhow::Result<String> {
        let set = self.operator.set(SET)?;
        let row = set.members.iter().find(|row| row.slot == Slot::Member(member)).context("a slot has a row")?;
        Ok(row.instance.as_ref().context("a machine fills it")?.to_string())
    }
}

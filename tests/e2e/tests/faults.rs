//! The faults of machines, disks and zones that drover-local makes: what is unknown is not gone, so nothing is replaced; the set
//! serves on with what it has left, and is whole again when the fault ends.

use std::{collections::BTreeSet, time::Duration};

use anyhow::ensure;
use drover_api::Slot;
use drover_e2e::{Cloud, Operator, Status, heading, manifest, scenario, within};

const LAUNCH: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(120);
const SET: &str = "faults";
const ROWS: u32 = 100;
/// More than the file system has free where it is full; whether it was done is looked at, for a write that hangs cannot be ended.
const WRITE: &str = "cd /var/lib/drover/volume; rm -f /run/wrote; \
    (dd if=/dev/zero of=probe bs=1M count=16 conv=fsync && touch /run/wrote; rm -f probe) >/dev/null 2>&1 & \
    sleep 3; test -e /run/wrote";

#[test]
fn what_stands_still_or_is_out_of_reach_is_not_replaced() -> anyhow::Result<()> {
    scenario("faults", |cloud| {
        let text = manifest(SET, 3, 0);
        let mut operator = Operator::start(cloud, "operator", &[("faults.yaml", text.as_str())])?;
        let ready = operator.await_ready(SET, 3, LAUNCH)?;
        let zones: BTreeSet<_> = ready.members.iter().filter_map(|row| row.zone.clone()).collect();
        ensure!(zones.len() == 3, "{ready:?}");
        let fleet = cloud.fleet()?;
        cloud.make_shop(&fleet["m0"])?;
        let facts = cloud.facts()?;
        let calls = cloud.calls_so_far()?;
        let volume = |slot: &str| cloud.volume_of(&fleet[slot]);
        let zone = ready.members[2].zone.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut walk = Walk { cloud, operator: &mut operator, primary: &fleet["m0"], rows: 0 };

        let cannot_write = |slot: &str| cloud.inside(&fleet[slot], &["sh", "-c", WRITE]).is_err();
        walk.serves_on("a replica stands still", &format!("freeze {}", fleet["m1"]), |now| is_missed(now, 1))?;
        walk.serves_on("a replica's disk is full", &format!("fill-disk {}", volume("m2")?), |_| cannot_write("m2"))?;
        walk.serves_on("a replica's disk hangs", &format!("stall-disk {}", volume("m1")?), |_| cannot_write("m1"))?;
        walk.serves_on("nothing reaches a replica", &format!("cut {} in", fleet["m2"]), |now| is_missed(now, 2))?;
        walk.serves_on("a replica's zone is out", &format!("zone-outage {zone}"), |now| {
            now.waiting.iter().any(|line| line.starts_with("FleetUnknown"))
        })?;

        heading("the primary stands still: nobody is opened in its place, and it goes on");
        let freeze = format!("freeze {}", fleet["m0"]);
        cloud.fault(&freeze)?;
        within(SOON, "the operator misses the primary", || Ok(is_missed(&operator.status()?, 0).then_some(())))?;
        operator.await_set(SET, SOON, "says that it is not heard", |set| set.verdict.contains("not heard"))?;
        operator.await_passes(3)?;
        for slot in ["m1", "m2"] {
            ensure!(cloud.sql(&fleet[slot], "SELECT @@super_read_only")? == "1", "{slot} is open");
        }
        cloud.mend(&freeze)?;
        operator.await_ready(SET, 3, LAUNCH)?;
        cloud.write_rows(&fleet["m0"], 1001, 1100)?;

        heading("the same machines, mysqlds and volumes as before, and nothing but tags was sent to EC2");
        let now = cloud.facts()?;
        ensure!((&now.machines, &now.volumes) == (&facts.machines, &facts.volumes), "{facts:#?} {now:#?}");
        let sent = cloud.mutating(calls)?;
        let changes: Vec<_> = sent.iter().filter(|call| call.service == "ec2" && call.action != "CreateTags").collect();
        ensure!(changes.is_empty(), "{changes:#?}");
        Ok(())
    })
}

struct Walk<'a> {
    cloud: &'a Cloud,
    operator: &'a mut Operator,
    primary: &'a str,
    rows: u32,
}

impl Walk<'_> {
    /// While the fault lasts commits are acknowledged by the others; afterwards every member has every row.
    fn serves_on(&mut self, what: &str, fault: &str, is_seen: impl Fn(&Status) -> bool) -> anyhow::Result<()> {
        heading(&format!("{what}: the others serve on, and nothing is replaced"));
        self.cloud.fault(fault)?;
        within(SOON, format!("{fault} is seen"), || Ok(is_seen(&self.operator.status()?).then_some(())))?;
        self.write()?;
        self.operator.await_passes(3)?;
        self.write()?;
        self.cloud.mend(fault)?;
        self.operator.await_ready(SET, 3, LAUNCH)?;
        self.cloud.await_equal_rows(SET, self.rows)
    }

    fn write(&mut self) -> anyhow::Result<()> {
        self.cloud.write_rows(self.primary, self.rows + 1, self.rows + ROWS)?;
        self.rows += ROWS;
        Ok(())
    }
}

fn is_missed(now: &Status, member: u8) -> bool {
    let mut rows = now.sets.iter().flat_map(|set| &set.members);
    rows.any(|row| row.slot == Slot::Member(member) && !row.ready)
}

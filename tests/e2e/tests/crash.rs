//! The real operator killed in the middle of things: what it left is gone on with, and nothing is made twice or left behind.

use std::time::Duration;

use drover_e2e::{Call, Cloud, Operator, heading, manifest, scenario, within};

/// Four machines boot on two cores, after as many leases as operators were killed.
const LAUNCH: Duration = Duration::from_secs(180);
/// A lease runs out, and the next step is taken.
const STEP: Duration = Duration::from_secs(120);
const SET: &str = "crashed";
const FILE: &str = "crashed.yaml";

#[test]
fn an_operator_killed_anywhere_leaves_four_machines_and_then_none() -> anyhow::Result<()> {
    scenario("crash", |cloud| {
        let text = manifest(SET, 3, 1);
        let manifests = [(FILE, text.as_str())];
        heading("killed when a launch's answer was lost");
        cloud.fault("lost-reply RunInstances --times 2")?;
        kill_when(cloud, "lost", &manifests, |calls| calls.iter().any(|call| call.reply_lost))?;
        cloud.mend("lost-reply RunInstances")?;
        for (action, count) in [("RunInstances", 3), ("CreateVolume", 1), ("AttachVolume", 2), ("CreateTags", 1)] {
            heading(&format!("killed at {action} number {count}"));
            let of_action =
                |calls: &[Call]| calls.iter().filter(|call| call.action == action && call.error.is_none()).count();
            kill_when(cloud, action, &manifests, |calls| of_action(calls) >= count)?;
        }
        heading("the next one ends with exactly four machines and four volumes, and changes nothing more");
        let mut last = Operator::start(cloud, "last", &manifests)?;
        last.await_ready(SET, 4, LAUNCH)?;
        let machines = cloud.machines()?;
        assert_eq!((machines.len(), cloud.data_volumes()?.len()), (4, 4), "{machines:#?}");

        heading("killed in the middle of a deletion, whose next operator leaves nothing");
        last.withdraw(FILE)?;
        within(STEP, "nobody declares it", || Ok((!last.status()?.unclaimed.is_empty()).then_some(())))?;
        let asked = last.ask(cloud, &["delete", SET, "--yes", "--no-wait"])?;
        assert!(asked.status.success(), "{asked:?}");
        within(STEP, "a machine is being ended", || {
            Ok(cloud.mutating(0)?.iter().any(|call| call.action == "TerminateInstances").then_some(()))
        })?;
        last.kill()?;
        let _undertaker = Operator::start(cloud, "undertaker", &[])?;
        within(LAUNCH, "nothing is left", || {
            let living = cloud.machines()?.iter().filter(|machine| machine.state != "terminated").count();
            Ok((living == 0 && cloud.data_volumes()?.is_empty()).then_some(()))
        })?;
        assert_eq!(cloud.machines()?.len(), 4);
        Ok(())
    })
}

/// Starts an operator, and kills it as soon as the log of changing calls, of all operators so far, is `right`.
fn kill_when(
    cloud: &Cloud,
    name: &str,
    manifests: &[(&str, &str)],
    right: impl Fn(&[Call]) -> bool,
) -> anyhow::Result<()> {
    let operator = Operator::start(cloud, name, manifests)?;
    within(STEP, format!("the moment to kill {name}"), || Ok(right(&cloud.mutating(0)?).then_some(())))?;
    operator.kill()
}

//! The real operator killed in the middle of things: what it left is gone on with, and nothing is made twice or left behind.

use std::time::Duration;

use drover_e2e::{Cloud, Operator, heading, manifest, scenario, within};

/// Four machines boot on two cores, after as many leases as operators were killed.
const LAUNCH: Duration = Duration::from_secs(300);
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
        let operator = Operator::start(cloud, "lost", &manifests)?;
        within(STEP, "a reply is lost", || Ok(cloud.mutating(0)?.iter().any(|call| call.reply_lost).then_some(())))?;
        operator.kill()?;
        cloud.mend("lost-reply RunInstances")?;
        heading("each of the next ones killed when it has changed something itself, as long as there is something");
        let mut steps = Vec::new();
        while let Some(step) = kill_at_first_change(cloud, steps.len(), &manifests)? {
            eprintln!("killed after {step}");
            steps.push(step);
        }
        assert!(steps.len() >= 3, "{steps:?}");

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

/// Starts an operator and kills it as soon as a call of its own changed something in EC2, which it answers; `None` where the set
/// became ready without.
fn kill_at_first_change(cloud: &Cloud, n: usize, manifests: &[(&str, &str)]) -> anyhow::Result<Option<String>> {
    let since = cloud.calls_so_far()?;
    let operator = Operator::start(cloud, &format!("operator-{n}"), manifests)?;
    let step = within(LAUNCH, "an operator changes something, or all is ready", || {
        let calls = cloud.mutating(since)?;
        let change = calls.iter().find(|call| call.service == "ec2" && call.error.is_none());
        if let Some(change) = change {
            return Ok(Some(Some(change.action.clone())));
        }
        Ok(operator.set(SET).is_ok_and(|set| set.ready).then_some(None))
    })?;
    operator.kill()?;
    Ok(step)
}

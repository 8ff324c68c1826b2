//! The demo broken off: by Ctrl-C at any moment, by power off. Nothing of it is left then, or what is left goes at the next start.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, time::Duration};

use drover_e2e::{Clock, Demo, Traces, heading, traces};

/// The build finds nothing to do, the cloud starts, the first machines are launched.
const SOON: Duration = Duration::from_secs(120);
/// What bash answers for SIGINT.
const INTERRUPTED: Option<i32> = Some(130);

#[test]
fn a_demo_that_is_broken_off_leaves_nothing() -> anyhow::Result<()> {
    let clock = Clock::start();
    heading("a crash of everything in the middle of a launch");
    let mut crashed = Demo::start("interrupt", &[])?;
    let before = crashed.await_machine(SOON, |_| true)?;
    crashed.kill_everything()?;
    assert!(traces(&crashed.home)?.contains_key("network namespace"), "there is nothing to sweep");

    heading("the next start sweeps; Ctrl-C in the middle of its launch, twice, ends everything");
    let old: BTreeSet<String> = before.into_iter().map(|machine| machine.id).collect();
    let mut interrupted = Demo::start("interrupt", &[])?;
    interrupted.await_machine(SOON, |machine| !old.contains(&machine.id))?;
    assert!(interrupted.output().contains("sweeping what an earlier demo left"), "{}", interrupted.output());
    interrupted.interrupt()?;
    interrupted.await_end_of("operator", SOON)?;
    interrupted.interrupt()?;
    assert_eq!(interrupted.end(SOON)?, INTERRUPTED, "{}", interrupted.output());
    assert_eq!(traces(&interrupted.home)?, Traces::new());

    heading("Ctrl-C while the cloud is only starting ends everything");
    let mut early = Demo::start("interrupt", &[])?;
    early.await_server("cloud", SOON)?;
    early.interrupt()?;
    assert_eq!(early.end(SOON)?, INTERRUPTED, "{}", early.output());
    assert_eq!(traces(&early.home)?, Traces::new());

    heading("a crash of everything, and demo-down");
    let mut crashed = Demo::start("interrupt", &[])?;
    crashed.await_machine(SOON, |_| true)?;
    crashed.kill_everything()?;
    crashed.down()?;
    assert_eq!(traces(&crashed.home)?, Traces::new());
    heading("on a machine that is too small it says so, and begins nothing");
    for (tool, instead, why) in [
        ("nproc", "echo 1", "it needs 2 cores, and this machine has 1"),
        (
            "awk",
            "case \"$*\" in */proc/meminfo) echo 100 ;; *) exec /usr/bin/awk \"$@\" ;; esac",
            "MiB of free memory, and 100 MiB are available",
        ),
        ("df", "printf 'Avail\\n%s\\n' 100", "and 100 MiB are left: free some"),
    ] {
        let tools = tempfile::tempdir()?;
        let stub = tools.path().join(tool);
        fs::write(&stub, format!("#!/bin/sh\n{instead}\n"))?;
        fs::set_permissions(&stub, fs::Permissions::from_mode(0o755))?;
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", tools.path().display());
        let mut small = Demo::start("interrupt", &[("PATH", &path)])?;
        assert_eq!(small.end(SOON)?, Some(1), "{}", small.output());
        let said = small.output();
        assert!(said.contains(why) && !said.contains("== Building"), "{said}");
        assert_eq!(traces(&small.home)?, Traces::new());
    }
    eprintln!("interrupt: {:.0} s", clock.elapsed().as_secs_f64());
    Ok(())
}

//! The way into a machine that runs: a process of the host that joins its namespaces and its cgroup.

use std::fs;
use std::path::{Path, PathBuf};

use drover_api::InstanceId;

use super::cgroups::{Cgroup, Hierarchies};
use super::names::Names;
use super::spec::{Error, Result};

/// The cgroups of a machine, below its own: that of PID 1's parent, and the one in which its cgroup namespace begins.
pub(super) const PARENT: &str = "parent";
pub(super) const MACHINE: &str = "machine";

/// The words before a command. Joining the cgroups first keeps what is run inside within the machine's memory, freeze and end. The
/// environment goes before the way in: the caller's has the operator's keys, and nothing inside may read them.
pub(super) fn entrance(hierarchies: &Hierarchies, cgroup: &Cgroup, pid: i32) -> Result<Vec<String>> {
    let gone = |source| Error::Io { what: format!("cannot enter by process {pid}"), source };
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(gone)?;
    let doors: Vec<String> = cgroup
        .doors_beside(&hierarchies.own_of(&text))
        .iter()
        .map(|door| format!("echo $$ >'{}'", door.display()))
        .collect();
    let enter = format!(
        "set -e; {}; exec env -i TERM=\"${{TERM:-dumb}}\" LANG=C.UTF-8 HOME=/root \
         PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin nsenter -t {pid} -m -u -i -n -p -C -- \"$@\"",
        doors.join("; ")
    );
    Ok(["bash", "-c", &enter, "enter"].map(str::to_owned).to_vec())
}

/// The same for a process that did not start the machine, such as a person's command line: `dir` is the one of the drover-local that runs it.
///
/// Errors: [`Error::NotRunning`].
pub fn entrance_to(dir: &Path, instance: &InstanceId) -> Result<Vec<String>> {
    let names = Names::of(dir)?;
    let hierarchies = Hierarchies::of_host()?;
    let cgroup = hierarchies.cgroup(PathBuf::from(names.cgroup()).join(instance.as_str()));
    // PID 1 is known by its number inside, the last of the line NSpid.
    let is_first = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        numbers.is_some_and(|numbers| {
            numbers.split_whitespace().count() > 1 && numbers.split_whitespace().next_back() == Some("1")
        })
    };
    let pid = cgroup.processes().into_iter().find(is_first).ok_or_else(|| Error::NotRunning(instance.clone()))?;
    entrance(&hierarchies, &cgroup, pid)
}

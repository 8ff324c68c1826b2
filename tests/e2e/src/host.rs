//! What a drover-local has on its host: everything that must be gone when it ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;

use crate::{
    pace::within,
    programs::{finish, run},
};

/// Lines by kind: what was found on the host of a cloud and its servers.
pub type Traces = BTreeMap<&'static str, BTreeSet<String>>;

const COMMAND: Duration = Duration::from_secs(10);

/// Everything on this host that belongs to the directory `home`, in which the directory `cloud` is a drover-local's.
pub fn traces(home: &Path) -> anyhow::Result<Traces> {
    let tag = tag_of_cloud(home)?;
    belonging(home, &format!("drover-{tag}"), &format!("drover{tag}"))
}

/// What has the path of a directory in it, a name that begins with `mark`, or the name of a link.
pub(crate) fn belonging(home: &Path, mark: &str, link: &str) -> anyhow::Result<Traces> {
    let path = home.display().to_string();
    let mut traces = Traces::new();
    let mut found = |kind, line: String| {
        traces.entry(kind).or_default().insert(line);
    };
    if home.exists() {
        found("directory", path.clone());
    }
    for pid in pids() {
        let text = |file: &str| text(&format!("/proc/{pid}/{file}"));
        let arguments = text("cmdline");
        let is_ours =
            [&arguments, &text("environ")].iter().any(|text| text.contains(&path)) || text("cgroup").contains(mark);
        let mounts = text("mountinfo");
        // Looked at last: what was read of one that ended in between is half of it.
        if has_or_will_have_ended(|| text("stat")) {
            continue;
        }
        if is_ours {
            found("process", format!("{pid} {arguments}"));
        }
        mounts.lines().filter(|line| line.contains(&path)).for_each(|line| found("mount", line.to_owned()));
    }
    let loops = run(&["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"], COMMAND)?;
    loops.lines().filter(|line| line.contains(&path)).for_each(|line| found("loop device", line.to_owned()));
    let is_ours = |name: &str| name.starts_with(mark);
    names("/run/netns").into_iter().filter(|name| is_ours(name)).for_each(|name| found("network namespace", name));
    names("/sys/class/net").into_iter().filter(|name| *name == link).for_each(|name| found("link", name));
    for root in cgroup_roots() {
        let here = names(&root).into_iter().filter(|name| is_ours(name));
        here.for_each(|name| found("cgroup", format!("{root}/{name}")));
    }
    Ok(traces)
}

/// The processes that run now.
pub(crate) fn pids() -> impl Iterator<Item = u32> {
    names("/proc").into_iter().filter_map(|name| name.parse().ok())
}

/// A file of /proc, its zero bytes as spaces; empty where the process has ended.
pub(crate) fn text(path: &str) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).replace('\0', " ")
}

/// It has ended; one that is about to is given its time. A process that is killed gives back its memory, then its files and its
/// cgroup, which may be gone before the process is.
pub fn has_or_will_have_ended(stat: impl Fn() -> String) -> bool {
    let settled = within(COMMAND, "a process that ends is gone", || {
        let stat = stat();
        let is_over = has_ended(&stat);
        Ok((is_over || !is_without_memory(&stat)).then_some(is_over))
    });
    settled.unwrap_or(false)
}

/// It runs nothing and holds nothing any more; only its parent, which may be a slow init, has not asked for its end yet
/// (proc_pid_stat(5), states Z and X).
fn has_ended(stat: &str) -> bool {
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    matches!(state, Some('Z' | 'X' | 'x') | None)
}

/// So is one that ends (proc_pid_stat(5), field 23), and a thread of the kernel's, which never does.
fn is_without_memory(stat: &str) -> bool {
    const KERNEL_THREAD: u64 = 0x0020_0000;
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
    let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok());
    number(23) == Some(0) && number(9).is_some_and(|flags| flags & KERNEL_THREAD == 0)
}

/// What drover-local marks the things with that it makes in the kernel for the directory `cloud` in this one.
pub(crate) fn tag_of_cloud(home: &Path) -> anyhow::Result<String> {
    short_hash(&located(home)?.join("cloud/hardware"))
}

/// A mark made of a directory's own name: 8 hexadecimal digits.
pub(crate) fn tag(dir: &Path) -> anyhow::Result<String> {
    short_hash(&located(dir)?)
}

/// The directory without links. It need not be there any more, nor those that it was in.
fn located(dir: &Path) -> anyhow::Result<PathBuf> {
    let parent = dir.parent().context("a directory in another")?;
    let parent = match parent.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => located(parent)?,
        parent => parent?,
    };
    Ok(parent.join(dir.file_name().context("a directory with a name")?))
}

fn short_hash(path: &Path) -> anyhow::Result<String> {
    let hash = finish(&["sha256sum"], COMMAND, &path.display().to_string())?;
    Ok(String::from_utf8(hash.stdout)?.chars().take(8).collect())
}

/// Where cgroups are mounted: one place, or one for each controller.
pub(crate) fn cgroup_roots() -> Vec<String> {
    let mounts = text("/proc/self/mounts");
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let cgroups = fields.filter(|fields| matches!(fields.get(2), Some(&("cgroup" | "cgroup2"))));
    cgroups.filter_map(|fields| fields.get(1).map(|path| (*path).to_owned())).collect()
}

fn names(dir: impl AsRef<Path>) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

//! What processes and threads have used, by /proc.

use std::{fs, time::Duration};

use anyhow::Context;

/// proc(5): the kernel tells these times in hundredths of a second on every architecture of ours (`getconf CLK_TCK`).
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of this process's threads of that name, those that have ended aside.
pub fn cpu_of_threads(name: &str) -> anyhow::Result<Duration> {
    let mut all = Duration::ZERO;
    for task in fs::read_dir("/proc/self/task")? {
        let dir = task?.path();
        // A thread may end meanwhile.
        let Ok(comm) = fs::read_to_string(dir.join("comm")) else { continue };
        if comm.trim() == name {
            all += cpu(&fs::read_to_string(dir.join("stat"))?)?;
        }
    }
    Ok(all)
}

/// CPU time of another process.
pub fn cpu_of(process: u32) -> anyhow::Result<Duration> {
    cpu(&fs::read_to_string(format!("/proc/{process}/stat"))?)
}

/// A field of `/proc/PROCESS/status` in MiB: `VmRSS`, or `VmHWM`, which is its peak.
pub fn memory_mib(process: &str, field: &str) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with(field)).context("the field is there")?;
    let kib: f64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
    Ok(kib / 1024.0)
}

/// utime and stime; what stands in parentheses before them may have spaces in it.
fn cpu(stat: &str) -> anyhow::Result<Duration> {
    let fields: Vec<&str> = stat.rsplit_once(')').context("a name")?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11..13).context("times")?.iter().filter_map(|it| it.parse::<f64>().ok()).sum();
    Ok(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
}

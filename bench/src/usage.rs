//! What processes used: CPU time and peak memory by `/proc` (proc(5)), with all of their children.

use std::{
    collections::{HashMap, HashSet},
    fs,
    time::Duration,
};

/// `/proc` counts in hundredths of a second on every Linux (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

struct Stat {
    parent: u32,
    /// User and system time, and that of ended children which it has waited for.
    ticks: u64,
}

/// The process and its live descendants.
pub fn tree(root: u32) -> Vec<u32> {
    members(root, &all()).into_iter().collect()
}

/// CPU time of the process, its live descendants, and those of its descendants that have ended.
pub fn cpu(root: u32) -> Duration {
    let all = all();
    let ticks: u64 = members(root, &all).iter().filter_map(|pid| all.get(pid)).map(|stat| stat.ticks).sum();
    TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// CPU time of this process.
pub fn own_cpu() -> Duration {
    cpu_of_one("self")
}

fn cpu_of_one(pid: &str) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Without ended children: those of the bench are measured by themselves.
    let ticks: u64 =
        fields(&text).map(|f| [11, 12].iter().filter_map(|i| f.get(*i)?.parse::<u64>().ok()).sum()).unwrap_or(0);
    TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// CPU time that all cores spent on anything.
pub fn machine_cpu() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let numbers: Vec<u64> =
        text.lines().next().unwrap_or_default().split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guest time is part of user.
    let ticks: u64 = [0, 1, 2, 5, 6].iter().filter_map(|i| numbers.get(*i)).sum();
    TICK * u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// Peak resident memory of the process and its descendants, in bytes; pages that they share count for each.
pub fn peak_memory(root: u32) -> u64 {
    tree(root).into_iter().map(|pid| status_bytes(pid, "VmHWM:")).sum()
}

/// Resident memory of the process and its descendants now, in bytes.
pub fn memory(root: u32) -> u64 {
    tree(root).into_iter().map(|pid| status_bytes(pid, "VmRSS:")).sum()
}

/// Starts the peak anew at what is used now.
pub fn forget_peak(root: u32) {
    for pid in tree(root) {
        // proc(5): 5 resets the peak. Where that is not allowed, the peak is that since its start.
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
}

fn status_bytes(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn all() -> HashMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            Some((pid, parse(&fs::read_to_string(entry.path().join("stat")).ok()?)?))
        })
        .collect()
}

/// What stands after the program's name, which may hold blanks and parentheses.
fn fields(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace().collect())
}

fn parse(stat: &str) -> Option<Stat> {
    let fields = fields(stat)?;
    let number = |i: usize| fields.get(i)?.parse::<u64>().ok();
    let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
    Some(Stat { parent: u32::try_from(number(1)?).ok()?, ticks })
}

fn members(root: u32, all: &HashMap<u32, Stat>) -> HashSet<u32> {
    let mut members = HashSet::from([root]);
    loop {
        let before = members.len();
        members.extend(
            all.iter().filter(|(_, stat)| members.contains(&stat.parent)).map(|(pid, _)| *pid).collect::<Vec<_>>(),
        );
        if members.len() == before {
            return members;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = parse("42 (a) b) (c)) S 7 1 1 0 -1 4 0 0 0 0 100 20 3 4 20 0 1 0").unwrap();
        assert_eq!((stat.parent, stat.ticks), (7, 127));
    }

    #[test]
    fn work_of_this_process_is_seen() {
        let before = cpu(std::process::id());
        let started = std::time::Instant::now();
        while cpu(std::process::id()) == before {
            assert!(started.elapsed() < Duration::from_secs(10), "ten seconds of work are not seen");
        }
        assert!(memory(std::process::id()) > 1024 * 1024);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Rebooting and powering off: what a shell one-liner amounts to (pure), and doing it.

use std::io;

use rustix::system::RebootCommand;
use serde::{Deserialize, Serialize};

/// What happens to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Change {
    /// It starts again, through its firmware.
    Reboot,
    /// It goes off.
    PowerOff,
}

/// A change after the success of its action was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PowerPlan {
    pub(crate) change: Change,
    /// Seconds to wait after the acknowledgement.
    pub(crate) delay_seconds: u64,
}

impl PowerPlan {
    pub(crate) fn now(change: Change) -> Self {
        Self { change, delay_seconds: 0 }
    }
}

/// The plan behind a container command that does nothing but reboot or power off; `None` when it does anything else.
pub(crate) fn plan_of_command(command: &[String]) -> Option<PowerPlan> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let script = match words.as_slice() {
        [shell, flag, script, ..] if is_shell(shell) && flag.starts_with('-') && flag.ends_with('c') => {
            (*script).to_owned()
        }
        // Words of a command that is no script are not split again.
        _ if words.iter().any(|word| word.contains([' ', ';', '&', '|', '>', '\n'])) => return None,
        _ => words.join(" "),
    };
    let mut delay_seconds: u64 = 0;
    for simple in script.split([';', '&', '\n']) {
        match step(simple)? {
            Step::Nothing => {}
            Step::Wait(seconds) => delay_seconds = delay_seconds.saturating_add(seconds).min(3600),
            Step::Change(change) => return Some(PowerPlan { change, delay_seconds }),
        }
    }
    None
}

enum Step {
    Nothing,
    Wait(u64),
    Change(Change),
}

/// One simple command of the script; `None` when it is anything that matters and is not power.
fn step(simple: &str) -> Option<Step> {
    let spaced = simple.replace('>', " > ").replace(['(', ')', '{', '}', '"', '\''], " ");
    let mut words: Vec<&str> = spaced.split_whitespace().collect();
    if words.first().is_some_and(|word| matches!(*word, "exec" | "sudo" | "then" | "busybox")) {
        words.remove(0);
    }
    let name = words.first().map_or("", |word| word.rsplit('/').next().unwrap_or(word));
    let arguments = words.get(1..).unwrap_or_default();
    Some(match (name, arguments) {
        ("" | "sync" | "true" | "set", _) => Step::Nothing,
        ("echo", [_, ">", "/proc/sys/kernel/sysrq"]) => Step::Nothing,
        ("echo", ["b", ">", "/proc/sysrq-trigger"]) => Step::Change(Change::Reboot),
        ("echo", ["o", ">", "/proc/sysrq-trigger"]) => Step::Change(Change::PowerOff),
        // Sync and remount read-only: both happen anyway.
        ("echo", ["s" | "u", ">", "/proc/sysrq-trigger"]) => Step::Nothing,
        ("sleep", [seconds]) => Step::Wait(seconds.trim_end_matches('s').parse().ok()?),
        ("reboot", _) => Step::Change(Change::Reboot),
        ("poweroff", _) => Step::Change(Change::PowerOff),
        ("shutdown", options) if options.contains(&"-r") => Step::Change(Change::Reboot),
        ("shutdown", options) if options.contains(&"-h") || options.contains(&"-P") => {
            Step::Change(Change::PowerOff)
        }
        _ => return None,
    })
}

fn is_shell(word: &str) -> bool {
    matches!(word.rsplit('/').next(), Some("sh" | "bash" | "ash" | "dash"))
}

/// Writes back everything and does it. Returns only when the kernel refused. Blocks.
pub(crate) fn perform(change: Change) -> io::Error {
    rustix::fs::sync();
    let (command, trigger) = match change {
        Change::Reboot => (RebootCommand::Restart, "b"),
        Change::PowerOff => (RebootCommand::PowerOff, "o"),
    };
    let refused = match rustix::system::reboot(command) {
        // From inside a process namespace the call ends only that namespace; the trigger reaches the machine.
        Ok(()) => std::fs::write("/proc/sysrq-trigger", trigger).err(),
        Err(error) => std::fs::write("/proc/sysrq-trigger", trigger).err().map(|_| error.into()),
    };
    refused.unwrap_or_else(|| io::Error::other("the kernel accepted it and did nothing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(command: &[&str]) -> Option<(Change, u64)> {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        plan_of_command(&command).map(|plan| (plan.change, plan.delay_seconds))
    }

    #[test]
    fn one_liners_of_published_templates_are_understood() {
        let reboot = Some((Change::Reboot, 0));
        assert_eq!(plan(&["reboot"]), reboot);
        assert_eq!(plan(&["/sbin/reboot", "-f"]), reboot);
        assert_eq!(plan(&["shutdown", "-r", "now"]), reboot);
        assert_eq!(
            plan(&["sh", "-c", "echo 1 > /proc/sys/kernel/sysrq && echo b >/proc/sysrq-trigger"]),
            reboot
        );
        assert_eq!(plan(&["/bin/bash", "-ec", "(sleep 5; sync; reboot -f) &"]), Some((Change::Reboot, 5)));
        assert_eq!(plan(&["sh", "-c", "echo o > /proc/sysrq-trigger"]), Some((Change::PowerOff, 0)));
        assert_eq!(plan(&["poweroff"]), Some((Change::PowerOff, 0)));
    }

    #[test]
    fn anything_else_is_not_mistaken_for_power() {
        for command in [
            &[][..],
            &["sh"],
            &["sh", "-c", "sync"],
            &["sh", "-c", "dd if=/dev/zero of=/dev/sda; reboot"],
            &["sh", "-c", "true || reboot"],
            &["echo", "reboot"],
            &["sh", "-c", "echo b > /tmp/x"],
            &["reboot now; rm x"],
        ] {
            assert_eq!(plan(command), None, "{command:?}");
        }
    }
}

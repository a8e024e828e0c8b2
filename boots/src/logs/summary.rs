// SPDX-License-Identifier: Apache-2.0
//! What the lines of a machine come to: one Event for its kernel and one for its agent in each boot, however many lines
//! there are. Pure.

use std::collections::HashMap;

use api::Mac;
use api::events::Reason;
use syslog::{Facility, Message, Severity};

use super::Name;
use crate::backend::Found;

/// Rounds of silence after which a machine's counts are forgotten; its next line begins anew.
const FORGOTTEN: u32 = 200;

/// Names under which agents log: ours, upstream's in HookOS and in CaptainOS.
const AGENTS: [&str; 3] = ["tink-worker", "tink-agent", "tinkerbell-agent"];

/// The counts, at most two for each machine that is known.
#[derive(Debug, Default)]
pub(super) struct Summaries {
    by_writer: HashMap<(Name, Reason), Summary>,
}

#[derive(Debug)]
struct Summary {
    found: Found,
    boot: Option<u64>,
    lines: u64,
    errors: u64,
    last: String,
    last_error: Option<String>,
    /// Rounds since the last line.
    silent: u32,
}

/// What is to be told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) found: Found,
    pub(super) reason: Reason,
    pub(super) boot: Option<u64>,
    pub(super) text: String,
}

impl Summaries {
    /// Counts a line; `boot` finds the last boot of a machine.
    pub(super) fn add(&mut self, found: &Found, message: &Message, boot: impl Fn(Mac) -> Option<u64>) {
        let Some(reason) = writer(message) else { return };
        let boot = boot(found.nic().mac);
        let fresh = || Summary {
            found: found.clone(),
            boot,
            lines: 0,
            errors: 0,
            last: String::new(),
            last_error: None,
            silent: 0,
        };
        let summary = self.by_writer.entry((Name::of(found), reason)).or_insert_with(fresh);
        if summary.boot != boot {
            *summary = fresh();
        }
        summary.silent = 0;
        summary.lines += 1;
        if message.severity <= Severity::Error {
            summary.errors += 1;
            summary.last_error = Some(message.text.clone());
        }
        summary.last.clone_from(&message.text);
    }

    /// What changed since the last round.
    pub(super) fn due(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        self.by_writer.retain(|(_, reason), summary| {
            if summary.silent == 0 {
                told.push(summary.told(*reason));
            }
            summary.silent += 1;
            summary.silent < FORGOTTEN
        });
        told
    }
}

impl Summary {
    fn told(&self, reason: Reason) -> Told {
        let Self { lines, errors, last, .. } = self;
        let lines = format!("{lines} {}", if *lines == 1 { "line" } else { "lines" });
        let text = match &self.last_error {
            None => format!("{lines}, the last: {last}"),
            Some(error) => {
                let errors = format!("{errors} {}", if *errors == 1 { "error" } else { "errors" });
                format!("{lines} with {errors}, the last error: {error}")
            }
        };
        Told { found: self.found.clone(), reason, boot: self.boot, text }
    }
}

/// Who wrote a line, where it is somebody whose lines are told.
fn writer(message: &Message) -> Option<Reason> {
    let app = message.app.as_deref().unwrap_or_default();
    match () {
        () if message.facility == Facility::KERNEL || app == "kernel" => Some(Reason::KernelLogged),
        () if AGENTS.iter().any(|agent| app.contains(agent)) => Some(Reason::AgentLogged),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::backend::Index;
    use crate::machine::tests::hardware;

    fn found() -> Found {
        let mut index = Index::default();
        index.apply_hardware(&hardware(&json!({})));
        index.by_mac("52:54:00:00:00:11".parse().unwrap()).unwrap()
    }

    #[test]
    fn a_flood_of_lines_is_one_event_per_round_writer_and_boot() {
        let (found, mut summaries) = (found(), Summaries::default());
        let add = |summaries: &mut Summaries, line: &str, boot| {
            summaries.add(&found, &Message::parse(line.as_bytes()), |_| boot);
        };
        for i in 0..5000 {
            add(&mut summaries, &format!("<6>line {i}"), Some(7));
        }
        add(&mut summaries, "<30>tink-worker[1]: started", Some(7));
        add(&mut summaries, "<30>sshd: not told", Some(7));
        let mut told = summaries.due();
        told.sort_by_key(|told| told.reason);
        let texts: Vec<_> = told.iter().map(|told| (told.reason, told.boot, told.text.as_str())).collect();
        assert_eq!(
            texts,
            [
                (Reason::KernelLogged, Some(7), "5000 lines, the last: line 4999"),
                (Reason::AgentLogged, Some(7), "1 line, the last: started"),
            ]
        );
        assert!(summaries.due().is_empty(), "nothing is told twice");
        add(&mut summaries, "<3>disk on fire", Some(7));
        add(&mut summaries, "<6>went on", Some(7));
        assert_eq!(summaries.due()[0].text, "5002 lines with 1 error, the last error: disk on fire");
        add(&mut summaries, "<6>hello", Some(9));
        assert_eq!(
            (summaries.due()[0].text.as_str(), summaries.by_writer.len()),
            ("1 line, the last: hello", 2)
        );
        for _ in 0..FORGOTTEN {
            summaries.due();
        }
        assert!(summaries.by_writer.is_empty());
    }
}

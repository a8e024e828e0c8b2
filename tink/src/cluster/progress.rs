// SPDX-License-Identifier: Apache-2.0

//! How the making of a cluster looks: a tree that is drawn anew on a terminal, lines elsewhere, one JSON object per line for
//! programs. Owns only the form.

use std::{collections::BTreeMap, fmt::Write as _, time::Instant};

use jiff::SignedDuration;
use orchestrator::lifecycle::{
    Action, Stage,
    run::{Event, Waiting},
};

use crate::output;

/// A wait is told again after so many seconds.
const AGAIN: u64 = 30;

/// For whom progress is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A terminal.
    Tree,
    /// A file or a pipe that people read.
    Lines,
    /// Programs.
    Json,
}

/// Tells what happens.
pub(super) struct Progress {
    form: Form,
    started: Instant,
    /// Machine and stage of each place.
    places: BTreeMap<String, (String, Stage)>,
    /// What is waited for, by who it is.
    waits: BTreeMap<String, (String, u64)>,
    /// Waits that lines told, with the seconds at that time.
    told: BTreeMap<(String, String), u64>,
    /// The last failure of each action.
    failures: BTreeMap<String, String>,
    drawn: usize,
}

impl Progress {
    pub(super) fn new(form: Form) -> Self {
        Self {
            form,
            started: Instant::now(),
            places: BTreeMap::new(),
            waits: BTreeMap::new(),
            told: BTreeMap::new(),
            failures: BTreeMap::new(),
            drawn: 0,
        }
    }

    /// What to print for an event; empty when it is nothing new.
    pub(super) fn text(&mut self, event: &Event) -> String {
        if self.form == Form::Json {
            return serde_json::to_string(event).map(|line| line + "\n").unwrap_or_default();
        }
        let lines = self.take(event);
        match self.form {
            Form::Tree => self.tree(&lines),
            Form::Lines | Form::Json => lines,
        }
    }

    /// Notes an event; gives the lines that tell it.
    fn take(&mut self, event: &Event) -> String {
        let time = output::duration(elapsed(self.started));
        match event {
            Event::Begins { .. } => String::new(),
            Event::Done { action } => {
                self.failures.remove(&sentence(action));
                format!("{time:>6}  {}\n", sentence(action))
            }
            Event::Failed { action, problem } => {
                let sentence = sentence(action);
                let known = self.failures.insert(sentence.clone(), problem.clone());
                if known.as_ref() == Some(problem) {
                    return String::new();
                }
                format!("{time:>6}  {sentence}: tried again: {problem}\n")
            }
            Event::Stage { slot, machine, stage } => {
                self.places.insert(slot.clone(), (machine.clone(), stage.clone()));
                match stage {
                    Stage::Joined | Stage::Leaving(_) => {
                        format!("{time:>6}  {slot}: {machine} {}\n", word(stage))
                    }
                    _ => String::new(),
                }
            }
            Event::Waits { waits } => self.waiting(waits, &time),
        }
    }

    fn waiting(&mut self, waits: &[Waiting], time: &str) -> String {
        let mut lines = String::new();
        self.waits.clear();
        let mut told = BTreeMap::new();
        for Waiting { wait, seconds } in waits {
            self.waits.insert(wait.on.clone(), (wait.reason.clone(), *seconds));
            let key = (wait.on.clone(), wait.reason.split(',').next().unwrap_or_default().to_owned());
            let before = self.told.get(&key).copied();
            let due = before.is_none_or(|before| *seconds >= before + AGAIN);
            if due {
                let so_far =
                    output::duration(SignedDuration::from_secs(i64::try_from(*seconds).unwrap_or(0)));
                // Writing to a String cannot fail.
                writeln!(lines, "{time:>6}  waiting for {}: {} ({so_far})", wait.on, wait.reason)
                    .unwrap_or_default();
            }
            told.insert(key, if due { *seconds } else { before.unwrap_or(*seconds) });
        }
        self.told = told;
        lines
    }

    /// The lines of what is over stay, and below them is the tree of what goes on.
    fn tree(&mut self, lines: &str) -> String {
        let mut text = String::new();
        if self.drawn > 0 {
            write!(text, "\u{1b}[{}A\u{1b}[J", self.drawn).unwrap_or_default();
        }
        for line in lines.lines().filter(|line| !line.contains("  waiting for ")) {
            writeln!(text, "{line}").unwrap_or_default();
        }
        self.drawn = 0;
        for (slot, (machine, stage)) in &self.places {
            let wait = self.waits.get(machine).map(|(reason, seconds)| format!("  {reason} ({seconds}s)"));
            writeln!(text, "  {slot:<28} {machine:<20} {:<12}{}", word(stage), wait.unwrap_or_default())
                .unwrap_or_default();
            self.drawn += 1;
        }
        let machines: Vec<_> = self.places.values().map(|(machine, _)| machine).collect();
        for (on, (reason, seconds)) in self.waits.iter().filter(|(on, _)| !machines.contains(on)) {
            writeln!(text, "  {on}: {reason} ({seconds}s)").unwrap_or_default();
            self.drawn += 1;
        }
        text
    }
}

fn elapsed(since: Instant) -> SignedDuration {
    SignedDuration::try_from(since.elapsed()).unwrap_or_default()
}

fn word(stage: &Stage) -> String {
    match stage {
        Stage::Installing => "installing".to_owned(),
        Stage::Repeating => "once more".to_owned(),
        Stage::Starting => "installed".to_owned(),
        Stage::Joining => "joining".to_owned(),
        Stage::Joined => "joined".to_owned(),
        Stage::Leaving(reason) => format!("leaves: {reason}"),
        Stage::Released(_) => "given back".to_owned(),
    }
}

fn sentence(action: &Action) -> String {
    match action {
        Action::Claim { slot, machine } => format!("{slot}: took {machine}"),
        Action::Boot { slot, machine, .. } => format!("{slot}: began to install {machine}"),
        Action::Reset { slot, machine } => format!("{slot}: took back what failed on {machine}"),
        Action::Admit { slot, machine } => format!("{slot}: let {machine} join"),
        Action::Revoke { slot } => format!("{slot}: took its token back"),
        Action::Forget { machine, .. } => {
            format!("{machine}: took back what it was told for its first start")
        }
        Action::RemoveMember { machine } => format!("took {machine} out of etcd"),
        Action::Drain { machine } => format!("moved the pods of {machine}"),
        Action::RemoveNode { machine } => format!("took the node {machine} out of the cluster"),
        Action::PowerOff { slot, machine } => format!("{slot}: asked for {machine} to be switched off"),
        Action::Release { slot, machine } => format!("{slot}: gave {machine} back"),
        Action::Apply { addon } => format!("put the {addon} into the cluster"),
    }
}

#[cfg(test)]
mod tests {
    use orchestrator::lifecycle::Wait;

    use super::*;

    fn waits(reason: &str, seconds: u64) -> Event {
        let wait = Wait { on: "m1".to_owned(), reason: reason.to_owned(), live: true };
        Event::Waits { waits: vec![Waiting { wait, seconds }] }
    }

    #[test]
    fn a_wait_names_machine_reason_and_time_and_is_not_told_at_every_look() {
        let mut lines = Progress::new(Form::Lines);
        assert!(lines.text(&waits("its node joins", 0)).contains("waiting for m1: its node joins (0s)"));
        assert_eq!(lines.text(&waits("its node joins", 10)), "");
        assert!(lines.text(&waits("its node joins", 30)).ends_with("(30s)\n"));
        // Bytes change all the time, and the wait is the same.
        assert!(!lines.text(&waits("stream image, 5 of 9 bytes", 0)).is_empty());
        assert_eq!(lines.text(&waits("stream image, 7 of 9 bytes", 1)), "");
    }

    #[test]
    fn a_terminal_gets_one_line_for_each_place_which_is_drawn_anew() {
        let mut tree = Progress::new(Form::Tree);
        let stage = |stage| Event::Stage { slot: "k-md-0-1".to_owned(), machine: "m1".to_owned(), stage };
        let first = tree.text(&stage(Stage::Installing));
        assert!(first.contains("k-md-0-1") && first.contains("installing") && !first.contains('\u{1b}'));
        let second = tree.text(&waits("stream image, 5 of 9 bytes", 3));
        assert!(second.starts_with("\u{1b}[1A\u{1b}[J") && second.contains("5 of 9 bytes (3s)"), "{second}");
        assert!(!second.contains("waiting for"), "{second}");
    }

    #[test]
    fn programs_get_every_event_as_an_object() {
        let mut json = Progress::new(Form::Json);
        let action = Action::Claim { slot: "s".to_owned(), machine: "m".to_owned() };
        let line = json.text(&Event::Done { action });
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            read,
            serde_json::json!({ "event": "done", "action": "claim", "slot": "s", "machine": "m" })
        );
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What a machine went through, from what the daemons say about it.
//!
//! Pure: takes Events and Workflow statuses with the time they were seen at, gives lines to print and, at the end, how
//! long each phase took. A phase ends when its sign is first seen, and lasted since the one before.

use std::collections::BTreeSet;
use std::time::Duration;

use api::events::Reason;
use api::v1alpha1::{WorkflowState, WorkflowStatus};

/// Progress is printed at most this often per machine.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// What became of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// On its way.
    Installing,
    /// The Workflow is done; the installed system has not called yet.
    Installed,
    /// The installed system fetched its metadata.
    Running,
    /// The Workflow failed; with the reason.
    Failed(String),
}

/// One phase that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Phase {
    /// Its name, as printed.
    pub name: String,
    /// How long it took.
    pub took: Duration,
}

/// Figures of the image write.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Image {
    /// Bytes downloaded.
    pub bytes: u64,
    /// Bytes written to the disk.
    pub written: u64,
    /// From the action's start to its success.
    pub took: Duration,
}

/// The timeline of one machine. Times are since the start of the demo.
#[derive(Debug)]
pub struct Timeline {
    /// Where it stands.
    pub state: State,
    /// Phases that are over, in order.
    pub phases: Vec<Phase>,
    /// Seconds from kernel start to the agent's first call, as the agent said.
    pub agent_first_call: Option<f64>,
    /// The image write.
    pub image: Image,
    last: Duration,
    seen: BTreeSet<String>,
    running: Option<(String, Duration)>,
    progress_at: Option<(Duration, u64)>,
    metadata_count: i32,
}

impl Timeline {
    /// A machine whose provisioning was asked for at `start`.
    pub fn new(start: Duration) -> Self {
        Self {
            state: State::Installing,
            phases: Vec::new(),
            agent_first_call: None,
            image: Image::default(),
            last: start,
            seen: BTreeSet::new(),
            running: None,
            progress_at: None,
            metadata_count: 0,
        }
    }

    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Running | State::Failed(_))
    }

    /// An Event about the machine, seen at `now`; `count` is how often it happened. Gives a line to print.
    pub fn event(&mut self, reason: Reason, message: &str, count: i32, now: Duration) -> Option<String> {
        if reason == Reason::MetadataFetched {
            let again = count > self.metadata_count;
            self.metadata_count = count;
            if again && self.state == State::Installed {
                self.state = State::Running;
                return self.phase("metadata", message, now);
            }
            return None;
        }
        let name = match reason {
            Reason::PoweredOff => "powered off",
            Reason::BootDeviceSet => "boot device",
            Reason::PoweredOn => "powered on",
            Reason::DhcpOffered | Reason::DhcpAcknowledged => "DHCP",
            Reason::BootProgramSent => "boot program",
            Reason::ScriptSent => "script",
            Reason::KernelSent => "kernel",
            Reason::InitramfsSent => "initramfs",
            Reason::IsoRead => "ISO image",
            Reason::AgentConnected => "agent",
            Reason::PowerFailed
            | Reason::AddressConflict
            | Reason::NetbootRefused
            | Reason::TemplateFailed => "problem",
            // Actions and their end are told by the Workflow's status, which also has the figures.
            _ => return None,
        };
        self.phase(name, message, now)
    }

    /// The status of the machine's Workflow as it is at `now`. Gives lines to print.
    pub fn workflow(&mut self, status: &WorkflowStatus, now: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(uptime) = status.agent_first_call.as_ref().and_then(|call| call.uptime_seconds) {
            self.agent_first_call.get_or_insert(uptime);
        }
        for action in status.tasks.iter().flat_map(|task| &task.actions) {
            let name = action.name.as_deref().unwrap_or("unnamed action");
            let is_new = self.running.as_ref().is_none_or(|(id, _)| *id != action.id);
            match action.state {
                WorkflowState::Running if is_new => {
                    self.running = Some((action.id.clone(), now));
                    self.progress_at = None;
                }
                WorkflowState::Success if !self.seen.contains(&action.id) => {
                    self.seen.insert(action.id.clone());
                    let started = self
                        .running
                        .as_ref()
                        .filter(|(id, _)| *id == action.id)
                        .map_or(self.last, |(_, at)| *at);
                    if let Some(progress) =
                        status.progress.as_ref().filter(|progress| progress.action_id == action.id)
                    {
                        let took = now.saturating_sub(started);
                        self.image =
                            Image { bytes: progress.bytes_read, written: progress.bytes_written, took };
                        lines.extend(self.phase(name, &summary(&self.image), now));
                    } else {
                        lines.extend(self.phase(name, "", now));
                    }
                }
                _ => {}
            }
        }
        lines.extend(self.progress(status, now));
        match status.state {
            WorkflowState::Success if self.state == State::Installing => self.state = State::Installed,
            WorkflowState::Failed | WorkflowState::Timeout if self.state == State::Installing => {
                let reason = failure(status);
                lines.extend(self.phase("failed", &reason, now));
                self.state = State::Failed(reason);
            }
            _ => {}
        }
        lines
    }

    fn progress(&mut self, status: &WorkflowStatus, now: Duration) -> Option<String> {
        let progress = status.progress.as_ref()?;
        let (id, started) =
            self.running.as_ref().filter(|(id, _)| *id == progress.action_id && !self.seen.contains(id))?;
        let (before, bytes) = self.progress_at.unwrap_or((*started, 0));
        let passed = now.saturating_sub(before);
        if passed < PROGRESS_INTERVAL {
            return None;
        }
        let rate = mebibytes(progress.bytes_read.saturating_sub(bytes)) / passed.as_secs_f64();
        let name = status
            .tasks
            .iter()
            .flat_map(|task| &task.actions)
            .find(|action| action.id == *id)?
            .name
            .clone()?;
        self.progress_at = Some((now, progress.bytes_read));
        let total =
            progress.bytes_total.map_or(String::new(), |total| format!(" of {:.0}", mebibytes(total)));
        let read = mebibytes(progress.bytes_read);
        Some(format!("{name:30} {read:.0}{total} MiB read, {rate:.1} MiB/s"))
    }

    fn phase(&mut self, name: &str, message: &str, now: Duration) -> Option<String> {
        if !self.seen.insert(format!("phase {name}")) {
            return None;
        }
        let took = now.saturating_sub(self.last);
        self.last = now;
        self.phases.push(Phase { name: name.to_owned(), took });
        Some(format!("{name:30} {message}"))
    }
}

/// Why a Workflow failed, in one line.
fn failure(status: &WorkflowStatus) -> String {
    let failed = |action: &&api::v1alpha1::Action| {
        matches!(action.state, WorkflowState::Failed | WorkflowState::Timeout)
    };
    if let Some(action) = status.tasks.iter().flat_map(|task| &task.actions).find(failed) {
        let name = action.name.as_deref().unwrap_or("an action");
        return format!("{name}: {}", action.message.as_deref().unwrap_or("no message"));
    }
    let condition = status.conditions.iter().rev().find_map(|condition| condition.message.clone());
    condition.unwrap_or_else(|| format!("the workflow ended {}", status.state))
}

fn summary(image: &Image) -> String {
    let seconds = image.took.as_secs_f64();
    let (read, written) = (mebibytes(image.bytes), mebibytes(image.written));
    format!("{read:.0} MiB read, {written:.0} MiB written in {seconds:.1} s")
}

/// For people: exact to well below a byte's share of a printed digit.
#[expect(clippy::cast_precision_loss, reason = "shown with one decimal at the most")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::v1alpha1::{Action, Progress, Task};

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn status(state: WorkflowState, action: WorkflowState, read: u64) -> WorkflowStatus {
        let action = Action {
            id: "a1".into(),
            name: Some("stream image to disk".into()),
            state: action,
            ..Action::default()
        };
        WorkflowStatus {
            state,
            tasks: vec![Task { actions: vec![action], ..Task::default() }],
            progress: Some(Progress {
                action_id: "a1".into(),
                bytes_read: read,
                bytes_written: read * 2,
                bytes_total: Some(100 << 20),
                ..Progress::default()
            }),
            ..WorkflowStatus::default()
        }
    }

    #[test]
    fn phases_are_counted_once_and_last_since_the_one_before() {
        let mut timeline = Timeline::new(at(0));
        assert!(timeline.event(Reason::PoweredOn, "on", 1, at(2)).is_some());
        assert!(timeline.event(Reason::DhcpOffered, "offer", 1, at(7)).is_some());
        assert!(timeline.event(Reason::DhcpAcknowledged, "ack", 1, at(8)).is_none());
        let took: Vec<_> = timeline.phases.iter().map(|phase| (phase.name.as_str(), phase.took)).collect();
        assert_eq!(took, [("powered on", at(2)), ("DHCP", at(5))]);
    }

    #[test]
    fn running_is_said_only_after_metadata_follows_success() {
        let mut timeline = Timeline::new(at(0));
        // A fetch of an earlier life must not count.
        timeline.event(Reason::MetadataFetched, "", 3, at(1));
        timeline.workflow(&status(WorkflowState::Running, WorkflowState::Running, 0), at(10));
        let lines =
            timeline.workflow(&status(WorkflowState::Running, WorkflowState::Running, 50 << 20), at(20));
        assert!(lines[0].contains("50 of 100 MiB read, 5.0 MiB/s"), "{lines:?}");
        timeline.workflow(&status(WorkflowState::Success, WorkflowState::Success, 100 << 20), at(30));
        assert_eq!(timeline.state, State::Installed);
        assert_eq!(timeline.image.took, at(20));
        timeline.event(Reason::MetadataFetched, "", 3, at(31));
        assert_eq!(timeline.state, State::Installed);
        timeline.event(Reason::MetadataFetched, "", 4, at(40));
        assert_eq!(timeline.state, State::Running);
    }

    #[test]
    fn a_failed_action_gives_its_reason() {
        let mut timeline = Timeline::new(at(0));
        let mut failed = status(WorkflowState::Failed, WorkflowState::Failed, 5);
        failed.tasks[0].actions[0].message = Some("image ended at byte 5 of 100".into());
        timeline.workflow(&failed, at(3));
        assert_eq!(
            timeline.state,
            State::Failed("stream image to disk: image ended at byte 5 of 100".into())
        );
    }
}

// SPDX-License-Identifier: Apache-2.0

//! From what the daemons wrote to one sentence.
//!
//! The enabled Workflow whose turn it is decides which part of the story matters: what went wrong with it, else how far
//! it is, else what the machine does without one. Others of the machine that wait stand below the sentence.

use api::{
    bmc::v1alpha1::{
        self as bmc, COMPLETED, CONTACTABLE, FAILED, Job, JobCondition, Machine, PowerState, Task,
    },
    events::Reason,
    v1alpha1::{Action, Hardware, Workflow, WorkflowState, WorkflowStatus, condition},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt;

use super::{
    Answer, Snapshot,
    target::{self, Target},
};
use crate::{describe, output};

/// Progress older than this is worth a word.
const STALE: SignedDuration = SignedDuration::from_secs(30);

/// Events shown under the sentence.
const MAX_EVENTS: usize = 8;

/// What the machine called `word` is doing at `now`, or why it is not.
#[must_use]
pub fn explain(snapshot: &Snapshot, word: &str, now: Timestamp) -> Answer {
    match target::find(snapshot, word) {
        Target::Hardware(hardware) => {
            let story = Story::new(snapshot, hardware, now);
            Answer { sentence: story.sentence(), evidence: story.evidence(), known: true }
        }
        Target::Bmc(machine) => about_bmc(machine),
        Target::Several(names) => Answer {
            sentence: format!("{word} could be {}: say which with -n or by its MAC.", names.join(" or ")),
            evidence: Vec::new(),
            known: false,
        },
        Target::Unknown { near } => {
            let hint = match near.as_slice() {
                [] => "`tink get hardware -A -o wide` lists all".to_owned(),
                names => format!("did you mean {}?", names.join(" or ")),
            };
            let sentence = format!(
                "No Hardware has the name, MAC or IP address {word}, and no BMC Machine either; {hint}"
            );
            Answer { sentence: full_stop(sentence), evidence: Vec::new(), known: false }
        }
    }
}

fn about_bmc(machine: &Machine) -> Answer {
    let name = machine.name_any();
    let state = match unreachable(machine) {
        Some(problem) => format!("its BMC does not work: {problem}"),
        None => format!("power is {}", power(machine)),
    };
    Answer {
        sentence: full_stop(format!("No Hardware refers to the BMC Machine {name}; {state}")),
        evidence: vec![machine_line(machine)],
        known: true,
    }
}

/// One thing that was seen of the machine.
struct Seen<'a> {
    reason: Reason,
    at: Timestamp,
    event: &'a Event,
}

/// All that concerns one machine.
struct Story<'a> {
    now: Timestamp,
    name: String,
    hardware: &'a Hardware,
    workflow: Option<&'a Workflow>,
    /// Enabled Workflows that are not over and wait for that one.
    waiting: Vec<&'a Workflow>,
    machine: Option<&'a Machine>,
    job: Option<&'a Job>,
    tasks: Vec<&'a Task>,
    /// Oldest first.
    events: Vec<Seen<'a>>,
}

impl<'a> Story<'a> {
    fn new(snapshot: &'a Snapshot, hardware: &'a Hardware, now: Timestamp) -> Self {
        let (name, namespace) = (hardware.name_any(), hardware.namespace());
        let of_it = |w: &&Workflow| {
            w.namespace() == namespace && w.spec.hardware_ref.as_deref() == Some(&name) && !w.is_disabled()
        };
        let mut workflows: Vec<_> = snapshot.workflows.iter().filter(of_it).collect();
        workflows.sort_by_key(|workflow| (made(*workflow), workflow.name_any()));
        let workflow = whose_turn(&workflows);
        let waits = |other: &&Workflow| {
            !other.state().is_final() && workflow.is_some_and(|w| w.name_any() != other.name_any())
        };
        let waiting = workflows.iter().copied().filter(waits).collect();
        let machine = hardware.bmc_name().and_then(|bmc| {
            snapshot.machines.iter().find(|m| m.name_any() == bmc && m.namespace() == namespace)
        });
        let since = workflow.and_then(made);
        let of_machine = |job: &&Job| {
            machine.is_some_and(|machine| job.spec.machine_ref.name == machine.name_any())
                && job.namespace() == namespace
                && made(*job) >= since
        };
        let job = snapshot.jobs.iter().filter(of_machine).max_by_key(|job| made(*job));
        let of_job = |task: &&Task| {
            let owner = task.labels().get(api::annotations::LABEL_TASK_OWNER);
            job.is_some_and(|job| owner == Some(&job.name_any())) && task.namespace() == namespace
        };
        let mut tasks: Vec<_> = snapshot.tasks.iter().filter(of_job).collect();
        tasks.sort_by_key(|task| (made(*task), task.name_any()));
        let mut events: Vec<_> = snapshot.events.iter().filter_map(|event| seen(event, hardware)).collect();
        events.sort_by_key(|seen| seen.at);
        Self { now, name, hardware, workflow, waiting, machine, job, tasks, events }
    }

    fn sentence(&self) -> String {
        let text = match self.workflow {
            Some(workflow) => self.with_workflow(workflow),
            None => self.without_workflow(),
        };
        full_stop(text)
    }

    fn without_workflow(&self) -> String {
        let name = &self.name;
        if let Some(problem) = self.machine.and_then(unreachable) {
            return format!("{name} cannot be reached through its BMC: {problem}");
        }
        if let Some(refused) = self.last(&[Reason::NetbootRefused, Reason::KernelSent])
            && refused.reason == Reason::NetbootRefused
        {
            let ago = self.ago(refused.at);
            return format!(
                "{name} asked for network boot {ago} ago and was refused: {}",
                message(refused.event)
            );
        }
        let power = self.machine.map(|m| format!("; its power is {}", power(m))).unwrap_or_default();
        format!("{name} has nothing to do: no enabled Workflow refers to it{power}")
    }

    fn with_workflow(&self, workflow: &Workflow) -> String {
        let (name, flow) = (&self.name, workflow.name_any());
        let empty = WorkflowStatus::default();
        let status = workflow.status.as_ref().unwrap_or(&empty);
        if workflow.is_stuck() {
            let template = workflow.spec.template_ref.as_deref().unwrap_or_default();
            let reason = status.condition(condition::TEMPLATE_RENDERED).and_then(|c| c.message.as_deref());
            let reason = reason.unwrap_or("the Workflow does not say why");
            // The condition names the Template too.
            let reason = reason.strip_prefix(&format!("Template {template}: ")).unwrap_or(reason);
            return format!(
                "{name} waits because the Template {template} of Workflow {flow} cannot be rendered: {reason}"
            );
        }
        match &status.state {
            WorkflowState::Unset => self.not_looked_at(&flow),
            WorkflowState::Preparing => self.preparing(&flow, status),
            WorkflowState::Pending => self.booting(&flow, workflow),
            WorkflowState::Running => self.running(&flow, status),
            WorkflowState::Post => {
                format!(
                    "{name} has done all actions of Workflow {flow}; {}",
                    self.boot_job("what was prepared for the boot is being undone")
                )
            }
            WorkflowState::Success => self.succeeded(&flow),
            WorkflowState::Failed => format!("{name} failed in Workflow {flow}: {}", self.failure(status)),
            WorkflowState::Timeout => {
                format!("{name} ran out of time in Workflow {flow}: {}", timeout(status))
            }
            WorkflowState::Other(state) => {
                format!("Workflow {flow} of {name} is in state {state}, which this version does not know")
            }
        }
    }

    fn not_looked_at(&self, flow: &str) -> String {
        let age = self.workflow.and_then(made).map(|at| self.ago(at)).unwrap_or_default();
        format!(
            "{} waits because the workflow controller has not looked at Workflow {flow} since it was made {age} ago; is tink-server running?",
            self.name
        )
    }

    fn preparing(&self, flow: &str, status: &WorkflowStatus) -> String {
        let name = &self.name;
        let setup = status.condition(condition::BOOT_JOB_SETUP_COMPLETE).filter(|c| c.status == "False");
        if let Some(why) = setup.and_then(|condition| condition.message.as_deref()) {
            return format!("{name} is not prepared for Workflow {flow} yet: {why}");
        }
        if let Some(problem) = self.job_failure() {
            return format!("{name} cannot be booted for Workflow {flow}: {problem}");
        }
        if let Some(problem) = self.machine.and_then(unreachable) {
            return format!(
                "{name} cannot be booted for Workflow {flow}, because its BMC cannot be reached: {problem}"
            );
        }
        if self.hardware.bmc_name().is_some() && self.machine.is_none() {
            let bmc = self.hardware.bmc_name().unwrap_or_default();
            return format!(
                "{name} cannot be booted for Workflow {flow}: there is no BMC Machine {bmc} in its namespace"
            );
        }
        format!("{name} is being prepared for Workflow {flow}; {}", self.boot_job("no BMC Job was made yet"))
    }

    /// What the BMC is doing, or `otherwise`.
    fn boot_job(&self, otherwise: &str) -> String {
        let Some(job) = self.job else { return otherwise.to_owned() };
        let status = job.status.clone().unwrap_or_default();
        if status.is(COMPLETED) {
            return otherwise.to_owned();
        }
        let done =
            self.tasks.iter().filter(|task| task.status.as_ref().is_some_and(|s| s.is(COMPLETED))).count();
        let current = self.tasks.get(done).map(|task| format!(": {}", operation(&task.spec.task)));
        let all = job.spec.tasks.len();
        format!("BMC Job {} has done {done} of {all} steps{}", job.name_any(), current.unwrap_or_default())
    }

    /// The agent has not asked for its first action: how far did the machine get?
    fn booting(&self, flow: &str, workflow: &Workflow) -> String {
        let name = &self.name;
        if let Some(problem) = self.job_failure() {
            return format!("{name} did not boot for Workflow {flow}: {problem}");
        }
        let since = made(workflow);
        let reached = self.events.iter().rev().find(|seen| {
            Some(seen.at) >= since && (is_boot(seen.reason) || seen.reason == Reason::PowerFailed)
        });
        let Some(reached) = reached else {
            let unreachable = self.machine.and_then(unreachable);
            let bmc = unreachable.map(|problem| format!("; its BMC cannot be reached: {problem}"));
            return format!(
                "{name} has not been seen on the network since Workflow {flow} was made: waiting for its first DHCP packet from {}{}",
                self.macs(),
                bmc.unwrap_or_default()
            );
        };
        let (ago, text) = (self.ago(reached.at), message(reached.event));
        let far = match reached.reason {
            Reason::PowerFailed => return format!("{name} cannot be booted for Workflow {flow}: {text}"),
            Reason::NetbootRefused => {
                return format!("{name} asked for network boot {ago} ago and was refused: {text}");
            }
            Reason::PoweredOff | Reason::BootDeviceSet => {
                "is being powered by its BMC, and is not on yet".to_owned()
            }
            Reason::PoweredOn => {
                format!("was powered on {ago} ago and has sent no DHCP packet from {} yet", self.macs())
            }
            Reason::DhcpOffered => format!("was offered an address {ago} ago and has not taken it"),
            Reason::AddressConflict => return format!("{name} cannot boot for Workflow {flow}: {text}"),
            Reason::DhcpAcknowledged => {
                format!("got its address {ago} ago and has not fetched a boot program")
            }
            Reason::BootProgramSent => {
                format!("fetched its boot program {ago} ago and has not asked for its iPXE script")
            }
            Reason::ScriptSent => format!("fetched its iPXE script {ago} ago and has not fetched the kernel"),
            Reason::KernelSent => format!("fetched the kernel {ago} ago, but not the initial RAM disk"),
            Reason::InitramfsSent | Reason::IsoRead => {
                let fetched = match reached.reason {
                    Reason::IsoRead => format!("had its ISO image read by its BMC {ago} ago"),
                    _ => format!("fetched kernel and initial RAM disk {ago} ago"),
                };
                match self.last(&[Reason::AgentLogged, Reason::KernelLogged]) {
                    Some(seen) if seen.at >= reached.at && seen.reason == Reason::AgentLogged => {
                        format!(
                            "{fetched}, and its agent runs but has not called; its log has {}",
                            message(seen.event)
                        )
                    }
                    Some(seen) if seen.at >= reached.at => {
                        format!(
                            "{fetched}; its kernel runs, but its agent has not been heard; its log has {}",
                            message(seen.event)
                        )
                    }
                    _ => format!("{fetched}, and its agent has not been heard since"),
                }
            }
            _ => format!("has an agent that called {ago} ago and was not handed an action yet"),
        };
        format!("{name} {far} (Workflow {flow})")
    }

    fn running(&self, flow: &str, status: &WorkflowStatus) -> String {
        let name = &self.name;
        let current = status.current_state.as_ref();
        let id = current.and_then(|current| current.action_id.as_deref()).unwrap_or_default();
        let found = status.action(id);
        let label = current.and_then(|current| current.action_name.clone()).unwrap_or_else(|| id.to_owned());
        let number = status.tasks.iter().flat_map(|task| &task.actions).position(|action| action.id == id);
        let all: usize = status.tasks.iter().map(|task| task.actions.len()).sum();
        let place = number.map(|number| format!(", {} of {all}", number + 1)).unwrap_or_default();
        if let Some(again) = self.rebooted(status) {
            return format!(
                "{name} was on action {label:?}{place} of Workflow {flow} when it booted again: {again}"
            );
        }
        if found.is_some_and(|(_, action)| action.state == WorkflowState::Success) {
            return format!(
                "{name} finished action {label:?}{place} of Workflow {flow}, and its agent has not asked for the next"
            );
        }
        let since = found.and_then(|(_, action)| action.execution_start.as_ref()).map(|at| at.0);
        let since = since.map(|at| format!(" for {}", self.ago(at))).unwrap_or_default();
        format!("{name} runs action {label:?}{place} of Workflow {flow}{since}{}", self.progress(id, status))
    }

    fn progress(&self, action: &str, status: &WorkflowStatus) -> String {
        let Some(progress) = status.progress.as_ref().filter(|progress| progress.action_id == action) else {
            return String::new();
        };
        let written = output::bytes(progress.bytes_written);
        let read = match progress.bytes_total {
            Some(total) if total > 0 => {
                let percent = u128::from(progress.bytes_read) * 100 / u128::from(total);
                format!(
                    "{} of {} read ({percent} %)",
                    output::bytes(progress.bytes_read),
                    output::bytes(total)
                )
            }
            _ => format!("{} read", output::bytes(progress.bytes_read)),
        };
        let silent =
            progress.updated.as_ref().map(|at| self.now.duration_since(at.0)).filter(|age| *age > STALE);
        let silent = silent.map(|age| format!("; no news for {}", output::duration(age))).unwrap_or_default();
        let waiting =
            progress.waiting.as_deref().map(|why| format!("; it waits for {why}")).unwrap_or_default();
        format!(": {read}, {written} written{waiting}{silent}")
    }

    /// What was seen of a boot that began after the one whose agent works on the Workflow.
    fn rebooted(&self, status: &WorkflowStatus) -> Option<String> {
        let boot = status.agent_token.as_ref()?.boot;
        let later =
            self.events.iter().rev().find(|seen| {
                is_boot(seen.reason) && boot_of(seen.event).is_some_and(|number| number > boot)
            })?;
        Some(format!("{} {} ago", later.reason, self.ago(later.at)))
    }

    fn succeeded(&self, flow: &str) -> String {
        let name = &self.name;
        let done = self.last(&[Reason::WorkflowSucceeded]).map(|seen| seen.at);
        let ago = done.map(|at| format!(" {} ago", self.ago(at))).unwrap_or_default();
        match self.last(&[Reason::MetadataFetched]).filter(|seen| Some(seen.at) >= done) {
            Some(seen) => format!(
                "{name} is installed and running: Workflow {flow} succeeded{ago}, and the installed system fetched its metadata {} ago",
                self.ago(seen.at)
            ),
            None => format!(
                "{name} is installed: Workflow {flow} succeeded{ago}; the installed system has not fetched its metadata"
            ),
        }
    }

    /// Why the Workflow failed: an action, else the boot, else what a condition says.
    fn failure(&self, status: &WorkflowStatus) -> String {
        let mut actions = status.tasks.iter().flat_map(|task| &task.actions);
        if let Some(action) = actions.find(|action| action.state == WorkflowState::Failed) {
            return format!("action {:?} failed: {}", action_name(action), said(action));
        }
        if let Some(problem) = self.job_failure() {
            return problem;
        }
        let failed = [condition::BOOT_JOB_FAILED, condition::BOOT_JOB_SETUP_FAILED];
        let found = failed.iter().find_map(|type_| status.condition(type_).filter(|c| c.status == "True"));
        if let Some(found) = found {
            let problem = found.message.as_deref().or(found.reason.as_deref()).unwrap_or_default();
            // Nobody tried to boot it.
            let protected = found.reason.as_deref() == Some(condition::REASON_PROTECTED);
            return if protected { problem.to_owned() } else { format!("it could not be booted: {problem}") };
        }
        let seen = self.last(&[Reason::WorkflowFailed, Reason::ActionFailed]);
        seen.map_or("nothing says why".to_owned(), |seen| message(seen.event).to_owned())
    }

    /// What went wrong with the newest BMC Job, with the words of the task or the BMC.
    fn job_failure(&self) -> Option<String> {
        let job = self.job?;
        let status = job.status.as_ref().filter(|status| status.is(FAILED))?;
        let failed = self.tasks.iter().rev().find(|t| t.status.as_ref().is_some_and(|s| s.is(FAILED)));
        let of_task = failed.and_then(|task| {
            let problem = text(task.status.as_ref()?.condition(FAILED)?)?;
            Some(format!("{} failed: {problem}", operation(&task.spec.task)))
        });
        let of_machine = self.machine.and_then(unreachable);
        let of_job = status.condition(FAILED).and_then(text);
        let problem = of_task.or(of_job).or(of_machine).unwrap_or_else(|| "it does not say why".to_owned());
        Some(format!("BMC Job {} failed: {problem}", job.name_any()))
    }

    fn evidence(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(workflow) = self.workflow {
            lines.push(format!("Workflow {} is in state {}", workflow.name_any(), state_name(workflow)));
            let conditions = workflow.status.iter().flat_map(|status| &status.conditions);
            lines.extend(conditions.filter(|c| c.type_.ends_with("Failed") || c.status != "True").map(|c| {
                let message = c.message.as_deref().unwrap_or_default();
                format!("  condition {}={}: {message}", c.type_, c.status)
            }));
        }
        for other in &self.waiting {
            let status = other.status.as_ref();
            let said = status.and_then(|status| status.conditions.iter().rev().find(|c| c.status != "True"));
            let said = said.and_then(|condition| condition.message.as_deref());
            let why = said.map(|message| format!(": {message}")).unwrap_or_default();
            lines.push(format!(
                "Workflow {} is not over either, in state {}{why}",
                other.name_any(),
                state_name(other)
            ));
        }
        lines.extend(self.machine.map(machine_line));
        if let Some(job) = self.job {
            lines.push(format!(
                "BMC Job {} has {} of {} tasks made",
                job.name_any(),
                self.tasks.len(),
                job.spec.tasks.len()
            ));
        }
        for seen in self.events.iter().rev().take(MAX_EVENTS).rev() {
            let count = seen.event.count.filter(|count| *count > 1).map(|n| format!(" ({n} times)"));
            let ago = self.ago(seen.at);
            lines.push(
                format!(
                    "{ago:>8} ago  {}{}  {}",
                    seen.reason,
                    count.unwrap_or_default(),
                    message(seen.event)
                )
                .trim_end()
                .to_owned(),
            );
        }
        lines
    }

    fn last(&self, reasons: &[Reason]) -> Option<&Seen<'a>> {
        self.events.iter().rev().find(|seen| reasons.contains(&seen.reason))
    }

    fn ago(&self, at: Timestamp) -> String {
        output::duration(self.now.duration_since(at))
    }

    fn macs(&self) -> String {
        let macs: Vec<_> = self.hardware.macs().map(|mac| mac.to_string()).collect();
        if macs.is_empty() { "it (its Hardware has no MAC)".to_owned() } else { macs.join(" or ") }
    }
}

/// Of a machine's enabled Workflows, oldest first, the one that tells what it does: one that has begun, else the next
/// one, else the newest. One whose Template cannot be rendered holds up nobody.
fn whose_turn<'a>(workflows: &[&'a Workflow]) -> Option<&'a Workflow> {
    let has_begun = |workflow: &Workflow| match workflow.state() {
        WorkflowState::Pending | WorkflowState::Running | WorkflowState::Post => true,
        WorkflowState::Preparing => workflow.has_begun(),
        _ => false,
    };
    let is_next = |workflow: &Workflow| !workflow.state().is_final() && !workflow.is_stuck();
    let find =
        |matches: &dyn Fn(&Workflow) -> bool| workflows.iter().copied().find(|workflow| matches(workflow));
    find(&has_begun).or_else(|| find(&is_next)).or_else(|| workflows.last().copied())
}

fn state_name(workflow: &Workflow) -> &str {
    match workflow.state().as_str() {
        "" => "no state",
        state => state,
    }
}

fn seen<'a>(event: &'a Event, hardware: &Hardware) -> Option<Seen<'a>> {
    let involved = &event.involved_object;
    let of_it = involved.name == hardware.metadata.name
        && involved.namespace == hardware.metadata.namespace
        && involved.kind.as_deref().is_none_or(|kind| kind == "Hardware");
    if !of_it {
        return None;
    }
    Some(Seen { reason: event.reason.as_deref()?.parse().ok()?, at: describe::last_seen(event)?, event })
}

/// Whether the Event is a step between power and agent.
fn is_boot(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::PoweredOff
            | Reason::BootDeviceSet
            | Reason::PoweredOn
            | Reason::DhcpOffered
            | Reason::DhcpAcknowledged
            | Reason::AddressConflict
            | Reason::NetbootRefused
            | Reason::BootProgramSent
            | Reason::ScriptSent
            | Reason::KernelSent
            | Reason::InitramfsSent
            | Reason::IsoRead
            | Reason::AgentConnected
    )
}

fn boot_of(event: &Event) -> Option<u64> {
    event.metadata.annotations.as_ref()?.get(api::annotations::BOOT)?.parse().ok()
}

fn made(object: &impl ResourceExt) -> Option<Timestamp> {
    object.creation_timestamp().map(|time| time.0)
}

fn message(event: &Event) -> &str {
    event.message.as_deref().unwrap_or_default()
}

fn text(condition: &JobCondition) -> Option<String> {
    condition.message.clone().filter(|message| !message.is_empty())
}

fn unreachable(machine: &Machine) -> Option<String> {
    let condition = machine.status.as_ref()?.condition(CONTACTABLE).filter(|c| c.status == "False")?;
    Some(
        condition
            .message
            .clone()
            .unwrap_or_else(|| format!("{} does not answer", machine.spec.connection.host)),
    )
}

fn power(machine: &Machine) -> &'static str {
    machine.status.as_ref().and_then(|status| status.power_state).unwrap_or(PowerState::Unknown).as_str()
}

fn machine_line(machine: &Machine) -> String {
    let contactable = machine.status.as_ref().and_then(|status| status.condition(CONTACTABLE));
    let contactable = match contactable {
        None => "not asked yet".to_owned(),
        Some(c) if c.status == "True" => "contactable".to_owned(),
        Some(c) => format!("not contactable: {}", c.message.as_deref().unwrap_or_default()),
    };
    let host = &machine.spec.connection.host;
    format!("BMC Machine {} at {host}: power {}, {contactable}", machine.name_any(), power(machine))
}

fn operation(action: &bmc::Action) -> String {
    use bmc::Operation;
    match Operation::try_from(action) {
        Ok(Operation::Power(power)) => format!("power {power}"),
        Ok(Operation::Boot { device, .. }) => format!("boot device {device}"),
        Ok(Operation::InsertMedia { kind, .. }) => format!("inserting virtual media {kind}"),
        Ok(Operation::EjectMedia { kind }) => format!("ejecting virtual media {kind}"),
        Err(error) => error.to_string(),
    }
}

fn timeout(status: &WorkflowStatus) -> String {
    let mut actions = status.tasks.iter().flat_map(|task| &task.actions);
    if let Some(action) = actions.find(|action| action.state == WorkflowState::Timeout) {
        let limit = action.timeout.unwrap_or_default();
        return format!("action {:?} took longer than its {limit} s; {}", action_name(action), said(action));
    }
    let limit = status.global_timeout.unwrap_or_default();
    let current = status.current_state.as_ref().and_then(|current| current.action_name.as_deref());
    match current {
        Some(action) => format!("it took longer than its {limit} s altogether, and was on action {action:?}"),
        None => format!("its agent asked for no action within {limit} s"),
    }
}

fn action_name(action: &Action) -> &str {
    action.name.as_deref().unwrap_or(&action.id)
}

fn said(action: &Action) -> &str {
    action
        .message
        .as_deref()
        .filter(|message| !message.is_empty())
        .unwrap_or("the agent said nothing about it")
}

fn full_stop(mut text: String) -> String {
    let end = text.trim_end().len();
    text.truncate(end);
    if !text.ends_with(['.', '?', '!']) {
        text.push('.');
    }
    text
}

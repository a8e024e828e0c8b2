// SPDX-License-Identifier: Apache-2.0
//! The whole machine against random agents, controllers that die half-way, BMC Jobs and a running clock.

use std::collections::{BTreeMap, BTreeSet};

use api::bmc::v1alpha1::{COMPLETED, FAILED, Job, JobCondition};
use api::v1alpha1::{BootMode, BootOptions, Hardware, Template, condition as types};
use kube::ResourceExt;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const START: i64 = 1_800_000_000;
const AGENT: &str = "52:54:00:00:00:11";

const TEMPLATE: &str = "
name: n
global_timeout: 100
tasks:
- name: one
  worker: '{{.device_1}}'
  actions:
  - {name: stream, image: quay.io/tinkerbell/actions/image2disk, timeout: 10}
  - {name: file, image: quay.io/tinkerbell/actions/writefile, timeout: 10}
- name: two
  worker: '{{.device_1}}'
  actions:
  - {name: reboot, image: 127.0.0.1/embedded/reboot, timeout: 10}
";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(START + seconds).unwrap()
}

fn hardware() -> Hardware {
    serde_json::from_value(json!({
        "apiVersion": "tinkerbell.org/v1alpha1", "kind": "Hardware", "metadata": {"name": "m1", "namespace": "t"},
        "spec": {"bmcRef": {"kind": "Machine", "name": "bmc1"}, "interfaces": [{"dhcp": {"mac": AGENT, "uefi": true}}]}
    }))
    .unwrap()
}

/// The objects around one Workflow, and what was observed of them.
struct World {
    workflow: Workflow,
    template: Option<Template>,
    hardware: Option<Hardware>,
    rival: Option<Workflow>,
    jobs: BTreeMap<String, Job>,
    netboot: bool,
    now: i64,
    ids: u32,
    created: Vec<String>,
    notes: Vec<Note>,
    served_after_success: Option<String>,
    succeeded: BTreeSet<String>,
}

impl World {
    fn new(boot: Option<BootOptions>) -> Self {
        let mut workflow = Workflow::default();
        workflow.metadata.name = Some("w1".to_owned());
        workflow.metadata.namespace = Some("t".to_owned());
        workflow.metadata.uid = Some("uid-w1".to_owned());
        workflow.spec.template_ref = Some("tpl".to_owned());
        workflow.spec.hardware_ref = Some("m1".to_owned());
        workflow.spec.hardware_map = BTreeMap::from([("device_1".to_owned(), AGENT.to_owned())]);
        workflow.spec.boot_options = boot;
        let mut template = Template::default();
        template.spec.data = Some(TEMPLATE.to_owned());
        Self {
            workflow,
            template: Some(template),
            hardware: Some(hardware()),
            rival: None,
            jobs: BTreeMap::new(),
            netboot: false,
            now: 0,
            ids: 0,
            created: Vec::new(),
            notes: Vec::new(),
            served_after_success: None,
            succeeded: BTreeSet::new(),
        }
    }

    fn decision(&mut self) -> Decision {
        let ids = &mut self.ids;
        let input = Input {
            workflow: &self.workflow,
            template: self.template.as_ref(),
            hardware: self.hardware.as_ref(),
            rival: self.rival.as_ref(),
            jobs: &self.jobs,
            now: at(self.now),
        };
        decide(&input, &mut |text, data| {
            crate::template::render(text, data, &mut || {
                *ids += 1;
                format!("id-{ids}")
            })
        })
    }

    /// Decides and carries out at most `steps` effects; a controller that dies there writes no status.
    fn reconcile(&mut self, steps: usize) -> Decision {
        let decision = self.decision();
        for effect in decision.effects.iter().take(steps) {
            self.apply(effect);
        }
        if steps >= decision.effects.len() {
            if let Some(status) = &decision.status {
                self.workflow.status = Some(status.clone());
            }
            self.notes.extend(decision.notes.iter().cloned());
        }
        decision
    }

    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::SetNetboot { allow, .. } => self.netboot = *allow,
            Effect::CreateJob(job) => {
                let name = job.name_any();
                if let std::collections::btree_map::Entry::Vacant(slot) = self.jobs.entry(name.clone()) {
                    let mut job = (**job).clone();
                    job.metadata.uid = Some(format!("uid-{name}"));
                    slot.insert(job);
                    self.created.push(name);
                }
            }
            Effect::DeleteJob { name, uid } => {
                if self.jobs.get(name).is_some_and(|job| job.uid() == *uid) {
                    self.jobs.remove(name);
                }
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            if self.reconcile(usize::MAX).status.is_none() {
                return;
            }
        }
        panic!("the controller never settles: {:?}", self.workflow.status);
    }

    fn end_jobs(&mut self, type_: &str) {
        for job in self.jobs.values_mut() {
            let status = job.status.get_or_insert_default();
            if !status.is(COMPLETED) && !status.is(FAILED) {
                status.set_condition(JobCondition::holds(type_, Some("because".to_owned())));
            }
        }
    }

    fn state(&self) -> WorkflowState {
        self.workflow.state().clone()
    }

    fn actions(&self) -> Vec<Action> {
        let status = self.workflow.status.clone().unwrap_or_default();
        status.tasks.into_iter().flat_map(|task| task.actions).collect()
    }

    fn serve(&mut self) -> Result<Action, Refusal> {
        let (_, action, status) = serve(&self.workflow, AGENT)?;
        if self.succeeded.contains(&action.id) {
            self.served_after_success = Some(action.id.clone());
        }
        self.workflow.status = Some(status);
        Ok(action)
    }

    fn report(&mut self, action: &str, state: WorkflowState) -> Result<bool, ReportError> {
        let report_ = Report {
            agent: AGENT.to_owned(),
            task: String::new(),
            action: action.to_owned(),
            state: state.clone(),
            start: None,
            stop: None,
            duration: None,
            message: Some("m".to_owned()),
        };
        let reported = report(&self.workflow, &report_, at(self.now))?;
        let changed = reported.status.is_some();
        if let Some(status) = reported.status {
            self.workflow.status = Some(status);
            if state == WorkflowState::Success {
                self.succeeded.insert(action.to_owned());
            }
        }
        self.notes.extend(reported.notes);
        Ok(changed)
    }

    fn outcomes(&self) -> usize {
        let ends = [Reason::WorkflowSucceeded, Reason::WorkflowFailed];
        self.notes.iter().filter(|note| ends.contains(&note.reason)).count()
    }
}

fn netboot() -> BootOptions {
    BootOptions {
        toggle_allow_netboot: Some(true),
        boot_mode: Some(BootMode::Netboot),
        ..BootOptions::default()
    }
}

fn iso() -> BootOptions {
    BootOptions {
        toggle_allow_netboot: Some(true),
        boot_mode: Some(BootMode::Iso),
        iso_url: Some("http://h/i.iso".to_owned()),
        ..BootOptions::default()
    }
}

#[test]
fn a_machine_goes_from_nothing_to_success_in_one_job_and_netboot_ends_off() {
    let mut world = World::new(Some(netboot()));
    world.settle();
    assert_eq!(world.state(), WorkflowState::Preparing);
    assert!(world.netboot);
    let job = &world.jobs["netboot-w1"];
    assert_eq!(
        serde_json::to_value(&job.spec).unwrap(),
        json!({
            "machineRef": {"name": "bmc1", "namespace": "t"},
            "tasks": [
                {"powerAction": "off"},
                {"bootDevice": {"device": "pxe", "efiBoot": true, "persistent": false}},
                {"powerAction": "on"},
            ]
        })
    );
    assert!(matches!(world.serve(), Err(Refusal::NotReady { .. })));
    world.end_jobs(COMPLETED);
    world.settle();
    assert_eq!(world.state(), WorkflowState::Pending);
    for index in 0..3 {
        let action = world.serve().unwrap();
        assert_eq!(action.id, world.actions()[index].id);
        assert_eq!(world.report(&action.id, WorkflowState::Running), Ok(true));
        assert_eq!(world.state(), WorkflowState::Running);
        assert_eq!(world.serve().unwrap().id, action.id, "a restarted agent gets it again");
        assert_eq!(world.report(&action.id, WorkflowState::Success), Ok(true));
        assert_eq!(world.report(&action.id, WorkflowState::Success), Ok(false), "known already");
    }
    assert_eq!(world.state(), WorkflowState::Post);
    world.settle();
    assert_eq!(world.state(), WorkflowState::Success);
    assert!(!world.netboot);
    assert_eq!(world.created, ["netboot-w1"]);
    assert_eq!(world.outcomes(), 1);
}

#[test]
fn a_failed_action_fails_the_workflow_after_the_clean_up() {
    let mut world = World::new(Some(iso()));
    world.settle();
    world.end_jobs(COMPLETED);
    world.settle();
    let action = world.serve().unwrap();
    world.report(&action.id, WorkflowState::Running).unwrap();
    world.report(&action.id, WorkflowState::Failed).unwrap();
    assert_eq!(world.state(), WorkflowState::Post);
    world.settle();
    assert_eq!(world.created, ["iso-mount-w1", "iso-eject-w1"]);
    assert_eq!(world.state(), WorkflowState::Post, "the eject Job runs");
    world.end_jobs(COMPLETED);
    world.settle();
    assert_eq!(world.state(), WorkflowState::Failed);
    assert!(!world.netboot);
    assert_eq!(world.outcomes(), 1);
    let last = world.notes.last().unwrap();
    assert!(last.message.contains("\"stream\" ended with FAILED: m"), "{last:?}");
    let report = world.report(&action.id, WorkflowState::Success);
    assert!(matches!(report, Err(ReportError::Backwards { .. })));
}

#[test]
fn the_deadline_runs_from_the_start_of_the_first_action() {
    let mut world = World::new(None);
    world.settle();
    assert_eq!(world.state(), WorkflowState::Pending);
    world.now = 1000;
    world.settle();
    assert_eq!(world.state(), WorkflowState::Pending, "waiting for an agent is not limited");
    let action = world.serve().unwrap();
    world.report(&action.id, WorkflowState::Running).unwrap();
    world.now = 1099;
    let decision = world.reconcile(usize::MAX);
    assert_eq!(decision.again, Some(std::time::Duration::from_secs(2)));
    assert_eq!(world.state(), WorkflowState::Running);
    world.now = 1100;
    world.settle();
    assert_eq!(world.state(), WorkflowState::Timeout);
    assert!(world.notes.last().unwrap().message.contains("100 s"));
    assert!(world.report(&action.id, WorkflowState::Running).is_err());
    assert!(world.report(&action.id, WorkflowState::Success).is_err());
    assert_eq!(world.state(), WorkflowState::Timeout);
}

#[test]
fn what_is_missing_is_said_once_and_picked_up_when_it_comes() {
    let mut world = World::new(None);
    let template = world.template.take();
    world.settle();
    let message = |world: &World| {
        let status = world.workflow.status.clone().unwrap();
        status.condition(types::TEMPLATE_RENDERED).unwrap().message.clone().unwrap()
    };
    assert_eq!(message(&world), "Template tpl does not exist");
    assert_eq!(world.state(), WorkflowState::Unset);
    world.settle();
    assert_eq!(world.notes.len(), 1, "told once");
    world.template = template;
    let hardware = world.hardware.take();
    world.settle();
    assert_eq!(message(&world), "Hardware m1 does not exist");
    world.hardware = hardware;
    world.template.as_mut().unwrap().spec.data = Some("\n{{ .Hardware.Nope }}".to_owned());
    world.settle();
    assert!(
        message(&world).contains("template line 2: .Hardware.Nope does not exist"),
        "{}",
        message(&world)
    );
    world.template.as_mut().unwrap().spec.data = Some(TEMPLATE.to_owned());
    world.settle();
    assert_eq!(world.state(), WorkflowState::Pending);
}

#[test]
fn legacy_and_disabled_workflows() {
    let mut world = World::new(None);
    world.workflow.status.get_or_insert_default().state = WorkflowState::from("STATE_PENDING");
    world.settle();
    assert_eq!(world.state(), WorkflowState::Pending);
    assert_eq!(world.actions().len(), 3);

    let mut world = World::new(Some(netboot()));
    world.workflow.spec.disabled = Some(true);
    world.settle();
    assert_eq!(world.state(), WorkflowState::Unset);
    assert_eq!(world.workflow.status.as_ref().unwrap().agent_id.as_deref(), Some(AGENT));
    assert!(world.created.is_empty() && !world.netboot && world.serve().is_err());
    world.workflow.spec.disabled = None;
    world.settle();
    assert_eq!(world.state(), WorkflowState::Preparing);
}

#[test]
fn only_actions_that_are_known_not_to_may_not_write_a_disk() {
    let action = |image: &str, inner: &str| Action {
        image: Some(image.to_owned()),
        environment: BTreeMap::from([("IMAGE".to_owned(), inner.to_owned())]),
        ..Action::default()
    };
    for (image, inner, may) in [
        ("quay.io/tinkerbell/actions/reboot:latest", "", false),
        ("127.0.0.1/embedded/kexec", "", false),
        ("ghcr.io/jacobweinstock/waitdaemon:v1", "quay.io/tinkerbell/actions/reboot", false),
        ("ghcr.io/jacobweinstock/waitdaemon:v1", "alpine", true),
        ("example.com/tools/reboot", "", true),
        ("reboot", "", true),
        ("quay.io/tinkerbell/actions/image2disk", "", true),
        ("", "", true),
    ] {
        assert_eq!(may_write_disk(&action(image, inner)), may, "{image} {inner}");
    }
}

#[test]
fn a_protected_machine_is_never_written() {
    let protect = |world: &mut World| {
        let hardware = world.hardware.as_mut().unwrap();
        hardware.annotations_mut().insert(api::annotations::PROTECTED.to_owned(), "true".to_owned());
    };
    let mut world = World::new(Some(netboot()));
    protect(&mut world);
    world.settle();
    assert_eq!(world.state(), WorkflowState::Failed);
    assert!(world.created.is_empty() && !world.netboot, "it is not even booted");
    assert!(world.notes.last().unwrap().message.contains("protected"));

    let mut world = World::new(Some(netboot()));
    world.settle();
    protect(&mut world);
    world.end_jobs(COMPLETED);
    world.settle();
    assert_eq!(world.state(), WorkflowState::Failed);
    assert!(!world.netboot);
}

#[test]
fn a_failed_or_impossible_boot_fails_the_workflow_with_the_reason() {
    let mut world = World::new(Some(netboot()));
    world.settle();
    world.end_jobs(FAILED);
    world.settle();
    assert_eq!(world.state(), WorkflowState::Failed);
    assert!(!world.netboot);
    let message = &world.notes.last().unwrap().message;
    assert_eq!(message, "BMC Job netboot-w1 failed: because");

    let mut world = World::new(Some(netboot()));
    world.hardware.as_mut().unwrap().spec.bmc_ref = None;
    world.settle();
    assert_eq!(world.state(), WorkflowState::Failed);
    assert!(world.notes.last().unwrap().message.contains("Hardware m1 has no bmcRef"));
    assert!(!world.netboot);
}

#[test]
fn a_job_of_an_earlier_workflow_of_this_name_is_replaced() {
    let mut world = World::new(Some(netboot()));
    let mut old = Job::default();
    old.metadata.name = Some("netboot-w1".to_owned());
    old.metadata.uid = Some("uid-old".to_owned());
    old.status.get_or_insert_default().set_condition(JobCondition::holds(COMPLETED, None));
    world.jobs.insert("netboot-w1".to_owned(), old);
    world.settle();
    world.settle();
    assert_eq!(world.state(), WorkflowState::Preparing, "the old Job's success is not ours");
    assert_eq!(world.jobs["netboot-w1"].uid().as_deref(), Some("uid-netboot-w1"));
    let record = &world.workflow.status.as_ref().unwrap().boot_options.as_ref().unwrap().jobs["netboot-w1"];
    assert_eq!(record.existing_job_deleted, Some(true));
}

#[test]
fn the_active_workflow_whose_turn_it_is_decides() {
    let make = |name: &str, age: i64, state: WorkflowState| {
        let mut workflow = World::new(None).workflow;
        workflow.metadata.name = Some(name.to_owned());
        workflow.metadata.creation_timestamp = Some(Time(at(age)));
        workflow.status.get_or_insert_default().state = state;
        std::sync::Arc::new(workflow)
    };
    let old = make("old", 1, WorkflowState::Failed);
    let running = make("running", 5, WorkflowState::Running);
    let mid = make("mid", 2, WorkflowState::Pending);
    let new = make("new", 3, WorkflowState::Pending);
    let done = make("done", 4, WorkflowState::Success);
    let pick = |all: &[&std::sync::Arc<Workflow>]| choose(all.iter().copied()).map(|w| w.name_any());
    assert_eq!(pick(&[&old, &mid, &new, &done, &running]).as_deref(), Some("running"));
    assert_eq!(pick(&[&old, &new, &mid, &done]).as_deref(), Some("mid"), "in the order they were made");
    assert_eq!(pick(&[&done, &mid, &old]).as_deref(), Some("mid"));
    assert_eq!(pick(&[&old, &done]).as_deref(), Some("done"));
    assert_eq!(pick(&[]), None);
}

#[test]
fn a_machine_is_not_taken_from_the_workflow_that_has_it() {
    let make = |name: &str, age: i64, state: WorkflowState, boot: Option<BootOptions>| {
        let mut workflow = World::new(boot).workflow;
        workflow.metadata.name = Some(name.to_owned());
        workflow.metadata.uid = Some(format!("uid-{name}"));
        workflow.metadata.creation_timestamp = Some(Time(at(age)));
        workflow.status.get_or_insert_default().state = state;
        std::sync::Arc::new(workflow)
    };
    use WorkflowState::{Pending, Post, Preparing, Running, Success, Unset};
    let mine = make("mine", 5, Preparing, Some(netboot()));
    let has = |other: &std::sync::Arc<Workflow>| rival(&mine, [other, &mine]).is_some();
    for (state, age, boot, expected) in [
        (Running, 9, None, true),
        (Post, 9, None, true),
        (Pending, 9, Some(netboot()), true),
        (Pending, 1, None, false),
        (Preparing, 1, Some(netboot()), true),
        (Preparing, 9, Some(netboot()), false),
        (Unset, 1, Some(netboot()), true),
        (Unset, 1, None, false),
        (Unset, 9, Some(netboot()), false),
        (Success, 1, Some(netboot()), false),
    ] {
        let other = make("other", age, state.clone(), boot);
        assert_eq!(has(&other), expected, "{state} {age}");
        let mut elsewhere = (*other).clone();
        elsewhere.spec.hardware_ref = Some("m2".to_owned());
        assert!(!has(&std::sync::Arc::new(elsewhere)), "another machine");
    }
    let running = make("other", 1, Running, None);
    let mut begun = (*mine).clone();
    begun
        .status
        .get_or_insert_default()
        .boot_options
        .get_or_insert_default()
        .allow_netboot
        .get_or_insert_default();
    assert!(rival(&begun, [&running]).is_none(), "what has begun is brought to its end");
    let mut disabled = (*running).clone();
    disabled.spec.disabled = Some(true);
    assert!(!has(&std::sync::Arc::new(disabled)));

    let mut world = World::new(Some(netboot()));
    world.rival = Some((*running).clone());
    world.settle();
    assert_eq!(world.state(), Preparing);
    assert!(!world.netboot && world.jobs.is_empty(), "nothing is touched");
    let waits =
        world.workflow.status.as_ref().and_then(|s| s.condition(types::BOOT_JOB_SETUP_COMPLETE)).cloned();
    assert!(waits.unwrap().message.unwrap().starts_with("Workflow other is RUNNING"));
    assert!(world.decision().again.is_some(), "it is looked at again");
    world.rival = None;
    world.settle();
    assert!(world.netboot && world.jobs.contains_key("netboot-w1"));
    world.end_jobs(COMPLETED);
    world.settle();
    let waited = world.workflow.status.as_ref().and_then(|s| s.condition(types::BOOT_JOB_SETUP_COMPLETE));
    assert_eq!(waited.map(|c| c.status.as_str()), Some("True"));
}

#[test]
fn the_wire_form_merges_task_and_action() {
    let mut world = World::new(None);
    world.settle();
    let (mut task, mut action, _) = serve(&world.workflow, AGENT).unwrap();
    task.volumes = vec!["/dev:/dev".to_owned()];
    action.volumes = vec!["/b:/b".to_owned()];
    task.environment = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("Z".to_owned(), "1".to_owned())]);
    action.environment =
        BTreeMap::from([("A".to_owned(), "2".to_owned()), ("B".to_owned(), "x=y".to_owned())]);
    action.pid = Some("host".to_owned());
    let response = response(&world.workflow, &task, &action);
    assert_eq!(response.workflow_id(), "t/w1");
    assert_eq!(response.volumes, ["/dev:/dev", "/b:/b"]);
    assert_eq!(response.environment, ["A=2", "B=x=y", "Z=1"]);
    assert_eq!(response.pid(), "host");
    assert_eq!(response.timeout(), 10);
}

#[derive(Debug, Clone)]
enum Step {
    Reconcile,
    ReconcileAndDie(usize),
    EndJobs(bool),
    Serve,
    Report { action: usize, state: u8, wrong_agent: bool },
    Wait(u8),
    Disable(bool),
    LoseHardware(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Reconcile),
        2 => (0..3_usize).prop_map(Step::ReconcileAndDie),
        2 => (0..10_u8).prop_map(|n| Step::EndJobs(n > 0)),
        4 => Just(Step::Serve),
        10 => (0..4_usize, 0..8_u8, 0..20_u8)
            .prop_map(|(action, state, n)| Step::Report { action, state, wrong_agent: n == 0 }),
        1 => (0..60_u8).prop_map(Step::Wait),
        1 => (0..4_u8).prop_map(|n| Step::Disable(n == 0)),
        1 => (0..4_u8).prop_map(|n| Step::LoseHardware(n == 0)),
    ]
}

/// What must hold after every step, given the Workflow before it.
fn check(world: &World, before: &Workflow) {
    let (old, new) = (before.state(), world.workflow.state());
    assert!(!old.is_final() || before.status == world.workflow.status, "{old} changed to {new}");
    assert!(*old != WorkflowState::Post || *new == WorkflowState::Post || new.is_final(), "{old} -> {new}");
    assert_eq!(world.served_after_success, None, "an action was handed out after it succeeded");
    for action in before.status.iter().flat_map(|s| &s.tasks).flat_map(|t| &t.actions) {
        if action.state.is_final() {
            let status = world.workflow.status.as_ref().unwrap();
            assert_eq!(status.action(&action.id).unwrap().1.state, action.state);
        }
    }
    let all_succeeded = world.actions().iter().all(|a| a.state == WorkflowState::Success);
    assert!(*new != WorkflowState::Success || all_succeeded);
    assert_eq!(world.outcomes(), usize::from(new.is_final()), "one outcome is told, at the end");
    assert!(!new.is_final() || !world.netboot, "netboot was left on");
    let unique: BTreeSet<_> = world.created.iter().collect();
    assert_eq!(unique.len(), world.created.len(), "a BMC Job was created twice");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_rules_hold(
        boot in 0..3_u8,
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(match boot {
            0 => None,
            1 => Some(netboot()),
            _ => Some(iso()),
        });
        for step in steps {
            let before = world.workflow.clone();
            match step {
                Step::Reconcile => drop(world.reconcile(usize::MAX)),
                Step::ReconcileAndDie(effects) => {
                    let total = world.decision().effects.len();
                    if effects < total {
                        world.reconcile(effects);
                    }
                }
                Step::EndJobs(well) => world.end_jobs(if well { COMPLETED } else { FAILED }),
                Step::Serve => drop(world.serve()),
                Step::Report { action, state, wrong_agent } => {
                    let id = world.actions().get(action).map_or("none".to_owned(), |a| a.id.clone());
                    let state = match state {
                        0..3 => WorkflowState::Running,
                        3..6 => WorkflowState::Success,
                        6 => WorkflowState::Failed,
                        _ => WorkflowState::Timeout,
                    };
                    if wrong_agent {
                        let report_ = Report {
                            agent: "other".to_owned(), task: String::new(), action: id, state,
                            start: None, stop: None, duration: None, message: None,
                        };
                        let refused = report(&world.workflow, &report_, at(world.now)).is_err();
                        prop_assert!(refused);
                    } else {
                        drop(world.report(&id, state));
                    }
                }
                Step::Wait(seconds) => world.now += i64::from(seconds),
                Step::Disable(disabled) => world.workflow.spec.disabled = Some(disabled),
                Step::LoseHardware(lost) => {
                    // One that comes back is a new object, which nobody switched on.
                    world.netboot &= !lost;
                    world.hardware = (!lost).then(hardware);
                }
            }
            check(&world, &before);
        }
    }
}

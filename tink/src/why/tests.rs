// SPDX-License-Identifier: Apache-2.0

//! One case for each thing that can be the matter with a machine.

use jiff::Timestamp;

use super::*;

/// Hardware m1 with its BMC, in namespace t, and a Workflow w made at 12:00:00. The clock shows 12:10:00.
fn base(state: &str) -> Snapshot {
    let mut snapshot = Snapshot {
        hardware: vec![
            read(
                "metadata: {name: m1, namespace: t}\nspec: {bmcRef: {kind: Machine, name: bmc1}, interfaces: [{dhcp: {mac: '52:54:00:00:00:11', ip: {address: 172.31.0.11}}}]}",
            ),
            read("metadata: {name: m2, namespace: t}\nspec: {}"),
        ],
        machines: vec![read(
            "metadata: {name: bmc1, namespace: t}\nspec: {connection: {host: 172.31.0.101, insecureTLS: true}}\nstatus: {powerState: 'on', conditions: [{type: Contactable, status: 'True'}]}",
        )],
        ..Snapshot::default()
    };
    if !state.is_empty() {
        snapshot.workflows.push(read(&format!(
            "metadata: {{name: w, namespace: t, creationTimestamp: '2026-01-02T12:00:00Z'}}\nspec: {{hardwareRef: m1, templateRef: debian}}\nstatus: {state}"
        )));
    }
    snapshot
}

fn read<K: DeserializeOwned>(yaml: &str) -> K {
    serde_saphyr::from_str(yaml).unwrap()
}

fn event(snapshot: &mut Snapshot, time: &str, reason: &str, boot: u64, message: &str) {
    snapshot.events.push(read(&format!(
        "metadata: {{name: e, namespace: t, annotations: {{tinkerbell.org/boot: '{boot}'}}}}\ninvolvedObject: {{kind: Hardware, name: m1, namespace: t}}\nreason: {reason}\nmessage: '{message}'\nlastTimestamp: '2026-01-02T{time}Z'\ncount: 2"
    )));
}

fn job(snapshot: &mut Snapshot, status: &str, task: &str) {
    snapshot.jobs.push(read(&format!(
        "metadata: {{name: netboot, namespace: t, creationTimestamp: '2026-01-02T12:00:01Z'}}\nspec: {{machineRef: {{name: bmc1, namespace: t}}, tasks: [{{powerAction: 'off'}}, {{bootDevice: {{device: pxe}}}}]}}\nstatus: {status}"
    )));
    snapshot.tasks.push(read(&format!(
        "metadata: {{name: netboot-task-0, namespace: t, labels: {{owner-name: netboot}}}}\nspec: {{task: {{powerAction: 'off'}}}}\nstatus: {task}"
    )));
}

fn why(snapshot: &Snapshot, word: &str) -> String {
    explain(snapshot, word, "2026-01-02T12:10:00Z".parse().unwrap()).sentence
}

const ACTIONS: &str = "tasks: [{id: k, name: os, agentID: a, actions: [{id: c1, name: stream, state: STATE, executionStart: '2026-01-02T12:08:00Z', timeout: 600, message: 'MESSAGE'}, {id: c2, name: reboot, state: PENDING}]}], currentState: {actionID: c1, actionName: stream, state: STATE}";

fn with_action(state: &str, action: &str, message: &str, more: &str) -> String {
    let actions = ACTIONS.replace("STATE", action).replace("MESSAGE", message);
    format!("{{state: {state}, {actions}{more}}}")
}

#[test]
fn a_machine_is_found_by_name_mac_address_and_bmc_and_a_wrong_word_gets_a_hint() {
    let snapshot = base("{state: PENDING}");
    let answer = why(&snapshot, "m1");
    for word in ["52-54-00-00-00-11", "5254.0000.0011", "172.31.0.11", "bmc1", "172.31.0.101"] {
        assert_eq!(why(&snapshot, word), answer, "{word}");
    }
    let unknown = explain(&snapshot, "m3", Timestamp::now());
    assert!(!unknown.known && unknown.sentence.contains("did you mean m1 or m2?"), "{}", unknown.sentence);
    let near = why(&snapshot, "52:54:00:00:00:12");
    assert!(near.ends_with("did you mean 52:54:00:00:00:11?"), "{near}");

    let mut twice = snapshot.clone();
    twice.hardware.push(read("metadata: {name: m1, namespace: other}\nspec: {}"));
    assert_eq!(why(&twice, "m1"), "m1 could be t/m1 or other/m1: say which with -n or by its MAC.");

    let mut lone = snapshot;
    lone.hardware.clear();
    assert_eq!(why(&lone, "bmc1"), "No Hardware refers to the BMC Machine bmc1; power is on.");
}

#[test]
fn without_a_workflow_there_is_nothing_to_do_unless_the_bmc_or_the_network_says_more() {
    let mut snapshot = base("");
    assert_eq!(
        why(&snapshot, "m1"),
        "m1 has nothing to do: no enabled Workflow refers to it; its power is on."
    );
    event(&mut snapshot, "12:09:00", "NetbootRefused", 1, "allowPXE is not true");
    assert_eq!(
        why(&snapshot, "m1"),
        "m1 asked for network boot 60s ago and was refused: allowPXE is not true."
    );
    snapshot.machines[0].status =
        read("{conditions: [{type: Contactable, status: 'False', message: 'the password is wrong'}]}");
    assert_eq!(why(&snapshot, "m1"), "m1 cannot be reached through its BMC: the password is wrong.");
}

#[test]
fn a_disabled_workflow_does_not_count_and_the_newest_does() {
    let mut snapshot = base("{state: SUCCESS}");
    let mut newer = snapshot.workflows[0].clone();
    newer.metadata.name = Some("w2".into());
    newer.metadata.creation_timestamp = read("'2026-01-02T12:09:00Z'");
    newer.status = None;
    snapshot.workflows.insert(0, newer);
    assert_eq!(
        why(&snapshot, "m1"),
        "m1 waits because the workflow controller has not looked at Workflow w2 since it was made 60s ago; is tink-server running?"
    );
    snapshot.workflows[0].spec.disabled = Some(true);
    assert!(why(&snapshot, "m1").starts_with("m1 is installed: Workflow w succeeded;"));
}

#[test]
fn a_template_that_does_not_render_is_the_reason() {
    let snapshot = base(
        "{templateRendering: failed, conditions: [{type: TemplateRenderedSuccess, status: 'False', message: 'line 3: no entry for key \"disk\"'}]}",
    );
    assert_eq!(
        why(&snapshot, "m1"),
        "m1 waits because the Template debian of Workflow w cannot be rendered: line 3: no entry for key \"disk\"."
    );
    let answer = explain(&snapshot, "m1", Timestamp::now());
    assert!(answer.evidence.iter().any(|line| line.contains("TemplateRenderedSuccess=False")), "{answer:?}");
}

#[test]
fn a_workflow_that_waits_for_another_one_of_its_machine_names_it() {
    let snapshot = base(
        "{state: PREPARING, conditions: [{type: BootJobSetupComplete, status: 'False', reason: Waiting, message: 'Workflow w1 is RUNNING and has the machine'}]}",
    );
    assert_eq!(
        why(&snapshot, "m1"),
        "m1 is not prepared for Workflow w yet: Workflow w1 is RUNNING and has the machine."
    );
}

#[test]
fn a_template_is_named_once_and_a_protected_machine_was_not_tried() {
    let mut snapshot = base(
        "{templateRendering: failed, conditions: [{type: TemplateRenderedSuccess, status: 'False', message: 'Template debian: line 3: no'}]}",
    );
    assert_eq!(
        why(&snapshot, "m1"),
        "m1 waits because the Template debian of Workflow w cannot be rendered: line 3: no."
    );
    let failed = |reason: &str| {
        read(&format!(
            "{{state: FAILED, conditions: [{{type: BootJobSetupFailed, status: 'True', reason: {reason}, message: because}}]}}"
        ))
    };
    snapshot.workflows[0].status = failed("Protected");
    assert_eq!(why(&snapshot, "m1"), "m1 failed in Workflow w: because.");
    snapshot.workflows[0].status = failed("Error");
    assert_eq!(why(&snapshot, "m1"), "m1 failed in Workflow w: it could not be booted: because.");
}

#[test]
fn bmc_jobs_say_how_far_they_are_and_what_failed() {
    let mut snapshot = base("{state: PREPARING}");
    assert_eq!(why(&snapshot, "m1"), "m1 is being prepared for Workflow w; no BMC Job was made yet.");
    job(&mut snapshot, "{conditions: [{type: Running, status: 'True'}]}", "{}");
    assert_eq!(
        why(&snapshot, "m1"),
        "m1 is being prepared for Workflow w; BMC Job netboot has done 0 of 2 steps: power off."
    );
    snapshot.jobs[0].status =
        read("{conditions: [{type: Failed, status: 'True', message: 'task 0 failed'}]}");
    snapshot.tasks[0].status =
        read("{conditions: [{type: Failed, status: 'True', message: 'no answer from 172.31.0.101'}]}");
    assert_eq!(
        why(&snapshot, "m1"),
        "m1 cannot be booted for Workflow w: BMC Job netboot failed: power off failed: no answer from 172.31.0.101."
    );
    snapshot.workflows[0].status = read("{state: FAILED}");
    assert_eq!(
        why(&snapshot, "m1"),
        "m1 failed in Workflow w: BMC Job netboot failed: power off failed: no answer from 172.31.0.101."
    );
    let mut missing = base("{state: PREPARING}");
    missing.machines.clear();
    assert_eq!(
        why(&missing, "m1"),
        "m1 cannot be booted for Workflow w: there is no BMC Machine bmc1 in its namespace."
    );
}

#[test]
fn every_step_of_the_boot_is_told_apart() {
    let mut snapshot = base("{state: PENDING}");
    event(&mut snapshot, "11:59:00", "InitramfsSent", 1, "of an older boot");
    assert!(why(&snapshot, "m1").contains("waiting for its first DHCP packet from 52:54:00:00:00:11"));
    let steps = [
        ("PoweredOn", "was powered on 60s ago and has sent no DHCP packet"),
        ("DhcpOffered", "was offered an address 60s ago and has not taken it"),
        ("DhcpAcknowledged", "has not fetched a boot program"),
        ("BootProgramSent", "has not asked for its iPXE script"),
        ("ScriptSent", "has not fetched the kernel"),
        ("KernelSent", "but not the initial RAM disk"),
        ("InitramfsSent", "its agent has not been heard since"),
        ("IsoRead", "had its ISO image read by its BMC 60s ago, and its agent has not been heard since"),
        ("KernelLogged", "its kernel runs, but its agent has not been heard"),
        ("AgentLogged", "its agent runs but has not called"),
        ("AgentConnected", "was not handed an action yet"),
    ];
    for (reason, expected) in steps {
        event(&mut snapshot, "12:09:00", reason, 2, "");
        let sentence = why(&snapshot, "m1");
        assert!(sentence.contains(expected) && sentence.ends_with("(Workflow w)."), "{reason}: {sentence}");
    }
    event(&mut snapshot, "12:09:30", "NetbootRefused", 2, "not allowed");
    assert_eq!(why(&snapshot, "m1"), "m1 asked for network boot 30s ago and was refused: not allowed.");
}

#[test]
fn a_running_action_shows_its_progress_and_a_reboot_shows() {
    let running = with_action("RUNNING", "RUNNING", "running action", "");
    assert_eq!(why(&base(&running), "m1"), "m1 runs action \"stream\", 1 of 2 of Workflow w for 2m.");
    let progress = ", progress: {actionID: c1, bytesRead: 524288, bytesTotal: 1048576, bytesWritten: 2097152, updated: '2026-01-02T12:09:00Z'}, agentToken: {boot: 5, peer: 172.31.0.11}";
    let mut snapshot = base(&with_action("RUNNING", "RUNNING", "", progress));
    assert_eq!(
        why(&snapshot, "m1"),
        "m1 runs action \"stream\", 1 of 2 of Workflow w for 2m: 512.0 KiB of 1.0 MiB read (50 %), 2.0 MiB written; no news for 60s."
    );
    event(&mut snapshot, "12:09:50", "DhcpOffered", 6, "");
    assert_eq!(
        why(&snapshot, "m1"),
        "m1 was on action \"stream\", 1 of 2 of Workflow w when it booted again: DhcpOffered 10s ago."
    );
    let done = with_action("RUNNING", "SUCCESS", "", "");
    assert!(why(&base(&done), "m1").ends_with("and its agent has not asked for the next."));
}

#[test]
fn ends_say_what_happened() {
    let failed = with_action("FAILED", "FAILED", "the image ends at byte 4096 of 8192", "");
    assert_eq!(
        why(&base(&failed), "m1"),
        "m1 failed in Workflow w: action \"stream\" failed: the image ends at byte 4096 of 8192."
    );
    let slow = with_action("TIMEOUT", "TIMEOUT", "", "");
    assert_eq!(
        why(&base(&slow), "m1"),
        "m1 ran out of time in Workflow w: action \"stream\" took longer than its 600 s; the agent said nothing about it."
    );
    let mut snapshot = base("{state: SUCCESS}");
    event(&mut snapshot, "11:00:00", "MetadataFetched", 1, "of the system before");
    event(&mut snapshot, "12:08:00", "WorkflowSucceeded", 2, "");
    assert_eq!(
        why(&snapshot, "m1"),
        "m1 is installed: Workflow w succeeded 2m ago; the installed system has not fetched its metadata."
    );
    event(&mut snapshot, "12:09:50", "MetadataFetched", 2, "");
    assert_eq!(
        why(&snapshot, "m1"),
        "m1 is installed and running: Workflow w succeeded 2m ago, and the installed system fetched its metadata 10s ago."
    );
    let evidence = explain(&snapshot, "m1", "2026-01-02T12:10:00Z".parse().unwrap()).evidence;
    assert_eq!(evidence.last().unwrap(), "     10s ago  MetadataFetched (2 times)");
}

#[test]
fn the_workflow_whose_turn_it_is_speaks_and_the_others_stand_below() {
    let mut snapshot = base(&with_action("RUNNING", "RUNNING", "", ""));
    snapshot.workflows.push(read(
        "metadata: {name: later, namespace: t, creationTimestamp: '2026-01-02T12:05:00Z'}\nspec: {hardwareRef: m1, templateRef: debian}\nstatus: {state: PREPARING, conditions: [{type: BootJobSetupComplete, status: 'False', reason: Waiting, message: 'Workflow w has the machine'}]}",
    ));
    let answer = explain(&snapshot, "m1", "2026-01-02T12:10:00Z".parse().unwrap());
    assert!(
        answer.sentence.starts_with("m1 runs action \"stream\", 1 of 2 of Workflow w"),
        "{}",
        answer.sentence
    );
    let line = "Workflow later is not over either, in state PREPARING: Workflow w has the machine";
    assert!(answer.evidence.iter().any(|evidence| evidence == line), "{:?}", answer.evidence);

    // A finished one gives way to the next, however much older that is.
    let mut snapshot = base("{state: PENDING}");
    snapshot.workflows.push(read(
        "metadata: {name: later, namespace: t, creationTimestamp: '2026-01-02T12:05:00Z'}\nspec: {hardwareRef: m1}\nstatus: {state: SUCCESS}",
    ));
    assert!(why(&snapshot, "m1").contains("Workflow w"), "{}", why(&snapshot, "m1"));
}

#[test]
fn an_action_that_tries_again_says_what_it_waits_for() {
    let progress = ", progress: {actionID: c1, bytesRead: 1048576, bytesTotal: 4194304, bytesWritten: 0, updated: '2026-01-02T12:09:59Z', waiting: 'http://images/a.img: connection refused'}";
    let answer = why(&base(&with_action("RUNNING", "RUNNING", "", progress)), "m1");
    assert!(
        answer.ends_with("0 B written; it waits for http://images/a.img: connection refused."),
        "{answer}"
    );
}

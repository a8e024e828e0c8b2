// SPDX-License-Identifier: Apache-2.0
//! The loop: what the agent makes of the server's answers.

use std::path::Path;

use proto::workflow::action_status_request::StateType;
use tonic::Status;

use crate::servers::{Answer, FileServer, Services, World, action, dirty_disk, image2disk, until};

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_built_in_fails_with_its_name() {
    let world = World::new([
        action("a", "docker.io/library/nginx:1", 5, &[]),
        action("b", "127.0.0.1/embedded/reboot", 5, &[]),
        action("c", "quay.io/tinkerbell/actions/image2disk", 5, &["SECRET=hunter2".to_owned()]),
        image2disk("d", "http://127.0.0.1:1/a.img", Path::new("/dev/no-such-disk"), &[]),
    ])
    .await;
    let (state, message) = world.end_of("a").await;
    assert_eq!(state, StateType::Failed);
    assert!(
        message.contains("`docker.io/library/nginx:1`") && message.contains("not supported"),
        "{message}"
    );
    // This machine was not booted for the agent.
    let (state, message) = world.end_of("b").await;
    assert_eq!((state, message.starts_with("refusing to reboot")), (StateType::Failed, true), "{message}");
    let (_, message) = world.end_of("c").await;
    assert_eq!(message, "variable IMG_URL is required");
    let said = world.tink.said();
    assert_eq!(said[0], ("a".to_owned(), StateType::Running, "running action".to_owned()));
    let lines = world.tink.0.lock().unwrap().lines.join("\n");
    assert!(!lines.contains("hunter2"), "{lines}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_disk_fails_with_the_disks_there_are() {
    let data = vec![1; MIB];
    let server = FileServer::start(data, |_| Answer::good()).await;
    let missing = image2disk("a", &server.url("a.img"), Path::new("/dev/no-such-disk"), &[]);
    let world = World::new([missing]).await;
    let (state, message) = world.end_of("a").await;
    assert_eq!(state, StateType::Failed);
    assert!(message.starts_with("disk /dev/no-such-disk does not exist; this machine has "), "{message}");

    let disk = Path::new("/dev/disk/by-id/ata-No_Such_Model_123");
    let world = World::new([image2disk("a", &server.url("a.img"), disk, &[])]).await;
    let (state, message) = world.end_of("a").await;
    assert_eq!(state, StateType::Failed);
    let expected = format!("disk {} does not exist; this machine has ", disk.display());
    assert!(message.starts_with(&expected), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_has_ended_is_reported_again_and_never_run_again() {
    let data = vec![3; 2 * MIB];
    let server = FileServer::start(data.clone(), |_| Answer::good()).await;
    let mut world = World::new([]).await;
    let disk = dirty_disk(world.directory.path(), 2 * MIB);
    {
        let mut script = world.tink.0.lock().unwrap();
        script.actions.push_back(image2disk("a", &server.url("a.img"), &disk, &[]));
        script.repeats = 2;
    }
    let ends =
        |world: &World| world.tink.said().iter().filter(|(_, state, _)| *state == StateType::Success).count();
    until("three reports of one end", || (ends(&world) == 3).then_some(())).await;
    assert_eq!(server.requests().len(), 1);

    // The same holds for the next process of this boot.
    world.agent.take().unwrap().stop().await;
    std::fs::write(&disk, vec![0xaa; 2 * MIB]).unwrap();
    let again = image2disk("a", &server.url("a.img"), &disk, &[]);
    world.tink.0.lock().unwrap().actions.push_back(again);
    world.start_agent();
    until("a fourth report", || (ends(&world) == 4).then_some(())).await;
    assert_eq!(server.requests().len(), 1);
    assert!(std::fs::read(&disk).unwrap() == vec![0xaa; 2 * MIB]);
    let running = world.tink.said().iter().filter(|(_, state, _)| *state == StateType::Running).count();
    assert_eq!(running, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reboot_that_the_last_process_did_not_come_to_is_reported_again() {
    let mut world = World::new([]).await;
    world.agent.take().unwrap().stop().await;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let record = format!(
        r#"{{"boot":"{}","workflow":"ns/w","task":"t","action":"reboot","ending":"SUCCESS","message":"done","started":1,"duration_ms":2,"then":{{"change":"reboot","delay_seconds":0}}}}"#,
        boot.trim()
    );
    std::fs::write(world.directory.path().join("state/journal"), record + "\n").unwrap();
    // An action behind it is not lost: this machine was not booted for the agent, so it does not go down.
    world
        .tink
        .0
        .lock()
        .unwrap()
        .actions
        .extend([action("reboot", "x", 5, &[]), action("b", "nginx", 5, &[])]);
    world.start_agent();
    let (state, message) = world.end_of("reboot").await;
    assert_eq!((state, message.as_str()), (StateType::Success, "done"));
    assert_eq!(world.end_of("b").await.0, StateType::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_repeated_until_answered_and_a_workflow_that_is_gone_is_dropped() {
    let world = World::new([action("a", "nginx", 5, &[]), action("b", "nginx", 5, &[])]).await;
    world.tink.0.lock().unwrap().refusals.extend([
        Status::unavailable("busy"),
        Status::internal("conflict"),
        Status::deadline_exceeded("slow"),
    ]);
    world.end_of("a").await;
    world.end_of("b").await;
    for gone in [Status::not_found("x"), Status::invalid_argument("x"), Status::failed_precondition("x")] {
        let polls = {
            let mut script = world.tink.0.lock().unwrap();
            script.refusals.push_back(gone);
            let polls = script.polls;
            script.actions.push_back(action(&format!("gone {polls}"), "nginx", 5, &[]));
            polls
        };
        // The script keeps handing it out: the agent asks again and reports what it remembers.
        until("the agent to go on", || (world.tink.0.lock().unwrap().polls > polls + 1).then_some(())).await;
        until("the second report", || world.tink.0.lock().unwrap().actions.is_empty().then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_the_report_stream_serves_as_well() {
    let data = vec![3; 2 * MIB];
    let server = FileServer::start(data.clone(), |_| Answer::good()).await;
    let world = World::with_services([], Services::WorkflowsOnly).await;
    let disk = dirty_disk(world.directory.path(), 2 * MIB);
    world.tink.0.lock().unwrap().actions.push_back(image2disk("a", &server.url("a.img"), &disk, &[]));
    let (state, message) = world.end_of("a").await;
    assert_eq!(state, StateType::Success, "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_of_another_agent_is_not_run() {
    let mut other = action("a", "nginx", 5, &[]);
    other.agent_id = Some("somebody else".to_owned());
    let world = World::new([other]).await;
    until("a few polls", || (world.tink.0.lock().unwrap().polls > 3).then_some(())).await;
    assert!(world.tink.said().is_empty());
}

// SPDX-License-Identifier: Apache-2.0
//! The daemon as its peers meet it: an agent over gRPC, and the objects in the API.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod bench;

use std::collections::BTreeSet;
use std::time::Duration;

use api::annotations::AGENT_ATTRIBUTES;
use api::bmc::v1alpha1::Job;
use api::events::Reason;
use api::token::TokenKey;
use api::v1alpha1::{Hardware, Template, Workflow, WorkflowState, condition};
use bench::{Agent, Bench, NAMESPACE, eventually};
use k8s_openapi::api::core::v1::{Event, Secret};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use proto::agent::v1::agent_event::Event as Said;
use proto::agent::v1::agent_service_client::AgentServiceClient;
use proto::agent::v1::{AgentEvent, Hello, Progress};
use proto::workflow::action_status_request::StateType;
use serde_json::json;
use tink_server::Config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

const MAC: &str = "52:54:00:00:00:11";

const INSTALL: &str = r#"
version: "0.1"
name: install
global_timeout: 600
tasks:
- name: os
  worker: "{{.device_1}}"
  volumes: ["/dev:/dev"]
  actions:
  - name: stream
    image: quay.io/tinkerbell/actions/image2disk:latest
    timeout: 60
    environment: {DEST_DISK: "{{ index .Hardware.Disks 0 }}", COMPRESSED: true}
  - name: file
    image: quay.io/tinkerbell/actions/writefile
    timeout: 60
    environment: {DEST_DISK: "{{ formatPartition (index .Hardware.Disks 0) 1 }}", MODE: 0600}
  - name: reboot
    image: 127.0.0.1/embedded/reboot
    timeout: 60
"#;

async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.template("install", INSTALL).await;
    bench.hardware("m1", MAC).await;
    bench
}

fn netboot() -> serde_json::Value {
    json!({"toggleAllowNetboot": true, "bootMode": "netboot"})
}

/// Events of a reason, waited for until there are `count`.
async fn events(bench: &Bench, reason: Reason, count: usize) -> Vec<Event> {
    let all = || async {
        let list = bench.api::<Event>().list(&ListParams::default()).await.unwrap();
        list.items.into_iter().filter(|e| e.reason.as_deref() == Some(reason.as_str())).collect::<Vec<_>>()
    };
    eventually(&format!("{count} events {reason}"), || async {
        Some(all().await).filter(|e| e.len() >= count)
    })
    .await
}

#[tokio::test]
async fn a_machine_is_installed() {
    let bench = bench().await;
    let daemon = bench.start(Config::default()).await;
    bench.workflow("w1", "m1", MAC, netboot()).await;
    bench.reaches("w1", WorkflowState::Preparing).await;
    let agent = daemon.agent(MAC).await;
    assert_eq!(agent.ask().await.unwrap_err().code(), Code::FailedPrecondition);
    bench.complete_job("netboot-w1").await;
    bench.reaches("w1", WorkflowState::Pending).await;
    assert!(bench.netboot_allowed("m1").await);

    let stream = agent.next().await;
    assert_eq!(stream.workflow_id(), "tinkerbell/w1");
    assert_eq!(stream.environment, ["COMPRESSED=true", "DEST_DISK=/dev/sda"]);
    assert_eq!(stream.volumes, ["/dev:/dev"]);
    agent.report(&stream, StateType::Running, "running action").await.unwrap();
    let running = bench.read("w1").await.status.unwrap();
    assert_eq!(running.state, WorkflowState::Running);
    assert!(running.global_execution_stop.is_some(), "armed by the first report");
    assert_eq!(agent.ask().await.unwrap().action_id, stream.action_id, "a restarted agent");
    agent.report(&stream, StateType::Success, "action completed").await.unwrap();
    agent.report(&stream, StateType::Success, "action completed").await.unwrap();
    let file = agent.ask().await.unwrap();
    assert_eq!(file.environment, ["DEST_DISK=/dev/sda1", "MODE=0600"], "at once, and the next one");
    agent.work().await;
    agent.work().await;

    let done = bench.reaches("w1", WorkflowState::Success).await;
    assert!(!bench.netboot_allowed("m1").await);
    let types: BTreeSet<_> =
        done.status.iter().flat_map(|s| &s.conditions).map(|c| c.type_.as_str()).collect();
    for type_ in [
        condition::TEMPLATE_RENDERED,
        condition::ALLOW_NETBOOT_TRUE,
        condition::BOOT_JOB_SETUP_COMPLETE,
        condition::BOOT_JOB_COMPLETE,
        condition::ALLOW_NETBOOT_FALSE,
    ] {
        assert!(types.contains(type_), "{type_}");
    }
    assert_eq!(agent.ask().await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(bench.api::<Job>().list(&ListParams::default()).await.unwrap().items.len(), 1);
    for annotations in
        [done.annotations().clone(), bench.api::<Hardware>().get("m1").await.unwrap().annotations().clone()]
    {
        assert_eq!(annotations[AGENT_ATTRIBUTES], r#"{"memory":{"total":"2GB"}}"#);
    }
    events(&bench, Reason::ActionSucceeded, 3).await;
    let outcome = events(&bench, Reason::WorkflowSucceeded, 1).await;
    assert_eq!(outcome[0].involved_object.name.as_deref(), Some("m1"));
    assert_eq!(outcome[0].count, Some(1));
    daemon.stop().await;
    bench.close().await;
}

#[tokio::test]
async fn a_workflow_deleted_in_the_middle_leaves_no_netboot_behind() {
    let bench = bench().await;
    bench.hardware("m2", "52:54:00:00:00:12").await;
    let daemon = bench.start(Config::default()).await;
    bench.workflow("w1", "m1", MAC, netboot()).await;
    bench.reaches("w1", WorkflowState::Preparing).await;
    bench.allow_netboot("m2").await;
    eventually("netboot is on", || async { bench.netboot_allowed("m1").await.then_some(()) }).await;
    bench.api::<Workflow>().delete("w1", &DeleteParams::background()).await.unwrap();
    eventually("netboot is off", || async { (!bench.netboot_allowed("m1").await).then_some(()) }).await;
    assert!(bench.netboot_allowed("m2").await, "switched on by a person");
    let m1 = bench.api::<Hardware>().get("m1").await.unwrap();
    assert!(!m1.annotations().contains_key(api::annotations::NETBOOT_FOR));
    daemon.stop().await;
    bench.close().await;
}

#[tokio::test]
async fn a_restart_in_the_middle_changes_nothing() {
    let bench = bench().await;
    let daemon = bench.start(Config::default()).await;
    bench.workflow("w1", "m1", MAC, netboot()).await;
    bench.complete_job("netboot-w1").await;
    let stream = daemon.agent(MAC).await.next().await;
    daemon.agent(MAC).await.report(&stream, StateType::Running, "").await.unwrap();
    daemon.stop().await;

    let daemon = bench.start(Config::default()).await;
    let agent = daemon.agent(MAC).await;
    assert_eq!(agent.ask().await.unwrap().action_id, stream.action_id);
    agent.report(&stream, StateType::Success, "").await.unwrap();
    daemon.stop().await;

    let daemon = bench.start(Config::default()).await;
    let agent = daemon.agent(MAC).await;
    let mut names = Vec::new();
    for _ in 0..2 {
        names.push(agent.work().await.name().to_owned());
    }
    assert_eq!(names, ["file", "reboot"], "the image is not written again");
    bench.reaches("w1", WorkflowState::Success).await;
    assert!(!bench.netboot_allowed("m1").await);
    assert_eq!(bench.api::<Job>().list(&ListParams::default()).await.unwrap().items.len(), 1);
    assert_eq!(events(&bench, Reason::WorkflowSucceeded, 1).await[0].count, Some(1));
    daemon.stop().await;
    bench.close().await;
}

#[tokio::test]
async fn a_failure_is_told_and_netboot_ends_off() {
    let bench = bench().await;
    let daemon = bench.start(Config::default()).await;
    bench.workflow("w1", "m1", MAC, json!({"toggleAllowNetboot": true})).await;
    let agent = daemon.agent(MAC).await;
    let stream = agent.next().await;
    agent.report(&stream, StateType::Running, "").await.unwrap();
    agent.report(&stream, StateType::Failed, "the image ended at byte 4711").await.unwrap();
    bench.reaches("w1", WorkflowState::Failed).await;
    assert!(!bench.netboot_allowed("m1").await);
    let event = &events(&bench, Reason::WorkflowFailed, 1).await[0];
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    assert!(event.message.as_deref().unwrap().contains("the image ended at byte 4711"));
    for late in [StateType::Running, StateType::Success] {
        assert_eq!(agent.report(&stream, late, "").await.unwrap_err().code(), Code::FailedPrecondition);
    }
    assert_eq!(*bench.read("w1").await.state(), WorkflowState::Failed);
    // The old one does not stand in the way of a new one.
    bench.workflow("w2", "m1", MAC, json!({})).await;
    assert_eq!(agent.next().await.workflow_id(), "tinkerbell/w2");
    daemon.stop().await;
    bench.close().await;
}

#[tokio::test]
async fn a_second_workflow_does_not_switch_off_a_machine_that_is_being_installed() {
    let bench = bench().await;
    let daemon = bench.start(Config::default()).await;
    bench.workflow("w1", "m1", MAC, netboot()).await;
    bench.complete_job("netboot-w1").await;
    let agent = daemon.agent(MAC).await;
    let stream = agent.next().await;
    agent.report(&stream, StateType::Running, "").await.unwrap();

    bench.workflow("w2", "m1", MAC, netboot()).await;
    eventually("w2 says what it waits for", || async {
        let status = bench.read("w2").await.status?;
        let message = status.condition(condition::BOOT_JOB_SETUP_COMPLETE)?.message.clone()?;
        message.contains("Workflow w1 is RUNNING").then_some(())
    })
    .await;
    assert!(bench.api::<Job>().get_opt("netboot-w2").await.unwrap().is_none());
    assert_eq!(agent.ask().await.unwrap().action_id, stream.action_id);

    agent.report(&stream, StateType::Failed, "the disk broke").await.unwrap();
    bench.reaches("w1", WorkflowState::Failed).await;
    bench.complete_job("netboot-w2").await;
    bench.reaches("w2", WorkflowState::Pending).await;
    assert!(bench.netboot_allowed("m1").await, "the end of the first did not switch off the second's");
    assert_eq!(agent.next().await.workflow_id(), "tinkerbell/w2");
    daemon.stop().await;
    bench.close().await;
}

#[tokio::test]
async fn a_protected_machine_is_not_written_through_a_workflow_that_names_another_or_none() {
    let bench = bench().await;
    let protected = "52:54:00:00:00:12";
    bench.hardware("m2", protected).await;
    let patch = Patch::Merge(json!({"metadata": {"annotations": {api::annotations::PROTECTED: "true"}}}));
    bench.api::<Hardware>().patch("m2", &PatchParams::default(), &patch).await.unwrap();
    let without_hardware = INSTALL.replace("{{ index .Hardware.Disks 0 }}", "/dev/sda");
    let without_hardware =
        without_hardware.replace("{{ formatPartition (index .Hardware.Disks 0) 1 }}", "/dev/sda1");
    let patch = Patch::Merge(json!({"spec": {"data": without_hardware}}));
    bench.api::<Template>().patch("install", &PatchParams::default(), &patch).await.unwrap();
    let daemon = bench.start(Config::default()).await;
    let agent = daemon.agent(protected).await;
    for (name, hardware) in [("w1", "m1"), ("w2", "")] {
        bench.workflow(name, hardware, protected, json!({})).await;
        bench.reaches(name, WorkflowState::Pending).await;
        let refused = agent.ask().await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("Hardware m2 is protected"), "{}", refused.message());
        bench.reaches(name, WorkflowState::Failed).await;
    }
    // One that is not protected is written as ever.
    bench.workflow("w3", "", MAC, json!({})).await;
    assert_eq!(daemon.agent(MAC).await.next().await.name(), "stream");
    daemon.stop().await;
    bench.close().await;
}

#[tokio::test]
async fn what_is_wrong_is_said_and_picked_up_when_it_is_put_right() {
    let bench = Bench::new().await;
    let daemon = bench.start(Config::default()).await;
    bench.workflow("w1", "m1", MAC, json!({})).await;
    let says = async |text: &str| {
        eventually(text, || async {
            let status = bench.read("w1").await.status?;
            let message = status.condition(condition::TEMPLATE_RENDERED)?.message.clone()?;
            message.contains(text).then_some(())
        })
        .await;
    };
    says("Template install does not exist").await;
    bench.template("install", "\n{{ .Hardware.Diskz }}").await;
    says("Hardware m1 does not exist").await;
    bench.hardware("m1", MAC).await;
    says("template line 2: .Hardware.Diskz does not exist").await;
    let patch = Patch::Merge(json!({"spec": {"data": INSTALL}}));
    bench.api::<Template>().patch("install", &PatchParams::default(), &patch).await.unwrap();
    bench.reaches("w1", WorkflowState::Pending).await;
    events(&bench, Reason::TemplateFailed, 1).await;
    daemon.stop().await;
    bench.close().await;
}

#[tokio::test]
async fn bad_calls_get_the_codes_that_agents_understand() {
    let bench = bench().await;
    let daemon = bench.start(Config::default()).await;
    assert_eq!(daemon.agent("").await.ask().await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(daemon.agent("nobody").await.ask().await.unwrap_err().code(), Code::NotFound);
    bench.workflow("w1", "m1", MAC, json!({})).await;
    let agent = daemon.agent(MAC).await;
    let action = agent.next().await;
    let code = async |change: fn(&mut proto::workflow::ActionResponse), state: StateType, agent: &Agent| {
        let mut action = action.clone();
        change(&mut action);
        agent.report(&action, state, "").await.unwrap_err().code()
    };
    let running = StateType::Running;
    assert_eq!(code(|a| a.workflow_id = None, running, &agent).await, Code::InvalidArgument);
    assert_eq!(code(|a| a.task_id = None, running, &agent).await, Code::InvalidArgument);
    assert_eq!(code(|a| a.action_id = None, running, &agent).await, Code::InvalidArgument);
    assert_eq!(code(|a| a.workflow_id = Some("../x/y".into()), running, &agent).await, Code::InvalidArgument);
    assert_eq!(code(|_| (), StateType::Pending, &agent).await, Code::InvalidArgument);
    assert_eq!(code(|a| a.action_id = Some("x".into()), running, &agent).await, Code::NotFound);
    assert_eq!(code(|a| a.workflow_id = Some("tinkerbell/x".into()), running, &agent).await, Code::NotFound);
    assert_eq!(code(|_| (), running, &daemon.agent("other").await).await, Code::NotFound);
    bench.api::<Workflow>().delete("w1", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(|_| (), running, &agent).await, Code::NotFound, "so that it stops repeating");
    daemon.stop().await;
    bench.close().await;
}

/// The key that the daemon made.
async fn key(bench: &Bench) -> TokenKey {
    let secrets: kube::Api<Secret> =
        kube::Api::namespaced(bench.client.clone(), api::annotations::SYSTEM_NAMESPACE);
    let secret = secrets.get(api::token::SECRET_NAME).await.unwrap();
    TokenKey::try_from(secret.data.unwrap()[api::token::SECRET_DATA_KEY].0.as_slice()).unwrap()
}

fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn a_token_opens_one_workflow_to_one_peer() {
    let bench = bench().await;
    let config = Config { allow_legacy_agents: false, ..Config::default() };
    let daemon = bench.start(config).await;
    let workflow = bench.workflow("w1", "m1", MAC, json!({})).await;
    let key = key(&bench).await;
    let mint = |uid: &str, boot: u64| api::token::mint(&key, MAC.parse().unwrap(), uid, boot);
    let boot = unix_now() - 10;
    let uid = workflow.uid().unwrap();
    bench.reaches("w1", WorkflowState::Pending).await;

    let good = daemon.agent(MAC).await.with_token(&mint(&uid, boot));
    let action = good.next().await;
    let used = bench.read("w1").await.status.unwrap().agent_token.unwrap();
    assert_eq!((used.boot, used.peer.as_str()), (boot, "127.0.0.1"));
    good.report(&action, StateType::Running, "").await.unwrap();

    let denied = async |agent: Agent, code: Code| {
        assert_eq!(agent.ask().await.unwrap_err().code(), code);
        assert_eq!(agent.report(&action, StateType::Success, "").await.unwrap_err().code(), code);
    };
    denied(daemon.agent(MAC).await, Code::Unauthenticated).await;
    denied(daemon.agent(MAC).await.with_token(&mint("other", boot)), Code::PermissionDenied).await;
    denied(daemon.agent(MAC).await.with_token(&mint(&uid, boot - 1)), Code::PermissionDenied).await;
    denied(daemon.agent(MAC).await.with_token("garbage"), Code::PermissionDenied).await;
    let thief = Agent::connect(daemon.address, MAC, Some("127.0.0.2")).await;
    denied(thief.clone().with_token(&mint(&uid, boot)), Code::PermissionDenied).await;
    // The machine boots again and gets another address.
    let again = thief.with_token(&mint(&uid, boot + 5));
    assert_eq!(again.next().await.action_id, action.action_id);
    denied(good, Code::PermissionDenied).await;
    daemon.stop().await;
    bench.close().await;
}

#[tokio::test]
async fn hello_and_progress_reach_the_status() {
    let bench = bench().await;
    let daemon = bench.start(Config::default()).await;
    let uid = bench.workflow("w1", "m1", MAC, json!({})).await.uid().unwrap();
    bench.reaches("w1", WorkflowState::Pending).await;
    let boot = unix_now();
    let token = api::token::mint(&key(&bench).await, MAC.parse().unwrap(), &uid, boot);
    let agent = daemon.agent(MAC).await.with_token(&token);
    let action = agent.next().await;
    agent.report(&action, StateType::Running, "").await.unwrap();

    let (say, heard) = tokio::sync::mpsc::channel(16);
    let said = |event| AgentEvent { agent_id: MAC.to_owned(), event: Some(event) };
    let hello = Hello { uptime_seconds: 4.2, token, version: "1.0".to_owned(), attributes: None };
    say.send(said(Said::Hello(hello))).await.unwrap();
    let mut client = AgentServiceClient::new(agent.channel.clone());
    let stream = tokio_stream::wrappers::ReceiverStream::new(heard);
    let call = tokio::spawn(async move { client.report(stream).await });
    let status = eventually("the hello", || async {
        bench.read("w1").await.status.filter(|status| status.agent_first_call.is_some())
    })
    .await;
    let call_ = status.agent_first_call.unwrap();
    assert_eq!((call_.uptime_seconds, call_.peer.as_deref()), (Some(4.2), Some("127.0.0.1")));
    let connected = events(&bench, Reason::AgentConnected, 1).await;
    assert_eq!(connected[0].annotations()[api::annotations::BOOT], boot.to_string());

    let version = bench.read("w1").await.resource_version();
    for bytes in 1..=500_u64 {
        let progress = Progress {
            workflow_id: action.workflow_id().to_owned(),
            task_id: action.task_id().to_owned(),
            action_id: action.action_id().to_owned(),
            bytes_read: bytes,
            bytes_written: bytes * 2,
            total_bytes: 0,
            bytes_zero: 0,
            waiting: "http://images/a.img: connection refused".to_owned(),
        };
        say.send(said(Said::Progress(progress))).await.unwrap();
    }
    drop(say);
    call.await.unwrap().unwrap();
    let last = bench.read("w1").await;
    assert_ne!(last.resource_version(), version);
    let progress = last.status.unwrap().progress.unwrap();
    assert_eq!(progress.action_id, action.action_id());
    assert_eq!(progress.waiting.as_deref(), Some("http://images/a.img: connection refused"));
    assert_eq!((progress.bytes_read, progress.bytes_written, progress.bytes_total), (500, 1000, None));
    daemon.stop().await;
    bench.close().await;
}

#[tokio::test]
async fn a_hundred_machines_over_two_daemons() {
    let bench = bench().await;
    let daemons = [bench.start(Config::default()).await, bench.start(Config::default()).await];
    let connections = [daemons[0].agent(MAC).await, daemons[1].agent(MAC).await];
    let mut agents = tokio::task::JoinSet::new();
    for index in 0..100 {
        let (name, mac) = (format!("w{index}"), format!("52:54:00:00:01:{index:02x}"));
        bench.hardware(&format!("h{index}"), &mac).await;
        bench.workflow(&name, &format!("h{index}"), &mac, json!({"toggleAllowNetboot": true})).await;
        let [one, other] = connections.clone().map(|agent| Agent { id: mac.clone(), ..agent });
        agents.spawn(async move {
            let names = [one.work().await, other.work().await, one.work().await].map(|action| action.name);
            assert_eq!(names, ["stream", "file", "reboot"].map(|name| Some(name.to_owned())));
        });
    }
    while let Some(done) = agents.join_next().await {
        done.unwrap();
    }
    for index in 0..100 {
        bench.reaches(&format!("w{index}"), WorkflowState::Success).await;
        assert!(!bench.netboot_allowed(&format!("h{index}")).await);
    }
    for outcome in events(&bench, Reason::WorkflowSucceeded, 100).await {
        assert_eq!(outcome.count, Some(1), "both daemons told {:?}", outcome.metadata.name);
    }
    for daemon in daemons {
        daemon.stop().await;
    }
    bench.close().await;
}

#[tokio::test]
async fn every_answer_carries_the_time() {
    let bench = bench().await;
    let daemon = bench.start(Config::default()).await;
    bench.workflow("w1", "m1", MAC, json!({})).await;
    let agent = daemon.agent(MAC).await;
    agent.next().await;
    let request = proto::workflow::ActionRequest { agent_id: Some(MAC.to_owned()), agent_attributes: None };
    let response = agent.service().get_action(agent.request(request)).await.unwrap();
    let date = response.metadata().get("date").unwrap().to_str().unwrap().to_owned();
    assert!(date.ends_with(" GMT"), "{date}");
    let refused = daemon.agent("nobody").await.ask().await.unwrap_err();
    assert!(refused.metadata().get("date").is_some(), "also on errors");
    daemon.stop().await;
    assert_eq!(NAMESPACE, api::annotations::DEFAULT_NAMESPACE);
    bench.close().await;
}

/// As of a machine that lost its power: what is open stays open, and nobody answers.
#[tokio::test]
async fn a_peer_that_vanished_does_not_hold_up_the_end() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let bench = bench().await;
    let daemon = bench.start(Config::default()).await;
    let mut peer = TcpStream::connect(daemon.address).await.unwrap();
    peer.write_all(&[PREFACE, &EMPTY_SETTINGS].concat()).await.unwrap();
    let mut settings = [0; 9];
    peer.read_exact(&mut settings).await.unwrap();
    // Well within the time that `tink up` gives its daemons.
    tokio::time::timeout(Duration::from_secs(20), daemon.stop()).await.expect("it waits for the peer");
    bench.close().await;
}

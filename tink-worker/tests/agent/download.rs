// SPDX-License-Identifier: Apache-2.0
//! image2disk against file servers with faults.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::workflow::action_status_request::StateType;
use sha2::Digest;

use crate::servers::{Answer, FileServer, Script, World, dirty_disk, image2disk, until};

const MIB: usize = 1024 * 1024;

/// What a connection may lose when it breaks: what the sender had sent and the receiver had not read.
const WINDOW: usize = 8 * MIB;

fn image(mib: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut data: Vec<u8> = (0..mib * MIB / 8)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect();
    data[MIB..2 * MIB].fill(0);
    data
}

fn zstd(data: &[u8]) -> Vec<u8> {
    let mut child =
        Command::new("zstd").args(["-c", "-1"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let data = data.to_owned();
    let feeder = std::thread::spawn(move || stdin.write_all(&data));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    output.stdout
}

async fn run(server: &FileServer, name: &str, disk_len: usize, more: &[&str]) -> (World, StateType, String) {
    let mut world = World::new([]).await;
    let disk = dirty_disk(world.directory.path(), disk_len);
    let action = image2disk("a", &server.url(name), &disk, more);
    world.tink.0.lock().unwrap().actions.push_back(action);
    let (state, message) = world.end_of("a").await;
    world.agent.take().unwrap().stop().await;
    (world, state, message)
}

fn disk_of(world: &World) -> Vec<u8> {
    std::fs::read(world.directory.path().join("disk")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_image_with_digest_reaches_the_disk_and_progress_the_server() {
    let data = image(6);
    let packed = zstd(&data);
    let digest = format!("IMG_DIGEST=sha256:{}", hex::encode(sha2::Sha256::digest(&packed)));
    let len = packed.len() as u64;
    let server = FileServer::start(packed, |_| Answer::good()).await;
    let (world, state, message) =
        run(&server, "a.img.zst?sig=x.y", 8 * MIB, &["COMPRESSED=true", &digest]).await;
    assert_eq!((state, message.contains("zstd")), (StateType::Success, true), "{message}");
    assert!(disk_of(&world)[..data.len()] == data);
    let script = world.tink.0.lock().unwrap();
    let last = script.progress.last().unwrap();
    assert_eq!((last.bytes_read, last.total_bytes), (len, len));
    assert_eq!(last.bytes_written + last.bytes_zero, data.len() as u64);
    assert_eq!(
        (last.workflow_id.as_str(), last.task_id.as_str(), last.action_id.as_str()),
        ("tinkerbell/w", "task", "a")
    );
    assert!(script.lines.iter().any(|line| line.contains("a.img.zst")), "{:?}", script.lines);
    assert!(!script.lines.iter().any(|line| line.contains("sig=")), "{:?}", script.lines);
    assert!(script.tokens.iter().all(|token| token.as_deref() == Some("the-token")));
    assert_eq!(script.hellos[0].token, "the-token");
    assert!(script.hellos[0].uptime_seconds > 0.0);
    let report = script.reports.last().unwrap();
    assert!(report.execution_start.is_some() && report.execution_stop.is_some());
    assert!(!report.execution_duration().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connections_are_resumed_where_they_broke() {
    let data = image(12);
    let server = FileServer::start(data.clone(), |number| match number {
        0 => Answer::cut_after(3 * MIB + 17),
        1 => Answer::status(503),
        2 => Answer::cut_after(MIB),
        3 => Answer::cut_after(0),
        _ => Answer::good(),
    })
    .await;
    let (world, state, message) = run(&server, "a.img", 16 * MIB, &[]).await;
    assert_eq!(state, StateType::Success, "{message}");
    assert!(disk_of(&world)[..data.len()] == data);
    let requests = server.requests();
    assert!(requests[1..].iter().all(|head| head.contains("range: bytes=")), "{requests:?}");
    assert!(requests[1..].iter().all(|head| head.contains("if-range: \"v1\"")), "{requests:?}");
    assert!(*server.sent.lock().unwrap() <= data.len() + WINDOW);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_comes_back_does_not_disturb_the_write() {
    let data = image(20);
    let server =
        FileServer::start(data.clone(), |_| Answer { stall: true, ..Answer::cut_after(7 * MIB) }).await;
    let world = World::new([]).await;
    let disk = dirty_disk(world.directory.path(), 20 * MIB);
    world.tink.0.lock().unwrap().actions.push_back(image2disk("a", &server.url("a.img"), &disk, &[]));
    let (address, sent) = (server.address, server.sent.clone());
    until("the first part", || (*sent.lock().unwrap() == 7 * MIB).then_some(())).await;
    // Both servers die together, as when one process serves both.
    let mut world = world;
    let tink = world.server.take().unwrap();
    let tink_address = tink.address;
    tink.kill().await;
    server.kill().await;
    world.server = Some(world.tink.serve(tink_address, crate::servers::Services::Both).await);
    let waits = |script: &Script| script.progress.last().is_some_and(|at| at.waiting.contains("a.img: "));
    until("the reason for the standstill", || waits(&world.tink.0.lock().unwrap()).then_some(())).await;
    let server = FileServer::start_on(address, data.clone(), |_| Answer::good()).await;
    until("the rest", || (*server.sent.lock().unwrap() > 0).then_some(())).await;
    let (state, message) = world.end_of("a").await;
    assert_eq!(state, StateType::Success, "{message}");
    assert!(disk_of(&world) == data);
    assert_eq!(server.requests().len(), 1);
    let first_range = server.requests()[0].clone();
    assert!(first_range.contains("range: bytes="), "{first_range}");
    assert!(*sent.lock().unwrap() + *server.sent.lock().unwrap() <= data.len() + WINDOW);
    let ends = world.tink.said().iter().filter(|(_, state, _)| *state == StateType::Success).count();
    assert_eq!(ends, 1);
    let last = world.tink.0.lock().unwrap().progress.last().unwrap().waiting.clone();
    assert_eq!(last, "", "it moved again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_ranges_is_read_again_and_the_known_part_skipped() {
    let data = image(5);
    let server = FileServer::start(data.clone(), |number| {
        let answer = if number == 0 { Answer::cut_after(2 * MIB) } else { Answer::good() };
        Answer { honour_range: false, ..answer }
    })
    .await;
    let (world, state, message) = run(&server, "a.img", 5 * MIB, &[]).await;
    assert_eq!(state, StateType::Success, "{message}");
    assert!(disk_of(&world) == data);
    assert!(!world.tink.0.lock().unwrap().lines.iter().any(|line| line.contains("starting over")));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_proof_that_it_is_the_same_file_the_write_starts_over() {
    let data = image(5);
    for first in [None, Some("\"v0\"".to_owned()), Some("W/\"v1\"".to_owned())] {
        let tag = first.clone();
        let server = FileServer::start(data.clone(), move |number| match number {
            0 => Answer { etag: tag.clone(), ..Answer::cut_after(2 * MIB) },
            _ => Answer::good(),
        })
        .await;
        let (world, state, message) = run(&server, "a.img", 5 * MIB, &[]).await;
        assert_eq!(state, StateType::Success, "{first:?}: {message}");
        assert!(disk_of(&world) == data);
        let script = world.tink.0.lock().unwrap();
        let over = script.lines.iter().filter(|line| line.contains("starting over")).count();
        assert_eq!(over, 1, "{first:?}: {:?}", script.lines);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_know_if_range_cannot_mix_two_files() {
    let data = image(5);
    let server = FileServer::start(data.clone(), move |number| match number {
        0 => Answer::cut_after(2 * MIB),
        _ => Answer { etag: Some("\"v2\"".to_owned()), honour_if_range: false, ..Answer::good() },
    })
    .await;
    let (world, state, message) = run(&server, "a.img", 5 * MIB, &[]).await;
    assert_eq!(state, StateType::Success, "{message}");
    assert!(disk_of(&world) == data);
    let script = world.tink.0.lock().unwrap();
    assert_eq!(script.lines.iter().filter(|line| line.contains("starting over")).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_over_is_bounded() {
    let data = image(5);
    let server = FileServer::start(data, |_| Answer { etag: None, ..Answer::cut_after(2 * MIB) }).await;
    let (_, state, message) = run(&server, "a.img", 5 * MIB, &[]).await;
    assert_eq!(state, StateType::Failed);
    assert!(message.contains("cannot be continued at byte 2097152"), "{message}");
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_ends_early_fails_naming_the_byte_and_does_not_boot() {
    let data = image(6);
    let cut = 4 * MIB + 5;
    let served = Arc::new(AtomicBool::new(false));
    let server = FileServer::start(data.clone(), move |_| {
        Answer::cut_after(if served.swap(true, Ordering::Relaxed) { 0 } else { cut })
    })
    .await;
    let (world, state, message) = run(&server, "a.img", 6 * MIB, &[]).await;
    assert_eq!(state, StateType::Failed);
    assert!(message.starts_with(&format!("image ended at byte {cut} of {}", data.len())), "{message}");
    assert!(disk_of(&world)[..MIB].iter().all(|byte| *byte == 0), "the first MiB is there");
    // The other way to be short: the server believes that the stump is all there is.
    let packed = zstd(&data);
    let half = packed.len() / 2;
    let server = FileServer::start(packed[..half].to_vec(), |_| Answer::good()).await;
    let (_, state, message) = run(&server, "a.img.zst", 6 * MIB, &["COMPRESSED=true"]).await;
    assert_eq!(state, StateType::Failed);
    assert_eq!(message, format!("image ended at byte {half}, in the middle of its zstd data"));
}

#[tokio::test(flavor = "multi_thread")]
async fn permanent_failures_are_reported_at_once_and_leave_the_disk_alone() {
    let data = image(3);
    let wrong = format!("IMG_DIGEST=sha256:{}", "00".repeat(32));
    let cases: [(u16, &str, usize, &[&str], &str); 5] = [
        (404, "a.img", 4 * MIB, &[], "answered 404 Not Found"),
        (403, "a.img", 4 * MIB, &[], "answered 403 Forbidden"),
        (200, "a.img", 2 * MIB, &[], "image does not fit: it has 3145728 bytes"),
        (200, "a.img.gz", 4 * MIB, &["COMPRESSED=true"], "named as gzip but its data is not"),
        (200, "a.img", 4 * MIB, &["IMG_DIGEST=md5:0"], "variable IMG_DIGEST"),
    ];
    for (status, name, disk_len, more, hint) in cases {
        let server = FileServer::start(data.clone(), move |_| Answer::status(status)).await;
        let (world, state, message) = run(&server, name, disk_len, more).await;
        assert_eq!(state, StateType::Failed);
        assert!(message.contains(hint), "{message}");
        assert!(status == 200 || message.contains(&server.url(name)), "{message}");
        assert!(server.requests().len() <= 1);
        assert!(disk_of(&world).iter().all(|byte| *byte == 0xee), "{hint}: the disk was touched");
    }
    let server = FileServer::start(data, |_| Answer::good()).await;
    let (world, state, message) = run(&server, "a.img", 4 * MIB, &[&wrong]).await;
    assert_eq!(state, StateType::Failed);
    assert!(message.contains("expected sha256:0000"), "{message}");
    assert!(disk_of(&world)[..MIB].iter().all(|byte| *byte == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn time_that_is_over_stops_the_write() {
    let data = image(6);
    let server = FileServer::start(data, |_| Answer { stall: true, ..Answer::cut_after(3 * MIB) }).await;
    let world = World::new([]).await;
    let disk = dirty_disk(world.directory.path(), 8 * MIB);
    let mut action = image2disk("a", &server.url("a.img"), &disk, &[]);
    action.timeout = Some(2);
    world.tink.0.lock().unwrap().actions.push_back(action);
    let (state, message) = world.end_of("a").await;
    assert_eq!(state, StateType::Timeout);
    assert_eq!(message, "timed out after 2s at byte 3145728 of 6291456");
}

// SPDX-License-Identifier: Apache-2.0
//! The server against clients that are not ours (curl, atftp, tftp-hpa), with and without loss, and against the
//! misbehaviour of firmware, played with bare sockets.
//!
//! The tests of foreign clients are ignored by default because they need the programs: on the PATH, or in the
//! directory that `TEST_PEERS` names. Run them with `--include-ignored`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tftp::{Config, Content, Outcome, Provider, Refusal, Report, Request, Server, Socket};
use tokio::net::UdpSocket;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Files {
    dir: Option<PathBuf>,
    reports: Mutex<Vec<Report>>,
    opened: Mutex<u32>,
}

impl Provider for Files {
    async fn open(&self, _peer: SocketAddrV4, request: &Request) -> Result<Content, Refusal> {
        *self.opened.lock().unwrap() += 1;
        if let Some(size) = request.name.strip_prefix("bytes-") {
            return Ok(Content::Bytes(pattern(size.parse().unwrap())));
        }
        let path = self.dir.as_ref().ok_or_else(Refusal::not_found)?.join(&request.name);
        let file = std::fs::File::open(path).map_err(|_| Refusal::not_found())?;
        Ok(Content::file(file).unwrap())
    }

    fn finished(&self, report: &Report) {
        self.reports.lock().unwrap().push(report.clone());
    }
}

fn pattern(size: usize) -> Bytes {
    (0..size).map(|i| (i / 7).to_le_bytes()[0] ^ (i / 1792).to_le_bytes()[0]).collect()
}

struct Running {
    port: u16,
    files: Arc<Files>,
    _stop: DropGuard,
}

impl Running {
    fn start() -> Self {
        Self::with(None)
    }

    fn with(dir: Option<&Path>) -> Self {
        let files = Arc::new(Files { dir: dir.map(Into::into), ..Files::default() });
        let config = Config { listen: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), ..Config::default() };
        let socket = Socket::bind(&config).unwrap();
        let port = socket.local_addr().unwrap().port();
        let server = Server::new(config, socket, Arc::clone(&files));
        let token = CancellationToken::new();
        tokio::spawn(server.run(token.clone()));
        Self { port, files, _stop: token.drop_guard() }
    }

    async fn report(&self) -> Report {
        let found = async {
            loop {
                if let Some(report) = self.files.reports.lock().unwrap().pop() {
                    return report;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, found).await.expect("a report")
    }

    async fn client(&self) -> UdpSocket {
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
    }
}

async fn next(socket: &UdpSocket) -> (Vec<u8>, std::net::SocketAddr) {
    let mut buffer = [0; 2048];
    let (length, from) = timeout(DEADLINE, socket.recv_from(&mut buffer)).await.expect("an answer").unwrap();
    (buffer[..length].to_vec(), from)
}

/// Forwards datagrams of one client and loses a share of them, always in the same order.
async fn lossy(server: u16, percent: u64) -> u16 {
    let front = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = front.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut client, mut session) = (None, None);
        let (mut up, mut down) = ([0; 65536], [0; 65536]);
        let mut dice = 7u64;
        let mut lost = move || {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % 100 < percent
        };
        loop {
            tokio::select! {
                Ok((length, from)) = front.recv_from(&mut up) => {
                    if client != Some(from) {
                        (client, session) = (Some(from), None);
                    }
                    let to = session.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, server).into());
                    if !lost() { back.send_to(&up[..length], to).await.unwrap(); }
                }
                Ok((length, from)) = back.recv_from(&mut down) => {
                    session = Some(from);
                    if let (Some(client), false) = (client, lost()) {
                        front.send_to(&down[..length], client).await.unwrap();
                    }
                }
            }
        }
    });
    port
}

fn program(name: &str) -> PathBuf {
    let peers = std::env::var_os("TEST_PEERS").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = peers.into_iter().chain(std::env::split_paths(&path));
    let found = places.map(|dir| dir.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is neither in TEST_PEERS nor on the PATH"))
}

async fn run(name: &str, args: &[&str]) -> Output {
    let child = Command::new(program(name))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    timeout(DEADLINE, child.wait_with_output()).await.expect("the client ends").unwrap()
}

async fn curl(port: u16, name: &str, blksize: u32) -> Output {
    let (url, size) = (format!("tftp://127.0.0.1:{port}/{name}"), blksize.to_string());
    run("curl", &["-s", "-S", "--tftp-blksize", &size, &url]).await
}

async fn atftp(port: u16, name: &str, options: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let port = port.to_string();
    let mut args: Vec<&str> = options.iter().flat_map(|option| ["--option", option]).collect();
    args.extend(["-g", "-r", name, "-l", out.to_str().unwrap(), "127.0.0.1", &port]);
    let output = run("atftp", &args).await;
    assert!(output.status.success(), "{output:?}");
    std::fs::read(out).unwrap()
}

#[tokio::test]
#[ignore = "needs curl"]
async fn curl_gets_every_size() {
    let server = Running::start();
    for blksize in [8, 512, 1468, 65464] {
        for size in [0, 1, 511, 512, 513, 14_680, 100_003] {
            let output = curl(server.port, &format!("bytes-{size}"), blksize).await;
            assert!(output.status.success(), "blksize {blksize}, size {size}: {output:?}");
            assert_eq!(output.stdout, pattern(size), "blksize {blksize}, size {size}");
            assert_eq!(server.report().await.outcome, Outcome::Complete);
        }
    }
}

#[tokio::test]
#[ignore = "needs curl"]
async fn curl_is_told_that_a_file_is_missing() {
    let output = curl(Running::start().port, "nothing", 512).await;
    assert_eq!(output.status.code(), Some(68), "{output:?}");
}

#[tokio::test]
#[ignore = "needs curl"]
async fn curl_gets_a_file_past_the_wrap_of_block_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let data = pattern(70_000 * 512 + 5);
    std::fs::write(dir.path().join("big"), &data).unwrap();
    let server = Running::with(Some(dir.path()));
    assert!(curl(server.port, "big", 512).await.stdout == data);
    assert_eq!(server.report().await.size, data.len() as u64);
}

#[tokio::test]
#[ignore = "needs atftp"]
async fn atftp_gets_windows() {
    let server = Running::start();
    for window in ["windowsize 1", "windowsize 4", "windowsize 64", "windowsize 65535"] {
        for size in [0, 1428, 1428 * 64, 2_000_003] {
            let options = ["blksize 1428", window, "tsize"];
            assert!(
                atftp(server.port, &format!("bytes-{size}"), &options).await == pattern(size),
                "{window}"
            );
        }
    }
    assert_eq!(server.report().await.window, 64);
}

#[tokio::test]
#[ignore = "needs tftp-hpa"]
async fn tftp_hpa_gets_octets_and_netascii() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("text"), "a\nb\rc\n").unwrap();
    let server = Running::with(Some(dir.path()));
    let port = server.port.to_string();
    for (mode, name) in [("binary", "bytes-100000"), ("ascii", "text"), ("binary", "text")] {
        let out = dir.path().join("out");
        let get = ["-m", mode, "127.0.0.1", &port, "-c", "get", name, out.to_str().unwrap()];
        let output = run("tftp", &get).await;
        assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
        let expected = if name == "text" { Bytes::from_static(b"a\nb\rc\n") } else { pattern(100_000) };
        assert_eq!(std::fs::read(out).unwrap(), expected, "{mode} {name}");
    }
}

#[tokio::test]
#[ignore = "needs curl and atftp"]
async fn transfers_survive_loss() {
    let server = Running::start();
    let size = 300_001;
    let proxy = lossy(server.port, 5).await;
    let output = curl(proxy, &format!("bytes-{size}"), 1428).await;
    assert!(output.stdout == pattern(size), "{:?}", String::from_utf8_lossy(&output.stderr));
    assert!(server.report().await.resent > 0, "the proxy lost something");
    let proxy = lossy(server.port, 3).await;
    let options = ["blksize 1428", "windowsize 16", "timeout 1"];
    assert!(atftp(proxy, &format!("bytes-{size}"), &options).await == pattern(size));
}

#[tokio::test]
async fn a_probe_that_is_aborted_does_not_block_the_port() {
    let server = Running::start();
    let client = server.client().await;
    let to = (Ipv4Addr::LOCALHOST, server.port);
    client.send_to(b"\x00\x01bytes-5000\0octet\0tsize\x000\0", to).await.unwrap();
    let (oack, tid) = next(&client).await;
    assert_eq!(oack, b"\x00\x06tsize\x005000\0");
    client.send_to(b"\x00\x05\x00\x08 aborted\0", tid).await.unwrap();
    client.send_to(b"\x00\x01bytes-5000\0octet\0tsize\x000\0blksize\x001456\0", to).await.unwrap();
    let (oack, second) = next(&client).await;
    assert_eq!(oack, b"\x00\x06blksize\x001456\0tsize\x005000\0");
    assert_ne!(tid, second, "a new transfer has a new port");
    client.send_to(b"\x00\x04\x00\x00", second).await.unwrap();
    let (data, from) = next(&client).await;
    assert_eq!((&data[..4], data.len(), from), (&b"\x00\x03\x00\x01"[..], 1460, second));
    client.send_to(b"\x00\x05\x00\x00\0", second).await.unwrap();
    assert!(matches!(server.report().await.outcome, Outcome::Aborted { .. }));
}

#[tokio::test]
async fn a_repeated_request_is_one_transfer() {
    let server = Running::start();
    let client = server.client().await;
    let to = (Ipv4Addr::LOCALHOST, server.port);
    let request = b"\x00\x01bytes-100\0octet\0";
    client.send_to(request, to).await.unwrap();
    let (first, tid) = next(&client).await;
    client.send_to(request, to).await.unwrap();
    let (second, again) = next(&client).await;
    assert_eq!((first, tid), (second, again));
    client.send_to(b"\x00\x04\x00\x01", tid).await.unwrap();
    assert_eq!(server.report().await.outcome, Outcome::Complete);
    assert_eq!(*server.files.opened.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_write_is_refused_and_junk_is_ignored() {
    let server = Running::start();
    let client = server.client().await;
    let to = (Ipv4Addr::LOCALHOST, server.port);
    client.send_to(b"\x00\x09\x00", to).await.unwrap();
    client.send_to(b"", to).await.unwrap();
    client.send_to(b"\x00\x02x\0octet\0", to).await.unwrap();
    assert!(next(&client).await.0.starts_with(b"\x00\x05\x00\x04"));
}

#[tokio::test]
async fn one_client_cannot_take_all_sessions() {
    let server = Running::start();
    let mut clients = Vec::new();
    for _ in 0..40 {
        let client = server.client().await;
        client.send_to(b"\x00\x01bytes-100\0octet\0", (Ipv4Addr::LOCALHOST, server.port)).await.unwrap();
        clients.push(client);
    }
    for client in &clients[..32] {
        assert!(next(client).await.0.starts_with(b"\x00\x03\x00\x01"));
    }
    let mut buffer = [0; 600];
    for client in &clients[32..] {
        assert!(client.try_recv(&mut buffer).is_err(), "over the limit there is no answer");
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The server against clients that are not ours (curl, atftp, tftp-hpa, busybox), in both modes, over IPv4 and IPv6, with and
//! without loss, and against the misbehaviour of firmware, played with bare sockets.
//!
//! The tests of foreign clients are ignored by default because they need the programs, on the PATH or in the directory
//! that `TEST_PEERS` names, and some need root for a network namespace with loss or a small MTU. Run them with
//! `--include-ignored`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

use std::collections::VecDeque;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tftp::{Config, Content, Dropped, Outcome, Ports, Provider, Refusal, Report, Request, Server, Socket};
use tokio::net::UdpSocket;
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

const DEADLINE: Duration = Duration::from_secs(60);
const MODES: [Ports; 2] = [Ports::PerTransfer, Ports::Single];

#[derive(Default)]
struct Files {
    dir: Option<PathBuf>,
    reports: Mutex<VecDeque<Report>>,
    reported: Notify,
    opened: Mutex<u32>,
    dropped: Mutex<Vec<Dropped>>,
    /// Requests that are allowed yet; nothing is any number.
    allowed: Mutex<Option<u32>>,
}

impl Provider for Files {
    async fn open(&self, _peer: SocketAddr, request: &Request) -> Result<Content, Refusal> {
        *self.opened.lock().unwrap() += 1;
        if let Some(size) = request.name.strip_prefix("bytes-") {
            return Ok(Content::Bytes(pattern(size.parse().unwrap())));
        }
        let path = self.dir.as_ref().ok_or_else(Refusal::not_found)?.join(&request.name);
        let file = std::fs::File::open(path).map_err(|_| Refusal::not_found())?;
        Ok(Content::file(file).unwrap())
    }

    fn allows(&self, _peer: SocketAddr) -> bool {
        let mut allowed = self.allowed.lock().unwrap();
        let left = allowed.map(|allowed| allowed.checked_sub(1));
        *allowed = left.map(Option::unwrap_or_default);
        left != Some(None)
    }

    fn finished(&self, report: &Report) {
        self.reports.lock().unwrap().push_back(report.clone());
        self.reported.notify_one();
    }

    fn dropped(&self, _peer: SocketAddr, reason: Dropped) {
        self.dropped.lock().unwrap().push(reason);
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
    fn start(ports: Ports) -> Self {
        Self::with(ports, None)
    }

    fn with(ports: Ports, dir: Option<&Path>) -> Self {
        Self::limited(Config { ports, ..Config::default() }, dir)
    }

    /// On the wildcard of IPv6, which hears both.
    fn limited(config: Config, dir: Option<&Path>) -> Self {
        let files = Arc::new(Files { dir: dir.map(Into::into), ..Files::default() });
        let config = Config { listen: (Ipv6Addr::UNSPECIFIED, 0).into(), ..config };
        let socket = Socket::bind(&config).unwrap();
        let port = socket.local_addr().unwrap().port();
        let server = Server::new(config, socket, Arc::clone(&files));
        let token = CancellationToken::new();
        tokio::spawn(server.run(token.clone()));
        Self { port, files, _stop: token.drop_guard() }
    }

    /// The oldest report that was not taken yet.
    async fn report(&self) -> Report {
        let found = async {
            loop {
                if let Some(report) = self.files.reports.lock().unwrap().pop_front() {
                    return report;
                }
                self.files.reported.notified().await;
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

/// Runs a test in a network namespace of its own, with these commands of `ip` and rules of nftables.
fn in_namespace<F: Future<Output = ()>>(
    links: &'static [&'static str],
    rules: &'static str,
    test: impl FnOnce() -> F + Send + 'static,
) {
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
        for arguments in std::iter::once(&"link set lo up").chain(links) {
            now("ip", &arguments.split(' ').collect::<Vec<_>>());
        }
        if !rules.is_empty() {
            now(program("nft").to_str().unwrap(), &[rules]);
        }
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a program to its end and insists on success.
fn now(program: &str, args: &[&str]) {
    let output = std::process::Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

/// Loses packets of every transfer at random, on their way in, so that no sender is told.
const LOSS: &str = "table inet loss { chain in { type filter hook input priority 0; \
                    meta l4proto udp numgen random mod 100 < 4 drop; }; }";

/// As [`LOSS`], but no acknowledgement of options is lost: atftp takes repeated options for an error and leaves.
const LOSS_OF_DATA: &str = "table inet loss { chain in { type filter hook input priority 0; \
                            udp length 12 @th,64,32 0x00040000 accept; \
                            meta l4proto udp numgen random mod 100 < 4 drop; }; }";

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
    let ended = timeout(DEADLINE, child.wait_with_output()).await;
    ended.unwrap_or_else(|_| panic!("{name} {args:?} does not end")).unwrap()
}

async fn curl(port: u16, name: &str, blksize: u32) -> Output {
    curl_at("127.0.0.1", port, name, blksize).await
}

async fn curl_at(host: &str, port: u16, name: &str, blksize: u32) -> Output {
    let (url, size) = (format!("tftp://{host}:{port}/{name}"), blksize.to_string());
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

async fn busybox(port: u16, name: &str, blksize: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let port = port.to_string();
    let get = ["tftp", "-g", "-b", blksize, "-r", name, "-l", out.to_str().unwrap(), "127.0.0.1", &port];
    let output = run("busybox", &get).await;
    assert!(output.status.success(), "{output:?}");
    std::fs::read(out).unwrap()
}

async fn tftp_hpa(port: u16, mode: &str, name: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let port = port.to_string();
    let get = ["-m", mode, "127.0.0.1", &port, "-c", "get", name, out.to_str().unwrap()];
    let output = run("tftp", &get).await;
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    std::fs::read(out).unwrap()
}

#[tokio::test]
#[ignore = "needs curl"]
async fn curl_gets_every_size() {
    for ports in MODES {
        let server = Running::start(ports);
        for blksize in [8, 512, 1468, 65464] {
            for size in [0, 1, 511, 512, 513, 14_680, 100_003] {
                let output = curl(server.port, &format!("bytes-{size}"), blksize).await;
                assert!(output.status.success(), "{ports:?}, blksize {blksize}, size {size}: {output:?}");
                assert_eq!(output.stdout, pattern(size), "{ports:?}, blksize {blksize}, size {size}");
                assert_eq!(server.report().await.outcome, Outcome::Complete);
            }
        }
    }
}

#[tokio::test]
#[ignore = "needs curl"]
async fn curl_is_served_over_ipv6() {
    for ports in MODES {
        let server = Running::start(ports);
        let output = curl_at("[::1]", server.port, "bytes-300000", 1428).await;
        assert_eq!(output.stdout, pattern(300_000), "{ports:?}");
        assert_eq!(server.report().await.peer.ip(), IpAddr::from(Ipv6Addr::LOCALHOST));
        let output = curl(server.port, "bytes-300000", 1428).await;
        assert_eq!(output.stdout, pattern(300_000), "{ports:?}");
        let plain = IpAddr::from(Ipv4Addr::LOCALHOST);
        assert_eq!(server.report().await.peer.ip(), plain, "not in the form that it has on an IPv6 socket");
    }
}

#[tokio::test]
#[ignore = "needs curl"]
async fn curl_is_told_that_a_file_is_missing() {
    for ports in MODES {
        let output = curl(Running::start(ports).port, "nothing", 512).await;
        assert_eq!(output.status.code(), Some(68), "{ports:?}: {output:?}");
    }
}

#[tokio::test]
#[ignore = "needs curl"]
async fn curl_gets_a_file_past_the_wrap_of_block_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let data = pattern(70_000 * 512 + 5);
    std::fs::write(dir.path().join("big"), &data).unwrap();
    for ports in MODES {
        let server = Running::with(ports, Some(dir.path()));
        assert!(curl(server.port, "big", 512).await.stdout == data, "{ports:?}");
        let report = server.report().await;
        assert_eq!((report.size, report.acknowledged), (data.len() as u64, data.len() as u64));
    }
}

#[tokio::test]
#[ignore = "needs atftp"]
async fn atftp_gets_windows() {
    for ports in MODES {
        let server = Running::start(ports);
        for window in ["windowsize 1", "windowsize 4", "windowsize 64", "windowsize 65535"] {
            for size in [0, 1428, 1428 * 64, 2_000_003] {
                let options = ["blksize 1428", window, "tsize"];
                let got = atftp(server.port, &format!("bytes-{size}"), &options).await;
                assert!(got == pattern(size), "{ports:?}, {window}, size {size}");
                let report = server.report().await;
                assert_eq!(report.resent, 0, "{ports:?}, {window}, size {size}");
                let granted = if window == "windowsize 65535" { "windowsize 64" } else { window };
                assert_eq!(format!("windowsize {}", report.window), granted);
            }
        }
    }
}

#[tokio::test]
#[ignore = "needs atftp"]
async fn windows_go_past_the_wrap_of_block_numbers() {
    let server = Running::start(Ports::Single);
    // 512 bytes a block: 75,000 blocks.
    let size = 75_000 * 512 + 9;
    let got = atftp(server.port, &format!("bytes-{size}"), &["blksize 512", "windowsize 64"]).await;
    assert!(got == pattern(size));
}

#[tokio::test]
#[ignore = "needs tftp-hpa"]
async fn tftp_hpa_gets_octets_and_netascii() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("text"), "a\nb\rc\n").unwrap();
    for ports in MODES {
        let server = Running::with(ports, Some(dir.path()));
        assert_eq!(tftp_hpa(server.port, "binary", "bytes-100000").await, pattern(100_000), "{ports:?}");
        for mode in ["ascii", "binary"] {
            assert_eq!(tftp_hpa(server.port, mode, "text").await, b"a\nb\rc\n", "{ports:?}, {mode}");
        }
    }
}

#[tokio::test]
#[ignore = "needs busybox"]
async fn busybox_gets_every_size() {
    for ports in MODES {
        let server = Running::start(ports);
        for blksize in ["512", "1428"] {
            for size in [1, 512, 1428, 300_000] {
                let got = busybox(server.port, &format!("bytes-{size}"), blksize).await;
                assert!(got == pattern(size), "{ports:?}, blksize {blksize}, size {size}");
            }
        }
    }
}

#[test]
#[ignore = "needs root, nftables, curl, busybox and tftp-hpa"]
fn transfers_survive_loss() {
    in_namespace(&[], LOSS, || async {
        for ports in MODES {
            let server = Running::start(ports);
            let size = 200_001;
            let name = format!("bytes-{size}");
            let output = curl(server.port, &name, 1428).await;
            assert!(output.stdout == pattern(size), "{:?}", String::from_utf8_lossy(&output.stderr));
            assert!(server.report().await.resent > 0, "something was lost");
            assert!(busybox(server.port, &name, "1428").await == pattern(size), "{ports:?}");
            assert!(tftp_hpa(server.port, "binary", &name).await == pattern(size), "{ports:?}");
        }
    });
}

#[test]
#[ignore = "needs root, nftables and atftp"]
fn windows_survive_loss() {
    in_namespace(&[], LOSS_OF_DATA, || async {
        for ports in MODES {
            let server = Running::start(ports);
            for window in ["windowsize 1", "windowsize 16", "windowsize 64"] {
                let got = atftp(server.port, "bytes-200001", &["blksize 1428", window, "timeout 1"]).await;
                assert!(got == pattern(200_001), "{ports:?}, {window}");
            }
        }
    });
}

#[test]
#[ignore = "needs root and atftp"]
fn blocks_fit_the_path() {
    in_namespace(&["link set lo mtu 1280"], "", || async {
        for ports in MODES {
            let server = Running::start(ports);
            let got = atftp(server.port, "bytes-500000", &["blksize 1468", "windowsize 16"]).await;
            assert!(got == pattern(500_000), "{ports:?}");
            assert_eq!(server.report().await.block_size, 1280 - 20 - 8 - 4, "{ports:?}");
            let client = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
            let to = (Ipv6Addr::LOCALHOST, server.port);
            client.send_to(b"\x00\x01bytes-9\0octet\0blksize\x001468\0", to).await.unwrap();
            assert_eq!(next(&client).await.0, b"\x00\x06blksize\x001228\0", "{ports:?}");
        }
    });
}

/// The kernel refuses to make segments that are larger than the MTU; single packets it sends in fragments.
#[test]
#[ignore = "needs root"]
fn a_path_that_becomes_narrow_ends_no_transfer() {
    in_namespace(&[], "", || async {
        for ports in MODES {
            now("ip", &["link", "set", "lo", "mtu", "65536"]);
            let server = Running::start(ports);
            let client = server.client().await;
            let request = b"\x00\x01bytes-50000\0octet\0blksize\x001468\0windowsize\x0064\0";
            client.send_to(request, (Ipv4Addr::LOCALHOST, server.port)).await.unwrap();
            let (oack, tid) = next(&client).await;
            assert_eq!(oack, b"\x00\x06blksize\x001468\0windowsize\x0064\0");
            now("ip", &["link", "set", "lo", "mtu", "1000"]);
            client.send_to(b"\x00\x04\x00\x00", tid).await.unwrap();
            let mut got = Vec::new();
            for block in 1..=50_000u16 / 1468 + 1 {
                let (data, _) = next(&client).await;
                assert_eq!(data[2..4], block.to_be_bytes(), "{ports:?}");
                got.extend_from_slice(&data[4..]);
            }
            assert!(got == pattern(50_000), "{ports:?}");
        }
    });
}

#[tokio::test]
async fn a_probe_that_is_aborted_does_not_block_the_port() {
    let server = Running::start(Ports::PerTransfer);
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
async fn with_a_single_port_answers_come_from_it_after_a_probe_too() {
    let server = Running::start(Ports::Single);
    let client = server.client().await;
    client.connect((Ipv4Addr::LOCALHOST, server.port)).await.unwrap();
    let ask = async |packet: &[u8]| {
        client.send(packet).await.unwrap();
        next(&client).await.0
    };
    let oack = ask(b"\x00\x01bytes-5000\0octet\0tsize\x000\0").await;
    assert_eq!(oack, b"\x00\x06tsize\x005000\0");
    client.send(b"\x00\x05\x00\x08 aborted\0").await.unwrap();
    let oack = ask(b"\x00\x01bytes-5000\0octet\0blksize\x004096\0").await;
    assert_eq!(oack, b"\x00\x06blksize\x001468\0");
    for block in 1..=4u8 {
        let data = ask(&[0, 4, 0, block - 1]).await;
        assert_eq!(data[..4], [0, 3, 0, block]);
    }
    // The second request may be there before the first transfer has looked at the error, which counts all the same.
    let ended = server.report().await.outcome;
    assert!(matches!(ended, Outcome::Aborted { code: 8, .. }), "{ended:?}");
    client.send(&[0, 4, 0, 4]).await.unwrap();
    assert_eq!(server.report().await.outcome, Outcome::Complete);
}

#[tokio::test]
async fn a_client_that_leaves_without_the_last_ack_ends_its_transfer_at_once() {
    for ports in MODES {
        let server = Running::start(ports);
        // Another client in the middle of a transfer, which the news of a closed port is not about.
        let other = server.client().await;
        let to = (Ipv4Addr::LOCALHOST, server.port);
        other.send_to(b"\x00\x01bytes-600\0octet\0", to).await.unwrap();
        let (_, tid) = next(&other).await;
        let client = server.client().await;
        client.send_to(b"\x00\x01bytes-100\0octet\0tsize\x000\0", to).await.unwrap();
        let (_, from) = next(&client).await;
        client.send_to(b"\x00\x04\x00\x00", from).await.unwrap();
        drop(client);
        let report = timeout(Duration::from_secs(4), server.report()).await.expect("no silence is endured");
        assert_eq!((report.outcome, report.size), (Outcome::Unconfirmed, 100), "{ports:?}");
        other.send_to(b"\x00\x04\x00\x01", tid).await.unwrap();
        loop {
            let (data, _) = next(&other).await;
            if data[..4] == [0, 3, 0, 2] {
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_repeated_request_is_one_transfer() {
    let server = Running::start(Ports::PerTransfer);
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
    let server = Running::start(Ports::Single);
    let client = server.client().await;
    let to = (Ipv4Addr::LOCALHOST, server.port);
    client.send_to(b"\x00\x09\x00", to).await.unwrap();
    client.send_to(b"", to).await.unwrap();
    client.send_to(b"\x00\x02x\0octet\0", to).await.unwrap();
    assert!(next(&client).await.0.starts_with(b"\x00\x05\x00\x04"));
}

#[tokio::test]
async fn one_client_cannot_take_all_sessions() {
    for ports in MODES {
        let server = Running::start(ports);
        let mut clients = Vec::new();
        for _ in 0..40 {
            let client = server.client().await;
            let to = (Ipv4Addr::LOCALHOST, server.port);
            client.send_to(b"\x00\x01bytes-100\0octet\0", to).await.unwrap();
            clients.push(client);
        }
        for client in &clients[..32] {
            assert!(next(client).await.0.starts_with(b"\x00\x03\x00\x01"));
        }
        // The server takes requests in their order: with the answer to this one it is through with the others.
        let last = server.client().await;
        last.send_to(b"\x00\x02x\0octet\0", (Ipv4Addr::LOCALHOST, server.port)).await.unwrap();
        next(&last).await;
        let mut buffer = [0; 600];
        for client in &clients[32..] {
            assert!(client.try_recv(&mut buffer).is_err(), "over the limit there is no answer");
        }
        assert_eq!(*server.files.dropped.lock().unwrap(), vec![Dropped::ClientLimit; 8]);
    }
}

/// What a client asks beyond its rate is dropped; what it sends for a transfer that runs is none of that.
#[tokio::test]
async fn requests_that_are_not_allowed_are_dropped_and_acknowledgements_go_on() {
    for ports in MODES {
        let server = Running::start(ports);
        *server.files.allowed.lock().unwrap() = Some(1);
        let to = (Ipv4Addr::LOCALHOST, server.port);
        let client = server.client().await;
        client.send_to(b"\x00\x01bytes-2000\0octet\0", to).await.unwrap();
        let (first, tid) = next(&client).await;
        assert_eq!(first[..4], [0, 3, 0, 1]);
        let other = server.client().await;
        other.send_to(b"\x00\x01bytes-100\0octet\0", to).await.unwrap();
        other.send_to(b"\x00\x02x\0octet\0", to).await.unwrap();
        for block in 1..=3 {
            client.send_to(&[0, 4, 0, block], tid).await.unwrap();
            assert_eq!(next(&client).await.0[..4], [0, 3, 0, block + 1], "{ports:?}");
        }
        *server.files.allowed.lock().unwrap() = None;
        // The server takes requests in their order: with the answer to this one it is through with the others.
        let last = server.client().await;
        last.send_to(b"\x00\x02x\0octet\0", to).await.unwrap();
        next(&last).await;
        assert!(other.try_recv(&mut [0; 600]).is_err(), "{ports:?}: neither is answered");
        assert_eq!(*server.files.dropped.lock().unwrap(), [Dropped::Rate; 2]);
    }
}

/// Requests of clients that never answer again, more than there are places.
#[tokio::test]
async fn a_flood_of_requests_shortens_no_transfer() {
    for ports in MODES {
        let config = Config { ports, max_sessions: 8, max_sessions_per_client: 99, ..Config::default() };
        let server = Running::limited(config, None);
        let to = (Ipv4Addr::LOCALHOST, server.port);
        let client = server.client().await;
        client.send_to(b"\x00\x01bytes-2000\0octet\0", to).await.unwrap();
        let (_, tid) = next(&client).await;
        client.send_to(b"\x00\x04\x00\x01", tid).await.unwrap();
        assert_eq!(next(&client).await.0[..4], [0, 3, 0, 2]);
        for _ in 0..50 {
            let flood = server.client().await;
            flood.send_to(b"\x00\x01bytes-100\0octet\0", to).await.unwrap();
            assert_eq!(next(&flood).await.0[..4], [0, 3, 0, 1], "{ports:?}: newcomers are let in");
        }
        for block in 2..=4u8 {
            client.send_to(&[0, 4, 0, block], tid).await.unwrap();
            if block < 4 {
                // A block that waited for the flood may have come again.
                let newer = async { while next(&client).await.0[..4] != [0, 3, 0, block + 1] {} };
                timeout(DEADLINE, newer)
                    .await
                    .unwrap_or_else(|_| panic!("{ports:?}: no block {}", block + 1));
            }
        }
        let found = async { while server.report().await.outcome != Outcome::Complete {} };
        timeout(DEADLINE, found).await.unwrap();
    }
}

// SPDX-License-Identifier: Apache-2.0
//! TFTP downloads beside tftpd-hpa and dnsmasq, with clients that are nobody's here: curl (one block at a time) and atftp
//! (windows).
//!
//! Everything runs in a network namespace of its own, where dnsmasq has its port 69 and nftables loses packets for the
//! last row. Both peers know no windows: the client falls back to one block at a time, which is what it gets from them.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tftp::{Content, Dropped, Ports, Provider, Refusal, Report, Request, Server, Socket};
use tokio_util::sync::CancellationToken;

use super::{RUNS, Row, in_namespace, median, megabytes_per_second, succeed};

const MEGABYTE: u64 = 1_000_000;
const DEADLINE: Duration = Duration::from_secs(10);
/// One packet in a hundred is lost on its way in, so that no sender is told.
const LOSS: &str = "table inet loss { chain in { type filter hook input priority 0; \
                    meta l4proto udp numgen random mod 100 < 1 drop; }; }";

/// One row of the table.
struct Case {
    name: &'static str,
    program: &'static str,
    block_size: u32,
    window: u32,
    /// Downloads at once.
    clients: usize,
    /// Megabytes of each.
    size: u64,
    is_lossy: bool,
}

const fn case(name: &'static str, program: &'static str, block_size: u32, window: u32, size: u64) -> Case {
    Case { name, program, block_size, window, clients: 1, size, is_lossy: false }
}

const CASES: [Case; 5] = [
    case("curl, 32 MB, blksize 512", "curl", 512, 1, 32),
    case("curl, 32 MB, blksize 1468", "curl", 1468, 1, 32),
    case("atftp, 100 MB, window 64 x 1468", "atftp", 1468, 64, 100),
    Case { clients: 16, ..case("16 atftp at once, 32 MB, window 64 x 1468", "atftp", 1468, 64, 32) },
    Case { is_lossy: true, ..case("atftp, 10 MB, window 64 x 1468, 1 % loss", "atftp", 1468, 64, 10) },
];

/// Measures all servers; `quick` leaves the loss out, which takes the peers minutes.
pub fn run(quick: bool) -> Result<Vec<Row>> {
    in_namespace(move || measure(quick))
}

fn measure(quick: bool) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    for size in CASES.map(|case| case.size) {
        let content: Vec<u8> = (0..size * MEGABYTE).map(|index| (index / 7).to_le_bytes()[0]).collect();
        std::fs::write(folder.path().join(size.to_string()), content)?;
    }
    // tftpd-hpa takes no address of a version of which the host has none but that of the loopback interface.
    succeed(Command::new("ip").args(["address", "add", "192.0.2.1/32", "dev", "lo"]))?;
    let runtime = tokio::runtime::Runtime::new()?;
    let peers = [Daemon::tftpd_hpa(folder.path())?, Daemon::dnsmasq(folder.path())?];
    let servers = [
        ("boots", runtime.block_on(start_ours(Ports::Single, folder.path()))?),
        ("boots, a port per transfer", runtime.block_on(start_ours(Ports::PerTransfer, folder.path()))?),
        ("tftpd-hpa", peers[0].address),
        ("dnsmasq", peers[1].address),
    ];
    let mut rows = Vec::new();
    for case in CASES.iter().filter(|case| !(quick && case.is_lossy)) {
        if case.is_lossy {
            succeed(Command::new("nft").arg(LOSS))?;
        }
        // A lost packet costs the peers a second; there are enough of them in one run.
        let runs = if case.is_lossy { 1 } else { RUNS };
        let mut values = servers.map(|_| Vec::new());
        for _ in 0..runs {
            for ((_, server), values) in servers.iter().zip(&mut values) {
                values.push(fetch(case, *server)?);
            }
        }
        for ((subject, _), values) in servers.iter().zip(values) {
            rows.push(Row {
                bench: case.name.to_owned(),
                subject: (*subject).to_owned(),
                value: median(values),
                unit: "MB/s",
            });
        }
    }
    Ok(rows)
}

/// Megabytes per second of all downloads together.
fn fetch(case: &Case, server: SocketAddr) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let started = Instant::now();
    let downloads: Vec<_> = (0..case.clients)
        .map(|index| {
            let out = folder.path().join(index.to_string());
            Ok((client(case, server, &out)?, out))
        })
        .collect::<Result<_>>()?;
    for (mut download, out) in downloads {
        let status = download.wait()?;
        let length = std::fs::metadata(out).map_or(0, |meta| meta.len());
        ensure!(
            status.success() && length == case.size * MEGABYTE,
            "{} did not get the file from {server}: {status}, {length} bytes",
            case.program
        );
    }
    let clients = u64::try_from(case.clients)?;
    Ok(megabytes_per_second(clients * case.size * MEGABYTE, started.elapsed()))
}

fn client(case: &Case, server: SocketAddr, out: &Path) -> Result<Child> {
    let (host, port, name) = (server.ip().to_string(), server.port().to_string(), case.size.to_string());
    let mut command = Command::new(case.program);
    if case.program == "curl" {
        command.args(["-sf", "--tftp-blksize", &case.block_size.to_string(), "-o"]).arg(out);
        command.arg(format!("tftp://{server}/{name}"));
    } else {
        command.args(["--option", &format!("blksize {}", case.block_size)]);
        command.args(["--option", &format!("windowsize {}", case.window)]);
        command.args(["-g", "-r", &name, "-l"]).arg(out).args([host, port]);
    }
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("start {}", case.program))
}

/// Our server over the same files, in memory as boots has its own.
struct Files(Vec<(String, bytes::Bytes)>);

impl Provider for Files {
    async fn open(&self, _peer: SocketAddr, request: &Request) -> Result<Content, Refusal> {
        let found = self.0.iter().find(|(name, _)| *name == request.name);
        found.map(|(_, content)| Content::Bytes(content.clone())).ok_or_else(Refusal::not_found)
    }

    fn finished(&self, _report: &Report) {}

    fn dropped(&self, _peer: SocketAddr, _reason: Dropped) {}
}

async fn start_ours(ports: Ports, folder: &Path) -> Result<SocketAddr> {
    let mut files = Vec::new();
    for size in CASES.map(|case| case.size.to_string()) {
        files.push((size.clone(), std::fs::read(folder.join(size))?.into()));
    }
    let config = tftp::Config { listen: (Ipv4Addr::LOCALHOST, 0).into(), ports, ..tftp::Config::default() };
    let socket = Socket::bind(&config)?;
    let address = socket.local_addr()?;
    tokio::spawn(Server::new(config, socket, Arc::new(Files(files))).run(CancellationToken::new()));
    Ok(address)
}

/// A server that is not ours, ended when dropped.
struct Daemon {
    child: Child,
    address: SocketAddr,
}

impl Daemon {
    fn tftpd_hpa(folder: &Path) -> Result<Self> {
        let port = std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut command = Command::new("in.tftpd");
        command.args(["-L", "-p", "-u", "root", "-a", &address.to_string(), "-s"]).arg(folder);
        Self::start(command, address).context("in.tftpd, from Debian's tftpd-hpa")
    }

    fn dnsmasq(folder: &Path) -> Result<Self> {
        let mut command = Command::new("dnsmasq");
        // The pid file's place needs no folder then.
        command.args([
            "--conf-file=/dev/null",
            "--keep-in-foreground",
            "--port=0",
            "--pid-file",
            "--user=root",
        ]);
        command.args(["--listen-address=127.0.0.1", "--bind-interfaces", "--enable-tftp"]);
        command.arg(format!("--tftp-root={}", folder.display()));
        Self::start(command, (Ipv4Addr::LOCALHOST, 69).into()).context("dnsmasq, from Debian's dnsmasq-base")
    }

    fn start(mut command: Command, address: SocketAddr) -> Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut daemon = Self { child, address };
        let deadline = Instant::now() + DEADLINE;
        while probe(address).is_err() {
            if daemon.child.try_wait()?.is_some() || Instant::now() >= deadline {
                drop(daemon.child.kill());
                let said = daemon.child.stderr.take().map(BufReader::new);
                let said: Vec<String> =
                    said.into_iter().flat_map(BufRead::lines).map_while(Result::ok).collect();
                anyhow::bail!("it does not answer on {address}: {}", said.join(" "));
            }
        }
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One request, to see that the server is there. Its answer is dropped; the server gives up on us.
fn probe(address: SocketAddr) -> Result<()> {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    socket.send_to(b"\0\x01nothing\0octet\0", address)?;
    socket.recv_from(&mut [0; 516])?;
    Ok(())
}

// SPDX-License-Identifier: Apache-2.0
//! TFTP downloads beside tftpd-hpa, with clients that are neither's: curl (one block at a time) and atftp (windows).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tftp::{Content, Provider, Refusal, Report, Request, Server, Socket};
use tokio_util::sync::CancellationToken;

use super::{RUNS, Row, median, megabytes_per_second};

const BYTES: u64 = 32 << 20;
const FILE: &str = "file";
const DEADLINE: Duration = Duration::from_secs(10);

/// Measures both servers with several block sizes and windows.
pub fn run() -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let content: Vec<u8> = (0..BYTES).map(|index| (index / 7).to_le_bytes()[0]).collect();
    std::fs::write(folder.path().join(FILE), &content)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let ours = runtime.block_on(start_ours(content.into()))?;
    let theirs = Daemon::start(folder.path())?;
    let mut rows = Vec::new();
    for (client, options) in [("curl", "512"), ("curl", "1468"), ("atftp", "1468 window 16")] {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            a.push(fetch(client, options, ours)?);
            // tftpd-hpa has no windows; the client falls back to one block at a time.
            b.push(fetch(client, options, theirs.address)?);
        }
        for (subject, values) in [("boots", a), ("tftpd-hpa", b)] {
            rows.push(Row {
                bench: format!("{client} blksize {options}"),
                subject: subject.to_owned(),
                value: median(values),
                unit: "MB/s",
            });
        }
    }
    Ok(rows)
}

fn fetch(client: &str, options: &str, server: SocketAddrV4) -> Result<f64> {
    let out = tempfile::NamedTempFile::new()?;
    let size = options.split(' ').next().unwrap_or(options);
    let (host, port, path) =
        (server.ip().to_string(), server.port().to_string(), out.path().display().to_string());
    let mut command = Command::new(client);
    if client == "curl" {
        command
            .args(["-sf", "--tftp-blksize", size, "-o", &path])
            .arg(format!("tftp://{host}:{port}/{FILE}"));
    } else {
        let window = options.rsplit(' ').next().unwrap_or("1");
        command.args(["--option", &format!("blksize {size}"), "--option", &format!("windowsize {window}")]);
        command.args(["-g", "-r", FILE, "-l", &path, &host, &port]);
    }
    let started = Instant::now();
    let status = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .with_context(|| format!("start {client}"))?;
    let took = started.elapsed();
    ensure!(
        status.success() && out.as_file().metadata()?.len() == BYTES,
        "{client} did not get the file from {server}"
    );
    Ok(megabytes_per_second(BYTES, took))
}

struct OneFile(bytes::Bytes);

impl Provider for OneFile {
    async fn open(&self, _peer: SocketAddrV4, request: &Request) -> Result<Content, Refusal> {
        if request.name.trim_start_matches('/') == FILE {
            Ok(Content::Bytes(self.0.clone()))
        } else {
            Err(Refusal::not_found())
        }
    }

    fn finished(&self, _report: &Report) {}
}

async fn start_ours(content: bytes::Bytes) -> Result<SocketAddrV4> {
    let config =
        tftp::Config { listen: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), ..tftp::Config::default() };
    let socket = Socket::bind(&config)?;
    let std::net::SocketAddr::V4(address) = socket.local_addr()? else { anyhow::bail!("bound to IPv6") };
    tokio::spawn(Server::new(config, socket, Arc::new(OneFile(content))).run(CancellationToken::new()));
    Ok(address)
}

/// tftpd-hpa, ended when dropped.
struct Daemon {
    child: Child,
    address: SocketAddrV4,
}

impl Daemon {
    fn start(folder: &Path) -> Result<Self> {
        let port = std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let user = "root";
        let child = Command::new("in.tftpd")
            .args(["-L", "-p", "-u", user, "-a", &address.to_string(), "-s"])
            .arg(folder)
            .stderr(Stdio::null())
            .spawn()
            .context("start in.tftpd, from Debian's tftpd-hpa")?;
        let daemon = Self { child, address };
        let deadline = Instant::now() + DEADLINE;
        while fetch_probe(address).is_err() {
            ensure!(Instant::now() < deadline, "tftpd-hpa does not answer on {address}");
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
fn fetch_probe(address: SocketAddrV4) -> Result<()> {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    socket.send_to(b"\0\x01nothing\0octet\0", address)?;
    socket.recv_from(&mut [0; 516])?;
    Ok(())
}

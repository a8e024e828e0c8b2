// SPDX-License-Identifier: Apache-2.0
//! HTTP beside nginx with wrk, and TFTP transfers that are under way while memory is looked at.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tokio::net::UdpSocket;

use super::{CONNECTIONS, ClientSide, Files, Foreign, READY, Row, SERVER, dhcp, row, succeed, typical};

const NGINX_PORT: u16 = 8080;
/// boots' own.
const HTTP_PORT: u16 = 7171;
const SECONDS: &str = "4s";

/// Both servers, one after the other, with the same client.
pub fn http(clients: &ClientSide, files: &Files, dir: &Path) -> Result<Vec<Row>> {
    let _nginx = nginx(files, dir)?;
    let script = format!("/ipxe/script/{}/auto.ipxe", dhcp::mac(1));
    let cases = [
        ("HTTP, 100 MB file, 64 connections", "/images/file", "/images/file", "MB/s"),
        ("HTTP, iPXE script or 1 KB file, 64 connections", script.as_str(), "/script", "/s"),
    ];
    let mut rows = Vec::new();
    for (name, ours, theirs, unit) in cases {
        for (subject, port, path) in [("boots", HTTP_PORT, ours), ("nginx", NGINX_PORT, theirs)] {
            let url = format!("http://{SERVER}:{port}{path}");
            let value = typical(|| {
                let said =
                    succeed(clients.command("wrk").args(["-t2", "-c", CONNECTIONS, "-d", SECONDS, &url]))?;
                ensure!(!said.contains("Non-2xx"), "{url}: {said}");
                if unit == "MB/s" { rate_of_bytes(&said) } else { figure(&said, "Requests/sec:") }
            })?;
            rows.push(row(name, subject, value, unit));
        }
    }
    Ok(rows)
}

fn figure(said: &str, name: &str) -> Result<f64> {
    let line = said.lines().find_map(|line| line.trim().strip_prefix(name));
    line.with_context(|| format!("wrk says no {name}: {said}"))?.trim().parse().context("a figure of wrk")
}

/// wrk counts in powers of 1024.
fn rate_of_bytes(said: &str) -> Result<f64> {
    let line = said.lines().find_map(|line| line.trim().strip_prefix("Transfer/sec:"));
    let text = line.with_context(|| format!("wrk says no transfer rate: {said}"))?.trim();
    let (number, factor) = match text.split_at(text.len().saturating_sub(2)) {
        (number, "GB") => (number, 1024.0_f64.powi(3)),
        (number, "MB") => (number, 1024.0_f64.powi(2)),
        (number, "KB") => (number, 1024.0),
        _ => (text.trim_end_matches('B'), 1.0),
    };
    Ok(number.parse::<f64>()? * factor / 1e6)
}

fn nginx(files: &Files, dir: &Path) -> Result<Foreign> {
    let (home, root) = (dir.join("nginx"), files.root.display());
    std::fs::create_dir_all(&home)?;
    let at = home.display();
    let config = format!(
        "daemon off; worker_processes auto; pid {at}/pid; error_log {at}/error.log; user root;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n\
         client_body_temp_path {at}/a; proxy_temp_path {at}/b; fastcgi_temp_path {at}/c; uwsgi_temp_path {at}/d;\n\
         scgi_temp_path {at}/e; server {{ listen {NGINX_PORT}; root {root}; }} }}\n"
    );
    let file = home.join("nginx.conf");
    std::fs::write(&file, config)?;
    let mut process = Foreign::start("nginx", "nginx", &home.join("log"), |command| {
        command.arg("-c").arg(&file).arg("-p").arg(&home);
    })?;
    let until = std::time::Instant::now() + READY;
    while std::net::TcpStream::connect((SERVER, NGINX_PORT)).is_err() {
        process.0.check()?;
        ensure!(std::time::Instant::now() < until, "nginx does not listen");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Ok(process)
}

/// Clients that have taken the first window of a boot program and go on holding their transfers.
pub async fn hold(count: u32) -> Result<Vec<UdpSocket>> {
    /// Transfers that one address may have.
    const PER_CLIENT: u32 = 25;
    let mut held = Vec::new();
    for number in 0..count {
        let from = Ipv4Addr::from_bits(0x7f01_0001 + number / PER_CLIENT);
        let socket = UdpSocket::bind((from, 0)).await?;
        let request = b"\0\x01ipxe.efi\0octet\0blksize\x001468\0windowsize\x0064\0";
        socket.send_to(request, (Ipv4Addr::LOCALHOST, 69)).await?;
        let mut buffer = [0; 1600];
        let answer = tokio::time::timeout(READY, socket.recv_from(&mut buffer)).await;
        let (_, server) = answer.context("no answer over TFTP")??;
        ensure!(buffer.starts_with(&[0, 6]), "the server does not agree to a transfer");
        socket.send_to(&[0, 4, 0, 0], server).await?;
        held.push(socket);
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_wrk_are_read() {
        let said = "  Latency 1ms\nRequests/sec:  71031.50\nTransfer/sec:      1.50GB\n";
        assert_eq!(figure(said, "Requests/sec:").unwrap(), 71_031.5);
        assert_eq!(rate_of_bytes(said).unwrap().round(), 1611.0);
        assert_eq!(rate_of_bytes("Transfer/sec: 512.00B\n").unwrap() * 1e6, 512.0);
    }
}

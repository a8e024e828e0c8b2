// SPDX-License-Identifier: Apache-2.0
//! The program as an operator starts and stops it: exit codes, health port, what it says about a wrong configuration.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(30);

/// The program with nothing of our own environment that it could take for its configuration.
fn hegel(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hegel"));
    command.env_clear().env("HOME", home).current_dir(home).stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_wrong_configuration_is_64_and_every_mistake_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tink.yaml");
    std::fs::write(
        &file,
        "hegel:\n  http-port: many\n  trusted-proxys: 10.0.0.0/8\nboots:\n  dhcp-mode: any\n",
    )
    .unwrap();
    let output = hegel(dir.path())
        .env("TINKERBELL_LOG_LEVEL", "loud,,=")
        .args(["--config", file.to_str().unwrap(), "--state-dri=/x"])
        .output()
        .unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(64), "{text}");
    assert!(text.starts_with("hegel: 4 mistakes in the configuration:\n"), "{text}");
    for mistake in [
        "--state-dri: state-dri is not a flag of this program; did you mean --state-dir?",
        "TINKERBELL_LOG_LEVEL: hegel.log-level: \"loud,,=\" is neither a number nor a log filter",
        "tink.yaml:2: hegel.http-port: \"many\" is not valid; expected a port number from 0 to 65535",
        "tink.yaml:3: hegel.trusted-proxys is not a setting; did you mean `trusted-proxies`?",
    ] {
        assert!(text.contains(mistake), "{mistake}\n{text}");
    }
}

#[test]
fn no_api_server_anywhere_is_1_and_says_where_it_looked() {
    let dir = tempfile::tempdir().unwrap();
    let state = format!("--state-dir={}", dir.path().display());
    let output = hegel(dir.path()).arg(state).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("give --kubeconfig, set KUBECONFIG, start `tink up` or `tink api`"), "{text}");
}

/// A child that is killed when the test ends in any way.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn it_lives_without_its_api_server_tells_so_and_drains_on_sigterm() {
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = dir.path().join("kubeconfig");
    let nobody = free_address();
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters: [{{name: x, cluster: {{server: 'http://{nobody}'}}}}]\n\
         users: [{{name: x, user: {{}}}}]\ncontexts: [{{name: x, context: {{cluster: x, user: x}}}}]\n"
    );
    std::fs::write(&kubeconfig, text).unwrap();
    let (health, http) = (free_address(), free_address());
    let mut running = Running(
        hegel(dir.path())
            .env("KUBECONFIG", &kubeconfig)
            .env("TINKERBELL_TOOTLES_HEALTH_PORT", health.port().to_string())
            .args(["--tootles-bind-addr=127.0.0.1", &format!("--tootles-http-port={}", http.port())])
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let begun = Instant::now();
    let ready = loop {
        match get(health, "/readyz") {
            Some((status, body)) if body.contains("gate") => break (status, body),
            _ => assert!(begun.elapsed() < DEADLINE, "the health port does not answer"),
        }
    };
    // Whose the machines are stands in the API: until it is known, nothing begins.
    assert_eq!(ready, (503, "gate: waits for leave to work\n".to_owned()));
    assert_eq!(get(health, "/healthz"), Some((200, "ok\n".to_owned())));
    assert_eq!(get(health, "/metrics").map(|(status, _)| status), Some(200));
    assert!(TcpStream::connect(http).is_err(), "it serves nobody yet");

    let pid = i32::try_from(running.0.id()).unwrap();
    assert!(Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap().success());
    let begun = Instant::now();
    let status = loop {
        match running.0.try_wait().unwrap() {
            Some(status) => break status,
            None => assert!(begun.elapsed() < DEADLINE, "it does not end"),
        }
        std::thread::yield_now();
    };
    assert_eq!(status.code(), Some(0));
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

// SPDX-License-Identifier: Apache-2.0
//! Real senders of log messages at the other end of a cable: util-linux's logger in both forms, busybox's syslogd.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::Command;

use crate::dhcp::Cable;
use crate::world::{Boots, Child, SERVER, command, hardware, in_namespace, peer};

const MAC: &str = "52:54:00:00:00:11";
const DEADLINE: Duration = Duration::from_secs(20);

/// The daemon, and a machine that is plugged in and has this address.
async fn site(reserved: &str, address: &str, flags: &[&str]) -> (Boots, Cable) {
    let cable = Cable::plug();
    command("nsenter", &cable.inside(&["ip", "addr", "add", &format!("{address}/24"), "dev", "cli"]));
    let programs = tempfile::tempdir().unwrap();
    for name in ["undionly.kpxe", "ipxe.efi", "snp-arm64.efi"] {
        std::fs::write(programs.path().join(name), name).unwrap();
    }
    let programs = format!("--boot-program-dir={}", programs.path().display());
    let flags = [
        &[programs.as_str(), "--ipxe-http-script-osie-url=http://192.0.2.1/", "--dhcp-enabled=false"],
        flags,
    ]
    .concat();
    (Boots::start(vec![hardware("m1", MAC, reserved)], Vec::new(), &flags).await, cable)
}

/// What curl gets of the log of a machine: status and lines.
async fn log(state: &Path, machine: &str, query: &str) -> (String, Vec<Value>) {
    let access: Value = serde_json::from_slice(&std::fs::read(state.join("boots.access")).unwrap()).unwrap();
    let (url, token) = (access["url"].as_str().unwrap(), access["token"].as_str().unwrap());
    let authorization = format!("Authorization: Bearer {token}");
    let url = format!("{url}/logs/tinkerbell/{machine}?{query}");
    let args = ["-s", "-S", "--max-time", "20", "-H", &authorization, "-w", "%{http_code}", &url];
    let output = Command::new("curl").args(args).kill_on_drop(true).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (lines, status) = text.split_at(text.len() - 3);
    (status.to_owned(), lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// Waits until the log of m1 has that many lines.
async fn lines(state: &Path, count: usize) -> Vec<Value> {
    let begin = Instant::now();
    loop {
        let (_, lines) = log(state, "m1", "").await;
        if lines.len() >= count {
            return lines;
        }
        assert!(begin.elapsed() < DEADLINE, "there are only {lines:#?}");
    }
}

#[test]
#[ignore = "needs root, logger, curl; run ./x test"]
fn what_logger_sends_in_both_forms_is_kept_told_and_read_with_the_token() {
    in_namespace(|| async {
        let (boots, cable) = site("172.31.0.11", "172.31.0.11", &[]).await;
        let logger = |args: &[&str]| {
            let all = [&["logger", "--server", SERVER, "--port", "514", "--udp"], args].concat();
            command("nsenter", &cable.inside(&all));
        };
        logger(&["--rfc3164", "-t", "kernel", "-p", "user.info", "first line"]);
        lines(boots.state_dir(), 1).await;
        logger(&[
            "--rfc5424",
            "-t",
            "tink-worker",
            "--id=77",
            "-p",
            "daemon.err",
            "--msgid",
            "M1",
            "--sd-id",
            "a@32473",
            "--sd-param",
            "k=\"v\"",
            "cannot write /dev/sda: \u{1b}[31mno \"such\" disk",
        ]);
        let lines = lines(boots.state_dir(), 2).await;
        let host = lines[1]["host"].as_str().unwrap().to_owned();
        for (line, expected) in [
            (&lines[0], ["user", "info", "kernel", "", "first line"]),
            (
                &lines[1],
                ["daemon", "err", "tink-worker", "77", "cannot write /dev/sda: #033[31mno \"such\" disk"],
            ),
        ] {
            let text = |key: &str| line[key].as_str().unwrap_or_default();
            assert_eq!(["facility", "severity", "app", "process", "text"].map(text), expected);
            assert!(text("sent").contains(':') && text("host") == host, "{line}");
        }
        assert_eq!(lines[1]["id"], "M1");
        assert!(lines[1]["data"].as_str().unwrap().contains(r#"[a@32473 k="v"]"#), "{}", lines[1]["data"]);

        let told = boots.event("KernelLogged", DEADLINE).await;
        assert_eq!(told, "1 line, the last: first line");
        let told = boots.event("AgentLogged", DEADLINE).await;
        assert!(told.starts_with("1 line with 1 error, the last error: cannot write /dev/sda"), "{told}");

        let since = format!("since={}", lines[0]["at"]);
        assert_eq!(log(boots.state_dir(), "m1", &since).await.1, lines[1..]);
        assert_eq!(log(boots.state_dir(), "m1", "tail=1").await.1, lines[1..]);
        assert_eq!(log(boots.state_dir(), "m2", "").await, ("200".to_owned(), Vec::new()));
        assert_eq!(log(boots.state_dir(), "..%2f..%2fboots.access", "").await.1, Vec::<Value>::new());
        let url = format!("http://{SERVER}:7171/logs/tinkerbell/m1");
        for wrong in ["Authorization: Bearer x", "X: y"] {
            let args = ["-s", "-H", wrong, "-w", "%{http_code}", "-o", "/dev/null", &url];
            let output = Command::new("curl").args(args).output().await.unwrap();
            assert_eq!(output.stdout, b"401", "{wrong}");
        }
        boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, busybox, curl; run ./x test"]
fn a_machine_with_another_address_is_known_by_its_mac_and_its_log_outlives_the_daemon() {
    in_namespace(|| async {
        let state = tempfile::tempdir().unwrap();
        let state_flag = format!("--state-dir={}", state.path().display());
        let (boots, cable) = site("172.31.0.11", "172.31.0.99", &[&state_flag]).await;
        // A folder of its own for the socket /dev/log, which the machine under the test has too.
        let script = format!(
            "set -e; mount -t tmpfs none /dev; mknod -m 666 /dev/null c 1 3; \
             (while kill -0 $$; do busybox logger -t kernel -p user.err 'disk on fire'; sleep 0.1; done) & \
             exec busybox syslogd -n -R {SERVER}:514"
        );
        let args = cable.inside(&["unshare", "--mount", "sh", "-c", &script]);
        let sender = Child::start(&peer("nsenter"), &args);
        // It drops what it gets before it knows its server, so that what it sends first is not known.
        let kept = lines(state.path(), 3).await;
        let fire = kept.iter().find(|line| line["text"] == "disk on fire");
        let fire = fire.map(|line| ["app", "severity", "host"].map(|key| line[key].as_str()));
        assert_eq!(fire, Some([Some("kernel"), Some("err"), None]), "{kept:#?}");
        drop(sender);
        boots.event("KernelLogged", DEADLINE).await;
        // A stranger, from an address of our own side: counted, not kept.
        let stranger = std::net::UdpSocket::bind((SERVER, 0)).unwrap();
        stranger.send_to(b"<13>m1: let me in", (SERVER, 514)).unwrap();
        let begin = Instant::now();
        while boots.metric("boots_syslog_messages_total{result=\"unknown\"}") == 0 {
            assert!(begin.elapsed() < DEADLINE, "the stranger is counted");
            tokio::task::yield_now().await;
        }
        let kept = log(state.path(), "m1", "").await.1;
        boots.stop().await;
        drop(cable);

        let (boots, _cable) = site("172.31.0.11", "172.31.0.11", &[&state_flag]).await;
        assert_eq!(log(state.path(), "m1", "").await, ("200".to_owned(), kept), "with the same token");
        boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, logger; run ./x test"]
fn hostile_datagrams_cost_a_machine_nothing_but_its_own_lines() {
    in_namespace(|| async {
        let (boots, cable) = site("172.31.0.11", "172.31.0.11", &["--syslog-keep=64"]).await;
        let socket = cable.bound("172.31.0.11", 0);
        let junk =
            [&b""[..], b"<", b"<191>1 - - - - - [", &[0xff; 30_000], b"<0>1 - - - - - - \x1b]0;title\x07"];
        for round in 0..2000 {
            socket.send_to(junk[round % junk.len()], (SERVER, 514)).unwrap();
        }
        socket.send_to(b"<14>last: word", (SERVER, 514)).unwrap();
        let begin = Instant::now();
        loop {
            let (_, lines) = log(boots.state_dir(), "m1", "tail=1").await;
            if lines.first().is_some_and(|line| line["text"] == "word") {
                break;
            }
            // What did not fit into the socket's buffer is gone.
            socket.send_to(b"<14>last: word", (SERVER, 514)).unwrap();
            assert!(begin.elapsed() < DEADLINE, "the last line comes through");
        }
        let logs = boots.state_dir().join("boots-logs/tinkerbell");
        let files = std::fs::read_dir(logs).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
        assert!(files.sum::<u64>() <= 64 << 10);
        boots.stop().await;
    });
}

// SPDX-License-Identifier: Apache-2.0
//! The packets that are kept of a boot: made by real clients, read by tshark.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::Command;

use crate::dhcp::Cable;
use crate::world::{Boots, SERVER, command, hardware, in_namespace, peer, workflow};

const MAC: &str = "52:54:00:00:00:11";
const ADDRESS: &str = "172.31.0.11";
const DEADLINE: Duration = Duration::from_secs(20);
/// What is told of a packet: who to whom, and what it is.
const FIELDS: [&str; 9] = [
    "ip.src",
    "ip.dst",
    "dhcp.option.dhcp",
    "tftp.opcode",
    "tftp.source_file",
    "http.request.method",
    "http.request.uri",
    "http.response.code",
    "ipv6.dst",
];

/// The capture of a machine as curl gets it, with or without the token: status and file.
async fn fetch(state: &Path, machine: &str, token: Option<&str>, into: &Path) -> String {
    let access: Value = serde_json::from_slice(&std::fs::read(state.join("boots.access")).unwrap()).unwrap();
    let (url, own) = (access["url"].as_str().unwrap(), access["token"].as_str().unwrap());
    let authorization = format!("Authorization: Bearer {}", token.unwrap_or(own));
    let url = format!("{url}/pcap/tinkerbell/{machine}");
    let into = into.to_str().unwrap();
    let args = ["-s", "-S", "--max-time", "20", "-H", &authorization, "-w", "%{http_code}", "-o", into, &url];
    let output = Command::new("curl").args(args).kill_on_drop(true).output().await.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// What tshark tells of each packet that a filter lets through, fields with a value only.
async fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Vec<String> {
    let fixed = [
        "-n",
        "-d",
        "tcp.port==7171,http",
        "-r",
        file.to_str().unwrap(),
        "-Y",
        filter,
        "-T",
        "fields",
        "-E",
        "separator= ",
    ];
    let fields = fields.iter().flat_map(|field| ["-e", field]);
    let output =
        Command::new(peer("tshark")).args(fixed).args(fields).kill_on_drop(true).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Waits until the capture of m1 has that many packets, and insists that tshark finds none of them malformed. It takes an ERROR of
/// TFTP for one of the packet.
pub async fn capture(state: &Path, dir: &Path, packets: usize) -> PathBuf {
    let (file, begin) = (dir.join("m1.pcapng"), Instant::now());
    loop {
        if fetch(state, "m1", None, &file).await == "200" {
            let all = tshark(&file, "frame", &["frame.number"]).await;
            if all.len() >= packets {
                break;
            }
        }
        assert!(begin.elapsed() < DEADLINE, "{packets} packets are kept");
    }
    let bad = tshark(
        &file,
        "_ws.malformed || (_ws.expert.severity >= 0x600000 && !tftp.error.code)",
        &["frame.number", "_ws.col.Info"],
    );
    assert_eq!(bad.await, [] as [String; 0], "no malformed packet");
    file
}

/// What there is of each packet in a capture, as text.
pub async fn conversation(file: &Path) -> Vec<String> {
    tshark(file, "frame", &FIELDS).await
}

/// The lease of firmware, and the whole boot with it: a program, a file that is not there, a lease of iPXE, script and kernel.
fn expected(script: &str, kernel: &str) -> (Vec<String>, Vec<String>) {
    let (client, server, all) = (ADDRESS, SERVER, "255.255.255.255");
    let path = |url: &str| url.split_once(":7171").unwrap().1.to_owned();
    let dora = |kind: &str, from: &str, to: &str| format!("{from} {to} {kind}");
    let lease = [
        dora("1", "0.0.0.0", all),
        dora("2", server, client),
        dora("3", "0.0.0.0", all),
        dora("5", server, client),
    ];
    let expected = [
        &lease[..],
        &[
            format!("{client} {server} 1 ipxe.efi"),
            format!("{server} {client} 6"),
            format!("{server} {client} 3"),
            format!("{client} {server} 4"),
            format!("{client} {server} 1 {MAC}/missing"),
            format!("{server} {client} 5"),
        ],
        &lease,
        &[
            format!("{client} {server} GET {}", path(script)),
            format!("{server} {client} 200"),
            format!("{client} {server} GET {}", path(kernel)),
            format!("{server} {client} 200"),
        ],
    ];
    (lease.to_vec(), expected.concat())
}

#[test]
#[ignore = "needs root, busybox, curl, tshark; run ./x test"]
fn the_packets_of_a_boot_are_kept_without_its_token_until_the_next_boot() {
    in_namespace(|| async {
        let cable = Cable::plug();
        let dir = tempfile::tempdir().unwrap();
        for name in ["undionly.kpxe", "ipxe.efi", "snp-arm64.efi", "vmlinuz-x86_64", "initramfs-x86_64"] {
            std::fs::write(dir.path().join(name), vec![b'x'; 3000]).unwrap();
        }
        let folder = dir.path().display();
        let flags = [
            format!("--boot-program-dir={folder}"),
            format!("--hook-dir={folder}"),
            "--dhcp-bind-interface=srv".to_owned(),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let boots = Boots::start(vec![hardware("m1", MAC, ADDRESS)], vec![workflow("m1")], &flags).await;
        let state = boots.state_dir().to_owned();

        // A running system leaves nothing.
        cable.udhcpc(&[]).await.expect("a lease");
        // Firmware, its program, iPXE, its script, its kernel.
        let firmware = ["-V", "PXEClient:Arch:00007:UNDI:003001", "-x", "0x5d:0007", "-x", "0x5e:010310"];
        cable.udhcpc(&firmware).await.expect("a lease");
        command("nsenter", &cable.inside(&["ip", "addr", "add", "172.31.0.11/24", "dev", "cli"]));
        let script = format!("http://{SERVER}:7171/ipxe/script/{MAC}/auto.ipxe");
        let kernel = format!("http://{SERVER}:7171/hook/vmlinuz-x86_64");
        let curl = async |url: &str| {
            let args = ["curl", "-s", "-S", "--max-time", "20", "-H", "Authorization: Bearer s3cret", url];
            cable.run(&args).await.stdout
        };
        assert_eq!(curl(&format!("tftp://{SERVER}/ipxe.efi")).await.len(), 3000);
        curl(&format!("tftp://{SERVER}/{MAC}/missing")).await;
        let ipxe = [&firmware[..], &["-x", "0x4d:69505845", "-x", "0xaf:130101"]].concat();
        cable.udhcpc(&ipxe).await.expect("a lease");
        let text = String::from_utf8(curl(&script).await).unwrap();
        let token = text.split(' ').find_map(|word| word.strip_prefix("tink_agent_token=")).unwrap();
        assert_eq!(curl(&kernel).await.len(), 3000);

        let file = capture(&state, dir.path(), 18).await;
        let (lease, expected) = expected(&script, &kernel);
        assert_eq!(conversation(&file).await, expected);
        let told = tshark(&file, "tftp.opcode == 4", &["frame.comment"]).await;
        assert!(
            told[0].starts_with("3000 of 3000 bytes in blocks of 512, 1 in a window, 0 sent again, "),
            "{told:?}"
        );
        let bytes = std::fs::read(&file).unwrap();
        for secret in [token, "s3cret", "xxxxxxxx"] {
            assert!(
                !bytes.windows(secret.len()).any(|part| part == secret.as_bytes()),
                "{secret} is not in it"
            );
        }

        let other = dir.path().join("other");
        assert_eq!(fetch(&state, "m1", Some("x"), &other).await, "401");
        assert_eq!(fetch(&state, "m2", None, &other).await, "404");
        assert_eq!(fetch(&state, "..%2fm1", None, &other).await, "404");

        // The next boot takes its place.
        command("nsenter", &cable.inside(&["ip", "addr", "flush", "dev", "cli"]));
        cable.udhcpc(&firmware).await.expect("a lease");
        let begin = Instant::now();
        while conversation(&capture(&state, dir.path(), 4).await).await != lease {
            assert!(begin.elapsed() < DEADLINE, "only the packets of the last boot are kept");
        }
        assert_eq!(boots.metric("boots_captured_packets_total{result=\"dropped\"}"), 0);
        boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, busybox, curl; run ./x test"]
fn switched_off_nothing_is_kept() {
    in_namespace(|| async {
        let cable = Cable::plug();
        let dir = crate::dhcp::boot_programs();
        let programs = format!("--boot-program-dir={}", dir.path().display());
        let flags = [
            programs.as_str(),
            "--ipxe-http-script-osie-url=http://elsewhere",
            "--dhcp-bind-interface=srv",
            "--pcap-enabled=false",
        ];
        let boots = Boots::start(vec![hardware("m1", MAC, ADDRESS)], Vec::new(), &flags).await;
        let firmware = ["-V", "PXEClient:Arch:00007:UNDI:003001", "-x", "0x5d:0007", "-x", "0x5e:010310"];
        cable.udhcpc(&firmware).await.expect("a lease");
        assert_eq!(fetch(boots.state_dir(), "m1", None, &dir.path().join("m1")).await, "404");
        assert!(!boots.state_dir().join("boots-packets").exists());
        boots.stop().await;
    });
}

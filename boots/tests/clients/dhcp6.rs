// SPDX-License-Identifier: Apache-2.0
//! Real DHCPv6 clients behind a veth pair: dhclient in each of its states, perfdhcp, a relay; and what tshark says of what
//! went over the cable.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ::dhcp::v6::{Duid, Message, MessageType, Options, Packet, Relay, code};
use serde_json::Value;
use tokio::process::Command;

use crate::dhcp::{Cable, boot_programs};
use crate::world::{Boots, Child, command, hardware, in_namespace, peer};

const MAC: &str = "52:54:00:00:00:11";
const SERVER6: &str = "fd00:7::1";
const ADDRESS6: &str = "fd00:7::11";
const DEADLINE: Duration = Duration::from_secs(20);

/// A cable whose ends have their link-local addresses, and the server's its own.
async fn plug() -> Cable {
    let cable = Cable::plug();
    command("ip", &["addr", "add", &format!("{SERVER6}/64"), "dev", "srv", "nodad"]);
    let begin = Instant::now();
    loop {
        let show = ["-6", "-o", "addr", "show", "scope", "link", "-tentative", "dev"];
        let here = Command::new("ip").args([&show[..], &["srv"]].concat()).output().await.unwrap();
        let there = cable.run(&[&["ip"], &show[..], &["cli"]].concat()).await;
        if !here.stdout.is_empty() && !there.stdout.is_empty() {
            return cable;
        }
        assert!(begin.elapsed() < DEADLINE, "both ends have a link-local address");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The daemon with DHCPv6 on the cable.
async fn start(machines: Vec<Value>, flags: &[&str]) -> (Boots, tempfile::TempDir) {
    let dir = boot_programs();
    let programs = format!("--boot-program-dir={}", dir.path().display());
    let public = format!("--public-ipv6={SERVER6}");
    let fixed = [
        programs.as_str(),
        &public,
        "--ipxe-http-script-osie-url=http://elsewhere",
        "--dhcp-enabled=false",
        "--bind-address=::",
        "--dhcpv6-enabled",
        "--dhcpv6-bind-interface=srv",
    ];
    (Boots::start(machines, Vec::new(), &[&fixed, flags].concat()).await, dir)
}

fn machine(name: &str, mac: &str, address: &str) -> Value {
    let mut machine = hardware(name, mac, address);
    let dhcp = &mut machine["spec"]["interfaces"][0]["dhcp"];
    dhcp["ip"] = serde_json::json!({ "address": address });
    dhcp["name_servers"] = serde_json::json!(["fd00:7::53"]);
    dhcp["domain_name"] = "lab.example".into();
    machine
}

/// A capture of what goes over the server's end of the cable.
struct Capture {
    dumpcap: Child,
    file: PathBuf,
}

impl Capture {
    async fn start(dir: &Path) -> Self {
        let file = dir.join("packets.pcapng");
        let dumpcap = Child::start(&peer("dumpcap"), &["-q", "-i", "srv", "-w", file.to_str().unwrap()]);
        let begin = Instant::now();
        // The head of the file is written once it captures.
        while std::fs::metadata(&file).map_or(0, |file| file.len()) == 0 {
            assert!(begin.elapsed() < DEADLINE, "dumpcap captures");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { dumpcap, file }
    }

    /// Ends it and insists that no DHCPv6 packet is malformed, and that there are at least so many.
    async fn check(self, at_least: usize) {
        let tshark = |filter: &'static str| {
            let args = ["-n", "-r", self.file.to_str().unwrap(), "-Y", filter];
            Command::new(peer("tshark")).args(args).kill_on_drop(true).output()
        };
        let begin = Instant::now();
        loop {
            let all = tshark("dhcpv6").await.unwrap();
            let text = String::from_utf8_lossy(&all.stdout).into_owned();
            if text.lines().count() >= at_least {
                break;
            }
            assert!(begin.elapsed() < DEADLINE, "{text}\n{}", String::from_utf8_lossy(&all.stderr));
        }
        let bad = tshark("_ws.malformed || (dhcpv6 && _ws.expert.severity >= 0x600000)").await.unwrap();
        assert_eq!(String::from_utf8_lossy(&bad.stdout), "", "no malformed packet");
        drop(self.dumpcap);
    }
}

/// dhclient with a script that writes the reason and what it is told.
struct Dhclient<'a> {
    cable: &'a Cable,
    script: PathBuf,
    told: PathBuf,
}

impl<'a> Dhclient<'a> {
    fn new(cable: &'a Cable) -> Self {
        let told = cable.dir.path().join("told");
        let body = format!(
            "echo $reason $new_ip6_address $new_dhcp6_name_servers $new_dhcp6_domain_search >> {}",
            told.display()
        );
        Self { cable, script: cable.script("dhclient6", &body), told }
    }

    /// Runs it to its first lease, or, with `-r` or `-S`, to its end; gives the last line that was told.
    async fn run(&self, args: &[&str]) -> String {
        std::fs::remove_file(&self.told).unwrap_or_default();
        let dir = self.cable.dir.path();
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let (program, script) = (path(&peer("dhclient")), path(&self.script));
        let (leases, pid) = (path(&dir.join("leases6")), path(&dir.join("pid6")));
        let fixed = [&program, "-6", "-1", "-v", "-D", "LL", "-sf", &script, "-lf", &leases, "-pf", &pid];
        let output = self.cable.run(&[&fixed[..], args, &["cli"]].concat()).await;
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        let told = std::fs::read_to_string(&self.told).unwrap();
        told.lines().last().unwrap().trim().to_owned()
    }

    /// Ends the one that went into the background, without a word to the server.
    async fn kill(&self) {
        let pid = self.cable.dir.path().join("pid6");
        let begin = Instant::now();
        let number = loop {
            let text = std::fs::read_to_string(&pid).unwrap_or_default();
            if text.ends_with('\n') {
                break text.trim().to_owned();
            }
            assert!(begin.elapsed() < DEADLINE, "dhclient writes its process number");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        command("kill", &[&number]);
        std::fs::remove_file(&pid).unwrap();
    }
}

#[test]
#[ignore = "needs root, dhclient, dumpcap, tshark; run ./x test"]
fn dhclient_gets_confirms_and_releases_its_reservation() {
    in_namespace(|| async {
        let cable = plug().await;
        let capture = Capture::start(cable.dir.path()).await;
        let (boots, _dir) = start(vec![machine("m1", MAC, ADDRESS6)], &["--dhcpv6-mode=reservation"]).await;
        let client = Dhclient::new(&cable);
        let line = format!("{ADDRESS6} fd00:7::53 lab.example.");
        assert_eq!(client.run(&[]).await, format!("BOUND6 {line}"));
        client.kill().await;
        assert_eq!(client.run(&[]).await, format!("BOUND6 {line}"), "a lease from before is confirmed");
        for kind in ["SOLICIT", "CONFIRM"] {
            assert_eq!(boots.metric(&format!("dhcp_total{{op=\"recv\",type=\"{kind}\"}}")), 1, "{kind}");
        }
        let released = client.run(&["-r"]).await;
        assert!(released.starts_with("RELEASE6"), "{released}");
        let begin = Instant::now();
        // dhclient does not wait for what it is answered.
        while boots.metric("dhcp_total{op=\"send\",type=\"REPLY\"}") < 3 {
            assert!(begin.elapsed() < DEADLINE, "Request, Confirm and Release are answered");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(boots.events().is_empty(), "a running system's lease is no boot");
        capture.check(8).await;
        boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, dhclient; run ./x test"]
fn a_lease_is_renewed_and_taken_over_by_another_server() {
    in_namespace(|| async {
        let cable = plug().await;
        let mut machine = machine("m1", MAC, ADDRESS6);
        machine["spec"]["interfaces"][0]["dhcp"]["lease_time"] = 60.into();
        let flags = ["--dhcpv6-mode=reservation"];
        let (boots, _dir) = start(vec![machine.clone()], &flags).await;
        let client = Dhclient::new(&cable);
        assert!(client.run(&[]).await.starts_with("BOUND6 "));
        // Another server, by its DUID, hears no Renew that names the first, but a Rebind.
        boots.stop().await;
        let other = [flags[0], "--dhcpv6-server-duid=00:03:00:01:02:00:00:00:00:01"];
        let (boots, _dir) = start(vec![machine], &other).await;
        let begin = Instant::now();
        while !std::fs::read_to_string(&client.told).unwrap().contains("REBIND6 ") {
            assert!(begin.elapsed() < Duration::from_secs(90), "{:?}", std::fs::read_to_string(&client.told));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(boots.metric("boots_dhcp_silence_total{reason=\"other-server\"}") >= 1, "Renew is not ours");
        assert_eq!(boots.metric("dhcp_total{op=\"recv\",type=\"SOLICIT\"}"), 0, "it kept its lease");
        client.kill().await;
        boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, dhclient, curl; run ./x test"]
fn a_stateless_client_learns_the_network_and_a_machine_boots_over_http() {
    in_namespace(|| async {
        let cable = plug().await;
        let (boots, _dir) = start(vec![machine("m1", MAC, ADDRESS6)], &[]).await;
        let told = Dhclient::new(&cable).run(&["-S"]).await;
        assert_eq!(told, "RENEW6 fd00:7::53 lab.example.");
        command("nsenter", &cable.inside(&["ip", "addr", "add", "fd00:7::77/64", "dev", "cli", "nodad"]));
        let url = format!("http://[{SERVER6}]:7171/ipxe/script/{MAC}/auto6.ipxe");
        let script = cable.run(&["curl", "-s", "-S", "-f", "--max-time", "20", &url]).await;
        let script = String::from_utf8(script.stdout).unwrap();
        assert!(script.contains(&format!("\nset syslog6 {SERVER6}\n")), "{script}");
        assert!(script.contains(&format!(" grpc_authority=[{SERVER6}]:42113 ")), "{script}");
        boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, dhclient; run ./x test"]
fn strangers_hear_nothing() {
    in_namespace(|| async {
        let cable = plug().await;
        let other = machine("m2", "52:54:00:00:00:12", "fd00:7::12");
        let (boots, _dir) = start(vec![other], &["--dhcpv6-mode=reservation"]).await;
        let dir = cable.dir.path();
        let (program, leases) = (peer("dhclient"), dir.join("leases6"));
        let args = [
            "-6",
            "-1",
            "-D",
            "LL",
            "-sf",
            "/bin/true",
            "-lf",
            leases.to_str().unwrap(),
            "-pf",
            "/dev/null",
            "cli",
        ];
        let _client = Child::start(
            &peer("nsenter"),
            &cable.inside(&[&[program.to_str().unwrap()], &args[..]].concat()),
        );
        let begin = Instant::now();
        while boots.metric("boots_dhcp_silence_total{reason=\"unknown-mac\"}") < 2 {
            assert!(begin.elapsed() < DEADLINE, "it asks twice");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(boots.metric("dhcp_total{op=\"send\",type=\"ADVERTISE\"}"), 0);
        boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, dumpcap, tshark, curl; run ./x test"]
fn a_relay_is_answered_and_firmware_behind_it_is_told_its_file() {
    in_namespace(|| async {
        let cable = plug().await;
        let capture = Capture::start(cable.dir.path()).await;
        let (boots, _dir) = start(vec![machine("m1", MAC, ADDRESS6)], &["--dhcpv6-mode=reservation"]).await;
        command("nsenter", &cable.inside(&["ip", "addr", "add", "fd00:7::77/64", "dev", "cli", "nodad"]));
        let socket = cable.bound("fd00:7::77", 547);
        let mut solicit = Message::new(MessageType::Solicit, [1, 2, 3]);
        solicit.options.add(code::CLIENT_ID, Duid::uuid([7; 16]).as_bytes());
        solicit.options.add(code::IA_NA, [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        solicit.options.add_codes(code::REQUEST_LIST, &[59, 60, 23]);
        solicit.options.add(code::CLIENT_ARCH, [0, 16]);
        solicit.options.add_vendor_class(343, "HTTPClient:Arch:00016:UNDI:003016");
        let mut options = Options::default();
        options.add(code::INTERFACE_ID, *b"port7");
        options.add(code::CLIENT_LINK_LAYER, [0, 1, 0x52, 0x54, 0, 0, 0, 0x11]);
        let [link, peer] = ["fd00:7::77", "fe80::2"].map(|address| address.parse().unwrap());
        let packet = Packet { relays: vec![Relay { hops: 0, link, peer, options }], message: solicit };
        let bytes = packet.encode();
        let answer = tokio::task::spawn_blocking(move || {
            socket.send_to(&bytes, (SERVER6, 547)).unwrap();
            let mut buffer = [0; 1500];
            let (length, from) = socket.recv_from(&mut buffer).expect("an answer");
            (from.to_string(), Packet::parse_reply(&buffer[..length]).unwrap())
        });
        let (from, answer) = answer.await.unwrap();
        assert_eq!(from, format!("[{SERVER6}]:547"));
        assert_eq!(answer.relays[0].options.get(code::INTERFACE_ID), Some(&b"port7"[..]));
        let url = answer.message.options.get(code::BOOT_FILE_URL).unwrap();
        let expected = format!("http://[{SERVER6}]:7171/ipxe/binary/{MAC}/ipxe.efi");
        assert_eq!(String::from_utf8_lossy(url), expected);
        let event = boots.event("DhcpOffered", DEADLINE).await;
        assert_eq!(
            event,
            format!("{ADDRESS6} to HTTPClient firmware of x64 UEFI HTTP, boot file {expected}")
        );
        capture.check(2).await;
        let kept = crate::pcap::capture(boots.state_dir(), cable.dir.path(), 2).await;
        let packets = crate::pcap::conversation(&kept).await;
        assert_eq!(packets, [SERVER6, "fd00:7::77"], "{packets:?}");
        boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, perfdhcp, dumpcap, tshark; run ./x test"]
fn perfdhcp_loses_nothing() {
    in_namespace(|| async {
        const MACHINES: u8 = 50;
        let cable = plug().await;
        let capture = Capture::start(cable.dir.path()).await;
        // perfdhcp counts up from its own MAC, and makes DUIDs of it.
        let machines = (0..MACHINES).map(|i| {
            let mac = format!("00:0c:01:02:03:{:02x}", 4 + i);
            machine(&format!("m{i}"), &mac, &format!("fd00:7::1:{i:x}"))
        });
        let (boots, _dir) = start(machines.collect(), &["--dhcpv6-mode=reservation"]).await;
        let (perfdhcp, range) = (peer("perfdhcp"), MACHINES.to_string());
        let args = [
            perfdhcp.to_str().unwrap(),
            "-6",
            "-l",
            "cli",
            "-r",
            "100",
            "-R",
            &range,
            "-n",
            "300",
            "-W",
            "1000000",
        ];
        let output = cable.run(&[&args[..], &["all"]].concat()).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        let drops: Vec<&str> = text.lines().filter(|line| line.starts_with("drops: ")).collect();
        assert_eq!(drops, ["drops: 0", "drops: 0"], "{text}");
        // On a busy machine perfdhcp begins some more at once than it was told to.
        let numbers = text.lines().filter_map(|line| line.strip_prefix("received packets: ")?.parse().ok());
        let received: Vec<u64> = numbers.collect();
        let sent = |kind: &str| boots.metric(&format!("dhcp_total{{op=\"send\",type=\"{kind}\"}}"));
        assert_eq!(received, [sent("ADVERTISE"), sent("REPLY")], "{text}");
        assert!(received.iter().all(|packets| *packets >= 300), "{text}");
        capture.check(usize::try_from(received.iter().sum::<u64>() * 2).unwrap()).await;
        boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, logger; run ./x test"]
fn what_a_machine_logs_over_ipv6_is_known_by_its_address() {
    in_namespace(|| async {
        let cable = plug().await;
        let (boots, _dir) = start(vec![machine("m1", MAC, ADDRESS6)], &[]).await;
        let metric = |what: &str| boots.metric(&format!("boots_syslog_messages_total{{result=\"{what}\"}}"));
        for (i, address) in (0..).zip([ADDRESS6, "fd00:7::5054:ff:fe00:11", "fd00:7::99"]) {
            let with_length = format!("{address}/64");
            command("nsenter", &cable.inside(&["ip", "addr", "add", &with_length, "dev", "cli", "nodad"]));
            let args = [
                "logger",
                "--server",
                SERVER6,
                "--port",
                "514",
                "--udp",
                "--rfc3164",
                "-t",
                "kernel",
                "line",
            ];
            command("nsenter", &cable.inside(&args));
            command("nsenter", &cable.inside(&["ip", "addr", "del", &with_length, "dev", "cli"]));
            let begin = Instant::now();
            while metric("kept") + metric("unknown") <= i {
                assert!(begin.elapsed() < DEADLINE, "the line from {address} comes");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        assert_eq!((metric("kept"), metric("unknown")), (2, 1), "reserved, made of the MAC, another");
        boots.stop().await;
    });
}

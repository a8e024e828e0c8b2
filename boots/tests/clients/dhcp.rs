// SPDX-License-Identifier: Apache-2.0
//! Real DHCP clients behind a veth pair, on every path that an answer can take.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::Command;

use crate::world::{Boots, Child, SERVER, command, hardware, in_namespace, peer};

const MAC: &str = "52:54:00:00:00:11";
const ADDRESS: &str = "172.31.0.11";

/// A client in a namespace of its own, at the other end of a cable.
pub struct Cable {
    holder: Child,
    pub dir: tempfile::TempDir,
}

impl Cable {
    pub fn plug() -> Self {
        Self::plug_into("srv", SERVER, MAC)
    }

    /// A cable into an interface of that name and address, with a client of that MAC.
    fn plug_into(server: &str, address: &str, mac: &str) -> Self {
        command("ip", &["link", "add", server, "type", "veth", "peer", "name", "cli"]);
        command("ip", &["addr", "add", &format!("{address}/24"), "dev", server]);
        command("ip", &["link", "set", server, "up"]);
        command("ip", &["link", "set", "cli", "address", mac]);
        let holder = Child::start(&peer("unshare"), &["--net", "sleep", "300"]);
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let theirs = format!("/proc/{}/ns/net", holder.id());
        let deadline = Instant::now() + Duration::from_secs(10);
        // The holder has left our namespace once its link differs.
        while std::fs::read_link(&theirs).is_ok_and(|link| link == own) {
            assert!(Instant::now() < deadline, "unshare works");
            std::thread::yield_now();
        }
        command("ip", &["link", "set", "cli", "netns", &holder.id().to_string()]);
        let cable = Self { holder, dir: tempfile::tempdir().unwrap() };
        command("nsenter", &cable.inside(&["ip", "link", "set", "cli", "up"]));
        cable
    }

    /// Arguments of nsenter for a command at the client's end.
    pub fn inside<'a>(&self, args: &[&'a str]) -> Vec<&'a str> {
        let net: &'a str = Box::leak(format!("--net=/proc/{}/ns/net", self.holder.id()).into_boxed_str());
        std::iter::once(net).chain(args.iter().copied()).collect()
    }

    /// A UDP socket at the client's end, which gets this address for it.
    fn socket(&self, address: &str, port: u16) -> std::net::UdpSocket {
        command("nsenter", &self.inside(&["ip", "addr", "add", &format!("{address}/24"), "dev", "cli"]));
        self.bound(address, port)
    }

    /// A UDP socket at the client's end, on an address that it has.
    pub fn bound(&self, address: &str, port: u16) -> std::net::UdpSocket {
        let space = std::fs::File::open(format!("/proc/{}/ns/net", self.holder.id())).unwrap();
        let address = (address.to_owned(), port);
        let thread = std::thread::spawn(move || {
            nix::sched::setns(space, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let socket = std::net::UdpSocket::bind(address).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            socket
        });
        thread.join().unwrap()
    }

    pub fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
        path
    }

    pub async fn run(&self, args: &[&str]) -> std::process::Output {
        let args = self.inside(args);
        let running = Command::new("nsenter").args(args).kill_on_drop(true).output();
        tokio::time::timeout(Duration::from_secs(30), running).await.expect("the client ends").unwrap()
    }

    /// What udhcpc was told, by the names of its script's variables. Nothing when it got no lease.
    pub async fn udhcpc(&self, args: &[&str]) -> Option<BTreeMap<String, String>> {
        let out = self.dir.path().join("lease");
        std::fs::remove_file(&out).unwrap_or_default();
        let body = format!("[ $1 = bound ] && env > {} || true", out.display());
        let script = self.script("udhcpc", &body);
        let fixed = ["busybox", "udhcpc", "-i", "cli", "-f", "-q", "-n", "-t", "3", "-T", "1", "-s"];
        let mut all = fixed.to_vec();
        all.push(script.to_str().unwrap());
        all.extend(args);
        self.run(&all).await;
        let text = std::fs::read_to_string(out).ok()?;
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Some(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }
}

async fn start(machines: Vec<Value>) -> (Boots, tempfile::TempDir) {
    start_with(machines, &["--dhcp-bind-interface=srv"]).await
}

async fn start_with(machines: Vec<Value>, flags: &[&str]) -> (Boots, tempfile::TempDir) {
    let dir = boot_programs();
    let flag = format!("--boot-program-dir={}", dir.path().display());
    let fixed = [flag.as_str(), "--ipxe-http-script-osie-url=http://elsewhere"];
    (Boots::start(machines, Vec::new(), &[&fixed, flags].concat()).await, dir)
}

pub fn boot_programs() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["undionly.kpxe", "ipxe.efi", "snp-arm64.efi"] {
        std::fs::write(dir.path().join(name), name).unwrap();
    }
    dir
}

#[test]
#[ignore = "needs root, busybox"]
fn udhcpc_gets_its_reservation_directly_and_by_broadcast() {
    in_namespace(|| async {
        let cable = Cable::plug();
        let (boots, _dir) = start(vec![hardware("m1", MAC, ADDRESS)]).await;
        for args in [&[][..], &["-B"], &["-r", "172.31.0.77"]] {
            let lease = cable.udhcpc(args).await.unwrap_or_else(|| panic!("no lease with {args:?}"));
            let told = ["ip", "subnet", "router", "dns", "hostname", "lease", "serverid", "siaddr"];
            assert_eq!(
                told.map(|key| lease.get(key).map_or("", String::as_str)),
                [ADDRESS, "255.255.255.0", SERVER, "1.1.1.1", "m1", "3600", SERVER, SERVER],
                "{args:?}"
            );
            assert!(!lease.contains_key("boot_file"), "a plain client is told no boot file");
        }
        assert!(boots.events().is_empty(), "a running system's lease is no boot");
        boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, busybox"]
fn a_network_boot_client_is_told_its_file() {
    in_namespace(|| async {
        let cable = Cable::plug();
        let (boots, _dir) = start(vec![hardware("m1", MAC, ADDRESS)]).await;
        let pxe = ["-V", "PXEClient:Arch:00007:UNDI:003001", "-x", "0x5d:0007", "-x", "0x5e:010310"];
        let lease = cable.udhcpc(&pxe).await.unwrap();
        assert_eq!((lease["boot_file"].as_str(), lease["siaddr"].as_str()), ("ipxe.efi", SERVER));
        let ipxe = [&pxe[..], &["-x", "0x4d:69505845", "-x", "0xaf:130101"]].concat();
        let lease = cable.udhcpc(&ipxe).await.unwrap();
        assert_eq!(lease["boot_file"], format!("http://{SERVER}:7171/ipxe/script/{MAC}/auto.ipxe"));
        let message = boots.event("DhcpAcknowledged", Duration::from_secs(5)).await;
        assert_eq!(message, format!("{ADDRESS} to PXEClient firmware of x64 UEFI, boot file ipxe.efi"));
        boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, busybox"]
fn strangers_and_switched_off_interfaces_hear_nothing() {
    in_namespace(|| async {
        let cable = Cable::plug();
        let (boots, _dir) = start(vec![hardware("m2", "52:54:00:00:00:12", "172.31.0.12")]).await;
        assert!(cable.udhcpc(&[]).await.is_none());
        assert!(boots.metric("boots_dhcp_silence_total{reason=\"unknown-mac\"}") >= 3);
        boots.stop().await;
        let mut off = hardware("m1", MAC, ADDRESS);
        off["spec"]["interfaces"][0]["disableDhcp"] = true.into();
        let (boots, _dir) = start(vec![off]).await;
        assert!(cable.udhcpc(&[]).await.is_none());
        assert!(boots.metric("boots_dhcp_silence_total{reason=\"disabled\"}") >= 3);
        boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, dhclient"]
fn dhclient_with_a_lease_from_elsewhere_is_refused_and_begins_anew() {
    in_namespace(|| async {
        let cable = Cable::plug();
        let (boots, _dir) = start(vec![hardware("m1", MAC, ADDRESS)]).await;
        let leases = cable.dir.path().join("leases");
        let elsewhere = "lease {\n interface \"cli\";\n fixed-address 10.9.9.9;\n option subnet-mask 255.255.255.0;\n \
                         option dhcp-server-identifier 10.9.9.1;\n renew 5 2037/01/01 00:00:00;\n \
                         rebind 5 2037/01/01 00:00:00;\n expire 5 2037/01/01 00:00:00;\n}\n";
        std::fs::write(&leases, elsewhere).unwrap();
        let out = cable.dir.path().join("bound");
        let body =
            format!("case $reason in BOUND|REBOOT) echo $reason $new_ip_address > {};; esac", out.display());
        let script = cable.script("dhclient", &body);
        dhclient(&cable, &script, &leases).await;
        assert_eq!(std::fs::read_to_string(&out).unwrap(), format!("BOUND {ADDRESS}\n"));
        assert_eq!(boots.metric("dhcp_total{op=\"send\",type=\"NAK\"}"), 1);
        dhclient(&cable, &script, &leases).await;
        assert_eq!(
            std::fs::read_to_string(&out).unwrap(),
            format!("REBOOT {ADDRESS}\n"),
            "INIT-REBOOT is granted"
        );
        boots.stop().await;
    });
}

async fn dhclient(cable: &Cable, script: &Path, leases: &Path) {
    let (program, pid) = (peer("dhclient"), cable.dir.path().join("pid"));
    // One of an earlier run would name a process that is gone.
    std::fs::remove_file(&pid).unwrap_or_default();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (program, script, leases, pid) = (path(&program), path(script), path(leases), path(&pid));
    let output = cable.run(&[&program, "-1", "-v", "-sf", &script, "-lf", &leases, "-pf", &pid, "cli"]).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // It went into the background as a process of this test, which writes its number once it is there.
    let deadline = Instant::now() + Duration::from_secs(20);
    let number = loop {
        let text = std::fs::read_to_string(&pid).unwrap_or_default();
        if text.ends_with('\n') {
            break text.trim().to_owned();
        }
        assert!(Instant::now() < deadline, "dhclient writes its process number");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    command("kill", &[&number]);
}

#[test]
#[ignore = "needs root, busybox"]
fn a_renewing_client_is_answered_at_its_address() {
    in_namespace(|| async {
        let cable = Cable::plug();
        let mut machine = hardware("m1", MAC, ADDRESS);
        machine["spec"]["interfaces"][0]["dhcp"]["lease_time"] = 10.into();
        let (boots, _dir) = start(vec![machine]).await;
        let renewed = cable.dir.path().join("renewed");
        let body = format!(
            "case $1 in bound) ip addr add $ip/24 dev cli;; renew) echo $ip > {};; esac",
            renewed.display()
        );
        let script = cable.script("udhcpc", &body);
        let args = ["busybox", "udhcpc", "-i", "cli", "-f", "-n", "-s", script.to_str().unwrap()];
        let _client = Child::start(&peer("nsenter"), &cable.inside(&args));
        let deadline = Instant::now() + Duration::from_secs(60);
        while !renewed.exists() {
            assert!(Instant::now() < deadline, "the lease is renewed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(boots.metric("dhcp_total{op=\"recv\",type=\"DISCOVER\"}"), 1);
        assert!(boots.metric("dhcp_total{op=\"send\",type=\"ACK\"}") >= 2);
        boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, busybox; run ./x test"]
fn each_interface_answers_with_its_own_address() {
    in_namespace(|| async {
        let other_mac = "52:54:00:00:00:12";
        let (cable, other) = (Cable::plug(), Cable::plug_into("other", "10.77.0.1", other_mac));
        let mut second = hardware("m2", other_mac, "10.77.0.12");
        second["spec"]["interfaces"][0]["dhcp"]["ip"]["gateway"] = "10.77.0.1".into();
        let (boots, _dir) = start_with(vec![hardware("m1", MAC, ADDRESS), second], &[]).await;
        for (cable, address, server) in [(&cable, ADDRESS, SERVER), (&other, "10.77.0.12", "10.77.0.1")] {
            for args in [&[][..], &["-B"]] {
                let lease = cable.udhcpc(args).await.unwrap_or_else(|| panic!("no lease from {server}"));
                assert_eq!((lease["ip"].as_str(), lease["serverid"].as_str()), (address, server));
            }
        }
        boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, busybox; run ./x test"]
fn only_the_named_interface_is_answered() {
    in_namespace(|| async {
        let other_mac = "52:54:00:00:00:12";
        let (cable, other) = (Cable::plug(), Cable::plug_into("other", "172.31.0.2", other_mac));
        let machines = vec![hardware("m1", MAC, ADDRESS), hardware("m2", other_mac, "172.31.0.12")];
        let (boots, _dir) = start_with(machines, &["--dhcp-bind-interface=other"]).await;
        assert!(other.udhcpc(&[]).await.is_some());
        let heard = boots.metric("dhcp_total{op=\"recv\",type=\"DISCOVER\"}");
        assert!(cable.udhcpc(&[]).await.is_none());
        assert_eq!(boots.metric("dhcp_total{op=\"recv\",type=\"DISCOVER\"}"), heard);
        boots.stop().await;
    });
}

#[test]
#[ignore = "needs root; run ./x test"]
fn a_relay_is_answered_from_the_address_that_it_asked() {
    in_namespace(|| async {
        let cable = Cable::plug();
        let second = "172.31.0.2";
        command("ip", &["addr", "add", &format!("{second}/24"), "dev", "srv"]);
        let (boots, _dir) = start(vec![hardware("m1", MAC, ADDRESS)]).await;
        let relay = cable.socket("172.31.0.77", 67);
        let mut discover = message(::dhcp::MessageType::Discover);
        discover.giaddr = "172.31.0.77".parse().unwrap();
        discover.options.set(::dhcp::code::RELAY_AGENT, *b"\x01\x04port");
        let packet = discover.encode(usize::MAX).unwrap().bytes;
        let answers = tokio::task::spawn_blocking(move || {
            [SERVER, second].map(|server| {
                relay.send_to(&packet, (server, 67)).unwrap();
                let mut buffer = [0; 1500];
                let (length, from) = relay.recv_from(&mut buffer).expect("an answer");
                (from.to_string(), buffer[..length].to_vec())
            })
        });
        let answers = answers.await.unwrap();
        for (server, (from, bytes)) in [SERVER, second].into_iter().zip(answers) {
            assert_eq!(from, format!("{server}:67"));
            let offer = ::dhcp::Message::parse(&bytes).unwrap();
            assert_eq!(
                (offer.message_type(), offer.yiaddr.to_string()),
                (Some(::dhcp::MessageType::Offer), ADDRESS.to_owned())
            );
            assert_eq!(offer.options.get(::dhcp::code::RELAY_AGENT).unwrap(), b"\x01\x04port");
        }
        boots.stop().await;
    });
}

#[test]
#[ignore = "needs root; run ./x test"]
fn a_relay_is_no_client_and_each_machine_behind_it_has_its_own_limit() {
    in_namespace(|| async {
        const MACHINES: u8 = 20;
        const BURST: u64 = 16 * 2;
        let cable = Cable::plug();
        let machine =
            |i: u8| hardware(&format!("m{i}"), &format!("52:54:00:00:01:{i:02x}"), &format!("172.31.0.{i}"));
        let (boots, _dir) = start((100..100 + MACHINES).map(machine).collect()).await;
        let relay = cable.socket("172.31.0.77", 67);
        let asked = move |i: u8| {
            let mac = [0x52, 0x54, 0, 0, 1, i];
            let mut discover = ::dhcp::Message::request(::dhcp::MessageType::Discover, mac, u32::from(i));
            discover.giaddr = "172.31.0.77".parse().unwrap();
            relay.send_to(&discover.encode(usize::MAX).unwrap().bytes, (SERVER, 67)).unwrap();
            let mut buffer = [0; 1500];
            relay.recv_from(&mut buffer).is_ok_and(|(length, _)| {
                let offer = ::dhcp::Message::parse(&buffer[..length]).unwrap();
                offer.yiaddr.octets() == [172, 31, 0, i]
            })
        };
        let answered = tokio::task::spawn_blocking(move || {
            let rounds = (0..BURST).map(|_| (100..100 + MACHINES).filter(|i| asked(*i)).count());
            rounds.sum::<usize>()
        });
        assert_eq!(answered.await.unwrap(), usize::from(MACHINES) * usize::try_from(BURST).unwrap());
        assert_eq!(boots.metric("boots_dhcp_silence_total{reason=\"rate\"}"), 0);
        boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, busybox; run ./x test"]
fn a_pool_remembers_its_clients_over_a_restart() {
    in_namespace(|| async {
        let cable = Cable::plug();
        let file = format!("--dhcp-lease-file={}", cable.dir.path().join("state/leases").display());
        let pool = "--dhcp-pools=172.31.0.100-172.31.0.102/24 router=172.31.0.1 dns=9.9.9.9 lease=1h";
        let flags = ["--dhcp-bind-interface=srv", &file, pool];
        // The second address is some machine's.
        let machines = vec![hardware("m2", "52:54:00:00:00:12", "172.31.0.101")];
        let address = |mac: &'static str| {
            command("nsenter", &cable.inside(&["ip", "link", "set", "cli", "down"]));
            command("nsenter", &cable.inside(&["ip", "link", "set", "cli", "address", mac, "up"]));
            async {
                let lease = cable.udhcpc(&[]).await?;
                assert_eq!((lease["lease"].as_str(), lease["dns"].as_str()), ("3600", "9.9.9.9"));
                Some(lease["ip"].clone())
            }
        };
        let [one, two, three] = ["52:54:00:00:00:a1", "52:54:00:00:00:a2", "52:54:00:00:00:a3"];
        let (boots, dir) = start_with(machines.clone(), &flags).await;
        assert_eq!(address(one).await.as_deref(), Some("172.31.0.100"));
        assert_eq!(address(two).await.as_deref(), Some("172.31.0.102"));
        boots.stop().await;
        drop(dir);
        let (boots, _dir) = start_with(machines, &flags).await;
        assert_eq!(address(three).await, None, "all are held");
        assert_eq!(address(two).await.as_deref(), Some("172.31.0.102"));
        assert_eq!(address(one).await.as_deref(), Some("172.31.0.100"));
        assert!(boots.metric("boots_dhcp_silence_total{reason=\"pool-empty\"}") >= 1);
        boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, busybox; run ./x test"]
fn an_address_that_somebody_has_unasked_is_not_given_from_a_pool() {
    in_namespace(|| async {
        let (cable, squatter) = (Cable::plug(), Cable::plug_into("other", "10.77.0.1", "52:54:00:00:00:99"));
        // Both are on one network.
        command("ip", &["link", "add", "br0", "type", "bridge"]);
        command("ip", &["addr", "flush", "dev", "srv"]);
        for port in ["srv", "other"] {
            command("ip", &["link", "set", port, "master", "br0"]);
        }
        command("ip", &["addr", "add", &format!("{SERVER}/24"), "dev", "br0"]);
        command("ip", &["link", "set", "br0", "up"]);
        command("nsenter", &squatter.inside(&["ip", "addr", "add", "172.31.0.100/24", "dev", "cli"]));
        let pool = "--dhcp-pools=172.31.0.100-172.31.0.102/24 lease=1h";
        let file = format!("--dhcp-lease-file={}", cable.dir.path().join("leases").display());
        let (boots, _dir) = start_with(Vec::new(), &["--dhcp-bind-interface=br0", pool, &file]).await;
        let lease = cable.udhcpc(&[]).await.expect("another address");
        assert_eq!(lease["ip"], "172.31.0.101");
        assert_eq!(boots.metric("boots_dhcp_silence_total{reason=\"address-in-use\"}"), 1);
        assert!(boots.metric("dhcp_total{op=\"recv\",type=\"DISCOVER\"}") >= 2, "it asked again");
        boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, busybox; run ./x test"]
fn a_rebinding_client_is_taken_over_by_another_server() {
    in_namespace(|| async {
        let cable = Cable::plug();
        let mut machine = hardware("m1", MAC, ADDRESS);
        machine["spec"]["interfaces"][0]["dhcp"]["lease_time"] = 20.into();
        let (boots, _dir) = start(vec![machine.clone()]).await;
        let told = cable.dir.path().join("told");
        let body =
            format!("[ $1 = bound ] && ip addr add $ip/24 dev cli; echo $1 $serverid >> {}", told.display());
        let script = cable.script("udhcpc", &body);
        let args = ["busybox", "udhcpc", "-i", "cli", "-f", "-n", "-s", script.to_str().unwrap()];
        let _client = Child::start(&peer("nsenter"), &cable.inside(&args));
        until(&told, &format!("bound {SERVER}\n")).await;
        // The server of the lease is gone, another one has its place.
        boots.stop().await;
        command("ip", &["addr", "add", "172.31.0.2/24", "dev", "srv"]);
        command("ip", &["addr", "del", &format!("{SERVER}/24"), "dev", "srv"]);
        command("ip", &["addr", "replace", "172.31.0.2/24", "dev", "srv"]);
        let (boots, _dir) = start(vec![machine]).await;
        until(&told, "renew 172.31.0.2\n").await;
        assert_eq!(boots.metric("dhcp_total{op=\"recv\",type=\"DISCOVER\"}"), 0, "it kept its lease");
        boots.stop().await;
    });
}

/// Waits until a file has this text in it.
async fn until(file: &Path, text: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !std::fs::read_to_string(file).is_ok_and(|found| found.contains(text)) {
        assert!(Instant::now() < deadline, "{text:?} in {:?}", std::fs::read_to_string(file));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
#[ignore = "needs root; run ./x test"]
fn the_pxe_port_answers_and_a_declined_address_is_an_event() {
    in_namespace(|| async {
        let cable = Cable::plug();
        let (boots, _dir) = start(vec![hardware("m1", MAC, ADDRESS)]).await;
        let client = cable.socket(ADDRESS, 68);
        let mut request = message(::dhcp::MessageType::Request);
        request.ciaddr = ADDRESS.parse().unwrap();
        request.options.set_text(::dhcp::code::VENDOR_CLASS, "PXEClient:Arch:00007:UNDI:003016");
        request.options.set(::dhcp::code::CLIENT_ARCH, [0, 7]);
        request.options.set(::dhcp::code::CLIENT_NDI, [1, 3, 16]);
        let mut decline = message(::dhcp::MessageType::Decline);
        decline.options.set_ip(::dhcp::code::REQUESTED_IP, ADDRESS.parse().unwrap());
        let [request, decline] = [request, decline].map(|packet| packet.encode(usize::MAX).unwrap().bytes);
        let answer = tokio::task::spawn_blocking(move || {
            client.send_to(&request, (SERVER, 4011)).unwrap();
            let mut buffer = [0; 1500];
            let (length, from) = client.recv_from(&mut buffer).expect("an answer");
            client.send_to(&decline, (SERVER, 67)).unwrap();
            (from.to_string(), ::dhcp::Message::parse(&buffer[..length]).unwrap())
        });
        let (from, answer) = answer.await.unwrap();
        assert_eq!(from, format!("{SERVER}:4011"));
        assert_eq!((answer.file().as_str(), answer.yiaddr.is_unspecified()), ("ipxe.efi", true));
        let event = boots.event("AddressConflict", Duration::from_secs(20)).await;
        assert!(event.starts_with("172.31.0.11 is in use by another host"), "{event}");
        boots.stop().await;
    });
}

#[test]
#[ignore = "needs root; run ./x test"]
fn a_flood_of_one_client_gets_a_bounded_number_of_answers() {
    in_namespace(|| async {
        let cable = Cable::plug();
        let (boots, _dir) = start(vec![hardware("m1", MAC, ADDRESS)]).await;
        let client = cable.socket("172.31.0.77", 67);
        let mut discover = message(::dhcp::MessageType::Discover);
        discover.giaddr = "172.31.0.77".parse().unwrap();
        let packet = discover.encode(usize::MAX).unwrap().bytes;
        for _ in 0..500 {
            client.send_to(&packet, (SERVER, 67)).unwrap();
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        let offers = || boots.metric("dhcp_total{op=\"send\",type=\"OFFER\"}");
        let silence = || boots.metric("boots_dhcp_silence_total{reason=\"rate\"}");
        while boots.metric("dhcp_total{op=\"recv\",type=\"DISCOVER\"}") < 500 || offers() + silence() < 500 {
            assert!(Instant::now() < deadline, "all are read, and answered or not");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (offers, silence) = (offers(), silence());
        // The burst, and two for each second that it took.
        assert!((32..=80).contains(&offers), "{offers}");
        assert!(silence >= 400, "{silence}");
        boots.stop().await;
    });
}

fn message(kind: ::dhcp::MessageType) -> ::dhcp::Message {
    ::dhcp::Message::request(kind, [0x52, 0x54, 0, 0, 0, 0x11], 9)
}

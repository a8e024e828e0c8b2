// SPDX-License-Identifier: Apache-2.0

//! rufio against peers that we did not write: sushy-tools for Redfish, OpenIPMI's ipmi_sim for IPMI (suite 3).

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use api::bmc::v1alpha1::PowerState;
use rufio::bmc::Network;
use serde_json::json;
use tempfile::TempDir;

use crate::process::{Peer, free_tcp_port, free_udp_port, place};
use crate::world::{PASSWORD, SOON, World};

/// sushy-tools' fake driver: one system, power changes 1 to 11 s after they are asked for.
fn sushy(port: u16) -> (Peer, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.py");
    fs::write(
        &config,
        format!(
            "SUSHY_EMULATOR_FAKE_DRIVER = True\nSUSHY_EMULATOR_LISTEN_IP = '127.0.0.1'\nSUSHY_EMULATOR_LISTEN_PORT = {port}\n\
             SUSHY_EMULATOR_STATE_DIR = '{}'\n",
            folder.path().display()
        ),
    )
    .unwrap();
    let program = place("SUSHY_VENV").join("bin/sushy-emulator");
    let mut command = Command::new(program);
    command.arg("--config").arg(&config).current_dir(folder.path()).env("TMPDIR", folder.path());
    (Peer::start(&mut command, folder.path()), folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn sushy_tools_is_driven_over_redfish() {
    let port = free_tcp_port();
    let (mut peer, _folder) = sushy(port);
    let world = World::start(Arc::new(Network)).await;
    world.machine("m1", "http://127.0.0.1", json!({"redfish": {"port": port, "systemName": "fake"}})).await;
    assert_eq!(world.contactable("m1").await, PowerState::Off);
    peer.assert_alive();
    let tasks = json!([
        {"powerAction": "off"},
        {"bootDevice": {"device": "pxe", "persistent": false, "efiBoot": true}},
        {"powerAction": "on"},
    ]);
    world.job("netboot", "m1", tasks).await;
    assert_eq!(world.job_end("netboot").await, Ok(()), "{}", peer.output());
    // It shows Continuous after Once was written: a known lie, so that no note is made of it.
    assert_eq!(
        world.task_message("netboot-task-1").await,
        "boot device is pxe for the next boot, set over Redfish"
    );
    let shown: serde_json::Value = get(port, "/redfish/v1/Systems/27946b59-9e44-4fa7-8e91-f3527a1ef094");
    assert_eq!(
        (&shown["PowerState"], &shown["Boot"]["BootSourceOverrideTarget"]),
        (&json!("On"), &json!("Pxe"))
    );

    // No PowerCycle among its reset types: by hand, which takes two of its slow changes.
    world.job("cycle", "m1", json!([{"powerAction": "cycle"}])).await;
    assert_eq!(world.job_end("cycle").await, Ok(()), "{}", peer.output());
    world.job("soft", "m1", json!([{"powerAction": "soft"}, {"powerAction": "status"}])).await;
    assert_eq!(world.job_end("soft").await, Ok(()), "{}", peer.output());
    assert_eq!(world.task_message("soft-task-1").await, "power is off");

    world.job("setup", "m1", json!([{"bootDevice": {"device": "bios"}}])).await;
    let told = world.job_end("setup").await.unwrap_err();
    assert!(told.contains("does not support boot device BiosSetup (it allows: Pxe, Cd, Hdd"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sushy_tools_takes_virtual_media() {
    let port = free_tcp_port();
    let (mut peer, folder) = sushy(port);
    fs::write(folder.path().join("boot.iso"), vec![7_u8; 4096]).unwrap();
    let files = lab_file_server(folder.path());
    let world = World::start(Arc::new(Network)).await;
    world.machine("m1", "http://127.0.0.1", json!({"redfish": {"port": port}})).await;
    world.contactable("m1").await;
    peer.assert_alive();
    let url = format!("http://127.0.0.1:{files}/boot.iso");
    world.job("insert", "m1", json!([{"virtualMediaAction": {"kind": "CD", "mediaURL": url}}])).await;
    assert_eq!(world.job_end("insert").await, Ok(()), "{}", peer.output());
    let slot = "/redfish/v1/Systems/27946b59-9e44-4fa7-8e91-f3527a1ef094/VirtualMedia/Cd";
    assert_eq!(get(port, slot)["Inserted"], true);
    world.job("eject", "m1", json!([{"virtualMediaAction": {"kind": "CD"}}])).await;
    assert_eq!(world.job_end("eject").await, Ok(()), "{}", peer.output());
    assert_eq!(get(port, slot)["Inserted"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn ipmi_sim_is_driven_over_ipmi() {
    let port = free_udp_port();
    let (mut peer, folder) = ipmi_sim(port);
    let world = World::start(Arc::new(Network)).await;
    world.machine("m1", "127.0.0.1", json!({"ipmitool": {"port": port, "cipherSuite": "3"}})).await;
    assert_eq!(world.contactable("m1").await, PowerState::Off);
    peer.assert_alive();
    let tasks = json!([
        {"powerAction": "off"},
        {"bootDevice": {"device": "pxe", "persistent": true, "efiBoot": true}},
        {"powerAction": "on"},
    ]);
    world.job("netboot", "m1", tasks).await;
    assert_eq!(world.job_end("netboot").await, Ok(()), "{}", peer.output());
    let log = fs::read_to_string(folder.path().join("chassis.log")).unwrap();
    assert!(log.contains("set boot pxe\n") && log.contains("set power 1\n"), "{log}");
    // It drops the valid, persistent and UEFI bits: a known lie.
    assert_eq!(
        world.task_message("netboot-task-1").await,
        "boot device is pxe for every boot, set over IPMI"
    );

    for action in ["cycle", "reset", "soft"] {
        world.job(action, "m1", json!([{ "powerAction": action }])).await;
        assert_eq!(world.job_end(action).await, Ok(()), "{action}: {}", peer.output());
    }
    world.secret("m1", "wrong-staple-9").await;
    let told = world.uncontactable("m1").await;
    assert!(told.contains("password"), "{told}");

    // It has no suite 17; without the option both are offered and 3 is taken.
    world.machine("m2", "127.0.0.1", json!({"ipmitool": {"port": port}})).await;
    world.contactable("m2").await;
    world.machine("m3", "127.0.0.1", json!({"ipmitool": {"port": port, "cipherSuite": "17"}})).await;
    let told = world.uncontactable("m3").await;
    assert!(told.contains("17"), "{told}");
}

/// ipmi_sim with a chassis that keeps its state in files.
fn ipmi_sim(port: u16) -> (Peer, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
    write(
        "lan.conf",
        format!(
            "name \"sim\"\nset_working_mc 0x20\n  startlan 1\n    addr 127.0.0.1 {port}\n    priv_limit admin\n    \
             allowed_auths_admin none md2 md5 straight\n    guid a123456789abcdefa123456789abcdef\n  endlan\n  \
             chassis_control \"./chassis\"\n  user 2 true \"admin\" \"{PASSWORD}\" admin 10 none md2 md5 straight\n"
        ),
    );
    write(
        "sim.emu",
        "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02\nmc_enable 0x20\n".into(),
    );
    write(
        "chassis",
        "#!/bin/sh\necho \"$@\" >> chassis.log\nop=$1; shift\nwhile [ \"$1\" ]; do\n  case $op.$1 in\n  \
         get.power) echo \"power:$(cat power 2>/dev/null || echo 0)\";;\n  \
         get.boot) echo \"boot:$(cat boot 2>/dev/null || echo default)\";;\n  \
         set.power) echo $2 > power; shift;;\n  set.boot) echo $2 > boot; shift;;\n  \
         set.reset) echo 1 > power; shift;;\n  set.shutdown) echo 0 > power; shift;;\n  esac\n  shift\ndone\n"
            .into(),
    );
    fs::set_permissions(folder.path().join("chassis"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(folder.path().join("state")).unwrap();
    let tree = place("OPENIPMI_DIR");
    let libraries: Vec<_> = ["usr/lib", "lib"].iter().map(|lib| tree.join(lib).join(multiarch())).collect();
    let mut command = Command::new(tree.join("usr/bin/ipmi_sim"));
    command
        .args(["-c", "lan.conf", "-f", "sim.emu", "-s", "state", "-n"])
        .current_dir(folder.path())
        .env("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap());
    (Peer::start(&mut command, folder.path()), folder)
}

fn multiarch() -> String {
    format!("{}-linux-gnu", std::env::consts::ARCH)
}

/// One GET without anything of ours in between.
fn get(port: u16, path: &str) -> serde_json::Value {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {head}"))
}

/// Serves one folder's files over HTTP for as long as the test runs; gives the port.
fn lab_file_server(folder: &Path) -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (port, folder) = (listener.local_addr().unwrap().port(), folder.to_owned());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 2048];
            let length = stream.read(&mut request).unwrap();
            let line = String::from_utf8_lossy(&request[..length]).into_owned();
            let name = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
            let content = fs::read(folder.join(name)).unwrap();
            write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", content.len()).unwrap();
            // A HEAD request may close early.
            let _written = stream.write_all(&content);
        }
    });
    port
}

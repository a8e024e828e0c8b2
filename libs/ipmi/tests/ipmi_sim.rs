// SPDX-License-Identifier: Apache-2.0
//! The client against OpenIPMI's simulator, a BMC that we did not write (suite 3 only).
//!
//! `OPENIPMI_DIR` names a directory into which Debian's packages openipmi, libopenipmi0 and libsnmp40 were unpacked; openipmi
//! brings a service, so it must not be installed.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ipmi::{
    AuthFailure, BootDevice, BootFlags, ChassisControl, CipherSuite, Client, CompletionCode, Credentials,
    Error, Options, Privilege,
};
use tempfile::TempDir;

const HOW_TO: &str = "OPENIPMI_DIR is not set; run: apt-get download openipmi libopenipmi0 libsnmp40, \
    then dpkg -x each of them into one directory and set OPENIPMI_DIR to it";

/// The chassis of the simulator: a script that keeps what it was told in files.
const CHASSIS: &str = r#"#!/bin/sh
# Called as: chassis MC get|set|check {name [value]}.
dir=$(dirname "$0")
shift
op=$1
shift
case $op in
    get) for name; do echo "$name:$(cat "$dir/$name")"; done ;;
    set) while [ $# -gt 1 ]; do echo "$2" > "$dir/$1"; echo "$1 $2" >> "$dir/log"; shift 2; done ;;
    check) exit 0 ;;
esac
"#;

/// A running `ipmi_sim` on loopback. Dies with this value, and with the thread that started it.
struct Simulator {
    child: Child,
    addr: SocketAddr,
    directory: TempDir,
}

impl Simulator {
    fn start() -> Self {
        let unpacked = PathBuf::from(std::env::var_os("OPENIPMI_DIR").unwrap_or_else(|| panic!("{HOW_TO}")));
        let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
        let libraries = ["usr/lib", "lib"].map(|folder| unpacked.join(folder).join(&triplet));
        let libraries = std::env::join_paths(libraries).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let addr = free_port();
        write_configuration(directory.path(), addr);
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(unpacked.join("usr/bin/ipmi_sim"))
            .args(["-n", "-c", "lan.conf", "-f", "sim.emu", "-s", "state"])
            .env("LD_LIBRARY_PATH", libraries)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, addr, directory }
    }

    async fn connect(&self, user: &str, password: &str, options: Options) -> Result<Client, Error> {
        let credentials = Credentials::new(user, password).unwrap();
        // The simulator may still be starting: the client's own repetitions bridge that.
        Client::connect(&self.addr.ip().to_string(), self.addr.port(), &credentials, &options).await
    }

    fn told(&self) -> Vec<String> {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> SocketAddr {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

fn write_configuration(directory: &Path, addr: SocketAddr) {
    let chassis = directory.join("chassis");
    fs::write(&chassis, CHASSIS).unwrap();
    fs::set_permissions(&chassis, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(directory.join("power"), "0").unwrap();
    fs::write(directory.join("boot"), "none").unwrap();
    fs::create_dir(directory.join("state")).unwrap();
    let lan = format!(
        r#"name "sim"
set_working_mc 0x20
  startlan 1
    addr {} {}
    priv_limit admin
    allowed_auths_user md5
    allowed_auths_operator md5
    allowed_auths_admin md5
    guid a123456789abcdefa123456789abcdef
  endlan
  chassis_control "{} 0x20"
  user 2 true "admin" "secret" admin 10 md5
  user 3 true "oper" "secret" operator 10 md5
"#,
        addr.ip(),
        addr.port(),
        chassis.display()
    );
    fs::write(directory.join("lan.conf"), lan).unwrap();
    let emulation = "mc_setbmc 0x20\n\
        mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n\
        mc_enable 0x20\n";
    fs::write(directory.join("sim.emu"), emulation).unwrap();
}

#[tokio::test]
async fn falls_back_to_suite_3_and_drives_the_chassis() {
    let simulator = Simulator::start();
    let mut client = simulator.connect("admin", "secret", Options::default()).await.unwrap();
    assert_eq!(client.suite(), Some(CipherSuite::Suite3), "the simulator has no suite 17");
    let device = client.device_id().await.unwrap();
    assert_eq!((device.manufacturer, device.product, device.ipmi_version), (0x1291, 0x0f02, 2));
    assert!(!client.chassis_status().await.unwrap().power_on);
    // The simulator drops the valid, persistent and UEFI bits (read in its answers); the device is what can be compared.
    client.set_boot_flags(BootFlags::once(BootDevice::Pxe, false)).await.unwrap();
    assert_eq!(client.boot_flags().await.unwrap().device, BootDevice::Pxe);
    client.chassis_control(ChassisControl::PowerUp).await.unwrap();
    assert!(client.chassis_status().await.unwrap().power_on);
    client.chassis_control(ChassisControl::SoftShutdown).await.unwrap();
    client.chassis_control(ChassisControl::PowerDown).await.unwrap();
    assert!(!client.chassis_status().await.unwrap().power_on);
    client.close().await;
    assert_eq!(simulator.told(), ["boot pxe", "power 1", "shutdown 1", "power 0"]);
}

#[tokio::test]
async fn tells_wrong_credentials_apart() {
    let simulator = Simulator::start();
    for (user, password, expected) in
        [("admin", "incorrect", AuthFailure::WrongPassword), ("nobody", "secret", AuthFailure::UnknownUser)]
    {
        let refused = simulator.connect(user, password, Options::default()).await.err().unwrap();
        assert!(matches!(refused, Error::Auth(found) if found == expected), "{user}: {refused}");
    }
}

#[tokio::test]
async fn a_lower_privilege_is_asked_for_and_kept() {
    // Whether Set Session Privilege was sent shows in what the BMC lets us do: a session starts at user level.
    let simulator = Simulator::start();
    let operator = Options { privilege: Privilege::Operator, ..Options::default() };
    let mut client = simulator.connect("oper", "secret", operator).await.unwrap();
    client.chassis_control(ChassisControl::PowerUp).await.unwrap();
    client.close().await;
    let user = Options { privilege: Privilege::User, ..Options::default() };
    let mut client = simulator.connect("admin", "secret", user).await.unwrap();
    assert!(client.chassis_status().await.unwrap().power_on);
    let refused = client.chassis_control(ChassisControl::PowerDown).await.unwrap_err();
    assert!(
        matches!(refused, Error::Completion { code: CompletionCode::INSUFFICIENT_PRIVILEGE, .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn says_which_suites_the_bmc_refused() {
    let simulator = Simulator::start();
    let options = Options { suites: vec![CipherSuite::Suite17], ..Options::default() };
    let refused = simulator.connect("admin", "secret", options).await.err().unwrap();
    assert!(matches!(refused, Error::Unsupported { .. }), "{refused}");
    assert!(refused.to_string().contains("invalid authentication algorithm"), "{refused}");
}

#[tokio::test]
async fn sessions_are_given_back() {
    let simulator = Simulator::start();
    for round in 0..40 {
        let options = Options { first_timeout: Duration::from_millis(100), ..Options::default() };
        let client = simulator.connect("admin", "secret", options).await;
        let client = client.unwrap_or_else(|error| panic!("round {round}: {error}"));
        if round % 2 == 0 {
            client.close().await;
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The IPMI BMC as `ipmitool -I lanplus` sees it.

use std::process::Command;

use ipmi::Privilege;
use lab::bmc::{Behaviour, BootWrites, Kind};
use lab::chassis::{BootMode, BootOverride, BootTarget, Chassis, PowerState};

use crate::{PASSWORD, Rig, USER, account, run};

impl Rig {
    /// Runs ipmitool with a suite and gives its exit status and what it printed.
    async fn ipmitool_as(&self, user: &str, password: &str, suite: u8, args: &str) -> (bool, String) {
        let addr = self.bmc.addr();
        let mut command = Command::new("ipmitool");
        command.args(["-I", "lanplus", "-N", "2", "-R", "2", "-C", &suite.to_string()]);
        command.args(["-H", &addr.ip().to_string(), "-p", &addr.port().to_string()]);
        command.args(["-U", user, "-P", password]).args(args.split(' '));
        let output = run(command).await;
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    async fn ipmitool(&self, suite: u8, args: &str) -> String {
        let (success, text) = self.ipmitool_as(USER, PASSWORD, suite, args).await;
        assert!(success, "ipmitool -C {suite} {args}: {text}");
        text
    }
}

async fn power_follows(suite: u8) {
    let rig = Rig::start(Kind::Ipmi).await;
    assert!(rig.ipmitool(suite, "chassis power status").await.contains("Chassis Power is off"));
    rig.ipmitool(suite, "chassis power on").await;
    rig.wait_for_power(PowerState::On).await;
    assert!(rig.ipmitool(suite, "chassis status").await.contains("System Power         : on"));
    rig.ipmitool(suite, "chassis power cycle").await;
    rig.wait(|chassis| chassis.starts().len() == 2, "a second start").await;
    rig.ipmitool(suite, "chassis power reset").await;
    rig.wait(|chassis| chassis.starts().len() == 3, "a third start").await;
    rig.ipmitool(suite, "chassis power soft").await;
    rig.wait_for_power(PowerState::Off).await;
    let (success, text) = rig.ipmitool_as(USER, PASSWORD, suite, "chassis power reset").await;
    assert!(!success && text.contains("not supported in present state"), "{text}");
    rig.ipmitool(suite, "chassis power on").await;
    rig.wait_for_power(PowerState::On).await;
    rig.ipmitool(suite, "chassis power off").await;
    rig.wait_for_power(PowerState::Off).await;
}

#[tokio::test]
async fn power_follows_with_suite_3() {
    power_follows(3).await;
}

#[tokio::test]
async fn power_follows_with_suite_17() {
    power_follows(17).await;
}

#[tokio::test]
async fn boot_devices_reach_the_chassis_and_are_read_back() {
    let rig = Rig::start(Kind::Ipmi).await;
    let cases = [
        ("pxe", BootTarget::Pxe, "Force PXE"),
        ("disk", BootTarget::Hdd, "Force Boot from default Hard-Drive"),
        ("cdrom", BootTarget::Cd, "Force Boot from CD/DVD"),
        ("bios", BootTarget::BiosSetup, "Force Boot into BIOS Setup"),
    ];
    for (device, target, printed) in cases {
        for suite in [3, 17] {
            rig.ipmitool(suite, &format!("chassis bootdev {device}")).await;
            let expected = BootOverride { target, mode: BootMode::Once, uefi: false };
            assert_eq!(rig.chassis.boot_override(), expected, "{device}");
            rig.ipmitool(suite, &format!("chassis bootdev {device} options=persistent,efiboot")).await;
            let expected = BootOverride { target, mode: BootMode::Continuous, uefi: true };
            assert_eq!(rig.chassis.boot_override(), expected, "{device}");
            let text = rig.ipmitool(suite, "chassis bootparam get 5").await;
            for line in [printed, "Boot Flag Valid", "Options apply to all future boots", "BIOS EFI boot"] {
                assert!(text.contains(line), "no {line:?} in {text}");
            }
        }
    }
    rig.ipmitool(17, "chassis bootdev none").await;
    assert_eq!(rig.chassis.boot_override().effective(), BootTarget::None);
}

#[tokio::test]
async fn a_one_time_override_is_gone_after_the_next_start() {
    let rig = Rig::start(Kind::Ipmi).await;
    rig.ipmitool(17, "chassis bootdev pxe options=efiboot").await;
    rig.ipmitool(17, "chassis power on").await;
    rig.wait(|chassis| chassis.starts() == [BootTarget::Pxe], "a start from the network").await;
    let text = rig.ipmitool(17, "chassis bootparam get 5").await;
    assert!(text.contains("Boot Flag Invalid") && text.contains("No override"), "{text}");
}

#[tokio::test]
async fn tells_who_it_is_and_what_it_does_not_know() {
    let rig = Rig::start(Kind::Ipmi).await;
    let text = rig.ipmitool(17, "mc info").await;
    assert!(text.contains("IPMI Version              : 2.0"), "{text}");
    let text = rig.ipmitool(17, "lan print 1").await;
    assert!(text.contains(": 127.0.0.1") && text.contains("52:54:00:00:00:91"), "{text}");
    assert!(text.contains("RMCP+ Cipher Suites     : 3,17"), "{text}");
    let text = rig.ipmitool(17, "session info active").await;
    assert!(text.contains("privilege level               : ADMINISTRATOR"), "{text}");
    let text = rig.ipmitool(3, "channel getciphers ipmi 1").await;
    assert!(text.contains("hmac_sha256") && text.contains("hmac_sha1"), "{text}");
    let (success, text) = rig.ipmitool_as(USER, PASSWORD, 17, "sel info").await;
    assert!(!success && text.contains("Invalid command"), "{text}");
}

#[tokio::test]
async fn refuses_wrong_credentials_in_rakp() {
    let rig = Rig::start(Kind::Ipmi).await;
    for suite in [3, 17] {
        let (success, text) = rig.ipmitool_as(USER, "wrong", suite, "-v chassis status").await;
        assert!(!success && text.contains("RAKP 2 HMAC is invalid"), "{text}");
        let (success, text) = rig.ipmitool_as("nobody", PASSWORD, suite, "-v chassis status").await;
        assert!(!success && text.contains("unauthorized name"), "{text}");
    }
    // Suite 0 is the one that lets anybody in.
    let (success, text) = rig.ipmitool_as(USER, PASSWORD, 0, "chassis status").await;
    assert!(!success && text.contains("invalid authentication algorithm"), "{text}");
}

#[tokio::test]
async fn an_operator_is_no_administrator_and_a_user_only_reads() {
    let operator = account().with_privilege(Privilege::Operator);
    let rig = Rig::start_with(Kind::Ipmi, operator, Behaviour::default()).await;
    let (success, text) = rig.ipmitool_as(USER, PASSWORD, 17, "-v chassis status").await;
    assert!(!success && text.contains("unauthorized role"), "{text}");
    rig.ipmitool(17, "-L OPERATOR chassis power on").await;
    rig.wait_for_power(PowerState::On).await;

    let user = account().with_privilege(Privilege::User);
    let rig = Rig::start_with(Kind::Ipmi, user, Behaviour::default()).await;
    assert!(rig.ipmitool(17, "-L USER chassis power status").await.contains("off"));
    let (success, text) = rig.ipmitool_as(USER, PASSWORD, 17, "-L USER chassis power on").await;
    assert!(!success && text.contains("Insufficient privilege level"), "{text}");
    assert_eq!(rig.chassis.power(), PowerState::Off);
}

#[tokio::test]
async fn a_lying_bmc_says_yes_and_keeps_its_boot_order() {
    let behaviour = Behaviour { boot_writes: BootWrites::Ignored, ..Behaviour::default() };
    let rig = Rig::start_with(Kind::Ipmi, account(), behaviour).await;
    rig.ipmitool(17, "chassis bootdev pxe").await;
    assert_eq!(rig.chassis.boot_override(), BootOverride::default());
    assert!(rig.ipmitool(17, "chassis bootparam get 5").await.contains("No override"));
}

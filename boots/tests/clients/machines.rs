// SPDX-License-Identifier: Apache-2.0
//! QEMU machines under emulation: SeaBIOS with the network card's iPXE ROM, and OVMF with its own PXE client.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::world::{Boots, Child, SERVER, artefact, command, hardware, in_namespace, peer, workflow};

const MAC: &str = "52:54:00:00:00:11";
/// Emulated firmware is slow, on a busy machine more so.
const BOOT: Duration = Duration::from_secs(240);

fn tap() {
    command("ip", &["tuntap", "add", "dev", "tap0", "mode", "tap"]);
    command("ip", &["addr", "add", &format!("{SERVER}/24"), "dev", "tap0"]);
    command("ip", &["link", "set", "tap0", "up"]);
}

async fn start(machine: Value) -> Boots {
    let programs = format!("--boot-program-dir={}", artefact("boot-programs").display());
    let hook = format!("--hook-dir={}", artefact("hook").display());
    Boots::start(vec![machine], vec![workflow("m1")], &[&programs, &hook, "--dhcp-bind-interface=tap0"]).await
}

fn qemu(serial: &Path, firmware: &[&str]) -> Child {
    // The network card's own ROM is an iPXE, for BIOS and for UEFI; without it OVMF uses its own PXE client.
    let rom = if firmware.is_empty() { "" } else { ",romfile=" };
    let nic = format!("virtio-net-pci,netdev=n0,mac={MAC},bootindex=1{rom}");
    let serial = format!("file:{}", serial.display());
    let mut args = vec!["-machine", "q35,accel=tcg", "-m", "1024", "-display", "none", "-serial", &serial];
    args.extend(["-netdev", "tap,id=n0,ifname=tap0,script=no,downscript=no"]);
    args.extend(["-device", &nic, "-no-reboot"]);
    args.extend(firmware);
    Child::start(&peer("qemu-system-x86_64"), &args)
}

/// Follows a machine from its first packet to its initramfs.
async fn boots_to_the_end(firmware: &[&str]) -> (String, Vec<(String, String)>) {
    tap();
    let boots = start(hardware("m1", MAC, "172.31.0.11")).await;
    let dir = tempfile::tempdir().unwrap();
    let serial = dir.path().join("serial");
    let machine = qemu(&serial, firmware);
    let first = boots.event("DhcpAcknowledged", BOOT).await;
    boots.event("InitramfsSent", BOOT).await;
    drop(machine);
    let events = boots.events();
    boots.stop().await;
    for reason in ["DhcpOffered", "DhcpAcknowledged", "ScriptSent", "KernelSent", "InitramfsSent"] {
        assert!(events.iter().any(|event| event.0 == reason), "{reason} in {events:#?}");
    }
    (first, events)
}

#[test]
#[ignore = "needs root, QEMU, TINK_ARTEFACTS"]
fn a_bios_machine_whose_rom_speaks_http_needs_no_second_program() {
    in_namespace(|| async {
        let (first, events) = boots_to_the_end(&[]).await;
        assert!(first.contains("iPXE on x86 BIOS") && first.contains("auto.ipxe"), "{first}");
        assert!(!events.iter().any(|event| event.0 == "BootProgramSent"), "{events:#?}");
    });
}

#[test]
#[ignore = "needs root, QEMU, TINK_ARTEFACTS"]
fn a_machine_runs_its_own_script_and_ipxe_loads_over_tftp() {
    in_namespace(|| async {
        tap();
        let mut machine = hardware("m1", MAC, "172.31.0.11");
        let script = format!("chain tftp://{SERVER}/{MAC}/undionly.kpxe");
        machine["spec"]["interfaces"][0]["netboot"]["ipxe"] = json!({ "contents": script });
        let boots = start(machine).await;
        let dir = tempfile::tempdir().unwrap();
        let machine = qemu(&dir.path().join("serial"), &[]);
        let sent = boots.event("BootProgramSent", BOOT).await;
        let size = std::fs::metadata(artefact("boot-programs").join("undionly.kpxe")).unwrap().len();
        assert_eq!(sent, format!("undionly.kpxe, {size} bytes over TFTP"));
        drop(machine);
        boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, QEMU, OVMF, TINK_ARTEFACTS"]
fn a_uefi_machine_loads_ipxe_over_tftp_and_goes_on() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().unwrap();
        let vars = dir.path().join("vars");
        std::fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &vars).unwrap();
        let vars = format!("if=pflash,format=raw,file={}", vars.display());
        let code = "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd";
        let (first, events) = boots_to_the_end(&["-drive", code, "-drive", &vars]).await;
        assert!(first.contains("firmware of x64 UEFI") && first.ends_with("boot file ipxe.efi"), "{first}");
        let programs: Vec<_> = events.iter().filter(|event| event.0 == "BootProgramSent").collect();
        let scripts: Vec<_> = events.iter().filter(|event| event.0 == "ScriptSent").collect();
        assert!(scripts.iter().all(|event| event.1 == "iPXE script over HTTP"), "{scripts:?}");
        assert_eq!(programs.len(), 1, "no program is given twice: {events:#?}");
        assert!(
            programs[0].1.starts_with("ipxe.efi, ") && programs[0].1.ends_with(" over TFTP"),
            "{programs:?}"
        );
    });
}

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
    start_with(machine, &["--dhcp-bind-interface=tap0"]).await
}

async fn start_with(machine: Value, flags: &[&str]) -> Boots {
    let programs = format!("--boot-program-dir={}", artefact("boot-programs").display());
    let hook = format!("--hook-dir={}", artefact("hook").display());
    let flags = [&[programs.as_str(), hook.as_str()], flags].concat();
    Boots::start(vec![machine], vec![workflow("m1")], &flags).await
}

/// OVMF as drives of QEMU: its code, and variables of its own in `dir`.
fn ovmf(dir: &Path) -> [String; 2] {
    let vars = dir.join("vars");
    std::fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &vars).unwrap();
    let code = "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd";
    [code.to_owned(), format!("if=pflash,format=raw,file={}", vars.display())]
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
        let [code, vars] = ovmf(dir.path());
        let (first, events) = boots_to_the_end(&["-drive", &code, "-drive", &vars]).await;
        assert!(first.contains("firmware of x64 UEFI") && first.ends_with("boot file ipxe.efi"), "{first}");
        let programs: Vec<_> = events.iter().filter(|event| event.0 == "BootProgramSent").collect();
        let scripts: Vec<_> = events.iter().filter(|event| event.0 == "ScriptSent").collect();
        assert!(scripts.iter().all(|event| event.1 == "script over HTTP"), "{scripts:?}");
        assert_eq!(programs.len(), 1, "no program is given twice: {events:#?}");
        assert!(
            programs[0].1.starts_with("ipxe.efi, ") && programs[0].1.ends_with(" over TFTP"),
            "{programs:?}"
        );
    });
}

/// A bridge with the machine's tap, and at its other port a DHCP server that knows nothing of network boot.
struct ForeignServer {
    _server: Child,
    _dir: tempfile::TempDir,
}

impl ForeignServer {
    fn start() -> Self {
        for args in [
            "tuntap add dev tap0 mode tap",
            "link add br0 type bridge",
            "link set tap0 master br0 up",
            "link add foreign type veth peer name inside",
            "link set foreign master br0 up",
            "link set br0 up",
        ] {
            command("ip", &args.split(' ').collect::<Vec<_>>());
        }
        command("ip", &["addr", "add", &format!("{SERVER}/24"), "dev", "br0"]);
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "interface inside\nstart 172.31.0.11\nend 172.31.0.11\nlease_file {}\npidfile {}\nopt subnet 255.255.255.0\n\
             opt router 172.31.0.3\nopt lease 3600\n",
            file("leases"),
            file("pid")
        );
        std::fs::write(file("config"), config).unwrap();
        std::fs::write(file("leases"), "").unwrap();
        // It waits for its end of the cable, which goes to its namespace by its process number.
        let script = format!(
            "until ip link set inside up 2>/dev/null; do sleep 0.05; done; ip addr add 172.31.0.3/24 dev inside; \
             exec busybox udhcpd -f {}",
            file("config")
        );
        let server = Child::start(&peer("unshare"), &["--net", "sh", "-c", &script]);
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while std::fs::read_link(format!("/proc/{}/ns/net", server.id())).is_ok_and(|link| link == own) {
            assert!(std::time::Instant::now() < deadline, "unshare works");
            std::thread::yield_now();
        }
        command("ip", &["link", "set", "inside", "netns", &server.id().to_string()]);
        Self { _server: server, _dir: dir }
    }
}

/// Follows a machine that has its address from elsewhere to its initramfs.
async fn boots_beside_a_foreign_server(mode: &str, firmware: &[&str]) -> Vec<(String, String)> {
    let _foreign = ForeignServer::start();
    let mode = format!("--dhcp-mode={mode}");
    let boots = start_with(hardware("m1", MAC, "172.31.0.11"), &[&mode, "--dhcp-bind-interface=br0"]).await;
    let dir = tempfile::tempdir().unwrap();
    let machine = qemu(&dir.path().join("serial"), firmware);
    let offered = boots.event("DhcpOffered", BOOT).await;
    assert!(offered.starts_with("boot data beside another DHCP server to "), "{offered}");
    boots.event("InitramfsSent", BOOT).await;
    drop(machine);
    let events = boots.events();
    boots.stop().await;
    events
}

#[test]
#[ignore = "needs root, QEMU, busybox, TINK_ARTEFACTS; run ./x test"]
fn a_bios_machine_boots_beside_a_foreign_dhcp_server() {
    in_namespace(|| async {
        let events = boots_beside_a_foreign_server("proxy", &[]).await;
        assert!(events.iter().any(|event| event.0 == "ScriptSent"), "{events:#?}");
    });
}

#[test]
#[ignore = "needs root, QEMU, OVMF, busybox, TINK_ARTEFACTS; run ./x test"]
fn a_uefi_machine_boots_beside_a_foreign_dhcp_server() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().unwrap();
        let [code, vars] = ovmf(dir.path());
        let events = boots_beside_a_foreign_server("auto-proxy", &["-drive", &code, "-drive", &vars]).await;
        let program = events.iter().find(|event| event.0 == "BootProgramSent");
        assert!(program.is_some_and(|event| event.1.ends_with(" over TFTP")), "{events:#?}");
    });
}

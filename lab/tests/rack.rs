// SPDX-License-Identifier: Apache-2.0
//! A rack in a network namespace of its own: real QEMU machines, power, boot order, and what is left afterwards (nothing).
//!
//! No test harness: the program is started anew inside the namespace before it does anything.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use lab::chassis::{BootMode, BootOverride, BootTarget, Chassis as _, ChassisError, PowerAction, PowerState};
use lab::machine::{Disk, DiskBus, Machine};
use lab::netns::Namespace;
use lab::switch::pcap::Capture;
use lab::{Rack, RackSpec};

type Outcome = Result<(), Box<dyn Error>>;

/// Longest time that a firmware may take to get somewhere, on a machine that does other things too.
const FIRMWARE: Duration = Duration::from_secs(90);

fn main() -> Outcome {
    if std::env::args().any(|arg| arg == "--list") {
        println!("a_rack_lives_and_leaves_nothing: test");
        return Ok(());
    }
    let namespace = lab::netns::enter_or_reexec()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let dir = tempfile::tempdir()?;
    runtime.block_on(a_rack_lives(&namespace, dir.path()))?;
    nothing_is_left()?;
    println!("test a_rack_lives_and_leaves_nothing ... ok");
    Ok(())
}

async fn a_rack_lives(namespace: &Namespace, dir: &Path) -> Outcome {
    let capture = Capture::headers(dir.join("rack.pcap"));
    let mut spec = RackSpec { capture: Some(capture.clone()), ..RackSpec::demo()? };
    for server in &mut spec.servers {
        server.machine.disk = Some(Disk { bus: DiskBus::Virtio, bytes: 16 << 20 });
        server.machine.memory_mib = 512;
    }
    let rack = Rack::start(namespace, spec, dir).await?;
    for server in rack.servers() {
        assert_eq!(server.machine().power(), PowerState::Off, "a rack begins switched off");
    }
    let m1 = rack.machine("m1").ok_or("no m1")?;
    bios_follows_the_override(m1).await?;
    power_is_what_it_says(m1).await?;
    let m2 = rack.machine("m2").ok_or("no m2")?;
    uefi_falls_from_an_empty_disk_to_the_network(m2).await?;
    for mac in [[0x52, 0x54, 0, 0, 0, 0x11], [0x52, 0x54, 0, 0, 0, 0x12]] {
        asks_for_an_address(&capture.path, mac).await?;
    }
    rack.power_cycle("m2").await?;
    assert_eq!(m2.power(), PowerState::On);
    rack.stop().await;
    Ok(())
}

/// Waits for a DHCP request in the capture: a broadcast of IPv4 from the machine. Firmware says that it begins long before it sends one.
async fn asks_for_an_address(capture: &Path, mac: [u8; 6]) -> Outcome {
    let head = [&[0xff; 6][..], &mac, &[0x08, 0x00]].concat();
    let waiting = async {
        while !std::fs::read(capture)?.windows(head.len()).any(|window| window == head) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok::<(), std::io::Error>(())
    };
    match tokio::time::timeout(FIRMWARE, waiting).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(format!("no DHCP request of {mac:x?} was captured").into()),
    }
}

/// What a machine says when iPXE asks for an address, and when it boots from our disk.
const NETWORK: &str = "Configuring (net0 52:54:00:00:00:11)";
const DISK: &str = "DISK\r\n";

async fn bios_follows_the_override(m1: &Machine) -> Outcome {
    let pxe_once = BootOverride { target: BootTarget::Pxe, mode: BootMode::Once, uefi: false };
    m1.set_boot_override(pxe_once);
    m1.set_power(PowerAction::On).await?;
    assert_eq!(m1.boot_override(), BootOverride::default(), "the start used it up");
    said(m1, NETWORK, 1).await?;
    assert!(!log(m1)?.contains("Hard Disk"), "the disk was not tried");

    // Now there is something on the disk; a reset is a start without override.
    write_boot_sector(&m1.places().disk, HALT)?;
    m1.set_power(PowerAction::Reset).await?;
    said(m1, DISK, 1).await?;

    // A reset from inside is a start as well: the override that was set meanwhile counts.
    m1.set_power(PowerAction::ForceOff).await?;
    write_boot_sector(&m1.places().disk, RESET_AFTER_3_S)?;
    m1.set_power(PowerAction::On).await?;
    said(m1, DISK, 2).await?;
    m1.set_boot_override(BootOverride { mode: BootMode::Continuous, ..pxe_once });
    said(m1, NETWORK, 2).await?;
    assert_eq!(m1.boot_override().mode, BootMode::Continuous);
    m1.set_power(PowerAction::Cycle).await?;
    said(m1, NETWORK, 3).await
}

async fn power_is_what_it_says(m1: &Machine) -> Outcome {
    assert_eq!(m1.power(), PowerState::On);
    m1.set_power(PowerAction::GracefulShutdown).await?;
    assert_eq!(m1.power(), PowerState::On, "firmware does not listen to the button");
    m1.set_power(PowerAction::ForceOff).await?;
    assert_eq!(m1.power(), PowerState::Off);
    assert_eq!(children(), 0, "no power, no process");
    let refused = m1.set_power(PowerAction::Cycle).await;
    assert_eq!(refused, Err(ChassisError::WrongState { action: PowerAction::Cycle, power: PowerState::Off }));
    Ok(())
}

async fn uefi_falls_from_an_empty_disk_to_the_network(m2: &Machine) -> Outcome {
    m2.set_power(PowerAction::On).await?;
    said(m2, "Start PXE over IPv4", 1).await
}

/// Prints `DISK` to the serial port and halts.
const HALT: &[u8] = &[0xf4, 0xeb, 0xfd];
/// Waits about three seconds (BIOS timer ticks) and resets through the keyboard controller.
const RESET_AFTER_3_S: &[u8] = &[
    0x31, 0xc0, 0x8e, 0xd8, // xor ax, ax; mov ds, ax
    0xfb, // sti
    0x8b, 0x1e, 0x6c, 0x04, // mov bx, [0x46c]
    0xf4, // hlt
    0xa1, 0x6c, 0x04, // mov ax, [0x46c]
    0x29, 0xd8, // sub ax, bx
    0x83, 0xf8, 0x36, // cmp ax, 54
    0x72, 0xf5, // jb to the hlt
    0xb0, 0xfe, 0xe6, 0x64, // mov al, 0xfe; out 0x64, al
    0xf4, 0xeb, 0xfd, // hlt; jmp to it
];

fn write_boot_sector(disk: &Path, then: &[u8]) -> Outcome {
    use std::os::unix::fs::FileExt as _;
    let mut code = vec![0xba, 0xf8, 0x03]; // mov dx, 0x3f8
    for letter in b"DISK\r\n" {
        code.extend([0xb0, *letter, 0xee]); // mov al, letter; out dx, al
    }
    code.extend(then);
    code.resize(510, 0);
    code.extend([0x55, 0xaa]);
    Ok(std::fs::OpenOptions::new().write(true).open(disk)?.write_all_at(&code, 0)?)
}

fn log(machine: &Machine) -> Result<String, std::io::Error> {
    Ok(String::from_utf8_lossy(&std::fs::read(machine.serial_log())?).into_owned())
}

/// Waits until the serial console has said `text` so many times since the rack was built.
async fn said(machine: &Machine, text: &str, times: usize) -> Outcome {
    let waiting = async {
        while log(machine)?.matches(text).count() < times {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok::<(), std::io::Error>(())
    };
    match tokio::time::timeout(FIRMWARE, waiting).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => {
            let log = log(machine)?;
            Err(format!(
                "{text:?} is not {times} times on the console of {}:\n{log}",
                machine.identity().name
            )
            .into())
        }
    }
}

/// QEMU processes that are ours, or anybody's inside our namespace.
fn children() -> usize {
    let own = std::fs::read_link("/proc/self/ns/net").ok();
    let mut found = 0;
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.starts_with("qemu-system") && std::fs::read_link(entry.path().join("ns/net")).ok() == own {
            found += 1;
        }
    }
    found
}

fn nothing_is_left() -> Outcome {
    assert_eq!(children(), 0, "a machine survived its rack");
    assert!(!Path::new("/proc/self/net/dev_snmp6/prov0").exists());
    let interfaces = std::fs::read_to_string("/proc/self/net/dev")?;
    assert!(!interfaces.contains("prov0"), "the interface survived:\n{interfaces}");
    Ok(())
}

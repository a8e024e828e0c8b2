// SPDX-License-Identifier: Apache-2.0
//! How a simulated server becomes a QEMU command line, and which files belong to it.
//!
//! Everything is emulated (TCG): a /dev/kvm that exists may hang the guest, and the same speed everywhere makes times comparable.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::spec::{Disk, DiskBus, Firmware, MachineSpec};
use crate::chassis::BootTarget;
use crate::process::Process;

const QEMU: &str = "qemu-system-x86_64";

/// OVMF as Debian's package `ovmf` installs it: code, and variables to begin with. With Secure Boot the code protects its
/// variables, among which are Microsoft's keys.
const OVMF: [&str; 2] = ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"];
const OVMF_SECURE: [&str; 2] = ["/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"];

/// Cache of translated code, in MiB: QEMU's own choice is 1 GiB, which four machines on a laptop do not have.
const TRANSLATION_MIB: u32 = 256;
/// A machine with so much memory, in MiB, is to run programs whose code is larger: it has half of its memory for that. A node of
/// Kubernetes fills 256 MiB soon, and QEMU then forgets everything and translates it again, time after time.
const LARGE_MIB: u32 = 2048;

/// Boot indices of disk, network card and drive in the firmware's own order, and of the one that is to be first.
const DISK_INDEX: u32 = 3;
const NETWORK_INDEX: u32 = 5;
const DRIVE_INDEX: u32 = 7;
const FIRST_INDEX: u32 = 1;

/// How much of QEMU's log goes into an error.
const LAST_WORDS: u64 = 400;

/// The files of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The disk, a sparse raw file.
    pub disk: PathBuf,
    /// Everything that came out of the serial console.
    pub serial_log: PathBuf,
    /// What QEMU itself said.
    pub qemu_log: PathBuf,
    /// The variables of UEFI firmware.
    pub variables: PathBuf,
    /// QMP.
    pub qmp_socket: PathBuf,
    /// The disc in its drive, as QEMU reads it.
    pub disc_socket: PathBuf,
    /// The network cable: QEMU's end.
    pub machine_socket: PathBuf,
    /// The network cable: the switch's end.
    pub switch_socket: PathBuf,
}

impl Places {
    /// The files of machine `name`: those that stay in `files`, sockets (whose paths must be short) in `sockets`.
    pub fn new(name: &str, files: &Path, sockets: &Path) -> Self {
        let file = |suffix: &str| files.join(format!("{name}.{suffix}"));
        let socket = |suffix: &str| sockets.join(format!("{name}.{suffix}"));
        Self {
            disk: file("disk.raw"),
            serial_log: file("serial.log"),
            qemu_log: file("qemu.log"),
            variables: file("vars.fd"),
            qmp_socket: socket("qmp"),
            disc_socket: socket("disc"),
            machine_socket: socket("net"),
            switch_socket: socket("switch"),
        }
    }
}

/// Makes the files that are not there: a machine keeps its disk and its firmware variables, its logs begin anew.
pub(super) fn prepare(spec: &MachineSpec, places: &Places) -> io::Result<()> {
    if let Some(Disk { bytes, .. }) = spec.disk {
        let disk = OpenOptions::new().write(true).create(true).truncate(false).open(&places.disk)?;
        if disk.metadata()?.len() != bytes {
            disk.set_len(bytes)?;
        }
    }
    if spec.firmware == Firmware::Uefi && !places.variables.exists() {
        let [_, variables] = ovmf(spec);
        std::fs::copy(variables, &places.variables).map_err(|error| {
            io::Error::new(error.kind(), format!("{variables} (package ovmf) cannot be copied: {error}"))
        })?;
    }
    for log in [&places.serial_log, &places.qemu_log] {
        File::create(log)?;
    }
    Ok(())
}

/// Code and first variables of UEFI firmware.
fn ovmf(spec: &MachineSpec) -> [&'static str; 2] {
    if spec.secure_boot { OVMF_SECURE } else { OVMF }
}

/// Starts QEMU; the machine runs at once.
pub(super) fn launch(
    spec: &MachineSpec,
    places: &Places,
    target: BootTarget,
    disc: bool,
) -> io::Result<Process> {
    match std::fs::remove_file(&places.qmp_socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let log = OpenOptions::new().append(true).create(true).open(&places.qemu_log)?;
    let errors = log.try_clone()?;
    let arguments = arguments(spec, places, target, disc);
    Process::spawn(QEMU, |command: &mut Command| {
        command.args(arguments).stdin(Stdio::null()).stdout(log).stderr(errors);
    })
}

/// The end of what QEMU said, on one line.
pub(super) fn last_words(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS)))?;
        let mut bytes = Vec::new();
        file.take(LAST_WORDS).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).split_whitespace().collect::<Vec<_>>().join(" "))
    };
    read().unwrap_or_else(|error| format!("its log cannot be read: {error}"))
}

const fn translation_mib(memory_mib: u32) -> u32 {
    if memory_mib < LARGE_MIB { TRANSLATION_MIB } else { memory_mib / 2 }
}

fn arguments(spec: &MachineSpec, places: &Places, target: BootTarget, disc: bool) -> Vec<String> {
    let identity = spec.identity();
    let mut all = Arguments::default();
    all.flag("-no-user-config").flag("-nodefaults").option("-name", &escaped(spec.name()));
    // With graphics off SeaBIOS and iPXE write to the serial port.
    let secure = spec.firmware == Firmware::Uefi && spec.secure_boot;
    all.option("-machine", if secure { "q35,graphics=off,smm=on" } else { "q35,graphics=off" })
        .option("-accel", &format!("tcg,thread=multi,tb-size={}", translation_mib(spec.memory_mib)));
    all.option("-cpu", "max").option("-smp", &spec.processors.to_string());
    all.option("-m", &spec.memory_mib.to_string());
    all.option("-uuid", &identity.uuid).option(
        "-smbios",
        &format!(
            "type=1,manufacturer={},product={},serial={}",
            identity.manufacturer, identity.model, identity.serial
        ),
    );
    all.option("-display", "none").option("-vga", "none").option("-rtc", "base=utc");
    // Two serial ports with one log: installed systems take the first, upstream's fixed kernel arguments name the second.
    all.option("-chardev", &format!("file,id=serial,mux=on,append=on,path={}", path(&places.serial_log)));
    all.option("-serial", "chardev:serial").option("-serial", "chardev:serial");
    all.option("-qmp", &format!("unix:{},server=on,wait=off", path(&places.qmp_socket)));
    // It tells why it would end and waits to be killed: see change_of in the parent module.
    all.option("-action", "reboot=shutdown,shutdown=pause,panic=shutdown").option("-boot", "strict=on");
    all.option("-object", "rng-random,id=rng0,filename=/dev/urandom")
        .option("-device", "virtio-rng-pci,rng=rng0");
    if spec.firmware == Firmware::Uefi {
        let [code, _] = ovmf(spec);
        all.option("-drive", &format!("if=pflash,unit=0,format=raw,readonly=on,file={code}"));
        all.option("-drive", &format!("if=pflash,unit=1,format=raw,file={}", path(&places.variables)));
        if secure {
            // Only firmware itself, in system management mode, writes variables; it does not survive a suspend to memory.
            all.option("-global", "driver=cfi.pflash01,property=secure,value=on");
            all.option("-global", "ICH9-LPC.disable_s3=1");
        }
        for (name, on) in [("IPv4PXESupport", spec.pxe.ipv4), ("IPv6PXESupport", spec.pxe.ipv6)] {
            let answer = if on { "y" } else { "n" };
            all.option("-fw_cfg", &format!("name=opt/org.tianocore/{name},string={answer}"));
        }
    }
    let index = |device, usual| if target == device { FIRST_INDEX } else { usual };
    network(&mut all, spec, places, index(BootTarget::Pxe, NETWORK_INDEX));
    if let Some(disk) = spec.disk {
        attach_disk(&mut all, disk, &places.disk, &identity.serial, index(BootTarget::Hdd, DISK_INDEX));
    }
    if disc {
        attach_disc(&mut all, &places.disc_socket, index(BootTarget::Cd, DRIVE_INDEX));
    }
    all.0
}

fn network(all: &mut Arguments, spec: &MachineSpec, places: &Places, index: u32) {
    let (ours, theirs) = (path(&places.machine_socket), path(&places.switch_socket));
    all.option(
        "-netdev",
        &format!("dgram,id=net0,local.type=unix,local.path={ours},remote.type=unix,remote.path={theirs}"),
    );
    // OVMF brings its own driver and PXE client; BIOS machines have iPXE in the ROM of the card.
    let rom = if spec.firmware == Firmware::Uefi { ",romfile=" } else { "" };
    let mac = spec.mac();
    all.option("-device", &format!("virtio-net-pci,id=card0,netdev=net0,mac={mac},bootindex={index}{rom}"));
}

fn attach_disk(all: &mut Arguments, disk: Disk, file: &Path, serial: &str, index: u32) {
    // The host's page cache survives any end of the machine; only the host's own crash would lose it.
    let file = path(file);
    all.option("-drive", &format!("if=none,id=drive0,format=raw,cache=unsafe,discard=unmap,file={file}"));
    let device = match disk.bus {
        DiskBus::Virtio => "virtio-blk-pci",
        DiskBus::Nvme => "nvme",
    };
    all.option("-device", &format!("{device},id=disk0,drive=drive0,serial={serial},bootindex={index}"));
}

fn attach_disc(all: &mut Arguments, socket: &Path, index: u32) {
    let file = format!("nbd+unix:///?socket={}", path(socket));
    all.option("-drive", &format!("if=none,id=disc0,format=raw,media=cdrom,readonly=on,file={file}"));
    all.option("-device", &format!("ide-cd,id=cd0,drive=disc0,bootindex={index}"));
}

#[derive(Default)]
struct Arguments(Vec<String>);

impl Arguments {
    fn flag(&mut self, name: &str) -> &mut Self {
        self.0.push(name.to_owned());
        self
    }

    fn option(&mut self, name: &str, value: &str) -> &mut Self {
        self.flag(name).flag(value)
    }
}

/// A path inside an option, where QEMU ends a value at a comma.
fn path(path: &Path) -> String {
    escaped(&path.display().to_string())
}

fn escaped(text: &str) -> String {
    text.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(firmware: Firmware, target: BootTarget, disc: bool) -> String {
        let spec = MachineSpec::new("m1", "52:54:00:00:00:11".parse().unwrap(), firmware).unwrap();
        arguments(&spec, &Places::new("m1", Path::new("/lab,1"), Path::new("/s")), target, disc).join(" ")
    }

    #[test]
    fn the_boot_order_follows_the_override_and_commas_stay_in_paths() {
        let bios = line(Firmware::Bios, BootTarget::None, false);
        assert!(bios.contains("virtio-blk-pci,id=disk0,drive=drive0,serial=LAB-m1,bootindex=3"), "{bios}");
        assert!(bios.contains("mac=52:54:00:00:00:11,bootindex=5 "), "{bios}");
        assert!(bios.contains("file=/lab,,1/m1.disk.raw"), "{bios}");
        assert!(!bios.contains("pflash") && !bios.contains("cdrom"), "{bios}");
        let uefi = line(Firmware::Uefi, BootTarget::Pxe, true);
        assert!(
            uefi.contains("bootindex=1,romfile= ") && uefi.contains("serial=LAB-m1,bootindex=3"),
            "{uefi}"
        );
        assert!(
            uefi.contains("file=nbd+unix:///?socket=/s/m1.disc ") && uefi.ends_with("bootindex=7"),
            "{uefi}"
        );
        assert!(line(Firmware::Bios, BootTarget::Cd, true).ends_with("drive=disc0,bootindex=1"));
        assert!(uefi.contains("if=pflash,unit=1,format=raw,file=/lab,,1/m1.vars.fd"), "{uefi}");
    }

    #[test]
    fn files_are_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut spec = MachineSpec::new("m1", "52:54:00:00:00:11".parse().unwrap(), Firmware::Bios).unwrap();
        spec.disk = Some(Disk { bus: DiskBus::Nvme, bytes: 1 << 20 });
        let places = Places::new("m1", dir.path(), dir.path());
        prepare(&spec, &places).unwrap();
        std::fs::write(&places.qemu_log, "qemu: no such\ndevice\n").unwrap();
        assert_eq!(last_words(&places.qemu_log), "qemu: no such device");
        let mut bytes = std::fs::read(&places.disk).unwrap();
        assert_eq!(bytes.len(), 1 << 20);
        bytes[0] = 7;
        std::fs::write(&places.disk, &bytes).unwrap();
        prepare(&spec, &places).unwrap();
        assert_eq!(std::fs::read(&places.disk).unwrap()[0], 7);
    }
}

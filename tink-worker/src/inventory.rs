// SPDX-License-Identifier: Apache-2.0
//! What the machine is made of, read once at start from `/proc` and `/sys` and sent to the server. What cannot be read
//! is left out. The root directory is a parameter so that tests can bring a machine of their own.

use std::fs;
use std::path::{Path, PathBuf};

use diskimage::disks::{self, attribute};
use proto::workflow::{
    AgentAttributes, Baseboard, Bios, Block, Chassis, Cpu, Memory, Network, Pci, Processor, Product,
};

/// PCI devices sent at most; big machines have hundreds of bridges.
const MAX_PCI: usize = 128;

/// Describes the machine whose `/proc` and `/sys` are below `root`.
pub(crate) fn collect(root: &Path) -> AgentAttributes {
    let sys = root.join("sys");
    let dmi = |name: &str| attribute(&sys.join("class/dmi/id").join(name));
    AgentAttributes {
        cpu: cpu(root),
        memory: memory(root),
        block: disks::list(&sys).into_iter().map(|disk| block(&sys, disk)).collect(),
        network: networks(&sys),
        pci: pci(&sys),
        gpu: Vec::new(),
        chassis: Some(Chassis { serial: dmi("chassis_serial"), vendor: dmi("chassis_vendor") }),
        bios: Some(Bios {
            vendor: dmi("bios_vendor"),
            version: dmi("bios_version"),
            release_date: dmi("bios_date"),
        }),
        baseboard: Some(Baseboard {
            vendor: dmi("board_vendor"),
            product: dmi("board_name"),
            version: dmi("board_version"),
            serial_number: dmi("board_serial"),
        }),
        product: Some(Product {
            name: dmi("product_name"),
            vendor: dmi("sys_vendor"),
            serial_number: dmi("product_serial"),
        }),
    }
}

/// Seconds since the kernel started; 0 when it does not say.
pub(crate) fn uptime_seconds() -> f64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn cpu(root: &Path) -> Option<Cpu> {
    let text = fs::read_to_string(root.join("proc/cpuinfo")).ok()?;
    let mut processors: Vec<Processor> = Vec::new();
    for thread in text.split("\n\n").filter(|thread| !thread.trim().is_empty()) {
        let field = |name: &str| {
            thread.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                (key.trim() == name).then(|| value.trim().to_owned())
            })
        };
        if field("processor").is_none() {
            continue;
        }
        let number = |name: &str| field(name).and_then(|text| text.parse().ok());
        let id: u32 = number("physical id").unwrap_or(0);
        match processors.iter_mut().find(|processor| processor.id == Some(id)) {
            Some(processor) => processor.threads = processor.threads.map(|threads| threads.saturating_add(1)),
            None => processors.push(Processor {
                id: Some(id),
                cores: number("cpu cores"),
                threads: Some(1),
                vendor: field("vendor_id"),
                model: field("model name"),
                capabilities: field("flags")
                    .or_else(|| field("Features"))
                    .map(|flags| flags.split_whitespace().map(str::to_owned).collect())
                    .unwrap_or_default(),
            }),
        }
    }
    // Processors that do not say how many cores they have: one per thread.
    for processor in &mut processors {
        processor.cores = processor.cores.or(processor.threads);
    }
    let sum = |of: fn(&Processor) -> Option<u32>| Some(processors.iter().filter_map(of).sum());
    Some(Cpu {
        total_cores: sum(|processor| processor.cores),
        total_threads: sum(|processor| processor.threads),
        processors,
    })
}

fn memory(root: &Path) -> Option<Memory> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    let usable = kibibytes.saturating_mul(1024);
    let total = installed_memory(root).unwrap_or(usable);
    Some(Memory { total: Some(binary_size(total)), usable: Some(binary_size(usable)) })
}

/// Memory as the firmware handed it over: the hot-plug blocks that are online.
fn installed_memory(root: &Path) -> Option<u64> {
    let directory = root.join("sys/devices/system/memory");
    let size = u64::from_str_radix(&attribute(&directory.join("block_size_bytes"))?, 16).ok()?;
    let online = entries(&directory)
        .iter()
        .filter(|path| attribute(&path.join("state")).is_some_and(|state| state == "online"))
        .count();
    (online > 0).then(|| size.saturating_mul(online as u64))
}

fn block(sys: &Path, disk: disks::Disk) -> Block {
    let directory = sys.join("block").join(&disk.name);
    let controller = [
        ("nvme", "NVMe"),
        ("vd", "virtio"),
        ("xvd", "virtio"),
        ("mmcblk", "MMC"),
        ("hd", "IDE"),
        ("sd", "SCSI"),
    ]
    .into_iter()
    .find(|(prefix, _)| disk.name.starts_with(prefix))
    .map(|(_, name)| name.to_owned());
    let drive = match attribute(&directory.join("queue/rotational")).as_deref() {
        Some("1") => Some("HDD".to_owned()),
        Some("0") => Some("SSD".to_owned()),
        _ => None,
    };
    let physical = attribute(&directory.join("queue/physical_block_size")).and_then(|text| text.parse().ok());
    Block {
        size: Some(binary_size(disk.size)),
        controller_type: controller,
        drive_type: drive,
        physical_block_size: physical.map(binary_size),
        vendor: attribute(&directory.join("device/vendor")),
        model: disk.model,
        wwn: disk.wwid,
        serial_number: disk.serial,
        name: Some(disk.name),
    }
}

fn networks(sys: &Path) -> Vec<Network> {
    entries(&sys.join("class/net"))
        .into_iter()
        // Only hardware has a device behind it: bridges, tunnels and the loopback do not.
        .filter(|path| path.join("device").exists())
        .map(|path| Network {
            name: Some(file_name(&path)),
            mac: attribute(&path.join("address")),
            // Reading fails, or gives -1, while there is no link.
            speed: attribute(&path.join("speed"))
                .filter(|speed| speed.parse::<u32>().is_ok())
                .map(|speed| format!("{speed}Mb/s")),
            enabled_capabilities: Vec::new(),
        })
        .collect()
}

fn pci(sys: &Path) -> Vec<Pci> {
    entries(&sys.join("bus/pci/devices"))
        .into_iter()
        .take(MAX_PCI)
        .map(|path| Pci {
            vendor: attribute(&path.join("vendor")),
            product: attribute(&path.join("device")),
            class: attribute(&path.join("class")),
            driver: path.join("driver").canonicalize().ok().map(|driver| file_name(&driver)),
        })
        .collect()
}

/// Rounded up to a whole binary unit, as agents of the contract write sizes: 33,000,000,000 bytes are `31GB`.
fn binary_size(bytes: u64) -> String {
    let mut scaled = bytes;
    for unit in ["B", "KB", "MB", "GB", "TB"] {
        if scaled < 1024 {
            return format!("{scaled}{unit}");
        }
        scaled = scaled.div_ceil(1024);
    }
    format!("{scaled}PB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn sizes_are_rounded_up_to_a_whole_binary_unit() {
        for (bytes, text) in
            [(512, "512B"), (33_000_000_000, "31GB"), (32 << 30, "32GB"), (1025, "2KB"), (0, "0B")]
        {
            assert_eq!(binary_size(bytes), text);
        }
    }

    #[test]
    fn a_machine_is_described_from_its_files() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let thread = |number: u32, socket: u32| {
            format!(
                "processor\t: {number}\nvendor_id\t: V\nmodel name\t: M 1\nphysical id\t: {socket}\ncpu cores\t: 1\n\
                 flags\t\t: fpu vmx\n"
            )
        };
        let threads = [thread(0, 0), thread(1, 0), thread(2, 1), thread(3, 1)];
        put(root, "proc/cpuinfo", &(threads.join("\n") + "\n"));
        put(root, "proc/meminfo", "MemTotal:        2000000 kB\nMemFree: 1 kB\n");
        put(root, "sys/devices/system/memory/block_size_bytes", "8000000\n");
        for number in 0..16 {
            put(root, &format!("sys/devices/system/memory/memory{number}/state"), "online\n");
        }
        put(root, "sys/block/nvme0n1/size", "2097152\n");
        put(root, "sys/block/nvme0n1/queue/rotational", "0\n");
        put(root, "sys/block/nvme0n1/wwid", "eui.1\n");
        put(root, "sys/class/net/eth0/device/vendor", "0x8086\n");
        put(root, "sys/class/net/eth0/address", "52:54:00:00:00:11\n");
        put(root, "sys/class/net/eth0/speed", "1000\n");
        put(root, "sys/class/net/lo/address", "00:00:00:00:00:00\n");
        put(root, "sys/class/dmi/id/product_name", "Box\n");
        put(root, "sys/bus/pci/devices/0000:00:00.0/vendor", "0x8086\n");

        let machine = collect(root);
        let cpu = machine.cpu.unwrap();
        assert_eq!((cpu.total_cores, cpu.total_threads, cpu.processors.len()), (Some(2), Some(4), 2));
        assert_eq!(cpu.processors[0].capabilities, ["fpu", "vmx"]);
        let memory = machine.memory.unwrap();
        assert_eq!((memory.total.as_deref(), memory.usable.as_deref()), (Some("2GB"), Some("2GB")));
        let [disk] = machine.block.as_slice() else { panic!("{:?}", machine.block) };
        assert_eq!((disk.size.as_deref(), disk.drive_type.as_deref()), (Some("1GB"), Some("SSD")));
        assert_eq!((disk.controller_type.as_deref(), disk.wwn.as_deref()), (Some("NVMe"), Some("eui.1")));
        let [net] = machine.network.as_slice() else { panic!("{:?}", machine.network) };
        assert_eq!((net.name.as_deref(), net.speed.as_deref()), (Some("eth0"), Some("1000Mb/s")));
        assert_eq!(machine.product.unwrap().name.as_deref(), Some("Box"));
        assert_eq!(machine.pci.len(), 1);
    }

    #[test]
    fn a_machine_that_tells_nothing_is_described_all_the_same() {
        let root = tempfile::tempdir().unwrap();
        let machine = collect(root.path());
        assert!(machine.cpu.is_none() && machine.block.is_empty());
    }
}

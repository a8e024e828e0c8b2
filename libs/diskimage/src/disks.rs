// SPDX-License-Identifier: Apache-2.0
//! Which disks and partitions this machine has, read from sysfs. The agent calls it for its inventory, for the names of
//! disks in actions, and for error texts that say what is there instead of only what is not.

mod names;

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

pub use names::{Unresolved, resolve};

/// Where sysfs is mounted.
pub const SYS: &str = "/sys";

/// Block devices that are not disks: their kernel name without its number.
const NOT_DISKS: [&str; 7] = ["loop", "ram", "zram", "sr", "fd", "dm-", "md"];

const POLL: Duration = Duration::from_millis(20);

/// A whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Kernel name, e.g. `nvme0n1`; the node is `/dev/<name>`.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// As the drive calls itself.
    pub model: Option<String>,
    /// As the drive reports it.
    pub serial: Option<String>,
    /// World-wide identification with its kind, e.g. `naa.5002538e40a1b2c3` or `eui.0025385b01a2b3c4`.
    pub wwid: Option<String>,
    /// Kernel names of its partitions, in the order of their numbers.
    pub partitions: Vec<String>,
}

/// All disks with a medium, sorted by name. Unreadable entries are left out.
pub fn list(sys: &Path) -> Vec<Disk> {
    let Ok(entries) = fs::read_dir(sys.join("block")) else {
        return Vec::new();
    };
    let mut disks: Vec<Disk> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| !NOT_DISKS.iter().any(|prefix| name.starts_with(prefix)))
        .map(|name| disk(sys, name))
        .filter(|disk| disk.size > 0)
        .collect();
    disks.sort_by(|a, b| a.name.cmp(&b.name));
    disks
}

/// Partitions of the disk with this kernel name, in the order of their numbers.
pub fn partitions(sys: &Path, disk: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(sys.join("class/block").join(disk)) else {
        return Vec::new();
    };
    let mut found: Vec<(u32, String)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = attribute(&entry.path().join("partition"))?.parse().ok()?;
            Some((number, entry.file_name().into_string().ok()?))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, name)| name).collect()
}

/// One sentence part for an error text: what disks there are.
pub fn describe(disks: &[Disk]) -> String {
    if disks.is_empty() {
        return "this machine has no disk at all (is its storage driver loaded?)".to_owned();
    }
    let each: Vec<String> = disks
        .iter()
        .map(|disk| {
            let mut text = format!("/dev/{} ({}", disk.name, human_size(disk.size));
            if let Some(model) = &disk.model {
                text.push_str(&format!(", {model}"));
            }
            if let Some(serial) = &disk.serial {
                text.push_str(&format!(", serial {serial}"));
            }
            text + ")"
        })
        .collect();
    format!("this machine has {}", each.join(", "))
}

/// One sentence part for an error text: what partitions there are.
pub fn describe_partitions(disks: &[Disk]) -> String {
    let each: Vec<String> =
        disks.iter().flat_map(|disk| &disk.partitions).map(|name| format!("/dev/{name}")).collect();
    if each.is_empty() {
        format!("no disk has a partition; {}", describe(disks))
    } else {
        format!("this machine has the partitions {}", each.join(", "))
    }
}

/// Waits until a name means a disk or partition ([`resolve`]) and its node is a block device; returns the node, after
/// `patience` also one that is not there.
///
/// # Errors
/// See [`Unresolved`].
pub fn wait_for(sys: &Path, path: &Path, patience: Duration) -> Result<PathBuf, Unresolved> {
    let deadline = Instant::now() + patience;
    let node = loop {
        match resolve(sys, path) {
            Ok(node) => break node,
            Err(Unresolved::NoSuchDisk { .. } | Unresolved::NoSuchPartition { .. })
                if Instant::now() < deadline =>
            {
                thread::sleep(POLL);
            }
            Err(error) => return Err(error),
        }
    };
    if !node.is_file() {
        wait_for_block_device(&node, deadline.saturating_duration_since(Instant::now()));
    }
    Ok(node)
}

/// Waits until `path` is a block device. Polls, because nothing in the in-memory OS reports new nodes.
pub fn wait_for_block_device(path: &Path, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if path.metadata().is_ok_and(|meta| meta.file_type().is_block_device()) {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL);
    }
}

/// Waits until every partition that the kernel knows on `disk` has its device node; returns the nodes.
pub fn wait_for_partitions(sys: &Path, disk: &Path, patience: Duration) -> Vec<PathBuf> {
    let Some(name) = disk.file_name().and_then(|name| name.to_str()) else {
        return Vec::new();
    };
    let deadline = Instant::now() + patience;
    let dev = disk.parent().unwrap_or(Path::new("/dev"));
    let nodes: Vec<PathBuf> =
        partitions(sys, name).into_iter().map(|partition| dev.join(partition)).collect();
    for node in &nodes {
        if !wait_for_block_device(node, deadline.saturating_duration_since(Instant::now())) {
            tracing::warn!(node = %node.display(), "partition has no device node");
        }
    }
    nodes
}

fn disk(sys: &Path, name: String) -> Disk {
    let directory = sys.join("block").join(&name);
    // The unit of this file is 512 bytes whatever the logical block size is.
    let sectors: u64 = attribute(&directory.join("size")).and_then(|text| text.parse().ok()).unwrap_or(0);
    // SD and MMC cards have a name instead.
    let model =
        attribute(&directory.join("device/model")).or_else(|| attribute(&directory.join("device/name")));
    let serial = attribute(&directory.join("device/serial"))
        .or_else(|| attribute(&directory.join("serial")))
        .or_else(|| unit_serial_number(&directory.join("device/vpd_pg80")));
    let wwid = attribute(&directory.join("wwid")).or_else(|| attribute(&directory.join("device/wwid")));
    let partitions = partitions(sys, &name);
    Disk { name, size: sectors.saturating_mul(512), model, serial, wwid, partitions }
}

/// A text of sysfs, without white space and NUL around it; nothing when there is none.
pub fn attribute(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// SPC-4 section 7.8.18: the Unit Serial Number page has a header of four bytes, the last two the length.
fn unit_serial_number(path: &Path) -> Option<String> {
    let page = fs::read(path).ok()?;
    let serial = String::from_utf8_lossy(page.get(4..)?).trim_matches(['\0', ' ']).to_owned();
    (!serial.is_empty()).then_some(serial)
}

fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut scaled = bytes;
    let mut rest = 0;
    let mut unit = "B";
    for next in UNITS.iter().skip(1) {
        if scaled < 1024 {
            break;
        }
        rest = scaled % 1024;
        scaled /= 1024;
        unit = next;
    }
    let tenth = rest * 10 / 1024;
    if tenth == 0 { format!("{scaled} {unit}") } else { format!("{scaled}.{tenth} {unit}") }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn disks_are_listed_with_what_tells_them_apart() {
        let sys = tempfile::tempdir().unwrap();
        put(sys.path(), "block/sda/size", "20971520\n");
        put(sys.path(), "block/sda/device/model", "QEMU HARDDISK   \n");
        put(sys.path(), "block/sda/device/vpd_pg80", "\0\u{1}\0\u{7}QM00001");
        put(sys.path(), "block/vda/size", "3145728\n");
        put(sys.path(), "block/vda/serial", "disk-1\n");
        put(sys.path(), "block/sdb/size", "0\n");
        put(sys.path(), "block/loop0/size", "100\n");
        put(sys.path(), "class/block/sda/sda10/partition", "10\n");
        put(sys.path(), "class/block/sda/sda2/partition", "2\n");
        put(sys.path(), "class/block/sda/queue/rotational", "1\n");

        let disks = list(sys.path());
        assert_eq!(disks.iter().map(|disk| disk.name.as_str()).collect::<Vec<_>>(), ["sda", "vda"]);
        assert_eq!(disks[0].partitions, ["sda2", "sda10"]);
        assert_eq!(
            describe(&disks),
            "this machine has /dev/sda (10 GiB, QEMU HARDDISK, serial QM00001), /dev/vda (1.5 GiB, serial disk-1)"
        );
        assert_eq!(describe_partitions(&disks), "this machine has the partitions /dev/sda2, /dev/sda10");
        assert!(describe(&[]).contains("no disk at all"));
    }

    #[test]
    fn waiting_for_a_node_that_never_comes_ends() {
        assert!(!wait_for_block_device(Path::new("/dev/no-such-node"), Duration::from_millis(30)));
    }
}

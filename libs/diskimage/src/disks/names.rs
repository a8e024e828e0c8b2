// SPDX-License-Identifier: Apache-2.0
//! What `/dev/disk/by-id/...` means in an in-memory system that has no udev to make these links: the name is taken apart
//! and compared with what sysfs says of each disk. The rules are those of systemd's `60-persistent-storage.rules`.
//!
//! A name that could mean two disks means none: a wrong guess would wipe a disk. Called by the agent's actions, for
//! whole disks and for partitions (`-part1`).

use std::path::{Path, PathBuf};

use super::{Disk, describe, list};

const BY_ID: &str = "/dev/disk/by-id/";
const LINKS: &str = "/dev/disk/";

/// Longest serial number of a virtio disk (Virtual I/O Device 1.2, section 5.2.6: 20 bytes).
const VIRTIO_SERIAL: usize = 20;

/// Why a name means no disk. The disk may appear later; the others are permanent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// No disk is called so.
    #[error("disk {name} does not exist; {present}")]
    NoSuchDisk {
        /// The name.
        name: String,
        /// What there is instead, for people.
        present: String,
    },
    /// The disk is there and has no such partition.
    #[error("{name} is on disk /dev/{disk}, which has no partition {number}")]
    NoSuchPartition {
        /// The name.
        name: String,
        /// Kernel name of the disk.
        disk: String,
        /// The partition.
        number: u32,
    },
    /// More than one disk is called so.
    #[error("disk {name} could be {candidates}: name it by its serial number or its device node")]
    Ambiguous {
        /// The name.
        name: String,
        /// The device nodes.
        candidates: String,
    },
    /// A link of a kind that is not known here.
    #[error("disk {0} cannot be found: of the links below /dev/disk only those of by-id are known here")]
    Kind(String),
}

/// The device node that a name means. A name that exists, and one that is not below `/dev/disk`, is what it says.
///
/// # Errors
/// See [`Unresolved`].
pub fn resolve(sys: &Path, path: &Path) -> Result<PathBuf, Unresolved> {
    let name = path.to_string_lossy();
    if !name.starts_with(LINKS) || path.exists() {
        return Ok(path.to_owned());
    }
    let id = name.strip_prefix(BY_ID).ok_or_else(|| Unresolved::Kind(name.to_string()))?;
    resolve_id(sys, id)
}

fn resolve_id(sys: &Path, id: &str) -> Result<PathBuf, Unresolved> {
    let disks = list(sys);
    let name = format!("{BY_ID}{id}");
    // A model may end like a partition's suffix, so the whole is tried first.
    let whole: Vec<&Disk> = disks.iter().filter(|disk| is_called(disk, id)).collect();
    let (found, number) = match partition_of(id) {
        Some((id, number)) if whole.is_empty() => {
            (disks.iter().filter(|disk| is_called(disk, id)).collect(), Some(number))
        }
        _ => (whole, None),
    };
    let disk = match found.as_slice() {
        [disk] => disk,
        [] => return Err(Unresolved::NoSuchDisk { name, present: describe(&disks) }),
        several => {
            let nodes: Vec<String> = several.iter().map(|disk| format!("/dev/{}", disk.name)).collect();
            return Err(Unresolved::Ambiguous { name, candidates: nodes.join(" or ") });
        }
    };
    let Some(number) = number else { return Ok(Path::new("/dev").join(&disk.name)) };
    // `sda2`, but `nvme0n1p2`.
    let between = if disk.name.ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
    let partition = format!("{}{between}{number}", disk.name);
    if disk.partitions.contains(&partition) {
        return Ok(Path::new("/dev").join(partition));
    }
    Err(Unresolved::NoSuchPartition { name, disk: disk.name.clone(), number })
}

/// `<id>-part<number>` taken apart.
fn partition_of(id: &str) -> Option<(&str, u32)> {
    let (id, number) = id.rsplit_once("-part")?;
    let digits = !number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((id, number.parse().ok().filter(|_| digits)?))
}

/// Whether a name below `by-id` is one of this disk.
fn is_called(disk: &Disk, id: &str) -> bool {
    let Some((bus, rest)) = id.split_once('-') else { return false };
    let on = |prefixes: &[&str]| prefixes.iter().any(|prefix| disk.name.starts_with(prefix));
    match bus {
        "wwn" => has_wwid(disk, rest.strip_prefix("0x").unwrap_or(rest)),
        "nvme" => on(&["nvme"]) && (has_wwid(disk, rest) || has_serial(disk, without_namespace(disk, rest))),
        "virtio" => {
            let serial = disk.serial.as_deref().map(udev_text);
            let cut = |serial: &String| serial.chars().take(VIRTIO_SERIAL).collect::<String>() == rest;
            on(&["vd"]) && serial.as_ref().is_some_and(|serial| serial == rest || cut(serial))
        }
        "mmc" => on(&["mmcblk"]) && has_serial(disk, rest),
        // The interface and unit that a USB bridge shows the disk at.
        "usb" => on(&["sd"]) && has_serial(disk, rest.rsplit_once('-').map_or(rest, |(rest, _)| rest)),
        "ata" => on(&["sd", "hd"]) && has_serial(disk, rest),
        // SPC-4 section 7.8.6: the first digit says which kind of identification follows; 2 is EUI-64, 3 is NAA.
        "scsi" => {
            on(&["sd"]) && (rest.get(1..).is_some_and(|id| has_wwid(disk, id)) || has_serial(disk, rest))
        }
        _ => false,
    }
}

/// Whether a world-wide name is the disk's, whatever its case and the kind before it.
fn has_wwid(disk: &Disk, id: &str) -> bool {
    let bare = |text: &str| {
        let text = udev_text(text).to_ascii_lowercase();
        let kinds = ["naa.", "eui.", "nvme.", "uuid."];
        kinds.iter().find_map(|kind| text.strip_prefix(kind)).unwrap_or(&text).to_owned()
    };
    disk.wwid.as_deref().is_some_and(|wwid| bare(wwid) == bare(id))
}

/// Whether a text is `<model>_<serial>` of the disk, perhaps with a vendor before the model. SCSI's inquiry cuts a model
/// at 16 characters (SPC-4 section 6.6.2), so that the text may say more of it than sysfs does.
fn has_serial(disk: &Disk, text: &str) -> bool {
    let Some(serial) = disk.serial.as_deref().map(udev_text).filter(|serial| !serial.is_empty()) else {
        return false;
    };
    if text == serial {
        return true;
    }
    let named = text.strip_suffix(serial.as_str()).and_then(|text| text.strip_suffix('_'));
    let Some((named, model)) = named.zip(disk.model.as_deref().map(udev_text)) else { return false };
    // What is no SCSI disk tells its whole model.
    if disk.name.starts_with("sd") { named.contains(&model) } else { named == model }
}

/// Newer systems add the namespace's number to an NVMe disk's name.
fn without_namespace<'a>(disk: &Disk, text: &'a str) -> &'a str {
    let namespace = disk.name.rsplit_once('n').map_or("", |(_, number)| number);
    let shorter = text.strip_suffix(namespace).and_then(|text| text.strip_suffix('_'));
    shorter.filter(|text| !namespace.is_empty() && has_serial(disk, text)).unwrap_or(text)
}

/// A text as udev puts it into a link: white space at the ends goes, white space between becomes one `_`, and so does
/// every other character that is not plain.
fn udev_text(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let plain = |c: char| if c.is_alphanumeric() || "#+-.:=@_".contains(c) { c } else { '_' };
    words.join("_").chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::put;
    use super::*;

    /// A machine with one disk of each kind, as their drivers show them.
    fn machine() -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        let root = sys.path();
        for name in ["sda", "sdb", "sdc", "vda", "nvme0n1", "mmcblk0"] {
            put(root, &format!("block/{name}/size"), "2048\n");
        }
        put(root, "block/sda/device/model", "Samsung SSD 860 \n");
        put(root, "block/sda/device/vpd_pg80", "\0\u{1}\0\u{14}S3Z2NB0K123456 ");
        put(root, "block/sda/device/wwid", "naa.5002538e40a1b2c3\n");
        put(root, "class/block/sda/sda2/partition", "2\n");
        put(root, "block/sdb/device/model", "PERC H730 Mini\n");
        put(root, "block/sdb/device/wwid", "naa.61866da05a1b2c001f0d0b1c2d3e4f50\n");
        put(root, "block/sdc/device/model", "Ultra Fit\n");
        put(root, "block/sdc/device/vpd_pg80", "\0\u{1}\0\u{4}4C53");
        put(root, "block/vda/serial", "disk-1\n");
        put(root, "block/nvme0n1/wwid", "eui.0025385b01a2b3c4\n");
        put(root, "block/nvme0n1/device/model", "Samsung SSD 970 EVO Plus 1TB            \n");
        put(root, "block/nvme0n1/device/serial", "S4EWNX0N123456\n");
        put(root, "class/block/nvme0n1/nvme0n1p1/partition", "1\n");
        put(root, "block/mmcblk0/device/name", "SA08G\n");
        put(root, "block/mmcblk0/device/serial", "0x1a2b3c4d\n");
        sys
    }

    fn node(sys: &Path, id: &str) -> Result<String, Unresolved> {
        resolve(sys, &Path::new(BY_ID).join(id)).map(|path| path.display().to_string())
    }

    #[test]
    fn the_names_that_udev_gives_mean_the_disk() {
        let sys = machine();
        for (id, disk) in [
            ("ata-Samsung_SSD_860_EVO_500GB_S3Z2NB0K123456", "/dev/sda"),
            ("ata-Samsung_SSD_860_EVO_500GB_S3Z2NB0K123456-part2", "/dev/sda2"),
            ("wwn-0x5002538e40a1b2c3", "/dev/sda"),
            ("wwn-0x5002538E40A1B2C3-part2", "/dev/sda2"),
            ("scsi-35002538e40a1b2c3", "/dev/sda"),
            ("scsi-SATA_Samsung_SSD_860_S3Z2NB0K123456", "/dev/sda"),
            ("wwn-0x61866da05a1b2c001f0d0b1c2d3e4f50", "/dev/sdb"),
            ("scsi-361866da05a1b2c001f0d0b1c2d3e4f50", "/dev/sdb"),
            ("usb-SanDisk_Ultra_Fit_4C53-0:0", "/dev/sdc"),
            ("virtio-disk-1", "/dev/vda"),
            ("nvme-Samsung_SSD_970_EVO_Plus_1TB_S4EWNX0N123456", "/dev/nvme0n1"),
            ("nvme-Samsung_SSD_970_EVO_Plus_1TB_S4EWNX0N123456_1", "/dev/nvme0n1"),
            ("nvme-eui.0025385b01a2b3c4-part1", "/dev/nvme0n1p1"),
            ("mmc-SA08G_0x1a2b3c4d", "/dev/mmcblk0"),
        ] {
            assert_eq!(node(sys.path(), id).as_deref(), Ok(disk), "{id}");
        }
    }

    #[test]
    fn other_names_mean_none_and_the_error_says_what_there_is() {
        let sys = machine();
        for id in [
            "ata-Samsung_SSD_860_EVO_500GB_S3Z2NB0K12345",
            "ata-Samsung_SSD_870_EVO_500GB_S3Z2NB0K123456",
            "wwn-0x5002538e40a1b2c",
            "nvme-Samsung_SSD_860_EVO_500GB_S3Z2NB0K123456",
            "virtio-disk",
            "scsi-3",
            "dm-name-root",
            "disk-1",
            "",
        ] {
            let Err(Unresolved::NoSuchDisk { present, .. }) = node(sys.path(), id) else {
                panic!("{id}");
            };
            assert!(
                present.contains("/dev/sda (1 MiB, Samsung SSD 860, serial S3Z2NB0K123456)"),
                "{present}"
            );
        }
        assert_eq!(
            node(sys.path(), "virtio-disk-1-part3").unwrap_err().to_string(),
            "/dev/disk/by-id/virtio-disk-1-part3 is on disk /dev/vda, which has no partition 3"
        );
        let label = Path::new("/dev/disk/by-label/no-such-label");
        assert!(matches!(resolve(sys.path(), label), Err(Unresolved::Kind(_))));
    }

    #[test]
    fn two_disks_of_one_name_are_not_guessed_between() {
        let sys = machine();
        // Two paths to one disk.
        put(sys.path(), "block/sdd/size", "2048\n");
        put(sys.path(), "block/sdd/device/wwid", "naa.5002538e40a1b2c3\n");
        assert_eq!(
            node(sys.path(), "wwn-0x5002538e40a1b2c3").unwrap_err().to_string(),
            "disk /dev/disk/by-id/wwn-0x5002538e40a1b2c3 could be /dev/sda or /dev/sdd: name it by its serial number or its device node"
        );
        assert_eq!(node(sys.path(), "ata-Samsung_SSD_860_S3Z2NB0K123456").as_deref(), Ok("/dev/sda"));
    }

    #[test]
    fn any_other_path_is_what_it_says() {
        let sys = machine();
        for path in ["/dev/sda", "/dev/no-such-disk", "/tmp/disk.img"] {
            assert_eq!(resolve(sys.path(), Path::new(path)), Ok(PathBuf::from(path)));
        }
    }
}

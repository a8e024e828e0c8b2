// SPDX-License-Identifier: Apache-2.0
//! The document of `/metadata`, which the rootio action partitions disks from. Names and shape are the action's; what it does not
//! read (partition start and type, RAID, files, force) is not sent.

use api::v1alpha1::{Filesystem, Hardware, MountCreate, Partition, StorageDisk};
use serde::Serialize;

#[derive(Serialize, Default)]
struct Document {
    metadata: Metadata,
}

#[derive(Serialize, Default)]
struct Metadata {
    instance: Instance,
}

#[derive(Serialize, Default)]
struct Instance {
    storage: Storage,
}

#[derive(Serialize, Default)]
struct Storage {
    disks: Vec<Disk>,
    filesystems: Vec<MountedFilesystem>,
}

#[derive(Serialize)]
struct Disk {
    device: String,
    partitions: Vec<DiskPartition>,
    wipe_table: bool,
}

#[derive(Serialize)]
struct DiskPartition {
    label: String,
    number: i64,
    size: i64,
}

#[derive(Serialize)]
struct MountedFilesystem {
    mount: Mount,
}

#[derive(Serialize)]
struct Mount {
    create: Create,
    device: String,
    format: String,
    point: String,
}

#[derive(Serialize)]
struct Create {
    options: Vec<String>,
}

/// The document as JSON; what the Hardware does not say is empty.
pub(crate) fn document(hardware: &Hardware) -> Vec<u8> {
    let storage =
        hardware.spec.metadata.as_ref().and_then(|metadata| metadata.instance.as_ref()?.storage.as_ref());
    let storage = storage.map(|storage| Storage {
        disks: storage.disks.iter().map(Disk::from).collect(),
        filesystems: storage.filesystems.iter().map(MountedFilesystem::from).collect(),
    });
    let document =
        Document { metadata: Metadata { instance: Instance { storage: storage.unwrap_or_default() } } };
    // Strings, numbers and lists of them always have a JSON form.
    serde_json::to_vec(&document).unwrap_or_default()
}

impl From<&StorageDisk> for Disk {
    fn from(disk: &StorageDisk) -> Self {
        Self {
            device: disk.device.clone().unwrap_or_default(),
            partitions: disk.partitions.iter().map(DiskPartition::from).collect(),
            wipe_table: disk.wipe_table.unwrap_or_default(),
        }
    }
}

impl From<&Partition> for DiskPartition {
    fn from(partition: &Partition) -> Self {
        Self {
            label: partition.label.clone().unwrap_or_default(),
            number: partition.number.unwrap_or_default(),
            size: partition.size.unwrap_or_default(),
        }
    }
}

impl From<&Filesystem> for MountedFilesystem {
    fn from(filesystem: &Filesystem) -> Self {
        let mount = filesystem.mount.clone().unwrap_or_default();
        let MountCreate { options, .. } = mount.create.unwrap_or_default();
        Self {
            mount: Mount {
                create: Create { options },
                device: mount.device.unwrap_or_default(),
                format: mount.format.unwrap_or_default(),
                point: mount.point.unwrap_or_default(),
            },
        }
    }
}

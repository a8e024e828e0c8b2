// SPDX-License-Identifier: Apache-2.0
//! Which kernel modules go into HookOS: a table of folders and files, and the closure over their dependencies.
//!
//! Pure but for reading the module tree: given the tree of a kernel package and depmod's `modules.dep`, it says which
//! modules belong. What is not in the table is not there at run time, so a row is cheap and a missing one is a machine
//! that cannot be provisioned.

use std::collections::{BTreeMap, BTreeSet};

/// Folders below `kernel/` whose modules are all taken, and single modules (without `.ko`).
///
/// Left out on purpose: wireless, InfiniBand, sound, graphics, network file systems, and protocols that no data centre
/// NIC needs before its operating system runs.
pub const SELECTION: &[&str] = &[
    // Network interfaces: every wired Ethernet driver, its PHYs, USB adapters (often a BMC's), virtual ones.
    "drivers/net/ethernet",
    "drivers/net/phy",
    "drivers/net/mdio",
    "drivers/net/pcs",
    "drivers/net/usb",
    "drivers/net/hyperv",
    "drivers/net/vmxnet3",
    "drivers/net/fjes",
    "drivers/net/virtio_net",
    "drivers/net/xen-netfront",
    "drivers/net/net_failover",
    // VLANs and bonds.
    "drivers/net/bonding",
    "net/8021q",
    "net/802",
    "net/packet",
    // Storage controllers and what sits on them.
    "drivers/ata",
    "drivers/block/loop",
    "drivers/block/virtio_blk",
    "drivers/block/xen-blkfront",
    "drivers/block/nbd",
    "drivers/message/fusion",
    "drivers/mmc",
    "drivers/nvme/common",
    "drivers/nvme/host",
    "drivers/scsi",
    "drivers/target/loopback",
    "drivers/md",
    "drivers/nvdimm",
    // Buses.
    "drivers/virtio",
    "drivers/hv",
    "drivers/pci/controller",
    "drivers/usb/core",
    "drivers/usb/common",
    "drivers/usb/host",
    "drivers/usb/storage",
    "drivers/usb/dwc3",
    // A keyboard on the console, entropy, the TPM, the machine's own BMC.
    "drivers/hid/hid",
    "drivers/hid/hid-generic",
    "drivers/hid/usbhid",
    "drivers/char/hw_random",
    "drivers/char/ipmi",
    "drivers/char/tpm",
    "drivers/char/virtio_console",
    "drivers/firmware",
    // File systems that actions mount, and the tables they need.
    "fs/ext4",
    "fs/jbd2",
    "fs/xfs",
    "fs/btrfs",
    "fs/fat",
    "fs/exfat",
    "fs/isofs",
    "fs/squashfs",
    "fs/overlayfs",
    "fs/nls",
    "fs/efivarfs",
    "fs/fuse",
    "fs/mbcache",
    // Algorithms that the above load by name at run time, which no dependency list shows.
    "arch/x86/crypto",
    "crypto",
    "lib",
];

/// Folders inside the selection that are left out: megabytes for hardware that no server boots from.
pub const EXCLUDED: &[&str] =
    &["drivers/net/ethernet/mellanox/mlxsw", "drivers/net/ethernet/mscc", "drivers/net/ethernet/microchip"];

/// The modules that must be readable before `modules.squashfs` can be mounted.
pub const EARLY: &[&str] = &["loop", "squashfs"];

/// `modules.dep` as depmod writes it: a module's path and the paths it needs, all relative to the version's folder.
#[derive(Debug, Default)]
pub struct Dependencies(BTreeMap<String, Vec<String>>);

impl Dependencies {
    /// Parses `modules.dep`. Lines without a colon are ignored, as kmod does.
    pub fn parse(text: &str) -> Self {
        Self(
            text.lines()
                .filter_map(|line| line.split_once(':'))
                .map(|(path, needs)| (path.to_owned(), needs.split_whitespace().map(str::to_owned).collect()))
                .collect(),
        )
    }

    /// All modules that `selected` names, and all that those need, in order of their paths.
    pub fn closure(&self, selected: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let mut taken = BTreeSet::new();
        for (path, needs) in &self.0 {
            if selected(path) {
                // modules.dep already lists indirect needs, so one level is the closure.
                taken.insert(path.clone());
                taken.extend(needs.iter().cloned());
            }
        }
        taken
    }

    /// The path of the module called `name` (with `-` and `_` alike) and of all that it needs, needs first.
    pub fn load_order(&self, name: &str) -> Option<Vec<String>> {
        let wanted = name.replace('-', "_");
        self.0
            .iter()
            .find(|(path, _)| module_name(path) == wanted)
            .map(|(path, needs)| needs.iter().rev().cloned().chain([path.clone()]).collect())
    }
}

/// Whether the module at `path` (`kernel/drivers/...`, any compression suffix) belongs into HookOS.
pub fn is_selected(path: &str) -> bool {
    let Some(inside) = path.strip_prefix("kernel/") else { return false };
    let stem = inside.split_once(".ko").map_or(inside, |(stem, _)| stem);
    let covers =
        |row: &&&str| stem == **row || stem.strip_prefix(**row).is_some_and(|rest| rest.starts_with('/'));
    SELECTION.iter().any(|row| covers(&row)) && !EXCLUDED.iter().any(|row| covers(&row))
}

/// The kernel's name of the module in a file: no folder, no suffix, underscores.
pub fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split_once(".ko").map_or(file, |(stem, _)| stem).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_cover_folders_and_single_modules_but_no_neighbours() {
        assert!(is_selected("kernel/drivers/net/ethernet/intel/ice/ice.ko.xz"));
        assert!(is_selected("kernel/drivers/net/virtio_net.ko"));
        assert!(is_selected("kernel/net/8021q/8021q.ko.xz"));
        assert!(!is_selected("kernel/drivers/net/wireless/ath/ath.ko.xz"));
        assert!(!is_selected("kernel/drivers/net/ethernet/mellanox/mlxsw/mlxsw_core.ko"));
        assert!(!is_selected("kernel/drivers/hid/hid-sony.ko"), "a file row must not match by prefix");
    }

    #[test]
    fn closure_brings_what_a_module_needs() {
        let dep = Dependencies::parse(
            "kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko\n\
             kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko\nkernel/net/core/failover.ko:\nkernel/sound/soundcore.ko:\n",
        );
        let taken = dep.closure(is_selected);
        assert!(taken.contains("kernel/net/core/failover.ko"));
        assert!(!taken.contains("kernel/sound/soundcore.ko"));
        assert_eq!(
            dep.load_order("virtio-net").unwrap(),
            [
                "kernel/net/core/failover.ko",
                "kernel/drivers/net/net_failover.ko",
                "kernel/drivers/net/virtio_net.ko"
            ]
        );
    }
}

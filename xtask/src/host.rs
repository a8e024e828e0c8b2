// SPDX-License-Identifier: Apache-2.0
//! The only packages that are installed on the user's machine: tools that bring no service, boot hook or kernel.
//!
//! Everything else is unpacked into the cache by [`crate::debian`]. `./x test` holds the list to that: it compares units,
//! boot hooks, `/boot` and `/etc` before and after with a [`Snapshot`].

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::process::{capture, command, run};

/// What the packages are needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Building artefacts.
    Build,
    /// Simulated machines too.
    Machines,
    /// Building the fuzz targets, and nothing else.
    Fuzz,
    /// Counting what benchmarks take, and nothing else.
    Bench,
}

/// Package and what it is for.
const BUILD: &[(&str, &str)] = &[
    ("gcc", "linker and C parts of crates"),
    ("libc6-dev", "static linking of the agent"),
    ("mmdebstrap", "operating-system images"),
    ("e2fsprogs", "ext4 file systems in images"),
    ("dosfstools", "EFI system partitions"),
    ("mtools", "files in EFI system partitions"),
    ("fdisk", "partition tables"),
    ("zstd", "image compression"),
];
const MACHINES: &[(&str, &str)] = &[
    ("qemu-system-x86", "simulated machines"),
    ("ovmf", "their UEFI firmware"),
    ("iproute2", "network namespaces"),
    ("curl", "test peer for HTTP and TFTP"),
    ("cpio", "test peer for the initramfs"),
    ("bzip2", "test peer for images"),
    ("xz-utils", "test peer for images"),
    ("python3-venv", "Redfish test peer and API clients"),
];

const FUZZ: &[(&str, &str)] = &[("g++", "libFuzzer is written in C++")];
const BENCH: &[(&str, &str)] = &[("valgrind", "counts instructions")];

/// The packages for a need, with what each is for.
pub fn packages(need: Need) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    let (one, other): (&[_], &[_]) = match need {
        Need::Build => (BUILD, &[]),
        Need::Machines => (BUILD, MACHINES),
        Need::Fuzz => (FUZZ, &[]),
        Need::Bench => (BENCH, &[]),
    };
    one.iter().chain(other)
}

/// Installs what is missing, after printing the list and, on a terminal, asking.
pub fn install(need: Need) -> Result<()> {
    let missing: Vec<_> = packages(need).filter(|(name, _)| !is_installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("These Debian packages are missing. They bring no service, boot hook or kernel:");
    for (name, purpose) in &missing {
        println!("  {name:20} {purpose}");
    }
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    let by_hand = format!("apt-get install --no-install-recommends {}", names.join(" "));
    if capture(command("id").arg("-u"))?.trim() != "0" {
        bail!("installing needs root; run: sudo {by_hand}");
    }
    if std::io::stdin().is_terminal() {
        print!("Install them now? [Y/n] ");
        std::io::stdout().flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        if !matches!(answer.trim().to_ascii_lowercase().as_str(), "" | "y" | "yes") {
            bail!("nothing was installed; to do it by hand: {by_hand}");
        }
    }
    let environment = [("DEBIAN_FRONTEND", "noninteractive")];
    run(command("apt-get").args(["-q", "update"]).envs(environment))?;
    run(command("apt-get")
        .args(["-q", "-y", "install", "--no-install-recommends"])
        .args(&names)
        .envs(environment))
}

fn is_installed(package: &str) -> bool {
    let status = capture(command("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]));
    status.is_ok_and(|text| text == "installed")
}

/// Free space, in GiB, that must be in a folder's file system before a build starts: a disk that fills up in the middle
/// of one fails with a message of the linker's.
pub fn require_space(folder: &Path, gibibytes: u64) -> Result<()> {
    let present = folder.ancestors().find(|path| path.is_dir()).unwrap_or(folder);
    let system = rustix::fs::statvfs(present)?;
    let free = system.f_bavail.saturating_mul(system.f_frsize) >> 30;
    if free < gibibytes {
        bail!(
            "the disk that holds {} has {free} GiB free, {gibibytes} GiB are needed: make room, or name another disk with \
             CARGO_TARGET_DIR and TINK_CACHE_DIR",
            present.display()
        );
    }
    Ok(())
}

/// What must be the same on the host before and after: what starts by itself, what takes part in booting, `/etc`.
#[derive(Debug)]
pub struct Snapshot {
    files: BTreeMap<PathBuf, String>,
    groups: String,
}

/// Folders that a snapshot covers. `/lib` is `/usr/lib` on every Debian that this runs on.
const WATCHED: &[&str] = &[
    "/boot",
    "/etc",
    "/usr/lib/systemd",
    "/usr/lib/udev",
    "/usr/local/lib/systemd",
    "/usr/share/initramfs-tools",
];
/// What dpkg itself keeps there for any package, tools included.
const PACKAGE_MANAGER: &[&str] = &["/etc/ld.so.cache", "/etc/alternatives/"];
/// What maintainer scripts of the tools write there: defaults of readline and Python, which no package owns.
const DEFAULTS: &[&str] = &["/etc/inputrc", "/etc/python3/debian_config"];
/// A library of QEMU brings an empty group for a kind of device. [`only_new_system_groups`] looks inside.
const GROUPS: &[&str] = &["/etc/group", "/etc/group-", "/etc/gshadow", "/etc/gshadow-"];

impl Snapshot {
    /// Reads the watched folders.
    pub fn take() -> Result<Self> {
        let mut files = BTreeMap::new();
        for folder in WATCHED {
            collect(Path::new(folder), &mut files)?;
        }
        Ok(Self { files, groups: fs::read_to_string("/etc/group")? })
    }

    /// What is different now, one line each. Configuration files that dpkg placed for one of the tools do not count.
    pub fn changes_since(&self) -> Result<Vec<String>> {
        let now = Self::take()?;
        let mut changes = Vec::new();
        let groups_grew = only_new_system_groups(&self.groups, &now.groups);
        for (path, state) in &now.files {
            let is_known = is_one_of(PACKAGE_MANAGER, path) || (groups_grew && is_one_of(GROUPS, path));
            match self.files.get(path) {
                Some(before) if before == state => {}
                Some(_) | None if is_known => {}
                Some(_) => changes.push(format!("changed: {}", path.display())),
                None if is_one_of(DEFAULTS, path) || is_plain_configuration(path) => {}
                None => changes.push(format!("new: {}", path.display())),
            }
        }
        changes.extend(
            self.files
                .keys()
                .filter(|path| !now.files.contains_key(*path))
                .map(|path| format!("gone: {}", path.display())),
        );
        Ok(changes)
    }
}

/// A known path, or one below a known folder.
fn is_one_of(known: &[&str], path: &Path) -> bool {
    let path = path.to_string_lossy();
    known.iter().any(|known| path == *known || (known.ends_with('/') && path.starts_with(known)))
}

/// Every group is still there as it was, and new ones are system groups without members.
fn only_new_system_groups(before: &str, now: &str) -> bool {
    let is_kept = before.lines().all(|group| now.lines().any(|line| line == group));
    let added = now.lines().filter(|group| !before.lines().any(|line| line == *group));
    is_kept
        && added.into_iter().all(|group| {
            let fields: Vec<&str> = group.split(':').collect();
            matches!(fields.as_slice(), [_, _, number, ""] if number.parse::<u32>().is_ok_and(|id| id < 1000))
        })
}

/// A new file below `/etc` that belongs to an installed package and is neither a unit nor an init script or hook.
fn is_plain_configuration(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let starts_something =
        ["/systemd/", "/init.d/", "/rc", "/cron", "/kernel/", "/initramfs-tools/", "/grub.d/", "/udev/"];
    text.starts_with("/etc/")
        && !starts_something.iter().any(|part| text.contains(part))
        && capture(command("dpkg-query").arg("-S").arg(path)).is_ok()
}

/// Path and state (kind, length, time of change) of everything below a folder.
fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        let data = fs::symlink_metadata(&path)?;
        if data.is_dir() {
            collect(&path, files)?;
        } else {
            let state = format!("{:o} {} {}.{}", data.mode(), data.len(), data.mtime(), data.mtime_nsec());
            files.insert(path, state);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_for_a_device_is_no_change_but_a_member_is() {
        let before = "root:x:0:\ndisk:x:6:\n";
        let with = |line: &str| format!("{before}{line}\n");
        assert!(only_new_system_groups(before, before));
        assert!(only_new_system_groups(before, &with("rdma:x:101:")));
        assert!(!only_new_system_groups(before, &with("rdma:x:101:somebody")));
        assert!(!only_new_system_groups(before, &with("people:x:1000:")));
        assert!(!only_new_system_groups(before, "root:x:0:\ndisk:x:6:somebody\n"));
        assert!(!only_new_system_groups(before, "root:x:0:\n"));
    }

    #[test]
    fn a_folder_covers_what_is_below_it_only() {
        let is_known = |path: &str| is_one_of(PACKAGE_MANAGER, Path::new(path));
        assert!(is_known("/etc/ld.so.cache") && is_known("/etc/alternatives/cc"));
        assert!(!is_known("/etc/ld.so.cache.d") && !is_known("/etc/alternatives.conf"));
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The only packages that are installed on the user's machine: tools that bring no service, boot hook or kernel.
//!
//! Everything else is unpacked into the cache by [`crate::debian`]. `./x test` holds the list to that: it compares units,
//! `/boot` and `/etc` before and after with a [`Snapshot`].

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
    ("qemu-utils", "their disks"),
    ("ovmf", "their UEFI firmware"),
    ("iproute2", "network namespaces"),
    ("openssh-client", "logging in to what was installed"),
    ("curl", "test peer for HTTP and TFTP"),
    ("cpio", "test peer for the initramfs"),
    ("bzip2", "test peer for images"),
    ("xz-utils", "test peer for images"),
    ("busybox-static", "DHCP client in tests"),
    ("python3-venv", "Redfish test peer"),
];

/// The packages for a need, with what each is for.
pub fn packages(need: Need) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    BUILD.iter().chain(MACHINES.iter().filter(move |_| need == Need::Machines))
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

/// What must be the same on the host before and after: systemd units, `/boot`, `/etc`.
#[derive(Debug)]
pub struct Snapshot(BTreeMap<PathBuf, String>);

/// Folders that a snapshot covers.
const WATCHED: &[&str] =
    &["/boot", "/etc", "/lib/systemd/system", "/usr/lib/systemd/system", "/usr/local/lib/systemd"];
/// What dpkg itself keeps there for any package, tools included.
const PACKAGE_MANAGER: &[&str] = &["/etc/ld.so.cache", "/etc/alternatives/"];

impl Snapshot {
    /// Reads the watched folders.
    pub fn take() -> Result<Self> {
        let mut files = BTreeMap::new();
        for folder in WATCHED {
            collect(Path::new(folder), &mut files)?;
        }
        Ok(Self(files))
    }

    /// What is different now, one line each. Configuration files that dpkg placed for one of the tools do not count.
    pub fn changes_since(&self) -> Result<Vec<String>> {
        let now = Self::take()?;
        let mut changes = Vec::new();
        for (path, state) in &now.0 {
            match self.0.get(path) {
                Some(before) if before == state => {}
                Some(_) if is_package_managers(path) => {}
                Some(_) => changes.push(format!("changed: {}", path.display())),
                None if is_package_managers(path) || is_plain_configuration(path) => {}
                None => changes.push(format!("new: {}", path.display())),
            }
        }
        changes.extend(
            self.0
                .keys()
                .filter(|path| !now.0.contains_key(*path))
                .map(|path| format!("gone: {}", path.display())),
        );
        Ok(changes)
    }
}

fn is_package_managers(path: &Path) -> bool {
    let path = path.to_string_lossy();
    PACKAGE_MANAGER.iter().any(|known| path == *known || (known.ends_with('/') && path.starts_with(known)))
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

// SPDX-License-Identifier: Apache-2.0
//! Builds operating-system disk images from Debian packages.
//!
//! Called by `xtask` (`./x build`). The image is a raw disk, zstd-compressed: GPT with root in partition 2 (where EKS
//! Anywhere's templates write), a BIOS boot partition 14 and an EFI system partition 15, so that one image boots on
//! either firmware. Inside: systemd, cloud-init, OpenSSH, netplan, Debian's cloud kernel, no machine identity.
//!
//! Nothing here mounts, attaches a loop device or needs root: mmdebstrap works in a user namespace, file systems are
//! filled by `mke2fs -d` and mtools, and GRUB's BIOS stages are laid out by [`grub`].

mod disk;
pub mod grub;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The Debian release inside the image.
pub const SUITE: &str = "bookworm";

const CUSTOMIZE: &str = include_str!("../files/customize.sh");
const ROOT_UUID: &str = "7b2d6e0c-1c2f-4b0e-9a53-3f1d5c9e8a02";
/// FAT volume serial, eight hexadecimal digits.
const ESP_UUID: &str = "7B2DE0C5";
/// Free space that the root file system has before cloud-init grows it to the disk.
const ROOT_SLACK_MIB: u32 = 192;
const PACKAGES: &[&str] = &[
    "systemd-sysv",
    "systemd-resolved",
    "dbus",
    "udev",
    "kmod",
    "login",
    "sudo",
    "iproute2",
    "ca-certificates",
    "cloud-init",
    "cloud-guest-utils",
    "isc-dhcp-client",
    "fdisk",
    "e2fsprogs",
    "openssh-server",
    "netplan.io",
    "linux-image-cloud-amd64",
    "initramfs-tools",
    "zstd",
    "grub-pc-bin",
    "grub-efi-amd64-bin",
    "grub-efi-amd64-signed",
    "shim-signed",
];
const DPKG_OPTIONS: &[&str] = &[
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/locale/*",
];

/// What was built.
#[derive(Debug)]
pub struct Output {
    /// Size of the disk image before compression, in bytes.
    pub raw_bytes: u64,
    /// Size of the file that is served, in bytes.
    pub compressed_bytes: u64,
}

/// What the image is made from: changes exactly when the recipe does. Used as cache key.
pub fn recipe() -> String {
    format!(
        "{SUITE}\n{PACKAGES:?}\n{DPKG_OPTIONS:?}\n{CUSTOMIZE}\n{}\n{}\n{ROOT_SLACK_MIB}",
        disk::LAYOUT_VERSION,
        grub::LAYOUT_VERSION
    )
}

/// Builds `out/debian-<SUITE>.raw.zst` in the existing folder `out`. Takes some minutes, most of them dpkg's.
///
/// # Errors
/// When mmdebstrap or another tool is missing or fails; the error carries the end of its output.
pub fn build(out: &Path) -> Result<Output> {
    let scratch = out.join("scratch");
    fs::create_dir_all(&scratch)?;
    bootstrap(&scratch)?;
    let raw = scratch.join("disk.raw");
    let raw_bytes = disk::assemble(&scratch, &raw)?;
    let target = out.join(file_name());
    run(Command::new("zstd").args(["-q", "-f", "-T0", "-9"]).arg(&raw).arg("-o").arg(&target))?;
    fs::remove_dir_all(&scratch)?;
    Ok(Output { raw_bytes, compressed_bytes: fs::metadata(target)?.len() })
}

/// The name of the image file.
pub fn file_name() -> String {
    format!("debian-{SUITE}.raw.zst")
}

fn bootstrap(scratch: &Path) -> Result<()> {
    let script = scratch.join("customize.sh");
    fs::write(&script, CUSTOMIZE)?;
    let mode = if fs::metadata("/proc/self")?.uid() == 0 { "root" } else { "unshare" };
    let mut command = Command::new("mmdebstrap");
    command
        .args(["--variant=minbase", "--format=null", "--aptopt=APT::Install-Recommends \"0\""])
        .arg(format!("--mode={mode}"))
        .arg(format!("--include={}", PACKAGES.join(",")))
        .args(DPKG_OPTIONS.iter().map(|option| format!("--dpkgopt={option}")))
        // initramfs-tools is asked for the fast compressor before the kernel's hook runs it.
        .arg("--essential-hook=mkdir -p \"$1/etc/initramfs-tools/conf.d\" && printf 'COMPRESS=zstd\\nCOMPRESSLEVEL=9\\n' > \"$1/etc/initramfs-tools/conf.d/image\"")
        .arg(format!("--customize-hook=sh {} \"$1\"", script.display()))
        .args([SUITE, "-"])
        .env("OUT", scratch)
        .env("ROOT_UUID", ROOT_UUID)
        .env("ESP_UUID", ESP_UUID)
        .env("ROOT_SLACK_MIB", ROOT_SLACK_MIB.to_string())
        .stdout(std::process::Stdio::null());
    if mode == "unshare" {
        // The hook writes results from inside the user namespace.
        fs::set_permissions(scratch, fs::Permissions::from_mode(0o777))?;
    }
    run(&mut command)
}

pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("start {name}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let tail: Vec<&str> = text.lines().rev().take(20).collect();
    ensure!(!tail.is_empty(), "{name} ended with {}", output.status);
    bail!("{name} ended with {}:\n{}", output.status, tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
}

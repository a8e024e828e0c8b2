// SPDX-License-Identifier: Apache-2.0
//! Builds operating-system disk images from Debian packages.
//!
//! Called by `xtask` (`./x build`). An image is a raw disk, zstd-compressed: GPT with root in partition 2 (where EKS
//! Anywhere's templates write), a BIOS boot partition 14 and an EFI system partition 15, so that one image boots on
//! either firmware. Inside: systemd, cloud-init, OpenSSH, netplan, Debian's cloud kernel, no machine identity; in that of a
//! node ([`Image::Node`]) also containerd, kubeadm, kubelet, and the container images that they start.
//!
//! Nothing here mounts, attaches a loop device or needs root: mmdebstrap works in a user namespace, file systems are
//! filled by `mke2fs -d` and mtools, and GRUB's BIOS stages are laid out by [`grub`].

mod disk;
pub mod grub;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The Debian release inside the images.
pub const SUITE: &str = "bookworm";

const CUSTOMIZE: &str = include_str!("../files/customize.sh");
const NODE: &str = include_str!("../files/node.sh");
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
/// What a node needs besides: the runtime, and what kubeadm's preflight checks look for.
const NODE_PACKAGES: &[&str] = &[
    "containerd",
    "runc",
    "containernetworking-plugins",
    "iptables",
    "conntrack",
    "ethtool",
    "socat",
    "mount",
    "util-linux",
    // Fetches the image of the daemons.
    "curl",
];
const DPKG_OPTIONS: &[&str] = &[
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/locale/*",
];

/// An image that can be built.
#[derive(Debug)]
pub enum Image {
    /// Debian as a server has it.
    Debian,
    /// A machine that kubeadm can make a node of Kubernetes.
    Node(Node),
}

/// What a node is made of besides Debian's packages.
#[derive(Debug)]
pub struct Node {
    /// Minor version of Kubernetes, as `1-34`: part of the file's name.
    pub version: &'static str,
    /// Folder with the static programs kubeadm, kubelet, kubectl, and one for each image of those that kubeadm asks for that is to
    /// be in the node from the beginning.
    pub programs: PathBuf,
    /// Container images besides those: name, and program in the folder.
    pub images: &'static [(&'static str, &'static str)],
    /// More arguments for its kernel.
    pub kernel_arguments: &'static str,
}

/// What was built.
#[derive(Debug)]
pub struct Output {
    /// Size of the disk image before compression, in bytes.
    pub raw_bytes: u64,
    /// Size of the file that is served, in bytes.
    pub compressed_bytes: u64,
}

impl Image {
    /// What the image is made from, but for a node's programs: changes exactly when the recipe does. Used as cache key.
    pub fn recipe(&self) -> String {
        let debian = format!(
            "{SUITE}\n{PACKAGES:?}\n{DPKG_OPTIONS:?}\n{CUSTOMIZE}\n{}\n{}\n{ROOT_SLACK_MIB}",
            disk::LAYOUT_VERSION,
            grub::LAYOUT_VERSION
        );
        match self {
            Self::Debian => debian,
            Self::Node(node) => {
                let Node { version, images, kernel_arguments, .. } = node;
                format!("{debian}\n{NODE_PACKAGES:?}\n{NODE}\n{version} {images:?} {kernel_arguments}")
            }
        }
    }

    /// The name of the image file.
    pub fn file_name(&self) -> String {
        match self {
            Self::Debian => format!("debian-{SUITE}.raw.zst"),
            Self::Node(node) => format!("debian-{SUITE}-kubernetes-{}.raw.zst", node.version),
        }
    }

    /// Builds it in the existing folder `out`. Takes some minutes, most of them dpkg's.
    ///
    /// # Errors
    /// When mmdebstrap or another tool is missing or fails; the error carries the end of its output.
    pub fn build(&self, out: &Path) -> Result<Output> {
        let scratch = out.join("scratch");
        fs::create_dir_all(&scratch)?;
        self.bootstrap(&scratch)?;
        let raw = scratch.join("disk.raw");
        let raw_bytes = disk::assemble(&scratch, &raw)?;
        let target = out.join(self.file_name());
        run(Command::new("zstd").args(["-q", "-f", "-T0", "-9"]).arg(&raw).arg("-o").arg(&target))?;
        fs::remove_dir_all(&scratch)?;
        Ok(Output { raw_bytes, compressed_bytes: fs::metadata(target)?.len() })
    }

    fn bootstrap(&self, scratch: &Path) -> Result<()> {
        let mode = if fs::metadata("/proc/self")?.uid() == 0 { "root" } else { "unshare" };
        let mut packages = PACKAGES.to_vec();
        let mut hooks = vec![("customize.sh", CUSTOMIZE)];
        let mut command = Command::new("mmdebstrap");
        let mut kernel_arguments = "";
        if let Self::Node(node) = self {
            kernel_arguments = node.kernel_arguments;
            packages.extend(NODE_PACKAGES);
            hooks.insert(0, ("node.sh", NODE));
            let images: Vec<_> =
                node.images.iter().map(|(name, program)| format!("{name}={program}")).collect();
            command.env("PROGRAMS", &node.programs).env("MORE_IMAGES", images.join(" "));
        }
        command
            .args(["--variant=minbase", "--format=null", "--aptopt=APT::Install-Recommends \"0\""])
            .arg(format!("--mode={mode}"))
            .arg(format!("--include={}", packages.join(",")))
            .args(DPKG_OPTIONS.iter().map(|option| format!("--dpkgopt={option}")))
            // initramfs-tools is asked for the fast compressor before the kernel's hook runs it.
            .arg("--essential-hook=mkdir -p \"$1/etc/initramfs-tools/conf.d\" && printf 'COMPRESS=zstd\\nCOMPRESSLEVEL=9\\n' > \"$1/etc/initramfs-tools/conf.d/image\"");
        for (name, text) in hooks {
            let script = scratch.join(name);
            fs::write(&script, text)?;
            command.arg(format!("--customize-hook=sh {} \"$1\"", script.display()));
        }
        command
            .args([SUITE, "-"])
            .env("OUT", scratch)
            .env("ROOT_UUID", ROOT_UUID)
            .env("ESP_UUID", ESP_UUID)
            .env("ROOT_SLACK_MIB", ROOT_SLACK_MIB.to_string())
            .env("KERNEL_ARGUMENTS", kernel_arguments)
            .stdout(std::process::Stdio::null());
        if mode == "unshare" {
            // The hooks write results from inside the user namespace.
            fs::set_permissions(scratch, fs::Permissions::from_mode(0o777))?;
        }
        run(&mut command)
    }
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

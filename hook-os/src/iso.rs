// SPDX-License-Identifier: Apache-2.0
//! The ISO image of HookOS for virtual media: the files that boots serves over the network, behind boot loaders that read them from
//! a disc.
//!
//! BIOS starts a GRUB that is put together from Debian's modules; UEFI starts Debian's signed shim and GRUB, so that it may
//! enforce Secure Boot. Both read one `grub.cfg`, in which a marker stands where boots puts the kernel arguments of a machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::tool;

/// Raised when the layout of the image changes, so that cached ones are built again.
pub const RECIPE: u32 = 1;

const GRUB_CFG: &str = include_str!("../files/grub.cfg");
/// Where GRUB looks for it, and for what belongs to it.
const GRUB: &str = "boot/grub";
/// Modules of the BIOS loader: it has none on the disc.
const MODULES: &[&str] = &["biosdisk", "iso9660", "linux", "normal", "serial"];
/// Names that firmware and shim know (UEFI 2.10 section 3.5.1.1), and the files in Debian's packages.
const UEFI: &[(&str, &str)] = &[
    ("BOOTX64.EFI", "usr/lib/shim/shimx64.efi.signed"),
    ("grubx64.efi", "usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed"),
];
/// Size of the EFI system partition on the disc: two programs of 5 MB together.
const ESP_BYTES: u64 = 8 << 20;
/// What Debian's GRUB for discs knows its disc by.
const DISC_INFO: &str = ".disk/info";
/// The time of all files: equal inputs give equal images.
const TIME: &str = "1700000000";

/// Where the parts are.
#[derive(Debug)]
pub struct Inputs {
    /// The folder with kernel and initramfs, as [`crate::build()`] made it.
    pub hook: PathBuf,
    /// Unpacked packages: xorriso, grub-common and grub-pc-bin; their programs run here.
    pub tools: PathBuf,
    /// Unpacked packages: shim-signed and grub-efi-amd64-signed.
    pub loaders: PathBuf,
    /// The architecture in the file names.
    pub arch: String,
}

/// Builds `hook-<arch>.iso` into the existing folder `out`; gives its size in bytes.
///
/// # Errors
/// When an input is missing, or a tool fails. `out` may then hold partial files.
pub fn build(inputs: &Inputs, out: &Path) -> Result<u64> {
    let tree = out.join("scratch");
    let grub = tree.join(GRUB);
    fs::create_dir_all(&grub)?;
    for name in ["vmlinuz", "initramfs"] {
        let from = inputs.hook.join(format!("{name}-{}", inputs.arch));
        fs::copy(&from, tree.join(name)).with_context(|| format!("copy {}", from.display()))?;
    }
    fs::write(grub.join("grub.cfg"), GRUB_CFG)?;
    fs::create_dir_all(tree.join(DISC_INFO).parent().context("a folder")?)?;
    fs::write(tree.join(DISC_INFO), "HookOS\n")?;
    bios_loader(inputs, &grub.join("bios.img"))?;
    esp(inputs, &grub.join("esp.img"))?;
    let image = out.join(format!("hook-{}.iso", inputs.arch));
    let mut xorriso = tool::command(&inputs.tools, "xorriso");
    xorriso.args(["-as", "mkisofs", "-quiet", "-R", "-V", "HOOKOS", "-o"]).arg(&image);
    // El Torito: an entry for BIOS, then one for UEFI (UEFI 2.10 section 13.3.2.1).
    xorriso.args([
        "-b",
        &format!("{GRUB}/bios.img"),
        "-no-emul-boot",
        "-boot-load-size",
        "4",
        "-boot-info-table",
    ]);
    xorriso.args(["-eltorito-alt-boot", "-e", &format!("{GRUB}/esp.img"), "-no-emul-boot"]);
    tool::run(xorriso.arg(&tree).env("SOURCE_DATE_EPOCH", TIME))?;
    fs::remove_dir_all(tree)?;
    Ok(fs::metadata(image)?.len())
}

/// GRUB for BIOS in one file, which looks for its configuration on the disc that it came from.
fn bios_loader(inputs: &Inputs, to: &Path) -> Result<()> {
    let mut command = tool::command(&inputs.tools, "grub-mkimage");
    command.args(["-O", "i386-pc-eltorito", "-p", &format!("/{GRUB}"), "-d"]);
    tool::run(command.arg(inputs.tools.join("usr/lib/grub/i386-pc")).arg("-o").arg(to).args(MODULES))
}

/// The EFI system partition.
fn esp(inputs: &Inputs, to: &Path) -> Result<()> {
    fs::File::create(to)?.set_len(ESP_BYTES)?;
    let dated = |program: &str| {
        let mut command = tool::command(&inputs.tools, program);
        command.env("SOURCE_DATE_EPOCH", TIME);
        command
    };
    // Not what the file system would be called by the time: equal inputs give equal images.
    tool::run(dated("mkfs.vfat").args(["--invariant", "-n", "ESP"]).arg(to))?;
    tool::run(dated("mmd").arg("-i").arg(to).args(["::EFI", "::EFI/BOOT"]))?;
    for (name, file) in UEFI {
        let file = inputs.loaders.join(file);
        tool::run(dated("mcopy").arg("-i").arg(to).arg(file).arg(format!("::EFI/BOOT/{name}")))?;
    }
    Ok(())
}

// SPDX-License-Identifier: Apache-2.0
//! Lays partitions, file systems and boot stages out as one sparse raw disk image.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::grub;

/// Raised when the layout changes, so that cached images are built again.
pub const LAYOUT_VERSION: u32 = 1;

const SECTOR: u64 = 512;
const MIB: u64 = 1024 * 1024;
/// BIOS boot partition 14: 3 MiB from 1 MiB on; GRUB's core image is 1/20 of that.
const BIOS_BOOT: (u64, u64) = (MIB, 3 * MIB);
/// The EFI system partition 15 follows.
const ESP_START: u64 = 4 * MIB;
const DISK_GUID: &str = "0D6C2B7E-52A4-4B53-8C0F-6E1B7A9C3D10";

/// Writes the disk from `esp.img`, `root.img`, `boot.img` and `core.img` in `parts`. Gives its size in bytes.
pub fn assemble(parts: &Path, disk: &Path) -> Result<u64> {
    let esp = parts.join("esp.img");
    let root = parts.join("root.img");
    let (esp_bytes, root_bytes) = (fs::metadata(&esp)?.len(), fs::metadata(&root)?.len());
    let root_start = (ESP_START + esp_bytes).next_multiple_of(MIB);
    // One MiB behind the last partition for GPT's backup.
    let size = (root_start + root_bytes).next_multiple_of(MIB) + MIB;
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(disk)?;
    file.set_len(size)?;
    copy_sparse(&esp, &mut file, ESP_START)?;
    copy_sparse(&root, &mut file, root_start)?;
    let core = fs::read(parts.join("core.img"))?;
    ensure!((core.len() as u64) < BIOS_BOOT.1, "core.img ({} bytes) does not fit its partition", core.len());
    let (mbr, stage) = grub::install(&fs::read(parts.join("boot.img"))?, &core, BIOS_BOOT.0 / SECTOR)?;
    file.seek(SeekFrom::Start(BIOS_BOOT.0))?;
    file.write_all(&stage)?;
    file.sync_all()?;
    drop(file);
    partition(disk, esp_bytes, root_start, root_bytes)?;
    // After the partition table: its writer clears the MBR's code area.
    let mut file = File::options().write(true).open(disk)?;
    file.write_all(&mbr)?;
    file.sync_all()?;
    Ok(size)
}

fn partition(disk: &Path, esp_bytes: u64, root_start: u64, root_bytes: u64) -> Result<()> {
    let row = |number: u32, start: u64, bytes: u64, kind: &str, uuid: &str, name: &str| {
        let (start, length) = (start / SECTOR, bytes / SECTOR);
        format!("{number} : start={start}, size={length}, type={kind}, uuid={uuid}, name=\"{name}\"\n")
    };
    let script = [
        format!("label: gpt\nlabel-id: {DISK_GUID}\nunit: sectors\n"),
        row(
            2,
            root_start,
            root_bytes,
            "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
            "5C2E6D8A-0B59-4B0D-8C5B-0E3C1D6F7A02",
            "root",
        ),
        row(
            14,
            BIOS_BOOT.0,
            BIOS_BOOT.1,
            "21686148-6449-6E6F-744E-656564454649",
            "5C2E6D8A-0B59-4B0D-8C5B-0E3C1D6F7A14",
            "bios",
        ),
        row(
            15,
            ESP_START,
            esp_bytes,
            "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
            "5C2E6D8A-0B59-4B0D-8C5B-0E3C1D6F7A15",
            "esp",
        ),
    ]
    .concat();
    let mut child = Command::new("sfdisk")
        .args(["--quiet", "--no-reread", "--no-tell-kernel"])
        .arg(disk)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start sfdisk")?;
    child.stdin.take().context("sfdisk's input")?.write_all(script.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "sfdisk: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Copies a file to an offset and leaves its zero blocks as holes.
fn copy_sparse(from: &Path, to: &mut File, offset: u64) -> Result<()> {
    let mut source = File::open(from).with_context(|| format!("open {}", from.display()))?;
    let mut buffer = vec![0; 64 * 1024];
    let mut position = offset;
    loop {
        let length = source.read(&mut buffer)?;
        let block = buffer.get(..length).unwrap_or_default();
        if block.is_empty() {
            return Ok(());
        }
        if block.iter().any(|byte| *byte != 0) {
            to.seek(SeekFrom::Start(position))?;
            to.write_all(block)?;
        }
        position += block.len() as u64;
    }
}

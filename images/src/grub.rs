// SPDX-License-Identifier: Apache-2.0
//! Installs GRUB's BIOS stages into an image file, as `grub-bios-setup` does on a mounted disk.
//!
//! The first stage (`boot.img`, 440 bytes of code in the MBR) holds the sector number of the second; the second
//! (`core.img`) begins with a sector that holds the block list of the rest. Offsets are those of GRUB's
//! `include/grub/i386/pc/boot.h` and `grub-core/boot/i386/pc/diskboot.S`.

use anyhow::{Result, ensure};

/// Raised when the layout changes, so that cached images are built again.
pub const LAYOUT_VERSION: u32 = 1;

/// Bytes per sector in everything BIOS.
pub const SECTOR: usize = 512;

/// The MBR's code area ends where the disk signature begins.
const MBR_CODE: usize = 440;
/// `GRUB_BOOT_MACHINE_KERNEL_SECTOR`: 64-bit sector number of `core.img`.
const KERNEL_SECTOR: usize = 0x5c;
/// `GRUB_BOOT_MACHINE_DRIVE_CHECK`: two bytes of jump that trust the drive number from the BIOS; no-ops work around
/// firmware that hands over a wrong one.
const DRIVE_CHECK: usize = 0x66;
const NO_OPERATION: u8 = 0x90;
/// The first block list entry: at the end of `core.img`'s first sector. Start sector (8), length (2), segment (2).
const BLOCK_LIST: usize = SECTOR - 12;
/// Where the rest of `core.img` is loaded: `GRUB_BOOT_MACHINE_KERNEL_SEG` plus the first sector's 0x20 paragraphs.
const LOAD_SEGMENT: u16 = 0x0820;

/// The MBR code (440 bytes) and the bytes for the BIOS boot partition that starts at `first_sector`.
///
/// # Errors
/// When a stage is too short to be what it should be, or `core` is longer than one block list entry covers.
pub fn install(boot: &[u8], core: &[u8], first_sector: u64) -> Result<(Vec<u8>, Vec<u8>)> {
    ensure!(boot.len() >= MBR_CODE, "boot.img has {} bytes, fewer than {MBR_CODE}", boot.len());
    ensure!(core.len() > SECTOR, "core.img has {} bytes, fewer than two sectors", core.len());
    let mut mbr: Vec<u8> = boot.iter().copied().take(MBR_CODE).collect();
    put(&mut mbr, KERNEL_SECTOR, &first_sector.to_le_bytes());
    put(&mut mbr, DRIVE_CHECK, &[NO_OPERATION, NO_OPERATION]);
    let mut stage = core.to_vec();
    stage.resize(core.len().next_multiple_of(SECTOR), 0);
    let rest = u16::try_from(stage.len() / SECTOR - 1)?;
    put(&mut stage, BLOCK_LIST, &(first_sector + 1).to_le_bytes());
    put(&mut stage, BLOCK_LIST + 8, &rest.to_le_bytes());
    put(&mut stage, BLOCK_LIST + 10, &LOAD_SEGMENT.to_le_bytes());
    Ok((mbr, stage))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (slot, byte) in bytes.iter_mut().skip(at).zip(value) {
        *slot = *byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_point_at_each_other() {
        let (mbr, stage) = install(&[0xeb; 512], &[1; 3 * SECTOR + 5], 2048).unwrap();
        assert_eq!(mbr.len(), 440);
        assert_eq!(&mbr[0x5c..0x64], &2048_u64.to_le_bytes());
        assert_eq!(stage.len(), 4 * SECTOR);
        assert_eq!(&stage[500..512], &[0x01, 8, 0, 0, 0, 0, 0, 0, 3, 0, 0x20, 0x08]);
    }

    #[test]
    fn a_stage_that_is_cut_off_is_refused() {
        assert!(install(&[0; 100], &[0; 4096], 2048).is_err());
        assert!(install(&[0; 512], &[0; 512], 2048).is_err());
    }
}

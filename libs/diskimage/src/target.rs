// SPDX-License-Identifier: Apache-2.0
//! The disk (or, for tests and image builders, the regular file) that an image is written to: opened exclusively, with
//! direct I/O where the kernel offers it, zeroed without sending zeros where the device can do that.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use crate::disks;
use crate::error::Error;

/// How long a disk that is busy is asked again: another action's mount may be on its way out.
const BUSY_PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait for the nodes of the new partitions.
const PARTITION_PATIENCE: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(50);

static ZEROS: [u8; 65536] = [0; 65536];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Block,
    File,
}

/// How zeros get onto the target; each way falls back to the next when the target refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zeroing {
    /// The device unmaps or zeroes by itself and guarantees zeros (on files: a hole).
    Punch,
    /// The kernel writes zeros; no data passes through this process.
    Kernel,
    /// We write zeros.
    Write,
}

/// An open target.
pub(crate) struct Target {
    file: File,
    path: PathBuf,
    kind: Kind,
    size: u64,
    block: usize,
    direct: bool,
    zeroing: Zeroing,
}

impl Target {
    /// Opens `path` for writing without changing it.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let opening = |source| Error::Open { disk: path.to_owned(), source };
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let present = disks::describe(&disks::list(Path::new(disks::SYS)));
                return Err(Error::NoSuchDisk { disk: path.to_owned(), present });
            }
            Err(error) => return Err(opening(error)),
        };
        let file_type = real.metadata().map_err(opening)?.file_type();
        let (file, kind, direct) = if file_type.is_block_device() {
            let (file, direct) = open_block(&real).map_err(|error| {
                if error.kind() == io::ErrorKind::ResourceBusy {
                    Error::Busy(path.to_owned())
                } else {
                    opening(error)
                }
            })?;
            (file, Kind::Block, direct)
        } else if file_type.is_file() {
            (OpenOptions::new().write(true).open(&real).map_err(opening)?, Kind::File, false)
        } else {
            return Err(Error::NotADisk(path.to_owned()));
        };
        let size = (&file).seek(SeekFrom::End(0)).map_err(opening)?;
        let block = match kind {
            Kind::Block => rustix::fs::ioctl_blksszget(&file)
                .ok()
                .and_then(|block| usize::try_from(block).ok())
                .filter(|block| block.is_power_of_two() && *block <= crate::runs::BLOCK)
                .unwrap_or(crate::runs::BLOCK),
            Kind::File => 1,
        };
        Ok(Self { file, path: real, kind, size, block, direct, zeroing: Zeroing::Punch })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The size an image must fit into. An empty regular file takes any size and has none.
    pub(crate) fn limit(&self) -> Option<u64> {
        (self.kind == Kind::Block || self.size > 0).then_some(self.size)
    }

    /// Writes must start at and have a length of a multiple of this.
    pub(crate) fn block(&self) -> usize {
        self.block
    }

    /// Writes all of `data` at `offset`.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let mut rest = data;
        let mut at = offset;
        while !rest.is_empty() {
            match self.file.write_at(rest, at) {
                Ok(0) => return Err(self.write_error(at, io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    rest = rest.get(count..).unwrap_or_default();
                    at += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Some drivers accept the flag at open and refuse the request.
                Err(error) if self.direct && error.kind() == io::ErrorKind::InvalidInput => {
                    self.leave_direct_io(at)?;
                }
                Err(error) => return Err(self.write_error(at, error)),
            }
        }
        Ok(())
    }

    /// Makes `length` bytes at `offset` read back as zero.
    pub(crate) fn zero(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        loop {
            let mode = match self.zeroing {
                Zeroing::Punch => FallocateFlags::PUNCH_HOLE,
                Zeroing::Kernel => FallocateFlags::ZERO_RANGE,
                Zeroing::Write => return self.write_zeros(offset, length),
            };
            match rustix::fs::fallocate(&self.file, mode | FallocateFlags::KEEP_SIZE, offset, length) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::debug!(disk = %self.path.display(), way = ?self.zeroing, %error, "zeroing falls back");
                    self.zeroing = match self.zeroing {
                        Zeroing::Punch => Zeroing::Kernel,
                        Zeroing::Kernel | Zeroing::Write => Zeroing::Write,
                    };
                }
            }
        }
    }

    /// Puts everything written so far on stable storage.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(|source| Error::Flush { disk: self.path.clone(), source })
    }

    /// A regular file that held less than the image ends with the image, also when that ends in a hole.
    pub(crate) fn extend_to(&self, image_bytes: u64) -> Result<(), Error> {
        if self.kind == Kind::File && self.size < image_bytes {
            self.file.set_len(image_bytes).map_err(|error| self.write_error(image_bytes, error))?;
        }
        Ok(())
    }

    /// Makes the kernel read the new partition table and waits until the partitions have device nodes. What cannot
    /// be re-read (a partition as target, a loop device without partition scanning) is no failure.
    pub(crate) fn settle(self) -> Vec<PathBuf> {
        if self.kind == Kind::File {
            return Vec::new();
        }
        let deadline = Instant::now() + BUSY_PATIENCE;
        loop {
            match reread_partition_table(&self.file) {
                Ok(()) => break,
                // Something opened a partition that the kernel still knew.
                Err(Errno::BUSY) if Instant::now() < deadline => thread::sleep(POLL),
                Err(error) => {
                    tracing::warn!(disk = %self.path.display(), %error, "partition table not read again");
                    break;
                }
            }
        }
        disks::wait_for_partitions(Path::new(disks::SYS), &self.path, PARTITION_PATIENCE)
    }

    fn write_zeros(&mut self, offset: u64, length: u64) -> Result<(), Error> {
        // The constant's alignment is not known, so it cannot go through direct I/O.
        if self.direct {
            self.leave_direct_io(offset)?;
        }
        let mut done = 0;
        while done < length {
            let step = usize::try_from(length - done).unwrap_or(usize::MAX).min(ZEROS.len());
            self.write(offset + done, ZEROS.get(..step).unwrap_or_default())?;
            done += step as u64;
        }
        Ok(())
    }

    fn leave_direct_io(&mut self, offset: u64) -> Result<(), Error> {
        let flags = rustix::fs::fcntl_getfl(&self.file)
            .and_then(|flags| rustix::fs::fcntl_setfl(&self.file, flags - OFlags::DIRECT));
        flags.map_err(|error| self.write_error(offset, error.into()))?;
        self.direct = false;
        Ok(())
    }

    fn write_error(&self, offset: u64, source: io::Error) -> Error {
        Error::Write { disk: self.path.clone(), offset, source }
    }
}

/// Opens a block device exclusively; the flag says whether with direct I/O.
fn open_block(path: &Path) -> io::Result<(File, bool)> {
    let open =
        |flags: OFlags| OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(path);
    let deadline = Instant::now() + BUSY_PATIENCE;
    loop {
        match open(OFlags::EXCL | OFlags::DIRECT) {
            Ok(file) => return Ok((file, true)),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                return open(OFlags::EXCL).map(|file| (file, false));
            }
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                thread::sleep(POLL);
            }
            Err(error) => return Err(error),
        }
    }
}

#[expect(
    unsafe_code,
    reason = "no safe wrapper exists for this ioctl; it takes no argument and touches no memory"
)]
fn reread_partition_table(disk: impl AsFd) -> rustix::io::Result<()> {
    // linux/fs.h: BLKRRPART is _IO(0x12, 95).
    const BLKRRPART: rustix::ioctl::Opcode = rustix::ioctl::opcode::none(0x12, 95);
    // SAFETY: the request has no argument; the kernel neither reads nor writes memory of this process.
    unsafe { rustix::ioctl::ioctl(disk, rustix::ioctl::NoArg::<BLKRRPART>::new()) }
}

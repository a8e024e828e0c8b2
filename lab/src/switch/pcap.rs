// SPDX-License-Identifier: Apache-2.0
//! A packet capture in the classic pcap format with nanoseconds, which tcpdump and Wireshark read.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Magic number of the format with nanoseconds, in our own byte order.
const MAGIC: u32 = 0xa1b2_3c4d;
/// `LINKTYPE_ETHERNET`.
const ETHERNET: u32 = 1;

/// What is captured and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// The file; an earlier one is replaced.
    pub path: PathBuf,
    /// Bytes kept of each frame.
    pub snap_bytes: u32,
    /// Size of the file at which the capture ends.
    pub max_bytes: u64,
}

impl Capture {
    /// Headers of every frame (and whole small ones such as DHCP's), up to 256 MiB.
    pub fn headers(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), snap_bytes: 600, max_bytes: 256 << 20 }
    }

    /// Every frame as it is, for a dissector that is to judge them, up to 512 MiB.
    pub fn whole(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), snap_bytes: 65_535, max_bytes: 512 << 20 }
    }
}

/// A capture file that is being written.
#[derive(Debug)]
pub(crate) struct Writer {
    file: BufWriter<File>,
    snap: usize,
    left: u64,
}

impl Writer {
    pub(crate) fn create(capture: &Capture) -> io::Result<Self> {
        let file = BufWriter::with_capacity(256 * 1024, create(&capture.path)?);
        let snap = usize::try_from(capture.snap_bytes).unwrap_or(usize::MAX);
        let mut writer = Self { file, snap, left: capture.max_bytes };
        // Version 2.4, then time zone and accuracy, which everybody writes as 0.
        writer.numbers(&[MAGIC, 0x0004_0002, 0, 0, capture.snap_bytes, ETHERNET])?;
        Ok(writer)
    }

    /// Adds a frame; beyond the size limit frames are left out.
    pub(crate) fn frame(&mut self, now: SystemTime, frame: &[u8]) -> io::Result<()> {
        let kept = frame.get(..self.snap).unwrap_or(frame);
        let size = 16 + u64::try_from(kept.len()).unwrap_or(u64::MAX);
        let Some(left) = self.left.checked_sub(size) else { return Ok(()) };
        self.left = left;
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let seconds = u32::try_from(since.as_secs()).unwrap_or(u32::MAX);
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.numbers(&[seconds, since.subsec_nanos(), length(kept), length(frame)])?;
        self.file.write_all(kept)
    }

    /// Makes everything visible to readers of the file.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    fn numbers(&mut self, numbers: &[u32]) -> io::Result<()> {
        numbers.iter().try_for_each(|number| self.file.write_all(&number.to_ne_bytes()))
    }
}

fn create(path: &Path) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    File::create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_holds_header_and_frames_up_to_its_limits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("captures/rack.pcap");
        let capture = Capture { path: path.clone(), snap_bytes: 4, max_bytes: 40 };
        let mut writer = Writer::create(&capture).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::new(7, 8);
        writer.frame(now, &[1, 2, 3, 4, 5]).unwrap();
        writer.frame(now, &[6]).unwrap();
        writer.frame(now, &[7, 8, 9]).unwrap();
        writer.flush().unwrap();
        let bytes = std::fs::read(path).unwrap();
        let header: Vec<u8> =
            [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 4, 1].iter().flat_map(|n| n.to_le_bytes()).collect();
        let first: Vec<u8> =
            [7u32, 8, 4, 5].iter().flat_map(|n| n.to_le_bytes()).chain([1, 2, 3, 4]).collect();
        let second: Vec<u8> = [7u32, 8, 1, 1].iter().flat_map(|n| n.to_le_bytes()).chain([6]).collect();
        assert_eq!(bytes, [header, first, second].concat(), "the third frame is beyond the limit");
    }
}

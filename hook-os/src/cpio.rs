// SPDX-License-Identifier: Apache-2.0
//! Writes "newc" cpio archives as the kernel's initramfs unpacker reads them.
//!
//! Format: `Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel. Entries carry inode numbers
//! counted from one, mtime 0 and owner 0:0, so that equal input gives equal bytes.

use std::io::{self, Write};

const MODE_DIRECTORY: u32 = 0o040_000;
const MODE_FILE: u32 = 0o100_000;
const MODE_SYMLINK: u32 = 0o120_000;
const MODE_CHARACTER_DEVICE: u32 = 0o020_000;
const TRAILER: &str = "TRAILER!!!";

/// An archive under construction. [`Archive::finish`] must be called, or the kernel misses the trailer.
#[derive(Debug)]
pub struct Archive<W> {
    out: W,
    offset: u64,
    next_inode: u32,
}

impl<W: Write> Archive<W> {
    /// Starts an archive that is written to `out`.
    pub fn new(out: W) -> Self {
        Self { out, offset: 0, next_inode: 1 }
    }

    /// Adds a directory; `path` is relative to the root, without a leading slash. Parents must come first.
    ///
    /// # Errors
    /// When writing fails.
    pub fn directory(&mut self, path: &str) -> io::Result<()> {
        self.entry(path, MODE_DIRECTORY | 0o755, &[], (0, 0))
    }

    /// Adds a regular file with permission bits `mode`.
    ///
    /// # Errors
    /// When writing fails, or when `data` is longer than the format's 32 bits can say.
    pub fn file(&mut self, path: &str, mode: u32, data: &[u8]) -> io::Result<()> {
        self.entry(path, MODE_FILE | mode, data, (0, 0))
    }

    /// Adds a symbolic link at `path` that points to `target`.
    ///
    /// # Errors
    /// When writing fails.
    pub fn symlink(&mut self, path: &str, target: &str) -> io::Result<()> {
        self.entry(path, MODE_SYMLINK | 0o777, target.as_bytes(), (0, 0))
    }

    /// Adds a character device node.
    ///
    /// # Errors
    /// When writing fails.
    pub fn character_device(&mut self, path: &str, mode: u32, major: u32, minor: u32) -> io::Result<()> {
        self.entry(path, MODE_CHARACTER_DEVICE | mode, &[], (major, minor))
    }

    /// Writes the trailer and gives the writer back.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.entry(TRAILER, 0, &[], (0, 0))?;
        // The next archive in the same file starts on a 4-byte boundary; 512 is what cpio(1) pads to.
        self.pad(512)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry(&mut self, path: &str, mode: u32, data: &[u8], device: (u32, u32)) -> io::Result<()> {
        let too_long =
            |_| io::Error::new(io::ErrorKind::InvalidInput, format!("{path}: too long for a newc archive"));
        let size = u32::try_from(data.len()).map_err(too_long)?;
        let name_size = u32::try_from(path.len() + 1).map_err(too_long)?;
        let inode = if path == TRAILER { 0 } else { self.next_inode };
        self.next_inode += 1;
        let links = if mode & MODE_DIRECTORY == MODE_DIRECTORY { 2 } else { 1 };
        let (major, minor) = device;
        let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08x}"));
        }
        self.write(header.as_bytes())?;
        self.write(path.as_bytes())?;
        self.write(&[0])?;
        self.pad(4)?;
        self.write(data)?;
        self.pad(4)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self, to: u64) -> io::Result<()> {
        while !self.offset.is_multiple_of(to) {
            self.write(&[0])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// The kernel's unpacker and cpio(1) agree on the format; cpio(1) is the peer that is at hand.
    #[test]
    fn a_peer_reads_what_we_write() {
        let mut archive = Archive::new(Vec::new());
        archive.directory("dev").unwrap();
        archive.character_device("dev/console", 0o600, 5, 1).unwrap();
        archive.file("hello", 0o644, b"odd").unwrap();
        archive.symlink("link", "hello").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 512, 0);
        let mut child = Command::new("cpio")
            .args(["--list", "--verbose", "--numeric-uid-gid", "--quiet"])
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let listing = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let lines: Vec<Vec<&str>> = listing.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 4, "{listing}");
        assert_eq!(lines[0][0], "drwxr-xr-x");
        assert_eq!(lines[1][0], "crw-------");
        assert!(listing.contains("5,   1"), "{listing}");
        assert_eq!(lines[2][4], "3");
        assert!(lines[3].ends_with(&["link", "->", "hello"]));
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The bytes of one transfer, from memory or from a file, read ahead in chunks.
//!
//! Used by one session; files are read off the async threads. It never reads more than one chunk into memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::packet::Mode;

/// Bytes read from a file at once. At least the largest window on an Ethernet: 64 blocks of 1468 bytes.
const CHUNK: usize = 256 * 1024;
/// Largest file that is converted for netascii, which needs its final length beforehand.
const MAX_NETASCII: u64 = 16 * 1024 * 1024;

/// What a provider hands over.
#[derive(Debug, Clone)]
pub enum Content {
    /// Bytes in memory.
    Bytes(Bytes),
    /// An open file and its length.
    File(Arc<File>, u64),
}

impl Content {
    /// Opens a file's content with its present length.
    ///
    /// # Errors
    ///
    /// When the length cannot be read.
    pub fn file(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self::File(Arc::new(file), length))
    }

    /// Bytes that will be sent.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(_, length) => *length,
        }
    }

    /// The content as a mode sends it.
    pub(crate) async fn in_mode(self, mode: Mode) -> io::Result<Self> {
        if mode == Mode::Octet {
            return Ok(self);
        }
        let size = self.size();
        if size > MAX_NETASCII {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "too large for netascii; use octet mode",
            ));
        }
        let plain = Source::new(self).read(0, usize::try_from(size).unwrap_or(usize::MAX)).await?;
        Ok(Self::Bytes(netascii(&plain)))
    }
}

/// LF becomes CR LF and CR becomes CR NUL (RFC 764, printer and keyboard).
fn netascii(plain: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(plain.len() + plain.len() / 16);
    for byte in plain {
        match byte {
            b'\n' => out.extend_from_slice(b"\r\n"),
            b'\r' => out.extend_from_slice(b"\r\0"),
            other => out.extend_from_slice(&[*other]),
        }
    }
    out.freeze()
}

/// Reads ranges of a content.
#[derive(Debug)]
pub(crate) struct Source {
    content: Content,
    chunk: Bytes,
    chunk_at: u64,
}

impl Source {
    pub(crate) fn new(content: Content) -> Self {
        Self { content, chunk: Bytes::new(), chunk_at: 0 }
    }

    /// `length` bytes from `offset`, or as many as there are. An error when a file became shorter than it was.
    pub(crate) async fn read(&mut self, offset: u64, length: usize) -> io::Result<Bytes> {
        let end = offset.saturating_add(length as u64).min(self.content.size());
        let (file, size) = match &self.content {
            Content::Bytes(bytes) => return Ok(slice(bytes, offset, end)),
            Content::File(file, size) => (Arc::clone(file), *size),
        };
        let have = self.chunk_at..self.chunk_at + self.chunk.len() as u64;
        if !(have.contains(&offset) && end <= have.end) && offset < end {
            let wanted = (size - offset).min(length.max(CHUNK) as u64);
            let mut buffer = vec![0; usize::try_from(wanted).unwrap_or(CHUNK)];
            let read = tokio::task::spawn_blocking(move || {
                file.read_exact_at(&mut buffer, offset).map(|()| Bytes::from(buffer))
            });
            self.chunk = read.await.map_err(io::Error::other)??;
            self.chunk_at = offset;
        }
        Ok(slice(&self.chunk, offset.saturating_sub(self.chunk_at), end.saturating_sub(self.chunk_at)))
    }
}

fn slice(bytes: &Bytes, from: u64, to: u64) -> Bytes {
    let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    let (from, to) = (clamp(from), clamp(to));
    bytes.slice(from.min(to)..to)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn files_are_read_in_any_order_across_chunks() {
        let data: Vec<u8> = (0..CHUNK * 2 + 100).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&data).unwrap();
        let mut source = Source::new(Content::file(file).unwrap());
        for (offset, length) in
            [(0, 10), (CHUNK - 5, 10), (5, 10), (CHUNK * 2 + 90, 20), (CHUNK * 2 + 100, 1)]
        {
            let end = (offset + length).min(data.len());
            assert_eq!(source.read(offset as u64, length).await.unwrap(), data[offset..end]);
        }
    }

    #[tokio::test]
    async fn a_file_that_shrank_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"hello").unwrap();
        let content = Content::file(file.try_clone().unwrap()).unwrap();
        file.set_len(2).unwrap();
        assert!(Source::new(content).read(0, 5).await.is_err());
    }

    #[tokio::test]
    async fn netascii_converts_line_ends() {
        let content = Content::Bytes(Bytes::from_static(b"a\nb\rc")).in_mode(Mode::Netascii).await.unwrap();
        assert!(matches!(content, Content::Bytes(bytes) if bytes == "a\r\nb\r\0c"));
    }
}

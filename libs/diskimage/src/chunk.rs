// SPDX-License-Identifier: Apache-2.0
//! A buffer whose data starts on a page boundary, as direct I/O wants it. The decode stage fills it, the write stage
//! writes it and hands it back to be filled again, so the number of chunks bounds the pipeline's memory.

use std::io::{self, Read};

/// Direct I/O wants memory aligned to the logical block size, at most this much.
const ALIGN: usize = 4096;

/// A reusable, aligned buffer of fixed capacity.
#[derive(Debug)]
pub(crate) struct Chunk {
    memory: Vec<u8>,
    start: usize,
    capacity: usize,
    len: usize,
}

impl Chunk {
    /// An empty chunk for `capacity` bytes.
    pub(crate) fn new(capacity: usize) -> Self {
        let memory = vec![0; capacity + ALIGN];
        let start = memory.as_ptr().align_offset(ALIGN).min(ALIGN);
        Self { memory, start, capacity, len: 0 }
    }

    /// The bytes it holds.
    pub(crate) fn data(&self) -> &[u8] {
        self.memory.get(self.start..self.start + self.len).unwrap_or_default()
    }

    /// Reads until the chunk is full or the reader is at its end; a short chunk therefore is the last one.
    pub(crate) fn fill(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        self.len = 0;
        while self.len < self.capacity {
            let range = self.start + self.len..self.start + self.capacity;
            let free = self.memory.get_mut(range).unwrap_or_default();
            match reader.read(free) {
                Ok(0) => break,
                Ok(count) => self.len += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether it holds as much as it can.
    pub(crate) fn is_full(&self) -> bool {
        self.len == self.capacity
    }

    /// Appends zeros up to the next multiple of `block` (a power of two, at most 4096), as far as the capacity goes.
    pub(crate) fn pad(&mut self, block: usize) {
        let padded = self.len.next_multiple_of(block).min(self.capacity);
        if let Some(padding) = self.memory.get_mut(self.start + self.len..self.start + padded) {
            padding.fill(0);
            self.len = padded;
        }
    }

    /// Replaces the contents by a copy of `bytes`, cut at the capacity.
    pub(crate) fn copy_from(&mut self, bytes: &[u8]) {
        self.len = bytes.len().min(self.capacity);
        let target = self.memory.get_mut(self.start..self.start + self.len);
        if let (Some(target), Some(source)) = (target, bytes.get(..self.len)) {
            target.copy_from_slice(source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_aligned_and_padded_with_zeros() {
        let mut chunk = Chunk::new(8192);
        chunk.copy_from(&[9; 8192]);
        chunk.fill(&mut [1u8; 700].as_slice()).unwrap();
        assert_eq!(chunk.data().as_ptr().align_offset(ALIGN), 0);
        assert!(!chunk.is_full());
        chunk.pad(512);
        assert_eq!(chunk.data().len(), 1024);
        assert_eq!(&chunk.data()[..700], [1; 700]);
        assert_eq!(&chunk.data()[700..], [0; 324]);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The read stage: takes bytes from the source, counts and hashes them as downloaded, and hands them on in bounded
//! pieces; and [`PieceReader`], the other end, which the decoders read from.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender};

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::progress::{Cancel, Progress};

/// Bytes per piece.
const PIECE: usize = 256 * 1024;

/// Pieces between the read and the decode stage; when they are full the source is not read, so the peer is slowed.
pub(crate) const PIECES: usize = 16;

/// What the read stage sends.
pub(crate) enum Piece {
    /// The next bytes; all but the last piece have the same length.
    Data(Vec<u8>),
    /// The source ended; with its digest when one was asked for.
    End(Option<Digest>),
    /// The source failed.
    Failed(io::Error),
}

/// Whether the read stage computes a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hashing {
    /// Nobody will compare it.
    Off,
    /// SHA-256.
    Sha256,
}

/// Reads `source` to its end. Returns when the source ends or fails, or when nobody listens any more.
pub(crate) fn read_stage(
    mut source: impl Read,
    out: &SyncSender<Piece>,
    hashing: Hashing,
    progress: &Progress,
    cancel: &Cancel,
) {
    let mut hasher = (hashing == Hashing::Sha256).then(Sha256::new);
    loop {
        let mut piece = vec![0; PIECE];
        let (len, result) = read_piece(&mut source, &mut piece, progress, cancel);
        let full = len == piece.len();
        piece.truncate(len);
        if let Some(hasher) = &mut hasher {
            hasher.update(&piece);
        }
        if len > 0 && out.send(Piece::Data(piece)).is_err() {
            return;
        }
        let last = match result {
            Ok(()) if full => continue,
            Ok(()) => Piece::End(hasher.take().map(|hasher| Digest::from_bytes(hasher.finalize().into()))),
            Err(error) => Piece::Failed(error),
        };
        // A closed channel means that a later stage failed and has said so itself.
        drop(out.send(last));
        return;
    }
}

/// Fills `piece` as far as the source goes; returns the bytes read even when the source then failed.
fn read_piece(
    source: &mut impl Read,
    piece: &mut [u8],
    progress: &Progress,
    cancel: &Cancel,
) -> (usize, io::Result<()>) {
    let mut len = 0;
    while let Some(free) = piece.get_mut(len..).filter(|free| !free.is_empty()) {
        if cancel.is_cancelled() {
            return (len, Err(io::Error::other("cancelled")));
        }
        match source.read(free) {
            Ok(0) => break,
            Ok(count) => {
                len += count;
                progress.add_read(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (len, Err(error)),
        }
    }
    (len, Ok(()))
}

/// Reads the pieces of a [`read_stage`] as one stream and remembers how the stream ended.
pub(crate) struct PieceReader {
    pieces: Receiver<Piece>,
    current: Vec<u8>,
    position: usize,
    consumed: u64,
    received: u64,
    end: Option<End>,
}

enum End {
    Reached(Option<Digest>),
    Failed(Option<io::Error>),
}

impl PieceReader {
    pub(crate) fn new(pieces: Receiver<Piece>) -> Self {
        Self { pieces, current: Vec::new(), position: 0, consumed: 0, received: 0, end: None }
    }

    /// Bytes taken out so far.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Bytes that came in so far.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// The source's own error, once, when that is what ended the stream.
    pub(crate) fn take_failure(&mut self) -> Option<io::Error> {
        match &mut self.end {
            Some(End::Failed(error)) => error.take(),
            _ => None,
        }
    }

    /// The digest, after the end was reached.
    pub(crate) fn digest(&self) -> Option<Digest> {
        match self.end {
            Some(End::Reached(digest)) => digest,
            _ => None,
        }
    }
}

impl BufRead for PieceReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.position == self.current.len() && self.end.is_none() {
            match self.pieces.recv() {
                Ok(Piece::Data(data)) => {
                    self.received += data.len() as u64;
                    self.current = data;
                    self.position = 0;
                }
                Ok(Piece::End(digest)) => self.end = Some(End::Reached(digest)),
                Ok(Piece::Failed(error)) => self.end = Some(End::Failed(Some(error))),
                Err(_) => self.end = Some(End::Failed(Some(io::Error::other("the read stage died")))),
            }
        }
        let rest = self.current.get(self.position..).unwrap_or_default();
        if rest.is_empty() && matches!(self.end, Some(End::Failed(_))) {
            return Err(io::Error::other("source failed"));
        }
        Ok(rest)
    }

    fn consume(&mut self, amount: usize) {
        let amount = amount.min(self.current.len() - self.position);
        self.position += amount;
        self.consumed += amount as u64;
    }
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

// SPDX-License-Identifier: Apache-2.0
//! One image on the disk, which may still be coming: what is known of it so far, and its bytes with a machine's text in them.
//!
//! ```text
//!   Coming --(all bytes there)--> Whole
//!      `----(upstream failed)---> Failed
//! ```
//!
//! A reader waits until the bytes that it wants are settled: until it is known where in them markers are.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, stream};
use tokio::sync::watch;

use super::marker::{Patch, Scanner};

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

/// How far an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Progress {
    /// Bytes from the first whose markers are known.
    pub(super) settled: u64,
    /// First bytes of markers, ascending.
    pub(super) markers: Arc<[u64]>,
    pub(super) state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Coming,
    Whole,
    Failed,
}

/// An image. It stays readable when its file is replaced or removed.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(super) file: Arc<File>,
    pub(super) progress: watch::Receiver<Progress>,
    /// Its size, unless upstream does not say it before the end.
    pub(super) size: Option<u64>,
    /// Changes with its content.
    pub(super) identity: String,
}

/// The image became shorter, or its source failed.
fn cut(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, reason)
}

impl Image {
    /// A file that is whole, whose markers are looked for now. Blocks.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or has too many markers.
    pub(super) fn scan(file: File, identity: String, marker: &[u8]) -> io::Result<Self> {
        let mut scanner = Scanner::new(marker);
        let mut buffer = vec![0; CHUNK];
        let mut offset = 0;
        loop {
            let read = file.read_at(&mut buffer, offset)?;
            if read == 0 {
                break;
            }
            scanner.push(buffer.get(..read).unwrap_or_default()).map_err(io::Error::other)?;
            offset += read as u64;
        }
        let whole = Progress { settled: offset, markers: scanner.found().into(), state: State::Whole };
        // Nobody waits for what is whole, so that the sender need not live.
        let (_, progress) = watch::channel(whole);
        Ok(Self { file: Arc::new(file), progress, size: Some(offset), identity })
    }

    /// Its size, waited for if it is not known before the end.
    ///
    /// # Errors
    ///
    /// When upstream failed.
    pub(crate) async fn size(&self) -> io::Result<u64> {
        match self.size {
            Some(size) => Ok(size),
            None => Ok(self.settled(u64::MAX).await?.settled),
        }
    }

    /// How many markers it has so far.
    pub(crate) fn markers(&self) -> usize {
        self.progress.borrow().markers.len()
    }

    /// Waits until the bytes up to `end`, or all, are settled.
    async fn settled(&self, end: u64) -> io::Result<Progress> {
        let mut progress = self.progress.clone();
        let enough = |progress: &Progress| progress.state != State::Coming || progress.settled >= end;
        let reached = progress.wait_for(enough).await.map(|progress| progress.clone());
        // A sender that is gone left its last word.
        let reached = reached.unwrap_or_else(|_| self.progress.borrow().clone());
        match reached.state {
            State::Failed => Err(cut("upstream failed")),
            State::Coming if reached.settled < end => Err(cut("upstream was given up")),
            _ => Ok(reached),
        }
    }

    /// The bytes from `first`, `length` of them, with `patch` in the place of markers.
    pub(crate) fn read(
        self,
        patch: Arc<Patch>,
        first: u64,
        length: u64,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send {
        let end = first.saturating_add(length);
        stream::try_unfold(first, move |offset| {
            let (image, patch) = (self.clone(), Arc::clone(&patch));
            async move {
                let wanted = usize::try_from(end - offset).unwrap_or(usize::MAX).min(CHUNK);
                if wanted == 0 {
                    return Ok(None);
                }
                let progress = image.settled(offset + wanted as u64).await?;
                let read = tokio::task::spawn_blocking(move || {
                    let mut part = vec![0; wanted];
                    image.file.read_exact_at(&mut part, offset)?;
                    patch.apply(&progress.markers, offset, &mut part);
                    Ok::<_, io::Error>(part)
                });
                let part = read.await.map_err(io::Error::other)??;
                Ok(Some((Bytes::from(part), offset + wanted as u64)))
            }
        })
    }
}

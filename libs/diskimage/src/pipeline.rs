// SPDX-License-Identifier: Apache-2.0
//! The pipeline itself: starts the read and decode stages on their own threads and is the write stage.
//!
//! The order of what happens to the disk, see [`Writer`]: wipe both ends, write the middle, verify, flush, write the
//! last MiB, write the first MiB, its first block at the very end.

use std::io::{self, BufRead, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use crate::chunk::Chunk;
use crate::digest::Digest;
use crate::error::Error;
use crate::format::{self, Compression, Declared, FOREIGN_HEAD, Foreign, FormatError, MAGIC};
use crate::progress::{Cancel, Progress};
use crate::reader::{Hashing, PIECES, PieceReader, read_stage};
use crate::runs::{self, BLOCK, Run};
use crate::target::Target;

/// Bytes per write to the disk.
const CHUNK: usize = 2 * 1024 * 1024;

/// Chunks that go round between the decode and the write stage.
const CHUNKS: usize = 5;

/// Bytes held back at each end of the disk: boot code, both partition tables, and what lies before the first
/// partition of anything partitioned in this century.
const HELD: usize = 1024 * 1024;

/// The longest run of zeros that is given to the disk in one request, so that a write can still be cancelled.
const LONGEST_ZERO_RUN: u64 = 256 * 1024 * 1024;

/// What an xz decoder may allocate; `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 192 * 1024 * 1024;

/// The largest zstd window accepted, as a power of two: 128 MiB, the format's recommended limit for decoders and more
/// than `zstd --ultra -22` uses.
const ZSTD_WINDOW_LOG: u32 = 27;

/// What is to be written.
#[derive(Debug, Clone)]
pub struct Image {
    /// Name or URL; only its suffix matters.
    pub name: String,
    /// Whether the action says that it is compressed.
    pub declared: Declared,
    /// Length as downloaded, where known. Another length is a failure.
    pub len: Option<u64>,
    /// Digest as downloaded, where one is demanded.
    pub digest: Option<Digest>,
}

/// What was written.
#[derive(Debug, Clone)]
pub struct Written {
    /// How the image was compressed.
    pub compression: Compression,
    /// Bytes as downloaded.
    pub source_bytes: u64,
    /// Bytes of the image on the disk, zeros included.
    pub image_bytes: u64,
    /// Device nodes of the partitions that the disk has now.
    pub partitions: Vec<PathBuf>,
}

/// What the decode stage sends.
enum Decoded {
    /// What it found out before the first byte of the image.
    Start(Start),
    /// The next bytes of the image; all but the last chunk are full.
    Chunk(Chunk),
    /// The image is complete: source length and digest are known.
    End { source_bytes: u64, digest: Option<Digest> },
    /// It is not.
    Failed(Error),
}

/// What is known of an image before any of it is written.
#[derive(Debug, Clone, Copy)]
struct Start {
    compression: Compression,
    /// The whole image's size for raw images of known length; of its first frame for zstd.
    at_least: Option<u64>,
    exact: bool,
}

/// Writes `image`, read from `source`, to `disk`, and returns when all of it is on stable storage and the disk's new
/// partitions are visible. Blocks; call it from a blocking thread. When it fails the disk is either untouched or has
/// no valid first and last MiB.
///
/// The caller must make `source` fail or end when it calls [`Cancel::cancel`] or drops interest, so that the thread
/// that reads it ends too.
///
/// # Errors
/// See [`Error`]; none is retried here.
pub fn write_image(
    source: impl Read + Send + 'static,
    image: &Image,
    disk: &Path,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Written, Error> {
    let target = Target::open(disk)?;
    progress.set_total(image.len.unwrap_or(0));
    let hashing = if image.digest.is_some() { Hashing::Sha256 } else { Hashing::Off };
    let (piece_in, piece_out) = sync_channel(PIECES);
    let (chunk_in, chunk_out) = sync_channel(CHUNKS);
    let (free_in, free_out) = channel();
    for _ in 0..CHUNKS {
        drop(free_in.send(Chunk::new(CHUNK)));
    }
    let read = {
        let (progress, cancel) = (progress.clone(), cancel.clone());
        spawn("image-read", move || read_stage(source, &piece_in, hashing, &progress, &cancel))?
    };
    let decode = {
        let image = image.clone();
        spawn("image-decode", move || {
            decode_stage(PieceReader::new(piece_out), &image, &free_out, &chunk_in)
        })?
    };
    let result = write_stage(target, image, &chunk_out, &free_in, progress, cancel);
    if cancel.is_cancelled() {
        return Err(Error::Cancelled);
    }
    let written = result?;
    // After a failure the threads end by themselves, once their channels are gone; after success they have ended.
    for stage in [read, decode] {
        stage.join().map_err(|_| Error::Pipeline("a stage panicked".to_owned()))?;
    }
    Ok(written)
}

fn spawn(name: &str, stage: impl FnOnce() + Send + 'static) -> Result<thread::JoinHandle<()>, Error> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(stage)
        .map_err(|error| Error::Pipeline(format!("cannot start thread {name}: {error}")))
}

fn decode_stage(mut reader: PieceReader, image: &Image, free: &Receiver<Chunk>, out: &SyncSender<Decoded>) {
    let last = match decode(&mut reader, image, free, out) {
        Ok(Flow::Complete) => Decoded::End { source_bytes: reader.consumed(), digest: reader.digest() },
        Ok(Flow::NobodyListens) => return,
        Err(error) => Decoded::Failed(error),
    };
    // A closed channel means that the write stage failed and has said so itself.
    drop(out.send(last));
}

enum Flow {
    Complete,
    NobodyListens,
}

fn decode(
    reader: &mut PieceReader,
    image: &Image,
    free: &Receiver<Chunk>,
    out: &SyncSender<Decoded>,
) -> Result<Flow, Error> {
    let start = look_at_start(reader, image)?;
    if out.send(Decoded::Start(start)).is_err() {
        return Ok(Flow::NobodyListens);
    }
    match decode_chunks(reader, start.compression, free, out) {
        Ok(Flow::Complete) => {}
        Ok(Flow::NobodyListens) => return Ok(Flow::NobodyListens),
        Err(Stop::Error(error)) => return Err(error),
        Err(Stop::Decoder(error)) => return Err(decode_error(reader, image, start.compression, error)),
    }
    at_end(reader, image, start.compression).map(|()| Flow::Complete)
}

/// Why decoding stopped before its end.
enum Stop {
    Decoder(io::Error),
    Error(Error),
}

fn decode_chunks(
    reader: &mut PieceReader,
    compression: Compression,
    free: &Receiver<Chunk>,
    out: &SyncSender<Decoded>,
) -> Result<Flow, Stop> {
    let mut decoder = decoder(reader, compression).map_err(Stop::Error)?;
    let mut first = true;
    loop {
        let Ok(mut chunk) = free.recv() else {
            return Ok(Flow::NobodyListens);
        };
        chunk.fill(&mut *decoder).map_err(Stop::Decoder)?;
        if std::mem::take(&mut first) {
            let head = chunk.data().get(..FOREIGN_HEAD).unwrap_or(chunk.data());
            if let Some(foreign) = Foreign::detect(head) {
                return Err(Stop::Error(FormatError::Foreign(foreign).into()));
            }
        }
        let last = !chunk.is_full();
        if out.send(Decoded::Chunk(chunk)).is_err() {
            return Ok(Flow::NobodyListens);
        }
        if last {
            return Ok(Flow::Complete);
        }
    }
}

fn look_at_start(reader: &mut PieceReader, image: &Image) -> Result<Start, Error> {
    let head = match reader.fill_buf() {
        Ok(head) => head,
        Err(error) => return Err(decode_error(reader, image, Compression::Raw, error)),
    };
    // Too little to recognise anything: then what is wrong is the length, not the format.
    let at = head.len() as u64;
    match image.len {
        _ if head.len() >= MAGIC => {}
        Some(of) if at < of => return Err(Error::Truncated { at, of }),
        _ if head.is_empty() => return Err(Error::Empty),
        _ => {}
    }
    let compression = format::choose(&image.name, image.declared, head)?;
    let (at_least, exact) = match compression {
        Compression::Raw => (image.len, true),
        Compression::Zstd => (zstd::zstd_safe::get_frame_content_size(head).ok().flatten(), false),
        Compression::Gzip | Compression::Xz | Compression::Bzip2 => (None, false),
    };
    Ok(Start { compression, at_least, exact })
}

fn decoder<'a>(reader: &'a mut PieceReader, compression: Compression) -> Result<Box<dyn Read + 'a>, Error> {
    let prepared: io::Result<Box<dyn Read + 'a>> = match compression {
        Compression::Raw => return Ok(Box::new(reader)),
        Compression::Gzip => return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(reader))),
        Compression::Bzip2 => return Ok(Box::new(bzip2::bufread::MultiBzDecoder::new(reader))),
        Compression::Zstd => zstd::stream::read::Decoder::with_buffer(reader).and_then(|mut decoder| {
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Ok(Box::new(decoder) as Box<dyn Read>)
        }),
        Compression::Xz => {
            liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)
                .map(|stream| {
                    Box::new(liblzma::bufread::XzDecoder::new_stream(reader, stream)) as Box<dyn Read>
                })
                .map_err(io::Error::from)
        }
    };
    prepared.map_err(|error| Error::Pipeline(format!("cannot prepare the {compression} decoder: {error}")))
}

/// The decoder is content. So must be the announced length, and nothing may follow.
fn at_end(reader: &mut PieceReader, image: &Image, compression: Compression) -> Result<(), Error> {
    match reader.fill_buf() {
        Ok([]) => {}
        Ok(_) => {
            let trailing =
                io::Error::new(io::ErrorKind::InvalidData, "something follows the compressed data");
            return Err(decode_error(reader, image, compression, trailing));
        }
        Err(error) => return Err(decode_error(reader, image, compression, error)),
    }
    match image.len {
        Some(of) if reader.received() < of => Err(Error::Truncated { at: reader.received(), of }),
        Some(of) if reader.received() > of => Err(Error::Overlong { of }),
        _ => Ok(()),
    }
}

/// The reason behind a decoder's error: the source's own failure, a source that ended early, or damage.
fn decode_error(reader: &mut PieceReader, image: &Image, format: Compression, source: io::Error) -> Error {
    if let Some(failure) = reader.take_failure() {
        return Error::Source(failure);
    }
    let at = reader.received();
    match image.len {
        _ if source.kind() != io::ErrorKind::UnexpectedEof => {
            Error::Damaged { format, at: reader.consumed(), source }
        }
        Some(of) if at < of => Error::Truncated { at, of },
        _ => Error::TruncatedStream { format, at },
    }
}

fn write_stage(
    target: Target,
    image: &Image,
    chunks: &Receiver<Decoded>,
    free: &Sender<Chunk>,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Written, Error> {
    let mut writer = Writer::new(target, progress);
    let mut compression = Compression::Raw;
    let source_bytes = loop {
        let decoded = chunks.recv().map_err(|_| Error::Pipeline("the decode stage died".to_owned()))?;
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        match decoded {
            Decoded::Start(start) => {
                compression = start.compression;
                writer.check_fits(start.at_least.unwrap_or(0), start.exact)?;
            }
            Decoded::Chunk(mut chunk) => {
                writer.put(&mut chunk)?;
                // The decode stage may have ended: then nobody takes the chunk back.
                drop(free.send(chunk));
            }
            Decoded::End { source_bytes, digest } => {
                verify(image, digest)?;
                break source_bytes;
            }
            Decoded::Failed(error) => return Err(error),
        }
    };
    let image_bytes = writer.image_bytes;
    let target = writer.finish()?;
    Ok(Written { compression, source_bytes, image_bytes, partitions: target.settle() })
}

fn verify(image: &Image, digest: Option<Digest>) -> Result<(), Error> {
    match (image.digest, digest) {
        (Some(expected), Some(got)) if expected != got => Err(Error::Digest { expected, got }),
        (Some(_), None) => Err(Error::Pipeline("no digest was computed".to_owned())),
        _ => Ok(()),
    }
}

/// Places the image on the target, both ends held back until [`Writer::finish`].
struct Writer<'a> {
    target: Target,
    progress: &'a Progress,
    /// Bytes of the image seen so far.
    image_bytes: u64,
    wiped: bool,
    head: Vec<u8>,
    tail: Vec<u8>,
    /// Where the held end of the disk begins.
    tail_start: u64,
    /// Zeros seen but not yet given to the disk.
    zeros: Range<u64>,
}

impl<'a> Writer<'a> {
    fn new(target: Target, progress: &'a Progress) -> Self {
        let tail_start = match target.limit() {
            Some(size) => (size.saturating_sub(HELD as u64) / BLOCK as u64 * BLOCK as u64).max(HELD as u64),
            None => u64::MAX,
        };
        Self {
            target,
            progress,
            image_bytes: 0,
            wiped: false,
            head: Vec::new(),
            tail: Vec::new(),
            tail_start,
            zeros: 0..0,
        }
    }

    fn check_fits(&self, image_bytes: u64, exact: bool) -> Result<(), Error> {
        match self.target.limit() {
            Some(disk_bytes) if image_bytes > disk_bytes => {
                Err(Error::TooLarge { disk: self.target.path().to_owned(), disk_bytes, image_bytes, exact })
            }
            _ => Ok(()),
        }
    }

    /// Takes the next bytes of the image.
    fn put(&mut self, chunk: &mut Chunk) -> Result<(), Error> {
        let offset = self.image_bytes;
        let end = offset + chunk.data().len() as u64;
        self.check_fits(end, false)?;
        if !self.wiped && end > 0 {
            self.wipe_ends()?;
            self.wiped = true;
        }
        self.image_bytes = end;
        chunk.pad(self.target.block());
        let data = chunk.data();

        let clamp = |position: u64| {
            usize::try_from(position.saturating_sub(offset)).unwrap_or(usize::MAX).min(data.len())
        };
        let (middle_start, middle_end) = (clamp(HELD as u64), clamp(self.tail_start));
        let middle_end = middle_end.max(middle_start);
        self.head.extend_from_slice(data.get(..middle_start).unwrap_or_default());
        self.tail.extend_from_slice(data.get(middle_end..).unwrap_or_default());
        let middle = data.get(middle_start..middle_end).unwrap_or_default();
        self.write_runs(offset + middle_start as u64, middle)
    }

    /// Proven good: makes it durable and, last of all, bootable.
    fn finish(mut self) -> Result<Target, Error> {
        if self.image_bytes == 0 {
            return Err(Error::Empty);
        }
        self.flush_zeros()?;
        self.target.flush()?;
        let (head, tail) = (std::mem::take(&mut self.head), std::mem::take(&mut self.tail));
        if !tail.is_empty() {
            self.write_aligned(self.tail_start, &tail)?;
        }
        let (first, rest) = head.split_at(head.len().min(BLOCK));
        self.write_aligned(BLOCK as u64, rest)?;
        self.target.extend_to(self.image_bytes)?;
        self.target.flush()?;
        self.write_aligned(0, first)?;
        self.target.flush()?;
        Ok(self.target)
    }

    fn wipe_ends(&mut self) -> Result<(), Error> {
        let Some(size) = self.target.limit() else {
            return Ok(());
        };
        self.target.zero(0, size.min(HELD as u64))?;
        if self.tail_start < size {
            self.target.zero(self.tail_start, size - self.tail_start)?;
        }
        self.target.flush()
    }

    fn write_runs(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        for run in runs::split(data) {
            match run {
                Run::Zero(range) => {
                    let start = offset + range.start as u64;
                    if self.zeros.end != start {
                        self.flush_zeros()?;
                        self.zeros = start..start;
                    }
                    self.zeros.end += range.len() as u64;
                    if self.zeros.end - self.zeros.start >= LONGEST_ZERO_RUN {
                        self.flush_zeros()?;
                    }
                }
                Run::Data(range) => {
                    self.flush_zeros()?;
                    let start = offset + range.start as u64;
                    let bytes = data.get(range).unwrap_or_default();
                    self.target.write(start, bytes)?;
                    self.progress.add_written(bytes.len() as u64);
                }
            }
        }
        Ok(())
    }

    fn flush_zeros(&mut self) -> Result<(), Error> {
        let zeros = std::mem::replace(&mut self.zeros, 0..0);
        let length = zeros.end - zeros.start;
        if length > 0 {
            self.target.zero(zeros.start, length)?;
            self.progress.add_zero(length);
        }
        Ok(())
    }

    /// Writes bytes from memory of any alignment.
    fn write_aligned(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let mut chunk = Chunk::new(data.len());
        chunk.copy_from(data);
        self.target.write(offset, chunk.data())?;
        self.progress.add_written(data.len() as u64);
        Ok(())
    }
}

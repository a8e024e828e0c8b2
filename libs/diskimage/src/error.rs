// SPDX-License-Identifier: Apache-2.0
//! Every way in which writing an image fails, worded for the person who reads the Workflow's message.

use std::io;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::format::{Compression, FormatError};

/// Why an image was not written. None of these is retried here; the caller may retry a [`Error::Source`] that it
/// knows to be transient.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data is not what the action said it is. The disk was not touched.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The disk's name means none, or more than one. Nothing was touched.
    #[error(transparent)]
    Name(#[from] crate::disks::Unresolved),
    /// The source reported an error; what it was is inside.
    #[error("{0}")]
    Source(#[source] io::Error),
    /// The source ended before its announced length.
    #[error("image ended at byte {at} of {of}")]
    Truncated {
        /// Bytes received.
        at: u64,
        /// Bytes announced.
        of: u64,
    },
    /// The source ended inside the compressed data.
    #[error("image ended at byte {at}, in the middle of its {format} data")]
    TruncatedStream {
        /// The compression.
        format: Compression,
        /// Bytes received.
        at: u64,
    },
    /// The source went on after its announced length.
    #[error("image is longer than the {of} bytes that were announced")]
    Overlong {
        /// Bytes announced.
        of: u64,
    },
    /// The compressed data is damaged, or needs more memory than a decoder may have.
    #[error("image cannot be decompressed: {format} data near byte {at}: {source}")]
    Damaged {
        /// The compression.
        format: Compression,
        /// Compressed bytes consumed when the damage showed.
        at: u64,
        /// What the decoder said.
        source: io::Error,
    },
    /// The image holds no byte at all.
    #[error("image is empty")]
    Empty,
    /// The bytes as downloaded have another digest.
    #[error("image digest is {got}, expected {expected}")]
    Digest {
        /// What the action asked for.
        expected: Digest,
        /// What was downloaded.
        got: Digest,
    },
    /// The image does not fit.
    #[error("image does not fit: it has {} bytes, disk {} has {disk_bytes}", image_bytes_text(*.image_bytes, *.exact), .disk.display())]
    TooLarge {
        /// The disk.
        disk: PathBuf,
        /// Its size.
        disk_bytes: u64,
        /// The image's size, as far as known.
        image_bytes: u64,
        /// Whether `image_bytes` is the whole size or only what was seen before the end of the disk.
        exact: bool,
    },
    /// There is no such device.
    #[error("disk {} does not exist; {present}", .disk.display())]
    NoSuchDisk {
        /// The disk asked for.
        disk: PathBuf,
        /// A sentence that lists the disks that do exist.
        present: String,
    },
    /// The path is neither a block device nor a regular file.
    #[error("{} is not a disk", .0.display())]
    NotADisk(PathBuf),
    /// Somebody has the disk open exclusively: a mounted file system, a RAID, LVM.
    #[error("disk {} is in use (mounted, or part of a RAID or volume group); refusing to write it", .0.display())]
    Busy(PathBuf),
    /// The disk cannot be opened.
    #[error("cannot open disk {}: {source}", .disk.display())]
    Open {
        /// The disk.
        disk: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk failed a write.
    #[error("cannot write disk {} at byte {offset}: {source}", .disk.display())]
    Write {
        /// The disk.
        disk: PathBuf,
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The disk failed to make its data durable.
    #[error("cannot flush disk {}: {source}", .disk.display())]
    Flush {
        /// The disk.
        disk: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// [`crate::Cancel`] was used.
    #[error("writing the image was cancelled")]
    Cancelled,
    /// A thread of the pipeline could not be started or died.
    #[error("image pipeline failed: {0}")]
    Pipeline(String),
}

fn image_bytes_text(bytes: u64, exact: bool) -> String {
    if exact { bytes.to_string() } else { format!("at least {bytes}") }
}

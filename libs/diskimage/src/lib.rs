// SPDX-License-Identifier: Apache-2.0
//! Streams a disk image onto a disk: read, hash, decompress and write at the same time, in constant memory.
//!
//! Owns everything between "here is a stream of bytes" and "the disk holds the image and its partitions are
//! visible". The agent's image2disk action calls [`write_image`]; the source is any blocking [`std::io::Read`],
//! so nothing here knows about HTTP.
//!
//! ```text
//!  caller's Read --> read stage --> decode stage --> write stage (the calling thread)
//!                    counts, hash    decompress       zero runs punched, data written,
//!                                                     first and last MiB held back
//! ```
//!
//! Rules that no change may break:
//! * Nothing on the disk is touched before the first decompressed bytes look like a disk image that fits.
//! * The old first and last MiB (boot code, both GPTs) are wiped first and the new ones written last, after length,
//!   decoding and digest are proven and everything else is on stable storage: half an image never boots.
//! * A zero in the image reads back as zero from the disk, whatever was there before.
//! * A disk that somebody has mounted is refused.

pub mod disks;

mod chunk;
mod digest;
mod error;
mod format;
mod pipeline;
mod progress;
mod reader;
mod runs;
mod target;

pub use digest::{Digest, ParseDigestError};
pub use error::Error;
pub use format::{Compression, Declared, Foreign, FormatError};
pub use pipeline::{Image, Written, write_image};
pub use progress::{Cancel, Progress, Snapshot};

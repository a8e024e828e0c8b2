// SPDX-License-Identifier: Apache-2.0

//! The bytes of stored objects and log entries. Called by the store only.
//!
//! ```text
//! object:    resource version (8) || packed object
//! log entry: kind (1) || seconds (8) || key length (4) || key || object length (4) || packed object || record of the object before, may be empty
//! ```

use bytes::Bytes;

use super::pack::{Damaged, Packer};
use super::{Key, ReadError, Stored};

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

impl ChangeKind {
    fn to_byte(self) -> u8 {
        match self {
            Self::Added => 0,
            Self::Modified => 1,
            Self::Deleted => 2,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Added),
            1 => Some(Self::Modified),
            2 => Some(Self::Deleted),
            _ => None,
        }
    }
}

/// One committed change.
#[derive(Debug, Clone)]
pub(crate) struct LogEntry {
    pub version: u64,
    pub kind: ChangeKind,
    pub key: Key,
    /// The object after the change; for a removal its last state with the removal's resource version.
    pub object: Bytes,
    /// The object before the change, where a selector could tell the difference.
    pub previous: Option<Bytes>,
}

impl LogEntry {
    /// Bytes held by this entry, for the bounds of what is in memory.
    pub fn weight(&self) -> usize {
        self.object.len() + self.previous.as_ref().map_or(0, Bytes::len) + self.key.as_str().len() + 64
    }
}

/// A log entry as it is in the file.
pub(super) struct StoredEntry<'a> {
    pub kind: ChangeKind,
    /// Unix seconds of the commit: compaction by age.
    pub at: u64,
    pub key: &'a str,
    /// The packed object.
    pub object: &'a [u8],
    /// The record of the object before; may be empty.
    pub previous: &'a [u8],
}

impl<'a> StoredEntry<'a> {
    pub fn encode(&self) -> Vec<u8> {
        let size = self.key.len() + self.object.len() + self.previous.len() + 17;
        let mut out = Vec::with_capacity(size);
        out.push(self.kind.to_byte());
        out.extend_from_slice(&self.at.to_be_bytes());
        for part in [self.key.as_bytes(), self.object] {
            // Keys and objects are bounded far below 4 GiB by the request limits.
            out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(part);
        }
        out.extend_from_slice(self.previous);
        out
    }

    pub fn decode(encoded: &'a [u8]) -> Option<Self> {
        let mut rest = encoded;
        let kind = take(&mut rest, 1).and_then(|b| ChangeKind::from_byte(*b.first()?))?;
        let at = take(&mut rest, 8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes)?;
        let key = take_sized(&mut rest).and_then(|b| std::str::from_utf8(b).ok())?;
        let object = take_sized(&mut rest)?;
        Some(Self { kind, at, key, object, previous: rest })
    }
}

/// The log entry of a version from its bytes.
pub(super) fn decode_entry(packer: &Packer, version: u64, encoded: &[u8]) -> Result<LogEntry, ReadError> {
    let damaged = || ReadError::Damaged(format!("log entry {version}"));
    let stored = StoredEntry::decode(encoded).ok_or_else(damaged)?;
    let previous = (!stored.previous.is_empty()).then(|| decode_record(packer, stored.previous));
    Ok(LogEntry {
        version,
        kind: stored.kind,
        key: Key::from_stored(stored.key),
        object: packer.unpack(stored.object, version).map_err(|Damaged| damaged())?,
        previous: previous.transpose().map_err(|Damaged| damaged())?.map(|(_, json)| json),
    })
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

fn take_sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = take(rest, 4)?.try_into().ok().map(u32::from_be_bytes)?;
    take(rest, usize::try_from(len).ok()?)
}

/// The record of an object at a version.
pub(super) fn encode_record(version: u64, packed: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(packed.len() + 8);
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(packed);
    out
}

/// The version of a record.
pub(super) fn record_version(record: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(record.get(..8)?.try_into().ok()?))
}

/// Version and JSON of a record.
pub(super) fn decode_record(packer: &Packer, record: &[u8]) -> Result<(u64, Bytes), Damaged> {
    let version = record_version(record).ok_or(Damaged)?;
    Ok((version, packer.unpack(record.get(8..).unwrap_or_default(), version)?))
}

pub(super) fn decode_object(packer: &Packer, key: Key, record: &[u8]) -> Result<Stored, ReadError> {
    match decode_record(packer, record) {
        Ok((version, bytes)) => Ok(Stored { key, version, bytes }),
        Err(Damaged) => Err(ReadError::Damaged(key.as_str().replace('\0', "/"))),
    }
}

// SPDX-License-Identifier: Apache-2.0

//! The bytes of stored objects and log entries. Called by the store only.

use bytes::Bytes;

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
    /// Unix seconds of the commit: compaction by age.
    pub at: u64,
}

impl LogEntry {
    /// Bytes held by this entry, for the bound of the in-memory log.
    pub fn weight(&self) -> usize {
        self.object.len() + self.previous.as_ref().map_or(0, Bytes::len) + self.key.as_str().len() + 64
    }

    /// `kind (1) || at (8) || key length (4) || key || object length (4) || object || previous (the rest, may be empty)`.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.weight());
        out.push(self.kind.to_byte());
        out.extend_from_slice(&self.at.to_be_bytes());
        for part in [self.key.as_str().as_bytes(), &self.object] {
            // Keys and objects are bounded far below 4 GiB by the request limits.
            out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(part);
        }
        if let Some(previous) = &self.previous {
            out.extend_from_slice(previous);
        }
        out
    }

    pub fn decode(version: u64, encoded: &[u8]) -> Result<Self, ReadError> {
        let damaged = || ReadError::Damaged(format!("log entry {version}"));
        let mut rest = encoded;
        let kind = take(&mut rest, 1).and_then(|b| ChangeKind::from_byte(*b.first()?)).ok_or_else(damaged)?;
        let at = take(&mut rest, 8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
        let at = at.ok_or_else(damaged)?;
        let key = take_sized(&mut rest).and_then(|b| std::str::from_utf8(b).ok()).ok_or_else(damaged)?;
        let object = take_sized(&mut rest).ok_or_else(damaged)?;
        Ok(Self {
            version,
            kind,
            key: Key::from_stored(key),
            object: Bytes::copy_from_slice(object),
            previous: (!rest.is_empty()).then(|| Bytes::copy_from_slice(rest)),
            at,
        })
    }
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

pub(super) fn encode_object(version: u64, json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() + 8);
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(json);
    out
}

pub(super) fn object_version(encoded: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(encoded.get(..8)?.try_into().ok()?))
}

pub(super) fn decode_object(key: Key, encoded: &[u8]) -> Result<Stored, ReadError> {
    let (Some(version), Some(json)) = (object_version(encoded), encoded.get(8..)) else {
        return Err(ReadError::Damaged(key.as_str().replace('\0', "/")));
    };
    Ok(Stored { key, version, bytes: Bytes::copy_from_slice(json) })
}

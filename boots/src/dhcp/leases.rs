// SPDX-License-Identifier: Apache-2.0
//! The file that leases survive a restart in: one line per change, the last one of an address counts.
//!
//! A line ends in the checksum of the rest, so that one that a power cut tore is known and passed over. Lines are on the
//! disk before the client hears of its lease. When the file has grown to twice what is live it is written anew beside
//! itself and renamed, so that at any moment one whole file is there. Owned by the task that sends pool answers.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use api::Mac;

/// First line, which names the format.
const HEADER: &str = "# tinkerbell dhcp leases 1";
/// Lines that may be out of date before the file is written anew, beside as many as are live.
const SLACK: usize = 1024;
/// Bytes of a file that is read; 65,536 leases with as many stale lines are a ninth of it.
const MAX_FILE: u64 = 64 << 20;

/// What a line says of its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// A client has it until then; with a time that is past it had.
    Bound,
    /// Somebody else was found to use it; nobody gets it until then.
    Declined,
}

/// One change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) state: State,
    pub(crate) address: Ipv4Addr,
    pub(crate) mac: Mac,
    /// Unix seconds.
    pub(crate) until: u64,
}

impl Record {
    fn line(&self) -> String {
        let state = match self.state {
            State::Bound => "bound",
            State::Declined => "declined",
        };
        let text = format!("{state} {} {} {}", self.address, self.mac, self.until);
        format!("{text} {:08x}\n", crc32fast::hash(text.as_bytes()))
    }

    fn parse(line: &str) -> Option<Self> {
        let (text, sum) = line.rsplit_once(' ')?;
        if u32::from_str_radix(sum, 16).ok()? != crc32fast::hash(text.as_bytes()) {
            return None;
        }
        let mut words = text.split(' ');
        let state = match words.next()? {
            "bound" => State::Bound,
            "declined" => State::Declined,
            _ => return None,
        };
        let (address, mac, until) = (words.next()?, words.next()?, words.next()?);
        let record = Self {
            state,
            address: address.parse().ok()?,
            mac: mac.parse().ok()?,
            until: until.parse().ok()?,
        };
        words.next().is_none().then_some(record)
    }
}

/// The open file.
#[derive(Debug)]
pub(crate) struct LeaseFile {
    path: PathBuf,
    file: File,
    /// Lines in the file, those out of date included.
    lines: usize,
    live: BTreeMap<Ipv4Addr, Record>,
}

impl LeaseFile {
    /// Opens or creates the file, writes it anew without what is out of date, and gives back its records and the number of
    /// lines that were damaged.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written, or is none of ours.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, Vec<Record>, usize)> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let (records, damaged) = read(path)?;
        let live: BTreeMap<_, _> = records.iter().map(|record| (record.address, *record)).collect();
        let file = rewrite(path, live.values())?;
        Ok((Self { path: path.to_owned(), file, lines: live.len(), live }, records, damaged))
    }

    /// Writes changes; they are on the disk when it returns.
    ///
    /// # Errors
    ///
    /// When the disk is full or fails. The file is then written anew before the next change, so that nothing half-written
    /// stays in it.
    pub(crate) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let text: String = records.iter().map(Record::line).collect();
        let before: Vec<_> = records.iter().map(|record| self.live.insert(record.address, *record)).collect();
        let limit = self.live.len().saturating_mul(2).saturating_add(SLACK);
        self.lines = self.lines.saturating_add(records.len());
        let written = if self.lines > limit {
            rewrite(&self.path, self.live.values()).map(|file| {
                self.file = file;
                self.lines = self.live.len();
            })
        } else {
            self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data())
        };
        if written.is_err() {
            self.lines = usize::MAX;
            // In the reverse order, so that the oldest of several for one address is what remains.
            for (record, before) in records.iter().zip(before).rev() {
                match before {
                    Some(before) => self.live.insert(record.address, before),
                    None => self.live.remove(&record.address),
                };
            }
        }
        written
    }
}

/// The records of a file, oldest first, and how many lines were none.
fn read(path: &Path) -> io::Result<(Vec<Record>, usize)> {
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(error),
    };
    let foreign = || io::Error::new(io::ErrorKind::InvalidData, "it is not a lease file of this version");
    if size > MAX_FILE {
        return Err(foreign());
    }
    let bytes = std::fs::read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    if size > 0 && lines.next() != Some(HEADER) {
        return Err(foreign());
    }
    let mut damaged = 0;
    let mut records = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        match Record::parse(line) {
            Some(record) => records.push(record),
            None => damaged += 1,
        }
    }
    Ok((records, damaged))
}

/// Writes a file with these records in the place of what was there, and leaves it open at its end.
fn rewrite<'a>(path: &Path, records: impl Iterator<Item = &'a Record>) -> io::Result<File> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut text = format!("{HEADER}\n");
    text.extend(records.map(Record::line));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(last: u8, until: u64) -> Record {
        Record {
            state: State::Bound,
            address: Ipv4Addr::new(10, 0, 0, last),
            mac: Mac::from([2, 0, 0, 0, 0, last]),
            until,
        }
    }

    #[test]
    fn what_was_written_is_read_and_what_was_torn_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/leases");
        let (mut file, records, damaged) = LeaseFile::open(&path).unwrap();
        assert_eq!((records.len(), damaged), (0, 0));
        let declined = Record { state: State::Declined, ..record(2, 9) };
        file.append(&[record(1, 5), declined]).unwrap();
        file.append(&[record(1, 7)]).unwrap();
        drop(file);
        let whole = std::fs::read(&path).unwrap();
        // Every length that a power cut may leave behind.
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let Ok((_, records, damaged)) = LeaseFile::open(&path) else {
                assert!(length < HEADER.len(), "{length}");
                continue;
            };
            assert!(damaged <= 1 && records.len() <= 3, "{length}");
            let all = [record(1, 5), declined, record(1, 7)];
            assert_eq!(records, all[..records.len()], "{length}");
        }
        std::fs::write(&path, &whole).unwrap();
        let (_, records, _) = LeaseFile::open(&path).unwrap();
        assert_eq!(records, [record(1, 5), declined, record(1, 7)]);
        let (_, records, _) = LeaseFile::open(&path).unwrap();
        assert_eq!(records, [record(1, 7), declined], "the second time without what is out of date");
    }

    #[test]
    fn a_damaged_line_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("leases");
        let (mut file, ..) = LeaseFile::open(&path).unwrap();
        file.append(&[record(1, 5), record(2, 6), record(3, 7)]).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = HEADER.len() + 70;
        bytes[at] ^= 0x55;
        std::fs::write(&path, bytes).unwrap();
        let (_, records, damaged) = LeaseFile::open(&path).unwrap();
        assert_eq!((records.len(), damaged), (2, 1));
    }

    #[test]
    fn the_file_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("leases");
        let (mut file, ..) = LeaseFile::open(&path).unwrap();
        for round in 0..100 {
            let all: Vec<_> = (0..100).map(|last| record(last, round)).collect();
            file.append(&all).unwrap();
        }
        let (records, _) = read(&path).unwrap();
        assert!(records.len() <= 2 * 100 + SLACK, "{}", records.len());
        assert!(records.iter().rev().take(100).all(|record| record.until == 99));
    }

    #[test]
    fn another_file_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("leases");
        std::fs::write(&path, "lease { }\n").unwrap();
        assert!(LeaseFile::open(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "lease { }\n");
    }
}

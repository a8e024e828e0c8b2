// SPDX-License-Identifier: Apache-2.0
//! The files of machines' logs: two for each machine, of which the older one goes when the newer one is full.
//!
//! `<dir>/<namespace>/<name>.log` holds the newest lines, `<name>.log.1` those before them; each is at most half of what a
//! machine may have.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::LogLine;
use crate::kept::{self, Known, Name, make};

/// Ending of the newer file, and of the older one.
const ENDING: &str = ".log";
const BEFORE: &str = ".log.1";

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes per machine.
    pub(crate) machine: u64,
    /// Bytes in all.
    pub(crate) total: u64,
}

/// All logs.
#[derive(Debug)]
pub(super) struct Store {
    machine: u64,
    files: kept::Store<Kept>,
}

/// What there is of one machine.
#[derive(Debug, Clone, Copy, Default)]
struct Kept {
    current: u64,
    before: u64,
    /// Whether the current file was written to since the start; until then its end may be torn.
    whole: bool,
}

impl Store {
    /// Opens or makes the directory.
    ///
    /// # Errors
    ///
    /// When it cannot be made or listed.
    pub(super) fn open(dir: &Path, bounds: Bounds) -> io::Result<Self> {
        Ok(Self { machine: bounds.machine, files: kept::Store::open(dir, bounds.total)? })
    }

    /// Adds lines to a machine's log.
    ///
    /// # Errors
    ///
    /// When its name is no file name, or the disk is full or fails.
    pub(super) fn append(&mut self, name: &Name, lines: &[LogLine]) -> io::Result<()> {
        let half = self.machine / 2;
        self.files.write(name, ENDING, |path, kept| write(path, lines, half, kept))
    }

    /// Removes the logs of the machines that were silent for longest while all are too much; says whose.
    pub(super) fn shrink(&mut self) -> Vec<Name> {
        self.files.shrink()
    }
}

impl Known for Kept {
    /// The older one goes first, so that what is left if the other one stays are the newest lines.
    const ENDINGS: &'static [&'static str] = &[BEFORE, ENDING];

    fn found(&mut self, ending: &str, size: u64) {
        *(if ending == ENDING { &mut self.current } else { &mut self.before }) = size;
    }

    fn size(&self) -> u64 {
        self.current + self.before
    }
}

/// Appends lines, with a new file whenever the current one has `half` bytes.
fn write(path: &Path, lines: &[LogLine], half: u64, kept: &mut Kept) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        make(dir)?;
    }
    let mut file = open(path, kept)?;
    let mut text = Vec::new();
    for line in lines {
        let mut json = serde_json::to_vec(line)?;
        json.push(b'\n');
        let filled = kept.current + text.len() as u64;
        if filled > 0 && filled + json.len() as u64 > half {
            put(&mut file, &mut text, kept)?;
            fs::rename(path, before(path))?;
            (kept.before, kept.current) = (kept.current, 0);
            file = open(path, kept)?;
        }
        text.append(&mut json);
    }
    put(&mut file, &mut text, kept)
}

fn put(file: &mut File, text: &mut Vec<u8>, kept: &mut Kept) -> io::Result<()> {
    // After a failure the end of the file is unknown, so it is looked at again.
    kept.whole = false;
    file.write_all(text)?;
    kept.current += text.len() as u64;
    kept.whole = true;
    text.clear();
    Ok(())
}

/// Opens the current file for appending; a line that was torn is ended, so that it costs only itself.
fn open(path: &Path, kept: &mut Kept) -> io::Result<File> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    if !kept.whole {
        kept.current = file.metadata()?.len();
        let mut last = [b'\n'];
        if kept.current > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        if last != [b'\n'] {
            file.write_all(b"\n")?;
            kept.current += 1;
        }
    }
    Ok(file)
}

/// The lines of a machine that came after `since`, oldest first. It may be written to meanwhile.
///
/// # Errors
///
/// When files are there and cannot be read.
pub(super) fn read(dir: &Path, name: &Name, since: u64) -> io::Result<Vec<LogLine>> {
    let Some(path) = path(dir, name) else { return Ok(Vec::new()) };
    let mut lines = Vec::new();
    // The newer one first: when it becomes the older one in between, its lines are read twice, and not never.
    for file in [path.clone(), before(&path)] {
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let parsed = text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        lines.extend(parsed.filter(|line: &LogLine| line.at > since));
    }
    lines.sort_by_key(|line| line.at);
    lines.dedup_by_key(|line| line.at);
    Ok(lines)
}

fn path(dir: &Path, name: &Name) -> Option<PathBuf> {
    name.file(dir, ENDING)
}

/// The file of the lines before those in `path`.
fn before(path: &Path) -> PathBuf {
    let mut older = path.as_os_str().to_owned();
    older.push(".1");
    older.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kept::MAX_NAME;

    const BOUNDS: Bounds = Bounds { machine: 4096, total: 16_384 };

    fn name(machine: &str) -> Name {
        Name { namespace: "tinkerbell".to_owned(), machine: machine.to_owned() }
    }

    fn lines(range: std::ops::Range<u64>) -> Vec<LogLine> {
        range.map(|at| LogLine::new(at, syslog::Message::parse(format!("<6>line {at}").as_bytes()))).collect()
    }

    fn size(dir: &Path) -> u64 {
        let files = fs::read_dir(dir.join("tinkerbell")).into_iter().flatten().flatten();
        files.map(|file| file.metadata().unwrap().len()).sum()
    }

    #[test]
    fn what_was_written_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..4 {
            let mut store = Store::open(dir.path(), BOUNDS).unwrap();
            store.append(&name("m1"), &lines(round * 3..round * 3 + 3)).unwrap();
        }
        assert_eq!(read(dir.path(), &name("m1"), 0).unwrap(), lines(1..12));
        assert_eq!(read(dir.path(), &name("m1"), 9).unwrap(), lines(10..12));
        assert_eq!(read(dir.path(), &name("m2"), 0).unwrap(), []);
    }

    #[test]
    fn a_torn_line_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), BOUNDS).unwrap();
        store.append(&name("m1"), &lines(1..3)).unwrap();
        let path = dir.path().join("tinkerbell/m1.log");
        let whole = fs::read(&path).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for length in first..whole.len() - 1 {
            fs::write(&path, &whole[..length]).unwrap();
            let mut store = Store::open(dir.path(), BOUNDS).unwrap();
            store.append(&name("m1"), &lines(7..8)).unwrap();
            assert_eq!(read(dir.path(), &name("m1"), 0).unwrap(), [lines(1..2), lines(7..8)].concat());
        }
    }

    #[test]
    fn the_machines_that_were_silent_for_longest_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), BOUNDS).unwrap();
        let mut gone = Vec::new();
        for machine in ["a", "b", "c", "d", "e", "f", "g"] {
            store.append(&name(machine), &lines(1..50)).unwrap();
            gone.extend(store.shrink());
            assert!(size(dir.path()) <= BOUNDS.total, "{}", size(dir.path()));
        }
        let all = ["a", "b", "c", "d", "e", "f", "g"].map(name);
        assert!(!gone.is_empty() && gone == all[..gone.len()], "{gone:?}");
        assert_eq!(read(dir.path(), &name("a"), 0).unwrap(), []);
        assert!(!read(dir.path(), &name("g"), 0).unwrap().is_empty());
        let smaller = Bounds { total: 5000, ..BOUNDS };
        Store::open(dir.path(), smaller).unwrap();
        assert!(size(dir.path()) <= smaller.total, "a smaller bound holds after a restart");
    }

    #[test]
    fn traversal_by_a_name_is_impossible() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("logs"), BOUNDS).unwrap();
        let long = "x".repeat(MAX_NAME + 1);
        for (namespace, machine) in
            [("..", "m1"), ("a", "../m1"), ("a", ""), ("", "m1"), ("a/b", "m1"), ("a", ".."), ("a", &long)]
        {
            let name = Name { namespace: namespace.to_owned(), machine: machine.to_owned() };
            assert!(store.append(&name, &lines(1..2)).is_err(), "{name:?}");
            assert_eq!(read(&dir.path().join("logs"), &name, 0).unwrap(), []);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(dir.path().join("logs")).unwrap().count(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_log_is_bounded_and_holds_the_newest_lines(batches in prop::collection::vec(1u64..60, 1..12)) {
            let dir = tempfile::tempdir().unwrap();
            let mut store = Store::open(dir.path(), BOUNDS).unwrap();
            let mut next = 1;
            for batch in batches {
                store.append(&name("m1"), &lines(next..next + batch)).unwrap();
                next += batch;
                prop_assert!(size(dir.path()) <= BOUNDS.machine);
                prop_assert_eq!(size(dir.path()), store.files.total());
                let kept = read(dir.path(), &name("m1"), 0).unwrap();
                let first = kept.first().unwrap().at;
                prop_assert_eq!(&kept, &lines(first..next));
                prop_assert!(first == 1 || size(dir.path()) > BOUNDS.machine / 4, "not more goes than must");
            }
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The files of captures: `<dir>/<namespace>/<name>.pcapng`, one for each machine, of at most [`MACHINE`] bytes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::pcapng::{self, Streams};
use super::{MACHINE, Packet};
use crate::kept::{self, Known, Name, make};

/// Ending of the files.
const ENDING: &str = ".pcapng";

/// All files.
pub(super) type Store = kept::Store<Kept>;

/// What there is of one machine.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kept {
    /// The boot; nothing until the file was looked at, which a start and a failure make necessary.
    boot: Option<u64>,
    size: u64,
    streams: Streams,
}

impl Known for Kept {
    const ENDINGS: &'static [&'static str] = &[ENDING];

    fn found(&mut self, _: &str, size: u64) {
        self.size = size;
    }

    fn size(&self) -> u64 {
        self.size
    }
}

impl Store {
    /// Adds packets of a boot to a machine's file, of which they are the first ones if the boot is a later one; gives how many
    /// there was room for.
    ///
    /// # Errors
    ///
    /// When its name is no file name, or the disk is full or fails.
    pub(super) fn append(&mut self, name: &Name, boot: u64, packets: &[Packet]) -> io::Result<usize> {
        self.write(name, ENDING, |path, kept| write(path, boot, packets, kept))
    }
}

fn write(path: &Path, boot: u64, packets: &[Packet], kept: &mut Kept) -> io::Result<usize> {
    // After a failure the end of the file is unknown, so it is looked at again.
    let known = kept.boot.take();
    let mut file = match known {
        Some(_) => OpenOptions::new().append(true).open(path)?,
        None => resume(path, kept)?,
    };
    let before = known.or(kept.boot.take());
    let mut bytes = Vec::new();
    if before.is_none_or(|before| before < boot) {
        (kept.size, kept.streams) = (0, Streams::default());
        file.set_len(0)?;
        bytes = pcapng::head(boot);
    }
    let mut count = 0;
    for packet in packets {
        let mut streams = kept.streams;
        let Some(block) = pcapng::packet(packet, &mut streams) else { continue };
        if kept.size + (bytes.len() + block.len()) as u64 > MACHINE {
            break;
        }
        kept.streams = streams;
        bytes.extend(block);
        count += 1;
    }
    file.write_all(&bytes)?;
    kept.size += bytes.len() as u64;
    kept.boot = Some(before.map_or(boot, |before| before.max(boot)));
    Ok(count)
}

/// Opens a file that an earlier process may have left, without what was torn at its end, and finds out of which boot it is.
fn resume(path: &Path, kept: &mut Kept) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        make(dir)?;
    }
    let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let mut bytes = Vec::new();
    (&file).take(MACHINE).read_to_end(&mut bytes)?;
    kept.size = pcapng::whole(&bytes) as u64;
    file.set_len(kept.size)?;
    // Of a torn head nothing is of use.
    kept.boot = pcapng::boot(&bytes).filter(|boot| kept.size >= pcapng::head(*boot).len() as u64);
    Ok(file)
}

/// The file of a machine up to its last whole block; nothing when there is none. It may be written to meanwhile.
///
/// # Errors
///
/// When it is there and cannot be read.
pub(super) fn read(dir: &Path, name: &Name) -> io::Result<Option<Vec<u8>>> {
    let Some(path) = name.file(dir, ENDING) else { return Ok(None) };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MACHINE).read_to_end(&mut bytes)?;
    bytes.truncate(pcapng::whole(&bytes));
    Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    fn name(machine: &str) -> Name {
        Name { namespace: "tinkerbell".to_owned(), machine: machine.to_owned() }
    }

    fn packets(count: usize, size: usize) -> Vec<Packet> {
        let ends = ("10.0.0.1:1024".parse().unwrap(), "10.0.0.2:69".parse().unwrap());
        vec![Packet::received(ends, &vec![7; size]); count]
    }

    /// The packets in a file, told by their number, and its boot.
    fn content(dir: &Path, machine: &str) -> (Option<u64>, usize) {
        let bytes = read(dir, &name(machine)).unwrap().unwrap_or_default();
        let (mut at, mut count) = (0, 0);
        while at < bytes.len() {
            count += usize::from(bytes[at] == 6);
            at += usize::try_from(u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap())).unwrap();
        }
        (pcapng::boot(&bytes), count)
    }

    fn size(dir: &Path) -> u64 {
        let files = fs::read_dir(dir.join("tinkerbell")).into_iter().flatten().flatten();
        files.map(|file| file.metadata().unwrap().len()).sum()
    }

    #[test]
    fn a_later_boot_takes_the_place_of_the_one_before_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), 1 << 20).unwrap();
        assert_eq!(store.append(&name("m1"), 100, &packets(3, 300)).unwrap(), 3);
        assert_eq!(store.append(&name("m1"), 100, &packets(2, 300)).unwrap(), 2);
        assert_eq!(content(dir.path(), "m1"), (Some(100), 5));
        let mode = fs::metadata(dir.path().join("tinkerbell/m1.pcapng")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut store = Store::open(dir.path(), 1 << 20).unwrap();
        store.append(&name("m1"), 100, &packets(1, 300)).unwrap();
        assert_eq!(content(dir.path(), "m1"), (Some(100), 6), "the same boot goes on");
        store.append(&name("m1"), 99, &packets(1, 300)).unwrap();
        assert_eq!(content(dir.path(), "m1"), (Some(100), 7), "a late packet of the boot before");
        let mut store = Store::open(dir.path(), 1 << 20).unwrap();
        store.append(&name("m1"), 101, &packets(1, 300)).unwrap();
        assert_eq!(content(dir.path(), "m1"), (Some(101), 1));
        store.append(&name("m1"), 102, &packets(2, 300)).unwrap();
        assert_eq!(content(dir.path(), "m1"), (Some(102), 2));
        assert_eq!(store.total(), size(dir.path()));
    }

    #[test]
    fn a_torn_block_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), 1 << 20).unwrap();
        store.append(&name("m1"), 100, &packets(2, 301)).unwrap();
        let path = dir.path().join("tinkerbell/m1.pcapng");
        let whole = fs::read(&path).unwrap();
        for length in (0..whole.len()).step_by(7) {
            fs::write(&path, &whole[..length]).unwrap();
            let before = content(dir.path(), "m1").1;
            let mut store = Store::open(dir.path(), 1 << 20).unwrap();
            store.append(&name("m1"), 100, &packets(1, 300)).unwrap();
            assert_eq!(content(dir.path(), "m1"), (Some(100), before + 1), "{length}");
            assert_eq!(store.total(), size(dir.path()));
        }
    }

    #[test]
    fn the_machines_that_were_silent_for_longest_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let most = 100_000;
        let mut store = Store::open(dir.path(), most).unwrap();
        let all: Vec<Name> = (0..8).map(|i| name(&format!("m{i}"))).collect();
        let mut gone = Vec::new();
        for name in &all {
            store.append(name, 1, &packets(50, 400)).unwrap();
            gone.extend(store.shrink());
            assert!(size(dir.path()) <= most);
        }
        assert!(!gone.is_empty() && gone == all[..gone.len()], "{gone:?}");
        assert_eq!((content(dir.path(), "m0"), content(dir.path(), "m7").1), ((None, 0), 50));
        Store::open(dir.path(), 30_000).unwrap();
        assert!(size(dir.path()) <= 30_000, "a smaller bound holds after a restart");
    }

    #[test]
    fn traversal_by_a_name_is_impossible() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&dir.path().join("packets"), 1 << 20).unwrap();
        for (namespace, machine) in
            [("..", "m1"), ("a", "../m1"), ("a", ""), ("", "m1"), ("a/b", "m1"), ("a", "..")]
        {
            let name = Name { namespace: namespace.to_owned(), machine: machine.to_owned() };
            assert!(store.append(&name, 1, &packets(1, 300)).is_err(), "{name:?}");
            assert_eq!(read(&dir.path().join("packets"), &name).unwrap(), None);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(dir.path().join("packets")).unwrap().count(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_file_is_bounded_and_holds_the_first_packets_of_the_last_boot(
            steps in prop::collection::vec((1u64..4, 1usize..40, 0usize..2048), 1..24),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut store = Store::open(dir.path(), 1 << 20).unwrap();
            let (mut last, mut expected) = (0, 0);
            for (boot, count, length) in steps {
                let kept = store.append(&name("m1"), boot, &packets(count, length)).unwrap();
                expected = if boot > last { kept } else { expected + kept };
                last = last.max(boot);
                prop_assert_eq!(content(dir.path(), "m1"), (Some(last), expected));
                prop_assert!(size(dir.path()) <= MACHINE && size(dir.path()) == store.total());
                prop_assert!(kept == count || size(dir.path()) > MACHINE - 4096, "not more is left out than must be");
            }
        }
    }
}

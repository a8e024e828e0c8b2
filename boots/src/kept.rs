// SPDX-License-Identifier: Apache-2.0
//! Files of machines in the state directory: whose they are, and where, and which of them go when all are too much. Used by
//! `logs` and `capture`, which say what is known of a machine's files and write to them.
//!
//! They lie at `<dir>/<namespace>/<machine><ending>`. Names come from objects and are checked all the same: a machine whose
//! name is not a harmless path element has no file.

use std::collections::HashMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::backend::Found;
use crate::files::is_name;

/// Longest name of a machine; with its ending it must be a file name (255 bytes).
pub(crate) const MAX_NAME: usize = 240;
/// What is freed when there is too much: that share of the whole, so that it is not done at every write.
const FREED: u64 = 16;

/// Namespace and name of a machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name {
    pub(crate) namespace: String,
    pub(crate) machine: String,
}

impl Name {
    pub(crate) fn of(found: &Found) -> Self {
        Self { namespace: found.machine.namespace.clone(), machine: found.machine.name.clone() }
    }

    /// Its file below a directory: `<dir>/<namespace>/<machine><ending>`; nothing when a name is not a harmless path element.
    pub(crate) fn file(&self, dir: &Path, ending: &str) -> Option<PathBuf> {
        let Self { namespace, machine } = self;
        let harmless = is_name(namespace) && is_name(machine) && machine.len() <= MAX_NAME;
        harmless.then(|| dir.join(namespace).join(format!("{machine}{ending}")))
    }
}

/// What is known of the files of one machine; of files that nobody looked at yet it is what they begin with.
pub(crate) trait Known: Copy + Default {
    /// The endings of its files, in the order in which they are removed.
    const ENDINGS: &'static [&'static str];

    /// Takes in that there is a file with this ending and so many bytes.
    fn found(&mut self, ending: &str, size: u64);

    /// Bytes of all its files.
    fn size(&self) -> u64;
}

/// The files of all machines.
#[derive(Debug)]
pub(crate) struct Store<K> {
    dir: PathBuf,
    most: u64,
    machines: HashMap<Name, Kept<K>>,
    total: u64,
}

/// What there is of one machine.
#[derive(Debug)]
struct Kept<K> {
    known: K,
    written: SystemTime,
}

impl<K: Known> Store<K> {
    /// Opens or makes the directory, in which at most so many bytes are to be.
    ///
    /// # Errors
    ///
    /// When it cannot be made or listed.
    pub(crate) fn open(dir: &Path, most: u64) -> io::Result<Self> {
        make(dir)?;
        let mut store = Self { dir: dir.to_owned(), most, machines: HashMap::new(), total: 0 };
        for namespace in fs::read_dir(dir)?.flatten() {
            let Some(namespace) = namespace.file_name().to_str().map(str::to_owned) else { continue };
            for file in fs::read_dir(dir.join(&namespace)).into_iter().flatten().flatten() {
                let (file, metadata) = (file.file_name(), file.metadata()?);
                store.count(&namespace, file.to_str().unwrap_or_default(), &metadata);
            }
        }
        store.shrink();
        Ok(store)
    }

    fn count(&mut self, namespace: &str, file: &str, metadata: &fs::Metadata) {
        let parts = |ending: &&'static str| file.strip_suffix(*ending).map(|machine| (machine, *ending));
        let Some((machine, ending)) = K::ENDINGS.iter().find_map(parts) else { return };
        let name = Name { namespace: namespace.to_owned(), machine: machine.to_owned() };
        let written = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let kept = self.machines.entry(name).or_insert(Kept { known: K::default(), written });
        kept.written = kept.written.max(written);
        kept.known.found(ending, metadata.len());
        self.total = self.total.saturating_add(metadata.len());
    }

    /// Lets a machine's files be written to: `write` is given the one with this ending, and keeps what is known of all of them
    /// true, whether it fails or not.
    ///
    /// # Errors
    ///
    /// When its name is no file name, and those of `write`.
    pub(crate) fn write<T>(
        &mut self,
        name: &Name,
        ending: &str,
        write: impl FnOnce(&Path, &mut K) -> io::Result<T>,
    ) -> io::Result<T> {
        let path = name.file(&self.dir, ending).ok_or(io::ErrorKind::InvalidFilename)?;
        let mut known = self.machines.get(name).map(|kept| kept.known).unwrap_or_default();
        let had = known.size();
        let outcome = write(&path, &mut known);
        self.total = self.total.saturating_sub(had).saturating_add(known.size());
        self.machines.insert(name.clone(), Kept { known, written: SystemTime::now() });
        outcome
    }

    /// Removes the files of the machines that were silent for longest while all are too much; says whose.
    pub(crate) fn shrink(&mut self) -> Vec<Name> {
        if self.total <= self.most {
            return Vec::new();
        }
        let wanted = self.most - self.most / FREED;
        let mut all: Vec<_> = self.machines.iter().map(|(name, kept)| (kept.written, name.clone())).collect();
        all.sort_unstable();
        let mut gone = Vec::new();
        for (_, name) in all {
            if self.total <= wanted {
                break;
            }
            let size = self.machines.remove(&name).map_or(0, |kept| kept.known.size());
            self.total = self.total.saturating_sub(size);
            for file in K::ENDINGS.iter().filter_map(|ending| name.file(&self.dir, ending)) {
                if let Err(error) = fs::remove_file(&file)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    tracing::warn!(path = %file.display(), %error, "what is kept of a machine cannot be removed");
                }
            }
            gone.push(name);
        }
        gone
    }

    /// Bytes of all files, as they were counted.
    #[cfg(test)]
    pub(crate) fn total(&self) -> u64 {
        self.total
    }
}

/// Makes a directory for its owner only.
pub(crate) fn make(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

// SPDX-License-Identifier: Apache-2.0

//! Opening the file: refuses what it does not understand without having written to it. Called by `Store::open`, and after an I/O error.
//!
//! Every page of the file is verified: that is what tells damage at the start and not when a record is wanted. The file is small (see `pack`), so it takes
//! some 25 ms for 50,000 objects. A new file gets its name when it is complete, so an empty one is damaged and never taken for new. An older format is
//! brought to this one in one transaction (`migrate`).

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};

use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable as _, StorageError,
    TableError,
};

use super::pack::Packer;
use super::{
    DICTIONARIES, FORMAT, LOG, META, META_COMPACTED, META_FORMAT, META_LOG_BYTES, META_VERSION, OBJECTS,
    migrate,
};

/// Why the store could not be opened. None of these is retried; the file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process (or another server in this one) has the file open.
    #[error("{path}: in use by another process; stop it, or choose another state directory")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Not a store, or damaged.
    #[error(
        "{path}: damaged or not a store of this program ({reason}); it was left untouched; restore a backup (tink restore) or move it away"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// Written by a newer version of this program.
    #[error(
        "{path}: written in format {found}, this program knows formats up to {known}; it was left untouched; use the newer program"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Format in the file.
        found: u64,
        /// Newest format we read.
        known: u64,
    },
    /// The file or its directory could not be read or created.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The database could not be set up.
    #[error("{path}: {source}")]
    Database {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Box<redb::Error>,
    },
    /// The writer thread could not be started.
    #[error("cannot start the store's writer thread: {0}")]
    Thread(std::io::Error),
    /// Stored objects could not be read back at start.
    #[error("cannot load the stored objects: {0}")]
    Load(String),
}

/// An open database (`D`; `()` once it was taken out) and what it holds.
pub(super) struct Opened<D> {
    pub db: D,
    pub packer: Packer,
    pub version: u64,
    pub compacted: u64,
}

impl Opened<Database> {
    pub fn split(self) -> (Database, Opened<()>) {
        let Self { db, packer, version, compacted } = self;
        (db, Opened { db: (), packer, version, compacted })
    }
}

thread_local! {
    static OPENS: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is opening the file of a store: redb panics at some kinds of damage, which is caught and told as
/// [`OpenError::Damaged`]. For a panic hook that ends the process, which has to leave these alone.
#[must_use]
pub fn opens_a_store() -> bool {
    OPENS.get()
}

pub(super) fn open(path: &Path, cache_bytes: usize) -> Result<Opened<Database>, OpenError> {
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory).map_err(|source| OpenError::Io { path: path.into(), source })?;
    }
    match std::fs::metadata(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path)?,
        Err(source) => return Err(OpenError::Io { path: path.into(), source }),
    }
    OPENS.set(true);
    let attempt = std::panic::catch_unwind(|| {
        inspect(path)?;
        let mut builder = Builder::new();
        builder.set_cache_size(cache_bytes).set_check_integrity_on_open(true);
        builder.open(path).map_err(|e| database_error(path, e))
    });
    OPENS.set(false);
    let mut db = attempt.unwrap_or_else(|_| {
        Err(OpenError::Damaged { path: path.into(), reason: "its pages do not decode".into() })
    })?;
    restrict(path)?;
    let failed = |source: redb::Error| OpenError::Database { path: path.into(), source: Box::new(source) };
    let format = db.begin_read().map_err(redb::Error::from).and_then(|txn| meta(&txn, META_FORMAT));
    let format = format.map_err(failed)?;
    check_format(path, format)?;
    if format != Some(FORMAT) {
        tracing::info!(path = %path.display(), from = format, to = FORMAT, "bringing the store to the new format");
        migrate::migrate(path, &mut db)?;
    }
    let txn = db.begin_read().map_err(|e| failed(e.into()))?;
    let counter = |name| meta(&txn, name).map(Option::unwrap_or_default).map_err(failed);
    let (version, compacted) = (counter(META_VERSION)?, counter(META_COMPACTED)?);
    let packer = Packer::new(dictionaries(&txn).map_err(failed)?);
    Ok(Opened { db, packer, version, compacted })
}

/// Makes an empty store under another name and then gives it its own: a file of this name is always complete.
fn create(path: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { path: path.into(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let db = Builder::new().create(&new).map_err(|e| database_error(path, e))?;
    restrict(&new)?;
    prepare(&db).map_err(|source| OpenError::Database { path: path.into(), source: Box::new(source) })?;
    drop(db);
    std::fs::rename(&new, path).map_err(io)?;
    let directory = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)
}

/// Number, resource and content of every dictionary.
fn dictionaries(txn: &ReadTransaction) -> Result<Vec<(u32, String, Vec<u8>)>, redb::Error> {
    let mut all = Vec::new();
    for row in txn.open_table(DICTIONARIES)?.iter()? {
        let (number, value) = row?;
        let (resource, content) = value.value();
        all.push((number.value(), resource.to_owned(), content.to_owned()));
    }
    Ok(all)
}

/// Looks at the format without writing. A file that needs repair after a crash cannot be opened read-only; the format is then checked after the repair,
/// which changes nothing that a newer program would miss.
fn inspect(path: &Path) -> Result<(), OpenError> {
    let db = match redb::ReadOnlyDatabase::open(path) {
        Ok(db) => db,
        Err(DatabaseError::RepairAborted) => return Ok(()),
        Err(error) => return Err(database_error(path, error)),
    };
    let txn =
        db.begin_read().map_err(|e| OpenError::Database { path: path.into(), source: Box::new(e.into()) })?;
    let format = meta(&txn, META_FORMAT)
        .map_err(|e| OpenError::Database { path: path.into(), source: Box::new(e) })?;
    check_format(path, format)
}

fn check_format(path: &Path, format: Option<u64>) -> Result<(), OpenError> {
    match format {
        Some(found) if found > FORMAT => Err(OpenError::Newer { path: path.into(), found, known: FORMAT }),
        Some(_) => Ok(()),
        None => Err(OpenError::Damaged { path: path.into(), reason: "it holds no format number".into() }),
    }
}

fn meta(txn: &ReadTransaction, name: &str) -> Result<Option<u64>, redb::Error> {
    match txn.open_table(META) {
        Ok(table) => Ok(table.get(name)?.map(|value| value.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn prepare(db: &Database) -> Result<(), redb::Error> {
    let txn = db.begin_write()?;
    txn.open_table(OBJECTS)?;
    txn.open_table(LOG)?;
    txn.open_table(DICTIONARIES)?;
    {
        let mut meta = txn.open_table(META)?;
        meta.insert(META_FORMAT, FORMAT)?;
        // Version 0 means "anything" in a request, so the first object is version 2 and an empty list is version 1.
        meta.insert(META_VERSION, 1)?;
        meta.insert(META_COMPACTED, 0)?;
        meta.insert(META_LOG_BYTES, 0)?;
    }
    txn.commit()?;
    Ok(())
}

/// Secrets are in the file: nobody but its owner reads it.
fn restrict(path: &Path) -> Result<(), OpenError> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(|source| OpenError::Io { path: path.into(), source })
}

fn database_error(path: &Path, error: DatabaseError) -> OpenError {
    let path = path.to_path_buf();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => OpenError::InUse { path },
        DatabaseError::UpgradeRequired(version) => {
            OpenError::Damaged { path, reason: format!("file format {version} of an older storage engine") }
        }
        DatabaseError::Storage(StorageError::Corrupted(reason)) => OpenError::Damaged { path, reason },
        DatabaseError::Storage(StorageError::Io(source))
            if matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            OpenError::Damaged { path, reason: source.to_string() }
        }
        DatabaseError::Storage(StorageError::Io(source)) => OpenError::Io { path, source },
        other => OpenError::Database { path, source: Box::new(other.into()) },
    }
}

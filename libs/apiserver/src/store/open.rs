// SPDX-License-Identifier: Apache-2.0

//! Opening the file: refuses what it does not understand without having written to it. Called by `Store::open`.

use std::path::{Path, PathBuf};

use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable as _, StorageError,
    TableError,
};

use super::{FORMAT, LOG, META, META_COMPACTED, META_FORMAT, META_VERSION, OBJECTS};

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
        "{path}: damaged or not a store of this program ({reason}); it was left untouched; restore a backup or move it away"
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

pub(super) struct Opened {
    pub db: Database,
    pub version: u64,
    pub compacted: u64,
}

pub(super) fn open(path: &Path, cache_bytes: usize) -> Result<Opened, OpenError> {
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory).map_err(|source| OpenError::Io { path: path.into(), source })?;
    }
    let existing = std::fs::metadata(path).map(|m| m.len() > 0).unwrap_or(false);
    let attempt = std::panic::catch_unwind(|| {
        if existing {
            inspect(path)?;
        }
        // redb checks every page of an existing file here, so that damage is an error now and not a panic later.
        let mut builder = Builder::new();
        builder.set_cache_size(cache_bytes).set_check_integrity_on_open(existing);
        let db = if existing { builder.open(path) } else { builder.create(path) };
        db.map_err(|e| database_error(path, e))
    });
    let db = attempt.unwrap_or_else(|_| {
        Err(OpenError::Damaged { path: path.into(), reason: "its pages do not decode".into() })
    })?;
    restrict(path)?;
    prepare(&db).map_err(|source| OpenError::Database { path: path.into(), source: Box::new(source) })?;
    let txn =
        db.begin_read().map_err(|e| OpenError::Database { path: path.into(), source: Box::new(e.into()) })?;
    let read = |name| meta(&txn, name).map(Option::unwrap_or_default);
    let counters = read(META_VERSION).and_then(|version| Ok((version, read(META_COMPACTED)?)));
    let (version, compacted) =
        counters.map_err(|e| OpenError::Database { path: path.into(), source: Box::new(e) })?;
    Ok(Opened { db, version, compacted })
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
    {
        txn.open_table(OBJECTS)?;
        txn.open_table(LOG)?;
        let mut meta = txn.open_table(META)?;
        if meta.get(META_FORMAT)?.is_none() {
            meta.insert(META_FORMAT, FORMAT)?;
            // Version 0 means "anything" in a request, so the first object is version 2 and an empty list is version 1.
            meta.insert(META_VERSION, 1)?;
            meta.insert(META_COMPACTED, 0)?;
        }
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
            if source.kind() == std::io::ErrorKind::InvalidData =>
        {
            OpenError::Damaged { path, reason: source.to_string() }
        }
        DatabaseError::Storage(StorageError::Io(source)) => OpenError::Io { path, source },
        other => OpenError::Database { path, source: Box::new(other.into()) },
    }
}

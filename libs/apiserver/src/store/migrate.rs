// SPDX-License-Identifier: Apache-2.0

//! From format 1, which had objects and log entries as plain JSON, to this one. Called by `open`.
//!
//! All in one transaction: until it is on disk the file is one of format 1, and after it one of format 2. What is damaged in the old file is refused.

use std::path::Path;

use redb::{Database, ReadableTable as _, TableDefinition, WriteTransaction};
use serde_json::Value;

use super::codec::{self, StoredEntry};
use super::pack::{Packed, Packer, Text};
use super::{FORMAT, Key, LOG, META, META_FORMAT, META_LOG_BYTES, OBJECTS, OpenError, writer};

/// `resource \0 namespace \0 name` to `resource version (8 bytes, big endian) || JSON`.
const OLD_OBJECTS: TableDefinition<&str, &[u8]> = TableDefinition::new("objects");
/// Resource version to a log entry as it is now, with JSON in the places of packed objects.
const OLD_LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");

pub(super) fn migrate(path: &Path, db: &mut Database) -> Result<(), OpenError> {
    let failed = |source: redb::Error| OpenError::Database { path: path.into(), source: Box::new(source) };
    let done = convert(db).map_err(failed)?;
    done.map_err(|reason| OpenError::Damaged { path: path.into(), reason })?;
    // The space of the old tables.
    match db.compact() {
        Ok(_) => Ok(()),
        Err(redb::CompactionError::Storage(error)) => Err(failed(error.into())),
        Err(_) => Ok(()),
    }
}

/// The inner error is what does not decode; nothing is changed then.
fn convert(db: &Database) -> Result<Result<(), String>, redb::Error> {
    let txn = db.begin_write()?;
    let packer = Packer::new([]);
    let converted = match objects(&txn, &packer)? {
        Ok(()) => entries(&txn, &packer)?,
        Err(damaged) => Err(damaged),
    };
    if converted.is_err() {
        txn.abort()?;
        return Ok(converted);
    }
    txn.delete_table(OLD_OBJECTS)?;
    txn.delete_table(OLD_LOG)?;
    txn.open_table(META)?.insert(META_FORMAT, FORMAT)?;
    txn.commit()?;
    Ok(Ok(()))
}

fn objects(txn: &WriteTransaction, packer: &Packer) -> Result<Result<(), String>, redb::Error> {
    let (old, mut new) = (txn.open_table(OLD_OBJECTS)?, txn.open_table(OBJECTS)?);
    for row in old.iter()? {
        let (key, record) = row?;
        let version = codec::record_version(record.value());
        let packed = pack(packer, key.value(), record.value().get(8..).unwrap_or_default());
        let (Some(version), Some(packed)) = (version, packed) else {
            return Ok(Err(format!("damaged record {:?}", key.value().replace('\0', "/"))));
        };
        keep(txn, &packed)?;
        new.insert(key.value(), codec::encode_record(version, &packed.bytes).as_slice())?;
    }
    Ok(Ok(()))
}

fn entries(txn: &WriteTransaction, packer: &Packer) -> Result<Result<(), String>, redb::Error> {
    let (old, mut new) = (txn.open_table(OLD_LOG)?, txn.open_table(LOG)?);
    let mut bytes = 0_u64;
    for row in old.iter()? {
        let (version, encoded) = row?;
        let Some(entry) = entry(txn, packer, encoded.value())? else {
            return Ok(Err(format!("damaged log entry {}", version.value())));
        };
        bytes += entry.len() as u64;
        new.insert(version.value(), entry.as_slice())?;
    }
    txn.open_table(META)?.insert(META_LOG_BYTES, bytes)?;
    Ok(Ok(()))
}

fn entry(txn: &WriteTransaction, packer: &Packer, encoded: &[u8]) -> Result<Option<Vec<u8>>, redb::Error> {
    let Some(old) = StoredEntry::decode(encoded) else { return Ok(None) };
    let Some(object) = pack(packer, old.key, old.object) else { return Ok(None) };
    keep(txn, &object)?;
    let mut previous = Vec::new();
    if !old.previous.is_empty() {
        let (Some(version), Some(packed)) = (version_of(old.previous), pack(packer, old.key, old.previous))
        else {
            return Ok(None);
        };
        keep(txn, &packed)?;
        previous = codec::encode_record(version, &packed.bytes);
    }
    let new = StoredEntry { object: &object.bytes, previous: &previous, ..old };
    Ok(Some(new.encode()))
}

fn pack(packer: &Packer, key: &str, json: &[u8]) -> Option<Packed> {
    let mut object: Value = serde_json::from_slice(json).ok()?;
    let text = Text::of(&mut object).ok()?;
    packer.pack(Key::from_stored(key).resource(), &object, &text).ok()
}

fn version_of(json: &[u8]) -> Option<u64> {
    let object: Value = serde_json::from_slice(json).ok()?;
    object.pointer("/metadata/resourceVersion")?.as_str()?.parse().ok()
}

fn keep(txn: &WriteTransaction, packed: &Packed) -> Result<(), redb::Error> {
    if writer::keep_dictionary(txn, &packed.dictionary)? {
        // If the transaction fails, this packer goes with it.
        packed.dictionary.set_stored();
    }
    Ok(())
}

// SPDX-License-Identifier: Apache-2.0

//! The store against a model, and files of format 1.

use std::collections::BTreeMap;

use proptest::prelude::*;
use redb::{Database, ReadableTable as _};
use serde_json::json;

use super::*;

fn bounds() -> Bounds {
    Bounds { log_entries: 16, log_age: Duration::from_secs(3600), log_bytes: 8 << 10, cache_bytes: 1 << 20 }
}

#[derive(Debug, Clone)]
enum Step {
    /// Creates or changes the object of this number, with a text of this size.
    Put(u8, usize),
    Delete(u8),
    /// With a version that is not the newest: refused.
    Stale(u8),
    Reopen,
    /// Reads the log after a version, counted back from the newest, in parts of a length.
    Watch(u64, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6_u8, 0..900_usize).prop_map(|(key, size)| Step::Put(key, size)),
        2 => (0..6_u8).prop_map(Step::Delete),
        1 => (0..6_u8).prop_map(Step::Stale),
        1 => Just(Step::Reopen),
        4 => (0..40_u64, 1..9_usize).prop_map(|(back, limit)| Step::Watch(back, limit)),
    ]
}

/// What the store should hold.
#[derive(Default)]
struct Model {
    objects: BTreeMap<Key, (u64, Value)>,
    log: Vec<(u64, ChangeKind, Key, Value)>,
    version: u64,
}

fn key(number: u8) -> Key {
    Key::new(
        if number.is_multiple_of(2) { "g/widgets" } else { "/secrets" },
        "default",
        &format!("n{number}"),
    )
}

fn object(number: u8, size: usize, version: u64) -> Value {
    let text: String =
        (0..size).map(|at| char::from(b'a' + u8::try_from((at * at + size) % 26).unwrap())).collect();
    json!({"kind": "Widget", "metadata": {"name": format!("n{number}"), "resourceVersion": version.to_string()}, "text": text})
}

impl Model {
    fn apply(&mut self, key: Key, object: Option<Value>) {
        self.version += 1;
        let before = self.objects.remove(&key);
        let kind = match (&object, &before) {
            (None, _) => ChangeKind::Deleted,
            (Some(_), None) => ChangeKind::Added,
            (Some(_), Some(_)) => ChangeKind::Modified,
        };
        let mut shown = object.clone().or(before.map(|(_, value)| value)).unwrap();
        shown["metadata"]["resourceVersion"] = self.version.to_string().into();
        if object.is_some() {
            self.objects.insert(key.clone(), (self.version, shown.clone()));
        }
        self.log.push((self.version, kind, key, shown));
    }

    fn check(&self, store: &Store) {
        let snapshot = store.snapshot().unwrap();
        assert_eq!(snapshot.version(), self.version);
        let mut found = BTreeMap::new();
        snapshot
            .scan(&Prefix::everything(), None, |stored| {
                let value = serde_json::from_slice(&stored.bytes).unwrap();
                found.insert(stored.key, (stored.version, value));
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(found, self.objects);
        let widgets = Prefix::new("g/widgets", Some("default"));
        let expected = self.objects.keys().filter(|key| widgets.contains(key)).count();
        assert_eq!(snapshot.count(&widgets, None).unwrap(), expected);
    }

    /// Reads the log after a version as a watch does.
    fn watch(&self, store: &Store, from: u64, limit: usize) {
        let mut position = from;
        loop {
            match store.changes(position, limit).unwrap() {
                Err(compacted) => {
                    assert!(position < compacted.oldest, "{position} is still held");
                    let kept = self.version.saturating_sub(compacted.oldest);
                    assert!(kept >= 1, "all of the log is gone");
                    return;
                }
                Ok(entries) if entries.is_empty() => {
                    assert_eq!(position, self.version);
                    return;
                }
                Ok(entries) => {
                    for entry in entries {
                        let expected = self.log.iter().find(|(version, ..)| *version > position).unwrap();
                        let shown: Value = serde_json::from_slice(&entry.object).unwrap();
                        let found = (entry.version, entry.kind, entry.key.clone(), shown);
                        assert_eq!(&found, expected);
                        if let (Some(previous), false) = (&entry.previous, entry.kind == ChangeKind::Added) {
                            let before = self
                                .log
                                .iter()
                                .rev()
                                .find(|(v, _, k, _)| *v < entry.version && *k == entry.key);
                            if let Some((.., before)) = before {
                                assert_eq!(&serde_json::from_slice::<Value>(previous).unwrap(), before);
                            }
                        }
                        position = entry.version;
                    }
                }
            }
        }
    }
}

fn write(key: Key, expect: Expect, change: Change) -> Write {
    Write { key, expect, change, requires: None, keep_previous: true }
}

async fn run(steps: Vec<Step>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let mut store = Store::open(path.clone(), bounds()).unwrap();
    let mut model = Model { version: 1, ..Model::default() };
    for step in steps {
        match step {
            Step::Put(number, size) => {
                let key = key(number);
                let expect = model.objects.get(&key).map_or(Expect::Absent, |(v, _)| Expect::Version(*v));
                let value = object(number, size, 0);
                let made = store.write(write(key.clone(), expect, Change::Put(value.clone()))).await.unwrap();
                model.apply(key.clone(), Some(value));
                let answer: Value = serde_json::from_slice(&made.bytes).unwrap();
                assert_eq!(answer, model.objects[&key].1);
            }
            Step::Delete(number) => {
                let key = key(number);
                let Some((version, value)) = model.objects.get(&key).cloned() else { continue };
                let change = Change::Delete(value);
                store.write(write(key.clone(), Expect::Version(version), change)).await.unwrap();
                model.apply(key, None);
            }
            Step::Stale(number) => {
                let key = key(number);
                let refused = store.write(write(
                    key,
                    Expect::Version(model.version + 7),
                    Change::Put(object(number, 1, 0)),
                ));
                assert!(matches!(refused.await, Err(WriteError::Conflict)));
            }
            Step::Reopen => {
                store.close().await;
                store = Store::open(path.clone(), bounds()).unwrap();
            }
            Step::Watch(back, limit) => model.watch(&store, model.version.saturating_sub(back).max(1), limit),
        }
        model.check(&store);
    }
    store.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_store_is_what_the_model_says(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}

#[tokio::test]
async fn the_log_is_bounded_by_count_and_by_bytes() {
    let directory = tempfile::tempdir().unwrap();
    for (log_entries, log_bytes, kept) in [(16, u64::MAX, 16..=17), (u64::MAX, 8 << 10, 10..=150)] {
        let path = directory.path().join(format!("{log_entries}.redb"));
        let store = Store::open(path, Bounds { log_entries, log_bytes, ..bounds() }).unwrap();
        let mut expect = Expect::Absent;
        for round in 0..200_usize {
            let change = Change::Put(object(0, 600 + round, 0));
            store.write(write(key(0), expect, change)).await.unwrap();
            expect = Expect::Version(store.snapshot().unwrap().version());
        }
        let newest = store.snapshot().unwrap().version();
        let Err(Compacted { oldest }) = store.changes(1, 1).unwrap() else { panic!("nothing was removed") };
        assert!(kept.contains(&(newest - oldest)), "{} entries are kept", newest - oldest);
        let found = store.snapshot().unwrap().txn.open_table(META).unwrap().get(META_LOG_BYTES).unwrap();
        let log = store.snapshot().unwrap().txn.open_table(LOG).unwrap();
        let bytes: usize = log.iter().unwrap().map(|row| row.unwrap().1.value().len()).sum();
        assert_eq!(found.unwrap().value(), bytes as u64, "the count of bytes drifts");
        assert!(bytes as u64 <= log_bytes.saturating_add(log_bytes / 16), "{bytes} bytes are kept");
        store.close().await;
    }
}

/// A file as format 1 had it.
fn old_file(path: &std::path::Path, damaged: bool) {
    let old = |version: u64, name: &str| {
        json!({"metadata": {"name": name, "resourceVersion": version.to_string()}, "spec": {"size": version}})
            .to_string()
    };
    let db = Database::create(path).unwrap();
    let txn = db.begin_write().unwrap();
    {
        let mut objects = txn.open_table(TableDefinition::<&str, &[u8]>::new("objects")).unwrap();
        let mut log = txn.open_table(TableDefinition::<u64, &[u8]>::new("log")).unwrap();
        let mut meta = txn.open_table(META).unwrap();
        for (name, value) in [(META_FORMAT, 1), (META_VERSION, 9), (META_COMPACTED, 6)] {
            meta.insert(name, value).unwrap();
        }
        for (version, name) in [(7, "a"), (9, "b")] {
            let mut record = codec::encode_record(version, old(version, name).as_bytes());
            if damaged && name == "b" {
                record.truncate(20);
            }
            objects.insert(Key::new("g/widgets", "default", name).as_str(), record.as_slice()).unwrap();
        }
        for (version, name, previous) in [(7, "a", ""), (8, "b", ""), (9, "b", "8")] {
            let before = if previous.is_empty() { String::new() } else { old(8, name) };
            let entry = codec::StoredEntry {
                kind: if previous.is_empty() { ChangeKind::Added } else { ChangeKind::Modified },
                at: 5,
                key: Key::new("g/widgets", "default", name).as_str(),
                object: old(version, name).as_bytes(),
                previous: before.as_bytes(),
            }
            .encode();
            log.insert(version, entry.as_slice()).unwrap();
        }
    }
    txn.commit().unwrap();
}

#[tokio::test]
async fn a_file_of_format_1_is_brought_to_this_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("old.redb");
    old_file(&path, false);
    for _ in 0..2 {
        let store = Store::open(path.clone(), bounds()).unwrap();
        let snapshot = store.snapshot().unwrap();
        assert_eq!(snapshot.version(), 9);
        let found = snapshot.get(&Key::new("g/widgets", "default", "b")).unwrap().unwrap();
        let value: Value = serde_json::from_slice(&found.bytes).unwrap();
        assert_eq!((found.version, &value["spec"]["size"]), (9, &json!(9)));
        assert_eq!(value["metadata"]["resourceVersion"], "9");
        let entries = store.changes(6, 10).unwrap().unwrap();
        assert_eq!(entries.iter().map(|entry| entry.version).collect::<Vec<_>>(), [7, 8, 9]);
        let previous: Value = serde_json::from_slice(entries[2].previous.as_ref().unwrap()).unwrap();
        assert_eq!(previous["metadata"]["resourceVersion"], "8");
        assert_eq!(store.changes(5, 10).unwrap().unwrap_err().oldest, 6);
        drop(snapshot);
        store.close().await;
    }
}

#[test]
fn a_damaged_file_of_format_1_stays_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("old.redb");
    old_file(&path, true);
    let refused = Store::open(path.clone(), bounds()).map(drop).unwrap_err();
    assert!(
        matches!(&refused, OpenError::Damaged { reason, .. } if reason.contains("g/widgets/default/b")),
        "{refused}"
    );
    let db = Database::open(&path).unwrap();
    let txn = redb::ReadableDatabase::begin_read(&db).unwrap();
    assert_eq!(txn.open_table(META).unwrap().get(META_FORMAT).unwrap().unwrap().value(), 1);
}

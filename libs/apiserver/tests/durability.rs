// SPDX-License-Identifier: Apache-2.0

//! What survives: kill -9 under load, damaged files, files of others.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails; clippy knows only test functions, not their helpers"
)]

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use apiserver::{OpenError, Options, Server};
use common::{widget, widget_crd, widgets};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

const PATH: &str = "APISERVER_TEST_PATH";

/// Kills its child when it goes, so that no failed test leaves one behind.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let killed = self.0.kill();
        let waited = self.0.wait();
        assert!(killed.is_ok() && waited.is_ok(), "child {} cannot be ended", self.0.id());
    }
}

/// Not a test of its own: the process that `kill_minus_nine_loses_no_acknowledged_write` kills. Prints each write when it is acknowledged.
#[test]
#[ignore = "run as a child by kill_minus_nine_loses_no_acknowledged_write"]
fn writer() {
    let Ok(path) = std::env::var(PATH) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::open(Options::new(path)).await.unwrap();
        server.install_crds(&[widget_crd()]).await.unwrap();
        let tasks: Vec<_> = (0..4)
            .map(|task| {
                let api = widgets(server.client("default"));
                tokio::spawn(async move {
                    for step in 0.. {
                        let name = format!("k-{task}-{}-{step}", std::process::id());
                        let created =
                            api.create(&PostParams::default(), &widget(&name, json!({}))).await.unwrap();
                        println!("\ncreated {name} {}", created.metadata.resource_version.unwrap());
                        let patch = Patch::Merge(json!({"spec": {"size": 42}}));
                        let changed = api.patch(&name, &PatchParams::default(), &patch).await.unwrap();
                        println!("\nchanged {name} {}", changed.metadata.resource_version.unwrap());
                        if step % 3 == 0 {
                            api.delete(&name, &DeleteParams::default()).await.unwrap();
                            println!("\ndeleted {name} 0");
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

fn spawn_writer(path: &Path) -> Killed {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["writer", "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    Killed(command.env(PATH, path).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
}

#[tokio::test]
async fn kill_minus_nine_loses_no_acknowledged_write() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.redb");
    // name -> (last acknowledged version, last acknowledged action)
    let mut acknowledged = std::collections::BTreeMap::new();
    let mut newest = 0_u64;
    for round in 0..5 {
        let mut child = spawn_writer(&path);
        let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        let mut writes = 0;
        for line in lines {
            let line = line.unwrap();
            let words: Vec<&str> = line.split(' ').collect();
            let [action @ ("created" | "changed" | "deleted"), name, version] = words.as_slice() else {
                continue;
            };
            let version: u64 = version.parse().unwrap();
            newest = newest.max(version);
            acknowledged.insert((*name).to_owned(), ((*action).to_owned(), version));
            writes += 1;
            if writes == 40 + round * 25 {
                break;
            }
        }
        assert!(writes >= 40, "the child wrote only {writes} times in round {round}");
        drop(child);

        let server = Server::open(Options::new(&path)).await.expect("opens after kill -9");
        let list = widgets(server.client("default")).list(&ListParams::default()).await.unwrap();
        let version: u64 = list.metadata.resource_version.unwrap().parse().unwrap();
        assert!(version >= newest, "the resource version went back: {version} < {newest}");
        let stored: std::collections::BTreeMap<_, _> =
            list.items.into_iter().map(|o| (o.metadata.name.clone().unwrap(), o)).collect();
        for (name, (action, version)) in &acknowledged {
            match (action.as_str(), stored.get(name)) {
                ("deleted", found) => assert!(found.is_none(), "{name} came back"),
                (_, None) => assert!(action == "changed", "{name} is lost"),
                ("changed", Some(found)) => assert_eq!(found.data["spec"]["size"], 42, "{name} {version}"),
                (_, Some(_)) => {}
            }
        }
        // A name that was changed may be deleted without having been acknowledged, one more at most per writing task.
        let unaccounted = acknowledged
            .iter()
            .filter(|(name, (action, _))| action == "changed" && !stored.contains_key(*name));
        assert!(unaccounted.count() <= 4 * (round + 1));
        server.close().await;
    }
}

async fn refused(path: PathBuf) -> OpenError {
    match Server::open(Options::new(path)).await {
        Ok(_) => panic!("opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_file_that_is_not_ours_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("notes.txt");
    let contents = "not a database\n".repeat(1000);
    std::fs::write(&text, &contents).unwrap();
    let error = refused(text.clone()).await;
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("notes.txt"), "{error}");
    assert_eq!(std::fs::read_to_string(&text).unwrap(), contents);

    // Another program's redb file.
    let foreign = directory.path().join("foreign.redb");
    let db = redb::Database::create(&foreign).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(redb::TableDefinition::<&str, &str>::new("theirs")).unwrap().insert("a", "b").unwrap();
    txn.commit().unwrap();
    drop(db);
    let before = std::fs::read(&foreign).unwrap();
    assert!(matches!(refused(foreign.clone()).await, OpenError::Damaged { .. }));
    assert!(std::fs::read(&foreign).unwrap() == before, "the file was changed");
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.redb");
    Server::open(Options::new(&path)).await.unwrap().close().await;
    let db = redb::Database::open(&path).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(redb::TableDefinition::<&str, u64>::new("meta")).unwrap().insert("format", 99).unwrap();
    txn.commit().unwrap();
    drop(db);
    let before = std::fs::read(&path).unwrap();
    let error = refused(path.clone()).await;
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
    assert!(std::fs::read(&path).unwrap() == before, "the file was changed");
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.redb");
    let server = Server::open(Options::new(&path)).await.unwrap();
    server.install_crds(&[widget_crd()]).await.unwrap();
    let api = widgets(server.client("default"));
    for index in 0..200 {
        api.create(&PostParams::default(), &widget(&format!("w{index}"), json!({}))).await.unwrap();
    }
    server.close().await;
    drop(server);
    let good = std::fs::read(&path).unwrap();
    // Find a page that holds an object and spoil it.
    let needle = b"\"name\":\"w100\"";
    let mut bad = good.clone();
    let mut spoiled = 0;
    for at in 0..bad.len() - needle.len() {
        if &good[at..at + needle.len()] == needle {
            bad[at + 8] ^= 0xff;
            spoiled += 1;
        }
    }
    assert!(spoiled > 0);
    std::fs::write(&path, &bad).unwrap();
    let error = refused(path.clone()).await;
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    // Cut short.
    std::fs::write(&path, &good[..good.len() / 2]).unwrap();
    let error = refused(path.clone()).await;
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_second_server_on_the_same_file_is_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.redb");
    let first = Server::open(Options::new(&path)).await.unwrap();
    let error = refused(path.clone()).await;
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    first.close().await;
    Server::open(Options::new(&path)).await.expect("free again").close().await;
}

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
use std::sync::atomic::{AtomicUsize, Ordering};

use apiserver::{OpenError, Options, Server};
use common::{widget, widget_crd, widgets};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
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
async fn definitions_are_installed_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.redb");
    let start = async |digest| {
        let server = Server::open(Options::new(&path)).await.unwrap();
        let mut asked = false;
        let crds = || {
            asked = true;
            vec![widget_crd()]
        };
        server.install_crds_once(digest, crds).await.unwrap();
        widgets(server.client("default")).list(&ListParams::default()).await.unwrap();
        (server, asked)
    };
    for (digest, expected) in [(1, true), (1, false), (2, true), (2, false)] {
        let (server, asked) = start(digest).await;
        assert_eq!(asked, expected, "{digest}");
        server.close().await;
    }
    // Somebody else changed a definition while it ran.
    let (server, _) = start(2).await;
    let crds: kube::Api<CustomResourceDefinition> = kube::Api::all(server.client("default"));
    crds.delete(&widget_crd().name_any(), &DeleteParams::default()).await.unwrap();
    server.close().await;
    let (server, asked) = start(2).await;
    assert!(asked);
    server.close().await;
}

#[tokio::test]
async fn a_definition_that_is_being_removed_is_installed_anew() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::open(Options::new(directory.path().join("api.redb"))).await.unwrap();
    let definitions = [widget_crd()];
    server.install_crds(&definitions).await.unwrap();
    let (api, crds) = (widgets(server.client("default")), kube::Api::all(server.client("default")));
    let mut held = widget("held", json!({}));
    held.metadata.finalizers = Some(vec!["example.org/hold".into()]);
    api.create(&PostParams::default(), &held).await.unwrap();
    let name = widget_crd().name_any();
    crds.delete(&name, &DeleteParams::default()).await.unwrap();
    let params = PatchParams::default();
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let (installed, released) =
        tokio::join!(server.install_crds(&definitions), api.patch("held", &params, &release));
    installed.unwrap();
    released.unwrap();
    let crd: CustomResourceDefinition = crds.get(&name).await.unwrap();
    assert_eq!(crd.metadata.deletion_timestamp, None);
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 0);
    server.close().await;
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

/// A store with some objects, closed.
async fn small_store(path: &Path) {
    let server = Server::open(Options::new(path)).await.unwrap();
    server.install_crds(&[widget_crd()]).await.unwrap();
    let api = widgets(server.client("default"));
    for index in 0..60 {
        api.create(&PostParams::default(), &widget(&format!("w{index}"), json!({}))).await.unwrap();
    }
    server.close().await;
}

/// Everything that clients see of a store.
async fn contents(server: &Server) -> Vec<String> {
    let api = widgets(server.client("default"));
    let list = api.list(&ListParams::default()).await.unwrap();
    list.items.iter().map(|item| serde_json::to_string(item).unwrap()).collect()
}

/// Panics while a store is being opened, in this process.
static WHILE_OPENING: AtomicUsize = AtomicUsize::new(0);
/// Panics at any other time.
static UNFORESEEN: AtomicUsize = AtomicUsize::new(0);

#[tokio::test]
async fn damage_in_any_page_is_refused_or_harmless() {
    const PAGE: usize = 4096;
    // A hook that ends the process at a panic can tell that redb's are caught.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if apiserver::opens_a_store() {
            WHILE_OPENING.fetch_add(1, Ordering::Relaxed);
        } else {
            UNFORESEEN.fetch_add(1, Ordering::Relaxed);
            usual(info);
        }
    }));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.redb");
    small_store(&path).await;
    let good = std::fs::read(&path).unwrap();
    let server = Server::open(Options::new(&path)).await.unwrap();
    let expected = contents(&server).await;
    server.close().await;
    let (mut refusals, mut harmless) = (0, 0);
    for page in 0..good.len() / PAGE {
        for offset in [0, 24, PAGE / 3, PAGE - 100] {
            let mut bad = good.clone();
            bad[page * PAGE + offset] ^= 0x41;
            std::fs::write(&path, &bad).unwrap();
            match Server::open(Options::new(&path)).await {
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains("api.redb"), "page {page}: {text}");
                    assert!(
                        matches!(error, OpenError::Damaged { .. }),
                        "page {page}, byte {offset}: {error:?}"
                    );
                    assert!(text.contains("tink restore"), "{text}");
                    assert!(
                        std::fs::read(&path).unwrap() == bad,
                        "page {page}, byte {offset}: the file was changed"
                    );
                    refusals += 1;
                }
                // A page that nothing uses, or a part of one.
                Ok(server) => {
                    assert_eq!(contents(&server).await, expected, "page {page}, byte {offset}");
                    server.close().await;
                    harmless += 1;
                }
            }
        }
    }
    assert!(refusals > 20, "{refusals} refused, {harmless} harmless");
    let panics = WHILE_OPENING.load(Ordering::Relaxed);
    assert_eq!(UNFORESEEN.load(Ordering::Relaxed), 0, "beside {panics} that are caught");
    println!("{refusals} refused ({panics} because redb panicked), {harmless} harmless");
}

#[tokio::test]
async fn a_file_that_was_cut_short_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.redb");
    small_store(&path).await;
    let good = std::fs::read(&path).unwrap();
    for length in [0, 1, 100, 4096, good.len() / 2, good.len() - 4096, good.len() - 1] {
        std::fs::write(&path, &good[..length]).unwrap();
        let error = refused(path.clone()).await;
        assert!(matches!(error, OpenError::Damaged { .. }), "{length}: {error:?}");
        assert!(error.to_string().contains("api.redb"), "{error}");
        assert!(std::fs::read(&path).unwrap() == good[..length], "{length}: the file was changed");
    }
}

#[tokio::test]
async fn a_place_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "x").unwrap();
    for path in [file.join("api.redb"), directory.path().to_owned()] {
        let error = refused(path.clone()).await;
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

#[tokio::test]
async fn what_a_start_left_half_done_is_no_hindrance() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.redb");
    std::fs::write(directory.path().join("api.redb.new"), "half").unwrap();
    Server::open(Options::new(&path)).await.unwrap().close().await;
    assert!(!directory.path().join("api.redb.new").exists());
}

const FULL: &str = "APISERVER_TEST_FULL";
/// Size of the small file system, and of the file that takes a part of it.
const DISK: u64 = 24 << 20;
const OTHERS: u64 = 10 << 20;

/// Runs a test of this program in a mount namespace of its own.
fn in_namespace(test: &str, directory: &Path) {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]).arg(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    let output = command.env(FULL, directory).output().expect("unshare runs (as root)");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn a_full_disk_makes_writes_fail_and_reads_go_on() {
    let directory = tempfile::tempdir().unwrap();
    in_namespace("full_disk", directory.path());
}

/// A text that does not compress.
fn noise(seed: usize, length: usize) -> String {
    let mut state = seed as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'!' + u8::try_from(state % 90).unwrap())
    };
    (0..length).map(|_| next()).collect()
}

/// Not a test of its own: it mounts a small file system, which `a_full_disk_makes_writes_fail_and_reads_go_on` does not.
#[tokio::test]
#[ignore = "run as a child by a_full_disk_makes_writes_fail_and_reads_go_on"]
async fn full_disk() {
    let Ok(directory) = std::env::var(FULL) else { return };
    let directory = Path::new(&directory);
    let size = std::ffi::CString::new(format!("size={DISK}")).unwrap();
    rustix::mount::mount(
        "none",
        directory,
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        Some(size.as_c_str()),
    )
    .unwrap();
    let path = directory.join("api.redb");
    let server = Server::open(Options::new(&path)).await.unwrap();
    server.install_crds(&[widget_crd()]).await.unwrap();
    std::fs::write(directory.join("others"), vec![1; usize::try_from(OTHERS).unwrap()]).unwrap();
    let client = server.client("default");
    let api: kube::Api<k8s_openapi::api::core::v1::ConfigMap> = kube::Api::namespaced(client, "default");
    let map = |name: &str, seed: usize| k8s_openapi::api::core::v1::ConfigMap {
        metadata: kube::api::ObjectMeta { name: Some(name.into()), ..Default::default() },
        data: Some([("noise".to_owned(), noise(seed, 200_000))].into()),
        ..Default::default()
    };
    let version = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let watch = api.watch(&kube::api::WatchParams::default(), &version).await.unwrap();
    let mut watch = std::pin::pin!(watch);
    let mut made = std::collections::BTreeMap::new();
    let error = loop {
        let wanted = map(&format!("m{}", made.len()), made.len());
        match api.create(&PostParams::default(), &wanted).await {
            Ok(object) => made.insert(object.metadata.name.clone().unwrap(), object),
            Err(error) => break error,
        };
        assert!(made.len() < 1000, "the disk does not fill up");
    };
    assert!(made.len() > 10, "only {} objects fit", made.len());
    for round in 0..20 {
        let error = if round == 0 {
            &error
        } else {
            &api.create(&PostParams::default(), &map("more", 9999)).await.unwrap_err()
        };
        let kube::Error::Api(status) = error else { panic!("{error}") };
        assert_eq!(status.code, 500, "{status:?}");
        assert!(status.message.contains("api.redb") && status.message.contains("make room"), "{status:?}");
        let found = api.list(&ListParams::default()).await.expect("reads go on");
        let found: std::collections::BTreeMap<_, _> =
            found.items.into_iter().map(|o| (o.metadata.name.clone().unwrap(), o)).collect();
        assert_eq!(found, made, "what was acknowledged is there, and nothing else");
    }
    std::fs::remove_file(directory.join("others")).unwrap();
    let last =
        api.create(&PostParams::default(), &map("last", 7)).await.expect("writes again when there is room");
    made.insert("last".into(), last.clone());
    // The watch from before has heard of everything, once and in order.
    let mut heard = Vec::new();
    while heard.last() != last.metadata.resource_version.as_ref() {
        use futures::StreamExt as _;
        match watch.next().await.expect("the watch goes on").unwrap() {
            kube::api::WatchEvent::Added(object) => heard.push(object.metadata.resource_version.unwrap()),
            other => panic!("{other:?}"),
        }
    }
    let mut versions: Vec<_> =
        made.values().map(|object| object.metadata.resource_version.clone().unwrap()).collect();
    versions.sort_by_key(|version| version.parse::<u64>().unwrap());
    assert_eq!(heard, versions);
    server.close().await;
    let server = Server::open(Options::new(&path)).await.unwrap();
    let api: kube::Api<k8s_openapi::api::core::v1::ConfigMap> =
        kube::Api::namespaced(server.client("default"), "default");
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), made.len());
    server.close().await;
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

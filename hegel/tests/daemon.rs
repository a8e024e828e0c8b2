// SPDX-License-Identifier: Apache-2.0
//! The whole daemon on a socket, over the embedded API: what a machine on the wire sees.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use api::v1alpha1::Hardware;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio_util::sync::CancellationToken;

const M1: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 99);

struct World {
    hardware: Api<Hardware>,
    events: Api<Event>,
    address: SocketAddr,
    shutdown: CancellationToken,
    daemon: tokio::task::JoinHandle<Result<(), hegel::Error>>,
    _server: apiserver::Server,
    _dir: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = apiserver::Options::new(dir.path().join("api.redb"));
        options.namespaces.push("tinkerbell".to_owned());
        let server = apiserver::Server::open(options).await.unwrap();
        server.install_crds(&api::crds()).await.unwrap();
        let client = server.client("tinkerbell");
        let hardware = Api::namespaced(client.clone(), "tinkerbell");
        let events = Api::namespaced(client.clone(), "tinkerbell");
        hardware.create(&PostParams::default(), &m1()).await.unwrap();

        let address = free_address();
        let config = hegel::Config {
            listen: address,
            trusted_proxies: Default::default(),
            instance_endpoint: false,
            namespace: Some("tinkerbell".to_owned()),
        };
        let health = daemon::Health::new();
        let shutdown = CancellationToken::new();
        let daemon = tokio::spawn(hegel::run(config, client, health.clone(), shutdown.clone()));
        tokio::time::timeout(Duration::from_secs(30), health.ready()).await.expect("ready in time");
        Self { hardware, events, address, shutdown, daemon, _server: server, _dir: dir }
    }

    /// What `from` gets for a path: status and body.
    async fn get(&self, from: Ipv4Addr, path: &str) -> (u16, String) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        let mut stream = socket.connect(self.address).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nUser-Agent: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Fetches until the answer is as wanted.
    async fn becomes(&self, from: Ipv4Addr, path: &str, wanted: (u16, &str)) {
        let waiting = async {
            while self.get(from, path).await != (wanted.0, wanted.1.to_owned()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect(path);
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(30), self.daemon).await.unwrap().unwrap().unwrap();
    }
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn m1() -> Hardware {
    serde_json::from_value(json!({
        "apiVersion": "tinkerbell.org/v1alpha1", "kind": "Hardware", "metadata": {"name": "m1"},
        "spec": {
            "userData": "#cloud-config\n",
            "interfaces": [{"dhcp": {"ip": {"address": M1.to_string()}}}],
            "metadata": {"instance": {"id": "i-1", "hostname": "m1", "tags": ["rack-1", "row-2"],
                "ssh_keys": ["ssh-ed25519 AAAA first@x", "ssh-ed25519 BBBB second@x"]}},
        },
    }))
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_served_follows_the_hardware() {
    let world = World::start().await;
    let hostname = "/2009-04-04/meta-data/hostname";
    assert_eq!(world.get(M1, hostname).await, (200, "m1".to_owned()));
    assert_eq!(world.get(STRANGER, hostname).await, (404, String::new()));

    let merge = |spec: Value| Patch::Merge(json!({ "spec": spec }));
    let renamed = merge(json!({"metadata": {"instance": {"hostname": "renamed"}}}));
    world.hardware.patch("m1", &PatchParams::default(), &renamed).await.unwrap();
    world.becomes(M1, hostname, (200, "renamed")).await;

    let moved = merge(json!({"interfaces": [{"dhcp": {"ip": {"address": STRANGER.to_string()}}}]}));
    world.hardware.patch("m1", &PatchParams::default(), &moved).await.unwrap();
    world.becomes(STRANGER, hostname, (200, "renamed")).await;
    assert_eq!(world.get(M1, hostname).await.0, 404, "the old address is a stranger's now");

    world.hardware.delete("m1", &Default::default()).await.unwrap();
    world.becomes(STRANGER, hostname, (404, "")).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_fetch_of_a_boot_is_an_event_on_the_hardware() {
    let world = World::start().await;
    for _ in 0..3 {
        assert_eq!(world.get(M1, "/2009-04-04/user-data").await.0, 200);
    }
    let events = world.events.clone();
    let name = daemon::events::event_name("m1", api::events::Reason::MetadataFetched.phase(), None);
    world.stop().await;
    let event = events.get(&name).await.unwrap();
    assert_eq!(event.count, Some(1));
    assert_eq!(event.involved_object.name.as_deref(), Some("m1"));
    assert_eq!(event.message.as_deref(), Some("metadata fetched by test"));
}

/// The walk that cloud-init's EC2 data source does: a line with a slash is a directory, `<number>=<name>` a key below
/// `<number>/openssh-key`, everything else a leaf; the first fetch that fails loses the whole tree.
async fn walk(world: &World, directory: String, found: &mut BTreeMap<String, String>) {
    let (status, listing) = world.get(M1, &directory).await;
    assert_eq!(status, 200, "{directory}");
    for line in listing.lines() {
        if let Some(child) = line.strip_suffix('/') {
            Box::pin(walk(world, format!("{directory}{child}/"), found)).await;
            continue;
        }
        let leaf = match line.split_once('=') {
            Some((number, _)) => format!("{directory}{number}/openssh-key"),
            None => format!("{directory}{line}"),
        };
        let (status, value) = world.get(M1, &leaf).await;
        assert_eq!(status, 200, "{leaf}");
        found.insert(leaf, value);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cloud_init_can_walk_the_whole_tree_and_finds_every_key() {
    let world = World::start().await;
    let mut found = BTreeMap::new();
    walk(&world, "/2009-04-04/meta-data/".to_owned(), &mut found).await;
    let value = |path: &str| found.get(&format!("/2009-04-04/meta-data/{path}")).map(String::as_str);
    assert_eq!(value("instance-id"), Some("i-1"));
    assert_eq!(value("local-hostname"), Some("m1"));
    assert_eq!(value("tags"), Some("rack-1\nrow-2"));
    assert_eq!(value("public-keys/0/openssh-key"), Some("ssh-ed25519 AAAA first@x"));
    assert_eq!(value("public-keys/1/openssh-key"), Some("ssh-ed25519 BBBB second@x"));
    assert_eq!(found.len(), 17, "{found:?}");
    for version in ["2021-03-23", "2018-09-24", "2016-09-02"] {
        let path = format!("/{version}/meta-data/instance-id");
        assert_eq!(world.get(M1, &path).await.0, 404, "a newer layout would be asked for more than we have");
    }
    world.stop().await;
}

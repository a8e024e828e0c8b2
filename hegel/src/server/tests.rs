// SPDX-License-Identifier: Apache-2.0

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex;

use api::v1alpha1::Hardware;
use axum::body::to_bytes;
use daemon::metrics::Metrics as Registry;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::{ServiceExt as _, service_fn};

use super::*;
use crate::watch::fixed;

/// A Hardware with nothing but addresses.
pub(crate) fn hardware(name: &str, addresses: &[&str]) -> Hardware {
    let interfaces: Vec<Value> =
        addresses.iter().map(|address| json!({"dhcp": {"ip": {"address": address}}})).collect();
    from_json(name, &json!({ "interfaces": interfaces }))
}

fn from_json(name: &str, spec: &Value) -> Hardware {
    serde_json::from_value(json!({
        "apiVersion": "tinkerbell.org/v1alpha1", "kind": "Hardware",
        "metadata": {"name": name, "namespace": "tinkerbell", "uid": format!("uid-{name}")},
        "spec": spec,
    }))
    .unwrap()
}

fn m1() -> Hardware {
    from_json(
        "m1",
        &json!({
            "userData": "#cloud-config\nhostname: m1\n",
            "interfaces": [
                {"dhcp": {"mac": "52:54:00:00:00:11", "ip": {"address": "172.31.0.11"}}},
                {"dhcp": {"mac": "52:54:00:00:00:12", "ip": {"address": "172.31.0.21"}}},
            ],
            "metadata": {
                "facility": {"facility_code": "onprem", "plan_slug": "c3.small"},
                "instance": {
                    "id": "i-1", "hostname": "m1.example.org", "tags": ["a", "b"],
                    "ssh_keys": ["ssh-ed25519 AAAA one", " ", "ssh-rsa BBBB two"],
                    "ips": [
                        {"address": "172.31.0.11", "family": 4},
                        {"address": "203.0.113.1", "family": 4, "public": true},
                        {"address": "203.0.113.2", "family": 4, "public": true},
                        {"address": "2001:db8::1", "family": 6},
                    ],
                    "operating_system": {"slug": "debian_12", "distro": "debian", "version": "12", "image_tag": "t1"},
                    "storage": {
                        "disks": [{"device": "/dev/vda", "wipe_table": true, "partitions": [
                            {"label": "ROOT", "number": 1, "size": 0, "start": 2048, "type_guid": "x"}]}],
                        "raid": [{"name": "md0"}],
                        "filesystems": [{"mount": {"device": "/dev/vda1", "format": "ext4", "point": "/",
                            "create": {"options": ["-L", "ROOT"], "force": true}, "files": [{"path": "/x"}]}}],
                    },
                },
            },
        }),
    )
}

struct World {
    router: Router,
    registry: Registry,
    created: Arc<Mutex<Vec<Value>>>,
    shutdown: CancellationToken,
    recorder: tokio::task::JoinHandle<()>,
}

impl World {
    fn new(all: &[Hardware], change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            trusted_proxies: Default::default(),
            instance_endpoint: false,
            namespace: None,
        };
        change(&mut config);
        let created = Arc::new(Mutex::new(Vec::new()));
        let registry = Registry::default();
        let shutdown = CancellationToken::new();
        let (handle, recorder) = Recorder::spawn(api_server(&created), "hegel", &registry, shutdown.clone());
        let router = router(&config, fixed(all), Metrics::register(&registry), handle);
        Self { router, registry, created, shutdown, recorder }
    }

    async fn request(&self, peer: &str, request: axum::http::request::Builder) -> (u16, String, String) {
        let mut request = request.body(Body::empty()).unwrap();
        let peer: IpAddr = peer.parse().unwrap();
        request.extensions_mut().insert(Peer(SocketAddr::new(peer, 40000)));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let media =
            response.headers().get("content-type").map_or("", |value| value.to_str().unwrap()).to_owned();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, media, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, peer: &str, path: &str) -> (u16, String) {
        let (status, _, body) = self.request(peer, Request::get(path)).await;
        (status, body)
    }

    /// Ends the recorder and returns the Events it wrote.
    async fn events(self) -> Vec<Value> {
        self.shutdown.cancel();
        self.recorder.await.unwrap();
        Arc::try_unwrap(self.created).unwrap().into_inner().unwrap()
    }
}

/// An API server that accepts every Event.
fn api_server(created: &Arc<Mutex<Vec<Value>>>) -> kube::Client {
    let created = Arc::downgrade(created);
    let service = service_fn(move |request: axum::http::Request<kube::client::Body>| {
        let created = created.clone();
        async move {
            let body = request.into_body().collect_bytes().await.unwrap();
            created.upgrade().unwrap().lock().unwrap().push(serde_json::from_slice(&body).unwrap());
            Ok::<_, Infallible>(Response::new(kube::client::Body::from(body.to_vec())))
        }
    });
    kube::Client::new(service, "default")
}

#[tokio::test]
async fn every_path_answers_as_the_contract_says() {
    let world = World::new(&[m1()], |_| {});
    let cases = [
        ("user-data", "#cloud-config\nhostname: m1\n"),
        ("meta-data/instance-id", "i-1"),
        ("meta-data/hostname", "m1.example.org"),
        ("meta-data/local-hostname", "m1.example.org"),
        ("meta-data/iqn", ""),
        ("meta-data/plan", "c3.small"),
        ("meta-data/facility", "onprem"),
        ("meta-data/tags", "a\nb"),
        ("meta-data/public-ipv4", "203.0.113.1"),
        ("meta-data/local-ipv4", "172.31.0.11"),
        ("meta-data/public-ipv6", "2001:db8::1"),
        ("meta-data/public-keys", "0=key-0\n1=key-1"),
        ("meta-data/public-keys/1", "openssh-key"),
        ("meta-data/public-keys/0/openssh-key", "ssh-ed25519 AAAA one"),
        ("meta-data/public-keys/1/openssh-key", "ssh-rsa BBBB two"),
        ("meta-data/operating-system/slug", "debian_12"),
        ("meta-data/operating-system/distro", "debian"),
        ("meta-data/operating-system/version", "12"),
        ("meta-data/operating-system/image_tag", "t1"),
        ("meta-data/operating-system/license_activation/state", ""),
    ];
    for (path, expected) in cases {
        for version in ["2009-04-04", "latest"] {
            for slash in ["", "/"] {
                let path = format!("/{version}/{path}{slash}");
                let (status, media, body) = world.request("172.31.0.21", Request::get(&path)).await;
                assert_eq!(
                    (status, media.as_str(), body.as_str()),
                    (200, "text/plain; charset=utf-8", expected),
                    "{path}"
                );
            }
        }
    }
    assert_eq!(
        world.get("172.31.0.11", "/2009-04-04/meta-data/public-keys/2/openssh-key").await,
        (404, String::new())
    );
    assert_eq!(world.get("172.31.0.11", "/2021-03-23/meta-data/instance-id").await.0, 404);
    let put = Request::put("/latest/api/token").header("X-aws-ec2-metadata-token-ttl-seconds", "60");
    assert_eq!(world.request("172.31.0.11", put).await.0, 404);
}

#[tokio::test]
async fn a_machine_without_metadata_gets_empty_values() {
    let world = World::new(&[hardware("bare", &["172.31.0.9"])], |_| {});
    for path in
        ["user-data", "meta-data/hostname", "meta-data/public-keys", "meta-data/tags", "meta-data/local-ipv4"]
    {
        assert_eq!(
            world.get("172.31.0.9", &format!("/2009-04-04/{path}")).await,
            (200, String::new()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn strangers_get_listings_and_nothing_else() {
    let world = World::new(&[m1(), hardware("a", &["10.0.0.5"]), hardware("b", &["10.0.0.5"])], |_| {});
    assert_eq!(world.get("192.0.2.1", "/2009-04-04").await, (200, "meta-data/\nuser-data".to_owned()));
    for path in ["/2009-04-04/user-data", "/2009-04-04/meta-data/hostname", "/metadata", "/nothing"] {
        assert_eq!(world.get("192.0.2.1", path).await, (404, String::new()), "{path}");
    }
    assert_eq!(
        world.get("10.0.0.5", "/2009-04-04/user-data").await,
        (500, String::new()),
        "two machines, one address"
    );
    let told = world.registry.encode();
    for line in [
        "{outcome=\"unknown-machine\"} 3",
        "{outcome=\"no-such-path\"} 1",
        "{outcome=\"ambiguous-machine\"} 1",
    ] {
        assert!(told.contains(line), "{told}");
    }
}

#[tokio::test]
async fn forwarded_addresses_count_only_from_trusted_proxies() {
    let world = World::new(&[m1()], |config| {
        config.trusted_proxies = ["10.0.0.0/8".parse().unwrap()].into_iter().collect()
    });
    let request =
        |value: &str| Request::get("/2009-04-04/meta-data/hostname").header("X-Forwarded-For", value);
    assert_eq!(world.request("10.0.0.1", request("172.31.0.11")).await.2, "m1.example.org");
    assert_eq!(world.request("192.0.2.1", request("172.31.0.11")).await.0, 404);
    assert_eq!(world.request("10.0.0.1", request("m1")).await.0, 400);
}

#[tokio::test]
async fn the_instance_endpoint_is_there_only_when_asked_for() {
    let path = "/tootles/instanceID/i-1/2009-04-04/meta-data/hostname";
    let world = World::new(&[m1()], |_| {});
    assert_eq!(world.get("192.0.2.1", path).await.0, 404);
    let world = World::new(&[m1()], |config| config.instance_endpoint = true);
    assert_eq!(world.get("192.0.2.1", path).await, (200, "m1.example.org".to_owned()));
    assert_eq!(world.get("192.0.2.1", "/tootles/instanceID/i-2/2009-04-04/user-data/").await.0, 404);
    assert_eq!(world.get("192.0.2.1", "/tootles/instanceID/i-1/metadata").await.0, 200);
}

#[tokio::test]
async fn rootio_gets_exactly_the_fields_it_reads() {
    let world = World::new(&[m1()], |_| {});
    let (status, media, body) = world.request("172.31.0.11", Request::get("/metadata")).await;
    assert_eq!((status, media.as_str()), (200, "application/json; charset=utf-8"));
    let expected = json!({"metadata": {"instance": {"storage": {
        "disks": [{"device": "/dev/vda", "partitions": [{"label": "ROOT", "number": 1, "size": 0}], "wipe_table": true}],
        "filesystems": [{"mount": {"create": {"options": ["-L", "ROOT"]}, "device": "/dev/vda1", "format": "ext4", "point": "/"}}],
    }}}});
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
}

#[tokio::test]
async fn a_boot_is_one_event_however_often_it_asks() {
    let world = World::new(&[m1()], |config| config.instance_endpoint = true);
    world.get("192.0.2.1", "/tootles/instanceID/i-1/2009-04-04/user-data").await;
    world.get("172.31.0.11", "/2009-04-04/meta-data/hostname").await;
    for path in ["/2009-04-04/meta-data/instance-id", "/2009-04-04/user-data", "/2009-04-04/user-data"] {
        let request = Request::get(path).header("user-agent", "Cloud-Init/22.4.2");
        assert_eq!(world.request("172.31.0.11", request).await.0, 200);
    }
    let events = world.events().await;
    let [event] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(event["reason"], "MetadataFetched");
    assert_eq!(event["message"], "metadata fetched by Cloud-Init/22.4.2");
    assert_eq!(
        event["metadata"]["name"],
        daemon::events::event_name("m1", Reason::MetadataFetched.phase(), None)
    );
    assert_eq!(event["involvedObject"]["name"], "m1");
    assert_eq!(event["involvedObject"]["uid"], "uid-m1");
}

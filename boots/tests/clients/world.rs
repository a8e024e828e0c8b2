// SPDX-License-Identifier: Apache-2.0
//! What the tests stand on: a network namespace that dies with its thread, an API that is a list, and the daemon.

use std::convert::Infallible;
use std::future::Future;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use axum::body::Body;
use boots::{Config, SETTINGS};
use daemon::Health;
use daemon::config::{Inputs, Settings};
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Address of the daemon.
pub const SERVER: &str = "172.31.0.1";

/// Runs a test in a network namespace of its own; processes that it starts are in it too.
pub fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
        command("ip", &["link", "set", "lo", "up"]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a program to its end and insists on success.
pub fn command(program: &str, args: &[&str]) {
    let output =
        Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A program of the test peers: in `TEST_PEERS` or on the PATH.
pub fn peer(name: &str) -> PathBuf {
    let peers = std::env::var_os("TEST_PEERS").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    let places = peers.into_iter().chain(std::env::split_paths(&path)).chain(sbin);
    let found = places.map(|dir| dir.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is neither in TEST_PEERS nor on the PATH"))
}

/// A directory of the built artefacts.
pub fn artefact(name: &str) -> PathBuf {
    let root = std::env::var_os("TINK_ARTEFACTS")
        .expect("TINK_ARTEFACTS names the directory that `./x build` prints");
    PathBuf::from(root).join(name)
}

/// A child process that is killed when it is dropped.
pub struct Child(std::process::Child);

impl Child {
    pub fn start(program: &std::path::Path, args: &[&str]) -> Self {
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap_or_else(|error| panic!("{}: {error}", program.display())))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().unwrap_or_default();
        self.0.wait().map(drop).unwrap_or_default();
    }
}

/// The Events that the daemon wrote, as (reason, message), in their order.
pub type Events = Vec<(String, String)>;

/// The daemon, running.
pub struct Boots {
    pub health: Health,
    events: watch::Receiver<Events>,
    shutdown: CancellationToken,
    state: tempfile::TempDir,
    task: JoinHandle<Result<(), boots::Error>>,
}

impl Boots {
    /// Starts the daemon with these machines and Workflows and waits until it is ready.
    pub async fn start(hardware: Vec<Value>, workflows: Vec<Value>, args: &[&str]) -> Self {
        daemon::install_crypto();
        let (sender, events) = watch::channel(Events::new());
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let (hardware, workflows, sender) = (hardware.clone(), workflows.clone(), sender.clone());
            async move { Ok::<_, Infallible>(answer(request, &hardware, &workflows, &sender).await) }
        });
        let client = kube::Client::new(service, "tinkerbell");
        let state = tempfile::tempdir().unwrap();
        let own = [format!("--public-ipv4={SERVER}"), format!("--state-dir={}", state.path().display())];
        let args = own.iter().map(String::as_str).chain(args.iter().copied()).map(str::to_owned);
        let mut settings = Settings::load("boots", SETTINGS, Inputs::gather(args, []));
        let config = Config::from_settings(&mut settings);
        settings.finish().unwrap();
        let (health, shutdown) = (Health::new(), CancellationToken::new());
        let task = tokio::spawn(boots::run(config, client, health.clone(), shutdown.clone()));
        let boots = Self { health, events, shutdown, state, task };
        tokio::select! {
            () = boots.health.ready() => {}
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("not ready: {:?}", boots.health.waiting()),
        }
        boots
    }

    /// Its state directory.
    pub fn state_dir(&self) -> &std::path::Path {
        self.state.path()
    }

    /// Waits until an Event of this reason was written; returns its message.
    pub async fn event(&self, reason: &str, deadline: Duration) -> String {
        let mut events = self.events.clone();
        let found =
            |events: &Events| events.iter().find(|event| event.0 == reason).map(|event| event.1.clone());
        let waited = tokio::time::timeout(deadline, events.wait_for(|events| found(events).is_some())).await;
        match waited {
            Ok(Ok(events)) => found(&events).unwrap(),
            _ => panic!("no {reason} within {deadline:?}; there are {:#?}", self.events()),
        }
    }

    /// All Events so far.
    pub fn events(&self) -> Events {
        self.events.borrow().clone()
    }

    /// The value of a metric line that begins with this text.
    pub fn metric(&self, line: &str) -> u64 {
        let text = self.health.metrics().encode();
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or(0)
    }

    /// Stops the daemon and insists on a clean end.
    pub async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.task).await.expect("it drains").unwrap().unwrap();
    }
}

/// The API: lists that never change, the Secret of the token key, Events that are kept.
async fn answer(
    request: Request<kube::client::Body>,
    hardware: &[Value],
    workflows: &[Value],
    events: &watch::Sender<Events>,
) -> Response<Body> {
    let (path, query) =
        (request.uri().path().to_owned(), request.uri().query().unwrap_or_default().to_owned());
    let is_post = request.method() == http::Method::POST;
    let kind = path.rsplit('/').next().unwrap_or_default().to_owned();
    let list = |kind: &str, items: &[Value]| json!({ "apiVersion": "tinkerbell.org/v1alpha1", "kind": kind, "metadata": { "resourceVersion": "1" }, "items": items });
    let not_found = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "NotFound", "message": "not found", "code": 404 });
    let (status, value) = match (kind.as_str(), is_post) {
        ("hardware" | "workflows", false) if query.contains("watch=true") => {
            // A watch on which nothing happens.
            return Response::new(Body::from_stream(futures::stream::pending::<
                Result<bytes::Bytes, Infallible>,
            >()));
        }
        (api::token::SECRET_NAME, false) => (200, key_secret()),
        ("hardware", false) => (200, list("HardwareList", hardware)),
        ("workflows", false) => (200, list("WorkflowList", workflows)),
        (_, true) => {
            let body = axum::body::to_bytes(Body::new(request.into_body()), 1 << 20).await.unwrap();
            let value: Value = serde_json::from_slice(&body).unwrap();
            if kind == "events" {
                let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
                events.send_modify(|events| events.push((text("reason"), text("message"))));
            }
            (201, value)
        }
        _ => (404, not_found),
    };
    let body = Body::from(serde_json::to_vec(&value).unwrap());
    Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
}

/// The Secret that tink-server makes.
fn key_secret() -> Value {
    let key = k8s_openapi::ByteString(vec![7; api::token::KEY_LENGTH]);
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": api::token::SECRET_NAME, "namespace": api::annotations::SYSTEM_NAMESPACE },
        "data": { api::token::SECRET_DATA_KEY: key },
    })
}

/// Hardware with one interface.
pub fn hardware(name: &str, mac: &str, address: &str) -> Value {
    json!({
        "apiVersion": "tinkerbell.org/v1alpha1",
        "kind": "Hardware",
        "metadata": { "name": name, "namespace": "tinkerbell", "uid": format!("uid-{name}"), "resourceVersion": "1" },
        "spec": { "interfaces": [{
            "dhcp": {
                "mac": mac,
                "hostname": name,
                "ip": { "address": address, "netmask": "255.255.255.0", "gateway": SERVER },
                "name_servers": ["1.1.1.1"],
                "lease_time": 3600,
            },
            "netboot": { "allowPXE": true },
        }]},
    })
}

/// A Workflow that waits for a machine.
pub fn workflow(hardware: &str) -> Value {
    json!({
        "apiVersion": "tinkerbell.org/v1alpha1",
        "kind": "Workflow",
        "metadata": { "name": format!("install-{hardware}"), "namespace": "tinkerbell", "uid": format!("uid-of-{hardware}"), "resourceVersion": "1" },
        "spec": { "hardwareRef": hardware, "templateRef": "t" },
        "status": { "state": "PENDING" },
    })
}

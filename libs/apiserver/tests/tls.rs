// SPDX-License-Identifier: Apache-2.0

//! The API over TLS, with clients that we did not write.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails; clippy knows only test functions, not their helpers"
)]

mod common;

use std::path::PathBuf;
use std::process::{Output, Stdio};

use apiserver::pki::{Identity, write_private};
use apiserver::{ServeError, Tls};
use common::{Fixture, start, widget, widgets};
use futures::StreamExt as _;
use kube::api::{Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Served {
    fixture: std::sync::Arc<Fixture>,
    identity: Identity,
    url: String,
    kubeconfig: PathBuf,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
}

async fn serve() -> Served {
    let fixture = std::sync::Arc::new(start().await);
    let identity = Identity::load_or_create(&fixture.directory.path().join("pki"), &[]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let kubeconfig = fixture.directory.path().join("kubeconfig");
    write_private(&kubeconfig, &identity.kubeconfig(&url, "default")).unwrap();
    std::fs::write(fixture.directory.path().join("ca.pem"), identity.ca_pem()).unwrap();
    let (tls, shutdown) = (Tls::new(&identity).unwrap(), CancellationToken::new());
    let task = tokio::spawn({
        let (fixture, shutdown) = (fixture.clone(), shutdown.clone());
        async move { fixture.server.serve_tls(listener, tls, shutdown).await }
    });
    Served { fixture, identity, url, kubeconfig, shutdown, task }
}

impl Served {
    async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap().unwrap();
        self.fixture.server.close().await;
    }

    async fn run(&self, mut command: Command) -> (bool, String) {
        command.stdin(Stdio::null()).kill_on_drop(true);
        let Output { status, stdout, stderr } = command.output().await.unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        (status.success(), text)
    }

    async fn curl(&self, arguments: &[&str], path: &str) -> String {
        let mut command = Command::new("curl");
        command
            .args(["-sS", "--max-time", "20", "--cacert"])
            .arg(self.fixture.directory.path().join("ca.pem"));
        command.args(arguments).arg(format!("{}{path}", self.url));
        self.run(command).await.1
    }

    fn bearer(&self) -> String {
        format!("Authorization: Bearer {}", self.identity.token().reveal())
    }

    /// kubectl, which must succeed.
    async fn kubectl(&self, arguments: &[&str]) -> String {
        let (ok, text) = self.try_kubectl(arguments).await;
        assert!(ok, "kubectl {arguments:?}: {text}");
        text
    }

    async fn try_kubectl(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new("kubectl");
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--cache-dir")
            .arg(self.fixture.directory.path().join("cache"));
        command.args(arguments).env_remove("KUBECONFIG");
        self.run(command).await
    }

    fn file(&self, name: &str, contents: &str) -> String {
        let path = self.fixture.directory.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path.to_string_lossy().into_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_over_both_http_versions() {
    let served = serve().await;
    let bearer = served.bearer();
    for version in ["--http1.1", "--http2"] {
        let body = served.curl(&[version, "-H", &bearer], "/api/v1/namespaces/tinkerbell").await;
        let namespace: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}"));
        assert_eq!(namespace["status"]["phase"], "Active");
        assert_eq!(served.curl(&[version], "/healthz").await, "ok");
        for (header, code, reason) in [
            ("Authorization: Bearer wrong", 401, "Unauthorized"),
            ("Authorization: Basic YTpi", 401, "Unauthorized"),
            // Without any, it is nobody in particular who asks.
            ("X-None: 1", 403, "Forbidden"),
            ("Authorization: Bearer ", 401, "Unauthorized"),
        ] {
            let refused: Value =
                serde_json::from_str(&served.curl(&[version, "-H", header], "/api/v1/secrets").await)
                    .unwrap();
            assert_eq!((&refused["code"], &refused["reason"]), (&json!(code), &json!(reason)), "{header}");
        }
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kube_rs_over_tls_and_a_watch_that_ends_at_shutdown() {
    let served = serve().await;
    let kubeconfig = kube::config::Kubeconfig::read_from(&served.kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    let api = widgets(kube::Client::try_from(config).unwrap());
    api.create(&PostParams::default(), &widget("a", json!({}))).await.unwrap();
    let events = api.watch(&WatchParams::default(), "0").await.unwrap();
    let mut events = Box::pin(events);
    assert!(matches!(events.next().await, Some(Ok(WatchEvent::Added(_)))));
    api.patch("a", &PatchParams::default(), &Patch::Merge(json!({"spec": {"size": 2}}))).await.unwrap();
    assert!(matches!(events.next().await, Some(Ok(WatchEvent::Modified(_)))));
    served.stop().await;
    assert!(events.next().await.is_none(), "the stream ends cleanly");
}

fn kubectl_is_there() -> bool {
    let found = std::process::Command::new("kubectl").args(["version", "--client"]).output();
    let there = found.is_ok_and(|output| output.status.success());
    if !there {
        eprintln!("skipped: there is no kubectl on this machine");
    }
    there
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_reads_and_writes() {
    if !kubectl_is_there() {
        return;
    }
    let served = serve().await;
    let manifest = served.file(
        "widget.yaml",
        "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: w1, labels: {a: b}}\nspec: {colour: red, parts: [{id: x, count: 1}]}\n",
    );
    assert!(served.kubectl(&["apply", "-f", &manifest]).await.contains("widget.example.org/w1 created"));
    assert!(served.kubectl(&["apply", "-f", &manifest]).await.contains("unchanged"));
    served.file(
        "widget.yaml",
        "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: w1}\nspec: {colour: blue}\n",
    );
    assert!(served.kubectl(&["apply", "-f", &manifest]).await.contains("configured"));
    let table = served.kubectl(&["get", "widgets"]).await;
    let mut lines = table.lines();
    assert_eq!(lines.next().unwrap().split_whitespace().collect::<Vec<_>>(), ["NAME", "COLOUR", "STATE"]);
    assert_eq!(lines.next().unwrap().split_whitespace().collect::<Vec<_>>(), ["w1", "blue"]);
    assert!(served.kubectl(&["get", "wd", "w1", "-o", "yaml"]).await.contains("colour: blue"));
    assert!(!served.kubectl(&["get", "wd", "-l", "a=b"]).await.contains("w1"), "apply removed the label");

    let conflict = served.file(
        "ssa.yaml",
        "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: w1}\nspec: {colour: green}\n",
    );
    let (ok, text) =
        served.try_kubectl(&["apply", "--server-side", "--field-manager=other", "-f", &conflict]).await;
    assert!(
        !ok && text.contains("conflict with \"kubectl-client-side-apply\"") && text.contains(".spec.colour"),
        "{text}"
    );
    served
        .kubectl(&["apply", "--server-side", "--force-conflicts", "--field-manager=other", "-f", &conflict])
        .await;

    let (ok, text) = served.try_kubectl(&["patch", "wd", "w1", "-p", "{\"spec\":{\"size\":3}}"]).await;
    assert!(!ok && text.contains("UnsupportedMediaType") || text.contains("strategic"), "{text}");
    served.kubectl(&["patch", "wd", "w1", "--type=merge", "-p", "{\"spec\":{\"size\":3}}"]).await;
    served
        .kubectl(&[
            "patch",
            "wd",
            "w1",
            "--type=json",
            "-p",
            "[{\"op\":\"replace\",\"path\":\"/spec/size\",\"value\":4}]",
        ])
        .await;
    served
        .kubectl(&[
            "patch",
            "wd",
            "w1",
            "--subresource=status",
            "--type=merge",
            "-p",
            "{\"status\":{\"state\":\"fine\"}}",
        ])
        .await;
    assert_eq!(
        served.kubectl(&["get", "wd", "w1", "-o", "jsonpath={.spec.size} {.status.state}"]).await,
        "4 fine"
    );
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_finds_and_explains() {
    if !kubectl_is_there() {
        return;
    }
    let served = serve().await;
    let manifest = served.file(
        "widget.yaml",
        "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: w1}\nspec: {colour: blue}\n",
    );
    served.kubectl(&["apply", "-f", &manifest]).await;
    let patch = "{\"spec\":{\"colour\":\"green\"}}";
    served.kubectl(&["patch", "wd", "w1", "--type=merge", "-p", patch]).await;
    let status = "{\"status\":{\"state\":\"fine\"}}";
    served.kubectl(&["patch", "wd", "w1", "--subresource=status", "--type=merge", "-p", status]).await;
    served.kubectl(&["label", "wd", "w1", "role=x"]).await;
    served.kubectl(&["annotate", "wd", "w1", "note=y"]).await;
    assert!(
        served
            .kubectl(&["get", "wd", "-l", "role in (x)", "--field-selector", "spec.colour=green"])
            .await
            .contains("w1")
    );
    served.kubectl(&["wait", "wd/w1", "--for=jsonpath={.status.state}=fine", "--timeout=10s"]).await;
    let described = served.kubectl(&["describe", "wd", "w1"]).await;
    assert!(described.contains("Colour:") && described.contains("Events:"), "{described}");
    assert!(served.kubectl(&["explain", "widget.spec"]).await.contains("colour"));
    let resources = served.kubectl(&["api-resources"]).await;
    assert!(resources.contains("widgets") && resources.contains("customresourcedefinitions"), "{resources}");
    assert!(served.kubectl(&["get", "all"]).await.contains("w1"), "the category is expanded");
    let (ok, text) = served.try_kubectl(&["diff", "-f", &manifest]).await;
    assert!(!ok && text.contains("-  colour: green") && text.contains("+  colour: blue"), "{text}");
    assert!(served.kubectl(&["delete", "wd", "w1"]).await.contains("deleted"));
    let (ok, text) = served.try_kubectl(&["get", "wd", "w1"]).await;
    assert!(
        !ok && text.contains("Error from server (NotFound): widgets.example.org \"w1\" not found"),
        "{text}"
    );
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_and_the_built_in_kinds() {
    if !kubectl_is_there() {
        return;
    }
    let served = serve().await;
    served.kubectl(&["create", "namespace", "n1"]).await;
    served.kubectl(&["create", "secret", "generic", "s", "-n", "n1", "--from-literal=a=b"]).await;
    served.kubectl(&["create", "configmap", "c", "-n", "n1", "--from-literal=a=b"]).await;
    let manifest = served.file(
        "c.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: d, namespace: n1}\ndata: {a: '1', b: '2'}\n",
    );
    served.kubectl(&["apply", "-f", &manifest]).await;
    served.file(
        "c.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: d, namespace: n1}\ndata: {b: '3'}\n",
    );
    served.kubectl(&["apply", "-f", &manifest]).await;
    assert_eq!(
        served.kubectl(&["get", "cm", "d", "-n", "n1", "-o", "jsonpath={.data}"]).await,
        "{\"b\":\"3\"}"
    );
    served.kubectl(&["patch", "cm", "d", "-n", "n1", "-p", "{\"data\":{\"z\":\"4\"}}"]).await;
    let typo = served.file(
        "typo.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: e, namespace: n1}\ndatum: {x: '1'}\n",
    );
    let (ok, text) = served.try_kubectl(&["apply", "-f", &typo]).await;
    assert!(!ok && text.contains("unknown field \"datum\""), "{text}");
    assert!(served.kubectl(&["get", "ns"]).await.contains("n1"));
    for index in 0..5 {
        served.kubectl(&["create", "configmap", &format!("many{index}"), "-n", "n1"]).await;
    }
    let chunked = served.kubectl(&["get", "cm", "-n", "n1", "--chunk-size=2", "-o", "name"]).await;
    assert_eq!(chunked.lines().count(), 7, "{chunked}");
    served.kubectl(&["delete", "namespace", "n1", "--timeout=20s"]).await;
    assert!(!served.kubectl(&["get", "cm", "-A"]).await.contains("n1"));
    let crd = served.file(
        "crd.yaml",
        include_str!("common/widget.yaml")
            .replace("widgets", "gadgets")
            .replace("Widget", "Gadget")
            .replace("shortNames: [wd], ", "")
            .replace(
                "metadata:",
                "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:",
            )
            .as_str(),
    );
    served.kubectl(&["apply", "-f", &crd]).await;
    served
        .kubectl(&["wait", "--for=condition=established", "crd/gadgets.example.org", "--timeout=10s"])
        .await;
    let gadget = served.file(
        "g.yaml",
        "apiVersion: example.org/v1\nkind: Gadget\nmetadata: {generateName: g-}\nspec: {size: 0}\n",
    );
    let (ok, text) = served.try_kubectl(&["create", "-f", &gadget]).await;
    assert!(!ok && text.contains("spec.size: Invalid value: 0"), "{text}");
    served.kubectl(&["delete", "crd", "gadgets.example.org", "--timeout=20s"]).await;
    served.stop().await;
}

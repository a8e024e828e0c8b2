// SPDX-License-Identifier: Apache-2.0

//! What the integration tests share: a server in a temporary directory and a custom resource to store in it.

#![allow(dead_code, reason = "every test program uses a part of this")]
#![allow(clippy::expect_used, reason = "a test that cannot be set up fails")]

use std::future::Future;
use std::time::Duration;

use apiserver::{Options, Server};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

/// A server whose files go when it is dropped.
pub struct Fixture {
    pub server: Server,
    pub directory: tempfile::TempDir,
}

pub async fn start() -> Fixture {
    start_with(|_| {}).await
}

pub async fn start_with(change: impl FnOnce(&mut Options)) -> Fixture {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut options = Options::new(directory.path().join("api.redb"));
    options.namespaces.push("tinkerbell".into());
    change(&mut options);
    let server = Server::open(options).await.expect("server opens");
    server.install_crds(&[widget_crd()]).await.expect("CRD installs");
    Fixture { server, directory }
}

impl Fixture {
    pub fn client(&self) -> Client {
        self.server.client("default")
    }

    /// Sends a raw request; the status code, the headers and the JSON body.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        self.send_with(method, path, &[("content-type", content_type)], body).await
    }

    pub async fn send_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        use http_body_util::BodyExt as _;
        use tower::ServiceExt as _;
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request =
            request.body(http_body_util::Full::new(bytes::Bytes::from(body.into()))).expect("request");
        let answer = self.server.service().oneshot(request).await.expect("the service never fails");
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await.expect("body").to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { code: parts.status.as_u16(), headers: parts.headers, json, text }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "application/json", "").await
    }
}

pub struct Answer {
    pub code: u16,
    pub headers: http::HeaderMap,
    pub json: Value,
    pub text: String,
}

/// Path of the widgets in `default`.
pub const WIDGETS: &str = "/apis/example.org/v1/namespaces/default/widgets";

pub fn widget_crd() -> CustomResourceDefinition {
    serde_saphyr::from_str(include_str!("widget.yaml")).expect("widget CRD")
}

pub fn widget_resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("example.org", "v1", "Widget"), "widgets")
}

pub fn widgets(client: Client) -> Api<DynamicObject> {
    Api::namespaced_with(client, "default", &widget_resource())
}

pub fn widget(name: &str, spec: Value) -> DynamicObject {
    serde_json::from_value(widget_json(name, spec)).expect("widget")
}

pub fn widget_json(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

/// Waits until `check` gives something, at most 20 seconds.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut check: impl FnMut() -> F) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "timed out waiting until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

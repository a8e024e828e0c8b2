// SPDX-License-Identifier: Apache-2.0
//! Whole requests to the API server. The first line is `<digit><path and query>`, the digit choosing method and media
//! type; the rest is the body. Writes are dry runs, so that every input meets the same state.

#![no_main]

use std::cell::OnceCell;
use std::time::Duration;

use apiserver::{Options, Server};
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

/// Method and media type by the input's first character.
const SHAPES: [(&str, &str); 8] = [
    ("GET", "application/json"),
    ("POST", "application/json"),
    ("POST", "application/yaml"),
    ("POST", "application/vnd.kubernetes.protobuf"),
    ("PATCH", "application/merge-patch+json"),
    ("PATCH", "application/json-patch+json"),
    ("PATCH", "application/apply-patch+yaml"),
    ("PUT", "application/json"),
];

/// Longest time that one request may take, watches aside.
const PATIENCE: Duration = Duration::from_secs(5);

struct Fixture {
    server: Server,
    runtime: Runtime,
    _directory: tempfile::TempDir,
}

thread_local! {
    static FIXTURE: OnceCell<Fixture> = const { OnceCell::new() };
}

fuzz_target!(|input: &[u8]| {
    let Some((line, body)) = split(input) else { return };
    FIXTURE.with(|cell| {
        let fixture = cell.get_or_init(start);
        fixture.runtime.block_on(ask(&fixture.server, line, body));
    });
});

fn split(input: &[u8]) -> Option<(&str, &[u8])> {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let line = fuzz::text(&input[..end])?;
    Some((line, input.get(end + 1..).unwrap_or_default()))
}

fn start() -> Fixture {
    let directory = tempfile::tempdir().expect("temporary directory");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let server = runtime.block_on(async {
        let server = Server::open(Options::new(directory.path().join("api.redb"))).await.expect("server opens");
        server.install_crds(&api::crds()).await.expect("CRDs install");
        let hardware = br#"{"apiVersion":"tinkerbell.org/v1alpha1","kind":"Hardware","metadata":{"name":"m1","labels":{"a":"b"}},"spec":{}}"#;
        let path = "/apis/tinkerbell.org/v1alpha1/namespaces/default/hardware";
        let (status, _) = send(&server, SHAPES[1], path.parse().expect("path"), hardware).await;
        assert_eq!(status, StatusCode::CREATED);
        server
    });
    Fixture { server, runtime, _directory: directory }
}

async fn ask(server: &Server, line: &str, body: &[u8]) {
    let mut line = line.chars();
    let Some(shape) = line.next().and_then(|c| c.to_digit(8)) else { return };
    let shape = SHAPES[shape as usize];
    let mut path = line.as_str().to_owned();
    if shape.0 != "GET" {
        path.push_str(if path.contains('?') { "&dryRun=All" } else { "?dryRun=All" });
    }
    // A fragment would hide the dry run. A watch never ends by itself, and is of no interest here.
    if path.contains('#') {
        return;
    }
    let Ok(uri) = path.parse::<Uri>() else { return };
    if uri.query().is_some_and(|query| query.contains("watch")) {
        return;
    }
    let (status, said) =
        tokio::time::timeout(PATIENCE, send(server, shape, uri, body)).await.expect("an answer in time");
    // kube-apiserver has that status, without a reason, for an apply of a field that nobody declares, and so have we.
    let internal = serde_json::from_slice(&said).is_ok_and(|said: Value| said["reason"] == "InternalError");
    assert!(status != StatusCode::INTERNAL_SERVER_ERROR || !internal, "{} {path}", shape.0);
}

async fn send(
    server: &Server,
    (method, media_type): (&str, &str),
    uri: Uri,
    body: &[u8],
) -> (StatusCode, Bytes) {
    let request = Request::builder().method(method).uri(uri).header("content-type", media_type);
    let request = request.body(Full::new(Bytes::copy_from_slice(body))).expect("request");
    let answer = server.service().oneshot(request).await.expect("the service never fails");
    let (parts, body) = answer.into_parts();
    let bytes = body.collect().await.expect("answer in full").to_bytes();
    assert!(!bytes.is_empty() || parts.status == StatusCode::OK);
    (parts.status, bytes)
}

// SPDX-License-Identifier: Apache-2.0
//! Whole requests to the HTTP server of boots. The first line is `<digit><path and query>`, the digit choosing method and client;
//! the other lines are headers. Beside the folders that are served lies what nobody may get.

#![no_main]

use std::cell::OnceCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use api::token::TokenKey;
use api::v1alpha1::{Hardware, Workflow};
use boots::decoders::Web;
use boots::{Config, SETTINGS};
use daemon::config::{Inputs, Settings};
use daemon::http::Peer;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use kube::client::Body;
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

const MAC: &str = "52:54:00:00:00:11";
const MACHINE: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 11);
const STRANGER: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 99);
/// May say for whom it asks.
const PROXY: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 2);
/// Method and client by the input's first character.
static SHAPES: [(Method, Ipv4Addr); 6] = [
    (Method::GET, MACHINE),
    (Method::GET, STRANGER),
    (Method::GET, PROXY),
    (Method::HEAD, MACHINE),
    (Method::POST, MACHINE),
    (Method::OPTIONS, STRANGER),
];
/// What is in no folder that is served.
const HIDDEN: &str = "beside-what-is-served";
/// Longest time that one request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// No answer has more bytes: the largest file has 4 KiB, and sixteen ranges of it may be asked for at once.
const MOST: usize = 80 << 10;

struct Fixture {
    web: Web,
    runtime: Runtime,
    _directory: tempfile::TempDir,
}

thread_local! {
    static FIXTURE: OnceCell<Fixture> = const { OnceCell::new() };
}

fuzz_target!(|input: &[u8]| {
    let mut lines = input.split(|byte| *byte == b'\n');
    let Some((digit, path)) = lines.next().and_then(fuzz::text).and_then(|line| line.split_at_checked(1))
    else {
        return;
    };
    let Some((method, client)) = digit.parse().ok().and_then(|shape: usize| SHAPES.get(shape)) else {
        return;
    };
    let mut request = Request::builder().method(method).uri(path);
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { return };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) else {
            return;
        };
        request = request.header(name, value);
    }
    let Ok(request) = request.extension(Peer(SocketAddr::from((*client, 4000)))).body(Empty::new()) else {
        return;
    };
    FIXTURE.with(|cell| {
        let fixture = cell.get_or_init(start);
        fixture.runtime.block_on(ask(&fixture.web, request, *client));
    });
});

async fn ask(web: &Web, request: Request<Empty<bytes::Bytes>>, client: Ipv4Addr) {
    let (method, path) = (request.method().clone(), request.uri().path().to_ascii_lowercase());
    let answer = async {
        let answer =
            web.router().oneshot(request.map(axum::body::Body::new)).await.expect("the router never fails");
        let (parts, body) = answer.into_parts();
        (parts, body.collect().await.expect("an answer in full").to_bytes())
    };
    let (parts, body) = tokio::time::timeout(PATIENCE, answer).await.expect("an answer in time");
    assert_ne!(parts.status, StatusCode::INTERNAL_SERVER_ERROR, "{method} {path}");
    assert!(body.len() <= MOST, "{} bytes for {path}", body.len());
    if parts.status.is_success() && method == Method::GET {
        let length =
            parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        assert_eq!(length, Some(body.len()), "{path}");
    }
    let text = String::from_utf8_lossy(&body);
    assert!(!text.contains(HIDDEN), "{path}");
    // A token is for whoever names the machine or is it. A proxy may be the machine's.
    if text.contains("tink_agent_token=") {
        let compact: String = path.chars().filter(char::is_ascii_alphanumeric).collect();
        let named = compact.contains("525400000011") || path.contains('%');
        assert!(named || client == MACHINE || client == PROXY, "{path}");
    }
}

fn start() -> Fixture {
    daemon::install_crypto();
    let directory = tempfile::tempdir().expect("temporary directory");
    let config = config(directory.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let web = runtime.block_on(async {
        let nobody = tower::service_fn(|_: Request<Body>| async {
            Err::<http::Response<Body>, _>(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
        });
        let client = kube::Client::new(nobody, "default");
        Web::new(&config, client, TokenKey::new([7; 32]), (&[machine()], &[workflow()]))
            .expect("boots starts")
    });
    Fixture { web, runtime, _directory: directory }
}

/// Folders with a file each, and what is beside them and behind their links.
fn config(directory: &Path) -> Config {
    let at = |name: &str| directory.join(name);
    std::fs::write(at("secret"), HIDDEN).expect("file");
    for (folder, names) in [
        ("programs", &["undionly.kpxe", "ipxe.efi", "snp-arm64.efi"][..]),
        ("hook", &["vmlinuz-x86_64", "initramfs-x86_64"]),
        ("images", &["debian.raw.zst"]),
        ("assets", &["start4.elf"]),
    ] {
        std::fs::create_dir_all(at(folder).join("below")).expect("folder");
        for name in names {
            std::fs::write(at(folder).join(name), [b'x'; 4096]).expect("file");
        }
        std::os::unix::fs::symlink("../../secret", at(folder).join("below/link")).expect("link");
    }
    std::fs::write(at("hook.iso"), [boots::decoders::MARKER.as_bytes(), &[b'.'; 512]].concat())
        .expect("file");
    let flags = [
        ("boot-program-dir", "programs"),
        ("hook-dir", "hook"),
        ("images-dir", "images"),
        ("tftp-asset-dir", "assets"),
        ("state-dir", "state"),
        ("iso-file", "hook.iso"),
    ];
    let mut flags: Vec<String> =
        flags.iter().map(|(flag, name)| format!("--{flag}={}", at(name).display())).collect();
    flags.extend(
        ["--public-ipv4=172.31.0.1", "--iso-enabled", "--pxe-http-enabled", "--http-rate=0"]
            .map(str::to_owned),
    );
    flags.push(format!("--trusted-proxies={PROXY}/32"));
    let mut settings = Settings::load("boots", SETTINGS, Inputs::gather(flags, []));
    let config = Config::from_settings(&mut settings);
    settings.finish().expect("a sound configuration");
    config
}

fn machine() -> Hardware {
    let machine = json!({
        "apiVersion": "tinkerbell.org/v1alpha1",
        "kind": "Hardware",
        "metadata": {"name": "m1", "namespace": "default", "uid": "1"},
        "spec": {"interfaces": [{
            "dhcp": {"mac": MAC, "ip": {"address": MACHINE, "netmask": "255.255.255.0"}},
            "netboot": {"allowPXE": true, "allowWorkflow": true},
        }]},
    });
    serde_json::from_value(machine).expect("a machine")
}

fn workflow() -> Workflow {
    let workflow = json!({
        "apiVersion": "tinkerbell.org/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": "w1", "namespace": "default", "uid": "2"},
        "spec": {"hardwareRef": "m1", "templateRef": "t1"},
    });
    serde_json::from_value(workflow).expect("a workflow")
}

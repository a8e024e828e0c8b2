// SPDX-License-Identifier: Apache-2.0
//! The HTTP server: scripts and boot programs under `/ipxe`, GRUB's configuration under `/grub`, kernel and initramfs under `/hook`, images under `/images`,
//! ISO images under `/iso`, logs of machines under `/logs`, the packets of their last boots under `/pcap`; where it is wanted, what
//! TFTP has for machines that boot without iPXE under a prefix of its own.
//!
//! The machine behind a request is the MAC in its path, else the client's address, by reservation or by the script that was
//! fetched from there. Every request is counted and, but for
//! images, logged. Nothing a client sends is opened as a path.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use api::events::Reason;
use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Extension, Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use daemon::http::{Local, Peer, TrustedProxies};
use http::{HeaderMap, Method, StatusCode, header};

use crate::assets::{Asset, Assets, pxelinux_mac};
use crate::backend::Found;
use crate::boot::{Protocol, refuses};
use crate::capture::Packet;
use crate::capture::http::{RequestHead, answer_head};
use crate::files::{Directory, Program, Programs};
use crate::grub::GRUB_CFG;
use crate::iso::Isos;
use crate::journal::{self, Via};
use crate::limit::Limits;
use crate::script::file_names;
use crate::scripts::{NoScript, SCRIPT, SCRIPT6, Scripts};
use crate::tftp::AUTOEXEC;

mod content;
mod logs;
mod pcap;
pub mod range;

use content::{Delivered, Source};
pub(crate) use logs::Logs;
pub(crate) use pcap::Pcap;

/// First elements of the paths of all routes here, which no other may have.
pub(crate) const OWN_PATHS: [&str; 7] = ["ipxe", "grub", "hook", "images", "iso", "logs", "pcap"];

/// What handlers need.
pub(crate) struct Server {
    pub(crate) scripts: Scripts,
    pub(crate) programs: Programs,
    pub(crate) hook: Option<Directory>,
    pub(crate) images: Option<Directory>,
    /// Files for machines without iPXE, and the prefix of their paths.
    pub(crate) assets: Option<(Assets, String)>,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) logs: Option<Logs>,
    pub(crate) pcap: Option<Pcap>,
    pub(crate) isos: Option<Isos>,
    pub(crate) serves: Serves,
    /// How many requests a client may send.
    pub(crate) limits: Limits,
}

/// What can be switched off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Serves {
    pub(crate) programs: bool,
    pub(crate) scripts: bool,
}

type Shared = State<Arc<Server>>;

/// Whose boot a request was of, as an extension of the answer: its head is among the packets of that boot then.
#[derive(Debug, Clone)]
struct Booting(Found);

/// The address of the machine that asks, after trusted proxies.
#[derive(Debug, Clone, Copy)]
struct Client(IpAddr);

impl Client {
    /// The address that a machine may be known by.
    fn address(self) -> IpAddr {
        self.0.to_canonical()
    }
}

/// All routes.
pub(crate) fn router(server: Server) -> Router {
    let logs = server
        .logs
        .clone()
        .map(|logs| Router::new().route("/logs/{namespace}/{machine}", get(logs::logs)).with_state(logs));
    let pcap = server
        .pcap
        .clone()
        .map(|pcap| Router::new().route("/pcap/{namespace}/{machine}", get(pcap::pcap)).with_state(pcap));
    let mut programs = Router::new();
    if server.serves.programs {
        programs = programs.route("/ipxe/binary/{*path}", get(binary));
    }
    let mut scripts = Router::new();
    if server.serves.scripts {
        scripts = scripts
            .route("/ipxe/script/{*path}", any(script))
            .route("/grub/{*path}", get(grub_configuration));
    }
    let mut assets = Router::new();
    if let Some((_, prefix)) = &server.assets {
        assets = assets.route(&format!("{prefix}{{*path}}"), get(asset));
    }
    let isos = server.isos.clone().map(|isos| Router::new().route("/iso/{*path}", get(iso)).with_state(isos));
    let server = Arc::new(server);
    Router::new()
        .merge(programs)
        .merge(scripts)
        .merge(assets)
        .route("/hook/{name}", get(hook))
        .route("/images/{name}", get(image))
        .merge(isos.unwrap_or_default())
        .merge(logs.unwrap_or_default())
        .merge(pcap.unwrap_or_default())
        .layer(middleware::from_fn_with_state(Arc::clone(&server), observe))
        .with_state(server)
}

/// Finds the client's address, counts and logs.
async fn observe(State(server): Shared, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    let peer = peer.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    // A proxy that forwards nonsense speaks for itself only.
    let client = server.trusted_proxies.client(peer.ip(), request.headers());
    let client = client.unwrap_or(peer.ip().to_canonical());
    request.extensions_mut().insert(Client(client));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    if !server.limits.allow(client, journal::now()) {
        server.scripts.journal.metrics().request(&method, StatusCode::TOO_MANY_REQUESTS);
        return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response();
    }
    let (head, came) = (RequestHead::of(&request), SystemTime::now());
    let local = request.extensions().get::<Local>().map(|local| local.0);
    let response = next.run(request).await;
    if let Some(Booting(found)) = response.extensions().get() {
        // Whoever was asked is asked back.
        let ends = (peer, local.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))));
        capture(&server, found, (&head, came), &response, ends);
    }
    let status = response.status();
    server.scripts.journal.metrics().request(&method, status);
    tracing::debug!(%client, %method, path, status = status.as_u16(), "HTTP request");
    response
}

/// Keeps the heads of a request and its answer.
fn capture(
    server: &Server,
    found: &Found,
    (request, came): (&RequestHead, SystemTime),
    response: &Response,
    (peer, local): (SocketAddr, SocketAddr),
) {
    let journal = &server.scripts.journal;
    journal.boot_packet(found, || {
        Packet::received((peer, local), request.text().as_bytes()).at(came).over_tcp()
    });
    journal.packet(found, || {
        let head = answer_head(request.version, response.status(), response.headers());
        // A stream's length is in the head only.
        let said = response
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse().ok());
        let body = said.or_else(|| response.body().size_hint().exact());
        let body =
            body.filter(|_| request.method != Method::HEAD && response.status() != StatusCode::NOT_MODIFIED);
        let length = head.len() as u64 + body.unwrap_or(0);
        Packet::sent((local, peer), head.as_bytes()).of_length(length).over_tcp()
    });
}

/// An answer to a machine that boots, if it is known which one that is.
fn to_booting(found: Option<Found>, mut response: Response) -> Response {
    if let Some(found) = found {
        response.extensions_mut().insert(Booting(found));
    }
    response
}

async fn script(
    State(server): Shared,
    Extension(client): Extension<Client>,
    method: Method,
    Path(path): Path<String>,
) -> Response {
    if !matches!(path.rsplit('/').next(), Some(SCRIPT | SCRIPT6)) {
        return StatusCode::NOT_FOUND.into_response();
    }
    send_script(&server, client, &method, &path)
}

fn send_script(server: &Server, client: Client, method: &Method, path: &str) -> Response {
    let script = server.scripts.get(path, Some(client.address()));
    if let Ok((Some(found), _)) = &script
        && method != Method::HEAD
    {
        server.scripts.journal.script(found, Via::Http, Some(client.address()));
    }
    match script {
        Ok((found, script)) => to_booting(found, text(Ok(script))),
        Err(error) => text(Err(error)),
    }
}

/// What a GRUB asks for that firmware loaded over HTTP: its folder is fixed in it, its server is the one that it came from.
async fn grub_configuration(
    State(server): Shared,
    Extension(client): Extension<Client>,
    method: Method,
    Path(path): Path<String>,
) -> Response {
    if path.rsplit('/').next() != Some(GRUB_CFG) {
        return StatusCode::NOT_FOUND.into_response();
    }
    match server.scripts.grub(&path, Some(client.address())) {
        Ok((found, configuration)) => {
            if let Some(found) = found.as_ref().filter(|_| method != Method::HEAD) {
                server.scripts.journal.script(found, Via::Http, Some(client.address()));
            }
            to_booting(found, text(Ok(configuration)))
        }
        Err(error) => text(Err(error)),
    }
}

fn text(script: Result<String, NoScript>) -> Response {
    match script {
        Ok(script) => ([(header::CONTENT_TYPE, "text/plain"), (header::CACHE_CONTROL, "no-store")], script)
            .into_response(),
        Err(NoScript::Unknown) => StatusCode::NOT_FOUND.into_response(),
        Err(NoScript::BadUrl) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn binary(
    State(server): Shared,
    Extension(client): Extension<Client>,
    method: Method,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Response {
    let found = server.scripts.machine(&path, Some(client.address())).ok();
    if path.rsplit('/').next() == Some(AUTOEXEC) {
        return to_booting(found, text(server.scripts.autoexec(&path, Some(client.address()))));
    }
    let refused = found.as_ref().is_some_and(|found| refuses(found.nic(), Protocol::Program));
    let Some((name, Program { bytes, etag })) = server.programs.find(&path).filter(|_| !refused) else {
        return to_booting(found, StatusCode::NOT_FOUND.into_response());
    };
    let (name, bytes, etag) = (name.to_owned(), bytes.clone(), etag.clone());
    let journal = server.scripts.journal.clone();
    let whose = found.clone();
    let delivered: Delivered = Box::new(move |bytes| {
        if let Some(found) = &found {
            journal.program(found, Via::Http, &name, bytes);
        }
    });
    to_booting(whose, content::respond(&method, &headers, Source::memory(bytes, etag), delivered))
}

async fn hook(
    State(server): Shared,
    Extension(client): Extension<Client>,
    method: Method,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let found = server.scripts.sender(client.address());
    let Some(source) = open(server.hook.as_ref(), &name).await else {
        return to_booting(found, StatusCode::NOT_FOUND.into_response());
    };
    let (journal, began) = (server.scripts.journal.clone(), Instant::now());
    let what = found.as_ref().and_then(|found| {
        let (kernel, initrd) = file_names(found.nic(), &server.scripts.v4.config);
        match () {
            () if name == kernel => Some(Reason::KernelSent),
            () if name == initrd => Some(Reason::InitramfsSent),
            () => None,
        }
    });
    let whose = found.clone();
    let delivered: Delivered = Box::new(move |bytes| {
        if let (Some(found), Some(reason)) = (&found, what) {
            journal.kernel(found, reason, &name, bytes, began.elapsed());
        }
    });
    to_booting(whose, content::respond(&method, &headers, source, delivered))
}

async fn image(
    State(server): Shared,
    method: Method,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    match open(server.images.as_ref(), &name).await {
        Some(source) => content::respond(&method, &headers, source, Box::new(|_| {})),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn asset(
    State(server): Shared,
    Extension(client): Extension<Client>,
    method: Method,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Response {
    let Some((assets, _)) = &server.assets else { return StatusCode::NOT_FOUND.into_response() };
    let named = pxelinux_mac(&path).and_then(|mac| server.scripts.backend.read().by_mac(mac).ok());
    let found = named.or_else(|| server.scripts.sender(client.address()));
    let source = match assets.find_common(&path).await {
        Some(Asset::Text(text)) => {
            let Program { bytes, etag } = text.into();
            Source::memory(bytes, etag)
        }
        Some(Asset::File(file, metadata)) => Source::file(file, &metadata),
        None => return to_booting(found, StatusCode::NOT_FOUND.into_response()),
    };
    to_booting(found, content::respond(&method, &headers, source, Box::new(|_| {})))
}

async fn iso(
    State(isos): State<Isos>,
    method: Method,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Response {
    match isos.open(&path).await {
        Ok(iso) => content::respond(&method, &headers, Source::iso(iso), Box::new(|_| {})),
        Err(error) => {
            let status = error.status();
            tracing::info!(path, status = status.as_u16(), error = daemon::chain(&error), "no ISO image");
            (status, format!("{error}\n")).into_response()
        }
    }
}

async fn open(directory: Option<&Directory>, name: &str) -> Option<Source> {
    match directory?.open(name).await {
        Ok((file, metadata)) => Some(Source::file(file.into_std().await, &metadata)),
        Err(error) => {
            tracing::debug!(name, %error, "no such file");
            None
        }
    }
}

/// An empty body.
fn empty() -> Body {
    Body::empty()
}

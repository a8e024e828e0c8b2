// SPDX-License-Identifier: Apache-2.0
//! The HTTP server: scripts and boot programs under `/ipxe`, kernel and initramfs under `/hook`, images under `/images`,
//! ISO images under `/iso`, logs of machines under `/logs`.
//!
//! The machine behind a request is the MAC in its path, else the client's address, by reservation or by the script that was
//! fetched from there. Every request is counted and, but for
//! images, logged. Nothing a client sends is opened as a path.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use api::events::Reason;
use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use daemon::http::{Peer, TrustedProxies};
use http::{HeaderMap, Method, StatusCode, header};

use crate::files::{Directory, Program, Programs};
use crate::iso::Isos;
use crate::journal::{self, Via};
use crate::limit::{Buckets, Rate};
use crate::script::file_names;
use crate::scripts::{NoScript, SCRIPT, SCRIPT6, Scripts};
use crate::tftp::AUTOEXEC;

mod content;
mod logs;
pub mod range;

use content::{Delivered, Source};
pub(crate) use logs::Logs;

/// What handlers need.
pub(crate) struct Server {
    pub(crate) scripts: Scripts,
    pub(crate) programs: Programs,
    pub(crate) hook: Option<Directory>,
    pub(crate) images: Option<Directory>,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) logs: Option<Logs>,
    pub(crate) isos: Option<Isos>,
    pub(crate) serves: Serves,
    /// How many requests a client may send.
    pub(crate) limits: Option<Mutex<Buckets>>,
}

/// What can be switched off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Serves {
    pub(crate) programs: bool,
    pub(crate) scripts: bool,
}

type Shared = State<Arc<Server>>;

/// The address of the machine that asks, after trusted proxies.
#[derive(Debug, Clone, Copy)]
struct Client(IpAddr);

impl Client {
    /// The address that a machine may be known by.
    fn address(self) -> IpAddr {
        self.0.to_canonical()
    }
}

impl Server {
    fn allows(&self, client: IpAddr) -> bool {
        // Every change is one bucket, so that a panic elsewhere leaves the table whole.
        let limits = self.limits.as_ref().map(|limits| limits.lock().unwrap_or_else(PoisonError::into_inner));
        limits.is_none_or(|mut limits| limits.allow(client, journal::now()))
    }
}

/// How much a client may ask: so many requests per second, four times as many at once.
pub(crate) fn limits(per_second: u16) -> Mutex<Buckets> {
    Mutex::new(Buckets::new(Rate { burst: per_second.saturating_mul(4), per_second }))
}

/// All routes.
pub(crate) fn router(server: Server) -> Router {
    let logs = server
        .logs
        .clone()
        .map(|logs| Router::new().route("/logs/{namespace}/{machine}", get(logs::logs)).with_state(logs));
    let mut programs = Router::new();
    if server.serves.programs {
        programs = programs.route("/ipxe/binary/{*path}", get(binary));
    }
    let mut scripts = Router::new();
    if server.serves.scripts {
        scripts = scripts.route("/ipxe/script/{*path}", any(script));
    }
    let isos = server.isos.clone().map(|isos| Router::new().route("/iso/{*path}", get(iso)).with_state(isos));
    let server = Arc::new(server);
    Router::new()
        .merge(programs)
        .merge(scripts)
        .route("/hook/{name}", get(hook))
        .route("/images/{name}", get(image))
        .merge(isos.unwrap_or_default())
        .merge(logs.unwrap_or_default())
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
    if !server.allows(client) {
        server.scripts.journal.metrics().request(&method, StatusCode::TOO_MANY_REQUESTS);
        return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response();
    }
    let response = next.run(request).await;
    let status = response.status();
    server.scripts.journal.metrics().request(&method, status);
    tracing::debug!(%client, %method, path, status = status.as_u16(), "HTTP request");
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
    text(script.map(|(_, script)| script))
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
    if path.rsplit('/').next() == Some(AUTOEXEC) {
        return text(server.scripts.autoexec(&path, Some(client.address())));
    }
    let Some((name, Program { bytes, etag })) = server.programs.find(&path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let (name, bytes, etag) = (name.to_owned(), bytes.clone(), etag.clone());
    let journal = server.scripts.journal.clone();
    let found = server.scripts.machine(&path, Some(client.address())).ok();
    let delivered: Delivered = Box::new(move |bytes| {
        if let Some(found) = &found {
            journal.program(found, Via::Http, &name, bytes);
        }
    });
    content::respond(&method, &headers, Source::memory(bytes, etag), delivered)
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
        return StatusCode::NOT_FOUND.into_response();
    };
    let (journal, began) = (server.scripts.journal.clone(), Instant::now());
    let what = found.as_ref().and_then(|found| {
        let (kernel, initrd) = file_names(found.nic(), &server.scripts.config);
        match () {
            () if name == kernel => Some(Reason::KernelSent),
            () if name == initrd => Some(Reason::InitramfsSent),
            () => None,
        }
    });
    let delivered: Delivered = Box::new(move |bytes| {
        if let (Some(found), Some(reason)) = (&found, what) {
            journal.kernel(found, reason, &name, bytes, began.elapsed());
        }
    });
    content::respond(&method, &headers, source, delivered)
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

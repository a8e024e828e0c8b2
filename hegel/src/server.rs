// SPDX-License-Identifier: Apache-2.0
//! The HTTP rim: who asks, for what, and the answer. No state of its own.
//!
//! Missing value: 200 with an empty body. No such machine: 404. More than one: 500. An address that makes no sense: 400. Listings
//! are the same for everybody and need no machine.

use std::net::IpAddr;
use std::sync::Arc;

use api::events::Reason;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use bytes::Bytes;
use daemon::events::Recorder;
use daemon::http::{BadAddress, Peer, TrustedProxies};

use crate::config::Config;
use crate::index::Miss;
use crate::machine::Machine;
use crate::metrics::{Metrics, Outcome};
use crate::tree::{Leaf, Node, resolve};
use crate::watch::Shared;

/// Media type of every value.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// Media type of rootio's document.
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// Prefix of the paths that name the machine themselves.
const INSTANCE_PREFIX: &str = "/tootles/instanceID/";

/// Longest client name that goes into an Event.
const MAX_AGENT: usize = 64;

struct Server {
    index: Shared,
    trusted_proxies: TrustedProxies,
    instance_endpoint: bool,
    metrics: Metrics,
    recorder: Recorder,
}

/// The service.
pub(crate) fn router(config: &Config, index: Shared, metrics: Metrics, recorder: Recorder) -> Router {
    let server = Server {
        index,
        trusted_proxies: config.trusted_proxies.clone(),
        instance_endpoint: config.instance_endpoint,
        metrics,
        recorder,
    };
    Router::new().fallback(handle).with_state(Arc::new(server))
}

async fn handle(State(server): State<Arc<Server>>, request: Request) -> Response<Body> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return empty(StatusCode::NOT_FOUND);
    }
    let answer = server.answer(request.uri().path(), &request);
    let (outcome, response) = match answer {
        Ok(response) => (Outcome::Answered, response),
        Err(outcome) => (outcome, empty(status(outcome))),
    };
    server.metrics.count(outcome);
    response
}

fn status(outcome: Outcome) -> StatusCode {
    match outcome {
        Outcome::Answered => StatusCode::OK,
        Outcome::NoSuchPath | Outcome::UnknownMachine => StatusCode::NOT_FOUND,
        Outcome::AmbiguousMachine => StatusCode::INTERNAL_SERVER_ERROR,
        Outcome::BadAddress => StatusCode::BAD_REQUEST,
    }
}

/// Who is meant by a request.
enum Who<'a> {
    /// Whoever has the address it comes from.
    Address,
    /// The machine with this instance ID.
    Instance(&'a str),
}

impl Server {
    fn answer(&self, path: &str, request: &Request) -> Result<Response<Body>, Outcome> {
        let (who, path) = self.who(path);
        if path.strip_suffix('/').unwrap_or(path) == "/metadata" {
            return Ok(respond(JSON, self.find(&who, request)?.rootio()));
        }
        match resolve(path).ok_or(Outcome::NoSuchPath)? {
            Node::Listing(listing) => Ok(respond(TEXT, Bytes::from(listing.text()))),
            Node::Leaf(leaf) => {
                let machine = self.find(&who, request)?;
                let value = machine.answer(leaf).ok_or(Outcome::NoSuchPath)?;
                if matches!(who, Who::Address) && matches!(leaf, Leaf::UserData | Leaf::InstanceId) {
                    self.record(&machine, request.headers());
                }
                Ok(respond(TEXT, value))
            }
        }
    }

    fn who<'a>(&self, path: &'a str) -> (Who<'a>, &'a str) {
        let named = path.strip_prefix(INSTANCE_PREFIX).filter(|_| self.instance_endpoint);
        match named.and_then(|rest| rest.find('/').and_then(|slash| rest.split_at_checked(slash))) {
            Some((id, rest)) => (Who::Instance(id), rest),
            None => (Who::Address, path),
        }
    }

    fn find(&self, who: &Who<'_>, request: &Request) -> Result<Arc<Machine>, Outcome> {
        let found = match who {
            Who::Instance(id) => self.index.read(|index| index.by_instance(id)),
            Who::Address => {
                let address = self.address(request).map_err(|BadAddress| Outcome::BadAddress)?;
                let found = self.index.read(|index| index.by_address(address));
                if let Err(miss) = found {
                    tracing::debug!(%address, ?miss, "metadata is refused");
                }
                found
            }
        };
        found.map_err(|miss| match miss {
            Miss::Unknown => Outcome::UnknownMachine,
            Miss::Ambiguous => Outcome::AmbiguousMachine,
        })
    }

    fn address(&self, request: &Request) -> Result<IpAddr, BadAddress> {
        let Peer(peer) = request.extensions().get::<Peer>().ok_or(BadAddress)?;
        self.trusted_proxies.client(peer.ip(), request.headers())
    }

    fn record(&self, machine: &Machine, headers: &HeaderMap) {
        let now = k8s_openapi::jiff::Timestamp::now().as_second();
        if machine.is_first_fetch(now) {
            let message = format!("metadata fetched by {}", agent(headers));
            let reason = Reason::MetadataFetched;
            self.recorder.record(
                &machine.reference(),
                reason.as_str(),
                reason.phase(),
                None,
                message,
                reason.is_warning(),
            );
        }
    }
}

/// The client's name for itself, cut and cleaned: it is the client's to choose.
fn agent(headers: &HeaderMap) -> String {
    let name =
        headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("an unnamed client");
    name.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(MAX_AGENT).collect()
}

fn respond(media_type: HeaderValue, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
pub(crate) mod tests;

// SPDX-License-Identifier: Apache-2.0

//! get, list and watch.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::Call;
use super::listing::{self, Listing};
use super::past::{self, Past};
use crate::body::{self, Answer};
use crate::inner::Inner;
use crate::json;
use crate::registry::Builtin;
use crate::request::VersionMatch;
use crate::selector::{Selectable, Selector};
use crate::status::ApiError;
use crate::store::{Key, ReadError, Snapshot, Stored};
use crate::watch::{self, Plan, Start};

/// Shortest and longest life of a watch that names no timeout, in seconds (kube-apiserver's `--min-request-timeout` and twice it).
const WATCH_SECONDS: std::ops::Range<u64> = 1800..3600;

pub(super) fn get(inner: &Inner, call: &Call<'_>) -> Result<Answer, ApiError> {
    let snapshot = inner.store.snapshot()?;
    check_reached(call, snapshot.version())?;
    let key = call.served.resource.key(call.namespace(), call.name());
    let stored = snapshot.get(&key)?.ok_or_else(|| ApiError::not_found(&call.subject()))?;
    call.show(StatusCode::OK, call.served.renewed(stored).bytes)
}

fn check_reached(call: &Call<'_>, current: u64) -> Result<(), ApiError> {
    // Kubernetes keeps no cache of Events, which alone could be behind.
    let cached = !matches!(call.served.resource.builtin(), Some(Builtin::Event | Builtin::EventsV1Event));
    match call.query.version {
        Some(wanted) if wanted > current => Err(ApiError::version_too_large(wanted, current, cached)),
        _ => Ok(()),
    }
}

/// Continue tokens, read as forgivingly as Go reads base64.
const TOKENS: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, NO_PAD.with_decode_allow_trailing_bits(true));

/// Where a chunked list goes on. Opaque to clients.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Continue {
    /// Version of the first chunk; 0 when the list goes on at the newest version.
    #[serde(rename = "rv")]
    version: u64,
    namespace: String,
    name: String,
    /// Objects that follow.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    following: Option<usize>,
}

impl Continue {
    /// A list at `version` goes on after `last`.
    pub fn after(version: u64, last: &Key, following: Option<usize>) -> Self {
        Self { version, namespace: last.namespace().into(), name: last.name().into(), following }
    }

    pub fn encode(&self) -> Result<String, ApiError> {
        let json = serde_json::to_vec(self).map_err(ApiError::internal)?;
        Ok(TOKENS.encode(json))
    }

    fn decode(token: &str) -> Result<Self, ApiError> {
        let wrong = |why: String| {
            ApiError::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
        };
        let bytes = TOKENS.decode(token);
        let bytes = bytes.map_err(|error| wrong(json::not_base64(&error)))?;
        if let Some(why) = json::problem(&bytes) {
            return Err(wrong(why));
        }
        // Kubernetes names a version in its tokens.
        let foreign = |_| wrong("server does not recognize this encoded version ".to_owned());
        serde_json::from_slice(&bytes).map_err(foreign)
    }
}

pub(super) async fn list(inner: &Arc<Inner>, call: &Call<'_>) -> Result<Answer, ApiError> {
    let query = &call.query;
    let selector = selector(call)?;
    let (State { snapshot, version, past }, (after, following)) = if query.continue_token.is_empty() {
        let snapshot = Arc::new(inner.store.snapshot()?);
        check_reached(call, snapshot.version())?;
        // A page of a version is one of just that version, where nothing else is said.
        let exact = match query.version_match {
            Some(VersionMatch::Exact) => true,
            Some(VersionMatch::NotOlderThan) => false,
            None => query.limit.is_some() && query.version != Some(0),
        };
        match query.version.filter(|wanted| exact && *wanted != snapshot.version()) {
            Some(wanted) => {
                let state = at_version(inner, call, wanted).await?.ok_or_else(|| {
                    ApiError::expired("The resourceVersion for the provided list is too old.", None)
                })?;
                (state, (None, None))
            }
            None => (State::of(snapshot), (None, None)),
        }
    } else {
        continued(inner, call).await?
    };
    let listing = Listing {
        snapshot,
        version,
        past,
        prefix: call.served.resource.prefix(call.address.namespace.as_deref()),
        after,
        selector,
        view: call.view.clone(),
        left: query.limit.unwrap_or(usize::MAX),
        following,
    };
    listing::answer(Arc::clone(inner), listing).await
}

/// Where a list goes on: after an object, with so many following it.
type Position = (Option<Key>, Option<usize>);

/// What a list shows.
struct State {
    snapshot: Arc<Snapshot>,
    version: u64,
    /// What was different at that version.
    past: Option<Arc<Past>>,
}

impl State {
    fn of(snapshot: Arc<Snapshot>) -> Self {
        Self { version: snapshot.version(), snapshot, past: None }
    }
}

/// The state of a collection at a version: the one that a list goes on from, or one that the change log still tells of.
async fn at_version(inner: &Arc<Inner>, call: &Call<'_>, version: u64) -> Result<Option<State>, ApiError> {
    if let Some(snapshot) = inner.snapshots.at(version) {
        return Ok(Some(State::of(snapshot)));
    }
    let store = Arc::clone(&inner.store);
    let prefix = call.served.resource.prefix(call.address.namespace.as_deref());
    let looked = tokio::task::spawn_blocking(move || {
        let snapshot = store.snapshot()?;
        let past = past::of(&store, &prefix, version, snapshot.version())?;
        Ok::<_, ReadError>(past.map(|past| (snapshot, past)))
    });
    let found = looked.await.map_err(ApiError::internal)??;
    Ok(found.map(|(snapshot, past)| State {
        snapshot: Arc::new(snapshot),
        version,
        past: Some(Arc::new(past)),
    }))
}

/// The state and position of a continue token.
async fn continued(inner: &Arc<Inner>, call: &Call<'_>) -> Result<(State, Position), ApiError> {
    let token = Continue::decode(&call.query.continue_token)?;
    if call.query.version.is_some_and(|version| version != 0) {
        return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
    }
    let after = call.served.resource.key(&token.namespace, &token.name);
    if token.version == 0 {
        return Ok((State::of(Arc::new(inner.store.snapshot()?)), (Some(after), None)));
    }
    match at_version(inner, call, token.version).await? {
        Some(state) => Ok((state, (Some(after), token.following))),
        None => {
            let newest = Continue { version: 0, ..token };
            let message = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";
            Err(ApiError::expired(message, Some(newest.encode()?)))
        }
    }
}

/// Refuses selectors that make no sense.
pub(super) fn check_selectors(call: &Call<'_>) -> Result<(), ApiError> {
    Selector::parse(&call.query.label_selector, &call.query.field_selector).map(drop)
}

fn selector(call: &Call<'_>) -> Result<Selector, ApiError> {
    let selector = Selector::parse(&call.query.label_selector, &call.query.field_selector)?;
    let resource = &call.served.resource;
    selector.check(&Selectable {
        fields: &call.served.version().selectable,
        builtin: resource.builtin().is_some(),
        namespaced: resource.namespaced,
    })?;
    Ok(selector)
}

/// The objects of a collection that a selector of the request picks, for deletecollection.
pub(super) fn selected(inner: &Inner, call: &Call<'_>) -> Result<Vec<Stored>, ApiError> {
    let selector = selector(call)?;
    let prefix = call.served.resource.prefix(call.address.namespace.as_deref());
    let mut found = Vec::new();
    inner.store.snapshot()?.scan(&prefix, None, |stored| {
        let value = serde_json::from_slice(&stored.bytes);
        if value.is_ok_and(|value| selector.matches(&call.served.request_form(value))) {
            found.push(call.served.renewed(stored));
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

pub(super) fn watch(
    inner: &Arc<Inner>,
    call: &Call<'_>,
    stop: &CancellationToken,
) -> Result<Answer, ApiError> {
    let query = &call.query;
    let mut selector = selector(call)?;
    if let Some(name) = &call.address.name {
        selector = selector.with_name(name);
    }
    query.check_start()?;
    let start = start(call)?;
    let seconds = query.timeout_seconds.filter(|seconds| *seconds > 0);
    let seconds = seconds.unwrap_or_else(|| rand::random_range(WATCH_SECONDS));
    let plan = Plan {
        prefix: call.served.resource.prefix(call.address.namespace.as_deref()),
        selector,
        view: call.view.clone(),
        start,
        bookmarks: query.bookmarks,
        bookmark_every: inner.options.bookmark_interval,
        timeout: Duration::from_secs(seconds),
    };
    let stream = watch::stream(Arc::clone(&inner.store), plan, stop.clone())?;
    Ok(body::stream("application/json", stream))
}

/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#semantics-for-watch> and `#streaming-lists`.
fn start(call: &Call<'_>) -> Result<Start, ApiError> {
    let query = &call.query;
    match query.send_initial_events {
        Some(sends) => match query.version {
            Some(version) if !sends && version != 0 => Ok(Start::After(version)),
            _ if sends => Ok(Start::Initial { mark_end: true }),
            _ => Ok(Start::Initial { mark_end: false }),
        },
        None => match query.version {
            None | Some(0) => Ok(Start::Initial { mark_end: false }),
            Some(version) => Ok(Start::After(version)),
        },
    }
}

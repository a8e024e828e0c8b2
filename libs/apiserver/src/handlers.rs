// SPDX-License-Identifier: Apache-2.0

//! From a typed request to an answer: dispatch, and what all verbs share.
//!
//! `read` has get, list and watch; `write` create, update and patch; `delete` the removals. Handlers hold no state: everything is in [`Inner`].

mod delete;
mod listing;
mod past;
mod read;
mod restore;
mod scale;
mod write;

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use http_body::Body;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::body::{self, Answer, BoxError};
use crate::inner::Inner;
use crate::patch::PatchType;
use crate::registry::{Builtin, Catalogue, Served};
use crate::request::{Accept, Address, Form, MAX_MANAGER_BYTES, Query, Target, Verb};
use crate::status::{ApiError, Subject};
use crate::table::IncludeObject;
use crate::view::View;
use crate::{discovery, openapi};

pub(crate) use delete::{FOREGROUND, ORPHAN, Preconditions, Propagation, remove};
pub(crate) use write::{Successor, create_object, modify};

/// Answers one request; errors become `Status` bodies. `stop` ends the watches of the listener that the request came through.
pub(crate) async fn handle<B>(inner: Arc<Inner>, stop: &CancellationToken, parts: Parts, body: B) -> Answer
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<BoxError>,
{
    match dispatch(&inner, stop, &parts, body).await {
        Ok(answer) => answer,
        Err(error) => refuse(&parts, &error),
    }
}

/// The answer to a request that fails, in the form that its client asks for.
pub(crate) fn refuse(parts: &Parts, error: &ApiError) -> Answer {
    if error.code().is_server_error() {
        tracing::warn!(path = parts.uri.path(), reason = error.reason(), body = %error.body(), "request failed");
    }
    let yaml = Accept::parse(&parts.headers).is_ok_and(|accept| accept.yaml);
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    body::error(error, body::Text::of(yaml, query.is_ok_and(|query| query.pretty)))
}

async fn dispatch<B>(
    inner: &Arc<Inner>,
    stop: &CancellationToken,
    parts: &Parts,
    body: B,
) -> Result<Answer, ApiError>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<BoxError>,
{
    if matches!(parts.uri.path(), "/" | "") {
        return Ok(discovery::root(&inner.registry.catalogue()));
    }
    let target = Target::parse(parts.uri.path()).ok_or_else(ApiError::no_such_page)?;
    let address = match target {
        Target::Resource(address) => address,
        other => {
            if parts.method != http::Method::GET && parts.method != http::Method::HEAD {
                return Err(ApiError::method_not_allowed());
            }
            return meta(inner, other, parts);
        }
    };
    let catalogue = inner.registry.catalogue();
    let query = match Query::parse(parts.uri.query().unwrap_or_default()) {
        Ok(query) => query,
        Err(error) => {
            let served = catalogue
                .find(&address.group, &address.version, &address.plural)
                .ok_or_else(|| missing(&address.group))?;
            return Ok(body::warn_first(refuse(parts, &error), served.version().deprecation.as_deref()));
        }
    };
    let call = Call::new(&catalogue, parts, &address, query)?;
    let deprecation = call.served.version().deprecation.as_deref();
    let verb = match call.verb(&parts.method) {
        Ok(verb) => verb,
        Err(error) => return Ok(body::warn_first(refuse(parts, &error), deprecation)),
    };
    let media_type = body::media_type(&parts.headers);
    let patch = if verb == Verb::Patch { write::patch_type(&call, media_type).map(Some) } else { Ok(None) };
    let checked = patch.and_then(|patch| call.query.check(verb, patch == Some(PatchType::Apply)));
    let answered = match checked {
        Ok(()) => answer(inner, stop, &call, (verb, media_type), body).await,
        Err(error) => Err(error),
    };
    let mut answered = answered.unwrap_or_else(|error| refuse(parts, &error));
    // Also of a request that is refused: what earned a warning may be why.
    body::warn(&mut answered, &call.take_warnings());
    Ok(body::warn_first(answered, deprecation))
}

/// Answers a request that is about objects.
async fn answer<B>(
    inner: &Arc<Inner>,
    stop: &CancellationToken,
    call: &Call<'_>,
    (verb, media_type): (Verb, &str),
    body: B,
) -> Result<Answer, ApiError>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<BoxError>,
{
    if !call.acceptable {
        if verb == Verb::List {
            read::check_selectors(call)?;
        }
        return Err(ApiError::not_acceptable());
    }
    match verb {
        Verb::Get | Verb::Update | Verb::Patch if call.address.subresource.as_deref() == Some("scale") => {
            let bytes = body::read(body, inner.options.max_object_bytes).await?;
            scale::handle(inner, call, verb, media_type, &bytes).await
        }
        Verb::Get => read::get(inner, call),
        Verb::List => read::list(inner, call).await,
        Verb::Watch => read::watch(inner, call, stop),
        Verb::Create | Verb::Update | Verb::Patch | Verb::Delete | Verb::DeleteCollection => {
            let bytes = body::read(body, inner.options.max_object_bytes.saturating_mul(2)).await?;
            match verb {
                Verb::Create if call.query.restore => restore::restore(inner, call, media_type, &bytes).await,
                Verb::Create => write::create(inner, call, media_type, &bytes).await,
                Verb::Update => write::update(inner, call, media_type, &bytes).await,
                Verb::Patch => write::patch(inner, call, media_type, &bytes).await,
                Verb::Delete => delete::delete(inner, call, media_type, &bytes).await,
                _ => delete::delete_collection(inner, call, media_type, &bytes).await,
            }
        }
    }
}

/// What is not about objects.
fn meta(inner: &Inner, target: Target, parts: &Parts) -> Result<Answer, ApiError> {
    let headers = &parts.headers;
    let catalogue = inner.registry.catalogue();
    match target {
        Target::Health => Ok(body::answer(StatusCode::OK, body::PLAIN, "ok")),
        Target::Version => Ok(body::json_answer(StatusCode::OK, &discovery::version())),
        Target::Groups { core } => discovery::groups(&catalogue, core, headers),
        Target::Group { group } => discovery::group(&catalogue, &group),
        Target::GroupVersion { group, version } => discovery::group_version(&catalogue, &group, &version),
        Target::OpenApi { path } => {
            openapi::document(&catalogue, &path, parts.uri.query().unwrap_or_default(), headers)
        }
        Target::Resource(_) => Err(ApiError::no_such_path()),
    }
}

/// 404 for a path of a group; the groups of custom resources are not Kubernetes' own.
fn missing(group: &str) -> ApiError {
    if Builtin::has_group(group) { ApiError::no_such_path() } else { ApiError::no_such_page() }
}

/// A request about objects, with everything looked up.
pub(crate) struct Call<'a> {
    pub served: Served,
    pub address: &'a Address,
    pub query: Query,
    pub view: View,
    /// For `managedFields` when the request names no manager.
    pub user_agent: &'a str,
    /// There is a form of answer that the client takes.
    pub acceptable: bool,
    /// What the answer warns of.
    warnings: Mutex<Vec<String>>,
}

impl<'a> Call<'a> {
    fn new(
        catalogue: &Catalogue,
        parts: &'a Parts,
        address: &'a Address,
        query: Query,
    ) -> Result<Self, ApiError> {
        let served = catalogue
            .find(&address.group, &address.version, &address.plural)
            .ok_or_else(|| missing(&address.group))?;
        let namespaced = served.resource.namespaced;
        if address.namespace.is_some() && !namespaced {
            return Err(missing(&address.group));
        }
        // Without a namespace only whole collections of namespaced resources can be read.
        if namespaced && address.namespace.is_none() {
            let reads = parts.method == http::Method::GET || parts.method == http::Method::HEAD;
            let custom = served.resource.builtin().is_none();
            if address.name.is_some() || custom && !reads {
                return Err(missing(&address.group));
            }
            if !reads {
                return Err(ApiError::method_not_allowed());
            }
        }
        let accept = Accept::parse(&parts.headers);
        if accept.is_err() && served.resource.builtin().is_some() {
            // Where each verb has a route, the router refuses.
            let lists = address.name.is_none() && parts.method == http::Method::GET;
            return Err(ApiError::no_representation(lists));
        }
        let (acceptable, accept) = (accept.is_ok(), accept.unwrap_or_default());
        let include = match query.include_object.as_deref() {
            Some("None") => IncludeObject::None,
            Some("Object") => IncludeObject::Object,
            Some(other) if accept.form == Form::Table && !matches!(other, "" | "Metadata") => {
                return Err(ApiError::bad_request(format!("unrecognized includeObject value: {other:?}")));
            }
            _ => IncludeObject::Metadata,
        };
        let view = View { served: served.clone(), accept, include };
        let user_agent = parts.headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok());
        let user_agent = user_agent.unwrap_or_default();
        let warnings = Mutex::default();
        Ok(Self { served, address, query, view, user_agent, acceptable, warnings })
    }

    /// A call of the server itself.
    pub fn internal(served: Served, address: &'a Address) -> Self {
        let view = View { served: served.clone(), accept: Accept::default(), include: IncludeObject::None };
        let (query, warnings) = (Query::default(), Mutex::default());
        Self { served, address, query, view, user_agent: "garbage-collector", acceptable: true, warnings }
    }

    /// The same as a trial, or not.
    fn with_dry_run(&self, dry_run: bool) -> Call<'_> {
        let mut query = self.query.clone();
        query.dry_run = dry_run;
        Call {
            served: self.served.clone(),
            address: self.address,
            query,
            view: self.view.clone(),
            user_agent: self.user_agent,
            acceptable: self.acceptable,
            warnings: Mutex::default(),
        }
    }

    /// Sets what the answer warns of; a change that is tried again sets it again.
    fn warn(&self, warnings: Vec<String>) {
        *self.warnings.lock().unwrap_or_else(PoisonError::into_inner) = warnings;
    }

    /// Adds to what the answer warns of.
    fn warn_too(&self, more: Vec<String>) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        for warning in more {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
    }

    fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is to be done, where the resource has that.
    fn verb(&self, method: &http::Method) -> Result<Verb, ApiError> {
        match self.served.resource.builtin() {
            Some(builtin) => self.verb_of_builtin(method, builtin),
            None => self.verb_of_custom(method),
        }
    }

    /// Kubernetes' own kinds have a route for each verb.
    fn verb_of_builtin(&self, method: &http::Method, builtin: Builtin) -> Result<Verb, ApiError> {
        let version = self.served.version();
        let exists = match self.address.subresource.as_deref() {
            None => true,
            Some("status") => version.status,
            Some("finalize") => builtin == Builtin::Namespace,
            Some(_) => false,
        };
        if !exists {
            return Err(ApiError::no_such_path());
        }
        let verb =
            Verb::of(method, self.address, self.query.watch).ok_or_else(ApiError::method_not_allowed)?;
        match (&self.address.subresource, verb) {
            // Namespaces go one by one.
            (None, Verb::DeleteCollection) if builtin == Builtin::Namespace => {
                Err(ApiError::method_not_allowed())
            }
            (None, _) | (Some(_), Verb::Get | Verb::Update | Verb::Patch) => Ok(verb),
            _ => Err(ApiError::method_not_allowed()),
        }
    }

    /// One handler of Kubernetes serves all custom resources, and looks at the subresource before the verb.
    fn verb_of_custom(&self, method: &http::Method) -> Result<Verb, ApiError> {
        let version = self.served.version();
        let exists = match self.address.subresource.as_deref() {
            None => true,
            Some("status") => version.status,
            Some("scale") => version.scale.is_some(),
            Some(_) => false,
        };
        if !exists {
            return Err(ApiError::not_found(&self.subject()));
        }
        let whole = self.address.subresource.is_none();
        if let Some(verb) = Verb::of(method, self.address, self.query.watch)
            && (whole || matches!(verb, Verb::Get | Verb::Update | Verb::Patch))
        {
            return Ok(verb);
        }
        match *method {
            // The name is in the object.
            http::Method::POST if whole => Ok(Verb::Create),
            http::Method::PUT | http::Method::PATCH if whole => {
                Err(ApiError::bad_request("name must be provided"))
            }
            http::Method::POST => Err(ApiError::method_not_supported(&self.subject(), "create")),
            http::Method::DELETE => Err(ApiError::method_not_supported(&self.subject(), "delete")),
            _ => Err(ApiError::method_not_supported(&self.subject(), "")),
        }
    }

    pub fn namespace(&self) -> &str {
        self.address.namespace.as_deref().unwrap_or_default()
    }

    pub fn name(&self) -> &str {
        self.address.name.as_deref().unwrap_or_default()
    }

    pub fn subject(&self) -> Subject<'_> {
        self.served.resource.subject(self.name())
    }

    /// The manager that `managedFields` records: the given one, else as much of the client program's name as fits.
    pub fn manager(&self) -> String {
        if !self.query.field_manager.is_empty() {
            return self.query.field_manager.clone();
        }
        let mut program = String::new();
        for letter in self.user_agent.split('/').next().unwrap_or_default().chars() {
            if !letter.is_control() && program.len() + letter.len_utf8() <= MAX_MANAGER_BYTES {
                program.push(letter);
            }
        }
        if program.is_empty() { "unknown".to_owned() } else { program }
    }

    /// One object in the form asked for.
    pub fn show(&self, status: StatusCode, bytes: Bytes) -> Result<Answer, ApiError> {
        let shown = self.view.object(bytes)?;
        match body::Text::of(self.view.accept.yaml, self.query.pretty) {
            body::Text::Json => Ok(body::answer(status, "application/json", shown)),
            text => {
                let value: Value = serde_json::from_slice(&shown).map_err(ApiError::internal)?;
                Ok(body::written(status, &value, text))
            }
        }
    }

    /// What is no object of the resource, in the form asked for.
    pub fn say(&self, status: StatusCode, value: &Value) -> Answer {
        body::written(status, value, body::Text::of(self.view.accept.yaml, self.query.pretty))
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The Redfish service: finds the resource, checks who asks and under which precondition, answers. Pure: effects are handed to
//! the caller.
//!
//! Called by [`super::Server`] with one request at a time. Sections are those of DSP0266 1.20.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use ::ipmi::Privilege;
use ::ipmi::crypto::same;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use hyper::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH,
    LOCATION,
};
use hyper::{Method, Request, Response, StatusCode};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::patch;
use super::problem::{Message, Problem};
use super::resources::{self, DRIVE, EJECT, INSERT, INTERFACE, MANAGER, RESETS, ROOT};
use crate::bmc::Account;
use crate::bmc::power::Refused;
use crate::chassis::{BootOverride, Identity, PowerAction, PowerState};

/// Sessions at once; real BMCs have 8 to 16. One more gets 503.
const MAX_SESSIONS: usize = 8;
/// A session that nobody used for this long is gone.
const SESSION_TIMEOUT: Duration = Duration::from_mins(30);
/// Header that carries a session's token (section 13.3.4.1).
const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
/// Header with the protocol version (section 8.1).
const ODATA_VERSION: HeaderName = HeaderName::from_static("odata-version");

/// What the service may see of the machine when it answers.
#[derive(Debug, Clone)]
pub struct View {
    /// The power state as this BMC reports it.
    pub power: PowerState,
    /// The boot override as it stands.
    pub boot_override: BootOverride,
    /// The image in the virtual drive.
    pub media: Option<String>,
}

/// What a request does to the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// A power action.
    Power(PowerAction),
    /// A new boot override.
    Boot(BootOverride),
    /// Another image in the virtual drive, or none.
    Media(Option<String>),
}

/// Carries out an effect, or says why not.
type Perform<'a> = &'a mut dyn FnMut(Effect) -> Result<(), Refused>;
type Answer = Result<Response<Bytes>, Problem>;

/// One Redfish service with its sessions.
pub(super) struct Service {
    account: Account,
    identity: Identity,
    rng: StdRng,
    sessions: BTreeMap<u64, Session>,
    next_session: u64,
}

struct Session {
    token: String,
    seen: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resource {
    Versions,
    Root,
    Odata,
    Metadata,
    SessionService,
    Sessions,
    Session(u64),
    Systems,
    System,
    Reset,
    Interfaces,
    Interface,
    Managers,
    Manager,
    Media,
    Drive,
    Insert,
    Eject,
    Enclosures,
    Enclosure,
}

impl Resource {
    fn find(path: &str, identity: &Identity) -> Option<Self> {
        let path = path.strip_suffix('/').unwrap_or(path);
        if path == "/redfish" {
            return Some(Self::Versions);
        }
        let segments: Vec<&str> = path.strip_prefix(ROOT)?.split('/').collect();
        Some(match *segments {
            [""] => Self::Root,
            ["", "odata"] => Self::Odata,
            ["", "$metadata"] => Self::Metadata,
            ["", "SessionService"] => Self::SessionService,
            ["", "SessionService", "Sessions"] => Self::Sessions,
            ["", "SessionService", "Sessions", id] => Self::Session(id.parse().ok()?),
            ["", "Managers"] => Self::Managers,
            ["", "Managers", MANAGER] => Self::Manager,
            ["", "Managers", MANAGER, "VirtualMedia"] => Self::Media,
            ["", "Managers", MANAGER, "VirtualMedia", DRIVE] => Self::Drive,
            ["", "Managers", MANAGER, "VirtualMedia", DRIVE, "Actions", INSERT] => Self::Insert,
            ["", "Managers", MANAGER, "VirtualMedia", DRIVE, "Actions", EJECT] => Self::Eject,
            ["", "Chassis"] => Self::Enclosures,
            ["", "Chassis", name] if name == identity.name => Self::Enclosure,
            ["", "Systems"] => Self::Systems,
            ["", "Systems", name, ref rest @ ..] if name == identity.name => match *rest {
                [] => Self::System,
                ["Actions", "ComputerSystem.Reset"] => Self::Reset,
                ["EthernetInterfaces"] => Self::Interfaces,
                ["EthernetInterfaces", INTERFACE] => Self::Interface,
                _ => return None,
            },
            _ => return None,
        })
    }

    /// What anybody may do without credentials (section 13.3.2).
    fn is_public(self, method: &Method) -> bool {
        match self {
            Self::Versions | Self::Root | Self::Odata | Self::Metadata => true,
            Self::Sessions => method == Method::POST,
            _ => false,
        }
    }

    fn methods(self) -> Vec<Method> {
        match self {
            Self::Reset | Self::Insert | Self::Eject => vec![Method::POST],
            Self::Sessions => vec![Method::GET, Method::HEAD, Method::POST],
            Self::Session(_) => vec![Method::GET, Method::HEAD, Method::DELETE],
            Self::System => vec![Method::GET, Method::HEAD, Method::PATCH],
            _ => vec![Method::GET, Method::HEAD],
        }
    }
}

impl Service {
    pub(super) const fn new(account: Account, identity: Identity, rng: StdRng) -> Self {
        Self { account, identity, rng, sessions: BTreeMap::new(), next_session: 1 }
    }

    /// Answers one request.
    pub(super) fn respond(
        &mut self,
        request: &Request<Bytes>,
        view: &View,
        now: Instant,
        perform: Perform<'_>,
    ) -> Response<Bytes> {
        self.sessions.retain(|_, session| now.duration_since(session.seen) < SESSION_TIMEOUT);
        self.dispatch(request, view, now, perform).unwrap_or_else(Problem::into_response)
    }

    fn dispatch(
        &mut self,
        request: &Request<Bytes>,
        view: &View,
        now: Instant,
        perform: Perform<'_>,
    ) -> Answer {
        let path = request.uri().path();
        let resource = Resource::find(path, &self.identity);
        if !resource.is_some_and(|resource| resource.is_public(request.method())) {
            self.authenticate(request, now)?;
        }
        let resource = resource.ok_or_else(|| Problem::not_found(path))?;
        let allowed = resource.methods();
        if !allowed.contains(request.method()) {
            return Err(Problem::not_allowed(&allowed));
        }
        if request.headers().get(ODATA_VERSION).is_some_and(|version| version != "4.0") {
            return Err(Problem::precondition_failed());
        }
        match (request.method(), resource) {
            (&Method::POST, Resource::Sessions) => self.log_in(request, now),
            (&Method::DELETE, Resource::Session(id)) => self.log_out(id, path),
            (&Method::PATCH, Resource::System) => {
                self.demand(Privilege::Operator)?;
                self.change_system(request, view, perform)
            }
            (&Method::POST, Resource::Reset) => {
                self.demand(Privilege::Operator)?;
                reset(request, perform)
            }
            (&Method::POST, Resource::Insert) => {
                self.demand(Privilege::Operator)?;
                insert(request, view, perform)
            }
            (&Method::POST, Resource::Eject) => {
                self.demand(Privilege::Operator)?;
                perform(Effect::Media(None)).map_err(refusal)?;
                Ok(empty())
            }
            _ => self.read(request, resource, view),
        }
    }

    /// Session token first, then Basic (section 13.3.4).
    fn authenticate(&mut self, request: &Request<Bytes>, now: Instant) -> Result<(), Problem> {
        if let Some(token) = request.headers().get(TOKEN) {
            let session =
                self.sessions.values_mut().find(|known| same(known.token.as_bytes(), token.as_bytes()));
            return session.map(|session| session.seen = now).ok_or_else(Problem::unauthenticated);
        }
        let given = request
            .headers()
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
            .and_then(|(_, encoded)| STANDARD.decode(encoded.trim()).ok())
            .and_then(|plain| String::from_utf8(plain).ok());
        let known = given
            .as_deref()
            .and_then(|given| given.split_once(':'))
            .is_some_and(|(user, password)| self.knows(user, password));
        if known { Ok(()) } else { Err(Problem::unauthenticated()) }
    }

    fn knows(&self, user: &str, password: &str) -> bool {
        let credentials = &self.account.credentials;
        same(credentials.user().as_bytes(), user.as_bytes())
            & same(credentials.password(), password.as_bytes())
    }

    fn demand(&self, privilege: Privilege) -> Result<(), Problem> {
        if self.account.privilege < privilege { Err(Problem::forbidden()) } else { Ok(()) }
    }

    fn log_in(&mut self, request: &Request<Bytes>, now: Instant) -> Answer {
        let body = json_body(request)?;
        let field = |name: &str| match body.get(name) {
            None => Err(Message::missing(name)),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(Message::wrong_type(name, &Value::String("******".to_owned()))),
        };
        let (user, password) = match (field("UserName"), field("Password")) {
            (Ok(user), Ok(password)) => (user, password),
            (user, password) => {
                let findings = user.err().into_iter().chain(password.err()).collect();
                return Err(Problem::bad_properties(findings));
            }
        };
        if !self.knows(&user, &password) {
            return Err(Problem::unauthenticated());
        }
        if self.sessions.len() >= MAX_SESSIONS {
            let text = "The session establishment failed due to the number of simultaneous sessions.";
            return Err(Problem::busy("SessionLimitExceeded", text));
        }
        let id = self.next_session;
        self.next_session += 1;
        let token = URL_SAFE_NO_PAD.encode(self.rng.random::<[u8; 24]>());
        self.sessions.insert(id, Session { token: token.clone(), seen: now });
        let location = format!("{ROOT}/SessionService/Sessions/{id}");
        let mut response = document(StatusCode::CREATED, &resources::session(&id.to_string(), &user));
        put(&mut response, TOKEN, &token);
        put(&mut response, LOCATION, &location);
        Ok(response)
    }

    fn log_out(&mut self, id: u64, path: &str) -> Answer {
        self.sessions.remove(&id).map(|_| empty()).ok_or_else(|| Problem::not_found(path))
    }

    fn read(&self, request: &Request<Bytes>, resource: Resource, view: &View) -> Answer {
        if resource == Resource::Metadata {
            let mut response = Response::new(Bytes::from_static(resources::METADATA.as_bytes()));
            put(&mut response, CONTENT_TYPE, "application/xml");
            put(&mut response, ODATA_VERSION, "4.0");
            return Ok(response);
        }
        let body =
            self.document_of(resource, view).ok_or_else(|| Problem::not_found(request.uri().path()))?;
        let response = document(StatusCode::OK, &body);
        let etag = response.headers().get(ETAG);
        if etag.is_some() && request.headers().get(IF_NONE_MATCH) == etag {
            let mut unchanged = empty();
            *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
            unchanged.headers_mut().extend(response.headers().get(ETAG).map(|etag| (ETAG, etag.clone())));
            return Ok(unchanged);
        }
        Ok(response)
    }

    fn document_of(&self, resource: Resource, view: &View) -> Option<Value> {
        let identity = &self.identity;
        let name = || vec![identity.name.clone()];
        Some(match resource {
            Resource::Versions => resources::versions(),
            Resource::Root => resources::root(identity),
            Resource::Odata => resources::odata(),
            Resource::SessionService => resources::session_service(SESSION_TIMEOUT.as_secs()),
            Resource::Sessions => {
                let ids: Vec<String> = self.sessions.keys().map(u64::to_string).collect();
                resources::collection("Session", "/SessionService/Sessions", &ids)
            }
            Resource::Session(id) => {
                self.sessions.get(&id)?;
                resources::session(&id.to_string(), self.account.credentials.user())
            }
            Resource::Systems => resources::collection("ComputerSystem", "/Systems", &name()),
            Resource::System => resources::system(identity, view),
            Resource::Interfaces => {
                let path = format!("/Systems/{}/EthernetInterfaces", identity.name);
                resources::collection("EthernetInterface", &path, &[INTERFACE.to_owned()])
            }
            Resource::Interface => resources::ethernet_interface(identity),
            Resource::Managers => resources::collection("Manager", "/Managers", &[MANAGER.to_owned()]),
            Resource::Manager => resources::manager(identity),
            Resource::Media => {
                let path = format!("/Managers/{MANAGER}/VirtualMedia");
                resources::collection("VirtualMedia", &path, &[DRIVE.to_owned()])
            }
            Resource::Drive => resources::drive(view),
            Resource::Enclosures => resources::collection("Chassis", "/Chassis", &name()),
            Resource::Enclosure => resources::chassis(identity, view),
            Resource::Metadata | Resource::Reset | Resource::Insert | Resource::Eject => return None,
        })
    }

    fn change_system(&self, request: &Request<Bytes>, view: &View, perform: Perform<'_>) -> Answer {
        let system = resources::system(&self.identity, view);
        if let Some(wanted) = request.headers().get(IF_MATCH) {
            let current = etag(&system);
            let matches = wanted.to_str().is_ok_and(|wanted| {
                wanted.split(',').any(|tag| matches!(tag.trim(), t if t == "*" || t == current))
            });
            if !matches {
                return Err(Problem::precondition_failed());
            }
        }
        let next = patch::boot_override(&json_body(request)?, view.boot_override, &system)?;
        perform(Effect::Boot(next)).map_err(refusal)?;
        Ok(empty())
    }
}

fn reset(request: &Request<Bytes>, perform: Perform<'_>) -> Answer {
    let body = json_body(request)?;
    let Some(properties) = body.as_object() else { return Err(Problem::malformed()) };
    let mut findings: Vec<Message> = properties
        .keys()
        .filter(|name| *name != "ResetType")
        .map(|name| Message::unknown_property(name))
        .collect();
    let action = match properties.get("ResetType") {
        None => Err(Message::missing("ResetType")),
        Some(Value::String(text)) => RESETS
            .iter()
            .find_map(|(name, action)| (name == text).then_some(*action))
            .ok_or_else(|| Message::not_in_list("ResetType", text)),
        Some(value) => Err(Message::wrong_type("ResetType", value)),
    };
    match action {
        Ok(action) if findings.is_empty() => {
            perform(Effect::Power(action)).map_err(refusal)?;
            Ok(empty())
        }
        action => {
            findings.extend(action.err());
            Err(Problem::bad_properties(findings))
        }
    }
}

/// What InsertMedia takes beside the image; a BMC reads it in its own way whatever these say.
const INSERT_OPTIONS: [&str; 4] = ["Inserted", "WriteProtected", "TransferMethod", "TransferProtocolType"];

fn insert(request: &Request<Bytes>, view: &View, perform: Perform<'_>) -> Answer {
    let body = json_body(request)?;
    let Some(properties) = body.as_object() else { return Err(Problem::malformed()) };
    let unknown =
        properties.keys().filter(|name| *name != "Image" && !INSERT_OPTIONS.contains(&name.as_str()));
    let mut findings: Vec<Message> = unknown.map(|name| Message::unknown_property(name)).collect();
    let image = match properties.get("Image") {
        None => Err(Message::missing("Image")),
        Some(Value::String(url)) if url.starts_with("http://") => Ok(url.clone()),
        Some(Value::String(url)) => Err(Message::not_in_list("Image", url)),
        Some(value) => Err(Message::wrong_type("Image", value)),
    };
    match image {
        Ok(_) if findings.is_empty() && view.media.is_some() => {
            Err(Problem::conflict("The drive holds an image, which must be ejected first."))
        }
        Ok(url) if findings.is_empty() => {
            perform(Effect::Media(Some(url))).map_err(refusal)?;
            Ok(empty())
        }
        image => {
            findings.extend(image.err());
            Err(Problem::bad_properties(findings))
        }
    }
}

fn refusal(refused: Refused) -> Problem {
    match refused {
        Refused::Busy => {
            Problem::busy("ServiceTemporarilyUnavailable", "The service is temporarily unavailable.")
        }
        Refused::NeedsPower => {
            Problem::conflict("The requested reset type is not possible while the system is powered off.")
        }
    }
}

fn json_body(request: &Request<Bytes>) -> Result<Value, Problem> {
    let declared = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let is_json = declared.is_none_or(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    });
    if !is_json {
        return Err(Problem::not_json());
    }
    serde_json::from_slice(request.body()).map_err(|_| Problem::malformed())
}

/// A document with its entity tag, in the header and in the body (section 6.5).
fn document(status: StatusCode, body: &Value) -> Response<Bytes> {
    let tag = etag(body);
    let mut tagged = body.clone();
    if let Some(object) = tagged.as_object_mut()
        && object.contains_key("@odata.id")
    {
        object.insert("@odata.etag".to_owned(), json!(tag));
    }
    let mut response = Response::new(Bytes::from(tagged.to_string()));
    *response.status_mut() = status;
    put(&mut response, CONTENT_TYPE, "application/json; charset=utf-8");
    put(&mut response, CACHE_CONTROL, "no-cache");
    put(&mut response, ODATA_VERSION, "4.0");
    put(&mut response, ETAG, &tag);
    response
}

fn empty() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    put(&mut response, CACHE_CONTROL, "no-cache");
    put(&mut response, ODATA_VERSION, "4.0");
    response
}

fn etag(body: &Value) -> String {
    let mut hasher = DefaultHasher::new();
    body.to_string().hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

fn put(response: &mut Response<Bytes>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

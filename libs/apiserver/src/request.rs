// SPDX-License-Identifier: Apache-2.0

//! From method, URL and headers to what is asked: the resource addressed, the verb's parameters, and the form of answer wanted.
//!
//! Pure. Called once per request by the dispatcher; the handlers see only these types and never the URL.

use http::{HeaderMap, Method, header};

use crate::status::ApiError;

/// The thing a path addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// `/healthz`, `/livez`, `/readyz`.
    Health,
    /// `/version`.
    Version,
    /// `/api` or `/apis`: the groups, `core` telling which.
    Groups { core: bool },
    /// `/apis/<group>`.
    Group { group: String },
    /// `/api/v1` or `/apis/<group>/<version>`.
    GroupVersion { group: String, version: String },
    /// `/openapi/v2`, `/openapi/v3`, `/openapi/v3/apis/<group>/<version>`.
    OpenApi { path: String },
    /// Objects.
    Resource(Address),
}

/// A collection, an object or a subresource of one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Address {
    pub group: String,
    pub version: String,
    pub plural: String,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
}

impl Target {
    /// Parses a path; `None` when it addresses nothing this server could ever have.
    pub fn parse(path: &str) -> Option<Self> {
        let mut segments = Vec::new();
        for segment in path.trim_matches('/').split('/') {
            if segment.is_empty() {
                return None;
            }
            segments.push(decode(segment)?);
        }
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match segments.as_slice() {
            ["healthz" | "livez" | "readyz", ..] => Some(Self::Health),
            ["version"] => Some(Self::Version),
            ["openapi", rest @ ..] => Some(Self::OpenApi { path: rest.join("/") }),
            ["api"] => Some(Self::Groups { core: true }),
            ["apis"] => Some(Self::Groups { core: false }),
            ["apis", group] => Some(Self::Group { group: (*group).into() }),
            ["api", version] => Some(Self::GroupVersion { group: String::new(), version: (*version).into() }),
            ["apis", group, version] => {
                Some(Self::GroupVersion { group: (*group).into(), version: (*version).into() })
            }
            ["api", version, rest @ ..] => Address::parse("", version, rest).map(Self::Resource),
            ["apis", group, version, rest @ ..] => Address::parse(group, version, rest).map(Self::Resource),
            _ => None,
        }
    }
}

impl Address {
    fn parse(group: &str, version: &str, rest: &[&str]) -> Option<Self> {
        let address = Self { group: group.into(), version: version.into(), ..Self::default() };
        let (namespace, rest) = match rest {
            // `/namespaces/<name>/status` and `/finalize` are subresources of the namespace itself.
            ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => (None, rest),
            ["namespaces", namespace, rest @ ..] => (Some((*namespace).to_owned()), rest),
            _ => (None, rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (plural, None, None),
            [plural, name] => (plural, Some(*name), None),
            [plural, name, subresource] => (plural, Some(*name), Some(*subresource)),
            _ => return None,
        };
        Some(Self {
            plural: (*plural).to_owned(),
            namespace,
            name: name.map(str::to_owned),
            subresource: subresource.map(str::to_owned),
            ..address
        })
    }
}

fn decode(segment: &str) -> Option<String> {
    if !segment.contains('%') {
        return Some(segment.to_owned());
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let (hex, tail) = tail.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    let decoded = String::from_utf8(bytes).ok()?;
    // A slash or NUL inside a segment names nothing, and NUL separates our keys.
    (!decoded.contains(['/', '\0'])).then_some(decoded)
}

/// How unknown fields are treated (`fieldValidation`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum FieldValidation {
    Strict,
    #[default]
    Warn,
    Ignore,
}

/// `resourceVersionMatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    Exact,
    NotOlderThan,
}

/// The query parameters this server knows; unknown ones are ignored, as Kubernetes does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pub watch: bool,
    pub label_selector: String,
    pub field_selector: String,
    pub limit: Option<usize>,
    pub continue_token: String,
    pub version: Option<u64>,
    pub version_match: Option<VersionMatch>,
    pub bookmarks: bool,
    pub send_initial_events: Option<bool>,
    pub timeout_seconds: Option<u64>,
    pub field_manager: String,
    pub field_validation: FieldValidation,
    pub dry_run: bool,
    pub force: bool,
    /// Ours: a created object keeps what the server would else make anew (`handlers::restore`). The administrator only.
    pub restore: bool,
    pub grace_period_seconds: Option<i64>,
    pub propagation_policy: Option<String>,
    pub orphan_dependents: Option<bool>,
    pub include_object: Option<String>,
    pub pretty: bool,
}

impl Query {
    /// Parses the query string.
    ///
    /// # Errors
    /// 400 for a value that is not of its parameter's type.
    pub fn parse(query: &str) -> Result<Self, ApiError> {
        let mut parsed = Self::default();
        for (key, value) in form_pairs(query) {
            let value = value.as_str();
            match key.as_str() {
                "watch" => parsed.watch = boolean(&key, value)?,
                "labelSelector" => parsed.label_selector = value.into(),
                "fieldSelector" => parsed.field_selector = value.into(),
                "limit" => parsed.limit = Some(number::<i64>(&key, value)?).and_then(positive),
                "continue" => parsed.continue_token = value.into(),
                "resourceVersion" if !value.is_empty() => parsed.version = Some(resource_version(value)?),
                "resourceVersionMatch" => parsed.version_match = version_match(value)?,
                "allowWatchBookmarks" => parsed.bookmarks = boolean(&key, value)?,
                "sendInitialEvents" => parsed.send_initial_events = Some(boolean(&key, value)?),
                "timeoutSeconds" => parsed.timeout_seconds = Some(number(&key, value)?),
                "fieldManager" => parsed.field_manager = value.into(),
                "fieldValidation" => parsed.field_validation = field_validation(value)?,
                "dryRun" => parsed.dry_run = dry_run(value)?,
                "force" => parsed.force = boolean(&key, value)?,
                "restore" => parsed.restore = boolean(&key, value)?,
                "gracePeriodSeconds" => parsed.grace_period_seconds = Some(number(&key, value)?),
                "propagationPolicy" => parsed.propagation_policy = Some(value.into()),
                "orphanDependents" => parsed.orphan_dependents = Some(boolean(&key, value)?),
                "includeObject" => parsed.include_object = Some(value.into()),
                "pretty" => parsed.pretty = boolean(&key, value)?,
                _ => {}
            }
        }
        parsed.check()?;
        Ok(parsed)
    }

    fn check(&self) -> Result<(), ApiError> {
        if self.field_manager.len() > 128 {
            return Err(ApiError::bad_request("fieldManager: Too long: may not be more than 128 bytes"));
        }
        if self.version_match.is_some() && self.version.is_none() && self.send_initial_events.is_none() {
            return Err(ApiError::bad_request(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        Ok(())
    }
}

/// Decodes `a=b&c=d` with `+` and percent escapes; broken escapes stay as they are.
fn form_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let unescape = |text: &str| {
        let text = text.replace('+', " ");
        decode_lossy(&text)
    };
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (unescape(key), unescape(value))
    })
}

fn decode_lossy(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| tail.split_at_checked(2)).flatten().and_then(|(hex, tail)| {
            Some((u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?, tail))
        });
        match escaped {
            Some((byte, tail)) => {
                bytes.push(byte);
                rest = tail;
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn boolean(key: &str, value: &str) -> Result<bool, ApiError> {
    match value {
        "" | "1" | "true" | "True" | "TRUE" | "t" | "T" => Ok(true),
        "0" | "false" | "False" | "FALSE" | "f" | "F" => Ok(false),
        other => {
            Err(ApiError::bad_request(format!("{key}: Invalid value: \"{other}\": must be true or false")))
        }
    }
}

fn number<T: std::str::FromStr>(key: &str, value: &str) -> Result<T, ApiError> {
    value.parse().map_err(|_| {
        ApiError::bad_request(format!("{key}: Invalid value: \"{value}\": must be a whole number"))
    })
}

fn positive(limit: i64) -> Option<usize> {
    usize::try_from(limit).ok().filter(|limit| *limit > 0)
}

pub(crate) fn resource_version(value: &str) -> Result<u64, ApiError> {
    value.parse().map_err(|_| {
        ApiError::bad_request(format!(
            "resourceVersion: Invalid value: \"{value}\": must be a resource version of this server"
        ))
    })
}

fn version_match(value: &str) -> Result<Option<VersionMatch>, ApiError> {
    match value {
        "" => Ok(None),
        "Exact" => Ok(Some(VersionMatch::Exact)),
        "NotOlderThan" => Ok(Some(VersionMatch::NotOlderThan)),
        other => Err(ApiError::bad_request(format!(
            "resourceVersionMatch: Unsupported value: \"{other}\": supported values: \"Exact\", \"NotOlderThan\""
        ))),
    }
}

fn field_validation(value: &str) -> Result<FieldValidation, ApiError> {
    match value {
        "Strict" => Ok(FieldValidation::Strict),
        "" | "Warn" => Ok(FieldValidation::Warn),
        "Ignore" => Ok(FieldValidation::Ignore),
        other => Err(ApiError::bad_request(format!(
            "fieldValidation: Unsupported value: \"{other}\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
        ))),
    }
}

pub(crate) fn dry_run(value: &str) -> Result<bool, ApiError> {
    match value {
        "" => Ok(false),
        "All" => Ok(true),
        other => Err(ApiError::bad_request(format!(
            "dryRun: Unsupported value: \"{other}\": supported values: \"All\""
        ))),
    }
}

/// The form of answer a client asks for with `Accept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Form {
    #[default]
    Full,
    /// `as=Table;v=v1;g=meta.k8s.io`
    Table,
    /// `as=PartialObjectMetadata` or its list.
    Partial,
    /// `as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io`, with the version asked for.
    Discovery(&'static str),
}

/// What the answer looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Accept {
    pub form: Form,
    pub yaml: bool,
}

impl Accept {
    /// The first form in the header that this server has.
    ///
    /// # Errors
    /// 406 when there is none (protobuf only).
    pub fn parse(headers: &HeaderMap) -> Result<Self, ApiError> {
        let values: Vec<&str> =
            headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
        if values.is_empty() {
            return Ok(Self::default());
        }
        let clauses = values.iter().flat_map(|value| value.split(','));
        clauses.into_iter().find_map(Self::clause).ok_or_else(ApiError::not_acceptable)
    }

    fn clause(clause: &str) -> Option<Self> {
        let mut parts = clause.split(';').map(str::trim);
        let yaml = match parts.next()? {
            "application/json" | "*/*" | "application/*" | "" => false,
            "application/yaml" => true,
            _ => return None,
        };
        let mut wanted = ("", "", "");
        for part in parts {
            match part.split_once('=') {
                Some(("as", value)) => wanted.0 = value,
                Some(("v", value)) => wanted.1 = value,
                Some(("g", value)) => wanted.2 = value,
                Some(("stream", "watch")) | None => {}
                Some(_) => {}
            }
        }
        let form = match wanted {
            ("", _, _) => Form::Full,
            ("Table", "v1", "meta.k8s.io") => Form::Table,
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "v1", "meta.k8s.io") => Form::Partial,
            ("APIGroupDiscoveryList", "v2", "apidiscovery.k8s.io") => Form::Discovery("v2"),
            ("APIGroupDiscoveryList", "v2beta1", "apidiscovery.k8s.io") => Form::Discovery("v2beta1"),
            _ => return None,
        };
        Some(Self { form, yaml })
    }
}

/// What a request does to objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    pub fn of(method: &Method, address: &Address, watch: bool) -> Option<Self> {
        let named = address.name.is_some();
        match (method, named) {
            (&Method::GET | &Method::HEAD, true) if watch => Some(Self::Watch),
            (&Method::GET | &Method::HEAD, true) => Some(Self::Get),
            (&Method::GET | &Method::HEAD, false) if watch => Some(Self::Watch),
            (&Method::GET | &Method::HEAD, false) => Some(Self::List),
            (&Method::POST, false) => Some(Self::Create),
            (&Method::PUT, true) => Some(Self::Update),
            (&Method::PATCH, true) => Some(Self::Patch),
            (&Method::DELETE, true) => Some(Self::Delete),
            (&Method::DELETE, false) => Some(Self::DeleteCollection),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(path: &str) -> Address {
        match Target::parse(path) {
            Some(Target::Resource(address)) => address,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn paths_address_what_kubernetes_addresses() {
        let a = address("/apis/tinkerbell.org/v1alpha1/namespaces/tinkerbell/hardware/m1/status");
        assert_eq!(
            (a.group.as_str(), a.version.as_str(), a.plural.as_str()),
            ("tinkerbell.org", "v1alpha1", "hardware")
        );
        assert_eq!(a.namespace.as_deref(), Some("tinkerbell"));
        assert_eq!(a.subresource.as_deref(), Some("status"));
        let a = address("/api/v1/namespaces/default");
        assert_eq!(
            (a.plural.as_str(), a.name.as_deref(), a.namespace),
            ("namespaces", Some("default"), None)
        );
        let a = address("/api/v1/namespaces/default/finalize");
        assert_eq!((a.plural.as_str(), a.subresource.as_deref()), ("namespaces", Some("finalize")));
        let a = address("/api/v1/namespaces/default/secrets");
        assert_eq!((a.plural.as_str(), a.name, a.namespace.as_deref()), ("secrets", None, Some("default")));
        assert_eq!(address("/api/v1/secrets").namespace, None);
    }

    #[test]
    fn paths_that_name_nothing_are_refused() {
        for path in [
            "/",
            "",
            "/api/v1//secrets",
            "/apis/g/v/namespaces/n/r/x/y/z",
            "/api/v1/secrets/%2fetc",
            "/api/v1/secrets/%00",
            "/api/v1/secrets/%zz",
        ] {
            assert_eq!(Target::parse(path), None, "{path}");
        }
    }

    #[test]
    fn queries_are_typed() {
        let query =
            Query::parse("watch=1&labelSelector=a%3Db%2Cc+in+%28d%29&limit=500&timeoutSeconds=290").unwrap();
        assert!(query.watch);
        assert_eq!(query.label_selector, "a=b,c in (d)");
        assert_eq!((query.limit, query.timeout_seconds), (Some(500), Some(290)));
        for bad in ["limit=x", "watch=perhaps", "resourceVersion=abc", "fieldValidation=Loose", "dryRun=Some"]
        {
            assert_eq!(Query::parse(bad).unwrap_err().code().as_u16(), 400, "{bad}");
        }
    }

    #[test]
    fn accept_headers_of_kubectl() {
        let accept = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, http::HeaderValue::from_static(value));
            Accept::parse(&headers).map(|accept| accept.form)
        };
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(accept(table).unwrap(), Form::Table);
        let discovery = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(accept(discovery).unwrap(), Form::Discovery("v2"));
        assert_eq!(accept("application/vnd.kubernetes.protobuf,application/json").unwrap(), Form::Full);
        assert_eq!(accept("application/vnd.kubernetes.protobuf").unwrap_err().code().as_u16(), 406);
    }
}

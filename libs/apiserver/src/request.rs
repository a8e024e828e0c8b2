// SPDX-License-Identifier: Apache-2.0

//! From method, URL and headers to what is asked: the resource addressed, the verb's parameters, and the form of answer wanted.
//!
//! Pure. Called once per request by the dispatcher; the handlers see only these types and never the URL.

use http::{HeaderMap, Method, header};

use crate::status::{ApiError, Cause, Subject};

/// Longest name of a field manager.
pub(crate) const MAX_MANAGER_BYTES: usize = 128;

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
    /// The path has the old form of watches: `/watch/` before the resource.
    pub watched: bool,
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
        let (watched, rest) = match rest {
            ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
            _ => (false, rest),
        };
        let address = Self { group: group.into(), version: version.into(), watched, ..Self::default() };
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
    let decoded = String::from_utf8(unescaped(segment)?).ok()?;
    // A slash or NUL inside a segment names nothing, and NUL separates our keys.
    (!decoded.contains(['/', '\0'])).then_some(decoded)
}

/// A text without its percent escapes; `None` where one is broken.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let (hex, tail) = tail.split_at_checked(2)?;
            let hex = std::str::from_utf8(hex).ok().filter(|hex| !hex.starts_with('+'))?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    Some(bytes)
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

/// Values of parameters that no verb takes, as they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Odd {
    version: Option<String>,
    version_match: Option<String>,
    field_validation: Option<String>,
    dry_run: Vec<String>,
    /// `force` was given, whatever its value.
    force: bool,
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
    /// Values that are refused once it is known by which verb.
    odd: Odd,
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
                "watch" => parsed.watch = boolean(value),
                "labelSelector" => parsed.label_selector = value.into(),
                "fieldSelector" => parsed.field_selector = value.into(),
                "limit" => parsed.limit = positive(number(value)?).and_then(|n| usize::try_from(n).ok()),
                "continue" => parsed.continue_token = value.into(),
                "resourceVersion" if !value.is_empty() => match value.parse() {
                    Ok(version) => parsed.version = Some(version),
                    Err(_) => parsed.odd.version = Some(value.into()),
                },
                "resourceVersionMatch" => match value {
                    "" => {}
                    "Exact" => parsed.version_match = Some(VersionMatch::Exact),
                    "NotOlderThan" => parsed.version_match = Some(VersionMatch::NotOlderThan),
                    other => parsed.odd.version_match = Some(other.into()),
                },
                "allowWatchBookmarks" => parsed.bookmarks = boolean(value),
                "sendInitialEvents" => parsed.send_initial_events = Some(boolean(value)),
                "timeoutSeconds" => parsed.timeout_seconds = positive(number(value)?),
                "fieldManager" => parsed.field_manager = value.into(),
                "fieldValidation" => match value {
                    "Strict" => parsed.field_validation = FieldValidation::Strict,
                    "" | "Warn" => parsed.field_validation = FieldValidation::Warn,
                    "Ignore" => parsed.field_validation = FieldValidation::Ignore,
                    other => parsed.odd.field_validation = Some(other.into()),
                },
                "dryRun" => match value {
                    "All" => parsed.dry_run = true,
                    other => parsed.odd.dry_run.push(other.into()),
                },
                "force" => {
                    parsed.force = boolean(value);
                    parsed.odd.force = true;
                }
                "restore" => parsed.restore = boolean(value),
                "gracePeriodSeconds" => parsed.grace_period_seconds = Some(number(value)?),
                "propagationPolicy" => parsed.propagation_policy = Some(value.into()),
                "orphanDependents" => parsed.orphan_dependents = Some(boolean(value)),
                "includeObject" => parsed.include_object = Some(value.into()),
                "pretty" => parsed.pretty = boolean(value),
                _ => {}
            }
        }
        Ok(parsed)
    }

    /// Refuses what the options of a verb must not have; `applies` tells server-side apply from the other patches.
    ///
    /// # Errors
    /// 422 with every wrong option, 400 or 500 for a resource version that is no number.
    pub fn check(&self, verb: Verb, applies: bool) -> Result<(), ApiError> {
        let (kind, causes) = match verb {
            Verb::Watch => ("ListOptions", self.of_watch()),
            Verb::List | Verb::DeleteCollection => ("ListOptions", self.of_list()),
            Verb::Create => ("CreateOptions", self.of_write()),
            Verb::Update => ("UpdateOptions", self.of_write()),
            Verb::Patch => ("PatchOptions", [self.of_patch(applies), self.of_write()].concat()),
            // A removal has its options in its body, too.
            Verb::Get | Verb::Delete => ("", Vec::new()),
        };
        if !causes.is_empty() {
            return Err(ApiError::invalid(&options_subject(kind), &causes));
        }
        let Some(version) = &self.odd.version else { return Ok(()) };
        let why = format!("resourceVersion: Invalid value: {version:?}: {}", not_unsigned(version));
        match verb {
            Verb::List | Verb::DeleteCollection => {
                Err(ApiError::bad_request(format!("invalid resource version: {why}")))
            }
            Verb::Get => Err(ApiError::unexplained(why)),
            // A watch looks at its selectors first.
            Verb::Watch | Verb::Create | Verb::Update | Verb::Patch | Verb::Delete => Ok(()),
        }
    }

    /// Refuses a watch that begins at what is no version.
    ///
    /// # Errors
    /// 500, as kube-apiserver answers it.
    pub fn check_start(&self) -> Result<(), ApiError> {
        let Some(version) = &self.odd.version else { return Ok(()) };
        let why = format!("resourceVersion: Invalid value: {version:?}: {}", not_unsigned(version));
        Err(ApiError::unexplained(why))
    }

    fn of_list(&self) -> Vec<Cause> {
        const FIELD: &str = "resourceVersionMatch";
        let mut causes = Vec::new();
        if self.version_match.is_some() || self.odd.version_match.is_some() {
            if self.version.is_none() && self.odd.version.is_none() {
                let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                causes.push(Cause::forbidden(FIELD, why));
            }
            if !self.continue_token.is_empty() {
                causes.push(Cause::forbidden(
                    FIELD,
                    "resourceVersionMatch is forbidden when continue is provided",
                ));
            }
            if let Some(odd) = &self.odd.version_match {
                let supported = ["Exact".into(), "NotOlderThan".into(), "".into()];
                causes.push(Cause::unsupported(FIELD, &odd.as_str().into(), &supported));
            }
            if self.version_match == Some(VersionMatch::Exact) && self.version == Some(0) {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                causes.push(Cause::forbidden(FIELD, why));
            }
        }
        if self.send_initial_events.is_some() {
            causes.push(Cause::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        }
        causes
    }

    fn of_watch(&self) -> Vec<Cause> {
        const FIELD: &str = "resourceVersionMatch";
        let mut causes = Vec::new();
        let not_older = self.version_match == Some(VersionMatch::NotOlderThan);
        if self.send_initial_events.is_some() && !not_older {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            causes.push(Cause::forbidden(FIELD, why));
        }
        if self.version_match.is_none() && self.odd.version_match.is_none() {
            return causes;
        }
        if self.send_initial_events.is_none() {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            causes.push(Cause::forbidden(FIELD, why));
        }
        if !not_older {
            let given = self.odd.version_match.as_deref().unwrap_or("Exact");
            causes.push(Cause::unsupported(FIELD, &given.into(), &["NotOlderThan".into()]));
        }
        if !self.continue_token.is_empty() {
            causes
                .push(Cause::forbidden(FIELD, "resourceVersionMatch is forbidden when continue is provided"));
        }
        causes
    }

    fn of_patch(&self, applies: bool) -> Vec<Cause> {
        match (applies, self.field_manager.is_empty()) {
            (true, true) => vec![Cause::required_because("fieldManager", "is required for apply patch")],
            (false, _) if self.odd.force => {
                vec![Cause::forbidden("force", "may not be specified for non-apply patch")]
            }
            _ => Vec::new(),
        }
    }

    fn of_write(&self) -> Vec<Cause> {
        let mut causes = Vec::new();
        let manager = &self.field_manager;
        if manager.len() > MAX_MANAGER_BYTES {
            causes.push(Cause::too_long("fieldManager", MAX_MANAGER_BYTES as u64));
        }
        for (at, letter) in manager.char_indices().filter(|(_, letter)| letter.is_control()) {
            let why = format!("invalid character U+{:04X} (at position {at})", u32::from(letter));
            causes.push(Cause::invalid_text("fieldManager", manager, &why));
        }
        causes.extend(self.dry_run_causes());
        if let Some(odd) = &self.odd.field_validation {
            let supported = ["".into(), "Ignore".into(), "Strict".into(), "Warn".into()];
            causes.push(Cause::unsupported("fieldValidation", &odd.as_str().into(), &supported));
        }
        causes
    }

    /// For the options of a removal, which the query has where there is no body.
    pub fn dry_run_causes(&self) -> Vec<Cause> {
        dry_run_causes(&self.odd.dry_run, self.dry_run)
    }
}

/// Decodes `a=b&c=d` with `+` and percent escapes; what has a broken escape is left out, as Go does.
fn form_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let unescape =
        |text: &str| Some(String::from_utf8_lossy(&unescaped(&text.replace('+', " "))?).into_owned());
    query.split('&').filter(|pair| !pair.is_empty()).filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((unescape(key)?, unescape(value)?))
    })
}

/// Anything but these is true, as in Kubernetes.
fn boolean(value: &str) -> bool {
    !(value == "0" || value.eq_ignore_ascii_case("false"))
}

fn number(value: &str) -> Result<i64, ApiError> {
    let why = || format!("strconv.ParseInt: parsing {value:?}: invalid syntax");
    value.parse().map_err(|_| ApiError::bad_request(why()))
}

fn positive(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number > 0)
}

/// Why a text is no resource version, in Go's words.
pub(crate) fn not_unsigned(text: &str) -> String {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let why = if digits { "value out of range" } else { "invalid syntax" };
    format!("strconv.ParseUint: parsing {text:?}: {why}")
}

/// What is wrong with values of `dryRun`, of which `All` was one.
pub(crate) fn dry_run_causes(odd: &[String], all: bool) -> Vec<Cause> {
    if odd.is_empty() {
        return Vec::new();
    }
    let mut given = odd.to_vec();
    given.extend(all.then(|| "All".to_owned()));
    vec![Cause::unsupported("dryRun", &given.into(), &["All".into()])]
}

/// The options of a verb, for the errors about them.
pub(crate) fn options_subject(kind: &str) -> Subject<'_> {
    Subject { group: "meta.k8s.io", kind, ..Subject::default() }
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
            (&Method::GET, _) if address.watched => Some(Self::Watch),
            (_, _) if address.watched => None,
            // One object by its path is watched by the old form of the path only.
            (&Method::GET, true) => Some(Self::Get),
            (&Method::GET, false) if watch => Some(Self::Watch),
            (&Method::GET, false) => Some(Self::List),
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
        for bad in ["limit=x", "timeoutSeconds=x"] {
            assert_eq!(Query::parse(bad).unwrap_err().code().as_u16(), 400, "{bad}");
        }
        for (verb, bad, code) in [
            (Verb::List, "resourceVersion=abc", 400),
            (Verb::List, "resourceVersionMatch=Exact", 422),
            (Verb::Watch, "sendInitialEvents=true", 422),
            (Verb::Create, "fieldValidation=Loose", 422),
            (Verb::Update, "dryRun=Some", 422),
            (Verb::Patch, "force=true", 422),
        ] {
            let refused = Query::parse(bad).unwrap().check(verb, false).unwrap_err();
            assert_eq!(refused.code().as_u16(), code, "{bad}");
        }
        let start = Query::parse("resourceVersion=abc").unwrap();
        assert!(start.check(Verb::Watch, false).is_ok());
        assert_eq!(start.check_start().unwrap_err().code().as_u16(), 500);
        let broken = Query::parse("labelSelector=%zz&fieldSelector=%+1&limit=%35").unwrap();
        assert_eq!(
            (broken.label_selector.as_str(), broken.field_selector.as_str(), broken.limit),
            ("", "", Some(5))
        );
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

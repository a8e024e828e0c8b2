// SPDX-License-Identifier: Apache-2.0

//! The kinds that are questions: who am I, what may I do, whose token is this (`authentication.k8s.io`, `authorization.k8s.io`). `kubectl auth` asks them, and
//! controllers that protect their metrics. They are answered, never stored.

use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use http_body::Body;
use serde_json::{Map, Value, json};

use crate::access::{Account, Attributes, Resource, What};
use crate::body::{self, Answer, BoxError};
use crate::front::Credentials;
use crate::inner::Inner;
use crate::request::{Address, Target};
use crate::status::{ApiError, Cause, Subject};

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";
/// The only version.
const VERSION: &str = "v1";
/// Largest question; a token or a few attributes.
const LARGEST: usize = 64 << 10;

/// A kind of question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    Whoami,
    Token,
    MayI,
    WhatMayI,
    MayTheyHere,
    MayThey,
}

/// A row of the table of kinds.
#[derive(Debug)]
pub(crate) struct Review {
    pub question: Question,
    pub group: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub namespaced: bool,
}

const REVIEWS: &[Review] = &[
    review(Question::Whoami, AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews"),
    review(Question::Token, AUTHENTICATION, "TokenReview", "tokenreviews"),
    Review {
        namespaced: true,
        ..review(
            Question::MayTheyHere,
            AUTHORIZATION,
            "LocalSubjectAccessReview",
            "localsubjectaccessreviews",
        )
    },
    review(Question::MayI, AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews"),
    review(Question::WhatMayI, AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews"),
    review(Question::MayThey, AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews"),
];

const fn review(question: Question, group: &'static str, kind: &'static str, plural: &'static str) -> Review {
    Review { question, group, kind, plural, namespaced: false }
}

/// The groups of these kinds, for discovery.
pub(crate) const GROUPS: [&str; 2] = [AUTHENTICATION, AUTHORIZATION];

/// The kinds of a group and version, for discovery.
pub(crate) fn of(group: &str, version: &str) -> impl Iterator<Item = &'static Review> {
    let found = version == VERSION;
    REVIEWS.iter().filter(move |review| found && review.group == group)
}

/// A question that a path addresses.
pub(crate) struct Found {
    review: &'static Review,
    address: Address,
}

/// The kind that a path addresses, if it is one of these.
pub(crate) fn find(path: &str) -> Option<Found> {
    // Nearly every request is about something else.
    if !GROUPS.iter().any(|group| path.contains(group)) {
        return None;
    }
    let Some(Target::Resource(address)) = Target::parse(path) else { return None };
    let review = of(&address.group, &address.version).find(|review| review.plural == address.plural)?;
    Some(Found { review, address })
}

/// Who asks, and what answers are made from.
pub(crate) struct Asked<'a> {
    pub inner: &'a Inner,
    pub account: &'a Account,
    pub credentials: &'a Credentials,
}

/// Answers a question.
pub(crate) async fn answer<B>(
    asked: &Asked<'_>,
    found: &Found,
    parts: &Parts,
    body: B,
) -> Result<Answer, ApiError>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<BoxError>,
{
    let Found { review, address } = found;
    if address.name.is_some() || address.namespace.is_some() != review.namespaced {
        return Err(ApiError::no_such_path());
    }
    if parts.method != Method::POST {
        return Err(ApiError::method_not_allowed());
    }
    let bytes = body::read(body, LARGEST).await?;
    let mut object = body::parse_object(review.kind, body::media_type(&parts.headers), &bytes)?;
    let api_version = format!("{}/{VERSION}", review.group);
    body::take_kind(&mut object, review.kind, &api_version)?;
    let spec = object.get("spec").cloned().unwrap_or_else(|| json!({}));
    let status = status(asked, found, &spec)?;
    if let Some(map) = object.as_object_mut() {
        map.entry("metadata").or_insert_with(|| json!({}));
        map.insert("status".into(), status);
    }
    Ok(body::json_answer(StatusCode::CREATED, &object))
}

fn status(asked: &Asked<'_>, found: &Found, spec: &Value) -> Result<Value, ApiError> {
    match found.review.question {
        Question::Whoami => Ok(json!({"userInfo": user_info(asked.account)})),
        Question::Token => token_status(asked, spec),
        Question::MayI => decision(asked.account, found, spec),
        Question::WhatMayI => {
            let namespace = text(spec, "namespace");
            if namespace.is_empty() {
                return Err(ApiError::bad_request("no namespace on request"));
            }
            Ok(rules(asked.account, &namespace))
        }
        Question::MayThey | Question::MayTheyHere => {
            let user = text(spec, "user");
            let groups = texts(spec, "groups");
            if user.is_empty() && groups.is_empty() {
                let why = "at least one of user or group must be specified";
                return Err(invalid(found, "spec.user", &json!(user), why));
            }
            let known = Account::clone(&asked.inner.account(&user)).in_groups(groups);
            decision(&known, found, spec)
        }
    }
}

fn user_info(account: &Account) -> Value {
    json!({"username": account.name(), "groups": account.groups()})
}

fn token_status(asked: &Asked<'_>, spec: &Value) -> Result<Value, ApiError> {
    let token = text(spec, "token");
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences = texts(spec, "audiences");
    let Some(account) = asked.credentials.account(asked.inner, token.as_bytes(), &audiences) else {
        return Ok(json!({"user": {}, "error": "invalid bearer token"}));
    };
    let mut status = json!({"authenticated": true, "user": user_info(&account)});
    if let (Some(map), false) = (status.as_object_mut(), audiences.is_empty()) {
        map.insert("audiences".into(), json!(audiences));
    }
    Ok(status)
}

/// `allowed` for exactly one of `resourceAttributes` and `nonResourceAttributes`.
fn decision(account: &Account, found: &Found, spec: &Value) -> Result<Value, ApiError> {
    let part = |key: &str| spec.get(key).filter(|part| part.is_object());
    let wanted = match (part("resourceAttributes"), part("nonResourceAttributes")) {
        (Some(resource), None) => Attributes {
            verb: text(resource, "verb"),
            what: What::Resource(Resource {
                group: text(resource, "group"),
                resource: text(resource, "resource"),
                subresource: text(resource, "subresource"),
                namespace: text(resource, "namespace"),
                name: text(resource, "name"),
            }),
        },
        (None, Some(path)) => Attributes { verb: text(path, "verb"), what: What::Path(text(path, "path")) },
        (first, _) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            let value = first.cloned().unwrap_or(Value::Null);
            // kube-apiserver does not know here which kind of review it is.
            let subject = Subject { group: found.review.group, ..Subject::default() };
            let cause = Cause::invalid("spec.resourceAttributes", &value, why);
            return Err(ApiError::invalid(&subject, &[cause]));
        }
    };
    if let (true, What::Resource(resource)) = (found.review.namespaced, &wanted.what)
        && Some(resource.namespace.as_str()) != found.address.namespace.as_deref()
    {
        let why = "must match metadata.namespace";
        return Err(invalid(found, "spec.resourceAttributes.namespace", &json!(resource.namespace), why));
    }
    Ok(json!({"allowed": account.allows(&wanted)}))
}

fn rules(account: &Account, namespace: &str) -> Value {
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in account.rules_in(namespace) {
        match rule.non_resource_urls {
            Some(urls) => paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": urls})),
            None => {
                let mut shown = Map::new();
                shown.insert("verbs".into(), json!(rule.verbs));
                shown.insert("apiGroups".into(), json!(rule.api_groups));
                shown.insert("resources".into(), json!(rule.resources));
                if let Some(names) = rule.resource_names {
                    shown.insert("resourceNames".into(), json!(names));
                }
                resources.push(Value::Object(shown));
            }
        }
    }
    json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
}

fn invalid(found: &Found, field: &str, value: &Value, why: &str) -> ApiError {
    let subject = Subject { group: found.review.group, kind: found.review.kind, ..Subject::default() };
    ApiError::invalid(&subject, &[Cause::invalid(field, value, why)])
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn texts(value: &Value, key: &str) -> Vec<String> {
    let list = value.get(key).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

// SPDX-License-Identifier: Apache-2.0

//! Tokens of service accounts: made when asked for (`serviceaccounts/<name>/token`, as `kubectl create token` does), and known again when they are presented.
//!
//! A token is a JWT (RFC 7519) with the claims that Kubernetes gives, signed with HMAC-SHA-256 under a key that only this server has: nobody else needs to read it,
//! since a TokenReview tells whose it is. It holds until it expires, or until its account is gone. `front` hands requests for tokens over, and asks for bearers.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hmac::{Hmac, Mac as _};
use http::request::Parts;
use http::{Method, StatusCode};
use http_body::Body;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::body::{self, Answer, BoxError};
use crate::inner::Inner;
use crate::object;
use crate::pki::Token;
use crate::request::{Address, Target};
use crate::status::{ApiError, Cause, Subject};
use crate::store::Key;

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";
/// Who made it and, unless something else is asked for, whom it is for: what kube-apiserver is called by its pods.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";
/// Storage name of service accounts.
const ACCOUNTS: &str = "/serviceaccounts";
/// Largest request for a token.
const LARGEST: usize = 64 << 10;

/// Life of a token that is asked for without one, in seconds.
const LIFE: i64 = 3600;
/// Shortest life, in seconds.
const SHORTEST: i64 = 600;
/// Longest life, in seconds.
const LONGEST: i64 = 1 << 32;

/// Signs tokens, and knows its signature. It cannot be printed.
#[derive(Clone)]
pub(crate) struct Signer(Hmac<Sha256>);

impl Signer {
    /// With a secret of its own; `None` never happens, HMAC takes keys of any length.
    pub fn new(secret: &Token) -> Option<Self> {
        Hmac::new_from_slice(secret.reveal().as_bytes()).ok().map(Self)
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "HS256", "typ": "JWT"});
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature = self.0.clone().chain_update(&signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The claims of a token of ours. What its header says does not count: there is one way to sign.
    fn claims(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.0.clone().chain_update(signed).verify_slice(&signature).ok()?;
        let (_, claims) = signed.split_once('.')?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }

    /// Name of the user whose token this is, if it is meant for one of `audiences` and holds.
    pub fn user(&self, inner: &Inner, presented: &[u8], audiences: &[String]) -> Option<String> {
        let claims = self.claims(std::str::from_utf8(presented).ok()?)?;
        let now = jiff::Timestamp::now().as_second();
        let number = |name: &str| claims.get(name).and_then(Value::as_i64);
        if number("exp")? <= now || number("nbf")? > now {
            return None;
        }
        let meant = claims.get("aud").and_then(Value::as_array).into_iter().flatten();
        if !meant.filter_map(Value::as_str).any(|audience| audiences.iter().any(|own| own == audience)) {
            return None;
        }
        let of = |path: &[&str]| object::at(&claims, path).and_then(Value::as_str);
        let namespace = of(&["kubernetes.io", "namespace"])?;
        let name = of(&["kubernetes.io", "serviceaccount", "name"])?;
        let account = account(inner, namespace, name).ok()?;
        let same = Some(object::uid(&account)) == of(&["kubernetes.io", "serviceaccount", "uid"]);
        (same && !object::is_deleting(&account)).then(|| user_name(namespace, name))
    }
}

/// What Kubernetes calls the user that a service account is.
fn user_name(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

fn account(inner: &Inner, namespace: &str, name: &str) -> Result<Value, ApiError> {
    let found = inner.store.snapshot()?.get(&Key::new(ACCOUNTS, namespace, name))?;
    let subject = Subject { plural: "serviceaccounts", kind: "ServiceAccount", name, group: "" };
    let stored = found.ok_or_else(|| ApiError::not_found(&subject))?;
    serde_json::from_slice(&stored.bytes).map_err(ApiError::internal)
}

/// The account that a path asks a token of.
pub(crate) fn find(path: &str) -> Option<Address> {
    // Nearly every request is about something else.
    if !path.ends_with("/token") {
        return None;
    }
    let Some(Target::Resource(address)) = Target::parse(path) else { return None };
    let is_it = (address.group.as_str(), address.version.as_str(), address.plural.as_str())
        == ("", "v1", "serviceaccounts")
        && address.namespace.is_some()
        && address.subresource.as_deref() == Some("token");
    is_it.then_some(address)
}

/// Makes a token; `signer` is that of the listener that the request came through.
pub(crate) async fn create<B>(
    inner: &Inner,
    signer: Option<&Signer>,
    address: &Address,
    (parts, body): (&Parts, B),
) -> Result<Answer, ApiError>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<BoxError>,
{
    if parts.method != Method::POST {
        return Err(ApiError::method_not_allowed());
    }
    let signer = signer.ok_or_else(|| ApiError::service_unavailable("tokens are for those who log in"))?;
    let bytes = body::read(body, LARGEST).await?;
    let mut request = body::parse_object(KIND, body::media_type(&parts.headers), &bytes)?;
    let api_version = format!("{GROUP}/v1");
    body::take_kind(&mut request, KIND, &api_version)?;
    let wanted = Wanted::read(&request)?;
    let (namespace, name) = (address.namespace.as_deref(), address.name.as_deref());
    let (namespace, name) = (namespace.unwrap_or_default(), name.unwrap_or_default());
    let account = account(inner, namespace, name)?;
    let now = jiff::Timestamp::now().as_second();
    let until = now.saturating_add(wanted.life);
    let token = signer.sign(&json!({
        "iss": ISSUER,
        "aud": wanted.audiences,
        "sub": user_name(namespace, name),
        "iat": now,
        "nbf": now,
        "exp": until,
        "jti": uuid::Uuid::new_v4().to_string(),
        "kubernetes.io": {
            "namespace": namespace,
            "serviceaccount": {"name": name, "uid": object::uid(&account)},
        },
    }));
    let until = jiff::Timestamp::from_second(until).map_err(ApiError::internal)?;
    let map = object::object_mut(&mut request);
    map.insert(
        "metadata".into(),
        json!({"name": name, "namespace": namespace, "creationTimestamp": object::timestamp()}),
    );
    map.insert(
        "spec".into(),
        json!({"audiences": wanted.audiences, "expirationSeconds": wanted.life, "boundObjectRef": null}),
    );
    map.insert("status".into(), json!({"token": token, "expirationTimestamp": until.to_string()}));
    Ok(body::json_answer(StatusCode::CREATED, &request))
}

/// What a request asks for.
struct Wanted {
    audiences: Vec<String>,
    life: i64,
}

impl Wanted {
    fn read(request: &Value) -> Result<Self, ApiError> {
        let spec = |name: &str| object::at(request, &["spec", name]).filter(|value| !value.is_null());
        if let Some(kind) = spec("boundObjectRef").and_then(|to| to.get("kind")).and_then(Value::as_str) {
            return Err(ApiError::bad_request(format!("cannot bind token to object of type {kind}")));
        }
        let life = spec("expirationSeconds").map_or(Some(LIFE), Value::as_i64);
        let life = life.ok_or_else(|| ApiError::bad_request("spec.expirationSeconds is not a number"))?;
        let why = match life {
            ..SHORTEST => "may not specify a duration less than 10 minutes",
            SHORTEST..=LONGEST => "",
            _ => "may not specify a duration larger than 2^32 seconds",
        };
        if !why.is_empty() {
            let subject = Subject { group: GROUP, kind: KIND, ..Subject::default() };
            let cause = Cause::invalid("spec.expirationSeconds", &life.into(), why);
            return Err(ApiError::invalid(&subject, &[cause]));
        }
        let given = spec("audiences").and_then(Value::as_array).into_iter().flatten();
        let mut audiences: Vec<String> = given.filter_map(Value::as_str).map(str::to_owned).collect();
        if audiences.is_empty() {
            audiences.push(ISSUER.to_owned());
        }
        Ok(Self { audiences, life })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_known_and_a_changed_token_is_not() {
        let temporary = tempfile::tempdir().unwrap();
        let token = |file| {
            let identity = crate::pki::Identity::load_or_create(temporary.path(), &[]).unwrap();
            identity.token_of(file).unwrap()
        };
        let (ours, other) = (Signer::new(&token("a")).unwrap(), Signer::new(&token("b")).unwrap());
        let claims = json!({"sub": "system:serviceaccount:a:b"});
        let signed = ours.sign(&claims);
        assert_eq!(ours.claims(&signed), Some(claims.clone()));
        assert_eq!(other.claims(&signed), None);
        let (head, signature) = signed.rsplit_once('.').unwrap();
        let (header, _) = head.split_once('.').unwrap();
        let forged = URL_SAFE_NO_PAD.encode(json!({"sub": "system:serviceaccount:a:c"}).to_string());
        assert_eq!(ours.claims(&format!("{header}.{forged}.{signature}")), None);
        let unsigned = URL_SAFE_NO_PAD.encode(json!({"alg": "none"}).to_string());
        assert_eq!(ours.claims(&format!("{unsigned}.{forged}.")), None);
        assert_eq!(ours.claims("no token"), None);
    }

    #[test]
    fn only_accounts_have_tokens() {
        assert!(find("/api/v1/namespaces/a/serviceaccounts/b/token").is_some());
        for path in [
            "/api/v1/serviceaccounts/b/token",
            "/api/v1/namespaces/a/secrets/b/token",
            "/apis/x.invalid/v1/namespaces/a/serviceaccounts/b/token",
            "/api/v1/namespaces/a/serviceaccounts/token",
        ] {
            assert!(find(path).is_none(), "{path}");
        }
    }
}

// SPDX-License-Identifier: Apache-2.0

//! What every request passes before the handlers: who asks, as whom, and whether they may.
//!
//! ```text
//! token --Credentials--> account --Impersonate-User--> account --rules--> reviews or handlers
//! ```
//!
//! The TLS listener and the in-process service call [`answer`]; nothing reaches `handlers` around it.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method};
use http_body::Body;
use tokio_util::sync::CancellationToken;

use crate::access::{Account, Attributes};
use crate::body::{Answer, BoxError};
use crate::inner::Inner;
use crate::pki::Token;
use crate::request::Query;
use crate::status::{ApiError, Subject};
use crate::tokens::{self, Signer};
use crate::{handlers, reviews};

const AS_USER: &str = "impersonate-user";
const AS_GROUP: &str = "impersonate-group";

/// Bearer tokens and whose they are, and what tokens of service accounts are signed with.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    tokens: Vec<(Token, String)>,
    signer: Option<Signer>,
}

impl Credentials {
    pub fn add(&mut self, token: Token, user: String) {
        self.tokens.push((token, user));
    }

    pub fn sign_with(&mut self, secret: &Token) {
        self.signer = Signer::new(secret);
    }

    /// Whose token this is; a service account's must be meant for one of `audiences`, or for this server when there are none.
    pub fn account(&self, inner: &Inner, presented: &[u8], audiences: &[String]) -> Option<Arc<Account>> {
        if let Some(user) = self.user(presented) {
            return Some(inner.account(user));
        }
        let own = [tokens::ISSUER.to_owned()];
        let audiences = if audiences.is_empty() { &own } else { audiences };
        let user = self.signer.as_ref()?.user(inner, presented, audiences)?;
        Some(inner.account(&user))
    }

    /// All tokens are looked at, each in constant time, so that the time tells nothing.
    fn user(&self, presented: &[u8]) -> Option<&str> {
        let mut found = None;
        for (token, user) in &self.tokens {
            if token.is(presented) {
                found = found.or(Some(user.as_str()));
            }
        }
        found
    }
}

/// Answers a request of `account`, if it may ask that. `credentials` are those of the listener it came through.
pub(crate) async fn answer<B>(
    inner: Arc<Inner>,
    account: Arc<Account>,
    credentials: &Credentials,
    stop: &CancellationToken,
    (parts, body): (Parts, B),
) -> Answer
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<BoxError>,
{
    let writing = (!matches!(parts.method, Method::GET | Method::HEAD)).then(|| inner.begin_write());
    let account = match impersonated(&inner, inner.in_force(account), &parts.headers) {
        Ok(account) => inner.in_force(account),
        Err(error) => return handlers::refuse(&parts, &error),
    };
    let _writing = writing.filter(|_| !account.is_master());
    if let Err(error) = check(&account, &parts) {
        return handlers::refuse(&parts, &error);
    }
    if let Some(address) = tokens::find(parts.uri.path()) {
        let signer = credentials.signer.as_ref();
        let made = tokens::create(&inner, signer, &address, (&parts, body)).await;
        return made.unwrap_or_else(|error| handlers::refuse(&parts, &error));
    }
    match reviews::find(parts.uri.path()) {
        None => handlers::handle(inner, stop, parts, body).await,
        Some(found) => {
            let asked = reviews::Asked { inner: &inner, account: &account, credentials };
            match reviews::answer(&asked, &found, &parts, body).await {
                Ok(answer) => answer,
                Err(error) => handlers::refuse(&parts, &error),
            }
        }
    }
}

fn check(account: &Account, parts: &Parts) -> Result<(), ApiError> {
    // Most requests are the administrator's or those of a process that is let do everything.
    if account.is_master() {
        return Ok(());
    }
    let query = parts.uri.query().unwrap_or_default();
    allowed(account, &Attributes::of(&parts.method, parts.uri.path(), query))?;
    // Whoever restores makes objects that the server else would not: with the UID and the status of their choice.
    match Query::parse(query) {
        Ok(query) if query.restore => {
            let why = "only the administrator may restore objects as they were";
            Err(ApiError::forbidden(&Subject::default(), why, None))
        }
        _ => Ok(()),
    }
}

fn allowed(account: &Account, wanted: &Attributes) -> Result<(), ApiError> {
    if account.allows(wanted) {
        return Ok(());
    }
    let denied = wanted.denied(account.name());
    tracing::info!(user = account.name(), problem = denied.message, "request refused");
    Err(ApiError::access_denied(&denied))
}

/// The account that a request is made as (`kubectl --as`), where the one it comes from may do that.
fn impersonated(inner: &Inner, account: Arc<Account>, headers: &HeaderMap) -> Result<Arc<Account>, ApiError> {
    let text = |value: &http::HeaderValue| value.to_str().map(str::to_owned).unwrap_or_default();
    let groups: Vec<String> = headers.get_all(AS_GROUP).iter().map(text).collect();
    let Some(user) = headers.get(AS_USER).map(text).filter(|user| !user.is_empty()) else {
        let others = headers.keys().any(|name| name.as_str().starts_with("impersonate-"));
        return match others {
            true => Err(ApiError::internal("requested impersonation without impersonating a user")),
            false => Ok(account),
        };
    };
    let wanted = match user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
        Some((namespace, name)) => Attributes::impersonate("serviceaccounts", namespace, name),
        None => Attributes::impersonate("users", "", &user),
    };
    allowed(&account, &wanted)?;
    for group in &groups {
        allowed(&account, &Attributes::impersonate("groups", "", group))?;
    }
    let known = inner.account(&user);
    Ok(match groups.is_empty() {
        true => known,
        false => Arc::new(Account::clone(&known).in_groups(groups)),
    })
}

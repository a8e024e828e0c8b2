// SPDX-License-Identifier: Apache-2.0

//! HTTP towards one BMC: bounded bodies, redirects on the same host only, waiting when the BMC says that it is busy,
//! ETags on writes.
//!
//! Everything above works with [`Reply`] values; nothing above sees reqwest.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;
use url::Url;

use crate::auth::Auth;
use crate::client::{Credentials, Options};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::json;
use crate::tls;

/// A body beyond this fails the request. The largest useful ones, firmware inventories, are a few hundred KiB.
const MAX_BODY: usize = 4 << 20;
/// Redirects followed for one request; the next one fails it.
const MAX_REDIRECTS: usize = 4;
/// How often a request is repeated when the BMC answers 429 or 503; after that the answer stands.
const MAX_BUSY: u32 = 3;
/// Longest honoured `Retry-After`; a longer wish is cut to this, as the caller has a deadline of its own.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(15);
/// Wait when the BMC is busy but names no time.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

/// One HTTP answer, body parsed. A body that is not JSON is `Value::Null`.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    /// Where the answer came from in the end.
    pub(crate) url: Url,
}

impl Reply {
    /// The entity tag, from the header or from `@odata.etag`.
    pub(crate) fn etag(&self) -> Option<String> {
        self.header("etag").or_else(|| json::text(&self.body, "@odata.etag")).map(str::to_owned)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// `Retry-After` in seconds, cut to our bound. The date form (RFC 9110 10.2.3) is treated as absent: BMC clocks are wrong.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let seconds: u64 = self.header("retry-after")?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
    }
}

/// What to send. The body is JSON, as everywhere in Redfish.
#[derive(Clone, Copy, Default)]
pub(crate) struct Payload<'a> {
    pub(crate) body: Option<&'a Value>,
    pub(crate) if_match: Option<&'a str>,
}

/// The connection to one service.
pub(crate) struct Transport {
    http: reqwest::Client,
    endpoint: Endpoint,
    credentials: Credentials,
    pub(crate) auth: Auth,
    /// Where sessions are created, once known; `None` when the service has none or Basic was asked for.
    pub(crate) sessions: Option<Url>,
}

impl Transport {
    pub(crate) fn new(
        endpoint: Endpoint,
        credentials: Credentials,
        options: &Options,
    ) -> Result<Self, Error> {
        let setup = |reason: String| Error::Tls { endpoint: endpoint.clone(), reason };
        let tls = tls::client_config(&options.trust).map_err(|error| setup(error.to_string()))?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(options.connect_timeout)
            .timeout(options.request_timeout)
            .pool_max_idle_per_host(1)
            .user_agent(concat!("tinkerbell-redfish/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| setup(error.without_url().to_string()))?;
        Ok(Self { http, endpoint, credentials, auth: Auth::None, sessions: None })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// GET that has to succeed.
    pub(crate) async fn get(&mut self, url: &Url) -> Result<Reply, Error> {
        let reply = self.request(Method::GET, url, Payload::default()).await?;
        self.checked(reply)
    }

    /// Any request, with redirects, busy answers and an expired session dealt with; other error statuses are the caller's
    /// to judge.
    pub(crate) async fn request(
        &mut self,
        method: Method,
        url: &Url,
        payload: Payload<'_>,
    ) -> Result<Reply, Error> {
        let mut busy = 0;
        let mut renewed = false;
        loop {
            let reply = self.redirected(method.clone(), url, payload).await?;
            let expired =
                reply.status == StatusCode::UNAUTHORIZED && matches!(self.auth, Auth::Session { .. });
            if expired && !renewed {
                renewed = true;
                self.login().await?;
                continue;
            }
            if !matches!(reply.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
                || busy == MAX_BUSY
            {
                return Ok(reply);
            }
            busy += 1;
            let wait = reply.retry_after().unwrap_or(DEFAULT_RETRY_AFTER);
            tracing::debug!(bmc = %self.endpoint, wait_seconds = wait.as_secs(), "BMC is busy, waiting");
            tokio::time::sleep(wait).await;
        }
    }

    /// PATCH with the resource's entity tag. A 412 is answered with the other forms that BMCs want: the tag without its
    /// weakness mark, then none at all (some check it against a tag that they changed themselves).
    pub(crate) async fn patch(
        &mut self,
        url: &Url,
        body: &Value,
        etag: Option<&str>,
    ) -> Result<Reply, Error> {
        let strong = etag.and_then(|tag| tag.strip_prefix("W/"));
        let mut forms = vec![etag];
        forms.extend(strong.map(Some));
        forms.extend(etag.is_some().then_some(None));
        forms.extend(etag.is_none().then_some(Some("*")));
        let mut last = None;
        for if_match in forms {
            let reply = self.request(Method::PATCH, url, Payload { body: Some(body), if_match }).await?;
            // 428: a tag is required (RFC 6585).
            let retag =
                matches!(reply.status, StatusCode::PRECONDITION_FAILED | StatusCode::PRECONDITION_REQUIRED);
            if !retag {
                return Ok(reply);
            }
            last = Some(reply);
        }
        last.ok_or_else(|| Error::Protocol("no form of the entity tag was tried".into()))
    }

    /// Turns an error status into an error.
    pub(crate) fn checked(&self, reply: Reply) -> Result<Reply, Error> {
        if reply.status.is_success() { Ok(reply) } else { Err(self.refusal(&reply)) }
    }

    /// The error that a refusing answer means.
    pub(crate) fn refusal(&self, reply: &Reply) -> Error {
        let status = reply.status.as_u16();
        if matches!(reply.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Error::Auth { endpoint: self.endpoint.clone(), status };
        }
        let (message_id, message) = json::error_message(&reply.body);
        Error::Api { status, message_id, message: self.redacted(&message) }
    }

    /// A BMC may repeat what it was sent.
    pub(crate) fn redacted(&self, message: &str) -> String {
        let password = self.credentials.password.as_str();
        if password.is_empty() { message.to_owned() } else { message.replace(password, "<redacted>") }
    }

    pub(crate) async fn redirected(
        &self,
        method: Method,
        url: &Url,
        payload: Payload<'_>,
    ) -> Result<Reply, Error> {
        let mut url = url.clone();
        let mut method = method;
        for _ in 0..=MAX_REDIRECTS {
            let reply = self.send(method.clone(), &url, payload).await?;
            let location = reply.header("location").map(str::to_owned);
            let (true, Some(location)) = (is_redirect(reply.status), location) else { return Ok(reply) };
            let next =
                url.join(&location).map_err(|_| Error::Protocol("a redirect leads to no URL".into()))?;
            if !self.endpoint.may_redirect(&next) {
                return Err(Error::Protocol("a redirect leads to another host or away from TLS".into()));
            }
            if reply.status == StatusCode::SEE_OTHER {
                method = Method::GET;
            }
            url = next;
        }
        Err(Error::Protocol("the redirects do not end".into()))
    }

    async fn send(&self, method: Method, url: &Url, payload: Payload<'_>) -> Result<Reply, Error> {
        let mut request = self
            .http
            .request(method.clone(), url.clone())
            .header("OData-Version", "4.0")
            .header(http::header::ACCEPT, "application/json");
        if let Some(tag) = payload.if_match {
            request = request.header(http::header::IF_MATCH, tag);
        }
        if let Some(body) = payload.body.filter(|_| method != Method::GET) {
            request = request.json(body);
        }
        let response = self.auth.apply(request).send().await.map_err(|error| self.broken(error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = self.bounded_body(response).await?;
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        tracing::trace!(bmc = %self.endpoint, %method, path = url.path(), status = status.as_u16(), "redfish request");
        Ok(Reply { status, headers, body, url: url.clone() })
    }

    async fn bounded_body(&self, mut response: reqwest::Response) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.broken(error))? {
            if bytes.len() + chunk.len() > MAX_BODY {
                return Err(Error::Protocol(format!("it is larger than {} MiB", MAX_BODY >> 20)));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn broken(&self, error: reqwest::Error) -> Error {
        let endpoint = self.endpoint.clone();
        if let Some(reason) = tls::handshake_failure(&error) {
            return Error::Tls { endpoint, reason };
        }
        if error.is_timeout() && !error.is_connect() {
            return Error::Timeout { endpoint };
        }
        let reason = if error.is_timeout() { "no connection in time".to_owned() } else { innermost(&error) };
        Error::Unreachable { endpoint, reason }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The last cause of an error chain, which is what a person wants to know ("Connection refused").
fn innermost(error: &dyn std::error::Error) -> String {
    let mut current = error;
    while let Some(source) = current.source() {
        current = source;
    }
    current.to_string()
}

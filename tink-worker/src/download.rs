// SPDX-License-Identifier: Apache-2.0
//! One HTTP download that survives broken connections: it goes on at the byte it reached (RFC 9110, sections 13.1.5 and
//! 14) and proves that the rest belongs to the same file. The image2disk action owns it.
//!
//! ```text
//!  open --200--> reading --end of body--> complete
//!                  |  ^
//!        broken    |  | 206 from the byte reached, or 200 of the same file (the known part is skipped)
//!                  v  |
//!                resuming --4xx--> Refused     --another file--> Changed     --no bytes again--> Truncated
//! ```
//!
//! What may be temporary (no connection, 5xx, 408, 425, 429, a stall) is tried again with growing waits; the time
//! without any progress is bounded by [`Patience`].

use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE,
};
use reqwest::{Client, NoProxy, Proxy, Response, StatusCode};
use url::Url;

use crate::backoff::Backoff;
use crate::config::Proxies;
use crate::tls;

const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// A body that gives no byte for this long is taken for broken.
const STALL_PATIENCE: Duration = Duration::from_secs(30);

const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// A server that accepts to go on and then closes without a byte, this often at the same place, has no more.
const EMPTY_ANSWERS: u32 = 4;

/// How long to go on without any progress.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience(pub(crate) Duration);

/// Why no bytes come at the moment; none while they do. Shared with whoever reports how far an action is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standstill(Arc<Mutex<Option<String>>>);

impl Standstill {
    /// The reason, if there is one.
    pub(crate) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, reason: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}

/// Why a download ended without all its bytes. [`DownloadError::Changed`] may be answered by starting over; the others
/// are permanent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownloadError {
    #[error("cannot prepare the download: {0}")]
    Setup(String),
    #[error("{url} answered {status}")]
    Refused { url: String, status: StatusCode },
    #[error("image ended at byte {at} of {of}: {url} holds no more")]
    Truncated { url: String, at: u64, of: u64 },
    #[error("{url} cannot be continued at byte {at}: {reason}")]
    Changed { url: String, at: u64, reason: &'static str },
    #[error("certificate of {url} is not accepted: {reason}")]
    Certificate { url: String, reason: String },
    #[error("gave up on {url} at byte {at} after {}s without progress: {reason}", .waited.as_secs())]
    GaveUp { url: String, at: u64, waited: Duration, reason: String },
}

/// What proves that two answers are of the same file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    /// A strong validator, as it stands in its header, where the server gave one.
    validator: Option<String>,
    length: Option<u64>,
}

/// A running download.
pub(crate) struct Download {
    client: Client,
    url: Url,
    patience: Patience,
    identity: Identity,
    position: u64,
    /// Bytes of the current answer that were already delivered from an earlier one.
    skip: u64,
    response: Option<Response>,
    empty_answers: u32,
    resumed: u32,
    standstill: Standstill,
}

/// What one attempt came to.
enum Attempt {
    Answer(Response, Identity),
    /// Worth another try.
    Transient(String),
}

impl Download {
    /// Sends the request, again while the reason for its failure may be temporary, until the server answers with the
    /// file.
    pub(crate) async fn open(
        client: Client,
        url: Url,
        patience: Patience,
        standstill: Standstill,
    ) -> Result<Self, DownloadError> {
        let since = Instant::now();
        let mut backoff = Backoff::new(LONGEST_BACKOFF);
        loop {
            match attempt(&client, &url, None).await? {
                Attempt::Answer(response, identity) => {
                    standstill.set(None);
                    return Ok(Self {
                        client,
                        url,
                        patience,
                        identity,
                        position: 0,
                        skip: 0,
                        response: Some(response),
                        empty_answers: 0,
                        resumed: 0,
                        standstill,
                    });
                }
                Attempt::Transient(reason) => {
                    standstill.set(Some(format!("{}: {reason}", redacted(&url))));
                    wait(&mut backoff, since, patience, &url, 0, reason).await?;
                }
            }
        }
    }

    /// Length of the whole file, where the server said it.
    pub(crate) fn length(&self) -> Option<u64> {
        self.identity.length
    }

    /// How often the connection was replaced.
    pub(crate) fn resumed(&self) -> u32 {
        self.resumed
    }

    /// The next bytes; `None` at the end of the file.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, DownloadError> {
        loop {
            let Some(response) = &mut self.response else {
                self.resume("the connection was lost".to_owned()).await?;
                continue;
            };
            match response.chunk().await {
                Ok(Some(bytes)) => {
                    if let Some(bytes) = self.take(bytes) {
                        return Ok(Some(bytes));
                    }
                }
                Ok(None) => match self.identity.length {
                    Some(of) if self.position < of => self.resume("the body ended early".to_owned()).await?,
                    _ => return Ok(None),
                },
                Err(error) => self.resume(reason_of(error)).await?,
            }
        }
    }

    /// Counts new bytes; those that were delivered before are left out.
    fn take(&mut self, mut bytes: Bytes) -> Option<Bytes> {
        let known = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip -= known as u64;
        drop(bytes.split_to(known));
        if bytes.is_empty() {
            return None;
        }
        self.position += bytes.len() as u64;
        if self.empty_answers > 0 {
            self.standstill.set(None);
        }
        self.empty_answers = 0;
        Some(bytes)
    }

    async fn resume(&mut self, mut reason: String) -> Result<(), DownloadError> {
        let fresh_answer = self.response.take().is_some();
        if fresh_answer {
            self.empty_answers += 1;
        }
        if let (true, Some(of)) = (self.empty_answers > EMPTY_ANSWERS, self.identity.length) {
            return Err(DownloadError::Truncated { url: redacted(&self.url), at: self.position, of });
        }
        if self.position > 0 && self.identity.validator.is_none() {
            return Err(self.changed("its server gives neither ETag nor Last-Modified"));
        }
        tracing::info!(url = %redacted(&self.url), position = self.position, %reason, "download interrupted");
        let since = Instant::now();
        let mut backoff = Backoff::new(LONGEST_BACKOFF);
        // The first attempt comes at once when the server was there a moment ago, later ones after a wait.
        for _ in 1..self.empty_answers {
            backoff.next();
        }
        if self.empty_answers > 1 {
            tokio::time::sleep(backoff.next()).await;
        }
        loop {
            let range = (self.position > 0).then_some((self.position, self.identity.validator.as_deref()));
            match attempt(&self.client, &self.url, range).await? {
                Attempt::Answer(response, identity) => {
                    self.skip = self.continuation(&response, &identity)?;
                    self.response = Some(response);
                    self.resumed += 1;
                    return Ok(());
                }
                Attempt::Transient(new_reason) => reason = new_reason,
            }
            self.standstill.set(Some(format!("{}: {reason}", redacted(&self.url))));
            wait(&mut backoff, since, self.patience, &self.url, self.position, reason.clone()).await?;
        }
    }

    /// How many bytes of an answer are known already; an error when it is not the rest of the same file.
    fn continuation(&self, response: &Response, identity: &Identity) -> Result<u64, DownloadError> {
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let Some(range) = ContentRange::of(response.headers()) else {
                    return Err(self.changed("its server answered with an unknown range"));
                };
                if range.start != Some(self.position) {
                    return Err(self.changed("its server answered with another range"));
                }
                if range.length.is_some() && range.length != self.identity.length {
                    return Err(self.changed("its length has changed"));
                }
                // Some servers do not know If-Range.
                if identity.validator.is_some() && identity.validator != self.identity.validator {
                    return Err(self.changed("it has changed on the server"));
                }
                Ok(0)
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let length = ContentRange::of(response.headers()).and_then(|range| range.length);
                match (length, self.identity.length) {
                    (Some(now), Some(of)) if now <= self.position && self.position < of => {
                        Err(DownloadError::Truncated { url: redacted(&self.url), at: self.position, of })
                    }
                    _ => Err(self.changed("its server refused the range")),
                }
            }
            _ if self.position == 0 && identity.length == self.identity.length => Ok(0),
            _ if *identity == self.identity => Ok(self.position),
            _ => Err(self.changed("it has changed on the server")),
        }
    }

    fn changed(&self, reason: &'static str) -> DownloadError {
        DownloadError::Changed { url: redacted(&self.url), at: self.position, reason }
    }
}

/// A client for downloads: plain HTTP works without any certificate, redirects are followed.
pub(crate) fn client(proxies: &Proxies) -> Result<Client, DownloadError> {
    let setup = |error: &dyn std::error::Error| DownloadError::Setup(error.to_string());
    let tls = tls::for_downloads().map_err(|error| setup(&error))?;
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls)
        .http1_only()
        .no_proxy()
        .connect_timeout(CONNECT_PATIENCE)
        .read_timeout(STALL_PATIENCE)
        .user_agent(concat!("tink-worker/", env!("CARGO_PKG_VERSION")));
    let exceptions = proxies.no_proxy.as_deref().and_then(NoProxy::from_string);
    if let Some(address) = &proxies.http {
        builder =
            builder.proxy(Proxy::http(address).map_err(|error| setup(&error))?.no_proxy(exceptions.clone()));
    }
    if let Some(address) = &proxies.https {
        builder = builder.proxy(Proxy::https(address).map_err(|error| setup(&error))?.no_proxy(exceptions));
    }
    builder.build().map_err(|error| setup(&error))
}

/// The URL without what may be secret: user, password, query, fragment.
pub(crate) fn redacted(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

async fn attempt(
    client: &Client,
    url: &Url,
    range: Option<(u64, Option<&str>)>,
) -> Result<Attempt, DownloadError> {
    let mut request = client.get(url.clone());
    if let Some((position, validator)) = range {
        request = request.header(RANGE, format!("bytes={position}-"));
        if let Some(validator) = validator {
            request = request.header(IF_RANGE, validator);
        }
    }
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => {
            if let Some(reason) = certificate_problem(&error) {
                return Err(DownloadError::Certificate { url: redacted(url), reason });
            }
            return Ok(Attempt::Transient(reason_of(error)));
        }
    };
    let status = response.status();
    let wanted = match status {
        StatusCode::OK => true,
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => range.is_some(),
        _ => false,
    };
    if wanted {
        let identity = Identity::of(response.headers());
        return Ok(Attempt::Answer(response, identity));
    }
    let transient = status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        );
    if transient {
        return Ok(Attempt::Transient(format!("the server answered {status}")));
    }
    Err(DownloadError::Refused { url: redacted(url), status })
}

async fn wait(
    backoff: &mut Backoff,
    since: Instant,
    patience: Patience,
    url: &Url,
    at: u64,
    reason: String,
) -> Result<(), DownloadError> {
    let waited = since.elapsed();
    if waited >= patience.0 {
        return Err(DownloadError::GaveUp { url: redacted(url), at, waited, reason });
    }
    let pause = backoff.next().min(patience.0.saturating_sub(waited));
    tracing::info!(url = %redacted(url), position = at, %reason, "download will be tried again");
    tokio::time::sleep(pause).await;
    Ok(())
}

impl Identity {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        // RFC 9110, section 13.1.5: a weak entity tag is no proof for a range.
        let tag = text(ETAG).filter(|tag| !tag.starts_with("W/") && !tag.is_empty());
        // RFC 9110, section 8.8.2.2: a date is strong once it is a second older than the answer.
        let seconds =
            |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp().as_second());
        let modified = text(LAST_MODIFIED).filter(|modified| {
            let answered = text(DATE).and_then(seconds);
            matches!((seconds(modified), answered), (Some(modified), Some(answered)) if modified < answered)
        });
        // A server that says "none" means it.
        let ranges_refused = text(ACCEPT_RANGES) == Some("none");
        let validator = tag.or(modified).filter(|_| !ranges_refused).map(str::to_owned);
        Self { validator, length: text(CONTENT_LENGTH).and_then(|text| text.parse().ok()) }
    }
}

/// `Content-Range: bytes 5-9/10`, `bytes */10` (RFC 9110, section 14.4).
#[derive(Debug, PartialEq, Eq)]
struct ContentRange {
    start: Option<u64>,
    length: Option<u64>,
}

impl ContentRange {
    fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(CONTENT_RANGE)?.to_str().ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let (range, length) = text.trim().strip_prefix("bytes")?.trim().split_once('/')?;
        let length = match length.trim() {
            "*" => None,
            digits => Some(digits.parse().ok()?),
        };
        let start = match range.trim() {
            "*" => None,
            range => Some(range.split_once('-')?.0.trim().parse().ok()?),
        };
        Some(Self { start, length })
    }
}

/// An error's chain as one line, without the URL, which may hold secrets.
fn reason_of(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// A certificate that is wrong now is wrong a minute later.
fn certificate_problem(error: &reqwest::Error) -> Option<String> {
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(rustls::Error::InvalidCertificate(problem)) = cause.downcast_ref() {
            return Some(format!("{problem:?}"));
        }
        // An I/O error gives as its source not what it wraps but the source of that.
        let wrapped = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_parsed_leniently_and_nonsense_is_refused() {
        let range = |start, length| Some(ContentRange { start, length });
        assert_eq!(ContentRange::parse("bytes 5-9/10"), range(Some(5), Some(10)));
        assert_eq!(ContentRange::parse("bytes 5-9/*"), range(Some(5), None));
        assert_eq!(ContentRange::parse("bytes */10"), range(None, Some(10)));
        for text in ["", "bytes", "bytes 5-9", "items 5-9/10", "bytes x-9/10", "bytes 5-9/x"] {
            assert_eq!(ContentRange::parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_strong_validators_prove_identity() {
        let identity = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            Identity::of(&headers).validator
        };
        let (old, new) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(
            identity(&[("etag", "\"a\""), ("last-modified", old), ("date", new)]).as_deref(),
            Some("\"a\"")
        );
        assert_eq!(
            identity(&[("etag", "W/\"a\""), ("last-modified", old), ("date", new)]).as_deref(),
            Some(old)
        );
        assert_eq!(identity(&[("last-modified", old), ("date", old)]), None);
        assert_eq!(identity(&[("last-modified", old)]), None);
        assert_eq!(identity(&[]), None);
    }

    #[test]
    fn secrets_of_a_url_are_not_shown() {
        let url = Url::parse("https://user:pw@h:8443/a/b.gz?sig=secret#x").unwrap();
        assert_eq!(redacted(&url), "https://h:8443/a/b.gz");
    }
}

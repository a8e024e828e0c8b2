// SPDX-License-Identifier: Apache-2.0
//! The API as its clients meet it, over TLS: our server, or a real Kubernetes. One suite runs against both.
//!
//! Tests ask a [`Target`] and must never look at its kind to decide what they expect: what differs is a bug in ours.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use apiserver::pki::{Identity, write_private};
use apiserver::{Server, Tls};
use futures::StreamExt as _;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::kubernetes::{Cluster, Options};
use crate::stack::client_of;

/// Time that any one answer may take on a busy machine.
const ANSWER: Duration = Duration::from_secs(60);

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Embedded,
    /// kube-apiserver with etcd.
    Kubernetes,
}

impl Kind {
    /// For names of tests and columns of tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// A running API server, and how to reach it as admin.
pub struct Target {
    /// Which of the two.
    pub kind: Kind,
    /// `https://` address.
    pub url: String,
    /// The authority that signed its certificate, as PEM.
    pub ca: String,
    /// The admin's bearer token.
    pub token: String,
    /// The admin's kubeconfig.
    pub kubeconfig: PathBuf,
    client: Client,
    /// Sends each request once, where the other would repeat what it is told to try later.
    once: Client,
    holder: Holder,
}

enum Holder {
    Embedded(Embedded),
    Kubernetes(Cluster),
}

impl std::fmt::Debug for Target {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} at {}", self.kind.name(), self.url)
    }
}

/// Our server in this process, on a port.
struct Embedded {
    server: Arc<Server>,
    task: JoinHandle<Result<(), apiserver::ServeError>>,
    shutdown: CancellationToken,
    /// Removed with everything in it when dropped.
    _directory: tempfile::TempDir,
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.task.abort();
    }
}

impl Target {
    /// Starts one with its defaults.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(kind: Kind) -> Result<Self> {
        match kind {
            Kind::Embedded => Self::embedded(|_| {}).await,
            Kind::Kubernetes => Self::kubernetes(&Options::default()).await,
        }
    }

    /// Starts our server with changed options.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn embedded(change: impl FnOnce(&mut apiserver::Options)) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("embedded-").tempdir()?;
        let mut options = apiserver::Options::new(directory.path().join("api.redb"));
        change(&mut options);
        let server = Arc::new(Server::open(options).await?);
        let identity = Identity::load_or_create(&directory.path().join("pki"), &[])?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("https://{}", listener.local_addr()?);
        let kubeconfig = directory.path().join("kubeconfig");
        write_private(&kubeconfig, &identity.kubeconfig(&url, "default"))?;
        let (tls, shutdown) = (Tls::new(&identity)?, CancellationToken::new());
        let task = tokio::spawn({
            let (server, shutdown) = (Arc::clone(&server), shutdown.clone());
            async move { server.serve_tls(listener, tls, shutdown).await }
        });
        Ok(Self {
            kind: Kind::Embedded,
            url,
            ca: identity.ca_pem().to_owned(),
            token: identity.token().reveal().to_owned(),
            client: client_of(&kubeconfig).await?,
            once: Client::try_from(once(&kubeconfig).await?)?,
            kubeconfig,
            holder: Holder::Embedded(Embedded { server, task, shutdown, _directory: directory }),
        })
    }

    /// Starts a real Kubernetes with changed options. Must be called on a thread that stays.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn kubernetes(options: &Options) -> Result<Self> {
        let cluster = Cluster::start(options).await?;
        let kubeconfig = cluster.kubeconfig();
        Ok(Self {
            kind: Kind::Kubernetes,
            url: cluster.url().to_owned(),
            ca: cluster.ca().to_owned(),
            token: cluster.token().to_owned(),
            client: client_of(&kubeconfig).await?,
            once: Client::try_from(once(&kubeconfig).await?)?,
            kubeconfig,
            holder: Holder::Kubernetes(cluster),
        })
    }

    /// The real cluster behind it, where it is one.
    pub fn cluster(&self) -> Option<&Cluster> {
        match &self.holder {
            Holder::Kubernetes(cluster) => Some(cluster),
            Holder::Embedded(_) => None,
        }
    }

    /// Our server behind it, where it is ours.
    pub fn server(&self) -> Option<&Server> {
        match &self.holder {
            Holder::Embedded(ours) => Some(&ours.server),
            Holder::Kubernetes(_) => None,
        }
    }

    /// A folder that goes with the target.
    pub fn folder(&self) -> &Path {
        self.kubeconfig.parent().unwrap_or(&self.kubeconfig)
    }

    /// A client with the admin's rights, over TLS.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Sends a request as it is; `content_type` may be empty.
    ///
    /// # Errors
    /// When there is no HTTP answer at all. Refusals are answers.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: impl Into<Vec<u8>>,
    ) -> Result<Answer> {
        let header = [("content-type", content_type)];
        let headers = if content_type.is_empty() { &[][..] } else { &header };
        self.request_with(method, path, headers, body).await
    }

    /// Sends a request with these headers, besides the token.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn request_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Result<Answer> {
        let answer = answer(&self.once, method, path, headers, body.into()).await;
        answer.with_context(|| format!("{method} {path} of {}", self.kind.name()))
    }

    /// GET by somebody with another bearer token, or without one.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn get_as(&self, token: Option<&str>, path: &str) -> Result<Answer> {
        let mut config = once(&self.kubeconfig).await?;
        config.auth_info = serde_json::from_value(json!({"token": token}))?;
        answer(&Client::try_from(config)?, "GET", path, &[], Vec::new()).await
    }

    /// GET.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.request("GET", path, "", "").await
    }

    /// Opens a watch; `path` has its whole query.
    ///
    /// # Errors
    /// When it is refused; the error has what the server said.
    pub async fn watch(&self, path: &str) -> Result<Watch> {
        self.watch_with(path, &[]).await
    }

    /// The same with these headers.
    ///
    /// # Errors
    /// As [`Self::watch`].
    pub async fn watch_with(&self, path: &str, headers: &[(&str, &str)]) -> Result<Watch> {
        match self.open(path, headers).await? {
            Ok(watch) => Ok(watch),
            Err(refusal) => {
                bail!("watch {path} of {}: {}: {}", self.kind.name(), refusal.code, refusal.text())
            }
        }
    }

    /// Opens a watch, or gives the refusal.
    ///
    /// # Errors
    /// When there is no HTTP answer at all.
    pub async fn open(&self, path: &str, headers: &[(&str, &str)]) -> Result<Result<Watch, Answer>> {
        let answer = send(&self.once, "GET", path, headers, Vec::new());
        let (parts, body) = tokio::time::timeout(ANSWER, answer).await??.into_parts();
        if parts.status != 200 {
            return Ok(Err(Answer::read(parts, body).await?));
        }
        let frames = body.into_data_stream().map(|frame| Ok(frame?.to_vec()));
        Ok(Ok(Watch { frames: frames.boxed(), buffer: Vec::new() }))
    }

    /// Starts Kubernetes' controllers, where the cluster was started without them.
    ///
    /// # Errors
    /// When they cannot be started.
    pub fn start_controllers(&mut self) -> Result<()> {
        match &mut self.holder {
            Holder::Kubernetes(cluster) => cluster.start_controllers(&crate::kubernetes::programs()?),
            Holder::Embedded(_) => Ok(()),
        }
    }
}

/// What a client needs that repeats nothing.
async fn once(kubeconfig: &Path) -> Result<Config> {
    let file = Kubeconfig::read_from(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(config)
}

async fn send(
    client: &Client,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Result<http::Response<Body>> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Ok(client.send(request.body(Body::from(body))?).await?)
}

/// Sends a request and reads the whole answer.
async fn answer(
    client: &Client,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Result<Answer> {
    let answer = async {
        let (parts, body) = send(client, method, path, headers, body).await?.into_parts();
        Answer::read(parts, body).await
    };
    let answer = tokio::time::timeout(ANSWER, answer).await;
    answer.unwrap_or_else(|_| bail!("no answer within {} s", ANSWER.as_secs()))
}

/// An HTTP answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP code.
    pub code: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub body: Vec<u8>,
    /// The body as JSON; null when it is not JSON.
    pub json: Value,
}

impl Answer {
    async fn read(parts: http::response::Parts, body: Body) -> Result<Self> {
        let body = body.collect().await?.to_bytes();
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Ok(Self { code: parts.status.as_u16(), headers: parts.headers, body: body.into(), json })
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header; empty when missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// A string of the body by JSON pointer; empty when missing.
    pub fn str(&self, pointer: &str) -> &str {
        self.json.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}

/// A running watch.
pub struct Watch {
    frames: futures::stream::BoxStream<'static, Result<Vec<u8>>>,
    buffer: Vec<u8>,
}

impl Watch {
    /// The next event; `None` when the server has ended the watch.
    ///
    /// # Errors
    /// When nothing comes within `deadline`, or what comes is not an event.
    pub async fn next(&mut self, deadline: Duration) -> Result<Option<Value>> {
        let event = tokio::time::timeout(deadline, self.read()).await;
        event.with_context(|| format!("no event within {} s", deadline.as_secs()))?
    }

    async fn read(&mut self) -> Result<Option<Value>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            match self.frames.next().await {
                Some(frame) => self.buffer.extend_from_slice(&frame?),
                None if self.buffer.is_empty() => return Ok(None),
                None => bail!("the watch ends in the middle of {:?}", String::from_utf8_lossy(&self.buffer)),
            }
        }
    }
}

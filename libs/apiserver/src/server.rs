// SPDX-License-Identifier: Apache-2.0

//! The server as its users hold it: opening, the in-process service, installing CRDs, closing.

use std::convert::Infallible;
use std::future::Future;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::access::{Account, Writes};
use crate::body::{BoxError, ResponseBody};
use crate::front::{self, Credentials};
use crate::gc;
use crate::inner::{CRDS, Inner};
use crate::naming;
use crate::store::{Bounds, OpenError, Prefix, Store};

/// Field manager of what the server itself creates.
const MANAGER: &str = "apiserver";
/// How long a start waits for a definition that is being removed.
const LONGEST_REMOVAL: Duration = Duration::from_secs(10);

/// Where the state is, and its bounds.
#[derive(Debug, Clone)]
pub struct Options {
    /// The file that holds everything. Its directory is created when missing.
    pub path: PathBuf,
    /// Namespaces that exist from the start, besides `default` and `kube-system`.
    pub namespaces: Vec<String>,
    /// Users besides the administrator, with what they may do.
    pub accounts: Vec<Account>,
    /// Largest object, as JSON. Larger ones are refused with 500, as Kubernetes' store does; request bodies are read up to twice this.
    pub max_object_bytes: usize,
    /// Entries kept in the change log. A watch that starts before the oldest gets `410 Expired`.
    pub log_entries: u64,
    /// Age up to which entries are kept in the change log.
    pub log_age: Duration,
    /// Bytes of the change log on disk.
    pub log_bytes: u64,
    /// Memory for cached pages of the file.
    pub cache_bytes: usize,
    /// Age at which Event objects are removed.
    pub event_age: Duration,
    /// Event objects kept; beyond it the oldest are removed.
    pub event_count: usize,
    /// Time between bookmarks on a quiet watch.
    pub bookmark_interval: Duration,
}

impl Options {
    /// The defaults, with the state in `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            namespaces: Vec::new(),
            accounts: Vec::new(),
            max_object_bytes: 3 << 19,
            log_entries: 32_768,
            log_age: Duration::from_secs(3600),
            log_bytes: 64 << 20,
            cache_bytes: 32 << 20,
            event_age: Duration::from_secs(7 * 24 * 3600),
            event_count: 10_000,
            bookmark_interval: Duration::from_secs(60),
        }
    }
}

/// Why CRDs could not be installed. Not retried.
#[derive(Debug, thiserror::Error)]
#[error("cannot install CRD {name}: {source}")]
pub struct InstallError {
    name: String,
    source: Box<kube::Error>,
}

/// A running server. [`Self::close`] ends it cleanly; dropping it ends it without waiting.
pub struct Server {
    pub(crate) inner: Arc<Inner>,
    collector: Mutex<Option<JoinHandle<()>>>,
}

impl Server {
    /// Opens the file, creates the initial namespaces and starts the garbage collector. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// See [`OpenError`]; the file is left as it was.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        let bounds = Bounds {
            log_entries: options.log_entries,
            log_age: options.log_age,
            log_bytes: options.log_bytes,
            cache_bytes: options.cache_bytes,
        };
        let path = options.path.clone();
        let store = tokio::task::spawn_blocking(move || Store::open(path, bounds))
            .await
            .map_err(|e| OpenError::Load(e.to_string()))??;
        let inner = Arc::new(Inner::new(Arc::new(store), options));
        // A definition whose names were not settled before the last end is settled now.
        naming::settle(&inner).await;
        let server = Self { inner: Arc::clone(&inner), collector: Mutex::new(None) };
        server.create_namespaces().await?;
        let collector = tokio::spawn(gc::run(inner));
        *server.collector.lock().unwrap_or_else(PoisonError::into_inner) = Some(collector);
        Ok(server)
    }

    async fn create_namespaces(&self) -> Result<(), OpenError> {
        let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.client("default"));
        let builtin = ["default", "kube-system"].map(str::to_owned);
        for name in builtin.iter().chain(&self.inner.options.namespaces) {
            let namespace = serde_json::from_value(json!({"metadata": {"name": name}}));
            let namespace = namespace.map_err(|e| OpenError::Load(e.to_string()))?;
            let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
            match api.create(&params, &namespace).await {
                Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
                Err(error) => return Err(OpenError::Load(format!("namespace {name}: {error}"))),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// The API as a service, for [`kube::Client::new`] or a listener of one's own. It does not authenticate: who has it is the administrator.
    pub fn service(&self) -> ApiService {
        ApiService { inner: Arc::clone(&self.inner), account: self.inner.admin() }
    }

    /// The API as the user of this name has it. A user whom [`Options::accounts`] does not have may do next to nothing.
    pub fn service_as(&self, user: &str) -> ApiService {
        ApiService { inner: Arc::clone(&self.inner), account: self.inner.account(user) }
    }

    /// A client in process with the rights of a user, and `namespace` as its default.
    pub fn client_as(&self, user: &str, namespace: &str) -> kube::Client {
        kube::Client::new(self.service_as(user), namespace)
    }

    /// A client in process, with `namespace` as its default.
    pub fn client(&self, namespace: &str) -> kube::Client {
        kube::Client::new(self.service(), namespace)
    }

    /// Lets accounts other than the administrator write, or no longer: for a program that hands its state over. Holds for requests that come from now
    /// on, and until the server is closed; every server begins with [`Writes::Allowed`].
    pub fn set_writes(&self, writes: Writes) {
        self.inner.set_writes(writes);
    }

    /// Waits until every write has ended that was let in before writes were suspended. A client that sends its request slowly holds that up: whoever calls
    /// has a deadline.
    pub async fn writes_ended(&self) {
        self.inner.writes_ended().await;
    }

    /// Applies CRDs; they are served when this returns.
    ///
    /// # Errors
    /// [`InstallError`] for the first one that is refused.
    pub async fn install_crds(&self, crds: &[CustomResourceDefinition]) -> Result<(), InstallError> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client("default"));
        for crd in crds {
            let name = crd.metadata.name.clone().unwrap_or_default();
            let wrong = |source| InstallError { name: name.clone(), source: Box::new(source) };
            let params = PatchParams::apply(MANAGER).force();
            let apply = async || api.patch(&name, &params, &Patch::Apply(crd)).await;
            let applied = apply().await.map_err(wrong)?;
            // It was being removed: it is made anew when it is gone.
            if applied.metadata.deletion_timestamp.is_some() && is_gone(&api, &name).await.map_err(wrong)? {
                apply().await.map_err(wrong)?;
            }
        }
        Ok(())
    }

    /// Does the same, unless it was done with definitions of this `digest` before and no definition was changed since: making and applying them is most of
    /// a start.
    ///
    /// # Errors
    /// [`InstallError`] for the first one that is refused.
    pub async fn install_crds_once(
        &self,
        digest: u64,
        crds: impl FnOnce() -> Vec<CustomResourceDefinition>,
    ) -> Result<(), InstallError> {
        let found = self.definitions(digest);
        if found.is_some() && found == self.inner.store.noted().unwrap_or_default() {
            return Ok(());
        }
        self.install_crds(&crds()).await?;
        let (store, installed) = (Arc::clone(&self.inner.store), self.definitions(digest));
        let noting = tokio::task::spawn_blocking(move || installed.map_or(Ok(()), |note| store.note(note)));
        if let Ok(Err(error)) = noting.await {
            // They are installed once more at the next start.
            tracing::debug!(%error, "cannot note that the definitions are installed");
        }
        Ok(())
    }

    /// Stands for `digest` and the stored definitions with their versions; None when they cannot be read.
    fn definitions(&self, digest: u64) -> Option<u64> {
        let mut found = DefaultHasher::new();
        digest.hash(&mut found);
        let scanned = self.inner.store.snapshot().and_then(|snapshot| {
            snapshot.scan(&Prefix::new(CRDS, None), None, |stored| {
                (stored.key, stored.version).hash(&mut found);
                ControlFlow::Continue(())
            })
        });
        scanned.is_ok().then(|| found.finish())
    }

    /// Ends watches, waits for the garbage collector and for accepted writes, and closes the file. Clients get 503 from then on.
    pub async fn close(&self) {
        self.inner.shutdown.cancel();
        let collector = self.collector.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(collector) = collector
            && let Err(error) = collector.await
        {
            tracing::error!(%error, "garbage collector ended abnormally");
        }
        self.inner.snapshots.clear();
        self.inner.store.close().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.inner.shutdown.cancel();
    }
}

/// The API as a [`tower::Service`]; cheap to clone.
#[derive(Clone)]
pub struct ApiService {
    inner: Arc<Inner>,
    account: Arc<Account>,
}

impl<B> tower::Service<Request<B>> for ApiService
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (inner, account) = (Arc::clone(&self.inner), Arc::clone(&self.account));
        Box::pin(async move {
            let stop = inner.shutdown.clone();
            // There are no tokens where nobody listens.
            let credentials = Credentials::default();
            Ok(front::answer(inner, account, &credentials, &stop, request.into_parts()).await)
        })
    }
}

/// Waits for a definition to be gone, which its instances may hold up for longer than a start can wait.
async fn is_gone(api: &Api<CustomResourceDefinition>, name: &str) -> Result<bool, kube::Error> {
    let begin = Instant::now();
    while begin.elapsed() < LONGEST_REMOVAL {
        if api.get_metadata_opt(name).await?.is_none() {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tracing::warn!(
        crd = name,
        "the definition is being removed and its instances hold it: it is installed again at the next start"
    );
    Ok(false)
}

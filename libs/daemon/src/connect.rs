// SPDX-License-Identifier: Apache-2.0
//! How a lone daemon finds its API server, and where its state lives.

use std::path::{Path, PathBuf};

use kube::config::{KubeConfigOptions, Kubeconfig};

/// Why there is no connection. None of them is retried: they are all mistakes in how the daemon was started.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be read or does not make sense.
    #[error("kubeconfig {path} cannot be used")]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// There is no kubeconfig anywhere and this is no pod.
    #[error(
        "no API server: give --kubeconfig, set KUBECONFIG, start `tink up` or `tink api` (which write {path}), or run in a cluster"
    )]
    Nowhere {
        /// Where the state directory's kubeconfig would be.
        path: PathBuf,
        /// Why the in-cluster account does not work.
        #[source]
        source: Box<kube::config::InClusterError>,
    },
    /// The client cannot be built (certificates, proxy).
    #[error("the client of the API server cannot be built")]
    Client(#[source] Box<kube::Error>),
}

/// Connects through `kubeconfig`, else `$KUBECONFIG` (passed as `env`), else the state directory's `<daemon>.kubeconfig`, else the
/// pod's service account, whose token is read again as it is renewed. The state directory's other kubeconfigs are not for this
/// daemon: they would give it rights that it does not need. Nothing is sent yet.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(
    daemon: &str,
    kubeconfig: Option<&Path>,
    env: Option<&Path>,
    state_dir: &Path,
) -> Result<kube::Client, ConnectError> {
    let written = state_dir.join(format!("{daemon}.kubeconfig"));
    let found = kubeconfig.or(env).or_else(|| written.exists().then_some(written.as_path()));
    let config = match found {
        Some(path) => read_kubeconfig(path).await?,
        None => kube::Config::incluster()
            .map_err(|source| ConnectError::Nowhere { path: written.clone(), source: Box::new(source) })?,
    };
    kube::Client::try_from(config).map_err(|source| ConnectError::Client(Box::new(source)))
}

async fn read_kubeconfig(path: &Path) -> Result<kube::Config, ConnectError> {
    let wrap = |source| ConnectError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
    let kubeconfig = Kubeconfig::read_from(path).map_err(wrap)?;
    kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(wrap)
}

/// The state directory: as configured, else `/var/lib/tinkerbell` for root, else the user's own state directory.
pub fn state_dir(configured: Option<PathBuf>) -> PathBuf {
    if let Some(dir) = configured {
        return dir;
    }
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/tinkerbell");
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let base = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).or_else(home);
    base.unwrap_or_else(|| PathBuf::from(".")).join("tinkerbell")
}

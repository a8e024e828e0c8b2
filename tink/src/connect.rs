// SPDX-License-Identifier: Apache-2.0

//! Finding the API server.
//!
//! Owns the order in which a kubeconfig is looked for. Every command that asks the API calls it; a daemon has its own
//! (`daemon::connect`), which takes only kubeconfigs that are the daemon's.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use thiserror::Error;

/// Longest silence in an answer, for whoever asks again himself.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);

/// Where to look, as the command line and the environment say.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
}

/// Why there is no connection. None is retried: the person has to do something first.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// There is no kubeconfig.
    #[error(
        "no kubeconfig: --kubeconfig is not given, $KUBECONFIG is not set, {} does not exist, and this is no pod. Start \
         `tink up`, which writes that file, or name the kubeconfig of a cluster",
        path.display()
    )]
    Nowhere {
        /// The file that `tink up` would have written.
        path: PathBuf,
    },
    /// The kubeconfig is not one.
    #[error("the kubeconfig from {place} cannot be used: {source}")]
    Kubeconfig {
        /// Where it is from.
        place: String,
        /// What is wrong with it.
        source: Box<KubeconfigError>,
    },
    /// The client cannot be built (certificates, proxy).
    #[error("the client of the API server cannot be built: {0}")]
    Client(Box<kube::Error>),
}

/// Connects through `--kubeconfig`, else `$KUBECONFIG`, else the kubeconfig that `tink up` writes into its state
/// directory, else the account of the pod that this runs in. Nothing is sent yet.
///
/// # Errors
///
/// See [`ConnectError`].
pub async fn connect(places: &Places) -> Result<Client, ConnectError> {
    connect_named(places).await.map(|(client, _)| client)
}

/// The same, with the server's address.
///
/// # Errors
///
/// See [`ConnectError`].
pub(crate) async fn connect_named(places: &Places) -> Result<(Client, String), ConnectError> {
    connect_as(places, |_| {}).await
}

/// The same for somebody who sees himself to a server that is away: every question ends, and none is repeated unseen.
///
/// # Errors
///
/// See [`ConnectError`].
pub(crate) async fn connect_once(places: &Places) -> Result<(Client, String), ConnectError> {
    connect_as(places, |config| {
        config.read_timeout = Some(ANSWER);
        config.default_retry = false;
    })
    .await
}

async fn connect_as(
    places: &Places,
    change: impl FnOnce(&mut Config),
) -> Result<(Client, String), ConnectError> {
    daemon::install_crypto();
    let mut config = match read(places) {
        Ok((kubeconfig, place)) => Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .map_err(|source| ConnectError::Kubeconfig { place, source: Box::new(source) })?,
        Err(nowhere @ ConnectError::Nowhere { .. }) => Config::incluster().map_err(|_| nowhere)?,
        Err(error) => return Err(error),
    };
    change(&mut config);
    let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let client = Client::try_from(config).map_err(|error| ConnectError::Client(Box::new(error)))?;
    Ok((client, url))
}

fn read(places: &Places) -> Result<(Kubeconfig, String), ConnectError> {
    if let Some(path) = &places.kubeconfig {
        return read_file(path);
    }
    let wrong =
        |source| ConnectError::Kubeconfig { place: "$KUBECONFIG".to_owned(), source: Box::new(source) };
    if let Some(found) = Kubeconfig::from_env().map_err(wrong)? {
        return Ok((found, "$KUBECONFIG".to_owned()));
    }
    let path = daemon::state_dir(places.state_dir.clone()).join("kubeconfig");
    if path.exists() { read_file(&path) } else { Err(ConnectError::Nowhere { path }) }
}

fn read_file(path: &Path) -> Result<(Kubeconfig, String), ConnectError> {
    let place = path.display().to_string();
    match Kubeconfig::read_from(path) {
        Ok(found) => Ok((found, place)),
        Err(source) => Err(ConnectError::Kubeconfig { place, source: Box::new(source) }),
    }
}

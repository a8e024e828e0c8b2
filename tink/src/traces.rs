// SPDX-License-Identifier: Apache-2.0

//! What boots keeps of machines, for `tink logs` and `tink pcap`: where boots is and how it is asked.
//!
//! Address and token lie in its state directory unless the command line says otherwise.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use boots::{ACCESS_FILE, AccessFile};
use daemon::Secret;
use reqwest::{Response, StatusCode};
use thiserror::Error;

/// Time to reach boots.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest silence of a connection; to a follower of a log boots gives a sign of life every 30 s.
const SILENCE: Duration = Duration::from_secs(90);

/// Where boots is, as the command line says.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Its URL.
    pub url: Option<String>,
    /// The file with its token.
    pub token_file: Option<PathBuf>,
    /// The state directory.
    pub state_dir: Option<PathBuf>,
}

/// Why boots gives nothing. None is retried, but for [`TraceError::Unreachable`] by a follower that was answered once.
#[derive(Debug, Error)]
pub enum TraceError {
    /// Nobody says where boots is.
    #[error(
        "{} cannot be used ({source}): boots writes it at its start; or name boots with --boots and --token-file",
        path.display()
    )]
    Access {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The client cannot be built, or boots cannot be reached.
    #[error("boots cannot be reached at {url}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// Boots refuses.
    #[error("boots at {url} says {status}{hint}")]
    Refused {
        /// Where.
        url: String,
        /// What it says.
        status: StatusCode,
        /// What that means for what was asked.
        hint: &'static str,
    },
}

/// A boots that can be asked.
pub(crate) struct Boots {
    url: String,
    token: Secret<String>,
}

impl Boots {
    /// The one at a place.
    pub(crate) fn at(place: &Place) -> Result<Self, TraceError> {
        daemon::install_crypto();
        let wrap = |path: &Path| {
            let path = path.to_owned();
            move |source| TraceError::Access { path, source }
        };
        let path = daemon::state_dir(place.state_dir.clone()).join(ACCESS_FILE);
        let file = || AccessFile::read(&path).map_err(wrap(&path));
        let token = match &place.token_file {
            Some(path) => std::fs::read_to_string(path).map_err(wrap(path))?.trim().to_owned(),
            None => file()?.token,
        };
        let url = match &place.url {
            Some(url) => url.clone(),
            None => file()?.url,
        };
        Ok(Self { url: url.trim_end_matches('/').to_owned(), token: Secret::new(token) })
    }

    /// Asks for a path; `hint` says what a refusal means there, beside that of the token.
    pub(crate) async fn get(
        &self,
        path: &str,
        hint: impl Fn(StatusCode) -> &'static str,
    ) -> Result<Response, TraceError> {
        let unreachable = |source| TraceError::Unreachable { url: self.url.clone(), source };
        let client = reqwest::Client::builder().connect_timeout(CONNECT).read_timeout(SILENCE).no_proxy();
        let request = client.build().map_err(unreachable)?.get(format!("{}{path}", self.url));
        let answer = request.bearer_auth(self.token.expose()).send().await.map_err(unreachable)?;
        match answer.status() {
            status if status.is_success() => Ok(answer),
            status => {
                let hint = match status {
                    StatusCode::UNAUTHORIZED => ": the token is not its token",
                    status => hint(status),
                };
                Err(TraceError::Refused { url: self.url.clone(), status, hint })
            }
        }
    }
}

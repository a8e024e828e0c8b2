// SPDX-License-Identifier: Apache-2.0
//! The key of agent tokens, read from its Secret. tink-server makes it; until it did, nothing is answered.

use std::time::Duration;

use api::token::{SECRET_NAME, SecretError, TokenKey};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

/// First and longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// Why there is no key yet. Retried until shutdown.
#[derive(Debug, Error)]
enum KeyError {
    /// The API server is away or refuses.
    #[error("the Secret {SECRET_NAME} cannot be read")]
    Api(#[from] kube::Error),
    /// tink-server has not made it yet.
    #[error("there is no Secret {SECRET_NAME}; tink-server makes it")]
    Missing,
    /// The Secret has no key in it, or not one of ours.
    #[error("the Secret {SECRET_NAME} holds no usable key")]
    Content(#[from] SecretError),
}

/// Gets the key; waits for the API server as long as it takes. Nothing when `shutdown` comes first.
pub(crate) async fn key(
    client: kube::Client,
    namespace: &str,
    shutdown: &CancellationToken,
) -> Option<TokenKey> {
    let secrets: Api<Secret> = Api::namespaced(client, namespace);
    let mut pause = PAUSES.0;
    loop {
        let attempt = tokio::select! {
            () = shutdown.cancelled() => return None,
            attempt = read(&secrets) => attempt,
        };
        match attempt {
            Ok(key) => return Some(key),
            Err(error) => {
                tracing::warn!(namespace, error = daemon::chain(&error), "no key for agent tokens yet");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSES.1),
        }
    }
}

async fn read(secrets: &Api<Secret>) -> Result<TokenKey, KeyError> {
    let secret = secrets.get_opt(SECRET_NAME).await?.ok_or(KeyError::Missing)?;
    Ok(TokenKey::try_from(&secret)?)
}

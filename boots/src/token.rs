// SPDX-License-Identifier: Apache-2.0
//! The key of agent tokens: read from its Secret, or made there by whichever daemon comes first.

use std::collections::BTreeMap;
use std::time::Duration;

use api::token::{SECRET_DATA_KEY, SECRET_NAME, TokenKey};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use rand::RngCore as _;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

/// First and longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// Why there is no key yet. Retried until shutdown.
#[derive(Debug, Error)]
enum KeyError {
    /// The API server is away or refuses.
    #[error("the Secret {SECRET_NAME} cannot be read or made")]
    Api(#[from] kube::Error),
    /// The Secret has no key in it, or not one of ours.
    #[error("the Secret {SECRET_NAME} holds no usable key")]
    Content,
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
            attempt = read_or_create(&secrets) => attempt,
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

async fn read_or_create(secrets: &Api<Secret>) -> Result<TokenKey, KeyError> {
    if let Some(secret) = secrets.get_opt(SECRET_NAME).await? {
        return content(&secret);
    }
    let mut bytes = [0; api::token::KEY_LENGTH];
    rand::rng().fill_bytes(&mut bytes);
    let secret = Secret {
        metadata: ObjectMeta { name: Some(SECRET_NAME.to_owned()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([(SECRET_DATA_KEY.to_owned(), ByteString(bytes.to_vec()))])),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(secret) => content(&secret),
        // Another daemon was faster; its key counts.
        Err(kube::Error::Api(status)) if status.code == 409 => content(&secrets.get(SECRET_NAME).await?),
        Err(error) => Err(error.into()),
    }
}

fn content(secret: &Secret) -> Result<TokenKey, KeyError> {
    let data = secret.data.as_ref().and_then(|data| data.get(SECRET_DATA_KEY)).ok_or(KeyError::Content)?;
    TokenKey::try_from(data.0.as_slice()).map_err(|_| KeyError::Content)
}

// SPDX-License-Identifier: Apache-2.0
//! The one-time agent token: who may speak for a machine.
//!
//! Owns the key's Secret and the rules of use. A token is good for one machine, one Workflow and one boot; the first
//! peer that uses it in a boot is the only one that may. Once a Workflow was served to a bearer of a token, no agent
//! without one gets at it any more. The form and the cryptography are [`api::token`]'s.

use std::net::IpAddr;

use api::token::{Claims, KEY_LENGTH, SECRET_DATA_KEY, SECRET_NAME, SecretError, TokenKey};
use api::v1alpha1::{AgentToken, Hardware, Workflow};
use api::{Mac, token};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use std::collections::BTreeMap;

use crate::store::is_status;

/// Why the key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The API refused or did not answer.
    #[error("Secret {namespace}/{SECRET_NAME} can neither be read nor created: {source}")]
    Kube {
        /// The namespace.
        namespace: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The Secret is there but its key is none.
    #[error("Secret {namespace}/{SECRET_NAME} has no usable data key \"{SECRET_DATA_KEY}\": {problem}")]
    Malformed {
        /// The namespace.
        namespace: String,
        /// What is wrong with it.
        problem: SecretError,
    },
}

/// Reads the key, or draws and stores one if there is none yet; whoever comes first wins.
///
/// # Errors
/// See [`KeyError`].
pub async fn load_key(client: &Client, namespace: &str) -> Result<TokenKey, KeyError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let kube = |source| KeyError::Kube { namespace: namespace.to_owned(), source: Box::new(source) };
    if let Some(secret) = api.get_opt(SECRET_NAME).await.map_err(kube)? {
        return read_key(namespace, &secret);
    }
    let fresh: [u8; KEY_LENGTH] = rand::random();
    let secret = Secret {
        metadata: ObjectMeta { name: Some(SECRET_NAME.to_owned()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([(SECRET_DATA_KEY.to_owned(), ByteString(fresh.to_vec()))])),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    match api.create(&PostParams::default(), &secret).await {
        Ok(_) => Ok(TokenKey::new(fresh)),
        Err(error) if is_status(&error, 409) => {
            read_key(namespace, &api.get(SECRET_NAME).await.map_err(kube)?)
        }
        Err(error) => Err(kube(error)),
    }
}

fn read_key(namespace: &str, secret: &Secret) -> Result<TokenKey, KeyError> {
    let malformed = |problem| KeyError::Malformed { namespace: namespace.to_owned(), problem };
    TokenKey::try_from(secret).map_err(malformed)
}

/// What a peer brings along.
#[derive(Debug, Clone, Copy)]
pub struct Bearer<'a> {
    /// Its token, if it has one.
    pub token: Option<&'a str>,
    /// Its address.
    pub peer: Option<IpAddr>,
}

/// Why a peer is not served. All are permanent for this token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is no token, and one is needed.
    #[error("an agent token is required")]
    Required,
    /// The token is not good for this machine and Workflow now.
    #[error(transparent)]
    Invalid(#[from] token::TokenError),
    /// The token of this boot belongs to another peer.
    #[error("the agent token of this boot is in use by another peer")]
    OtherPeer,
    /// The machine was booted again since this token was minted.
    #[error("the agent token is from an earlier boot")]
    EarlierBoot,
}

/// The rules, with the key.
pub struct Guard {
    key: TokenKey,
    allow_legacy: bool,
}

impl Guard {
    /// Rules with this key.
    pub const fn new(key: TokenKey, allow_legacy: bool) -> Self {
        Self { key, allow_legacy }
    }

    /// Whether a token was minted for this Workflow on this machine; nothing without a token.
    pub fn claims(
        &self,
        bearer: Bearer<'_>,
        workflow: &Workflow,
        hardware: Option<&Hardware>,
        agent: &str,
        now: Timestamp,
    ) -> Option<Result<Claims, token::TokenError>> {
        let token = bearer.token?;
        let uid = workflow.first_uid();
        let now = u64::try_from(now.as_second()).unwrap_or(0);
        let mut macs: Vec<Mac> = hardware.map(|h| h.macs().collect()).unwrap_or_default();
        if macs.is_empty() {
            macs.extend(agent.parse::<Mac>());
        }
        let mut last = Err(token::TokenError::Forged);
        for mac in macs {
            last = token::verify(&self.key, token, mac, uid, now);
            // Expired is said of a token that is otherwise right; no other MAC can make it better.
            if !matches!(last, Err(token::TokenError::Forged)) {
                break;
            }
        }
        Some(last)
    }

    /// Whether the bearer may act on the Workflow; `Some` is the first use that the status has to remember.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn admit(
        &self,
        bearer: Bearer<'_>,
        workflow: &Workflow,
        hardware: Option<&Hardware>,
        agent: &str,
        now: Timestamp,
    ) -> Result<Option<AgentToken>, Denied> {
        let used = workflow.status.as_ref().and_then(|status| status.agent_token.as_ref());
        let claims = match self.claims(bearer, workflow, hardware, agent, now) {
            Some(result) => result?,
            None if self.allow_legacy && used.is_none() => return Ok(None),
            None => return Err(Denied::Required),
        };
        let peer = bearer.peer.map(|peer| peer.to_canonical().to_string()).unwrap_or_default();
        match used {
            Some(used) if used.boot == claims.boot && used.peer == peer => Ok(None),
            Some(used) if used.boot == claims.boot => Err(Denied::OtherPeer),
            Some(used) if used.boot > claims.boot => Err(Denied::EarlierBoot),
            _ => Ok(Some(AgentToken { boot: claims.boot, peer, time: Some(Time(now)) })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: u64 = 1_700_000_000;

    fn workflow(used: Option<(u64, &str)>) -> Workflow {
        let mut workflow = Workflow::default();
        workflow.metadata.uid = Some("uid-1".to_owned());
        workflow.status.get_or_insert_default().agent_token =
            used.map(|(boot, peer)| AgentToken { boot, peer: peer.to_owned(), time: None });
        workflow
    }

    fn hardware() -> Hardware {
        serde_json::from_value(serde_json::json!({
            "apiVersion": "tinkerbell.org/v1alpha1", "kind": "Hardware", "metadata": {"name": "m1"},
            "spec": {"interfaces": [{"dhcp": {"mac": "52:54:00:00:00:10"}}, {"dhcp": {"mac": "52:54:00:00:00:11"}}]}
        }))
        .unwrap()
    }

    fn admit(
        token: Option<&str>,
        peer: &str,
        workflow: &Workflow,
        legacy: bool,
    ) -> Result<Option<u64>, Denied> {
        let guard = Guard::new(TokenKey::new([7; KEY_LENGTH]), legacy);
        let bearer = Bearer { token, peer: Some(peer.parse().unwrap()) };
        let now = Timestamp::from_second(i64::try_from(BOOT).unwrap() + 60).unwrap();
        guard.admit(bearer, workflow, Some(&hardware()), "m1", now).map(|used| used.map(|token| token.boot))
    }

    fn token(boot: u64, uid: &str) -> String {
        token::mint(&TokenKey::new([7; KEY_LENGTH]), "52:54:00:00:00:11".parse().unwrap(), uid, boot)
    }

    #[test]
    fn the_first_peer_of_a_boot_is_the_only_one() {
        let good = token(BOOT, "uid-1");
        let fresh = workflow(None);
        assert_eq!(admit(Some(&good), "10.0.0.1", &fresh, false), Ok(Some(BOOT)));
        let used = workflow(Some((BOOT, "10.0.0.1")));
        assert_eq!(admit(Some(&good), "10.0.0.1", &used, false), Ok(None));
        assert_eq!(admit(Some(&good), "::ffff:10.0.0.1", &used, false), Ok(None));
        assert_eq!(admit(Some(&good), "10.0.0.2", &used, false), Err(Denied::OtherPeer));
        let later = token(BOOT + 10, "uid-1");
        assert_eq!(admit(Some(&later), "10.0.0.2", &used, false), Ok(Some(BOOT + 10)));
        let after = workflow(Some((BOOT + 10, "10.0.0.2")));
        assert_eq!(admit(Some(&good), "10.0.0.1", &after, false), Err(Denied::EarlierBoot));
    }

    #[test]
    fn a_token_of_another_workflow_is_none() {
        let other = token(BOOT, "uid-2");
        assert_eq!(
            admit(Some(&other), "10.0.0.1", &workflow(None), true),
            Err(Denied::Invalid(token::TokenError::Forged))
        );
    }

    #[test]
    fn agents_without_a_token_are_served_only_where_allowed_and_never_after_one_with() {
        assert_eq!(admit(None, "10.0.0.1", &workflow(None), true), Ok(None));
        assert_eq!(admit(None, "10.0.0.1", &workflow(None), false), Err(Denied::Required));
        let used = workflow(Some((BOOT, "10.0.0.1")));
        assert_eq!(admit(None, "10.0.0.1", &used, true), Err(Denied::Required));
    }
}

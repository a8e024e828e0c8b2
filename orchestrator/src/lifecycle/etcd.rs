// SPDX-License-Identifier: Apache-2.0

//! The members of a cluster's etcd, over the JSON form of its API (etcd's grpc-gateway, `/v3/cluster`), as a client that our own
//! authority signed. Called when the control plane grows or shrinks.

use std::{net::IpAddr, time::Duration};

use reqwest::{Certificate, Client, Identity};
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use super::Member;
use crate::pki::{Pair, Pki};

/// The port of clients, as kubeadm sets it.
const PORT: u16 = 2379;
/// A member that does not answer within this is not well.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why members are not known, or one was not removed. Retried.
#[derive(Debug, Error)]
pub(super) enum EtcdError {
    /// Nobody answers.
    #[error("no member answers: {0}")]
    Silent(String),
    /// The client cannot be built.
    #[error("the client cannot be built: {0}")]
    Client(reqwest::Error),
    /// The answer is none.
    #[error("{address}: {source}")]
    Answer {
        /// Who was asked.
        address: IpAddr,
        /// What is wrong with it.
        source: reqwest::Error,
    },
    /// It refused.
    #[error("{address}: {message}")]
    Refused {
        /// Who was asked.
        address: IpAddr,
        /// Its words.
        message: String,
    },
}

/// Connections to members, which are kept from one look to the next.
pub(super) struct Connections {
    client: Client,
}

/// A client of the etcd that runs on these addresses.
pub(super) struct Etcd {
    client: Client,
    addresses: Vec<IpAddr>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    members: Vec<Wire>,
}

/// A member as it is told. Numbers of 64 bits are texts in this form.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "clientURLs")]
    client_urls: Vec<String>,
    #[serde(default)]
    is_learner: bool,
}

impl Connections {
    /// Nothing is sent yet.
    pub(super) fn new(pki: &Pki, client: &Pair) -> Result<Self, EtcdError> {
        let identity = Identity::from_pem(format!("{}{}", client.public, client.key.expose()).as_bytes());
        let authority = Certificate::from_pem(pki.etcd.public.as_bytes());
        let client = Client::builder()
            .tls_certs_only([authority.map_err(EtcdError::Client)?])
            .identity(identity.map_err(EtcdError::Client)?)
            .timeout(TIMEOUT)
            .no_proxy()
            .build()
            .map_err(EtcdError::Client)?;
        Ok(Self { client })
    }

    /// The etcd that runs on these addresses.
    pub(super) fn to(&self, addresses: Vec<IpAddr>) -> Etcd {
        Etcd { client: self.client.clone(), addresses }
    }
}

impl Etcd {
    /// The members, with who of them answers.
    pub(super) async fn members(&self) -> Result<Vec<Member>, EtcdError> {
        let listed = self.list().await?;
        let looked = listed.iter().map(async |wire| Member {
            machine: wire.name.clone(),
            learner: wire.is_learner,
            healthy: self.is_well(wire).await,
        });
        Ok(futures::future::join_all(looked).await)
    }

    /// Takes a member out; one that is not there is as good as taken out.
    pub(super) async fn remove(&self, machine: &str) -> Result<(), EtcdError> {
        let listed = self.list().await?;
        let Some(wire) = listed.iter().find(|wire| wire.name == machine) else { return Ok(()) };
        // Not through the one that is to go.
        let others = listed.iter().filter(|other| other.name != machine);
        let hosts: Vec<_> = others.flat_map(|other| other.client_urls.iter()).collect();
        let mut last = EtcdError::Silent("there is no other".to_owned());
        for address in &self.addresses {
            if !hosts.iter().any(|url| url.contains(&address.to_string())) {
                continue;
            }
            match self.ask(*address, "cluster/member/remove", &json!({ "ID": wire.id })).await {
                Ok(_) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The list as the first that answers has it.
    async fn list(&self) -> Result<Vec<Wire>, EtcdError> {
        let mut last = String::from("there is none");
        for address in &self.addresses {
            match self.ask(*address, "cluster/member/list", &json!({})).await {
                Ok(answer) => match serde_json::from_value::<Listed>(answer) {
                    Ok(listed) => return Ok(listed.members),
                    Err(error) => last = format!("{address}: {error}"),
                },
                Err(error) => last = error.to_string(),
            }
        }
        Err(EtcdError::Silent(last))
    }

    /// Whether a member answers, and knows a leader.
    async fn is_well(&self, wire: &Wire) -> bool {
        for url in &wire.client_urls {
            let url = format!("{url}/v3/maintenance/status");
            let Ok(answer) = self.client.post(url).json(&json!({})).send().await else { continue };
            let Ok(status) = answer.json::<Value>().await else { continue };
            // A learner refuses the question while it does not vote; one without a leader says 0, or nothing.
            let leader = status.get("leader").and_then(Value::as_str).unwrap_or("0");
            return leader != "0";
        }
        false
    }

    async fn ask(&self, address: IpAddr, method: &str, body: &Value) -> Result<Value, EtcdError> {
        let host = match address {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        };
        let url = format!("https://{host}:{PORT}/v3/{method}");
        let answer = self.client.post(url).json(body).send().await;
        let answer = answer.map_err(|source| EtcdError::Answer { address, source })?;
        let failed = !answer.status().is_success();
        let body: Value = answer.json().await.map_err(|source| EtcdError::Answer { address, source })?;
        if failed {
            let message = body.get("message").and_then(Value::as_str).unwrap_or("it refused").to_owned();
            return Err(EtcdError::Refused { address, message });
        }
        Ok(body)
    }
}

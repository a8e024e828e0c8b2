// SPDX-License-Identifier: Apache-2.0
//! The server, as the agent calls it: connects on demand and again after every loss, adds the token to every call and
//! keeps the clock by the answers' `date`.

use std::time::Duration;

use proto::agent::v1::AgentEvent;
use proto::agent::v1::agent_service_client::AgentServiceClient;
use proto::workflow::workflow_service_client::WorkflowServiceClient;
use proto::workflow::{ActionRequest, ActionResponse, ActionStatusRequest};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use crate::clock::Clock;
use crate::config::{Config, Transport};
use crate::tls::{self, TlsError};

/// Metadata key of the one-time token, on every call.
const TOKEN_KEY: &str = "tink-agent-token";

const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// Servers of this contract may hold a call for a minute while they retry inside.
const CALL_PATIENCE: Duration = Duration::from_secs(90);

/// A peer that vanished without a word is noticed by TCP, not by HTTP/2 pings, which some servers punish.
const KEEPALIVE: Duration = Duration::from_secs(10);

const KEEPALIVE_PROBES: u32 = 3;

/// The server cannot be addressed at all. Permanent.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Not `host:port`.
    #[error("`{address}` is not an address of a server: {source}")]
    Address {
        /// What was configured.
        address: String,
        /// What is wrong with it.
        source: tonic::transport::Error,
    },
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The token holds characters that no header may.
    #[error("the agent token on the kernel command line is malformed")]
    Token,
}

/// A handle to the server; cloning shares the connection.
#[derive(Clone)]
pub(crate) struct Server {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
    clock: Clock,
}

impl Server {
    /// Prepares the connection; nothing is sent yet.
    pub(crate) fn new(config: &Config, clock: Clock) -> Result<Self, AddressError> {
        let address = |source| AddressError::Address { address: config.server.clone(), source };
        let scheme = if config.transport == Transport::Plain { "http" } else { "https" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", config.server))
            .map_err(address)?
            .connect_timeout(CONNECT_PATIENCE)
            .tcp_keepalive(Some(KEEPALIVE))
            .tcp_keepalive_interval(Some(KEEPALIVE))
            .tcp_keepalive_retries(Some(KEEPALIVE_PROBES));
        let verifier = match config.transport {
            Transport::Plain => None,
            Transport::Tls => Some(tls::verified()?),
            Transport::TlsUnverified => Some(tls::unverified()),
        };
        if let Some(verifier) = verifier {
            endpoint =
                endpoint.tls_config_with_verifier(ClientTlsConfig::new(), verifier).map_err(address)?;
        }
        let token = match &config.token {
            None => None,
            Some(token) => {
                let mut value = MetadataValue::try_from(token.reveal()).map_err(|_| AddressError::Token)?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self { channel: endpoint.connect_lazy(), token, clock })
    }

    /// Asks for the next action.
    pub(crate) async fn get_action(&self, request: ActionRequest) -> Result<ActionResponse, Status> {
        let mut client = WorkflowServiceClient::new(self.channel.clone());
        self.call(client.get_action(self.request(request))).await
    }

    /// Reports the state of an action.
    pub(crate) async fn report_action(&self, status: ActionStatusRequest) -> Result<(), Status> {
        let mut client = WorkflowServiceClient::new(self.channel.clone());
        self.call(client.report_action_status(self.request(status))).await.map(drop)
    }

    /// Streams events until the sender is dropped or the server ends the call.
    pub(crate) async fn stream_events(&self, events: ReceiverStream<AgentEvent>) -> Result<(), Status> {
        let mut client = AgentServiceClient::new(self.channel.clone());
        client.report(self.request(events)).await.map(drop)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert(TOKEN_KEY, token.clone());
        }
        request
    }

    async fn call<T>(
        &self,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Status> {
        let answer = tokio::time::timeout(CALL_PATIENCE, call)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("the server did not answer")));
        match answer {
            Ok(response) => {
                self.follow_clock(response.metadata());
                Ok(response.into_inner())
            }
            Err(status) => {
                self.follow_clock(status.metadata());
                Err(status)
            }
        }
    }

    fn follow_clock(&self, metadata: &MetadataMap) {
        if let Some(date) = metadata.get("date").and_then(|value| value.to_str().ok()) {
            self.clock.follow(date);
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The gRPC endpoint of agents: `proto.WorkflowService`, as its deployed peers speak it, and our stream of reports.
//!
//! Answers at once: an agent that gets nothing now asks again after its own back-off. Which Workflow decides for an
//! agent is looked up in the controller's cache; what is decided is decided on the object as just read, so that an
//! agent sees its own last report. Every call checks the one-time token ([`crate::token`]).
//!
//! Status codes are part of the contract: on a report, agents take NotFound, InvalidArgument and FailedPrecondition as
//! final and everything else as "try again".

mod stream;

use std::net::SocketAddr;
use std::sync::Arc;

use api::token::METADATA_KEY;
use api::v1alpha1::{Hardware, Workflow, WorkflowState, WorkflowStatus};
use api::{AgentId, Mac};
use daemon::watch::scoped;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use kube::runtime::reflector::Store;
use kube::{Client, ResourceExt};
use proto::workflow::action_status_request::StateType;
use proto::workflow::workflow_service_server::WorkflowService;
use proto::workflow::{
    ActionRequest, ActionResponse, ActionStatusRequest, ActionStatusResponse, AgentAttributes,
};
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::events::Events;
use crate::store::{self, StoreError};
use crate::token::{Bearer, Denied, Guard};
use crate::workflow::{self, Note, Refusal, Report, ReportError};

/// The endpoint's state; cheap to clone.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) client: Client,
    pub(crate) workflows: Store<Workflow>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) events: Events,
    /// The only namespace that is served; all without.
    pub(crate) namespace: Option<String>,
    /// Ends the streams.
    pub(crate) shutdown: CancellationToken,
}

/// Who calls, as the transport knows it.
#[derive(Debug, Clone)]
struct Caller {
    token: Option<String>,
    peer: Option<SocketAddr>,
}

impl Caller {
    fn of<T>(request: &Request<T>) -> Self {
        Self { token: token_of(request.metadata()), peer: request.remote_addr() }
    }

    fn bearer(&self) -> Bearer<'_> {
        Bearer { token: self.token.as_deref(), peer: self.peer.map(|peer| peer.ip()) }
    }
}

fn token_of(metadata: &MetadataMap) -> Option<String> {
    let value = metadata.get(METADATA_KEY)?.to_str().ok()?;
    (!value.is_empty()).then(|| value.to_owned())
}

#[tonic::async_trait]
impl WorkflowService for Endpoint {
    async fn get_action(&self, request: Request<ActionRequest>) -> Result<Response<ActionResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let agent = agent_id(request.agent_id())?;
        let chosen = self.choose(agent.as_str(), &caller).await?;
        let response =
            self.hand_out(&chosen, agent.as_str(), &caller, request.agent_attributes.as_ref()).await;
        response.map(Response::new)
    }

    async fn report_action_status(
        &self,
        request: Request<ActionStatusRequest>,
    ) -> Result<Response<ActionStatusResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        let (namespace, name) = self.workflow_id(request.workflow_id())?;
        for (value, what) in [(request.task_id(), "task ID"), (request.action_id(), "action ID")] {
            if value.is_empty() {
                return Err(Status::invalid_argument(format!("the {what} is empty")));
            }
        }
        let report = domain_report(&request)?;
        self.keep(&namespace, &name, &report, &caller).await?;
        Ok(Response::new(ActionStatusResponse {}))
    }
}

fn agent_id(text: &str) -> Result<AgentId, Status> {
    text.parse().map_err(|error: api::ParseAgentIdError| Status::invalid_argument(error.to_string()))
}

/// The wire form of a report as domain values.
fn domain_report(request: &ActionStatusRequest) -> Result<Report, Status> {
    let state = match request.action_state() {
        StateType::Running => WorkflowState::Running,
        StateType::Success => WorkflowState::Success,
        StateType::Failed => WorkflowState::Failed,
        StateType::Timeout => WorkflowState::Timeout,
        other => {
            let name = other.as_str_name();
            return Err(Status::invalid_argument(format!("{name} is no state that an agent reports")));
        }
    };
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Ok(Report {
        agent: agent_id(request.agent_id())?.as_str().to_owned(),
        task: request.task_id().to_owned(),
        action: request.action_id().to_owned(),
        state,
        start: request.execution_start.as_ref().and_then(timestamp),
        stop: request.execution_stop.as_ref().and_then(timestamp),
        duration: text(request.execution_duration()),
        message: text(request.message.as_ref().map_or("", |message| message.message())),
    })
}

/// A time, unless it is Go's zero or the epoch, which mean "not known".
fn timestamp(time: &prost_types::Timestamp) -> Option<Timestamp> {
    if time.seconds <= 0 {
        return None;
    }
    Timestamp::new(time.seconds, time.nanos).ok()
}

impl Endpoint {
    /// `namespace/name`, if it is in what we serve.
    fn workflow_id(&self, id: &str) -> Result<(String, String), Status> {
        if id.is_empty() {
            return Err(Status::invalid_argument("the workflow ID is empty"));
        }
        let (namespace, name) = id
            .split_once('/')
            .ok_or_else(|| Status::invalid_argument("the workflow ID is not namespace/name"))?;
        let valid = |part: &str| {
            !part.is_empty()
                && part.len() <= 253
                && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
        };
        if !valid(namespace) || !valid(name) {
            return Err(Status::invalid_argument("the workflow ID is not namespace/name"));
        }
        if self.namespace.as_deref().is_some_and(|only| only != namespace) {
            return Err(Status::not_found(format!("workflow {id} does not exist")));
        }
        Ok((namespace.to_owned(), name.to_owned()))
    }

    /// The Workflow that decides for an agent: of those that its token is for where it has one, else of all.
    async fn choose(&self, agent: &str, caller: &Caller) -> Result<Arc<Workflow>, Status> {
        let mine: Vec<Arc<Workflow>> =
            self.workflows.state().into_iter().filter(|w| names(w, agent)).collect();
        let mut active: Vec<Arc<Workflow>> =
            mine.iter().filter(|workflow| workflow::is_active(workflow)).cloned().collect();
        let mut denied = None;
        while let Some(workflow) = workflow::choose(active.iter()).cloned() {
            let hardware = match caller.token {
                Some(_) => self.hardware(&workflow).await?,
                None => None,
            };
            match self.guard.claims(caller.bearer(), &workflow, hardware.as_ref(), agent, Timestamp::now()) {
                Some(Err(error)) => denied = Some(Denied::Invalid(error)),
                _ => return Ok(workflow),
            }
            active.retain(|other| !Arc::ptr_eq(other, &workflow));
        }
        match denied {
            Some(denied) => Err(denied_status(&denied)),
            None => workflow::choose(mine).ok_or_else(|| refusal_status(&Refusal::NoWorkflow)),
        }
    }

    /// Hands out the next action and remembers it.
    async fn hand_out(
        &self,
        chosen: &Workflow,
        agent: &str,
        caller: &Caller,
        attributes: Option<&AgentAttributes>,
    ) -> Result<ActionResponse, Status> {
        let namespace = chosen.namespace().unwrap_or_default();
        for attempt in 1.. {
            let workflow = self.read(&namespace, &chosen.name_any()).await?;
            let hardware = self.hardware(&workflow).await?;
            let now = Timestamp::now();
            // Before the token: it may be of a later Workflow, and there is nothing here to protect.
            let (task, action, mut status) =
                workflow::serve(&workflow, agent).map_err(|refusal| refusal_status(&refusal))?;
            let first_use = self
                .guard
                .admit(caller.bearer(), &workflow, hardware.as_ref(), agent, now)
                .map_err(|denied| denied_status(&denied))?;
            let protected = match workflow::may_write_disk(&action) {
                true => self.protected(hardware.as_ref(), agent).await?,
                false => None,
            };
            if let Some(protected) = protected {
                let why = workflow::protected_message(&protected, &action);
                let (status, notes) = workflow::fail_protected(&workflow, &action.id, &why, now);
                if self.write(&workflow, &status, &notes).await? {
                    return Err(Status::failed_precondition(why));
                }
                pause(attempt).await?;
                continue;
            }
            if let Some(first_use) = first_use {
                status.agent_token = Some(first_use);
            }
            if workflow.status.as_ref() != Some(&status) && !self.write(&workflow, &status, &[]).await? {
                pause(attempt).await?;
                continue;
            }
            if action.state == WorkflowState::Pending {
                self.annotate(&workflow, hardware.as_ref(), attributes).await;
            }
            return Ok(workflow::response(&workflow, &task, &action));
        }
        Err(Status::unavailable("the workflow changes too fast"))
    }

    /// Keeps a report.
    async fn keep(
        &self,
        namespace: &str,
        name: &str,
        report: &Report,
        caller: &Caller,
    ) -> Result<(), Status> {
        for attempt in 1.. {
            let workflow = self.read(namespace, name).await?;
            let hardware = match caller.token {
                Some(_) => self.hardware(&workflow).await?,
                None => None,
            };
            let now = Timestamp::now();
            let first_use = self
                .guard
                .admit(caller.bearer(), &workflow, hardware.as_ref(), &report.agent, now)
                .map_err(|denied| denied_status(&denied))?;
            let reported = workflow::report(&workflow, report, now).map_err(|error| report_status(&error))?;
            let Some(mut status) = reported.status else { return Ok(()) };
            if first_use.is_some() {
                status.agent_token = first_use;
            }
            if self.write(&workflow, &status, &reported.notes).await? {
                tracing::info!(
                    workflow = name,
                    namespace,
                    agent = report.agent,
                    action = report.action,
                    state = report.state.as_str(),
                    "action reported"
                );
                return Ok(());
            }
            pause(attempt).await?;
        }
        Err(Status::unavailable("the workflow changes too fast"))
    }

    async fn read(&self, namespace: &str, name: &str) -> Result<Workflow, Status> {
        let api: Api<Workflow> = Api::namespaced(self.client.clone(), namespace);
        let workflow = api.get_opt(name).await.map_err(|error| unavailable(&error))?;
        workflow.ok_or_else(|| Status::not_found(format!("workflow {namespace}/{name} does not exist")))
    }

    async fn hardware(&self, workflow: &Workflow) -> Result<Option<Hardware>, Status> {
        let Some(name) = workflow::hardware_name(workflow) else { return Ok(None) };
        let api: Api<Hardware> =
            Api::namespaced(self.client.clone(), &workflow.namespace().unwrap_or_default());
        api.get_opt(name).await.map_err(|error| unavailable(&error))
    }

    /// Name of the protected Hardware that an action of this agent may write: the one that the Workflow names, or the one
    /// that the agent runs on, which a Workflow need not name and may name wrongly. Only then all are searched.
    async fn protected(&self, named: Option<&Hardware>, agent: &str) -> Result<Option<String>, Status> {
        if let Some(hardware) = named {
            if hardware.is_protected() {
                return Ok(Some(hardware.name_any()));
            }
            if is_machine_of(hardware, agent) {
                return Ok(None);
            }
        }
        let api: Api<Hardware> = scoped(&self.client, self.namespace.as_deref());
        let all = api.list(&ListParams::default()).await.map_err(|error| unavailable(&error))?;
        let found =
            all.items.iter().find(|hardware| hardware.is_protected() && is_machine_of(hardware, agent));
        Ok(found.map(ResourceExt::name_any))
    }

    /// Writes a status and then tells; false when another write came between.
    async fn write(&self, read: &Workflow, status: &WorkflowStatus, notes: &[Note]) -> Result<bool, Status> {
        match store::write_status(&self.client, read, status).await {
            Ok(Some(written)) => {
                self.events.tell(&written, notes);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => Err(store_status(&error)),
        }
    }

    /// Keeps the inventory on Workflow and Hardware, once; that it cannot be kept stops nothing.
    async fn annotate(
        &self,
        workflow: &Workflow,
        hardware: Option<&Hardware>,
        attributes: Option<&AgentAttributes>,
    ) {
        let Some(value) = attributes.and_then(crate::attributes::annotation) else { return };
        let key = api::annotations::AGENT_ATTRIBUTES;
        let mut outcomes = vec![store::annotate_once(&self.client, workflow, key, &value).await];
        if let Some(hardware) = hardware {
            outcomes.push(store::annotate_once(&self.client, hardware, key, &value).await);
        }
        for error in outcomes.into_iter().filter_map(Result::err) {
            tracing::warn!(workflow = workflow.name_any(), error = %error, "inventory was not kept");
        }
    }
}

/// Whether an agent that calls itself so may be running on this machine.
fn is_machine_of(hardware: &Hardware, agent: &str) -> bool {
    hardware.has_agent_id(agent)
        || agent.parse::<Mac>().is_ok_and(|mac| hardware.interface_by_mac(mac).is_some())
}

/// Whether the Workflow waits for this agent.
fn names(workflow: &Workflow, agent: &str) -> bool {
    workflow.status.as_ref().and_then(|status| status.agent_id.as_deref()) == Some(agent)
}

async fn pause(attempt: u32) -> Result<(), Status> {
    store::pause(attempt).await.map_err(|error| store_status(&error))
}

fn unavailable(error: &kube::Error) -> Status {
    tracing::warn!(error = %error, "the API did not answer");
    Status::unavailable("the API server does not answer")
}

fn store_status(error: &StoreError) -> Status {
    tracing::warn!(error = %error, "a status was not written");
    Status::unavailable("the status could not be written")
}

fn denied_status(denied: &Denied) -> Status {
    match denied {
        Denied::Required => Status::unauthenticated(denied.to_string()),
        _ => Status::permission_denied(denied.to_string()),
    }
}

fn refusal_status(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::NotReady { .. } => Status::failed_precondition(refusal.to_string()),
        Refusal::NoWorkflow | Refusal::NothingLeft { .. } => Status::not_found(refusal.to_string()),
    }
}

fn report_status(error: &ReportError) -> Status {
    match error {
        ReportError::NoAction { .. } => Status::not_found(error.to_string()),
        _ => Status::failed_precondition(error.to_string()),
    }
}

// SPDX-License-Identifier: Apache-2.0
//! A running daemon over an embedded API server, and an agent that speaks gRPC to it.

use std::net::SocketAddr;
use std::time::Duration;

use api::bmc::v1alpha1::{COMPLETED, Job};
use api::v1alpha1::{Hardware, Template, Workflow, WorkflowState};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use proto::workflow::action_status_request::StateType;
use proto::workflow::workflow_service_client::WorkflowServiceClient;
use proto::workflow::{
    ActionMessage, ActionRequest, ActionResponse, ActionStatusRequest, AgentAttributes, Memory,
};
use serde_json::json;
use tink_server::Config;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

pub const NAMESPACE: &str = "tinkerbell";

/// How long anything may take before the test fails; other tests may have the machine meanwhile.
const DEADLINE: Duration = Duration::from_secs(120);

/// Longest pause between two questions; a question may list hundreds of objects.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Asks until the answer is there.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let asking = async {
        let mut pause = Duration::from_millis(5);
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    };
    tokio::time::timeout(DEADLINE, asking).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

/// The API server with our kinds.
pub struct Bench {
    pub client: Client,
    server: apiserver::Server,
    _dir: tempfile::TempDir,
}

impl Bench {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = apiserver::Options::new(dir.path().join("api.redb"));
        options.namespaces = vec![NAMESPACE.to_owned(), api::annotations::SYSTEM_NAMESPACE.to_owned()];
        let server = apiserver::Server::open(options).await.unwrap();
        server.install_crds(&api::crds()).await.unwrap();
        Self { client: server.client(NAMESPACE), server, _dir: dir }
    }

    pub async fn close(self) {
        self.server.close().await;
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub async fn hardware(&self, name: &str, mac: &str) {
        let hardware: Hardware = serde_json::from_value(json!({
            "apiVersion": "tinkerbell.org/v1alpha1", "kind": "Hardware", "metadata": {"name": name},
            "spec": {
                "bmcRef": {"kind": "Machine", "name": format!("{name}-bmc")},
                "disks": [{"device": "/dev/sda"}],
                "interfaces": [{"dhcp": {"mac": mac}}],
            }
        }))
        .unwrap();
        self.api::<Hardware>().create(&PostParams::default(), &hardware).await.unwrap();
    }

    pub async fn template(&self, name: &str, data: &str) {
        let mut template = Template::default();
        template.metadata.name = Some(name.to_owned());
        template.spec.data = Some(data.to_owned());
        self.api::<Template>().create(&PostParams::default(), &template).await.unwrap();
    }

    /// A Workflow of template `install`; `boot` is its `bootOptions`.
    pub async fn workflow(&self, name: &str, hardware: &str, mac: &str, boot: serde_json::Value) -> Workflow {
        let workflow: Workflow = serde_json::from_value(json!({
            "apiVersion": "tinkerbell.org/v1alpha1", "kind": "Workflow", "metadata": {"name": name},
            "spec": {
                "templateRef": "install", "hardwareRef": hardware, "hardwareMap": {"device_1": mac},
                "bootOptions": boot,
            }
        }))
        .unwrap();
        self.api::<Workflow>().create(&PostParams::default(), &workflow).await.unwrap()
    }

    pub async fn read(&self, workflow: &str) -> Workflow {
        self.api::<Workflow>().get(workflow).await.unwrap()
    }

    pub async fn reaches(&self, workflow: &str, state: WorkflowState) -> Workflow {
        let what = format!("{workflow} in state {state}");
        eventually(&what, || async { Some(self.read(workflow).await).filter(|w| *w.state() == state) }).await
    }

    /// Does what rufio does with a Job that works.
    pub async fn complete_job(&self, name: &str) {
        let job =
            eventually(&format!("job {name}"), || async { self.api::<Job>().get_opt(name).await.unwrap() })
                .await;
        let status = json!({"status": {"conditions": [{"type": COMPLETED, "status": "True"}]}});
        let patch = Patch::Merge(status);
        self.api::<Job>().patch_status(&job.name_any(), &PatchParams::default(), &patch).await.unwrap();
    }

    pub async fn netboot_allowed(&self, hardware: &str) -> bool {
        let hardware = self.api::<Hardware>().get(hardware).await.unwrap();
        hardware.spec.interfaces.iter().any(api::v1alpha1::Interface::allows_netboot)
    }

    /// As a person does it.
    pub async fn allow_netboot(&self, hardware: &str) {
        let patch = json!([{"op": "add", "path": "/spec/interfaces/0/netboot", "value": {"allowPXE": true}}]);
        let patch = Patch::Json::<()>(serde_json::from_value(patch).unwrap());
        self.api::<Hardware>().patch(hardware, &PatchParams::default(), &patch).await.unwrap();
    }

    pub async fn start(&self, config: Config) -> Daemon {
        Daemon::start(self.client.clone(), config).await
    }
}

/// The daemon under test.
pub struct Daemon {
    pub address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), tink_server::Error>>,
}

impl Daemon {
    async fn start(client: Client, config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let health = daemon::Health::new();
        let run = tink_server::run_on(listener, config, client, health.clone(), shutdown.clone());
        let task = tokio::spawn(run);
        let ready = tokio::time::timeout(DEADLINE, health.ready()).await;
        assert!(ready.is_ok(), "the daemon waits for {:?}", health.waiting());
        Self { address, shutdown, task }
    }

    pub async fn agent(&self, id: &str) -> Agent {
        Agent::connect(self.address, id, None).await
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(DEADLINE, self.task).await.expect("the daemon does not stop").unwrap().unwrap();
    }
}

/// An agent: identity, connection, token.
#[derive(Clone)]
pub struct Agent {
    pub id: String,
    pub channel: Channel,
    pub token: Option<String>,
}

impl Agent {
    /// Connects, from a certain address if asked for.
    pub async fn connect(server: SocketAddr, id: &str, from: Option<&str>) -> Self {
        let from = from.map(|address| SocketAddr::new(address.parse().unwrap(), 0));
        let connector = tower::service_fn(move |_| async move {
            let socket = TcpSocket::new_v4()?;
            if let Some(from) = from {
                socket.bind(from)?;
            }
            let stream = socket.connect(server).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        });
        let endpoint = Endpoint::from_shared(format!("http://{server}")).unwrap();
        let channel = endpoint.connect_with_connector(connector).await.unwrap();
        Self { id: id.to_owned(), channel, token: None }
    }

    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert(api::token::METADATA_KEY, token.parse().unwrap());
        }
        request
    }

    pub fn service(&self) -> WorkflowServiceClient<Channel> {
        WorkflowServiceClient::new(self.channel.clone())
    }

    pub async fn ask(&self) -> Result<ActionResponse, Status> {
        let attributes = AgentAttributes {
            memory: Some(Memory { total: Some("2GB".to_owned()), usable: None }),
            ..AgentAttributes::default()
        };
        let request = ActionRequest { agent_id: Some(self.id.clone()), agent_attributes: Some(attributes) };
        Ok(self.service().get_action(self.request(request)).await?.into_inner())
    }

    /// Asks again while the answer is "not now".
    pub async fn next(&self) -> ActionResponse {
        eventually(&format!("an action for {}", self.id), || async {
            match self.ask().await {
                Ok(action) => Some(action),
                Err(status) if matches!(status.code(), Code::NotFound | Code::FailedPrecondition) => None,
                Err(status) => panic!("{status}"),
            }
        })
        .await
    }

    pub async fn report(
        &self,
        action: &ActionResponse,
        state: StateType,
        message: &str,
    ) -> Result<(), Status> {
        // Go's zero time, as the agents in the field send it with RUNNING.
        let zero = prost_types::Timestamp { seconds: -62_135_596_800, nanos: 0 };
        let request = ActionStatusRequest {
            workflow_id: action.workflow_id.clone(),
            agent_id: Some(self.id.clone()),
            task_id: action.task_id.clone(),
            action_id: action.action_id.clone(),
            action_name: action.name.clone(),
            action_state: Some(state.into()),
            execution_start: Some(zero),
            execution_stop: Some(zero),
            execution_duration: Some("1s".to_owned()),
            message: Some(ActionMessage { message: Some(message.to_owned()) }),
        };
        self.service().report_action_status(self.request(request)).await.map(drop)
    }

    /// Gets the next action and runs it.
    pub async fn work(&self) -> ActionResponse {
        let action = self.next().await;
        self.report(&action, StateType::Running, "running action").await.unwrap();
        self.report(&action, StateType::Success, "action completed").await.unwrap();
        action
    }
}

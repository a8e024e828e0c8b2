// SPDX-License-Identifier: Apache-2.0
//! The peers: a scripted provisioning server, a file server with faults, and the agent between them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proto::agent::v1::agent_event::Event;
use proto::agent::v1::agent_service_server::{AgentService, AgentServiceServer};
use proto::agent::v1::{AgentEvent, Hello, Progress, ReportResponse};
use proto::workflow::action_status_request::StateType;
use proto::workflow::workflow_service_server::{WorkflowService, WorkflowServiceServer};
use proto::workflow::{ActionRequest, ActionResponse, ActionStatusRequest, ActionStatusResponse};
use tink_worker::config::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `condition` gives something.
pub(crate) async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "timed out waiting for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// One action for the agent `agent`.
pub(crate) fn action(id: &str, image: &str, timeout: i64, environment: &[String]) -> ActionResponse {
    ActionResponse {
        workflow_id: Some("tinkerbell/w".to_owned()),
        task_id: Some("task".to_owned()),
        agent_id: Some("agent".to_owned()),
        action_id: Some(id.to_owned()),
        name: Some(format!("name of {id}")),
        image: Some(image.to_owned()),
        timeout: Some(timeout),
        environment: environment.to_vec(),
        ..ActionResponse::default()
    }
}

/// What a report said, shortened.
pub(crate) type Said = (String, StateType, String);

#[derive(Default)]
pub(crate) struct Script {
    /// Handed out one after the other; the head stays until its end was reported.
    pub(crate) actions: VecDeque<ActionResponse>,
    /// Answers to the next final reports, instead of taking them.
    pub(crate) refusals: VecDeque<Status>,
    /// An action whose report was taken is handed out again this often.
    pub(crate) repeats: u32,
    pub(crate) said: Vec<Said>,
    pub(crate) reports: Vec<ActionStatusRequest>,
    pub(crate) polls: u32,
    pub(crate) tokens: Vec<Option<String>>,
    pub(crate) hellos: Vec<Hello>,
    pub(crate) progress: Vec<Progress>,
    pub(crate) lines: Vec<String>,
}

#[derive(Clone, Default)]
pub(crate) struct Tink(pub(crate) Arc<Mutex<Script>>);

impl Tink {
    pub(crate) fn with(actions: impl IntoIterator<Item = ActionResponse>) -> Self {
        let tink = Self::default();
        tink.0.lock().unwrap().actions = actions.into_iter().collect();
        tink
    }

    pub(crate) fn said(&self) -> Vec<Said> {
        self.0.lock().unwrap().said.clone()
    }

    /// The first report of this action that is not RUNNING.
    pub(crate) async fn end_of(&self, id: &str) -> (StateType, String) {
        until(&format!("the end of {id}"), || {
            let said = self.said();
            let end = said.iter().find(|(action, state, _)| action == id && *state != StateType::Running)?;
            Some((end.1, end.2.clone()))
        })
        .await
    }

    /// Serves on `address` until the token is cancelled.
    pub(crate) async fn serve(&self, address: SocketAddr, services: Services) -> Serving {
        self.serve_with(address, services, tonic::transport::Server::builder()).await
    }

    /// The same over TLS with this certificate and key in PEM.
    pub(crate) async fn serve_tls(&self, certificate: &str, key: &str) -> Serving {
        let identity = tonic::transport::Identity::from_pem(certificate, key);
        let tls = tonic::transport::ServerTlsConfig::new().identity(identity);
        let builder = tonic::transport::Server::builder().tls_config(tls).unwrap();
        self.serve_with("127.0.0.1:0".parse().unwrap(), Services::Both, builder).await
    }

    async fn serve_with(
        &self,
        address: SocketAddr,
        services: Services,
        mut builder: tonic::transport::Server,
    ) -> Serving {
        // The port of a server that was just stopped is free again within moments.
        let end = Instant::now() + DEADLINE;
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(error) if Instant::now() > end => panic!("{error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let address = listener.local_addr().unwrap();
        let mut router = builder.add_service(WorkflowServiceServer::new(self.clone()));
        if services == Services::Both {
            router = router.add_service(AgentServiceServer::new(self.clone()));
        }
        let task = tokio::spawn(async move {
            router.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Serving { address, task }
    }

    fn see_token<T>(&self, request: &Request<T>) {
        let token =
            request.metadata().get("tink-agent-token").map(|value| value.to_str().unwrap().to_owned());
        self.0.lock().unwrap().tokens.push(token);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Services {
    /// As ours.
    Both,
    /// As others of the contract.
    WorkflowsOnly,
}

pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Serving {
    /// Ends it as a killed process would: connections break.
    pub(crate) async fn kill(self) {
        self.task.abort();
        drop(self.task.await);
    }
}

#[tonic::async_trait]
impl WorkflowService for Tink {
    async fn get_action(&self, request: Request<ActionRequest>) -> Result<Response<ActionResponse>, Status> {
        self.see_token(&request);
        let mut script = self.0.lock().unwrap();
        script.polls += 1;
        if request.into_inner().agent_id() != "agent" {
            return Err(Status::not_found("no workflow"));
        }
        match script.actions.front() {
            Some(action) => Ok(Response::new(action.clone())),
            None => Err(Status::failed_precondition("workflow has ended")),
        }
    }

    async fn report_action_status(
        &self,
        request: Request<ActionStatusRequest>,
    ) -> Result<Response<ActionStatusResponse>, Status> {
        self.see_token(&request);
        let report = request.into_inner();
        let mut script = self.0.lock().unwrap();
        let state = report.action_state();
        if state != StateType::Running {
            if let Some(refusal) = script.refusals.pop_front() {
                return Err(refusal);
            }
            if script.repeats > 0 {
                script.repeats -= 1;
            } else {
                script.actions.pop_front();
            }
        }
        let message = report.message.as_ref().map(|message| message.message().to_owned()).unwrap_or_default();
        script.said.push((report.action_id().to_owned(), state, message));
        script.reports.push(report);
        Ok(Response::new(ActionStatusResponse {}))
    }
}

#[tonic::async_trait]
impl AgentService for Tink {
    async fn report(
        &self,
        request: Request<Streaming<AgentEvent>>,
    ) -> Result<Response<ReportResponse>, Status> {
        self.see_token(&request);
        let mut events = request.into_inner();
        while let Some(event) = events.next().await {
            let event = event?;
            assert_eq!(event.agent_id, "agent");
            let mut script = self.0.lock().unwrap();
            match event.event {
                Some(Event::Hello(hello)) => script.hellos.push(hello),
                Some(Event::Progress(progress)) => script.progress.push(progress),
                Some(Event::Log(line)) => script.lines.push(line.message),
                None => {}
            }
        }
        Ok(Response::new(ReportResponse {}))
    }
}

/// A running agent; stopped on drop.
pub(crate) struct Agent {
    shutdown: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Agent {
    pub(crate) fn start(config: Config) -> Self {
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { tink_worker::run(config, stop).await.unwrap() });
        Self { shutdown, task: Some(task) }
    }

    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        self.task.take().unwrap().await.unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Scripted server, agent, and a directory that holds the agent's state and the disks.
pub(crate) struct World {
    pub(crate) tink: Tink,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) server: Option<Serving>,
    pub(crate) agent: Option<Agent>,
}

impl World {
    pub(crate) async fn new(actions: impl IntoIterator<Item = ActionResponse>) -> Self {
        Self::with_services(actions, Services::Both).await
    }

    pub(crate) async fn with_services(
        actions: impl IntoIterator<Item = ActionResponse>,
        services: Services,
    ) -> Self {
        let tink = Tink::with(actions);
        let server = tink.serve("127.0.0.1:0".parse().unwrap(), services).await;
        let directory = tempfile::tempdir().unwrap();
        let mut world = Self { tink, directory, server: Some(server), agent: None };
        world.start_agent();
        world
    }

    pub(crate) fn start_agent(&mut self) {
        let address = self.server.as_ref().unwrap().address.to_string();
        let mut config = Config::new("agent", address, self.directory.path().join("state"));
        config.longest_backoff = Duration::from_millis(200);
        config.token = Some(tink_worker::config::Token::new("the-token"));
        self.agent = Some(Agent::start(config));
    }

    pub(crate) async fn end_of(&self, id: &str) -> (StateType, String) {
        self.tink.end_of(id).await
    }
}

/// A file that stands for a disk with old data on it.
pub(crate) fn dirty_disk(directory: &Path, len: usize) -> PathBuf {
    let path = directory.join("disk");
    std::fs::write(&path, vec![0xee; len]).unwrap();
    path
}

pub(crate) fn image2disk(id: &str, url: &str, disk: &Path, more: &[&str]) -> ActionResponse {
    let mut environment = vec![format!("IMG_URL={url}"), format!("DEST_DISK={}", disk.display())];
    environment.extend(more.iter().map(|text| (*text).to_owned()));
    action(id, "quay.io/tinkerbell/actions/image2disk:latest", 50, &environment)
}

/// How the file server answers one request.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Bytes of the body that are really sent before the connection is closed; all when `None`.
    pub(crate) cut_after: Option<usize>,
    pub(crate) honour_range: bool,
    pub(crate) honour_if_range: bool,
    pub(crate) etag: Option<String>,
    pub(crate) stall: bool,
}

impl Answer {
    pub(crate) fn good() -> Self {
        Self {
            status: 200,
            cut_after: None,
            honour_range: true,
            honour_if_range: true,
            etag: Some("\"v1\"".to_owned()),
            stall: false,
        }
    }

    pub(crate) fn cut_after(bytes: usize) -> Self {
        Self { cut_after: Some(bytes), ..Self::good() }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::good() }
    }
}

type Choose = dyn Fn(usize) -> Answer + Send + Sync;

/// Serves one file; the n-th request is answered as the test says.
pub(crate) struct FileServer {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
    pub(crate) sent: Arc<Mutex<usize>>,
    task: JoinHandle<()>,
}

impl FileServer {
    pub(crate) async fn start(
        file: Vec<u8>,
        choose: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap(), file, choose).await
    }

    pub(crate) async fn start_on(
        address: SocketAddr,
        file: Vec<u8>,
        choose: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, sent) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
        let (log, count) = (requests.clone(), sent.clone());
        let choose: Arc<Choose> = Arc::new(choose);
        let file = Arc::new(file);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(answer(stream, file.clone(), choose.clone(), log.clone(), count.clone()));
            }
        });
        Self { address, requests, sent, task }
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) async fn kill(mut self) {
        self.task.abort();
        drop((&mut self.task).await);
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    mut stream: TcpStream,
    file: Arc<Vec<u8>>,
    choose: Arc<Choose>,
    log: Arc<Mutex<Vec<String>>>,
    sent: Arc<Mutex<usize>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let number = {
        let mut log = log.lock().unwrap();
        log.push(head.clone());
        log.len() - 1
    };
    let how = choose(number);
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let range: Option<usize> = header("range")
        .filter(|_| how.honour_range)
        .map(|text| text.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap());
    let same = header("if-range").is_none_or(|tag| !how.honour_if_range || Some(tag) == how.etag);
    let (status, start) = match range {
        Some(start) if how.status == 200 && same => (206, start),
        _ => (how.status, 0),
    };
    let body = file.get(start..).unwrap_or_default();
    let mut response =
        format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    if status == 206 {
        response += &format!("Content-Range: bytes {start}-{}/{}\r\n", file.len() - 1, file.len());
    }
    if let Some(tag) = &how.etag {
        response += &format!("ETag: {tag}\r\n");
    }
    response += "\r\n";
    let cut = how.cut_after.unwrap_or(body.len()).min(body.len());
    if stream.write_all(response.as_bytes()).await.is_err() {
        return;
    }
    for piece in body[..cut].chunks(64 * 1024) {
        if stream.write_all(piece).await.is_err() {
            return;
        }
        *sent.lock().unwrap() += piece.len();
    }
    if how.stall {
        std::future::pending::<()>().await;
    }
    drop(stream.shutdown().await);
}

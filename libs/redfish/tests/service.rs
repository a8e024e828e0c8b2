// SPDX-License-Identifier: Apache-2.0

//! The client against a small service that behaves, and misbehaves, as BMCs are known to.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use redfish::{
    BootEnabled, BootMode, BootOverride, BootTarget, Client, Credentials, Endpoint, Error, MediaKind,
};
use redfish::{Options, PowerState, ResetType, Trust};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const PASSWORD: &str = "hunter2-very-secret";

/// Path, status, headers.
type Refusal = (&'static str, u16, Vec<(&'static str, String)>);

/// How the service is today.
#[derive(Debug, Default)]
struct Service {
    /// No `Links.Sessions` in the root.
    no_sessions: bool,
    /// Session creation answers with this status and message id.
    session_refusal: Option<(u16, &'static str)>,
    /// Answers to refuse with before anything else, first one first.
    refuse: Vec<Refusal>,
    /// The tag that a PATCH must carry; it changes with every PATCH.
    etag: Option<String>,
    /// A reset is a task that needs this many looks.
    task_looks: Option<u32>,
    /// The `Boot` properties that a PATCH may not contain.
    refuses_mode: bool,
    huge: bool,
    power: &'static str,
    boot: Value,
    sessions: Vec<String>,
    made: u32,
    log: Vec<String>,
    image: Option<String>,
}

type Shared = Arc<Mutex<Service>>;

fn service() -> Shared {
    let boot = json!({
        "BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None", "BootSourceOverrideMode": "UEFI",
        "BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "Pxe", "Hdd"],
    });
    Arc::new(Mutex::new(Service { power: "Off", boot, ..Service::default() }))
}

async fn serve(shared: &Shared) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().fallback(answer).with_state(Arc::clone(shared));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

fn options() -> Options {
    Options { request_timeout: Duration::from_secs(20), ..Options::default() }
}

async fn connect_with(address: SocketAddr, password: &str, options: &Options) -> Result<Client, Error> {
    let endpoint = Endpoint::parse(&format!("http://{address}"), None).unwrap();
    let credentials = Credentials { username: "root".into(), password: password.to_owned().into() };
    Client::connect(endpoint, credentials, options).await
}

async fn connect(address: SocketAddr) -> Client {
    connect_with(address, PASSWORD, &options()).await.unwrap()
}

fn reply(status: u16, body: &Value) -> Response<Body> {
    Response::builder().status(status).body(Body::from(body.to_string())).unwrap()
}

fn problem(status: u16, id: &str, message: &str) -> Response<Body> {
    reply(
        status,
        &json!({"error": {"code": id, "@Message.ExtendedInfo": [{"MessageId": id, "Message": message}]}}),
    )
}

async fn answer(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let mut service = shared.lock().unwrap();
    let path = uri.path().to_owned();
    service.log.push(format!("{method} {path}"));
    if let Some(place) = service.refuse.iter().position(|(refused, ..)| *refused == path) {
        let (_, status, extra) = service.refuse.remove(place);
        let mut response = problem(status, "Base.1.8.Refused", "not now");
        for (name, value) in extra {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        return response;
    }
    if path == "/redfish/v1/" {
        let mut root = json!({"RedfishVersion": "1.6.0", "Systems": {"@odata.id": "/redfish/v1/Fleet"}});
        if !service.no_sessions {
            root["Links"] = json!({"Sessions": {"@odata.id": "/redfish/v1/Login"}});
        }
        return reply(200, &root);
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if (&method, path.as_str()) == (&Method::POST, "/redfish/v1/Login") {
        return service.log_in(&body);
    }
    if !service.knows(&headers) {
        return problem(401, "Base.1.8.NoValidSession", "no");
    }
    service.authorised(&method, &path, &headers, &body)
}

impl Service {
    fn log_in(&mut self, body: &Value) -> Response<Body> {
        if let Some((status, id)) = self.session_refusal {
            return problem(status, id, "no session");
        }
        if body["Password"] != PASSWORD {
            return problem(401, "Base.1.8.Unauthorised", &format!("{} is wrong", body["Password"]));
        }
        self.made += 1;
        let token = format!("token-{}", self.made);
        self.sessions.push(token.clone());
        let mut response = reply(201, &json!({}));
        response.headers_mut().insert("x-auth-token", token.parse().unwrap());
        response.headers_mut().insert("location", format!("/redfish/v1/Login/{token}").parse().unwrap());
        response
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        // base64 of root:hunter2-very-secret
        let basic = headers
            .get("authorization")
            .is_some_and(|value| value == "Basic cm9vdDpodW50ZXIyLXZlcnktc2VjcmV0");
        let token = headers.get("x-auth-token").and_then(|value| value.to_str().ok());
        basic || token.is_some_and(|token| self.sessions.iter().any(|known| known == token))
    }

    fn authorised(
        &mut self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        body: &Value,
    ) -> Response<Body> {
        match (method.as_str(), path) {
            ("GET", "/redfish/v1/Fleet") if self.huge => reply(200, &json!({"x": "y".repeat(5 << 20)})),
            ("GET", "/redfish/v1/Fleet") => {
                reply(200, &json!({"Members": [{"@odata.id": "/redfish/v1/Fleet/A"}]}))
            }
            ("GET", "/redfish/v1/Fleet/A") => {
                let mut response = reply(200, &self.system());
                if let Some(etag) = &self.etag {
                    response.headers_mut().insert("etag", etag.parse().unwrap());
                }
                response
            }
            ("PATCH", "/redfish/v1/Fleet/A") => self.patch(headers, body),
            ("POST", "/redfish/v1/Fleet/A/Do") => self.reset(body),
            ("GET", "/redfish/v1/Jobs/1") => self.look(),
            ("GET", "/redfish/v1/Slots") => {
                reply(200, &json!({"Members": [{"@odata.id": "/redfish/v1/Slots/1"}]}))
            }
            ("GET", "/redfish/v1/Slots/1") => reply(
                200,
                &json!({
                    "Id": "1", "MediaTypes": ["DVD"], "Image": self.image, "Inserted": self.image.is_some(),
                    "Actions": {
                        "#VirtualMedia.InsertMedia": {"target": "/redfish/v1/Slots/1/In"},
                        "#VirtualMedia.EjectMedia": {"target": "/redfish/v1/Slots/1/Out"},
                    },
                }),
            ),
            ("POST", "/redfish/v1/Slots/1/In") if body.get("Inserted").is_some() => {
                problem(400, "Base.1.8.PropertyUnknown", "Inserted is unknown")
            }
            ("POST", "/redfish/v1/Slots/1/In") => {
                self.image = body["Image"].as_str().map(str::to_owned);
                reply(204, &Value::Null)
            }
            ("POST", "/redfish/v1/Slots/1/Out") => {
                self.image = None;
                reply(204, &Value::Null)
            }
            ("DELETE", path) => {
                self.sessions.retain(|token| !path.ends_with(token.as_str()));
                reply(204, &Value::Null)
            }
            _ => problem(404, "Base.1.8.ResourceMissing", "no such thing"),
        }
    }

    fn system(&self) -> Value {
        json!({
            "Name": "A", "Id": "A", "PowerState": self.power, "Boot": self.boot,
            "VirtualMedia": {"@odata.id": "/redfish/v1/Slots"},
            "Actions": {"#ComputerSystem.Reset": {
                "target": "/redfish/v1/Fleet/A/Do",
                "ResetType@Redfish.AllowableValues": ["ForceOn", "ForceOff"],
            }},
        })
    }

    fn patch(&mut self, headers: &HeaderMap, body: &Value) -> Response<Body> {
        let given = headers.get("if-match").and_then(|value| value.to_str().ok());
        // As services that mark their tags weak and compare them strongly.
        let wanted = self.etag.as_deref().map(|tag| tag.trim_start_matches("W/"));
        if wanted.is_some() && given != wanted {
            return problem(412, "Base.1.8.PreconditionFailed", "stale");
        }
        let boot = body["Boot"].as_object().unwrap();
        if self.refuses_mode && boot.contains_key("BootSourceOverrideMode") {
            return problem(400, "Base.1.8.PropertyNotWritable", "the mode is what it is");
        }
        self.etag = self.etag.as_ref().map(|_| "W/\"2\"".to_owned());
        for (key, value) in boot {
            self.boot[key] = value.clone();
        }
        reply(204, &Value::Null)
    }

    fn reset(&mut self, body: &Value) -> Response<Body> {
        self.log.push(format!("reset {}", body["ResetType"].as_str().unwrap()));
        if self.task_looks.is_none() {
            self.power = if body["ResetType"] == "ForceOff" { "Off" } else { "On" };
            return reply(204, &Value::Null);
        }
        let mut response = reply(202, &json!({"TaskState": "New"}));
        response.headers_mut().insert("location", "/redfish/v1/Jobs/1".parse().unwrap());
        response
    }

    fn look(&mut self) -> Response<Body> {
        match self.task_looks {
            Some(0) => {
                self.power = "On";
                reply(200, &json!({"TaskState": "Completed", "TaskStatus": "OK"}))
            }
            Some(looks) if looks < 100 => {
                self.task_looks = Some(looks - 1);
                reply(202, &json!({"TaskState": "Running"}))
            }
            _ => {
                reply(200, &json!({"TaskState": "Exception", "Messages": [{"Message": "the fan is stuck"}]}))
            }
        }
    }
}

#[tokio::test]
async fn a_session_is_made_used_renewed_and_deleted() {
    let shared = service();
    let mut client = connect(serve(&shared).await).await;
    assert_eq!(client.power_state().await.unwrap(), PowerState::Off);
    assert_eq!(shared.lock().unwrap().sessions, ["token-1"]);
    // The BMC forgets it.
    shared.lock().unwrap().sessions.clear();
    assert_eq!(client.power_state().await.unwrap(), PowerState::Off);
    assert_eq!(shared.lock().unwrap().sessions, ["token-2"]);
    client.close().await;
    assert!(shared.lock().unwrap().sessions.is_empty(), "none is left behind");
}

#[tokio::test]
async fn basic_is_used_where_sessions_are_not_to_be_had() {
    let refusals = [
        None,
        Some((404, "x")),
        Some((503, "Base.1.8.SessionLimitExceeded")),
        Some((403, "X.SessionLimitExceeded")),
    ];
    for refusal in refusals {
        let shared = service();
        shared.lock().unwrap().no_sessions = refusal.is_none();
        shared.lock().unwrap().session_refusal = refusal;
        let mut client = connect(serve(&shared).await).await;
        assert_eq!(client.power_state().await.unwrap(), PowerState::Off, "{refusal:?}");
        client.close().await;
        assert_eq!(shared.lock().unwrap().made, 0);
    }
    let shared = service();
    let basic = Options { basic_auth: true, ..options() };
    connect_with(serve(&shared).await, PASSWORD, &basic).await.unwrap();
    assert_eq!(shared.lock().unwrap().made, 0, "asked for Basic");
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_repeated_in_words() {
    for no_sessions in [false, true] {
        let shared = service();
        shared.lock().unwrap().no_sessions = no_sessions;
        let error = connect_with(serve(&shared).await, "wrong-1", &options()).await.err().unwrap();
        assert!(matches!(error, Error::Auth { status: 401, .. }), "{error:?}");
        let text = format!("{error} {error:?}");
        assert!(!text.contains("wrong-1"), "{text}");
        let logins = shared.lock().unwrap().log.iter().filter(|line| line.starts_with("POST")).count();
        assert!(logins <= 1, "accounts get locked");
    }
}

#[tokio::test]
async fn a_failed_start_leaves_no_session() {
    let shared = service();
    let options = Options { system_name: Some("B".into()), ..options() };
    let error = connect_with(serve(&shared).await, PASSWORD, &options).await.err().unwrap();
    assert_eq!(error.to_string(), "no system is called \"B\"; this service has: A");
    assert!(shared.lock().unwrap().sessions.is_empty());
}

#[tokio::test]
async fn resets_are_chosen_from_what_is_allowed_and_tasks_are_waited_for() {
    let shared = service();
    let mut client = connect(serve(&shared).await).await;
    assert_eq!(client.reset(&[ResetType::On, ResetType::ForceOn]).await.unwrap(), ResetType::ForceOn);
    assert_eq!(client.power_state().await.unwrap(), PowerState::On);
    let error = client.reset(&[ResetType::PowerCycle]).await.unwrap_err();
    assert!(matches!(&error, Error::Unsupported { allowed, .. } if allowed.len() == 2), "{error:?}");

    client.reset(&[ResetType::ForceOff]).await.unwrap();
    shared.lock().unwrap().task_looks = Some(2);
    client.reset(&[ResetType::ForceOn]).await.unwrap();
    assert_eq!(client.power_state().await.unwrap(), PowerState::On, "the task has ended");
    shared.lock().unwrap().task_looks = Some(100);
    let error = client.reset(&[ResetType::ForceOn]).await.unwrap_err();
    assert_eq!(error.to_string(), "the BMC's task ended as Exception: the fan is stuck");
    client.close().await;
}

#[tokio::test]
async fn writes_carry_the_tag_and_shrink_until_they_are_taken() {
    let shared = service();
    {
        let mut service = shared.lock().unwrap();
        (service.etag, service.refuses_mode) = (Some("W/\"1\"".into()), true);
    }
    let mut client = connect(serve(&shared).await).await;
    let wanted =
        BootOverride { target: BootTarget::Pxe, enabled: BootEnabled::Once, mode: Some(BootMode::Uefi) };
    client.set_boot_override(&wanted).await.unwrap();
    assert_eq!(client.boot_override().await.unwrap(), wanted);
    let patches = shared.lock().unwrap().log.iter().filter(|line| line.starts_with("PATCH")).count();
    assert_eq!(patches, 4, "weak tag refused, full body refused, then the same for the small one");
    let setup = BootOverride { target: BootTarget::BiosSetup, ..wanted };
    assert!(matches!(client.set_boot_override(&setup).await, Err(Error::Unsupported { .. })));
    client.close().await;
}

#[tokio::test]
async fn media_goes_in_with_a_smaller_body_and_out_again() {
    let shared = service();
    let mut client = connect(serve(&shared).await).await;
    for _ in 0..2 {
        client.insert_media(MediaKind::Cd, "http://h/a.iso").await.unwrap();
        assert_eq!(client.media(MediaKind::Cd).await.unwrap().image.as_deref(), Some("http://h/a.iso"));
    }
    assert!(
        shared.lock().unwrap().log.contains(&"POST /redfish/v1/Slots/1/Out".to_owned()),
        "emptied before"
    );
    client.eject_media(MediaKind::Cd).await.unwrap();
    assert!(!client.media(MediaKind::Cd).await.unwrap().inserted);
    assert!(matches!(client.media(MediaKind::Floppy).await, Err(Error::Unsupported { .. })));
    client.close().await;
}

#[tokio::test]
async fn busy_is_waited_out_and_redirects_stay_on_the_host() {
    let shared = service();
    let mut client = connect(serve(&shared).await).await;
    let system = "/redfish/v1/Fleet/A";
    let busy = |count| (0..count).map(|_| (system, 503, vec![("retry-after", "0".to_owned())]));
    shared.lock().unwrap().refuse.extend(busy(3));
    assert_eq!(client.power_state().await.unwrap(), PowerState::Off);
    shared.lock().unwrap().refuse.extend(busy(4));
    let error = client.power_state().await.unwrap_err();
    assert!(error.is_transient() && matches!(error, Error::Api { status: 503, .. }), "{error:?}");

    let redirect = |to: &str| (system, 308, vec![("location", to.to_owned())]);
    shared.lock().unwrap().refuse.push(redirect("/redfish/v1/Fleet/A"));
    assert_eq!(client.power_state().await.unwrap(), PowerState::Off);
    shared.lock().unwrap().refuse.push(redirect("http://127.0.0.2:1/x"));
    let error = client.power_state().await.unwrap_err();
    assert!(matches!(&error, Error::Protocol(what) if what.contains("another host")), "{error:?}");
    shared.lock().unwrap().refuse.extend((0..9).map(|_| redirect(system)));
    assert!(matches!(client.power_state().await, Err(Error::Protocol(_))), "a loop ends");
    shared.lock().unwrap().refuse.clear();
    client.close().await;
}

#[tokio::test]
async fn bodies_are_bounded_and_other_servers_are_recognised() {
    let shared = service();
    shared.lock().unwrap().huge = true;
    let error = connect_with(serve(&shared).await, PASSWORD, &options()).await.err().unwrap();
    assert!(matches!(&error, Error::Protocol(what) if what.contains("4 MiB")), "{error:?}");

    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let page = Router::new().fallback(|| async { (StatusCode::OK, "<html>printer</html>") });
    let web = tokio::spawn(async move { axum::serve(listener, page).await.unwrap() });
    let error = connect_with(address, PASSWORD, &options()).await.err().unwrap();
    assert!(matches!(error, Error::NotRedfish { .. }), "{error:?}");
    web.abort();
    assert!(web.await.unwrap_err().is_cancelled());
    let error = connect_with(address, PASSWORD, &options()).await.err().unwrap();
    assert!(matches!(&error, Error::Unreachable { reason, .. } if reason.contains("refused")), "{error:?}");
}

#[tokio::test]
async fn certificates_are_judged_as_asked() {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bundle = |name: &str, pem: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        Trust::Bundle(path)
    };
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        // Enough of a service to tell a handshake that worked: it is no Redfish.
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let mut request = [0; 4096];
                if stream.read(&mut request).await.is_ok() {
                    let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                    stream.write_all(answer).await.unwrap();
                }
            }
        }
    });
    for (trust, good) in [
        (Trust::Anything, true),
        (bundle("right.pem", made.cert.pem()), true),
        (bundle("other.pem", other.cert.pem()), false),
        (bundle("empty.pem", String::new()), false),
        (Trust::Bundle(folder.path().join("missing.pem")), false),
    ] {
        let options = Options { trust: trust.clone(), ..options() };
        let endpoint = Endpoint::parse("127.0.0.1", Some(address.port())).unwrap();
        let credentials = Credentials { username: "root".into(), password: PASSWORD.to_owned().into() };
        let error = Client::connect(endpoint, credentials, &options).await.err().unwrap();
        match error {
            Error::NotRedfish { .. } => assert!(good, "{trust:?}"),
            Error::Tls { reason, .. } => assert!(!good, "{trust:?}: {reason}"),
            other => panic!("{trust:?}: {other:?}"),
        }
    }
}

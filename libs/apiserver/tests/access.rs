// SPDX-License-Identifier: Apache-2.0

//! Who may do what, as a client sees it: over TLS with tokens, in process as a user, and the questions about rights.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails; clippy knows only test functions, not their helpers"
)]

mod common;

use apiserver::Tls;
use apiserver::access::{Account, Grant, Scope, Writes};
use apiserver::pki::Identity;
use common::{Fixture, WIDGETS, start_with, widget, widgets};
use futures::StreamExt as _;
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

const READER: &str = "system:serviceaccount:default:reader";

fn rule(verbs: &[&str], group: &str, resources: &[&str], names: &[&str]) -> PolicyRule {
    let list = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    PolicyRule {
        verbs: list(verbs),
        api_groups: Some(list(&[group])),
        resources: Some(list(resources)),
        resource_names: (!names.is_empty()).then(|| list(names)),
        non_resource_urls: None,
    }
}

/// Reads widgets everywhere and writes their status; reads one Secret of `default`.
fn reader() -> Account {
    let widgets = vec![
        rule(&["get", "list", "watch"], "example.org", &["widgets"], &[]),
        rule(&["patch"], "example.org", &["widgets/status"], &[]),
    ];
    let secret = vec![rule(&["get"], "", &["secrets"], &["mine"])];
    let grants = vec![
        Grant { scope: Scope::Cluster, rules: widgets },
        Grant { scope: Scope::In(vec!["default".into()]), rules: secret },
    ];
    Account::service_account("default", "reader", grants)
}

async fn start() -> Fixture {
    start_with(|options| options.accounts.push(reader())).await
}

/// Sends as a user, in process.
async fn send_as(
    fixture: &Fixture,
    user: &str,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &Value,
) -> (u16, Value) {
    let mut request =
        http::Request::builder().method(method).uri(path).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(bytes::Bytes::from(body.to_string()))).unwrap();
    let answer = fixture.server.service_as(user).oneshot(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (parts.status.as_u16(), serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

#[tokio::test]
async fn a_user_does_what_its_rules_say_and_nothing_else() {
    let fixture = start().await;
    widgets(fixture.client()).create(&PostParams::default(), &widget("w", json!({}))).await.unwrap();
    let api = widgets(fixture.server.client_as(READER, "default"));
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 1);
    let status = Patch::Merge(json!({"status": {"state": "seen"}}));
    api.patch_status("w", &PatchParams::default(), &status).await.unwrap();
    let spec = Patch::Merge(json!({"spec": {"size": 3}}));
    let kube::Error::Api(refused) = api.patch("w", &PatchParams::default(), &spec).await.unwrap_err() else {
        panic!("an answer of the API")
    };
    assert_eq!((refused.code, refused.reason.as_str()), (403, "Forbidden"));
    assert_eq!(
        refused.message,
        "widgets.example.org \"w\" is forbidden: User \"system:serviceaccount:default:reader\" cannot patch resource \
         \"widgets\" in API group \"example.org\" in the namespace \"default\""
    );

    let refused = async |method: &str, path: &str| {
        let (code, body) = send_as(&fixture, READER, (method, path), &[], &json!({})).await;
        assert_eq!(
            (code, &body["kind"], &body["status"]),
            (403, &json!("Status"), &json!("Failure")),
            "{path}"
        );
        body
    };
    let body = refused("GET", "/api/v1/secrets?limit=500").await;
    assert_eq!(
        body["message"],
        "secrets is forbidden: User \"system:serviceaccount:default:reader\" cannot list resource \"secrets\" in API \
         group \"\" at the cluster scope"
    );
    assert_eq!(body["details"], json!({"kind": "secrets"}));
    let body = refused("GET", "/metrics").await;
    assert_eq!(
        body["message"],
        "forbidden: User \"system:serviceaccount:default:reader\" cannot get path \"/metrics\""
    );
    refused("GET", "/api/v1/namespaces/default/secrets/other").await;
    refused("DELETE", WIDGETS).await;
    // Who may not ask is not told whether it is there.
    refused("GET", "/apis/nothing.org/v1/namespaces/default/things/t").await;
    let mine =
        send_as(&fixture, READER, ("GET", "/api/v1/namespaces/default/secrets/mine"), &[], &json!({})).await;
    assert_eq!(mine.0, 404, "it may ask for this one");
    assert_eq!(send_as(&fixture, "stranger", ("GET", WIDGETS), &[], &json!({})).await.0, 403);
    fixture.server.close().await;
}

#[tokio::test]
async fn while_writes_are_suspended_users_only_read_and_the_administrator_goes_on() {
    let fixture = start().await;
    let own = widgets(fixture.client());
    own.create(&PostParams::default(), &widget("w", json!({}))).await.unwrap();
    let theirs = widgets(fixture.server.client_as(READER, "default"));
    let status = Patch::Merge(json!({"status": {"state": "seen"}}));
    let may_write = async || {
        let resource =
            json!({"verb": "patch", "group": "example.org", "resource": "widgets", "subresource": "status"});
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let review = json!({"spec": {"resourceAttributes": resource}});
        let (code, answer) = send_as(&fixture, READER, ("POST", path), &[], &review).await;
        assert_eq!(code, 201, "{answer}");
        answer["status"]["allowed"].as_bool().unwrap()
    };
    theirs.patch_status("w", &PatchParams::default(), &status).await.unwrap();
    assert!(may_write().await);
    fixture.server.set_writes(Writes::Suspended);
    let refused = theirs.patch_status("w", &PatchParams::default(), &status).await.unwrap_err();
    assert!(matches!(&refused, kube::Error::Api(status) if status.code == 403), "{refused}");
    assert!(!may_write().await, "who asks is told");
    assert_eq!(theirs.list(&ListParams::default()).await.unwrap().items.len(), 1);
    let spec = Patch::Merge(json!({"spec": {"size": 3}}));
    own.patch("w", &PatchParams::default(), &spec).await.unwrap();
    let as_reader = [("impersonate-user", READER)];
    let body = json!({"status": {"state": "other"}});
    let path = format!("{WIDGETS}/w/status");
    let (code, _) = send_as(&fixture, "admin", ("PATCH", &path), &as_reader, &body).await;
    assert_eq!(code, 403, "whom the administrator acts as is suspended, too");
    fixture.server.set_writes(Writes::Allowed);
    theirs.patch_status("w", &PatchParams::default(), &status).await.unwrap();
    fixture.server.close().await;
}

#[tokio::test]
async fn a_write_that_was_let_in_before_is_waited_for() {
    let fixture = start().await;
    widgets(fixture.client()).create(&PostParams::default(), &widget("w", json!({}))).await.unwrap();
    let (slowly, pieces) = futures::channel::mpsc::unbounded();
    let pieces = pieces.map(|piece: &'static str| {
        Ok::<_, std::convert::Infallible>(Frame::data(bytes::Bytes::from_static(piece.as_bytes())))
    });
    let request = http::Request::builder().method("PATCH").uri(format!("{WIDGETS}/w/status"));
    let request = request.header("content-type", "application/merge-patch+json");
    let request = request.body(StreamBody::new(pieces)).unwrap();
    let mut sent = Box::pin(fixture.server.service_as(READER).oneshot(request));
    assert!(futures::poll!(&mut sent).is_pending());
    fixture.server.set_writes(Writes::Suspended);
    let mut ended = Box::pin(fixture.server.writes_ended());
    slowly.unbounded_send("{\"status\": {\"state\":").unwrap();
    assert!(futures::poll!(&mut sent).is_pending() && futures::poll!(&mut ended).is_pending());
    slowly.unbounded_send(" \"late\"}}").unwrap();
    drop(slowly);
    let (answer, ()) = tokio::join!(sent, ended);
    assert_eq!(answer.unwrap().status(), 200);
    let late = widgets(fixture.client()).get("w").await.unwrap();
    assert_eq!(late.data["status"]["state"], "late", "and then it is there");
    // Nothing goes on, and so there is nothing to wait for.
    fixture.server.writes_ended().await;
    fixture.server.close().await;
}

#[tokio::test]
async fn questions_about_rights_are_answered() {
    let fixture = start().await;
    let ask = async |user: &str, group: &str, plural: &str, kind: &str, spec: Value| {
        let path = format!("/apis/{group}/v1/{plural}");
        let question = json!({"apiVersion": format!("{group}/v1"), "kind": kind, "spec": spec});
        send_as(&fixture, user, ("POST", &path), &[], &question).await
    };
    const GROUP: &str = "authorization.k8s.io";
    let may_i = async |user: &str, attributes: Value| {
        let spec = json!({"resourceAttributes": attributes});
        let (code, answer) =
            ask(user, GROUP, "selfsubjectaccessreviews", "SelfSubjectAccessReview", spec).await;
        assert_eq!(code, 201, "{answer}");
        answer["status"]["allowed"].as_bool().unwrap()
    };
    let list = json!({"verb": "list", "group": "example.org", "resource": "widgets"});
    let delete =
        json!({"verb": "delete", "group": "example.org", "resource": "widgets", "namespace": "default"});
    assert!(may_i(READER, list.clone()).await && !may_i(READER, delete.clone()).await);
    assert!(may_i("admin", delete.clone()).await);
    assert!(may_i("admin", json!({"verb": "*", "group": "*", "resource": "*"})).await);
    assert!(!may_i(READER, json!({"verb": "*", "group": "example.org", "resource": "widgets"})).await);

    let empty = ask(READER, GROUP, "selfsubjectaccessreviews", "SelfSubjectAccessReview", json!({})).await;
    assert_eq!((empty.0, &empty.1["reason"]), (422, &json!("Invalid")));
    let they = json!({"user": READER, "resourceAttributes": delete});
    assert_eq!(ask(READER, GROUP, "subjectaccessreviews", "SubjectAccessReview", they.clone()).await.0, 403);
    let (code, answer) = ask("admin", GROUP, "subjectaccessreviews", "SubjectAccessReview", they).await;
    assert_eq!((code, &answer["status"]["allowed"]), (201, &json!(false)));

    let (code, rules) = ask(
        READER,
        GROUP,
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
        json!({"namespace": "default"}),
    )
    .await;
    assert_eq!(code, 201);
    let listed = rules["status"]["resourceRules"].as_array().unwrap();
    let secret =
        json!({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mine"]});
    assert!(listed.contains(&secret), "{rules}");
    let elsewhere =
        ask(READER, GROUP, "selfsubjectrulesreviews", "SelfSubjectRulesReview", json!({"namespace": "n"}))
            .await;
    assert!(!elsewhere.1.to_string().contains("mine"));
    let (code, me) =
        ask(READER, "authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview", json!({})).await;
    assert_eq!((code, &me["status"]["userInfo"]["username"]), (201, &json!(READER)));
    let groups = &me["status"]["userInfo"]["groups"];
    assert_eq!(
        groups,
        &json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );
    fixture.server.close().await;
}

#[tokio::test]
async fn only_who_may_everything_acts_as_another() {
    let fixture = start().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let as_reader = [("impersonate-user", READER)];
    let (code, body) = send_as(&fixture, "admin", ("GET", secrets), &as_reader, &json!({})).await;
    assert_eq!(code, 403);
    assert!(body["message"].as_str().unwrap().contains("reader\" cannot list"), "{body}");
    assert_eq!(send_as(&fixture, "admin", ("GET", WIDGETS), &as_reader, &json!({})).await.0, 200);
    let masters = [("impersonate-user", "x"), ("impersonate-group", "system:masters")];
    assert_eq!(send_as(&fixture, "admin", ("GET", secrets), &masters, &json!({})).await.0, 200);
    let (code, body) = send_as(&fixture, READER, ("GET", WIDGETS), &masters, &json!({})).await;
    assert_eq!(code, 403);
    assert!(body["message"].as_str().unwrap().contains("cannot impersonate resource \"users\""), "{body}");
    let (code, _) =
        send_as(&fixture, "admin", ("GET", secrets), &[("impersonate-group", "x")], &json!({})).await;
    assert_eq!(code, 500, "a group without a user, as Kubernetes answers it");
    fixture.server.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_token_is_its_own_user() {
    let fixture = start().await;
    let directory = fixture.directory.path();
    let identity = Identity::load_or_create(&directory.join("pki"), &[]).unwrap();
    let token = identity.token_of("reader").unwrap();
    assert_eq!(token.reveal(), identity.token_of("reader").unwrap().reveal(), "it stays");
    assert_ne!(token.reveal(), identity.token().reveal());
    assert!(identity.token_of("../ca").is_err());
    let file = std::fs::metadata(directory.join("pki/reader.token")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o777, 0o600);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    std::fs::write(directory.join("ca.pem"), identity.ca_pem()).unwrap();
    let (tls, stop) = (Tls::new(&identity).unwrap().admit(&token, READER), CancellationToken::new());
    let curl = async |token: &str, path: &str| -> u16 {
        let output = Command::new("curl")
            .args(["-sS", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"])
            .arg(directory.join("ca.pem"))
            .args(if token.is_empty() {
                vec![]
            } else {
                vec!["-H".to_owned(), format!("Authorization: Bearer {token}")]
            })
            .arg(format!("{url}{path}"))
            .output()
            .await
            .unwrap();
        String::from_utf8_lossy(&output.stdout).parse().unwrap()
    };
    let serving = fixture.server.serve_tls(listener, tls, stop.clone());
    let asking = async {
        let (admin, reader) = (identity.token().reveal(), token.reveal());
        let secrets = "/api/v1/namespaces/default/secrets";
        assert_eq!((curl(admin, secrets).await, curl(reader, secrets).await), (200, 403));
        assert_eq!(
            (curl(reader, WIDGETS).await, curl("wrong", WIDGETS).await, curl("", WIDGETS).await),
            (200, 401, 403)
        );
        assert_eq!((curl("", "/readyz").await, curl("", "/version").await), (200, 200));
        assert_eq!((curl("wrong", "/readyz").await, curl("", "/apis").await), (401, 403));
        stop.cancel();
    };
    let (served, ()) = tokio::join!(serving, asking);
    served.unwrap();
    fixture.server.close().await;
}

fn kubectl(kubeconfig: &std::path::Path, cache: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .arg("--cache-dir")
        .arg(cache)
        .args(arguments)
        .env_remove("KUBECONFIG");
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs kubectl; run ./x test"]
async fn kubectl_auth_tells_who_one_is_and_what_one_may() {
    let fixture = start().await;
    let directory = fixture.directory.path();
    let identity = Identity::load_or_create(&directory.join("pki"), &[]).unwrap();
    let token = identity.token_of("reader").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let (admin_file, reader_file) = (directory.join("admin"), directory.join("reader"));
    std::fs::write(&admin_file, identity.kubeconfig(&url, "default")).unwrap();
    std::fs::write(&reader_file, identity.kubeconfig_of("reader", &token, &url, "default")).unwrap();
    let (tls, stop) = (Tls::new(&identity).unwrap().admit(&token, READER), CancellationToken::new());
    let run = async |file: &std::path::Path, arguments: &[&str]| -> String {
        let output = kubectl(file, &directory.join("cache"), arguments).output().await.unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let asking = async {
        let whoami = run(&reader_file, &["auth", "whoami"]).await;
        assert!(whoami.contains(READER), "{whoami}");
        let can = async |file: &std::path::Path, arguments: &[&str]| {
            let text = run(file, &[&["auth", "can-i"], arguments].concat()).await;
            text.lines().last().unwrap_or_default().starts_with("yes")
        };
        assert!(can(&reader_file, &["list", "widgets", "-A"]).await);
        assert!(!can(&reader_file, &["delete", "widgets"]).await);
        assert!(can(&reader_file, &["get", "secrets/mine"]).await);
        assert!(!can(&reader_file, &["get", "secrets"]).await);
        assert!(can(&admin_file, &["*", "*"]).await);
        assert!(!can(&admin_file, &["delete", "widgets", "--as", READER]).await);
        let listed = run(&reader_file, &["auth", "can-i", "--list"]).await;
        assert!(listed.contains("widgets.example.org/status"), "{listed}");
        let refused = run(&reader_file, &["get", "secrets"]).await;
        assert!(
            refused.starts_with("Error from server (Forbidden): secrets is forbidden: User \""),
            "{refused}"
        );
        let resources = run(&reader_file, &["api-resources"]).await;
        assert!(resources.contains("selfsubjectaccessreviews"), "{resources}");
        stop.cancel();
    };
    let (served, ()) = tokio::join!(fixture.server.serve_tls(listener, tls, stop.clone()), asking);
    served.unwrap();
    fixture.server.close().await;
}

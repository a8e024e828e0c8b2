// SPDX-License-Identifier: Apache-2.0
//! The Redfish BMC as `curl` sees it.

use std::process::Command;

use ipmi::Privilege;
use lab::bmc::{Behaviour, BootWrites, Kind};
use lab::chassis::{BootMode, BootOverride, BootTarget, Chassis, PowerState};
use serde_json::{Value, json};

use crate::{PASSWORD, Rig, USER, account, run};

const SYSTEM: &str = "/redfish/v1/Systems/m1";
const RESET: &str = "/redfish/v1/Systems/m1/Actions/ComputerSystem.Reset";
const DRIVE: &str = "/redfish/v1/Managers/BMC/VirtualMedia/Cd";
const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";

/// What curl got: status, headers in lower case, body.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("no header {name} in {self:?}")).1
    }

    /// Message identifiers without the registry's name, and the properties they are about.
    fn findings(&self) -> Vec<(String, String)> {
        let body = self.json();
        let messages = body["error"]["@Message.ExtendedInfo"].as_array().unwrap().clone();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        messages
            .iter()
            .map(|message| {
                let id = text(&message["MessageId"]).rsplit('.').next().unwrap().to_owned();
                (id, text(&message["RelatedProperties"][0]))
            })
            .collect()
    }
}

impl Rig {
    /// Asks with curl, which verifies the BMC's certificate.
    async fn curl(&self, method: &str, path: &str, extra: &[&str]) -> Reply {
        let directory = tempfile::tempdir().unwrap();
        let certificate = directory.path().join("bmc.pem");
        std::fs::write(&certificate, self.bmc.certificate().unwrap()).unwrap();
        let mut command = Command::new("curl");
        command.args(["-sS", "-i", "--max-time", "20", "-X", method, "--cacert"]).arg(&certificate);
        command.args(extra).arg(format!("https://{}{path}", self.bmc.addr()));
        let output = run(command).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap_or((line, "")))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Reply { status, headers, body: body.to_owned() }
    }

    async fn basic(&self, method: &str, path: &str, extra: &[&str]) -> Reply {
        let login = format!("{USER}:{PASSWORD}");
        self.curl(method, path, &[&["-u", &login], extra].concat()).await
    }

    async fn send(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.basic(method, path, &["-H", "Content-Type: application/json", "-d", &body.to_string()]).await
    }
}

#[tokio::test]
async fn everything_is_reached_by_links_from_the_root() {
    let rig = Rig::start(Kind::Redfish).await;
    assert_eq!(rig.curl("GET", "/redfish", &[]).await.json(), json!({"v1": "/redfish/v1/"}));
    let metadata = rig.curl("GET", "/redfish/v1/$metadata", &[]).await;
    assert!(metadata.header("content-type").contains("xml") && metadata.body.contains("edmx:Edmx"));
    assert!(rig.curl("GET", "/redfish/v1/odata", &[]).await.json()["value"].is_array());

    let mut seen = std::collections::BTreeSet::new();
    let mut next = vec!["/redfish/v1/".to_owned()];
    while let Some(path) = next.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let reply = rig.basic("GET", &path, &[]).await;
        assert_eq!(reply.status, 200, "{path}");
        let body = reply.json();
        assert_eq!(body["@odata.id"], path.as_str());
        assert_eq!(body["@odata.etag"], reply.header("etag"));
        assert_eq!(reply.header("odata-version"), "4.0");
        links(&body, &mut next);
    }
    for path in [SYSTEM, "/redfish/v1/Managers/BMC/VirtualMedia/Cd", "/redfish/v1/Chassis/m1"] {
        assert!(seen.contains(path), "{path} is not linked: {seen:?}");
    }
    assert!(seen.iter().any(|path| path.contains("EthernetInterfaces/")));
}

fn links(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            into.extend(object.get("@odata.id").and_then(Value::as_str).map(str::to_owned));
            object.values().for_each(|value| links(value, into));
        }
        Value::Array(values) => values.iter().for_each(|value| links(value, into)),
        _ => {}
    }
}

#[tokio::test]
async fn a_session_lives_from_log_in_to_delete() {
    let rig = Rig::start(Kind::Redfish).await;
    let json_type = ["-H", "Content-Type: application/json"];
    let login = json!({"UserName": USER, "Password": PASSWORD}).to_string();
    let opened = rig.curl("POST", SESSIONS, &[&json_type[..], &["-d", &login]].concat()).await;
    assert_eq!(opened.status, 201);
    assert!(!opened.body.contains(PASSWORD));
    let token = format!("X-Auth-Token: {}", opened.header("x-auth-token"));
    let location = opened.header("location").to_owned();
    assert_eq!(rig.curl("GET", &location, &["-H", &token]).await.json()["UserName"], USER);
    assert_eq!(rig.curl("GET", SYSTEM, &["-H", &token]).await.status, 200);
    assert_eq!(rig.curl("DELETE", &location, &["-H", &token]).await.status, 204);
    assert_eq!(rig.curl("GET", SYSTEM, &["-H", &token]).await.status, 401);

    let wrong = json!({"UserName": USER, "Password": "wrong"}).to_string();
    let refused = rig.curl("POST", SESSIONS, &[&json_type[..], &["-d", &wrong]].concat()).await;
    assert_eq!(refused.status, 401);
    let empty = rig.curl("POST", SESSIONS, &[&json_type[..], &["-d", "{}"]].concat()).await;
    let expected = ["UserName", "Password"].map(|name| ("PropertyMissing".to_owned(), format!("#/{name}")));
    assert_eq!((empty.status, empty.findings()), (400, expected.to_vec()));
}

#[tokio::test]
async fn sessions_are_limited_and_basic_still_works() {
    let rig = Rig::start(Kind::Redfish).await;
    let login = json!({"UserName": USER, "Password": PASSWORD});
    for _ in 0..8 {
        assert_eq!(rig.send("POST", SESSIONS, &login).await.status, 201);
    }
    let refused = rig.send("POST", SESSIONS, &login).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.findings()[0].0, "SessionLimitExceeded");
    assert_eq!(rig.basic("GET", SYSTEM, &[]).await.status, 200);
}

#[tokio::test]
async fn nothing_is_told_to_strangers() {
    let rig = Rig::start(Kind::Redfish).await;
    for path in [SYSTEM, SESSIONS, "/redfish/v1/Nothing"] {
        let refused = rig.curl("GET", path, &[]).await;
        assert_eq!(refused.status, 401, "{path}");
        assert!(refused.header("www-authenticate").starts_with("Basic"));
        assert_eq!(rig.curl("GET", path, &["-u", "admin:wrong"]).await.status, 401, "{path}");
    }
    assert_eq!(rig.curl("POST", RESET, &["-d", r#"{"ResetType":"On"}"#]).await.status, 401);
    assert_eq!(rig.chassis.power(), PowerState::Off);
    let reader = account().with_privilege(Privilege::User);
    let rig = Rig::start_with(Kind::Redfish, reader, Behaviour::default()).await;
    assert_eq!(rig.basic("GET", SYSTEM, &[]).await.status, 200);
    assert_eq!(rig.send("POST", RESET, &json!({"ResetType": "On"})).await.status, 403);
    assert_eq!(rig.chassis.power(), PowerState::Off);
}

#[tokio::test]
async fn resets_reach_the_chassis() {
    let rig = Rig::start(Kind::Redfish).await;
    let system = rig.basic("GET", SYSTEM, &[]).await.json();
    assert_eq!(system["PowerState"], "Off");
    let action = &system["Actions"]["#ComputerSystem.Reset"];
    let target = action["target"].as_str().unwrap().to_owned();
    assert_eq!(
        action["ResetType@Redfish.AllowableValues"],
        json!(["On", "ForceOff", "GracefulShutdown", "ForceRestart", "PowerCycle"])
    );
    assert_eq!(rig.send("POST", &target, &json!({"ResetType": "ForceRestart"})).await.status, 409);
    assert_eq!(rig.send("POST", &target, &json!({"ResetType": "On"})).await.status, 204);
    rig.wait_for_power(PowerState::On).await;
    assert_eq!(rig.basic("GET", SYSTEM, &[]).await.json()["PowerState"], "On");
    for (count, kind) in [(2, "ForceRestart"), (3, "PowerCycle")] {
        assert_eq!(rig.send("POST", &target, &json!({"ResetType": kind})).await.status, 204);
        rig.wait(|chassis| chassis.starts().len() == count, kind).await;
    }
    assert_eq!(rig.send("POST", &target, &json!({"ResetType": "GracefulShutdown"})).await.status, 204);
    rig.wait_for_power(PowerState::Off).await;
    let refused = rig.send("POST", &target, &json!({"ResetType": "Nmi", "Force": true})).await;
    let expected = [("PropertyUnknown", "#/Force"), ("PropertyValueNotInList", "#/ResetType")];
    let expected = expected.map(|(id, property)| (id.to_owned(), property.to_owned()));
    assert_eq!((refused.status, refused.findings()), (400, expected.to_vec()));
}

#[tokio::test]
async fn a_boot_override_is_written_read_back_and_used_once() {
    let rig = Rig::start(Kind::Redfish).await;
    let patch = json!({"Boot": {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe",
        "BootSourceOverrideMode": "UEFI"}});
    assert_eq!(rig.send("PATCH", SYSTEM, &patch).await.status, 204);
    let expected = BootOverride { target: BootTarget::Pxe, mode: BootMode::Once, uefi: true };
    assert_eq!(rig.chassis.boot_override(), expected);
    let boot = rig.basic("GET", SYSTEM, &[]).await.json()["Boot"].clone();
    for (name, value) in patch["Boot"].as_object().unwrap() {
        assert_eq!(&boot[name], value);
        assert!(boot[format!("{name}@Redfish.AllowableValues")].as_array().unwrap().contains(value));
    }
    assert_eq!(rig.send("POST", RESET, &json!({"ResetType": "On"})).await.status, 204);
    rig.wait(|chassis| chassis.starts() == [BootTarget::Pxe], "a start from the network").await;
    let boot = rig.basic("GET", SYSTEM, &[]).await.json()["Boot"].clone();
    assert_eq!(boot["BootSourceOverrideEnabled"], "Disabled");
}

#[tokio::test]
async fn a_bad_patch_names_every_property_and_changes_nothing() {
    let rig = Rig::start(Kind::Redfish).await;
    let patch = json!({"Boot": {"BootSourceOverrideTarget": "Floppy", "BootSourceOverrideEnabled": 1,
        "BootNext": "x", "BootSourceOverrideMode": "UEFI"}, "PowerState": "On", "Colour": "red"});
    let refused = rig.send("PATCH", SYSTEM, &patch).await;
    assert_eq!(refused.status, 400);
    let mut findings = refused.findings();
    findings.sort();
    let expected = [
        ("PropertyNotWritable", "#/PowerState"),
        ("PropertyUnknown", "#/Boot/BootNext"),
        ("PropertyUnknown", "#/Colour"),
        ("PropertyValueNotInList", "#/Boot/BootSourceOverrideTarget"),
        ("PropertyValueTypeError", "#/Boot/BootSourceOverrideEnabled"),
    ];
    assert_eq!(findings, expected.map(|(id, property)| (id.to_owned(), property.to_owned())));
    assert_eq!(rig.chassis.boot_override(), BootOverride::default());
    let broken = rig.basic("PATCH", SYSTEM, &["-H", "Content-Type: application/json", "-d", "{"]).await;
    assert_eq!((broken.status, broken.findings()[0].0.as_str()), (400, "MalformedJSON"));
    assert_eq!(rig.basic("PATCH", SYSTEM, &["-d", "{}"]).await.status, 415);
    let huge = format!("{{\"a\":\"{}\"}}", "a".repeat(100_000));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), huge).unwrap();
    let data = format!("@{}", file.path().display());
    let extra = ["-H", "Content-Type: application/json", "-H", "Expect:", "-d", &data];
    assert_eq!(rig.basic("PATCH", SYSTEM, &extra).await.status, 413);
}

#[tokio::test]
async fn an_image_is_inserted_read_back_and_ejected() {
    let rig = Rig::start(Kind::Redfish).await;
    let drive = rig.basic("GET", DRIVE, &[]).await.json();
    assert_eq!((&drive["Inserted"], &drive["Image"]), (&json!(false), &Value::Null));
    let target = |action: &str| drive["Actions"][action]["target"].as_str().unwrap().to_owned();
    let (insert, eject) = (target("#VirtualMedia.InsertMedia"), target("#VirtualMedia.EjectMedia"));
    let url = "http://172.31.0.1:7171/iso/52:54:00:00:00:11/hook.iso";
    let body = json!({"Image": url, "Inserted": true, "WriteProtected": true});
    assert_eq!(rig.send("POST", &insert, &body).await.status, 204);
    assert_eq!(rig.chassis.media().as_deref(), Some(url));
    let drive = rig.basic("GET", DRIVE, &[]).await.json();
    let shown = ["Inserted", "Image", "ImageName", "ConnectedVia"].map(|name| drive[name].clone());
    assert_eq!(shown, [json!(true), json!(url), json!("hook.iso"), json!("URI")]);
    let refused = rig.send("POST", &insert, &body).await;
    assert_eq!((refused.status, refused.findings()[0].0.as_str()), (409, "ResourceInUse"));
    assert_eq!(rig.send("POST", &eject, &json!({})).await.status, 204);
    assert_eq!(rig.chassis.media(), None);
    let refused = rig.send("POST", &insert, &json!({"Image": "nfs://x/y.iso", "Colour": 1})).await;
    let expected = [("PropertyUnknown", "#/Colour"), ("PropertyValueNotInList", "#/Image")];
    let expected = expected.map(|(id, property)| (id.to_owned(), property.to_owned()));
    assert_eq!((refused.status, refused.findings()), (400, expected.to_vec()));
    assert_eq!(rig.basic("GET", &insert, &[]).await.header("allow"), "POST");
    let reader = account().with_privilege(Privilege::User);
    let rig = Rig::start_with(Kind::Redfish, reader, Behaviour::default()).await;
    assert_eq!(rig.send("POST", &insert, &body).await.status, 403);
    assert_eq!(rig.chassis.media(), None);
}

#[tokio::test]
async fn a_stale_entity_tag_is_refused() {
    let rig = Rig::start(Kind::Redfish).await;
    let stale = rig.basic("GET", SYSTEM, &[]).await.header("etag").to_owned();
    let unchanged = rig.basic("GET", SYSTEM, &["-H", &format!("If-None-Match: {stale}")]).await;
    assert_eq!((unchanged.status, unchanged.body.as_str()), (304, ""));
    let body = |target: &str| {
        json!({"Boot": {"BootSourceOverrideTarget": target, "BootSourceOverrideEnabled": "Once"}}).to_string()
    };
    let json_type = "Content-Type: application/json";
    let matching = format!("If-Match: {stale}");
    let reply = rig.basic("PATCH", SYSTEM, &["-H", json_type, "-H", &matching, "-d", &body("Pxe")]).await;
    assert_eq!(reply.status, 204);
    let reply = rig.basic("PATCH", SYSTEM, &["-H", json_type, "-H", &matching, "-d", &body("Hdd")]).await;
    assert_eq!((reply.status, reply.findings()[0].0.as_str()), (412, "PreconditionFailed"));
    assert_eq!(rig.chassis.boot_override().target, BootTarget::Pxe);
}

#[tokio::test]
async fn wrong_paths_and_methods_are_told() {
    let rig = Rig::start(Kind::Redfish).await;
    for path in ["/redfish/v1/Systems/m2", "/redfish/v2/", "/", "/redfish/v1/Systems/m1/../m1"] {
        let reply = rig.basic("GET", path, &["--path-as-is"]).await;
        assert_eq!((reply.status, reply.findings()[0].0.as_str()), (404, "ResourceMissingAtURI"), "{path}");
    }
    let refused = rig.basic("DELETE", SYSTEM, &[]).await;
    assert_eq!((refused.status, refused.header("allow")), (405, "GET, HEAD, PATCH"));
    assert_eq!(rig.basic("GET", SYSTEM, &["-H", "OData-Version: 3.0"]).await.status, 412);
    assert_eq!(rig.basic("GET", "/redfish/v1/Systems/m1/", &[]).await.status, 200, "a trailing slash");
}

#[tokio::test]
async fn a_lying_bmc_says_yes_and_keeps_its_boot_order() {
    let behaviour = Behaviour { boot_writes: BootWrites::Ignored, ..Behaviour::default() };
    let rig = Rig::start_with(Kind::Redfish, account(), behaviour).await;
    let patch = json!({"Boot": {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "Pxe"}});
    assert_eq!(rig.send("PATCH", SYSTEM, &patch).await.status, 204);
    assert_eq!(rig.chassis.boot_override(), BootOverride::default());
}

// SPDX-License-Identifier: Apache-2.0
//! The kinds that sequences are about, where they are served, and what their objects look like. Pure.

use serde_json::{Value, json};

use super::dice::Dice;

/// A kind.
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version.
    pub version: &'static str,
    /// Kind.
    pub kind: &'static str,
    /// Plural, as in paths.
    pub plural: &'static str,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Whether it comes from a CustomResourceDefinition.
    pub custom: bool,
    /// Subresources.
    pub subresources: &'static [&'static str],
    /// Fields that can be selected on, with a value that occurs.
    pub fields: &'static [&'static str],
    /// How often it is taken.
    pub weight: u32,
    /// Everything of a valid object but its kind and metadata.
    pub content: fn(&mut Dice) -> Value,
    /// Its status, for the subresource.
    pub status: fn(&mut Dice) -> Value,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.plural)
    }
}

impl Kind {
    /// `apiVersion`.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// The path of its collection in one namespace or in all.
    pub fn collection(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let namespace = namespace.map(|name| format!("/namespaces/{name}")).unwrap_or_default();
        format!("{root}/{}{namespace}/{}", self.api_version(), self.plural)
    }
}

fn nothing(_: &mut Dice) -> Value {
    json!({})
}

/// The plain kind, for the rows to change.
const PLAIN: Kind = Kind {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    namespaced: true,
    custom: false,
    subresources: &[],
    fields: &[],
    weight: 4,
    content: nothing,
    status: nothing,
};
const TINKERBELL: Kind = Kind {
    group: "tinkerbell.org",
    version: "v1alpha1",
    custom: true,
    subresources: &["status"],
    status: state,
    ..PLAIN
};
const BMC: Kind = Kind { group: "bmc.tinkerbell.org", status: conditions, ..TINKERBELL };
const OURS: Kind = Kind { group: "differential.example", custom: true, ..PLAIN };

/// All of them.
pub const KINDS: &[Kind] = &[
    Kind {
        kind: "Widget",
        plural: "widgets",
        subresources: &["status", "scale"],
        fields: &["spec.mode=fast", "spec.size=1", "status.phase=Ready"],
        weight: 24,
        content: widget,
        status: widget_status,
        ..OURS
    },
    Kind {
        version: "v1beta1",
        kind: "Widget",
        plural: "widgets",
        subresources: &["status"],
        weight: 3,
        content: widget,
        status: widget_status,
        ..OURS
    },
    Kind { kind: "Rack", plural: "racks", namespaced: false, weight: 5, content: rack, ..OURS },
    Kind { kind: "Hardware", plural: "hardware", weight: 8, content: hardware, ..TINKERBELL },
    Kind { kind: "Workflow", plural: "workflows", content: workflow, ..TINKERBELL },
    Kind { kind: "Template", plural: "templates", weight: 2, content: template, ..TINKERBELL },
    Kind { kind: "Machine", plural: "machines", content: machine, ..BMC },
    Kind { kind: "Job", plural: "jobs", content: job, ..BMC },
    Kind { kind: "ConfigMap", plural: "configmaps", weight: 8, content: config_map, ..PLAIN },
    Kind { kind: "Secret", plural: "secrets", fields: &["type=Opaque"], weight: 7, content: secret, ..PLAIN },
    Kind { kind: "ServiceAccount", plural: "serviceaccounts", content: service_account, ..PLAIN },
    Kind {
        group: "coordination.k8s.io",
        kind: "Lease",
        plural: "leases",
        weight: 6,
        content: lease,
        ..PLAIN
    },
    Kind {
        kind: "Event",
        plural: "events",
        fields: &["involvedObject.name=w0", "reason=Seen", "type=Warning"],
        content: event,
        ..PLAIN
    },
    Kind {
        group: "events.k8s.io",
        kind: "Event",
        plural: "events",
        fields: &["regarding.name=w0", "reason=Seen"],
        weight: 3,
        content: new_event,
        ..PLAIN
    },
];

/// Puts some of the optional fields into an object.
fn some(dice: &mut Dice, percent: u32, object: &mut Value, optional: Value) {
    let (Value::Object(object), Value::Object(optional)) = (object, optional) else { return };
    object.extend(optional.into_iter().filter(|_| dice.chance(percent)));
}

fn widget(dice: &mut Dice) -> Value {
    let item = |dice: &mut Dice, name: &str| {
        let mut item = json!({"name": name});
        let port = if dice.chance(50) { json!(80) } else { json!("http") };
        let count = dice.below(7);
        some(dice, 50, &mut item, json!({"port": port, "count": count}));
        item
    };
    let mut items = vec![item(dice, dice_name(0)), item(dice, dice_name(1))];
    items.truncate(dice.below(3));
    let size = dice.below(60);
    let mode = dice.pick(&["fast", "fast", "slow"]);
    let port = if dice.chance(50) { json!(8080) } else { json!("web") };
    let mut spec = json!({"title": dice.pick(&["one", "two", "three"])});
    let when = dice.pick(&["2024-02-29T12:00:00Z", "2020-01-01T00:00:00.5+02:00"]);
    let frozen = dice.pick(&["ice", "snow"]);
    let extra = json!({"any": {"thing": [1, "two", null, {"x": 1.5}]}, "known": dice.below(9)});
    let choice = if dice.chance(50) { json!({"left": 1}) } else { json!({"right": "r"}) };
    some(
        dice,
        30,
        &mut spec,
        json!({
            "size": size, "mode": mode, "replicas": size % 4, "ratio": 1.5, "code": "ab-12", "when": when,
            "address": "192.0.2.1", "note": null, "flag": true, "frozen": frozen, "port": port,
            "tags": ["red", "blue"], "steps": ["a", "b", "a"], "items": items, "labels": {"k": "v"},
            "limits": {"low": 1, "high": 9}, "fixed": {"a": "x"}, "nested": {"name": "n"}, "choice": choice,
            "extra": extra,
        }),
    );
    json!({"spec": spec})
}

fn dice_name(index: usize) -> &'static str {
    if index == 0 { "small" } else { "large" }
}

fn widget_status(dice: &mut Dice) -> Value {
    let mut status = json!({});
    let (phase, replicas) = (dice.pick(&["New", "Ready", "Gone"]), dice.below(4));
    let ready = dice.pick(&["True", "False"]);
    some(
        dice,
        60,
        &mut status,
        json!({
            "phase": phase, "replicas": replicas, "selector": "app=widget", "observed": 9_007_199_254_740_993_i64,
            "conditions": [{"type": "Ready", "status": ready, "reason": "Tested"}],
        }),
    );
    status
}

fn rack(dice: &mut Dice) -> Value {
    let mut rack = json!({});
    let text = dice.pick(&["x", "y"]);
    some(
        dice,
        50,
        &mut rack,
        json!({"units": 48, "spec": {"room": text, "rows": [1, 2]}, "anything": {"goes": text}}),
    );
    rack
}

fn hardware(dice: &mut Dice) -> Value {
    let number = dice.below(9);
    let mut spec = json!({});
    let interface = json!({
        "dhcp": {"mac": format!("52:54:00:00:00:0{number}"), "hostname": format!("m{number}"), "uefi": true,
            "ip": {"address": format!("192.0.2.{number}"), "netmask": "255.255.255.0"}},
        "netboot": {"allowPXE": true, "allowWorkflow": false},
    });
    some(
        dice,
        60,
        &mut spec,
        json!({
            "interfaces": [interface], "disks": [{"device": "/dev/sda"}], "agentID": format!("a{number}"),
            "bmcRef": {"apiGroup": "bmc.tinkerbell.org", "kind": "Machine", "name": "m0"},
            "metadata": {"facility": {"plan_slug": "c1", "facility_code": "here"}, "state": "active",
                "instance": {"id": "i", "hostname": "h", "tags": ["a"], "storage": {"disks": [
                    {"device": "/dev/sda", "partitions": [{"label": "root", "number": 1, "size": 4096}]}]}}},
            "userData": "#cloud-config", "tinkVersion": number,
        }),
    );
    json!({"spec": spec})
}

fn workflow(dice: &mut Dice) -> Value {
    let mut spec = json!({});
    let allow = dice.chance(50);
    some(
        dice,
        70,
        &mut spec,
        json!({
            "templateRef": "t0", "hardwareRef": "hw0", "hardwareMap": {"device_1": "52:54:00:00:00:01"},
            "bootOptions": {"toggleAllowNetboot": allow, "bootMode": "netboot"},
        }),
    );
    json!({"spec": spec})
}

fn template(dice: &mut Dice) -> Value {
    json!({"spec": {"data": format!("version: \"0.1\"\nname: t{}\n", dice.below(3))}})
}

fn machine(dice: &mut Dice) -> Value {
    let mut connection = json!({
        "host": dice.pick(&["192.0.2.7", "bmc.example"]), "insecureTLS": dice.chance(50),
        "authSecretRef": {"name": "s0", "namespace": "east"},
    });
    some(dice, 40, &mut connection, json!({"port": 6230, "providerOptions": {"intelAMT": {"port": 16992}}}));
    json!({"spec": {"connection": connection}})
}

fn job(dice: &mut Dice) -> Value {
    let mut tasks = vec![
        json!({"powerAction": dice.pick(&["on", "off", "cycle"])}),
        json!({"oneTimeBootDeviceAction": {"device": ["pxe"], "efiBoot": true}}),
    ];
    tasks.truncate(1 + dice.below(2));
    json!({"spec": {"machineRef": {"name": "m0", "namespace": "east"}, "tasks": tasks}})
}

fn state(dice: &mut Dice) -> Value {
    let mut status = json!({});
    let state = dice.pick(&["STATE_PENDING", "STATE_RUNNING", "Error"]);
    some(dice, 70, &mut status, json!({"state": state}));
    status
}

fn conditions(dice: &mut Dice) -> Value {
    let status = dice.pick(&["True", "False"]);
    json!({"conditions": [{"type": "Contactable", "status": status, "message": "tried"}]})
}

fn config_map(dice: &mut Dice) -> Value {
    let mut map = json!({});
    let text = dice.pick(&["1", "two\nlines", ""]);
    some(dice, 50, &mut map, json!({"data": {"key": text, "a.b": "c"}, "binaryData": {"raw": "AAEC"}}));
    some(dice, 5, &mut map, json!({"immutable": true}));
    map
}

fn secret(dice: &mut Dice) -> Value {
    let mut secret = json!({});
    let text = dice.pick(&["c2VjcmV0", "MTIz", ""]);
    some(dice, 60, &mut secret, json!({"data": {"password": text}, "stringData": {"user": text}}));
    let kind = dice.pick(&[
        "Opaque",
        "example.com/own",
        "kubernetes.io/basic-auth",
        "kubernetes.io/tls",
        "kubernetes.io/ssh-auth",
        "kubernetes.io/dockerconfigjson",
    ]);
    some(dice, 20, &mut secret, json!({"type": kind}));
    some(dice, 5, &mut secret, json!({"immutable": true}));
    secret
}

fn service_account(dice: &mut Dice) -> Value {
    let mut account = json!({});
    let mount = dice.chance(50);
    some(
        dice,
        40,
        &mut account,
        json!({"secrets": [{"name": "s0"}, {"name": "s1"}], "imagePullSecrets": [{"name": "s2"}], "automountServiceAccountToken": mount}),
    );
    account
}

fn lease(dice: &mut Dice) -> Value {
    let mut spec = json!({});
    let holder = dice.pick(&["me", "you"]);
    let (seconds, transitions) = (dice.below(20), dice.below(3));
    some(
        dice,
        60,
        &mut spec,
        json!({
            "holderIdentity": holder, "leaseDurationSeconds": seconds, "leaseTransitions": transitions,
            "acquireTime": "2024-01-01T00:00:00.000000Z", "renewTime": "2024-01-01T00:00:01.123456Z",
        }),
    );
    json!({"spec": spec})
}

fn event(dice: &mut Dice) -> Value {
    let mut event = json!({
        "involvedObject": {"kind": "Widget", "name": dice.pick(&["w0", "w1"]), "namespace": "east",
            "apiVersion": "differential.example/v1"},
    });
    let kind = dice.pick(&["Normal", "Warning"]);
    some(
        dice,
        60,
        &mut event,
        json!({
            "reason": "Seen", "message": "it was seen", "type": kind, "count": 2, "source": {"component": "test", "host": "h"},
            "firstTimestamp": "2024-01-01T00:00:00Z", "lastTimestamp": "2024-01-01T00:01:00Z",
            "reportingComponent": "example.com/test", "reportingInstance": "test-1",
        }),
    );
    event
}

fn new_event(dice: &mut Dice) -> Value {
    let mut event = json!({
        "eventTime": "2024-01-01T00:00:00.000000Z", "action": "Look", "reason": "Seen", "type": "Normal",
        "reportingController": "example.com/test", "reportingInstance": "test-1",
        "regarding": {"kind": "Widget", "name": "w0", "namespace": "east", "apiVersion": "differential.example/v1"},
    });
    some(
        dice,
        50,
        &mut event,
        json!({"note": "it was seen", "series": {"count": 3, "lastObservedTime": "2024-01-01T00:02:00.000000Z"}}),
    );
    event
}

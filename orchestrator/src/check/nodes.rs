// SPDX-License-Identifier: Apache-2.0

//! Labels, taints, health checks and certificate names: what nodes are told about themselves.

use std::{collections::BTreeMap, net::IpAddr};

use api::anywhere::v1alpha1::MachineHealthCheck;
use k8s_openapi::{api::core::v1::Taint, apimachinery::pkg::util::intstr::IntOrString};

use super::Check;
use crate::syntax;

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
/// Labels below these domains that a kubelet may give its own node (NodeRestriction admission).
const ALLOWED: [&str; 2] = ["node.kubernetes.io", "kubelet.kubernetes.io"];
/// Single labels that it may give too.
const ALLOWED_KEYS: [&str; 8] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "node.kubernetes.io/instance-type",
];

pub(super) fn check(check: &mut Check<'_>) {
    let spec = &check.file().cluster.value.spec;
    health(check, "spec.machineHealthCheck", spec.machine_health_check.as_ref(), None);
    let mut open = false;
    if let Some(control_plane) = &spec.control_plane_configuration {
        let field = "spec.controlPlaneConfiguration";
        labels(check, field, &control_plane.labels);
        taints(check, field, control_plane.taints.as_deref().unwrap_or_default());
        health(
            check,
            &format!("{field}.machineHealthCheck"),
            control_plane.machine_health_check.as_ref(),
            None,
        );
        for (number, name) in control_plane.cert_sans.iter().enumerate() {
            if name.parse::<IpAddr>().is_err()
                && !syntax::is_subdomain(name.strip_prefix("*.").unwrap_or(name))
            {
                let field = format!("{field}.certSans[{number}]");
                let what = format!("{name:?} is neither a name nor an address");
                check.wrong(
                    "cert-san",
                    &field,
                    what,
                    "write a DNS name or an IP address, without scheme and port",
                );
            }
        }
        audit_policy(check, control_plane.audit_policy_content.as_deref());
        if spec.worker_node_group_configurations.is_empty() {
            open = true;
            let taints = control_plane.taints.as_deref().unwrap_or_default();
            if let Some(number) = taints.iter().position(keeps_pods_away) {
                let field = format!("{field}.taints[{number}]");
                let what = "keeps pods from the only machines there are";
                check.wrong("taints-everywhere", &field, what, "remove it, or add a group of workers");
            }
        }
    }
    for (number, group) in spec.worker_node_group_configurations.iter().enumerate() {
        let field = format!("spec.workerNodeGroupConfigurations[{number}]");
        labels(check, &field, &group.labels);
        taints(check, &field, &group.taints);
        let count =
            group.count.or(group.autoscaling_configuration.as_ref().and_then(|scaling| scaling.min_count));
        health(check, &format!("{field}.machineHealthCheck"), group.machine_health_check.as_ref(), count);
        open |= !group.taints.iter().any(keeps_pods_away);
    }
    if !open {
        let what =
            "every group has a taint that keeps pods away, so that nothing of the cluster itself could run";
        let field = "spec.workerNodeGroupConfigurations";
        check.wrong("taints-everywhere", field, what, "leave one group without NoSchedule and NoExecute");
    }
}

fn audit_policy(check: &mut Check<'_>, text: Option<&str>) {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return };
    let (mut documents, mut broken) = (Vec::new(), Vec::new());
    manifest::parse("the policy", text, &mut documents, &mut broken);
    let policy = matches!(documents.as_slice(), [one] if one.root.text("kind") == Some("Policy"));
    if !policy || !broken.is_empty() {
        let what = broken.first().map_or("is no audit policy".to_owned(), ToString::to_string);
        let fix = "paste a Policy of audit.k8s.io/v1, indented, after a |";
        check.wrong("audit-policy", "spec.controlPlaneConfiguration.auditPolicyContent", what, fix);
    }
}

fn keeps_pods_away(taint: &Taint) -> bool {
    matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
}

fn labels(check: &mut Check<'_>, parent: &str, labels: &BTreeMap<String, String>) {
    for (key, value) in labels {
        let field = format!("{parent}.labels.{key}");
        if !syntax::is_label_key(key) {
            let fix = "use letters, digits, -, _ and ., with a letter or digit at both ends, perhaps after a domain and /";
            check.wrong("node-label", &field, format!("{key:?} is no label key"), fix);
        } else if !syntax::is_label_value(value) {
            let fix = "use at most 63 letters, digits, -, _ and ., with a letter or digit at both ends";
            check.wrong("node-label", &field, format!("{value:?} is no label value"), fix);
        } else if is_reserved(key) {
            let fix = "use a domain of your own, or set it with kubectl when the node is there";
            check.wrong(
                "node-label-reserved",
                &field,
                format!("a node may not give itself the label {key:?}"),
                fix,
            );
        }
    }
}

fn is_reserved(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return false };
    let below = |root: &str| domain == root || domain.ends_with(&format!(".{root}"));
    let restricted = below("kubernetes.io") || below("k8s.io");
    restricted && !ALLOWED_KEYS.contains(&key) && !ALLOWED.iter().any(|root| below(root))
}

fn taints(check: &mut Check<'_>, parent: &str, taints: &[Taint]) {
    for (number, taint) in taints.iter().enumerate() {
        let field = format!("{parent}.taints[{number}]");
        if !syntax::is_label_key(&taint.key) {
            let what = format!("{:?} is no key", taint.key);
            check.wrong("taint", &format!("{field}.key"), what, "write one like that of a label");
        }
        if !syntax::is_label_value(taint.value.as_deref().unwrap_or_default()) {
            let what = format!("{:?} is no value", taint.value.as_deref().unwrap_or_default());
            check.wrong("taint", &format!("{field}.value"), what, "write one like that of a label, or none");
        }
        if !EFFECTS.contains(&taint.effect.as_str()) {
            let what = format!("{:?} is no effect", taint.effect);
            check.wrong(
                "taint",
                &format!("{field}.effect"),
                what,
                format!("write one of {}", EFFECTS.join(", ")),
            );
        }
    }
}

fn health(check: &mut Check<'_>, field: &str, health: Option<&MachineHealthCheck>, count: Option<i64>) {
    let Some(health) = health else { return };
    let times = [
        ("nodeStartupTimeout", health.node_startup_timeout.as_deref()),
        ("unhealthyMachineTimeout", health.unhealthy_machine_timeout.as_deref()),
    ];
    for (name, text) in times {
        if let Some(text) = text.filter(|text| !syntax::is_go_duration(text)) {
            let what = format!("{text:?} is no duration");
            check.wrong("health-timeout", &format!("{field}.{name}"), what, "write one as 20m0s");
        }
    }
    let field = format!("{field}.maxUnhealthy");
    let allowed = match &health.max_unhealthy {
        None => return,
        Some(IntOrString::Int(number)) => Some(i64::from(*number)).filter(|number| *number >= 0),
        Some(IntOrString::String(text)) => {
            let percent = text.strip_suffix('%').and_then(|number| number.parse::<i64>().ok());
            percent
                .filter(|percent| (0..=100).contains(percent))
                .map(|percent| count.map_or(1, |count| count * percent / 100))
        }
    };
    match allowed {
        None => {
            check.wrong("max-unhealthy", &field, "is neither a number nor a percentage", "write 1, or 40%")
        }
        Some(0) => {
            let what = "never lets a broken machine be replaced";
            check.doubt("max-unhealthy", &field, what, "allow at least one machine of the group");
        }
        Some(_) => {}
    }
}

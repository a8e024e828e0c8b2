// SPDX-License-Identifier: Apache-2.0

//! Name, versions, counts and rollout of the control plane and the worker groups.

use std::collections::BTreeSet;

use api::anywhere::v1alpha1::{UpgradeRolloutStrategy, WorkerNodeGroupConfiguration};

use super::Check;
use crate::{
    cluster::{NAME_RULE, name_problem},
    syntax::{self, Minor},
};

/// The first version whose kubeadm reads the configuration that nodes are given.
const FIRST: u32 = 31;
/// Versions that machines may be made with.
const TESTED: (u32, u32) = (FIRST, 36);
/// How many minor versions workers may be behind.
const MAX_BEHIND: u32 = 2;

pub(super) fn check(check: &mut Check<'_>) {
    let cluster = &check.file().cluster;
    if let Some(problem) = name_problem(cluster.name())
        && !cluster.name().is_empty()
    {
        check.wrong("cluster-name", "metadata.name", problem, NAME_RULE);
    }
    let version = version(check, "spec.kubernetesVersion", cluster.value.spec.kubernetes_version.as_deref());
    management(check);
    control_plane(check);
    workers(check, version);
    refused(check);
}

fn version(check: &mut Check<'_>, field: &str, text: Option<&str>) -> Option<Minor> {
    let fix = "write major and minor in quotes, such as \"1.34\"";
    let Some(text) = text else {
        check.wrong("kubernetes-version", field, "is missing", fix);
        return None;
    };
    let Some(version) = Minor::parse(text) else {
        check.wrong("kubernetes-version", field, format!("{text:?} is no version of Kubernetes"), fix);
        return None;
    };
    if version.0 < FIRST {
        let what = format!("{text} has a kubeadm that does not read kubeadm.k8s.io/v1beta4");
        check.wrong("kubernetes-version", field, what, format!("use 1.{FIRST} or later"));
        return Some(version);
    }
    let (first, last) = TESTED;
    if !(first..=last).contains(&version.0) {
        let what = format!("{text} is outside of what is tested");
        check.doubt("kubernetes-untested", field, what, format!("use 1.{first} to 1.{last}"));
    }
    Some(version)
}

fn management(check: &mut Check<'_>) {
    let cluster = &check.file().cluster;
    let named =
        cluster.value.spec.management_cluster.as_ref().and_then(|management| management.name.as_deref());
    if let Some(named) =
        named.filter(|named| *named != cluster.name() && name_problem(cluster.name()).is_none())
    {
        let what = format!("{named:?} is another cluster");
        let fix = "write the cluster's own name: clusters that manage others are not supported yet";
        check.wrong("managed-by-another", "spec.managementCluster.name", what, fix);
    }
}

fn control_plane(check: &mut Check<'_>) {
    const FIELD: &str = "spec.controlPlaneConfiguration";
    let Some(control_plane) = &check.file().cluster.value.spec.control_plane_configuration else {
        check.wrong("no-control-plane", FIELD, "is missing", "add count, endpoint and machineGroupRef");
        return;
    };
    let field = format!("{FIELD}.count");
    match control_plane.count {
        None => check.wrong("control-plane-count", &field, "is missing", "write 1, 3 or 5"),
        Some(count) if count < 1 || count % 2 == 0 => {
            let fix =
                "write 1, 3 or 5: etcd needs more than half of its members, so an even number gains nothing";
            check.wrong("control-plane-count", &field, format!("is {count}"), fix);
        }
        Some(count) if count > 7 => {
            let what = format!("{count} members make every write to etcd slow");
            check.doubt("control-plane-many", &field, what, "use 3 or 5");
        }
        Some(_) => {}
    }
    let field = format!("{FIELD}.upgradeRolloutStrategy");
    rollout(check, &field, control_plane.upgrade_rollout_strategy.as_ref());
    let surge = control_plane
        .upgrade_rollout_strategy
        .as_ref()
        .and_then(|one| one.rolling_update.as_ref()?.max_surge);
    if let Some(surge) = surge.filter(|surge| !(0..=1).contains(surge)) {
        let field = format!("{field}.rollingUpdate.maxSurge");
        check.wrong(
            "rollout-surge",
            &field,
            format!("is {surge}"),
            "write 0 or 1: members of etcd come one by one",
        );
    }
}

fn workers(check: &mut Check<'_>, version: Option<Minor>) {
    let spec = &check.file().cluster.value.spec;
    let mut names = BTreeSet::new();
    for (number, group) in spec.worker_node_group_configurations.iter().enumerate() {
        let field = format!("spec.workerNodeGroupConfigurations[{number}]");
        let name = group.name.as_deref().unwrap_or_default();
        let name_field = format!("{field}.name");
        if !syntax::is_dns_label(name) {
            let what = if name.is_empty() { "is missing".to_owned() } else { format!("{name:?} is no name") };
            check.wrong("worker-name", &name_field, what, "use lower-case letters, digits and -");
        } else if name == "control-plane" {
            let what = "is the name of the control plane's machines";
            check.wrong("worker-name", &name_field, what, "choose another name");
        } else if !names.insert(name) {
            check.wrong(
                "worker-name",
                &name_field,
                format!("{name:?} is there twice"),
                "rename one of the two",
            );
        }
        worker_count(check, &field, group);
        worker_version(check, &field, group, version);
        let field = format!("{field}.upgradeRolloutStrategy");
        rollout(check, &field, group.upgrade_rollout_strategy.as_ref());
    }
    rollout_types(check);
}

fn worker_count(check: &mut Check<'_>, field: &str, group: &WorkerNodeGroupConfiguration) {
    let count_field = format!("{field}.count");
    if let Some(count) = group.count.filter(|count| *count < 0) {
        check.wrong("worker-count", &count_field, format!("is {count}"), "write 0 or more");
    }
    let Some(scaling) = &group.autoscaling_configuration else {
        if group.count.is_none() {
            let fix = "write count, or autoscalingConfiguration with minCount and maxCount";
            check.wrong("worker-count", &count_field, "is missing", fix);
        }
        return;
    };
    let field = format!("{field}.autoscalingConfiguration");
    let (Some(min), Some(max)) = (scaling.min_count, scaling.max_count) else {
        check.wrong("autoscaling", &field, "needs both bounds", "write minCount and maxCount");
        return;
    };
    if min < 0 || min > max {
        let what = format!("minCount {min} and maxCount {max} leave no number");
        check.wrong("autoscaling", &field, what, "write 0 <= minCount <= maxCount");
    } else if let Some(count) = group.count.filter(|count| *count < min || *count > max) {
        let what = format!("{count} is not between minCount {min} and maxCount {max}");
        check.wrong("autoscaling", &count_field, what, "leave count out, or write one between them");
    }
    if group.upgrade_rollout_strategy.as_ref().and_then(|one| one.type_.as_deref()) == Some("InPlace") {
        let what = "does not go with upgrades in place";
        check.wrong("autoscaling", &field, what, "use RollingUpdate, or a fixed count");
    }
}

fn worker_version(
    check: &mut Check<'_>,
    field: &str,
    group: &WorkerNodeGroupConfiguration,
    cluster: Option<Minor>,
) {
    let Some(text) = group.kubernetes_version.as_deref() else { return };
    let field = format!("{field}.kubernetesVersion");
    let (Some(own), Some(cluster)) = (version(check, &field, Some(text)), cluster) else { return };
    if own > cluster || cluster.0 - own.0 > MAX_BEHIND {
        let what = format!("{text} does not go with a control plane of {cluster}");
        let fix = format!("workers may be at most {MAX_BEHIND} minor versions behind, and never ahead");
        check.wrong("worker-version", &field, what, fix);
    }
}

fn rollout(check: &mut Check<'_>, field: &str, strategy: Option<&UpgradeRolloutStrategy>) {
    let Some(strategy) = strategy else { return };
    match strategy.type_.as_deref() {
        None | Some("" | "RollingUpdate" | "InPlace") => {}
        Some(other) => {
            let field = format!("{field}.type");
            check.wrong(
                "rollout-type",
                &field,
                format!("{other:?} is not known"),
                "write RollingUpdate or InPlace",
            );
        }
    }
    let Some(rolling) = &strategy.rolling_update else { return };
    let (surge, unavailable) = (rolling.max_surge, rolling.max_unavailable);
    if surge.is_some_and(|n| n < 0) || unavailable.is_some_and(|n| n < 0) {
        check.wrong(
            "rollout-numbers",
            &format!("{field}.rollingUpdate"),
            "has a negative number",
            "write 0 or more",
        );
    } else if surge == Some(0) && unavailable == Some(0) {
        let what = "maxSurge and maxUnavailable are both 0, so that nothing could ever be replaced";
        check.wrong("rollout-numbers", &format!("{field}.rollingUpdate"), what, "make one of them 1");
    }
}

/// Control plane and workers are upgraded in the same way.
fn rollout_types(check: &mut Check<'_>) {
    let spec = &check.file().cluster.value.spec;
    let of = |one: Option<&UpgradeRolloutStrategy>| {
        one.and_then(|one| one.type_.clone())
            .filter(|type_| !type_.is_empty())
            .unwrap_or("RollingUpdate".to_owned())
    };
    let first =
        of(spec.control_plane_configuration.as_ref().and_then(|one| one.upgrade_rollout_strategy.as_ref()));
    for (number, group) in spec.worker_node_group_configurations.iter().enumerate() {
        let type_ = of(group.upgrade_rollout_strategy.as_ref());
        if type_ != first {
            let field = format!("spec.workerNodeGroupConfigurations[{number}].upgradeRolloutStrategy.type");
            let what = format!("is {type_}, that of the control plane is {first}");
            check.wrong("rollout-type", &field, what, "use one type for all");
        }
    }
}

/// What EKS Anywhere has and this provider cannot have.
fn refused(check: &mut Check<'_>) {
    let spec = &check.file().cluster.value.spec;
    if spec.external_etcd_configuration.is_some() {
        let what = "machines for etcd alone are not supported on bare metal";
        check.wrong(
            "external-etcd",
            "spec.externalEtcdConfiguration",
            what,
            "remove it: etcd runs on the control plane",
        );
    }
    if !spec.etcd_encryption.is_empty() {
        let what = "cannot be set when a cluster is created";
        check.wrong(
            "etcd-encryption",
            "spec.etcdEncryption",
            what,
            "remove it, and set it when the cluster is there",
        );
    }
    let kept = [
        ("spec.gitOpsRef", spec.git_ops_ref.is_some()),
        ("spec.identityProviderRefs", !spec.identity_provider_refs.is_empty()),
        ("spec.packages", !spec.packages.is_empty()),
        ("spec.podIamConfig", spec.pod_iam_config.is_some()),
        (
            "spec.controlPlaneConfiguration.machineHealthCheck",
            spec.control_plane_configuration.as_ref().is_some_and(|one| one.machine_health_check.is_some()),
        ),
        (
            "spec.workerNodeGroupConfigurations[].machineHealthCheck",
            spec.worker_node_group_configurations.iter().any(|group| group.machine_health_check.is_some()),
        ),
    ];
    for (field, _) in kept.into_iter().filter(|(_, is_there)| *is_there) {
        let fix = "remove it, or set that up when the cluster is there";
        check.doubt("not-acted-on", field, "is kept, but not acted on yet", fix);
    }
}

// SPDX-License-Identifier: Apache-2.0

use std::collections::BTreeMap;

use super::*;
use crate::{
    cluster,
    finding::{Finding, Severity},
    inventory::{self, BmcMode},
};

const GOOD: (&str, &str) =
    (include_str!("../../tests/data/cluster.yaml"), include_str!("../../tests/data/hardware.csv"));
const BROKEN: (&str, &str) = (
    include_str!("../../tests/data/broken-cluster.yaml"),
    include_str!("../../tests/data/broken-hardware.csv"),
);

fn found((yaml, csv): (&str, &str)) -> Vec<Finding> {
    let mut findings = Findings::default();
    let inventory = inventory::read("hardware.csv", csv, BmcMode::Accounts, &mut findings);
    if let Some(file) = cluster::read("cluster.yaml", yaml, &mut findings) {
        offline(Subject { file: &file, inventory: Some(&inventory) }, &mut findings);
    }
    findings.sorted()
}

/// The good pair with one text of the cluster file changed; what is told of it.
fn changed(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.0.contains(from), "{from}");
    found((&GOOD.0.replacen(from, to, 1), GOOD.1)).iter().map(ToString::to_string).collect()
}

/// What the marks in a file say: line and code. In YAML a mark is on its line, in CSV on the line before.
fn marks(file: &str, text: &str) -> Vec<(String, u64, String)> {
    let below = u64::from(file == "hardware.csv");
    let marked =
        (1..).zip(text.lines()).filter_map(|(line, text)| Some((line, text.split_once("# wrong: ")?.1)));
    marked
        .flat_map(|(line, codes)| codes.split_whitespace().map(move |code| (line, code)))
        .map(|(line, code)| (file.to_owned(), line + below, code.to_owned()))
        .collect()
}

#[test]
fn the_good_pair_has_no_finding() {
    assert_eq!(found(GOOD), []);
}

#[test]
fn the_broken_pair_has_every_mistake_told_with_line_and_fix_and_no_other() {
    let found = found(BROKEN);
    let mut expected = marks("cluster.yaml", BROKEN.0);
    expected.extend(marks("hardware.csv", BROKEN.1));
    expected.sort();
    let mut told: Vec<_> =
        found.iter().map(|one| (one.place.file.clone(), one.place.line, one.code.to_owned())).collect();
    told.sort();
    let texts: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(told, expected, "{texts:#?}");
    assert!(expected.len() >= 25, "{}", expected.len());
    for one in &found {
        assert!(one.place.line > 0 && !one.what.is_empty() && !one.fix.is_empty(), "{one}");
        assert!(!one.to_string().contains("hunter2"), "a password is told: {one}");
    }
}

#[test]
fn what_is_generated_lacks_just_what_is_marked() {
    let text = cluster::generate("rack").unwrap();
    let lines: Vec<_> = found((&text, GOOD.1)).iter().map(|one| one.place.line).collect();
    let marked: Vec<u64> =
        (1..).zip(text.lines()).filter(|(_, text)| text.contains("# <-")).map(|(line, _)| line).collect();
    assert_eq!(lines, marked);
    assert_eq!(marked.len(), 5);
    assert!(cluster::generate("Rack").is_err() && cluster::generate(&"r".repeat(36)).is_err());
}

#[test]
fn counts_of_roles_that_share_a_selector_are_added_up() {
    let group = "    - name: md-1\n      count: 2\n      machineGroupRef: {kind: TinkerbellMachineConfig, name: rack}\n";
    let told =
        changed("  workerNodeGroupConfigurations:\n", &format!("  workerNodeGroupConfigurations:\n{group}"));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("type=worker with x86_64 fits 2 machines of hardware.csv, and md-1 and md-0 need 3 together; add 1 more"),
        "{told:?}"
    );
    let told = changed("    count: 3\n", "    count: 5\n");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("type=cp fits 3 machines of hardware.csv, and control-plane needs 5; add 2 more"),
        "{told:?}"
    );
}

#[test]
fn single_mistakes_are_told_once_at_their_place() {
    let cases = [
        ("  name: rack\n", "  name: Rack_1\n", "metadata.name"),
        (
            "host: \"10.10.50.2\"",
            "host: \"10.10.50.11\"",
            "address of the machine eksa-cp01 (hardware.csv:3)",
        ),
        ("host: \"10.10.50.2\"", "host: \"10.10.50.3\"", "is the address of the endpoint too"),
        ("host: \"10.10.50.2\"", "host: api.example.com", "is no IPv4 address"),
        ("- 10.96.0.0/12", "- 192.168.128.0/17", "overlaps the pods' network"),
        ("- 192.168.0.0/16", "- 192.168.0.0/24", "do not fit into the pods' network"),
        ("- 192.168.0.0/16", "- 192.168.0.0/23", "has parts for 2 nodes, and there are to be 4"),
        ("- 192.168.0.0/16", "- 0.0.0.0/7\n        - 10.0.0.0/8", "has 2 networks"),
        ("      cilium: {}", "      kindnetd: {}", "kindnetd is for clusters in containers"),
        ("rollingUpdate: {maxSurge: 0}", "rollingUpdate: {maxSurge: 2}", "write 0 or 1"),
        ("rollingUpdate: {maxSurge: 0}", "rollingUpdate: {maxSurge: 0, maxUnavailable: 0}", "are both 0"),
        ("type: RollingUpdate", "type: InPlace", "that of the control plane is InPlace"),
        ("certSans: [api.example.com]", "certSans: [\"https://api\"]", "neither a name nor an address"),
        ("    count: 3\n", "    count: 3\n    auditPolicyContent: \"kind: Polic\"\n", "is no audit policy"),
        ("nodeStartupTimeout: 20m0s", "nodeStartupTimeout: 20 minutes", "is no duration"),
        ("maxUnhealthy: 40%", "maxUnhealthy: most", "neither a number nor a percentage"),
        ("effect: PreferNoSchedule", "effect: NoExecute", "every group has a taint"),
        ("managementCluster:\n    name: rack", "managementCluster:\n    name: other", "is another cluster"),
        ("  osImageURL: \"https://", "  osImageURL: \"https://u:p@", "has an account in it"),
        ("osImageDigest: sha256:01", "osImageDigest: sha256:1", "is no digest"),
        ("  osImageDigest:", "  hookIsoURL: http://h/hook.iso\n  osImageDigest:", "but isoBoot is not"),
        ("  osImageDigest:", "  bmcCACert: none\n  osImageDigest:", "is no certificate"),
        ("  arch: x86_64", "  osImageURL: http://h/1-34.gz", "is there beside that of the datacenter"),
        ("  arch: x86_64", "  arch: aarch64", "fits 0 machines"),
        ("  arch: x86_64", "  hardwareSelector: {type: worker}", "is there beside hardwareAffinity"),
        ("  arch: x86_64", "  diskSelector: {minSize: 1Gi}", "is not acted on yet"),
        ("weight: 10", "weight: 0", "write a number from 1 to 100"),
        ("operator: In,", "operator: Within,", "is no operator"),
        ("servers: [time.example.com, 10.10.50.1]", "servers: []", "write at least one server"),
        ("worker: \"{{.device_1}}\"", "worker: m1", "is not the machine that is installed"),
        ("    - name: ec2-user\n", "    - name: ec2-user\n      sudo: x\n", "there is no such field"),
        (
            "kind: TinkerbellTemplateConfig\n    name: own",
            "kind: Template\n    name: own",
            "write TinkerbellTemplateConfig",
        ),
        ("  kubernetesVersion: \"1.34\"\n", "", "spec.kubernetesVersion: is missing"),
        (
            "  kubernetesVersion: \"1.34\"\n",
            "  kubernetesVersion: \"1.34\"\n  externalEtcdConfiguration: {count: 3}\n",
            "etcd runs on the control plane",
        ),
    ];
    for (from, to, expected) in cases {
        let told = changed(from, to);
        assert_eq!(told.len(), 1, "{to}: {told:#?}");
        assert!(told[0].contains(expected) && told[0].starts_with("error: cluster.yaml:"), "{to}: {told:?}");
    }
}

#[test]
fn a_version_whose_kubeadm_does_not_read_what_nodes_are_told_is_a_mistake() {
    let told = changed("kubernetesVersion: \"1.34\"", "kubernetesVersion: \"1.30\"");
    assert!(
        told.iter().any(|one| one.starts_with("error: ") && one.contains("use 1.31 or later")),
        "{told:#?}"
    );
}

#[test]
fn what_may_be_meant_is_a_warning() {
    let cases = [
        ("kubernetesVersion: \"1.34\"", "kubernetesVersion: \"1.37\"", "outside of what is tested"),
        ("  osImageDigest:", "  isoBoot: true\n  osImageDigest:", "not acted on yet"),
        ("ubuntu-v1.34.3-amd64.gz\"", "ubuntu-2404.gz\"", "does not say that it is for Kubernetes 1.34"),
        (
            "  datacenterRef:",
            "  gitOpsRef: {kind: FluxConfig, name: f}\n  datacenterRef:",
            "not acted on yet",
        ),
        (
            "matchLabels: {type: worker}",
            "matchExpressions: [{key: type, operator: Exists}]",
            "fits the selectors of rack and rack-cp",
        ),
    ];
    for (from, to, expected) in cases {
        let told = found((&GOOD.0.replacen(from, to, 1), GOOD.1));
        assert!(!told.is_empty() && told.iter().all(|one| one.severity == Severity::Warning), "{told:#?}");
        assert!(
            told.iter().any(|one| one.what.contains(expected) || one.to_string().contains(expected)),
            "{told:#?}"
        );
    }
}

#[test]
fn without_workers_the_control_plane_runs_the_pods() {
    let (before, rest) = GOOD.0.split_once("  workerNodeGroupConfigurations:").unwrap();
    let (_, after) = rest.split_once("---\n").unwrap();
    let alone = format!("{before}---\n{after}");
    let told: Vec<_> = found((&alone, GOOD.1)).iter().map(|one| (one.severity, one.code)).collect();
    // The configuration of the workers, and with it its template, is left over.
    assert_eq!(told, [(Severity::Warning, "not-referred-to")]);
    let tainted = alone.replace("    certSans", "    taints: [{key: a, effect: NoSchedule}]\n    certSans");
    let told: Vec<_> = found((&tainted, GOOD.1)).iter().map(|one| one.code).collect();
    assert_eq!(told, ["taints-everywhere", "not-referred-to"]);
}

#[test]
fn a_thousand_machines_are_planned_at_once() {
    let (header, _) = GOOD.1.split_once("eksa-cp01").unwrap();
    let row = |n: usize| {
        let type_ = if n < 3 { "cp" } else { "worker" };
        let mac = format!("cc:48:3a:00:{:02x}:{:02x}", n / 256, n % 256);
        format!(
            "n{n},,,,{mac},10.10.{}.{},255.255.0.0,10.10.0.1,1.1.1.1,type={type_},/dev/sda,\n",
            50 + n / 200,
            n % 200 + 11
        )
    };
    let csv: String = std::iter::once(header.to_owned()).chain((0..1000).map(row)).collect();
    let yaml = GOOD
        .0
        .replace("      count: 1\n", "      count: 997\n")
        .replace("- 192.168.0.0/16", "- 172.16.0.0/12");
    let mut findings = Findings::default();
    let inventory = inventory::read("hardware.csv", &csv, BmcMode::Accounts, &mut findings);
    let file = cluster::read("cluster.yaml", &yaml, &mut findings).unwrap();
    offline(Subject { file: &file, inventory: Some(&inventory) }, &mut findings);
    assert_eq!(findings.as_slice(), []);
    let roles: Vec<_> = roles(&file, &inventory).into_iter().map(|wanted| wanted.role).collect();
    assert_eq!(crate::plan::plan("rack", &roles, &BTreeMap::new()).claims.len(), 1000);
}

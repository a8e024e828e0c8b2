// SPDX-License-Identifier: Apache-2.0

use super::*;

const GOOD: &str = include_str!("../../tests/data/cluster.yaml");

fn told(text: &str) -> (Option<ClusterFile>, Vec<String>) {
    let mut findings = Findings::default();
    let file = read("c.yaml", text, &mut findings);
    (file, findings.sorted().iter().map(ToString::to_string).collect())
}

#[test]
fn every_field_has_its_place_in_the_file() {
    let (file, problems) = told(GOOD);
    assert_eq!(problems, Vec::<String>::new());
    let file = file.unwrap();
    assert_eq!(
        file.cluster.place("spec.controlPlaneConfiguration.endpoint.host").to_string(),
        "c.yaml:19: spec.controlPlaneConfiguration.endpoint.host"
    );
    assert_eq!(file.machine_config("rack").unwrap().place("spec.arch").line, 88);
    assert!(file.template("own").is_some() && file.machine_config("other").is_none());
}

#[test]
fn several_clusters_none_and_strangers_are_told() {
    let second = GOOD.split("---\n").next().unwrap().replace("name: rack\nspec", "name: two\nspec");
    let (file, problems) = told(&format!("{GOOD}---\n{second}"));
    assert!(file.is_none());
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains(
        "kind: a second Cluster, \"two\", beside \"rack\"; write each cluster into a file of its own"
    ));

    for (text, expected) in [
        ("", "error: c.yaml: there is nothing in it"),
        ("a: [\n", "error: c.yaml:"),
        ("kind: Cluster\n", "error: c.yaml:1: apiVersion and kind are needed"),
        (
            "apiVersion: anywhere.eks.amazonaws.com/v1beta1\nkind: Cluster\n",
            "error: c.yaml:1: apiVersion: \"anywhere.eks.amazonaws.com/v1beta1\" is not known",
        ),
        (
            "apiVersion: v1\nkind: Secret\n",
            "error: c.yaml:2: kind: Secret in v1 is no part of a cluster file",
        ),
        (
            "apiVersion: anywhere.eks.amazonaws.com/v1alpha1\nkind: Clustre\n",
            "error: c.yaml:2: kind: Clustre in anywhere.eks.amazonaws.com/v1alpha1 is no part of a cluster file; write Cluster",
        ),
        (
            "apiVersion: anywhere.eks.amazonaws.com/v1alpha1\nkind: VSphereDatacenterConfig\n",
            "error: c.yaml:2: kind: VSphereDatacenterConfig is of another provider",
        ),
        (
            "apiVersion: anywhere.eks.amazonaws.com/v1alpha1\nkind: FluxConfig\n",
            "warning: c.yaml:2: kind: FluxConfig is not acted on yet",
        ),
    ] {
        let (file, problems) = told(text);
        assert!(file.is_none());
        assert!(problems.iter().any(|problem| problem.starts_with(expected)), "{text}: {problems:?}");
    }
}

#[test]
fn references_that_lead_nowhere_name_what_is_near() {
    for (from, to, expected) in [
        (
            "      name: rack-cp\n",
            "      name: rack-pc\n",
            "spec.controlPlaneConfiguration.machineGroupRef.name: there is no TinkerbellMachineConfig \"rack-pc\" in this file; write \"rack-cp\", if that is meant",
        ),
        (
            "    kind: TinkerbellTemplateConfig\n    name: own",
            "    kind: TinkerbellTemplateConfig\n    name: mine",
            "spec.templateRef.name: there is no TinkerbellTemplateConfig \"mine\" in this file; add it, or name one of own",
        ),
        (
            "  datacenterRef:\n    kind: TinkerbellDatacenterConfig\n    name: rack\n",
            "",
            "spec.datacenterRef: is missing; name a TinkerbellDatacenterConfig",
        ),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD);
        let (_, problems) = told(&text);
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{problems:#?}");
    }
    let (_, problems) = told(&GOOD.replace("metadata:\n  name: rack-cp", "metadata:\n  name: rack"));
    assert!(
        problems.iter().any(|problem| problem.contains("metadata.name: \"rack\" is there twice")),
        "{problems:?}"
    );
}

#[test]
fn a_document_with_mistakes_is_read_as_far_as_it_goes() {
    let text = GOOD.replace("count: 3", "count: three").replace("tinkerbellIP", "tinkerbellIp");
    let (file, problems) = told(&text);
    let file = file.unwrap();
    assert_eq!(file.cluster.value.spec.control_plane_configuration.unwrap().count, None);
    assert_eq!(file.cluster.value.spec.worker_node_group_configurations.len(), 1);
    assert_eq!(
        problems,
        [
            "error: c.yaml:17: spec.controlPlaneConfiguration.count: must be a whole number, not text; correct it; `tink cluster \
             generate` shows the form",
            "error: c.yaml:54: spec.tinkerbellIP: is missing; add it",
            "error: c.yaml:54: spec.tinkerbellIp: there is no such field; did you mean \"tinkerbellIP\"?",
        ]
    );
}

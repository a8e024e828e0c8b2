// SPDX-License-Identifier: Apache-2.0

//! What can be said of a manifest without asking the API server, for the kinds that the command line knows.

use manifest::{Definition, Document, Finding};

use crate::kinds::Kind;

/// All that is wrong with a document of this kind.
pub(super) fn check(document: &Document, kind: &Kind) -> Vec<Finding> {
    manifest::check(document, Definition { kind: &kind.resource.kind, schema: kind.schema.as_ref() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;

    fn findings(kind: &str, text: &str) -> Vec<String> {
        let (mut documents, mut findings) = (Vec::new(), Vec::new());
        manifest::parse("f", text, &mut documents, &mut findings);
        assert!(findings.is_empty(), "{findings:?}");
        let kind = kinds::find(kind).unwrap();
        documents.iter().flat_map(|document| check(document, &kind)).map(|f| f.to_string()).collect()
    }

    #[test]
    fn every_mistake_is_named_with_line_field_and_the_right_spelling() {
        let text = "\
apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata: {name: m1, label: {a: b}}
spec:
  bmcRef: {name: bmc-m1}
  interfaces:
    - dhcp: {mac: 52:54:00:00:00:11, lease_time: \"86400\", uefi: 1}
      netbot: {allowPXE: true}
    - netboot: {allowPxe: true, osie: [a]}
  disks: {device: /dev/vda}
  resources: {cpu: 1.5, memory: 4Gi, gpus: 1}
  tinkVersion: 1.5
stats: {}
";
        assert_eq!(
            findings("hardware", text),
            [
                "f:3: metadata.label: there is no such field; did you mean \"labels\"?",
                "f:13: stats: there is no such field; did you mean \"status\"?",
                "f:5: spec.bmcRef.kind: is missing",
                "f:8: spec.interfaces[0].netbot: there is no such field; did you mean \"netboot\"?",
                "f:7: spec.interfaces[0].dhcp.lease_time: must be a whole number, not text",
                "f:7: spec.interfaces[0].dhcp.uefi: must be true or false, not a number",
                "f:9: spec.interfaces[1].netboot.allowPxe: there is no such field; did you mean \"allowPXE\"?",
                "f:9: spec.interfaces[1].netboot.osie: must be a map, not a list",
                "f:10: spec.disks: must be a list, not a map",
                "f:11: spec.resources.cpu: must be a whole number or text, not a fraction",
                "f:12: spec.tinkVersion: must be a whole number, not a fraction",
            ]
            .map(str::to_owned)
        );
    }

    #[test]
    fn actions_with_two_parts_or_unknown_words_are_refused() {
        let text = "\
metadata: {name: j}
spec:
  machineRef: {name: m1}
  tasks:
    - powerAction: on
      bootDevice: {device: pxe}
    - powerAction: onn
---
metadata: {name: k}
spec: {machineRef: {name: m, namespace: ns}, tasks: []}
";
        assert_eq!(
            findings("job", text),
            [
                "f:3: spec.machineRef.namespace: is missing",
                "f:5: spec.tasks[0]: has powerAction, bootDevice: only one of them is allowed; use a list item for each",
                "f:5: spec.tasks[0].powerAction: must be text, not true or false; write it in quotes",
                "f:7: spec.tasks[1].powerAction: is \"onn\"; allowed are \"on\", \"off\", \"soft\", \"status\", \"cycle\", \"reset\"",
                "f:10: spec.tasks: must not be empty",
            ]
            .map(str::to_owned)
        );
    }

    #[test]
    fn names_and_texts_of_secrets_are_checked() {
        assert_eq!(
            findings("secret", "metadata: {name: Bad_Name, labels: {a: true}}\nstringData:\n  password: 1234\n"),
            [
                "f:1: metadata.name: \"Bad_Name\" is no valid name: use lower-case letters, digits, `-` and `.`, with a letter or digit at both ends",
                "f:1: metadata.labels.a: must be text, not true or false; write it in quotes",
                "f:3: stringData.password: must be text, not a number; write it in quotes",
            ]
            .map(str::to_owned)
        );
        assert_eq!(
            findings("secret", "data: {}\n"),
            ["f:1: metadata: is missing: an object needs at least `metadata.name`"]
        );
    }

    #[test]
    fn the_manifests_that_users_write_are_clean() {
        for (kind, text) in [
            ("hardware", include_str!("../../../api/tests/manifests/hardware.yaml")),
            ("template", include_str!("../../../api/tests/manifests/template.yaml")),
        ] {
            assert_eq!(findings(kind, text), Vec::<String>::new());
        }
    }
}

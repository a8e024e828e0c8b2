// SPDX-License-Identifier: Apache-2.0
//! What is known to differ. The table may only become shorter: a row that no longer differs fails until it is taken out.

use crate::program::Kubectl;
use crate::session::Difference;

/// Scenario, command line and what differs.
type Known = (&'static str, &'static str, &'static str);

const KNOWN: &[Known] = &[
    (
        "strategic_patches",
        r#"patch secret login -p '{"data":{"a":"not base64!"}}'"#,
        "words for a value that does not decode",
    ),
    (
        "strategic_patches",
        r#"patch configmap settings --type=merge -p '{"immutable":"yes"}'"#,
        "words for a value that does not decode",
    ),
    (
        "definitions",
        "get crd/widgets.current.invalid -o yaml --show-managed-fields",
        "causes of an invalid definition, and paths that are no longer served",
    ),
    (
        "definitions",
        "create -f - <<< apiVersion: apiextensions.k8s.io/v1 kind: CustomResourceDefinition metadata: { name: broken.current.invalid } spec:  group: current.invalid  scope: Cluster  names: { kind: widget, plural: broken, singular: widget, shortNames: [wd] }  versions:  - name: v1  served: true  storage: true  schema: { openAPIV3Schema: { type: object, properties: { spec: { type: object, properties: { a: { type: string } } } } } }",
        "causes of an invalid definition, and paths that are no longer served",
    ),
    (
        "definitions",
        "create -f - <<< apiVersion: apiextensions.k8s.io/v1 kind: CustomResourceDefinition metadata: { name: broken.current.invalid } spec:  group: current.invalid  scope: Cluster  names: { kind: Widget, plural: broken, singular: widget, shortNames: [wd] }  versions:  - name: v1  served: true  storage: false  schema: { openAPIV3Schema: { type: object, properties: { spec: { type: object, properties: { a: { type: string } } } } } }",
        "causes of an invalid definition, and paths that are no longer served",
    ),
    (
        "definitions",
        "create -f - <<< apiVersion: apiextensions.k8s.io/v1 kind: CustomResourceDefinition metadata: { name: broken.current.invalid } spec:  group: current.invalid  scope: Cluster  names: { kind: Widget, plural: broken, singular: widget, shortNames: [wd] }  versions:  - name: v1  served: true  storage: true  schema: { openAPIV3Schema: { type: objekt, properties: { spec: { type: object, properties: { a: { type: string } } } } } }",
        "causes of an invalid definition, and paths that are no longer served",
    ),
    (
        "definitions",
        "create -f - <<< apiVersion: apiextensions.k8s.io/v1 kind: CustomResourceDefinition metadata: { name: broken.current.invalid } spec:  group: current.invalid  scope: Cluster  names: { kind: Widget, plural: broken, singular: widget, shortNames: [wd] }  versions:  - name: 1v  served: true  storage: true  schema: { openAPIV3Schema: { type: object, properties: { spec: { type: object, properties: { a: { type: string } } } } } }",
        "causes of an invalid definition, and paths that are no longer served",
    ),
];

/// What is left to complain of: differences that are not known, and known ones that are gone.
pub fn judged(kubectl: &Kubectl, scenario: &str, found: Vec<Difference>) -> Vec<String> {
    let known: Vec<&Known> = KNOWN.iter().filter(|(of, ..)| *of == scenario).collect();
    let is_known = |difference: &Difference| known.iter().any(|(_, line, _)| *line == difference.line);
    let mut wrong = Vec::new();
    for (_, line, why) in &known {
        if found.iter().any(|difference| difference.line == *line) {
            println!("{scenario}: differs (known): kubectl {line}: {why}");
        } else if kubectl.is_current() {
            wrong.push(format!("kubectl {line} no longer differs: take it out of the table"));
        }
    }
    wrong.extend(
        found.into_iter().filter(|difference| !is_known(difference)).map(|difference| difference.what),
    );
    wrong
}

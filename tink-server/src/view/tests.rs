// SPDX-License-Identifier: Apache-2.0

use super::*;

/// Every field of the schema is in the table, and nothing else is.
#[test]
fn the_table_covers_the_schema() {
    let crd = serde_json::to_value(<Hardware as kube::CustomResourceExt>::crd()).unwrap();
    let spec = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap();
    compare("spec", spec, ROOT);
}

fn compare(path: &str, schema: &Json, fields: &[Field]) {
    let properties = schema.get("properties").and_then(Json::as_object).unwrap_or_else(|| panic!("{path}"));
    let mut wanted: Vec<&str> = properties.keys().map(String::as_str).collect();
    let mut have: Vec<&str> = fields.iter().map(|field| field.0).collect();
    wanted.sort_unstable();
    have.sort_unstable();
    assert_eq!(have, wanted, "{path}");
    for (name, _, kind) in fields {
        let property = properties.get(*name).unwrap();
        let path = format!("{path}.{name}");
        let type_ = property.get("type").and_then(Json::as_str).unwrap_or_default();
        match kind {
            Kind::Struct(fields) | Kind::Pointer(fields) => compare(&path, property, fields),
            Kind::Structs(fields) => compare(&path, property.get("items").unwrap(), fields),
            Kind::Named(fields) => compare(&path, property.get("additionalProperties").unwrap(), fields),
            Kind::Text | Kind::OptionalText => assert_eq!(type_, "string", "{path}"),
            Kind::Int => assert_eq!(type_, "integer", "{path}"),
            Kind::Bool | Kind::OptionalBool => assert_eq!(type_, "boolean", "{path}"),
            Kind::Texts => assert_eq!(type_, "array", "{path}"),
            Kind::Plain => assert_eq!(type_, "object", "{path}"),
        }
    }
}

fn hardware() -> Hardware {
    serde_saphyr::from_str(
        r"
apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata: {name: m1, namespace: tinkerbell}
spec:
  bmcRef: {kind: Machine, name: m1-bmc}
  disks: [{device: /dev/sda}, {device: /dev/nvme0n1}]
  metadata: {instance: {id: '52:54:00:00:00:11', operating_system: {os_slug: debian_13}}}
  interfaces:
  - dhcp: {mac: '52:54:00:00:00:11', lease_time: 86400, name_servers: [10.0.0.1], ip: {address: 172.31.0.11}}
    netboot: {allowPXE: true}
",
    )
    .unwrap()
}

fn render(template: &str) -> Result<String, String> {
    let map = BTreeMap::from([("device_1".to_owned(), "agent".to_owned())]);
    gotemplate::render(template, &data(&map, Some(&hardware()))).map_err(|e| e.to_string())
}

#[test]
fn a_template_sees_both_namings_and_the_map() {
    for (template, expected) in [
        ("{{.device_1}}", "agent"),
        ("{{index .Hardware.Disks 1}}", "/dev/nvme0n1"),
        ("{{.Hardware.Metadata.Instance.ID}}", "52:54:00:00:00:11"),
        ("{{.Hardware.Metadata.Instance.OperatingSystem.OsSlug}}", "debian_13"),
        ("{{(index .Hardware.Interfaces 0).DHCP.IP.Address}}", "172.31.0.11"),
        ("{{(index .Hardware.Interfaces 0).DHCP.LeaseTime}}", "86400"),
        ("{{(index .Hardware.Interfaces 0).Netboot.AllowPXE}}", "true"),
        ("{{.hardware.metadata.name}} {{.hardware.spec.bmcRef.name}}", "m1 m1-bmc"),
        ("{{.hardware.spec.metadata.instance.id}}", "52:54:00:00:00:11"),
        // Held by value in Go: there, and empty.
        ("[{{(index .Hardware.Interfaces 0).DHCP.IP.Gateway}}]", "[]"),
        ("{{(index .Hardware.Interfaces 0).DHCP.UEFI}}", "false"),
        ("{{with .Hardware.UserData}}{{.}}{{else}}none{{end}}", "none"),
        ("{{if (index .Hardware.Interfaces 0).Isoboot}}iso{{else}}net{{end}}", "net"),
    ] {
        assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn reading_through_nil_or_what_is_not_there_fails() {
    let error = render("a\n{{.Hardware.Metadata.Facility.FacilityCode}}").unwrap_err();
    assert!(error.contains("line 2") && error.contains(".Hardware.Metadata.Facility is nil"), "{error}");
    assert!(render("{{.Hardware.BMCRef.Name}}").is_err(), "not in the legacy structure");
    assert!(render("{{.references.secret}}").is_err());
    assert!(render("{{.device_2}}").unwrap_err().contains("\"device_2\""));
}

#[test]
fn a_media_url_sees_the_whole_spec_and_nothing_else() {
    let data = media_url_data(&hardware());
    let url = "http://x/{{.Hardware.BMCRef.Name}}/{{(index .Hardware.Disks 0).Device}}";
    assert_eq!(gotemplate::render(url, &data).unwrap(), "http://x/m1-bmc//dev/sda");
    assert!(gotemplate::render("{{.hardware}}", &data).is_err());
}

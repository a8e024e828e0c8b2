// SPDX-License-Identifier: Apache-2.0

use super::*;
use api::v1alpha1::Hardware;

fn hardware() -> Hardware {
    serde_saphyr::from_str(
        r"
apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata: {name: eksa-cp01, namespace: eksa-system}
spec:
  disks: [{device: /dev/nvme0n1}]
  metadata: {instance: {id: '52:54:00:00:00:11', hostname: eksa-cp01}}
  interfaces:
  - dhcp:
      mac: '52:54:00:00:00:11'
      hostname: eksa-cp01
      name_servers: [8.8.8.8, 1.1.1.1]
      ip: {address: 172.31.0.11, netmask: 255.255.255.0, gateway: 172.31.0.1, family: 4}
    netboot: {allowPXE: true, allowWorkflow: true}
",
    )
    .unwrap()
}

fn read(text: &str) -> Result<Rendered, Error> {
    let map = BTreeMap::from([("device_1".to_owned(), "52:54:00:00:00:11".to_owned())]);
    let mut count = 0;
    render(text, &crate::view::data(&map, Some(&hardware())), &mut || {
        count += 1;
        format!("id-{count}")
    })
}

/// The shape of EKS Anywhere's default for Ubuntu: envelope, volumes, netplan from Hardware, cloud-init files, reboot.
const EKS_ANYWHERE: &str = r#"
version: "0.1"
name: mgmt
global_timeout: 6000
tasks:
  - name: mgmt
    worker: "{{.device_1}}"
    volumes:
      - /dev:/dev
      - /dev/console:/dev/console
      - /lib/firmware:/lib/firmware:ro
    actions:
      - name: "stream image to disk"
        image: 127.0.0.1/embedded/image2disk
        timeout: 600
        environment:
          DEST_DISK: {{ index .Hardware.Disks 0 }}
          IMG_URL: http://172.31.0.1:8080/ubuntu.gz
          COMPRESSED: true
      - name: "write netplan config"
        image: 127.0.0.1/embedded/writefile
        timeout: 90
        pid: host
        environment:
          DEST_DISK: {{ formatPartition ( index .Hardware.Disks 0 ) 2 }}
          DEST_PATH: /etc/netplan/config.yaml
          DIRMODE: 0755
          FS_TYPE: ext4
          GID: 0
          MODE: 0644
          UID: 0
          CONTENTS: |
            network:
              version: 2
              renderer: networkd
              ethernets:
                id0:
                  match:
                    macaddress: {{ (index .Hardware.Interfaces 0).DHCP.MAC }}
                  addresses:
                    - {{ (index .Hardware.Interfaces 0).DHCP.IP.Address }}/{{ netmaskToPrefixLength (index .Hardware.Interfaces 0).DHCP.IP.Netmask }}
                  nameservers:
                    addresses: [{{ range $i, $ns := (index .Hardware.Interfaces 0).DHCP.NameServers }}{{ if $i }}, {{ end }}{{ $ns }}{{ end }}]
                  routes:
                    - to: default
                      via: {{ (index .Hardware.Interfaces 0).DHCP.IP.Gateway }}
      - name: "reboot"
        image: 127.0.0.1/embedded/reboot
        timeout: 90
        pid: host
        volumes:
          - /worker:/worker
"#;

#[test]
fn eks_anywheres_default_renders() {
    let rendered = read(EKS_ANYWHERE).unwrap();
    assert_eq!(rendered.global_timeout, 6000);
    let [task] = rendered.tasks.as_slice() else { panic!("{rendered:?}") };
    assert_eq!(
        (task.name.as_str(), task.agent_id.as_str(), task.id.as_str()),
        ("mgmt", "52:54:00:00:00:11", "id-1")
    );
    assert_eq!(task.volumes.len(), 3);
    let [image, netplan, reboot] = task.actions.as_slice() else { panic!("{task:?}") };
    assert_eq!(image.id, "id-2");
    assert_eq!(image.timeout, Some(600));
    assert_eq!(image.state, WorkflowState::Pending);
    assert_eq!(image.environment["DEST_DISK"], "/dev/nvme0n1");
    assert_eq!(image.environment["COMPRESSED"], "true");
    assert_eq!(netplan.environment["DEST_DISK"], "/dev/nvme0n1p2");
    assert_eq!(netplan.environment["MODE"], "0644");
    assert_eq!(netplan.environment["UID"], "0");
    assert_eq!(netplan.pid.as_deref(), Some("host"));
    let expected = "network:
  version: 2
  renderer: networkd
  ethernets:
    id0:
      match:
        macaddress: 52:54:00:00:00:11
      addresses:
        - 172.31.0.11/24
      nameservers:
        addresses: [8.8.8.8, 1.1.1.1]
      routes:
        - to: default
          via: 172.31.0.1
";
    assert_eq!(netplan.environment["CONTENTS"], expected);
    assert_eq!(reboot.volumes, ["/worker:/worker"]);
}

/// The shape of CAPT's built-in template: oci2disk, writefile, waitdaemon around kexec.
const CAPT: &str = r#"
version: "0.1"
name: machine-1
global_timeout: 6000
tasks:
  - name: machine-1
    worker: '{{.device_1}}'
    volumes:
      - /dev:/dev
    actions:
      - name: stream image
        image: quay.io/tinkerbell/actions/oci2disk
        timeout: 600
        environment:
          IMG_URL: ghcr.io/tinkerbell/cluster-api-provider-tinkerbell/ubuntu-2004:v1.30.0.gz
          DEST_DISK: /dev/nvme0n1
          COMPRESSED: "true"
      - name: kexec image
        image: ghcr.io/jacobweinstock/waitdaemon:latest
        timeout: 90
        pid: host
        environment:
          BLOCK_DEVICE: /dev/nvme0n1p1
          FS_TYPE: ext4
          IMAGE: quay.io/tinkerbell/actions/kexec
          WAIT_SECONDS: 5
        volumes:
          - /var/run/docker.sock:/var/run/docker.sock
        on-failure: [ignored]
"#;

#[test]
fn capts_default_renders() {
    let rendered = read(CAPT).unwrap();
    let [image, kexec] = rendered.tasks[0].actions.as_slice() else { panic!("{rendered:?}") };
    assert!(crate::workflow::may_write_disk(image));
    assert!(!crate::workflow::may_write_disk(kexec));
    assert_eq!(kexec.environment["WAIT_SECONDS"], "5");
}

/// What YAML would turn into numbers, booleans, dates or nothing stays the text that was written.
#[test]
fn environment_values_keep_their_raw_text() {
    let text = |value: &str| {
        let yaml = format!(
            "name: n\ntasks:\n- name: t\n  worker: w\n  actions:\n  - name: a\n    image: i\n    environment: {{X: {value}}}\n"
        );
        read(&yaml).unwrap().tasks[0].actions[0].environment["X"].clone()
    };
    for raw in [
        "0600",
        "0o600",
        "0x1F",
        "1_000",
        "1e3",
        "1.0",
        "12:30:45",
        "52:54:00:12:34:56",
        "true",
        "True",
        "yes",
        "no",
        "off",
        "2026-01-01",
        ".5",
        "+1",
        "-0",
        "1.10",
    ] {
        assert_eq!(text(raw), raw);
    }
    assert_eq!(text("\"0600\""), "0600");
    assert_eq!(text("''"), "");
    assert_eq!(text("'null'"), "null");
}

#[test]
fn every_broken_rule_is_told_with_its_line() {
    let yaml = "\nname: n\ntasks:\n- name: t\n  worker: ''\n  actions:\n  - name: a\n    image: UPPER CASE\n  - name: a\n    image: i\n    timeout: -1\n- name: t\n  worker: w\n";
    let Err(Error::Invalid(mistakes)) = read(yaml) else { panic!() };
    assert_eq!(
        mistakes,
        [
            "line 4: task \"t\" has no worker",
            "line 7: action \"a\" has no valid image",
            "line 9: action \"a\" is there twice in task \"t\"",
            "line 9: action \"a\" has a negative timeout",
            "line 12: task \"t\" is there twice",
        ]
    );
    let Err(Error::Invalid(mistakes)) = read("version: '0.1'") else { panic!() };
    assert_eq!(mistakes, ["name is missing", "tasks is empty: a workflow needs at least one"]);
}

#[test]
fn a_yaml_error_has_its_place_and_shows_no_content() {
    let error =
        read("name: n\ntasks:\n- name: t\n  worker: w\n  timeout: [secret\n").unwrap_err().to_string();
    assert!(error.contains("line") && !error.contains("secret"), "{error}");
    let error =
        read("name: n\ntasks:\n- name: t\n  worker: w\n  actions:\n  - name: hunter2\n    timeout: soon\n");
    let error = error.unwrap_err().to_string();
    assert!(error.contains("line 7") && !error.contains("hunter2"), "{error}");
}

#[test]
fn many_lines_of_comment_are_no_problem() {
    let plain = "name: n\ntasks:\n- name: t\n  worker: w\n  actions:\n  - name: a\n    image: i\n";
    let comment = "  # - name: not now\n".repeat(100);
    let text = plain.replace("  actions:\n", &format!("{comment}  actions:\n{comment}")) + &comment;
    assert_eq!(read(&text).unwrap(), read(plain).unwrap());
}

#[test]
fn image_references() {
    for image in [
        "alpine",
        "quay.io/tinkerbell/actions/image2disk:latest",
        "localhost/x",
        "127.0.0.1/embedded/reboot",
        "registry:5000/a/b",
        "[::1]:5000/a",
        "ghcr.io/a/b__c:v1@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ] {
        assert!(is_image(image), "{image}");
    }
    for image in ["", "UPPER", "a b", "a/", "/a", "a:", "a@sha256:1", "a:-x", "http://a/b", "[::1/a"] {
        assert!(!is_image(image), "{image}");
    }
}

// SPDX-License-Identifier: Apache-2.0

//! Workflow templates: the built-in ones for each family of operating systems, and how any is written as a Template.
//!
//! Owns what an installation consists of (actions, files, partitions), as EKS Anywhere has it, so that its images work. A
//! `TinkerbellTemplateConfig` takes the place of the built-in one. Rendering is the workflow controller's.

use std::{collections::BTreeMap, fmt::Write as _};

use api::anywhere::v1alpha1::{OsFamily, ProxyConfiguration, TemplateAction, TemplateTask, WorkflowTemplate};

/// The port of the metadata service.
pub const METADATA_PORT: u16 = 7172;

const GLOBAL_TIMEOUT: i64 = 6000;
const IMAGE_TIMEOUT: i64 = 600;
const TIMEOUT: i64 = 90;
const FIRST_DISK: &str = "{{ index .Hardware.Disks 0 }}";
const NETPLAN: &str = include_str!("templates/netplan.yaml");
const NETWORK_MANAGER: &str = include_str!("templates/static-connection.nmconnection");
const NO_NETWORK: &str = "network:\n  config: disabled\n";
const FORCE_DATASOURCE: &str = "datasource: Ec2\n";

/// What a built-in template is filled with.
#[derive(Clone, Debug, Default)]
pub struct Settings<'a> {
    /// Name of the cluster.
    pub cluster: &'a str,
    /// URL of the image.
    pub image_url: &'a str,
    /// Digest of what is decompressed from it.
    pub image_digest: Option<&'a str>,
    /// Addresses at which the metadata service answers, first before and then after the move: one disk works with both.
    pub metadata_hosts: &'a [&'a str],
    /// How the machine reaches the image.
    pub proxy: Option<&'a ProxyConfiguration>,
}

/// What differs between the families.
struct Family {
    /// Number of the partition with the root file system.
    root: u8,
    network_action: &'static str,
    network_path: &'static str,
    network_mode: &'static str,
    network: &'static str,
    /// Whether the metadata URLs stand in quotes.
    quoted_urls: bool,
}

const UBUNTU: Family = Family {
    root: 2,
    network_action: "write netplan config",
    network_path: "/etc/netplan/config.yaml",
    network_mode: "0644",
    network: NETPLAN,
    quoted_urls: false,
};

const REDHAT: Family = Family {
    root: 1,
    network_action: "write network manager config",
    network_path: "/etc/NetworkManager/system-connections/static-connection.nmconnection",
    network_mode: "0600",
    network: NETWORK_MANAGER,
    quoted_urls: true,
};

/// The built-in template of a family. Bottlerocket gets that of Ubuntu, as whatever else falls through; the check refuses it.
#[must_use]
pub fn built_in(family: OsFamily, settings: &Settings<'_>) -> WorkflowTemplate {
    let family = match family {
        OsFamily::Redhat => &REDHAT,
        OsFamily::Ubuntu | OsFamily::Bottlerocket => &UBUNTU,
    };
    let file = |name: &str, path: &str, modes: (&str, &str), contents: &str| {
        write_file(family, name, path, modes, contents)
    };
    let network = file(
        family.network_action,
        family.network_path,
        (family.network_mode, "0755"),
        family.network.trim_start_matches('\n'),
    );
    let actions = vec![
        stream_image(settings),
        TemplateAction { pid: Some("host".to_owned()), ..network },
        file(
            "disable cloud-init network capabilities",
            "/etc/cloud/cloud.cfg.d/99-disable-network-config.cfg",
            ("0600", "0700"),
            NO_NETWORK,
        ),
        file(
            "add cloud-init config",
            "/etc/cloud/cloud.cfg.d/10_tinkerbell.cfg",
            ("0600", "0700"),
            &datasource(settings, family.quoted_urls),
        ),
        file("add cloud-init ds config", "/etc/cloud/ds-identify.cfg", ("0600", "0700"), FORCE_DATASOURCE),
        TemplateAction {
            pid: Some("host".to_owned()),
            volumes: vec!["/worker:/worker".to_owned()],
            ..action("reboot", "reboot", TIMEOUT, [])
        },
    ];
    let task = TemplateTask {
        name: settings.cluster.to_owned(),
        worker: "{{.device_1}}".to_owned(),
        volumes: ["/dev:/dev", "/dev/console:/dev/console", "/lib/firmware:/lib/firmware:ro"]
            .map(str::to_owned)
            .to_vec(),
        actions,
        ..TemplateTask::default()
    };
    WorkflowTemplate {
        version: "0.1".to_owned(),
        name: settings.cluster.to_owned(),
        global_timeout: GLOBAL_TIMEOUT,
        tasks: vec![task],
        ..WorkflowTemplate::default()
    }
}

fn action<const N: usize>(
    name: &str,
    image: &str,
    timeout: i64,
    environment: [(&str, String); N],
) -> TemplateAction {
    TemplateAction {
        name: name.to_owned(),
        image: format!("127.0.0.1/embedded/{image}:latest"),
        timeout,
        environment: environment.map(|(key, value)| (key.to_owned(), value)).into_iter().collect(),
        ..TemplateAction::default()
    }
}

fn stream_image(settings: &Settings<'_>) -> TemplateAction {
    let fixed = [
        ("DEST_DISK", FIRST_DISK.to_owned()),
        ("IMG_URL", settings.image_url.to_owned()),
        ("COMPRESSED", "true".to_owned()),
    ];
    let mut stream = action("stream image to disk", "image2disk", IMAGE_TIMEOUT, fixed);
    let mut add = |key: &str, value: &str| stream.environment.insert(key.to_owned(), value.to_owned());
    if let Some(digest) = settings.image_digest {
        add("IMG_DIGEST", digest);
    }
    if let Some(proxy) = settings.proxy {
        let own = settings.metadata_hosts.iter().map(|host| (*host).to_owned());
        let no_proxy: Vec<_> = proxy.no_proxy.iter().cloned().chain(own).collect();
        add("HTTP_PROXY", proxy.http_proxy.as_deref().unwrap_or_default());
        add("HTTPS_PROXY", proxy.https_proxy.as_deref().unwrap_or_default());
        add("NO_PROXY", &no_proxy.join(","));
    }
    stream
}

fn write_file(
    family: &Family,
    name: &str,
    path: &str,
    (mode, folders): (&str, &str),
    contents: &str,
) -> TemplateAction {
    let environment = [
        ("DEST_DISK", format!("{{{{ formatPartition ( index .Hardware.Disks 0 ) {} }}}}", family.root)),
        ("FS_TYPE", "ext4".to_owned()),
        ("DEST_PATH", path.to_owned()),
        ("UID", "0".to_owned()),
        ("GID", "0".to_owned()),
        ("MODE", mode.to_owned()),
        ("DIRMODE", folders.to_owned()),
        ("CONTENTS", contents.to_owned()),
    ];
    action(name, "writefile", TIMEOUT, environment)
}

fn datasource(settings: &Settings<'_>, quoted: bool) -> String {
    let quote = if quoted { "\"" } else { "" };
    let urls =
        settings.metadata_hosts.iter().map(|host| format!("{quote}http://{host}:{METADATA_PORT}{quote}"));
    let urls = urls.collect::<Vec<_>>().join(",");
    format!(
        "datasource:\n  Ec2:\n    metadata_urls: [{urls}]\n    strict_id: false\nmanage_etc_hosts: localhost\nwarnings:\n  dsid_missing_source: off\n"
    )
}

/// A template as the text of a Template. Every value of an environment is a literal block, so that what a template expression gives
/// cannot end it, and that numbers and booleans stay the text that they are.
#[must_use]
pub fn to_yaml(template: &WorkflowTemplate) -> String {
    let mut out = Emitter::default();
    out.scalar(0, "version", &template.version);
    out.scalar(0, "name", &template.name);
    out.line(0, &format!("global_timeout: {}", template.global_timeout));
    out.line(0, "tasks:");
    for task in &template.tasks {
        out.line(1, "-");
        out.scalar(2, "name", &task.name);
        out.scalar(2, "worker", &task.worker);
        out.list(2, "volumes", &task.volumes);
        out.environment(2, &task.environment);
        out.line(2, "actions:");
        for action in &task.actions {
            out.line(3, "-");
            out.scalar(4, "name", &action.name);
            out.scalar(4, "image", &action.image);
            out.line(4, &format!("timeout: {}", action.timeout));
            if let Some(pid) = &action.pid {
                out.scalar(4, "pid", pid);
            }
            out.list(4, "command", &action.command);
            out.list(4, "on-timeout", &action.on_timeout);
            out.list(4, "on-failure", &action.on_failure);
            out.list(4, "volumes", &action.volumes);
            out.environment(4, &action.environment);
        }
    }
    out.text
}

#[derive(Default)]
struct Emitter {
    text: String,
}

impl Emitter {
    fn line(&mut self, depth: usize, text: &str) {
        // Writing to a String cannot fail.
        writeln!(self.text, "{}{text}", "  ".repeat(depth)).unwrap_or_default();
    }

    fn scalar(&mut self, depth: usize, key: &str, value: &str) {
        self.literal(depth, &format!("{key}:"), value);
    }

    fn list(&mut self, depth: usize, key: &str, items: &[String]) {
        if !items.is_empty() {
            self.line(depth, &format!("{key}:"));
        }
        for item in items {
            self.literal(depth + 1, "-", item);
        }
    }

    fn environment(&mut self, depth: usize, environment: &BTreeMap<String, String>) {
        if !environment.is_empty() {
            self.line(depth, "environment:");
        }
        for (key, value) in environment {
            self.literal(depth + 1, &format!("{key}:"), value);
        }
    }

    /// A literal block (YAML 1.2.2 section 8.1.2), with its indentation given, as the text may begin with blanks.
    fn literal(&mut self, depth: usize, before: &str, value: &str) {
        if value.chars().all(|c| c == '\n') {
            return self.line(depth, &format!("{before} \"{}\"", "\\n".repeat(value.len())));
        }
        let keep = match (value.strip_suffix('\n'), value.ends_with("\n\n")) {
            (None, _) => "-",
            (Some(_), false) => "",
            (Some(_), true) => "+",
        };
        self.line(depth, &format!("{before} |2{keep}"));
        let body = value.strip_suffix('\n').unwrap_or(value);
        for line in body.split('\n') {
            self.line(depth + 1, line);
        }
    }
}

#[cfg(test)]
mod tests;

// SPDX-License-Identifier: Apache-2.0

//! Configurations of machines: selector, operating system, image, users, settings of the system.

use api::anywhere::v1alpha1::{OsFamily, TinkerbellMachineConfig};

use super::Check;
use crate::{
    cluster::{PLACEHOLDER_KEY, Sourced},
    provider::bare_metal,
    syntax::{self, Minor, Url},
};

/// Suffixes that image2disk decompresses by.
const IMAGE_SUFFIXES: [&str; 8] = [".gz", ".xz", ".zst", ".zs", ".bz2", ".bzip2", ".img", ".raw"];

pub(super) fn check(check: &mut Check<'_>) {
    let file = check.file();
    for config in &file.machine_configs {
        selector(check, config);
        system(check, config);
        users(check, config);
        host(check, config);
    }
    families(check);
    images(check);
}

fn selector(check: &mut Check<'_>, config: &Sourced<TinkerbellMachineConfig>) {
    const FIELD: &str = "spec.hardwareSelector";
    let spec = &config.value.spec;
    match (&spec.hardware_affinity, spec.hardware_selector.len()) {
        (Some(_), 0) => affinity(check, config),
        (Some(_), _) => {
            let fix = "keep one of the two";
            check.wrong_in(config, ("selector-and-affinity", FIELD), "is there beside hardwareAffinity", fix);
        }
        (None, 1) => {}
        (None, 0) => {
            let fix = "write one label that rows of hardware.csv have, such as type: worker";
            check.wrong_in(config, ("no-selector", FIELD), "is missing", fix);
        }
        (None, count) => {
            let fix = "write one, or use hardwareAffinity for several";
            check.wrong_in(
                config,
                ("selector-keys", FIELD),
                format!("has {count} labels, and exactly one is allowed"),
                fix,
            );
        }
    }
    for (key, value) in &spec.hardware_selector {
        if !syntax::is_label_key(key) || !syntax::is_label_value(value) {
            let field = format!("{FIELD}.{key}");
            check.wrong_in(
                config,
                ("selector-label", &field),
                format!("{key}={value} is no label"),
                "write it as a row has it",
            );
        }
    }
}

fn affinity(check: &mut Check<'_>, config: &Sourced<TinkerbellMachineConfig>) {
    const FIELD: &str = "spec.hardwareAffinity";
    let Some(affinity) = &config.value.spec.hardware_affinity else { return };
    if affinity.required.is_empty() {
        let fix = "write at least one selector below required";
        check.wrong_in(config, ("affinity", &format!("{FIELD}.required")), "is missing", fix);
    }
    let required =
        affinity.required.iter().enumerate().map(|(n, term)| (format!("{FIELD}.required[{n}]"), term));
    let preferred = affinity.preferred.iter().enumerate();
    let preferred = preferred.map(|(n, one)| {
        (format!("{FIELD}.preferred[{n}].hardwareAffinityTerm"), &one.hardware_affinity_term)
    });
    for (field, term) in required.chain(preferred) {
        if let Err(problem) = bare_metal::selector(&term.label_selector) {
            let field = format!("{field}.labelSelector");
            check.wrong_in(
                config,
                ("affinity", &field),
                problem,
                "use In, NotIn, Exists or DoesNotExist, the first two with values",
            );
        }
    }
    for (number, one) in affinity.preferred.iter().enumerate() {
        if !(1..=100).contains(&one.weight) {
            let field = format!("{FIELD}.preferred[{number}].weight");
            check.wrong_in(
                config,
                ("affinity-weight", &field),
                format!("is {}", one.weight),
                "write a number from 1 to 100",
            );
        }
    }
}

fn system(check: &mut Check<'_>, config: &Sourced<TinkerbellMachineConfig>) {
    let field = "spec.osFamily";
    match config.value.spec.os_family {
        Some(OsFamily::Ubuntu | OsFamily::Redhat) => {}
        Some(OsFamily::Bottlerocket) => {
            let what = "there is no Bottlerocket for bare metal with any supported version of Kubernetes";
            check.wrong_in(config, ("os-family", field), what, "use ubuntu or redhat");
        }
        None => check.wrong_in(config, ("os-family", field), "is missing", "write ubuntu or redhat"),
    }
    if let Some(digest) =
        config.value.spec.os_image_digest.as_deref().filter(|digest| !syntax::is_digest(digest))
    {
        let fix = "write sha256: and 64 hexadecimal digits, of the decompressed image";
        check.wrong_in(config, ("digest", "spec.osImageDigest"), format!("{digest:?} is no digest"), fix);
    }
}

fn users(check: &mut Check<'_>, config: &Sourced<TinkerbellMachineConfig>) {
    let users = &config.value.spec.users;
    let [user] = users.as_slice() else {
        let what =
            if users.is_empty() { "is missing".to_owned() } else { format!("has {} users", users.len()) };
        check.wrong_in(config, ("users", "spec.users"), what, "write exactly one user with one public key");
        return;
    };
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let good = user.name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && user.name.len() <= 32
        && user.name.chars().all(inside);
    if !good {
        let what = format!("{:?} is no name of an account", user.name);
        let fix = "use at most 32 lower-case letters, digits, - and _, with a letter first";
        check.wrong_in(config, ("user-name", "spec.users[0].name"), what, fix);
    }
    let field = "spec.users[0].sshAuthorizedKeys";
    let [key] = user.ssh_authorized_keys.as_slice() else {
        let count = user.ssh_authorized_keys.len();
        let what = if count == 0 { "has no key".to_owned() } else { format!("has {count} keys") };
        check.wrong_in(config, ("ssh-keys", field), what, "write exactly one public key");
        return;
    };
    let field = format!("{field}[0]");
    let fix = "paste the line of your .pub file, such as ~/.ssh/id_ed25519.pub";
    if key == PLACEHOLDER_KEY {
        check.wrong_in(config, ("ssh-key", &field), "is not filled in", fix);
    } else if let Some(problem) = syntax::ssh_key_problem(key) {
        check.wrong_in(config, ("ssh-key", &field), problem, fix);
    }
}

fn host(check: &mut Check<'_>, config: &Sourced<TinkerbellMachineConfig>) {
    const FIELD: &str = "spec.hostOSConfiguration";
    let Some(host) = &config.value.spec.host_os_configuration else { return };
    if let Some(ntp) = &host.ntp_configuration {
        let field = format!("{FIELD}.ntpConfiguration.servers");
        if ntp.servers.is_empty() {
            check.wrong_in(
                config,
                ("ntp", &field),
                "is empty",
                "write at least one server, or remove ntpConfiguration",
            );
        }
        for (number, server) in ntp.servers.iter().enumerate().filter(|(_, server)| !syntax::is_host(server))
        {
            let field = format!("{field}[{number}]");
            check.wrong_in(
                config,
                ("ntp", &field),
                format!("{server:?} is no host"),
                "write a name or an address",
            );
        }
    }
    for (number, bundle) in host.cert_bundles.iter().enumerate() {
        let field = format!("{FIELD}.certBundles[{number}]");
        if bundle.name.is_empty() {
            check.wrong_in(config, ("cert-bundle", &format!("{field}.name")), "is empty", "write a name");
        }
        if !syntax::is_certificates(&bundle.data) {
            let fix = "paste the certificates as PEM, indented, after a |";
            check.wrong_in(config, ("cert-bundle", &format!("{field}.data")), "is no certificate", fix);
        }
    }
    if host.bottlerocket_configuration.is_some() {
        let field = format!("{FIELD}.bottlerocketConfiguration");
        check.wrong_in(config, ("bottlerocket", &field), "is for Bottlerocket alone", "remove it");
    }
}

/// All machines of a cluster have one family of operating systems.
fn families(check: &mut Check<'_>) {
    let file = check.file();
    let mut configs =
        file.machine_configs.iter().filter_map(|config| Some((config, config.value.spec.os_family?)));
    let Some((first, family)) = configs.next() else { return };
    for (config, other) in configs.filter(|(_, other)| *other != family) {
        let what = format!("is {}, that of {} is {}", other.as_str(), first.name(), family.as_str());
        check.wrong_in(
            config,
            ("os-family-differs", "spec.osFamily"),
            what,
            "use one family in the whole cluster",
        );
    }
}

/// Every machine has an image, from exactly one of the two places where it can stand.
fn images(check: &mut Check<'_>) {
    let file = check.file();
    let version = file.cluster.value.spec.kubernetes_version.as_deref().and_then(Minor::parse);
    let given = |url: &Option<String>| url.clone().filter(|url| !url.is_empty());
    let common = file.datacenter.as_ref().and_then(|datacenter| given(&datacenter.value.spec.os_image_url));
    if let (Some(datacenter), Some(url)) = (&file.datacenter, &common) {
        image(check, datacenter, url, version);
    }
    for config in &file.machine_configs {
        let field = "spec.osImageURL";
        match (given(&config.value.spec.os_image_url), &common) {
            (Some(_), Some(_)) => {
                let what = "is there beside that of the datacenter";
                check.wrong_in(
                    config,
                    ("image-twice", field),
                    what,
                    "keep one: for all in the datacenter, or in every machine configuration",
                );
            }
            (Some(url), None) => image(check, config, &url, version),
            (None, Some(_)) => {}
            (None, None) => {
                let fix =
                    "write the URL of the image into the datacenter, or into every machine configuration";
                match &file.datacenter {
                    Some(datacenter) if no_config_has_one(file) => {
                        check.wrong_in(datacenter, ("no-image", field), "is not filled in", fix);
                    }
                    _ => check.wrong_in(config, ("no-image", field), "is not filled in", fix),
                }
            }
        }
    }
}

fn no_config_has_one(file: &crate::cluster::ClusterFile) -> bool {
    let mut urls = file.machine_configs.iter().map(|config| config.value.spec.os_image_url.as_deref());
    urls.all(|url| url.unwrap_or_default().is_empty())
}

fn image<T>(check: &mut Check<'_>, document: &Sourced<T>, url: &str, version: Option<Minor>) {
    let field = "spec.osImageURL";
    let Some(parsed) = Url::parse(url) else {
        let fix = "write an http or https URL that machines reach, without an account in it";
        check.wrong_in(document, ("url", field), syntax::url_problem(url), fix);
        return;
    };
    let name = parsed.file_name();
    let plain = |text: &str| text.replace(['-', '.', '_'], "");
    if name.is_empty() {
        check.wrong_in(
            document,
            ("image-name", field),
            format!("{url:?} names no file"),
            "name the image itself",
        );
    } else if name.ends_with(".qcow2")
        || name.ends_with(".vmdk")
        || name.ends_with(".ova")
        || name.ends_with(".iso")
    {
        let what = format!("{name:?} is no raw disk image");
        check.wrong_in(document, ("image-format", field), what, "convert it to raw, and compress that");
    } else if !IMAGE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
        let place = document.place(field);
        let what = format!("{name:?} does not say how it is compressed");
        check.findings.warning(
            "image-suffix",
            place,
            what,
            "name it .gz, .xz, .zst, .bz2, or .img when it is plain",
        );
    } else if let Some(version) = version.filter(|version| !plain(url).contains(&plain(&version.to_string())))
    {
        let place = document.place(field);
        let what = format!("{name:?} does not say that it is for Kubernetes {version}");
        check.findings.warning(
            "image-version",
            place,
            what,
            "make sure that its kubeadm and kubelet are of that version",
        );
    }
}

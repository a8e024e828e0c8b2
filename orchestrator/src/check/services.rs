// SPDX-License-Identifier: Apache-2.0

//! Proxy and registry mirror: how machines reach what is outside.

use api::anywhere::v1alpha1::{ProxyConfiguration, RegistryMirrorConfiguration};

use super::Check;
use crate::syntax::{self, Url};

pub(super) fn check(check: &mut Check<'_>) {
    let spec = &check.file().cluster.value.spec;
    if let Some(proxy) = &spec.proxy_configuration {
        self::proxy(check, proxy);
    }
    if let Some(mirror) = &spec.registry_mirror_configuration {
        self::mirror(check, mirror);
    }
}

fn proxy(check: &mut Check<'_>, proxy: &ProxyConfiguration) {
    const FIELD: &str = "spec.proxyConfiguration";
    let both = [("httpProxy", proxy.http_proxy.as_deref()), ("httpsProxy", proxy.https_proxy.as_deref())];
    for (name, text) in both {
        let text = text.unwrap_or_default();
        // EKS Anywhere takes host:port without a scheme too.
        let good = Url::parse(text).is_some() || matches!(syntax::host_and_port(text), Some((_, Some(_))));
        if !good {
            let what = if text.is_empty() { "is missing".to_owned() } else { syntax::url_problem(text) };
            let fix = "write host:port or http://host:port, without an account in it";
            check.wrong("proxy", &format!("{FIELD}.{name}"), what, fix);
        }
    }
    for (number, item) in proxy.no_proxy.iter().enumerate() {
        if item.is_empty() || item.contains([' ', ',']) || item.contains("://") {
            let field = format!("{FIELD}.noProxy[{number}]");
            let what = format!("{item:?} is neither a host nor a network");
            check.wrong("no-proxy", &field, what, "write one name, address or network in each item");
        }
    }
    let file = check.file();
    if let Some(datacenter) = &file.datacenter
        && datacenter.value.spec.hook_images_url_path.as_deref().unwrap_or_default().is_empty()
    {
        let what = "is missing, and boot firmware knows no proxy";
        let fix = "put the in-memory operating system on a server that machines reach without the proxy, and name its folder";
        check.wrong_in(datacenter, ("hook-behind-proxy", "spec.hookImagesURLPath"), what, fix);
    }
}

fn mirror(check: &mut Check<'_>, mirror: &RegistryMirrorConfiguration) {
    const FIELD: &str = "spec.registryMirrorConfiguration";
    let endpoint = mirror.endpoint.as_deref().unwrap_or_default();
    if !syntax::is_host(endpoint) {
        let what = match endpoint {
            "" => "is missing".to_owned(),
            _ => format!("{endpoint:?} is neither a name nor an address"),
        };
        check.wrong(
            "mirror-endpoint",
            &format!("{FIELD}.endpoint"),
            what,
            "write the host alone, without scheme, port and path",
        );
    }
    if let Some(port) = mirror
        .port
        .as_deref()
        .filter(|port| port.parse::<u16>().is_ok_and(|port| port > 0) == port.is_empty())
    {
        check.wrong(
            "mirror-port",
            &format!("{FIELD}.port"),
            format!("{port:?} is no port"),
            "write \"443\", or leave it out",
        );
    }
    if mirror.authenticate == Some(true) {
        let fix = "let the mirror give images without an account, or bring the account in the image of the machines";
        check.doubt("not-acted-on", &format!("{FIELD}.authenticate"), "is kept, but not acted on yet", fix);
    }
    let ca = mirror.ca_cert_content.as_deref().unwrap_or_default();
    let field = format!("{FIELD}.caCertContent");
    if !ca.is_empty() && !syntax::is_certificates(ca) {
        check.wrong(
            "mirror-ca",
            &field,
            "is no certificate",
            "paste the certificate authority as PEM, indented, after a |",
        );
    } else if !ca.is_empty() && mirror.insecure_skip_verify == Some(true) {
        let what = "is not used, as insecureSkipVerify takes any certificate";
        check.doubt("mirror-insecure", &field, what, "remove insecureSkipVerify");
    }
    for (number, space) in mirror.oci_namespaces.iter().enumerate() {
        let field = format!("{FIELD}.ociNamespaces[{number}]");
        let host = space.registry.split('/').next().unwrap_or_default();
        if syntax::host_and_port(host).is_none() {
            let what = format!("{:?} is no registry", space.registry);
            check.wrong(
                "mirror-namespace",
                &format!("{field}.registry"),
                what,
                "write its host, such as public.ecr.aws",
            );
        }
    }
}

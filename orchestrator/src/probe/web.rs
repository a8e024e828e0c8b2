// SPDX-License-Identifier: Apache-2.0

//! Images and the in-memory operating system: are they there, and how large.

use std::{collections::BTreeSet, sync::Arc};

use api::anywhere::v1alpha1::{Arch, ProxyConfiguration};
use futures::{StreamExt as _, stream};
use reqwest::{
    Client, NoProxy, Proxy, StatusCode,
    header::{CONTENT_LENGTH, DATE},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::LIMIT;
use crate::{
    cluster::ClusterFile,
    finding::{Finding, Findings, Place},
    syntax::Url,
};

/// URLs that are asked at the same time.
const AT_ONCE: usize = 16;
/// Smaller than any operating system: it is an error page.
const SMALLEST_IMAGE: u64 = 1 << 20;
/// Certificates of a new cluster are not valid yet for a machine that is further behind.
const LARGEST_SKEW: u64 = 300;
/// Where most distributions keep the roots.
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A file that machines will fetch.
struct Wanted {
    place: Place,
    url: String,
    /// Whether it is fetched through the proxy, where there is one: firmware knows none.
    proxied: bool,
}

/// Asks for the head of every file.
pub(super) async fn all(file: &ClusterFile) -> Vec<Finding> {
    let mut findings = Findings::default();
    let proxy = file.cluster.value.spec.proxy_configuration.as_ref();
    let clients = client(None).and_then(|direct| Ok((direct, client(proxy)?)));
    let (direct, through) = match clients {
        Ok(clients) => clients,
        Err(problem) => {
            let place = Place::new("", 0, "this machine");
            findings.warning("urls-not-checked", place, problem, "look at the TLS settings of this machine");
            return findings.sorted();
        }
    };
    let answers = stream::iter(wanted(file)).map(|wanted| {
        let client = if wanted.proxied { &through } else { &direct };
        async move {
            let answer = client.head(&wanted.url).send().await;
            (wanted, answer)
        }
    });
    let mut answers = answers.buffer_unordered(AT_ONCE);
    let mut skewed = false;
    while let Some((wanted, answer)) = answers.next().await {
        match answer {
            Err(error) => {
                let what =
                    format!("{} cannot be fetched: {}", wanted.url, daemon::chain(&error.without_url()));
                let fix = "look at the server and the name; machines must reach it too";
                findings.error("url-unreachable", wanted.place, what, fix);
            }
            Ok(response) => {
                if !skewed && let Some(seconds) = skew(&response) {
                    skewed = true;
                    let place = Place::new("", 0, "clock of this machine");
                    let what = format!("differs from that of {} by {seconds} s", wanted.url);
                    findings.error(
                        "clock",
                        place,
                        what,
                        "set the clocks by NTP: certificates of the cluster hold from now on",
                    );
                }
                judge(&wanted, &response, &mut findings);
            }
        }
    }
    findings.sorted()
}

fn wanted(file: &ClusterFile) -> Vec<Wanted> {
    let configs = file.machine_configs.iter();
    let mut all: Vec<_> = configs
        .filter_map(|config| {
            image(config.place("spec.osImageURL"), config.value.spec.os_image_url.as_deref(), true)
        })
        .collect();
    let Some(datacenter) = &file.datacenter else { return all };
    let spec = &datacenter.value.spec;
    all.extend(image(datacenter.place("spec.osImageURL"), spec.os_image_url.as_deref(), true));
    all.extend(image(datacenter.place("spec.hookIsoURL"), spec.hook_iso_url.as_deref(), false));
    if let Some(folder) = spec.hook_images_url_path.as_deref().filter(|folder| !folder.is_empty()) {
        let configs = file.machine_configs.iter();
        let arches: BTreeSet<_> =
            configs.map(|config| config.value.spec.arch.unwrap_or(Arch::X86_64)).collect();
        for (arch, name) in arches.iter().flat_map(|arch| [(arch, "vmlinuz"), (arch, "initramfs")]) {
            let name = format!("{name}-{}", arch.as_str());
            let url = format!("{}/{name}", folder.trim_end_matches('/'));
            // Each of the files is a finding of its own.
            let mut place = datacenter.place("spec.hookImagesURLPath");
            place.field = format!("{} ({name})", place.field);
            all.extend(image(place, Some(&url), false));
        }
    }
    all
}

fn image(place: Place, url: Option<&str>, proxied: bool) -> Option<Wanted> {
    let url = url.filter(|url| Url::parse(url).is_some())?.to_owned();
    Some(Wanted { place, url, proxied })
}

fn judge(wanted: &Wanted, response: &reqwest::Response, findings: &mut Findings) {
    let url = &wanted.url;
    let status = response.status();
    let length =
        response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match (status, length) {
        // Some servers know no HEAD; that the file is there is not said by that.
        (StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED, _) => {
            let what =
                format!("{url}: the server does not tell whether it is there (HTTP {})", status.as_u16());
            findings.warning(
                "url-no-head",
                wanted.place.clone(),
                what,
                "fetch it by hand once, or use another server",
            );
        }
        (status, _) if !status.is_success() => {
            let what = format!("{url}: the server answers HTTP {}", status.as_u16());
            findings.error(
                "url-status",
                wanted.place.clone(),
                what,
                "correct the URL, or put the file there",
            );
        }
        (_, Some(length)) if length < SMALLEST_IMAGE => {
            let what = format!("{url}: {length} bytes are too few");
            findings.error(
                "url-size",
                wanted.place.clone(),
                what,
                "look at what the server sends; it may be a page about an error",
            );
        }
        (_, None) => {
            let what =
                format!("{url}: the server does not tell its length, so that a cut download is not noticed");
            findings.warning(
                "url-no-length",
                wanted.place.clone(),
                what,
                "use a server that sends Content-Length",
            );
        }
        (_, Some(_)) => {}
    }
}

/// By how much the clocks of the server and of this machine differ, when it is too much.
fn skew(response: &reqwest::Response) -> Option<u64> {
    let date = response.headers().get(DATE)?.to_str().ok()?;
    let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    let seconds = jiff::Timestamp::now().as_second().abs_diff(theirs.as_second());
    (seconds > LARGEST_SKEW).then_some(seconds)
}

/// What asks, through a proxy where one is named.
fn client(proxy: Option<&ProxyConfiguration>) -> Result<Client, String> {
    let mut roots = RootCertStore::empty();
    // Without any roots plain HTTP works all the same, and HTTPS says that it trusts nobody.
    let pem = std::fs::read(ROOTS).unwrap_or_default();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut builder = Client::builder().tls_backend_preconfigured(tls).http1_only().no_proxy().timeout(LIMIT);
    if let Some(proxy) = proxy {
        let direct = NoProxy::from_string(&proxy.no_proxy.join(","));
        for (secure, text) in [(false, &proxy.http_proxy), (true, &proxy.https_proxy)] {
            let Some(text) = text.as_deref().filter(|text| !text.is_empty()) else { continue };
            // EKS Anywhere takes host:port without a scheme too.
            let url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
            let way = if secure { Proxy::https(url) } else { Proxy::http(url) };
            builder = builder.proxy(way.map_err(|error| error.to_string())?.no_proxy(direct.clone()));
        }
    }
    builder.user_agent(concat!("tink/", env!("CARGO_PKG_VERSION"))).build().map_err(|error| error.to_string())
}

// SPDX-License-Identifier: Apache-2.0

//! The site: URLs of images, and how the in-memory operating system boots.

use super::Check;
use crate::syntax::{self, Url};

const URL_FIX: &str = "write an http or https URL that machines reach, without an account in it";

pub(super) fn check(check: &mut Check<'_>) {
    let file = check.file();
    let Some(datacenter) = &file.datacenter else { return };
    let spec = &datacenter.value.spec;
    let urls = [
        ("spec.osImageURL", spec.os_image_url.as_deref()),
        ("spec.hookImagesURLPath", spec.hook_images_url_path.as_deref()),
        ("spec.hookIsoURL", spec.hook_iso_url.as_deref()),
    ];
    for (field, text) in urls {
        if let Some(text) = text.filter(|text| !text.is_empty() && Url::parse(text).is_none()) {
            check.wrong_in(datacenter, ("url", field), syntax::url_problem(text), URL_FIX);
        }
    }
    if let Some(iso) = spec.hook_iso_url.as_deref().filter(|iso| !iso.is_empty()) {
        let field = "spec.hookIsoURL";
        if spec.iso_boot != Some(true) {
            let fix = "write isoBoot: true to boot from virtual media, or remove the URL";
            check.wrong_in(datacenter, ("iso-not-used", field), "is given, but isoBoot is not", fix);
        } else if Url::parse(iso).is_some_and(|url| !url.file_name().ends_with(".iso")) {
            check.wrong_in(
                datacenter,
                ("iso-name", field),
                format!("{iso:?} does not end in .iso"),
                "name the ISO itself",
            );
        }
    }
    if let Some(digest) = spec.os_image_digest.as_deref().filter(|digest| !syntax::is_digest(digest)) {
        let fix = "write sha256: and 64 hexadecimal digits, of the decompressed image";
        check.wrong_in(datacenter, ("digest", "spec.osImageDigest"), format!("{digest:?} is no digest"), fix);
    }
    if let Some(ca) = spec.bmc_ca_cert.as_deref().filter(|ca| !syntax::is_certificates(ca)) {
        let what = if ca.is_empty() { "is empty" } else { "is no certificate" };
        let fix = "paste the certificate authority of the BMCs as PEM, indented, after a |";
        check.wrong_in(datacenter, ("bmc-ca", "spec.bmcCACert"), what, fix);
    }
    let kept = [
        ("spec.isoBoot", spec.iso_boot == Some(true), "machines boot from the network: let DHCP reach them"),
        (
            "spec.hookImagesURLPath",
            spec.hook_images_url_path.as_deref().is_some_and(|url| !url.is_empty()),
            "name it in boots' settings, too: ipxe-http-script-osie-url",
        ),
        (
            "spec.skipLoadBalancerDeployment",
            spec.skip_load_balancer_deployment == Some(true),
            "remove it: the provisioner needs none",
        ),
    ];
    for (field, _, fix) in kept.into_iter().filter(|(_, is_there, _)| *is_there) {
        check.findings.warning("not-acted-on", datacenter.place(field), "is kept, but not acted on yet", fix);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What `--check-config` finds beyond settings that make no sense: files, certificates and interfaces that are not there.
//! It changes nothing and binds nothing.

use std::path::Path;

use daemon::tls::Identity;

use crate::config::Config;
use crate::files;

/// Every mistake, one line each; nothing when boots can start.
#[must_use]
pub fn check(config: &Config) -> Vec<String> {
    let mut mistakes: Vec<String> = files::missing(config).iter().map(ToString::to_string).collect();
    if let Some(https) = &config.https
        && let Err(error) = Identity::load(&https.certificate, &https.key)
    {
        mistakes.push(format!("tls-cert-file, tls-key-file: {error}"));
    }
    if let Some(interface) = config.dhcp.as_ref().and_then(|dhcp| dhcp.interface.as_ref())
        && !Path::new("/sys/class/net").join(interface).exists()
    {
        mistakes.push(format!("dhcp-bind-interface: this host has no interface {interface}"));
    }
    for interface in config.dhcp6.iter().flat_map(|dhcp| &dhcp.interfaces) {
        if !Path::new("/sys/class/net").join(interface).exists() {
            mistakes.push(format!("dhcpv6-bind-interface: this host has no interface {interface}"));
        }
    }
    let iso = config.iso.as_ref().and_then(|iso| iso.file.as_ref()).map(|file| ("iso-file", file));
    let images = config.images_dir.as_ref().map(|dir| ("images-dir", dir));
    let assets = config.pxe.assets.as_ref().map(|dir| ("tftp-asset-dir", dir));
    for (setting, path) in iso.into_iter().chain(images).chain(assets) {
        if let Err(error) = std::fs::metadata(path) {
            mistakes.push(format!("{setting}: {}: {error}", path.display()));
        }
    }
    mistakes
}

#[cfg(test)]
mod tests {
    use crate::config::tests::config;

    #[test]
    fn every_file_that_is_missing_is_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |flag: &str, name: &str| format!("--{flag}={}", dir.path().join(name).display());
        let flags = [
            format!("--boot-program-dir={}", dir.path().display()),
            at("hook-dir", "hook"),
            at("tls-cert-file", "crt"),
            at("tls-key-file", "key"),
            at("iso-file", "iso"),
            at("images-dir", "images"),
            at("tftp-asset-dir", "assets"),
            "--iso-enabled".to_owned(),
            "--dhcp-bind-interface=none0".to_owned(),
            "--dhcpv6-enabled".to_owned(),
            "--bind-address=::".to_owned(),
            "--public-ipv6=fd00::1".to_owned(),
            "--dhcpv6-bind-interface=lo,none6".to_owned(),
            "--ipxe-override-arch-mapping=7=other.efi".to_owned(),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let text = super::check(&config(&flags)).join("\n");
        for wanted in [
            "undionly.kpxe",
            "ipxe.efi",
            "snp-arm64.efi",
            "other.efi",
            "vmlinuz-x86_64",
            "initramfs-x86_64",
            "tls-cert-file",
            "none0",
            "no interface none6",
            "iso-file",
            "images-dir",
            "tftp-asset-dir",
        ] {
            assert!(text.contains(wanted), "{wanted} is missing in:\n{text}");
        }
        for name in ["undionly.kpxe", "ipxe.efi", "snp-arm64.efi"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let good = ["--ipxe-http-script-osie-url=http://elsewhere/", flags[0]];
        assert_eq!(super::check(&config(&good)), Vec::<String>::new());
    }
}

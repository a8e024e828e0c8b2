// SPDX-License-Identifier: Apache-2.0
//! What can be set about HTTP beyond its port: TLS, and how much one client gets, of which the latter is the same for TFTP.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use daemon::config::{Kind, Setting, Settings};

/// The settings.
pub(super) const SETTINGS: [Setting; 4] = [
    Setting::new(
        "tls-cert-file",
        "tls-cert-file",
        Kind::Path,
        "certificate chain in PEM form; with tls-key-file HTTPS is served too. Read again when it changes",
    ),
    Setting::new("tls-key-file", "tls-key-file", Kind::Path, "private key of that certificate in PEM form"),
    Setting::new("https-port", "https-port", Kind::Port, "port of HTTPS").with_default("7443"),
    Setting::new(
        "http-rate",
        "http-rate",
        Kind::Integer,
        "HTTP requests per second of one client, four times as many at once; 0 is no limit",
    )
    .with_default("1024"),
];

/// Most requests per second that can be told apart from no limit.
const MAX_RATE: u16 = u16::MAX / 4;

/// The HTTPS listener.
#[derive(Debug, Clone)]
pub struct HttpsConfig {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The certificate chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl HttpsConfig {
    /// Reads the settings, nothing when there is no certificate; mistakes are recorded in them.
    pub(super) fn from_settings(settings: &mut Settings, bind: IpAddr) -> Option<Self> {
        let listen = SocketAddr::new(bind, settings.get_or("https-port", 7443));
        match (settings.path("tls-cert-file"), settings.path("tls-key-file")) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(Self { listen, certificate, key }),
            (Some(_), None) => {
                settings.mistake("tls-key-file", "must be set where tls-cert-file is");
                None
            }
            (None, Some(_)) => {
                settings.mistake("tls-cert-file", "must be set where tls-key-file is");
                None
            }
        }
    }
}

/// Requests per second of one client by this setting; nothing is no limit.
pub(super) fn rate(settings: &mut Settings, setting: &str) -> Option<u16> {
    let rate = settings.get_or(setting, 1024_u16);
    if rate > MAX_RATE {
        settings.mistake(setting, "must be at most 16383; 0 is no limit");
    }
    (rate > 0).then_some(rate.min(MAX_RATE))
}

// SPDX-License-Identifier: Apache-2.0
//! What can be set about the files of machines that boot without iPXE, and what follows from it.

use std::path::PathBuf;

use daemon::config::{Kind, Setting, Settings};

use crate::files::is_name;
use crate::http::OWN_PATHS;

/// The settings.
pub(super) const SETTINGS: [Setting; 3] = [
    Setting::new(
        "tftp-asset-dir",
        "tftp-asset-dir",
        Kind::Path,
        "directory whose files TFTP serves where nothing else has the name: those of pxelinux, of a Raspberry Pi, or any other",
    ),
    Setting::new(
        "pxe-http-enabled",
        "pxe-http-enabled",
        Kind::Bool,
        "serve pxelinux configurations and tftp-asset-dir over HTTP too",
    )
    .with_default("false"),
    Setting::new("pxe-http-path-prefix", "pxe-http-path-prefix", Kind::Text, "path of these files over HTTP")
        .with_default("/tftp/"),
];

/// Files of machines that boot without iPXE.
#[derive(Debug, Clone)]
pub struct PxeConfig {
    /// The directory of the assets.
    pub assets: Option<PathBuf>,
    /// Where they are over HTTP, with a slash at both ends, unless they are not.
    pub http_prefix: Option<String>,
}

impl PxeConfig {
    /// Reads the settings; mistakes are recorded in them.
    pub(super) fn from_settings(settings: &mut Settings) -> Self {
        let (enabled, prefix) = (settings.bool("pxe-http-enabled"), settings.text("pxe-http-path-prefix"));
        let elements: Vec<&str> = prefix.trim_matches('/').split('/').collect();
        if !elements.iter().all(|element| is_name(element)) {
            settings
                .mistake("pxe-http-path-prefix", "must be a path of letters, digits, '.', '_', '-' and '+'");
        } else if elements.first().is_some_and(|first| OWN_PATHS.contains(first)) {
            let own = OWN_PATHS.join(", /");
            settings
                .mistake("pxe-http-path-prefix", format!("must not begin with a path of boots' own: /{own}"));
        }
        Self {
            assets: settings.path("tftp-asset-dir"),
            http_prefix: enabled.then(|| format!("/{}/", elements.join("/"))),
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What can be set about ISO images, and what follows from it.

use daemon::config::{Kind, Setting, Settings};
use url::Url;

use crate::iso::{HOOK_MARKER, IsoConfig};

/// The directory of images in the state directory.
pub(super) const IMAGES: &str = "boots-iso";
/// Shortest and longest marker, in bytes: one that is too short stands in an image by chance.
const MARKER: std::ops::RangeInclusive<usize> = 32..=8192;

/// The settings.
pub(super) const SETTINGS: [Setting; 6] = [
    Setting::new("iso-enabled", "iso-enabled", Kind::Bool, "serve ISO images to virtual media, under /iso")
        .with_default("false"),
    Setting::new(
        "iso-upstream-url",
        "iso-upstream-url",
        Kind::Url,
        "image of machines whose Hardware names none (isoboot.sourceISO)",
    ),
    Setting::new(
        "iso-file",
        "iso-file",
        Kind::Path,
        "image of these machines in a file here, instead of a URL",
    ),
    Setting::new(
        "iso-patch-magic-string",
        "iso-patch-magic-string",
        Kind::Text,
        "text in images that the kernel arguments of a machine replace; HookOS's when unset",
    ),
    Setting::new(
        "iso-static-ipam-enabled",
        "iso-static-ipam-enabled",
        Kind::Bool,
        "give machines that boot an image their addresses as a kernel argument (ipam=)",
    )
    .with_default("false"),
    Setting::new(
        "iso-cache-size",
        "iso-cache-size",
        Kind::Integer,
        "MiB of images that are kept in boots-iso of the state directory",
    )
    .with_default("4096"),
];

impl IsoConfig {
    /// Reads the settings, nothing when images are off; mistakes are recorded in them.
    pub(super) fn from_settings(settings: &mut Settings) -> Option<Self> {
        let upstream: Option<Url> = settings.get("iso-upstream-url");
        if upstream.as_ref().is_some_and(|url| !matches!(url.scheme(), "http" | "https")) {
            settings.mistake("iso-upstream-url", "must be of http or https; iso-file is for files");
        }
        let file = settings.path("iso-file");
        if upstream.is_some() && file.is_some() {
            settings.mistake("iso-file", "excludes iso-upstream-url");
        }
        let marker = settings.get_or("iso-patch-magic-string", HOOK_MARKER.to_owned());
        if !MARKER.contains(&marker.len()) {
            settings.mistake("iso-patch-magic-string", "must have from 32 to 8192 bytes");
        }
        let size = settings.get_or("iso-cache-size", 4096_u64);
        if size == 0 {
            settings.mistake("iso-cache-size", "must not be 0");
        }
        let state_dir = settings.path("state-dir");
        let config = Self {
            upstream,
            file,
            marker,
            static_ipam: settings.bool("iso-static-ipam-enabled"),
            dir: daemon::state_dir(state_dir).join(IMAGES),
            limit: size.saturating_mul(1 << 20),
        };
        settings.bool("iso-enabled").then_some(config)
    }
}

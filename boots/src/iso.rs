// SPDX-License-Identifier: Apache-2.0
//! ISO images for machines that boot from virtual media: one image, with the kernel arguments of each machine in it.
//!
//! A BMC reads an image in thousands of small ranges, in any order. Each is answered from a file of ours: an image of an
//! upstream server is kept on the disk (`cache`), one of ours is a file already. The machine is the MAC in the path. The
//! image comes from where its Hardware or the configuration says, and from nowhere else: nothing that a client sends
//! names a URL or a file.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::Stream;
use http::StatusCode;
use thiserror::Error;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use url::Url;

use crate::backend::Found;
use crate::boot::{Answer, Decision, Protocol};
use crate::scripts::{Scripts, mac_in};

mod cache;
mod image;
pub mod marker;
mod text;

use cache::Cache;
use image::Image;
pub use marker::HOOK_MARKER;
use marker::{Patch, TooLong};
use text::Addressing;

/// What is served to virtual media.
#[derive(Debug, Clone)]
pub struct IsoConfig {
    /// The image of machines whose Hardware names none.
    pub upstream: Option<Url>,
    /// A file of ours instead of that.
    pub file: Option<PathBuf>,
    /// What stands in images where the kernel arguments of a machine go.
    pub marker: String,
    /// Whether machines get their addresses as a kernel argument.
    pub static_ipam: bool,
    /// Where images of upstream servers are kept.
    pub dir: PathBuf,
    /// Bytes of them.
    pub limit: u64,
}

/// Why a machine gets no image. A BMC tries again by itself.
#[derive(Debug, Clone, Error)]
pub(crate) enum IsoError {
    /// The path does not end in `.iso`.
    #[error("not an image")]
    NotIso,
    /// The element before the last of the path is no MAC.
    #[error("the path names no machine")]
    NoMachine,
    /// No machine, or more than one, has that MAC.
    #[error("no machine has that MAC")]
    Unknown,
    /// Neither the Hardware nor the configuration says where the image is.
    #[error("no image: neither isoboot.sourceISO of the Hardware nor iso-upstream-url nor iso-file is set")]
    NoSource,
    /// The arguments of the machine do not fit.
    #[error(transparent)]
    TooLong(#[from] TooLong),
    /// Too many requests wait.
    #[error("too many requests for images")]
    Busy,
    /// Upstream failed lately, or its image is cut.
    #[error("upstream does not send the image")]
    Upstream,
    /// Upstream cannot be reached.
    #[error("upstream cannot be asked")]
    Http(#[source] Arc<reqwest::Error>),
    /// Upstream refuses.
    #[error("upstream says {0}")]
    Status(StatusCode),
    /// The image is larger than what may be kept.
    #[error("the image is larger than iso-cache-size")]
    TooLarge,
    /// The disk fails.
    #[error("the image cannot be kept or read")]
    Disk(#[source] Arc<io::Error>),
}

impl IsoError {
    /// The status that a BMC is told.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotIso | Self::Unknown => StatusCode::NOT_FOUND,
            Self::NoMachine | Self::NoSource => StatusCode::BAD_REQUEST,
            Self::TooLong(_) | Self::Disk(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Upstream | Self::Http(_) | Self::Status(_) | Self::TooLarge => StatusCode::BAD_GATEWAY,
        }
    }
}

/// All images.
#[derive(Clone)]
pub(crate) struct Isos {
    config: Arc<IsoConfig>,
    cache: Cache,
    local: Arc<Mutex<Local>>,
    scripts: Scripts,
}

/// Our own file as it was last seen.
#[derive(Debug, Default)]
struct Local {
    identity: String,
    image: Arc<OnceCell<Image>>,
}

/// An image for one machine.
#[derive(Debug)]
pub(crate) struct Iso {
    pub(crate) size: u64,
    /// Changes with the image and with what is put into it.
    pub(crate) etag: String,
    image: Image,
    patch: Arc<Patch>,
}

impl Iso {
    /// The bytes from `first`, `length` of them.
    pub(crate) fn read(
        &self,
        first: u64,
        length: u64,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        self.image.clone().read(Arc::clone(&self.patch), first, length)
    }
}

impl Isos {
    /// Starts the task that keeps upstream's images.
    ///
    /// # Errors
    ///
    /// When their directory cannot be made.
    pub(crate) fn spawn(config: IsoConfig, scripts: Scripts) -> io::Result<(Self, JoinHandle<()>)> {
        let (cache, task) = Cache::spawn(&config.dir, config.limit, config.marker.as_bytes().into())?;
        Ok((Self { config: Arc::new(config), cache, local: Arc::default(), scripts }, task))
    }

    /// The image for a request.
    ///
    /// # Errors
    ///
    /// See [`IsoError`].
    pub(crate) async fn open(&self, path: &str) -> Result<Iso, IsoError> {
        if !path.ends_with(".iso") {
            return Err(IsoError::NotIso);
        }
        mac_in(path).ok_or(IsoError::NoMachine)?;
        let asking = self.scripts.asking(path, None).map_err(|_| IsoError::Unknown)?;
        let (found, decision) = (&asking.found, asking.decide(Protocol::Iso));
        let Answer::Image(own) = decision.answer else { return Err(IsoError::Unknown) };
        let image = match (own, &self.config.upstream, &self.config.file) {
            (Some(url), _, _) | (None, Some(url), _) => self.cache.get(url).await?,
            (None, None, Some(file)) => self.local(file).await?,
            (None, None, None) => return Err(IsoError::NoSource),
        };
        let patch = self.patch(found, decision)?;
        let size = image.size().await.map_err(|error| IsoError::Disk(Arc::new(error)))?;
        self.scripts.journal.iso(found, size, image.markers());
        let etag = format!("\"{}-{:08x}\"", image.identity, crc32fast::hash(patch.bytes()));
        Ok(Iso { size, etag, image, patch: Arc::new(patch) })
    }

    fn patch(&self, found: &Found, decision: Decision<'_>) -> Result<Patch, IsoError> {
        let addressing = if self.config.static_ipam { Addressing::Static } else { Addressing::Dhcp };
        let token = self.scripts.token(found, decision);
        let (machine, nic) = (&found.machine, found.nic());
        let config = match (&self.scripts.v6, nic.address()) {
            (Some(v6), Some(IpAddr::V6(_))) => &v6.config,
            _ => &self.scripts.v4.config,
        };
        let text = text::arguments(machine, nic, config, addressing, token.as_deref());
        Ok(Patch::new(&text, self.config.marker.len())?)
    }

    /// Our own file, whose markers are looked for once as long as it stays the same.
    async fn local(&self, path: &Path) -> Result<Image, IsoError> {
        let disk = |error| IsoError::Disk(Arc::new(error));
        let metadata = tokio::fs::metadata(path).await.map_err(disk)?;
        let (inode, size, at) = (metadata.ino(), metadata.size(), metadata.mtime_nsec());
        let identity = format!("{inode:x}-{size:x}-{:x}-{at:x}", metadata.mtime());
        let cell = {
            let mut local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
            if local.identity != identity {
                *local = Local { identity: identity.clone(), image: Arc::default() };
            }
            Arc::clone(&local.image)
        };
        let (path, marker) = (path.to_owned(), self.config.marker.clone());
        let scan = async || {
            let scan = move || Image::scan(File::open(path)?, identity, marker.as_bytes());
            tokio::task::spawn_blocking(scan).await.map_err(io::Error::other).flatten()
        };
        cell.get_or_try_init(scan).await.cloned().map_err(disk)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::tests::config;
    use crate::machine::tests::hardware;
    use crate::scripts::tests::scripts;

    #[tokio::test]
    async fn a_machine_with_an_address_of_ipv6_is_told_what_is_there_over_ipv6() {
        daemon::install_crypto();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hook.iso");
        std::fs::write(&file, HOOK_MARKER).unwrap();
        let flags = [
            format!("--state-dir={}", dir.path().display()),
            format!("--iso-file={}", file.display()),
            "--iso-enabled".to_owned(),
            "--dhcpv6-enabled".to_owned(),
            "--public-ipv6=fd00::1".to_owned(),
            "--bind-address=::".to_owned(),
        ];
        let flags = flags.each_ref().map(String::as_str);
        for (address, netmask, expected) in [
            ("172.31.0.11", json!("255.255.255.0"), "172.31.0.1"),
            ("2001:db8::11", json!(null), "[fd00::1]"),
        ] {
            let ip = json!({ "address": address, "netmask": netmask, "gateway": null });
            let machine = hardware(&json!({ "dhcp": { "ip": ip }, "netboot": { "allowPXE": false } }));
            let (isos, _) = Isos::spawn(config(&flags).iso.unwrap(), scripts(&flags, &[machine])).unwrap();
            let iso = isos.open("52:54:00:00:00:11/hook.iso").await.unwrap();
            let text = String::from_utf8(iso.patch.bytes().to_vec()).unwrap();
            assert!(text.contains(&format!(" grpc_authority={expected}:42113 ")), "{address}: {text}");
        }
    }
}

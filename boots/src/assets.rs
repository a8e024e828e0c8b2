// SPDX-License-Identifier: Apache-2.0
//! The files of machines that boot without iPXE: pxelinux's configuration of a machine, the files of a Raspberry Pi's own boot
//! loader, and what an operator puts below one directory (`tftp-asset-dir`). Tinkerbell's routes after boot programs and scripts.
//!
//! They go to whoever asks, as boot programs do: nothing of them is secret. But pxelinux on a machine that may not boot from the
//! network is told to leave for the disk, and a Raspberry Pi gets no file then. A name from a client is a path below the directory that no element and no link of it
//! leaves, or it does not exist. Called by the TFTP and HTTP servers.

use std::fs::{File, Metadata};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use api::Mac;
use bytes::Bytes;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::backend::watch::Backend;
use crate::boot::{Answer, Protocol, answer};
use crate::journal::Journal;
use crate::machine::{Nic, Rpi};
use crate::script::word;

/// Directory and prefix of pxelinux configurations; 01 is the hardware type Ethernet.
const PXELINUX: &str = "pxelinux.cfg/01-";
/// Longest path, as long as Linux has one (`PATH_MAX`).
const MAX_PATH: usize = 4096;

/// What is served.
#[derive(Clone)]
pub(crate) struct Assets {
    pub(crate) backend: Backend,
    pub(crate) journal: Journal,
    /// Nothing where no directory is configured.
    pub(crate) dir: Option<Arc<Path>>,
}

/// What is behind a name.
#[derive(Debug)]
pub(crate) enum Asset {
    /// A text of the Hardware.
    Text(Bytes),
    /// A file of the directory.
    File(File, Metadata),
}

/// What a Raspberry Pi is given.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PiFile {
    /// A text of its Hardware.
    Text(String),
    /// A path below the directory.
    Asset(String),
    /// None at all: it may not boot from the network.
    Refused,
}

impl Assets {
    /// What is behind a path without a slash at its beginning, for a machine at this address.
    pub(crate) async fn find(&self, path: &str, client: Option<IpAddr>) -> Option<Asset> {
        if let Some(text) = self.pxelinux(path) {
            return Some(Asset::Text(text));
        }
        match self.pi_file(path, client) {
            Some(PiFile::Text(text)) => Some(Asset::Text(text.into())),
            Some(PiFile::Asset(path)) => self.open(&path).await,
            Some(PiFile::Refused) => None,
            None => self.open(path).await,
        }
    }

    /// The same without the files of a Raspberry Pi, which are for its own boot loader over TFTP.
    pub(crate) async fn find_common(&self, path: &str) -> Option<Asset> {
        match self.pxelinux(path) {
            Some(text) => Some(Asset::Text(text)),
            None => self.open(path).await,
        }
    }

    /// The configuration of the machine with the MAC in the path.
    fn pxelinux(&self, path: &str) -> Option<Bytes> {
        let mac = pxelinux_mac(path)?;
        let found = self.backend.read().by_mac(mac).ok()?;
        match answer(found.nic(), Protocol::Pxelinux) {
            Answer::Configuration(text) => Some(text.to_owned().into()),
            Answer::NotAllowed => {
                self.journal.refused(&found);
                Some(leave(&found.machine.name).into())
            }
            _ => None,
        }
    }

    fn pi_file(&self, path: &str, client: Option<IpAddr>) -> Option<PiFile> {
        self.dir.as_ref()?;
        let found = self.backend.read().by_address(client?).ok()?;
        let file = pi_file(found.nic(), path);
        if file == Some(PiFile::Refused) {
            self.journal.refused(&found);
        }
        file
    }

    async fn open(&self, path: &str) -> Option<Asset> {
        let (dir, below) = (Arc::clone(self.dir.as_ref()?), path.to_owned());
        let opened = tokio::task::spawn_blocking(move || open(&dir, &below)).await;
        match opened.map_err(io::Error::other).flatten() {
            Ok((file, metadata)) => Some(Asset::File(file, metadata)),
            Err(error) => {
                tracing::debug!(path, %error, "no such asset");
                None
            }
        }
    }
}

/// The MAC that a path of pxelinux names.
pub(crate) fn pxelinux_mac(path: &str) -> Option<Mac> {
    path.strip_prefix(PXELINUX).filter(|mac| mac.len() == 17)?.parse().ok()
}

/// Opens a regular file below a directory. The kernel sees to it that neither `..` nor a link leads out of it, whoever changes
/// the directory meanwhile.
fn open(dir: &Path, path: &str) -> io::Result<(File, Metadata)> {
    if path.len() > MAX_PATH || !path.split('/').all(is_element) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let dir =
        rustix::fs::openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // Without O_NONBLOCK opening a FIFO would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve)?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok((file, metadata))
}

/// Whether a text can be one element of a path: not one with a meaning of its own, and nothing that a terminal would act on.
fn is_element(text: &str) -> bool {
    !matches!(text, "" | "." | "..") && !text.chars().any(char::is_control)
}

/// What pxelinux runs on a machine that may not boot from the network: it says so and boots the local disk.
fn leave(name: &str) -> String {
    format!(
        "SAY Tinkerbell: {} may not boot from the network (netboot.allowPXE), going on with the disk\n\
         DEFAULT local\nLABEL local\n  LOCALBOOT 0\n",
        word(name)
    )
}

/// The file that a Raspberry Pi asks for in the folder of its serial number. Nothing for a path elsewhere; a text that its
/// Hardware does not have is a file of its firmware's folder. One that may not boot gets none from elsewhere either, where it
/// looks next.
fn pi_file(nic: &Nic, path: &str) -> Option<PiFile> {
    let Rpi { serial, firmware, config } = match answer(nic, Protocol::RaspberryPi) {
        Answer::Files(rpi) => rpi,
        Answer::NotAllowed if nic.boot.rpi.is_some() => return Some(PiFile::Refused),
        _ => return None,
    };
    let rest = path.strip_prefix(serial.as_str())?.strip_prefix('/')?;
    let text = match rest {
        "config.txt" => config.clone(),
        "cmdline.txt" => nic.boot.kernel_args.join(" "),
        _ => String::new(),
    };
    if text.is_empty() { Some(PiFile::Asset(format!("{firmware}/{rest}"))) } else { Some(PiFile::Text(text)) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use api::v1alpha1::Hardware;
    use serde_json::json;

    use super::*;
    use crate::journal::tests::journal;
    use crate::machine::tests::{hardware, nic};

    /// What these machines get from this directory, as text.
    async fn text(assets: &Assets, path: &str, client: &str) -> Option<String> {
        match assets.find(path, Some(client.parse().unwrap())).await? {
            Asset::Text(text) => Some(String::from_utf8(text.into()).unwrap()),
            Asset::File(file, _) => Some(io::read_to_string(file).unwrap()),
        }
    }

    fn assets(dir: &Path, machine: &Hardware) -> Assets {
        let backend = Backend::default();
        backend.change(|index| drop(index.apply_hardware(machine)));
        Assets { backend, journal: journal(), dir: Some(dir.into()) }
    }

    #[tokio::test]
    async fn pxelinux_boots_the_disk_of_a_machine_that_may_not_boot_from_the_network() {
        let dir = tempfile::tempdir().unwrap();
        let path = "pxelinux.cfg/01-52-54-00-00-00-11";
        std::fs::create_dir(dir.path().join("pxelinux.cfg")).unwrap();
        std::fs::write(dir.path().join(path), "a file").unwrap();
        let local = "SAY Tinkerbell: m1 may not boot from the network (netboot.allowPXE), going on with the disk\n\
                     DEFAULT local\nLABEL local\n  LOCALBOOT 0\n";
        for (netboot, expected) in [
            (json!({ "pxelinux": { "config": "DEFAULT x" } }), "DEFAULT x"),
            (json!({ "pxelinux": { "config": "DEFAULT x" }, "allowPXE": false }), local),
            (json!({}), "a file"),
            (json!({ "allowPXE": false }), local),
        ] {
            let assets = assets(dir.path(), &hardware(&json!({ "netboot": netboot })));
            assert_eq!(text(&assets, path, "172.31.0.99").await.as_deref(), Some(expected), "{netboot}");
        }
    }

    #[tokio::test]
    async fn a_raspberry_pi_that_may_not_boot_gets_no_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("rpi4")).unwrap();
        std::fs::write(dir.path().join("rpi4/start4.elf"), "its own").unwrap();
        std::fs::write(dir.path().join("start4.elf"), "anybody's").unwrap();
        let rpi = json!({ "serialNum": "5dcc45e5", "firmwarePath": "rpi4", "configTxt": "a=1" });
        let pi = |allowed: bool| hardware(&json!({ "netboot": { "rpi": rpi, "allowPXE": allowed } }));
        let (allowed, refused) = (assets(dir.path(), &pi(true)), assets(dir.path(), &pi(false)));
        for (path, expected) in
            [("5dcc45e5/config.txt", "a=1"), ("5dcc45e5/start4.elf", "its own"), ("start4.elf", "anybody's")]
        {
            assert_eq!(text(&allowed, path, "172.31.0.11").await.as_deref(), Some(expected), "{path}");
            assert_eq!(text(&refused, path, "172.31.0.11").await, None, "{path}");
        }
        assert_eq!(text(&refused, "start4.elf", "172.31.0.12").await.as_deref(), Some("anybody's"));
    }

    #[test]
    fn traversal_by_paths_and_links_is_impossible() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("served");
        std::fs::create_dir_all(dir.join("rpi/overlays")).unwrap();
        let secret = outer.path().join("secret");
        std::fs::write(&secret, "s").unwrap();
        std::fs::write(dir.join("rpi/overlays/a.dtbo"), "a").unwrap();
        std::fs::write(dir.join("rpi/.treeinfo"), "t").unwrap();
        symlink("overlays/a.dtbo", dir.join("rpi/inside")).unwrap();
        symlink("../../secret", dir.join("rpi/outside")).unwrap();
        symlink(&secret, dir.join("rpi/absolute")).unwrap();
        symlink("/proc/self/root", dir.join("rpi/magic")).unwrap();
        let fifo = dir.join("rpi/fifo");
        rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        for path in ["rpi/overlays/a.dtbo", "rpi/inside", "rpi/.treeinfo"] {
            assert_eq!(open(&dir, path).unwrap().1.len(), 1, "{path}");
        }
        let deep = ["rpi"; MAX_PATH].join("/");
        for path in [
            "../secret",
            "rpi/../../secret",
            "rpi/../rpi/inside",
            "/rpi/inside",
            "rpi//inside",
            "rpi/./inside",
            "rpi/outside",
            "rpi/absolute",
            "rpi/magic/etc/passwd",
            "rpi/fifo",
            "rpi",
            "rpi/",
            "",
            ".",
            "..",
            "rpi/inside\0",
            "rpi/missing",
            &deep,
        ] {
            assert!(open(&dir, path).is_err(), "{path:?}");
        }
        assert!(open(&outer.path().join("none"), "a").is_err(), "a directory that is gone has no files");
    }

    #[test]
    fn a_raspberry_pi_has_its_texts_and_its_firmware() {
        let pi = |arguments: &[&str]| {
            let rpi =
                json!({ "serialNum": "5dcc45e5", "firmwarePath": "rpi4", "configTxt": "arm_64bit=1\n" });
            nic(&json!({ "netboot": { "rpi": rpi, "osie": { "kernelParams": arguments } } }))
        };
        let whole = pi(&["a=1", "b"]);
        let text = |text: &str| Some(PiFile::Text(text.to_owned()));
        let asset = |path: &str| Some(PiFile::Asset(path.to_owned()));
        for (path, expected) in [
            ("5dcc45e5/config.txt", text("arm_64bit=1\n")),
            ("5dcc45e5/cmdline.txt", text("a=1 b")),
            ("5dcc45e5/start4.elf", asset("rpi4/start4.elf")),
            ("5dcc45e5/overlays/x.dtbo", asset("rpi4/overlays/x.dtbo")),
            ("5dcc45e5/../secret", asset("rpi4/../secret")),
            ("5dcc45e5", None),
            ("5dcc45e", None),
            ("config.txt", None),
            ("other/config.txt", None),
        ] {
            assert_eq!(pi_file(&whole, path), expected, "{path}");
        }
        assert_eq!(
            pi_file(&pi(&[]), "5dcc45e5/cmdline.txt"),
            asset("rpi4/cmdline.txt"),
            "an empty text falls through"
        );
        assert_eq!(pi_file(&nic(&json!({})), "5dcc45e5/config.txt"), None);
    }

    #[test]
    fn pxelinux_asks_by_the_hardware_type_and_the_mac() {
        let mac = Some("52:54:00:00:00:ab".parse().unwrap());
        assert_eq!(pxelinux_mac("pxelinux.cfg/01-52-54-00-00-00-ab"), mac);
        assert_eq!(pxelinux_mac("pxelinux.cfg/01-52-54-00-00-00-AB"), mac);
        for path in [
            "pxelinux.cfg/06-52-54-00-00-00-ab",
            "pxelinux.cfg/01-52-54-00-00-00-ab0",
            "pxelinux.cfg/01-525400000ab",
            "pxelinux.cfg/AC1F000B",
            "x/pxelinux.cfg/01-52-54-00-00-00-ab",
        ] {
            assert_eq!(pxelinux_mac(path), None, "{path}");
        }
    }
}

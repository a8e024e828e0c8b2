// SPDX-License-Identifier: Apache-2.0
//! What is served from disk: boot programs, kept in memory, and the directories behind `/hook` and `/images`.
//!
//! Checked at start, so that what is missing is said by name before a machine stumbles over it. A name from a client is a
//! key: it is one path element of harmless characters, or it does not exist. Called by the TFTP and HTTP servers.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::config::Config;
use crate::iso::marker::{Patch, Scanner};

/// Largest boot program; iPXE has one megabyte.
const MAX_PROGRAM: u64 = 16 << 20;
/// Programs of the default table that must be there.
const REQUIRED: [&str; 3] = ["undionly.kpxe", "ipxe.efi", "snp-arm64.efi"];
/// Kernel and initramfs that must be there when scripts point to `/hook`.
const HOOK: [&str; 2] = ["vmlinuz-x86_64", "initramfs-x86_64"];

/// Where Tinkerbell's iPXE programs have room for commands of an operator, in the script that is built into them; a constant of
/// them.
pub(crate) const SCRIPT_MARKER: &str = "#a8b7e61f1075c37a793f2f92cee89f7bba00c4a8d7842ce3d40b5889032d8881\n\
                                        #ddd16a4fc4926ecefdfb6941e33c44ed3647133638f5e84021ea44d3152e7f97";

/// What is missing at start. Not retried: `./x build` makes it.
#[derive(Debug, Error)]
pub enum FilesError {
    /// A setting that names a directory is not set.
    #[error("{setting} is not set: run `./x build`, then name the directory that it prints")]
    Unset {
        /// Name of the setting.
        setting: &'static str,
    },
    /// Files are missing or cannot be read.
    #[error("{} cannot be used ({reason}): run `./x build` to make it, or correct {setting}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// Name of the setting.
        setting: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// Boot programs by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Programs {
    by_name: Arc<BTreeMap<String, Program>>,
}

/// A boot program.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) bytes: Bytes,
    /// Changes with the bytes.
    pub(crate) etag: String,
}

impl From<Bytes> for Program {
    fn from(bytes: Bytes) -> Self {
        let etag = format!("\"{:x}-{:08x}\"", bytes.len(), crc32fast::hash(&bytes));
        Self { bytes, etag }
    }
}

impl Programs {
    /// Reads all boot programs of a directory.
    ///
    /// # Errors
    ///
    /// When one of the contract, or of the configured mapping, is missing.
    pub(crate) fn read(config: &Config) -> Result<Self, FilesError> {
        let setting = "boot-program-dir";
        let dir = config.boot_program_dir.as_deref().ok_or(FilesError::Unset { setting })?;
        let missing =
            |path: &Path, reason: String| FilesError::Missing { path: path.into(), setting, reason };
        // The configuration has refused one that is longer than the marker.
        let patch = config.script.patch.as_deref();
        let patch = patch.and_then(|patch| Patch::new(patch, SCRIPT_MARKER.len()).ok());
        let mut by_name = BTreeMap::new();
        let entries = std::fs::read_dir(dir).map_err(|error| missing(dir, error.to_string()))?;
        for entry in entries.flatten() {
            let path = entry.path();
            let Some(name) = entry.file_name().to_str().filter(|name| is_name(name)).map(str::to_owned)
            else {
                continue;
            };
            match std::fs::metadata(&path) {
                Ok(meta) if meta.is_file() && meta.len() <= MAX_PROGRAM => {
                    let mut bytes =
                        std::fs::read(&path).map_err(|error| missing(&path, error.to_string()))?;
                    if let Some(patch) = &patch
                        && !patch_script(&mut bytes, patch)
                    {
                        tracing::warn!(name, "a boot program has no place for ipxe-embedded-script-patch");
                    }
                    by_name.insert(name, Bytes::from(bytes).into());
                }
                _ => tracing::debug!(path = %path.display(), "not a boot program"),
            }
        }
        let mapped = config.programs.values().map(String::as_str);
        if let Some(name) = REQUIRED.into_iter().chain(mapped).find(|name| !by_name.contains_key(*name)) {
            return Err(missing(&dir.join(name), "it is not there".to_owned()));
        }
        Ok(Self { by_name: Arc::new(by_name) })
    }

    /// The program that the last element of a path names, a trace suffix ignored.
    pub(crate) fn get(&self, path: &str) -> Option<(&str, Bytes)> {
        self.find(path).map(|(name, program)| (name, program.bytes.clone()))
    }

    /// The same with its ETag.
    pub(crate) fn find(&self, path: &str) -> Option<(&str, &Program)> {
        let name = path.rsplit('/').next()?;
        let found = self.by_name.get_key_value(name).or_else(|| {
            let name = without_trace(name)?;
            self.by_name.get_key_value(name)
        });
        found.map(|(name, program)| (name.as_str(), program))
    }

    /// Bytes of each program.
    pub(crate) fn sizes(&self) -> BTreeMap<String, u64> {
        self.by_name.iter().map(|(name, program)| (name.clone(), program.bytes.len() as u64)).collect()
    }

    /// Programs from memory.
    #[cfg(test)]
    pub(crate) fn from_memory(programs: &[(&str, &'static [u8])]) -> Self {
        let program = |bytes| Program::from(Bytes::from_static(bytes));
        let by_name = programs.iter().map(|(name, bytes)| ((*name).to_owned(), program(bytes)));
        Self { by_name: Arc::new(by_name.collect()) }
    }
}

/// Puts commands into the script that is built into a boot program; false when it has no place for them, as one that is
/// compressed or not Tinkerbell's.
fn patch_script(program: &mut [u8], patch: &Patch) -> bool {
    let mut scanner = Scanner::new(SCRIPT_MARKER.as_bytes());
    if scanner.push(program).is_err() {
        return false;
    }
    patch.apply(scanner.found(), 0, program);
    !scanner.found().is_empty()
}

/// Every file that is missing, of boot programs and of HookOS.
pub(crate) fn missing(config: &Config) -> Vec<FilesError> {
    let mut missing = Vec::new();
    match &config.boot_program_dir {
        None => missing.push(FilesError::Unset { setting: "boot-program-dir" }),
        Some(dir) => {
            let names = REQUIRED.into_iter().chain(config.programs.values().map(String::as_str));
            missing.extend(names.filter_map(|name| file(dir, name, "boot-program-dir").err()));
        }
    }
    match &config.hook_dir {
        _ if !config.hook_needed => {}
        None => missing.push(FilesError::Unset { setting: "hook-dir" }),
        Some(dir) => missing.extend(HOOK.iter().filter_map(|name| file(dir, name, "hook-dir").err())),
    }
    missing
}

/// Checks that a file is there and has content.
fn file(dir: &Path, name: &str, setting: &'static str) -> Result<(), FilesError> {
    let path = dir.join(name);
    let reason = match std::fs::metadata(&path) {
        Ok(meta) if meta.is_file() && meta.len() > 0 => return Ok(()),
        Ok(_) => "it is not a file with content".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(FilesError::Missing { path, setting, reason })
}

/// Checks the directory behind `/hook`.
///
/// # Errors
///
/// When scripts point there and kernel or initramfs are missing.
pub(crate) fn check_hook(config: &Config) -> Result<(), FilesError> {
    let setting = "hook-dir";
    if !config.hook_needed {
        return Ok(());
    }
    let dir = config.hook_dir.as_deref().ok_or(FilesError::Unset { setting })?;
    HOOK.iter().try_for_each(|name| file(dir, name, setting))
}

/// A directory whose files are served by name.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Opens a file of this directory. Names with anything but letters, digits, `.`, `_`, `-` and `+` do not exist.
    ///
    /// # Errors
    ///
    /// As the system says; what is not a regular file does not exist.
    pub(crate) async fn open(&self, name: &str) -> io::Result<(tokio::fs::File, std::fs::Metadata)> {
        if !is_name(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let path = self.path.join(name);
        // Looked at before it is opened: opening a FIFO would wait for a writer.
        if !tokio::fs::metadata(&path).await?.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = tokio::fs::File::open(path).await?;
        let metadata = file.metadata().await?;
        Ok((file, metadata))
    }
}

/// Whether a text is one harmless path element.
pub(crate) fn is_name(name: &str) -> bool {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && name.bytes().all(harmless)
}

/// A name without the W3C trace context that Tinkerbell appends to it: `-00-<32 hex>-<16 hex>-<2 hex>`.
fn without_trace(name: &str) -> Option<&str> {
    let mut rest = name;
    for length in [2, 16, 32, 2] {
        let (head, tail) = rest.rsplit_once('-')?;
        if tail.len() != length || !tail.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        rest = head;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;

    #[test]
    fn what_is_missing_is_named_with_the_command_that_makes_it() {
        let dir = tempfile::tempdir().unwrap();
        let flag = format!("--boot-program-dir={}", dir.path().display());
        let error = Programs::read(&config(&[])).unwrap_err().to_string();
        assert!(error.contains("boot-program-dir") && error.contains("./x build"), "{error}");
        for name in REQUIRED {
            let error = Programs::read(&config(&[&flag])).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("./x build"), "{error}");
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let programs = Programs::read(&config(&[&flag])).unwrap();
        assert_eq!(programs.get("any/where/ipxe.efi").unwrap().1, "ipxe.efi");
        let mapped = [flag.as_str(), "--ipxe-override-arch-mapping=7=other.efi"];
        assert!(Programs::read(&config(&mapped)).unwrap_err().to_string().contains("other.efi"));
    }

    #[test]
    fn hook_files_must_be_there_only_when_scripts_point_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let flag = format!("--hook-dir={}", dir.path().display());
        assert!(check_hook(&config(&[&flag])).unwrap_err().to_string().contains("vmlinuz-x86_64"));
        std::fs::write(dir.path().join("vmlinuz-x86_64"), "k").unwrap();
        std::fs::write(dir.path().join("initramfs-x86_64"), "").unwrap();
        assert!(check_hook(&config(&[&flag])).unwrap_err().to_string().contains("initramfs-x86_64"));
        assert!(check_hook(&config(&["--ipxe-http-script-osie-url=http://elsewhere"])).is_ok());
    }

    #[test]
    fn commands_take_the_place_that_a_program_has_for_them_and_no_other() {
        assert_eq!(SCRIPT_MARKER.len(), 131);
        let dir = tempfile::tempdir().unwrap();
        let program = format!("\0MZ{SCRIPT_MARKER}\nautoboot\n{SCRIPT_MARKER}");
        for name in REQUIRED {
            std::fs::write(dir.path().join(name), &program).unwrap();
        }
        std::fs::write(dir.path().join("undionly.kpxe"), "compressed").unwrap();
        let read = |flags: &[&str]| {
            let dir = format!("--boot-program-dir={}", dir.path().display());
            Programs::read(&config(&[&[dir.as_str()], flags].concat())).unwrap()
        };
        let bytes = |programs: &Programs, name: &str| programs.get(name).unwrap().1;
        assert_eq!(bytes(&read(&[]), "ipxe.efi"), program, "unset, nothing is touched");
        let text = "set user-class Rack\nshow user-class";
        let patched = read(&[&format!("--ipxe-embedded-script-patch={text}")]);
        let place = format!("{text:131}");
        assert_eq!(bytes(&patched, "ipxe.efi"), format!("\0MZ{place}\nautoboot\n{place}"));
        assert_eq!(bytes(&patched, "undionly.kpxe"), "compressed");
        assert_ne!(patched.find("ipxe.efi").unwrap().1.etag, read(&[]).find("ipxe.efi").unwrap().1.etag);
    }

    #[test]
    fn a_trace_suffix_is_not_part_of_the_name() {
        let programs = Programs::from_memory(&[("ipxe.efi", b"x")]);
        let traced = "m/ipxe.efi-00-0123456789abcdef0123456789abcdef-0123456789abcdef-01";
        assert_eq!(programs.get(traced).unwrap().0, "ipxe.efi");
        assert!(programs.get("ipxe.efi-00-0123-0123456789abcdef-01").is_none());
        assert!(programs.get("ipxe.efi/").is_none());
    }

    #[tokio::test]
    async fn only_plain_names_of_regular_files_exist() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("served");
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        std::fs::write(outer.path().join("secret"), "s").unwrap();
        std::fs::write(dir.join("image.raw.zst"), "i").unwrap();
        std::fs::write(dir.join(".hidden"), "h").unwrap();
        let served = Directory::new(&dir);
        assert!(served.open("image.raw.zst").await.is_ok());
        for name in
            ["../secret", "..", ".", "", "sub", ".hidden", "sub/../image.raw.zst", "image.raw.zst\0", "a b"]
        {
            assert!(served.open(name).await.is_err(), "{name:?}");
        }
    }
}

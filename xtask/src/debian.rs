// SPDX-License-Identifier: Apache-2.0
//! Debian packages that are unpacked into the cache and never installed.
//!
//! A private apt configuration (own lists, own cache, own empty status) repeats the machine's mirror and keyring for the
//! wanted suite, so that the machine's sources, lists and packages stay as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{capture, command, run};

/// How old the lists may be before they are fetched again.
const LISTS_AGE: Duration = Duration::from_secs(24 * 3600);
const FALLBACK_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A suite of the Debian archive behind its own apt state.
#[derive(Debug)]
pub struct Suite {
    name: &'static str,
    folder: PathBuf,
}

impl Suite {
    /// The suite with its lists fetched, state kept below `cache`.
    ///
    /// Lists that cannot be fetched are an error only if there are none from before.
    pub fn open(name: &'static str, cache: &Path) -> Result<Self> {
        let suite = Self { name, folder: cache.join("apt").join(name) };
        for sub in ["lists/partial", "cache/archives/partial", "etc", "packages"] {
            fs::create_dir_all(suite.folder.join(sub))?;
        }
        let (mirror, keyring) = mirror()?;
        let text = format!(
            "Types: deb\nURIs: {mirror}\nSuites: {name} {name}-updates\nComponents: main\nSigned-By: {keyring}\n"
        );
        fs::write(suite.folder.join("etc/debian.sources"), text)?;
        fs::write(suite.folder.join("etc/status"), "")?;
        suite.update()?;
        Ok(suite)
    }

    fn update(&self) -> Result<()> {
        let stamp = self.folder.join("updated");
        let age = fs::metadata(&stamp)
            .and_then(|data| data.modified())
            .ok()
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_some_and(|age| age < LISTS_AGE) {
            return Ok(());
        }
        match capture(self.apt("apt-get").args(["-q", "update"])) {
            Ok(_) => Ok(fs::write(stamp, "")?),
            Err(error) if age.is_some() => {
                eprintln!(
                    "x: Debian's package lists could not be renewed, going on with those of before: {error:#}"
                );
                Ok(())
            }
            Err(error) => Err(error).context("Debian's package lists could not be fetched"),
        }
    }

    fn apt(&self, program: &str) -> Command {
        let mut apt = command(program);
        let path = |sub: &str| self.folder.join(sub).display().to_string();
        for (key, value) in [
            ("Dir::State", path("")),
            ("Dir::State::lists", path("lists")),
            ("Dir::State::status", path("etc/status")),
            ("Dir::Cache", path("cache")),
            ("Dir::Etc::sourcelist", path("etc/debian.sources")),
            ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
            ("Dir::Etc::preferencesparts", "/dev/null".to_owned()),
            ("APT::Sandbox::User", "root".to_owned()),
        ] {
            apt.arg("-o").arg(format!("{key}={value}"));
        }
        apt
    }

    /// The version that would be fetched.
    pub fn version(&self, package: &str) -> Result<String> {
        self.field(package, "Version")
    }

    /// The first package that `package` depends on: what a metapackage stands for.
    pub fn first_dependency(&self, package: &str) -> Result<String> {
        let depends = self.field(package, "Depends")?;
        let first = depends.split([' ', ',', '(']).next().unwrap_or_default();
        ensure!(!first.is_empty(), "{package} of {} depends on nothing", self.name);
        Ok(first.to_owned())
    }

    fn field(&self, package: &str, field: &str) -> Result<String> {
        let text = capture(self.apt("apt-cache").args(["show", "--no-all-versions", package]))?;
        let prefix = format!("{field}: ");
        let found = text.lines().find_map(|line| line.strip_prefix(&prefix));
        Ok(found.with_context(|| format!("Debian {} has no package {package}", self.name))?.to_owned())
    }

    /// Downloads packages and unpacks them all into one new folder `into`. apt checks signatures and digests.
    pub fn unpack(&self, packages: &[String], into: &Path) -> Result<()> {
        let downloads = self.folder.join("packages");
        run(self
            .apt("apt-get")
            .args(["-q", "download"])
            .args(packages)
            .current_dir(&downloads)
            .stdout(std::process::Stdio::null()))?;
        fs::create_dir_all(into)?;
        for package in packages {
            let prefix = format!("{package}_");
            let mut archive = None;
            for entry in fs::read_dir(&downloads)? {
                let path = entry?.path();
                if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)) {
                    archive = Some(path);
                }
            }
            let archive = archive.with_context(|| format!("apt-get download {package} left no file"))?;
            run(command("dpkg-deb").arg("-x").arg(&archive).arg(into))?;
            fs::remove_file(archive)?;
        }
        Ok(())
    }

    /// `packages` and all they depend on that this machine has not installed.
    pub fn with_missing_dependencies(&self, packages: &[&str]) -> Result<Vec<String>> {
        let options = [
            "depends",
            "--recurse",
            "--no-recommends",
            "--no-suggests",
            "--no-conflicts",
            "--no-breaks",
            "--no-replaces",
            "--no-enhances",
        ];
        let listing = capture(self.apt("apt-cache").args(options).args(packages))?;
        let installed =
            capture(command("dpkg-query").args(["-W", "-f", "${Package} ${db:Status-Status}\n"]))?;
        let is_installed = |name: &str| installed.lines().any(|line| line == format!("{name} installed"));
        let mut wanted: Vec<String> = packages.iter().map(|name| (*name).to_owned()).collect();
        // Packages stand at the margin, what they need is indented; virtual ones stand in angle brackets.
        for name in listing.lines().filter(|line| !line.starts_with([' ', '<', '|'])) {
            let name = name.split(':').next().unwrap_or(name);
            let needed = !is_installed(name) && !wanted.iter().any(|known| known == name);
            // Libraries only: the rest of a dependency tree is maintainer scripts' business, and nothing is installed here.
            if needed && name.starts_with("lib") {
                wanted.push(name.to_owned());
            }
        }
        Ok(wanted)
    }
}

/// The mirror and keyring of the machine's own Debian source.
fn mirror() -> Result<(String, String)> {
    let folder =
        fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    for path in folder.filter(|path| path.extension().is_some_and(|kind| kind == "sources")) {
        for stanza in fs::read_to_string(&path).unwrap_or_default().split("\n\n") {
            let field = |name: &str| {
                stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
            };
            if let Some(uri) = field("URIs").and_then(debian_uri) {
                return Ok((uri, field("Signed-By").unwrap_or(FALLBACK_KEYRING).to_owned()));
            }
        }
    }
    let list = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    let lines = list.lines().filter(|line| line.starts_with("deb "));
    for word in lines.flat_map(str::split_whitespace) {
        if let Some(uri) = debian_uri(word) {
            return Ok((uri, FALLBACK_KEYRING.to_owned()));
        }
    }
    bail!(
        "no Debian mirror in /etc/apt/sources.list or /etc/apt/sources.list.d: this needs a Debian machine"
    );
}

/// The archive itself: not its security branch, not another vendor's.
fn debian_uri(uris: &str) -> Option<String> {
    uris.split_whitespace().find(|uri| uri.trim_end_matches('/').ends_with("/debian")).map(str::to_owned)
}

// SPDX-License-Identifier: Apache-2.0
//! Big things that are built once: boot programs, HookOS, the operating-system image, unpacked test peers.
//!
//! Each lies in the user's cache in a folder whose name ends in a hash of its inputs, made complete before it gets that
//! name. `<cache>/current/<name>` points at the newest; that is where `tink demo` and the tests look.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use images::Image;
use sha2::{Digest, Sha256};

use crate::cargo;
use crate::debian::Suite;
use crate::go::Module;
use crate::process::{command, run, virtual_environment};

/// Debian's release of the boot programs and the HookOS kernel.
const BOOT_SUITE: &str = "trixie";
/// Debian's release of tools and test peers: that of the machines this runs on.
const TOOL_SUITE: &str = "bookworm";
const TOOLS: &[&str] = &["squashfs-tools", "kmod", "busybox-static"];
/// What makes ISO images, and the modules of GRUB for BIOS that belong to its grub-mkimage.
const ISO_TOOLS: &[&str] = &["xorriso", "grub-common", "grub-pc-bin"];
/// Packages of what firmware with Secure Boot starts, as Microsoft and Debian signed it.
const SIGNED: &[&str] = &["shim-signed", "grub-efi-amd64-signed"];
/// Servers and clients that tests talk to. Some bring services or boot hooks (busybox-static a hook for the initramfs,
/// openssh-client a user unit, procps an init script), so none is installed.
const PEERS: &[&str] = &[
    "isc-dhcp-client",
    "busybox-static",
    "openipmi",
    "ipmitool",
    "tftp-hpa",
    "tftpd-hpa",
    "atftp",
    "dnsmasq-base",
    // kea-admin has perfdhcp, kea-common the libraries of all of Kea.
    "kea-admin",
    "kea-common",
    "kea-dhcp4-server",
    "nginx",
    "wrk",
    // wireshark-common has dumpcap.
    "tshark",
    "wireshark-common",
    "nftables",
    "openssh-client",
    "procps",
];
/// A BMC, and clients of the API server.
const SUSHY: &[&str] = &["sushy-tools==2.2.0"];
const PYTHON_CLIENTS: &[&str] = &["kubernetes==37.0.2", "kopf==1.45.2"];
/// What tests compare our API server with, a client of both, and what reads the configuration that nodes are told.
const KUBERNETES: Module = Module {
    folder: "tests/kubernetes",
    inputs: &[
        "go.mod",
        "go.sum",
        "tools.go",
        "etcd/main.go",
        "manager/hardware.go",
        "manager/main.go",
        "manager/manager.go",
        "manager/probe.go",
        "manager/probe_objects.go",
        "manager/probe_reads.go",
    ],
    programs: &[
        "./etcd",
        "k8s.io/kubernetes/cmd/kube-apiserver",
        "k8s.io/kubernetes/cmd/kubectl",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        "k8s.io/kubernetes/cmd/kubeadm",
        "./manager",
    ],
    stamps: STAMPS,
};
/// What runs in a node of a cluster besides.
const NODE_PROGRAMS: Module = Module {
    folder: "tests/node",
    inputs: &["go.mod", "go.sum", "tools.go", "network/main.go", "pause/main.go"],
    programs: &[
        "k8s.io/kubernetes/cmd/kubelet",
        "k8s.io/kubernetes/cmd/kube-proxy",
        "k8s.io/kubernetes/cmd/kube-scheduler",
        "github.com/kube-vip/kube-vip",
        "./network",
        "./pause",
    ],
    stamps: STAMPS,
};
/// The name server of a cluster, in the version that this kubeadm asks for.
const NAME_SERVER: Module = Module {
    folder: "tests/coredns",
    inputs: &["go.mod", "go.sum", "main.go"],
    programs: &["."],
    stamps: &[],
};
/// Programs of [`KUBERNETES`] that a node has, too.
const SHARED_PROGRAMS: &[&str] = &["etcd", "kube-apiserver", "kube-controller-manager", "kubeadm", "kubectl"];
const STAMPS: &[(&str, &str)] = &[
    ("k8s.io/component-base/version.gitVersion", "v1.34.2"),
    ("k8s.io/component-base/version.gitMajor", "1"),
    ("k8s.io/component-base/version.gitMinor", "34"),
    ("k8s.io/component-base/version.gitTreeState", "clean"),
];
/// The minor version of that Kubernetes, as it stands in the name of an image.
const KUBERNETES_MINOR: &str = "1-34";
/// Container images of the tests' nodes besides those of kubeadm: kube-vip under the name that the user data has, and the
/// network plugin of `tests/node/network`.
const NODE_IMAGES: &[(&str, &str)] =
    &[("ghcr.io/kube-vip/kube-vip:v0.9.1", "kube-vip"), ("tests.invalid/network:1", "network")];
/// For nodes that are emulated. The kernel's test of its timer takes lateness on a busy host for a fault and panics; Debian 12's takes
/// the processors' counters for unsynchronised and asks a slow device for each look at the clock, which Go's programs do all the time;
/// and what protects from other users of a real processor makes every indirect call three.
const EMULATED: &str = "no_timer_check tsc=reliable mitigations=off";
const WRAPPER: &str = "#!/bin/sh
tree=$(dirname \"$(readlink -f \"$0\")\")/..
export LD_LIBRARY_PATH=\"$tree/usr/lib/x86_64-linux-gnu:$tree/lib/x86_64-linux-gnu\"
";
/// Digits of the hash in a folder's name.
const KEY_LENGTH: usize = 16;
/// How long an artefact that no checkout asks for stays in the cache.
const KEPT: Duration = Duration::from_secs(2 * 24 * 3600);
/// Contract's name and the file in Debian's packages; shim asks for GRUB by this name, beside itself.
const BOOT_PROGRAMS: &[(&str, &str)] = &[
    ("undionly.kpxe", "usr/lib/ipxe/undionly.kpxe"),
    ("ipxe.efi", "usr/lib/ipxe/ipxe-amd64.efi"),
    ("snp-x86_64.efi", "usr/lib/ipxe/snponly.efi"),
    ("snp-arm64.efi", "usr/lib/ipxe/ipxe-arm64.efi"),
    ("shimx64.efi", "usr/lib/shim/shimx64.efi.signed"),
    ("grubx64.efi", "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"),
];

/// Where the artefacts of this build are.
#[derive(Debug)]
pub struct Artefacts {
    /// `<cache>/current`.
    pub current: PathBuf,
}

impl Artefacts {
    /// Builds what a machine needs to be provisioned, if it is not in the cache.
    pub fn build() -> Result<Self> {
        let cache = cache_folder()?;
        let boot = Suite::open(BOOT_SUITE, &cache)?;
        let tool = Suite::open(TOOL_SUITE, &cache)?;
        boot_programs(&cache, &boot)?;
        hook(&cache, &boot, &tool)?;
        iso(&cache, &boot, &tool)?;
        image(&cache, "images", &Image::Debian, "")?;
        Ok(Self { current: cache.join("current") })
    }

    /// What tests need besides: peers from Debian and PyPI, and a real Kubernetes from Go's modules.
    pub fn build_peers() -> Result<()> {
        let cache = cache_folder()?;
        let tool = Suite::open(TOOL_SUITE, &cache)?;
        let packages = tool.with_missing_dependencies(PEERS)?;
        artefact(&cache, "peers", &format!("{} {WRAPPER}", packages.join(" ")), |out| {
            tool.unpack(&packages, out)?;
            wrappers(out)
        })?;
        for (name, packages) in [("sushy", SUSHY), ("python-clients", PYTHON_CLIENTS)] {
            artefact(&cache, name, &packages.join(" "), |out| {
                let home = cache.join(format!("{name}-venv"));
                virtual_environment(&home, packages)?;
                std::os::unix::fs::symlink(&home, out.join("venv"))?;
                Ok(())
            })?;
        }
        Self::build_kubernetes()
    }

    /// A real Kubernetes from Go's modules.
    pub fn build_kubernetes() -> Result<()> {
        let cache = cache_folder()?;
        artefact(&cache, "kubernetes", &KUBERNETES.key()?, |out| KUBERNETES.build(&cache, out))
    }

    /// The image of machines that kubeadm makes nodes of, for those who work on clusters. Takes some ten minutes.
    pub fn build_node() -> Result<()> {
        let cache = cache_folder()?;
        Self::build_kubernetes()?;
        let key = format!("{}{}{}", KUBERNETES.key()?, NODE_PROGRAMS.key()?, NAME_SERVER.key()?);
        artefact(&cache, "node-programs", &key, |out| {
            NODE_PROGRAMS.build(&cache, out)?;
            NAME_SERVER.build(&cache, out)?;
            for name in SHARED_PROGRAMS {
                fs::copy(cache.join("current/kubernetes").join(name), out.join(name))
                    .with_context(|| format!("copy {name}"))?;
            }
            Ok(())
        })?;
        let programs = fs::canonicalize(cache.join("current/node-programs"))?;
        let node = images::Node {
            version: KUBERNETES_MINOR,
            programs,
            images: NODE_IMAGES,
            kernel_arguments: EMULATED,
        };
        image(&cache, "node", &Image::Node(node), &key)
    }

    /// The container image of the daemons, built with a profile, with what boots serves: a docker-archive.
    pub fn stack_image(&self, profile: &str, file: &Path) -> Result<()> {
        let tink = cargo::static_binaries(profile, &["tink"])?.join("tink");
        let mut write = command(&tink.to_string_lossy());
        write.arg("image").arg(file);
        write.arg("--boot-programs").arg(self.current.join("boot-programs"));
        write.arg("--hook").arg(self.current.join("hook"));
        run(&mut write)
    }

    /// Says where things are.
    pub fn print(&self) {
        for name in ["boot-programs", "hook", "iso", "images"] {
            println!("{name:15} {}", self.current.join(name).display());
        }
    }
}

/// An operating-system image; `inputs` is what it depends on besides its recipe.
fn image(cache: &Path, name: &str, image: &Image, inputs: &str) -> Result<()> {
    artefact(cache, name, &format!("{}{inputs}", image.recipe()), |out| {
        let built = image.build(out)?;
        println!("  {} MiB on disk, {} MiB to download", mib(built.raw_bytes), mib(built.compressed_bytes));
        Ok(())
    })
}

fn boot_programs(cache: &Path, suite: &Suite) -> Result<()> {
    let packages: Vec<String> = ["ipxe"].iter().chain(SIGNED).map(|name| (*name).to_owned()).collect();
    let versions = versions(suite, &packages)?;
    artefact(cache, "boot-programs", &format!("{versions} {BOOT_PROGRAMS:?}"), |out| {
        let tree = out.join("scratch");
        suite.unpack(&packages, &tree)?;
        for (name, file) in BOOT_PROGRAMS {
            fs::copy(tree.join(file), out.join(name)).with_context(|| format!("no {file} in {versions}"))?;
        }
        Ok(fs::remove_dir_all(tree)?)
    })
}

/// Packages with their versions.
fn versions(suite: &Suite, packages: &[String]) -> Result<String> {
    let versions = packages.iter().map(|name| Ok(format!("{name} {}", suite.version(name)?)));
    Ok(versions.collect::<Result<Vec<_>>>()?.join(" "))
}

fn hook(cache: &Path, boot: &Suite, tool: &Suite) -> Result<()> {
    let kernel = boot.first_dependency("linux-image-amd64")?;
    let kernel_key = format!("{kernel} {}", boot.version(&kernel)?);
    let kernel_tree = |out: &Path| boot.unpack(std::slice::from_ref(&kernel), out);
    artefact(cache, "kernel", &kernel_key, kernel_tree)?;
    let tools = tool.with_missing_dependencies(TOOLS)?;
    artefact(cache, "tools", &tools.join(" "), |out| tool.unpack(&tools, out))?;

    let binaries = cargo::static_binaries("image", &["tink-worker", "hook-os"])?;
    let current = cache.join("current");
    let inputs = hook_os::Inputs {
        kernel: current.join("kernel"),
        busybox: current.join("tools/bin/busybox"),
        init: binaries.join("hook-init"),
        agent: binaries.join("tink-worker"),
        tools: current.join("tools"),
        arch: "x86_64".to_owned(),
    };
    let mut key = format!(
        "{kernel_key} {} {:?} {:?}",
        hook_os::build::RECIPE,
        hook_os::modules::SELECTION,
        hook_os::modules::EXCLUDED
    );
    for file in [&inputs.busybox, &inputs.init, &inputs.agent] {
        key.push_str(&hash(&fs::read(file).with_context(|| format!("read {}", file.display()))?));
    }
    artefact(cache, "hook", &key, |out| {
        let built = hook_os::build(&inputs, out)?;
        println!(
            "  Linux {}, {} modules: kernel {:.1} MB, initramfs {:.1} MB",
            built.version,
            built.modules,
            megabytes(built.kernel_bytes),
            megabytes(built.initramfs_bytes)
        );
        Ok(())
    })
}

/// HookOS on a disc.
fn iso(cache: &Path, boot: &Suite, tool: &Suite) -> Result<()> {
    let tools = tool.with_missing_dependencies(ISO_TOOLS)?;
    let signed: Vec<String> = SIGNED.iter().map(|name| (*name).to_owned()).collect();
    let hook = fs::canonicalize(cache.join("current/hook"))?;
    let recipe = hook_os::iso::RECIPE;
    let key = format!("{recipe} {} {} {}", hook.display(), versions(boot, &signed)?, versions(tool, &tools)?);
    artefact(cache, "iso", &key, |out| {
        let [tree, loaders] = ["tools", "loaders"].map(|name| out.join(name));
        tool.unpack(&tools, &tree)?;
        boot.unpack(&signed, &loaders)?;
        let inputs = hook_os::iso::Inputs {
            hook,
            tools: tree.clone(),
            loaders: loaders.clone(),
            arch: "x86_64".to_owned(),
        };
        let bytes = hook_os::iso::build(&inputs, out)?;
        println!("  {:.1} MB", megabytes(bytes));
        fs::remove_dir_all(tree)?;
        Ok(fs::remove_dir_all(loaders)?)
    })
}

/// `run/<program>` for every program of an unpacked tree: starts it with the libraries that came with it.
fn wrappers(tree: &Path) -> Result<()> {
    let folder = tree.join("run");
    fs::create_dir_all(&folder)?;
    for place in ["bin", "sbin", "usr/bin", "usr/sbin"] {
        for entry in fs::read_dir(tree.join(place)).into_iter().flatten() {
            let name = entry?.file_name();
            let wrapper = folder.join(&name);
            fs::write(
                &wrapper,
                format!("{WRAPPER}exec \"$tree/{place}/{}\" \"$@\"\n", name.to_string_lossy()),
            )?;
            fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

/// `<cache>/current/<name>`, built by `make` into an empty folder unless one with the same key is there.
fn artefact(cache: &Path, name: &str, key: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let digest = hash(key.as_bytes());
    let folder = cache.join(format!("{name}-{}", digest.get(..KEY_LENGTH).unwrap_or(&digest)));
    if !folder.is_dir() {
        println!("building {name} ...");
        let started = Instant::now();
        let partial = cache.join(format!("{name}.partial.{}", std::process::id()));
        fs::create_dir_all(&partial)?;
        if let Err(error) = make(&partial) {
            // What is left of a failed build would only take space.
            drop(fs::remove_dir_all(&partial));
            return Err(error).with_context(|| format!("build {name}"));
        }
        fs::rename(&partial, &folder)?;
        println!("  {name} built in {} s", started.elapsed().as_secs());
    }
    let current = cache.join("current");
    fs::create_dir_all(&current)?;
    let link = current.join(format!("{name}.new.{}", std::process::id()));
    std::os::unix::fs::symlink(&folder, &link)?;
    fs::rename(link, current.join(name))?;
    fs::File::open(&folder)?.set_modified(SystemTime::now())?;
    drop_unused(cache, name, &folder)
}

/// Removes what earlier versions of this artefact left in the cache and nothing has asked for since [`KEPT`]: another
/// checkout may still use its own.
fn drop_unused(cache: &Path, name: &str, used: &Path) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        let file = entry.file_name();
        let key = file.to_str().and_then(|file| file.strip_prefix(name)?.strip_prefix('-'));
        let ours =
            key.is_some_and(|key| key.len() == KEY_LENGTH && key.bytes().all(|b| b.is_ascii_hexdigit()));
        if ours && entry.path() != used && entry.metadata()?.modified()?.elapsed().is_ok_and(|age| age > KEPT)
        {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// `$TINK_CACHE_DIR`, else `tink` in the user's cache folder.
pub fn cache_folder() -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = variable("TINK_CACHE_DIR")
        .or_else(|| variable("XDG_CACHE_HOME").map(|base| base.join("tink")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/tink")))
        .context("neither TINK_CACHE_DIR nor HOME is set")?;
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn mib(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}

fn megabytes(bytes: u64) -> f64 {
    // Good to a byte far beyond any initramfs; printed with one decimal.
    f64::from(u32::try_from(bytes / 1000).unwrap_or(u32::MAX)) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_go_and_nothing_else() -> Result<()> {
        let cache = tempfile::tempdir()?;
        let folder = |name: &str, age: u64| -> Result<PathBuf> {
            let path = cache.path().join(name);
            fs::create_dir(&path)?;
            fs::write(path.join("file"), "x")?;
            fs::File::open(&path)?.set_modified(SystemTime::now() - Duration::from_secs(age))?;
            Ok(path)
        };
        let day = 24 * 3600;
        let used = folder("hook-0123456789abcdef", 9 * day)?;
        let kept = [
            folder("hook-1123456789abcdef", day)?,
            folder("hook-of-others", 9 * day)?,
            folder("apt", 9 * day)?,
        ];
        let old = folder("hook-2123456789abcdef", 9 * day)?;
        drop_unused(cache.path(), "hook", &used)?;
        assert!(used.is_dir() && kept.iter().all(|path| path.is_dir()) && !old.exists());
        Ok(())
    }
}

// SPDX-License-Identifier: Apache-2.0
//! Puts kernel, modules, busybox, `hook-init` and the agent together into the two files that boots serves.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::cpio::Archive;
use crate::modules::{Dependencies, EARLY, is_selected};
use crate::tool;

/// Raised when the layout of the initramfs changes, so that cached ones are built again.
pub const RECIPE: u32 = 2;

const INITTAB: &str = include_str!("../files/inittab");
const UDHCPC_SCRIPT: &str = include_str!("../files/udhcpc.script");
const DIRECTORIES: &[&str] = &[
    "bin",
    "dev",
    "etc",
    "lib",
    "lib/early",
    "lib/modules",
    "mnt",
    "proc",
    "root",
    "run",
    "sbin",
    "sys",
    "tmp",
    "usr",
    "usr/bin",
    "usr/sbin",
    "var",
];
/// zstd's level for the first archive: the highest that needs no larger decoder window.
const ZSTD_LEVEL: i32 = 19;

/// Where the parts are. Folders are unpacked Debian packages.
#[derive(Debug)]
pub struct Inputs {
    /// The unpacked `linux-image-*` package.
    pub kernel: PathBuf,
    /// `busybox`, static.
    pub busybox: PathBuf,
    /// `hook-init`, static.
    pub init: PathBuf,
    /// The agent, static.
    pub agent: PathBuf,
    /// `kmod` and `mksquashfs` are looked up here first, then on `PATH`; their libraries too.
    pub tools: PathBuf,
    /// The architecture in the file names, as upstream's scripts ask for it (`x86_64`).
    pub arch: String,
}

/// What was built.
#[derive(Debug)]
pub struct Output {
    /// Kernel version, as `uname -r` will say.
    pub version: String,
    /// Size of the kernel in bytes.
    pub kernel_bytes: u64,
    /// Size of the initramfs in bytes.
    pub initramfs_bytes: u64,
    /// Number of modules on board.
    pub modules: usize,
}

/// Builds `vmlinuz-<arch>` and `initramfs-<arch>` into the existing folder `out`. Equal inputs give equal files.
///
/// # Errors
/// When an input is missing or damaged, a tool fails, or a file cannot be written. `out` may then hold partial files.
pub fn build(inputs: &Inputs, out: &Path) -> Result<Output> {
    let version = kernel_version(&inputs.kernel)?;
    let scratch = out.join("scratch");
    fs::create_dir_all(&scratch)?;
    let tree = scratch.join("modules");
    let taken = stage_modules(inputs, &version, &tree)?;
    let squashfs = make_squashfs(inputs, &tree, &scratch)?;
    let early = early_modules(&tree, &version)?;

    let initramfs_path = out.join(format!("initramfs-{}", inputs.arch));
    let mut file =
        fs::File::create(&initramfs_path).with_context(|| format!("create {}", initramfs_path.display()))?;
    let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
    encoder.include_checksum(false)?;
    let compressed = user_land(inputs, &early, Archive::new(encoder))?.finish()?;
    file.write_all(&compressed)?;
    // An uncompressed archive behind a compressed one must start on a 4-byte boundary.
    file.write_all(&vec![0; compressed.len().next_multiple_of(4) - compressed.len()])?;
    let mut second = Archive::new(&mut file);
    second.file("modules.squashfs", 0o444, &fs::read(&squashfs)?)?;
    second.finish()?;
    file.sync_all()?;

    let kernel_path = out.join(format!("vmlinuz-{}", inputs.arch));
    fs::copy(inputs.kernel.join("boot").join(format!("vmlinuz-{version}")), &kernel_path)
        .context("copy the kernel")?;
    fs::remove_dir_all(&scratch)?;
    Ok(Output {
        version,
        kernel_bytes: fs::metadata(kernel_path)?.len(),
        initramfs_bytes: fs::metadata(initramfs_path)?.len(),
        modules: taken.len(),
    })
}

fn kernel_version(kernel: &Path) -> Result<String> {
    let modules = modules_folder(kernel)?;
    let mut versions = Vec::new();
    for entry in fs::read_dir(&modules).with_context(|| format!("read {}", modules.display()))? {
        versions.push(entry?.file_name().to_string_lossy().into_owned());
    }
    match versions.as_slice() {
        [one] => Ok(one.clone()),
        _ => bail!("{} must hold one kernel version, it holds {versions:?}", modules.display()),
    }
}

fn modules_folder(kernel: &Path) -> Result<PathBuf> {
    // Debian moved modules from /lib to /usr/lib with the merged /usr.
    ["usr/lib/modules", "lib/modules"]
        .iter()
        .map(|folder| kernel.join(folder))
        .find(|path| path.is_dir())
        .with_context(|| format!("{} holds no kernel modules", kernel.display()))
}

/// Unpacks every module, lets depmod compute needs and aliases, then keeps what is selected and what that needs.
fn stage_modules(inputs: &Inputs, version: &str, tree: &Path) -> Result<BTreeSet<String>> {
    let from = modules_folder(&inputs.kernel)?.join(version);
    let to = tree.join("lib/modules").join(version);
    fs::create_dir_all(&to)?;
    for list in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
        fs::copy(from.join(list), to.join(list)).with_context(|| format!("copy {list}"))?;
    }
    unpack_modules(&from, &from.join("kernel"), &to)?;
    depmod(inputs, version, tree)?;
    let dependencies = Dependencies::parse(&fs::read_to_string(to.join("modules.dep"))?);
    let taken = dependencies.closure(is_selected);
    ensure!(!taken.is_empty(), "no module of {version} is in the selection");
    remove_others(&to, &to.join("kernel"), &taken)?;
    // Again, so that aliases name only what is on board.
    depmod(inputs, version, tree)?;
    for index in [
        "modules.dep.bin",
        "modules.alias.bin",
        "modules.symbols",
        "modules.symbols.bin",
        "modules.builtin.bin",
        "modules.builtin.alias.bin",
        "modules.builtin.modinfo",
        "modules.order",
        "modules.devname",
    ] {
        // busybox and hook-init read the text files; a kmod that lacks one of these did not write it.
        match fs::remove_file(to.join(index)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| index.to_owned());
            }
            _ => {}
        }
    }
    Ok(taken)
}

fn unpack_modules(root: &Path, folder: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            unpack_modules(root, &path, to)?;
            continue;
        }
        let Some(name) = path.to_str() else { bail!("{}: not UTF-8", path.display()) };
        let mut bytes = Vec::new();
        let plain = if let Some(stem) = name.strip_suffix(".ko.xz") {
            liblzma::read::XzDecoder::new(fs::File::open(&path)?)
                .read_to_end(&mut bytes)
                .with_context(|| name.to_owned())?;
            format!("{stem}.ko")
        } else if name.ends_with(".ko") {
            bytes = fs::read(&path)?;
            name.to_owned()
        } else {
            bail!("{name}: a module in a compression that is not known here");
        };
        let target = to.join(Path::new(&plain).strip_prefix(root)?);
        fs::create_dir_all(target.parent().context("a module lies in a folder")?)?;
        fs::write(target, bytes)?;
    }
    Ok(())
}

fn remove_others(root: &Path, folder: &Path, keep: &BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(root, &path, keep)?;
            continue;
        }
        let inside = path.strip_prefix(root)?.to_string_lossy().into_owned();
        if !keep.contains(&inside) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn depmod(inputs: &Inputs, version: &str, tree: &Path) -> Result<()> {
    // depmod is kmod under another name; the package's link to it is absolute and leads out of the unpacked tree.
    tool::run(tool::command(&inputs.tools, "kmod").arg0("depmod").arg("-b").arg(tree).arg(version))
}

fn make_squashfs(inputs: &Inputs, tree: &Path, scratch: &Path) -> Result<PathBuf> {
    let image = scratch.join("modules.squashfs");
    tool::run(
        tool::command(&inputs.tools, "mksquashfs")
            .arg(tree.join("lib/modules"))
            .arg(&image)
            .args([
                "-comp",
                "zstd",
                "-Xcompression-level",
                "22",
                "-b",
                "1M",
                "-noappend",
                "-all-root",
                "-no-xattrs",
            ])
            .args(["-mkfs-time", "0", "-all-time", "0", "-no-exports", "-quiet", "-no-progress"]),
    )?;
    Ok(image)
}

/// The modules of [`EARLY`] with what they need, in load order: file name and content.
fn early_modules(tree: &Path, version: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let root = tree.join("lib/modules").join(version);
    let dependencies = Dependencies::parse(&fs::read_to_string(root.join("modules.dep"))?);
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for name in EARLY {
        let order = dependencies
            .load_order(name)
            .with_context(|| format!("the kernel package has no module {name}"))?;
        for path in order {
            let file = path.rsplit('/').next().unwrap_or(&path).to_owned();
            if !files.iter().any(|(known, _)| known == &file) {
                files.push((file, fs::read(root.join(&path))?));
            }
        }
    }
    Ok(files)
}

fn user_land<W: Write>(inputs: &Inputs, early: &[(String, Vec<u8>)], mut archive: Archive<W>) -> Result<W> {
    for directory in DIRECTORIES {
        archive.directory(directory)?;
    }
    archive.character_device("dev/console", 0o600, 5, 1)?;
    archive.character_device("dev/null", 0o666, 1, 3)?;
    let binary = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    archive.file("bin/busybox", 0o755, &binary(&inputs.busybox)?)?;
    for applet in applets(&inputs.busybox)? {
        // The applet that is `/init` too; the kernel starts that name.
        archive.symlink(&format!("bin/{applet}"), "busybox")?;
    }
    archive.symlink("init", "bin/busybox")?;
    // The kernel asks for modules at run time through this path.
    archive.symlink("sbin/modprobe", "../bin/busybox")?;
    archive.file("sbin/hook-init", 0o755, &binary(&inputs.init)?)?;
    archive.file("usr/bin/tink-worker", 0o755, &binary(&inputs.agent)?)?;
    archive.file("etc/inittab", 0o644, INITTAB.as_bytes())?;
    archive.file("etc/udhcpc.script", 0o755, UDHCPC_SCRIPT.as_bytes())?;
    archive.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n")?;
    archive.file("etc/group", 0o644, b"root:x:0:\n")?;
    archive.file("etc/hosts", 0o644, b"127.0.0.1 localhost\n::1 localhost\n")?;
    let mut order = String::new();
    for (name, bytes) in early {
        archive.file(&format!("lib/early/{name}"), 0o644, bytes)?;
        order.push_str(name);
        order.push('\n');
    }
    archive.file("lib/early/order", 0o644, order.as_bytes())?;
    Ok(archive.finish()?)
}

fn applets(busybox: &Path) -> Result<Vec<String>> {
    let output =
        Command::new(busybox).arg("--list").output().with_context(|| format!("run {}", busybox.display()))?;
    ensure!(output.status.success(), "{} --list failed", busybox.display());
    Ok(String::from_utf8(output.stdout)?
        .lines()
        .filter(|name| *name != "busybox")
        .map(str::to_owned)
        .collect())
}

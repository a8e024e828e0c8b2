// SPDX-License-Identifier: Apache-2.0
//! writefile: puts one file into a file system on a partition.
//!
//! The file system is mounted detached: it never appears at a path, everything goes through its descriptor, and it is
//! gone when that is closed, whatever happens to this process. Paths are resolved inside it (`RESOLVE_IN_ROOT`), so no
//! symbolic link of the installed system leads out. The file appears whole or not at all: written beside its place,
//! flushed, renamed.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use diskimage::disks;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::{ActionError, Context, Done};
use crate::action::{Action, Environment, Invalid};
use crate::report::Level;

/// How long a partition may take to appear after its disk was written.
const PARTITION_PATIENCE: Duration = Duration::from_secs(10);

/// Symbolic links followed for the last path element; the kernel's own limit.
const LONGEST_LINK_CHAIN: u32 = 40;

/// Why the file was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteFileError {
    #[error(transparent)]
    Name(#[from] disks::Unresolved),
    #[error("partition {} does not exist; {present}", .disk.display())]
    NoSuchPartition { disk: PathBuf, present: String },
    #[error("cannot mount {} as {fs}: {reason}", .disk.display())]
    Mount { disk: PathBuf, fs: String, reason: String },
    #[error("cannot {what} {} on {}: {source}", .path.display(), .disk.display())]
    File { what: &'static str, path: PathBuf, disk: PathBuf, source: io::Error },
}

/// The action's variables, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Settings {
    disk: PathBuf,
    fs: String,
    /// Relative to the root of the file system.
    path: PathBuf,
    contents: String,
    owner: (u32, u32),
    mode: u32,
    directory_mode: u32,
}

impl Settings {
    fn parse(environment: &Environment) -> Result<Self, Invalid> {
        let disk = PathBuf::from(environment.required("DEST_DISK")?);
        if !disk.is_absolute() {
            return Err(Invalid::variable("DEST_DISK", format!("`{}` is not absolute", disk.display())));
        }
        let text = environment.required("DEST_PATH")?;
        let wrong = |problem: &str| Invalid::variable("DEST_PATH", format!("`{text}` {problem}"));
        if !text.starts_with('/') {
            return Err(wrong("is not absolute"));
        }
        if text.ends_with('/') {
            return Err(wrong("names a directory"));
        }
        if Path::new(text).components().any(|component| component == Component::ParentDir) {
            return Err(wrong("contains `..`"));
        }
        let path: PathBuf =
            Path::new(text).components().filter(|part| matches!(part, Component::Normal(_))).collect();
        if path.as_os_str().is_empty() {
            return Err(wrong("names no file"));
        }
        Ok(Self {
            disk,
            path,
            fs: environment.required("FS_TYPE")?.to_owned(),
            contents: environment.get("CONTENTS").unwrap_or_default().to_owned(),
            owner: (number(environment, "UID", 10)?, number(environment, "GID", 10)?),
            mode: mode(environment, "MODE")?,
            directory_mode: mode(environment, "DIRMODE")?,
        })
    }

    fn error(&self, what: &'static str, path: &Path) -> impl Fn(Errno) -> WriteFileError {
        let (path, disk) = (Path::new("/").join(path), self.disk.clone());
        move |source| WriteFileError::File {
            what,
            path: path.clone(),
            disk: disk.clone(),
            source: source.into(),
        }
    }
}

fn number(environment: &Environment, name: &'static str, radix: u32) -> Result<u32, Invalid> {
    let text = environment.required(name)?;
    u32::from_str_radix(text, radix)
        .ok()
        // The kernel takes the largest number for "leave it".
        .filter(|number| *number != u32::MAX)
        .ok_or_else(|| Invalid::variable(name, format!("`{text}` is not a number of base {radix}")))
}

fn mode(environment: &Environment, name: &'static str) -> Result<u32, Invalid> {
    let mode = number(environment, name, 8)?;
    if mode > 0o7777 {
        return Err(Invalid::variable(name, format!("`{mode:o}` is no file mode")));
    }
    Ok(mode)
}

/// Carries out the action.
pub(super) async fn run(action: &Action, context: &Context) -> Result<Done, ActionError> {
    let settings = Settings::parse(&action.environment)?;
    let text = format!("writing /{} on {}", settings.path.display(), settings.disk.display());
    context.say(action, Level::Info, &text);
    let bytes = settings.contents.len();
    let message =
        format!("wrote {bytes} bytes to /{} on {}", settings.path.display(), settings.disk.display());
    let writing = tokio::task::spawn_blocking(move || write(&settings));
    tokio::select! {
        result = writing => result.map_err(|_| ActionError::Thread)??,
        // A mount that hangs in the kernel cannot be called back; its descriptor closes when it returns.
        () = context.cancel.cancelled() => return Err(diskimage::Error::Cancelled.into()),
    }
    Ok(Done { message, then: None })
}

fn write(settings: &Settings) -> Result<(), WriteFileError> {
    let sys = Path::new(disks::SYS);
    let node = disks::wait_for(sys, &settings.disk, PARTITION_PATIENCE)?;
    if !disks::wait_for_block_device(&node, Duration::ZERO) {
        let present = disks::describe_partitions(&disks::list(sys));
        return Err(WriteFileError::NoSuchPartition { disk: settings.disk.clone(), present });
    }
    let root = mount(settings, &node)?;
    write_below(&root, settings)
}

/// Mounts the partition detached; closing the descriptor unmounts it.
fn mount(settings: &Settings, node: &Path) -> Result<OwnedFd, WriteFileError> {
    let failed = |reason: String| WriteFileError::Mount {
        disk: settings.disk.clone(),
        fs: settings.fs.clone(),
        reason,
    };
    let fs = rustix::mount::fsopen(settings.fs.as_str(), FsOpenFlags::FSOPEN_CLOEXEC).map_err(|error| {
        failed(match error {
            Errno::NODEV => "this kernel does not know the file system (is its module loaded?)".to_owned(),
            error => error.to_string(),
        })
    })?;
    // What the file system has to say about a failure is read from the same descriptor.
    let explain = |error: Errno| failed(format!("{error}{}", kernel_messages(&fs)));
    rustix::mount::fsconfig_set_string(&fs, "source", node).map_err(explain)?;
    rustix::mount::fsconfig_create(&fs).map_err(explain)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(explain)
}

fn kernel_messages(fs: &OwnedFd) -> String {
    let mut text = String::new();
    let mut buffer = [0; 1024];
    // One message per read; the kernel keeps eight at most.
    for _ in 0..8 {
        let Ok(count) = rustix::io::read(fs, &mut buffer) else {
            break;
        };
        let message = String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()).into_owned();
        text.push_str("; ");
        text.push_str(message.trim_start_matches(['e', 'w', 'i', ' ']).trim());
    }
    text
}

/// Creates the file in the file system mounted at `root`.
fn write_below(root: &OwnedFd, settings: &Settings) -> Result<(), WriteFileError> {
    let (directory, path) = locate(root, settings)?;
    let failed = |what| settings.error(what, &path);
    let name = path.file_name().unwrap_or_default();
    match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            return Err(failed("write")(Errno::ISDIR));
        }
        Ok(_) | Err(Errno::NOENT) => {}
        Err(error) => return Err(failed("examine")(error)),
    }
    let temporary = temporary_name();
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::unlinkat(&directory, &temporary, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(failed("prepare")(error)),
    }
    let file = rustix::fs::openat(&directory, &temporary, flags, Mode::from_raw_mode(0o600))
        .map_err(failed("create"))?;
    let result = fill(file, settings).map_err(failed("write")).and_then(|()| {
        rustix::fs::renameat(&directory, &temporary, &directory, name).map_err(failed("replace"))
    });
    if let (Err(_), Err(error)) = (&result, rustix::fs::unlinkat(&directory, &temporary, AtFlags::empty())) {
        // The first error counts; the next attempt removes the leftover.
        tracing::debug!(%error, "temporary file left behind");
    }
    // The descriptor of the mount itself is a mere path, which cannot be flushed.
    result.and_then(|()| rustix::fs::syncfs(&directory).map_err(failed("flush")))
}

fn temporary_name() -> OsString {
    OsString::from(".tink-worker.new")
}

fn fill(file: OwnedFd, settings: &Settings) -> Result<(), Errno> {
    let mut file = std::fs::File::from(file);
    let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    file.write_all(settings.contents.as_bytes()).map_err(errno)?;
    own(&file, settings)?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(settings.mode))?;
    file.sync_all().map_err(errno)
}

fn own(file: impl std::os::fd::AsFd, settings: &Settings) -> Result<(), Errno> {
    let (uid, gid) = settings.owner;
    rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

/// Finds the directory that holds the file, creating what is missing, and the path of the file after following a
/// symbolic link that stands in its place.
fn locate(root: &OwnedFd, settings: &Settings) -> Result<(OwnedFd, PathBuf), WriteFileError> {
    let mut path = settings.path.clone();
    for _ in 0..LONGEST_LINK_CHAIN {
        let parent = path.parent().unwrap_or(Path::new("")).to_owned();
        let directory = open_directory(root, &parent, settings)?;
        let Some(name) = path.file_name() else {
            return Err(settings.error("follow", &path)(Errno::ISDIR));
        };
        match rustix::fs::readlinkat(&directory, name, Vec::new()) {
            Ok(target) => {
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                // An absolute target starts at the root of the file system, where relative paths start here.
                path = match target.strip_prefix("/") {
                    Ok(absolute) => absolute.to_owned(),
                    Err(_) => parent.join(target),
                };
            }
            // Not a link, or nothing there.
            Err(Errno::INVAL | Errno::NOENT) => return Ok((directory, path)),
            Err(error) => return Err(settings.error("follow", &path)(error)),
        }
    }
    Err(settings.error("follow", &path)(Errno::LOOP))
}

/// Opens a directory inside the root, creating what is missing of it with the action's owner and mode.
fn open_directory(root: &OwnedFd, path: &Path, settings: &Settings) -> Result<OwnedFd, WriteFileError> {
    let open = |path: &Path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(
            root,
            path,
            flags,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    };
    let mut reached = PathBuf::new();
    let mut directory = open(&reached).map_err(settings.error("open", &reached))?;
    for component in path.components() {
        let name = component.as_os_str();
        let next = reached.join(name);
        directory = match open(&next) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => {
                make_directory(&directory, name, settings).map_err(settings.error("create", &next))?;
                open(&next).map_err(settings.error("open", &next))?
            }
            Err(error) => return Err(settings.error("open", &next)(error)),
        };
        reached = next;
    }
    Ok(directory)
}

fn make_directory(parent: &OwnedFd, name: &OsStr, settings: &Settings) -> Result<(), Errno> {
    rustix::fs::mkdirat(parent, name.as_bytes(), Mode::from_raw_mode(0o700))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(parent, name.as_bytes(), flags, Mode::empty())?;
    own(&made, settings)?;
    // Not through mkdir: that is masked by this process's umask.
    rustix::fs::fchmod(&made, Mode::from_raw_mode(settings.directory_mode))
}

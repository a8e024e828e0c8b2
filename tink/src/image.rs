// SPDX-License-Identifier: Apache-2.0

//! `tink image`: this program as a container image, for clusters that have no registry.
//!
//! Owns the form: a docker-archive, which `ctr images import`, `docker load` and `podman load` take. The daemons are the program's subcommands, so that one
//! static binary is the whole image; what boots serves to machines may go along. The same files give the same bytes. Nothing is kept in memory but one piece
//! of a file: a layer is hashed while it is written, and what names it comes after it.

use std::{
    fs,
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// Where the program lies in the image.
const PROGRAM: &str = "usr/local/bin/tink";
/// Where the iPXE boot programs lie in it, and kernel and initramfs.
pub(crate) const BOOT_PROGRAMS: &str = "usr/share/tinkerbell/boot-programs";
pub(crate) const HOOK: &str = "usr/share/tinkerbell/hook";
/// A tar is made of these.
const BLOCK: u64 = 512;
/// What it ends with: two empty ones.
const END: [u8; 1024] = [0; 1024];
/// Piece of a file that is read at once.
const PIECE: usize = 1 << 16;
/// Of a program, what is looked at.
const HEAD: u64 = 4096;
/// Longest name in a tar's header; a longer one would need an extension.
const NAME: usize = 100;

/// Why there is no image. Nothing is retried.
#[derive(Debug, Error)]
pub enum ImageError {
    /// A file or directory cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The archive cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program that finds no libraries in the image.
    #[error(
        "{} is no static program, and the image has no libraries for it: build it with RUSTFLAGS=-Ctarget-feature=+crt-static and --target",
        .0.display()
    )]
    Dynamic(PathBuf),
    /// A file that has no place in a layer.
    #[error("{}: its name is longer than {NAME} bytes in the image, or no text", .0.display())]
    Name(PathBuf),
    /// A file that became shorter while it was read.
    #[error("{} changed while it was read", .0.display())]
    Changed(PathBuf),
}

/// What goes into an image.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// The static program.
    pub program: &'a Path,
    /// Directory of iPXE boot programs.
    pub boot_programs: Option<&'a Path>,
    /// Directory with kernel and initramfs.
    pub hook: Option<&'a Path>,
}

/// Writes an image of that name, `REPOSITORY:TAG`; gives the digest of its configuration, by which containers know it.
///
/// # Errors
///
/// See [`ImageError`]; what was at the path is there still then, and nothing else.
pub fn write(contents: Contents<'_>, name: &str, path: &Path) -> Result<String, ImageError> {
    if !is_static(contents.program)? {
        return Err(ImageError::Dynamic(contents.program.to_owned()));
    }
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = write_to(contents, name, &part).and_then(|digest| {
        let failed = |source| ImageError::Write { path: path.to_owned(), source };
        fs::rename(&part, path).map_err(failed)?;
        Ok(digest)
    });
    if written.is_err() {
        // Where it cannot even be removed, the error says why.
        let _ = fs::remove_file(&part);
    }
    written
}

fn write_to(contents: Contents<'_>, name: &str, path: &Path) -> Result<String, ImageError> {
    let failed = |source| ImageError::Write { path: path.to_owned(), source };
    let mut archive = Archive { path, out: io::BufWriter::new(fs::File::create(path).map_err(failed)?) };
    let mut layers = vec![vec![File::of(contents.program, PROGRAM.to_owned(), 0o755)?]];
    for (folder, place) in [(contents.boot_programs, BOOT_PROGRAMS), (contents.hook, HOOK)] {
        if let Some(folder) = folder {
            layers.push(files(folder, place)?);
        }
    }
    let (mut names, mut digests) = (Vec::new(), Vec::new());
    for (number, files) in layers.iter().enumerate() {
        let name = format!("layer-{number}.tar");
        digests.push(format!("sha256:{}", archive.layer(&name, files)?));
        names.push(name);
    }
    let configuration = configuration(&digests).to_string();
    let digest = hex(&Sha256::digest(&configuration));
    let manifest = json!([{"Config": format!("{digest}.json"), "RepoTags": [name], "Layers": names}]);
    archive.text(&format!("{digest}.json"), &configuration)?;
    archive.text("manifest.json", &manifest.to_string())?;
    archive.end()?;
    Ok(digest)
}

fn configuration(layers: &[String]) -> Value {
    json!({
        "architecture": match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        },
        "os": "linux",
        "config": {"Entrypoint": [format!("/{PROGRAM}")], "Env": ["PATH=/usr/local/bin"]},
        "rootfs": {"type": "layers", "diff_ids": layers},
    })
}

/// Whether a program is an ELF file that names no interpreter (System V ABI, chapter 5, `PT_INTERP`).
fn is_static(path: &Path) -> Result<bool, ImageError> {
    let failed = |source| ImageError::Read { path: path.to_owned(), source };
    let mut head = Vec::new();
    // The program headers come right after the file's own in all that linkers make.
    fs::File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head)).map_err(failed)?;
    Ok(interpreters(&head) == Some(0))
}

/// How many interpreters the head of a program names: nothing when it is no 64-bit little-endian ELF file, or its headers lie elsewhere.
fn interpreters(head: &[u8]) -> Option<usize> {
    const PT_INTERP: usize = 3;
    let number = |at: usize, length: usize| {
        let bytes = head.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    };
    head.starts_with(b"\x7fELF\x02\x01").then_some(())?;
    let (at, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let kinds = (0..count).map(|index| number(at.checked_add(index.checked_mul(size)?)?, 4));
    let kinds: Vec<usize> = kinds.collect::<Option<_>>()?;
    Some(kinds.into_iter().filter(|kind| *kind == PT_INTERP).count())
}

/// A file on its way into a layer.
struct File {
    from: PathBuf,
    name: String,
    mode: u32,
    length: u64,
}

impl File {
    fn of(from: &Path, name: String, mode: u32) -> Result<Self, ImageError> {
        let failed = |source| ImageError::Read { path: from.to_owned(), source };
        if name.len() > NAME {
            return Err(ImageError::Name(from.to_owned()));
        }
        let length = fs::metadata(from).map_err(failed)?.len();
        Ok(Self { from: from.to_owned(), name, mode, length })
    }

    /// Its length in a tar, with its header.
    fn room(&self) -> u64 {
        BLOCK + self.length.next_multiple_of(BLOCK)
    }
}

/// The files of a directory, by name; what is in directories below is none of it.
fn files(folder: &Path, place: &str) -> Result<Vec<File>, ImageError> {
    let failed = |source| ImageError::Read { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_file() {
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| ImageError::Name(path.clone()))?;
            files.push(File::of(&path, format!("{place}/{name}"), 0o644)?);
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

/// The archive while it is written.
struct Archive<'a> {
    path: &'a Path,
    out: io::BufWriter<fs::File>,
}

impl Archive<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.out.write_all(bytes).map_err(|source| ImageError::Write { path: self.path.to_owned(), source })
    }

    fn text(&mut self, name: &str, text: &str) -> Result<(), ImageError> {
        let length = text.len() as u64;
        self.put(&header(name, 0o644, length))?;
        self.put(text.as_bytes())?;
        self.put(&zeros(length))
    }

    /// Writes a layer; gives its digest.
    fn layer(&mut self, name: &str, files: &[File]) -> Result<String, ImageError> {
        let length = files.iter().map(File::room).sum::<u64>() + END.len() as u64;
        self.put(&header(name, 0o644, length))?;
        let mut digest = Sha256::new();
        for file in files {
            self.hashed(&header(&file.name, file.mode, file.length), &mut digest)?;
            self.file(file, &mut digest)?;
            self.hashed(&zeros(file.length), &mut digest)?;
        }
        self.hashed(&END, &mut digest)?;
        self.put(&zeros(length))?;
        Ok(hex(&digest.finalize()))
    }

    fn file(&mut self, file: &File, digest: &mut Sha256) -> Result<(), ImageError> {
        let failed = |source| ImageError::Read { path: file.from.clone(), source };
        let mut from = fs::File::open(&file.from).map_err(failed)?.take(file.length);
        let (mut piece, mut left) = (vec![0; PIECE], file.length);
        loop {
            let read = from.read(&mut piece).map_err(failed)?;
            let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            self.hashed(bytes, digest)?;
            left -= bytes.len() as u64;
        }
        if left == 0 { Ok(()) } else { Err(ImageError::Changed(file.from.clone())) }
    }

    fn hashed(&mut self, bytes: &[u8], digest: &mut Sha256) -> Result<(), ImageError> {
        digest.update(bytes);
        self.put(bytes)
    }

    fn end(mut self) -> Result<(), ImageError> {
        self.put(&END)?;
        let failed = |source| ImageError::Write { path: self.path.to_owned(), source };
        self.out.into_inner().map_err(|error| failed(error.into_error()))?.sync_all().map_err(failed)
    }
}

/// What fills the last block of a file of this length.
fn zeros(length: u64) -> Vec<u8> {
    vec![0; usize::try_from(length.next_multiple_of(BLOCK) - length).unwrap_or(0)]
}

/// The header of a file that root owns, of no time (POSIX.1-2017, pax, "ustar Interchange Format"; a length beyond 8 GiB in base 256, as GNU tar has it).
fn header(name: &str, mode: u32, length: u64) -> Vec<u8> {
    let mut header = Vec::new();
    let mut field = |bytes: &[u8], width: usize| {
        header.extend(bytes.iter().copied().chain(std::iter::repeat(0)).take(width));
    };
    field(name.as_bytes(), NAME);
    field(format!("{mode:07o}").as_bytes(), 8);
    field(b"0000000", 8);
    field(b"0000000", 8);
    match length < 1 << 33 {
        true => field(format!("{length:011o}").as_bytes(), 12),
        false => field(&[&[0x80, 0, 0, 0][..], &length.to_be_bytes()].concat(), 12),
    }
    field(b"00000000000", 12);
    // The sum is made with spaces in its place.
    field(b"        ", 8);
    field(b"0", 1);
    field(b"", 100);
    field(b"ustar\x0000", 8);
    field(b"", 247);
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header.splice(148..156, format!("{sum:06o}\0 ").into_bytes());
    header
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// The smallest head of a program with headers of these kinds.
    fn program(kinds: &[u8]) -> Vec<u8> {
        let mut head = vec![0; 64 + 56 * kinds.len()];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (head[32], head[54], head[56]) = (64, 56, u8::try_from(kinds.len()).unwrap());
        for (index, kind) in kinds.iter().enumerate() {
            head[64 + 56 * index] = *kind;
        }
        head
    }

    fn run(program: &str, args: &[&str]) -> Vec<u8> {
        let output = Command::new(program).args(args).output().unwrap();
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    #[test]
    fn other_programs_read_it_and_the_same_files_give_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        fs::write(place("tink"), [program(&[1, 2]), vec![7; 100_000]].concat()).unwrap();
        fs::create_dir(place("hook")).unwrap();
        fs::write(place("hook").join("vmlinuz-x86_64"), "kernel").unwrap();
        fs::write(place("hook").join("initramfs-x86_64"), vec![9; 1024]).unwrap();
        let (program, hook) = (place("tink"), place("hook"));
        let contents = Contents { program: &program, boot_programs: None, hook: Some(&hook) };
        let digest = write(contents, "tinkerbell/tink:1", &place("one.tar")).unwrap();
        assert_eq!(write(contents, "tinkerbell/tink:1", &place("two.tar")).unwrap(), digest);
        assert!(fs::read(place("one.tar")).unwrap() == fs::read(place("two.tar")).unwrap());

        let (archive, out) = (place("one.tar"), place("out"));
        fs::create_dir(&out).unwrap();
        run("tar", &["-xf", archive.to_str().unwrap(), "-C", out.to_str().unwrap()]);
        let manifest: Value = serde_json::from_slice(&fs::read(out.join("manifest.json")).unwrap()).unwrap();
        assert_eq!(manifest[0]["RepoTags"], json!(["tinkerbell/tink:1"]));
        assert_eq!(manifest[0]["Config"], format!("{digest}.json"));
        let sum = |name: &str| {
            let sum = run("sha256sum", &[out.join(name).to_str().unwrap()]);
            String::from_utf8(sum).unwrap().split(' ').next().unwrap().to_owned()
        };
        assert_eq!(sum(&format!("{digest}.json")), digest);
        let configuration = fs::read(out.join(format!("{digest}.json"))).unwrap();
        let configuration: Value = serde_json::from_slice(&configuration).unwrap();
        let layers: Vec<String> =
            ["layer-0.tar", "layer-1.tar"].map(|name| format!("sha256:{}", sum(name))).to_vec();
        assert_eq!(configuration["rootfs"]["diff_ids"], json!(layers));
        assert_eq!(manifest[0]["Layers"], json!(["layer-0.tar", "layer-1.tar"]));
        let listed = run("tar", &["-tvf", out.join("layer-0.tar").to_str().unwrap(), "--numeric-owner"]);
        let listed = String::from_utf8(listed).unwrap();
        assert!(listed.starts_with("-rwxr-xr-x 0/0") && listed.contains("usr/local/bin/tink"), "{listed}");
        run("tar", &["-xf", out.join("layer-1.tar").to_str().unwrap(), "-C", out.to_str().unwrap()]);
        assert_eq!(fs::read_to_string(out.join(HOOK).join("vmlinuz-x86_64")).unwrap(), "kernel");
        assert_eq!(fs::read(out.join(HOOK).join("initramfs-x86_64")).unwrap(), vec![9; 1024]);
    }

    #[test]
    fn what_would_not_run_in_a_container_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (program, image) = (dir.path().join("tink"), dir.path().join("image.tar"));
        let contents = Contents { program: &program, boot_programs: None, hook: None };
        for head in [self::program(&[1, 3]), b"#!/bin/sh\n".to_vec(), b"\x7fELF\x02\x01".to_vec()] {
            fs::write(&program, head).unwrap();
            let refused = write(contents, "t:1", &image);
            assert!(matches!(refused, Err(ImageError::Dynamic(_))) && !image.exists(), "{refused:?}");
        }
        let mut endless = self::program(&[1]);
        endless[32..40].copy_from_slice(&[0xff; 8]);
        assert_eq!(interpreters(&endless), None);
    }

    #[test]
    fn a_failure_leaves_what_was_there_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (tink, image) = (dir.path().join("tink"), dir.path().join("image.tar"));
        fs::write(&tink, program(&[1])).unwrap();
        fs::write(&image, "older").unwrap();
        let hook = dir.path().join("hook");
        fs::create_dir(&hook).unwrap();
        let long = "x".repeat(NAME);
        fs::write(hook.join(long), "").unwrap();
        let contents = Contents { program: &tink, boot_programs: None, hook: Some(&hook) };
        assert!(matches!(write(contents, "t:1", &image), Err(ImageError::Name(_))));
        assert_eq!(fs::read_to_string(&image).unwrap(), "older");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "tink, image.tar and hook");
    }

    #[test]
    fn a_length_beyond_eight_gibibytes_has_its_place() {
        assert_eq!(&header("a", 0o644, 1 << 33)[124..136], [0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
        assert_eq!(&header("a", 0o644, 8)[124..136], b"00000000010\0");
    }
}

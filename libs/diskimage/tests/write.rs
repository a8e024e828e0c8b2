// SPDX-License-Identifier: Apache-2.0
//! Images made by the usual command-line tools, whole and broken, written to files and to a loop device.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::{Cursor, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use diskimage::{Cancel, Compression, Declared, Digest, Error, Image, Progress, Written, write_image};
use sha2::Digest as _;

const MIB: usize = 1024 * 1024;

/// Bytes that do not compress to nothing and never hold a long run of zeros.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|index| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if index % 4 == 0 { b'a' } else { state.to_le_bytes()[0] }
        })
        .collect()
}

/// Data, a hole, data, a hole: `mib` MiB in all.
fn sample_image(mib: usize) -> Vec<u8> {
    let mut image = vec![0; mib * MIB];
    image[..MIB / 2].copy_from_slice(&noise(1, MIB / 2));
    let middle = mib / 2 * MIB + 4096;
    if mib > 2 {
        image[middle..middle + MIB].copy_from_slice(&noise(2, MIB));
    }
    image
}

fn compress(program: &str, arguments: &[&str], data: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = data.to_owned();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    assert!(output.status.success(), "{program} failed");
    output.stdout
}

struct Disk {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Disk {
    /// A file that stands for a disk of `len` bytes with old data everywhere.
    fn dirty(len: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        fs::write(&path, vec![0xee; len]).unwrap();
        Self { _directory: directory, path }
    }

    fn contents(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }
}

fn image(name: &str, declared: Declared, data: &[u8]) -> Image {
    Image { name: name.to_owned(), declared, len: Some(data.len() as u64), digest: None }
}

fn write(data: &[u8], image: &Image, disk: &Path) -> Result<Written, Error> {
    write_image(Cursor::new(data.to_owned()), image, disk, &Progress::default(), &Cancel::default())
}

fn formats(data: &[u8]) -> Vec<(&'static str, Compression, Vec<u8>)> {
    let (left, right) = data.split_at(data.len() / 3);
    let twice = |program: &str, arguments: &[&str]| {
        [compress(program, arguments, left), compress(program, arguments, right)].concat()
    };
    vec![
        ("a.img.gz", Compression::Gzip, compress("gzip", &["-c", "-1"], data)),
        ("two.gz", Compression::Gzip, twice("gzip", &["-c", "-1"])),
        ("a.zst", Compression::Zstd, compress("zstd", &["-c", "-3"], data)),
        ("two.zs", Compression::Zstd, twice("zstd", &["-c", "-1"])),
        ("long.zst", Compression::Zstd, compress("zstd", &["-c", "-1", "--long=27"], data)),
        ("a.xz", Compression::Xz, compress("xz", &["-c", "-0"], data)),
        ("two.xz", Compression::Xz, twice("xz", &["-c", "-0"])),
        ("blocks.xz", Compression::Xz, compress("xz", &["-c", "-0", "--block-size=1MiB"], data)),
        ("a.bz2", Compression::Bzip2, compress("bzip2", &["-c"], data)),
        ("two.bzip2", Compression::Bzip2, twice("bzip2", &["-c"])),
        ("no-suffix", Compression::Zstd, compress("zstd", &["-c", "-1"], data)),
    ]
}

#[test]
fn every_format_ends_up_as_the_same_disk() {
    let data = sample_image(9);
    for (name, compression, packed) in formats(&data) {
        let disk = Disk::dirty(12 * MIB);
        let progress = Progress::default();
        let written = write_image(
            Cursor::new(packed.clone()),
            &image(name, Declared::Compressed, &packed),
            &disk.path,
            &progress,
            &Cancel::default(),
        )
        .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(written.compression, compression, "{name}");
        assert_eq!((written.image_bytes, written.source_bytes), (data.len() as u64, packed.len() as u64));
        let contents = disk.contents();
        assert!(contents[..data.len()] == data, "{name}: disk differs from image");
        assert!(
            contents[data.len()..11 * MIB].iter().all(|byte| *byte == 0xee),
            "{name}: wrote past the image"
        );
        assert!(
            contents[11 * MIB..].iter().all(|byte| *byte == 0),
            "{name}: the old end of the disk is still there"
        );
        let counted = progress.snapshot();
        assert_eq!(counted.written + counted.zero, data.len() as u64, "{name}");
        assert_eq!((counted.read, counted.total), (packed.len() as u64, packed.len() as u64));
        assert!(counted.zero > 5 * MIB as u64, "{name}: {counted:?}");
    }
}

#[test]
fn raw_images_of_odd_length_are_written_exactly_and_zeros_become_holes() {
    for len in [1, 511, 4097, MIB - 1, MIB, MIB + 1, 2 * MIB, 6 * MIB + 12345] {
        let mut data = sample_image(8);
        data.truncate(len);
        let disk = Disk::dirty(0);
        write(&data, &image("a.img", Declared::Raw, &data), &disk.path).unwrap();
        assert!(disk.contents() == data, "length {len}");
    }
    let data = sample_image(64);
    let disk = Disk::dirty(0);
    write(&data, &image("a.img", Declared::Raw, &data), &disk.path).unwrap();
    assert!(disk.contents() == data);
    let allocated = fs::metadata(&disk.path).unwrap().blocks() * 512;
    assert!(allocated < 4 * MIB as u64, "{allocated} bytes allocated");
}

#[test]
fn an_image_as_large_as_the_disk_fits_and_one_byte_more_does_not() {
    let data = noise(3, 5 * MIB);
    let disk = Disk::dirty(data.len());
    write(&data, &image("a.img", Declared::Raw, &data), &disk.path).unwrap();
    assert!(disk.contents() == data);

    let disk = Disk::dirty(data.len() - 1);
    let error = write(&data, &image("a.img", Declared::Raw, &data), &disk.path).unwrap_err();
    assert!(matches!(error, Error::TooLarge { exact: true, .. }), "{error}");
    assert!(disk.contents().iter().all(|byte| *byte == 0xee), "the disk was touched");

    // zstd says how large it is; gzip does not, so the overflow shows while writing and nothing may boot.
    let packed =
        compress("zstd", &["-c", "-1", "--content-size", &format!("--stream-size={}", data.len())], &data);
    let error = write(&packed, &image("a.zst", Declared::Compressed, &packed), &disk.path).unwrap_err();
    assert!(
        matches!(error, Error::TooLarge { image_bytes, .. } if image_bytes == data.len() as u64),
        "{error}"
    );
    assert!(disk.contents().iter().all(|byte| *byte == 0xee), "the disk was touched");

    let packed = compress("gzip", &["-c", "-1"], &data);
    let error = write(&packed, &image("a.gz", Declared::Compressed, &packed), &disk.path).unwrap_err();
    assert!(matches!(error, Error::TooLarge { exact: false, .. }), "{error}");
    assert_unbootable(&disk);
}

fn assert_unbootable(disk: &Disk) {
    let contents = disk.contents();
    assert!(contents[..MIB.min(contents.len())].iter().all(|byte| *byte == 0), "the first MiB is not wiped");
    let tail = contents.len().saturating_sub(MIB).next_multiple_of(4096);
    assert!(contents[tail..].iter().all(|byte| *byte == 0), "the last MiB is not wiped");
}

#[test]
fn a_cut_anywhere_fails_and_leaves_nothing_that_boots() {
    let data = [noise(4, 3 * MIB / 2), vec![0; MIB], noise(5, MIB / 3)].concat();
    let mut cases = formats(&data);
    cases.push(("raw.img", Compression::Raw, data.clone()));
    for (name, compression, packed) in cases {
        let declared = if compression == Compression::Raw { Declared::Raw } else { Declared::Compressed };
        let len = packed.len();
        let cuts =
            [0, 1, 2, 3, 5, 9, 11, 17, len / 3, len / 2, len * 9 / 10, len - 9, len - 4, len - 2, len - 1];
        for cut in cuts {
            let disk = Disk::dirty(4 * MIB);
            let error = write(&packed[..cut], &image(name, declared, &packed), &disk.path).unwrap_err();
            assert!(
                matches!(error, Error::Truncated { at, of } if at == cut as u64 && of == len as u64),
                "{name} cut at {cut}: {error:?}"
            );
            assert_eq!(error.to_string(), format!("image ended at byte {cut} of {len}"));
            if disk.contents().iter().any(|byte| *byte != 0xee) {
                assert_unbootable(&disk);
            }
            // Without an announced length only the compression can tell; raw data cannot be judged.
            let unknown = Image { len: None, ..image(name, declared, &packed) };
            let boundary = name.starts_with("two");
            if compression != Compression::Raw && !boundary {
                let error = write(&packed[..cut], &unknown, &Disk::dirty(4 * MIB).path).unwrap_err();
                let named = error.to_string().contains(&format!("image ended at byte {cut}"));
                assert!(
                    named || (cut < 10 && name == "no-suffix") || cut == 0,
                    "{name} cut at {cut}: {error:?}"
                );
            }
        }
    }
}

#[test]
fn damage_is_found_and_located() {
    let data = noise(6, 2 * MIB);
    for (name, compression, packed) in formats(&data) {
        let mut broken = packed.clone();
        let middle = packed.len() / 2;
        for byte in &mut broken[middle..middle + 64] {
            *byte ^= 0x5a;
        }
        let disk = Disk::dirty(4 * MIB);
        let error = write(&broken, &image(name, Declared::Compressed, &broken), &disk.path).unwrap_err();
        assert!(matches!(error, Error::Damaged { format, .. } if format == compression), "{name}: {error:?}");
        if disk.contents().iter().any(|byte| *byte != 0xee) {
            assert_unbootable(&disk);
        }
    }
}

#[test]
fn the_digest_is_of_the_bytes_as_downloaded() {
    let data = sample_image(3);
    let packed = compress("gzip", &["-c", "-1"], &data);
    let right = Digest::from_bytes(sha2::Sha256::digest(&packed).into());
    let wrong = Digest::from_bytes(sha2::Sha256::digest(&data).into());

    let disk = Disk::dirty(4 * MIB);
    let ask = |digest| Image { digest: Some(digest), ..image("a.gz", Declared::Compressed, &packed) };
    let error = write(&packed, &ask(wrong), &disk.path).unwrap_err();
    assert!(matches!(error, Error::Digest { expected, got } if expected == wrong && got == right), "{error}");
    assert_unbootable(&disk);
    write(&packed, &ask(right), &disk.path).unwrap();
    assert!(disk.contents()[..data.len()] == data);
}

#[test]
fn what_is_not_an_image_leaves_the_disk_alone() {
    let data = sample_image(1);
    let gz = compress("gzip", &["-c", "-1"], &data);
    let mut tar = vec![0u8; 2048];
    tar[257..262].copy_from_slice(b"ustar");
    let packed_tar = compress("gzip", &["-c"], &tar);
    let qcow = [b"QFI\xfb".to_vec(), vec![0; 4096]].concat();
    let cases: [(&str, Declared, &[u8], &str); 7] = [
        ("a.img", Declared::Raw, &gz, "does not say COMPRESSED=true"),
        ("a.img.zst", Declared::Compressed, &gz, "named as zstd but its data is gzip"),
        ("a.img.xz", Declared::Compressed, &data, "named as xz but its data is not"),
        ("a.img", Declared::Compressed, &data, "neither the name `a.img`"),
        ("a.img", Declared::Raw, &qcow, "a qcow2 image"),
        ("a.tar.gz", Declared::Compressed, &packed_tar, "a tar archive"),
        ("a.img", Declared::Raw, b"<html><body>404</body></html>", "an HTML page"),
    ];
    for (name, declared, data, hint) in cases {
        let disk = Disk::dirty(2 * MIB);
        let error = write(data, &image(name, declared, data), &disk.path).unwrap_err().to_string();
        assert!(error.contains(hint), "{name}: {error}");
        assert!(disk.contents().iter().all(|byte| *byte == 0xee), "{name}: the disk was touched");
    }
    let disk = Disk::dirty(2 * MIB);
    assert!(matches!(write(&[], &image("a.img", Declared::Raw, &[]), &disk.path), Err(Error::Empty)));
    let error =
        write(&data, &image("a.img", Declared::Raw, &data), Path::new("/dev/no-such-disk")).unwrap_err();
    assert!(
        error.to_string().starts_with("disk /dev/no-such-disk does not exist; this machine has "),
        "{error}"
    );
    assert!(matches!(
        write(&data, &image("a.img", Declared::Raw, &data), Path::new("/dev/null")),
        Err(Error::NotADisk(_))
    ));
}

#[test]
fn a_failing_source_is_reported_as_itself() {
    struct Broken(Cursor<Vec<u8>>);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(std::io::Error::other("peer said no")),
                count => Ok(count),
            }
        }
    }
    let data = sample_image(4);
    let packed = compress("zstd", &["-c", "-1"], &data);
    for (name, declared, bytes) in [("a.img", Declared::Raw, &data), ("a.zst", Declared::Compressed, &packed)]
    {
        let disk = Disk::dirty(6 * MIB);
        let source = Broken(Cursor::new(bytes[..bytes.len() / 2].to_vec()));
        let image = image(name, declared, bytes);
        let error =
            write_image(source, &image, &disk.path, &Progress::default(), &Cancel::default()).unwrap_err();
        assert!(matches!(&error, Error::Source(inner) if inner.to_string() == "peer said no"), "{error:?}");
    }
}

#[test]
fn cancelling_stops_the_write() {
    struct Endless(Cancel, u32);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.1 += 1;
            if self.1 == 100 {
                self.0.cancel();
            }
            buffer.fill(7);
            Ok(buffer.len())
        }
    }
    let cancel = Cancel::default();
    let disk = Disk::dirty(0);
    let image = Image { name: "a.img".to_owned(), declared: Declared::Raw, len: None, digest: None };
    let source = Endless(cancel.clone(), 0);
    let error = write_image(source, &image, &disk.path, &Progress::default(), &cancel).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error:?}");
}

/// A loop device over a sparse file, detached on drop.
struct LoopDevice {
    disk: Disk,
    device: PathBuf,
}

impl LoopDevice {
    fn attach(len: usize) -> Option<Self> {
        let disk = Disk::dirty(len);
        let output =
            Command::new("losetup").args(["--find", "--show", "--partscan"]).arg(&disk.path).output().ok()?;
        if !output.status.success() {
            eprintln!("skipped: no loop device: {}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        let device = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
        Some(Self { disk, device })
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let status = Command::new("losetup").arg("--detach").arg(&self.device).status();
        assert!(status.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[test]
fn a_block_device_gets_the_image_its_zeros_and_its_partitions() {
    let Some(device) = LoopDevice::attach(40 * MIB) else {
        return;
    };
    // A partitioned image of odd length, so that the last sector is a partial one.
    let source = Disk::dirty(0);
    let mut data = sample_image(20);
    data[..MIB].fill(0);
    data.truncate(19 * MIB + 700);
    fs::write(&source.path, &data).unwrap();
    let script = "label: gpt\nfirst-lba: 2048\nsize=4MiB\nsize=8MiB\n";
    let mut child = Command::new("sfdisk")
        .arg("--quiet")
        .arg(&source.path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    let data = fs::read(&source.path).unwrap();
    let packed = compress("zstd", &["-c", "-1"], &data);

    let image = image("a.zst", Declared::Compressed, &packed);
    let written = write(&packed, &image, &device.device).unwrap();
    if kernel_reads_gpt(&device.device) {
        let node = device.device.display().to_string();
        assert_eq!(written.partitions, [PathBuf::from(format!("{node}p1")), format!("{node}p2").into()]);
    } else {
        eprintln!("skipped: partition nodes: this kernel reads no GPT");
        assert_eq!(written.partitions, [] as [PathBuf; 0]);
    }

    let mut contents = vec![0; 40 * MIB];
    File::open(&device.device).unwrap().read_exact(&mut contents).unwrap();
    assert!(contents[..data.len()] == data, "device differs from image");
    assert!(contents[39 * MIB..].iter().all(|byte| *byte == 0), "the old end of the disk is still there");
    drop(contents);
    let allocated = fs::metadata(&device.disk.path).unwrap().blocks() * 512;
    assert!(allocated < 26 * MIB as u64, "zeros were written: {allocated} bytes allocated");
}

/// Asked of the kernel through a tool of its own, since kernels of containers and sandboxes often cannot.
fn kernel_reads_gpt(device: &Path) -> bool {
    let reread = Command::new("blockdev").arg("--rereadpt").arg(device).status();
    let name = device.file_name().unwrap().to_str().unwrap();
    reread.is_ok_and(|status| status.success())
        && Path::new("/sys/class/block").join(name).join(format!("{name}p1")).exists()
}

#[test]
fn a_disk_in_use_is_refused() {
    let Some(device) = LoopDevice::attach(4 * MIB) else {
        return;
    };
    // What the kernel does for a mounted file system: hold the device exclusively.
    let holder = rustix::fs::open(
        &device.device,
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::EXCL,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    let data = sample_image(1);
    let error = write(&data, &image("a.img", Declared::Raw, &data), &device.device).unwrap_err();
    assert!(matches!(error, Error::Busy(_)), "{error:?}");
    drop(holder);
    write(&data, &image("a.img", Declared::Raw, &data), &device.device).unwrap();
}

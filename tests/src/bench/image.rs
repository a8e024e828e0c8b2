// SPDX-License-Identifier: Apache-2.0
//! Writing an image from HTTP to a disk, beside `curl | zstd -d | dd`.
//!
//! The disk is a preallocated file that is overwritten, on the machine's own disk; both sides end with fsync. The image is
//! made here: 1 GiB of which a quarter is data that compresses about 2:1, the rest zeros, as in a fresh installation.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use diskimage::{Cancel, Declared, Image, Progress, write_image};

use super::{RUNS, Row, median, megabytes_per_second};

const IMAGE_BYTES: u64 = 1 << 30;
const EXTENT: usize = 1 << 20;

/// Measures both sides for a zstd and for a raw image.
pub fn run() -> Result<Vec<Row>> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let raw = folder.path().join("image.raw");
    make_image(&raw)?;
    shell(&format!("zstd -q -3 -T0 {raw} -o {raw}.zst", raw = raw.display()))?;
    let mut rows = Vec::new();
    for (name, decompress) in [("image.raw.zst", "| zstd -q -d -c"), ("image.raw", "")] {
        let served = folder.path().join(name);
        let address = serve(&served)?;
        let disk = folder.path().join("disk");
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            fill(&disk)?;
            ours.push(megabytes_per_second(IMAGE_BYTES, write_ours(address, name, &served, &disk)?));
            same(&raw, &disk)?;
            fill(&disk)?;
            let started = Instant::now();
            let disk_name = disk.display();
            shell(&format!(
                "curl -sf http://{address}/{name} {decompress} | dd of={disk_name} bs=4M iflag=fullblock conv=notrunc,fsync status=none"
            ))?;
            theirs.push(megabytes_per_second(IMAGE_BYTES, started.elapsed()));
            same(&raw, &disk)?;
        }
        for (subject, values) in [("image2disk pipeline", ours), ("curl | zstd | dd", theirs)] {
            rows.push(Row {
                bench: name.to_owned(),
                subject: subject.to_owned(),
                value: median(values),
                unit: "MB/s of image",
            });
        }
    }
    Ok(rows)
}

/// A disk's worth of bytes with a partition table's signature, data in every fourth extent.
fn make_image(path: &Path) -> Result<()> {
    let mut file = File::create(path)?;
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut extent = vec![0_u8; EXTENT];
    let extents = IMAGE_BYTES / EXTENT as u64;
    for index in 0..extents {
        if index % 4 == 0 {
            for pair in extent.chunks_mut(16) {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let noise = seed.to_le_bytes();
                // Half noise, half text: compresses about 2:1.
                pair.iter_mut().zip(noise.iter().chain(b"tinkbell")).for_each(|(slot, byte)| *slot = *byte);
            }
            if index == 0 {
                extent.splice(510..512, [0x55, 0xaa]);
            }
        } else {
            extent.fill(0);
        }
        file.write_all(&extent)?;
    }
    Ok(file.sync_all()?)
}

/// Old content that is not zero, allocated, written back.
fn fill(disk: &Path) -> Result<()> {
    let mut file = File::create(disk)?;
    let block = vec![0xa5_u8; EXTENT];
    for _ in 0..IMAGE_BYTES / EXTENT as u64 {
        file.write_all(&block)?;
    }
    Ok(file.sync_all()?)
}

fn write_ours(address: SocketAddr, name: &str, served: &Path, disk: &Path) -> Result<Duration> {
    let started = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    // In one piece: a server that reads once must see all of it.
    stream.write_all(format!("GET /{name} HTTP/1.0\r\n\r\n").as_bytes())?;
    skip_header(&mut stream)?;
    let declared = if name.ends_with(".zst") { Declared::Compressed } else { Declared::Raw };
    let image = Image { name: name.to_owned(), declared, len: Some(served.metadata()?.len()), digest: None };
    write_image(stream, &image, disk, &Progress::default(), &Cancel::default())?;
    Ok(started.elapsed())
}

fn skip_header(stream: &mut TcpStream) -> Result<()> {
    let mut last = [0_u8; 4];
    while last != *b"\r\n\r\n" {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        last.rotate_left(1);
        let [.., end] = &mut last;
        [*end] = byte;
    }
    Ok(())
}

/// One file over HTTP on loopback, the same server for both sides. Ends with the process.
fn serve(file: &Path) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let file = file.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away is its own business; what arrived is compared afterwards.
            drop(answer(stream, &file));
        }
    });
    Ok(address)
}

fn answer(mut stream: TcpStream, file: &Path) -> Result<()> {
    let mut request = [0; 4096];
    let length = stream.read(&mut request)?;
    ensure!(length > 0, "no request");
    let mut source = File::open(file)?;
    write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", source.metadata()?.len())?;
    std::io::copy(&mut source, &mut stream)?;
    Ok(())
}

fn same(expected: &Path, disk: &Path) -> Result<()> {
    shell(&format!("cmp {} {}", expected.display(), disk.display()))
        .context("the disk does not hold the image")
}

fn shell(line: &str) -> Result<()> {
    let status = Command::new("bash").args(["-o", "pipefail", "-c", line]).status()?;
    ensure!(status.success(), "`{line}` ended with {status}");
    Ok(())
}

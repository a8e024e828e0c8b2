// SPDX-License-Identifier: Apache-2.0
//! The contract of TFTP as a table: one named case per rule, the bytes of a request in and those of the first answer out.

use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::time::Duration;

use crate::dhcp::boot_programs;
use crate::world::{Boots, SERVER, command, hardware, in_namespace};

const NOT_FOUND: &[u8] = b"\0\x05\0\x01File not found\0";
const PROGRAM: &[u8] = b"\0\x03\0\x01undionly.kpxe";
const PXELINUX: &[u8] = b"\0\x03\0\x01DEFAULT local\n";

const LOCAL_DISK: &[u8] =
    b"\0\x03\0\x01SAY Tinkerbell: m3 may not boot from the network (netboot.allowPXE), going on with the disk\n\
      DEFAULT local\nLABEL local\n  LOCALBOOT 0\n";

const PXELINUX_SIZE: &[u8] = b"\0\x01pxelinux.cfg/01-52-54-00-00-00-ab\0netascii\0tsize\x000\0";

/// What is asked for, and the first answer.
const CASES: [(&str, &[u8], &[u8]); 27] = [
    ("a boot program", b"\0\x01undionly.kpxe\0octet\0", PROGRAM),
    ("a boot program in any folder", b"\0\x01any/where/undionly.kpxe\0octet\0", PROGRAM),
    ("a boot program behind a slash", b"\0\x01/undionly.kpxe\0octet\0", PROGRAM),
    ("a boot program in a folder of Windows", b"\0\x01\\boot\\undionly.kpxe\0octet\0", PROGRAM),
    ("a boot program with a MAC", b"\0\x0152:54:00:00:00:ab/undionly.kpxe\0octet\0", PROGRAM),
    (
        "a boot program with a trace",
        b"\0\x01undionly.kpxe-00-0123456789abcdef0123456789abcdef-0123456789abcdef-01\0octet\0",
        PROGRAM,
    ),
    ("a mode in capitals", b"\0\x01undionly.kpxe\0OCTET\0", PROGRAM),
    ("pxelinux by MAC", b"\0\x01pxelinux.cfg/01-52-54-00-00-00-ab\0octet\0", PXELINUX),
    ("pxelinux by MAC in capitals", b"\0\x01pxelinux.cfg/01-52-54-00-00-00-AB\0octet\0", PXELINUX),
    ("pxelinux behind a slash", b"\0\x01/pxelinux.cfg/01-52-54-00-00-00-ab\0octet\0", PXELINUX),
    (
        "netascii has the line ends of the network",
        b"\0\x01pxelinux.cfg/01-52-54-00-00-00-ab\0netascii\0",
        b"\0\x03\0\x01DEFAULT local\r\n",
    ),
    ("pxelinux that may not boot", b"\0\x01pxelinux.cfg/01-52-54-00-00-00-13\0octet\0", LOCAL_DISK),
    ("a boot program for who may not boot", b"\0\x0152:54:00:00:00:13/undionly.kpxe\0octet\0", PROGRAM),
    ("pxelinux of an unknown MAC", b"\0\x01pxelinux.cfg/01-52-54-00-00-00-99\0octet\0", NOT_FOUND),
    ("pxelinux of a machine without one", b"\0\x01pxelinux.cfg/01-52-54-00-00-00-12\0octet\0", NOT_FOUND),
    ("pxelinux in another folder", b"\0\x01x/pxelinux.cfg/01-52-54-00-00-00-ab\0octet\0", NOT_FOUND),
    ("pxelinux with more behind the MAC", b"\0\x01pxelinux.cfg/01-52-54-00-00-00-ab0\0octet\0", NOT_FOUND),
    ("pxelinux by address", b"\0\x01pxelinux.cfg/AC1F000B\0octet\0", NOT_FOUND),
    ("another file", b"\0\x01nothing\0octet\0", NOT_FOUND),
    ("a file outside", b"\0\x01../../etc/passwd\0octet\0", NOT_FOUND),
    (
        "block size and size are granted up to the limit",
        b"\0\x01undionly.kpxe\0octet\0blksize\x0065464\0tsize\x000\0",
        b"\0\x06blksize\x001468\0tsize\x0013\0",
    ),
    (
        "a window and the client's timeout are granted",
        b"\0\x01undionly.kpxe\0octet\0windowsize\x00200\0timeout\x003\0",
        b"\0\x06timeout\x003\0windowsize\x0064\0",
    ),
    ("a block size that is none is left out", b"\0\x01undionly.kpxe\0octet\0blksize\x007\0", PROGRAM),
    (
        "an option's name in capitals",
        b"\0\x01undionly.kpxe\0octet\0BLKSIZE\x00512\0",
        b"\0\x06blksize\x00512\0",
    ),
    ("the size in netascii is that of the lines of the network", PXELINUX_SIZE, b"\0\x06tsize\x0015\0"),
    (
        "options that nobody knows are left out",
        b"\0\x01undionly.kpxe\0octet\0multicast\0\0blksize\x00512\0",
        b"\0\x06blksize\x00512\0",
    ),
    ("nothing is written", b"\0\x02undionly.kpxe\0octet\0", b"\0\x05\0\x04This server is read-only\0"),
];

#[test]
#[ignore = "needs root; run ./x test"]
fn every_rule_of_tftp_gives_its_bytes() {
    in_namespace(|| async {
        command("ip", &["addr", "add", &format!("{SERVER}/24"), "dev", "lo"]);
        let mut machine = hardware("m1", "52:54:00:00:00:ab", "172.31.0.11");
        let pxelinux = serde_json::json!({ "config": "DEFAULT local\n" });
        machine["spec"]["interfaces"][0]["netboot"]["pxelinux"] = pxelinux.clone();
        let other = hardware("m2", "52:54:00:00:00:12", "172.31.0.12");
        let mut refused = hardware("m3", "52:54:00:00:00:13", "172.31.0.13");
        refused["spec"]["interfaces"][0]["netboot"] =
            serde_json::json!({ "allowPXE": false, "pxelinux": pxelinux });
        let dir = boot_programs();
        let programs = format!("--boot-program-dir={}", dir.path().display());
        let flags =
            [programs.as_str(), "--ipxe-http-script-osie-url=http://elsewhere", "--dhcp-enabled=false"];
        let boots = Boots::start(vec![machine, other, refused], Vec::new(), &flags).await;
        for (name, request, expected) in CASES {
            ask(name, "0.0.0.0", request, expected).await;
        }
        boots.stop().await;
    });
}

/// Asks from an address, and compares the first answer.
async fn ask(name: &str, from: &'static str, request: &'static [u8], expected: &[u8]) {
    let answer = tokio::task::spawn_blocking(move || {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.send_to(request, (SERVER, 69)).unwrap();
        let mut buffer = [0; 2000];
        let (length, from) = socket.recv_from(&mut buffer).expect("an answer");
        // It ends the transfer, which would be repeated otherwise.
        socket.send_to(b"\0\x05\0\0done\0", from).unwrap();
        (buffer[..length].to_vec(), from.port())
    });
    let (answer, port) = answer.await.unwrap();
    assert_eq!(answer.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{name}");
    assert_eq!(port, 69, "{name}: answers come from the port that was asked");
}

/// The machine, and another one.
const PI: &str = "172.31.0.11";
const OTHER: &str = "172.31.0.12";
const PRESEED: &[u8] = b"\0\x03\0\x01d-i\n";
const FIRMWARE: &[u8] = b"\0\x03\0\x01start4";

/// What is asked for from which address, and the first answer, where there is a directory of assets.
const ASSETS: [(&str, &str, &[u8], &[u8]); 20] = [
    ("a file of the directory", OTHER, b"\0\x01debian/preseed.cfg\0octet\0", PRESEED),
    ("a file behind a slash", OTHER, b"\0\x01/debian/preseed.cfg\0octet\0", PRESEED),
    ("a file in a folder of Windows", OTHER, b"\0\x01\\debian\\preseed.cfg\0octet\0", PRESEED),
    ("a link inside", OTHER, b"\0\x01debian/link\0octet\0", PRESEED),
    ("a link that leads out", OTHER, b"\0\x01debian/out\0octet\0", NOT_FOUND),
    ("a path that leads out", OTHER, b"\0\x01debian/../../secret\0octet\0", NOT_FOUND),
    ("a path that comes back", OTHER, b"\0\x01debian/../debian/preseed.cfg\0octet\0", NOT_FOUND),
    ("a folder", OTHER, b"\0\x01debian\0octet\0", NOT_FOUND),
    ("the size of a file", OTHER, b"\0\x01debian/preseed.cfg\0octet\0tsize\x000\0", b"\0\x06tsize\x004\0"),
    ("a boot program comes before a file", OTHER, b"\0\x01debian/undionly.kpxe\0octet\0", PROGRAM),
    (
        "pxelinux of the Hardware comes before a file",
        OTHER,
        b"\0\x01pxelinux.cfg/01-52-54-00-00-00-ab\0octet\0",
        PXELINUX,
    ),
    (
        "pxelinux of another machine is a file",
        OTHER,
        b"\0\x01pxelinux.cfg/01-52-54-00-00-00-12\0octet\0",
        b"\0\x03\0\x01file 12",
    ),
    ("an operator's grub.cfg comes before ours", OTHER, b"\0\x01boot/grub.cfg\0octet\0", b"\0\x03\0\x01own"),
    ("a Raspberry Pi's config.txt", PI, b"\0\x015dcc45e5/config.txt\0octet\0", b"\0\x03\0\x01arm_64bit=1\n"),
    ("a Raspberry Pi's cmdline.txt", PI, b"\0\x015dcc45e5/cmdline.txt\0octet\0", b"\0\x03\0\x01a=1 b"),
    ("a Raspberry Pi's firmware", PI, b"\0\x015dcc45e5/start4.elf\0octet\0", FIRMWARE),
    ("a Raspberry Pi's path that leads out", PI, b"\0\x015dcc45e5/../../secret\0octet\0", NOT_FOUND),
    ("the folder of another serial number", PI, b"\0\x01ffffffff/config.txt\0octet\0", NOT_FOUND),
    ("a Raspberry Pi's files from another address", OTHER, b"\0\x015dcc45e5/config.txt\0octet\0", NOT_FOUND),
    ("a Raspberry Pi asks for a file of the directory", PI, b"\0\x01debian/preseed.cfg\0octet\0", PRESEED),
];

#[test]
#[ignore = "needs root; run ./x test"]
fn every_rule_of_assets_gives_its_bytes() {
    in_namespace(|| async {
        for address in [SERVER, PI, OTHER] {
            command("ip", &["addr", "add", &format!("{address}/24"), "dev", "lo"]);
        }
        let mut machine = hardware("m1", "52:54:00:00:00:ab", PI);
        machine["spec"]["interfaces"][0]["netboot"] = serde_json::json!({
            "pxelinux": { "config": "DEFAULT local\n" },
            "rpi": { "serialNum": "5dcc45e5", "firmwarePath": "rpi4/", "configTxt": "arm_64bit=1\n" },
            "osie": { "kernelParams": ["a=1", "b"] },
            "allowPXE": true,
        });
        let other = hardware("m2", "52:54:00:00:00:12", OTHER);
        let (dir, outer) = (boot_programs(), tempfile::tempdir().unwrap());
        let assets = outer.path().join("assets");
        for (path, text) in [
            ("secret", "s"),
            ("assets/debian/preseed.cfg", "d-i\n"),
            ("assets/debian/undionly.kpxe", "another"),
            ("assets/rpi4/start4.elf", "start4"),
            ("assets/boot/grub.cfg", "own"),
            ("assets/pxelinux.cfg/01-52-54-00-00-00-ab", "file ab"),
            ("assets/pxelinux.cfg/01-52-54-00-00-00-12", "file 12"),
        ] {
            let path = outer.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        symlink("preseed.cfg", assets.join("debian/link")).unwrap();
        symlink("../../secret", assets.join("debian/out")).unwrap();
        let flags = [
            format!("--boot-program-dir={}", dir.path().display()),
            format!("--tftp-asset-dir={}", assets.display()),
            "--ipxe-http-script-osie-url=http://elsewhere".to_owned(),
            "--dhcp-enabled=false".to_owned(),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let boots = Boots::start(vec![machine, other], Vec::new(), &flags).await;
        for (name, from, request, expected) in ASSETS {
            ask(name, from, request, expected).await;
        }
        boots.stop().await;
    });
}

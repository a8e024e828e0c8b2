// SPDX-License-Identifier: Apache-2.0
//! ISO images as a BMC reads them, in ranges, by curl; upstream is Python's own HTTP server, which knows If-Modified-Since.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::world::{Boots, Child, SERVER, command, hardware, in_namespace, peer, workflow};

const MAC: &str = "52:54:00:00:00:11";
const UPSTREAM: &str = "127.0.0.1:8000";
const DEADLINE: Duration = Duration::from_secs(20);
/// A marker of our own, shorter than HookOS's, with room for what the test's machine gets.
const MARKER: [u8; 512] = [b'%'; 512];

/// Where markers are: at the start, across the borders of what is read at once, two in a row, and near the end.
const PLACES: [usize; 6] = [0, 262_144 - 100, 524_288 - 511, 1_000_000, 1_000_512, 2_999_000];

/// Bytes without order, and in them the marker; the last is cut by the end, and so is none.
fn image() -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Never the marker's own byte.
        state.to_be_bytes()[0] & 0x0f
    };
    let mut image: Vec<u8> = (0..3_000_000).map(|_| next()).collect();
    for place in PLACES {
        image[place..place + MARKER.len()].copy_from_slice(&MARKER);
    }
    let end = image.len();
    image[end - 300..].copy_from_slice(&MARKER[..300]);
    image
}

struct Upstream {
    _server: Child,
    log: PathBuf,
}

impl Upstream {
    fn start(dir: &Path) -> Self {
        let log = dir.join("upstream.log");
        let (address, port) = UPSTREAM.split_once(':').unwrap();
        let script = format!(
            "exec python3 -u -m http.server --bind {address} --directory {} {port} 2> {}",
            dir.display(),
            log.display()
        );
        let server = Child::start(&peer("sh"), &["-c", &script]);
        let begin = Instant::now();
        while std::net::TcpStream::connect(UPSTREAM).is_err() {
            assert!(begin.elapsed() < DEADLINE, "upstream starts");
        }
        Self { _server: server, log }
    }

    /// How often it gave this answer.
    fn gave(&self, status: &str) -> usize {
        let log = std::fs::read_to_string(&self.log).unwrap();
        log.lines().filter(|line| line.contains(&format!("\" {status} "))).count()
    }
}

async fn boots(state: &Path, flags: &[&str]) -> Boots {
    boots_for(hardware("m1", MAC, "172.31.0.11"), state, flags).await
}

async fn boots_for(machine: Value, state: &Path, flags: &[&str]) -> Boots {
    let programs = state.join("programs");
    std::fs::create_dir_all(&programs).unwrap();
    for name in ["undionly.kpxe", "ipxe.efi", "snp-arm64.efi"] {
        std::fs::write(programs.join(name), name).unwrap();
    }
    let own = [
        format!("--boot-program-dir={}", programs.display()),
        format!("--state-dir={}", state.display()),
        format!("--iso-patch-magic-string={}", std::str::from_utf8(&MARKER).unwrap()),
    ];
    let own = own.iter().map(String::as_str);
    let fixed = ["--ipxe-http-script-osie-url=http://192.0.2.1/", "--dhcp-enabled=false", "--iso-enabled"];
    let flags: Vec<&str> = own.chain(fixed).chain(flags.iter().copied()).collect();
    Boots::start(vec![machine], vec![workflow("m1")], &flags).await
}

fn network() {
    command("ip", &["addr", "add", &format!("{SERVER}/24"), "dev", "lo"]);
}

async fn curl(args: &[&str]) -> Output {
    let all = [&["-s", "-S", "--max-time", "30"], args].concat();
    Command::new("curl").args(all).kill_on_drop(true).output().await.unwrap()
}

async fn status(path: &str) -> String {
    let url = format!("http://{SERVER}:7171{path}");
    String::from_utf8(curl(&["-o", "/dev/null", "-w", "%{http_code}", &url]).await.stdout).unwrap()
}

fn url() -> String {
    format!("http://{SERVER}:7171/iso/{MAC}/hook.iso")
}

/// Checks that an image is the original but for its markers, which all have the same text; gives that text.
fn patched(original: &[u8], image: &[u8]) -> String {
    assert_eq!(image.len(), original.len());
    let text = image[PLACES[0]..PLACES[0] + MARKER.len()].to_vec();
    let mut expected = original.to_vec();
    for place in PLACES {
        expected[place..place + MARKER.len()].copy_from_slice(&text);
    }
    assert!(image == expected, "no byte outside of the markers changes, and no marker is missed");
    String::from_utf8(text).unwrap()
}

#[test]
#[ignore = "needs root, curl, python3; run ./x test"]
fn an_upstream_image_is_fetched_once_and_every_range_of_it_is_exact() {
    in_namespace(|| async {
        network();
        let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let original = image();
        std::fs::write(dir.path().join("hook.iso"), &original).unwrap();
        let upstream = Upstream::start(dir.path());
        let flag = format!("--iso-upstream-url=http://{UPSTREAM}/hook.iso");
        let site = boots(state.path(), &[&flag, "--iso-static-ipam-enabled"]).await;

        // The first request is a range in the middle, while the image comes.
        let middle = curl(&["-r", "999999-1000600", &url()]).await.stdout;
        let whole = curl(&[&url()]).await.stdout;
        assert!(middle == whole[999_999..=1_000_600]);
        let text = patched(&original, &whole);
        assert!(text.starts_with("console=ttyAMA0 ") && text.ends_with("    "), "{text}");
        assert!(text.contains(&format!(" worker_id={MAC} ")), "{text}");
        assert!(
            text.contains(" ipam=52-54-00-00-00-11::172.31.0.11:255.255.255.0:172.31.0.1:m1:1.1.1.1:: "),
            "{text}"
        );
        assert!(text.contains(" tink_agent_token="), "{text}");

        // Ranges that begin, end and lie in markers, at the borders of reads, and at the end.
        for (first, last) in [
            (0, 0),
            (0, 511),
            (511, 512),
            (100, 300),
            (262_143, 262_144),
            (262_000, 262_600),
            (523_777, 524_288),
            (1_000_511, 1_000_512),
            (2_999_100, 2_999_999),
            (2_048, 1_500_000),
        ] {
            let part = curl(&["-r", &format!("{first}-{last}"), &url()]).await.stdout;
            assert!(part == whole[first..=last], "{first}-{last}");
        }
        let several = curl(&["-r", "0-9,262040-262050", &url()]).await.stdout;
        let several = String::from_utf8_lossy(&several).into_owned();
        let head = |range: &str| format!("Content-Range: bytes {range}/3000000\r\n\r\n");
        assert!(several.contains(&format!("{}{}\r\n--", head("0-9"), &text[..10])), "{several}");
        assert!(several.contains(&head("262040-262050")), "{several}");

        let head = String::from_utf8(curl(&["-I", &url()]).await.stdout).unwrap().to_lowercase();
        assert!(
            head.contains("content-length: 3000000\r\n") && head.contains("accept-ranges: bytes"),
            "{head}"
        );
        let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
        let part = curl(&["-r", "5-8", "-H", &format!("If-Range: {etag}"), &url()]).await.stdout;
        assert!(part == whole[5..=8]);
        let other = curl(&["-r", "5-8", "-H", "If-Range: \"other\"", &url()]).await.stdout;
        assert!(other == whole, "another image is sent whole");

        assert_eq!((upstream.gave("200"), upstream.gave("304")), (1, 0), "it came once");
        let told = site.event("IsoRead", DEADLINE).await;
        assert!(told.starts_with("ISO image of 3000000 bytes"), "{told}");
        site.stop().await;

        // Another process asks whether it changed; while upstream is away it is served all the same.
        let site = boots(state.path(), &[&flag]).await;
        assert!(!patched(&original, &curl(&[&url()]).await.stdout).contains("ipam="));
        assert_eq!((upstream.gave("200"), upstream.gave("304")), (1, 1));
        site.stop().await;
        drop(upstream);
        let site = boots(state.path(), &[&flag]).await;
        patched(&original, &curl(&[&url()]).await.stdout);
        site.stop().await;

        // A changed image is another one.
        std::fs::write(dir.path().join("hook.iso"), &original[..2_999_999]).unwrap();
        let _upstream = Upstream::start(dir.path());
        let site = boots(state.path(), &[&flag]).await;
        assert_eq!(curl(&[&url()]).await.stdout.len(), 2_999_999);
        let head = String::from_utf8(curl(&["-I", &url()]).await.stdout).unwrap().to_lowercase();
        assert!(!head.contains(&etag), "{head}");
        site.stop().await;
    });
}

#[test]
#[ignore = "needs root, curl, python3; run ./x test"]
fn a_machine_has_the_image_of_its_own_also_where_it_may_not_boot_from_the_network() {
    in_namespace(|| async {
        network();
        let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let original = image();
        std::fs::write(dir.path().join("hook.iso"), "another").unwrap();
        // The server sends whoever asks for a folder to the page in it.
        std::fs::create_dir(dir.path().join("own")).unwrap();
        std::fs::write(dir.path().join("own/index.html"), &original).unwrap();
        let upstream = Upstream::start(dir.path());
        let mut machine = hardware("m1", MAC, "172.31.0.11");
        let interface = &mut machine["spec"]["interfaces"][0];
        interface["isoboot"] = json!({ "sourceISO": format!("http://{UPSTREAM}/own") });
        interface["netboot"]["allowPXE"] = false.into();
        let flag = format!("--iso-upstream-url=http://{UPSTREAM}/hook.iso");
        let site = boots_for(machine, state.path(), &[&flag]).await;
        patched(&original, &curl(&[&url()]).await.stdout);
        assert_eq!((upstream.gave("301"), upstream.gave("200")), (1, 1), "the redirection is followed here");
        site.stop().await;
    });
}

#[test]
#[ignore = "needs root, curl, python3; run ./x test"]
fn ten_redirections_are_followed_and_none_to_another_scheme() {
    /// `/N/hook.iso` leads over N redirections to the image, `/ftp/hook.iso` to itself by another scheme.
    const HOPS: &str = r#"
import http.server
class Hops(http.server.SimpleHTTPRequestHandler):
    def send_head(self):
        hop = self.path.split("/")[1]
        if hop == "hook.iso":
            return super().send_head()
        self.send_response(302)
        left = int(hop) - 1 if hop.isdigit() else 0
        to = f"/{left}/hook.iso" if left else "/hook.iso"
        self.send_header("Location", to if hop.isdigit() else f"ftp://127.0.0.1:8000{to}")
        self.send_header("Content-Length", "0")
        self.end_headers()
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Hops).serve_forever()
"#;
    in_namespace(|| async {
        network();
        let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(dir.path().join("hook.iso"), image()).unwrap();
        let script = dir.path().join("hops.py");
        std::fs::write(&script, HOPS).unwrap();
        let command = format!("cd {} && exec python3 {}", dir.path().display(), script.display());
        let _server = Child::start(&peer("sh"), &["-c", &command]);
        let begin = Instant::now();
        while std::net::TcpStream::connect(UPSTREAM).is_err() {
            assert!(begin.elapsed() < DEADLINE, "upstream starts");
        }
        for (from, expected) in [("10", "200"), ("11", "502"), ("ftp", "502")] {
            let flag = format!("--iso-upstream-url=http://{UPSTREAM}/{from}/hook.iso");
            let site = boots(state.path(), &[&flag]).await;
            assert_eq!(status(&format!("/iso/{MAC}/hook.iso")).await, expected, "{from}");
            site.stop().await;
        }
    });
}

#[test]
#[ignore = "needs root, curl; run ./x test"]
fn an_image_of_our_own_is_served_the_same_way_and_what_cannot_be_served_is_refused() {
    in_namespace(|| async {
        network();
        let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (original, file) = (image(), dir.path().join("hook.iso"));
        std::fs::write(&file, &original).unwrap();
        let flag = format!("--iso-file={}", file.display());
        let site = boots(state.path(), &[&flag]).await;
        let whole = curl(&[&url()]).await.stdout;
        let text = patched(&original, &whole);
        let part = curl(&["-r", "262044-262099", &url()]).await.stdout;
        assert_eq!(part, text.as_bytes()[..56]);
        for (path, expected) in [
            (format!("/iso/{MAC}/hook.img"), "404"),
            ("/iso/m1/hook.iso".to_owned(), "400"),
            ("/iso/hook.iso".to_owned(), "400"),
            ("/iso/52:54:00:00:00:99/hook.iso".to_owned(), "404"),
            (format!("/iso/any/where/{MAC}/x.iso"), "200"),
        ] {
            assert_eq!(status(&path).await, expected, "{path}");
        }
        // A file that changes is looked at again.
        std::fs::write(&file, &original[1..]).unwrap();
        assert_eq!(curl(&["-r", "0-", &url()]).await.stdout.len(), original.len() - 1);
        site.stop().await;

        let long = format!("--ipxe-http-script-extra-kernel-args={}", "x".repeat(MARKER.len()));
        let site = boots(state.path(), &[&flag, &long]).await;
        assert_eq!(status(&format!("/iso/{MAC}/hook.iso")).await, "500", "a marker is never overrun");
        site.stop().await;
        let site = boots(state.path(), &[]).await;
        assert_eq!(status(&format!("/iso/{MAC}/hook.iso")).await, "400", "no image is configured");
        site.stop().await;
        let site = boots(state.path(), &["--iso-upstream-url=http://127.0.0.1:1/x.iso"]).await;
        assert_eq!(status(&format!("/iso/{MAC}/hook.iso")).await, "502");
        site.stop().await;
    });
}

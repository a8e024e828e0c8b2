// SPDX-License-Identifier: Apache-2.0
//! curl against HTTP and TFTP of the whole daemon.

use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::world::{Boots, SERVER, command, hardware, in_namespace, workflow};

const MAC: &str = "52:54:00:00:00:11";
const EVENT: Duration = Duration::from_secs(5);

struct Site {
    boots: Boots,
    dir: tempfile::TempDir,
}

async fn site(machine: Value) -> Site {
    site_with(machine, &[]).await
}

async fn site_with(machine: Value, flags: &[&str]) -> Site {
    command("ip", &["addr", "add", &format!("{SERVER}/24"), "dev", "lo"]);
    command("ip", &["addr", "add", "172.31.0.11/24", "dev", "lo"]);
    let dir = tempfile::tempdir().unwrap();
    for name in ["programs", "hook", "images"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    for name in ["undionly.kpxe", "ipxe.efi", "snp-arm64.efi"] {
        std::fs::write(dir.path().join("programs").join(name), name).unwrap();
    }
    std::fs::write(dir.path().join("hook/vmlinuz-x86_64"), vec![7; 3_000_000]).unwrap();
    std::fs::write(dir.path().join("hook/initramfs-x86_64"), "initramfs").unwrap();
    std::fs::write(dir.path().join("images/debian.raw.zst"), "0123456789").unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let own = [
        format!("--boot-program-dir={}", path("programs")),
        format!("--hook-dir={}", path("hook")),
        format!("--images-dir={}", path("images")),
    ];
    let flags: Vec<&str> = own.iter().map(String::as_str).chain(flags.iter().copied()).collect();
    let boots = Boots::start(vec![machine], vec![workflow("m1")], &flags).await;
    Site { boots, dir }
}

/// curl as the machine.
async fn curl(args: &[&str]) -> Output {
    let mut all = vec!["-s", "-S", "--interface", "172.31.0.11", "--max-time", "20"];
    all.extend(args);
    Command::new("curl").args(all).kill_on_drop(true).output().await.unwrap()
}

async fn status(args: &[&str]) -> String {
    let mut all = vec!["-o", "/dev/null", "-w", "%{http_code}"];
    all.extend(args);
    String::from_utf8(curl(&all).await.stdout).unwrap()
}

/// A script without the seconds that go by.
fn without_time(script: &str) -> String {
    let parts = script.split("tink_time=");
    parts.map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit())).collect()
}

fn url(path: &str) -> String {
    format!("http://{SERVER}:7171{path}")
}

#[test]
#[ignore = "needs root, curl"]
fn scripts_carry_one_token_per_boot_and_know_the_machine_by_path_or_address() {
    in_namespace(|| async {
        let site = site(hardware("m1", MAC, "172.31.0.11")).await;
        let token = |output: Output| {
            let text = String::from_utf8(output.stdout).unwrap();
            let token =
                text.split(' ').find_map(|word| word.strip_prefix("tink_agent_token=")).map(str::to_owned);
            (text.starts_with("#!ipxe\n"), token.unwrap_or_default())
        };
        let by_path = token(curl(&[&url(&format!("/ipxe/script/{MAC}/auto.ipxe"))]).await);
        let by_address = token(curl(&[&url("/ipxe/script/auto.ipxe")]).await);
        let over_tftp = token(curl(&[&format!("tftp://{SERVER}/{MAC}/auto.ipxe")]).await);
        assert!(by_path.0 && by_path.1.len() > 60, "{by_path:?}");
        assert_eq!([&by_address, &over_tftp], [&by_path; 2]);
        site.boots.event("ScriptSent", EVENT).await;
        assert_eq!(status(&[&url("/ipxe/script/02:00:00:00:00:99/auto.ipxe")]).await, "404");
        assert_eq!(status(&[&url(&format!("/ipxe/script/{MAC}/other.ipxe"))]).await, "404");
        site.boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, curl"]
fn an_ipxe_finds_a_script_beside_itself_that_leads_to_its_own() {
    in_namespace(|| async {
        let site = site(hardware("m1", MAC, "172.31.0.11")).await;
        let over_http = curl(&[&url(&format!("/ipxe/binary/{MAC}/autoexec.ipxe"))]).await.stdout;
        let text = String::from_utf8(over_http.clone()).unwrap();
        assert!(
            text.contains("\ndhcp ") && text.ends_with(&format!("/ipxe/script/{MAC}/auto.ipxe\n")),
            "{text}"
        );
        for path in ["autoexec.ipxe", &format!("{MAC}/autoexec.ipxe")] {
            assert_eq!(curl(&[&format!("tftp://{SERVER}/{path}")]).await.stdout, over_http);
        }
        assert!(site.boots.events().is_empty(), "it is no script yet");
        site.boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, curl"]
fn grub_is_told_what_ipxe_is_told_when_it_asks_by_its_mac_and_nothing_by_its_address() {
    in_namespace(|| async {
        // The client has this address, which may be another server's lease of it.
        let site = site(hardware("m1", MAC, "172.31.0.11")).await;
        let tftp = async |path: &str| curl(&[&format!("tftp://{SERVER}/{path}")]).await;
        // The two places in which Debian's GRUB looks.
        for path in ["/grub/x86_64-efi/grub.cfg", "/grub/grub.cfg"] {
            let text = String::from_utf8(tftp(path).await.stdout).unwrap();
            assert!(text.starts_with("source \"${prefix}/${net_default_mac}/grub.cfg\"\necho "), "{text}");
            assert!(text.ends_with("\nexit 1\n") && !text.contains("linux"), "{text}");
        }
        assert!(site.boots.events().is_empty(), "nobody knows whose that was: {:#?}", site.boots.events());
        let text = String::from_utf8(tftp(&format!("/grub/{MAC}/grub.cfg")).await.stdout).unwrap();
        let kernel = format!("if linux '(http,{SERVER}:7171)/hook/vmlinuz-x86_64' ");
        assert!(text.contains(&kernel) && text.contains(" 'tink_agent_token="), "{text}");
        site.boots.event("ScriptSent", EVENT).await;
        assert_eq!(tftp("/grub/52:54:00:00:00:99/grub.cfg").await.status.code(), Some(68));
        // A GRUB that came over HTTP asks there, for the same.
        for path in ["/grub/grub.cfg", &format!("/grub/{MAC}/grub.cfg")] {
            let over_http = String::from_utf8(curl(&[&url(path)]).await.stdout).unwrap();
            let over_tftp = String::from_utf8(tftp(path).await.stdout).unwrap();
            assert!(over_http.ends_with("\nexit 1\n"), "{over_http}");
            assert_eq!(without_time(&over_http), without_time(&over_tftp), "{path}");
        }
        for path in ["/grub/52:54:00:00:00:99/grub.cfg", "/grub/x86_64-efi/command.lst"] {
            assert_eq!(status(&[&url(path)]).await, "404", "{path}");
        }
        site.boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, curl"]
fn a_machine_that_may_not_boot_gets_a_script_that_leaves_and_an_event() {
    in_namespace(|| async {
        let mut machine = hardware("m1", MAC, "172.31.0.11");
        machine["spec"]["interfaces"][0]["netboot"]["allowPXE"] = false.into();
        let site = site(machine).await;
        let tftp = |path: &str| format!("tftp://{SERVER}/{path}");
        for place in [
            url(&format!("/ipxe/script/{MAC}/auto.ipxe")),
            url("/ipxe/script/auto.ipxe"),
            url("/ipxe/binary/autoexec.ipxe"),
            tftp(&format!("{MAC}/auto.ipxe")),
            tftp("autoexec.ipxe"),
        ] {
            let script = String::from_utf8(curl(&[&place]).await.stdout).unwrap();
            assert!(script.starts_with("#!ipxe\n") && script.ends_with("\nexit 1\n"), "{place}: {script}");
            assert!(!script.contains("kernel") && !script.contains("token"), "{place}: {script}");
        }
        let message = site.boots.event("NetbootRefused", EVENT).await;
        assert!(message.contains("allowPXE"), "{message}");
        assert!(!site.boots.events().iter().any(|event| event.0 == "ScriptSent"), "that was none");
        assert_eq!(status(&[&url("/ipxe/script/52:54:00:00:00:99/auto.ipxe")]).await, "404");
        site.boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, curl"]
fn what_is_switched_off_is_served_nowhere_over_http() {
    in_namespace(|| async {
        let off = ["--ipxe-http-binary-enabled=false", "--ipxe-http-script-enabled=false"];
        let site = site_with(hardware("m1", MAC, "172.31.0.11"), &off).await;
        for path in [
            format!("/ipxe/binary/{MAC}/ipxe.efi"),
            "/ipxe/binary/ipxe.efi".to_owned(),
            format!("/ipxe/script/{MAC}/auto.ipxe"),
            format!("/grub/{MAC}/grub.cfg"),
            // An image that is not configured is another error.
            format!("/iso/{MAC}/hook.iso"),
        ] {
            assert_eq!(status(&[&url(&path)]).await, "404", "{path}");
        }
        assert_eq!(status(&[&url("/hook/vmlinuz-x86_64")]).await, "200");
        assert_eq!(curl(&[&format!("tftp://{SERVER}/ipxe.efi")]).await.stdout, b"ipxe.efi");
        let script = curl(&[&format!("tftp://{SERVER}/{MAC}/auto.ipxe")]).await.stdout;
        assert!(script.starts_with(b"#!ipxe\n"), "TFTP still has all");
        site.boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, curl"]
fn the_address_that_a_trusted_proxy_forwards_for_chooses_the_machine_of_a_script() {
    in_namespace(|| async {
        let flags = ["--trusted-proxies=172.31.0.1/32"];
        let site = site_with(hardware("m1", MAC, "172.31.0.12"), &flags).await;
        let script = url("/ipxe/script/auto.ipxe");
        let ask = async |from: &str, claim: &str| {
            let claim = format!("X-Forwarded-For: {claim}");
            let args = ["-s", "-S", "--interface", from, "--max-time", "20", "-H", &claim, &script];
            let output = Command::new("curl").args(args).kill_on_drop(true).output().await.unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        // The machine, as a proxy and as another one tells of it; then a claim that a client made before the proxy.
        let own = ask(SERVER, "172.31.0.12").await;
        assert!(own.contains(&format!(" worker_id={MAC} ")), "{own}");
        assert_eq!(without_time(&ask(SERVER, "172.31.0.99, 172.31.0.12").await), without_time(&own));
        for (from, claim) in [
            ("172.31.0.11", "172.31.0.12"),
            (SERVER, "172.31.0.12, 172.31.0.99"),
            (SERVER, "172.31.0.99"),
            (SERVER, "m1"),
        ] {
            assert_eq!(ask(from, claim).await, "", "{from} for {claim}");
        }
        site.boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, curl"]
fn a_machine_that_nobody_knows_gets_a_script_in_auto_proxy_mode_only() {
    in_namespace(|| async {
        let site = site_with(hardware("m1", MAC, "172.31.0.12"), &["--dhcp-mode=auto-proxy"]).await;
        let stranger = "52:54:00:00:00:99";
        for path in [format!("/ipxe/script/{stranger}/auto.ipxe"), "/ipxe/script/auto.ipxe".to_owned()] {
            let script = String::from_utf8(curl(&[&url(&path)]).await.stdout).unwrap();
            assert!(script.contains(" worker_id=${mac} hw_addr=${mac} "), "{script}");
            assert!(!script.contains("tink_agent_token"), "{script}");
        }
        let known = String::from_utf8(curl(&[&url(&format!("/ipxe/script/{MAC}/auto.ipxe"))]).await.stdout);
        assert!(known.unwrap().contains(&format!(" worker_id={MAC} ")));
        let script = curl(&[&format!("tftp://{SERVER}/{stranger}/autoexec.ipxe")]).await.stdout;
        let end = format!("/ipxe/script/{stranger}/auto.ipxe\n");
        assert!(script.ends_with(end.as_bytes()), "{}", String::from_utf8_lossy(&script));
        let script = curl(&[&url("/ipxe/binary/autoexec.ipxe")]).await.stdout;
        assert!(script.ends_with(b"/ipxe/script/${mac}/auto.ipxe\n"), "{}", String::from_utf8_lossy(&script));
        site.boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, curl"]
fn what_follows_a_script_is_of_the_machine_that_fetched_it_from_there() {
    in_namespace(|| async {
        // Its address is from another DHCP server, and not the reserved one.
        let site = site_with(hardware("m1", MAC, "172.31.0.12"), &["--dhcp-mode=proxy"]).await;
        let (kernel, script) = (url("/hook/vmlinuz-x86_64"), url(&format!("/ipxe/script/{MAC}/auto.ipxe")));
        assert_eq!(status(&[&kernel]).await, "200");
        assert_eq!(status(&[&script]).await, "200");
        site.boots.event("ScriptSent", EVENT).await;
        assert!(
            !site.boots.events().iter().any(|event| event.0 == "KernelSent"),
            "nobody knew whose that was"
        );
        assert_eq!(status(&[&kernel]).await, "200");
        let sent = site.boots.event("KernelSent", EVENT).await;
        assert!(sent.starts_with("vmlinuz-x86_64, 3000000 bytes in "), "{sent}");
        // A script with the machine's token goes by name or reservation only.
        assert_eq!(status(&[&url("/ipxe/script/auto.ipxe")]).await, "404");
        site.boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, curl"]
fn ssrf_and_header_injection_by_anything_a_client_sends_change_nothing() {
    in_namespace(|| async {
        let site = site(hardware("m1", MAC, "172.31.0.11")).await;
        let trap = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        trap.set_nonblocking(true).unwrap();
        let evil = trap.local_addr().unwrap().to_string();
        let script = url(&format!("/ipxe/script/{MAC}/auto.ipxe"));
        let usual = curl(&[&script]).await.stdout;
        let time = |script: &[u8]| without_time(std::str::from_utf8(script).unwrap());
        for header in [
            format!("Host: {evil}"),
            format!("Forwarded: for=1.1.1.1;host={evil}"),
            format!("X-Forwarded-Host: {evil}"),
            format!("X-Forwarded-For: {evil}"),
            format!("Referer: http://{evil}/${{net0/mac}}"),
        ] {
            let script = curl(&["-H", &header, &script]).await.stdout;
            assert_eq!(time(&script), time(&usual), "{header}");
        }
        for path in [
            format!("http://{evil}/x"),
            format!("/ipxe/binary/http://{evil}/x.efi"),
            format!("/ipxe/script/http://{evil}/auto.ipxe%0d%0aX-Evil:%201"),
            format!("/images/http:%2f%2f{evil}%2fx"),
            format!("/hook/@{evil}"),
            format!("/iso/{MAC}/http:%2f%2f{evil}%2fx.iso"),
            format!("/iso/http://{evil}/{MAC}/x.iso"),
        ] {
            let answer = curl(&["-i", "--path-as-is", "--request-target", &path, &url("/")]).await.stdout;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert!(answer.starts_with("HTTP/1.1 40") && !answer.contains(&evil), "{path}: {answer}");
            assert!(!answer.to_lowercase().contains("x-evil"), "{path}: {answer}");
        }
        assert!(trap.accept().is_err(), "nobody was sent there");
        site.boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, curl"]
fn a_machines_own_script_url_is_chained_to_if_ipxe_can_and_an_error_otherwise() {
    for (own, expected) in [("http://h/x?y=1", "200"), ("tftp://h/x", "500")] {
        in_namespace(move || async move {
            let mut machine = hardware("m1", MAC, "172.31.0.11");
            machine["spec"]["interfaces"][0]["netboot"]["ipxe"] = serde_json::json!({ "url": own });
            let site = site(machine).await;
            let script = url(&format!("/ipxe/script/{MAC}/auto.ipxe"));
            assert_eq!(status(&[&script]).await, expected, "{own}");
            let text = String::from_utf8(curl(&[&script]).await.stdout).unwrap();
            let chains =
                text.starts_with("#!ipxe\n") && text.ends_with("\nchain --autofree http://h/x?y=1\n");
            assert!(chains || (expected == "500" && text.is_empty()), "{text}");
            assert_eq!(status(&["-X", "POST", &script]).await, expected, "any method");
            site.boots.stop().await;
        });
    }
}

#[test]
#[ignore = "needs root, curl"]
fn programs_come_over_http_and_tftp() {
    in_namespace(|| async {
        // Its address is from another DHCP server, so that it is known by its MAC only.
        let site = site_with(hardware("m1", MAC, "172.31.0.12"), &["--dhcp-mode=proxy"]).await;
        let program = url(&format!("/ipxe/binary/{MAC}/ipxe.efi"));
        // As shim asks for GRUB.
        assert_eq!(curl(&[&url(&format!("/ipxe/binary/{MAC}//ipxe.efi"))]).await.stdout, b"ipxe.efi");
        site.boots.event("BootProgramSent", EVENT).await;
        assert_eq!(curl(&[&program]).await.stdout, b"ipxe.efi");
        assert_eq!(curl(&["-r", "1-3", &program]).await.stdout, b"pxe");
        let traced = format!("{program}-00-0123456789abcdef0123456789abcdef-0123456789abcdef-01");
        assert_eq!(curl(&[&traced]).await.stdout, b"ipxe.efi");
        assert_eq!(site.boots.event("BootProgramSent", EVENT).await, "ipxe.efi, 8 bytes over HTTP");
        for path in ["undionly.kpxe", "/undionly.kpxe", &format!("{MAC}/undionly.kpxe")] {
            assert_eq!(curl(&[&format!("tftp://{SERVER}/{path}")]).await.stdout, b"undionly.kpxe");
        }
        assert_eq!(curl(&[&format!("tftp://{SERVER}/nothing")]).await.status.code(), Some(68));
        assert_eq!(status(&["-X", "POST", &program]).await, "405");
        assert_eq!(status(&[&url("/ipxe/binary/nothing.efi")]).await, "404");
        site.boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, curl"]
fn what_machines_without_ipxe_load_over_tftp_comes_over_http_where_it_is_wanted() {
    in_namespace(|| async {
        let assets = tempfile::tempdir().unwrap();
        std::fs::create_dir(assets.path().join("served")).unwrap();
        std::fs::write(assets.path().join("secret"), "s").unwrap();
        std::fs::write(assets.path().join("served/.treeinfo"), "0123456789").unwrap();
        let mut machine = hardware("m1", MAC, "172.31.0.11");
        machine["spec"]["interfaces"][0]["netboot"] = serde_json::json!({
            "pxelinux": { "config": "DEFAULT local\n" },
            "rpi": { "serialNum": "5dcc45e5", "firmwarePath": "rpi4", "configTxt": "arm_64bit=1\n" },
            "allowPXE": true,
        });
        let dir = format!("--tftp-asset-dir={}", assets.path().join("served").display());
        let site =
            site_with(machine, &[&dir, "--pxe-http-enabled", "--pxe-http-path-prefix=pxe/files"]).await;
        let at = |path: &str| url(&format!("/pxe/files/{path}"));
        assert_eq!(curl(&[&at("pxelinux.cfg/01-52-54-00-00-00-11")]).await.stdout, b"DEFAULT local\n");
        assert_eq!(curl(&["-r", "4-5", &at(".treeinfo")]).await.stdout, b"45");
        let head = String::from_utf8(curl(&["-I", &at(".treeinfo")]).await.stdout).unwrap();
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("\r\nContent-Length: 10\r\n"), "{head}");
        assert_eq!(status(&["-X", "POST", &at(".treeinfo")]).await, "405");
        // The last is for the boot loader, which speaks TFTP.
        for path in ["nothing", "../secret", "%2e%2e/secret", "..%2fsecret", "/secret", "5dcc45e5/config.txt"]
        {
            assert_eq!(status(&["--path-as-is", &at(path)]).await, "404", "{path}");
        }
        assert_eq!(status(&[&url("/tftp/.treeinfo")]).await, "404", "only below the prefix");
        site.boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, curl"]
fn files_are_resumed_by_range_unless_they_changed() {
    in_namespace(|| async {
        let site = site(hardware("m1", MAC, "172.31.0.11")).await;
        let image = url("/images/debian.raw.zst");
        let head = String::from_utf8(curl(&["-I", &image]).await.stdout).unwrap().to_lowercase();
        assert!(
            head.contains("content-length: 10\r\n") && head.contains("accept-ranges: bytes\r\n"),
            "{head}"
        );
        let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().trim().to_owned();
        let if_range = format!("If-Range: {etag}");
        assert_eq!(curl(&["-r", "4-", "-H", &if_range, &image]).await.stdout, b"456789");
        assert_eq!(curl(&["-r", "2-3", &image]).await.stdout, b"23");
        assert_eq!(curl(&["-r", "-3", &image]).await.stdout, b"789");
        assert_eq!(status(&["-r", "10-", &image]).await, "416");
        assert_eq!(status(&["-H", &format!("If-None-Match: {etag}"), &image]).await, "304");
        std::fs::write(site.dir.path().join("images/debian.raw.zst"), "abcdefghij").unwrap();
        assert_eq!(
            curl(&["-r", "4-", "-H", &if_range, &image]).await.stdout,
            b"abcdefghij",
            "a new file is sent whole"
        );
        for path in ["/images/..%2fhook%2fvmlinuz-x86_64", "/images/../hook/vmlinuz-x86_64", "/images/%2e%2e"]
        {
            assert_eq!(status(&["--path-as-is", &url(path)]).await, "404", "{path}");
        }
        site.boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, curl"]
fn grub_finds_the_length_of_a_file_in_the_one_spelling_that_it_knows() {
    in_namespace(|| async {
        let site = site(hardware("m1", MAC, "172.31.0.11")).await;
        let head = String::from_utf8(curl(&["--http1.1", "-I", &url("/hook/vmlinuz-x86_64")]).await.stdout);
        let head = head.unwrap();
        assert!(head.contains("\r\nContent-Length: 3000000\r\n"), "{head}");
        site.boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, curl"]
fn every_answer_says_how_long_it_is_and_what_is_there_already_is_not_sent_again() {
    in_namespace(|| async {
        let site = site(hardware("m1", MAC, "172.31.0.11")).await;
        let head =
            async |url: &str| String::from_utf8(curl(&["-I", url]).await.stdout).unwrap().to_lowercase();
        for path in ["/ipxe/binary/ipxe.efi", "/ipxe/script/auto.ipxe", "/hook/initramfs-x86_64"] {
            let (head, body) = (head(&url(path)).await, curl(&[&url(path)]).await.stdout);
            assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{path}: {head}");
            assert!(!head.contains("transfer-encoding"), "{path}: {head}");
        }
        let program = url("/ipxe/binary/ipxe.efi");
        let head = head(&program).await;
        let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().trim().to_owned();
        for same in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
            assert_eq!(status(&["-H", &format!("If-None-Match: {same}"), &program]).await, "304", "{same}");
        }
        assert_eq!(status(&["-H", "If-None-Match: \"x\"", &program]).await, "200");
        let parts = curl(&["-r", "0-1,6-7", &program]).await.stdout;
        let parts = String::from_utf8(parts).unwrap();
        assert!(
            parts.contains("bytes 0-1/8\r\n\r\nip\r\n--") && parts.contains("bytes 6-7/8\r\n\r\nfi\r\n--"),
            "{parts}"
        );
        site.boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, curl"]
fn https_serves_the_same_and_takes_a_renewed_certificate() {
    in_namespace(|| async {
        let dir = tempfile::tempdir().unwrap();
        let (certificate, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
        let renew = || {
            let made = rcgen::generate_simple_self_signed(vec![SERVER.to_owned()]).unwrap();
            std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            std::fs::write(&certificate, made.cert.pem()).unwrap();
        };
        renew();
        let flags = [
            format!("--tls-cert-file={}", certificate.display()),
            format!("--tls-key-file={}", key.display()),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let site = site_with(hardware("m1", MAC, "172.31.0.11"), &flags).await;
        let image = format!("https://{SERVER}:7443/images/debian.raw.zst");
        // curl trusts what is in the file now, so that it sees the new certificate or none.
        let trusted = certificate.display().to_string();
        assert_eq!(curl(&["--cacert", &trusted, "-r", "4-", &image]).await.stdout, b"456789");
        renew();
        let begin = std::time::Instant::now();
        while curl(&["--cacert", &trusted, &image]).await.stdout != b"0123456789" {
            assert!(begin.elapsed() < Duration::from_secs(20), "the new certificate is used");
        }
        site.boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, curl"]
fn a_client_that_asks_too_much_waits_and_others_do_not() {
    /// What a client gets at once when it may have one per second.
    const BURST: u64 = 4;
    in_namespace(|| async {
        let site = site_with(hardware("m1", MAC, "172.31.0.11"), &["--http-rate=1"]).await;
        let image = url("/images/debian.raw.zst");
        let begin = std::time::Instant::now();
        // Until one is refused: on a slow machine seconds go by between requests, each of which gives one more.
        let refused = async |claim: fn(usize) -> String| {
            for number in 0..100 {
                match status(&["-H", &claim(number), &image]).await.as_str() {
                    "200" => {}
                    "429" => return number as u64,
                    other => panic!("answered with {other}"),
                }
            }
            panic!("a client is refused nothing");
        };
        let served = refused(|_| "Accept: */*".to_owned()).await;
        let most = || BURST + begin.elapsed().as_secs() + 1;
        assert!((BURST..=most()).contains(&served), "{served} were served, {} at the most", most());
        let other = Command::new("curl").args(["-s", "--interface", SERVER, &image]).output().await.unwrap();
        assert_eq!(other.stdout, b"0123456789", "another client is served");
        // The address that somebody claims to ask for counts only from a trusted proxy: with a new one each time it is as before.
        let more = refused(|number| format!("X-Forwarded-For: 172.31.1.{number}")).await;
        assert!(served + more <= most(), "{served} and {more} were served, {} at the most", most());
        site.boots.stop().await;
    });
}

#[test]
#[ignore = "needs root, curl"]
fn kernel_and_initramfs_are_told_when_their_last_byte_went() {
    in_namespace(|| async {
        let site = site(hardware("m1", MAC, "172.31.0.11")).await;
        let kernel = url("/hook/vmlinuz-x86_64");
        assert_eq!(curl(&["-r", "0-99", &kernel]).await.stdout.len(), 100);
        assert_eq!(curl(&["-I", &kernel]).await.status.code(), Some(0));
        assert!(site.boots.events().is_empty(), "a part is not the kernel");
        assert_eq!(curl(&[&kernel]).await.stdout.len(), 3_000_000);
        let message = site.boots.event("KernelSent", EVENT).await;
        assert!(message.starts_with("vmlinuz-x86_64, 3000000 bytes in "), "{message}");
        assert_eq!(curl(&[&url("/hook/initramfs-x86_64")]).await.stdout, b"initramfs");
        site.boots.event("InitramfsSent", EVENT).await;
        site.boots.stop().await;
    });
}

#[test]
#[ignore = "needs root"]
fn the_public_address_is_of_the_interface_that_the_environment_names() {
    in_namespace(|| async {
        for (name, address) in
            [("first", Some("10.0.0.1/24")), ("second", Some("10.0.1.1/24")), ("bare", None)]
        {
            command("ip", &["link", "add", name, "type", "veth", "peer", "name", &format!("{name}-peer")]);
            address.into_iter().for_each(|address| command("ip", &["addr", "add", address, "dev", name]));
        }
        // The program tells when it finds none.
        let mistake = async |interface: Option<&str>| {
            let mut boots = Command::new(env!("CARGO_BIN_EXE_boots"));
            boots.arg("--check-config").env_remove("TINKERBELL_PUBLIC_IP_INTERFACE");
            interface.into_iter().for_each(|name| {
                boots.env("TINKERBELL_PUBLIC_IP_INTERFACE", name);
            });
            let output = boots.kill_on_drop(true).output().await.unwrap();
            String::from_utf8_lossy(&output.stderr).contains("public-ipv4")
        };
        assert!(!mistake(None).await && !mistake(Some("second")).await);
        assert!(mistake(Some("bare")).await && mistake(Some("none")).await);
    });
}

#[test]
#[ignore = "needs root"]
fn a_port_that_somebody_holds_is_an_error() {
    in_namespace(|| async {
        let site = site(hardware("m1", MAC, "172.31.0.11")).await;
        for (port, service) in [(67, "DHCP"), (69, "TFTP")] {
            let taken = std::net::UdpSocket::bind(("0.0.0.0", port));
            assert!(taken.is_err(), "{service} is held alone");
        }
        site.boots.stop().await;
    });
}

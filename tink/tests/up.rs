// SPDX-License-Identifier: Apache-2.0

//! The program as a person uses it: `tink up` in one terminal, the other commands in another. Everything is on loopback
//! and on ports of its own.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{TcpListener, UdpSocket},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        atomic::{AtomicU16, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

const TINK: &str = env!("CARGO_BIN_EXE_tink");

/// Longest wait for anything; a loaded machine with two cores needs some of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with everything that `tink up` needs.
struct Site {
    folder: tempfile::TempDir,
}

/// A running `tink up`; killed when dropped.
struct Up {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Site {
    fn new() -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap() };
        for (folder, names) in [
            ("programs", &["undionly.kpxe", "ipxe.efi", "snp-x86_64.efi", "snp-arm64.efi"][..]),
            ("hook", &["vmlinuz-x86_64", "initramfs-x86_64"][..]),
            ("images", &[][..]),
        ] {
            fs::create_dir(site.path(folder)).unwrap();
            for name in names {
                fs::write(site.path(folder).join(name), b"not a real one").unwrap();
            }
        }
        let [api, http, metadata, grpc, tftp, syslog] = ports();
        let (programs, hook, images) = (site.path("programs"), site.path("hook"), site.path("images"));
        let config = format!(
            "api: {{port: {api}, health-port: 0}}\n\
             boots:\n  public-ipv4: 127.0.0.1\n  bind-address: 127.0.0.1\n  http-port: {http}\n  dhcp-enabled: false\n  \
             tftp-server-bind-port: {tftp}\n  syslog-bind-port: {syslog}\n  boot-program-dir: {}\n  hook-dir: {}\n  images-dir: {}\n  health-port: 0\n\
             hegel: {{bind-addr: 127.0.0.1, http-port: {metadata}, health-port: 0}}\n\
             rufio: {{health-port: 0}}\n\
             tink-server: {{bind-addr: 127.0.0.1, bind-port: {grpc}, health-port: 0}}\n",
            programs.display(),
            hook.display(),
            images.display()
        );
        fs::write(site.path("up.yaml"), config).unwrap();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(TINK);
        command.args(args).arg("--state-dir").arg(self.path("state")).current_dir(self.folder.path());
        command.env_remove("KUBECONFIG").env_remove("RUST_LOG").env("TINK_CACHE_DIR", self.path("no-cache"));
        command
    }

    /// Runs a command to its end: exit code, standard output, standard error.
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.command(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().expect("an exit code"), text(stdout), text(stderr))
    }

    fn ok(&self, args: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(args);
        assert_eq!(code, 0, "{args:?}: {stdout}{stderr}");
        stdout
    }

    fn up(&self) -> Up {
        let mut child = self
            .command(&["up", "--config", "up.yaml"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("tink up starts");
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let up = Up { child, lines };
        up.wait_for("everything is ready");
        up
    }

    /// Repeats a command until its output has this text.
    fn until(&self, args: &[&str], wanted: &str) -> String {
        let begin = Instant::now();
        loop {
            let (_, stdout, stderr) = self.run(args);
            if stdout.contains(wanted) {
                return stdout;
            }
            assert!(begin.elapsed() < PATIENCE, "{args:?} never said {wanted:?}: {stdout}{stderr}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }
}

/// Ports that are free, and stay so while `tink up` does not run: they lie below those that outgoing connections get, and no
/// other test of this process gets them.
fn ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = 16_000 + u16::try_from(std::process::id() % 160).unwrap() * 100;
    std::array::from_fn(|_| {
        let candidates = std::iter::repeat_with(|| begin + NEXT.fetch_add(1, Ordering::Relaxed) % 100);
        let is_free = |port: &u16| {
            TcpListener::bind(("127.0.0.1", *port)).is_ok() && UdpSocket::bind(("127.0.0.1", *port)).is_ok()
        };
        candidates.take(100).find(is_free).expect("a free port")
    })
}

impl Up {
    fn wait_for(&self, wanted: &str) {
        let (begin, mut seen) = (Instant::now(), Vec::new());
        while begin.elapsed() < PATIENCE {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(wanted) => return,
                Ok(line) => seen.push(line),
                Err(_) => break,
            }
        }
        panic!("tink up never said {wanted:?}:\n{}", seen.join("\n"));
    }

    fn signal(&mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begin.elapsed() < PATIENCE, "tink up does not end");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Both fail when it has ended already, which is as good.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

const RACK: &str = "\
apiVersion: v1
kind: Secret
metadata: {name: bmc-m1}
stringData: {username: admin, password: hunter2}
---
apiVersion: bmc.tinkerbell.org/v1alpha1
kind: Machine
metadata: {name: bmc-m1}
spec: {connection: {host: 127.0.0.1, insecureTLS: true, authSecretRef: {name: bmc-m1, namespace: tinkerbell}, providerOptions: {preferredOrder: [gofish], redfish: {port: 1}}}}
---
apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata: {name: m1}
spec:
  bmcRef: {apiGroup: bmc.tinkerbell.org, kind: Machine, name: bmc-m1}
  disks: [{device: /dev/vda}]
  interfaces:
    - dhcp: {mac: 52:54:00:00:00:11, ip: {address: 172.31.0.11, netmask: 255.255.255.0}}
      netboot: {allowPXE: true}
---
apiVersion: tinkerbell.org/v1alpha1
kind: Template
metadata: {name: broken}
spec: {data: 'tasks: {{ .nothing }}'}
";

const WORKFLOW: &str = "\
apiVersion: tinkerbell.org/v1alpha1
kind: Workflow
metadata: {name: install-m1}
spec: {templateRef: broken, hardwareRef: m1}
";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_rack_is_applied_looked_at_and_survives_the_process() {
    let site = Site::new();
    let mut up = site.up();
    assert_eq!((mode(&site.path("state")), mode(&site.path("state/kubeconfig"))), (0o700, 0o600));

    site.write("rack.yaml", RACK);
    let created = site.ok(&["apply", "-f", "rack.yaml"]);
    assert_eq!(
        created,
        "secret/bmc-m1 created\nmachine.bmc.tinkerbell.org/bmc-m1 created\nhardware.tinkerbell.org/m1 created\ntemplate.tinkerbell.org/broken created\n"
    );
    assert_eq!(site.ok(&["apply", "-f", "rack.yaml"]), created.replace("created", "unchanged"));
    site.write(
        "rack2.yaml",
        &RACK
            .replace("/dev/vda", "/dev/sda")
            .replace(", ip: {address: 172.31.0.11, netmask: 255.255.255.0}", ""),
    );
    let changed = site.ok(&["apply", "-f", "rack2.yaml"]);
    assert_eq!(changed.matches("unchanged").count(), 3);
    assert!(changed.contains("hardware.tinkerbell.org/m1 configured"));
    let hardware = site.ok(&["get", "hw", "m1", "-o", "json"]);
    assert!(
        hardware.contains("/dev/sda") && !hardware.contains("\"ip\": {"),
        "a removed field goes: {hardware}"
    );
    site.ok(&["apply", "-f", "rack.yaml"]);

    let table = site.ok(&["get", "hardware", "-A", "-o", "wide"]);
    assert!(
        table.starts_with(
            "NAMESPACE    NAME   STATE   MAC                 IP            BMC      AGE\ntinkerbell   m1"
        ),
        "{table}"
    );
    let secret = site.ok(&["describe", "secret", "bmc-m1"]);
    assert!(secret.contains("password: 7 bytes") && !secret.contains("aHVudGVyMg"), "{secret}");
    assert!(!site.ok(&["get", "secret", "bmc-m1", "-o", "yaml"]).contains("last-applied"));

    site.until(&["why", "m1"], "m1 cannot be reached through its BMC: ");
    site.write("workflow.yaml", WORKFLOW);
    site.ok(&["apply", "-f", "workflow.yaml"]);
    let why = site.until(&["why", "52-54-00-00-00-11"], "cannot be rendered");
    assert!(why.contains("Template broken of Workflow install-m1") && why.contains("nothing"), "{why}");
    let (code, stdout, _) = site.run(&["why", "m2"]);
    assert_eq!(code, 1);
    assert!(stdout.contains("did you mean m1?"), "{stdout}");

    assert_eq!(up.signal(Signal::TERM), Some(0), "a clean drain");
    let (code, _, stderr) = site.run(&["get", "hw"]);
    assert_eq!(code, 1, "{stderr}");
    let mut up = site.up();
    assert!(site.ok(&["get", "hw"]).contains("m1"));
    assert_eq!(up.signal(Signal::KILL), None);
    let _up = site.up();
    assert!(site.ok(&["get", "wf"]).contains("install-m1"));
}

#[test]
fn a_wrong_manifest_changes_nothing_and_every_mistake_is_named() {
    let site = Site::new();
    let _up = site.up();
    let good = RACK.replace("name: broken", "name: fine");
    let bad = "\
---
apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata: {name: bad}
spec:
  interfaces:
    - dhcp: {mac: 52:54:00:00:00:12, leasetime: 86400}
---
apiVersion: tinkerbell.org/v1
kind: Workfow
metadata: {name: x}
---
a: [
";
    site.write("all.yaml", &format!("{good}{bad}"));
    let (code, stdout, stderr) = site.run(&["apply", "-f", "all.yaml", "-f", "missing.yaml"]);
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    let first = good.lines().count();
    for wanted in [
        format!(
            "all.yaml:{}: spec.interfaces[0].dhcp.leasetime: there is no such field; did you mean \"lease_time\"?",
            first + 7
        ),
        format!(
            "all.yaml:{}: kind: the API server has no Workfow in tinkerbell.org/v1; did you mean Workflow in tinkerbell.org/v1alpha1?",
            first + 10
        ),
        format!("all.yaml:{}: ", first + 13),
        "missing.yaml: cannot be read: No such file".to_owned(),
    ] {
        assert!(stderr.contains(&wanted), "{wanted} is missing in:\n{stderr}");
    }
    assert!(site.run(&["get", "hw"]).2.contains("no hardware found"), "nothing was applied");

    // What only the server can see is told at its line as well, and before anything is changed.
    site.write("pattern.yaml", &RACK.replace("52:54:00:00:00:11", "52-54-00-00-00-11"));
    let (code, stdout, stderr) = site.run(&["apply", "-f", "pattern.yaml"]);
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    assert!(stderr.contains("pattern.yaml:18: spec.interfaces[0].dhcp.mac: "), "{stderr}");
    assert!(site.run(&["get", "secrets", "bmc-m1"]).2.contains("there is no secret"), "nothing was applied");
}

#[test]
fn the_log_of_a_machine_is_read_and_followed_over_a_restart() {
    let site = Site::new();
    let up = site.up();
    site.write(
        "machine.yaml",
        "apiVersion: tinkerbell.org/v1alpha1\nkind: Hardware\nmetadata: {name: here}\n\
         spec: {interfaces: [{dhcp: {mac: 52:54:00:00:00:11, ip: {address: 127.0.0.1, netmask: 255.0.0.0}}}]}\n",
    );
    site.ok(&["apply", "-f", "machine.yaml"]);
    assert_eq!(mode(&site.path("state/boots.access")), 0o600);
    let config = fs::read_to_string(site.path("up.yaml")).unwrap();
    let port = config.split("syslog-bind-port: ").nth(1).unwrap().lines().next().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let say = |text: &str| socket.send_to(text.as_bytes(), format!("127.0.0.1:{port}")).unwrap();
    // The Hardware may not have reached boots yet, and then the line is a stranger's.
    let (begin, mut log) = (Instant::now(), String::new());
    while log.is_empty() {
        assert!(begin.elapsed() < PATIENCE, "no line was kept");
        say("<3>disk on fire");
        log = site.ok(&["logs", "52:54:00:00:00:11", "--tail", "1"]);
    }
    assert!(log.ends_with("Z kernel: err: disk on fire\n"), "{log}");
    let (code, _, stderr) = site.run(&["logs", "hare"]);
    assert!(code == 1 && stderr.contains("did you mean here?"), "{stderr}");

    let mut follower =
        site.command(&["logs", "here", "-f", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let (sender, lines) = mpsc::channel();
    let stdout = BufReader::new(follower.stdout.take().unwrap());
    thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let wait_for = |text: &str| {
        let begin = Instant::now();
        loop {
            let line = lines.recv_timeout(PATIENCE.saturating_sub(begin.elapsed())).expect("a line in time");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["facility"], "kern");
            if line.contains(text) {
                return;
            }
        }
    };
    wait_for("disk on fire");
    say("<6>second");
    wait_for("second");
    drop(up);
    let _up = site.up();
    say("<6>third");
    wait_for("third");
    follower.kill().unwrap();
    follower.wait().unwrap();

    site.write("wrong", "wrong\n");
    let (code, _, stderr) = site.run(&["logs", "here", "--token-file", "wrong"]);
    assert!(code == 1 && stderr.contains("401") && stderr.contains("not its token"), "{stderr}");
}

#[test]
fn what_stands_in_the_way_of_a_start_is_named() {
    let site = Site::new();
    let up = site.up();
    let (code, _, stderr) = site.run(&["up", "--config", "up.yaml"]);
    assert_eq!(code, 1);
    let holder = format!("is held by tink (process {})", up.child.id());
    assert_eq!(stderr.matches(&holder).count(), 6, "{stderr}");
    drop(up);

    fs::remove_file(site.path("hook/vmlinuz-x86_64")).unwrap();
    let (code, _, stderr) = site.run(&["up", "--config", "up.yaml"]);
    assert_eq!(code, 1);
    assert!(stderr.contains("vmlinuz-x86_64") && stderr.contains("./x build"), "{stderr}");

    site.write("up.yaml", "boots: {http-port: x, public-ipv4: 127.0.0.1}\nhegle: {}\n");
    let (code, _, stderr) = site.run(&["up", "--config", "up.yaml"]);
    assert_eq!(code, 64);
    assert!(stderr.contains("boots.http-port") && stderr.contains("hegel"), "{stderr}");

    let (code, sample, _) = site.run(&["up"]);
    assert!(code == 0 && sample.contains("\nboots:\n") && sample.contains("#http-port: 7171"), "{sample}");
}

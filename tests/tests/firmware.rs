// SPDX-License-Identifier: Apache-2.0
//! Every way that firmware boots from the network, each from powered off to the agent's first call: real firmware in an emulated
//! machine, `tink up` as a process, and whatever else stands on the network: a relay, a DHCP server that is not ours, a router
//! of IPv6, a cable that loses frames.
//!
//! A row ends with the agent's first call: what comes after that is the same on every way, and other tests show it. What the
//! firmware did is read from the frames on the switch, with tshark, which must find no malformed one among them.
//!
//! No test harness: each row has a process and a network namespace of its own; two run at a time, for as many cores.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::v1alpha1::{Hardware, Interface, Workflow};
use k8s_openapi::api::core::v1::Event;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use lab::bmc;
use lab::machine::Pxe;
use lab::neighbour::NeighbourSpec;
use lab::netns::Namespace;
use lab::rack::{Ipv6Spec, Rack, RackSpec};
use lab::router::Router;
use lab::switch::faults::{Faults, Loss};
use lab::switch::pcap::Capture;
use tests::process::Process;
use tests::runner;
use tests::stack::{Up, client, eventually, run_tink};
use tink::demo::{Artefacts, Install, NAMESPACE, Server, describe, server, workflow};

const AT_ONCE: usize = 2;
const READY: Duration = Duration::from_secs(120);
/// From the Workflow to the agent's first call, on a machine whose cores are shared.
const BOOT: Duration = Duration::from_secs(600);
/// Until boots has told of what it sent.
const TOLD: Duration = Duration::from_secs(20);
/// What it tells of every machine that boots from the network.
const PROGRESS: [&str; 3] = ["ScriptSent", "KernelSent", "InitramfsSent"];

/// The servers of the demo's rack.
const BIOS: usize = 0;
const UEFI: usize = 1;

/// Where the neighbour is on the rack's network, and where the two ends of its uplink are.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(172, 31, 0, 254);
const UPLINK: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 254);
const BEHIND_IT: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
const IPV6: Ipv6Spec = Ipv6Spec {
    router: Router { prefix: Ipv6Addr::new(0xfd00, 0x31, 0, 0, 0, 0, 0, 0) },
    provisioner: Ipv6Addr::new(0xfd00, 0x31, 0, 0, 0, 0, 0, 1),
};
const VLAN: u16 = 42;

/// One action, which begins when a row ends. The demo's own Template writes the machine's IPv4 address, which not every row has.
const TEMPLATE: &str = r#"
apiVersion: tinkerbell.org/v1alpha1
kind: Template
metadata: {name: debian, namespace: tinkerbell}
spec:
  data: |
    version: "0.1"
    name: debian
    global_timeout: 3600
    tasks:
      - name: debian
        worker: "{{ .device_1 }}"
        actions:
          - name: stream image to disk
            image: 127.0.0.1/embedded/image2disk:latest
            timeout: 1800
            environment:
              DEST_DISK: {{ index .Hardware.Disks 0 }}
              IMG_URL: {{ .image_url }}
              IMG_DIGEST: {{ .image_digest }}
              COMPRESSED: true
"#;

fn main() -> ExitCode {
    const DIR: &str = "firmware-";
    runner::apart(
        AT_ONCE,
        &[
            ("bios_pxe_of_a_rom_that_is_no_ipxe", || runner::in_namespace(DIR, plain_rom)),
            ("bios_pxe_over_a_cable_that_loses_frames", || runner::in_namespace(DIR, loss)),
            ("bios_pxe_through_a_relay", || runner::in_namespace(DIR, relay)),
            ("uefi_pxe_beside_a_dhcp_server_that_is_not_ours", || runner::in_namespace(DIR, proxy)),
            ("uefi_http_boot", || runner::in_namespace(DIR, http_boot)),
            ("uefi_pxe_where_there_is_only_ipv6", || runner::in_namespace(DIR, pxe_over_ipv6)),
            ("uefi_http_boot_where_there_is_only_ipv6", || runner::in_namespace(DIR, http_boot_over_ipv6)),
            ("hook_os_in_a_vlan_and_firmware_in_none", || runner::in_namespace(DIR, vlan)),
            ("ipxe_and_hook_os_in_a_vlan", || runner::in_namespace(DIR, vlan_of_ipxe)),
            ("uefi_pxe_with_secure_boot", || runner::in_namespace(DIR, signed)),
            ("uefi_http_boot_with_secure_boot", || runner::in_namespace(DIR, signed_over_http)),
            ("bios_from_virtual_media", || runner::in_namespace(DIR, disc)),
            ("uefi_with_secure_boot_from_virtual_media", || runner::in_namespace(DIR, signed_disc)),
        ],
    )
}

async fn plain_rom(namespace: &Namespace, dir: &Path) -> Result<()> {
    let mut spec = rack(BIOS)?;
    spec.faults.plain_rom = true;
    let bench = Bench::start(namespace, dir, spec, &[]).await?;
    bench.boot(|_| {}).await?;
    let seen = bench.end().await?;
    seen.has("tftp.source_file", "undionly.kpxe")?;
    seen.has("http.request.uri", "/ipxe/script/52:54:00:00:00:11/auto.ipxe")?;
    seen.has("dhcp.option.vendor_class_id", "PXEClient:Arch:00000")
}

async fn loss(namespace: &Namespace, dir: &Path) -> Result<()> {
    let mut spec = rack(BIOS)?;
    let loss = Loss { per_mille: 20, seed: 6 };
    spec.faults = Faults { loss, plain_rom: true, ..Faults::default() };
    let bench = Bench::start(namespace, dir, spec, &[]).await?;
    bench.boot(|_| {}).await?;
    let lost = bench.rack.lost_frames();
    ensure!(lost > 100, "only {lost} frames were lost, of 40 MB");
    let seen = bench.end().await?;
    seen.has("tftp.source_file", "undionly.kpxe")?;
    seen.has("http.request.uri", "/hook/initramfs-x86_64")
}

async fn relay(namespace: &Namespace, dir: &Path) -> Result<()> {
    let mut spec = rack(BIOS)?;
    spec.provisioner = BEHIND_IT;
    spec.neighbour = Some(NeighbourSpec { address: NEIGHBOUR, uplink: Some(UPLINK) });
    spec.faults.plain_rom = true;
    let bench = Bench::start(namespace, dir, spec, &[]).await?;
    let relay = format!("--dhcp-relay={NEIGHBOUR},{BEHIND_IT}");
    let _relay = bench.dnsmasq(dir, &[&relay])?;
    bench
        .boot(|nic| {
            let ip = nic.dhcp.get_or_insert_default().ip.get_or_insert_default();
            ip.gateway = Some(NEIGHBOUR.to_string());
        })
        .await?;
    let seen = bench.end().await?;
    seen.has("dhcp.ip.relay", &NEIGHBOUR.to_string())?;
    seen.has("dhcp.option.dhcp_server_id", &BEHIND_IT.to_string())?;
    seen.has("tftp.source_file", "undionly.kpxe")
}

async fn proxy(namespace: &Namespace, dir: &Path) -> Result<()> {
    let mut spec = rack(UEFI)?;
    spec.neighbour = Some(NeighbourSpec { address: NEIGHBOUR, uplink: None });
    let bench = Bench::start(namespace, dir, spec, &["--dhcp-mode=proxy"]).await?;
    let range = "--dhcp-range=172.31.0.200,172.31.0.250,255.255.255.0,1h";
    let _server = bench.dnsmasq(dir, &[range, "--dhcp-authoritative"])?;
    bench.boot(|_| {}).await?;
    let (provisioner, reserved) = (bench.server.provisioner.to_string(), bench.server.address.to_string());
    let seen = bench.end().await?;
    // Both have offered something, and the machine has the address that is not ours.
    seen.has("dhcp.option.dhcp_server_id", &NEIGHBOUR.to_string())?;
    seen.has("dhcp.option.dhcp_server_id", &provisioner)?;
    ensure!(!seen.values("dhcp.ip.your").contains(reserved.as_str()), "boots gave an address: {seen:?}");
    seen.has("tftp.source_file", "ipxe.efi")
}

async fn http_boot(namespace: &Namespace, dir: &Path) -> Result<()> {
    let mut spec = rack(UEFI)?;
    pxe(&mut spec, Pxe { ipv4: false, ipv6: false });
    let bench = Bench::start(namespace, dir, spec, &[]).await?;
    bench.boot(|_| {}).await?;
    let seen = bench.end().await?;
    seen.has("dhcp.option.vendor_class_id", "HTTPClient:Arch:00016")?;
    seen.has("http.request.uri", "/ipxe/binary/52:54:00:00:00:12/ipxe.efi")?;
    ensure!(seen.values("tftp.source_file").is_empty(), "something came over TFTP: {seen:?}");
    Ok(())
}

async fn pxe_over_ipv6(namespace: &Namespace, dir: &Path) -> Result<()> {
    let seen = boot_over_ipv6(namespace, dir, Pxe { ipv4: false, ipv6: true }).await?;
    seen.has("tftp.source_file", "ipxe.efi")
}

async fn http_boot_over_ipv6(namespace: &Namespace, dir: &Path) -> Result<()> {
    let seen = boot_over_ipv6(namespace, dir, Pxe { ipv4: false, ipv6: false }).await?;
    seen.has("http.request.uri", "/ipxe/binary/52:54:00:00:00:12/ipxe.efi")?;
    ensure!(seen.values("tftp.source_file").is_empty(), "something came over TFTP: {seen:?}");
    Ok(())
}

async fn boot_over_ipv6(namespace: &Namespace, dir: &Path, with: Pxe) -> Result<Seen> {
    let mut spec = rack(UEFI)?;
    spec.ipv6 = Some(IPV6);
    pxe(&mut spec, with);
    let public = format!("--public-ipv6={}", IPV6.provisioner);
    let flags = [
        "--dhcp-enabled=false",
        "--dhcpv6-enabled",
        "--dhcpv6-mode=reservation",
        "--bind-address=::",
        "--tink-server-bind-addr=::",
        &public,
    ];
    let bench = Bench::start(namespace, dir, spec, &flags).await?;
    bench
        .boot(|nic| {
            let address = Some("fd00:31::12".to_owned());
            nic.dhcp.get_or_insert_default().ip =
                Some(api::v1alpha1::Ip { address, family: Some(6), ..Default::default() });
        })
        .await?;
    let seen = bench.end().await?;
    seen.has("dhcpv6.iaaddr.ip", "fd00:31::12")?;
    seen.has("http.request.uri", "/ipxe/script/52:54:00:00:00:12/auto6.ipxe")?;
    let given = seen.values("dhcp.ip.your");
    ensure!(given.iter().all(|address| *address == "0.0.0.0"), "somebody gave an IPv4 address: {seen:?}");
    Ok(seen)
}

async fn vlan(namespace: &Namespace, dir: &Path) -> Result<()> {
    let mut spec = rack(BIOS)?;
    spec.vlan = Some(VLAN);
    let bench = Bench::start(namespace, dir, spec, &[]).await?;
    bench.boot(|nic| nic.dhcp.get_or_insert_default().vlan_id = Some(VLAN.to_string())).await?;
    let seen = bench.end().await?;
    let (tagged, plain): (Vec<_>, Vec<_>) = seen
        .frames
        .iter()
        .filter(|frame| frame.is("dhcp.option.dhcp", "1"))
        .partition(|frame| frame.is("vlan.id", "42"));
    ensure!(
        !plain.is_empty() && !tagged.is_empty(),
        "DISCOVERs: {plain:?} without and {tagged:?} with a tag"
    );
    Ok(())
}

/// An operator has iPXE go on in the VLAN that firmware knows nothing of. Its driver has room for frames of 1514 bytes, with the
/// tag, so that packets have to be 4 bytes shorter than usual.
async fn vlan_of_ipxe(namespace: &Namespace, dir: &Path) -> Result<()> {
    let mut spec = rack(UEFI)?;
    spec.vlan = Some(VLAN);
    let commands = format!(
        "vcreate --tag {VLAN} net0 && set net0-{VLAN}/mtu 1496 && dhcp net0-{VLAN} && goto leased ||"
    );
    let bench =
        Bench::start(namespace, dir, spec, &[&format!("--ipxe-embedded-script-patch={commands}")]).await?;
    bench.boot(|nic| nic.dhcp.get_or_insert_default().vlan_id = Some(VLAN.to_string())).await?;
    let seen = bench.end().await?;
    for (field, value, tagged) in [
        ("tftp.source_file", "ipxe.efi", false),
        ("tftp.source_file", "autoexec.ipxe", false),
        ("http.request.uri", "/ipxe/script/52:54:00:00:00:12/auto.ipxe", true),
        ("http.request.uri", "/hook/vmlinuz-x86_64", true),
        ("http.request.uri", "/hook/initramfs-x86_64", true),
    ] {
        let asked =
            seen.frames.iter().filter(|frame| frame.get(field).is_some_and(|text| text.ends_with(value)));
        let tags: BTreeSet<bool> = asked.map(|frame| frame.is("vlan.id", "42")).collect();
        ensure!(tags == BTreeSet::from([tagged]), "{value} was asked for with these tags: {tags:?}");
    }
    Ok(())
}

async fn signed(namespace: &Namespace, dir: &Path) -> Result<()> {
    let (seen, console) = boot_signed(namespace, dir, rack(UEFI)?).await?;
    for file in ["shimx64.efi", "grubx64.efi", "grub.cfg"] {
        seen.has("tftp.source_file", file)?;
    }
    seen.has("http.request.uri", "/hook/vmlinuz-x86_64")?;
    enforced(&console)
}

async fn signed_over_http(namespace: &Namespace, dir: &Path) -> Result<()> {
    let mut spec = rack(UEFI)?;
    pxe(&mut spec, Pxe { ipv4: false, ipv6: false });
    let (seen, console) = boot_signed(namespace, dir, spec).await?;
    seen.has("dhcp.option.vendor_class_id", "HTTPClient:Arch:00016")?;
    for path in [
        "/ipxe/binary/52:54:00:00:00:12/shimx64.efi",
        // As shim writes it.
        "/ipxe/binary/52:54:00:00:00:12//grubx64.efi",
        "/grub/52:54:00:00:00:12/grub.cfg",
        "/hook/vmlinuz-x86_64",
    ] {
        seen.has("http.request.uri", path)?;
    }
    ensure!(seen.values("tftp.source_file").is_empty(), "something came over TFTP: {seen:?}");
    enforced(&console)
}

/// Boots a machine with Secure Boot from Debian's shim; gives what was seen, and what its kernel said.
async fn boot_signed(namespace: &Namespace, dir: &Path, mut spec: RackSpec) -> Result<(Seen, PathBuf)> {
    spec.servers.iter_mut().for_each(|server| server.machine.secure_boot = true);
    let bench = Bench::start(namespace, dir, spec, &[]).await?;
    let console = bench.console()?;
    bench
        .boot(|nic| {
            let ipxe = nic.netboot.get_or_insert_default().ipxe.get_or_insert_default();
            ipxe.binary = Some("shimx64.efi".to_owned());
        })
        .await?;
    Ok((bench.end().await?, console))
}

/// Fails unless firmware told the kernel that Secure Boot is on.
fn enforced(console: &Path) -> Result<()> {
    let said = String::from_utf8_lossy(&fs::read(console)?).into_owned();
    ensure!(said.contains("Secure boot enabled"), "the kernel was started without Secure Boot: {said}");
    Ok(())
}

async fn disc(namespace: &Namespace, dir: &Path) -> Result<()> {
    let mut spec = rack(BIOS)?;
    // Virtual media are Redfish's.
    for server in &mut spec.servers {
        server.bmc.kind = bmc::Kind::Redfish;
        server.bmc.address.set_port(443);
    }
    boot_from_disc(namespace, dir, spec).await?;
    Ok(())
}

async fn signed_disc(namespace: &Namespace, dir: &Path) -> Result<()> {
    let mut spec = rack(UEFI)?;
    spec.servers.iter_mut().for_each(|server| server.machine.secure_boot = true);
    enforced(&boot_from_disc(namespace, dir, spec).await?)
}

/// Boots a machine from our ISO image; gives the file with what its console said.
async fn boot_from_disc(namespace: &Namespace, dir: &Path, spec: RackSpec) -> Result<PathBuf> {
    let iso = format!("--iso-file={}", Artefacts::find()?.iso()?.display());
    let bench = Bench::start(namespace, dir, spec, &["--iso-enabled", &iso]).await?;
    let console = bench.console()?;
    let url = format!("http://{}:7171/iso/{}/hook.iso", bench.server.provisioner, bench.server.mac);
    bench.install(Some(&url), &["IsoRead"]).await?;
    let seen = bench.end().await?;
    ensure!(seen.values("tftp.source_file").is_empty(), "something came over TFTP: {seen:?}");
    let asked = seen.values("http.request.uri");
    ensure!(asked.iter().all(|uri| uri.starts_with("/images/")), "something came over HTTP: {asked:?}");
    Ok(console)
}

/// The demo's rack with one of its servers.
fn rack(server: usize) -> Result<RackSpec> {
    let mut spec = RackSpec::demo()?;
    spec.servers = spec.servers.into_iter().skip(server).take(1).collect();
    Ok(spec)
}

fn pxe(spec: &mut RackSpec, pxe: Pxe) {
    spec.servers.iter_mut().for_each(|server| server.machine.pxe = pxe);
}

/// One machine, powered off, and everything that provisions it.
struct Bench {
    state: PathBuf,
    capture: PathBuf,
    rack: Rack,
    server: Server,
    up: Up,
    client: Client,
    image: String,
    digest: String,
    started: Instant,
}

impl Bench {
    async fn start(namespace: &Namespace, dir: &Path, mut spec: RackSpec, flags: &[&str]) -> Result<Self> {
        let artefacts = Artefacts::find()?;
        let (image, digest) = artefacts.image()?;
        let (state, capture) = (dir.join("state"), dir.join("rack.pcap"));
        spec.capture = Some(Capture::whole(&capture));
        let machine = describe(spec.servers.first().context("a server of the rack")?, &spec)?;
        let mut all = artefacts.up_flags(&state, spec.provisioner);
        all.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let rack = Rack::start(namespace, spec, dir).await?;
        let mut up = Up::start(&all, &dir.join("tink.log"))?;
        up.ready(READY).await?;
        let client = client(&state).await?;
        for (name, text) in [("template", TEMPLATE), ("machine", &server(&machine))] {
            apply(&state, name, text)?;
        }
        let started = Instant::now();
        Ok(Self { state, capture, rack, server: machine, up, client, image, digest, started })
    }

    /// dnsmasq on the neighbour, for DHCP alone.
    fn dnsmasq(&self, dir: &Path, flags: &[&str]) -> Result<Process> {
        let neighbour = self.rack.neighbour().context("the rack has a neighbour")?;
        Process::start("dnsmasq", Path::new("nsenter"), dir.join("dnsmasq.log"), |command| {
            command.args(neighbour.arguments()).arg("dnsmasq").args(flags);
            command.args([
                "--keep-in-foreground",
                "--conf-file=/dev/null",
                "--port=0",
                "--user=root",
                "--pid-file=",
            ]);
            command.args(["--log-dhcp", "--log-facility=-"]);
            command.arg(format!("--dhcp-leasefile={}", dir.join("dnsmasq.leases").display()));
        })
    }

    /// Has a Workflow power the machine on, whose interface `change` has changed before, and waits for its agent.
    async fn boot(&self, change: impl FnOnce(&mut Interface)) -> Result<()> {
        let all: Api<Hardware> = Api::namespaced(self.client.clone(), NAMESPACE);
        let mut hardware = all.get(&self.server.name).await?;
        change(hardware.spec.interfaces.first_mut().context("its interface")?);
        all.replace(&self.server.name, &PostParams::default(), &hardware).await?;
        self.install(None, &PROGRESS).await
    }

    /// The same from an image for its virtual drive, if there is a URL of one, with the Events that tell of the boot.
    async fn install(&self, iso: Option<&str>, progress: &[&str]) -> Result<()> {
        let install = Install {
            name: "install".to_owned(),
            image_url: format!("http://{}:7171/images/{}", self.server.provisioner, self.image),
            image_digest: self.digest.clone(),
            metadata_url: format!("http://{}:7172", self.server.provisioner),
        };
        let mut text = workflow(&self.server, &install);
        if let Some(url) = iso {
            text = text.replace("bootMode: netboot", &format!("bootMode: isoboot\n    isoURL: {url}"));
        }
        apply(&self.state, "workflow", &text)?;
        let workflows: Api<Workflow> = Api::namespaced(self.client.clone(), NAMESPACE);
        eventually("the agent's first call", BOOT, async || {
            let workflow = workflows.get("install").await.map_err(|error| error.to_string())?;
            let status = workflow.status.unwrap_or_default();
            let waiting = || format!("state {}, {}", status.state, self.why());
            if status.agent_first_call.is_some() { Ok(Some(())) } else { Err(waiting()) }
        })
        .await?;
        println!("  {:4} s  {}: the agent has called", self.started.elapsed().as_secs(), self.server.name);
        let events: Api<Event> = Api::namespaced(self.client.clone(), NAMESPACE);
        eventually("the Events of the boot", TOLD, async || {
            let all = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
            let told = |wanted: &str| all.iter().any(|event| event.reason.as_deref() == Some(wanted));
            match progress.iter().find(|reason| !told(reason)) {
                None => Ok(Some(())),
                Some(missing) => Err(format!("there is no {missing}")),
            }
        })
        .await
    }

    /// Where its console's output goes.
    fn console(&self) -> Result<PathBuf> {
        let machine = self.rack.machine(&self.server.name).context("the machine")?;
        Ok(machine.serial_log().to_owned())
    }

    fn why(&self) -> String {
        run_tink(&self.state, &["why", &self.server.name]).unwrap_or_else(|error| error.to_string())
    }

    /// Switches everything off; what was on the wire. The daemons are not asked to drain: the agent is in the middle of an image.
    async fn end(self) -> Result<Seen> {
        self.rack.stop().await;
        drop(self.up);
        Seen::read(&self.capture)
    }
}

fn apply(state: &Path, name: &str, text: &str) -> Result<()> {
    let path = state.join(format!("{name}.yaml"));
    fs::write(&path, text)?;
    run_tink(state, &["apply", "-f", &path.display().to_string()])?;
    Ok(())
}

/// The fields of frames that tell what firmware did.
const FIELDS: [&str; 11] = [
    "frame.number",
    "_ws.malformed",
    "vlan.id",
    "dhcp.option.dhcp",
    "dhcp.option.vendor_class_id",
    "dhcp.option.dhcp_server_id",
    "dhcp.ip.your",
    "dhcp.ip.relay",
    "dhcpv6.iaaddr.ip",
    "tftp.source_file",
    "http.request.uri",
];

/// What tshark read in a capture.
#[derive(Debug)]
struct Seen {
    frames: Vec<Frame>,
}

/// The values of [`FIELDS`] of one frame; a field that is not in it has none.
#[derive(Debug)]
struct Frame(Vec<String>);

impl Seen {
    /// Reads a capture.
    ///
    /// # Errors
    /// When tshark finds a malformed frame in it.
    fn read(capture: &Path) -> Result<Self> {
        // Of what the HTTP server sends nearly all is the middle of an image, which may look like anything; heads of answers are judged.
        let malformed = "(_ws.malformed && !(tcp.srcport == 7171 && !http.response))";
        let wanted = format!("{malformed} || dhcp || dhcpv6 || tftp.source_file || http.request");
        let mut tshark = Command::new("tshark");
        // Each frame is judged for itself: put together, segments that were sent twice count as an error of theirs.
        tshark.args(["-n", "-o", "tcp.desegment_tcp_streams:FALSE", "-d", "tcp.port==7171,http"]);
        tshark.args(["-T", "fields", "-Y", &wanted, "-r"]).arg(capture);
        tshark.args(FIELDS.iter().flat_map(|field| ["-e", field]));
        let output = tshark.output().context("start tshark")?;
        ensure!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8_lossy(&output.stdout);
        let frames = text.lines().map(|line| Frame(line.split('\t').map(str::to_owned).collect())).collect();
        let seen = Self { frames };
        let malformed: Vec<&Frame> =
            seen.frames.iter().filter(|frame| frame.get("_ws.malformed").is_some()).collect();
        ensure!(malformed.is_empty(), "malformed frames: {malformed:?}");
        Ok(seen)
    }

    /// The values of a field in all frames.
    fn values(&self, field: &str) -> BTreeSet<&str> {
        self.frames.iter().filter_map(|frame| frame.get(field)).collect()
    }

    /// Whether a value of a field begins or ends with a text.
    fn has(&self, field: &str, text: &str) -> Result<()> {
        let values = self.values(field);
        let found = values.iter().any(|value| value.starts_with(text) || value.ends_with(text));
        ensure!(found, "{field} is never {text}: {values:?}");
        Ok(())
    }
}

impl Frame {
    fn get(&self, field: &str) -> Option<&str> {
        let place = FIELDS.iter().position(|name| *name == field)?;
        self.0.get(place).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn is(&self, field: &str, value: &str) -> bool {
        self.get(field) == Some(value)
    }
}

// SPDX-License-Identifier: Apache-2.0
//! What HookOS does between the kernel and the agent: mounts, modules, network.
//!
//! busybox init calls it (see `files/inittab`) as `hook-init boot` once, and keeps `hook-init hotplug` (modules for
//! devices that appear later), `hook-init kernel-log` (the kernel's lines to the log server) and `hook-init agent` (the agent,
//! and its lines there too) running. Every step that fails is
//! said on the console and the next one goes on: a machine that can still reach the server can still report.
//!
//! Uses nothing but busybox for what busybox does well (DHCP, loop mounts), because each kilobyte here is sent to each
//! machine on each boot.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use hook_os::log::Log;
use hook_os::modules::module_name;
use rustix::mount::MountFlags;

/// How long `boot` waits for the network interface that the kernel command line names.
const INTERFACE_DEADLINE: Duration = Duration::from_secs(60);
/// How long `boot` waits for an address; who asks for one goes on after that.
const ADDRESS_DEADLINE: Duration = Duration::from_secs(12);
/// `IFA_F_TENTATIVE` of the kernel: somebody else may turn out to have the address (RFC 4862 section 5.4).
const TENTATIVE: u32 = 0x40;
/// Pause of a program that init would start again at once.
const AGAIN: Duration = Duration::from_secs(5);
/// How long between two looks at `/sys`. Polling, since neither sysfs nor a driver's probe can be waited for.
const POLL: Duration = Duration::from_millis(20);
/// Rounds of "load what the devices ask for": each may reveal a bus with further devices.
const COLDPLUG_ROUNDS: usize = 10;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("boot") => boot(),
        Some("hotplug") => hotplug(),
        Some("kernel-log") => kernel_log(),
        Some("agent") => return agent(),
        _ => {
            say("usage", "hook-init boot|hotplug|kernel-log|agent");
            return ExitCode::from(64);
        }
    }
    ExitCode::SUCCESS
}

fn boot() {
    mount_all();
    say("kernel handed over", uptime());
    step("early modules", early_modules());
    step(
        "mount modules",
        command("mount", &["-t", "squashfs", "-o", "loop,ro", "/modules.squashfs", "/lib/modules"]),
    );
    match Modules::read() {
        Ok(modules) => {
            let loaded = coldplug(&modules);
            say("modules loaded", format!("{loaded} at {}", uptime()));
        }
        Err(error) => say("modules", error),
    }
    if Path::new("/sys/firmware/efi").exists() {
        step("efivarfs", mount("efivarfs", "/sys/firmware/efi/efivars", "efivarfs"));
    }
    network();
    say("network done", uptime());
}

fn mount_all() {
    step("proc", mount("proc", "/proc", "proc"));
    step("sysfs", mount("sysfs", "/sys", "sysfs"));
    step("devtmpfs", mount("devtmpfs", "/dev", "devtmpfs"));
    step("pts", fs::create_dir_all("/dev/pts"));
    step("devpts", mount("devpts", "/dev/pts", "devpts"));
    step("run", mount("tmpfs", "/run", "tmpfs"));
    step("tmp", mount("tmpfs", "/tmp", "tmpfs"));
}

fn mount(source: &str, target: &str, kind: &str) -> io::Result<()> {
    Ok(rustix::mount::mount(source, target, kind, MountFlags::empty(), None)?)
}

/// Loads the modules of the first archive in the order that the build wrote down.
fn early_modules() -> io::Result<()> {
    for name in fs::read_to_string("/lib/early/order")?.lines() {
        insert(Path::new("/lib/early").join(name).as_path())?;
    }
    Ok(())
}

/// finit_module(2). A module that is there already is not an error.
fn insert(path: &Path) -> io::Result<()> {
    match rustix::system::finit_module(fs::File::open(path)?, &CString::default(), 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// depmod's tables of the running kernel.
struct Modules {
    root: String,
    /// module name -> its path and what it needs.
    needs: BTreeMap<String, (String, Vec<String>)>,
    /// The part of an alias before the first `:` -> (rest as pattern, module name).
    aliases: BTreeMap<String, Vec<(String, String)>>,
}

impl Modules {
    fn read() -> io::Result<Self> {
        let version = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let root = format!("/lib/modules/{}", version.trim());
        let mut needs = BTreeMap::new();
        for line in fs::read_to_string(format!("{root}/modules.dep"))?.lines() {
            if let Some((path, rest)) = line.split_once(':') {
                let list = rest.split_whitespace().map(str::to_owned).collect();
                needs.insert(module_name(path), (path.to_owned(), list));
            }
        }
        let mut aliases: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for line in fs::read_to_string(format!("{root}/modules.alias"))?.lines() {
            let mut words = line.split_whitespace().skip(1);
            if let (Some(alias), Some(module)) = (words.next(), words.next())
                && let Some((bus, pattern)) = alias.split_once(':')
            {
                aliases.entry(bus.to_owned()).or_default().push((pattern.to_owned(), module.to_owned()));
            }
        }
        Ok(Self { root, needs, aliases })
    }

    /// All modules whose alias matches what a device says it is.
    fn matching<'a>(&'a self, modalias: &str) -> impl Iterator<Item = &'a str> {
        let (bus, device) = modalias.split_once(':').unwrap_or((modalias, ""));
        let device = device.to_owned();
        let rows = self.aliases.get(bus).map_or(&[][..], Vec::as_slice);
        rows.iter()
            .filter(move |(pattern, _)| glob(pattern.as_bytes(), device.as_bytes()))
            .map(|(_, module)| module.as_str())
    }

    /// Loads a module after what it needs, unless `done` has it.
    fn load(&self, module: &str, done: &mut BTreeSet<String>) {
        let name = module_name(module);
        let Some((path, needs)) = self.needs.get(&name) else { return };
        if !done.insert(name.clone()) {
            return;
        }
        // depmod lists the deepest need last.
        for need in needs.iter().rev() {
            if done.insert(module_name(need)) {
                step(need, insert(Path::new(&self.root).join(need).as_path()));
            }
        }
        match insert(Path::new(&self.root).join(path).as_path()) {
            // "No such device": the driver looked and declined; another one may fit.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => {}
            other => step(&name, other),
        }
    }
}

/// fnmatch(3) as modules.alias uses it: `*`, `?` and `[...]`.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => {
            rest.is_empty()
                || (0..=text.len()).any(|skip| text.get(skip..).is_some_and(|tail| glob(rest, tail)))
        }
        Some((b'?', rest)) => text.split_first().is_some_and(|(_, tail)| glob(rest, tail)),
        Some((b'[', rest)) => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else { return false };
            let (Some(class), Some(after)) = (rest.get(..end), rest.get(end + 1..)) else { return false };
            text.split_first().is_some_and(|(byte, tail)| in_class(class, *byte) && glob(after, tail))
        }
        Some((byte, rest)) => {
            text.split_first().is_some_and(|(first, tail)| first == byte && glob(rest, tail))
        }
    }
}

fn in_class(class: &[u8], byte: u8) -> bool {
    match class {
        [low, b'-', high, rest @ ..] => (*low..=*high).contains(&byte) || in_class(rest, byte),
        [one, rest @ ..] => *one == byte || in_class(rest, byte),
        [] => false,
    }
}

/// Loads what the devices of this machine ask for, until no new device appears. Gives the number of modules.
fn coldplug(modules: &Modules) -> usize {
    let mut seen = BTreeSet::new();
    let mut loaded = BTreeSet::new();
    for _ in 0..COLDPLUG_ROUNDS {
        let fresh: Vec<String> =
            modaliases().into_iter().filter(|alias| seen.insert(alias.clone())).collect();
        if fresh.is_empty() {
            break;
        }
        for alias in fresh {
            for module in modules.matching(&alias) {
                modules.load(module, &mut loaded);
            }
        }
    }
    loaded.len()
}

/// What every device on every bus says it is.
fn modaliases() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for bus in entries("/sys/bus") {
        for device in entries(&format!("{bus}/devices")) {
            if let Ok(alias) = fs::read_to_string(format!("{device}/modalias")) {
                found.insert(alias.trim().to_owned());
            }
        }
    }
    found
}

/// The paths below a folder; none if it cannot be read.
fn entries(folder: &str) -> Vec<String> {
    let Ok(listing) = fs::read_dir(folder) else { return Vec::new() };
    listing.flatten().map(|entry| entry.path().to_string_lossy().into_owned()).collect()
}

/// The value of an argument of the kernel, if it has one.
fn argument(key: &str) -> Option<String> {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let mut arguments = line.split_whitespace().filter_map(|word| word.split_once('='));
    arguments.find(|(name, value)| *name == key && !value.is_empty()).map(|(_, value)| value.to_owned())
}

fn network() {
    step("loopback", command("ip", &["link", "set", "lo", "up"]));
    let wanted = argument("hw_addr").map(|mac| mac.to_ascii_lowercase());
    let Some(interface) = wait_for_interface(wanted.as_deref()) else {
        say("network", "no Ethernet interface appeared: is its driver on board?");
        return;
    };
    step(&interface, command("ip", &["link", "set", &interface, "up"]));
    let interface = match argument("vlan_id") {
        Some(id) => {
            let name = format!("{interface}.{id}");
            step(
                &name,
                command("ip", &["link", "add", "link", &interface, "name", &name, "type", "vlan", "id", &id]),
            );
            step(&name, command("ip", &["link", "set", &name, "up"]));
            name
        }
        None => interface,
    };
    // It asks until there is a lease, and then for as long as that must be renewed.
    let mut client = Command::new("/bin/udhcpc");
    client.args(["-i", &interface, "-s", "/etc/udhcpc.script", "-t", "10", "-T", "1", "-A", "2", "-S"]);
    step("dhcp", client.spawn().map(drop));
    wait_for_address(&interface);
}

/// Waits for an address of the IP version that the agent's server has. One of IPv6 comes from a router, without any client.
fn wait_for_address(interface: &str) {
    let over_ipv6 = argument("grpc_authority").is_some_and(|server| server.starts_with('['));
    let lease = format!("/run/lease-{interface}");
    let deadline = Instant::now() + ADDRESS_DEADLINE;
    loop {
        let addresses = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        let has_one = if over_ipv6 { has_ipv6(&addresses, interface) } else { Path::new(&lease).exists() };
        if has_one {
            return;
        }
        if Instant::now() > deadline {
            return say("network", "no address yet, going on without");
        }
        std::thread::sleep(POLL);
    }
}

/// Whether the interface has an address that is good beyond its link, in the kernel's list of them (`/proc/net/if_inet6`:
/// address, interface, prefix, scope, flags, name).
fn has_ipv6(addresses: &str, interface: &str) -> bool {
    addresses.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|words| {
        match words.as_slice() {
            [_, _, _, "00", flags, name] => {
                *name == interface && u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & TENTATIVE == 0)
            }
            _ => false,
        }
    })
}

/// The Ethernet interface with the wanted MAC; without one, the first with a link, else the first.
fn wait_for_interface(wanted: Option<&str>) -> Option<String> {
    let deadline = Instant::now() + INTERFACE_DEADLINE;
    loop {
        let candidates = ethernet();
        let exact = candidates.iter().find(|(_, mac)| wanted.is_none_or(|wanted| mac == wanted));
        if let Some((name, _)) = exact {
            return Some(name.clone());
        }
        if Instant::now() > deadline {
            // The address on the command line may be of a NIC that this kernel cannot drive.
            return candidates.into_iter().next().map(|(name, _)| name);
        }
        std::thread::sleep(POLL);
    }
}

/// Names and MACs of the physical Ethernet interfaces, in the kernel's order.
fn ethernet() -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = entries("/sys/class/net")
        .into_iter()
        .filter(|path| Path::new(path).join("device").exists())
        .filter(|path| fs::read_to_string(format!("{path}/type")).is_ok_and(|kind| kind.trim() == "1"))
        .filter_map(|path| {
            let mac = fs::read_to_string(format!("{path}/address")).ok()?.trim().to_owned();
            Some((path.rsplit('/').next()?.to_owned(), mac))
        })
        .collect();
    found.sort();
    found
}

/// Loads modules for devices that appear after `boot`: slow disks behind a controller, USB.
fn hotplug() {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, netlink, recv, socket_with};
    let opened = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::KOBJECT_UEVENT),
    )
    .and_then(|socket| bind(&socket, &netlink::SocketAddrNetlink::new(0, 1)).map(|()| socket));
    let (socket, modules) = match (opened, Modules::read()) {
        (Ok(socket), Ok(modules)) => (socket, modules),
        (opened, modules) => {
            step("hotplug", opened.map_err(io::Error::from).and(modules).map(|_| ()));
            std::thread::sleep(AGAIN);
            return;
        }
    };
    let mut loaded = BTreeSet::new();
    // What came between the end of `boot` and the socket.
    for alias in modaliases() {
        modules.matching(&alias).for_each(|module| modules.load(module, &mut loaded));
    }
    let mut buffer = vec![0_u8; 16 * 1024];
    loop {
        let length = match recv(&socket, buffer.as_mut_slice(), rustix::net::RecvFlags::empty()) {
            Ok((length, _)) => length,
            // The kernel dropped events because we were slow: the next event finds the rest.
            Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => continue,
            Err(error) => return say("hotplug", error),
        };
        let message = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
        for alias in message.split('\0').filter_map(|field| field.strip_prefix("MODALIAS=")) {
            modules.matching(alias).for_each(|module| modules.load(module, &mut loaded));
        }
    }
}

/// Sends the kernel's lines to the log server, if there is one.
fn kernel_log() {
    match argument("syslog_host") {
        Some(server) => step("kernel log", Log::new(&server).follow_kernel()),
        None => loop {
            std::thread::park();
        },
    }
    std::thread::sleep(AGAIN);
}

/// Runs the agent, and sends what it says to the log server, if there is one. init starts this again when the agent ends.
fn agent() -> ExitCode {
    let program = "/usr/bin/tink-worker";
    // Kept open until the agent has it, too.
    let _alone = match alone() {
        Ok(lock) => lock,
        Err(error) => {
            say("agent lock", error);
            std::thread::sleep(AGAIN);
            return ExitCode::FAILURE;
        }
    };
    let error = match argument("syslog_host") {
        Some(server) => match Log::new(&server).run("tink-worker", program) {
            Ok(ended) if ended.success() => return ExitCode::SUCCESS,
            Ok(ended) => ended.to_string(),
            Err(error) => error.to_string(),
        },
        None => Command::new(program).exec().to_string(),
    };
    say("agent", error);
    std::thread::sleep(AGAIN);
    ExitCode::FAILURE
}

/// Waits until no other agent runs, and gives the lock that the agent inherits: should this program be killed, its agent goes on, and no second one may write
/// a disk beside it.
fn alone() -> io::Result<File> {
    let lock = File::create("/run/tink-worker.lock")?;
    lock.lock()?;
    rustix::io::fcntl_setfd(&lock, rustix::io::FdFlags::empty())?;
    Ok(lock)
}

fn command(program: &str, arguments: &[&str]) -> io::Result<()> {
    let status = Command::new(format!("/bin/{program}")).args(arguments).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{program} ended with {status}"))) }
}

fn step(what: &str, result: io::Result<()>) {
    if let Err(error) = result {
        say(what, error);
    }
}

/// One line on the console. There is nowhere left to report to if that fails.
fn say(what: &str, how: impl Display) {
    let written = writeln!(io::stdout(), "hook-init: {what}: {how}");
    drop(written);
}

/// Seconds since the kernel started.
fn uptime() -> String {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    format!("{} s", text.split_whitespace().next().unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_that_is_global_and_ones_own() {
        let line = |scope: &str, flags: &str, name: &str| {
            format!("fd000031000000005054000000fffe12 02 40 {scope} {flags} {name:>8}\n")
        };
        assert!(has_ipv6(&[line("20", "80", "eth0"), line("00", "00", "eth0")].concat(), "eth0"));
        for other in
            [line("20", "80", "eth0"), line("00", "40", "eth0"), line("00", "80", "eth1"), "x".to_owned()]
        {
            assert!(!has_ipv6(&other, "eth0"), "{other}");
        }
    }

    #[test]
    fn globs_match_as_depmod_means_them() {
        assert!(glob(b"d00001AF4d*", b"d00001AF4d00001000sv"));
        assert!(glob(b"v00008086d00001[0-5]*sv*", b"v00008086d00001522sv1"));
        assert!(!glob(b"v00008086d00001[0-4]*sv*", b"v00008086d00001522sv1"));
        assert!(glob(b"*bc01sc08i02*", b"v1bc01sc08i02"));
        assert!(glob(b"t-0x0?*", b"t-0x00"));
        assert!(!glob(b"t-0x00", b"t-0x05"));
    }
}

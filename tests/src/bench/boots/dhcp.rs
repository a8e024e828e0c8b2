// SPDX-License-Identifier: Apache-2.0
//! DHCP exchanges with perfdhcp, which acts as a relay: the highest rate without loss, and delays at a rate.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::Mac;
use serde_json::json;

use super::{ClientSide, Foreign, RELAY, SERVER, memory};

/// Exchanges per second that are tried, one after the other.
const RATES: [u32; 16] = [
    1_000, 1_500, 2_000, 3_000, 4_000, 5_000, 6_000, 8_000, 10_000, 12_000, 15_000, 18_000, 22_000, 27_000,
    33_000, 40_000,
];
/// How long each is tried, and how often before it counts as too much.
const SECONDS: u32 = 4;
const ATTEMPTS: usize = 2;
/// Exchanges that may go unanswered, of a thousand.
const LOSS: f64 = 1.0;
/// The first address of a machine is this many behind that of the network, beyond server and relay.
const FIRST: u32 = 0x0a4d_0100;
const READY: Duration = Duration::from_secs(60);

/// The MAC of a machine: perfdhcp counts up from the first.
pub fn mac_bytes(number: usize) -> [u8; 6] {
    let [.., high, middle, low] = number.to_be_bytes();
    [2, 0, 0, high, middle, low]
}

/// The same as text.
pub fn mac(number: usize) -> String {
    Mac::from(mac_bytes(number)).to_string()
}

/// The reserved address of a machine.
pub fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST + u32::try_from(number).unwrap_or(u32::MAX - FIRST))
}

/// What perfdhcp saw.
#[derive(Debug, Clone, Copy)]
pub struct Exchanges {
    /// DISCOVERs per second that were asked for.
    pub rate: u32,
    /// ACKs per second.
    pub acknowledged: f64,
    /// Exchanges of a thousand that found no end.
    lost: f64,
}

/// The highest of the rates with next to no loss.
pub fn highest_rate(clients: &ClientSide, machines: usize) -> Result<Exchanges> {
    let mut best = None;
    for rate in RATES {
        let mut clean = None;
        for _ in 0..ATTEMPTS {
            let seen = at_rate(clients, machines, rate)?;
            if seen.lost < LOSS {
                clean = Some(seen);
                break;
            }
        }
        // perfdhcp itself falls behind where it sends less than it was asked for.
        match clean {
            Some(seen) if seen.acknowledged > f64::from(rate) * 0.95 => best = Some(seen),
            Some(seen) => return Ok(seen),
            None => break,
        }
    }
    best.context("not even the lowest rate went without loss")
}

/// Times from a message to its answer, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Delays {
    /// Of half of the answers.
    pub median: f64,
    /// Of 99 in a hundred.
    pub p99: f64,
}

/// The delays of answers at a rate.
pub fn delays(clients: &ClientSide, machines: usize, rate: u32) -> Result<Delays> {
    let mut all = read_delays(&perfdhcp(clients, machines, rate, &["-x", "t"])?)?;
    all.sort_by(f64::total_cmp);
    let at =
        |hundredths: usize| all.get(all.len() * hundredths / 100).copied().context("no exchange had an end");
    Ok(Delays { median: at(50)?, p99: at(99)? })
}

/// Exchanges at a rate.
fn at_rate(clients: &ClientSide, machines: usize, rate: u32) -> Result<Exchanges> {
    read(&perfdhcp(clients, machines, rate, &[])?, rate)
}

fn perfdhcp(clients: &ClientSide, machines: usize, rate: u32, flags: &[&str]) -> Result<String> {
    let mut command = clients.command("perfdhcp");
    command.args(["-4", "-l", RELAY, "-R", &machines.to_string(), "-b", "mac=02:00:00:00:00:00"]);
    command.args(["-r", &rate.to_string(), "-p", &SECONDS.to_string(), "-W", "1500000", "-d", "1"]);
    // It ends with 3 when exchanges were lost.
    let output = command.args(flags).arg(SERVER).output().context("start perfdhcp")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        matches!(output.status.code(), Some(0 | 3)),
        "perfdhcp: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said.into_owned())
}

/// Reads the times of all answers, in milliseconds: `sent / received: 000000.000111 / 000000.000405`.
fn read_delays(said: &str) -> Result<Vec<f64>> {
    let lines = said.lines().filter_map(|line| line.strip_prefix("sent / received: "));
    let delays = lines.map(|line| {
        let (sent, received) = line.split_once(" / ").context("two times")?;
        Ok((received.trim().parse::<f64>()? - sent.trim().parse::<f64>()?) * 1000.0)
    });
    delays.collect()
}

/// Reads perfdhcp's closing statistics: one section for DISCOVER-OFFER, one for REQUEST-ACK.
fn read(said: &str, rate: u32) -> Result<Exchanges> {
    let (_, exchange) = said.split_once("DISCOVER-OFFER").context("perfdhcp's statistics")?;
    let (offers, acknowledgements) = exchange.split_once("REQUEST-ACK").context("perfdhcp's statistics")?;
    let value = |section: &str, name: &str| -> Result<f64> {
        let line = section.lines().find_map(|line| line.trim().strip_prefix(name));
        let text = line.with_context(|| format!("perfdhcp says no {name} in {section}"))?;
        Ok(text.trim_start_matches(':').trim().trim_end_matches(" ms").parse()?)
    };
    let (sent, received) = (value(offers, "sent packets")?, value(acknowledgements, "received packets")?);
    ensure!(sent > 0.0, "perfdhcp sent nothing");
    Ok(Exchanges {
        rate,
        acknowledged: received / f64::from(SECONDS),
        lost: (1.0 - received / sent) * 1000.0,
    })
}

/// Where Kea takes addresses from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A reservation of each machine, as we do.
    Reservations,
    /// A pool, which is what it is fastest at.
    Pool,
}

/// Kea, which keeps its leases in memory and a file.
pub struct Kea(Foreign);

impl Kea {
    /// Starts it; ready when it answers.
    pub fn start(dir: &Path, machines: usize, source: Source) -> Result<Self> {
        let dir = dir.join(format!("kea-{machines}-{source:?}"));
        std::fs::create_dir_all(&dir)?;
        let (reserved, pools) = match source {
            Source::Reservations => (machines, json!([])),
            Source::Pool => (0, json!([{"pool": format!("{} - 10.77.255.254", address(0))}])),
        };
        let reservations: Vec<_> = (0..reserved)
            .map(|number| {
                json!({"hw-address": mac(number), "ip-address": address(number), "hostname": format!("m{number}")})
            })
            .collect();
        let config = json!({"Dhcp4": {
            "interfaces-config": {"interfaces": ["servers"], "dhcp-socket-type": "udp"},
            "lease-database": {"type": "memfile", "name": dir.join("leases"), "lfc-interval": 0},
            "valid-lifetime": 86_400,
            "reservations-global": false,
            "reservations-in-subnet": source == Source::Reservations,
            "reservations-out-of-pool": source == Source::Reservations,
            "loggers": [{"name": "kea-dhcp4", "severity": "ERROR", "output_options": [{"output": "stderr"}]}],
            "subnet4": [{
                "subnet": "10.77.0.0/16",
                "pools": pools,
                "reservations": reservations,
                "option-data": [{"name": "routers", "data": SERVER}, {"name": "domain-name-servers", "data": SERVER}],
            }],
        }});
        let file = dir.join("kea.json");
        std::fs::write(&file, serde_json::to_vec(&config)?)?;
        let mut process = Foreign::start("Kea", "kea-dhcp4", &dir.join("kea.log"), |command| {
            command.arg("-c").arg(&file).env("KEA_PIDFILE_DIR", &dir).env("KEA_LOCKFILE_DIR", &dir);
        })?;
        listens(|| process.0.check())?;
        Ok(Self(process))
    }

    /// Resident memory, in megabytes.
    pub fn memory(&self) -> Result<f64> {
        memory(self.0.0.number())
    }
}

/// Waits until somebody has the DHCP port.
fn listens(mut check: impl FnMut() -> Result<()>) -> Result<()> {
    let until = Instant::now() + READY;
    // Local address and port as the kernel shows them; 0043 is 67.
    while !std::fs::read_to_string("/proc/thread-self/net/udp")?.contains(":0043 ") {
        check()?;
        ensure!(Instant::now() < until, "nobody listens on port 67");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Answers every request at once, from the request's own bytes: what a server cannot be faster than here.
pub struct Reflector {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reflector {
    /// Starts it in the network namespace of the calling thread.
    pub fn start() -> Result<Self> {
        let socket = UdpSocket::bind((SERVER, 67))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || reflect(&socket, &stopped));
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Reflector {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of it has been printed.
            drop(thread.join());
        }
    }
}

/// Offsets of RFC 2131 section 2: yiaddr, the client's hardware address, the end of the fixed part with its cookie.
const YIADDR: usize = 16;
const CHADDR: usize = 28;
const FIXED: usize = 240;

fn reflect(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 1500];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let Some(reply) = buffer.get(..length).and_then(reply) else { continue };
        // What cannot be sent is lost, as it is for a server.
        drop(socket.send_to(&reply, from));
    }
}

fn reply(request: &[u8]) -> Option<Vec<u8>> {
    let kind = match request.get(FIXED..)?.windows(3).find(|option| option.starts_with(&[53, 1]))? {
        [.., 1] => 2,
        _ => 5,
    };
    let mut reply = request.get(..FIXED)?.to_vec();
    *reply.first_mut()? = 2;
    let low = request.get(CHADDR + 3..CHADDR + 6)?;
    let yiaddr = [10, 77 + low.first()?, *low.get(1)?, *low.get(2)?];
    reply.get_mut(YIADDR..YIADDR + 4)?.copy_from_slice(&yiaddr);
    let server: Ipv4Addr = SERVER.parse().ok()?;
    reply.extend([53, 1, kind, 51, 4, 0, 1, 0x51, 0x80, 1, 4, 255, 255, 0, 0, 54, 4]);
    reply.extend(server.octets());
    reply.push(255);
    Some(reply)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn statistics_are_read() {
        let mut said = String::from("***Rate statistics***\n");
        for (name, sent, received) in [("DISCOVER-OFFER", 4000, 4000), ("REQUEST-ACK", 4000, 3980)] {
            write!(
                said,
                "***Statistics for: {name}***\nsent packets: {sent}\nreceived packets: {received}\ndrops: 0\n\n\
                 min delay: 0.050 ms\navg delay: 0.125 ms\nmax delay: 3.000 ms\n"
            )
            .unwrap();
        }
        let seen = read(&said, 1000).unwrap();
        assert_eq!((seen.acknowledged, seen.lost.round()), (995.0, 5.0));
    }

    #[test]
    fn times_of_answers_are_read() {
        let said = "***Timestamps for packets: DISCOVER-OFFER***\n\
                    sent / received: 000000.000100 / 000000.000400\nsent / received: 000001.400500 / 000001.401500\n\n\
                    ***Timestamps for packets: REQUEST-ACK***\nsent / received: 000000.000500 / 000000.000550\n";
        let rounded: Vec<f64> =
            read_delays(said).unwrap().iter().map(|delay| (delay * 1000.0).round()).collect();
        assert_eq!(rounded, [300.0, 1000.0, 50.0]);
    }

    #[test]
    fn macs_count_up_as_those_of_perfdhcp() {
        assert_eq!((mac(0).as_str(), mac(256).as_str()), ("02:00:00:00:00:00", "02:00:00:00:01:00"));
        assert_eq!(address(256), Ipv4Addr::new(10, 77, 2, 0));
    }
}

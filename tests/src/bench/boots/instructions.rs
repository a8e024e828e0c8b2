// SPDX-License-Identifier: Apache-2.0
//! Instructions that one DHCP exchange takes with few and with many machines known, counted by callgrind: a figure that no
//! other user of the machine changes.
//!
//! The benchmark's own program runs under it twice, once without any exchange, and the difference counts. What is measured is
//! what the listener does between two system calls: from the bytes of DISCOVER and REQUEST of firmware to those of OFFER and ACK.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use api::v1alpha1::Hardware;
use boots::decoders::Exchanges;
use daemon::config::{Inputs, Settings};
use dhcp::{Message, MessageType, code};

use super::{SERVER, dhcp as load, machine};
use crate::booting::firmware;

/// Exchanges that are counted.
const EXCHANGES: usize = 2_000;
/// Machines that boot one after the other are this many apart in the list, so that no cache is of use.
const STRIDE: usize = 7_919;
/// When the first of them boots, in unix seconds; each further one does so a second later.
const NOW: u64 = 1_700_000_000;

/// Instructions per exchange.
///
/// # Errors
/// When valgrind is missing or a machine is not answered.
pub fn per_exchange(machines: usize) -> Result<f64> {
    let (empty, full) = (count(machines, 0)?, count(machines, EXCHANGES)?);
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    Ok(full.saturating_sub(empty) as f64 / EXCHANGES as f64)
}

fn count(machines: usize, exchanges: usize) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(std::env::current_exe()?);
    command.args(["--exchanges", &exchanges.to_string(), "--machines", &machines.to_string()]);
    let output = command.stdin(Stdio::null()).output().context("start valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind: {said}");
    collected(&said).with_context(|| format!("valgrind counted nothing: {said}"))
}

/// Callgrind's total: `==PID== Collected : 123`.
fn collected(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
}

/// What runs under callgrind: a server that knows `machines`, and `exchanges` of them.
///
/// # Errors
/// When a machine is not answered as it should be.
pub fn run(machines: usize, exchanges: usize) -> Result<()> {
    let server: Ipv4Addr = SERVER.parse()?;
    let flags = [format!("--public-ipv4={SERVER}")];
    let mut settings = Settings::load("boots", boots::SETTINGS, Inputs::gather(flags, []));
    let config = boots::Config::from_settings(&mut settings);
    settings.finish()?;
    let known = (0..machines).map(|number| serde_json::from_value(machine(number)));
    let known = known.collect::<Result<Vec<Hardware>, _>>()?;
    let mut boots = Exchanges::new(&config, server, known).context("DHCP is off")?;
    for (number, now) in (0..exchanges).map(|number| number * STRIDE % machines).zip(NOW..) {
        let (mac, address) = (load::mac_bytes(number), load::address(number));
        let offer = answer(&mut boots, &firmware(MessageType::Discover, mac), now)?;
        ensure!(offer.yiaddr == address, "machine {number} was offered {}", offer.yiaddr);
        let mut request = firmware(MessageType::Request, mac);
        request.options.set_ip(code::REQUESTED_IP, address);
        request.options.set_ip(code::SERVER_ID, server);
        let ack = answer(&mut boots, &request, now)?;
        ensure!(ack.message_type() == Some(MessageType::Ack), "machine {number} was refused");
    }
    Ok(())
}

fn answer(boots: &mut Exchanges, message: &Message, now: u64) -> Result<Message> {
    let bytes = message.encode(usize::MAX)?.bytes;
    Ok(Message::parse(&boots.answer(&bytes, now).context("no answer")?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read() {
        let said = "==7== Events    : Ir\n==7== Collected : 1234567\n==7==\n==7== I   refs:      1,234,567\n";
        assert_eq!(collected(said), Some(1_234_567));
    }

    #[test]
    fn every_machine_is_answered() {
        run(10, 300).unwrap();
    }
}

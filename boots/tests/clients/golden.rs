// SPDX-License-Identifier: Apache-2.0
//! The answers of the tables of DHCP and DHCPv6 rules, byte by byte as they are compared there, read by tshark.

use std::path::Path;
use std::process::Command;

use crate::world::peer;

/// Kind of a capture whose packets begin with an IP header (pcap's LINKTYPE_RAW).
const RAW_IP: u32 = 101;
const UDP: u8 = 17;

/// The answers in a table. A run of zero bytes is its length in brackets there.
fn answers(table: &str) -> Vec<Vec<u8>> {
    // What is before it is where the answer goes; in the name of a row it would be followed by words.
    let hex = |text: &&str| text.bytes().all(|byte| byte.is_ascii_hexdigit() || b"()".contains(&byte));
    let answers = table.lines().filter_map(|line| Some(line.rsplit_once("out ")?.1).filter(hex));
    answers.map(unpacked).collect()
}

fn unpacked(hex: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), hex);
    while !rest.is_empty() {
        if let Some((zeros, after)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            bytes.resize(bytes.len() + zeros.parse::<usize>().unwrap(), 0);
            rest = after;
        } else {
            bytes.push(u8::from_str_radix(&rest[..2], 16).unwrap());
            rest = &rest[2..];
        }
    }
    bytes
}

fn udp(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    // A checksum of zero says that there is none, which IPv6 has no room for; tshark does not compare it.
    let header = [ports.0, ports.1, length, 1].map(u16::to_be_bytes).concat();
    [&header, payload].concat()
}

fn ipv4(payload: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x45, 0, high, low, 0, 0, 0, 0, 64, UDP, 0, 0];
    packet.extend([172, 31, 0, 1, 255, 255, 255, 255]);
    packet.extend(payload);
    packet
}

fn ipv6(payload: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, high, low, UDP, 64];
    for last in [1, 2] {
        packet.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    packet.extend(payload);
    packet
}

/// Writes a pcap file.
fn write(path: &Path, packets: &[Vec<u8>]) {
    let mut file = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 0xffff, RAW_IP].map(u32::to_le_bytes).concat();
    for (second, packet) in (0..).zip(packets) {
        let length = u32::try_from(packet.len()).unwrap();
        file.extend([second, 0, length, length].map(u32::to_le_bytes).concat());
        file.extend(packet);
    }
    std::fs::write(path, file).unwrap();
}

#[test]
#[ignore = "needs tshark"]
fn tshark_reads_every_answer_of_the_tables() {
    let dir = tempfile::tempdir().unwrap();
    let four: Vec<_> = answers(include_str!("../../src/dhcp/conformance.txt"))
        .iter()
        .map(|answer| ipv4(&udp((67, 68), answer)))
        .collect();
    let six: Vec<_> = answers(include_str!("../../src/dhcp6/conformance.txt"))
        .iter()
        .map(|answer| ipv6(&udp((547, 546), answer)))
        .collect();
    for (protocol, packets) in [("dhcp", four), ("dhcpv6", six)] {
        let path = dir.path().join(protocol);
        write(&path, &packets);
        let count = |filter: &str| {
            let mut tshark = Command::new(peer("tshark"));
            tshark.args(["-n", "-Y", filter, "-r"]).arg(&path);
            let output = tshark.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(count(protocol).len(), packets.len(), "every answer is one of {protocol}");
        assert!(packets.len() > 40, "the table has {} answers", packets.len());
        assert_eq!(
            count("_ws.malformed || _ws.expert.severity >= 0x600000"),
            [] as [String; 0],
            "{protocol}"
        );
    }
}

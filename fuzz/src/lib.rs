// SPDX-License-Identifier: Apache-2.0
//! Coverage-guided fuzzing of everything that decodes what a stranger sent. One program per target, made by libFuzzer;
//! the stable toolchain and a C++ compiler suffice. A target asserts more than the absence of a panic where a decoder
//! has an inverse or a bound.
//!
//! | target | what |
//! |---|---|
//! | `agent-cmdline` | the agent's kernel command line and flags |
//! | `api-request` | whole requests to the API server: path, query, selectors, bodies in every media type |
//! | `cluster-file` | cluster files, and every check of them |
//! | `dhcp` | DHCPv4 messages and the PXE and iPXE options in them |
//! | `dhcp6` | DHCPv6 packets, their relays and the boot options in them |
//! | `gotemplate` | Go templates: parsing and rendering |
//! | `hardware-csv` | `hardware.csv`, and the objects that its rows become |
//! | `http-requests` | whole requests to the HTTP server of boots: method, path, headers |
//! | `ipmi` | IPMI datagrams, sealed payloads, messages, and the client's state machine |
//! | `iso-ranges` | the Range header, and ISO images patched in the parts that it asks for |
//! | `syslog` | log messages in every form |
//! | `tftp` | TFTP packets and option negotiation |
//! | `workflow-template` | Templates: rendering, then the YAML of a workflow |
//!
//! `./x test` runs each for 20 s, one for each processor at a time, in a build that shares libraries with the tests; `./x fuzz` builds all
//! anew, optimised, and `./x fuzz dhcp --seconds 3600` runs one for an hour. What a target learns goes into `target/fuzz/corpus/`, a finding into
//! `target/fuzz/findings/`: the target's program (`target/fuzz/x86_64-unknown-linux-gnu/fuzz/`, among the tests `target/debug/`) replays it when it
//! gets the file as its only argument. A finding that is put right leaves a test in its library, and its input in `fuzz/corpus/<target>/`.
//!
//! Covered edges after 20 s each in the build of the tests, from the seeds alone (of our own code; other libraries do not count there): agent-cmdline
//! 1282, api-request 21093, cluster-file 25809, dhcp 1776, dhcp6 1631, gotemplate 4577, hardware-csv 3662, http-requests 18556, ipmi 2172,
//! iso-ranges 504, syslog 1187, tftp 532, workflow-template 4495.
//!
//! The programs are there with the feature `libfuzzer` alone: it takes a C++ compiler.

/// The input as text; `None` for what is not UTF-8, which the callers of text decoders never pass.
#[must_use]
pub fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Splits at the first newline: a short head that chooses, and the rest.
#[must_use]
pub fn head(text: &str) -> (&str, &str) {
    text.split_once('\n').unwrap_or((text, ""))
}

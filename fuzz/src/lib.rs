// SPDX-License-Identifier: Apache-2.0
//! Coverage-guided fuzzing of everything that decodes what a stranger sent. One program per target, made by libFuzzer;
//! the stable toolchain and a C++ compiler suffice. A target asserts more than the absence of a panic where a decoder
//! has an inverse or a bound.
//!
//! | target | what |
//! |---|---|
//! | `agent-cmdline` | the agent's kernel command line and flags |
//! | `api-request` | whole requests to the API server: path, query, selectors, bodies in every media type |
//! | `dhcp` | DHCPv4 messages and the PXE and iPXE options in them |
//! | `gotemplate` | Go templates: parsing and rendering |
//! | `ipmi` | IPMI datagrams, sealed payloads, messages, and the client's state machine |
//! | `tftp` | TFTP packets and option negotiation |
//! | `workflow-template` | Templates: rendering, then the YAML of a workflow |
//!
//! Build, at the root of the repository (the explicit target keeps the flags away from build scripts):
//!
//! ```sh
//! RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
//! -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
//! -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1" \
//! cargo build --release --manifest-path fuzz/Cargo.toml --target x86_64-unknown-linux-gnu --target-dir target/fuzz
//! ```
//!
//! Run one target; what it learns goes into the first directory, a finding into `target/fuzz/findings/`:
//!
//! ```sh
//! mkdir -p target/fuzz/corpus/dhcp target/fuzz/findings/dhcp
//! target/fuzz/x86_64-unknown-linux-gnu/release/dhcp target/fuzz/corpus/dhcp fuzz/corpus/dhcp \
//!   -artifact_prefix=target/fuzz/findings/dhcp/ -max_total_time=20 -timeout=10 -rss_limit_mb=1024
//! ```
//!
//! `-runs=0` instead of the time replays the committed seeds; a finding's file as the only argument replays it. A
//! finding that is put right leaves a test in its library, and its input in `fuzz/corpus/<target>/`.
//!
//! `Cargo.lock` began as a copy of the root's; a build adds what the libraries have come to need since.

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

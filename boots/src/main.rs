// SPDX-License-Identifier: Apache-2.0
//! The network-boot daemon as a program of its own.

fn main() -> std::process::ExitCode {
    boots::program::main(std::env::args().skip(1).collect())
}

// SPDX-License-Identifier: Apache-2.0
//! The metadata daemon as a program of its own.

fn main() -> std::process::ExitCode {
    hegel::program::main(std::env::args().skip(1).collect())
}

// SPDX-License-Identifier: Apache-2.0
//! The workflow daemon as a program of its own.

fn main() -> std::process::ExitCode {
    tink_server::program::main(std::env::args().skip(1).collect())
}

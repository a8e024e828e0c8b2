// SPDX-License-Identifier: Apache-2.0
//! The rufio daemon on its own.

fn main() -> std::process::ExitCode {
    rufio::program::main(std::env::args().skip(1).collect())
}

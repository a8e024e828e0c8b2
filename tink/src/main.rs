// SPDX-License-Identifier: Apache-2.0

//! The program `tink`; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tink::cli::main()
}

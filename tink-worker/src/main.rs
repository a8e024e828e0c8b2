// SPDX-License-Identifier: Apache-2.0
//! The agent's process: configuration, logging, signals, exit code. Everything else is in the library.

use std::process::ExitCode;

use tink_worker::config::{Config, Invocation};
use tink_worker::stop_on_signal;

/// sysexits.h: the command was used incorrectly.
const USAGE: u8 = 64;

#[tokio::main]
async fn main() -> ExitCode {
    let config = match Config::from_process() {
        Ok(Invocation::Run(config)) => *config,
        Ok(Invocation::Print(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::from(USAGE);
        }
    };
    tracing_subscriber::fmt().with_max_level(config.log_level).with_ansi(false).with_target(false).init();
    match tink_worker::run(config, stop_on_signal()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "agent failed");
            ExitCode::FAILURE
        }
    }
}

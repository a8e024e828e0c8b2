// SPDX-License-Identifier: Apache-2.0
//! What `tink api` keeps: everything it has acknowledged, however it ends, and everything that a backup is made of.

#![allow(
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails; clippy knows only test functions, not their helpers"
)]

use std::process::ExitCode;

use anyhow::Result;
use tests::runner::{Scenario, suite};

mod backup;
mod kills;

fn main() -> ExitCode {
    let scenarios = [
        Scenario::new("fifty_kills_lose_nothing_and_double_nothing", |_: &()| Box::pin(kills::run())),
        Scenario::new("a_backup_under_load_is_one_moment", |_: &()| Box::pin(backup::run())),
    ];
    suite(start, &scenarios)
}

async fn start() -> Result<()> {
    Ok(())
}

// SPDX-License-Identifier: Apache-2.0
//! The move from one API server to another: what arrives, and that it goes on wherever it was killed.

#![allow(
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected fails; clippy knows only test functions, not their helpers"
)]

use std::process::ExitCode;

use anyhow::Result;
use tests::runner::{Scenario, suite};

mod copy;
mod kills;
mod pods;
mod rack;

fn main() -> ExitCode {
    let scenarios = [
        Scenario::new("everything_is_the_same_on_another_server_of_ours_and_follows_the_source", |_: &()| {
            Box::pin(copy::ours())
        }),
        Scenario::new("who_copies_while_another_finishes_the_move_sends_nothing_more", |_: &()| {
            Box::pin(copy::overtaken())
        }),
        Scenario::new("everything_is_the_same_on_kubernetes_and_back_again", |_: &()| {
            Box::pin(copy::kubernetes_and_back())
        }),
        Scenario::new("a_move_goes_on_wherever_it_is_killed_and_daemons_act_on_one_side_only", |_: &()| {
            Box::pin(kills::ours())
        }),
        Scenario::new("a_move_to_kubernetes_and_back_goes_on_wherever_it_is_killed", |_: &()| {
            Box::pin(kills::kubernetes())
        }),
        Scenario::new("a_move_goes_on_when_its_servers_come_back", |_: &()| Box::pin(kills::away())),
        Scenario::new("the_daemons_wait_as_pods_of_the_target_before_the_source_is_told", |_: &()| {
            Box::pin(pods::wait_there())
        }),
        Scenario::new("a_move_that_was_begun_can_be_given_up", |_: &()| Box::pin(kills::given_up())),
    ];
    suite(start, &scenarios)
}

async fn start() -> Result<()> {
    Ok(())
}

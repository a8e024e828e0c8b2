// SPDX-License-Identifier: Apache-2.0

//! rufio as a whole, on the embedded API: with BMCs in memory that can be told to fail, with the lab's BMCs, and with
//! peers that we did not write.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

mod controllers;
mod fake;
mod lab_bmcs;
mod peers;
mod process;
mod world;

// SPDX-License-Identifier: Apache-2.0
//! The same random requests to our API server and to a real Kubernetes: whatever they answer, store or tell a watch must be
//! the same.
//!
//! ```text
//! seed --generator--> steps --driver--> both servers --normal--> difference --> report
//! ```
//!
//! Steps name versions, UIDs and tokens by the step that told them, and the driver puts in what each server told. Only
//! `normal` says what may differ; what else differs is a bug of ours.

mod dice;
pub mod difference;
pub mod driver;
pub mod generator;
mod hostile;
pub mod kinds;
pub mod normal;
mod patches;
mod reads;
mod requests;
mod settle;
pub mod shrink;
mod side;
mod spoil;
pub mod step;

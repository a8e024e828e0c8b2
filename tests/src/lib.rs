// SPDX-License-Identifier: Apache-2.0
//! Tests and benchmarks that cross daemons. What they share lives here; the tests are in `tests/tests`.

pub mod alone;
pub mod apart;
pub mod balancer;
pub mod bench;
pub mod booting;
pub mod cluster;
pub mod demo;
pub mod differential;
pub mod files;
pub mod install;
pub mod kubeadm;
pub mod kubernetes;
pub mod process;
pub mod runner;
pub mod simulated;
pub mod stack;
pub mod target;
pub mod web;

// SPDX-License-Identifier: Apache-2.0

//! The API group `bmc.tinkerbell.org`: BMCs and what is asked of them. One module per version.

pub mod v1alpha1;

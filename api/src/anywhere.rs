// SPDX-License-Identifier: Apache-2.0

//! The API group `anywhere.eks.amazonaws.com`: what a whole cluster is to be. One module per version.

pub mod v1alpha1;

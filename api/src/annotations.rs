// SPDX-License-Identifier: Apache-2.0

//! Keys of annotations and labels, and well-known names of objects.
//!
//! Owns the spelling; what each key does is said where it is acted on.

/// Hardware, Workflow: JSON of the inventory that the agent reported.
pub const AGENT_ATTRIBUTES: &str = "tinkerbell.org/agent-attributes";
/// Machine: `"true"` asks for the inventory to be collected; the key is removed afterwards.
pub const REFRESH_INVENTORY: &str = "tinkerbell.org/refresh-inventory";
/// Hardware: `"true"` keeps its BMC's inventory from being collected.
pub const DISABLE_OUT_OF_BAND_INVENTORY: &str = "tinkerbell.org/disable-outofband-inventory";
/// Hardware: the machine is never written, whoever asks; only the value `"false"` lifts that. Ours.
pub const PROTECTED: &str = "tinkerbell.org/protected";
/// Hardware: name and UID, `/` between, of the Workflow that switched netboot on; gone when it is switched off. Ours.
pub const NETBOOT_FOR: &str = "tinkerbell.org/netboot-for";
/// Workflow: the UID that it had on the API server that it was made on, for one that was moved to another. Ours.
pub const FIRST_UID: &str = "tinkerbell.org/first-uid";
/// Event: the boot number of the machine that the Event belongs to. Ours.
pub const BOOT: &str = "tinkerbell.org/boot";
/// The last content that `apply` sent, as kubectl keeps it, so that both can work on the same objects.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Label on Hardware: made by discovery.
pub const LABEL_AUTO_DISCOVERED: &str = "tinkerbell.org/auto-discovered";
/// Label on Workflows: made by enrollment.
pub const LABEL_AUTO_ENROLLMENT: &str = "tinkerbell.org/auto-enrollment";
/// Label and annotation on BMC Jobs: made by the workflow controller.
pub const LABEL_JOB_AUTO_CREATED: &str = "tink-controller-auto-created";
/// Label on BMC Tasks: the Job that made it.
pub const LABEL_TASK_OWNER: &str = "owner-name";
/// Label on the Secret of a BMC: `"true"` lets `clusterctl move` take it along, as the labels of their definitions do for Hardware
/// and Machines.
pub const LABEL_MOVE: &str = "clusterctl.cluster.x-k8s.io/move";
/// Label on Hardware: the machine of a cluster that holds it. Cluster API's provider for Tinkerbell has the same.
pub const LABEL_OWNER_NAME: &str = "v1alpha1.tinkerbell.org/ownerName";
/// Label on Hardware: the namespace of that machine.
pub const LABEL_OWNER_NAMESPACE: &str = "v1alpha1.tinkerbell.org/ownerNamespace";
/// Label on Hardware that a cluster holds: the cluster, as Cluster API labels everything of one.
pub const LABEL_CLUSTER: &str = "cluster.x-k8s.io/cluster-name";

/// The namespace that objects are in unless somebody says otherwise.
pub const DEFAULT_NAMESPACE: &str = "tinkerbell";
/// The namespace of the daemons: their accounts, their Leases, the key of agent tokens. Apart from the objects, so that who may read
/// the Secrets of BMCs cannot read that key.
pub const SYSTEM_NAMESPACE: &str = "tinkerbell-system";

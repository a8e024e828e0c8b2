// SPDX-License-Identifier: Apache-2.0

//! How a BMC is reached: the part that Machine and Task have in common.
//!
//! Owns only the wire form; rufio turns it into an endpoint of its own.

use std::{borrow::Cow, collections::BTreeMap};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::schema;

const PROVIDER_PATTERN: &str = "(?i)^(ipmitool|asrockrack|gofish|IntelAMT|dell|supermicro|openbmc)$";

/// How a BMC is reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// The Secret with `username` and `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_secret_ref: Option<SecretReference>,
    /// Host name or address.
    #[schemars(extend("minLength" = 1))]
    pub host: String,
    /// Whether an unknown certificate is accepted.
    #[serde(rename = "insecureTLS")]
    pub insecure_tls: bool,
    /// Kept for older manifests; each provider has its own port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::integer", extend("default" = 623))]
    pub port: Option<i64>,
    /// Settings of single protocols.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_options: Option<ProviderOptions>,
}

/// Names a Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SecretReference {
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Settings of single protocols.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderOptions {
    /// A switch in Home Assistant instead of a BMC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub homeassistant: Option<HomeAssistantOptions>,
    /// Intel AMT.
    #[serde(rename = "intelAMT", skip_serializing_if = "Option::is_none")]
    pub intel_amt: Option<IntelAmtOptions>,
    /// IPMI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipmitool: Option<IpmiOptions>,
    /// Protocols to try, first to last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preferred_order: Vec<ProviderName>,
    /// Redfish.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redfish: Option<RedfishOptions>,
    /// A web hook instead of a BMC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc: Option<RpcOptions>,
}

/// A switch in Home Assistant instead of a BMC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HomeAssistantOptions {
    /// Seconds to wait after switching.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power_operation_delay_seconds: Option<i32>,
    /// The switch.
    #[serde(rename = "switchEntityID")]
    pub switch_entity_id: String,
}

/// Intel AMT.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IntelAmtOptions {
    /// Scheme of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "http"))]
    pub host_scheme: Option<HostScheme>,
    /// Port of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::integer")]
    pub port: Option<i64>,
}

/// IPMI.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpmiOptions {
    /// Number of the RMCP+ cipher suite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cipher_suite: Option<String>,
    /// UDP port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::integer")]
    pub port: Option<i64>,
}

/// Redfish.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedfishOptions {
    /// TCP port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::integer")]
    pub port: Option<i64>,
    /// The system to manage, where a BMC has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_name: Option<String>,
    /// Sends the password with every request instead of opening a session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_basic_auth: Option<bool>,
}

/// A web hook instead of a BMC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RpcOptions {
    /// Where requests are sent.
    #[serde(rename = "consumerURL")]
    pub consumer_url: String,
    /// Forms that may change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experimental: Option<RpcExperimental>,
    /// How requests are signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hmac: Option<RpcHmac>,
    /// Keeps answers out of the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_notifications_disabled: Option<bool>,
    /// Form of a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<RpcRequest>,
    /// Where the signature goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<RpcSignature>,
}

/// Forms that may change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RpcExperimental {
    /// Template of the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_request_payload: Option<String>,
    /// Where the generated body goes in that template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dot_path: Option<String>,
}

/// How requests are signed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RpcHmac {
    /// Leaves the algorithm out in front of the signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_sig_disabled: Option<bool>,
    /// Keys by algorithm.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Vec<SecretReference>>,
}

/// Form of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RpcRequest {
    /// Content type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_content_type: Option<String>,
    /// Method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_method: Option<String>,
    /// Headers of every request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub static_headers: BTreeMap<String, Vec<String>>,
    /// Format of the time stamp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_format: Option<String>,
    /// Header of the time stamp.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_header: Option<String>,
}

/// Where the signature goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RpcSignature {
    /// Leaves the algorithm out of the header's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append_algo_to_header_disabled: Option<bool>,
    /// Header of the signature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_name: Option<String>,
    /// Headers that are signed too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub included_payload_headers: Vec<String>,
}

/// Scheme of an Intel AMT service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HostScheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

/// Name of a protocol, in any case, as the manifest has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProviderName(pub String);

impl JsonSchema for ProviderName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ProviderName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": PROVIDER_PATTERN })
    }
}

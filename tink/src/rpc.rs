// SPDX-License-Identifier: Apache-2.0

//! The flags of a web hook that stands for all BMCs, as EKS Anywhere has them: each is an environment variable too.

use api::bmc::v1alpha1::{RpcExperimental, RpcHmac, RpcOptions, RpcRequest, RpcSignature};
use clap::Args;
use daemon::Secret;
use orchestrator::inventory::RpcBmc;

/// The web hook. Without an URL there is none.
#[derive(Args)]
#[command(next_help_heading = "Web hook instead of BMCs")]
pub(crate) struct RpcArgs {
    /// Endpoint that receives power and boot requests
    #[arg(
        long = "tinkerbell-bmc-consumer-url",
        env = "TINKERBELL_BMC_CONSUMER_URL",
        hide_short_help = true,
        value_name = "URL"
    )]
    consumer_url: Option<String>,
    /// Content type of requests
    #[arg(
        long = "tinkerbell-bmc-http-content-type",
        env = "TINKERBELL_BMC_HTTP_CONTENT_TYPE",
        hide_short_help = true,
        value_name = "TYPE"
    )]
    content_type: Option<String>,
    /// Method of requests
    #[arg(
        long = "tinkerbell-bmc-http-method",
        env = "TINKERBELL_BMC_HTTP_METHOD",
        hide_short_help = true,
        value_name = "METHOD"
    )]
    method: Option<String>,
    /// Header of the time stamp
    #[arg(
        long = "tinkerbell-bmc-timestamp-header",
        env = "TINKERBELL_BMC_TIMESTAMP_HEADER",
        hide_short_help = true,
        value_name = "NAME"
    )]
    timestamp_header: Option<String>,
    /// Headers of every request: K=v1;v2,K2=v
    #[arg(
        long = "tinkerbell-bmc-static-headers",
        env = "TINKERBELL_BMC_STATIC_HEADERS",
        hide_short_help = true,
        value_name = "HEADERS"
    )]
    static_headers: Option<String>,
    /// Header of the signature
    #[arg(
        long = "tinkerbell-bmc-sig-header-name",
        env = "TINKERBELL_BMC_SIG_HEADER_NAME",
        hide_short_help = true,
        value_name = "NAME"
    )]
    signature_header: Option<String>,
    /// Leave the algorithm out of the header's name
    #[arg(
        long = "tinkerbell-bmc-append-algo-to-header-disabled",
        env = "TINKERBELL_BMC_APPEND_ALGO_TO_HEADER_DISABLED",
        hide_short_help = true
    )]
    append_algorithm_disabled: bool,
    /// Headers that are signed too
    #[arg(
        long = "tinkerbell-bmc-sig-included-payload-headers",
        env = "TINKERBELL_BMC_SIG_INCLUDED_PAYLOAD_HEADERS",
        hide_short_help = true,
        value_delimiter = ',',
        value_name = "NAMES"
    )]
    signed_headers: Vec<String>,
    /// Leave the algorithm out in front of the signature
    #[arg(
        long = "tinkerbell-bmc-prefix-sig-disabled",
        env = "TINKERBELL_BMC_PREFIX_SIG_DISABLED",
        hide_short_help = true
    )]
    prefix_disabled: bool,
    /// Keys that sign requests; better in the environment than on a command line
    #[arg(
        long = "tinkerbell-bmc-hmac-secrets",
        env = "TINKERBELL_BMC_HMAC_SECRETS",
        hide_env_values = true,
        hide_short_help = true,
        value_delimiter = ',',
        value_name = "KEYS"
    )]
    hmac_secrets: Vec<String>,
    /// Template of the body
    #[arg(
        long = "tinkerbell-bmc-custom-payload",
        env = "TINKERBELL_BMC_CUSTOM_PAYLOAD",
        hide_short_help = true,
        value_name = "JSON"
    )]
    custom_payload: Option<String>,
    /// Where the generated body goes in that template
    #[arg(
        long = "tinkerbell-bmc-custom-payload-dot-location",
        env = "TINKERBELL_BMC_CUSTOM_PAYLOAD_DOT_LOCATION",
        hide_short_help = true,
        value_name = "PATH"
    )]
    dot_location: Option<String>,
}

/// Without the keys.
impl std::fmt::Debug for RpcArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RpcArgs").field("consumer_url", &self.consumer_url).finish_non_exhaustive()
    }
}

impl RpcArgs {
    /// The web hook, if there is one.
    ///
    /// # Errors
    ///
    /// What is wrong with the flags.
    pub(crate) fn bmc(&self) -> Result<Option<RpcBmc>, String> {
        let Some(url) = self.consumer_url.clone().filter(|url| !url.is_empty()) else { return Ok(None) };
        if orchestrator::syntax::Url::parse(&url).is_none() {
            return Err(format!("--tinkerbell-bmc-consumer-url {url:?} is no http or https URL"));
        }
        let experimental = RpcExperimental {
            custom_request_payload: self.custom_payload.clone(),
            dot_path: self.dot_location.clone(),
        };
        let options = RpcOptions {
            consumer_url: url,
            experimental: (experimental != RpcExperimental::default()).then_some(experimental),
            hmac: self
                .prefix_disabled
                .then(|| RpcHmac { prefix_sig_disabled: Some(true), ..RpcHmac::default() }),
            log_notifications_disabled: None,
            request: Some(RpcRequest {
                http_content_type: self.content_type.clone(),
                http_method: self.method.clone(),
                static_headers: headers(self.static_headers.as_deref().unwrap_or_default())?,
                timestamp_header: self.timestamp_header.clone(),
                timestamp_format: None,
            }),
            signature: Some(RpcSignature {
                append_algo_to_header_disabled: self.append_algorithm_disabled.then_some(true),
                header_name: self.signature_header.clone(),
                included_payload_headers: self.signed_headers.clone(),
            }),
        };
        let hmac_secrets =
            self.hmac_secrets.iter().filter(|key| !key.is_empty()).cloned().map(Secret::new).collect();
        Ok(Some(RpcBmc { options, hmac_secrets }))
    }
}

/// `K=v1;v2,K2=v`.
fn headers(text: &str) -> Result<std::collections::BTreeMap<String, Vec<String>>, String> {
    let one = |part: &str| {
        let (name, values) = part.split_once('=').ok_or_else(|| {
            format!("--tinkerbell-bmc-static-headers: {part:?} has no =; write K=v1;v2,K2=v")
        })?;
        Ok((name.trim().to_owned(), values.split(';').map(|value| value.trim().to_owned()).collect()))
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_names_and_one_or_several_values() {
        let read = headers("X-A=1;2, X-B=3").unwrap();
        assert_eq!(read["X-A"], ["1", "2"]);
        assert_eq!(read["X-B"], ["3"]);
        assert!(headers("X-A").is_err() && headers("").unwrap().is_empty());
    }
}

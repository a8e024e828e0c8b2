// SPDX-License-Identifier: Apache-2.0
//! Redfish error bodies (DSP0266 section 8.6) with messages of the Base registry.

use bytes::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};

/// Registry whose messages are used.
const REGISTRY: &str = "Base.1.16";

/// One message of the Base registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    key: &'static str,
    text: String,
    args: Vec<String>,
    property: Option<String>,
}

/// Why a request is refused: a status and one message per finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    messages: Vec<Message>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Message {
    /// A property that the resource does not have.
    #[must_use]
    pub fn unknown_property(path: &str) -> Self {
        let text = format!("The property {path} is not in the list of valid properties for the resource.");
        Self::about(path, "PropertyUnknown", text, vec![path.to_owned()])
    }

    /// A property that the resource has and nobody may write.
    #[must_use]
    pub fn read_only(path: &str) -> Self {
        let text = format!("The property {path} is a read-only property and cannot be assigned a value.");
        Self::about(path, "PropertyNotWritable", text, vec![path.to_owned()])
    }

    /// A value of the wrong JSON type.
    #[must_use]
    pub fn wrong_type(path: &str, value: &Value) -> Self {
        let text = format!(
            "The value '{value}' for the property {path} is not a type that the property can accept."
        );
        Self::about(path, "PropertyValueTypeError", text, vec![value.to_string(), path.to_owned()])
    }

    /// A value that is not one of those allowed.
    #[must_use]
    pub fn not_in_list(path: &str, value: &str) -> Self {
        let text =
            format!("The value '{value}' for the property {path} is not in the list of acceptable values.");
        Self::about(path, "PropertyValueNotInList", text, vec![value.to_owned(), path.to_owned()])
    }

    /// A property that must be given.
    #[must_use]
    pub fn missing(path: &str) -> Self {
        let text = format!("The property {path} is a required property and must be included in the request.");
        Self::about(path, "PropertyMissing", text, vec![path.to_owned()])
    }

    fn about(path: &str, key: &'static str, text: String, args: Vec<String>) -> Self {
        Self { key, text, args, property: Some(format!("#/{path}")) }
    }

    fn general(key: &'static str, text: impl Into<String>) -> Self {
        Self { key, text: text.into(), args: Vec::new(), property: None }
    }

    fn to_json(&self) -> Value {
        let mut message = json!({
            "@odata.type": "#Message.v1_1_2.Message",
            "MessageId": format!("{REGISTRY}.{}", self.key),
            "Message": self.text,
            "MessageArgs": self.args,
            "MessageSeverity": "Warning",
            "Resolution": "Correct the request and send it again.",
        });
        if let (Some(property), Some(object)) = (&self.property, message.as_object_mut()) {
            object.insert("RelatedProperties".to_owned(), json!([property]));
        }
        message
    }
}

impl Problem {
    /// 400, with every finding.
    #[must_use]
    pub const fn bad_properties(messages: Vec<Message>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, messages, header: None }
    }

    /// 400: not a JSON object.
    #[must_use]
    pub fn malformed() -> Self {
        let text = "The request body submitted was malformed JSON and could not be parsed.";
        Self::new(StatusCode::BAD_REQUEST, Message::general("MalformedJSON", text))
    }

    /// 401, with the one scheme that a client can answer by itself.
    #[must_use]
    pub fn unauthenticated() -> Self {
        let text = "The service requires valid credentials.";
        let mut problem = Self::new(StatusCode::UNAUTHORIZED, Message::general("NoValidSession", text));
        problem.header = Some((WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"BMC\"")));
        problem
    }

    /// 403.
    #[must_use]
    pub fn forbidden() -> Self {
        let text = "There are insufficient privileges for the account or credentials.";
        Self::new(StatusCode::FORBIDDEN, Message::general("InsufficientPrivilege", text))
    }

    /// 404.
    #[must_use]
    pub fn not_found(path: &str) -> Self {
        let text = format!("The resource at the URI '{path}' was not found.");
        Self::new(StatusCode::NOT_FOUND, Message::general("ResourceMissingAtURI", text))
    }

    /// 405, with what the resource does answer.
    #[must_use]
    pub fn not_allowed(allowed: &[Method]) -> Self {
        let text = "The HTTP method is not allowed on this resource.";
        let mut problem =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, Message::general("OperationNotAllowed", text));
        let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
        problem.header = HeaderValue::from_str(&names.join(", ")).ok().map(|value| (ALLOW, value));
        problem
    }

    /// 409: not possible in the machine's present state.
    #[must_use]
    pub fn conflict(text: &str) -> Self {
        Self::new(StatusCode::CONFLICT, Message::general("ResourceInUse", text))
    }

    /// 412: the resource has changed since the client read it, or another protocol version is demanded.
    #[must_use]
    pub fn precondition_failed() -> Self {
        let text = "The ETag supplied did not match the ETag required to change this resource.";
        Self::new(StatusCode::PRECONDITION_FAILED, Message::general("PreconditionFailed", text))
    }

    /// 413.
    #[must_use]
    pub fn too_large() -> Self {
        let text = "The request body is too large.";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Message::general("PayloadTooLarge", text))
    }

    /// 415.
    #[must_use]
    pub fn not_json() -> Self {
        let text = "The request body must be application/json.";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Message::general("HeaderInvalid", text))
    }

    /// 503: try again shortly.
    #[must_use]
    pub fn busy(key: &'static str, text: &str) -> Self {
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, Message::general(key, text));
        problem.header = Some((hyper::header::RETRY_AFTER, HeaderValue::from_static("1")));
        problem
    }

    /// The response.
    #[must_use]
    pub fn into_response(self) -> Response<Bytes> {
        let text = self.messages.first().map_or("", |message| message.text.as_str());
        let (code, message) = match self.messages.as_slice() {
            [message] => (message.key, message.text.as_str()),
            _ => ("GeneralError", text),
        };
        let info: Vec<Value> = self.messages.iter().map(Message::to_json).collect();
        let body = json!({"error": {
            "code": format!("{REGISTRY}.{code}"),
            "message": message,
            "@Message.ExtendedInfo": info,
        }});
        let mut response = Response::new(Bytes::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert("odata-version", HeaderValue::from_static("4.0"));
        if let Some((name, value)) = self.header {
            headers.insert(name, value);
        }
        response
    }

    fn new(status: StatusCode, message: Message) -> Self {
        Self { status, messages: vec![message], header: None }
    }
}

// SPDX-License-Identifier: Apache-2.0

//! Lenient reading of Redfish bodies: a field that is missing, null or of the wrong type is simply not there.

use serde_json::Value;

/// The property `key` as text, without surrounding blanks; empty counts as absent.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
}

/// The link under `key`: `{"@odata.id": "…"}`, or the bare text that some services write.
pub(crate) fn link<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    let target = value.get(key)?;
    text(target, "@odata.id").or_else(|| target.as_str()).filter(|text| !text.is_empty())
}

/// The links of an array of references, such as `Members` or `Links.ManagedBy`.
pub(crate) fn links<'a>(value: &'a Value, key: &str) -> Vec<&'a str> {
    let Some(array) = value.get(key).and_then(Value::as_array) else { return Vec::new() };
    array.iter().filter_map(|entry| text(entry, "@odata.id").or_else(|| entry.as_str())).collect()
}

/// The `@Redfish.AllowableValues` of `key` (DSP0266, "Allowable values for action parameters and properties");
/// `None` when the service does not say.
pub(crate) fn allowable(value: &Value, key: &str) -> Option<Vec<String>> {
    let array = value.get(format!("{key}@Redfish.AllowableValues"))?.as_array()?;
    let values: Vec<String> = array.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    (!values.is_empty()).then_some(values)
}

/// The BMC's spelling of `wanted` among `allowed`, compared without case.
pub(crate) fn spelling<'a>(allowed: &'a [String], wanted: &str) -> Option<&'a str> {
    allowed.iter().map(String::as_str).find(|value| value.eq_ignore_ascii_case(wanted))
}

/// First message id and text of an error body (DSP0266, "Error responses").
pub(crate) fn error_message(body: &Value) -> (Option<String>, String) {
    let error = body.get("error").unwrap_or(body);
    let info = error.get("@Message.ExtendedInfo").or_else(|| body.get("@Message.ExtendedInfo"));
    // Some services send one object where the standard wants an array.
    let info = info.and_then(|info| info.as_array().and_then(|array| array.first()).or(Some(info)));
    let id = info
        .and_then(|info| text(info, "MessageId").or_else(|| text(info, "MessageID")))
        .or_else(|| text(error, "code"))
        .map(shorten);
    let message = info.and_then(|info| text(info, "Message")).or_else(|| text(error, "message"));
    (id, message.map_or_else(|| "no reason given".to_owned(), shorten))
}

/// At most 300 characters, none of them a control character: the text ends up in conditions and logs.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{allowable, error_message, link, links, text};

    #[test]
    fn odd_bodies_are_read_as_absent() {
        let body = json!({"A": null, "B": 3, "C": "  ", "D": {"@odata.id": "/x"}, "E": "/y", "F": [{"@odata.id": "/z"}, 4]});
        assert_eq!(text(&body, "A"), None);
        assert_eq!(text(&body, "B"), None);
        assert_eq!(text(&body, "C"), None);
        assert_eq!(link(&body, "D"), Some("/x"));
        assert_eq!(link(&body, "E"), Some("/y"));
        assert_eq!(links(&body, "F"), ["/z"]);
        assert_eq!(allowable(&json!({"R@Redfish.AllowableValues": []}), "R"), None);
    }

    #[test]
    fn error_bodies_of_all_kinds() {
        let standard = json!({"error": {"code": "Base.1.8.GeneralError", "message": "see", "@Message.ExtendedInfo": [
            {"MessageId": "Base.1.8.PropertyValueNotInList", "Message": "not in\nlist"}]}});
        assert_eq!(
            error_message(&standard),
            (Some("Base.1.8.PropertyValueNotInList".into()), "not in list".into())
        );
        let object = json!({"error": {"@Message.ExtendedInfo": {"MessageID": "X", "Message": "m"}}});
        assert_eq!(error_message(&object), (Some("X".into()), "m".into()));
        assert_eq!(error_message(&json!(null)), (None, "no reason given".into()));
    }
}

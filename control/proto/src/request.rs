//! Reading requests: what is wrong with one is named.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::api::{Failure, Request};

/// Grows when something is taken away or changes its meaning; additions leave it as it is.
pub const PROTOCOL: u32 = 1;

/// What a request does to what it is asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Reads what control knows.
    Read,
    /// Reads, and needs the datapath to answer.
    Ask,
    Change,
}

impl Request {
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Ping
            | Self::Version
            | Self::NetList
            | Self::NetInfo { .. }
            | Self::NetDumpxml { .. }
            | Self::NetDhcpLeases { .. }
            | Self::Bridges
            | Self::NetGetMetadata { .. }
            | Self::NetPorts { details: false, .. }
            | Self::NetPortDumpxml { .. }
            | Self::FreeSubnet
            | Self::Interfaces { .. }
            | Self::InterfaceAddresses { .. }
            | Self::Subscribe { .. } => Class::Read,
            Self::BridgeMacs { .. }
            | Self::BridgeStp { .. }
            | Self::NetPorts { details: true, .. }
            | Self::InterfaceStats { .. }
            | Self::Status
            | Self::ConntrackList { .. }
            | Self::ConntrackCount { .. }
            | Self::ConntrackEvents { .. }
            | Self::Trace { .. } => Class::Ask,
            Self::NetDefine { .. }
            | Self::NetCreate { .. }
            | Self::NetStart { .. }
            | Self::NetDestroy { .. }
            | Self::NetUndefine { .. }
            | Self::NetAutostart { .. }
            | Self::NetUpdate { .. }
            | Self::NetSetMetadata { .. }
            | Self::NetPortCreate { .. }
            | Self::NetPortDelete { .. }
            | Self::SetLink { .. }
            | Self::SetRates { .. }
            | Self::AttachDevice { .. }
            | Self::DetachDevice { .. }
            | Self::UpdateDevice { .. }
            | Self::BridgeSet { .. }
            | Self::ConntrackFlush { .. }
            | Self::AttachInterface(_)
            | Self::DetachInterface { .. } => Class::Change,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    method: String,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
}

/// Reads a request. Unlike plain deserialisation it needs no more memory than the message itself, takes absent
/// parameters for empty ones, and names the method or field it does not know.
///
/// # Errors
/// What is wrong, in words for whoever wrote the request.
pub fn parse(bytes: &[u8]) -> Result<Request, Failure> {
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|error| {
        refuse(format!("it is not an object of a method and its parameters: {error}"), None)
    })?;
    let Envelope { method, parameters } = envelope;
    let methods = methods();
    if !methods.contains(&method) {
        let method: String = method.chars().take(100).collect();
        let known = format!("protocol {PROTOCOL} has: {}", methods.join(", "));
        return Err(refuse(format!("there is no method '{method}'"), Some(known)));
    }
    let given = parameters.map_or("{}", RawValue::get);
    let with = serde_json::from_str::<Request>(&format!(r#"{{"method":"{method}","parameters":{given}}}"#));
    let without = || serde_json::from_str(&format!(r#"{{"method":"{method}"}}"#));
    match with {
        Ok(request) => Ok(request),
        Err(error) if matches!(given, "{}" | "null") => without().map_err(|_| error),
        Err(error) => Err(error),
    }
    .map_err(|error| refuse(format!("method '{method}': {}", in_words(&error)), None))
}

/// The error without the place in a text the caller has not written so.
fn in_words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(words, _)| words.to_owned())
}

fn refuse(why: String, detail: Option<String>) -> Failure {
    Failure { message: format!("invalid argument: the request cannot be used: {why}"), detail }
}

/// All methods, in the order of [`Request`].
#[must_use]
pub fn methods() -> Vec<String> {
    // Serde lists the variants when it is given one that does not exist.
    let listing = serde_json::from_str::<Request>(r#"{"method":""}"#).err().map(|error| error.to_string());
    let listing = listing.unwrap_or_default();
    let known = listing.split_once("expected one of ").map_or("", |(_, known)| known);
    known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text.as_bytes()).expect_err("refused").message
    }

    #[test]
    fn methods_are_listed_in_order() {
        let methods = methods();
        assert_eq!(methods.first().map(String::as_str), Some("ping"));
        assert!(methods.iter().any(|method| method == "net-dhcp-leases"), "{methods:?}");
    }

    #[test]
    fn absent_parameters_are_empty_ones() {
        for text in [
            r#"{"method":"net-list"}"#,
            r#"{"method":"net-list","parameters":{}}"#,
            r#" {"parameters":null,"method":"net-list"} "#,
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(Request::NetList), "{text}");
        }
        let all = Request::Subscribe { events: Vec::new(), network: None };
        assert_eq!(parse(br#"{"method":"subscribe"}"#), Ok(all));
        let start = Request::NetStart { network: "a".into() };
        assert_eq!(parse(br#"{"parameters":{"network":"a"},"method":"net-start"}"#), Ok(start));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let unknown = parse(br#"{"method":"net-strat"}"#).expect_err("unknown");
        assert!(unknown.message.ends_with("there is no method 'net-strat'"), "{}", unknown.message);
        assert!(unknown.detail.is_some_and(|detail| detail.contains("net-start")));
        for (text, word) in [
            (r#"{"method":"net-start"}"#, "method 'net-start': missing field `network`"),
            (r#"{"method":"net-start","parameters":{"network":"a","netwrk":1}}"#, "unknown field `netwrk`"),
            (r#"{"method":"net-start","parameters":{"network":7}}"#, "invalid type: integer `7`"),
            (r#"{"method":"ping","parameters":{"all":true}}"#, "method 'ping'"),
            (r#"{"method":"ping","extra":1}"#, "unknown field `extra`"),
            (r#"{"parameters":{}}"#, "missing field `method`"),
            ("[]", "method"),
            ("", "EOF"),
            ("\u{1}", "expected value"),
            (r#"{"method":"ping"}{"method":"ping"}"#, "trailing characters"),
        ] {
            let message = error(text);
            assert!(message.contains(word), "{text}: {message}");
        }
        let deep = format!(r#"{{"method":"ping","parameters":{}}}"#, "[".repeat(100_000));
        assert!(error(&deep).contains("cannot be used"));
    }
}

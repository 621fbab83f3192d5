//! Errors in libvirt's words, with a second part that says how to mend them.

use std::fmt::Display;

use pontoon_proto::api::Failure;

pub(crate) type Answer<T> = Result<T, Failure>;

pub(crate) fn fail(message: impl Into<String>) -> Failure {
    Failure { message: message.into(), detail: None }
}

pub(crate) fn fail_help(message: impl Into<String>, detail: impl Into<String>) -> Failure {
    Failure { message: message.into(), detail: Some(detail.into()) }
}

pub(crate) fn invalid(text: impl Display) -> Failure {
    fail(format!("Requested operation is not valid: {text}"))
}

pub(crate) fn internal(text: impl Display) -> Failure {
    fail(format!("internal error: {text}"))
}

pub(crate) fn operation(text: impl Display) -> Failure {
    fail(format!("operation failed: {text}"))
}

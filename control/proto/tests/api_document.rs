//! `control/API.md` says what the code does: every example is read as the daemon and a client would read it.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use pontoon_proto::api::{Reply, Request, Response};
use pontoon_proto::event::Event;
use pontoon_proto::request::{self, Class, PROTOCOL};
use serde_json::Value;

const DOCUMENT: &str = include_str!("../../API.md");

/// Sections by their heading, each with its text.
fn sections() -> Vec<(&'static str, &'static str)> {
    let parts = DOCUMENT.split("\n#").skip(1);
    parts
        .map(|part| part.trim_start_matches('#').split_once('\n').unwrap())
        .map(|(h, text)| (h.trim(), text))
        .collect()
}

/// The JSON between the fences of a text.
fn examples(text: &str) -> Vec<Value> {
    let blocks = text.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks
        .map(|block| serde_json::from_str(block).unwrap_or_else(|error| panic!("{error}: {block}")))
        .collect()
}

fn requests(text: &str) -> Vec<Request> {
    let requests = examples(text).into_iter().filter(|example| example.get("method").is_some());
    requests.map(|example| request::parse(example.to_string().as_bytes()).unwrap()).collect()
}

fn responses(text: &str) -> Vec<(Value, Response)> {
    let responses = examples(text).into_iter().filter(|example| example.get("method").is_none());
    responses.map(|example| (example.clone(), serde_json::from_value(example).unwrap())).collect()
}

fn method(request: &Request) -> String {
    serde_json::to_value(request).unwrap()["method"].as_str().unwrap().to_owned()
}

/// The names serde expects where it is given one that does not exist.
fn expected(text: &str, read: fn(&str) -> Option<serde_json::Error>) -> BTreeSet<String> {
    let words = read(text).unwrap().to_string();
    words.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_method_has_a_section_with_an_example_that_is_a_request() {
    let sections = sections();
    for name in request::methods() {
        let found = sections.iter().find(|(heading, _)| *heading == name);
        let (_, text) = found.unwrap_or_else(|| panic!("'{name}' is not described"));
        let requests = requests(text);
        assert!(requests.iter().any(|request| method(request) == name), "'{name}' has no example");
        let reads = requests.iter().any(|request| request.class() != Class::Change);
        assert_eq!(text.starts_with("*reads.*"), reads, "whether '{name}' reads");
    }
}

#[test]
fn every_example_of_an_answer_is_one() {
    let mut replies = BTreeSet::new();
    for (example, response) in responses(DOCUMENT) {
        assert_eq!(
            serde_json::to_value(&response).unwrap(),
            example,
            "nothing is missing, nothing is too much"
        );
        replies.extend(example["parameters"]["reply"].as_str().map(str::to_owned));
    }
    let read = |text: &str| serde_json::from_str::<Reply>(text).err();
    assert_eq!(replies, expected(r#"{"reply": ""}"#, read), "every kind of reply is shown");
}

#[test]
fn every_event_is_shown_and_every_parameter_named() {
    let (_, text) = sections().into_iter().find(|(heading, _)| *heading == "Events").unwrap();
    let shown: BTreeSet<String> = responses(text)
        .iter()
        .filter_map(|(example, _)| Some(example["parameters"]["event"].as_str()?.to_owned()))
        .collect();
    let read = |text: &str| serde_json::from_str::<Event>(text).err();
    assert_eq!(shown, expected(r#"{"event": ""}"#, read));
    for (heading, text) in sections() {
        for request in requests(text).iter().filter(|request| method(request) == heading) {
            let value = serde_json::to_value(request).unwrap();
            for name in value["parameters"].as_object().into_iter().flat_map(|members| members.keys()) {
                let general =
                    matches!(name.as_str(), "network" | "file" | "xml" | "domain" | "bridge" | "kind");
                let named = text.contains(&format!("`{name}`")) || text.contains(&format!("\"{name}\""));
                assert!(general || named, "parameter '{name}' of '{heading}'");
            }
        }
    }
}

#[test]
fn shell_examples_and_numbers_are_right() {
    let shell: Vec<&str> = DOCUMENT.lines().filter(|line| line.starts_with("printf '%s\\0' '")).collect();
    assert!(shell.len() >= 3);
    for line in shell {
        let request = line.split('\'').nth(3).unwrap();
        request::parse(request.as_bytes()).unwrap();
    }
    assert!(DOCUMENT.contains(&format!("number of the protocol, which is {PROTOCOL}.")));
    let (_, errors) = sections().into_iter().find(|(heading, _)| *heading == "Errors").unwrap();
    let codes = errors.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | `"));
    for (code, begin) in codes {
        let message = format!("{}x", begin.split('`').next().unwrap());
        let failure = pontoon_proto::api::Failure { message, detail: None };
        assert_eq!(failure.code(), code);
    }
}

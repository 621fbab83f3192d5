//! All figures of all rounds.

use serde_json::{Map, Value, json};

use super::machine::Machine;
use crate::rounds::Results;

#[must_use]
pub fn render(results: &Results, machine: &Machine) -> Value {
    let modes: Map<String, Value> = results
        .modes
        .iter()
        .map(|(mode, rows)| {
            let targets: Map<String, Value> =
                rows.iter().map(|(name, rounds)| (name.clone(), json!(rounds))).collect();
            (mode.name().to_owned(), Value::Object(targets))
        })
        .collect();
    json!({ "machine": machine.facts(), "rounds": modes, "notes": results.notes })
}

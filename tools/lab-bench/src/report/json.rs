//! All figures of all rounds, written and read back.

use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};

use super::machine::Machine;
use crate::lab::Mode;
use crate::metric::Metric;
use crate::rounds::{Results, Rounds, Row};

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

/// Results that [`render`] wrote.
///
/// # Errors
/// With what is not as it writes it.
pub fn parse(value: &Value) -> anyhow::Result<(Results, Machine)> {
    let facts = value.get("machine").and_then(Value::as_object).context("no 'machine'")?;
    let facts = facts.iter().filter_map(|(fact, value)| Some((fact.as_str(), value.as_str()?)));
    let machine = Machine::of(facts);
    let modes = value.get("rounds").and_then(Value::as_object).context("no 'rounds'")?;
    let mut results = Results::default();
    for mode in Mode::ALL {
        let Some(targets) = modes.get(mode.name()).and_then(Value::as_object) else { continue };
        let rows = targets.iter().map(|(name, rounds)| Ok((name.clone(), rows(rounds)?)));
        let rows: Vec<Rounds> = rows.collect::<anyhow::Result<_>>()?;
        let filled =
            |column: &&str| rows.iter().flat_map(|(_, rows)| rows).any(|row| row.contains_key(*column));
        results.columns.extend(Metric::COLUMNS.into_iter().filter(filled));
        results.modes.push((mode, rows));
    }
    ensure!(!results.modes.is_empty(), "no rounds of a known mode");
    let notes = value.get("notes").and_then(Value::as_array).into_iter().flatten();
    results.notes = notes.filter_map(|note| note.as_str().map(str::to_owned)).collect();
    Ok((results, machine))
}

fn rows(rounds: &Value) -> anyhow::Result<Vec<Row>> {
    let rounds = rounds.as_array().context("rounds are not a list")?;
    let row = |round: &Value| {
        let figures = round.as_object().context("a round is no object")?;
        let known = Metric::COLUMNS.into_iter();
        Ok(known.filter_map(|column| Some((column, figures.get(column)?.as_f64()?))).collect())
    };
    rounds.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let rows =
            vec![("pontoon".to_owned(), vec![Row::from([("rr/s", 100.5), ("conn/s", 7.0)]), Row::new()])];
        let results = Results {
            modes: vec![(Mode::Nat, rows)],
            columns: vec!["rr/s", "conn/s"],
            notes: vec!["a note".to_owned()],
        };
        let machine = Machine::of([("kernel", "Linux 6"), ("commit", "abc")].into_iter());
        let (read, found) = parse(&render(&results, &machine)).expect("parsed");
        assert_eq!((read.modes, read.columns, read.notes), (results.modes, results.columns, results.notes));
        assert_eq!(found.facts(), machine.facts());
        assert!(parse(&json!({ "machine": {}, "rounds": {} })).is_err());
    }
}

//! Results as a table, JSON, a chart and a document.

pub mod chart;
pub mod document;
pub mod json;
pub mod machine;
pub mod table;

use crate::rounds::{Cell, Results, Rounds, Row};
use crate::target::REFERENCE;

/// Columns of the main table: the issue of speed; the others are of cost.
pub(crate) fn is_main(column: &str) -> bool {
    !["cores", "switch %", "us/packet", "ms/Gbit", "us/request", "us/connection"]
        .iter()
        .any(|end| column.ends_with(end))
}

/// Columns that a mode's rows have filled, in order.
pub(crate) fn filled<'a>(
    results: &'a Results,
    rows: &'a [Rounds],
) -> impl Iterator<Item = &'static str> + 'a {
    let has =
        |column: &&'static str| rows.iter().flat_map(|(_, rows)| rows).any(|row| row.contains_key(*column));
    results.columns.iter().copied().filter(has)
}

pub(crate) fn reference(rows: &[Rounds]) -> Option<&[Row]> {
    rows.iter().find(|(name, _)| name == REFERENCE).map(|(_, rows)| rows.as_slice())
}

/// The cell of a target; the reference itself has no ratio.
pub(crate) fn cell(rows: &[Rounds], name: &str, column: &str) -> Option<Cell> {
    let (_, mine) = rows.iter().find(|(other, _)| other == name)?;
    let base = reference(rows).filter(|_| name != REFERENCE);
    Cell::of(mine, base, column)
}

/// Three digits that count.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let shown: Vec<String> = [0.01234, 1.234, 12.34, 123.4, 12345.6].map(short).into();
        assert_eq!(shown, ["0.012", "1.23", "12.3", "123", "12346"]);
    }
}

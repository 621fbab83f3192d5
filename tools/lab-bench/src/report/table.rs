//! Tables of a terminal and of Markdown.

use super::{cell, filled, is_main, short};
use crate::rounds::{Results, Rounds};

/// Which columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Main,
    Cost,
}

/// One table a mode, `x` before the ratio to the reference, `~` behind what varies.
#[must_use]
pub fn plain(results: &Results, kind: Kind) -> String {
    let mut text = String::new();
    for (mode, rows) in &results.modes {
        let lines = lines(results, rows, kind, mode.name());
        let widths: Vec<usize> = (0..lines.first().map_or(0, Vec::len))
            .map(|index| {
                lines.iter().filter_map(|line| line.get(index)).map(|cell| cell.chars().count()).max()
            })
            .map(Option::unwrap_or_default)
            .collect();
        for line in &lines {
            let cells = line.iter().zip(&widths).enumerate();
            let cells = cells.map(|(index, (cell, width))| match index {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

#[must_use]
pub fn markdown(results: &Results, rows: &[Rounds], kind: Kind) -> String {
    let lines = lines(results, rows, kind, "target");
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        text.push_str(&format!("| {} |\n", line.join(" | ")));
        if index == 0 {
            text.push_str(&format!("|---{}|\n", "|---:".repeat(line.len() - 1)));
        }
    }
    text
}

fn lines(results: &Results, rows: &[Rounds], kind: Kind, corner: &str) -> Vec<Vec<String>> {
    let columns: Vec<&str> =
        filled(results, rows).filter(|column| is_main(column) == (kind == Kind::Main)).collect();
    let head = std::iter::once(corner).chain(columns.iter().copied()).map(str::to_owned).collect();
    let line = |name: &String| {
        let cells = columns.iter().map(|column| shown(rows, name, column));
        std::iter::once(name.clone()).chain(cells).collect()
    };
    std::iter::once(head).chain(rows.iter().map(|(name, _)| line(name))).collect()
}

fn shown(rows: &[Rounds], name: &str, column: &str) -> String {
    let Some(cell) = cell(rows, name, column) else { return "-".to_owned() };
    let mark = if cell.varies() { "~" } else { "" };
    let ratio = cell.ratio.map(|ratio| format!(" x{ratio:.2}")).unwrap_or_default();
    format!("{}{mark}{ratio}", short(cell.median))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Mode;
    use crate::rounds::Row;

    #[test]
    fn a_table_has_medians_and_ratios() {
        let rows = vec![
            ("bridge-nft".to_owned(), vec![Row::from([("rr/s", 100.0), ("rr all cores", 1.0)])]),
            ("pontoon".to_owned(), vec![Row::from([("rr/s", 150.0)])]),
        ];
        let columns = vec!["rr/s", "rr all cores"];
        let results = Results { modes: vec![(Mode::L2, rows.clone())], columns, notes: Vec::new() };
        assert_eq!(
            plain(&results, Kind::Main),
            "l2               rr/s\nbridge-nft        100\npontoon     150 x1.50\n\n"
        );
        assert_eq!(
            markdown(&results, &rows, Kind::Cost),
            "| target | rr all cores |\n|---|---:|\n| bridge-nft | 1.00 |\n| pontoon | - |\n"
        );
    }
}

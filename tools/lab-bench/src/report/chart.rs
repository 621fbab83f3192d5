//! Bars: ratios to the reference as SVG, and figures in a terminal.

use std::fmt::Write;

use super::{cell, filled, is_main, short};
use crate::metric::{Better, better};
use crate::rounds::Results;
use crate::target::REFERENCE;

const LABEL: f64 = 130.0;
const WIDTH: f64 = 420.0;
const BAR: f64 = 12.0;
const GAP: f64 = 14.0;
/// Longer bars are cut; the figure stands beside them.
const MOST: f64 = 4.0;
const COLOURS: [&str; 9] =
    ["#1f6feb", "#d29922", "#8b949e", "#a371f7", "#3fb950", "#f78166", "#db61a2", "#56d4dd", "#b08800"];

/// Ratios to the reference, always so that longer is better: for latencies and costs it is the reference's value by
/// the target's.
#[must_use]
pub fn svg(results: &Results) -> String {
    let mut body = String::new();
    let mut y = 26.0;
    for (mode, rows) in &results.modes {
        let names: Vec<&str> =
            rows.iter().map(|(name, _)| name.as_str()).filter(|name| *name != REFERENCE).collect();
        text(&mut body, 8.0, y, "start", &format!("{}: times {REFERENCE}, longer is better", mode.name()));
        y += 12.0;
        for column in filled(results, rows).filter(|column| is_main(column)) {
            let ratio = |name: &str| cell(rows, name, column)?.ratio.filter(|ratio| *ratio > 0.0);
            let bars: Vec<(usize, f64)> =
                names.iter().enumerate().filter_map(|(index, name)| Some((index, ratio(name)?))).collect();
            if bars.is_empty() {
                continue;
            }
            text(&mut body, LABEL - 8.0, y + BAR, "end", column);
            for (index, ratio) in bars {
                bar(&mut body, y, index, if better(column) == Better::More { ratio } else { 1.0 / ratio });
                y += BAR;
            }
            y += GAP - BAR + 6.0;
        }
        legend(&mut body, &mut y, &names);
    }
    let (width, height) = (LABEL + WIDTH + 70.0, y + 10.0);
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' font-family='sans-serif' \
         font-size='11'>\n<rect width='100%' height='100%' fill='white'/>\n{body}</svg>\n"
    )
}

fn bar(body: &mut String, y: f64, index: usize, ratio: f64) {
    let length = ratio.min(MOST) / MOST * WIDTH;
    let colour = COLOURS.get(index % COLOURS.len()).copied().unwrap_or("black");
    let one = LABEL + WIDTH / MOST;
    let height = BAR - 2.0;
    let _ =
        writeln!(body, "<rect x='{LABEL}' y='{y}' width='{length:.1}' height='{height}' fill='{colour}'/>");
    let end = y + BAR;
    let _ =
        writeln!(body, "<line x1='{one}' x2='{one}' y1='{y}' y2='{end}' stroke='#24292f' stroke-width='1'/>");
    text(body, LABEL + length + 4.0, y + BAR - 3.0, "start", &format!("{ratio:.2}"));
}

fn legend(body: &mut String, y: &mut f64, names: &[&str]) {
    for (index, name) in names.iter().enumerate() {
        let colour = COLOURS.get(index % COLOURS.len()).copied().unwrap_or("black");
        let x = LABEL + (index % 4) as f64 * 105.0;
        let _ = writeln!(body, "<rect x='{x}' y='{:.1}' width='9' height='9' fill='{colour}'/>", *y);
        text(body, x + 13.0, *y + 9.0, "start", name);
        if index % 4 == 3 || index + 1 == names.len() {
            *y += 16.0;
        }
    }
    *y += 20.0;
}

fn text(body: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(body, "<text x='{x:.1}' y='{y:.1}' text-anchor='{anchor}'>{text}</text>");
}

/// Bars for a terminal: every target's figure, the longest of a column full.
#[must_use]
pub fn terminal(results: &Results, width: usize) -> String {
    let mut out = String::new();
    for (mode, rows) in &results.modes {
        let _ = writeln!(out, "{}", mode.name());
        let names = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for column in filled(results, rows).filter(|column| is_main(column)) {
            let figures: Vec<(&str, f64)> = rows
                .iter()
                .filter_map(|(name, _)| Some((name.as_str(), cell(rows, name, column)?.median)))
                .collect();
            let most = figures.iter().map(|(_, value)| *value).fold(0.0, f64::max);
            let hint = if better(column) == Better::More { "" } else { " (less is better)" };
            let _ = writeln!(out, "  {column}{hint}");
            for (name, value) in figures {
                let _ = writeln!(out, "    {name:<names$} {} {}", blocks(value, most, width), short(value));
            }
        }
    }
    out
}

/// A bar in eighths of a character.
fn blocks(value: f64, most: f64, width: usize) -> String {
    const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let share = if most > 0.0 { (value / most).clamp(0.0, 1.0) } else { 0.0 };
    let eighths = (share * width as f64 * 8.0).round() as usize;
    let mut bar: String = std::iter::repeat_n('█', eighths / 8).collect();
    if let Some(part) = PARTS.get(eighths % 8).filter(|part| **part != ' ') {
        bar.push(*part);
    }
    format!("{bar:<width$}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Mode;
    use crate::rounds::Row;

    fn results() -> Results {
        let rows = vec![
            (REFERENCE.to_owned(), vec![Row::from([("rr/s", 100.0), ("p50 us", 80.0)])]),
            ("a<b".to_owned(), vec![Row::from([("rr/s", 200.0), ("p50 us", 40.0)])]),
        ];
        Results { modes: vec![(Mode::Nat, rows)], columns: vec!["rr/s", "p50 us"], notes: Vec::new() }
    }

    #[test]
    fn longer_is_better_in_every_bar() {
        let svg = svg(&results());
        assert_eq!(svg.matches(">2.00<").count(), 2, "{svg}");
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"));
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn a_terminal_gets_blocks() {
        assert_eq!(blocks(1.0, 2.0, 4), "██  ");
        assert_eq!(blocks(1.0, 16.0, 4), "▎   ");
        assert_eq!(blocks(0.0, 0.0, 2), "  ");
        assert!(
            terminal(&results(), 10).contains("  p50 us (less is better)\n    bridge-nft ██████████ 80.0\n")
        );
    }
}

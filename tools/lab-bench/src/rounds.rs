//! Rounds: every target once with all metrics, then all again, so that a slow drift of the machine hits all alike.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::lab::{Lab, Mode};
use crate::metric::{Figure, Measured, Metric};
use crate::sys;
use crate::target::Target;

/// Processors that others may use during a measurement.
const DISTURBED: f64 = 0.05;
/// How long a measurement waits for quiet.
const PATIENCE: Duration = Duration::from_secs(3);

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    pub modes: Vec<Mode>,
    pub targets: Vec<Target>,
    pub metrics: Vec<Metric>,
    pub rounds: usize,
    pub time: Duration,
    /// How often a measurement is made in the hope that no other process disturbs it.
    pub tries: usize,
}

/// Figures of one target in one round, by column.
pub type Row = BTreeMap<&'static str, f64>;

/// A target's name and its rows.
pub type Rounds = (String, Vec<Row>);

/// Rows by mode and target, in the plan's order.
#[derive(Clone, Debug, Default)]
pub struct Results {
    pub modes: Vec<(Mode, Vec<Rounds>)>,
    /// Columns in the order they were first filled.
    pub columns: Vec<&'static str>,
    /// What went wrong, and which targets are not installed.
    pub notes: Vec<String>,
}

/// What happens, for who watches.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    /// Measurements done, of how many.
    pub done: usize,
    pub all: usize,
    pub mode: Mode,
    pub target: &'a str,
    pub metric: Metric,
}

impl Plan {
    /// Measurements in all.
    #[must_use]
    pub fn steps(&self) -> usize {
        let has = |mode: &Mode| self.targets.iter().filter(|target| target.has(*mode)).count();
        self.modes.iter().map(has).sum::<usize>() * self.metrics.len() * self.rounds
    }

    /// Measures. Targets that are not installed or fail are named in the notes; others go on.
    pub fn run(&self, mut watch: impl FnMut(&Step<'_>, &[Figure])) -> Results {
        let mut results = Results::default();
        let missing = self.targets.iter().filter_map(|target| Some((target, target.missing()?)));
        results.notes.extend(
            missing.map(|(target, program)| format!("{}: {program} is not installed", target.name())),
        );
        let mut done = 0;
        for &mode in &self.modes {
            let there = |target: &&Target| target.has(mode) && target.missing().is_none();
            let targets: Vec<&Target> = self.targets.iter().filter(there).collect();
            let mut rows: Vec<Rounds> =
                targets.iter().map(|target| (target.name().to_owned(), Vec::new())).collect();
            for _ in 0..self.rounds {
                for (target, (_, rows)) in targets.iter().zip(&mut rows) {
                    if sys::interrupted() {
                        break;
                    }
                    let row = self.round(mode, target, &mut results, &mut done, &mut watch);
                    rows.push(row);
                }
            }
            results.modes.push((mode, rows));
        }
        results
    }

    fn round(
        &self,
        mode: Mode,
        target: &Target,
        results: &mut Results,
        done: &mut usize,
        watch: &mut impl FnMut(&Step<'_>, &[Figure]),
    ) -> Row {
        let mut row = Row::new();
        let begin = *done;
        let built = Lab::new(mode).and_then(|mut lab| {
            target.start(&mut lab)?;
            lab.connect()?;
            Ok(lab)
        });
        let lab = match built {
            Ok(lab) => lab,
            Err(error) => {
                note(results, &format!("{} {}: {error:#}", mode.name(), target.name()));
                *done = begin + self.metrics.len();
                return row;
            }
        };
        for &metric in &self.metrics {
            if sys::interrupted() {
                break;
            }
            let measured = self.undisturbed(&lab, metric).unwrap_or_else(|error| {
                note(results, &format!("{} {}: {error:#}", mode.name(), target.name()));
                Measured::default()
            });
            if measured.others > DISTURBED {
                note(results, "other processes used the processors during some measurements");
            }
            let figures = measured.figures;
            *done += 1;
            let step = Step { done: *done, all: self.steps(), mode, target: target.name(), metric };
            watch(&step, &figures);
            for figure in figures {
                if !results.columns.contains(&figure.column) {
                    results.columns.push(figure.column);
                }
                row.insert(figure.column, figure.value);
            }
        }
        row
    }
}

impl Plan {
    /// Measures again where other processes used the processors, in the hope that they end.
    fn undisturbed(&self, lab: &Lab, metric: Metric) -> anyhow::Result<Measured> {
        let mut least = Measured { others: f64::INFINITY, ..Measured::default() };
        for _ in 0..self.tries.max(1) {
            if self.tries > 1 {
                lab.wait_quiet(PATIENCE);
            }
            let measured = metric.measure(lab, self.time)?;
            if measured.others < least.others {
                least = measured;
            }
            if least.others <= DISTURBED || sys::interrupted() {
                break;
            }
        }
        Ok(least)
    }
}

impl Results {
    /// Adds the rounds of another run. Ratios stay those of one run: a round has empty rows for targets it did not
    /// measure.
    pub fn merge(&mut self, other: Self) {
        for (mode, rows) in other.modes {
            let at = self.modes.iter().position(|(known, _)| *known == mode).unwrap_or_else(|| {
                self.modes.push((mode, Vec::new()));
                self.modes.len() - 1
            });
            if let Some((_, mine)) = self.modes.get_mut(at) {
                merge_rows(mine, rows);
            }
        }
        self.columns = Metric::COLUMNS
            .into_iter()
            .filter(|column| self.columns.contains(column) || other.columns.contains(column))
            .collect();
        other.notes.iter().for_each(|text| note(self, text));
    }

    /// Targets in the order they are known in, others behind them.
    pub fn sort(&mut self) {
        let place = |name: &str| {
            Target::PEERS.iter().position(|target| target.name() == name).unwrap_or(Target::PEERS.len())
        };
        for (_, rows) in &mut self.modes {
            rows.sort_by_key(|(name, _)| place(name));
        }
    }
}

fn merge_rows(mine: &mut Vec<Rounds>, others: Vec<Rounds>) {
    let before = mine.iter().map(|(_, rows)| rows.len()).max().unwrap_or(0);
    for (name, rows) in others {
        let at = mine.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            mine.push((name, Vec::new()));
            mine.len() - 1
        });
        if let Some((_, known)) = mine.get_mut(at) {
            known.resize_with(before, Row::new);
            known.extend(rows);
        }
    }
}

/// Notes each thing once.
fn note(results: &mut Results, text: &str) {
    if !results.notes.iter().any(|note| note == text) {
        results.notes.push(text.to_owned());
    }
}

#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 { Some(upper) } else { Some(f64::midpoint(*sorted.get(middle - 1)?, upper)) }
}

/// A column of one target over all rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    pub median: f64,
    pub least: f64,
    pub most: f64,
    /// Median of the ratios to the reference in the same round.
    pub ratio: Option<f64>,
}

impl Cell {
    /// `None` when the column was never filled.
    #[must_use]
    pub fn of(rows: &[Row], reference: Option<&[Row]>, column: &str) -> Option<Self> {
        let values: Vec<f64> = rows.iter().filter_map(|row| row.get(column).copied()).collect();
        let ratios = |reference: &[Row]| {
            let pairs = rows.iter().zip(reference);
            let ratios = pairs.filter_map(|(row, base)| Some(row.get(column)? / base.get(column)?));
            median(&ratios.filter(|ratio| ratio.is_finite()).collect::<Vec<_>>())
        };
        Some(Self {
            median: median(&values)?,
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            ratio: reference.and_then(ratios),
        })
    }

    /// Rounds differ by more than three tenths of the median.
    #[must_use]
    pub fn varies(&self) -> bool {
        self.most - self.least > 0.3 * self.median.abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_the_same_round() {
        let rows = |values: &[f64]| values.iter().map(|value| Row::from([("x", *value)])).collect::<Vec<_>>();
        let (mine, base) = (rows(&[2.0, 30.0, 8.0]), rows(&[1.0, 10.0, 2.0]));
        let cell = Cell::of(&mine, Some(&base), "x").expect("filled");
        assert_eq!((cell.median, cell.least, cell.most, cell.ratio), (8.0, 2.0, 30.0, Some(3.0)));
        assert!(cell.varies());
        assert_eq!(Cell::of(&mine, None, "y"), None);
    }

    #[test]
    fn an_even_number_of_values_has_a_median_between() {
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn merged_rounds_keep_their_reference() {
        let rows = |name: &str, value: f64| (name.to_owned(), vec![Row::from([("rr/s", value)])]);
        let run = |rows: Vec<Rounds>| Results {
            modes: vec![(Mode::L2, rows)],
            columns: vec!["rr/s"],
            notes: Vec::new(),
        };
        let mut all = run(vec![rows("pontoon", 30.0), rows("bridge-nft", 10.0)]);
        all.merge(run(vec![rows("bridge-nft", 100.0), rows("vde", 50.0)]));
        all.sort();
        let (_, merged) = &all.modes[0];
        assert_eq!(
            merged.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["bridge-nft", "vde", "pontoon"]
        );
        let ratio =
            |index: usize| Cell::of(&merged[index].1, Some(&merged[0].1), "rr/s").expect("filled").ratio;
        assert_eq!((ratio(1), ratio(2)), (Some(0.5), Some(3.0)));
    }
}

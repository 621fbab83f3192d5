//! `docs/performance.md`: written by the tool, never by hand.

use super::machine::Machine;
use super::table::{Kind, markdown};
use crate::rounds::{Results, Rounds};
use crate::target::REFERENCE;

/// The whole document; `chart` is the file name of the chart beside it.
#[must_use]
pub fn render(results: &Results, machine: &Machine, chart: &str) -> String {
    let mut text = String::from(
        "# Performance\n\nWritten by `lab-bench --write docs` (`tools/lab-bench`); not to be edited by hand.\n\n",
    );
    for (fact, value) in machine.facts() {
        text.push_str(&format!("- {fact}: {value}\n"));
    }
    text.push_str(&format!(
        "\nMedians of {} interleaved rounds. Client and server are network namespaces on the same \
         machine, so load and switch share its processors: compare ratios, not figures. `x` is the median of the \
         ratios to {REFERENCE} (the kernel's bridge; for NAT with nftables) in the same round; for latencies and \
         costs less is better. `~` marks cells whose rounds differ by more than 30 %. `tcp-mtu` has segmentation \
         offload of the sender switched off; `64fl` interleaves 64 flows; `loaded` is a small request of one client \
         while another sends in bulk.\n\n![chart]({chart})\n",
        least_rounds(results)
    ));
    for (mode, rows) in &results.modes {
        text.push_str(&format!("\n## {}\n\n{}", mode.name(), markdown(results, rows, Kind::Main)));
        text.push_str(&format!(
            "\nProcessors kept busy by the switch and by the whole machine, and what the machine spends on a unit:\n\n{}",
            markdown(results, rows, Kind::Cost)
        ));
    }
    if !results.notes.is_empty() {
        text.push_str("\n## Notes\n\n");
        results.notes.iter().for_each(|note| text.push_str(&format!("- {}\n", note.replace('\n', " "))));
    }
    text
}

/// Rounds of the cell that has the fewest, or how many at most where some have more.
fn least_rounds(results: &Results) -> String {
    let cells = |rows: &Rounds| -> Vec<usize> {
        let count = |column: &&str| rows.1.iter().filter(|row| row.contains_key(*column)).count();
        results.columns.iter().map(count).filter(|count| *count > 0).collect()
    };
    let counts: Vec<usize> = results.modes.iter().flat_map(|(_, rows)| rows.iter().flat_map(cells)).collect();
    match (counts.iter().min(), counts.iter().max()) {
        (Some(least), Some(most)) if least < most => format!("{least} to {most}"),
        (Some(least), _) => least.to_string(),
        _ => "no".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Mode;
    use crate::rounds::Row;

    #[test]
    fn what_is_not_installed_is_named() {
        let rows = vec![(REFERENCE.to_owned(), vec![Row::from([("rr/s", 100.0)])])];
        let notes = vec!["vde: vde_switch is not installed".to_owned()];
        let results = Results { modes: vec![(Mode::L2, rows)], columns: vec!["rr/s"], notes };
        let text = render(&results, &Machine::default(), "performance.svg");
        assert!(text.contains("| bridge-nft | 100 |") && text.contains("- vde: vde_switch is not installed"));
    }
}

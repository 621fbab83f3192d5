//! `docs/performance.md`: written by the tool, never by hand.

use super::machine::Machine;
use super::table::{Kind, markdown};
use crate::rounds::{Plan, Results};
use crate::target::REFERENCE;

/// The whole document; `chart` is the file name of the chart beside it.
#[must_use]
pub fn render(results: &Results, plan: &Plan, machine: &Machine, chart: &str) -> String {
    let mut text = String::from(
        "# Performance\n\nWritten by `lab-bench --write docs` (`tools/lab-bench`); not to be edited by hand.\n\n",
    );
    for (fact, value) in machine.facts() {
        text.push_str(&format!("- {fact}: {value}\n"));
    }
    text.push_str(&format!(
        "\nMedians of {} interleaved rounds of {:.1} s each. Client and server are network namespaces on the same \
         machine, so load and switch share its processors: compare ratios, not figures. `x` is the median of the \
         ratios to {REFERENCE} (the kernel's bridge; for NAT with nftables) in the same round; for latencies and \
         costs less is better. `~` marks cells whose rounds differ by more than 30 %. `tcp-mtu` has segmentation \
         offload of the sender switched off; `64fl` interleaves 64 flows; `loaded` is a small request of one client \
         while another sends in bulk.\n\n![chart]({chart})\n",
        plan.rounds,
        plan.time.as_secs_f64()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Mode;
    use crate::metric::Metric;
    use crate::rounds::Row;
    use std::time::Duration;

    #[test]
    fn what_is_not_installed_is_named() {
        let rows = vec![(REFERENCE.to_owned(), vec![Row::from([("rr/s", 100.0)])])];
        let notes = vec!["vde: vde_switch is not installed".to_owned()];
        let results = Results { modes: vec![(Mode::L2, rows)], columns: vec!["rr/s"], notes };
        let plan = Plan {
            modes: vec![Mode::L2],
            targets: Vec::new(),
            metrics: vec![Metric::Requests],
            rounds: 3,
            time: Duration::from_secs(1),
        };
        let text = render(&results, &plan, &Machine::default(), "performance.svg");
        assert!(text.contains("| bridge-nft | 100 |") && text.contains("- vde: vde_switch is not installed"));
    }
}

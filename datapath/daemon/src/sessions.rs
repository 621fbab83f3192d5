//! Looks at the sessions of all workers, a page at a time. A worker answers between two turns and looks at a bounded
//! part of its table; whoever wants all of it asks again, with the place where the page before ended.

use std::sync::Arc;

use pontoon_engine::nat;
use pontoon_proto::message::ToControl;
use pontoon_proto::session::{Action, PAGE, Phase, Query, Row};

use crate::mail::{Mail, Mailbox};
use crate::service::ANSWER_TIMEOUT;

/// Slots a worker looks at between two turns.
const SLOTS: u32 = 1024;
/// The same where sessions are ended, which takes ten times as long.
const SLOTS_ENDED: u32 = 128;
/// Looks in one answer: control has other things to say, too.
const LOOKS: usize = 64;

/// # Errors
/// When a worker does not answer.
pub(crate) fn walk(
    workers: &[Mailbox],
    from: u64,
    action: Action,
    query: Query,
) -> Result<ToControl, String> {
    let query = Arc::new(compile(query));
    let (mut place, mut count) = (Some(from), 0);
    let mut rows = Vec::with_capacity(if action == Action::List { PAGE } else { 0 });
    for _ in 0..LOOKS {
        let Some((worker, slot)) = place.map(parts) else { break };
        let Some(mailbox) = workers.get(worker) else {
            place = None;
            break;
        };
        let seen = look(mailbox, slot, action, &query, &mut rows)?;
        count += u64::from(seen.sessions);
        place = match seen.next {
            Some(next) => Some(join(worker, next)),
            None => Some(worker + 1).filter(|next| *next < workers.len()).map(|next| join(next, 0)),
        };
        if action == Action::List && rows.len() == rows.capacity() {
            break;
        }
    }
    Ok(ToControl::Walked { rows: rows.iter().map(row).collect(), count, next: place })
}

fn look(
    worker: &Mailbox,
    from: u32,
    action: Action,
    query: &Arc<nat::Query>,
    rows: &mut Vec<nat::Session>,
) -> Result<nat::Seen, String> {
    let (reply, answer) = crossbeam_channel::bounded(1);
    let (action, slots) = match action {
        Action::List => (nat::Action::List, SLOTS),
        Action::Count => (nat::Action::Count, SLOTS),
        Action::End => (nat::Action::End, SLOTS_ENDED),
    };
    let look = nat::Look { action, from, slots };
    worker.send(Mail::Look { look, query: Arc::clone(query), rows: std::mem::take(rows), reply });
    let answer = answer.recv_timeout(ANSWER_TIMEOUT).map_err(|_| "a worker does not answer".to_owned())?;
    *rows = answer.0;
    Ok(answer.1)
}

/// Worker and slot.
fn parts(place: u64) -> (usize, u32) {
    let worker = usize::try_from(place >> 32).unwrap_or(usize::MAX);
    (worker, u32::try_from(place & u64::from(u32::MAX)).unwrap_or(0))
}

fn join(worker: usize, slot: u32) -> u64 {
    (worker as u64) << 32 | u64::from(slot)
}

fn compile(query: Query) -> nat::Query {
    nat::Query {
        network: query.network,
        macs: query.macs,
        inside: query.inside,
        address: query.address,
        port: query.port,
        protocol: query.protocol,
        phase: query.phase.map(engine_phase),
        assured: query.assured,
        older: query.older,
        younger: query.younger,
    }
}

pub(crate) fn row(session: &nat::Session) -> Row {
    Row {
        network: session.network,
        mac: session.mac,
        protocol: session.protocol,
        phase: session.phase.map(phase),
        assured: session.assured,
        inside: session.inside,
        remote: session.remote,
        outside: session.outside,
        left: session.left,
        age: session.age,
    }
}

/// Each of control's words beside the engine's.
const PHASES: [(Phase, nat::Phase); 9] = [
    (Phase::SynSent, nat::Phase::SynSent),
    (Phase::SynSent2, nat::Phase::SynSent2),
    (Phase::SynRecv, nat::Phase::SynRecv),
    (Phase::MidStream, nat::Phase::MidStream),
    (Phase::Established, nat::Phase::Established),
    (Phase::FinWait, nat::Phase::FinWait),
    (Phase::CloseWait, nat::Phase::CloseWait),
    (Phase::TimeWait, nat::Phase::TimeWait),
    (Phase::Close, nat::Phase::Close),
];

fn engine_phase(phase: Phase) -> nat::Phase {
    PHASES.iter().find(|(ours, _)| *ours == phase).map_or(nat::Phase::Close, |(_, theirs)| *theirs)
}

fn phase(phase: nat::Phase) -> Phase {
    PHASES.iter().find(|(_, theirs)| *theirs == phase).map_or(Phase::Close, |(ours, _)| *ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_workers_and_slots() {
        for place in [(0, 0), (1, 7), (63, u32::MAX)] {
            assert_eq!(parts(join(place.0, place.1)), place);
        }
        assert!(parts(u64::MAX).0 > 64, "a place nobody gave leads nowhere");
    }

    #[test]
    fn every_phase_has_a_word() {
        for ours in Phase::ALL {
            assert_eq!(phase(engine_phase(ours)), ours);
        }
    }
}

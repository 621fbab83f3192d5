//! What workers tell of their own accord. A worker never waits to tell: what there is no room for is counted, and the
//! number told with what comes next.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender};
use pontoon_engine::engine::{News, Watch};
use pontoon_engine::nat::Interest;
use pontoon_engine::trace;
use pontoon_engine::trace::{Head, Order, Stage, Told, Verdict};
use pontoon_proto::message::ToControl;
use pontoon_proto::watch::{self, FrameHead, SessionChange, TraceRow};

use crate::link::Link;
use crate::sessions;

/// Turns with news that may wait for control.
pub(crate) const BACKLOG: usize = 64;

/// The news of one turn of one worker.
#[derive(Debug)]
pub(crate) struct Batch {
    worker: u16,
    time_ms: u64,
    news: News,
}

/// A worker's way to tell.
#[derive(Debug)]
pub(crate) struct Teller {
    worker: u16,
    sender: Sender<Batch>,
    lost: (u64, u64),
}

impl Teller {
    #[must_use]
    pub(crate) fn new(worker: u16, sender: Sender<Batch>) -> Self {
        Self { worker, sender, lost: (0, 0) }
    }

    pub(crate) fn tell(&mut self, mut news: News) {
        news.lost = (news.lost.0 + self.lost.0, news.lost.1 + self.lost.1);
        self.lost = (0, 0);
        let batch = Batch { worker: self.worker, time_ms: unix_ms(), news };
        if let Err(refused) = self.sender.try_send(batch) {
            let news = refused.into_inner().news;
            self.lost = count(&news.lost, news.changes.len(), news.told.len());
        }
    }
}

fn count(lost: &(u64, u64), changes: usize, told: usize) -> (u64, u64) {
    (lost.0 + changes as u64, lost.1 + told as u64)
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Passes news on until all workers have ended.
pub(crate) fn run(batches: &Receiver<Batch>, link: &Arc<Link>) {
    let mut lost = (0, 0);
    for batch in batches {
        let (changes, told) = (batch.news.changes.len(), batch.news.told.len());
        let mut news = message(batch);
        news.lost = (news.lost.0 + lost.0, news.lost.1 + lost.1);
        lost = (0, 0);
        let all = count(&news.lost, changes, told);
        if !link.send(&ToControl::News(Box::new(news))) {
            lost = all;
        }
    }
}

fn message(Batch { worker, time_ms, news }: Batch) -> watch::News {
    let change = |change: &pontoon_engine::nat::Change| SessionChange {
        begins: change.begins,
        mapping: change.mapping,
        row: sessions::row(&change.session),
    };
    watch::News {
        time_ms,
        worker,
        changes: news.changes.iter().map(change).collect(),
        traced: news.told.iter().map(traced).collect(),
        lost: news.lost,
    }
}

fn traced(told: &Told) -> TraceRow {
    let sent: Vec<_> = told.copies.told().map(|(port, head)| (port, head_of(&head))).collect();
    TraceRow {
        id: told.id,
        port: told.ingress,
        handed: told.handed,
        head: head_of(&told.head),
        stages: told.trail.stages().map(Stage::name).map(str::to_owned).collect(),
        verdict: match told.verdict {
            Verdict::Sent => watch::Verdict::Sent,
            Verdict::Consumed => watch::Verdict::Consumed,
            Verdict::HandedOver(worker) => watch::Verdict::HandedOver { worker },
            Verdict::Dropped(reason) => {
                watch::Verdict::Dropped { reason: reason.name().to_owned(), help: reason.help().to_owned() }
            }
        },
        more: told.copies.count.saturating_sub(u32::try_from(sent.len()).unwrap_or(0)),
        sent,
    }
}

fn head_of(head: &Head) -> FrameHead {
    let &Head { length, source, destination, ethertype, ip, ports } = head;
    FrameHead { length, source, destination, ethertype, ip, ports }
}

/// What control wants to know, as the engine has it.
pub(crate) fn compile(watch: &watch::Watch) -> Watch {
    let order = |order: &watch::TraceOrder| Order {
        id: order.id,
        network: order.network,
        terms: order.terms.iter().map(term).collect(),
        count: order.count,
    };
    Watch {
        interest: Interest { sessions: watch.sessions, mappings: watch.mappings.clone() },
        orders: watch.traces.iter().map(order).collect(),
    }
}

fn term(term: &watch::Term) -> trace::Term {
    match *term {
        watch::Term::Mac(mac) => trace::Term::Mac(mac),
        watch::Term::Net(net) => trace::Term::Net(net.network().to_bits(), net.netmask().to_bits()),
        watch::Term::Protocol(number) => trace::Term::Protocol(number),
        watch::Term::Ethertype(number) => trace::Term::Ethertype(number),
        watch::Term::Port(port) => trace::Term::Port(port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_no_room_for_is_counted_and_told_later() {
        let (sender, batches) = crossbeam_channel::bounded(1);
        let mut teller = Teller::new(3, sender);
        let news = || News { lost: (1, 2), ..News::default() };
        (0..3).for_each(|_| teller.tell(news()));
        assert_eq!(batches.recv().expect("batch").news.lost, (1, 2));
        teller.tell(news());
        let batch = batches.recv().expect("batch");
        assert_eq!((batch.worker, batch.news.lost), (3, (3, 6)));
    }
}

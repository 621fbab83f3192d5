//! What the datapath tells of its own accord, on its way to subscribers and to the log of mappings. Whoever reads from
//! the datapath never waits for them: what there is no room for is counted, and they are told how much.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use pontoon_proto::document::Mac;
use pontoon_proto::event::{Event, SessionDetail};
use pontoon_proto::session::{Row, protocol_name};
use pontoon_proto::watch::{
    FrameHead, FrameInfo, News, SentInfo, SessionChange, TraceInfo, TraceRow, Verdict,
};

use crate::conntrack::Names;
use crate::defaults::hex;
use crate::events::{About, Events};
use crate::known::{Known, Shared};
use crate::link::printable;
use crate::mapping_log::{Entry, MappingLog};

/// Messages of the datapath nobody has looked at yet.
const BACKLOG: usize = 64;

/// Changes, and frames.
#[derive(Debug, Default)]
struct Lost([AtomicU64; 2]);

/// Where what the datapath tells is left.
#[derive(Clone, Debug)]
pub(crate) struct Inbox {
    sender: SyncSender<News>,
    lost: Arc<Lost>,
}

/// The other end.
#[derive(Debug)]
pub(crate) struct Outlet {
    receiver: Receiver<News>,
    lost: Arc<Lost>,
}

pub(crate) fn channel() -> (Inbox, Outlet) {
    let (sender, receiver) = sync_channel(BACKLOG);
    let lost = Arc::new(Lost::default());
    (Inbox { sender, lost: Arc::clone(&lost) }, Outlet { receiver, lost })
}

impl Inbox {
    pub(crate) fn offer(&self, news: News) {
        if let Err(TrySendError::Full(news)) = self.sender.try_send(news) {
            let [changes, frames] = &self.lost.0;
            changes.fetch_add(news.lost.0.saturating_add(news.changes.len() as u64), Ordering::Relaxed);
            frames.fetch_add(news.lost.1.saturating_add(news.traced.len() as u64), Ordering::Relaxed);
        }
    }
}

/// Tells subscribers and the log until the process ends.
pub(crate) fn start(shared: Arc<Shared>, outlet: Outlet, log: MappingLog) -> io::Result<()> {
    let run = move || {
        let events = shared.lock().events.clone();
        while let Ok(mut news) = outlet.receiver.recv() {
            let [changes, frames] = &outlet.lost.0;
            news.lost.0 = news.lost.0.saturating_add(changes.swap(0, Ordering::Relaxed));
            news.lost.1 = news.lost.1.saturating_add(frames.swap(0, Ordering::Relaxed));
            tell(&shared.known(), &events, &log, &news);
        }
    };
    std::thread::Builder::new().name("news".into()).spawn(run).map(drop)
}

fn tell(known: &Known, events: &Events, log: &MappingLog, news: &News) {
    let names = Names::of(known);
    let ports = Ports::of(known);
    if news.lost.0 > 0 {
        events.miss(news.lost.0, |about| matches!(about, About::Sessions { .. }));
        log.lost(news.lost.0);
    }
    if news.lost.1 > 0 {
        events.miss(news.lost.1, |about| matches!(about, About::Trace { .. }));
    }
    for change in &news.changes {
        if change.mapping && known.logs_mappings(change.row.network) {
            log.write(entry(&names, change, news.time_ms));
        }
        let wants = |about: &About| match about {
            About::Sessions { query, mappings } => (change.mapping || !mappings) && query.wants(&change.row),
            _ => false,
        };
        events.publish_where(news.time_ms, wants, |_| Event::Session {
            detail: if change.begins { SessionDetail::Begun } else { SessionDetail::Ended },
            mapping: change.mapping,
            session: names.info(change.row.clone()),
        });
    }
    for row in &news.traced {
        let wants = |about: &About| matches!(about, About::Trace { order, .. } if order.id == row.id);
        events.publish_where(news.time_ms, wants, |about| {
            let network = match about {
                About::Trace { network, .. } => network.clone(),
                _ => String::new(),
            };
            Event::Trace { trace: Box::new(ports.info(network, news.worker, row)) }
        });
    }
}

fn entry(names: &Names<'_>, change: &SessionChange, time_ms: u64) -> Entry {
    let Row { inside, outside, protocol, .. } = change.row;
    let info = names.info(change.row.clone());
    Entry {
        time_ms,
        begins: change.begins,
        network: info.network,
        guest: info.guest,
        mac: info.mac,
        proto: protocol_name(protocol),
        inside: inside.into(),
        outside: outside.into(),
    }
}

/// Names of ports, and the guests behind them.
struct Ports<'a>(BTreeMap<u16, (&'a str, Option<&'a str>)>);

impl<'a> Ports<'a> {
    fn of(known: &'a Known) -> Self {
        let live = &known.live;
        let guests = live
            .guests
            .iter()
            .map(|guest| (guest.port, (guest.ifname.as_str(), Some(guest.domain.as_str()))));
        let hosts = live.networks.iter().map(|network| (network.port, (network.device(), None)));
        let uplinks = live.uplinks.iter().map(|uplink| (uplink.port, (uplink.dev.as_str(), None)));
        Self(guests.chain(hosts).chain(uplinks).collect())
    }

    fn names(&self, port: u16) -> (String, Option<String>) {
        match self.0.get(&port) {
            Some((name, guest)) => ((*name).to_owned(), guest.map(str::to_owned)),
            None => (format!("port {port}"), None),
        }
    }

    fn info(&self, network: String, worker: u16, row: &TraceRow) -> TraceInfo {
        let (port, guest) = self.names(row.port);
        let sent = row.sent.iter().map(|(port, head)| {
            let (port, guest) = self.names(*port);
            SentInfo { port, guest, frame: frame(head) }
        });
        let verdict = match &row.verdict {
            Verdict::Dropped { reason, help } => {
                Verdict::Dropped { reason: printable(reason), help: printable(help) }
            }
            other => other.clone(),
        };
        TraceInfo {
            network,
            worker,
            handed: row.handed,
            port,
            guest,
            frame: frame(&row.head),
            stages: row.stages.iter().map(|stage| printable(stage)).collect(),
            verdict,
            sent: sent.collect(),
            more: row.more,
        }
    }
}

fn frame(head: &FrameHead) -> FrameInfo {
    const IPV4: u16 = 0x0800;
    const ARP: u16 = 0x0806;
    let mac = |mac: &Mac| hex(mac);
    FrameInfo {
        length: head.length,
        source: mac(&head.source),
        destination: mac(&head.destination),
        ethertype: match head.ethertype {
            IPV4 => "ipv4".to_owned(),
            ARP => "arp".to_owned(),
            other => format!("0x{other:04x}"),
        },
        proto: head.ip.filter(|_| head.ethertype == IPV4).map(|(protocol, ..)| protocol_name(protocol)),
        src: head.ip.map(|(_, source, _)| source),
        dst: head.ip.map(|(_, _, destination)| destination),
        sport: head.ports.map(|ports| ports.0),
        dport: head.ports.map(|ports| ports.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_too_long_is_counted() {
        let (inbox, outlet) = channel();
        for _ in 0..BACKLOG + 3 {
            inbox.offer(News { lost: (2, 1), ..News::default() });
        }
        let [changes, frames] = &outlet.lost.0;
        assert_eq!((changes.load(Ordering::Relaxed), frames.load(Ordering::Relaxed)), (6, 3));
        assert_eq!(outlet.receiver.try_iter().count(), BACKLOG);
    }
}

//! Events on their way to subscribers. Publishing never waits: a subscriber that is slow is told how many it missed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use pontoon_netxml::Network;
use pontoon_proto::api::Reply;
use pontoon_proto::event::{Event, EventKind, Lifecycle, PortChange, Subject};
use pontoon_proto::session::Query;
use pontoon_proto::watch::TraceOrder;

use crate::defaults::hex;
use crate::live::Guest;

/// Events one subscriber may lag behind.
pub(crate) const BACKLOG: usize = 256;

/// Sessions one subscriber may lag behind: many begin at once.
const SESSIONS: usize = 4096;

/// What the events are about that a subscriber hears.
#[derive(Clone, Debug, Default)]
pub(crate) enum About {
    /// Networks and what is plugged into them.
    #[default]
    Networks,
    Sessions {
        query: Query,
        /// Only those that begin or end a mapping.
        mappings: bool,
    },
    Trace {
        order: TraceOrder,
        network: String,
    },
}

/// What a subscriber wants to hear of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Empty: all kinds.
    pub(crate) kinds: BTreeSet<EventKind>,
    /// The name of the only network.
    pub(crate) network: Option<String>,
    pub(crate) about: About,
}

impl Filter {
    fn lets_pass(&self, event: &Event) -> bool {
        if !matches!(self.about, About::Networks) {
            return false;
        }
        let kind = event.kind().is_none_or(|kind| self.kinds.is_empty() || self.kinds.contains(&kind));
        let about = event.subject().map(|subject| &subject.network);
        kind && self.network.as_ref().is_none_or(|wanted| about.is_none_or(|name| name == wanted))
    }
}

struct Subscriber {
    filter: Filter,
    sender: SyncSender<Reply>,
    missed: Arc<AtomicU64>,
}

/// One subscriber's end.
pub(crate) struct Subscription {
    events: Receiver<Reply>,
    missed: Arc<AtomicU64>,
}

/// All subscribers; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Shared>);

#[derive(Default)]
struct Shared {
    subscribers: Mutex<Vec<Subscriber>>,
    /// Called after each event.
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Events {
    pub(crate) fn publish(&self, event: Event) {
        let reply = stamped(event);
        let Reply::Event { event, .. } = &reply else { return };
        self.lock().retain(|subscriber| {
            if !subscriber.filter.lets_pass(event) {
                return true;
            }
            match subscriber.sender.try_send(reply.clone()) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    subscriber.missed.fetch_add(1, Ordering::Relaxed);
                    true
                }
                Err(TrySendError::Disconnected(_)) => false,
            }
        });
        if let Some(wake) = self.0.wake.get() {
            wake();
        }
    }

    /// Tells those whom it is about. Nothing is made of it where nobody is.
    pub(crate) fn publish_where(
        &self,
        time_ms: u64,
        wants: impl Fn(&About) -> bool,
        event: impl Fn(&About) -> Event,
    ) {
        let mut told = false;
        for subscriber in self.lock().iter().filter(|subscriber| wants(&subscriber.filter.about)) {
            let reply = Reply::Event { time_ms, event: event(&subscriber.filter.about) };
            if let Err(TrySendError::Full(_)) = subscriber.sender.try_send(reply) {
                subscriber.missed.fetch_add(1, Ordering::Relaxed);
            }
            told = true;
        }
        self.wake_if(told);
    }

    /// So many events were lost before they came here.
    pub(crate) fn miss(&self, count: u64, concerns: impl Fn(&About) -> bool) {
        let mut told = false;
        for subscriber in self.lock().iter().filter(|subscriber| concerns(&subscriber.filter.about)) {
            subscriber.missed.fetch_add(count, Ordering::Relaxed);
            told = true;
        }
        self.wake_if(told);
    }

    fn wake_if(&self, told: bool) {
        if let Some(wake) = self.0.wake.get().filter(|_| told) {
            wake();
        }
    }

    /// Whether anybody wants to hear of sessions, and which frames are traced.
    pub(crate) fn wanted(&self) -> (bool, Vec<TraceOrder>) {
        let mut subscribers = self.lock();
        subscribers.retain(|other| Arc::strong_count(&other.missed) > 1);
        let abouts = || subscribers.iter().map(|subscriber| &subscriber.filter.about);
        let orders = abouts().filter_map(|about| match about {
            About::Trace { order, .. } => Some(order.clone()),
            _ => None,
        });
        (abouts().any(|about| matches!(about, About::Sessions { .. })), orders.collect())
    }

    /// Has `wake` called after each event; the first caller's stays.
    pub(crate) fn wake_with(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.0.wake.set(Box::new(wake));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Subscriber>> {
        self.0.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn subscribe(&self, filter: Filter) -> Subscription {
        let backlog = if matches!(filter.about, About::Networks) { BACKLOG } else { SESSIONS };
        let (sender, events) = sync_channel(backlog);
        let missed = Arc::new(AtomicU64::new(0));
        let subscriber = Subscriber { filter, sender, missed: Arc::clone(&missed) };
        let mut subscribers = self.lock();
        // One that has gone is noticed here if no event comes.
        subscribers.retain(|other| Arc::strong_count(&other.missed) > 1);
        subscribers.push(subscriber);
        Subscription { events, missed }
    }

    pub(crate) fn lifecycle(&self, network: &Network, detail: Lifecycle) {
        self.publish(Event::Lifecycle { subject: subject(network), detail });
    }

    pub(crate) fn port(&self, network: &Network, guest: &Guest, detail: PortChange) {
        self.publish(Event::Port {
            subject: subject(network),
            detail,
            domain: guest.domain.clone(),
            interface: guest.ifname.clone(),
            mac: hex(&guest.mac),
        });
    }
}

impl Subscription {
    /// The next event that is waiting.
    pub(crate) fn next(&self) -> Option<Reply> {
        if let Ok(reply) = self.events.try_recv() {
            return Some(reply);
        }
        match self.missed.swap(0, Ordering::Relaxed) {
            0 => None,
            count => Some(stamped(Event::Missed { count })),
        }
    }
}

pub(crate) fn subject(network: &Network) -> Subject {
    Subject { network: network.name.clone(), uuid: network.uuid.unwrap_or_default().to_string() }
}

fn stamped(event: Event) -> Reply {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Reply::Event { time_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX), event }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str) -> Network {
        Network { name: name.into(), ..Network::default() }
    }

    fn next(subscription: &Subscription) -> Option<Event> {
        match subscription.next()? {
            Reply::Event { event, .. } => Some(event),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_subscriber_hears_what_it_asked_for() {
        let events = Events::default();
        let all = events.subscribe(Filter::default());
        let leases = events.subscribe(Filter { kinds: [EventKind::Lease].into(), ..Filter::default() });
        let other = events.subscribe(Filter {
            kinds: BTreeSet::new(),
            network: Some("b".into()),
            ..Filter::default()
        });
        events.lifecycle(&network("a"), Lifecycle::Started);
        let started = Event::Lifecycle { subject: subject(&network("a")), detail: Lifecycle::Started };
        assert_eq!(next(&all), Some(started));
        assert_eq!((next(&all), next(&leases), next(&other)), (None, None, None));
        events.lifecycle(&network("b"), Lifecycle::Stopped);
        assert!(next(&other).is_some());
    }

    #[test]
    fn a_slow_subscriber_keeps_the_oldest_events_and_hears_how_many_it_missed() {
        let events = Events::default();
        let slow = events.subscribe(Filter::default());
        for _ in 0..BACKLOG + 7 {
            events.lifecycle(&network("a"), Lifecycle::Started);
        }
        for _ in 0..BACKLOG {
            assert!(matches!(next(&slow), Some(Event::Lifecycle { .. })));
        }
        assert_eq!(next(&slow), Some(Event::Missed { count: 7 }));
        assert_eq!(next(&slow), None);
    }

    #[test]
    fn events_about_sessions_are_for_those_who_asked() {
        let events = Events::default();
        let all = events.subscribe(Filter::default());
        let about = About::Sessions { query: Query::default(), mappings: false };
        let sessions = events.subscribe(Filter { about, ..Filter::default() });
        assert!(events.wanted().0);
        events.lifecycle(&network("a"), Lifecycle::Started);
        assert_eq!(next(&sessions), None);
        let wants = |about: &About| matches!(about, About::Sessions { .. });
        for _ in 0..SESSIONS + 5 {
            events.publish_where(1, wants, |_| Event::Missed { count: 0 });
        }
        events.miss(2, wants);
        assert_eq!(std::iter::from_fn(|| next(&sessions)).take(SESSIONS).count(), SESSIONS);
        assert_eq!(next(&sessions), Some(Event::Missed { count: 7 }));
        assert!(next(&all).is_some());
        assert_eq!(next(&all), None);
        drop(sessions);
        assert!(!events.wanted().0);
    }

    #[test]
    fn who_has_gone_is_forgotten() {
        let events = Events::default();
        for _ in 0..10 {
            drop(events.subscribe(Filter::default()));
        }
        assert_eq!(events.lock().len(), 1);
        events.lifecycle(&network("a"), Lifecycle::Started);
        assert!(events.lock().is_empty());
    }
}

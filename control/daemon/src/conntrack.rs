//! Sessions of NAT: listed, counted and ended. The datapath tells of a page of them at a time, and so does the API: who
//! wants all of them asks again, so that nobody keeps them.

use std::collections::BTreeMap;

use pontoon_netxml::Mode;
use pontoon_proto::api::Reply;
use pontoon_proto::document::Mac;
use pontoon_proto::message::{ToControl, ToDatapath};
use pontoon_proto::session::{
    Action, PAGE, Phase, Query, Row, SessionFilter, SessionInfo, protocol_name, protocol_number,
};
use pontoon_proto::watch::{TraceOrder, Watch};

use crate::defaults::{hex, parse_mac};
use crate::events::{About, Filter};
use crate::failure::{Answer, fail, fail_help, invalid, operation};
use crate::known::Known;
use crate::link::Link;
use crate::live::LiveNetwork;
use crate::state::State;
use crate::trace;

/// Traces at a time.
const TRACES: usize = 4;

impl State {
    pub(crate) fn conntrack_list(&self, filter: &SessionFilter, cursor: u64) -> Answer<Reply> {
        let (rows, _, next) = self.walk(filter, cursor, Action::List)?;
        let names = Names::of(self);
        Ok(Reply::Sessions { sessions: rows.into_iter().map(|row| names.info(row)).collect(), next })
    }

    pub(crate) fn conntrack_count(&self, filter: &SessionFilter, cursor: u64) -> Answer<Reply> {
        let (_, count, next) = self.walk(filter, cursor, Action::Count)?;
        Ok(Reply::SessionCount { count, next })
    }

    pub(crate) fn conntrack_flush(&self, filter: &SessionFilter, cursor: u64) -> Answer<Reply> {
        let (_, count, next) = self.walk(filter, cursor, Action::End)?;
        Ok(Reply::SessionCount { count, next })
    }

    /// Has the client hear of sessions that begin and end from now on.
    pub(crate) fn conntrack_events(&mut self, filter: &SessionFilter, mappings: bool) -> Answer<Reply> {
        let query = self.query(filter)?;
        self.tell_from_now_on(About::Sessions { query, mappings })
    }

    /// Has the client hear what becomes of frames from now on.
    pub(crate) fn trace(&mut self, network: &str, matching: &str, count: Option<u32>) -> Answer<Reply> {
        let (id, terms) = (self.active(network)?, trace::read(matching)?);
        if self.events.wanted().1.len() >= TRACES {
            return Err(operation(format!("{TRACES} traces are under way already")));
        }
        self.last_trace = self.last_trace.wrapping_add(1);
        let count = count.unwrap_or(u32::MAX);
        let order = TraceOrder { id: self.last_trace, network: id, terms, count };
        let network = self.find(network)?;
        self.tell_from_now_on(About::Trace { order, network })
    }

    fn tell_from_now_on(&mut self, about: About) -> Answer<Reply> {
        let subscription = self.events.subscribe(Filter { about, ..Filter::default() });
        self.watch()?;
        self.subscribed = Some(subscription);
        Ok(Reply::Subscribed)
    }

    /// Has the datapath tell what somebody wants to hear.
    pub(crate) fn watch(&self) -> Answer<()> {
        let (sessions, traces) = self.events.wanted();
        let logged = self.live.networks.iter().map(|live| live.id).filter(|id| self.logs_mappings(*id));
        self.link()?.watch(Watch { sessions, mappings: logged.collect(), traces })
    }

    /// Somebody hears, and is to be forgotten when he has gone.
    pub(crate) fn is_watching(&self) -> bool {
        let (sessions, traces) = self.events.wanted();
        sessions || !traces.is_empty()
    }

    fn walk(
        &self,
        filter: &SessionFilter,
        from: u64,
        action: Action,
    ) -> Answer<(Vec<Row>, u64, Option<u64>)> {
        let query = self.query(filter)?;
        let link = self.link()?;
        link.drain();
        let (mut rows, count, next) = link.walk(ToDatapath::Walk { from, action, query })?;
        rows.truncate(PAGE);
        // A place that is not further on would be asked for again and again.
        Ok((rows, count, next.filter(|next| *next > from)))
    }
}

impl Known {
    /// Mappings of a network that runs are logged.
    pub(crate) fn logs_mappings(&self, network: u16) -> bool {
        let nat = |live: &&LiveNetwork| live.network.forward.mode == Mode::Nat;
        let live = self.live.by_id(network).filter(nat);
        live.is_some_and(|live| live.network.log_mappings.unwrap_or(self.log_mappings))
    }

    /// The numbers behind the names of a filter.
    fn query(&self, filter: &SessionFilter) -> Answer<Query> {
        let network = filter.network.as_deref().map(|network| self.active(network)).transpose()?;
        let mut query = Query {
            network,
            address: filter.address,
            port: filter.port,
            older: filter.older,
            younger: filter.younger,
            ..Query::default()
        };
        if let Some(name) = &filter.proto {
            let number = protocol_number(name).ok_or_else(|| {
                fail(format!("invalid argument: unknown protocol '{name}': tcp, udp, icmp or a number"))
            })?;
            query.protocol = Some(number);
        }
        if let Some(state) = &filter.state {
            read_state(state, &mut query)?;
        }
        if let Some(guest) = &filter.guest {
            self.read_guest(guest, &mut query)?;
        }
        if let (Some(older), Some(younger)) = (query.older, query.younger)
            && older > younger
        {
            return Err(fail("invalid argument: no session is both older and younger than said"));
        }
        Ok(query)
    }

    fn active(&self, network: &str) -> Answer<u16> {
        let name = self.find(network)?;
        let live = self.live.by_name(&name);
        live.map(|live| live.id).ok_or_else(|| invalid(format!("network '{name}' is not active")))
    }

    /// A guest by address, or by the name of the domain or of an interface of its.
    fn read_guest(&self, guest: &str, query: &mut Query) -> Answer<()> {
        if let Ok(address) = guest.parse() {
            query.inside = Some(address);
        } else if guest.contains(':') {
            query.macs = Some(vec![parse_mac(guest)?]);
        } else {
            let named = self.live.guests.iter().filter(|one| one.domain == guest || one.ifname == guest);
            let macs: Vec<Mac> = named.map(|one| one.mac).collect();
            if macs.is_empty() {
                return Err(fail_help(
                    format!("Domain not found: no domain with matching name '{guest}'"),
                    "a guest is named by its name, an interface, its MAC address or its IPv4 address",
                ));
            }
            query.macs = Some(macs);
        }
        Ok(())
    }
}

fn read_state(state: &str, query: &mut Query) -> Answer<()> {
    let word = state.to_uppercase();
    match word.as_str() {
        "ASSURED" => query.assured = Some(true),
        "UNREPLIED" => query.assured = Some(false),
        _ => {
            let phase = Phase::ALL.into_iter().find(|phase| phase.name() == word);
            let known: Vec<&str> = Phase::ALL.into_iter().map(Phase::name).collect();
            query.phase = Some(phase.ok_or_else(|| {
                fail_help(
                    format!("invalid argument: unknown state '{state}'"),
                    format!("states are ASSURED, UNREPLIED, and of TCP {}", known.join(", ")),
                )
            })?);
        }
    }
    Ok(())
}

/// Names for numbers of the datapath.
pub(crate) struct Names<'a> {
    networks: BTreeMap<u16, &'a str>,
    guests: BTreeMap<(u16, Mac), &'a str>,
}

impl<'a> Names<'a> {
    pub(crate) fn of(known: &'a Known) -> Self {
        let networks = known.live.networks.iter().map(|live| (live.id, live.network.name.as_str()));
        let guests = known.live.guests.iter();
        Self {
            networks: networks.collect(),
            guests: guests.map(|guest| ((guest.network, guest.mac), guest.domain.as_str())).collect(),
        }
    }

    pub(crate) fn info(&self, row: Row) -> SessionInfo {
        SessionInfo {
            network: self.networks.get(&row.network).copied().unwrap_or_default().to_owned(),
            guest: self.guests.get(&(row.network, row.mac)).map(|name| (*name).to_owned()),
            mac: hex(&row.mac),
            proto: protocol_name(row.protocol),
            state: row.phase,
            assured: row.assured,
            timeout: row.left,
            age: row.age,
            inside: row.inside.0,
            inside_port: row.inside.1,
            remote: row.remote.0,
            remote_port: row.remote.1,
            outside: row.outside.0,
            outside_port: row.outside.1,
        }
    }
}

impl Link {
    fn walk(&self, walk: ToDatapath) -> Answer<(Vec<Row>, u64, Option<u64>)> {
        self.ask(&walk, |reply| match reply {
            ToControl::Walked { rows, count, next } => Some((rows, count, next)),
            _ => None,
        })
    }
}

//! Changes to networks that run: what differs is applied, what it does not concern goes on untouched.

use pontoon_netxml::{DumpOptions, Network, Section, UpdateCommand};
use pontoon_proto::api::Affect;

use crate::failure::{Answer, invalid};
use crate::known::Known;
use crate::live::LiveNetwork;
use crate::netlink::{self, Change};
use crate::state::State;
use crate::sys::in_netns;
use crate::verbs::xml_failure;
use crate::{dns, document};

/// What `net-update` asks for.
pub(crate) struct Update<'a> {
    pub(crate) command: UpdateCommand,
    pub(crate) section: Section,
    /// Which `<ip>`, from 0; negative when not said.
    pub(crate) parent_index: i32,
    pub(crate) xml: &'a str,
    /// Where `xml` comes from, for messages.
    pub(crate) file: &'a str,
}

impl Known {
    /// libvirt's rules for `--live`, `--config` and `--current`.
    pub(crate) fn resolve(&self, name: &str, affect: Affect) -> Answer<Affect> {
        let running = self.live.by_name(name).is_some();
        let affect = match affect {
            Affect { live: false, config: false } => Affect { live: running, config: !running },
            named => named,
        };
        if affect.live && !running {
            return Err(invalid("network is not running"));
        }
        if affect.config && !self.defined.contains_key(name) {
            return Err(invalid("cannot change persistent config of a transient network"));
        }
        Ok(affect)
    }
}

impl State {
    /// Changes one element of a network's definitions. Returns warnings.
    pub(crate) fn update_network(
        &mut self,
        name: &str,
        update: &Update<'_>,
        affect: Affect,
    ) -> Answer<Vec<String>> {
        self.edit(name, affect, |network| {
            let Update { command, section, parent_index, xml, file } = *update;
            *network = pontoon_netxml::update(network, command, section, parent_index, xml)
                .map_err(|error| xml_failure(&error, file))?;
            Ok(())
        })
    }

    /// Brings a running network as close to a new definition as is possible without stopping it. What has to wait
    /// is named in the warnings, and so is a failure: the definition itself is accepted already.
    pub(crate) fn redefine_live(&mut self, wanted: &Network) -> Vec<String> {
        self.bring_live(wanted).unwrap_or_else(|failure| {
            vec![format!(
                "nothing of this takes effect before net-destroy and net-start: {}",
                failure.message
            )]
        })
    }

    /// Edits the definitions of a network that `affect` says, all of them or none. Returns warnings.
    pub(crate) fn edit(
        &mut self,
        name: &str,
        affect: Affect,
        edit: impl Fn(&mut Network) -> Answer<()>,
    ) -> Answer<Vec<String>> {
        let affect = self.resolve(name, affect)?;
        let edited = |network: Option<&Network>| {
            let mut network = network.cloned().unwrap_or_default();
            edit(&mut network)?;
            check(&network)?;
            Answer::Ok(network)
        };
        let running = self.live.by_name(name).map(|live| &live.network);
        let live = affect.live.then(|| edited(running)).transpose()?;
        let stored = affect.config.then(|| edited(self.defined.get(name))).transpose()?;
        let before = running.cloned();
        let warnings = live.as_ref().map_or_else(|| Ok(Vec::new()), |wanted| self.bring_live(wanted))?;
        if let Some(network) = stored {
            if let Err(failure) = self.store.save(&network) {
                if let Some(before) = before.filter(|_| affect.live) {
                    self.redefine_live(&before);
                }
                return Err(failure);
            }
            self.defined.insert(name.to_owned(), network);
        }
        Ok(warnings)
    }

    fn bring_live(&mut self, wanted: &Network) -> Answer<Vec<String>> {
        let Some(live) = self.live.by_name(&wanted.name).cloned() else {
            return Ok(Vec::new());
        };
        let (next, kept) = merge(&live.network, wanted);
        if next != live.network {
            check(&next)?;
            if document::addresses(&next) != document::addresses(&live.network) {
                self.check_subnet(&next)?;
            }
            self.replace_live(&live, next)?;
            // Whether mappings are logged is not in the document.
            self.watch()?;
        }
        Ok(kept
            .into_iter()
            .map(|what| format!("{what} takes effect after net-destroy and net-start"))
            .collect())
    }

    fn replace_live(&mut self, old: &LiveNetwork, next: Network) -> Answer<()> {
        let (before, after) = (document::mtu(&old.network), document::mtu(&next));
        self.resizing(old, before, after, |state| state.set_live(old, next.clone()))?;
        report(old.bridge(), readdress_host(old, &next));
        Ok(())
    }

    /// Makes a change by which the MTU becomes another. Frames that are too long for the datapath's network would be lost,
    /// so devices are never the larger ones.
    fn resizing(
        &mut self,
        live: &LiveNetwork,
        before: u16,
        after: u16,
        change: impl FnOnce(&mut Self) -> Answer<()>,
    ) -> Answer<()> {
        if after < before {
            self.resize_devices(live, after);
        }
        let result = change(self);
        let reached = if result.is_ok() { after } else { before };
        if reached != before.min(after) {
            self.resize_devices(live, reached);
        }
        result
    }

    /// The segment a network is in has another MTU.
    pub(crate) fn resize_segment(&mut self, live: &LiveNetwork, mtu: u16) -> Answer<()> {
        self.resizing(live, live.mtu(), mtu, |state| {
            state.change(|state| {
                let networks = state.live.networks.iter_mut().filter(|other| other.id == live.id);
                networks.filter_map(|live| live.segment.as_mut()).for_each(|segment| segment.mtu = mtu);
                Ok(())
            })
        })
    }

    /// Replaces the live definition; the datapath hears of it only when it concerns it.
    fn set_live(&mut self, old: &LiveNetwork, next: Network) -> Answer<()> {
        let mut changed = self.live.clone();
        let xml = next.to_xml(&DumpOptions { inactive: true, connections: None });
        for live in changed.networks.iter_mut().filter(|live| live.id == old.id) {
            live.xml.clone_from(&xml);
            live.network.clone_from(&next);
        }
        self.check_forwards(old.id, &next)?;
        self.known.locate(&mut changed);
        let document = |live| document::build(live, &self.failed, &self.resolvers);
        // A document names only resolvers there are sockets to.
        let same_servers = dns::servers(&old.network).eq(dns::servers(&next));
        if same_servers && document(&changed) == document(&self.live) {
            self.live = changed;
            self.write_note();
            return Ok(());
        }
        self.change(|state| {
            if document::dhcp_ip(&old.network).is_none() {
                state.send_lease_log(old.id, &next)?;
            }
            state.live = changed;
            // Other ports may belong to somebody.
            state.share()
        })
    }

    /// Sets the MTU of the host's device and of the guests'; those that cannot be reached are logged.
    fn resize_devices(&self, live: &LiveNetwork, mtu: u16) {
        let own =
            |guest: &&crate::live::Guest| guest.network == live.id && guest.details.cable.is_own_device();
        let guests = self.live.guests.iter().filter(own);
        let guests = guests.map(|guest| (guest.netns.as_deref(), guest.ifname.as_str()));
        for (netns, name) in guests.chain([(None, live.device())]) {
            let resized = in_netns(netns, || {
                let change = Change { mtu: Some(mtu), ..Change::default() };
                netlink::index(name)?.map_or(Ok(()), |link| netlink::change(link, change))
            });
            report(name, resized);
        }
    }
}

/// Brings addresses and routes of the host's device to those of a new definition.
fn readdress_host(old: &LiveNetwork, next: &Network) -> std::io::Result<()> {
    let (before, after) = (document::addresses(&old.network), document::addresses(next));
    let (routes_before, routes_after) = (document::routes(&old.network), document::routes(next));
    if (&before, &routes_before) == (&after, &routes_after) {
        return Ok(());
    }
    let Some(link) = netlink::index(old.bridge())? else { return Ok(()) };
    for route in routes_before.iter().filter(|route| !routes_after.contains(route)) {
        netlink::delete_route(link, route)?;
    }
    for net in before.iter().filter(|net| !after.contains(net)) {
        netlink::delete_address(link, *net)?;
    }
    for net in after.iter().filter(|net| !before.contains(net)) {
        netlink::add_address(link, *net)?;
    }
    for route in routes_after.iter().filter(|route| !routes_before.contains(route)) {
        netlink::add_route(link, route)?;
    }
    Ok(())
}

fn report(name: &str, result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::warn!("interface {name}: {error}");
    }
}

/// A definition made of parts has to be one that could be read from a file.
fn check(network: &Network) -> Answer<()> {
    let text = network.to_xml(&DumpOptions { inactive: true, connections: None });
    pontoon_netxml::parse(&text).map(drop).map_err(|error| crate::failure::fail(error.message))
}

/// What `running` can become on the way to `wanted` without a stop, and the names of what it cannot.
fn merge(running: &Network, wanted: &Network) -> (Network, Vec<&'static str>) {
    let mut next = wanted.clone();
    let mut kept = Vec::new();
    let mut keep = |differs: bool, what| {
        if differs {
            kept.push(what);
        }
        differs
    };
    next.uuid = running.uuid;
    if keep(running.bridge.name != wanted.bridge.name, "<bridge name>") {
        next.bridge.name.clone_from(&running.bridge.name);
    }
    if keep(running.mac != wanted.mac, "<mac>") {
        next.mac = running.mac;
    }
    if keep(running.forward.mode != wanted.forward.mode, "<forward mode>") {
        next.forward = running.forward.clone();
    }
    let ways = |network: &Network| (network.forward.dev.clone(), network.forward.interfaces.clone());
    if keep(ways(running) != ways(&next), "<forward dev>") {
        (next.forward.dev, next.forward.interfaces) = ways(running);
    }
    if keep(running.uplink != wanted.uplink, "<pontoon:uplink>") {
        next.uplink.clone_from(&running.uplink);
    }
    let gateway = document::address(running);
    if keep(gateway.is_some() && gateway != document::address(wanted), "<ip address>") {
        next.ips.clone_from(&running.ips);
        next.routes.clone_from(&running.routes);
    }
    (next, kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::fail;
    use crate::testing::{accepted, connect, define, refused, scratch, state};
    use pontoon_proto::api::{Reply, Request};

    fn network(parts: &str) -> Network {
        let text = format!(
            "<network><name>n</name><uuid>3e3fce45-4f53-4fa7-bb32-11f34168b82b</uuid>{parts}</network>"
        );
        pontoon_netxml::parse(&text).expect("network")
    }

    const RUNNING: &str = "<forward mode='nat'><nat><port start='1024' end='2000'/></nat></forward>\
        <bridge name='virbr1'/><mac address='52:54:00:00:00:01'/>";

    fn ip(third: u8, last: u8) -> String {
        format!(
            "<ip address='10.1.{third}.1' prefix='24'><dhcp><range start='10.1.{third}.2' \
             end='10.1.{third}.{last}'/></dhcp></ip>"
        )
    }

    #[test]
    fn what_can_change_live_does_and_the_rest_is_named() {
        let running = network(&format!("{RUNNING}{}", ip(0, 9)));
        let other = RUNNING.replace("2000", "3000").replace("virbr1", "virbr2");
        let wanted = network(&format!("{other}<mtu size='1400'/><domain name='lab'/>{}", ip(0, 20)));
        let (next, kept) = merge(&running, &wanted);
        assert_eq!(kept, ["<bridge name>"]);
        assert_eq!(next.bridge.name.as_deref(), Some("virbr1"));
        let mut expected = wanted;
        expected.bridge.name = Some("virbr1".into());
        assert_eq!(next, expected);
        check(&next).expect("valid");
    }

    #[test]
    fn a_moved_subnet_keeps_all_that_lies_in_it() {
        let running = network(&format!("{RUNNING}{}", ip(0, 9)));
        let route = "<route address='10.9.0.0' prefix='24' gateway='10.1.7.5'/>";
        let wanted = network(&format!("{RUNNING}<mtu size='1400'/>{}{route}", ip(7, 9)));
        let (next, kept) = merge(&running, &wanted);
        assert_eq!(kept, ["<ip address>"]);
        assert_eq!((&next.ips, next.routes.len(), next.mtu), (&running.ips, 0, Some(1400)));
        check(&next).expect("valid");
    }

    #[test]
    fn another_way_out_waits() {
        let running = network(&format!("{RUNNING}{}", ip(0, 9)));
        let isolated =
            network(&format!("<bridge name='virbr1'/><mac address='52:54:00:00:00:02'/>{}", ip(0, 9)));
        let (next, kept) = merge(&running, &isolated);
        assert_eq!(kept, ["<mac>", "<forward mode>"]);
        assert_eq!(next, running);
    }

    fn dump(state: &mut State, inactive: bool) -> String {
        match accepted(state.answer(Request::NetDumpxml { network: "n".into(), inactive })) {
            Reply::Xml { xml } => xml,
            other => panic!("{other:?}"),
        }
    }

    fn warnings(reply: Reply) -> Vec<String> {
        match reply {
            Reply::Defined { warnings, .. } => warnings,
            other => panic!("{other:?}"),
        }
    }

    /// A state with a datapath and the network `n` defined and running, without devices.
    fn running(name: &str) -> (std::path::PathBuf, State, std::sync::mpsc::Receiver<crate::link::Event>) {
        let root = scratch(name);
        let mut state = state(&root);
        let events = connect(&mut state);
        accepted(define(
            &mut state,
            &format!("<network><name>n</name><bridge name='pt-none'/>{}</network>", ip(0, 9)),
        ));
        let network = state.defined.get("n").cloned().expect("defined");
        state.live.networks.push(LiveNetwork::new(1, 1, None, network));
        (root, state, events)
    }

    #[test]
    fn a_definition_of_a_running_network_takes_effect_and_says_what_does_not() {
        let (root, mut state, _events) = running("redefine");
        let generation = state.live.generation;
        let text =
            format!("<network><name>n</name><bridge name='pt-none'/><title>T</title>{}</network>", ip(0, 9));
        assert!(warnings(accepted(define(&mut state, &text))).is_empty());
        assert_eq!(state.live.generation, generation, "the datapath has no use for a title");
        assert!(dump(&mut state, false).contains("<title>T</title>"));

        let text = format!("<network><name>n</name><bridge name='pt-other'/>{}</network>", ip(0, 20));
        let said = warnings(accepted(define(&mut state, &text)));
        assert_eq!(said, ["<bridge name> takes effect after net-destroy and net-start"]);
        assert_eq!(state.live.generation, generation + 1);
        let (live, stored) = (dump(&mut state, false), dump(&mut state, true));
        assert!(live.contains("end='10.1.0.20'") && live.contains("pt-none"), "{live}");
        assert!(stored.contains("end='10.1.0.20'") && stored.contains("pt-other"), "{stored}");
        let noted = crate::live::Live::load(state.store.disk(), &root.join("live.json"));
        assert_eq!(noted, state.live, "the next control process knows as much");
        std::fs::remove_dir_all(&root).expect("clean");
    }

    #[test]
    fn edits_reach_what_the_flags_say() {
        let (root, mut state, _events) = running("edit");
        let title = |text: &'static str| {
            move |network: &mut Network| {
                network.title = Some(text.into());
                Ok(())
            }
        };
        let (live, config) = (Affect { live: true, config: false }, Affect { live: false, config: true });
        let both = Affect { live: true, config: true };
        state.edit("n", live, title("A")).expect("live");
        assert!(dump(&mut state, false).contains("<title>A<") && !dump(&mut state, true).contains("title"));
        state.edit("n", config, title("B")).expect("config");
        assert!(
            dump(&mut state, false).contains("<title>A<") && dump(&mut state, true).contains("<title>B<")
        );
        state.edit("n", both, title("C")).expect("both");
        assert!(
            dump(&mut state, false).contains("<title>C<") && dump(&mut state, true).contains("<title>C<")
        );
        state.edit("n", Affect::default(), title("D")).expect("current");
        assert!(
            dump(&mut state, false).contains("<title>D<") && dump(&mut state, true).contains("<title>C<")
        );
        assert!(state.edit("n", both, |_| Err(fail("no"))).is_err());
        assert!(
            dump(&mut state, false).contains("<title>D<") && dump(&mut state, true).contains("<title>C<")
        );

        let networks = std::mem::take(&mut state.live.networks);
        state.edit("n", Affect::default(), title("E")).expect("current");
        assert!(dump(&mut state, true).contains("<title>E<"));
        let stopped = state.edit("n", both, title("F")).expect_err("stopped");
        assert_eq!(stopped.message, "Requested operation is not valid: network is not running");
        state.live.networks = networks;
        state.defined.clear();
        let transient = state.edit("n", config, title("F")).expect_err("transient");
        let words =
            "Requested operation is not valid: cannot change persistent config of a transient network";
        assert_eq!(transient.message, words);
        assert!(dump(&mut state, false).contains("<title>D<"));
        std::fs::remove_dir_all(&root).expect("clean");
    }

    #[test]
    fn one_element_is_updated_where_the_flags_say_or_nowhere() {
        let (root, mut state, _events) = running("update");
        let host = "<host mac='52:54:00:00:00:09' ip='10.1.0.5'/>";
        let update = |command, xml| Update {
            command,
            section: Section::IpDhcpHost,
            parent_index: -1,
            xml,
            file: "host.xml",
        };
        let (live, both) = (Affect { live: true, config: false }, Affect { live: true, config: true });
        let generation = state.live.generation;
        assert!(
            state.update_network("n", &update(UpdateCommand::AddLast, host), live).expect("added").is_empty()
        );
        assert_eq!(state.live.generation, generation + 1);
        assert!(dump(&mut state, false).contains(host) && !dump(&mut state, true).contains(host));
        let noted = crate::live::Live::load(state.store.disk(), &root.join("live.json"));
        assert_eq!(noted, state.live, "a control process that takes over knows it");

        let twice =
            state.update_network("n", &update(UpdateCommand::AddLast, host), both).expect_err("twice");
        let words = "Requested operation is not valid: there is an existing dhcp host entry in network 'n' that matches";
        assert!(twice.message.starts_with(words), "{}", twice.message);
        assert!(!dump(&mut state, true).contains(host), "the stored one had none, but both or none change");
        let torn =
            state.update_network("n", &update(UpdateCommand::AddLast, "<host"), both).expect_err("torn");
        assert!(torn.detail.is_some_and(|detail| detail.contains("host.xml:1")));
        state.update_network("n", &update(UpdateCommand::Delete, host), live).expect("deleted");
        assert!(!dump(&mut state, false).contains(host));
        std::fs::remove_dir_all(&root).expect("clean");
    }

    #[test]
    fn a_store_that_fails_takes_the_live_change_back() {
        let (root, mut state, _events) = running("takeback");
        std::fs::remove_dir_all(root.join("networks")).expect("remove");
        let both = Affect { live: true, config: true };
        let failed = state.edit("n", both, |network| {
            network.mtu = Some(1400);
            Ok(())
        });
        assert!(failed.expect_err("no directory").message.contains("cannot write"));
        assert!(!dump(&mut state, false).contains("mtu"));
        let other = "<network><name>n</name><uuid>3e3fce45-4f53-4fa7-bb32-11f34168b82b</uuid></network>";
        refused(define(&mut state, other));
        std::fs::remove_dir_all(&root).expect("clean");
    }
}

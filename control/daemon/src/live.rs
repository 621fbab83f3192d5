//! What is active, as `live.json` keeps it for the next control process.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use ipnet::Ipv4Net;
use pontoon_netxml::{DumpOptions, Network};
use pontoon_proto::Document;
use pontoon_proto::document::Mac;
use serde::{Deserialize, Serialize};

use crate::disk::{Disk, with_suffix};
use crate::guests::Details;
use crate::leases::crc32;
use crate::shared::{Chosen, Target};
use crate::store::COPY;

/// Ids fit the datapath's MAC table (12 bits of port).
pub(crate) const MAX_ID: u16 = 4095;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Live {
    pub(crate) generation: u64,
    pub(crate) networks: Vec<LiveNetwork>,
    pub(crate) uplinks: Vec<LiveUplink>,
    pub(crate) guests: Vec<Guest>,
    /// Switches' settings.
    #[serde(default)]
    pub(crate) bridging: crate::bridge::Settings,
    /// Port id given last: ids are reused as late as possible.
    pub(crate) last_port: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LiveNetwork {
    pub(crate) id: u16,
    pub(crate) xml: String,
    /// The host's own tap.
    pub(crate) port: u16,
    pub(crate) uplink: Option<u16>,
    /// Behind a shared uplink: NAT's ports.
    #[serde(default)]
    pub(crate) ports: Option<Chosen>,
    /// Of networks in a segment of the host's.
    #[serde(default)]
    pub(crate) segment: Option<Segment>,
    /// Where the guests of port forwards are, by the names these have.
    #[serde(default)]
    pub(crate) guests: std::collections::BTreeMap<String, Ipv4Addr>,
    /// `xml`, parsed.
    #[serde(skip)]
    pub(crate) network: Network,
}

/// How a network is in a segment of the host's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    /// Behind it is the segment; made for this network.
    pub(crate) tap: String,
    pub(crate) mtu: u16,
    /// The interface whose segment it is, where that is no bridge of the kernel's.
    #[serde(default)]
    pub(crate) device: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Direct,
    Tap,
    Shared,
    User,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LiveUplink {
    pub(crate) id: u16,
    pub(crate) port: u16,
    pub(crate) kind: Kind,
    /// The interface, or the tap that stands for the host's.
    pub(crate) dev: String,
    pub(crate) netns: Option<String>,
    pub(crate) mac: Mac,
    pub(crate) address: Option<Ipv4Net>,
    pub(crate) gateway: Option<Ipv4Addr>,
    pub(crate) mtu: u16,
    /// Of shared uplinks: the host's interface that is wanted, if it is named; the one that is used; and the host's other
    /// addresses.
    #[serde(default)]
    pub(crate) over: Option<String>,
    #[serde(default)]
    pub(crate) target: Option<Target>,
    #[serde(default)]
    pub(crate) host: Vec<Ipv4Addr>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Guest {
    pub(crate) port: u16,
    pub(crate) network: u16,
    pub(crate) domain: String,
    pub(crate) mac: Mac,
    pub(crate) ifname: String,
    pub(crate) netns: Option<String>,
    #[serde(default)]
    pub(crate) details: Details,
}

impl LiveNetwork {
    pub(crate) fn new(id: u16, port: u16, uplink: Option<u16>, network: Network) -> Self {
        let xml = network.to_xml(&DumpOptions { inactive: true, connections: None });
        let guests = std::collections::BTreeMap::new();
        Self { id, xml, port, uplink, ports: None, segment: None, guests, network }
    }

    /// Its bridge's name, or that of the interface it is on.
    pub(crate) fn bridge(&self) -> &str {
        let device = self.segment.as_ref().and_then(|segment| segment.device.as_deref());
        device.or(self.network.bridge.name.as_deref()).unwrap_or("")
    }

    /// The device of its own port.
    pub(crate) fn device(&self) -> &str {
        self.segment.as_ref().map_or_else(|| self.bridge(), |segment| &segment.tap)
    }

    pub(crate) fn mtu(&self) -> u16 {
        self.segment.as_ref().map_or_else(|| crate::document::mtu(&self.network), |segment| segment.mtu)
    }
}

impl Live {
    /// Writes the note and its copy, each whole or not at all. Nothing of what it tells outlives the machine, so it
    /// does not wait for the disk.
    pub(crate) fn save(&self, disk: &dyn Disk, path: &Path) -> io::Result<()> {
        let json = serde_json::to_string(self)?;
        let bytes = format!("{{\"crc\":\"{:08x}\",\"live\":{json}}}", crc32(json.as_bytes())).into_bytes();
        disk.replace_unsynced(path, &bytes)?;
        disk.replace_unsynced(&with_suffix(path, COPY), &bytes)
    }

    /// Reads the note of the control process before; what cannot be read is dropped with a word.
    pub(crate) fn load(disk: &dyn Disk, path: &Path) -> Self {
        let bytes = match disk.read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::default(),
            Err(error) => {
                tracing::error!("{} cannot be read: {error}", path.display());
                Vec::new()
            }
        };
        let copy = || disk.read(&with_suffix(path, COPY)).ok().and_then(|bytes| Self::parse(&bytes));
        let parsed = Self::parse(&bytes).or_else(|| {
            let copy = copy();
            let what = if copy.is_some() { "its copy is used" } else { "nothing is taken over" };
            tracing::error!("{} is damaged; {what}", path.display());
            copy
        });
        let mut live = parsed.unwrap_or_default();
        live.networks.retain_mut(|live| match pontoon_netxml::parse(&live.xml) {
            Ok(network) => {
                live.network = network;
                true
            }
            Err(error) => {
                tracing::error!("an active network cannot be taken over: {error}");
                false
            }
        });
        live
    }

    /// Without checksum it is of an older program.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let Some(rest) = text.strip_prefix("{\"crc\":\"") else {
            return serde_json::from_str(text).ok();
        };
        let (sum, rest) = rest.split_once("\",\"live\":")?;
        let json = rest.strip_suffix('}')?;
        if sum != format!("{:08x}", crc32(json.as_bytes())) {
            return None;
        }
        serde_json::from_str(json).ok()
    }

    /// Keeps only what the running datapath has too. A network runs without its own port or its uplink's where
    /// their device has failed; these ports are returned.
    pub(crate) fn keep_running(&mut self, running: &Document) -> BTreeSet<u16> {
        let ports: BTreeSet<_> = running.ports.iter().map(|port| (port.id, port.name.as_str())).collect();
        self.uplinks
            .retain(|uplink| running.uplinks.iter().any(|u| u.id == uplink.id && u.name == uplink.dev));
        let uplinks: BTreeSet<_> = self.uplinks.iter().map(|uplink| uplink.id).collect();
        self.networks.retain(|live| {
            let known = running.networks.iter().any(|n| n.id == live.id && n.name == live.network.name);
            let whole = known && live.uplink.is_none_or(|uplink| uplinks.contains(&uplink));
            if !whole {
                tracing::warn!("network '{}' no longer runs; it is inactive now", live.network.name);
            }
            whole
        });
        let networks: BTreeSet<_> = self.networks.iter().map(|live| live.id).collect();
        self.guests.retain(|guest| {
            networks.contains(&guest.network) && ports.contains(&(guest.port, guest.ifname.as_str()))
        });
        self.drop_unused_uplinks();
        self.generation = running.generation;
        let running: BTreeSet<_> = ports.iter().map(|(port, _)| *port).collect();
        self.ports().difference(&running).copied().collect()
    }

    pub(crate) fn drop_unused_uplinks(&mut self) {
        let used: BTreeSet<_> = self.networks.iter().filter_map(|live| live.uplink).collect();
        self.uplinks.retain(|uplink| used.contains(&uplink.id));
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&LiveNetwork> {
        self.networks.iter().find(|live| live.network.name == name)
    }

    pub(crate) fn by_id(&self, id: u16) -> Option<&LiveNetwork> {
        self.networks.iter().find(|live| live.id == id)
    }

    /// Ids of all ports.
    pub(crate) fn ports(&self) -> BTreeSet<u16> {
        let hosts = self.networks.iter().map(|live| live.port);
        let uplinks = self.uplinks.iter().map(|uplink| uplink.port);
        hosts.chain(uplinks).chain(self.guests.iter().map(|guest| guest.port)).collect()
    }

    /// A port id that is not in use; `None` when all are.
    pub(crate) fn new_port(&mut self) -> Option<u16> {
        let used = self.ports();
        let last = self.last_port.min(MAX_ID);
        let free = (last + 1..=MAX_ID).chain(1..=last).find(|id| !used.contains(id))?;
        self.last_port = free;
        Some(free)
    }

    pub(crate) fn new_network(&self) -> Option<u16> {
        (1..=MAX_ID).find(|id| self.by_id(*id).is_none())
    }

    pub(crate) fn new_uplink(&self) -> Option<u16> {
        (1..=MAX_ID).find(|id| self.uplinks.iter().all(|uplink| uplink.id != *id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk_fake::{FakeDisk, Fault};

    #[test]
    fn port_ids_come_back_as_late_as_possible() {
        let mut live = Live::default();
        assert_eq!((live.new_port(), live.new_port()), (Some(1), Some(2)));
        live.last_port = MAX_ID;
        live.networks.push(LiveNetwork { id: 1, port: 1, ..LiveNetwork::default() });
        assert_eq!(live.new_port(), Some(2));
    }

    #[test]
    fn a_network_runs_on_without_ports_that_failed() {
        let xml = "<network><name>n</name><uuid>3e3fce45-4f53-4fa7-bb32-11f34168b82b</uuid></network>";
        let network = pontoon_netxml::parse(xml).expect("xml");
        let uplink = LiveUplink {
            id: 1,
            port: 8,
            kind: Kind::Direct,
            dev: "up0".into(),
            netns: None,
            mac: [2, 0, 0, 0, 0, 1],
            address: None,
            gateway: None,
            mtu: 1500,
            over: None,
            target: None,
            host: Vec::new(),
        };
        let mut live = Live {
            networks: vec![LiveNetwork::new(2, 7, Some(1), network)],
            uplinks: vec![uplink],
            ..Live::default()
        };
        let none = crate::resolvers::Resolvers::read(Path::new("/nonexistent"));
        let running = crate::document::build(&live, &BTreeSet::from([7, 8]), &none);
        assert_eq!(live.keep_running(&running), BTreeSet::from([7, 8]));
        assert_eq!((live.networks.len(), live.uplinks.len()), (1, 1));
        assert!(live.keep_running(&Document::default()).is_empty());
        assert_eq!((live.networks.len(), live.uplinks.len()), (0, 0));
    }

    fn noted() -> (FakeDisk, Live, &'static Path) {
        let (disk, path) = (FakeDisk::default(), Path::new("/run/live.json"));
        let xml = "<network><name>n</name><uuid>3e3fce45-4f53-4fa7-bb32-11f34168b82b</uuid></network>";
        let network = pontoon_netxml::parse(xml).expect("xml");
        let networks = vec![LiveNetwork::new(2, 7, None, network)];
        let live = Live { generation: 9, networks, last_port: 7, ..Live::default() };
        live.save(&disk, path).expect("save");
        assert_eq!(disk.syncs(), 0, "what runs now need not wait for a disk");
        disk.settle();
        (disk, live, path)
    }

    #[test]
    fn a_note_damaged_at_any_byte_is_read_from_its_copy() {
        let (disk, live, path) = noted();
        let whole = disk.read(path).expect("read");
        for at in 0..whole.len() {
            for value in [b'0', b'1', b'"', 0xff] {
                let mut hurt = whole.clone();
                hurt[at] = value;
                disk.spoil(path, hurt);
                assert_eq!(Live::load(&disk, path), live, "{value} at {at}");
            }
            disk.spoil(path, whole[..at].to_vec());
            assert_eq!(Live::load(&disk, path), live, "cut at {at}");
        }
    }

    #[test]
    fn a_note_whose_writing_is_cut_short_is_the_one_before_or_the_new_one() {
        for at in 1.. {
            let (disk, old, path) = noted();
            let new = Live { generation: 10, ..old.clone() };
            disk.fail(Some((at, Fault::Crash)));
            let saved = new.save(&disk, path);
            if disk.steps() < at {
                assert!(saved.is_ok());
                break;
            }
            let fails = disk.after_crash();
            disk.fail(None);
            let found = Live::load(&disk, path);
            assert!(found == old || found == new, "control dies at {at}: {found:?}");
            for later in fails {
                let found = Live::load(&later, path);
                let known = [&old, &new, &Live::default()].contains(&&found);
                assert!(known, "the machine stops at {at}, and nothing runs any more: {found:?}");
            }
        }
    }

    #[test]
    fn a_note_of_which_nothing_is_left_is_an_empty_one() {
        let (disk, live, path) = noted();
        for path in [path.to_owned(), with_suffix(path, COPY)] {
            disk.spoil(&path, b"{\"generation\":".to_vec());
        }
        assert_eq!(Live::load(&disk, path), Live::default());
        disk.remove(path).expect("remove");
        assert_eq!(Live::load(&disk, path), Live::default());
        disk.write(path, &serde_json::to_vec(&live).expect("json")).expect("write");
        assert_eq!(Live::load(&disk, path), live, "as versions without a checksum wrote it");
    }
}

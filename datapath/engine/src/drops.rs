//! Every way a frame can end without being sent, as one table.

macro_rules! drops {
    ($($variant:ident $name:literal $help:literal,)*) => {
        /// Why a frame was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(usize)]
        pub enum DropReason { $(#[doc = $help] $variant,)* }

        impl DropReason {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Name in counters.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            #[must_use]
            pub fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)* }
            }
        }
    };
}

drops! {
    Runt "runt" "fewer than 14 octets",
    Oversize "oversize" "longer than a 64 KB IP packet behind an Ethernet header",
    VnetChecksum "vnet_checksum" "vnet header: checksum position outside the frame",
    VnetGsoType "vnet_gso_type" "vnet header: GSO type does not fit the frame",
    VnetGsoSize "vnet_gso_size" "vnet header: segment size out of bounds",
    UnknownPort "unknown_port" "the port is not in the configuration any more",
    SourceGroup "source_group" "source address is a group or zero address",
    SourceGateway "source_gateway" "a guest used the gateway's own address as source",
    LinkLocal "link_local" "destination 01-80-C2-00-00-0X, which no bridge forwards",
    BpduMalformed "bpdu_malformed" "to the spanning tree's address, but no BPDU",
    BpduRate "bpdu_rate" "more BPDUs than a port may send in a second",
    SpanningTree "spanning_tree" "the spanning tree does not let this port carry frames",
    LinkDown "link_down" "the port's link is set down",
    Isolated "isolated" "between two isolated ports",
    UnknownUnicast "unknown_unicast" "destination is not known, and this network does not flood",
    SamePort "same_port" "destination is behind the port the frame came from",
    MacLimit "mac_limit" "the port's limit of learned addresses is reached (frame was forwarded unlearned)",
    MtuExceeded "mtu_exceeded" "frame longer than the outgoing port's MTU",
    ArpSpoof "arp_spoof" "a guest claimed the gateway's address in ARP",
    ArpMalformed "arp_malformed" "ARP packet that is not IPv4 over Ethernet",
    IpMalformed "ip_malformed" "IPv4 or transport header not sound",
    IpChecksum "ip_checksum" "IPv4 header checksum is wrong",
    IpSourceSpoofed "ip_source_spoofed" "source address is not one of the network's",
    TtlExpired "ttl_expired" "TTL ran out at the gateway",
    NotForwarded "not_forwarded" "this network does not forward there",
    MartianDestination "martian_destination" "multicast, broadcast or reserved destination at the gateway",
    UplinkDown "uplink_down" "the uplink has no address yet",
    UplinkNotOurs "uplink_not_ours" "a frame on the uplink that is not for its address",
    NeighbourUnresolved "neighbour_unresolved" "next hop does not answer ARP yet",
    NeighbourQueueFull "neighbour_queue_full" "too many frames wait for ARP",
    NatProtocol "nat_protocol" "protocol NAT has no sessions for",
    NatProtocolTaken "nat_protocol_taken" "a protocol without ports that another guest uses by the same uplink",
    NatFragment "nat_fragment" "a fragment without its first part",
    NatFragmentOverlap "nat_fragment_overlap" "a fragment that overlaps another, or of a datagram that ended so",
    NatNoSession "nat_no_session" "arrived from outside without a session",
    NatFiltered "nat_filtered" "arrived from an endpoint the guest never spoke to",
    NatNoGuest "nat_no_guest" "a port forward whose guest has no address at present",
    NatTableFull "nat_table_full" "no free session slot",
    NatPortsExhausted "nat_ports_exhausted" "no free external port",
    NatQuota "nat_quota" "the inside address has its share of sessions already",
    NatTcpFlags "nat_tcp_flags" "impossible TCP flags",
    NatTcpState "nat_tcp_state" "segment does not fit the session's state",
    NatTcpWindow "nat_tcp_window" "segment outside the session's window",
    NatIcmpChecksum "nat_icmp_checksum" "ICMP checksum is wrong",
    NatIcmpInner "nat_icmp_inner" "the packet an ICMP error quotes is not sound",
    NatIcmpType "nat_icmp_type" "ICMP type NAT does not carry",
    DhcpRogue "dhcp_rogue" "a guest answered as a DHCP server",
    DhcpIgnored "dhcp_ignored" "DHCP message that gets no answer",
    DhcpPoolExhausted "dhcp_pool_exhausted" "no free address left in the pool",
    DhcpDisk "dhcp_disk" "lease could not be written to disk",
    DhcpRate "dhcp_rate" "a guest asks for more lease changes than it may have written to disk",
    DnsDropped "dns_dropped" "DNS message that gets no answer",
    FragmentationNeeded "fragmentation_needed" "longer than the next link's MTU with don't-fragment set",
    TooLong "too_long" "longer than the next link's MTU",
    HandOffLoop "hand_off_loop" "a frame was handed over twice",
}

/// One counter a reason.
#[derive(Clone, Debug)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl Drops {
    pub fn count(&mut self, reason: DropReason) {
        if let Some(counter) = self.0.get_mut(reason as usize) {
            *counter = counter.wrapping_add(1);
        }
    }

    #[must_use]
    pub fn of(&self, reason: DropReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// Reasons that were counted at least once.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&reason| (reason, self.of(reason))).filter(|&(_, count)| count > 0)
    }
}

//! What the server does with each message type (RFC 2131 §4.3).
use alloc::{boxed::Box, string::String, vec::Vec};
use core::net::Ipv4Addr;

use pontoon_wire::dhcp::{Error, Message, MessageType, code};

use super::{
    Change, Drop, Lease, MAX_PER_MAC, Mac, OFFER_SECONDS, Outcome, QUARANTINE_SECONDS, Server, name, reply,
    table::{Key, Phase, Slot, Undo},
};

/// Due offers and quarantines collected per message.
const SWEEP_BATCH: usize = 8;

/// A message and who sent it.
struct Request<'a> {
    message: Message<'a>,
    mac: Mac,
    key: Key,
    client_id: Option<Vec<u8>>,
    name: Option<String>,
    host: Option<usize>,
    unix: u64,
    /// Whether the answer may need the disk.
    writable: bool,
}

impl Request<'_> {
    fn slot(&self, ip: u32, hostname: Option<String>, expiry: u64, undo: Undo) -> Slot {
        let (mac, client_id) = (self.mac, self.client_id.clone());
        let lease = Lease { ip: Ipv4Addr::from_bits(ip), mac, client_id, hostname, expiry };
        Slot::bound(self.key.clone(), lease, undo)
    }
}

impl From<Error> for Drop {
    fn from(error: Error) -> Self {
        match error {
            Error::Truncated | Error::BadOption => Self::Malformed,
            Error::BadCookie => Self::BadCookie,
            Error::NoSpace => Self::NoSpace,
        }
    }
}

/// Refuses what is not a request of the guest that sent the frame.
fn accept(mac: Mac, payload: &[u8]) -> Result<(Message<'_>, MessageType), Drop> {
    let message = Message::parse(payload)?;
    if message.op() != 1 {
        return Err(Drop::NotRequest);
    }
    if message.htype() != 1 || message.hlen() != 6 || mac[0] & 1 != 0 || mac == [0; 6] {
        return Err(Drop::BadHardware);
    }
    if message.hops() != 0 || !message.giaddr().is_unspecified() {
        return Err(Drop::Relayed);
    }
    // Port security vouches for the frame's source only, so it is the one address a guest may speak for.
    if message.mac() != mac {
        return Err(Drop::ForeignChaddr);
    }
    let kind = message.message_type().ok_or(Drop::UnexpectedType)?;
    Ok((message, kind))
}

impl Server {
    /// Handles the UDP payload of a packet that a guest sent to port 67; `mac` is the frame's source address.
    /// `writable` is false for a guest that has had its share of the disk: what needs no disk is answered all the
    /// same, a renewal out of the time that is on record. `reply` should have room for 1500 bytes.
    pub fn handle(
        &mut self,
        unix: u64,
        mac: Mac,
        payload: &[u8],
        writable: bool,
        reply: &mut [u8],
    ) -> Outcome {
        self.table.sweep_held(unix, SWEEP_BATCH);
        // The IP datagram has to fit the network's MTU, whatever size the client claims to take.
        let mtu = if self.config.mtu == 0 { 1500 } else { usize::from(self.config.mtu) };
        let room = reply.len().min(mtu.max(576) - 28);
        let reply = reply.get_mut(..room).unwrap_or_default();
        let (message, kind) = match accept(mac, payload) {
            Ok(accepted) => accepted,
            Err(reason) => return Outcome::Drop(reason),
        };
        let request = self.identify(message, mac, unix, writable);
        request.and_then(|request| self.dispatch(&request, kind, reply)).unwrap_or_else(Outcome::Drop)
    }

    fn identify<'a>(
        &self,
        message: Message<'a>,
        mac: Mac,
        unix: u64,
        writable: bool,
    ) -> Result<Request<'a>, Drop> {
        let mut buffer = [0; 255];
        let id = message.joined(code::CLIENT_ID, &mut buffer).map_err(|_| Drop::Malformed)?;
        let id = id.filter(|id| !id.is_empty());
        let name = name::requested(&message);
        let host = self.hosts.find(id, mac, name.as_deref());
        let id = id.filter(|_| !host.is_some_and(|host| self.hosts.any_client_id(host)));
        let client_id = id.map(<[u8]>::to_vec);
        Ok(Request { message, mac, key: Key::new(id, mac), client_id, name, host, unix, writable })
    }

    fn dispatch(
        &mut self,
        request: &Request<'_>,
        kind: MessageType,
        out: &mut [u8],
    ) -> Result<Outcome, Drop> {
        match kind {
            MessageType::Discover => self.discover(request, out),
            MessageType::Request => self.request(request, out),
            MessageType::Decline => self.decline(request),
            MessageType::Release => self.release(request),
            MessageType::Inform => self.inform(request, out),
            MessageType::Offer | MessageType::Ack | MessageType::Nak => Err(Drop::UnexpectedType),
        }
    }

    /// Whether the message names another server; one that should name a server and does not is ours too.
    fn other_server(&self, request: &Request<'_>) -> bool {
        request.message.address(code::SERVER_ID).is_some_and(|server| server != self.config.server)
    }

    /// The client's reserved address, unless it was declined or another client with as good a claim is on it.
    fn reserved(&self, request: &Request<'_>) -> Option<u32> {
        let host = request.host?;
        let ip = self.hosts.ip(host)?;
        match self.table.get(ip) {
            None => Some(ip),
            Some(slot) if slot.phase == Phase::Quarantined => None,
            Some(slot) if slot.key == request.key || !slot.lease.live(request.unix) => Some(ip),
            // A boot loader and its system differ in identifier but share the reserved MAC address.
            Some(slot) => {
                let holder = self.hosts.find(slot.lease.client_id.as_deref(), slot.lease.mac, None);
                (slot.lease.mac == request.mac && holder == Some(host) && !self.hosts.weak(host))
                    .then_some(ip)
            }
        }
    }

    /// What this client gets for this address, at most what it asks for.
    fn seconds(&self, request: &Request<'_>, ip: u32) -> u32 {
        let own = request.host.filter(|host| self.hosts.ip(*host).is_none_or(|reserved| reserved == ip));
        let own = own.and_then(|host| self.hosts.lease_seconds(host));
        let configured = own.unwrap_or_else(|| self.config.seconds_at(Ipv4Addr::from_bits(ip)));
        reply::lease_seconds(configured, &request.message)
    }

    fn mac_full(&self, mac: Mac) -> bool {
        let limit = (self.table.pool.size() / 4).clamp(2, MAX_PER_MAC);
        self.table.held_by(mac) >= limit
    }

    /// RFC 2131 §4.3.1: reserved, current or previous, requested, then any free, then the oldest expired address.
    fn choose(&self, request: &Request<'_>) -> Result<u32, Drop> {
        if let Some(ip) = self.reserved(request) {
            return Ok(ip);
        }
        let own = self.table.of(&request.key).filter(|slot| self.table.pool.contains(slot.ip()));
        if let Some(slot) = own
            && (slot.phase != Phase::Past || !self.mac_full(request.mac))
        {
            return Ok(slot.ip());
        }
        if self.mac_full(request.mac) {
            return Err(Drop::TooManyPerMac);
        }
        let wanted = request.message.address(code::REQUESTED_IP).map(Ipv4Addr::to_bits);
        let wanted = wanted.filter(|ip| self.table.pool.is_free(*ip));
        let free = || self.table.pool.pick(request.key.hash(self.seed));
        let found = wanted.or_else(free).or_else(|| self.table.oldest_expired(request.unix));
        found.ok_or(Drop::PoolExhausted)
    }

    /// A client that discovers uses no address: one it may not have any more is free.
    fn leave_what_does_not_fit(&mut self, request: &Request<'_>) {
        let own = self.table.of(&request.key).filter(|own| own.phase == Phase::Bound);
        if let Some(ip) = own.map(Slot::ip).filter(|ip| !self.fits(request.host, *ip)) {
            self.table.retire(ip, request.unix);
        }
    }

    fn discover(&mut self, request: &Request<'_>, out: &mut [u8]) -> Result<Outcome, Drop> {
        self.leave_what_does_not_fit(request);
        let ip = self.choose(request)?;
        let seconds = self.seconds(request, ip);
        let hostname = self.assign_name(request.host, request.name.clone(), ip, request.unix);
        let mut slot = request.slot(ip, hostname, 0, Undo::Keep);
        let lease = Some((&slot.lease, seconds));
        let reply = reply::positive(&self.config, &request.message, MessageType::Offer, lease, out)?;
        let own = self.table.of(&request.key);
        // A bound lease already holds its address, and a reserved address needs no holding.
        if own.is_none_or(|own| own.phase != Phase::Bound) && self.table.pool.contains(ip) {
            slot.past = own.filter(|own| own.ip() == ip).and_then(|own| match own.phase {
                Phase::Past => Some(own.time),
                _ => own.past,
            });
            slot.phase = Phase::Offered;
            slot.time = request.unix.saturating_add(OFFER_SECONDS);
            self.table.offer(slot);
        }
        Ok(Outcome::Reply(reply))
    }

    /// RFC 2131 §4.3.2: SELECTING, INIT-REBOOT, RENEWING and REBINDING differ in where the address is.
    fn request(&mut self, request: &Request<'_>, out: &mut [u8]) -> Result<Outcome, Drop> {
        if self.other_server(request) {
            let own = self.table.of(&request.key).filter(|own| own.phase == Phase::Offered);
            if let Some(ip) = own.filter(|own| own.lease.mac == request.mac).map(Slot::ip) {
                self.table.withdraw(ip);
            }
            return Err(Drop::OtherServer);
        }
        let ciaddr = request.message.ciaddr();
        let wanted = if ciaddr.is_unspecified() {
            request.message.address(code::REQUESTED_IP).ok_or(Drop::NoAddress)?
        } else {
            ciaddr
        };
        if !self.grantable(request, wanted.to_bits()) {
            return self.refuse(request, wanted, out);
        }
        self.bind(request, wanted.to_bits(), out)
    }

    /// NAK; a client refused what it had has lost it.
    fn refuse(&mut self, request: &Request<'_>, wanted: Ipv4Addr, out: &mut [u8]) -> Result<Outcome, Drop> {
        let reply = reply::nak(&self.config, &request.message, out)?;
        let own = self.table.get(wanted.to_bits()).filter(|slot| {
            slot.phase == Phase::Bound && slot.key == request.key && slot.lease.mac == request.mac
        });
        if own.is_none() {
            return Ok(Outcome::Reply(reply));
        }
        self.table.retire(wanted.to_bits(), request.unix);
        Ok(Outcome::Revoke { change: Change::Remove(wanted, request.mac), reply })
    }

    /// Whether the client may have this very address now.
    fn grantable(&self, request: &Request<'_>, ip: u32) -> bool {
        if let Some(reserved) = self.reserved(request) {
            return reserved == ip;
        }
        if !self.table.pool.contains(ip) {
            return false;
        }
        let room = !self.mac_full(request.mac);
        match self.table.of(&request.key) {
            Some(own) if own.ip() == ip => own.phase != Phase::Past || room,
            // Authoritative: an address nobody has is good even if the server has no record of the client.
            Some(own)
                if own.phase == Phase::Past
                    || !own.lease.live(request.unix)
                    || !self.fits(request.host, own.ip()) =>
            {
                room && self.table.pool.is_free(ip)
            }
            Some(_) => false,
            None => room && self.table.pool.is_free(ip),
        }
    }

    fn bind(&mut self, request: &Request<'_>, ip: u32, out: &mut [u8]) -> Result<Outcome, Drop> {
        let seconds = self.seconds(request, ip);
        if !request.writable {
            return self.renew_from_record(request, ip, seconds, out);
        }
        let expiry = match seconds {
            super::INFINITE => 0,
            _ => request.unix.saturating_add(seconds.into()),
        };
        let same = |slot: &&Slot| slot.phase == Phase::Bound && slot.key == request.key;
        let undo = match self.table.get(ip).filter(same) {
            Some(slot) => Undo::Restore(Box::new(slot.lease.clone())),
            None => Undo::Remove,
        };
        // A renewal need not repeat the name.
        let kept = match &undo {
            Undo::Restore(lease) => lease.hostname.clone(),
            Undo::Keep | Undo::Remove => None,
        };
        let hostname = self.assign_name(request.host, request.name.clone().or(kept), ip, request.unix);
        let slot = request.slot(ip, hostname, expiry, undo);
        let lease = Some((&slot.lease, seconds));
        let reply = reply::positive(&self.config, &request.message, MessageType::Ack, lease, out)?;
        let change = Change::Set(slot.lease.clone());
        self.table.insert(slot);
        Ok(Outcome::Commit { change, reply })
    }

    /// Answers without the disk: with what is left of the time that is on record, if that is worth having.
    fn renew_from_record(
        &self,
        request: &Request<'_>,
        ip: u32,
        seconds: u32,
        out: &mut [u8],
    ) -> Result<Outcome, Drop> {
        let slot = self.table.get(ip).ok_or(Drop::Busy)?;
        let recorded = slot.phase == Phase::Bound && matches!(slot.undo, Undo::Keep);
        let same = slot.key == request.key && slot.lease.mac == request.mac;
        let left = match slot.lease.expiry {
            0 => super::INFINITE,
            expiry => u32::try_from(expiry.saturating_sub(request.unix)).unwrap_or(super::INFINITE),
        };
        if !recorded || !same || left < seconds / 2 {
            return Err(Drop::Busy);
        }
        let lease = Some((&slot.lease, left.min(seconds)));
        let reply = reply::positive(&self.config, &request.message, MessageType::Ack, lease, out)?;
        Ok(Outcome::Reply(reply))
    }

    /// The client's own slot at an address it gives up; nobody gives up for others.
    fn given_up(&self, request: &Request<'_>, ip: Ipv4Addr) -> Result<(u32, Phase), Drop> {
        if self.other_server(request) {
            return Err(Drop::OtherServer);
        }
        let slot = self.table.get(ip.to_bits()).ok_or(Drop::NotOwner)?;
        let held = matches!(slot.phase, Phase::Bound | Phase::Offered);
        if !held || slot.key != request.key || slot.lease.mac != request.mac {
            return Err(Drop::NotOwner);
        }
        Ok((slot.ip(), slot.phase))
    }

    /// RFC 2131 §4.3.3.
    fn decline(&mut self, request: &Request<'_>) -> Result<Outcome, Drop> {
        let ip = request.message.address(code::REQUESTED_IP).ok_or(Drop::NoAddress)?;
        let (bits, phase) = self.given_up(request, ip)?;
        if phase == Phase::Bound && !request.writable {
            return Err(Drop::Busy);
        }
        self.table.quarantine(bits, request.unix.saturating_add(QUARANTINE_SECONDS));
        match phase {
            Phase::Bound => Ok(Outcome::Release(Change::Remove(ip, request.mac))),
            _ => Err(Drop::Declined),
        }
    }

    /// RFC 2131 §4.3.4.
    fn release(&mut self, request: &Request<'_>) -> Result<Outcome, Drop> {
        let ip = request.message.ciaddr();
        let (bits, phase) = self.given_up(request, ip)?;
        if phase != Phase::Bound {
            return Err(Drop::NotOwner);
        }
        if !request.writable {
            return Err(Drop::Busy);
        }
        self.table.retire(bits, request.unix);
        Ok(Outcome::Release(Change::Remove(ip, request.mac)))
    }

    /// RFC 2131 §4.3.5.
    fn inform(&mut self, request: &Request<'_>, out: &mut [u8]) -> Result<Outcome, Drop> {
        let ciaddr = request.message.ciaddr();
        if ciaddr.is_unspecified() {
            return Err(Drop::NoAddress);
        }
        if !self.config.usable(ciaddr.to_bits()) {
            return Err(Drop::WrongNetwork);
        }
        let reply = reply::positive(&self.config, &request.message, MessageType::Ack, None, out)?;
        Ok(Outcome::Reply(reply))
    }
}

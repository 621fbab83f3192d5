//! A resolver's message made the client's.

use pontoon_wire::dns::{EDNS_SIZE, Header, age, edns, flag, rcode};

use super::request::Request;

/// Turns the resolver's message into the client's: its id, its case, its limits, and times that are `seconds` older.
/// Everything else stays byte for byte, for guests that validate.
pub(super) fn relay(
    request: &Request<'_>,
    header: &Header,
    end: usize,
    payload: &[u8],
    seconds: u32,
    reply: &mut [u8],
) -> usize {
    let Ok(found) = edns(payload, header, end) else {
        return request.answer(reply, flag::RA, rcode::SERVFAIL, |_| ());
    };
    // AD would vouch for a validation the guest cannot know happened on a trusted path
    let kept = header.flags & (flag::QR | flag::AA | flag::TC) | flag::RA;
    let code = header.rcode();
    let mut length = payload.len();
    let mut additionals = header.additionals;
    // RFC 6891 7: no OPT to one that sent none
    if let (Some(opt), None) = (found, request.edns)
        && opt.end == length
    {
        length = opt.start;
        additionals = additionals.saturating_sub(1);
    }
    if length > request.limit().min(reply.len()) {
        return request.answer(reply, kept & !flag::QR | flag::TC, code, |_| ());
    }
    let echoed = request.flags & (flag::RD | flag::CD);
    let flags = (kept | echoed | code).to_be_bytes();
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = reply.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, payload.get(..length).unwrap_or_default());
    put(0, &request.id.to_be_bytes());
    put(2, &flags);
    put(10, &additionals.to_be_bytes());
    put(12, request.question);
    if let Some(opt) = found.filter(|opt| opt.size > EDNS_SIZE && opt.end <= length) {
        put(opt.size_at, &EDNS_SIZE.to_be_bytes());
    }
    if seconds > 0 {
        age(reply.get_mut(..length).unwrap_or_default(), &Header { additionals, ..*header }, end, seconds);
    }
    length
}

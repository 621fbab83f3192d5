//! TCP headers (RFC 9293 3.1) with the two options that count here.

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

/// What a SYN without the option means (RFC 9293 3.7.1).
const DEFAULT_MSS: u16 = 536;
const LEAST_MSS: u16 = 48;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) mss: u16,
    /// Of the window (RFC 7323), at most 14.
    pub(crate) scale: Option<u8>,
}

impl Head {
    /// The header and what follows it.
    pub(crate) fn parse(octets: &[u8]) -> Option<(Self, &[u8])> {
        let fixed = octets.first_chunk::<20>()?;
        let length = usize::from(fixed[12] >> 4) * 4;
        let (header, payload) = octets.split_at_checked(length)?;
        let word = |at: usize| pontoon_wire::be32(fixed, at);
        let mut head = Self {
            sequence: word(4)?,
            acknowledgement: word(8)?,
            flags: fixed[13],
            window: u16::from_be_bytes([fixed[14], fixed[15]]),
            mss: DEFAULT_MSS,
            scale: None,
        };
        if head.flags & SYN != 0 {
            head.options(header.get(20..)?);
        }
        Some((head, payload))
    }

    fn options(&mut self, mut options: &[u8]) {
        while let [kind, rest @ ..] = options {
            let length = match (kind, rest) {
                (0, _) => return,
                (1, _) => 1,
                (2, [4, a, b, ..]) => {
                    self.mss = u16::from_be_bytes([*a, *b]).max(LEAST_MSS);
                    4
                }
                (3, [3, scale, ..]) => {
                    self.scale = Some((*scale).min(14));
                    3
                }
                (_, [length, ..]) => usize::from(*length).max(2),
                _ => return,
            };
            options = options.get(length..).unwrap_or_default();
        }
    }

    /// Sequence numbers a segment with so much payload takes.
    pub(crate) fn length(&self, payload: usize) -> u32 {
        payload as u32 + u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_a_syn_are_read_and_broken_ones_end_the_list() {
        let syn = |options: &[u8]| {
            let mut octets = vec![0; 20];
            octets[12] = ((20 + options.len()) / 4 * 16) as u8;
            octets[13] = SYN;
            octets.extend(options);
            Head::parse(&octets).map(|(head, _)| (head.mss, head.scale))
        };
        assert_eq!(syn(&[2, 4, 5, 180, 1, 3, 3, 7]), Some((1460, Some(7))));
        assert_eq!(syn(&[4, 2, 3, 3, 200, 1, 1, 0]), Some((536, Some(14))));
        assert_eq!(syn(&[2, 4, 0, 1]), Some((LEAST_MSS, None)));
        assert_eq!(syn(&[9, 0, 9, 0, 9, 0, 3, 3]), Some((536, None)));
        assert_eq!(syn(&[2, 200, 3, 3]), Some((536, None)));
        assert_eq!(Head::parse(&[0xff; 20]), None, "a header longer than the segment");
    }
}

//! One record as bytes: encoding and checking, without a file. The byte table is in the crate's documentation.

use crate::merkle::{Frontier, Hash};

/// Longest payload of a record, in bytes: a journal batch on the wire is 64 KiB too.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// Bytes in front of the payload.
pub(crate) const HEAD_BYTES: usize = 20;

/// Records begin at multiples of this many bytes, so that the search for the next one has few places to look at.
pub(crate) const ALIGN: usize = 8;

/// The smallest record: a head and its padding.
pub(crate) const FOOTPRINT_MIN: usize = 24;

/// Sequences stay below this: at a million records a second it is reached after 146,000 years, and no sum overflows.
pub(crate) const SEQUENCE_MAX: u64 = 1 << 62;

/// Leaves in one stubs record: as many as its payload has room for.
pub(crate) const STUBS_MAX: usize = PAYLOAD_BYTES_MAX / HASH_BYTES;

const HASH_BYTES: usize = 32;

/// The kind byte of a mark that is no record: whether a group begins with it.
const BEGINS_GROUP: u8 = 1;

/// What a record is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mark {
    /// The caller's, in a group but not first.
    Further = 0xA0,
    /// The caller's, and the first of its group.
    First = 0xA1,
    /// The frontier of the tree at `sequence`.
    Anchor = 0xA8,
    /// Leaves of records from `sequence` on whose payload was removed.
    Stubs = 0xA9,
    /// A signed checkpoint, as text.
    Note = 0xAA,
}

/// Where a segment's records belong; part of every checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) epoch: u64,
    pub(crate) segment: u32,
}

/// The head of a record, plausible but not yet proven by the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) payload_bytes: usize,
    pub(crate) checksum: u32,
    pub(crate) sequence: u64,
    pub(crate) kind: u8,
    pub(crate) mark: Mark,
}

impl Mark {
    fn of(byte: u8) -> Option<Self> {
        [Self::Further, Self::First, Self::Anchor, Self::Stubs, Self::Note].into_iter().find(|mark| *mark as u8 == byte)
    }
}

impl Head {
    /// Whether a group was begun with this, so that everything before it was committed.
    pub(crate) fn begins_group(&self) -> bool {
        match self.mark {
            Mark::First => true,
            Mark::Further => false,
            Mark::Anchor | Mark::Stubs | Mark::Note => self.kind == BEGINS_GROUP,
        }
    }

    /// Sequence of the record behind this one.
    pub(crate) fn next_sequence(&self) -> u64 {
        match self.mark {
            Mark::Further | Mark::First => self.sequence + 1,
            Mark::Stubs => self.sequence + (self.payload_bytes / HASH_BYTES) as u64,
            Mark::Anchor | Mark::Note => self.sequence,
        }
    }

    /// Whether the length is one that such a record has.
    fn is_plausible(&self) -> bool {
        let whole_hashes = self.payload_bytes.is_multiple_of(HASH_BYTES);
        let fits = match self.mark {
            Mark::Further | Mark::First | Mark::Note => true,
            Mark::Anchor => self.payload_bytes == self.sequence.count_ones() as usize * HASH_BYTES,
            Mark::Stubs => self.payload_bytes > 0 && whole_hashes,
        };
        fits && self.payload_bytes <= PAYLOAD_BYTES_MAX && self.sequence < SEQUENCE_MAX
    }
}

/// What twenty bytes can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Zeros: preallocated, not written.
    Blank,
    /// Could be the head of a record.
    Head(Head),
    /// Neither.
    Broken,
}

/// Bytes that a record with this payload takes up, padding included.
pub(crate) const fn footprint(payload_bytes: usize) -> usize {
    (HEAD_BYTES + payload_bytes).next_multiple_of(ALIGN)
}

/// Reads a head without judging the checksum. Fewer than twenty bytes are the end of a file.
pub(crate) fn look(bytes: &[u8]) -> Look {
    let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else {
        return if bytes.iter().all(|byte| *byte == 0) { Look::Blank } else { Look::Broken };
    };
    if *head == [0; HEAD_BYTES] {
        return Look::Blank;
    }
    let Some(mark) = Mark::of(head[17]) else {
        return Look::Broken;
    };
    let payload_bytes = u32_at(head, 0) as usize;
    let found = Head { payload_bytes, checksum: u32_at(head, 4), sequence: u64_at(head, 8), kind: head[16], mark };
    if found.is_plausible() && head[18..20] == [0, 0] { Look::Head(found) } else { Look::Broken }
}

/// The checksum of a whole record (head, payload, padding) that begins at `offset` of the segment at `place`.
pub(crate) fn checksum(place: Place, offset: u64, record: &[u8]) -> u32 {
    checksum_at(place, offset, &[&record[..4], &record[8..]])
}

/// A checksum over whereabouts and bytes: what strayed from elsewhere does not match.
pub(crate) fn checksum_at(place: Place, number: u64, parts: &[&[u8]]) -> u32 {
    let mut whereabouts = [0; 20];
    whereabouts[..8].copy_from_slice(&place.epoch.to_le_bytes());
    whereabouts[8..12].copy_from_slice(&place.segment.to_le_bytes());
    whereabouts[12..].copy_from_slice(&number.to_le_bytes());
    parts.iter().fold(crc32c::crc32c(&whereabouts), |sum, part| crc32c::crc32c_append(sum, part))
}

/// A record on its way into a group.
pub(crate) struct Draft<'a> {
    pub(crate) sequence: u64,
    pub(crate) kind: u8,
    pub(crate) mark: Mark,
    pub(crate) payload: &'a [u8],
}

/// Appends an anchor of `tree`. Its group begins with it when `out` is empty.
pub(crate) fn encode_anchor(out: &mut Vec<u8>, place: Place, offset: u64, tree: &Frontier) {
    let payload: Vec<u8> = tree.nodes().iter().flat_map(|node| node.0).collect();
    encode_aside(out, place, offset, Mark::Anchor, tree.size(), &payload);
}

/// Appends a record that is not the caller's, for `offset` where `out` begins. Its group begins with it when `out` is
/// empty.
pub(crate) fn encode_aside(out: &mut Vec<u8>, place: Place, offset: u64, mark: Mark, sequence: u64, payload: &[u8]) {
    let kind = if out.is_empty() { BEGINS_GROUP } else { 0 };
    let offset = offset + out.len() as u64;
    encode(out, place, offset, &Draft { sequence, kind, mark, payload });
}

/// The hashes that the payload of an anchor or of stubs consists of.
pub(crate) fn hashes(payload: &[u8]) -> impl Iterator<Item = Hash> + '_ {
    payload.as_chunks::<HASH_BYTES>().0.iter().map(|bytes| Hash(*bytes))
}

/// Appends the record's bytes to `out`, for `offset` of the segment at `place`. The payload is within its limit.
pub(crate) fn encode(out: &mut Vec<u8>, place: Place, offset: u64, draft: &Draft<'_>) {
    let start = out.len();
    let length = u32::try_from(draft.payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&draft.sequence.to_le_bytes());
    out.push(draft.kind);
    out.push(draft.mark as u8);
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(draft.payload);
    out.resize(start + footprint(draft.payload.len()), 0);
    let sum = checksum(place, offset, &out[start..]);
    out[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { epoch: 7, segment: 3 };

    fn sample() -> Vec<u8> {
        let mut out = Vec::new();
        let draft = Draft { sequence: 42, kind: 3, mark: Mark::First, payload: b"abc" };
        encode(&mut out, PLACE, 4224, &draft);
        out
    }

    /// Added to, never edited: a byte that changes here makes every journal in the field unreadable.
    #[test]
    fn the_bytes_of_a_record_are_pinned() {
        let expected = [
            0x03, 0x00, 0x00, 0x00, // length
            0x26, 0xE6, 0x9F, 0xC1, // CRC32C
            0x2A, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, // sequence
            0x03, // kind
            0xA1, // first of its group
            0x00, 0x00, // reserved
            0x61, 0x62, 0x63, // payload
            0x00, // padding
        ];
        assert_eq!(sample(), expected);
    }

    /// Added to, never edited. The checksums were computed by another program.
    #[test]
    fn the_bytes_of_what_is_not_the_callers_are_pinned() {
        let of = |mark, sequence, payload: &[u8]| {
            let mut out = Vec::new();
            encode_aside(&mut out, PLACE, 4224, mark, sequence, payload);
            out
        };
        let mut anchor = b"\x20\0\0\0\xA5\xFF\x3D\xC5\x01\0\0\0\0\0\0\0\x01\xA8\0\0".to_vec();
        anchor.extend_from_slice(&[0x11; 32]);
        anchor.resize(56, 0);
        assert_eq!(of(Mark::Anchor, 1, &[0x11; 32]), anchor);
        assert_eq!(of(Mark::Note, 9, b"note")[16..], *b"\x01\xAA\0\0note");

        let mut stubs = Vec::new();
        let draft = Draft { sequence: 5, kind: 0, mark: Mark::Stubs, payload: &[0x22; 64] };
        encode(&mut stubs, PLACE, 4224, &draft);
        let mut expected = b"\x40\0\0\0\x74\x98\xD8\xE6\x05\0\0\0\0\0\0\0\0\xA9\0\0".to_vec();
        expected.extend_from_slice(&[0x22; 64]);
        expected.resize(88, 0);
        assert_eq!(stubs, expected);

        let mut note = Vec::new();
        let draft = Draft { sequence: 9, kind: 0, mark: Mark::Note, payload: b"note" };
        encode(&mut note, PLACE, 4224, &draft);
        assert_eq!(note, *b"\x04\0\0\0\xCD\x72\x99\xAA\x09\0\0\0\0\0\0\0\0\xAA\0\0note");
    }

    #[test]
    fn a_head_whose_length_does_not_fit_its_mark_is_no_record() {
        let head = |mark: Mark, sequence: u64, bytes: u32| {
            let mut head = [0; 24];
            head[..4].copy_from_slice(&bytes.to_le_bytes());
            head[8..16].copy_from_slice(&sequence.to_le_bytes());
            head[17] = mark as u8;
            matches!(look(&head), Look::Head(_))
        };
        assert!(head(Mark::Anchor, 5, 64) && !head(Mark::Anchor, 5, 32) && head(Mark::Anchor, 0, 0));
        assert!(head(Mark::Stubs, 5, 65_536) && !head(Mark::Stubs, 5, 0) && !head(Mark::Stubs, 5, 33));
        assert!(head(Mark::First, 5, 65_536) && !head(Mark::First, 5, 65_537) && !head(Mark::First, SEQUENCE_MAX, 1));
    }

    #[test]
    fn a_record_is_only_true_at_its_own_place() {
        let record = sample();
        let sum = u32_at(&record, 4);
        assert_eq!(checksum(PLACE, 4224, &record), sum);
        assert_ne!(checksum(PLACE, 4232, &record), sum);
        assert_ne!(checksum(Place { epoch: 8, ..PLACE }, 4224, &record), sum);
        assert_ne!(checksum(Place { segment: 4, ..PLACE }, 4224, &record), sum);
    }

    #[test]
    fn zeros_are_blank_and_never_a_record() {
        assert_eq!(look(&[0; 64]), Look::Blank);
        assert_eq!(look(&[0; 3]), Look::Blank);
        assert_eq!(look(&[0, 1]), Look::Broken);
    }
}

//! One record as bytes: encoding and checking, without a file. The byte table is in the crate's documentation.

/// Longest payload of a record, in bytes: a journal batch on the wire is 64 KiB too.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// Bytes in front of the payload.
pub(crate) const HEAD_BYTES: usize = 20;

/// Records begin at multiples of this many bytes, so that the search for the next one has few places to look at.
pub(crate) const ALIGN: usize = 8;

/// The smallest record: a head and its padding.
pub(crate) const FOOTPRINT_MIN: usize = 24;

const MARK_FIRST: u8 = 0xA1;
const MARK_FURTHER: u8 = 0xA0;

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
    pub(crate) first_of_group: bool,
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
    let payload_bytes = u32_at(head, 0) as usize;
    let first_of_group = match head[17] {
        MARK_FIRST => true,
        MARK_FURTHER => false,
        _ => return Look::Broken,
    };
    if payload_bytes > PAYLOAD_BYTES_MAX || head[18..20] != [0, 0] {
        return Look::Broken;
    }
    Look::Head(Head {
        payload_bytes,
        checksum: u32_at(head, 4),
        sequence: u64_at(head, 8),
        kind: head[16],
        first_of_group,
    })
}

/// The checksum of a whole record (head, payload, padding) that begins at `offset` of the segment at `place`.
pub(crate) fn checksum(place: Place, offset: u64, record: &[u8]) -> u32 {
    let mut whereabouts = [0; 20];
    whereabouts[..8].copy_from_slice(&place.epoch.to_le_bytes());
    whereabouts[8..12].copy_from_slice(&place.segment.to_le_bytes());
    whereabouts[12..].copy_from_slice(&offset.to_le_bytes());
    let sum = crc32c::crc32c(&whereabouts);
    let sum = crc32c::crc32c_append(sum, &record[..4]);
    crc32c::crc32c_append(sum, &record[8..])
}

/// A record on its way into a group.
pub(crate) struct Draft<'a> {
    pub(crate) sequence: u64,
    pub(crate) kind: u8,
    pub(crate) first_of_group: bool,
    pub(crate) payload: &'a [u8],
}

/// Appends the record's bytes to `out`, for `offset` of the segment at `place`. The payload is within its limit.
pub(crate) fn encode(out: &mut Vec<u8>, place: Place, offset: u64, draft: &Draft<'_>) {
    let start = out.len();
    let length = u32::try_from(draft.payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&draft.sequence.to_le_bytes());
    out.push(draft.kind);
    out.push(if draft.first_of_group { MARK_FIRST } else { MARK_FURTHER });
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
        let draft = Draft { sequence: 42, kind: 3, first_of_group: true, payload: b"abc" };
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

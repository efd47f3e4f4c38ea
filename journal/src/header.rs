//! The header of a segment as bytes. The byte table is in the crate's documentation.

use crate::record::{u32_at, u64_at};

/// Bytes of one header.
pub(crate) const HEADER_BYTES: usize = 128;

/// Where the second copy stands: in a page of its own, so that one bad page does not take both.
pub(crate) const COPY_AT: u64 = 4096;

/// Where records begin.
pub(crate) const DATA_AT: u64 = COPY_AT + HEADER_BYTES as u64;

const MAGIC: &[u8; 8] = b"VEDETTEJ";
const VERSION: u32 = 1;
const CHECKSUM_AT: usize = HEADER_BYTES - 4;

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) segment: u32,
    pub(crate) epoch: u64,
    pub(crate) first_sequence: u64,
}

/// What 128 bytes can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Header(Header),
    /// Whole, and of a format that this program does not know.
    Future(u32),
    Broken,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&self.segment.to_le_bytes());
        out[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        out[24..32].copy_from_slice(&self.first_sequence.to_le_bytes());
        let sum = crc32c::crc32c(&out[..CHECKSUM_AT]);
        out[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
        out
    }
}

pub(crate) fn look(bytes: &[u8]) -> Look {
    let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Look::Broken;
    };
    if bytes[..8] != *MAGIC || u32_at(bytes, CHECKSUM_AT) != crc32c::crc32c(&bytes[..CHECKSUM_AT]) {
        return Look::Broken;
    }
    match u32_at(bytes, 8) {
        VERSION => Look::Header(Header {
            segment: u32_at(bytes, 12),
            epoch: u64_at(bytes, 16),
            first_sequence: u64_at(bytes, 24),
        }),
        future => Look::Future(future),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_the_way_there_and_back_and_no_flipped_bit() {
        let header = Header { segment: 9, epoch: 77, first_sequence: 12_345 };
        let bytes = header.encode();
        assert_eq!(look(&bytes), Look::Header(header));
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(look(&flipped), Look::Broken, "bit {bit}");
        }
    }

    #[test]
    fn a_newer_format_is_named_and_not_guessed_at() {
        let mut bytes = Header { segment: 0, epoch: 1, first_sequence: 0 }.encode();
        bytes[8] = 2;
        let sum = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(look(&bytes), Look::Future(2));
    }
}

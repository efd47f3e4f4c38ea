//! The first bytes of a segment: header, frontier, and the header again. The byte table is in the crate's documentation.

use crate::merkle::{Frontier, Hash};
use crate::record::{self, Place, SEQUENCE_MAX, u32_at, u64_at};

/// Bytes of one header.
pub(crate) const HEADER_BYTES: usize = 128;

/// Where the second copy stands: in a page of its own, so that one bad page does not take both.
pub(crate) const COPY_AT: u64 = 4096;

/// Where records begin.
pub(crate) const DATA_AT: u64 = COPY_AT + HEADER_BYTES as u64;

/// Bytes in front of the records.
pub(crate) const FRONT_BYTES: usize = DATA_AT as usize;

const MAGIC: &[u8; 8] = b"VEDETTEJ";
const VERSION: u32 = 2;
const CHECKSUM_AT: usize = HEADER_BYTES - 4;
/// Where the frontier's nodes stand, behind their count.
const NODES_AT: usize = HEADER_BYTES + 4;
const FRONTIER_CHECKSUM_AT: usize = COPY_AT as usize - 4;

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) segment: u32,
    pub(crate) epoch: u64,
    pub(crate) first_sequence: u64,
    /// Of the tree over all records before the first one.
    pub(crate) root: Hash,
    /// Bytes that were reserved for the file: one that is shorter was closed, and does not end in blank room.
    pub(crate) capacity: u64,
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
    pub(crate) fn place(&self) -> Place {
        Place { epoch: self.epoch, segment: self.segment }
    }

    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&self.segment.to_le_bytes());
        out[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        out[24..32].copy_from_slice(&self.first_sequence.to_le_bytes());
        out[32..64].copy_from_slice(&self.root.0);
        out[64..72].copy_from_slice(&self.capacity.to_le_bytes());
        let sum = crc32c::crc32c(&out[..CHECKSUM_AT]);
        out[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Everything in front of the records: the header, `tree` if it is known, the header again.
    pub(crate) fn encode_front(&self, tree: Option<&Frontier>) -> Vec<u8> {
        let header = self.encode();
        let mut out = vec![0; FRONT_BYTES];
        out[..HEADER_BYTES].copy_from_slice(&header);
        out[COPY_AT as usize..].copy_from_slice(&header);
        if let Some(tree) = tree {
            out[HEADER_BYTES..NODES_AT].copy_from_slice(&tree.size().count_ones().to_le_bytes());
            for (slot, node) in out[NODES_AT..FRONTIER_CHECKSUM_AT].chunks_exact_mut(32).zip(tree.nodes()) {
                slot.copy_from_slice(&node.0);
            }
            let sum = self.frontier_checksum(&out[HEADER_BYTES..FRONTIER_CHECKSUM_AT]);
            out[FRONTIER_CHECKSUM_AT..COPY_AT as usize].copy_from_slice(&sum.to_le_bytes());
        }
        out
    }

    /// The frontier in the bytes in front of the records, if it is whole and has the header's root.
    pub(crate) fn frontier(&self, front: &[u8]) -> Option<Frontier> {
        let area = front.get(HEADER_BYTES..COPY_AT as usize)?;
        let (area, sum) = area.split_at(FRONTIER_CHECKSUM_AT - HEADER_BYTES);
        if self.frontier_checksum(area) != u32_at(sum, 0) {
            return None;
        }
        let nodes = record::hashes(&area[4..]).take(u32_at(area, 0) as usize).collect();
        Frontier::from_parts(self.first_sequence, nodes).filter(|tree| tree.root() == self.root)
    }

    /// Bound to the segment, as the records are.
    fn frontier_checksum(&self, area: &[u8]) -> u32 {
        record::checksum_at(self.place(), self.first_sequence, &[area])
    }
}

pub(crate) fn look(bytes: &[u8]) -> Look {
    let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Look::Broken;
    };
    if bytes[..8] != *MAGIC || u32_at(bytes, CHECKSUM_AT) != crc32c::crc32c(&bytes[..CHECKSUM_AT]) {
        return Look::Broken;
    }
    let mut root = [0; 32];
    root.copy_from_slice(&bytes[32..64]);
    let header = Header {
        segment: u32_at(bytes, 12),
        epoch: u64_at(bytes, 16),
        first_sequence: u64_at(bytes, 24),
        root: Hash(root),
        capacity: u64_at(bytes, 64),
    };
    match u32_at(bytes, 8) {
        VERSION if header.first_sequence < SEQUENCE_MAX => Look::Header(header),
        // Version 1 had no tree; it was never given to anybody.
        0..=VERSION => Look::Broken,
        future => Look::Future(future),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::merkle::{empty_root, leaf};

    fn sample(tree: &Frontier) -> Header {
        Header { segment: 9, epoch: 77, first_sequence: tree.size(), root: tree.root(), capacity: 1 << 20 }
    }

    fn tree(size: u64) -> Frontier {
        let mut tree = Frontier::default();
        (0..size).for_each(|i| tree.push(leaf(&i.to_le_bytes())));
        tree
    }

    #[test]
    fn a_header_survives_the_way_there_and_back_and_no_flipped_bit() {
        let header = sample(&tree(45));
        let bytes = header.encode();
        assert_eq!(look(&bytes), Look::Header(header));
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(look(&flipped), Look::Broken, "bit {bit}");
        }
    }

    #[test]
    fn a_frontier_survives_in_its_segment_alone_and_no_flipped_bit() {
        for size in [0, 1, 45, 255, 256] {
            let tree = tree(size);
            let header = sample(&tree);
            let front = header.encode_front(Some(&tree));
            assert_eq!(header.frontier(&front), Some(tree));
            assert_eq!(Header { segment: 8, ..header }.frontier(&front), None);
            assert_eq!(Header { root: leaf(b"other"), ..header }.frontier(&front), None);
        }
        let tree = tree(45);
        let front = sample(&tree).encode_front(Some(&tree));
        for bit in HEADER_BYTES * 8..COPY_AT as usize * 8 {
            let mut flipped = front.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(sample(&tree).frontier(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn a_frontier_that_is_not_known_is_not_there() {
        let header = sample(&tree(45));
        assert_eq!(header.frontier(&header.encode_front(None)), None);
    }

    /// Added to, never edited: a byte that changes here makes every journal in the field unreadable.
    #[test]
    fn the_bytes_in_front_of_the_records_are_pinned() {
        let mut tree = Frontier::default();
        tree.push(Hash([0x11; 32]));
        let header = Header { segment: 3, epoch: 7, first_sequence: 1, root: tree.root(), capacity: 0x4000 };
        let front = header.encode_front(Some(&tree));
        let mut expected = Vec::new();
        expected.extend_from_slice(b"VEDETTEJ\x02\0\0\0\x03\0\0\0\x07\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0");
        expected.extend_from_slice(&[0x11; 32]);
        expected.extend_from_slice(b"\0\x40\0\0\0\0\0\0");
        expected.resize(124, 0);
        expected.extend_from_slice(&PINNED_HEADER_CHECKSUM);
        expected.extend_from_slice(b"\x01\0\0\0");
        expected.extend_from_slice(&[0x11; 32]);
        expected.resize(4092, 0);
        expected.extend_from_slice(&PINNED_FRONTIER_CHECKSUM);
        let header = expected[..128].to_vec();
        expected.extend_from_slice(&header);
        assert!(front == expected, "other bytes");
    }

    const PINNED_HEADER_CHECKSUM: [u8; 4] = [244, 175, 186, 154];
    const PINNED_FRONTIER_CHECKSUM: [u8; 4] = [129, 55, 105, 125];

    #[test]
    fn a_newer_format_is_named_and_not_guessed_at_and_the_first_one_is_not_believed() {
        for (version, expected) in [(3, Look::Future(3)), (1, Look::Broken)] {
            let mut bytes =
                Header { segment: 0, epoch: 1, first_sequence: 0, root: empty_root(), capacity: 0 }.encode();
            bytes[8] = version;
            let sum = crc32c::crc32c(&bytes[..CHECKSUM_AT]);
            bytes[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
            assert_eq!(look(&bytes), expected);
        }
    }
}

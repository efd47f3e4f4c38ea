//! The Merkle tree over the records (RFC 6962 §2.1, SHA-256), as pure arithmetic: hashes in, hashes out.
//!
//! Leaf `i` is the record with sequence `i`, so a tree of size `n` speaks for the records `0..n`. Nothing here holds a
//! tree: a [`Frontier`] is all that a growing log keeps of it, and a proof is a list of ranges of leaves
//! ([`inclusion_ranges`], [`consistency_ranges`]) of which whoever has the leaves computes the roots.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use ring::digest::{Context, SHA256};

/// In front of a record, so that no record is taken for a node (RFC 6962 §2.1).
const LEAF_PREFIX: u8 = 0;
/// In front of two hashes, so that no node is taken for a record.
const NODE_PREFIX: u8 = 1;

/// Largest tree that a [`Frontier`] can be made for: at a million records a second it is full in 292,000 years.
const SIZE_MAX: u64 = 1 << 63;

/// A SHA-256 hash: of a leaf, of a node, or of a whole tree. Shown and parsed as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

/// A text that is not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a SHA-256 hash: 64 hexadecimal digits are expected")]
pub struct NotAHash;

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(NotAHash);
        }
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(out))
    }
}

fn nibble(digit: u8) -> Result<u8, NotAHash> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(NotAHash),
    }
}

fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    Hash(out)
}

/// The leaf of a record.
pub fn leaf(record: &[u8]) -> Hash {
    sha256(&[&[LEAF_PREFIX], record])
}

/// The leaf in the place of a record that is lost for good, or of a sequence that was never given to one.
pub fn lost_leaf(sequence: u64) -> Hash {
    leaf(format!("vedette lost record {sequence}").as_bytes())
}

/// The node over two subtrees.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[NODE_PREFIX], &left.0, &right.0])
}

/// The root of the tree without a leaf: the hash of nothing.
pub fn empty_root() -> Hash {
    sha256(&[])
}

/// What is needed of a tree to let it grow and to know its root: the roots of its largest complete subtrees, one for
/// each bit of the size that is set, largest (leftmost) first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    nodes: Vec<Hash>,
}

impl Frontier {
    /// Puts a frontier together from what was stored of it; `None` when a tree of this size has another number of
    /// nodes, or is larger than 2^63.
    pub fn from_parts(size: u64, nodes: Vec<Hash>) -> Option<Self> {
        (size <= SIZE_MAX && nodes.len() == size.count_ones() as usize).then_some(Self { size, nodes })
    }

    /// Adds the next leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut right = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.nodes.pop() {
                right = node(&left, &right);
            }
        }
        self.nodes.push(right);
        self.size += 1;
    }

    /// Leaves in the tree.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the complete subtrees, largest first.
    pub fn nodes(&self) -> &[Hash] {
        &self.nodes
    }

    /// The root of the whole tree.
    pub fn root(&self) -> Hash {
        let folded = self.nodes.iter().rev().copied().reduce(|right, left| node(&left, &right));
        folded.unwrap_or_else(empty_root)
    }

    /// The frontier of the leaves `from..size` as a tree of their own, if the complete subtrees of this one have a
    /// border at `from`.
    pub(crate) fn behind(&self, from: u64) -> Option<Self> {
        let size = self.size.checked_sub(from)?;
        // The subtrees before a border are the larger ones: the upper bits of the size.
        let before = from.count_ones() as usize;
        let border = from == 0 || from.trailing_zeros() >= bits(size);
        border.then(|| Self { size, nodes: self.nodes[before..].to_vec() })
    }
}

impl Frontier {
    /// The root over the leaves in `range`, if that is one of the nodes.
    pub(crate) fn node_over(&self, range: &Range<u64>) -> Option<Hash> {
        let mut rest = self.size;
        for node in &self.nodes {
            let start = self.size - rest;
            rest &= !(1 << (bits(rest) - 1));
            if *range == (start..self.size - rest) {
                return Some(*node);
            }
        }
        None
    }
}

/// Bits that it takes to write `value`.
fn bits(value: u64) -> u32 {
    u64::BITS - value.leading_zeros()
}

/// The subtrees, each as its range of leaves, whose roots prove that leaf `index` is in the tree of `size`: in the
/// order of the proof, from the leaf's neighbour up (RFC 6962 §2.1.1). Empty when there is no such leaf.
pub fn inclusion_ranges(index: u64, size: u64) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    if index >= size {
        return ranges;
    }
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            ranges.push(middle..end);
            end = middle;
        } else {
            ranges.push(start..middle);
            start = middle;
        }
    }
    ranges.reverse();
    ranges
}

/// The subtrees, each as its range of leaves, whose roots prove that the tree of size `to` begins with the tree of size
/// `from`: in the order of the proof (RFC 6962 §2.1.2). Empty when nothing needs proof: `from` is 0, or not below `to`.
pub fn consistency_ranges(from: u64, to: u64) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    if from == 0 || from >= to {
        return ranges;
    }
    let (mut start, mut end) = (0, to);
    while end != from {
        let middle = start + split(end - start);
        if from <= middle {
            ranges.push(middle..end);
            end = middle;
        } else {
            ranges.push(start..middle);
            start = middle;
        }
    }
    // The verifier has the root of the whole old tree; a part of it must be told.
    if start != 0 {
        ranges.push(start..end);
    }
    ranges.reverse();
    ranges
}

/// Largest power of two below `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (bits(size - 1) - 1)
}

/// Whether `proof` shows that `leaf` is number `index` in the tree with this `size` and `root`.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, root: &Hash, proof: &[Hash]) -> bool {
    let ranges = inclusion_ranges(index, size);
    if index >= size || ranges.len() != proof.len() {
        return false;
    }
    let climbed = ranges.iter().zip(proof).fold(*leaf, |below, (range, sibling)| {
        if range.start > index { node(&below, sibling) } else { node(sibling, &below) }
    });
    climbed == *root
}

/// Whether `proof` shows that the tree of size `to` begins with the tree of size `from`. From the empty tree it always
/// does; to itself it does without a proof; to a smaller one it never does.
pub fn verify_consistency(from: u64, from_root: &Hash, to: u64, to_root: &Hash, proof: &[Hash]) -> bool {
    if from == 0 {
        return proof.is_empty() && *from_root == empty_root();
    }
    if from == to {
        return proof.is_empty() && from_root == to_root;
    }
    let ranges = consistency_ranges(from, to);
    if from > to || ranges.len() != proof.len() {
        return false;
    }
    // Below this subtree both trees are the same; it is the whole old tree, or the first element of the proof.
    let given = usize::from(ranges.first().is_some_and(|first| first.end == from));
    let same = if given == 1 { proof[0] } else { *from_root };
    let (mut old, mut new) = (same, same);
    for (range, sibling) in ranges.iter().zip(proof).skip(given) {
        if range.start >= from {
            new = node(&new, sibling);
        } else {
            old = node(sibling, &old);
            new = node(sibling, &new);
        }
    }
    old == *from_root && new == *to_root
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The eight leaves that the reference tests of Certificate Transparency use, and the roots of their trees.
    const LEAVES: [&[u8]; 8] = [
        b"",
        &[0x00],
        &[0x10],
        &[0x20, 0x21],
        &[0x30, 0x31],
        &[0x40, 0x41, 0x42, 0x43],
        &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
        &[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f],
    ];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn hash(text: &str) -> Hash {
        text.parse().unwrap()
    }

    #[test]
    fn the_published_trees_have_their_published_roots() {
        let mut frontier = Frontier::default();
        assert_eq!(frontier.root(), hash(ROOTS[0]));
        for (record, root) in LEAVES.into_iter().zip(&ROOTS[1..]) {
            frontier.push(leaf(record));
            assert_eq!(frontier.root(), hash(root), "size {}", frontier.size());
        }
    }

    /// The root of any run of leaves, straight from the definition of RFC 6962.
    fn by_definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            more => {
                let middle = (1..).map(|bit| 1 << bit).find(|power| power * 2 >= more.len()).unwrap();
                let middle = if more.len() == 2 { 1 } else { middle };
                node(&by_definition(&more[..middle]), &by_definition(&more[middle..]))
            }
        }
    }

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|i| leaf(&i.to_le_bytes())).collect()
    }

    #[test]
    fn a_frontier_of_every_size_has_the_root_by_definition_and_one_node_a_bit() {
        let leaves = leaves(300);
        let mut frontier = Frontier::default();
        for size in 0..leaves.len() {
            assert_eq!(frontier.root(), by_definition(&leaves[..size]));
            assert_eq!(frontier.nodes().len(), size.count_ones() as usize);
            let again = Frontier::from_parts(frontier.size(), frontier.nodes().to_vec()).unwrap();
            assert_eq!(again, frontier);
            frontier.push(leaves[size]);
        }
    }

    #[test]
    fn a_frontier_with_the_wrong_number_of_nodes_is_refused() {
        assert!(Frontier::from_parts(3, leaves(1)).is_none());
        assert!(Frontier::from_parts(3, leaves(3)).is_none());
        assert!(Frontier::from_parts(0, leaves(1)).is_none());
        assert!(Frontier::from_parts(u64::MAX, leaves(64)).is_none());
        assert_eq!(Frontier::from_parts(0, Vec::new()), Some(Frontier::default()));
    }

    #[test]
    fn the_part_of_a_frontier_behind_a_border_is_the_frontier_of_the_leaves_there_and_there_are_no_other_borders() {
        let leaves = leaves(200);
        let mut whole = Frontier::default();
        for (size, next) in leaves.iter().enumerate() {
            let mut borders = vec![0];
            for bit in (0..64).rev().filter(|bit| size >> bit & 1 == 1) {
                borders.push(borders.last().unwrap() + (1 << bit));
            }
            for from in 0..=size {
                let mut part = Frontier::default();
                leaves[from..size].iter().for_each(|leaf| part.push(*leaf));
                let found = whole.behind(from as u64);
                assert_eq!(found, borders.contains(&from).then_some(part), "{from} of {size}");
            }
            whole.push(*next);
        }
        assert_eq!(whole.behind(201), None);
    }

    #[test]
    fn the_nodes_of_a_frontier_are_found_by_their_leaves_and_by_nothing_else() {
        let leaves = leaves(100);
        let mut tree = Frontier::default();
        for (size, next) in leaves.iter().enumerate() {
            let mut found = 0;
            for from in 0..=size {
                for to in from + 1..=size {
                    if let Some(node) = tree.node_over(&(from as u64..to as u64)) {
                        assert_eq!(node, by_definition(&leaves[from..to]));
                        found += 1;
                    }
                }
            }
            assert_eq!(found, size.count_ones());
            tree.push(*next);
        }
    }

    #[test]
    fn proofs_of_the_published_tree_are_the_published_ones() {
        // The reference paths of Certificate Transparency, leaf numbers from 0.
        let path = |index, size| -> Vec<Hash> {
            let all: Vec<_> = LEAVES.iter().map(|record| leaf(record)).collect();
            inclusion_ranges(index, size)
                .into_iter()
                .map(|r| by_definition(&all[r.start as usize..r.end as usize]))
                .collect()
        };
        let expected = [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ];
        assert_eq!(path(0, 8), expected.map(hash));
        let expected = [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ];
        assert_eq!(path(5, 8), expected.map(hash));
        assert_eq!(path(2, 3), [hash(ROOTS[2])]);
        assert_eq!(consistency_ranges(1, 8), [1..2, 2..4, 4..8]);
        assert_eq!(consistency_ranges(6, 8), [4..6, 6..8, 0..4]);
        assert_eq!(consistency_ranges(2, 5), [2..4, 4..5]);
        assert_eq!(consistency_ranges(4, 8), vec![Range { start: 4, end: 8 }]);
    }

    #[test]
    fn hashes_come_back_from_their_text_and_other_texts_do_not() {
        let some = leaf(b"x");
        assert_eq!(hash(&some.to_string()), some);
        assert_eq!(hash(&some.to_string().to_uppercase()), some);
        for wrong in ["", "00", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(wrong.parse::<Hash>(), Err(NotAHash), "{wrong}");
        }
    }

    #[test]
    fn a_lost_record_has_a_leaf_of_its_own() {
        assert_eq!(lost_leaf(7), leaf(b"vedette lost record 7"));
        assert_ne!(lost_leaf(7), lost_leaf(8));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let some = leaf(b"x");
        assert_eq!(inclusion_ranges(u64::MAX - 1, u64::MAX).len(), 63);
        assert!(inclusion_ranges(u64::MAX, u64::MAX).is_empty());
        assert!(!verify_inclusion(&some, u64::MAX, u64::MAX, &some, &[]));
        assert!(!verify_consistency(u64::MAX - 1, &some, u64::MAX, &some, &[some; 3]));
        assert!(!verify_consistency(u64::MAX, &some, 1, &some, &[]));
    }
}

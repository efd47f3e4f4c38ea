//! Our tree against somebody else's: proofs of ours are believed there, byte for byte the same, and what is altered is
//! believed nowhere.

use std::ops::Range;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use sha2::Sha256;
use vedette_journal::{
    Frontier, Hash, consistency_ranges, empty_root, inclusion_ranges, leaf, verify_consistency, verify_inclusion,
};

/// Largest tree; two more than a power of two.
const SIZE_MAX: u64 = 130;

/// Trees of every size up to [`SIZE_MAX`]: theirs, and our roots.
struct Trees {
    theirs: Vec<RootHash<Sha256>>,
    ours: Vec<Hash>,
    leaves: Vec<Hash>,
    whole: Vec<MemoryBackedTree<Sha256, Vec<u8>>>,
}

fn record(index: u64) -> Vec<u8> {
    // All different, of many lengths, and the first one is empty.
    index.to_le_bytes().repeat(3)[..(index as usize % 24).max(index.min(1) as usize)].to_vec()
}

fn grow() -> Trees {
    let (mut tree, mut frontier) = (MemoryBackedTree::<Sha256, Vec<u8>>::new(), Frontier::default());
    let mut trees = Trees { theirs: Vec::new(), ours: Vec::new(), leaves: Vec::new(), whole: Vec::new() };
    for index in 0..=SIZE_MAX {
        trees.theirs.push(tree.root());
        trees.ours.push(frontier.root());
        trees.whole.push(tree.clone());
        trees.leaves.push(leaf(&record(index)));
        tree.push(record(index));
        frontier.push(leaf(&record(index)));
    }
    trees
}

fn roots(leaves: &[Hash], ranges: Vec<Range<u64>>) -> Vec<Hash> {
    let root = |range: Range<u64>| {
        let mut frontier = Frontier::default();
        leaves[range.start as usize..range.end as usize].iter().for_each(|leaf| frontier.push(*leaf));
        frontier.root()
    };
    ranges.into_iter().map(root).collect()
}

fn bytes(proof: &[Hash]) -> Vec<u8> {
    proof.iter().flat_map(|hash| hash.0).collect()
}

#[test]
fn every_root_is_theirs() {
    let trees = grow();
    for (ours, theirs) in trees.ours.iter().zip(&trees.theirs) {
        assert_eq!(ours.0, *theirs.as_bytes().as_slice());
    }
    assert_eq!(trees.ours[0], empty_root());
}

#[test]
fn every_inclusion_proof_is_theirs_and_believed_on_both_sides() {
    let trees = grow();
    for size in 1..=SIZE_MAX {
        let root = &trees.ours[size as usize];
        for index in 0..size {
            let proof = roots(&trees.leaves, inclusion_ranges(index, size));
            let theirs = trees.whole[size as usize].prove_inclusion(index as usize);
            assert_eq!(bytes(&proof), theirs.as_bytes(), "{index} in {size}");
            assert!(verify_inclusion(&trees.leaves[index as usize], index, size, root, &proof));
            let proof = InclusionProof::try_from_bytes(bytes(&proof)).unwrap();
            trees.theirs[size as usize].verify_inclusion(&record(index), index, &proof).unwrap();
        }
    }
}

#[test]
fn every_consistency_proof_is_theirs_and_believed_on_both_sides() {
    let trees = grow();
    for to in 1..=SIZE_MAX {
        for from in 1..to {
            let proof = roots(&trees.leaves, consistency_ranges(from, to));
            let theirs = trees.whole[to as usize].prove_consistency((to - from) as usize);
            assert_eq!(bytes(&proof), theirs.as_bytes(), "{from} in {to}");
            let (old, new) = (&trees.ours[from as usize], &trees.ours[to as usize]);
            assert!(verify_consistency(from, old, to, new, &proof));
            let proof = ConsistencyProof::try_from_bytes(bytes(&proof)).unwrap();
            trees.theirs[to as usize].verify_consistency(&trees.theirs[from as usize], &proof).unwrap();
        }
    }
}

/// The proof with one element altered, one left out, one added: all that is not it.
fn altered(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut all = Vec::new();
    for at in 0..proof.len() {
        for bit in [0, 77, 255] {
            let mut flipped = proof.to_vec();
            flipped[at].0[bit / 8] ^= 1 << (bit % 8);
            all.push(flipped);
        }
        let mut shorter = proof.to_vec();
        shorter.remove(at);
        all.push(shorter);
        let mut swapped = proof.to_vec();
        swapped.swap(at, 0);
        if at != 0 {
            all.push(swapped);
        }
    }
    for at in 0..=proof.len() {
        let mut longer = proof.to_vec();
        longer.insert(at, leaf(b"added"));
        all.push(longer);
    }
    all
}

/// Numbers that are not this one: its neighbours, and those that differ from it in one bit.
fn others(number: u64) -> impl Iterator<Item = u64> {
    let bits = (0..8).map(move |bit| number ^ (1 << bit));
    bits.chain([number + 1, number.saturating_sub(1)]).filter(move |other| *other != number && *other < SIZE_MAX)
}

#[test]
fn no_inclusion_proof_is_believed_with_anything_altered() {
    let trees = grow();
    for size in 1..=SIZE_MAX {
        let root = &trees.ours[size as usize];
        for index in 0..size {
            let leaf = &trees.leaves[index as usize];
            let proof = roots(&trees.leaves, inclusion_ranges(index, size));
            for altered in altered(&proof) {
                assert!(!verify_inclusion(leaf, index, size, root, &altered), "{index} in {size}");
            }
            for other in others(index) {
                assert!(!verify_inclusion(leaf, other, size, root, &proof), "{index} as {other} in {size}");
                assert!(!verify_inclusion(&trees.leaves[other as usize], index, size, root, &proof));
                assert!(!verify_inclusion(leaf, index, size, &trees.ours[other as usize], &proof) || other == size);
            }
        }
    }
}

#[test]
fn no_consistency_proof_is_believed_with_anything_altered() {
    let trees = grow();
    for to in 1..=SIZE_MAX {
        for from in 1..to {
            let (old, new) = (&trees.ours[from as usize], &trees.ours[to as usize]);
            let proof = roots(&trees.leaves, consistency_ranges(from, to));
            for altered in altered(&proof) {
                assert!(!verify_consistency(from, old, to, new, &altered), "{from} in {to}");
            }
            for other in others(from) {
                let root = &trees.ours[other as usize];
                assert!(!verify_consistency(from, root, to, new, &proof), "root of {other} for {from}");
                assert!(!verify_consistency(other, old, to, new, &proof) || other == 0, "{other} for {from}");
            }
            for other in others(to) {
                let root = &trees.ours[other as usize];
                assert!(!verify_consistency(from, old, to, root, &proof), "root of {other} for {to}");
            }
            assert!(!verify_consistency(to, new, from, old, &proof), "backwards");
        }
    }
}

#[test]
fn nothing_and_the_same_are_proven_by_nothing_and_only_when_true() {
    let (a, b) = (leaf(b"a"), leaf(b"b"));
    assert!(verify_consistency(0, &empty_root(), 5, &a, &[]));
    assert!(!verify_consistency(0, &a, 5, &b, &[]));
    assert!(!verify_consistency(0, &empty_root(), 5, &a, &[b]));
    assert!(verify_consistency(5, &a, 5, &a, &[]));
    assert!(!verify_consistency(5, &a, 5, &b, &[]));
    assert!(!verify_consistency(5, &a, 5, &a, &[b]));
}

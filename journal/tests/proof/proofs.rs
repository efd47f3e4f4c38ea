//! Proofs made from the folder: those that the whole tree would give, before and after pruning, thinning and rot.

use vedette_journal::{
    Hash, ProofError, Proofs, consistency_ranges, inclusion_ranges, leaf, lost_leaf, verify_consistency,
    verify_inclusion,
};

use crate::sample::{Sample, record, reopen, root, rot};

fn expected_inclusion(index: u64, size: u64) -> Vec<Hash> {
    inclusion_ranges(index, size).into_iter().map(root).collect()
}

fn expected_consistency(from: u64, to: u64) -> Vec<Hash> {
    consistency_ranges(from, to).into_iter().map(root).collect()
}

#[test]
fn proofs_beside_the_writer_are_those_of_the_whole_tree() {
    let sample = Sample::new(900);
    assert!(sample.journal.segments() > 4);
    let proofs = Proofs::open(sample.path()).unwrap();
    for size in [1, 2, 3, 64, 127, 128, 129, 255, 256, 257, 500, 512, 777, 899, 900] {
        assert_eq!(proofs.frontier(size).unwrap().root(), root(0..size), "size {size}");
        for index in [0, 1, 63, 64, 127, 128, 255, 256, 300, 511, 512, 700, 898, 899] {
            if index >= size {
                continue;
            }
            let proof = proofs.inclusion(index, size).unwrap();
            assert_eq!(proof, expected_inclusion(index, size), "{index} in {size}");
            assert!(verify_inclusion(&leaf(&record(index)), index, size, &root(0..size), &proof));
            assert_eq!(proofs.consistency(index, size).unwrap(), expected_consistency(index, size), "{index}, {size}");
        }
    }
    assert_eq!(proofs.frontier(900).unwrap(), *sample.journal.tree());
}

#[test]
fn what_is_not_there_is_not_proven() {
    let sample = Sample::new(100);
    let proofs = Proofs::open(sample.path()).unwrap();
    assert!(matches!(proofs.frontier(101), Err(ProofError::Beyond { size: 101, records: 100 })));
    assert!(matches!(proofs.inclusion(7, 101), Err(ProofError::Beyond { .. })));
    assert!(matches!(proofs.inclusion(100, 100), Err(ProofError::Beyond { .. })));
    assert!(matches!(proofs.consistency(5, 101), Err(ProofError::Beyond { .. })));
    assert!(matches!(proofs.consistency(6, 5), Err(ProofError::Beyond { .. })));
    assert_eq!(proofs.consistency(0, 100).unwrap(), []);
    assert_eq!(proofs.consistency(100, 100).unwrap(), []);
    assert!(Proofs::open(&sample.path().join("nowhere")).is_err());
}

#[test]
fn pruning_keeps_every_proof_about_what_is_left_and_refuses_the_rest() {
    let mut sample = Sample::new(900);
    sample.journal.prune_below(420).unwrap();
    let first = sample.journal.segment_list()[0].first_sequence;
    assert!(first > 0 && first <= 420);
    let proofs = Proofs::open(sample.path()).unwrap();
    for size in (first..=900).step_by(37).chain([first, first + 1, 512, 513, 900]) {
        assert_eq!(proofs.frontier(size).unwrap().root(), root(0..size));
        for index in (first..size).step_by(61).chain([first]).filter(|index| *index < size) {
            assert_eq!(proofs.inclusion(index, size).unwrap(), expected_inclusion(index, size), "{index} in {size}");
            assert_eq!(proofs.consistency(index, size).unwrap(), expected_consistency(index, size), "{index}, {size}");
        }
    }
    assert!(matches!(proofs.inclusion(first - 1, 900), Err(ProofError::Pruned { .. })));
    assert!(matches!(proofs.consistency(first - 1, 900), Err(ProofError::Pruned { .. })));
    assert!(matches!(proofs.frontier(first - 1), Err(ProofError::Pruned { .. })));
}

#[test]
fn thinning_changes_no_proof_even_about_the_records_that_went() {
    let mut sample = Sample::new(600);
    for segment in sample.journal.segment_list() {
        sample.journal.thin(segment.index, &mut |entry| entry.sequence % 5 == 0).unwrap();
    }
    let proofs = Proofs::open(sample.path()).unwrap();
    for (index, size) in [(0, 600), (1, 600), (2, 3), (77, 599), (300, 301), (255, 512), (599, 600)] {
        assert_eq!(proofs.inclusion(index, size).unwrap(), expected_inclusion(index, size));
        assert_eq!(proofs.consistency(index, size).unwrap(), expected_consistency(index, size));
    }
}

#[test]
fn a_rotten_record_below_an_anchor_costs_only_the_proofs_that_need_it() {
    let mut sample = Sample::new(300);
    sample.sign();
    sample.grow(100);
    drop(sample.journal);
    rot(sample.folder.path(), 150);
    let proofs = Proofs::open(sample.folder.path()).unwrap();
    assert_eq!(proofs.frontier(300).unwrap().root(), root(0..300));
    assert_eq!(proofs.consistency(300, 400).unwrap(), expected_consistency(300, 400));
    assert_eq!(proofs.inclusion(399, 400).unwrap(), expected_inclusion(399, 400));
    // Its neighbour's proof has its leaf as first element, and nothing knows that any more.
    assert!(matches!(proofs.inclusion(151, 400), Err(ProofError::Damaged { .. })));
    assert!(matches!(proofs.inclusion(150, 400), Err(ProofError::Damaged { .. })));
}

#[test]
fn records_lost_before_anything_was_signed_count_as_lost_and_proofs_go_on() {
    let sample = Sample::new(40);
    let folder = sample.folder;
    drop(sample.journal);
    rot(folder.path(), 20);
    let mut journal = reopen(folder.path());
    journal.append(1, b"after").unwrap();
    journal.commit().unwrap();
    let proofs = Proofs::open(folder.path()).unwrap();
    assert_eq!(proofs.frontier(41).unwrap(), *journal.tree());
    let root = journal.tree().root();
    let of_the_lost = proofs.inclusion(20, 41).unwrap();
    assert!(verify_inclusion(&lost_leaf(20), 20, 41, &root, &of_the_lost));
    let proof = proofs.consistency(33, 41).unwrap();
    assert!(verify_consistency(33, &proofs.frontier(33).unwrap().root(), 41, &root, &proof));
}

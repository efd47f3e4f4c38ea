//! Bundles: complete as they were exported, and each thing that somebody does to one has its name.

use std::ops::Range;
use std::path::Path;

use vedette_journal::{
    Against, BundleError, Checkpoint, Earlier, ExportError, Exported, Finding, Incomplete, Mismatch, Report,
    export_bundle, verify_bundle, verify_bundle_against,
};

use crate::sample::{EPOCH, ORIGIN, Sample, key, record, root, rot};

const FRONT_BYTES: usize = 20;
const HEAD_BYTES: usize = 20;

fn export(folder: &Path, range: Range<u64>) -> (Vec<u8>, Exported) {
    let mut out = Vec::new();
    let exported = export_bundle(folder, range, &mut out).unwrap();
    (out, exported)
}

fn check(bundle: &[u8]) -> Report {
    verify_bundle(&mut &*bundle, Some(&key().public()), &mut |entry| {
        assert_eq!((entry.epoch, &entry.payload), (EPOCH, &record(entry.sequence)));
    })
    .unwrap()
}

/// The frames of a bundle: tag, sequence, and where they stand.
fn frames(bundle: &[u8]) -> Vec<(u8, u64, Range<usize>)> {
    let mut frames = Vec::new();
    let mut at = FRONT_BYTES;
    while at < bundle.len() {
        let head = &bundle[at..at + HEAD_BYTES];
        let length = u32::from_le_bytes(head[4..8].try_into().unwrap()) as usize;
        let sequence = u64::from_le_bytes(head[8..16].try_into().unwrap());
        frames.push((head[0], sequence, at..at + HEAD_BYTES + length));
        at += HEAD_BYTES + length;
    }
    frames
}

fn frame_of(bundle: &[u8], sequence: u64) -> Range<usize> {
    frames(bundle).into_iter().find(|(tag, s, _)| *tag == b'R' && *s == sequence).unwrap().2
}

/// Puts a right checksum at the end, as somebody would who knows the format.
fn seal(bundle: &mut [u8]) {
    let (_, _, end) = frames(bundle).pop().unwrap();
    let sum =
        sha2::Digest::finalize(sha2::Digest::chain_update(<sha2::Sha256 as sha2::Digest>::new(), &bundle[..end.start]));
    bundle[end.start + HEAD_BYTES..].copy_from_slice(&sum);
}

#[test]
fn a_bundle_of_everything_or_of_a_part_proves_itself() {
    let (folder, notes) = Sample::signed(950);
    let (all, exported) = export(folder.path(), 0..u64::MAX);
    assert_eq!((exported.first_sequence, exported.next_sequence, exported.records), (0, 950, 950));
    assert_eq!(exported.checkpoints, notes.len() as u64);
    let report = check(&all);
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.records, report.covered, report.tree.unwrap().root()), (950, 950, root(0..950)));
    for range in [0..1, 100..200, 333..701, 949..950, 512..513] {
        let (part, exported) = export(folder.path(), range.clone());
        assert_eq!((exported.first_sequence, exported.next_sequence), (range.start, range.end));
        let report = check(&part);
        assert!(report.is_sound(), "{range:?}: {report:?}");
        assert_eq!((report.first_sequence, report.next_sequence), (range.start, range.end));
        assert_eq!(report.records, range.end - range.start);
        assert_eq!(report.tree.unwrap().root(), root(0..range.end));
    }
}

#[test]
fn a_bundle_of_a_pruned_thinned_and_rotten_journal_says_all_that_and_is_no_worse() {
    let mut sample = Sample::new(0);
    for _ in 0..6 {
        sample.grow(100);
        sample.sign();
    }
    for segment in sample.journal.segment_list() {
        sample.journal.thin(segment.index, &mut |entry| entry.sequence % 2 == 0).unwrap();
    }
    sample.journal.prune_below(200).unwrap();
    rot(sample.path(), 400);
    let (bundle, exported) = export(sample.path(), 0..u64::MAX);
    assert_eq!((exported.lost, exported.next_sequence), (1, 600));
    assert!(exported.first_sequence > 0 && exported.thinned > 50);
    let report = check(&bundle);
    assert_eq!((report.gaps.clone(), report.worst()), (vec![400..401], Some(Finding::Gap)));
    assert_eq!((report.records, report.thinned), (exported.records, exported.thinned));
    // The last checkpoint waits for the next group.
    assert_eq!((report.covered, report.tree.unwrap().root()), (500, root(0..600)));
}

#[test]
fn a_removed_record_is_named() {
    let (folder, _) = Sample::signed(300);
    let (bundle, _) = export(folder.path(), 50..250);
    for sequence in [50, 51, 100, 199, 248] {
        let mut less = bundle.clone();
        less.drain(frame_of(&bundle, sequence));
        seal(&mut less);
        let report = check(&less);
        assert_eq!(report.incomplete, Some(Incomplete::Removed(sequence..sequence + 1)), "{sequence}");
        assert_eq!(report.worst(), Some(Finding::Incomplete));
        assert_eq!(report.gaps, []);
        let said = report.incomplete.unwrap().to_string();
        assert!(said.contains(&format!("incomplete at record {sequence}")), "{said}");
    }
}

#[test]
fn reordered_records_are_named() {
    let (folder, _) = Sample::signed(300);
    let (bundle, _) = export(folder.path(), 50..250);
    for (one, other) in [(60, 61), (60, 99), (50, 51), (248, 249)] {
        let (first, second) = (frame_of(&bundle, one), frame_of(&bundle, other));
        let mut swapped = bundle[..first.start].to_vec();
        swapped.extend(&bundle[second.clone()]);
        swapped.extend(&bundle[first.end..second.start]);
        swapped.extend(&bundle[first.clone()]);
        swapped.extend(&bundle[second.end..]);
        seal(&mut swapped);
        let report = check(&swapped);
        let Some(Mismatch::Order { expected, .. }) = report.mismatch else { panic!("{one}, {other}: {report:?}") };
        assert_eq!((expected, report.worst()), (one, Some(Finding::Mismatch)));
        assert_eq!(report.incomplete, None);
    }
    // One that comes twice.
    let frame = frame_of(&bundle, 70);
    let mut twice = bundle.clone();
    twice.splice(frame.end..frame.end, bundle[frame].to_vec());
    seal(&mut twice);
    assert_eq!(check(&twice).mismatch, Some(Mismatch::Order { expected: 71, found: 70 }));
}

#[test]
fn an_altered_record_is_named_and_not_shown() {
    let (folder, _) = Sample::signed(300);
    let (bundle, _) = export(folder.path(), 50..250);
    for sequence in [50, 101, 249] {
        let frame = frame_of(&bundle, sequence);
        let mut altered = bundle.clone();
        altered[frame.end - 1] ^= 1;
        seal(&mut altered);
        let report = check(&altered);
        assert_eq!(report.mismatch, Some(Mismatch::Record { sequence }));
        assert_eq!((report.worst(), report.records), (Some(Finding::Mismatch), 199));
    }
}

#[test]
fn a_record_altered_with_its_hash_is_still_a_mismatch() {
    let (folder, _) = Sample::signed(300);
    let (bundle, _) = export(folder.path(), 0..300);
    let frame = frame_of(&bundle, 120);
    let mut altered = bundle.clone();
    altered[frame.end - 1] ^= 1;
    let payload = altered[frame.start + HEAD_BYTES + 32..frame.end].to_vec();
    altered[frame.start + HEAD_BYTES..frame.start + HEAD_BYTES + 32]
        .copy_from_slice(&vedette_journal::leaf(&payload).0);
    seal(&mut altered);
    let report = verify_bundle(&mut &*altered, Some(&key().public()), &mut |_| {}).unwrap();
    let Some(Mismatch::Tree { from, to }) = report.mismatch else { panic!("{report:?}") };
    assert!(from <= 120 && 120 < to, "{from}..{to}");
}

#[test]
fn a_bundle_cut_anywhere_is_incomplete_there() {
    let (folder, _) = Sample::signed(60);
    let (bundle, _) = export(folder.path(), 10..50);
    let frames = frames(&bundle);
    for cut in FRONT_BYTES..bundle.len() {
        let report = check(&bundle[..cut]);
        let whole = frames.iter().filter(|(tag, _, range)| *tag == b'R' && range.end <= cut).count() as u64;
        let at = if cut < frames[0].2.end { 0 } else { 10 + whole };
        assert_eq!(report.incomplete, Some(Incomplete::Ends { at }), "cut at {cut}");
        assert_eq!(report.records, whole);
    }
    for cut in 0..FRONT_BYTES {
        let refused = verify_bundle(&mut &bundle[..cut], None, &mut |_| {});
        assert!(matches!(refused, Err(BundleError::NotABundle)));
    }
}

#[test]
fn no_flipped_bit_goes_unnoticed_and_no_altered_record_is_shown() {
    let (folder, _) = Sample::signed(40);
    let (bundle, _) = export(folder.path(), 0..40);
    for at in 0..bundle.len() {
        let mut flipped = bundle.clone();
        flipped[at] ^= 1 << (at % 8);
        match verify_bundle(&mut &*flipped, Some(&key().public()), &mut |entry| {
            assert_eq!(entry.payload, record(entry.sequence), "byte {at}");
        }) {
            Ok(report) => assert!(!report.is_sound(), "byte {at}: {report:?}"),
            Err(BundleError::NotABundle | BundleError::FutureVersion(_)) => assert!(at < 12, "byte {at}"),
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
}

#[test]
fn a_bundle_is_held_against_a_checkpoint_from_elsewhere() {
    let (folder, notes) = Sample::signed(300);
    let (bundle, _) = export(folder.path(), 50..250);
    let against = |note: &str| {
        let (key, earlier) = (key().public(), Checkpoint::read_unverified(note).unwrap());
        let against = Against { key: Some(&key), earlier: Some(&earlier) };
        verify_bundle_against(&mut &*bundle, &against, &mut |_| {}).unwrap().earlier.unwrap()
    };
    assert_eq!(against(&notes[1]), Earlier::Extended);
    let other = Checkpoint { origin: ORIGIN.to_owned(), size: 200, root: root(0..3) };
    assert_eq!(against(&other.sign(&key())), Earlier::Forked);
    let elsewhere = Checkpoint { origin: "vedette/pump-8/1".to_owned(), size: 200, root: root(0..200) };
    assert_eq!(against(&elsewhere.sign(&key())), Earlier::Stranger { origin: elsewhere.origin });
}

#[test]
fn what_is_not_there_is_not_exported() {
    let (folder, _) = Sample::signed(100);
    let refused = export_bundle(folder.path(), 100..200, &mut Vec::new()).unwrap_err();
    assert!(matches!(refused, ExportError::NothingThere { first: 0, next: 100, .. }), "{refused}");
    assert!(export_bundle(folder.path(), 7..7, &mut Vec::new()).is_err());
}

#[test]
fn another_file_is_not_taken_for_a_bundle() {
    for bytes in [&b""[..], b"VEDBUNDL", &[0; 100], b"{\"sequence\":1}\n{\"sequence\":2}\n"] {
        assert!(matches!(verify_bundle(&mut &*bytes, None, &mut |_| {}), Err(BundleError::NotABundle)));
    }
    let mut future = b"VEDBUNDL".to_vec();
    future.extend(2u32.to_le_bytes());
    future.extend([0; 8]);
    assert!(matches!(verify_bundle(&mut &*future, None, &mut |_| {}), Err(BundleError::FutureVersion(2))));
}

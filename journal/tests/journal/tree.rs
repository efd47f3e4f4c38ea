//! The tree over the records: what was signed stays true, whatever is torn, rots, or is removed later.

use std::fs;
use std::path::Path;

use vedette_journal::{
    CommitError, Damage, Frontier, Journal, Options, Reader, SKIP_RECORDS_MAX, Signed, SigningKey, leaf, lost_leaf,
};

use crate::folder::{SEGMENT_DATA_AT, options, scratch, segment_files};

const ORIGIN: &str = "vedette/test/1";
const PAGE: usize = 4096;

fn key() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

fn payload(n: u64) -> Vec<u8> {
    (0..100 + n * 37 % 200).map(|i| (i * 7 + n) as u8).collect()
}

/// The tree over the records `0..size`, of which those in `lost` count as lost.
fn tree(size: u64, lost: &[u64]) -> Frontier {
    let mut tree = Frontier::default();
    for n in 0..size {
        tree.push(if lost.contains(&n) { lost_leaf(n) } else { leaf(&payload(n)) });
    }
    tree
}

/// Commits the records `from..to` in groups of five.
fn write(journal: &mut Journal, from: u64, to: u64) {
    for n in from..to {
        assert_eq!(journal.append(3, &payload(n)).unwrap(), n);
        if n % 5 == 4 {
            journal.commit().unwrap();
        }
    }
    journal.commit().unwrap();
}

fn journal_of(folder: &Path, records: u64) -> Journal {
    let (mut journal, _) = Journal::open(folder, options(1)).unwrap();
    write(&mut journal, 0, records);
    journal
}

fn newest(folder: &Path) -> std::path::PathBuf {
    segment_files(folder).pop().unwrap()
}

/// Offset of the record `sequence` in a segment.
fn offset_of(bytes: &[u8], sequence: u64) -> usize {
    let mut at = SEGMENT_DATA_AT;
    loop {
        let number =
            |range: std::ops::Range<usize>| bytes[at..][range].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
        if bytes[at + 17] & 0xF8 == 0xA0 && number(8..16) == sequence {
            return at;
        }
        at += (20 + number(0..4) as usize).next_multiple_of(8);
    }
}

#[test]
fn the_tree_is_that_of_the_committed_records_and_no_others() {
    let folder = scratch();
    let mut journal = journal_of(folder.path(), 7);
    journal.append(3, &payload(7)).unwrap();
    assert_eq!(journal.tree(), &tree(7, &[]));
    journal.commit().unwrap();
    assert_eq!(journal.tree(), &tree(8, &[]));
}

#[test]
fn a_checkpoint_commits_first_and_says_what_is_durable() {
    let folder = scratch();
    let mut journal = journal_of(folder.path(), 3);
    journal.append(3, &payload(3)).unwrap();
    let Signed { checkpoint, note, frontier } = journal.checkpoint(ORIGIN, &key()).unwrap();
    assert_eq!((journal.committed(), checkpoint.size, checkpoint.root), (4, 4, tree(4, &[]).root()));
    assert_eq!((checkpoint.origin.as_str(), &frontier), (ORIGIN, journal.tree()));
    assert!(note.starts_with("vedette/test/1\n4\n"), "{note}");
    let length = fs::read(newest(folder.path())).unwrap();
    let again = journal.checkpoint(ORIGIN, &key()).unwrap();
    assert_eq!(again.note, note, "the same tree, the same note");
    assert_eq!(fs::read(newest(folder.path())).unwrap(), length, "and nothing is written for it");
}

#[test]
fn a_note_goes_with_the_next_group_and_readers_never_see_it() {
    let folder = scratch();
    let mut journal = journal_of(folder.path(), 3);
    let signed = journal.checkpoint(ORIGIN, &key()).unwrap();
    let holds_note = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).contains(&signed.note);
    assert!(!holds_note(newest(folder.path())));
    write(&mut journal, 3, 6);
    assert!(holds_note(newest(folder.path())));
    let mut reader = Reader::open(folder.path(), 0).unwrap();
    for n in 0..6 {
        assert_eq!(reader.next().unwrap().unwrap().sequence, n);
    }
    assert_eq!(reader.next().unwrap(), None);
    assert_eq!((reader.skipped(), reader.thinned(), reader.gaps()), (0, 0, &[][..]));
}

#[test]
fn a_note_that_waits_is_written_at_the_close() {
    for with_records in [true, false] {
        let folder = scratch();
        let mut journal = journal_of(folder.path(), 3);
        let signed = journal.checkpoint(ORIGIN, &key()).unwrap();
        if with_records {
            journal.append(3, &payload(3)).unwrap();
        }
        journal.close().unwrap();
        assert!(String::from_utf8_lossy(&fs::read(newest(folder.path())).unwrap()).contains(&signed.note));
        let (journal, recovery) = Journal::open(folder.path(), options(1)).unwrap();
        assert_eq!((recovery.damage, journal.tree()), (vec![], &tree(3 + u64::from(with_records), &[])));
    }
}

#[test]
fn a_frontier_that_rots_is_found_again_and_costs_nothing() {
    let folder = scratch();
    drop(journal_of(folder.path(), 250));
    assert!(segment_files(folder.path()).len() > 2);
    let path = newest(folder.path());
    let good = fs::read(&path).unwrap();
    // The area alone, and its whole page with the first header.
    for (from, to) in [(128, 4096), (0, 4096)] {
        let mut bytes = good.clone();
        bytes[from..to].fill(0);
        fs::write(&path, &bytes).unwrap();
        let (journal, recovery) = Journal::open(folder.path(), options(1)).unwrap();
        assert!(recovery.damage.contains(&Damage::Frontier { segment: recovery.segments as u32 - 1 }), "{recovery:?}");
        assert_eq!((recovery.next_sequence, journal.tree()), (250, &tree(250, &[])), "{from}..{to}");
    }
}

#[test]
fn a_tree_without_any_frontier_in_its_newest_segment_grows_from_the_segments_before() {
    let folder = scratch();
    drop(journal_of(folder.path(), 250));
    let files = segment_files(folder.path());
    // In the newest segment the area and its second copy are bad, in the one before the area.
    for (path, second_copy) in files.iter().rev().zip([true, false]) {
        let mut bytes = fs::read(path).unwrap();
        bytes[200] ^= 1;
        bytes[SEGMENT_DATA_AT + 30] ^= u8::from(second_copy);
        fs::write(path, &bytes).unwrap();
    }
    let (mut journal, recovery) = Journal::open(folder.path(), options(1)).unwrap();
    assert_eq!((recovery.next_sequence, journal.tree()), (250, &tree(250, &[])));
    assert!(!recovery.damage.iter().any(|damage| matches!(damage, Damage::Tree { .. })), "{recovery:?}");
    write(&mut journal, 250, 260);
    drop(journal);
    let (journal, recovery) = Journal::open(folder.path(), options(1)).unwrap();
    assert_eq!((journal.tree(), recovery.damage), (&tree(260, &[]), vec![]), "the next segment is whole again");
}

#[test]
fn a_journal_that_lost_every_frontier_opens_and_says_so() {
    let folder = scratch();
    drop(journal_of(folder.path(), 250));
    let files = segment_files(folder.path());
    files.iter().rev().skip(1).for_each(|path| fs::remove_file(path).unwrap());
    let path = newest(folder.path());
    let mut bytes = fs::read(&path).unwrap();
    bytes[200] ^= 1;
    bytes[SEGMENT_DATA_AT + 30] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (mut journal, recovery) = Journal::open(folder.path(), options(1)).unwrap();
    assert!(recovery.damage.iter().any(|damage| matches!(damage, Damage::Tree { .. })), "{recovery:?}");
    assert_eq!((recovery.next_sequence, journal.tree().size()), (250, 250));
    write(&mut journal, 250, 255);
    let grown = journal.tree().clone();
    drop(journal);
    let (journal, recovery) = Journal::open(folder.path(), options(1)).unwrap();
    assert_eq!((journal.tree(), recovery.damage), (&grown, vec![]));
}

/// The heart of the matter: what was signed is never contradicted, and what was not signed is said to be lost.
#[test]
fn a_lost_record_keeps_its_leaf_where_a_checkpoint_speaks_for_it() {
    for (signed_at, lost) in [(20, 7), (20, 19), (20, 22), (1, 0)] {
        let folder = scratch();
        let mut journal = journal_of(folder.path(), signed_at);
        let signed = journal.checkpoint(ORIGIN, &key()).unwrap();
        write(&mut journal, signed_at, 25);
        drop(journal);
        let path = newest(folder.path());
        let mut bytes = fs::read(&path).unwrap();
        let at = offset_of(&bytes, lost);
        bytes[at + 21] ^= 4;
        fs::write(&path, &bytes).unwrap();
        let (journal, recovery) = Journal::open(folder.path(), options(1)).unwrap();
        assert!(
            matches!(recovery.damage[..], [Damage::Records { from, to, .. }] if (from, to) == (lost, lost + 1)),
            "{recovery:?}"
        );
        let expected = if lost < signed_at { tree(25, &[]) } else { tree(25, &[lost]) };
        assert_eq!(journal.tree(), &expected, "signed at {signed_at}, lost {lost}");
        assert_eq!(signed.checkpoint.root, tree(signed_at, &[]).root());
        let mut reader = Reader::open(folder.path(), 0).unwrap();
        while reader.next().unwrap().is_some() {}
        assert_eq!((reader.skipped(), reader.gaps()), (1, &[lost..lost + 1][..]));
    }
}

#[test]
fn an_anchor_shows_that_records_are_missing_at_the_end() {
    let folder = scratch();
    let mut journal = journal_of(folder.path(), 10);
    journal.checkpoint(ORIGIN, &key()).unwrap();
    drop(journal);
    let path = newest(folder.path());
    let mut bytes = fs::read(&path).unwrap();
    let (from, to) = (offset_of(&bytes, 8), offset_of(&bytes, 9) + 20 + payload(9).len());
    bytes[from..to].fill(0);
    fs::write(&path, &bytes).unwrap();
    let mut reader = Reader::open(folder.path(), 0).unwrap();
    while reader.next().unwrap().is_some() {}
    assert_eq!((reader.position(), reader.skipped(), reader.gaps()), (10, 2, &[8..10][..]));
    let (journal, recovery) = Journal::open(folder.path(), options(1)).unwrap();
    assert_eq!((recovery.next_sequence, journal.tree()), (10, &tree(10, &[])));
}

/// A page that goes bad in a closed journal, each one in turn, the last one too.
#[test]
fn a_closed_journal_that_loses_any_page_gives_no_sequence_twice_and_keeps_what_was_signed() {
    let folder = scratch();
    let mut journal = journal_of(folder.path(), 130);
    let signed = journal.checkpoint(ORIGIN, &key()).unwrap();
    journal.close().unwrap();
    let path = newest(folder.path());
    let whole = fs::read(&path).unwrap();
    assert!(whole.len() < 16 << 10, "cut to its content");
    for at in (0..whole.len()).step_by(PAGE) {
        let mut bytes = whole.clone();
        let end = bytes.len().min(at + PAGE);
        bytes[at..end].fill(0);
        fs::write(&path, &bytes).unwrap();
        let (mut journal, recovery) = Journal::open(folder.path(), options(1)).unwrap();
        let why = format!("page at {at}: {recovery:?}");
        assert!(recovery.next_sequence >= 130 && !recovery.damage.is_empty(), "{why}");
        let mut expected = tree(130, &[]);
        assert_eq!(signed.checkpoint.root, expected.root());
        (130..recovery.next_sequence).for_each(|n| expected.push(lost_leaf(n)));
        assert_eq!(journal.tree(), &expected, "{why}");
        let next = recovery.next_sequence;
        assert_eq!(journal.append(3, b"on").unwrap(), next, "{why}");
        journal.commit().unwrap();
        let mut reader = Reader::open(folder.path(), 0).unwrap();
        let mut lost = 0;
        for n in 0..130 {
            reader.seek(n).unwrap();
            match reader.next().unwrap() {
                Some(entry) if entry.sequence == n => assert_eq!(entry.payload, payload(n)),
                _ => lost += 1,
            }
        }
        assert!(lost <= PAGE as u64 / 120 + 2 && (at > 0 || lost == 0), "{why}: {lost} lost");
        drop(journal);
        // Only the closed journal is left for the next page.
        segment_files(folder.path())
            .into_iter()
            .filter(|other| *other > path)
            .for_each(|other| fs::remove_file(other).unwrap());
    }
}

#[test]
fn a_closed_journal_opens_whole_and_goes_on_in_the_same_segment() {
    let folder = scratch();
    let options = || Options::new(1);
    let (mut journal, _) = Journal::open(folder.path(), options()).unwrap();
    write(&mut journal, 0, 20);
    journal.close().unwrap();
    for round in 0..3u64 {
        let (mut journal, recovery) = Journal::open(folder.path(), options()).unwrap();
        assert_eq!((recovery.damage, recovery.cut_bytes, recovery.segments), (vec![], 0, 1));
        assert_eq!(journal.tree(), &tree(20 + round, &[]));
        write(&mut journal, 20 + round, 21 + round);
        journal.close().unwrap();
    }
}

#[test]
fn sequences_that_are_left_out_are_lost_leaves_and_so_many_only() {
    let folder = scratch();
    let mut journal = journal_of(folder.path(), 4);
    journal.skip_to(9).unwrap();
    write(&mut journal, 9, 12);
    let expected = tree(12, &[4, 5, 6, 7, 8]);
    assert_eq!(journal.tree(), &expected);
    let error = journal.skip_to(13 + SKIP_RECORDS_MAX).unwrap_err();
    assert!(matches!(error, CommitError::SkipTooFar { from: 12, .. }), "{error}");
    assert_eq!((journal.committed(), journal.tree()), (12, &expected));
    drop(journal);
    let (journal, _) = Journal::open(folder.path(), options(1)).unwrap();
    assert_eq!(journal.tree(), &expected);
}

#[test]
fn pruning_leaves_the_tree_and_the_frontier_of_what_is_gone() {
    let folder = scratch();
    let mut journal = journal_of(folder.path(), 300);
    assert!(journal.prune_below(250).unwrap() > 2);
    assert_eq!(journal.tree(), &tree(300, &[]));
    let first = journal.segment_list()[0].first_sequence;
    assert!(first > 0 && first <= 250);
    drop(journal);
    let (journal, recovery) = Journal::open(folder.path(), options(1)).unwrap();
    assert_eq!((journal.tree(), recovery.damage), (&tree(300, &[]), vec![]));
    let bytes = fs::read(&segment_files(folder.path())[0]).unwrap();
    assert_eq!(bytes[32..64], tree(first, &[]).root().0, "the root over all earlier records, at its place");
}

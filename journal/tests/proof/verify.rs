//! Verifying a folder: what is whole is called whole, and each kind of harm by its name.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use vedette_journal::{
    Against, Checkpoint, Earlier, Finding, Fork, Mismatch, PublicKey, ReadError, RealDisk, Report, SigningKey, verify,
    verify_on,
};

use crate::sample::{EPOCH, ORIGIN, Sample, find, key, record, reopen, root, rot, segments};

fn check(folder: &Path) -> Report {
    verify(folder, Some(&key().public()), &mut |_| {}).unwrap()
}

fn check_against(folder: &Path, earlier: &str) -> Report {
    let (key, earlier) = (key().public(), Checkpoint::read_unverified(earlier).unwrap());
    let against = Against { key: Some(&key), earlier: Some(&earlier) };
    verify_on(Arc::new(RealDisk), folder, &against, &mut |_| {}).unwrap()
}

#[test]
fn a_whole_journal_is_called_whole_and_shown_whole() {
    let (folder, notes) = Sample::signed(950);
    let mut seen = 0;
    let report = verify(folder.path(), Some(&key().public()), &mut |entry| {
        assert_eq!((entry.epoch, entry.sequence, &entry.payload), (EPOCH, seen, &record(seen)));
        seen += 1;
    })
    .unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.first_sequence, report.next_sequence, report.records, seen), (0, 950, 950, 950));
    assert_eq!(report.origin.as_deref(), Some(ORIGIN));
    assert_eq!(report.checkpoints_checked, notes.len() as u64);
    assert_eq!((report.checkpoints_unchecked, report.covered), (0, 950));
    assert_eq!(report.tree.unwrap().root(), root(0..950));
}

#[test]
fn a_journal_that_is_being_written_is_whole_and_so_is_an_empty_one() {
    let mut sample = Sample::new(0);
    assert!(check(sample.path()).is_sound());
    sample.grow(123);
    sample.sign();
    sample.grow(45);
    let report = check(sample.path());
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.next_sequence, report.covered, report.checkpoints_checked), (168, 123, 1));
}

#[test]
fn a_pruned_and_thinned_journal_is_whole_and_its_checkpoints_still_hold() {
    let mut sample = Sample::new(0);
    for _ in 0..9 {
        sample.grow(100);
        sample.sign();
    }
    for segment in sample.journal.segment_list() {
        sample.journal.thin(segment.index, &mut |entry| entry.sequence % 3 == 0).unwrap();
    }
    sample.journal.prune_below(350).unwrap();
    let report = check(sample.path());
    assert!(report.is_sound(), "{report:?}");
    assert!(report.first_sequence > 0 && report.thinned > 100);
    assert_eq!(report.records + report.thinned, 900 - report.first_sequence);
    assert!(report.checkpoints_checked >= 5, "{report:?}");
    let earlier = check_against(sample.path(), &sample.notes[5]);
    assert_eq!(earlier.earlier, Some(Earlier::Extended));
    // Of a checkpoint over what was pruned nothing can be said.
    let earlier = check_against(sample.path(), &sample.notes[0]);
    assert_eq!(earlier.earlier, Some(Earlier::Unknown { size: 100 }));
    assert_eq!(earlier.worst(), Some(Finding::Incomplete));
}

#[test]
fn a_rotten_record_is_a_gap_of_one_and_what_was_signed_behind_it_still_holds() {
    let (folder, notes) = Sample::signed(950);
    for sequence in [0, 314, 700] {
        rot(folder.path(), sequence);
    }
    let report = check(folder.path());
    assert_eq!(report.gaps, [0..1, 314..315, 700..701]);
    assert_eq!((report.lost, report.records, report.worst()), (3, 947, Some(Finding::Gap)));
    assert_eq!(report.checkpoints_checked + report.checkpoints_unchecked, notes.len() as u64);
    assert!(report.checkpoints_unchecked <= 3, "{report:?}");
    assert_eq!((report.covered, report.spots.len()), (950, 3));
}

#[test]
fn a_segment_that_somebody_took_away_is_a_gap() {
    let (folder, _) = Sample::signed(950);
    let taken = segments(folder.path()).remove(2);
    fs::remove_file(taken).unwrap();
    let report = check(folder.path());
    assert_eq!((report.gaps.len(), report.worst()), (1, Some(Finding::Gap)));
    assert_eq!(report.records + report.lost, 950);
}

#[test]
fn an_unfinished_write_at_the_end_is_torn_and_nothing_else() {
    let sample = Sample::new(200);
    let newest = segments(sample.path()).pop().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let end = end.next_multiple_of(8);
    bytes[end..end + 100].fill(0x55);
    fs::write(&newest, bytes).unwrap();
    let report = check(sample.path());
    assert_eq!((report.torn_bytes, report.records), (100, 200));
    assert_eq!(report.worst(), Some(Finding::Torn));
}

#[test]
fn every_bit_of_a_closed_journal_counts() {
    let (folder, _) = Sample::signed(120);
    let whole = check(folder.path());
    assert!(whole.is_sound());
    for path in segments(folder.path()) {
        let bytes = fs::read(&path).unwrap();
        // All of the header, and places everywhere else.
        for at in (0..128).chain((128..bytes.len()).step_by(23)) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(&path, &flipped).unwrap();
            match verify(folder.path(), Some(&key().public()), &mut |entry| {
                assert_eq!(entry.payload, record(entry.sequence));
            }) {
                Ok(report) => {
                    assert!(!report.is_sound(), "byte {at} of {}", path.display());
                    assert!(report.lost <= 1, "byte {at}: {:?}", report.gaps);
                    assert!(report.fork.is_none() && report.bad_signature.is_none(), "byte {at}: {report:?}");
                }
                Err(ReadError::FutureVersion { .. }) => {}
                Err(error) => panic!("byte {at}: {error}"),
            }
        }
        fs::write(&path, bytes).unwrap();
    }
    assert!(check(folder.path()).is_sound());
}

/// Alters a record and makes its checksum right again, as somebody would who wants to hide something.
fn forge(folder: &Path, sequence: u64) {
    let (path, at) = find(folder, sequence);
    let mut bytes = fs::read(&path).unwrap();
    let (start, segment) = (at - 20, u32::from_le_bytes(bytes[12..16].try_into().unwrap()));
    bytes[at] ^= 1;
    let end = start + (20 + record(sequence).len()).next_multiple_of(8);
    let mut covered = EPOCH.to_le_bytes().to_vec();
    covered.extend(segment.to_le_bytes());
    covered.extend((start as u64).to_le_bytes());
    covered.extend(&bytes[start..start + 4]);
    covered.extend(&bytes[start + 8..end]);
    let sum = crc32c::crc32c(&covered);
    bytes[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
    fs::write(&path, bytes).unwrap();
}

#[test]
fn a_forged_record_is_a_mismatch_in_the_stretch_that_holds_it() {
    let (folder, notes) = Sample::signed(950);
    forge(folder.path(), 555);
    let report = check(folder.path());
    assert_eq!((report.worst(), report.lost), (Some(Finding::Mismatch), 0));
    let Some(Mismatch::Tree { from, to }) = report.mismatch else { panic!("{:?}", report.mismatch) };
    assert!(from <= 555 && 555 < to && to - from <= 256, "{from}..{to}");
    // Whoever has an earlier checkpoint can tell as well, without the journal's own word.
    let against = check_against(folder.path(), &notes[6]);
    assert!(against.mismatch.is_some());
}

#[test]
fn a_checkpoint_by_another_key_is_a_bad_signature() {
    let (folder, _) = Sample::signed(100);
    let other = SigningKey::from_seed(&[9; 32]).public();
    let report = verify(folder.path(), Some(&other), &mut |_| {}).unwrap();
    assert_eq!(report.worst(), Some(Finding::BadSignature));
    assert!(report.bad_signature.unwrap().to_string().contains(&other.to_string()));
    assert_eq!(report.checkpoints_checked, 0);
    // Without a key the log is only held against itself.
    assert!(verify(folder.path(), None, &mut |_| {}).unwrap().is_sound());
}

#[test]
fn a_log_with_another_past_than_the_checkpoint_from_elsewhere_is_a_fork() {
    let (folder, notes) = Sample::signed(300);
    assert_eq!(check_against(folder.path(), &notes[1]).earlier, Some(Earlier::Extended));
    let other = Checkpoint { origin: ORIGIN.to_owned(), size: 200, root: root(0..199) };
    let report = check_against(folder.path(), &other.sign(&key()));
    assert_eq!((report.worst(), report.earlier.clone()), (Some(Finding::Fork), Some(Earlier::Forked)));
    let expected = Fork::Root { origin: other.origin, size: 200, signed: other.root, found: root(0..200) };
    assert_eq!(report.fork, Some(expected));
}

#[test]
fn a_log_that_was_set_back_is_a_fork_of_the_longer_one() {
    let (folder, _) = Sample::signed(300);
    let later = Checkpoint { origin: ORIGIN.to_owned(), size: 400, root: root(0..400) };
    let report = check_against(folder.path(), &later.sign(&key()));
    assert!(matches!(report.fork, Some(Fork::Shorter { size: 400, found: 300, .. })), "{report:?}");
    // Also when only the log's own checkpoint is left to say so.
    let mut sample = Sample::new(100);
    sample.journal.checkpoint(ORIGIN, &key()).unwrap();
    sample.grow(1);
    let (_, at) = find(sample.path(), 100);
    let path = segments(sample.path()).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    let forged = Checkpoint { origin: ORIGIN.to_owned(), size: 900, root: root(0..900) }.sign(&key());
    drop(sample.journal);
    // Not reachable by honest means: a note written by hand behind the last record.
    let start = (at + record(100).len()).next_multiple_of(8);
    fs::write(&path, with_note(bytes, start, 100, &forged)).unwrap();
    let report = verify(sample.folder.path(), Some(&key().public()), &mut |_| {}).unwrap();
    assert!(matches!(report.fork, Some(Fork::Shorter { size: 900, .. })), "{report:?}");
}

/// Writes a note at `start`, as the journal would.
fn with_note(mut bytes: Vec<u8>, start: usize, sequence: u64, note: &str) -> Vec<u8> {
    let segment = u32::from_le_bytes(bytes[12..16].try_into().unwrap());
    let mut out = (note.len() as u32).to_le_bytes().to_vec();
    out.extend([0; 4]);
    out.extend((sequence + 1).to_le_bytes());
    out.extend([1, 0xAA, 0, 0]);
    out.extend(note.as_bytes());
    out.resize(out.len().next_multiple_of(8), 0);
    let mut covered = EPOCH.to_le_bytes().to_vec();
    covered.extend(segment.to_le_bytes());
    covered.extend((start as u64).to_le_bytes());
    covered.extend(&out[..4]);
    covered.extend(&out[8..]);
    out[4..8].copy_from_slice(&crc32c::crc32c(&covered).to_le_bytes());
    bytes[start..start + out.len()].copy_from_slice(&out);
    bytes
}

#[test]
fn a_checkpoint_of_another_device_is_called_that_and_not_a_fork() {
    let (folder, _) = Sample::signed(300);
    for size in [200, 900] {
        let other = Checkpoint { origin: "vedette/pump-8/5".to_owned(), size, root: root(0..17) };
        let report = check_against(folder.path(), &other.sign(&key()));
        assert_eq!(report.earlier, Some(Earlier::Stranger { origin: other.origin }));
        assert_eq!((report.fork, report.origin.as_deref()), (None, Some(ORIGIN)));
    }
}

#[test]
fn foreign_files_are_named_and_do_no_harm() {
    let (folder, _) = Sample::signed(50);
    fs::write(folder.path().join("notes.txt"), "not ours").unwrap();
    fs::write(folder.path().join("seg-1.log"), "not ours").unwrap();
    fs::create_dir(folder.path().join("lost+found")).unwrap();
    let report = check(folder.path());
    assert_eq!(report.foreign, ["lost+found", "notes.txt", "seg-1.log"]);
    assert!(report.is_sound());
    assert_eq!(reopen(folder.path()).next_sequence(), 50);
}

#[test]
fn a_segment_of_another_journal_is_named() {
    let (folder, _) = Sample::signed(950);
    let other = tempfile::tempdir().unwrap();
    let options = vedette_journal::Options::new(1234);
    let (mut journal, _) = vedette_journal::Journal::open(other.path(), options).unwrap();
    journal.append(1, b"elsewhere").unwrap();
    journal.commit().unwrap();
    let stranger = fs::read(segments(other.path()).remove(0)).unwrap();
    // Its number is 0: it takes the place of ours.
    fs::write(segments(folder.path()).remove(0), stranger).unwrap();
    let report = check(folder.path());
    assert_eq!(report.strangers, [(0, 1234)]);
    assert!(!report.is_sound());
}

#[test]
fn a_folder_without_a_journal_is_said_to_have_none_and_one_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let report = verify(folder.path(), None, &mut |_| {}).unwrap();
    assert_eq!((report.epoch, report.next_sequence), (None, 0));
    let missing = verify(&folder.path().join("no"), None, &mut |_| {}).unwrap_err();
    assert!(missing.to_string().contains("/no"));
}

#[test]
fn segments_of_which_no_header_is_left_are_not_called_sound() {
    let (folder, _) = Sample::signed(300);
    let all = segments(folder.path());
    for path in &all {
        let mut bytes = fs::read(path).unwrap();
        bytes[..4224].fill(0);
        fs::write(path, bytes).unwrap();
    }
    let report = check(folder.path());
    assert_eq!((report.epoch, report.header_damage, report.spots.len()), (None, all.len() as u64, all.len()));
    assert_eq!(report.worst(), Some(Finding::Mismatch));
}

#[test]
fn records_that_recovery_gave_up_are_a_gap_and_everything_signed_later_holds() {
    let sample = Sample::new(40);
    let folder = sample.folder;
    drop(sample.journal);
    rot(folder.path(), 20);
    let mut sample = Sample { journal: reopen(folder.path()), folder, notes: Vec::new() };
    sample.grow(60);
    sample.sign();
    sample.grow(10);
    let report = check(sample.path());
    assert_eq!(report.gaps, std::slice::from_ref(&(20..21)));
    assert_eq!((report.checkpoints_checked, report.covered), (1, 100));
    assert!(report.mismatch.is_none() && report.fork.is_none(), "{report:?}");
    let key: PublicKey = key().public();
    assert_eq!(Checkpoint::open(&sample.notes[0], &key).unwrap().size, 100);
}

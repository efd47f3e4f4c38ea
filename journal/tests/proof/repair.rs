//! Repairing: the end and the fronts become whole, copies are kept, and nothing valid goes.

use std::fs;
use std::path::Path;

use vedette_journal::{Finding, Mended, OpenError, RepairError, Report, repair, verify};

use crate::sample::{Sample, forget_parity, key, record, reopen, rot, segments};

fn check(folder: &Path) -> Report {
    verify(folder, Some(&key().public()), &mut |entry| assert_eq!(entry.payload, record(entry.sequence))).unwrap()
}

fn damage(path: &Path, ranges: &[std::ops::Range<usize>]) {
    let mut bytes = fs::read(path).unwrap();
    for range in ranges {
        bytes[range.clone()].fill(0xEE);
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_sound_journal_is_not_touched() {
    let (folder, _) = Sample::signed(300);
    let before: Vec<_> = segments(folder.path()).iter().map(|path| fs::read(path).unwrap()).collect();
    let repaired = repair(folder.path()).unwrap();
    assert_eq!((repaired.mended.len(), repaired.copies.len()), (0, 0));
    assert!(repaired.report.is_sound());
    let after: Vec<_> = segments(folder.path()).iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(before == after);
}

#[test]
fn every_front_is_made_whole_again_from_what_is_left_of_it() {
    for (name, ranges) in [
        ("first copy", vec![0..128]),
        ("second copy", vec![4096..4224]),
        ("frontier", vec![128..200]),
        ("first copy and frontier", vec![0..2000]),
        ("both copies", vec![0..128, 4096..4224]),
        ("all of it", vec![0..4224]),
    ] {
        let (folder, _) = Sample::signed(500);
        let all = segments(folder.path());
        let before: Vec<_> = all.iter().map(|path| fs::read(path).unwrap()).collect();
        // The newest one says which epoch it is, so it keeps its header here.
        for path in &all[..all.len() - 1] {
            damage(path, &ranges);
            forget_parity(path);
        }
        assert_eq!(check(folder.path()).worst(), Some(Finding::Mismatch), "{name}");
        let repaired = repair(folder.path()).unwrap();
        assert_eq!((repaired.mended.len(), repaired.copies.len()), (all.len() - 1, all.len() - 1), "{name}");
        assert!(matches!(repaired.mended[0], Mended::Front { segment: 0 }));
        assert!(repaired.report.is_sound(), "{name}: {:?}", repaired.report);
        assert!(check(folder.path()).is_sound(), "{name}");
        for (path, before) in all.iter().zip(before) {
            // The room reserved for a file is known no more when both headers are gone; all else is as it was.
            let after = fs::read(path).unwrap();
            assert!(after[4224..] == before[4224..] && after[128..4096] == before[128..4096], "{name}");
        }
    }
}

#[test]
fn a_torn_end_is_cut_and_a_copy_of_it_kept() {
    let sample = Sample::new(200);
    let folder = sample.folder;
    drop(sample.journal);
    let newest = segments(folder.path()).pop().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    let end = (bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1).next_multiple_of(8);
    bytes[end..end + 50].fill(0x33);
    fs::write(&newest, &bytes).unwrap();
    assert_eq!(check(folder.path()).worst(), Some(Finding::Torn));
    let repaired = repair(folder.path()).unwrap();
    let [Mended::End(spot)] = repaired.mended[..] else { panic!("{repaired:?}") };
    assert_eq!((spot.offset, spot.bytes), (end as u64, 50));
    assert_eq!(fs::read(&repaired.copies[0]).unwrap(), bytes);
    assert_eq!(check(folder.path()).records, 200);
    assert!(check(folder.path()).foreign.is_empty(), "the copy is the journal's own");
    let mut journal = reopen(folder.path());
    assert_eq!(journal.append(1, b"on").unwrap(), 200);
    journal.commit().unwrap();
}

#[test]
fn a_lost_record_stays_lost_and_its_neighbours_stay() {
    let (folder, _) = Sample::signed(300);
    rot(folder.path(), 123);
    let repaired = repair(folder.path()).unwrap();
    assert_eq!(repaired.mended, []);
    assert_eq!(repaired.report.gaps, std::slice::from_ref(&(123..124)));
    assert_eq!(check(folder.path()).records, 299);
}

#[test]
fn a_journal_in_use_or_not_there_is_not_repaired() {
    let sample = Sample::new(10);
    let refused = repair(sample.path()).unwrap_err();
    assert!(matches!(refused, RepairError::Open(OpenError::Locked { .. })), "{refused}");
    let nowhere = sample.path().join("nowhere");
    assert!(matches!(repair(&nowhere), Err(RepairError::Read(_))));
    assert!(!nowhere.exists());
}

#[test]
fn a_copy_of_before_is_never_overwritten() {
    let (folder, _) = Sample::signed(100);
    let first = segments(folder.path()).remove(0);
    damage(&first, &[4096..4224]);
    let one = repair(folder.path()).unwrap().copies;
    damage(&first, &[0..128]);
    let two = repair(folder.path()).unwrap().copies;
    assert_ne!(one, two);
    assert!(one[0].exists() && two[0].exists());
    assert!(check(folder.path()).is_sound());
}

//! A disk that fails: what is asked of it again, what is reported, what is kept.

use std::sync::atomic::Ordering;

use vedette_journal::{CommitError, Journal, Reader};

use crate::faulty::FaultyDisk;
use crate::folder::{options, scratch};

fn payloads(folder: &std::path::Path) -> Vec<(u64, Vec<u8>)> {
    let mut reader = Reader::open(folder, 0).unwrap();
    let mut all = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        all.push((entry.sequence, entry.payload));
    }
    assert_eq!(reader.skipped(), 0);
    all
}

#[test]
fn a_failed_sync_is_not_asked_again_and_its_group_goes_into_a_fresh_segment() {
    let (folder, disk) = (scratch(), FaultyDisk::new());
    let (mut journal, _) = Journal::open_on(disk.arc(), folder.path(), options(1)).unwrap();
    journal.append(1, b"before").unwrap();
    journal.commit().unwrap();
    journal.append(1, b"during").unwrap();
    disk.faults.syncs.store(1, Ordering::SeqCst);
    assert_eq!(journal.commit().unwrap(), 2);
    assert_eq!(journal.segments(), 2);
    drop(journal);
    let expected = vec![(0, b"before".to_vec()), (1, b"during".to_vec())];
    assert_eq!(payloads(folder.path()), expected);
    let (_, recovery) = Journal::open(folder.path(), options(2)).unwrap();
    assert_eq!((recovery.epoch, recovery.next_sequence), (1, 2));
    assert_eq!((recovery.damage, recovery.cut_bytes), (vec![], 0));
}

#[test]
fn a_disk_that_fails_for_fresh_files_too_is_reported_and_the_group_kept_for_later() {
    let (folder, disk) = (scratch(), FaultyDisk::new());
    let (mut journal, _) = Journal::open_on(disk.arc(), folder.path(), options(1)).unwrap();
    journal.append(1, b"patient").unwrap();
    disk.faults.syncs.store(3, Ordering::SeqCst);
    let error = journal.commit().unwrap_err();
    assert!(matches!(error, CommitError::Io { .. }), "{error}");
    assert_eq!((journal.committed(), journal.next_sequence()), (0, 1));
    assert_eq!(journal.commit().unwrap(), 1);
    assert_eq!(payloads(folder.path()), vec![(0, b"patient".to_vec())]);
}

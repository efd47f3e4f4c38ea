//! A disk that fails: what is asked of it again, what is reported, what is kept.

use std::sync::atomic::Ordering;

use vedette_journal::{CommitError, Frontier, Journal, OpenError, Reader, Signed, SigningKey, leaf};

use crate::faulty::FaultyDisk;
use crate::folder::{contents, options, scratch, segment_files};

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

#[test]
fn a_folder_of_another_user_is_named_with_both_users() {
    let (folder, disk) = (scratch(), FaultyDisk::new());
    disk.faults.denied.store(true, Ordering::SeqCst);
    let error = Journal::open_on(disk.arc(), folder.path(), options(1)).unwrap_err();
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("belongs to user 1234 while this program runs as user 77"), "{text}");
}

#[test]
fn a_disk_that_fills_while_a_segment_is_reserved_keeps_the_group_and_leaves_nothing_behind() {
    let (folder, disk) = (scratch(), FaultyDisk::new());
    let (mut journal, _) = Journal::open_on(disk.arc(), folder.path(), options(1)).unwrap();
    for _ in 0..60 {
        journal.append(1, &[1; 180]).unwrap();
    }
    journal.commit().unwrap();
    disk.faults.room.store(9000, Ordering::SeqCst);
    journal.append(1, &[2; 4000]).unwrap();
    for _ in 0..3 {
        let error = journal.commit().unwrap_err();
        assert!(matches!(error, CommitError::NoSpace { .. }), "{error}");
    }
    assert_eq!((journal.committed(), journal.next_sequence()), (60, 61));
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "the lock, one segment and its parity: {names:?}");
    disk.faults.room.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(journal.commit().unwrap(), 61);
    assert_eq!(payloads(folder.path()).len(), 61);
}

#[test]
fn sequences_are_left_out_durably_or_not_at_all() {
    let (folder, disk) = (scratch(), FaultyDisk::new());
    let (mut journal, _) = Journal::open_on(disk.arc(), folder.path(), options(1)).unwrap();
    journal.append(1, &payload(0)).unwrap();
    journal.commit().unwrap();
    let before = journal.tree().clone();
    disk.faults.room.store(0, Ordering::SeqCst);
    let error = journal.skip_to(9).unwrap_err();
    assert!(matches!(error, CommitError::NoSpace { .. }), "{error}");
    assert_eq!((journal.committed(), journal.tree()), (1, &before));
    disk.faults.room.store(u64::MAX, Ordering::SeqCst);
    journal.skip_to(9).unwrap();
    assert_eq!(journal.append(1, &payload(9)).unwrap(), 9);
}

/// A segment begun in vain whose removal was not durable: it begins behind the one that follows.
#[test]
fn a_segment_that_comes_back_after_it_was_given_up_is_in_nobodys_way() {
    let (folder, aside) = (scratch(), scratch());
    let (mut journal, _) = Journal::open(folder.path(), options(1)).unwrap();
    journal.append(1, &payload(0)).unwrap();
    journal.skip_to(9).unwrap();
    drop(journal);
    let revived = segment_files(folder.path()).pop().unwrap();
    let kept = aside.path().join(revived.file_name().unwrap());
    std::fs::rename(&revived, &kept).unwrap();
    // The writer that gave it up goes on with the next number.
    std::fs::write(folder.path().join("seg-00000001.log"), b"").unwrap();
    let disk = FaultyDisk::new();
    disk.faults.syncs.store(1, Ordering::SeqCst);
    let (mut journal, _) = Journal::open_on(disk.arc(), folder.path(), options(1)).unwrap();
    for n in 1..5 {
        journal.append(1, &payload(n)).unwrap();
    }
    journal.commit().unwrap();
    drop(journal);
    std::fs::rename(&kept, &revived).unwrap();
    let (journal, recovery) = Journal::open(folder.path(), options(1)).unwrap();
    assert_eq!((recovery.next_sequence, recovery.damage), (5, vec![]));
    let list = journal.segment_list();
    assert!(list.len() == 3 && list.iter().all(|info| info.first_sequence <= info.next_sequence), "{list:?}");
    let expected: Vec<_> = (0..5).map(|n| (n, payload(n))).collect();
    assert_eq!(payloads(folder.path()), expected);
}

#[test]
fn a_page_that_cannot_be_read_is_damage_and_no_failure_to_open() {
    let (folder, disk) = (scratch(), FaultyDisk::new());
    let (mut journal, _) = Journal::open(folder.path(), options(1)).unwrap();
    for n in 0..60u8 {
        journal.append(n, &[n; 180]).unwrap();
        journal.commit().unwrap();
    }
    drop(journal);
    for page in 0..4u64 {
        let bad = page * 4096..(page + 1) * 4096;
        *disk.faults.unreadable.lock().unwrap() = Some(("00000000.log".to_owned(), bad));
        let mut reader = Reader::open_on(disk.arc(), folder.path(), 0).unwrap();
        let mut found = 0u64;
        while let Some(entry) = reader.next().unwrap() {
            assert_eq!((entry.kind, entry.payload), (entry.sequence as u8, vec![entry.sequence as u8; 180]));
            found += 1;
        }
        let lost = 60 - found;
        assert!(lost <= 4096 / 200 + 2 && (page > 0 || lost == 0), "page {page}: {lost} lost");
        let copy = scratch();
        for path in segment_files(folder.path()) {
            std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
        }
        let (mut journal, recovery) = Journal::open_on(disk.arc(), copy.path(), options(1)).unwrap();
        assert!(!recovery.damage.is_empty(), "page {page}");
        assert!(recovery.next_sequence >= 60, "page {page}: {recovery:?}");
        journal.append(1, b"on").unwrap();
        journal.commit().unwrap();
        assert_eq!(journal.segments(), 2, "an unreadable segment is not written again");
    }
}

/// Everything a writer does, on a disk that stops obeying after so many changes.
fn a_life(disk: &FaultyDisk, folder: &std::path::Path) -> (Vec<Signed>, u64) {
    let (mut signed, mut acknowledged) = (Vec::new(), 0);
    let key = SigningKey::from_seed(&[3; 32]);
    // As long as the disk obeys.
    let mut live = || -> Result<(), Box<dyn std::error::Error>> {
        for _ in 0..2 {
            let (mut journal, recovery) = Journal::open_on(disk.arc(), folder, options(1))?;
            assert!(recovery.next_sequence >= acknowledged);
            for round in 0..12u64 {
                for _ in 0..4 {
                    let n = journal.next_sequence();
                    journal.append(1, &payload(n))?;
                }
                acknowledged = journal.commit()?;
                if round % 3 == 0 {
                    signed.push(journal.checkpoint("vedette/stop/1", &key)?);
                }
                if let (4 | 9, Some(oldest)) = (round, journal.segment_list().first()) {
                    journal.thin(oldest.index, &mut |entry| entry.sequence % 3 == 0)?;
                }
                if round == 10 {
                    journal.prune_below(acknowledged / 3)?;
                }
            }
            journal.close()?;
        }
        Ok(())
    };
    let _stopped = live();
    (signed, acknowledged)
}

fn payload(n: u64) -> Vec<u8> {
    vec![n as u8; 400 + n as usize % 90]
}

#[test]
fn a_writer_that_is_stopped_at_any_change_lost_nothing_and_signed_nothing_that_is_not_there() {
    let mut stops = 0;
    for changes in 0u64.. {
        let (folder, disk) = (scratch(), FaultyDisk::new());
        disk.faults.changes_left.store(changes, Ordering::SeqCst);
        let (signed, acknowledged) = a_life(&disk, folder.path());
        let over = disk.faults.changes_left.load(Ordering::SeqCst) > 0;
        let (journal, recovery) = Journal::open(folder.path(), options(1)).unwrap();
        assert_eq!(recovery.damage, [], "stopped after {changes} changes");
        assert!(recovery.next_sequence >= acknowledged, "stopped after {changes} changes: {recovery:?}");
        let mut tree = Frontier::default();
        for n in 0..recovery.next_sequence {
            tree.push(leaf(&payload(n)));
            for one in signed.iter().filter(|one| one.checkpoint.size == n + 1) {
                assert_eq!(one.checkpoint.root, tree.root(), "stopped after {changes} changes");
            }
        }
        assert_eq!(journal.tree(), &tree, "stopped after {changes} changes");
        assert!(signed.iter().all(|one| one.checkpoint.size <= recovery.next_sequence));
        let mut reader = Reader::open(folder.path(), 0).unwrap();
        let mut last = None;
        while let Some(entry) = reader.next().unwrap() {
            assert_eq!(entry.payload, payload(entry.sequence));
            last = Some(entry.sequence);
        }
        assert!(last.map_or(0, |last| last + 1) == recovery.next_sequence && reader.skipped() == 0);
        stops += 1;
        if over {
            break;
        }
    }
    assert!(stops > 100, "{stops} stops");
    println!("{stops} stops");
}

#[test]
fn a_segment_that_could_not_be_cut_is_cut_when_the_disk_works_again() {
    let (folder, disk) = (scratch(), FaultyDisk::new());
    let (mut journal, _) = Journal::open_on(disk.arc(), folder.path(), options(1)).unwrap();
    journal.append(1, b"before").unwrap();
    journal.commit().unwrap();
    let reserved = std::fs::metadata(folder.path().join("seg-00000000.log")).unwrap().len();
    disk.faults.changes_left.store(0, Ordering::SeqCst);
    journal.append(1, b"meanwhile").unwrap();
    journal.commit().unwrap_err();
    disk.faults.changes_left.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(journal.commit().unwrap(), 2);
    let length = std::fs::metadata(folder.path().join("seg-00000000.log")).unwrap().len();
    assert!(length < reserved / 2, "{length} of {reserved} bytes are still taken");
    assert_eq!(journal.segment_list()[0].bytes, length);
    assert_eq!(payloads(folder.path()), [(0, b"before".to_vec()), (1, b"meanwhile".to_vec())]);
}

#[test]
fn whichever_step_of_leaving_sequences_out_fails_what_is_written_after_it_is_read() {
    // Twice: a number that no file has makes readers take what is behind it for the first that is left.
    let mut failed = 0;
    for (first, second) in (0..12).flat_map(|first| (0..12).map(move |second| (first, second))) {
        let (folder, disk) = (scratch(), FaultyDisk::new());
        let (mut journal, _) = Journal::open_on(disk.arc(), folder.path(), options(1)).unwrap();
        journal.append(1, b"before").unwrap();
        journal.commit().unwrap();
        for steps in [first, second] {
            disk.faults.changes_left.store(steps, Ordering::SeqCst);
            failed += u32::from(journal.skip_to(20).is_err());
        }
        disk.faults.changes_left.store(u64::MAX, Ordering::SeqCst);
        journal.append(1, b"after").unwrap();
        journal.commit().unwrap();
        let read: Vec<_> = contents(folder.path(), 0).into_iter().map(|(_, _, payload)| payload).collect();
        assert_eq!(read, [&b"before"[..], b"after"], "steps {first} and {second}");
    }
    assert!(failed > 50, "{failed} failed");
}

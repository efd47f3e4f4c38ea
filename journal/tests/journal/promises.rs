//! What the journal promises, one test a promise.

use std::fs;
use std::time::{Duration, Instant};

use crate::folder::{SEGMENT_DATA_AT, contents, options, scratch, segment_files};
use vedette_journal::{Cursor, CursorFile, Damage, Journal, OpenError, ReadError, Reader, stat};

#[test]
fn what_was_committed_is_there_after_the_writer_is_gone() {
    let folder = scratch();
    let (mut journal, recovery) = Journal::open(folder.path(), options(41)).unwrap();
    assert!(recovery.created);
    assert_eq!((recovery.epoch, recovery.next_sequence), (41, 0));
    for n in 0..10u8 {
        assert_eq!(journal.append(n, &[n; 3]).unwrap(), u64::from(n));
    }
    assert_eq!((journal.committed(), journal.next_sequence()), (0, 10));
    assert_eq!(journal.commit().unwrap(), 10);
    journal.append(10, b"never committed").unwrap();
    drop(journal);

    let (journal, recovery) = Journal::open(folder.path(), options(99)).unwrap();
    assert!(!recovery.created);
    assert_eq!((recovery.epoch, recovery.next_sequence, recovery.cut_bytes), (41, 10, 0));
    assert_eq!((journal.epoch(), journal.committed()), (41, 10));
    let expected: Vec<_> = (0..10u8).map(|n| (u64::from(n), n, vec![n; 3])).collect();
    assert_eq!(contents(folder.path(), 0), expected);
}

#[test]
fn a_commit_is_due_after_so_many_records_or_so_long() {
    let folder = scratch();
    let rules = vedette_journal::Options { commit_records: 3, commit_interval: Duration::from_secs(60), ..options(1) };
    let (mut journal, _) = Journal::open(folder.path(), rules).unwrap();
    let before = Instant::now();
    assert!(!journal.commit_due(before + Duration::from_secs(3600)), "an empty group is never due");
    assert_eq!(journal.next_commit_at(), None);
    journal.append(1, b"a").unwrap();
    let due_at = journal.next_commit_at().unwrap();
    assert!(due_at >= before + Duration::from_secs(60));
    assert!(!journal.commit_due(before) && journal.commit_due(due_at));
    journal.append(1, b"b").unwrap();
    assert!(!journal.commit_due(before));
    journal.append(1, b"c").unwrap();
    assert!(journal.commit_due(before));
    journal.commit().unwrap();
    assert_eq!(journal.next_commit_at(), None);
}

#[test]
fn a_second_writer_is_refused_by_name_of_the_folder_and_of_the_first() {
    let folder = scratch();
    let (first, _) = Journal::open(folder.path(), options(1)).unwrap();
    let error = Journal::open(folder.path(), options(1)).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(&folder.path().display().to_string()), "{text}");
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    drop(first);
    Journal::open(folder.path(), options(1)).unwrap();
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = scratch();
    let file = folder.path().join("a-file");
    fs::write(&file, b"").unwrap();
    let error = Journal::open(&file.join("journal"), options(1)).unwrap_err();
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error}");
    assert!(error.to_string().contains("a-file/journal"), "{error}");
}

#[test]
fn a_torn_tail_is_cut_and_nothing_before_it() {
    let folder = scratch();
    let (mut journal, _) = Journal::open(folder.path(), options(1)).unwrap();
    journal.append(1, b"kept").unwrap();
    journal.commit().unwrap();
    drop(journal);
    let path = segment_files(folder.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let end = SEGMENT_DATA_AT + 24;
    bytes[end..end + 13].copy_from_slice(b"half a record");
    fs::write(&path, &bytes).unwrap();

    let (mut journal, recovery) = Journal::open(folder.path(), options(1)).unwrap();
    assert_eq!((recovery.cut_bytes, recovery.next_sequence), (13, 1));
    assert_eq!(recovery.damage, []);
    journal.append(2, b"later").unwrap();
    journal.commit().unwrap();
    assert_eq!(contents(folder.path(), 0), [(0, 1, b"kept".to_vec()), (1, 2, b"later".to_vec())]);
}

#[test]
fn a_rotten_middle_keeps_both_sides_and_is_reported() {
    let folder = scratch();
    let (mut journal, _) = Journal::open(folder.path(), options(1)).unwrap();
    for n in 0..6u8 {
        journal.append(n, &[n; 4]).unwrap();
        if n % 2 == 1 {
            journal.commit().unwrap();
        }
    }
    drop(journal);
    let path = segment_files(folder.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    // Records of 24 bytes: the second and third, of two groups.
    bytes[SEGMENT_DATA_AT + 24..SEGMENT_DATA_AT + 72].fill(0);
    fs::write(&path, &bytes).unwrap();

    let (mut journal, recovery) = Journal::open(folder.path(), options(1)).unwrap();
    let offset = SEGMENT_DATA_AT as u64 + 24;
    let expected = Damage::Records { segment: 0, offset, bytes: 48, from: 1, to: 3, last_group: false };
    assert_eq!(recovery.damage, [expected]);
    assert_eq!((recovery.next_sequence, recovery.cut_bytes), (6, 0));
    journal.append(6, &[6; 4]).unwrap();
    journal.commit().unwrap();
    assert_eq!(journal.segments(), 2, "a damaged segment is not written again");
    let sequences: Vec<_> = contents(folder.path(), 0).into_iter().map(|(n, _, _)| n).collect();
    assert_eq!(sequences, [0, 3, 4, 5, 6]);
    let mut reader = Reader::open(folder.path(), 0).unwrap();
    while reader.next().unwrap().is_some() {}
    assert_eq!(reader.skipped(), 2);
}

#[test]
fn damage_inside_the_last_group_is_said_to_be_maybe_an_unfinished_write() {
    let folder = scratch();
    let (mut journal, _) = Journal::open(folder.path(), options(1)).unwrap();
    for n in 0..3u8 {
        journal.append(n, &[n; 4]).unwrap();
    }
    journal.commit().unwrap();
    drop(journal);
    let path = segment_files(folder.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[SEGMENT_DATA_AT + 24 + 20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (_, recovery) = Journal::open(folder.path(), options(1)).unwrap();
    assert!(
        matches!(recovery.damage[..], [Damage::Records { from: 1, to: 2, last_group: true, .. }]),
        "{:?}",
        recovery.damage
    );
}

#[test]
fn one_bad_header_costs_nothing_and_two_cost_no_record() {
    let folder = scratch();
    let (mut journal, _) = Journal::open(folder.path(), options(5)).unwrap();
    for n in 0..400u64 {
        journal.append(1, &n.to_le_bytes().repeat(8)).unwrap();
    }
    journal.commit().unwrap();
    drop(journal);
    let whole = contents(folder.path(), 0);
    assert_eq!(whole.len(), 400);
    for path in segment_files(folder.path()).iter().skip(1) {
        for copies in [&[0][..], &[4096], &[0, 4096]] {
            let good = fs::read(path).unwrap();
            let mut bytes = good.clone();
            copies.iter().for_each(|at| bytes[at + 17] ^= 0x40);
            fs::write(path, &bytes).unwrap();
            assert_eq!(contents(folder.path(), 0), whole, "{} {copies:?}", path.display());
            assert_eq!(contents(folder.path(), 300), whole[300..]);
            fs::write(path, &good).unwrap();
        }
    }
    let last = segment_files(folder.path()).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes[..128].fill(0);
    bytes[4096..4224].fill(0);
    fs::write(&last, &bytes).unwrap();
    let (mut journal, recovery) = Journal::open(folder.path(), options(6)).unwrap();
    assert_eq!((recovery.epoch, recovery.next_sequence), (5, 400));
    assert!(matches!(recovery.damage[..], [Damage::Header { .. }]), "{:?}", recovery.damage);
    journal.append(1, b"on").unwrap();
    journal.commit().unwrap();
    assert_eq!(contents(folder.path(), 0).len(), 401);
}

#[test]
fn a_journal_without_any_header_is_set_aside_and_a_new_epoch_begins() {
    let folder = scratch();
    fs::write(folder.path().join("seg-00000004.log"), vec![0xEE; 9000]).unwrap();
    let (mut journal, recovery) = Journal::open(folder.path(), options(8)).unwrap();
    assert_eq!((recovery.epoch, recovery.created), (8, true));
    let aside = folder.path().join("seg-00000004.log.unreadable");
    assert!(recovery.damage.contains(&Damage::SetAside { file: aside.clone() }));
    assert_eq!(fs::read(aside).unwrap(), vec![0xEE; 9000]);
    journal.append(1, b"new").unwrap();
    journal.commit().unwrap();
    assert_eq!(contents(folder.path(), 0), [(0, 1, b"new".to_vec())]);
}

#[test]
fn a_segment_from_the_future_is_refused_by_name_and_not_touched() {
    let folder = scratch();
    let (journal, _) = Journal::open(folder.path(), options(1)).unwrap();
    drop(journal);
    let path = segment_files(folder.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    for at in [0, 4096] {
        bytes[at + 8] = 3;
        let sum = crc32c::crc32c(&bytes[at..at + 124]);
        bytes[at + 124..at + 128].copy_from_slice(&sum.to_le_bytes());
    }
    fs::write(&path, &bytes).unwrap();
    let error = Journal::open(folder.path(), options(1)).unwrap_err();
    assert!(matches!(error, OpenError::FutureVersion { version: 3, .. }), "{error}");
    assert!(error.to_string().contains("seg-00000000.log"), "{error}");
    let error = Reader::open(folder.path(), 0).unwrap_err();
    assert!(matches!(error, ReadError::FutureVersion { version: 3, .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_segment_that_was_being_made_and_foreign_files_are_in_nobodys_way() {
    let folder = scratch();
    fs::write(folder.path().join("seg-00000007.tmp"), b"half").unwrap();
    fs::write(folder.path().join("notes.txt"), b"mine").unwrap();
    fs::write(folder.path().join("seg-1.log"), b"mine too").unwrap();
    let (_journal, recovery) = Journal::open(folder.path(), options(1)).unwrap();
    assert!(recovery.created && recovery.damage.is_empty());
    assert!(!folder.path().join("seg-00000007.tmp").exists());
    assert_eq!(fs::read(folder.path().join("notes.txt")).unwrap(), b"mine");
    assert_eq!(fs::read(folder.path().join("seg-1.log")).unwrap(), b"mine too");
}

#[test]
fn records_of_every_length_come_back_across_segments() {
    let folder = scratch();
    let (mut journal, _) = Journal::open(folder.path(), options(1)).unwrap();
    let lengths: Vec<usize> = (0..70).chain([1003, 1004, 1005, 4096, 16_000, 65_535, 65_536, 0, 1]).collect();
    for length in &lengths {
        journal.append(7, &vec![0xA1; *length]).unwrap();
    }
    journal.commit().unwrap();
    assert!(journal.append(7, &vec![0; 65_537]).is_err());
    let found: Vec<_> = contents(folder.path(), 0).into_iter().map(|(_, _, p)| p.len()).collect();
    assert_eq!(found, lengths);
    drop(journal);
    let (_, recovery) = Journal::open(folder.path(), options(1)).unwrap();
    assert_eq!(recovery.next_sequence, lengths.len() as u64);
}

#[test]
fn a_reader_follows_a_writer_over_segments_and_pruning() {
    let folder = scratch();
    let (mut journal, _) = Journal::open(folder.path(), options(1)).unwrap();
    let mut reader = Reader::open(folder.path(), 0).unwrap();
    let mut slow = Reader::open(folder.path(), 0).unwrap();
    assert_eq!(reader.next().unwrap(), None);
    for n in 0..500u64 {
        journal.append(1, &[1; 200]).unwrap();
        assert_eq!(reader.next().unwrap(), None, "not written yet");
        journal.commit().unwrap();
        assert_eq!(reader.next().unwrap().unwrap().sequence, n);
        assert_eq!(reader.next().unwrap(), None);
    }
    assert!(journal.segments() > 5);
    let removed = journal.prune_below(450).unwrap();
    assert!(removed > 3);
    journal.append(1, b"after").unwrap();
    journal.commit().unwrap();
    assert_eq!(reader.next().unwrap().unwrap().payload, b"after");
    // The slow one still holds the first segment and goes on with what is left behind it.
    let mut seen = Vec::new();
    while let Some(entry) = slow.next().unwrap() {
        seen.push(entry.sequence);
    }
    assert_eq!(seen.last(), Some(&500));
    assert!(seen.is_sorted() && (450..=500).all(|n| seen.contains(&n)));
    assert_eq!((reader.skipped(), slow.skipped()), (0, 0), "pruned is not damaged");
}

#[test]
fn a_reader_below_a_limit_shows_nothing_that_is_not_durable() {
    let folder = scratch();
    let (mut journal, _) = Journal::open(folder.path(), options(1)).unwrap();
    let mut reader = Reader::open(folder.path(), 0).unwrap();
    journal.append(1, b"a").unwrap();
    journal.append(1, b"b").unwrap();
    journal.commit().unwrap();
    assert_eq!(reader.next_below(1).unwrap().unwrap().sequence, 0);
    assert_eq!(reader.next_below(1).unwrap(), None);
    assert_eq!(reader.next_below(journal.committed()).unwrap().unwrap().sequence, 1);
    assert_eq!(reader.next_below(journal.committed()).unwrap(), None);
}

#[test]
fn a_reader_starts_and_seeks_anywhere() {
    let folder = scratch();
    let (mut journal, _) = Journal::open(folder.path(), options(1)).unwrap();
    for n in 0..300u64 {
        journal.append(1, &n.to_le_bytes().repeat(20)).unwrap();
    }
    journal.commit().unwrap();
    let mut reader = Reader::open(folder.path(), 250).unwrap();
    for sequence in [0, 299, 17, 150, 151, 0] {
        reader.seek(sequence).unwrap();
        assert_eq!(reader.position(), sequence);
        let entry = reader.next().unwrap().unwrap();
        assert_eq!((entry.epoch, entry.sequence), (1, sequence));
        assert_eq!(entry.payload[..8], sequence.to_le_bytes());
    }
    reader.seek(300).unwrap();
    assert_eq!(reader.next().unwrap(), None);
    journal.prune_below(200).unwrap();
    reader.seek(0).unwrap();
    let first = reader.next().unwrap().unwrap().sequence;
    assert!((1..=200).contains(&first));
    assert_eq!(stat(folder.path()).unwrap().first_sequence, first);
}

#[test]
fn a_copied_folder_reads_like_the_first_one_without_a_lock() {
    let folder = scratch();
    let (mut journal, _) = Journal::open(folder.path(), options(1)).unwrap();
    for n in 0..200u64 {
        journal.append(2, &[n as u8; 150]).unwrap();
    }
    journal.commit().unwrap();
    let copy = scratch();
    for path in segment_files(folder.path()) {
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    assert_eq!(contents(copy.path(), 0), contents(folder.path(), 0));
    let (original, copied) = (stat(folder.path()).unwrap(), stat(copy.path()).unwrap());
    assert_eq!(original, copied);
    assert_eq!((copied.epoch, copied.next_sequence), (Some(1), 200));
}

#[test]
fn reading_while_another_thread_writes_sees_every_record_once_and_in_order() {
    let folder = scratch();
    let (mut journal, _) = Journal::open(folder.path(), options(1)).unwrap();
    let records = 20_000u64;
    let writer = std::thread::spawn(move || {
        for n in 0..records {
            journal.append(1, &n.to_le_bytes().repeat(1 + n as usize % 40)).unwrap();
            if n % 17 == 0 {
                journal.commit().unwrap();
            }
            if n % 1000 == 999 {
                // The reader may be behind: what it holds open it still reads, the rest may be gone.
                journal.prune_below(0).unwrap();
            }
        }
        journal.commit().unwrap();
    });
    let mut reader = Reader::open(folder.path(), 0).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut expected = 0;
    while expected < records {
        match reader.next().unwrap() {
            Some(entry) => {
                assert_eq!(entry.sequence, expected);
                assert_eq!(entry.payload, expected.to_le_bytes().repeat(1 + expected as usize % 40));
                expected += 1;
            }
            None => assert!(Instant::now() < deadline, "stuck at {expected}"),
        }
    }
    writer.join().unwrap();
    assert_eq!(reader.skipped(), 0);
}

#[test]
fn a_writer_that_knows_of_higher_sequences_never_gives_them_again() {
    let folder = scratch();
    let (mut journal, _) = Journal::open(folder.path(), options(1)).unwrap();
    journal.append(1, b"a").unwrap();
    journal.skip_to(10).unwrap();
    journal.skip_to(5).unwrap();
    assert_eq!(journal.append(1, b"b").unwrap(), 10);
    journal.commit().unwrap();
    drop(journal);
    let (_, recovery) = Journal::open(folder.path(), options(1)).unwrap();
    assert_eq!(recovery.next_sequence, 11);
    assert_eq!(contents(folder.path(), 0), [(0, 1, b"a".to_vec()), (10, 1, b"b".to_vec())]);
}

#[test]
fn a_cursor_lives_beside_the_segments_in_peace() {
    let folder = scratch();
    let cursor = CursorFile::new(folder.path().join("cursor"));
    cursor.store(Cursor { epoch: 1, sequence: 7 }).unwrap();
    let (_journal, recovery) = Journal::open(folder.path(), options(1)).unwrap();
    assert!(recovery.created);
    assert_eq!(cursor.load().unwrap(), Some(Cursor { epoch: 1, sequence: 7 }));
}

//! Rot: bits that flip and pages that stray while nobody looks. Each is detected or harmless, costs at most the
//! record it hit (the page: those it held), and no record that was never written comes out.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use vedette_journal::{Journal, Reader, SigningKey, verify};

use crate::folder::{SEGMENT_DATA_AT, contents, options, scratch, segment_files};

/// What a small journal holds: some segments, groups of three, payloads of many lengths.
fn small_journal(folder: &Path, records: u64) -> BTreeMap<u64, Vec<u8>> {
    let (mut journal, _) = Journal::open(folder, options(9)).unwrap();
    let mut written = BTreeMap::new();
    for n in 0..records {
        let payload: Vec<u8> = (0..40 + n * 37 % 400).map(|i| (i * 7 + n) as u8).collect();
        let sequence = journal.append(3, &payload).unwrap();
        written.insert(sequence, payload);
        if n % 3 == 2 {
            journal.commit().unwrap();
        }
    }
    journal.commit().unwrap();
    written
}

/// What a reader finds, each record held against what was written; returns how many are missing and counted as such.
fn read_back(folder: &Path, written: &BTreeMap<u64, Vec<u8>>, why: &str) -> (usize, u64) {
    let mut reader = Reader::open(folder, 0).unwrap();
    let (mut found, mut last) = (0, None);
    while let Some(entry) = reader.next().unwrap() {
        assert!(last < Some(entry.sequence), "{why}: order");
        assert_eq!((entry.epoch, entry.kind), (9, 3), "{why}");
        assert_eq!(written.get(&entry.sequence), Some(&entry.payload), "{why}: a wrong record");
        last = Some(entry.sequence);
        found += 1;
    }
    (written.len() - found, reader.skipped())
}

/// Leaves of thinned records that stand under one checksum in the journal that flips are made in.
const STUBS_TOGETHER: u64 = 1;

struct Hit {
    path: PathBuf,
    whole: Vec<u8>,
}

fn files(folder: &Path) -> Vec<Hit> {
    let read = |path: PathBuf| Hit { whole: fs::read(&path).unwrap(), path };
    segment_files(folder).into_iter().map(read).collect()
}

/// Bytes of a segment that mean something: both headers, the records, a little of the blank end.
fn meaningful(whole: &[u8]) -> Vec<Range<usize>> {
    let used = whole.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    vec![0..160, 4096..(used + 40).min(whole.len())]
}

#[test]
fn a_flipped_bit_is_detected_or_harmless_and_costs_at_most_its_record() {
    let folder = scratch();
    let written = small_journal(folder.path(), 60);
    let hits = files(folder.path());
    assert!(hits.len() >= 2, "flips across a segment's border matter too");
    let last = hits.len() - 1;
    let (mut flips, mut lost_in_all, mut opened) = (0u32, 0, 0);
    for (number, hit) in hits.iter().enumerate() {
        for byte in meaningful(&hit.whole).into_iter().flatten() {
            // Each bit of the newest segment, one a byte of the older ones.
            let bits = if number == last { 0..8 } else { byte % 8..byte % 8 + 1 };
            for bit in bits {
                let mut rotten = hit.whole.clone();
                rotten[byte] ^= 1 << bit;
                fs::write(&hit.path, &rotten).unwrap();
                let why = format!("segment {number} byte {byte} bit {bit}");
                let (lost, skipped) = read_back(folder.path(), &written, &why);
                assert!(lost <= 1, "{why}: {lost} records lost");
                let end_of_journal = number == last && lost == 1 && skipped == 0;
                assert!(skipped == lost as u64 || end_of_journal, "{why}: not detected");
                lost_in_all += lost;
                flips += 1;
                // Opening for writing: the newest segment is walked, so each flip there shows.
                if number == last && (bit == byte % 8 || end_of_journal) {
                    let (journal, recovery) = Journal::open(folder.path(), options(10)).unwrap();
                    let seen = recovery.cut_bytes > 0 || !recovery.damage.is_empty();
                    assert!(seen, "{why}: opened without a word");
                    assert_eq!(recovery.epoch, 9, "{why}");
                    drop(journal);
                    assert!(read_back(folder.path(), &written, &why).0 <= 1, "{why}");
                    opened += 1;
                }
                fs::write(&hit.path, &hit.whole).unwrap();
            }
        }
    }
    println!("{flips} flips read, {opened} opened, {lost_in_all} times one record lost");
}

#[test]
fn a_page_that_is_zeroed_or_strayed_costs_only_what_it_held() {
    const PAGE: usize = 4096;
    let folder = scratch();
    let written = small_journal(folder.path(), 200);
    let hits = files(folder.path());
    let smallest = 20 + 40;
    let mut tries = 0;
    for hit in &hits {
        for at in (0..hit.whole.len() - PAGE).step_by(512) {
            let donors = [None, Some((at + PAGE) % (hit.whole.len() - PAGE)), Some(SEGMENT_DATA_AT)];
            for donor in donors {
                let mut rotten = hit.whole.clone();
                match donor {
                    None => rotten[at..at + PAGE].fill(0),
                    Some(from) => rotten[at..at + PAGE].copy_from_slice(&hit.whole[from..from + PAGE]),
                }
                fs::write(&hit.path, &rotten).unwrap();
                let why = format!("{} at {at} from {donor:?}", hit.path.display());
                let (lost, _) = read_back(folder.path(), &written, &why);
                assert!(lost <= PAGE / smallest + 2, "{why}: {lost}");
                tries += 1;
            }
        }
        fs::write(&hit.path, &hit.whole).unwrap();
    }
    println!("{tries} pages");
}

/// Each bit of a closed journal of several segments with checkpoints, thinned records and notes in it, opened for
/// writing and read: it shows, costs one record at most, and the log still is what was signed.
#[test]
fn a_bit_that_flips_in_a_closed_journal_shows_and_contradicts_nothing_that_was_signed() {
    let folder = scratch();
    let key = SigningKey::from_seed(&[2; 32]);
    let mut written = small_journal(folder.path(), 100);
    let (mut journal, _) = Journal::open(folder.path(), options(9)).unwrap();
    let signed = journal.checkpoint("vedette/rot/9", &key).unwrap();
    let oldest = journal.segment_list()[0];
    journal.thin(oldest.index, &mut |entry| entry.sequence % 4 != 0).unwrap();
    (0..oldest.next_sequence).step_by(4).for_each(|n| drop(written.remove(&n)));
    let tree = journal.tree().clone();
    journal.close().unwrap();
    let hits = files(folder.path());
    assert!(hits.len() > 2);
    let (mut flips, mut at) = (0, 0);
    for hit in &hits {
        // Each byte, of the long idle parts (all under one checksum) some.
        while at < hit.whole.len() * 8 {
            let byte = at / 8;
            let mut rotten = hit.whole.clone();
            rotten[byte] ^= 1 << (at % 8);
            fs::write(&hit.path, &rotten).unwrap();
            let why = format!("{} bit {at}", hit.path.display());
            let mut seen = 0;
            let report = verify(folder.path(), Some(&key.public()), &mut |entry| {
                assert_eq!(written.get(&entry.sequence), Some(&entry.payload), "{why}: a wrong record");
                seen += 1;
            });
            let report = report.unwrap();
            assert!(!report.is_sound(), "{why}: verified without a word: {report:?}");
            assert!(written.len() - seen <= 1 && report.lost <= 1 + STUBS_TOGETHER, "{why}: {report:?}");
            assert!(report.mismatch.is_none() && report.fork.is_none(), "{why}: {report:?}");
            if hit.path == hits[hits.len() - 1].path {
                let (journal, recovery) = Journal::open(folder.path(), options(10)).unwrap();
                assert!(!recovery.damage.is_empty() || recovery.cut_bytes > 0, "{why}: opened without a word");
                // A checkpoint of the tree as it was: it still is, whatever was lost.
                assert_eq!((journal.tree(), signed.checkpoint.size), (&tree, tree.size()), "{why}");
                drop(journal);
                for path in segment_files(folder.path()) {
                    if !hits.iter().any(|hit| hit.path == path) {
                        fs::remove_file(path).unwrap();
                    }
                }
            }
            fs::write(&hit.path, &hit.whole).unwrap();
            flips += 1;
            at += if (200..4000).contains(&byte) { 797 } else { 8 * 3 + 1 };
        }
        at = flips % 8;
    }
    println!("{flips} flips in a closed journal");
}

#[test]
fn a_record_inside_the_payload_of_a_damaged_one_is_not_believed() {
    let folder = scratch();
    // A whole true record, at the offset where it would stand inside the next one's payload.
    let (mut journal, _) = Journal::open(folder.path(), options(9)).unwrap();
    journal.append(1, b"innocent").unwrap();
    journal.commit().unwrap();
    let path = segment_files(folder.path()).remove(0);
    let bytes = fs::read(&path).unwrap();
    let mut payload = vec![0; 4];
    payload.extend_from_slice(&bytes[SEGMENT_DATA_AT..SEGMENT_DATA_AT + 32]);
    journal.append(2, &payload).unwrap();
    journal.append(3, b"behind").unwrap();
    journal.commit().unwrap();
    drop(journal);
    let mut bytes = fs::read(&path).unwrap();
    bytes[SEGMENT_DATA_AT + 32 + 17] = 0;
    fs::write(&path, &bytes).unwrap();
    let kinds: Vec<u8> = contents(folder.path(), 0).into_iter().map(|(_, kind, _)| kind).collect();
    assert_eq!(kinds, [1, 3]);
}

#[test]
fn a_segment_of_another_journal_is_passed_over() {
    let (ours, theirs) = (scratch(), scratch());
    let written = small_journal(ours.path(), 100);
    let (mut journal, _) = Journal::open(theirs.path(), options(77)).unwrap();
    for _ in 0..100 {
        journal.append(3, &[0xFF; 300]).unwrap();
    }
    journal.commit().unwrap();
    let name = "seg-00000001.log";
    let kept = fs::read(ours.path().join(name)).unwrap();
    fs::copy(theirs.path().join(name), ours.path().join(name)).unwrap();
    let (lost, _) = read_back(ours.path(), &written, "foreign");
    assert!(lost > 0 && lost < written.len());
    fs::write(ours.path().join(name), kept).unwrap();
    assert_eq!(read_back(ours.path(), &written, "back again").0, 0);
}

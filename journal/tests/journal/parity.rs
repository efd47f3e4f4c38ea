//! Parity: a page that rots in a finished segment is made again, by who reads and for good by who opens; and parity that
//! is rotten itself, old, or of other bytes never harms.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use vedette_journal::{Damage, Finding, Journal, Mended, Report, repair, verify};

use crate::folder::{contents, options, parity_files, scratch, segment_files};

const PAGE: usize = 4096;

/// Some segments, closed.
fn closed_journal(folder: &Path, records: u64) -> BTreeMap<u64, Vec<u8>> {
    let (mut journal, _) = Journal::open(folder, options(9)).unwrap();
    let mut written = BTreeMap::new();
    for n in 0..records {
        let payload: Vec<u8> = (0..40 + n * 37 % 400).map(|i| (i * 7 + n) as u8).collect();
        written.insert(journal.append(3, &payload).unwrap(), payload);
    }
    journal.commit().unwrap();
    journal.close().unwrap();
    written
}

fn read_back(folder: &Path) -> BTreeMap<u64, Vec<u8>> {
    contents(folder, 0).into_iter().map(|(sequence, _, payload)| (sequence, payload)).collect()
}

fn report(folder: &Path) -> Report {
    verify(folder, None, &mut |_| {}).unwrap()
}

/// Each page of each segment: what it was, and with the page changed.
fn rotten(folder: &Path, change: impl Fn(&mut [u8])) -> Vec<(PathBuf, Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for path in segment_files(folder) {
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(PAGE) {
            let mut bytes = whole.clone();
            change(&mut bytes[at..whole.len().min(at + PAGE)]);
            if bytes != whole {
                all.push((path.clone(), whole.clone(), bytes));
            }
        }
    }
    assert!(all.len() > 8, "{}", all.len());
    all
}

#[test]
fn a_page_that_rots_in_a_closed_journal_costs_nothing_and_shows() {
    let folder = scratch();
    let written = closed_journal(folder.path(), 150);
    assert!(report(folder.path()).is_sound());
    for (path, whole, bytes) in rotten(folder.path(), |page| page.fill(0)) {
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read_back(folder.path()), written);
        let report = report(folder.path());
        assert_eq!((report.worst(), report.lost), (Some(Finding::Mismatch), 0), "{report:?}");
        assert!(report.healed_bytes > 0 && report.healed_bytes <= PAGE as u64, "{report:?}");
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn who_opens_a_closed_journal_writes_the_page_back_and_says_so() {
    let folder = scratch();
    let written = closed_journal(folder.path(), 150);
    let newest = segment_files(folder.path()).pop().unwrap();
    let places: Vec<_> =
        rotten(folder.path(), |page| page.fill(0xA5)).into_iter().filter(|(path, ..)| *path == newest).collect();
    assert!(places.len() > 1);
    for (path, whole, bytes) in places {
        fs::write(&path, &bytes).unwrap();
        let (journal, recovery) = Journal::open(folder.path(), options(10)).unwrap();
        assert!(matches!(recovery.damage[..], [Damage::Page { .. }]), "{recovery:?}");
        assert_eq!((recovery.epoch, recovery.next_sequence, recovery.cut_bytes), (9, 150, 0));
        drop(journal);
        assert_eq!(fs::read(&path).unwrap()[..whole.len()], whole);
        assert_eq!(read_back(folder.path()), written);
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_repair_writes_rotten_pages_and_rotten_parity_anew() {
    let folder = scratch();
    closed_journal(folder.path(), 150);
    let segments = segment_files(folder.path());
    let whole: Vec<_> = segments
        .iter()
        .chain(&parity_files(folder.path()))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    for (path, bytes) in &whole {
        let mut rotten = bytes.clone();
        let middle = bytes.len() / 2;
        rotten[middle] ^= 0x10;
        fs::write(path, &rotten).unwrap();
        assert!(!report(folder.path()).is_sound(), "{}", path.display());
        let repaired = repair(folder.path()).unwrap();
        assert!(matches!(repaired.mended[..], [Mended::Page(_)] | [Mended::Parity { .. }]), "{repaired:?}");
        assert!(repaired.report.is_sound(), "{repaired:?}");
        assert_eq!(fs::read(path).unwrap(), *bytes, "{}", path.display());
    }
}

#[test]
fn two_rotten_pages_of_a_stripe_are_not_made_up() {
    let folder = scratch();
    let written = closed_journal(folder.path(), 150);
    let path = segment_files(folder.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[PAGE + 600..3 * PAGE - 600].fill(0);
    fs::write(&path, &bytes).unwrap();
    let left = read_back(folder.path());
    assert!(left.len() < written.len() && left.len() > written.len() / 2, "{}", left.len());
    assert!(left.iter().all(|(sequence, payload)| written[sequence] == *payload));
    assert_eq!(report(folder.path()).worst(), Some(Finding::Gap));
}

#[test]
fn a_rotten_bit_of_the_parity_shows_and_takes_nothing() {
    let folder = scratch();
    let written = closed_journal(folder.path(), 60);
    for path in parity_files(folder.path()) {
        let whole = fs::read(&path).unwrap();
        for byte in (0..whole.len()).step_by(5) {
            let mut rotten = whole.clone();
            rotten[byte] ^= 1 << (byte % 8);
            fs::write(&path, &rotten).unwrap();
            let report = report(folder.path());
            assert_eq!((report.parity_damage, report.lost, report.healed_bytes), (1, 0, 0), "byte {byte}: {report:?}");
        }
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(report(folder.path()).parity_damage, 1);
        assert_eq!(read_back(folder.path()), written);
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn parity_that_is_older_than_the_end_of_its_segment_heals_its_part_and_leaves_the_rest() {
    let folder = scratch();
    closed_journal(folder.path(), 20);
    let (mut journal, _) = Journal::open(folder.path(), options(9)).unwrap();
    let written: Vec<_> = (0..5).map(|n| journal.append(4, &[n; 100]).unwrap()).collect();
    journal.commit().unwrap();
    drop(journal);
    let all = read_back(folder.path());
    assert_eq!(all.len(), 25);
    let path = segment_files(folder.path()).pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[PAGE + 200..PAGE + 900].fill(0);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(read_back(folder.path()), all);
    let (journal, recovery) = Journal::open(folder.path(), options(9)).unwrap();
    assert!(matches!(recovery.damage[..], [Damage::Page { .. }]), "{recovery:?}");
    assert_eq!(journal.next_sequence(), written[4] + 1);
}

#[test]
fn what_was_thinned_stays_away_whatever_rots() {
    let folder = scratch();
    closed_journal(folder.path(), 150);
    let (mut journal, _) = Journal::open(folder.path(), options(9)).unwrap();
    let oldest = journal.segment_list()[0];
    journal.thin(oldest.index, &mut |entry| entry.sequence % 2 == 0).unwrap();
    drop(journal);
    let written = read_back(folder.path());
    assert!(written.len() < 150);
    for (path, whole, bytes) in rotten(folder.path(), |page| page.fill(0)) {
        fs::write(&path, &bytes).unwrap();
        let left = read_back(folder.path());
        assert!(left.iter().all(|(sequence, payload)| written.get(sequence) == Some(payload)));
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(read_back(folder.path()), written);
}

#[test]
fn parity_goes_with_its_segment() {
    let folder = scratch();
    closed_journal(folder.path(), 150);
    let (mut journal, _) = Journal::open(folder.path(), options(9)).unwrap();
    let newest = *journal.segment_list().last().unwrap();
    assert!(journal.prune_below(newest.first_sequence).unwrap() > 0);
    drop(journal);
    assert_eq!((segment_files(folder.path()).len(), parity_files(folder.path()).len()), (1, 1));
    fs::copy(&parity_files(folder.path())[0], folder.path().join("seg-000000ff.par")).unwrap();
    drop(Journal::open(folder.path(), options(9)).unwrap());
    assert_eq!(parity_files(folder.path()).len(), 1, "what no segment is left for goes at the next start");
}

/// Added to, never edited: a byte that changes here makes the parity of every journal in the field useless.
#[test]
fn the_bytes_of_a_parity_file_are_pinned() {
    let folder = scratch();
    let (mut journal, _) = Journal::open(folder.path(), options(7)).unwrap();
    journal.append(1, b"pinned").unwrap();
    journal.close().unwrap();
    let bytes = fs::read(&parity_files(folder.path())[0]).unwrap();
    let covered = fs::metadata(&segment_files(folder.path())[0]).unwrap().len();
    let pages = covered.div_ceil(PAGE as u64) as usize;
    let mut head = b"VEDETTEP\x01\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0".to_vec();
    head.extend_from_slice(&covered.to_le_bytes());
    assert_eq!(bytes[..32], head);
    assert_eq!(bytes.len(), 32 + (pages + 1) * 4 + 4 + PAGE);
    let segment = fs::read(&segment_files(folder.path())[0]).unwrap();
    let mut parity = vec![0; PAGE];
    for page in segment.chunks(PAGE) {
        parity.iter_mut().zip(page).for_each(|(into, byte)| *into ^= byte);
    }
    assert_eq!(bytes[bytes.len() - PAGE..], parity);
}

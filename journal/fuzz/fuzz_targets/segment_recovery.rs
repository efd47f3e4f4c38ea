//! A segment of hostile bytes, also with true checksums over them: the journal opens, takes a record and gives it back;
//! reading, verifying, proving and exporting end and do not panic.

#![no_main]

use std::fs;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use vedette_journal::{Journal, Options, Proofs, Reader, SEGMENT_BYTES_MIN, export_bundle, repair, verify};

/// Its name, and that of its parity.
const SEGMENT: &str = "seg-00000000.log";
const PARITY: &str = "seg-00000000.par";

/// A segment as the journal writes it, to be damaged; its parity lies beside it.
fn whole(folder: &Path, records: u8) -> Vec<u8> {
    let options = Options { segment_bytes: SEGMENT_BYTES_MIN, ..Options::new(7) };
    let (mut journal, _) = Journal::open(folder, options).expect("an empty folder is opened");
    for number in 0..records {
        journal.append(number % 5, &vec![number; usize::from(number)]).expect("there is room");
    }
    journal.commit().expect("the disk is whole");
    journal.close().expect("the disk is whole");
    fs::read(folder.join(SEGMENT)).expect("it was just written")
}

/// The first byte says how many records, whether to begin with a whole segment, and whether its parity is damaged as well;
/// then come patches of five bytes: offset, how many bytes, and the byte that is written there. Without a whole segment all
/// bytes are the segment.
fn segment(folder: &Path, bytes: &[u8]) -> Vec<u8> {
    let Some((first, rest)) = bytes.split_first() else { return Vec::new() };
    if first & 1 == 0 {
        return rest.to_vec();
    }
    let mut segment = whole(folder, first >> 2);
    let mut parity = fs::read(folder.join(PARITY)).expect("a closed segment has one");
    for (number, patch) in rest.chunks_exact(5).enumerate() {
        let bytes = if first & 2 == 2 && number % 2 == 1 { &mut parity } else { &mut segment };
        let at = usize::from(u16::from_le_bytes([patch[0], patch[1]])) % bytes.len();
        let end = (at + usize::from(u16::from_le_bytes([patch[2], patch[3]])) % 600).min(bytes.len());
        bytes[at..end].iter_mut().for_each(|byte| *byte ^= patch[4]);
    }
    fs::write(folder.join(PARITY), parity).expect("the folder can be written");
    segment
}

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder can be made");
    let folder = folder.path();
    let segment = segment(folder, bytes);
    fs::write(folder.join(SEGMENT), &segment).expect("the folder can be written");
    let before = verify(folder, None, &mut |_| {});
    if let Ok(report) = &before {
        let range = report.first_sequence..report.next_sequence;
        export_bundle(folder, range, &mut Vec::new()).ok();
        let proofs = Proofs::open(folder).expect("the folder is there");
        proofs.inclusion(report.first_sequence, report.next_sequence).ok();
        repair(folder).expect("nobody else has it");
    }
    let options = Options { segment_bytes: SEGMENT_BYTES_MIN, ..Options::new(9) };
    // A newer format is refused; everything else opens.
    let Ok((mut journal, recovery)) = Journal::open(folder, options) else {
        assert!(before.is_err());
        return;
    };
    let sequence = journal.append(1, b"after").expect("there is room");
    assert_eq!(sequence, recovery.next_sequence);
    journal.commit().expect("the disk is whole");
    drop(journal);
    let mut reader = Reader::open(folder, sequence).expect("it was just written");
    let entry = reader.next().expect("it can be read").expect("the record is there");
    assert_eq!((entry.sequence, entry.payload.as_slice()), (sequence, &b"after"[..]));
    verify(folder, None, &mut |_| {}).expect("it was just written");
});

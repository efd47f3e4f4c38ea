//! Rot: single bits that flip and pages that are zeroed or come from elsewhere, anywhere in a journal that was closed. Each must
//! be noticed, cost one record at most, and that one it touched, and never be read as something that was not written.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use vedette_journal::{Against, Entry, Journal, Options, ReadError, Reader, SEGMENT_BYTES_MIN, SigningKey, verify_on};
use vedette_tests::random::Random;
use vedette_tests::sim_disk::SimDisk;

use crate::setting::Setting;
use crate::table::Row;

/// Bits and pages of a quick run and of a long one.
const BITS: (u64, u64) = (10_000, 100_000);
const PAGES: (u64, u64) = (1_000, 10_000);
/// What a disk loses or misplaces at a time.
const PAGE_BYTES: usize = 4096;
/// Records of the journal: four segments.
const RECORDS: u64 = 250;
/// Between two signed checkpoints.
const CHECKPOINT_RECORDS: u64 = 50;
/// A payload is long enough to be found among the bytes of a segment, and so is the record that it is in.
const PAYLOAD_BYTES: (u64, u64) = (32, 300);
/// Bytes of a record in front of its payload, and at most behind it.
const AROUND_BYTES: (usize, usize) = (20, 7);
/// Records that one harm may take.
const COST_MAX: u64 = 1;
/// Misses that are told one by one.
const TOLD: usize = 4;

const FOLDER: &str = "/journal";

/// A closed journal.
struct Closed {
    disk: SimDisk,
    key: SigningKey,
    records: BTreeMap<u64, Vec<u8>>,
    /// Where each record is: file and bytes.
    places: Vec<(PathBuf, Range<usize>, u64)>,
}

/// What happened to a file.
struct Harm {
    path: PathBuf,
    bytes: Range<usize>,
    what: String,
}

/// Makes the harm and counts.
pub(crate) fn run(setting: &Setting) -> anyhow::Result<Row> {
    let mut random = Random::new(setting.random("rot").number());
    let closed = Closed::new(&mut random)?;
    let (bits, pages) = (setting.tries(BITS.0, BITS.1), setting.tries(PAGES.0, PAGES.1));
    let mut row = Row::default();
    anyhow::ensure!(closed.check(&closed.disk.copy(), None)?.sound, "the journal is not sound before it is harmed");
    let (mut unnoticed, mut panics, mut cost) = (0, 0, 0);
    for at in 0..bits + pages {
        if at % 100 == 0 {
            setting.progress(at, bits + pages, if at < bits { "bits" } else { "pages" })?;
        }
        let disk = closed.disk.copy();
        let harm = if at < bits { closed.flip(&disk, &mut random) } else { closed.page(&disk, &mut random) };
        row.tries += 1;
        row.acknowledged += RECORDS;
        let Ok(found) = catch_unwind(AssertUnwindSafe(|| closed.check(&disk, Some(&harm)))) else {
            panics += 1;
            row.misses.push(format!("a panic after {}", harm.what));
            continue;
        };
        match found {
            Err(error) => {
                row.open_failures += 1;
                row.misses.push(format!("{error:#}, after {}", harm.what));
            }
            Ok(found) => {
                row.lost += found.lost;
                row.wrong += found.wrong;
                cost += found.cost;
                row.lost += found.cost.saturating_sub(COST_MAX);
                unnoticed += u64::from(found.sound);
                if found.sound || found.lost + found.wrong > 0 || found.cost > COST_MAX {
                    let Found { sound, lost, wrong, cost } = found;
                    let lost = lost + cost;
                    row.misses.push(format!("{lost} lost, {wrong} wrong, noticed: {} after {}", !sound, harm.what));
                }
            }
        }
    }
    row.misses.truncate(TOLD);
    row.expect(unnoticed == 0, || format!("{unnoticed} went unnoticed"));
    row.expect(panics == 0, || format!("{panics} panics"));
    row.figures
        .push(format!("{bits} bits, {pages} pages: {cost} records lost, what was hit was made again from parity"));
    Ok(row)
}

/// What was found after a harm.
struct Found {
    /// Verification called it sound.
    sound: bool,
    /// Records that are gone although the harm did not touch them.
    lost: u64,
    wrong: u64,
    /// Records that are gone because it did.
    cost: u64,
}

impl Closed {
    fn new(random: &mut Random) -> anyhow::Result<Self> {
        let disk = SimDisk::new(0);
        let key = SigningKey::from_seed(&[3; 32]);
        let options = Options { segment_bytes: SEGMENT_BYTES_MIN, ..Options::new(7) };
        let (mut journal, _) = Journal::open_on(Arc::new(disk.clone()), Path::new(FOLDER), options)?;
        let mut records = BTreeMap::new();
        for sequence in 0..RECORDS {
            let bytes = random.between(PAYLOAD_BYTES.0, PAYLOAD_BYTES.1);
            let payload = random.bytes(usize::try_from(bytes)?);
            journal.append(3, &payload)?;
            records.insert(sequence, payload);
            if random.chance(1, 8) {
                journal.commit()?;
            }
            if sequence % CHECKPOINT_RECORDS == CHECKPOINT_RECORDS - 1 {
                journal.checkpoint("vedette/box-1/7", &key)?;
            }
        }
        journal.close()?;
        let mut places = Vec::new();
        // Parity repeats what is alone in its stripe, and is no place of it.
        let segments = disk.files().into_iter().filter(|(path, _)| path.extension().is_some_and(|name| name == "log"));
        for (path, content) in segments {
            for (sequence, payload) in &records {
                if let Some(at) = content.windows(payload.len()).position(|window| window == payload) {
                    let bytes = at - AROUND_BYTES.0..at + payload.len() + AROUND_BYTES.1;
                    places.push((path.clone(), bytes, *sequence));
                }
            }
        }
        anyhow::ensure!(places.len() == records.len(), "{} of {RECORDS} records were found", places.len());
        Ok(Self { disk, key, records, places })
    }

    /// Flips a bit.
    fn flip(&self, disk: &SimDisk, random: &mut Random) -> Harm {
        let files = disk.files();
        let all: usize = files.iter().map(|(_, content)| content.len()).sum();
        let mut at = random.index(all);
        let mut path = PathBuf::new();
        for (there, content) in files {
            path = there;
            if at < content.len() {
                break;
            }
            at -= content.len();
        }
        let bit = random.below(8);
        disk.damage(&path, |content| content[at] ^= 1 << bit);
        Harm { what: format!("bit {bit} of byte {at} of {} was flipped", path.display()), path, bytes: at..at + 1 }
    }

    /// Zeroes a page, or puts another one in its place; one that differs from what it was.
    fn page(&self, disk: &SimDisk, random: &mut Random) -> Harm {
        let files = disk.files();
        let page = |random: &mut Random| {
            let (path, content) = &files[random.index(files.len())];
            let first = random.index(content.len().div_ceil(PAGE_BYTES)) * PAGE_BYTES;
            (path.clone(), first..content.len().min(first + PAGE_BYTES), Arc::clone(content))
        };
        loop {
            let (path, bytes, content) = page(random);
            let (from, what) = match random.below(2) {
                0 => (vec![0; bytes.len()], "zeros".to_owned()),
                _ => {
                    let (other, range, content) = page(random);
                    let mut from = content[range.clone()].to_vec();
                    from.resize(bytes.len(), 0);
                    (from, format!("bytes {range:?} of {}", other.display()))
                }
            };
            if content[bytes.clone()] != from[..] {
                disk.damage(&path, |content| content[bytes.clone()].copy_from_slice(&from));
                let what = format!("bytes {bytes:?} of {} became {what}", path.display());
                return Harm { path, bytes, what };
            }
        }
    }

    /// Verifies, opens and reads what is on the disk.
    fn check(&self, disk: &SimDisk, harm: Option<&Harm>) -> anyhow::Result<Found> {
        let shared = || Arc::new(disk.clone());
        let folder = Path::new(FOLDER);
        let mut wrong = 0;
        let mut verified = 0;
        let key = self.key.public();
        let against = Against { key: Some(&key), earlier: None };
        let report = verify_on(shared(), folder, &against, &mut |entry| {
            verified += 1;
            wrong += u64::from(!self.is_true(entry));
        })
        .context("it could not be verified")?;
        let sound = report.is_sound();
        let options = Options { segment_bytes: SEGMENT_BYTES_MIN, ..Options::new(8) };
        let opened = Journal::open_on(shared(), folder, options);
        let (_journal, _) = opened.context("it did not open")?;
        let mut seen = Vec::new();
        let unread = |error: ReadError| anyhow::Error::new(error).context("it could not be read");
        let mut reader = Reader::open_on(shared(), folder, 0).map_err(unread)?;
        while let Some(entry) = reader.next().map_err(unread)? {
            wrong += u64::from(!self.is_true(&entry) || seen.last().is_some_and(|last| *last >= entry.sequence));
            seen.push(entry.sequence);
        }
        let missing = self.places.iter().filter(|(_, _, sequence)| seen.binary_search(sequence).is_err());
        let (hit, gone): (Vec<_>, Vec<_>) = missing.partition(|(path, bytes, _)| {
            harm.is_some_and(|harm| harm.path == *path && harm.bytes.start < bytes.end && bytes.start < harm.bytes.end)
        });
        // What can be read after the journal was mended could be verified before.
        let unverified = (seen.len() as u64).saturating_sub(verified);
        Ok(Found { sound, lost: gone.len() as u64 + unverified, wrong, cost: hit.len() as u64 })
    }

    fn is_true(&self, entry: &Entry) -> bool {
        entry.kind == 3 && self.records.get(&entry.sequence) == Some(&entry.payload)
    }
}

//! The view against the journal: the same answers, also after its files were damaged in every way.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::ops::Range;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use vedette_journal::{Journal, Options};
use vedette_protocol::id::{BootId, Digest};
use vedette_protocol::number::Finite32;
use vedette_protocol::record::{Anomaly, Body, Cause, PreviousEnd, Record, ScoredBy, Verdict};
use vedette_protocol::time::{Quality, Stamp};
use vedette_protocol::{cbor, id::RecordId};

use super::*;

const EPOCH: u64 = 7;
const CAP: u64 = 8 << 20;
const T: i64 = 1_800_000_000_000;

/// A journal to look at, written record by record.
struct Bench {
    dir: tempfile::TempDir,
    writer: Journal,
    second: u64,
}

impl Bench {
    fn new() -> Self {
        // In memory where there is such a folder: the disk has no part in these promises, and thousands of tries would wait for it.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let (writer, _) = Journal::open(&dir.path().join("journal"), Options::new(EPOCH)).unwrap();
        Self { dir, writer, second: 0 }
    }

    fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    fn index(&self) -> PathBuf {
        self.dir.path().join("index")
    }

    /// Writes a record, a second after the one before it by a wall clock that is off by so much.
    fn write(&mut self, boot: u8, off_ms: i64, quality: Quality, body: Body) -> u64 {
        self.second += 1;
        let wall_ms = T + i64::try_from(self.second).unwrap() * 1000 + off_ms;
        let stamp =
            Stamp { boot: BootId::from_bytes([boot; 16]), monotonic_ns: self.second * 1_000_000_000, wall_ms, quality };
        let kind = body.kind() as u8;
        self.writer.append(kind, &cbor::to_canonical(&Record { stamp, body })).unwrap()
    }

    fn commit(&mut self) -> u64 {
        self.writer.commit().unwrap()
    }

    /// Opens the view in a folder as the index's thread does, and brings it up to the journal's end.
    fn open(&self, folder: &Path) -> Store {
        let mut store = Store::open(folder, EPOCH, CAP).unwrap();
        let mut reader = Reader::open(&self.journal(), store.next_sequence()).unwrap();
        while step(&mut store, &mut reader, self.writer.committed()).unwrap() {}
        store
    }

    /// Some life: boots, anomalies of three streams, verdicts on some of them, a clock that is set.
    fn live(&mut self, anomalies: u64) {
        for boot in 1..=2 {
            let (off_ms, quality) = if boot == 1 { (-9_000_000, Quality::Floor) } else { (0, Quality::System) };
            let start = Body::Boot { agent_version: "1".to_owned(), previous: PreviousEnd::First };
            self.write(boot, off_ms, quality, start);
            for n in 0..anomalies / 2 {
                let sequence = self.write(boot, off_ms, quality, anomaly(n));
                if n % 3 == 0 {
                    self.write(boot, off_ms, quality, verdict(sequence, Verdict::FalseAlarm));
                }
                if n % 6 == 0 {
                    self.write(boot, off_ms, quality, verdict(sequence, Verdict::Confirmed));
                }
            }
            let set = Body::Clock { old_ms: 0, new_ms: 0, quality: Quality::System };
            self.write(boot, 0, Quality::System, set);
        }
        self.commit();
    }
}

fn anomaly(n: u64) -> Body {
    let stream = ["a", "b", "server-room"][usize::try_from(n % 3).unwrap()];
    Body::Anomaly(Anomaly {
        stream: stream.parse().unwrap(),
        row: n,
        // Times before 1970 too, and not in the order of the records.
        at_ms: (i64::try_from(n).unwrap() * 7919) % 1000 - 500,
        cause: Cause::Baseline,
        score: Finite32::saturating(n as f32),
        threshold: Finite32::saturating(0.5),
        top: Vec::new(),
        by: ScoredBy::Baseline { version: 1 },
        input: Digest::of(&n.to_le_bytes()),
    })
}

fn verdict(sequence: u64, verdict: Verdict) -> Body {
    let record = RecordId { device: "box".parse().unwrap(), epoch: EPOCH, sequence };
    Body::Verdict { record, verdict, by: "me".to_owned(), note: None }
}

fn queries() -> Vec<Query> {
    let all = Query { limit: 1000, ..Query::default() };
    vec![
        all.clone(),
        Query { limit: 7, ..Query::default() },
        Query { after: Some(20), limit: 5, ..Query::default() },
        Query { stream: Some("a".parse().unwrap()), since_ms: Some(-100), until_ms: Some(100), ..all },
    ]
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// Numbers without order, the same each time.
fn random(seed: &mut u64, below: Range<u64>) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    below.start + (*seed >> 33) % (below.end - below.start).max(1)
}

/// A way to damage one file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip { at: u64, bit: u8 },
    Cut { length: u64 },
    Gone,
}

fn damages(file: &Path) -> Vec<Damage> {
    let bytes = std::fs::read(file).unwrap();
    let length = bytes.len() as u64;
    let flips: Vec<u64> = if length <= 2048 {
        (0..length).collect()
    } else {
        // The data first: most of a file of sled's is zeros.
        let data: Vec<u64> = (0..length).filter(|at| bytes[usize::try_from(*at).unwrap()] != 0).collect();
        let mut seed = 3;
        let in_data = (0..1500).map(|_| data[usize::try_from(random(&mut seed, 0..data.len() as u64)).unwrap()]);
        let mut flips: Vec<u64> = in_data.collect();
        flips.extend((0..600).map(|_| random(&mut seed, 0..length)));
        flips
    };
    let mut seed = 5;
    let mut damages: Vec<Damage> =
        flips.into_iter().map(|at| Damage::Flip { at, bit: u8::try_from(at % 8).unwrap() }).collect();
    damages.extend((0..220).map(|_| Damage::Cut { length: random(&mut seed, 0..length) }));
    damages.push(Damage::Gone);
    damages
}

fn damage(file: &Path, damage: Damage) {
    match damage {
        Damage::Flip { at, bit } => {
            let mut bytes = std::fs::read(file).unwrap();
            bytes[usize::try_from(at).unwrap()] ^= 1 << bit;
            std::fs::write(file, bytes).unwrap();
        }
        Damage::Cut { length } => std::fs::File::options().write(true).open(file).unwrap().set_len(length).unwrap(),
        Damage::Gone => std::fs::remove_file(file).unwrap(),
    }
}

#[test]
fn a_view_that_was_flipped_cut_or_robbed_of_a_file_answers_as_the_journal_does() {
    let mut bench = Bench::new();
    bench.live(60);
    bench.open(&bench.index()).close(&bench.index()).unwrap();
    let wanted: Vec<Vec<Found>> = queries().iter().map(|q| scan(&bench.journal(), q).unwrap()).collect();
    assert!(wanted.iter().all(|found| !found.is_empty()));
    let folder = bench.dir.path().join("damaged");
    let mut tries = 0;
    for file in std::fs::read_dir(bench.index()).unwrap() {
        let file = file.unwrap();
        if !file.file_type().unwrap().is_file() {
            continue;
        }
        for how in damages(&file.path()) {
            store::discard(&folder).unwrap();
            copy(&bench.index(), &folder);
            damage(&folder.join(file.file_name()), how);
            assert!(seal::take(&folder, 1 << 30).is_err(), "{:?} {how:?} was not seen", file.file_name());
            let store = bench.open(&folder);
            for (query, wanted) in queries().iter().zip(&wanted) {
                assert_eq!(&store.query(query).unwrap(), wanted, "{:?} {how:?}", file.file_name());
            }
            tries += 1;
        }
    }
    assert!(tries > 2_500, "{tries} ways to damage it");
}

#[test]
fn a_view_that_was_closed_is_believed_and_one_that_was_not_is_made_anew() {
    let mut bench = Bench::new();
    bench.live(40);
    let end = bench.writer.committed();
    // Closed and opened many times over: sled must have ended its writing when it says so.
    for _ in 0..50 {
        bench.open(&bench.index()).close(&bench.index()).unwrap();
        let believed = Store::open(&bench.index(), EPOCH, CAP).unwrap();
        assert_eq!(believed.next_sequence(), end, "it was closed: nothing is read again");
        believed.close(&bench.index()).unwrap();
    }
    let opened = bench.open(&bench.index());
    drop(opened);
    assert_eq!(Store::open(&bench.index(), EPOCH, CAP).unwrap().next_sequence(), 0, "it was not closed");
    bench.open(&bench.index()).close(&bench.index()).unwrap();
    assert_eq!(Store::open(&bench.index(), EPOCH + 1, CAP).unwrap().next_sequence(), 0, "another journal's");
    store::discard(&bench.index()).unwrap();
    std::fs::write(bench.index(), b"no folder at all").unwrap();
    assert_eq!(bench.open(&bench.index()).query(&queries()[0]).unwrap().len(), 40);
}

#[test]
fn a_small_view_that_is_made_anew_holds_what_one_that_lived_through_it_holds() {
    let mut bench = Bench::new();
    bench.live(200);
    let (cap, end) = (6_000, bench.writer.committed());
    let made = |name: &str, begin: u64| {
        let mut store = Store::open(&bench.dir.path().join(name), EPOCH, cap).unwrap();
        store.begin_at(begin);
        let mut reader = Reader::open(&bench.journal(), 0).unwrap();
        while step(&mut store, &mut reader, end).unwrap() {}
        store.query(&queries()[0]).unwrap()
    };
    let begin = fitting(&bench.journal(), end, cap).unwrap();
    assert!(begin > end / 2);
    let (lived, anew) = (made("lived", 0), made("anew", begin));
    assert!((10..40).contains(&lived.len()), "{} anomalies in {cap} bytes", lived.len());
    assert_eq!(lived, anew);
    assert_eq!(fitting(&bench.journal(), end, u64::MAX).unwrap(), 1, "all of them");
}

#[test]
fn a_view_of_absurd_size_is_not_read() {
    let mut bench = Bench::new();
    bench.live(10);
    bench.open(&bench.index()).close(&bench.index()).unwrap();
    let huge = std::fs::File::options().write(true).open(bench.index().join("db")).unwrap();
    huge.set_len(1 << 40).unwrap();
    let before = std::time::Instant::now();
    assert_eq!(bench.open(&bench.index()).query(&queries()[0]).unwrap().len(), 10);
    assert!(before.elapsed().as_secs() < 10, "a terabyte was read");
}

#[test]
fn the_view_and_a_scan_of_the_journal_answer_every_question_alike() {
    let mut bench = Bench::new();
    bench.live(400);
    let store = bench.open(&bench.index());
    let end = bench.writer.committed();
    let option = |range: Range<i64>| proptest::option::of(range);
    let asked = (
        proptest::option::of(prop_oneof![Just("a"), Just("b"), Just("server-room"), Just("nowhere")]),
        option(-600..600),
        option(-600..600),
        proptest::option::of(0..end + 3),
        0..1100_usize,
    );
    let mut runner = TestRunner::new(Config { cases: 500, failure_persistence: None, ..Config::default() });
    let alike = runner.run(&asked, |(stream, since_ms, until_ms, after, limit)| {
        let query = Query { stream: stream.map(|s| s.parse().unwrap()), since_ms, until_ms, after, limit };
        prop_assert_eq!(store.query(&query).unwrap(), scan(&bench.journal(), &query).unwrap());
        Ok(())
    });
    alike.unwrap();
    let corrected = store.query(&queries()[0]).unwrap();
    let first_boot = corrected.iter().filter(|found| found.corrected_ms.is_some()).count();
    assert_eq!(first_boot, 200, "those of the boot whose clock was wrong, and no other");
    assert!(corrected.iter().all(|f| f.corrected_ms.is_none_or(|ms| ms - f.recorded_ms == 9_000_000)));
}

//! The journal is kept within its limits, signed, and mended.

use std::collections::BTreeSet;
use std::path::PathBuf;

use vedette_journal::{Cursor, CursorFile, verify};
use vedette_protocol::record::Dropped;

use super::*;
use crate::retention::{ClassLimit, Limits};

/// A device: its state folder and what may be kept there.
struct Device {
    dir: tempfile::TempDir,
    disk: SwitchDisk,
    limits: Limits,
    has_registry: bool,
}

impl Device {
    fn new(control: u64, anomaly: u64) -> Self {
        let limit = |bytes| ClassLimit { bytes, age: None };
        Self {
            dir: tempfile::tempdir().unwrap(),
            disk: SwitchDisk::default(),
            limits: Limits { classes: [limit(control), limit(anomaly), limit(0), limit(0)], free_bytes: 0 },
            has_registry: true,
        }
    }

    /// Makes the limits so small only now, after a life without them.
    fn tighten(&mut self, control: u64, anomaly: u64) {
        self.limits.classes[Class::Control as usize].bytes = control;
        self.limits.classes[Class::Anomaly as usize].bytes = anomaly;
    }

    /// The registry had the journal so far when the last life ended.
    fn store_cursor(&self, sequence: u64) {
        CursorFile::new(self.dir.path().join("cursor")).store(Cursor { epoch: 7, sequence }).unwrap();
    }

    fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    fn start(&self) -> (Recorder, RecorderThread) {
        let state = State::open(self.dir.path()).unwrap();
        let options = Options { segment_bytes: 16 << 10, commit_interval: Duration::from_millis(5), ..Options::new(7) };
        let keeping = Keeping {
            state,
            retention: config::Retention { limits: self.limits, ballast_bytes: 64 << 10 },
            has_registry: self.has_registry,
            checkpoint_records: 64,
            checkpoint_interval: Duration::from_secs(60),
        };
        let parts = parts(&self.disk, &self.journal());
        open(Parts { options, keeping: Some(keeping), ..parts }).unwrap()
    }

    /// What is still there, by sequence.
    fn left(&self) -> Vec<(u64, Body)> {
        let mut reader = Reader::open(&self.journal(), 0).unwrap();
        let mut left = Vec::new();
        while let Some(entry) = reader.next().unwrap() {
            left.push((entry.sequence, cbor::from_canonical::<Record>(&entry.payload).unwrap().body));
        }
        left
    }

    fn is_sound(&self) {
        let key = SigningKey::load(&self.dir.path().join("log.key")).unwrap().public();
        let report = verify(&self.journal(), Some(&key), &mut |_| {}).unwrap();
        assert!(report.mismatch.is_none() && report.bad_signature.is_none() && report.fork.is_none(), "{report:?}");
        assert!(report.gaps.is_empty() && report.checkpoints_checked > 0, "{report:?}");
    }
}

fn fill(recorder: &Recorder, rows: std::ops::Range<u64>) -> u64 {
    let end = recorder.report().next_sequence + rows.end - rows.start;
    for row in rows {
        give(recorder, anomaly(row, row as f32));
    }
    until("they are on the disk", || recorder.report().committed >= end);
    end
}

fn usage(recorder: &Recorder, class: Class) -> u64 {
    recorder.report().usage[class as usize]
}

fn drops(left: &[(u64, Body)]) -> Vec<&Dropped> {
    left.iter().filter_map(|(_, body)| if let Body::Drop(dropped) = body { Some(dropped) } else { None }).collect()
}

fn rows_of(left: &[(u64, Body)]) -> BTreeSet<u64> {
    left.iter()
        .filter_map(|(_, body)| if let Body::Anomaly(anomaly) = body { Some(anomaly.row) } else { None })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_anomalies_go_first_and_nothing_else_goes() {
    let mut device = Device::new(1 << 20, 1 << 20);
    let (recorder, thread) = device.start();
    recorder.append(swap(0, 100_000, SwapReason::Start)).await.unwrap();
    let end = fill(&recorder, 0..1000);
    assert!(usage(&recorder, Class::Anomaly) > 128 << 10);
    stop(recorder, thread).await;
    device.tighten(1 << 20, 64 << 10);
    device.store_cursor(end - 300);
    let (recorder, thread) = device.start();
    until("it is within its limit", || usage(&recorder, Class::Anomaly) <= (64 << 10) + (16 << 10));
    stop(recorder, thread).await;
    let left = device.left();
    let rows = rows_of(&left);
    assert!((700..1000).all(|row| rows.contains(&row)), "what the registry has not is all there");
    assert!(rows.len() < 500, "{} are left", rows.len());
    assert!(drops(&left).is_empty());
    assert!(left.iter().any(|(_, body)| matches!(body, Body::Swap(_))), "control records stay");
    device.is_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_acknowledgement_the_oldest_go_last_and_are_counted_exactly() {
    let device = Device::new(1 << 20, 64 << 10);
    let (recorder, thread) = device.start();
    fill(&recorder, 0..1500);
    until("it is within its limit", || usage(&recorder, Class::Anomaly) <= (64 << 10) + (16 << 10));
    stop(recorder, thread).await;
    let left = device.left();
    let rows = rows_of(&left);
    let counted: u64 = drops(&left).iter().map(|dropped| dropped.count).sum();
    assert_eq!(rows.len() as u64 + counted, 1500);
    assert!(counted > 500);
    let there: BTreeSet<u64> = left.iter().map(|(sequence, _)| *sequence).collect();
    for dropped in drops(&left) {
        assert_eq!((dropped.stream.as_ref(), dropped.class), (None, DropClass::Anomaly));
        assert_eq!(dropped.count, dropped.last_row - dropped.first_row + 1);
        assert_eq!(dropped.max.unwrap().get(), dropped.last_row as f32, "row n has score n and sequence n here");
        assert_eq!(there.range(dropped.first_row..=dropped.last_row).count(), 0);
    }
    device.is_sound();
    // The next life counts none of them again.
    let (recorder, thread) = device.start();
    fill(&recorder, 1500..2000);
    until("it is within its limit", || usage(&recorder, Class::Anomaly) <= (64 << 10) + (16 << 10));
    stop(recorder, thread).await;
    let left = device.left();
    let counted: u64 = drops(&left).iter().map(|dropped| dropped.count).sum();
    assert_eq!(rows_of(&left).len() as u64 + counted, 2000);
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_segments_go_once_a_checkpoint_is_accepted_and_row_numbers_go_on() {
    let mut device = Device::new(1 << 20, 1 << 20);
    let (recorder, thread) = device.start();
    recorder.append(swap(0, 123_456, SwapReason::Start)).await.unwrap();
    let end = fill(&recorder, 0..1000) + 2000;
    for n in 0..2000 {
        give(&recorder, Body::Gap { from: n, to: n + 1, reason: "this fills class control for a test".to_owned() });
    }
    until("they are written", || recorder.report().committed >= end);
    stop(recorder, thread).await;
    device.tighten(64 << 10, 64 << 10);
    device.store_cursor(end);
    let (recorder, thread) = device.start();
    recorder.acknowledged(Acknowledged { upto: end, checkpoint: end });
    until("it is within its limits", || {
        [Class::Control, Class::Anomaly].iter().all(|class| usage(&recorder, *class) <= (64 << 10) + (16 << 10))
    });
    stop(recorder, thread).await;
    let left = device.left();
    assert!(left[0].0 > 100, "the oldest segments are gone: {}", left[0].0);
    assert!(drops(&left).is_empty());
    device.is_sound();
    let (recorder, thread) = device.start();
    assert_eq!(recorder.ledger().read().unwrap().next_row(&"s".parse().unwrap()), 123_456);
    stop(recorder, thread).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_speaks_for_what_is_durable_and_is_there_at_the_end() {
    let device = Device::new(1 << 20, 1 << 20);
    let (recorder, thread) = device.start();
    let mut checkpoints = recorder.checkpoint();
    fill(&recorder, 0..200);
    until("it is signed", || checkpoints.borrow().is_some());
    let signed = checkpoints.borrow_and_update().clone().unwrap();
    let key = recorder.log_key().unwrap();
    assert_eq!(vedette_journal::Checkpoint::open(&signed.note, &key).unwrap(), signed.checkpoint);
    assert_eq!(signed.checkpoint.origin, "vedette/box/7");
    assert!(signed.checkpoint.size <= recorder.report().committed);
    fill(&recorder, 200..210);
    stop(recorder, thread).await;
    assert_eq!(checkpoints.borrow().as_ref().unwrap().checkpoint.size, 210);
    device.is_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_an_old_segment_is_declared_once() {
    let device = Device::new(1 << 20, 1 << 20);
    let (recorder, thread) = device.start();
    fill(&recorder, 0..500);
    stop(recorder, thread).await;
    let segment = device.journal().join("seg-00000000.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[9000] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    // With its parity nothing would be lost.
    std::fs::remove_file(segment.with_extension("par")).unwrap();
    for _ in 0..3 {
        let (recorder, thread) = device.start();
        stop(recorder, thread).await;
    }
    let left = device.left();
    let gaps: Vec<_> = left
        .iter()
        .filter_map(|(_, body)| if let Body::Gap { from, to, .. } = body { Some(*to - *from) } else { None })
        .collect();
    assert_eq!(gaps, [1]);
    assert_eq!(rows_of(&left).len(), 499);
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_that_the_registry_has_seen_are_not_given_again() {
    let device = Device::new(1 << 20, 1 << 20);
    device.store_cursor(40);
    let (recorder, thread) = device.start();
    let id = recorder.append(anomaly(0, 1.0)).await.unwrap();
    assert_eq!(id.sequence, 41, "behind the gap record");
    recorder.acknowledged(Acknowledged { upto: 100, checkpoint: 0 });
    until("the registry's word is taken", || recorder.report().next_sequence > 100);
    stop(recorder, thread).await;
    let left = device.left();
    let gaps: Vec<_> = left
        .iter()
        .filter_map(|(_, body)| if let Body::Gap { from, to, .. } = body { Some((*from, *to)) } else { None })
        .collect();
    assert_eq!(gaps, [(0, 40), (42, 100)]);
    // The next start says nothing of them again.
    let (recorder, thread) = device.start();
    stop(recorder, thread).await;
    assert_eq!(device.left().iter().filter(|(_, body)| matches!(body, Body::Gap { .. })).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_the_registry_is_is_on_record_at_a_clean_end_and_not_said_twice() {
    let device = Device::new(1 << 20, 1 << 20);
    let (recorder, thread) = device.start();
    let end = fill(&recorder, 0..20);
    recorder.acknowledged(Acknowledged { upto: end, checkpoint: 0 });
    stop(recorder, thread).await;
    let (recorder, thread) = device.start();
    // Only the ack record itself is acknowledged since.
    recorder.acknowledged(Acknowledged { upto: end + 1, checkpoint: 0 });
    stop(recorder, thread).await;
    let left = device.left();
    let acks: Vec<_> = left
        .iter()
        .filter_map(|(_, body)| if let Body::Ack { upto, .. } = body { Some(*upto) } else { None })
        .collect();
    assert_eq!(acks, [end]);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_the_ballast_and_what_is_acknowledged_go_and_nothing_else() {
    let device = Device::new(1 << 20, 1 << 20);
    let (recorder, thread) = device.start();
    let end = fill(&recorder, 0..400);
    let ballast = device.dir.path().join("ballast");
    until("the ballast is made", || ballast.exists());
    recorder.acknowledged(Acknowledged { upto: end - 100, checkpoint: 0 });
    device.disk.set(Mood::Full);
    for row in 400..500 {
        give(&recorder, anomaly(row, 1.0));
    }
    until("it is degraded", || recorder.report().trouble == Some(Trouble::Full));
    assert!(!ballast.exists());
    device.disk.set(Mood::Well);
    until("it is well", || recorder.report().degraded.is_none() && recorder.report().committed == end + 100);
    until("the ballast is made again", || ballast.exists());
    stop(recorder, thread).await;
    let left = device.left();
    assert!((300..500).all(|row| rows_of(&left).contains(&row)));
    assert!(drops(&left).is_empty());
}

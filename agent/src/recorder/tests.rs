//! The recorder on a disk that refuses on order.

#![allow(clippy::unwrap_used, clippy::panic)]

mod keeping;
mod switch;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use vedette_journal::{Reader, SigningKey};
use vedette_protocol::cbor;
use vedette_protocol::record::{Class, DropClass, Record, SwapReason};

use super::ring::tests::{anomaly, swap};
use super::*;
use switch::{Mood, SwitchDisk};

const PATIENCE: Duration = Duration::from_secs(20);

fn parts(disk: &SwitchDisk, folder: &Path) -> Parts {
    Parts {
        disk: disk.arc(),
        folder: folder.to_owned(),
        options: Options { segment_bytes: 64 << 10, commit_interval: Duration::from_millis(5), ..Options::new(7) },
        device: "box".parse().unwrap(),
        clock: Clock::start().unwrap(),
        boot: None,
        keeping: None,
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
    began.elapsed()
}

/// Hands over, however full the queue is.
fn give(recorder: &Recorder, body: Body) {
    while recorder.offer(body.clone()) == Err(RecordError::Busy) {
        std::thread::yield_now();
    }
}

fn bodies(folder: &Path) -> Vec<Body> {
    let mut reader = Reader::open(folder, 0).unwrap();
    let mut found = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        assert_eq!(entry.sequence, found.len() as u64);
        found.push(cbor::from_canonical::<Record>(&entry.payload).unwrap().body);
    }
    found
}

fn rows(bodies: &[Body]) -> Vec<u64> {
    let row = |body: &Body| if let Body::Anomaly(anomaly) = body { Some(anomaly.row) } else { None };
    bodies.iter().filter_map(row).collect()
}

async fn stop(recorder: Recorder, thread: RecorderThread) {
    drop(recorder);
    thread.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_disk_says_nothing_is_lost_that_fits_and_all_is_in_order_when_it_is_back() {
    for (mood, trouble) in
        [(Mood::Full, Trouble::Full), (Mood::ReadOnly, Trouble::ReadOnly), (Mood::Failing, Trouble::Failing)]
    {
        let dir = tempfile::tempdir().unwrap();
        let disk = SwitchDisk::default();
        let (recorder, thread) = open(parts(&disk, dir.path())).unwrap();
        for row in 0..100 {
            give(&recorder, anomaly(row, 1.0));
        }
        until("the first are on the disk", || recorder.report().committed == 100);
        disk.set(mood);
        for row in 100..5000 {
            give(&recorder, anomaly(row, 1.0));
        }
        until("it is degraded", || recorder.report().trouble == Some(trouble) && recorder.report().held > 0);
        let awaited = recorder.append(swap(0, 1, SwapReason::Start)).await;
        assert!(matches!(&awaited, Err(RecordError::Disk(why)) if why.contains(&trouble.to_string())), "{awaited:?}");
        disk.set(Mood::Well);
        let took = until("it is well", || recorder.report().degraded.is_none() && recorder.report().held == 0);
        assert!(took < Duration::from_secs(5), "{took:?}");
        until("all is on the disk", || recorder.report().committed == 5001);
        assert_eq!(recorder.report().lost, 0);
        stop(recorder, thread).await;
        assert_eq!(rows(&bodies(dir.path())), (0..5000).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_into_memory_is_counted_to_the_last_record() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SwitchDisk::default();
    let (recorder, thread) = open(parts(&disk, dir.path())).unwrap();
    disk.set(Mood::ReadOnly);
    let generated = 100_000_u64;
    for row in 0..generated {
        give(&recorder, anomaly(row, (row % 977) as f32));
    }
    until("memory is full", || recorder.report().lost > 0);
    disk.set(Mood::Well);
    until("it is well", || recorder.report().degraded.is_none() && recorder.report().held == 0);
    until("the account is on the disk", || recorder.report().committed == recorder.report().next_sequence);
    let lost = recorder.report().lost;
    stop(recorder, thread).await;
    let bodies = bodies(dir.path());
    let stored: BTreeSet<u64> = rows(&bodies).into_iter().collect();
    let dropped: Vec<_> =
        bodies.iter().filter_map(|body| if let Body::Drop(dropped) = body { Some(dropped) } else { None }).collect();
    let counted: u64 = dropped.iter().map(|dropped| dropped.count).sum();
    assert_eq!(stored.len() as u64 + counted, generated);
    assert_eq!(counted, lost);
    for dropped in dropped {
        assert_eq!((dropped.class, dropped.stream.is_some()), (DropClass::Anomaly, true));
        let within = stored.range(dropped.first_row..=dropped.last_row).count() as u64;
        assert_eq!(within + dropped.count, dropped.last_row - dropped.first_row + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_on_a_disk_that_refuses_and_goes_over_to_it_when_it_is_back() {
    for mood in [Mood::Full, Mood::ReadOnly, Mood::Failing] {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("journal");
        let disk = SwitchDisk::default();
        disk.set(mood);
        let boot = Boot { previous_was_clean: false, config: Digest::of(b"one") };
        let (recorder, thread) = open(Parts { boot: Some(boot), ..parts(&disk, &folder) }).unwrap();
        assert!(recorder.report().degraded.is_some());
        assert_eq!(recorder.epoch(), 7);
        for row in 0..1000 {
            give(&recorder, anomaly(row, 1.0));
        }
        until("they wait", || recorder.report().held == 1002);
        disk.set(Mood::Well);
        let took = until("it is well", || recorder.report().degraded.is_none() && recorder.report().committed == 1002);
        assert!(took < Duration::from_secs(5), "{took:?}");
        stop(recorder, thread).await;
        let bodies = bodies(&folder);
        assert!(matches!(bodies[..2], [Body::Boot { .. }, Body::Config { .. }]), "{:?}", &bodies[..2]);
        assert_eq!(rows(&bodies), (0..1000).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_that_can_only_be_read_still_tells_what_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SwitchDisk::default();
    let (recorder, thread) = open(parts(&disk, dir.path())).unwrap();
    recorder.append(swap(0, 500, SwapReason::Start)).await.unwrap();
    stop(recorder, thread).await;
    disk.set(Mood::ReadOnly);
    let (recorder, thread) = open(Parts { options: Options::new(99), ..parts(&disk, dir.path()) }).unwrap();
    assert_eq!((recorder.epoch(), *recorder.committed().borrow()), (7, 1));
    let stream = "s".parse().unwrap();
    assert_eq!(recorder.ledger().read().unwrap().next_row(&stream), 500);
    disk.set(Mood::Well);
    until("it is well", || recorder.report().degraded.is_none());
    assert_eq!(recorder.append(anomaly(1, 1.0)).await.unwrap().sequence, 1);
    stop(recorder, thread).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_journalled_when_it_is_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SwitchDisk::default();
    for config in [b"one", b"one", b"two"] {
        let boot = Boot { previous_was_clean: true, config: Digest::of(config) };
        let (recorder, thread) = open(Parts { boot: Some(boot), ..parts(&disk, dir.path()) }).unwrap();
        stop(recorder, thread).await;
    }
    let bodies = bodies(dir.path());
    let configs = bodies.iter().filter(|body| matches!(body, Body::Config { .. })).count();
    let boots = bodies.iter().filter(|body| matches!(body, Body::Boot { .. })).count();
    assert_eq!((boots, configs), (3, 2));
}

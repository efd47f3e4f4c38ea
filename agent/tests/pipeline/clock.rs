//! A clock that jumps, through the recorder into a real journal.

use std::sync::atomic::Ordering::Relaxed;

use vedette_agent::clock::SetTime;
use vedette_agent::clock::watch::{RECORD_INTERVAL_NS, Watcher};
use vedette_journal::Reader;
use vedette_protocol::id::BootId;
use vedette_protocol::number::Finite32;
use vedette_protocol::record::{Anomaly, PreviousEnd, Record};
use vedette_protocol::time::Quality;
use vedette_protocol::time::corrected::{JUMP_MS, extrapolated_ms};

use super::*;

const YEAR_MS: i64 = 31_557_600_000;

/// When the machine really was started, Unix ms UTC.
const BOOTED_MS: i64 = 1_800_000_000_000;

/// Seconds between two jumps.
const STEP_S: u64 = 7;

fn anomaly(row: u64) -> Body {
    Body::Anomaly(Anomaly {
        stream: stream(),
        row,
        at_ms: 0,
        cause: Cause::Baseline,
        score: Finite32::saturating(1.0),
        threshold: Finite32::saturating(0.5),
        top: Vec::new(),
        by: ScoredBy::Baseline { version: 1 },
        input: Digest::of(b""),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_jumps_of_a_hundred_years_from_1970_on_leave_order_and_truth() {
    let dir = tempfile::tempdir().unwrap();
    let time = Arc::new(SetTime::default());
    let clock = Clock::set(BootId::from_bytes([9; 16]), Arc::clone(&time));
    let journal = dir.path().join("journal");
    let (writer, _) = Journal::open(&journal, Options::new(7)).unwrap();
    let (recorder, thread) = recorder::start(writer, journal.clone(), "box".parse().unwrap(), clock).unwrap();
    let boot = Body::Boot { agent_version: "1".to_owned(), previous: PreviousEnd::First };
    recorder.append(boot).await.unwrap();
    assert_eq!(clock.stamp().quality, Quality::Floor, "1970 is not believed");
    let mut watcher = Watcher::new(clock.stamp());
    let (mut seed, mut told) = (11_u64, 0);
    for jump in 1..=1_000_u64 {
        let second = jump * STEP_S;
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Every other one is a time that could be, and is believed.
        let years = if jump % 2 == 0 { (seed >> 33) % 201 } else { 100 + (seed >> 33) % 9 };
        let years = i64::try_from(years).unwrap() - 100;
        // The network's time comes last.
        let off_ms = if jump == 1_000 { 0 } else { years * YEAR_MS };
        time.monotonic_ns.store(second * 1_000_000_000, Relaxed);
        time.wall_ms.store(BOOTED_MS + i64::try_from(second).unwrap() * 1000 + off_ms, Relaxed);
        recorder.append(anomaly(jump)).await.unwrap();
        if let Some(body) = watcher.look(clock.stamp()).record {
            recorder.append(body).await.unwrap();
            watcher.journalled();
            told += 1;
        }
        assert!(clock.wall_ms() >= clock.floor_ms(), "nothing is decided by a time before the floor");
    }
    // A minute later the last word is on record.
    time.monotonic_ns.fetch_add(RECORD_INTERVAL_NS, Relaxed);
    time.wall_ms.fetch_add(60_000, Relaxed);
    if let Some(body) = watcher.look(clock.stamp()).record {
        recorder.append(body).await.unwrap();
        watcher.journalled();
        told += 1;
    }
    drop(recorder);
    thread.finish().await.unwrap();

    let (mut next, mut before_ns, mut known, mut clocks) = (0, 0, None, 0);
    let mut reader = Reader::open(&journal, 0).unwrap();
    while let Some(entry) = reader.next().unwrap() {
        let Record { stamp, body } = cbor::from_canonical(&entry.payload).unwrap();
        assert_eq!(entry.sequence, next, "no record is missing and none is out of order");
        assert!(stamp.monotonic_ns >= before_ns, "the order of records is the order of what happened");
        (next, before_ns) = (next + 1, stamp.monotonic_ns);
        if let Body::Clock { old_ms, new_ms, quality } = body {
            let promised = known.map(|reading| extrapolated_ms(&reading, stamp.monotonic_ns));
            assert_eq!(promised, Some(old_ms), "what the record before promised");
            assert_eq!((new_ms, quality), (stamp.wall_ms, stamp.quality));
            clocks += 1;
        }
        if matches!(body, Body::Boot { .. } | Body::Clock { .. }) {
            known = Some(stamp);
        }
    }
    assert_eq!((clocks, next), (told, 1 + 1_000 + told));
    let minutes = 1_000 * STEP_S / 60;
    assert!((minutes / 2..=minutes + 2).contains(&told), "{told} clock records of 1000 jumps in {minutes} minutes");
    let found = index::scan(&journal, &Query { limit: 1000, ..Query::default() }).unwrap();
    assert_eq!(found.len(), 1_000);
    for one in found {
        let truth_ms = BOOTED_MS + i64::try_from(one.anomaly.row * STEP_S).unwrap() * 1000;
        let shown_ms = one.corrected_ms.unwrap_or(one.recorded_ms);
        assert!(
            shown_ms.abs_diff(truth_ms) <= JUMP_MS.unsigned_abs(),
            "row {}: {shown_ms} is not {truth_ms}",
            one.anomaly.row
        );
    }
}

//! A flood through a lane, into a real journal.

#![allow(clippy::unwrap_used, clippy::panic)]

use vedette_journal::{Journal, Options, Reader};
use vedette_protocol::cbor;
use vedette_protocol::record::Record;
use vedette_scoring::Sample;

use super::*;
use crate::recorder;

/// Anomalies of the flood: five seconds of 100,000.
const FOUND: u64 = 500_000;

/// Processor time of this process so far, user and system. nextest gives each test a process of its own.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // 100 ticks a second, on every Linux.
    Duration::from_millis(ticks * 10)
}

fn row_score(row: u64) -> f32 {
    (row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_100_000_a_second_is_recorded_or_counted_to_the_last_one_within_one_core() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, folder) = (Clock::start().unwrap(), dir.path().join("journal"));
    let (journal, _) = Journal::open(&folder, Options::new(7)).unwrap();
    let (recorder, thread) = recorder::start(journal, folder.clone(), "box".parse().unwrap(), clock).unwrap();
    let schema = Arc::new(Schema::new(vec![("cpu".parse().unwrap(), None)]).unwrap());
    let settings = LaneSettings {
        stream: "server".parse().unwrap(),
        schema,
        model: None,
        baseline: true,
        anomaly_rate: 1000,
        anomaly_burst: 10_000,
    };
    let mut lane = Lane::open(settings, recorder.clone(), clock);
    let mut decision = *lane.scorer.score(0, &Sample { at_ms: 0, values: vec![1.0].into() });
    (decision.alarm, decision.cause) = (true, Cause::Model);
    let (began, began_cpu) = (clock.now(), cpu());
    for row in 0..FOUND {
        (decision.row, decision.score) = (row, row_score(row));
        // The flood's own time: 10 µs between two rows. The recorder's queue fills as it will.
        let now = began + Duration::from_micros(10 * row);
        lane.judge(&decision, now);
        if row % 64 == 0
            && let Some(run) = lane.admission.due(now)
        {
            lane.record_drop(run);
        }
    }
    lane.close();
    let report = lane.report();
    drop((lane, recorder));
    thread.finish().await.unwrap();
    let used = cpu() - began_cpu;
    let (mut recorded, mut counted, mut runs, mut largest) = (0, 0, 0, 0.0_f32);
    let mut reader = Reader::open(&folder, 0).unwrap();
    while let Some(entry) = reader.next().unwrap() {
        match cbor::from_canonical::<Record>(&entry.payload).unwrap().body {
            Body::Anomaly(anomaly) => {
                recorded += 1;
                largest = largest.max(anomaly.score.get());
            }
            Body::Drop(Dropped { count, max, first_row, last_row, .. }) => {
                assert!(first_row <= last_row && count <= last_row - first_row + 1);
                counted += count;
                runs += 1;
                largest = largest.max(max.unwrap().get());
            }
            Body::Swap(_) => {}
            other => panic!("{other:?}"),
        }
    }
    println!("{recorded} recorded + {counted} counted in {runs} runs; {used:?} of processor time");
    assert_eq!(recorded + counted, FOUND);
    assert_eq!((report.anomalies(), report.dropped()), (recorded, counted));
    assert!(largest.to_bits() == (0..FOUND).map(row_score).fold(0.0, f32::max).to_bits(), "the largest is on record");
    assert!(runs <= 3, "{runs} drop records for five seconds");
    assert!(used < Duration::from_secs(FOUND / 100_000), "{used:?} of processor time");
}

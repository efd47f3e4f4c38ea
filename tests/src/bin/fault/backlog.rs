//! A device that was away for long: its journal, written as the recorder writes it, before the agent starts.

use std::path::Path;

use anyhow::Context as _;
use vedette_journal::{Journal, Options};
use vedette_protocol::record::{Anomaly, Body, Cause, Contribution, Record, RecordKind, ScoredBy};
use vedette_protocol::{BootId, Digest, Finite32, Quality, Stamp, cbor};

/// Epoch of these journals.
pub(crate) const EPOCH: u64 = 1_790_000_000_000;

/// The stream that found it all.
pub(crate) const STREAM: &str = "load";

/// Writes a journal into an agent's state folder: for each moment (milliseconds since 1970) one anomaly, in this order. The
/// row of each is its sequence.
///
/// # Errors
/// When the folder is not writable.
pub(crate) fn write(state: &Path, moments: impl Iterator<Item = i64>) -> anyhow::Result<u64> {
    let folder = state.join("journal");
    let (mut journal, _) = Journal::open(&folder, Options::new(EPOCH)).context("couldn't make a journal")?;
    let mut first = None;
    for at_ms in moments {
        let since = at_ms - *first.get_or_insert(at_ms);
        let record = anomaly(journal.next_sequence(), at_ms, since)?;
        journal.append(RecordKind::Anomaly.code(), &cbor::to_canonical(&record))?;
        // One sync for many: this journal is made, not lived.
        if journal.next_sequence() % 4096 == 0 {
            journal.commit()?;
        }
    }
    let all = journal.next_sequence();
    journal.close()?;
    Ok(all)
}

/// An anomaly that says of itself which one it is.
pub(crate) fn anomaly(sequence: u64, at_ms: i64, since_start_ms: i64) -> anyhow::Result<Record> {
    let number = |value: f32| Finite32::new(value).map_err(anyhow::Error::from);
    let top = (0..3_u8).map(|at| {
        let share = number(0.1 * f32::from(at))?;
        Ok(Contribution { signal: format!("signal-{at}").parse()?, share, value: Some(share) })
    });
    let anomaly = Anomaly {
        stream: STREAM.parse()?,
        row: sequence,
        at_ms,
        cause: Cause::Baseline,
        score: number(6.31)?,
        threshold: number(1.489)?,
        top: top.collect::<anyhow::Result<_>>()?,
        by: ScoredBy::Baseline { version: 1 },
        input: Digest::of(&sequence.to_le_bytes()),
    };
    let stamp = Stamp {
        boot: "0123456789abcdef0123456789abcdef".parse::<BootId>()?,
        monotonic_ns: u64::try_from(since_start_ms)? * 1_000_000,
        wall_ms: at_ms,
        quality: Quality::System,
    };
    Ok(Record { stamp, body: Body::Anomaly(anomaly) })
}

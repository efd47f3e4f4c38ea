//! What can be asked of the anomalies, and the answer by reading the journal from the beginning: slow, and always right.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use vedette_journal::{Entry, Reader};
use vedette_protocol::cbor;
use vedette_protocol::id::StreamName;
use vedette_protocol::record::{Anomaly, Body, Record, RecordKind, Verdict};
use vedette_protocol::time::Stamp;
use vedette_protocol::time::corrected::Corrections;

/// Anomalies in one answer: 1000 x about 600 B of JSON = 0.6 MB.
pub const QUERY_LIMIT_MAX: usize = 1000;

/// Which anomalies are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Of this stream only.
    pub stream: Option<StreamName>,
    /// Not sampled before this, Unix ms UTC.
    pub since_ms: Option<i64>,
    /// Sampled before this, Unix ms UTC.
    pub until_ms: Option<i64>,
    /// Recorded after this sequence: the oldest of them come first. Without it the newest are given.
    pub after: Option<u64>,
    /// At most so many; held within [`QUERY_LIMIT_MAX`].
    pub limit: usize,
}

/// What somebody said about an anomaly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What.
    pub verdict: Verdict,
    /// Who.
    pub by: String,
    /// In their words.
    pub note: Option<String>,
    /// When it was recorded, Unix ms UTC.
    pub at_ms: i64,
}

/// One anomaly of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its sequence in the journal.
    pub sequence: u64,
    /// When it was recorded, Unix ms UTC, as the clock showed it then.
    pub recorded_ms: i64,
    /// When it really was, Unix ms UTC, where that is known better by now.
    pub corrected_ms: Option<i64>,
    /// The anomaly.
    pub anomaly: Anomaly,
    /// What was said about it last.
    pub judgement: Option<Judgement>,
}

impl Query {
    /// How many at most.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.min(QUERY_LIMIT_MAX)
    }

    /// Whether an anomaly of this stream and time, recorded with this sequence, is wanted.
    #[must_use]
    pub fn wants(&self, sequence: u64, stream: &str, at_ms: i64) -> bool {
        self.after.is_none_or(|after| sequence > after)
            && self.stream.as_ref().is_none_or(|wanted| wanted.as_str() == stream)
            && self.wants_time(at_ms)
    }

    /// Whether this time is wanted.
    #[must_use]
    pub fn wants_time(&self, at_ms: i64) -> bool {
        self.since_ms.is_none_or(|since| at_ms >= since) && self.until_ms.is_none_or(|until| at_ms < until)
    }
}

/// The record of a journal entry, if it can be read.
pub(super) fn record(entry: &Entry) -> Option<Record> {
    match cbor::from_canonical(&entry.payload) {
        Ok(record) => Some(record),
        Err(error) => {
            tracing::warn!(sequence = entry.sequence, error = %error, "a record cannot be read; passed over");
            None
        }
    }
}

/// Answers from the journal alone.
///
/// # Errors
/// When the journal cannot be read.
pub fn scan(journal: &Path, query: &Query) -> anyhow::Result<Vec<Found>> {
    let mut found: VecDeque<(Found, Stamp)> = VecDeque::new();
    let (mut judgements, mut clocks) = (BTreeMap::new(), Corrections::default());
    let from = query.after.map_or(0, |after| after.saturating_add(1));
    // Verdicts lie behind their anomalies: the reader goes on to the end also when the answer is full.
    let mut reader = Reader::open(journal, from)?;
    while let Some(entry) = reader.next()? {
        if entry.kind == RecordKind::Verdict as u8 {
            if let Some(Record { stamp, body: Body::Verdict { record, verdict, by, note } }) = record(&entry) {
                judgements.insert(record.sequence, Judgement { verdict, by, note, at_ms: stamp.wall_ms });
            }
            continue;
        }
        learn(&entry, &mut clocks);
        let full = found.len() >= query.limit();
        if entry.kind != RecordKind::Anomaly as u8 || (full && query.after.is_some()) {
            continue;
        }
        let Some(Record { stamp, body: Body::Anomaly(anomaly) }) = record(&entry) else { continue };
        if !query.wants(entry.sequence, anomaly.stream.as_str(), anomaly.at_ms) {
            continue;
        }
        if full {
            found.pop_front();
        }
        let (sequence, recorded_ms) = (entry.sequence, stamp.wall_ms);
        found.push_back((Found { sequence, recorded_ms, corrected_ms: None, anomaly, judgement: None }, stamp));
    }
    found.truncate(query.limit());
    if from > 0 && !found.is_empty() {
        learn_below(journal, from, &mut clocks)?;
    }
    for (one, stamp) in &mut found {
        one.judgement = judgements.remove(&one.sequence);
        one.corrected_ms = clocks.corrected_ms(stamp);
    }
    Ok(found.into_iter().map(|(one, _)| one).collect())
}

/// Takes in what an entry says about the clock, if it does.
fn learn(entry: &Entry, clocks: &mut Corrections) {
    if (entry.kind == RecordKind::Boot as u8 || entry.kind == RecordKind::Clock as u8)
        && let Some(record) = record(entry)
    {
        clocks.note(&record);
    }
}

/// Takes in what the journal says about the clock below a sequence.
fn learn_below(journal: &Path, below: u64, clocks: &mut Corrections) -> anyhow::Result<()> {
    let mut reader = Reader::open(journal, 0)?;
    while let Some(entry) = reader.next_below(below)? {
        learn(&entry, clocks);
    }
    Ok(())
}

/// One record of the journal by its sequence, if it is there.
///
/// # Errors
/// When the journal or the record cannot be read.
pub fn one(journal: &Path, sequence: u64) -> anyhow::Result<Option<(u64, Record)>> {
    let mut reader = Reader::open(journal, sequence)?;
    match reader.next()? {
        Some(entry) if entry.sequence == sequence => Ok(Some((entry.epoch, cbor::from_canonical(&entry.payload)?))),
        Some(_) | None => Ok(None),
    }
}

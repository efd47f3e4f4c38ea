//! Anomalies: lists, single ones, and what people say about them.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query as Asked, State};
use serde::Deserialize;
use vedette_protocol::id::{RecordId, StreamName};
use vedette_protocol::limit::MAX_NOTE_BYTES;
use vedette_protocol::record::Body;
use vedette_protocol::time::parse_ms;

use super::problem::Problem;
use super::view::{AnomalyView, VerdictAsked};
use super::{Api, Parts};
use crate::clock;
use crate::index::{Found, QUERY_LIMIT_MAX, Query};
use crate::recorder::RecordError;

/// Anomalies in an answer that names no limit.
const LIMIT: usize = 100;

/// The longest that a question may wait for news, seconds: below what proxies and clients give up after.
const WAIT_S_MAX: u64 = 30;

/// Bytes of a name that signs a verdict.
const BY_BYTES_MAX: usize = 64;

/// `?stream=&since=&until=&after=&limit=&wait=`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parameters {
    stream: Option<StreamName>,
    /// RFC 3339.
    since: Option<String>,
    /// RFC 3339.
    until: Option<String>,
    after: Option<u64>,
    limit: Option<usize>,
    /// Seconds to wait for a first anomaly after `after`.
    wait: Option<u64>,
}

impl Parameters {
    fn query(&self) -> Result<Query, Problem> {
        let time = |name: &str, text: &Option<String>| {
            text.as_ref().map(|t| parse_ms(t)).transpose().map_err(|e| Problem::bad_request(format!("{name}: {e}")))
        };
        let limit = self.limit.unwrap_or(LIMIT);
        if !(1..=QUERY_LIMIT_MAX).contains(&limit) {
            return Err(Problem::bad_request(format!(
                "limit {limit} is out of range: 1 to {QUERY_LIMIT_MAX}; page on with `after`"
            )));
        }
        Ok(Query {
            stream: self.stream.clone(),
            since_ms: time("since", &self.since)?,
            until_ms: time("until", &self.until)?,
            after: self.after,
            limit,
        })
    }
}

pub(super) async fn list(
    State(api): State<Api>,
    asked: Result<Asked<Parameters>, QueryRejection>,
) -> Result<Json<Vec<AnomalyView>>, Problem> {
    let Asked(parameters) = asked.map_err(|e| Problem::bad_request(e.body_text()))?;
    let query = parameters.query()?;
    // News are seen first in the journal, and in the index a moment later: either may answer.
    let (mut committed, mut indexed) = (api.parts.recorder.committed(), api.parts.index.progress());
    let mut index_lives = true;
    let deadline = clock::timer_now() + Duration::from_secs(parameters.wait.unwrap_or(0).min(WAIT_S_MAX));
    loop {
        committed.borrow_and_update();
        indexed.borrow_and_update();
        let wanted = query.clone();
        let found = api.blocking(move |parts| parts.anomalies(&wanted)).await?;
        if !found.is_empty() || parameters.wait.is_none() {
            return Ok(Json(found));
        }
        let goes_on = tokio::select! {
            () = tokio::time::sleep_until(deadline) => false,
            () = api.stop.cancelled() => false,
            changed = committed.changed() => changed.is_ok(),
            changed = indexed.changed(), if index_lives => {
                index_lives = changed.is_ok();
                true
            }
        };
        if !goes_on {
            return Ok(Json(found));
        }
    }
}

pub(super) async fn show(State(api): State<Api>, Path(sequence): Path<String>) -> Result<Json<AnomalyView>, Problem> {
    let sequence = api.parts.sequence(&sequence)?;
    api.blocking(move |parts| parts.anomaly(sequence)).await.map(Json)
}

pub(super) async fn verdict(
    State(api): State<Api>,
    Path(sequence): Path<String>,
    body: Result<Json<VerdictAsked>, JsonRejection>,
) -> Result<Json<AnomalyView>, Problem> {
    let sequence = api.parts.sequence(&sequence)?;
    let Json(VerdictAsked { verdict, by, note }) = body.map_err(|e| Problem::bad_request(e.body_text()))?;
    if by.trim().is_empty() || by.len() > BY_BYTES_MAX {
        return Err(Problem::bad_request(format!("by: say who judges, in 1 to {BY_BYTES_MAX} bytes")));
    }
    if note.as_ref().is_some_and(|n| n.len() > MAX_NOTE_BYTES) {
        return Err(Problem::bad_request(format!("note: at most {MAX_NOTE_BYTES} bytes")));
    }
    api.blocking(move |parts| parts.anomaly(sequence)).await?;
    let record = api.parts.recorder.id(sequence);
    let recorded = api.parts.recorder.append(Body::Verdict { record, verdict, by, note }).await;
    recorded.map_err(|error| match error {
        RecordError::Busy => Problem::busy(error.to_string()),
        RecordError::Disk(_) | RecordError::Stopped => Problem::unavailable(error.to_string()),
    })?;
    // From the journal: the index may be a moment behind.
    api.blocking(move |parts| parts.scanned(sequence)).await.map(Json)
}

impl Parts {
    /// A sequence, alone or within a record's id.
    fn sequence(&self, text: &str) -> Result<u64, Problem> {
        if let Ok(sequence) = text.parse() {
            return Ok(sequence);
        }
        let id: RecordId = text.parse().map_err(|e| Problem::bad_request(format!("{e}")))?;
        if id.device != *self.recorder.device() || id.epoch != self.recorder.epoch() {
            return Err(Problem::not_found(format!("{id} is not of this device's journal")));
        }
        Ok(id.sequence)
    }

    fn anomalies(&self, query: &Query) -> Result<Vec<AnomalyView>, Problem> {
        let found = self.index.query(query).map_err(|e| Problem::internal(&e))?;
        Ok(found.into_iter().map(|one| self.seen(one)).collect())
    }

    fn anomaly(&self, sequence: u64) -> Result<AnomalyView, Problem> {
        let found = self.index.query(&exactly(sequence)).map_err(|e| Problem::internal(&e))?;
        match found.into_iter().find(|found| found.sequence == sequence) {
            Some(found) => Ok(self.seen(found)),
            None => self.scanned(sequence),
        }
    }

    /// What the journal itself says, also when the index is behind or no longer holds it.
    fn scanned(&self, sequence: u64) -> Result<AnomalyView, Problem> {
        let found =
            crate::index::scan(self.recorder.journal(), &exactly(sequence)).map_err(|e| Problem::internal(&e))?;
        let found = found.into_iter().find(|found| found.sequence == sequence);
        found
            .map(|found| self.seen(found))
            .ok_or_else(|| Problem::not_found(format!("there is no anomaly {sequence} in the journal")))
    }

    fn seen(&self, found: Found) -> AnomalyView {
        AnomalyView::new(self.recorder.device(), self.recorder.epoch(), found)
    }
}

/// The first anomaly at or behind a sequence.
fn exactly(sequence: u64) -> Query {
    match sequence.checked_sub(1) {
        Some(before) => Query { after: Some(before), limit: 1, ..Query::default() },
        // Sequence 0 has nothing before it; it is the boot record.
        None => Query { limit: 0, ..Query::default() },
    }
}

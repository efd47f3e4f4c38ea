//! How the agent does, what each stream runs, who scored what.

use std::sync::PoisonError;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use vedette_protocol::id::{ModelRef, StreamName};
use vedette_protocol::record::Class;
use vedette_protocol::time::format_ms;

use super::answer::{Asked, Facts, Life, NoAnswer};
use super::problem::Problem;
use super::view::{JournalView, ModelView, RegistryView, RunView, StatusView, StreamView, WhoView};
use super::{Api, Parts, StreamParts};
use crate::scorer::LaneReport;
use crate::source::Doing;

impl From<NoAnswer> for Problem {
    fn from(why: NoAnswer) -> Self {
        match why {
            NoAnswer::NotFound(detail) => Self::not_found(detail),
            NoAnswer::Failed(error) => Self::internal(&error),
        }
    }
}

impl Parts {
    fn life(&self, stream: &StreamName) -> Option<Life> {
        self.board.report(stream).map(|lane| Life { first_row: lane.first_row(), next_row: lane.next_row() })
    }

    fn answer<T>(&self, answer: impl FnOnce(&Facts<'_>) -> Result<T, NoAnswer>) -> Result<T, Problem> {
        // A copy: some kilobytes, so that reading the journal does not hold up the recorder.
        let ledger = self.recorder.ledger().read().unwrap_or_else(PoisonError::into_inner).clone();
        let facts = Facts {
            device: &self.device,
            epoch: self.recorder.epoch(),
            ledger: &ledger,
            journal: self.recorder.journal(),
        };
        Ok(answer(&facts)?)
    }
}

pub(super) async fn health(State(api): State<Api>) -> Json<Value> {
    let talk = || api.parts.sync.borrow().degraded.clone();
    let degraded = api.parts.recorder.report().degraded.or_else(talk);
    Json(json!({ "status": if degraded.is_none() { "ok" } else { "degraded" }, "degraded": degraded }))
}

pub(super) async fn status(State(api): State<Api>) -> Json<StatusView> {
    Json(view(&api.parts))
}

pub(super) async fn who_scored(State(api): State<Api>, Path(record): Path<String>) -> Result<Json<WhoView>, Problem> {
    let asked: Asked = record.parse().map_err(|e| Problem::bad_request(format!("{e}")))?;
    api.blocking(move |parts| parts.answer(|facts| facts.who_scored(&asked, &|s| parts.life(s)))).await.map(Json)
}

pub(super) async fn models(State(api): State<Api>) -> Result<Json<Vec<RunView>>, Problem> {
    api.blocking(|parts| parts.answer(|facts| Ok(facts.runs(&|s| parts.life(s))))).await.map(Json)
}

pub(super) async fn model(State(api): State<Api>, Path(model): Path<String>) -> Result<Json<ModelView>, Problem> {
    let model: ModelRef = model.parse().map_err(|e| Problem::bad_request(format!("{e}")))?;
    api.blocking(move |parts| parts.answer(|facts| facts.model(&model, &|s| parts.life(s)))).await.map(Json)
}

/// How the agent does now.
pub(super) fn view(parts: &Parts) -> StatusView {
    let report = parts.recorder.report();
    let sync = parts.has_registry.then(|| parts.sync.borrow().clone());
    let deploy = parts.deploy.borrow().clone();
    let step = |stream: &StreamName| deploy.steps.iter().find(|step| step.stream == *stream).cloned();
    let streams = parts
        .board
        .lanes()
        .iter()
        .zip(&parts.streams)
        .map(|(lane, source)| StreamView { step: step(lane.stream()), ..stream(lane, source) });
    StatusView {
        device: parts.device.clone(),
        running: true,
        agent_version: crate::AGENT_VERSION.to_owned(),
        uptime_s: parts.clock.uptime().as_secs(),
        memory_bytes: crate::sync::resident_bytes(),
        epoch: parts.recorder.epoch(),
        next_sequence: report.next_sequence,
        committed: report.committed,
        acked: sync.as_ref().map(|view| view.acked),
        held: report.held,
        lost: report.lost,
        degraded: report.degraded.or_else(|| sync.as_ref().and_then(|view| view.degraded.clone())),
        disk: report.trouble,
        journal: Some(JournalView {
            bytes: report.journal_bytes,
            control_bytes: report.usage[Class::Control as usize],
            control_bytes_max: parts.limits.classes[Class::Control as usize].bytes,
            anomaly_bytes: report.usage[Class::Anomaly as usize],
            anomaly_bytes_max: parts.limits.classes[Class::Anomaly as usize].bytes,
            checkpoint: report.checkpoint,
        }),
        index_ready: parts.index.ready(),
        streams: streams.collect(),
        registry: sync.map(|view| RegistryView {
            connected: view.connected,
            lost: view.lost,
            waiting: view.waiting,
            late: view.late,
            resent: view.resent,
            held_ranges: view.held_ranges,
            checkpoint: view.checkpoint,
            degraded: view.degraded,
            assignment_version: deploy.assignment_version,
            refusal: deploy.refusal.clone(),
        }),
    }
}

fn stream(lane: &LaneReport, source: &StreamParts) -> StreamView {
    let running = lane.running();
    let wait_us = |q| lane.latency().quantile(q).map(|ns| ns as f64 / 1000.0);
    StreamView {
        stream: lane.stream().clone(),
        source: source.kind.to_owned(),
        doing: match source.report.doing() {
            Doing::Running => "running".to_owned(),
            Doing::Ended => "ended".to_owned(),
            Doing::Hindered(why) => why,
        },
        by: running.by,
        engine: running.engine,
        since: format_ms(running.since_ms),
        reason: running.reason,
        row: lane.next_row(),
        rows: lane.rows(),
        over: lane.over(),
        anomalies: lane.anomalies(),
        dropped: lane.dropped(),
        rejected: source.report.rejected(),
        signal_findings: lane.signal_findings(),
        model_faults: lane.model_faults(),
        wait_p50_us: wait_us(0.5),
        wait_p99_us: wait_us(0.99),
        step: None,
    }
}

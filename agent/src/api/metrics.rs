//! The counts for Prometheus, in its text format.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::view::{JournalView, RegistryView, StatusView, StreamView};
use super::{Api, status};

/// Name, type, help, and the number, of each metric of a stream.
type StreamMetric = (&'static str, &'static str, &'static str, fn(&StreamView) -> f64);

const STREAM_METRICS: [StreamMetric; 9] = [
    ("vedette_rows_total", "counter", "Rows scored since the start.", |s| s.rows as f64),
    ("vedette_rows_over_total", "counter", "Rows over their threshold since the start.", |s| s.over as f64),
    ("vedette_anomalies_total", "counter", "Anomalies recorded since the start.", |s| s.anomalies as f64),
    ("vedette_anomalies_dropped_total", "counter", "Anomalies dropped since the start.", |s| s.dropped as f64),
    ("vedette_samples_rejected_total", "counter", "Samples refused since the start.", |s| s.rejected as f64),
    ("vedette_signal_findings_total", "counter", "Rows with a missing or frozen signal since the start.", |s| {
        s.signal_findings as f64
    }),
    ("vedette_model_faults_total", "counter", "Rows for which the model gave no number since the start.", |s| {
        s.model_faults as f64
    }),
    ("vedette_decision_wait_p50_seconds", "gauge", "Half of the samples had their decision within this time.", |s| {
        s.wait_p50_us.unwrap_or(f64::NAN) / 1e6
    }),
    ("vedette_decision_wait_p99_seconds", "gauge", "99 % of the samples had their decision within this time.", |s| {
        s.wait_p99_us.unwrap_or(f64::NAN) / 1e6
    }),
];

/// The same of the agent as a whole.
type AgentMetric = (&'static str, &'static str, &'static str, fn(&StatusView) -> f64);

const AGENT_METRICS: [AgentMetric; 17] = [
    ("vedette_uptime_seconds", "gauge", "Time since the agent started.", |s| s.uptime_s as f64),
    ("vedette_memory_bytes", "gauge", "Resident memory.", |s| s.memory_bytes as f64),
    ("vedette_journal_next_sequence", "counter", "Sequence of the next record.", |s| s.next_sequence as f64),
    ("vedette_journal_committed_sequence", "counter", "Records below this sequence are on the disk.", |s| {
        s.committed as f64
    }),
    ("vedette_journal_acked_sequence", "counter", "Records below this sequence are in the registry.", |s| {
        s.acked.unwrap_or(0) as f64
    }),
    ("vedette_records_lost_total", "counter", "Records lost because the disk refused.", |s| s.lost as f64),
    ("vedette_records_held", "gauge", "Records that wait in memory because the disk refuses.", |s| s.held as f64),
    ("vedette_journal_bytes", "gauge", "Bytes of the journal's files.", |s| journal(s, |j| j.bytes)),
    ("vedette_journal_control_bytes", "gauge", "Bytes of control records, headers and hashes.", |s| {
        journal(s, |j| j.control_bytes)
    }),
    ("vedette_journal_anomaly_bytes", "gauge", "Bytes of anomalies.", |s| journal(s, |j| j.anomaly_bytes)),
    ("vedette_journal_signed_sequence", "counter", "Records below this sequence have a signed checkpoint.", |s| {
        journal(s, |j| j.checkpoint.unwrap_or(0))
    }),
    ("vedette_registry_connected", "gauge", "1 when there is a connection to the registry's broker.", |s| {
        registry(s, |r| u64::from(r.connected))
    }),
    ("vedette_outbox_waiting_records", "gauge", "Records that the registry does not have.", |s| {
        registry(s, |r| r.waiting)
    }),
    ("vedette_outbox_late_records_total", "counter", "Records sent late, because they had waited.", |s| {
        registry(s, |r| r.late)
    }),
    ("vedette_outbox_resent_batches_total", "counter", "Batches sent once more for want of an answer.", |s| {
        registry(s, |r| r.resent)
    }),
    (
        "vedette_registry_accepted_sequence",
        "counter",
        "Records below this sequence have a checkpoint that the registry accepted.",
        |s| registry(s, |r| r.checkpoint),
    ),
    ("vedette_degraded", "gauge", "1 when the disk or the registry refuses.", |s| {
        f64::from(u8::from(s.degraded.is_some()))
    }),
];

fn journal(status: &StatusView, value: fn(&JournalView) -> u64) -> f64 {
    status.journal.as_ref().map_or(f64::NAN, |journal| value(journal) as f64)
}

fn registry(status: &StatusView, value: fn(&RegistryView) -> u64) -> f64 {
    status.registry.as_ref().map_or(f64::NAN, |registry| value(registry) as f64)
}

pub(super) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text(&status::view(&api.parts)))
}

/// Writing to a string cannot fail.
fn text(status: &StatusView) -> String {
    let mut out = String::with_capacity(4096);
    let mut line = |text: std::fmt::Arguments<'_>| out.write_fmt(text).is_ok() && out.write_char('\n').is_ok();
    for (name, kind, help, value) in AGENT_METRICS {
        line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {}", value(status)));
    }
    for (name, kind, help, value) in STREAM_METRICS {
        line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
        for stream in &status.streams {
            line(format_args!("{name}{{stream=\"{}\"}} {}", stream.stream, value(stream)));
        }
    }
    line(format_args!("# HELP vedette_model_info The scorer in charge of a stream.\n# TYPE vedette_model_info gauge"));
    for stream in &status.streams {
        line(format_args!("vedette_model_info{{stream=\"{}\",model=\"{}\"}} 1", stream.stream, stream.by));
    }
    out
}

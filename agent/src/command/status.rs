//! `status`

use comfy_table::Cell;
use vedette_protocol::exit::Exit;
use vedette_protocol::time::format_ms;

use super::access::{Access, Stopped, Trouble};
use super::print::{self, Out};
use crate::api::view::{StatusView, StreamView};

/// From the agent; when it is down, what its journal says, and exit code 5.
pub(super) fn run(access: &Access, out: &Out) -> Result<Exit, Trouble> {
    let (status, exit) = match access.live("/v1/status")? {
        Some(status) => (status, Exit::Ok),
        None => {
            (from_journal(access, &access.stopped().map_err(|trouble| never_ran(access, trouble))?)?, Exit::Offline)
        }
    };
    if out.json() {
        out.object(&status)?;
        return Ok(exit);
    }
    show(&status, access, out)?;
    Ok(exit)
}

/// An agent that is down is offline also when it has never run.
fn never_ran(access: &Access, trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::NotFound(_) => Trouble::Down(format!(
            "the agent is down (nobody listens on {}) and has never run here",
            access.socket().display()
        )),
        other @ (Trouble::Refused(_) | Trouble::Down(_) | Trouble::Usage(_) | Trouble::Failed(_)) => other,
    }
}

fn from_journal(access: &Access, stopped: &Stopped<'_>) -> Result<StatusView, Trouble> {
    let ledger = stopped.ledger()?;
    let last = ledger.streams().filter_map(|stream| ledger.runs(stream).last().map(|run| (stream.clone(), run)));
    let streams = last.map(|(stream, run)| StreamView {
        stream,
        source: String::new(),
        doing: "down".to_owned(),
        by: run.by,
        engine: run.engine,
        since: format_ms(run.since_ms),
        reason: run.reason,
        row: run.end_row,
        rows: 0,
        over: 0,
        anomalies: 0,
        dropped: 0,
        rejected: 0,
        signal_findings: 0,
        model_faults: 0,
        wait_p50_us: None,
        wait_p99_us: None,
        step: None,
    });
    Ok(StatusView {
        device: access.device().clone(),
        running: false,
        agent_version: crate::AGENT_VERSION.to_owned(),
        uptime_s: 0,
        memory_bytes: 0,
        epoch: stopped.epoch(),
        next_sequence: stopped.stat.next_sequence,
        committed: stopped.stat.next_sequence,
        acked: None,
        held: 0,
        lost: 0,
        journal: None,
        degraded: None,
        disk: None,
        index_ready: false,
        registry: None,
        streams: streams.collect(),
    })
}

fn show(status: &StatusView, access: &Access, out: &Out) -> Result<(), Trouble> {
    let agent = if status.running {
        format!("{}, up for {} s, {}", status.agent_version, status.uptime_s, print::mebibytes(status.memory_bytes))
    } else {
        format!("down (nobody listens on {}); this is from its journal", access.socket().display())
    };
    let mut pairs = vec![
        ("device", status.device.to_string()),
        ("agent", agent),
        (
            "journal",
            format!("epoch {}, {} records, {} on the disk", status.epoch, status.next_sequence, status.committed),
        ),
    ];
    if let Some(journal) = &status.journal {
        let signed = journal.checkpoint.map_or("not signed yet".to_owned(), |size| format!("signed up to {size}"));
        let [bytes, control, control_max, anomaly, anomaly_max] = [
            journal.bytes,
            journal.control_bytes,
            journal.control_bytes_max,
            journal.anomaly_bytes,
            journal.anomaly_bytes_max,
        ]
        .map(print::mebibytes);
        let classes = format!("control {control} of {control_max}, anomalies {anomaly} of {anomaly_max}");
        pairs.push(("kept", format!("{bytes} in files; {classes}; {signed}")));
    }
    if let Some(registry) = &status.registry {
        let link = match (&registry.lost, registry.connected) {
            (_, true) => "connected".to_owned(),
            (Some(why), false) => format!("not connected: {why}"),
            (None, false) => "not connected yet".to_owned(),
        };
        let acked = status.acked.unwrap_or(0);
        pairs.push(("registry", format!("{link}, has {acked} records, assignment {}", registry.assignment_version)));
        pairs.extend(registry.refusal.iter().map(|why| ("refused", why.clone())));
    }
    pairs.extend(
        status
            .degraded
            .iter()
            .map(|why| ("degraded", format!("{why}; {} records wait, {} are lost", status.held, status.lost))),
    );
    // What is in the way is a sentence, too long for a table.
    let troubled = |s: &&StreamView| s.doing.contains(' ');
    pairs.extend(status.streams.iter().filter(troubled).map(|s| (s.stream.as_str(), s.doing.clone())));
    out.pairs(&pairs)?;
    out.line("")?;
    let row = |s: &StreamView| {
        let wait = |us: Option<f64>| us.map_or_else(|| "-".to_owned(), |us| format!("{us:.1}"));
        vec![
            Cell::new(&s.stream),
            Cell::new(&s.source),
            if troubled(&s) { out.loud("trouble") } else { Cell::new(&s.doing) },
            Cell::new(print::scorer(&s.by)),
            Cell::new(s.row),
            Cell::new(s.rows),
            Cell::new(s.anomalies),
            Cell::new(s.dropped),
            Cell::new(format!("{} / {}", wait(s.wait_p50_us), wait(s.wait_p99_us))),
        ]
    };
    let header =
        ["STREAM", "SOURCE", "STATE", "MODEL", "NEXT ROW", "SCORED", "ANOMALIES", "DROPPED", "WAIT p50 / p99 µs"];
    out.table(&header, status.streams.iter().map(row).collect())?;
    Ok(())
}

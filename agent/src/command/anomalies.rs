//! `anomalies list|show|tail|ack|export`

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use comfy_table::Cell;
use vedette_protocol::exit::Exit;
use vedette_protocol::id::StreamName;
use vedette_protocol::record::Verdict;
use vedette_protocol::time::{format_ms, parse_ms};

use super::access::{Access, Trouble};
use super::print::{self, Out};
use crate::api::view::{AnomalyView, VerdictAsked};
use crate::index::{QUERY_LIMIT_MAX, Query};

/// Signals named in a table.
const SIGNALS_SHOWN: usize = 2;

/// How long `tail` waits for news in one question, seconds.
const TAIL_WAIT_S: u64 = 20;

/// How often `tail` looks into a stopped agent's journal.
const TAIL_LOOK: Duration = Duration::from_millis(500);

/// `anomalies …`
#[derive(Debug, Subcommand)]
pub enum Anomalies {
    /// The newest anomalies; of these, the oldest first.
    List {
        #[command(flatten)]
        filter: Filter,
        /// How many at most.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// All about one anomaly.
    Show {
        /// Its sequence, or device/epoch/sequence.
        record: String,
    },
    /// The newest anomalies, and each further one as it is found.
    Tail {
        /// Only of this stream.
        #[arg(long)]
        stream: Option<StreamName>,
        /// How many of the newest to begin with.
        #[arg(long, default_value_t = 10)]
        lines: usize,
    },
    /// Say what an anomaly was; it is recorded and goes to the registry.
    Ack {
        /// Its sequence, or device/epoch/sequence.
        record: String,
        /// What it was.
        #[arg(long, value_enum)]
        verdict: Judged,
        /// Who says so.
        #[arg(long, env = "USER")]
        by: String,
        /// A remark, in your words.
        #[arg(long)]
        note: Option<String>,
    },
    /// All anomalies, oldest first, for keeping or for another program.
    Export {
        #[command(flatten)]
        filter: Filter,
        /// The form.
        #[arg(long, value_enum, default_value_t = Format::Jsonl)]
        format: Format,
        /// Where to; standard output without it.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// Which anomalies.
#[derive(Debug, Args)]
pub struct Filter {
    /// Only of this stream.
    #[arg(long)]
    stream: Option<StreamName>,
    /// Only samples at or after this time, RFC 3339 (2026-01-31T12:00:00Z).
    #[arg(long, value_parser = parse_ms, value_name = "TIME")]
    since: Option<i64>,
    /// Only samples before this time, RFC 3339.
    #[arg(long, value_parser = parse_ms, value_name = "TIME")]
    until: Option<i64>,
}

/// What a person says of an anomaly.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Judged {
    /// There was nothing.
    FalseAlarm,
    /// There was something.
    Confirmed,
    /// There was something that does not matter.
    Ignored,
}

/// How anomalies are exported.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// A table with a header, a column per field.
    Csv,
}

impl Filter {
    fn query(&self, after: Option<u64>, limit: usize) -> Query {
        Query { stream: self.stream.clone(), since_ms: self.since, until_ms: self.until, after, limit }
    }
}

pub(super) fn run(verb: &Anomalies, access: &Access, out: &Out) -> Result<Exit, Trouble> {
    match verb {
        Anomalies::List { filter, limit } => list(filter, *limit, access, out),
        Anomalies::Show { record } => show(record, access, out),
        Anomalies::Tail { stream, lines } => tail(stream.as_ref(), *lines, access, out),
        Anomalies::Ack { record, verdict, by, note } => ack(record, *verdict, by, note.as_ref(), access, out),
        Anomalies::Export { filter, format, output } => export(filter, *format, output.as_ref(), access),
    }
}

fn list(filter: &Filter, limit: usize, access: &Access, out: &Out) -> Result<Exit, Trouble> {
    if !(1..=QUERY_LIMIT_MAX).contains(&limit) {
        return Err(Trouble::Usage(format!(
            "--limit {limit} is out of range: 1 to {QUERY_LIMIT_MAX}; `anomalies export` gives all"
        )));
    }
    let found = access.anomalies(&filter.query(None, limit), 0)?;
    if out.json() {
        found.iter().try_for_each(|anomaly| out.object(anomaly))?;
        return Ok(Exit::Ok);
    }
    if found.is_empty() {
        out.line("no anomalies")?;
    }
    let row = |a: &AnomalyView| {
        vec![
            Cell::new(print::second(&a.at)),
            Cell::new(&a.stream),
            Cell::new(a.row),
            out.loud(&format!("{:.2}", a.score.get())),
            Cell::new(format!("{:.2}", a.threshold.get())),
            Cell::new(what(a)),
            Cell::new(print::scorer(&a.by)),
            Cell::new(a.verdict.as_ref().map_or_else(|| "-".to_owned(), |v| print::word(&v.verdict))),
            Cell::new(a.sequence),
        ]
    };
    let wrong = found.iter().filter(|a| a.recorded_corrected_ms.is_some()).count();
    let header = ["TIME", "STREAM", "ROW", "SCORE", "OVER", "TOP SIGNALS", "MODEL", "VERDICT", "RECORD"];
    out.table(&header, found.iter().map(row).collect())?;
    if wrong > 0 {
        out.line(&format!(
            "{wrong} of them were recorded by a wrong clock, and by now it is known when: `anomalies show RECORD` tells"
        ))?;
    }
    Ok(Exit::Ok)
}

/// The top signals, and what found it when that was no score.
fn what(anomaly: &AnomalyView) -> String {
    use vedette_protocol::record::Cause;
    let top = print::top(&anomaly.top, SIGNALS_SHOWN);
    match anomaly.cause {
        Cause::Model | Cause::Baseline => top,
        Cause::Missing => format!("missing: {}", names(anomaly)),
        Cause::Frozen => format!("frozen: {}", names(anomaly)),
        Cause::ModelFault => format!("the model gave no number; {top}"),
    }
}

fn names(anomaly: &AnomalyView) -> String {
    let names: Vec<String> = anomaly.top.iter().map(|c| c.signal.to_string()).collect();
    names.join(", ")
}

fn show(record: &str, access: &Access, out: &Out) -> Result<Exit, Trouble> {
    let anomaly = one(record, access)?;
    if out.json() {
        out.object(&anomaly)?;
        return Ok(Exit::Ok);
    }
    let mut pairs = vec![
        ("record", anomaly.record.to_string()),
        ("time", print::time(&anomaly.at)),
        ("recorded", recorded(&anomaly)),
        ("stream", anomaly.stream.to_string()),
        ("row", anomaly.row.to_string()),
        ("cause", print::word(&anomaly.cause)),
        ("score", format!("{} over {}", anomaly.score.get(), anomaly.threshold.get())),
        ("scored by", print::scorer(&anomaly.by)),
        ("input", anomaly.input.to_string()),
    ];
    if let Some(verdict) = &anomaly.verdict {
        let note = verdict.note.as_ref().map_or_else(String::new, |note| format!(": {note}"));
        pairs.push((
            "verdict",
            format!("{} by {} at {}{note}", print::word(&verdict.verdict), verdict.by, print::time(&verdict.at)),
        ));
    }
    out.pairs(&pairs)?;
    let row = |c: &vedette_protocol::record::Contribution| {
        let value = c.value.map_or_else(|| "absent".to_owned(), |v| v.get().to_string());
        vec![Cell::new(&c.signal), Cell::new(format!("{:.1} %", 100.0 * c.share.get())), Cell::new(value)]
    };
    out.line("")?;
    out.table(&["SIGNAL", "SHARE", "VALUE"], anomaly.top.iter().map(row).collect())?;
    Ok(Exit::Ok)
}

/// When it was recorded; and when it really was, where the clock was wrong.
fn recorded(anomaly: &AnomalyView) -> String {
    let shown = print::time(&anomaly.recorded_at);
    match anomaly.recorded_corrected_ms {
        None => shown,
        Some(ms) => format!("{} (by a clock that showed {shown})", print::time(&format_ms(ms))),
    }
}

fn one(record: &str, access: &Access) -> Result<AnomalyView, Trouble> {
    // A record of another device or epoch is for the agent to refuse, and for us when it is down.
    let path = format!("/v1/anomalies/{}", record.replace('/', "%2F"));
    if let Some(found) = access.live(&path)? {
        return Ok(found);
    }
    let stopped = access.stopped()?;
    let sequence = sequence(record, access, stopped.epoch())?;
    let missing = || Trouble::NotFound(format!("there is no anomaly {sequence} in the journal"));
    let query = Query { after: Some(sequence.checked_sub(1).ok_or_else(missing)?), limit: 1, ..Query::default() };
    access.anomalies(&query, 0)?.into_iter().find(|a| a.sequence == sequence).ok_or_else(missing)
}

fn sequence(record: &str, access: &Access, epoch: u64) -> Result<u64, Trouble> {
    if let Ok(sequence) = record.parse() {
        return Ok(sequence);
    }
    let id: vedette_protocol::id::RecordId = record.parse().map_err(|e| Trouble::Usage(format!("{e}")))?;
    if id.device != *access.device() || id.epoch != epoch {
        return Err(Trouble::NotFound(format!("{id} is not of this device's journal ({}/{epoch})", access.device())));
    }
    Ok(id.sequence)
}

/// Ends only when its output is closed or it is interrupted.
fn tail(stream: Option<&StreamName>, lines: usize, access: &Access, out: &Out) -> Result<Exit, Trouble> {
    let newest = Query { stream: stream.cloned(), limit: lines.min(QUERY_LIMIT_MAX), ..Query::default() };
    let first = access.anomalies(&Query { limit: newest.limit.max(1), ..newest.clone() }, 0)?;
    let mut after = first.last().map_or(0, |a| a.sequence);
    let skipped = first.len().saturating_sub(newest.limit);
    first.iter().skip(skipped).try_for_each(|anomaly| tell(anomaly, out))?;
    loop {
        let query = Query { after: Some(after), limit: QUERY_LIMIT_MAX, ..newest.clone() };
        let news = access.anomalies(&query, TAIL_WAIT_S)?;
        for anomaly in &news {
            tell(anomaly, out)?;
            after = anomaly.sequence;
        }
        // A running agent has waited already; a stopped one has not.
        if news.is_empty() && access.live::<serde_json::Value>("/health")?.is_none() {
            std::thread::sleep(TAIL_LOOK);
        }
    }
}

fn tell(anomaly: &AnomalyView, out: &Out) -> std::io::Result<()> {
    if out.json() {
        return out.object(anomaly);
    }
    out.line(&format!(
        "{}  {} row {}  {:.2} > {:.2}  {}  by {}",
        print::time(&anomaly.at),
        anomaly.stream,
        anomaly.row,
        anomaly.score.get(),
        anomaly.threshold.get(),
        what(anomaly),
        print::scorer(&anomaly.by)
    ))
}

fn ack(
    record: &str,
    verdict: Judged,
    by: &str,
    note: Option<&String>,
    access: &Access,
    out: &Out,
) -> Result<Exit, Trouble> {
    let verdict = match verdict {
        Judged::FalseAlarm => Verdict::FalseAlarm,
        Judged::Confirmed => Verdict::Confirmed,
        Judged::Ignored => Verdict::Ignored,
    };
    let path = format!("/v1/anomalies/{}/verdict", record.replace('/', "%2F"));
    let judged: AnomalyView = access.tell(&path, &VerdictAsked { verdict, by: by.to_owned(), note: note.cloned() })?;
    if out.json() {
        out.object(&judged)?;
    } else {
        out.line(&format!("{}: {} by {by}, recorded", judged.record, print::word(&verdict)))?;
    }
    Ok(Exit::Ok)
}

fn export(filter: &Filter, format: Format, output: Option<&PathBuf>, access: &Access) -> Result<Exit, Trouble> {
    match output {
        None => export_to(filter, format, access, &mut std::io::stdout().lock()),
        Some(path) => {
            let file = File::create(path).with_context(|| format!("couldn't write {}", path.display()))?;
            let mut file = BufWriter::new(file);
            export_to(filter, format, access, &mut file)?;
            file.into_inner().map_err(|e| e.into_error())?.sync_all()?;
            Ok(())
        }
    }?;
    Ok(Exit::Ok)
}

fn export_to(filter: &Filter, format: Format, access: &Access, to: &mut dyn Write) -> Result<(), Trouble> {
    if matches!(format, Format::Csv) {
        writeln!(to, "record,time,stream,row,cause,score,threshold,model,top_signals,verdict,verdict_by")?;
    }
    // Sequence 0 is the record of the first start.
    let mut after = 0;
    loop {
        let page = access.anomalies(&filter.query(Some(after), QUERY_LIMIT_MAX), 0)?;
        let Some(last) = page.last() else { break };
        after = last.sequence;
        for anomaly in &page {
            match format {
                Format::Jsonl => writeln!(to, "{}", serde_json::to_string(anomaly)?)?,
                Format::Csv => writeln!(to, "{}", csv_line(anomaly))?,
            }
        }
    }
    Ok(to.flush()?)
}

fn csv_line(a: &AnomalyView) -> String {
    let verdict = a.verdict.as_ref();
    let fields = [
        a.record.to_string(),
        a.at.clone(),
        a.stream.to_string(),
        a.row.to_string(),
        print::word(&a.cause),
        a.score.get().to_string(),
        a.threshold.get().to_string(),
        print::scorer(&a.by),
        print::top(&a.top, a.top.len()),
        verdict.map_or_else(String::new, |v| print::word(&v.verdict)),
        verdict.map_or_else(String::new, |v| v.by.clone()),
    ];
    let quoted = |field: &String| {
        if field.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", field.replace('"', "\"\""))
        } else {
            field.clone()
        }
    };
    fields.iter().map(quoted).collect::<Vec<String>>().join(",")
}

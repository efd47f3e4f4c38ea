//! `vedette anomalies` and `vedette who-scored`: what the fleet found, and which model said so.

use std::num::NonZeroUsize;

use clap::{Args, Subcommand};
use vedette_protocol::{
    exit::Exit,
    id::{DeviceId, RecordId, RowId, StreamName},
    record::ScoredBy,
};

use super::{
    Screen,
    client::Client,
    fault::Fault,
    screen::{Column, Format, Sheet, facts, say, say_json, time},
};
use crate::view::{AnomalyView, SignalShare, WhoScored};

/// Signals named in a line of the list.
const TOP_IN_LIST: usize = 2;

/// A share below this says nothing to people; the largest is named in any case.
const SHARE_NAMED_MIN: f32 = 0.01;

/// Verbs on anomalies.
#[derive(Debug, Subcommand)]
pub enum Anomalies {
    /// The newest anomalies of the fleet; all conditions hold together
    List(List),
    /// All about one anomaly
    Show {
        /// DEVICE/EPOCH/SEQUENCE
        record: RecordId,
    },
}

/// The conditions of `anomalies list`.
#[derive(Debug, Args)]
pub struct List {
    /// Only this device
    #[arg(long)]
    device: Option<DeviceId>,
    /// Only this stream
    #[arg(long)]
    stream: Option<StreamName>,
    /// Only this model: NAME, NAME@VERSION, or `baseline`
    #[arg(long)]
    model: Option<String>,
    /// Only samples at or after this time, RFC 3339
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only samples before this time, RFC 3339
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// How many at most
    #[arg(long, default_value = "100", value_name = "N")]
    limit: NonZeroUsize,
}

/// What `who-scored` asks.
#[derive(Debug, Args)]
pub struct WhoScoredArgs {
    /// DEVICE/EPOCH/SEQUENCE, or DEVICE/EPOCH/STREAM#ROW for any row that was ever scored
    record: String,
}

/// Runs a verb on anomalies.
///
/// # Errors
/// Offline, or what the registry answered.
pub async fn run(verb: Anomalies, client: &Client, screen: Screen) -> Result<(), Fault> {
    match verb {
        Anomalies::List(list) => {
            let anomalies: Vec<AnomalyView> = client.list(&["anomalies"], &query(&list), list.limit.get()).await?;
            match screen.format {
                Format::Json => say_json(&anomalies),
                Format::Text => say(&list_text(&anomalies, screen)),
            }
        }
        Anomalies::Show { record } => {
            let path = ["anomalies", record.device.as_str(), &record.epoch.to_string(), &record.sequence.to_string()];
            let anomaly: AnomalyView = client.get(&path, &()).await?;
            match screen.format {
                Format::Json => say_json(&[anomaly]),
                Format::Text => say(&show_text(&anomaly, screen)),
            }
        }
    }
}

/// Runs `who-scored`.
///
/// # Errors
/// Usage when the record is none; offline, or what the registry answered.
pub async fn who_scored(args: WhoScoredArgs, client: &Client, screen: Screen) -> Result<(), Fault> {
    let record = args.record;
    if let (Err(record_error), Err(row_error)) = (record.parse::<RecordId>(), record.parse::<RowId>()) {
        let error = if record.contains('#') { row_error } else { record_error };
        return Err(Fault { exit: Exit::Usage, message: error.to_string() });
    }
    let answer: WhoScored = client.get(&["who-scored", &record], &()).await?;
    match screen.format {
        Format::Json => say_json(&[answer]),
        Format::Text => say(&who_text(&answer)),
    }
}

fn query(list: &List) -> Vec<(&'static str, String)> {
    let conditions = [
        ("device", list.device.as_ref().map(ToString::to_string)),
        ("stream", list.stream.as_ref().map(ToString::to_string)),
        ("model", list.model.clone()),
        ("since", list.since.clone()),
        ("until", list.until.clone()),
    ];
    conditions.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn list_text(anomalies: &[AnomalyView], screen: Screen) -> String {
    let mut sheet = Sheet::new(&[
        Column::Text("TIME"),
        Column::Text("STREAM"),
        Column::Number("SCORE"),
        Column::Number("OVER"),
        Column::Text("TOP SIGNALS"),
        Column::Text("MODEL"),
        Column::Text("RECORD"),
    ]);
    for anomaly in anomalies {
        sheet.row([
            time(&anomaly.at),
            anomaly.stream.to_string(),
            format!("{:.2}", anomaly.score),
            format!("{:.2}", anomaly.threshold),
            what(anomaly),
            anomaly.by.to_string(),
            anomaly.record.clone(),
        ]);
    }
    sheet.render(screen.colour, "no anomalies")
}

/// The top signals, and what found it when that was no score.
fn what(anomaly: &AnomalyView) -> String {
    match anomaly.cause.as_str() {
        "model" | "baseline" => signals(&anomaly.top),
        cause => format!("{}: {}", cause.replace('_', " "), signals(&anomaly.top)),
    }
}

fn signals(top: &[SignalShare]) -> String {
    let worth = |(place, signal): &(usize, &SignalShare)| *place == 0 || signal.share >= SHARE_NAMED_MIN;
    let one = |signal: &SignalShare| format!("{} {:.0} %", signal.signal, signal.share * 100.0);
    let shown: Vec<String> =
        top.iter().enumerate().filter(worth).take(TOP_IN_LIST).map(|(_, signal)| one(signal)).collect();
    shown.join(", ")
}

fn show_text(anomaly: &AnomalyView, screen: Screen) -> String {
    let mut head = vec![
        ("record", anomaly.record.clone()),
        ("device", anomaly.device.to_string()),
        ("stream", format!("{}, row {}", anomaly.stream, anomaly.row)),
        ("time", time(&anomaly.at)),
        ("cause", anomaly.cause.clone()),
        ("score", format!("{} over {}", anomaly.score, anomaly.threshold)),
        ("scored by", anomaly.by.to_string()),
        ("input", anomaly.input.to_string()),
        ("received", format!("{}{}", time(&anomaly.received), if anomaly.late { ", late" } else { "" })),
    ];
    if let Some(verdict) = &anomaly.verdict {
        let note = verdict.note.as_ref().map_or_else(String::new, |note| format!(": {note}"));
        head.push(("verdict", format!("{} by {}{note}", verdict.verdict, verdict.by)));
    }
    let mut sheet = Sheet::new(&[Column::Text("SIGNAL"), Column::Number("SHARE"), Column::Number("VALUE")]);
    for signal in &anomaly.top {
        let value = signal.value.map_or_else(|| "absent".to_owned(), |value| value.to_string());
        sheet.row([signal.signal.clone(), format!("{:.1} %", signal.share * 100.0), value]);
    }
    format!("{}\n{}", facts(&head), sheet.render(screen.colour, "no signals named"))
}

fn who_text(answer: &WhoScored) -> String {
    let mut lines = vec![
        ("record", answer.record.clone()),
        ("stream", format!("{} of {}, row {}", answer.stream, answer.device, answer.row)),
        ("scored by", answer.by.to_string()),
    ];
    if let Some(run) = &answer.run {
        lines.push(("since", format!("{}, row {}", time(&run.since), run.first_row)));
        lines.push(("swap record", run.swap.clone()));
    }
    if let Some(signed) = &answer.signed {
        let text = match (signed.covered, signed.size) {
            (true, size) => format!("yes: it is among the {size} records that its device has signed"),
            (false, 0) => "no: its device has signed nothing yet".to_owned(),
            (false, size) => {
                format!("not shown: its device has signed {size} records, and the copies here do not reach it")
            }
        };
        lines.push(("signed", text));
    }
    match (&answer.version, &answer.by) {
        (Some(version), _) => lines.extend([
            ("manifest", version.manifest.to_string()),
            ("artifact", version.artifact.to_string()),
            ("pushed", format!("{} by {}", time(&version.pushed), version.pushed_by)),
            ("made by", format!("{}: {}", version.author, version.reason)),
        ]),
        (None, ScoredBy::Baseline { .. }) => {
            lines.push(("", "the built-in baseline: no model was in charge or able to score".to_owned()));
        }
        (None, ScoredBy::Model { artifact, manifest, .. }) => lines.extend([
            ("manifest", manifest.to_string()),
            ("artifact", artifact.to_string()),
            ("pushed", "never: this registry does not know it".to_owned()),
        ]),
    }
    facts(&lines)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;
    use vedette_protocol::id::Digest;

    use super::*;
    use crate::cli::screen::Colour;

    fn anomaly() -> AnomalyView {
        let by = ScoredBy::Model {
            model: "pump@2".parse().unwrap(),
            artifact: Digest::of(b"a"),
            manifest: Digest::of(b"m"),
        };
        serde_json::from_value(json!({
            "record": "box-1/7/42", "device": "box-1", "stream": "server", "row": 1744, "at_ms": 0,
            "at": "2026-01-01T00:00:00.000Z", "cause": "model", "score": 2.5, "threshold": 1.25,
            "top": [{"signal": "mem_u_e", "share": 0.61, "value": 0.09}, {"signal": "mem_u", "share": 0.2}],
            "by": by, "input": Digest::of(b"i").to_string(), "received": "2026-01-01T00:00:01.000Z"
        }))
        .unwrap()
    }

    #[test]
    fn an_anomaly_reads_as_one_line_with_its_signals_and_model() {
        let screen = Screen { format: Format::Text, colour: Colour::No };
        let text = list_text(&[anomaly()], screen);
        let line = text.lines().nth(1).unwrap();
        let words =
            ["2026-01-01 00:00:00Z", "server", "2.50", "1.25", "mem_u_e 61 %, mem_u 20 %", "pump@2", "box-1/7/42"];
        for word in words {
            assert!(line.contains(word), "{word} is not in {line}");
        }
        assert!(show_text(&anomaly(), screen).contains("absent"));
    }

    #[test]
    fn a_line_of_json_is_the_whole_anomaly() {
        let line = serde_json::to_string(&anomaly()).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<AnomalyView>(&line).unwrap(), anomaly());
    }
}

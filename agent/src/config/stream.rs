//! A stream: its name and where its samples come from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use vedette_protocol::id::{SignalName, StreamName, Unit};
use vedette_protocol::limit::MAX_SIGNALS;
use vedette_protocol::settings::{DurationText, SettingsError, TimeText};

use super::address::broker;
use super::raw::{Format, Kind, RawSignal, RawStream};
use super::within::{duration, number};
use super::{Broker, Place};

/// Fastest replay: a second of data in a nanosecond is "as fast as possible", which 0 says better.
const SPEED_MAX: f64 = 1e9;

/// Topics on a local broker; ours upward have at most 256 bytes too.
const TOPIC_BYTES_MAX: usize = 256;

/// One telemetry stream of the device.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its name, and the slot that a model is assigned to.
    pub name: StreamName,
    /// Where its samples come from.
    pub source: Source,
    /// Whether the baseline raises anomalies while there is no model.
    pub baseline: bool,
    /// Samples that may wait for the scorer.
    pub queue: usize,
}

/// Where samples come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A recorded file.
    Replay(Replay),
    /// This machine's own metrics.
    Host(Host),
    /// A topic of a local broker.
    Mqtt(Mqtt),
    /// Whoever posts to the local interface.
    Push(Push),
}

/// A recorded file.
#[derive(Clone, Debug)]
pub struct Replay {
    /// The CSV file, perhaps gzipped; it was there when the configuration was checked.
    pub file: PathBuf,
    /// How many times faster than the data's time; 0 = as fast as it is scored.
    pub speed: f64,
    /// The column with the time, if there is one.
    pub time_column: Option<String>,
    /// Without a time column: the first row's time, Unix ms.
    pub start_ms: i64,
    /// Without a time column: ms between rows, > 0; with one: 0.
    pub step_ms: u64,
    /// A column that is a label and not a signal.
    pub label_column: Option<String>,
    /// Whether the file begins again at its end.
    pub repeat: bool,
    /// Units of the columns.
    pub units: Units,
}

/// Units by signal.
#[derive(Clone, Debug, Default)]
pub struct Units {
    /// The unit of every signal not named.
    pub default: Option<Unit>,
    /// Units of single signals.
    pub named: BTreeMap<SignalName, Unit>,
}

impl Units {
    /// The unit of a signal, where one is known.
    #[must_use]
    pub fn of(&self, signal: &SignalName) -> Option<&Unit> {
        self.named.get(signal).or(self.default.as_ref())
    }
}

/// This machine's own metrics.
#[derive(Clone, Debug)]
pub struct Host {
    /// Time between samples.
    pub interval: Duration,
}

/// A topic of a local broker.
#[derive(Clone, Debug)]
pub struct Mqtt {
    /// The broker.
    pub broker: Broker,
    /// The topic; wildcards allowed.
    pub topic: String,
    /// How a message is written.
    pub format: Format,
    /// The signals in their order, at least one.
    pub signals: Vec<(SignalName, Option<Unit>)>,
}

/// Samples posted to the local interface.
#[derive(Clone, Debug)]
pub struct Push {
    /// The signals in their order, at least one.
    pub signals: Vec<(SignalName, Option<Unit>)>,
}

/// One stream of one place: what its errors are named after.
struct At<'a> {
    place: &'a Place<'a>,
    stream: StreamName,
}

impl At<'_> {
    fn key(&self, key: &str) -> String {
        format!("stream {}: {key}", self.stream)
    }

    fn refuse(&self, key: &str, problem: impl std::fmt::Display) -> SettingsError {
        self.place.refuse(&self.key(key), problem)
    }

    fn need<T>(&self, key: &str, value: Option<T>) -> Result<T, SettingsError> {
        value.ok_or_else(|| self.refuse(key, "is missing; this source needs it"))
    }
}

pub(super) fn check(raw: RawStream, place: &Place<'_>) -> Result<Stream, SettingsError> {
    let at = At { place, stream: raw.name.clone() };
    strangers(&raw, &at)?;
    let name = raw.name.clone();
    let baseline = raw.baseline.unwrap_or(true);
    let queue = number(place, &at.key("queue"), raw.queue, 1024, 1..=65_536)? as usize;
    let source = match raw.source {
        Kind::Replay => Source::Replay(replay(raw, &at)?),
        Kind::Host => Source::Host(Host {
            interval: duration(place, &at.key("interval"), raw.interval, 10_000, 100..=86_400_000)?,
        }),
        Kind::Mqtt => Source::Mqtt(mqtt(raw, &at)?),
        Kind::Push => Source::Push(Push { signals: signals(raw.signals, &at)? }),
    };
    Ok(Stream { name, source, baseline, queue })
}

/// Refuses keys that belong to another kind of source: they would be silently without effect.
fn strangers(raw: &RawStream, at: &At<'_>) -> Result<(), SettingsError> {
    let given = [
        ("file", raw.file.is_some(), &[Kind::Replay][..]),
        ("speed", raw.speed.is_some(), &[Kind::Replay]),
        ("time_column", raw.time_column.is_some(), &[Kind::Replay]),
        ("start", raw.start.is_some(), &[Kind::Replay]),
        ("step", raw.step.is_some(), &[Kind::Replay]),
        ("label_column", raw.label_column.is_some(), &[Kind::Replay]),
        ("repeat", raw.repeat.is_some(), &[Kind::Replay]),
        ("units", raw.units.is_some(), &[Kind::Replay]),
        ("interval", raw.interval.is_some(), &[Kind::Host]),
        ("broker", raw.broker.is_some(), &[Kind::Mqtt]),
        ("topic", raw.topic.is_some(), &[Kind::Mqtt]),
        ("format", raw.format.is_some(), &[Kind::Mqtt]),
        ("signals", raw.signals.is_some(), &[Kind::Mqtt, Kind::Push]),
    ];
    for (key, is_given, kinds) in given {
        if is_given && !kinds.contains(&raw.source) {
            let source = format!("{:?}", raw.source).to_lowercase();
            return Err(at.refuse(key, format!("a source of kind {source} has no such key; remove it")));
        }
    }
    Ok(())
}

fn replay(raw: RawStream, at: &At<'_>) -> Result<Replay, SettingsError> {
    let file = at.place.path(&at.need("file", raw.file)?);
    if let Err(e) = std::fs::File::open(&file) {
        return Err(at.refuse("file", format!("couldn't read {}: {e}", file.display())));
    }
    let speed = raw.speed.unwrap_or(1.0);
    if !(0.0..=SPEED_MAX).contains(&speed) {
        return Err(at.refuse("speed", format!("{speed} is out of range: 0 (as fast as possible) to {SPEED_MAX:e}")));
    }
    let (start_ms, step_ms) = times(raw.time_column.as_deref(), raw.start, raw.step, at)?;
    Ok(Replay {
        file,
        speed,
        time_column: raw.time_column,
        start_ms,
        step_ms,
        label_column: raw.label_column,
        repeat: raw.repeat.unwrap_or(false),
        units: units(raw.units.unwrap_or_default(), at)?,
    })
}

/// The first row's time and the step between rows: given exactly when the file has no time column.
fn times(
    column: Option<&str>,
    start: Option<TimeText>,
    step: Option<DurationText>,
    at: &At<'_>,
) -> Result<(i64, u64), SettingsError> {
    const STEP_MS_MAX: u64 = 30 * 86_400_000;
    if column.is_some() {
        if start.is_some() || step.is_some() {
            return Err(at.refuse("time_column", "the column gives the time: remove `start` and `step`"));
        }
        return Ok((0, 0));
    }
    let step = at.need("step", step)?;
    let step = duration(at.place, &at.key("step"), Some(step), 0, 1..=STEP_MS_MAX)?;
    let start_ms = start.map_or(0, TimeText::ms);
    Ok((start_ms, u64::try_from(step.as_millis()).unwrap_or(STEP_MS_MAX)))
}

fn units(raw: BTreeMap<String, Unit>, at: &At<'_>) -> Result<Units, SettingsError> {
    let mut units = Units::default();
    for (name, unit) in raw {
        if name == "default" {
            units.default = Some(unit);
        } else {
            let signal = name.parse().map_err(|e| at.refuse("units", format!("\"{name}\": {e}")))?;
            units.named.insert(signal, unit);
        }
    }
    Ok(units)
}

fn mqtt(raw: RawStream, at: &At<'_>) -> Result<Mqtt, SettingsError> {
    let topic = at.need("topic", raw.topic)?;
    if topic.is_empty() || topic.len() > TOPIC_BYTES_MAX {
        return Err(at.refuse("topic", format!("{} bytes are out of range: 1 to {TOPIC_BYTES_MAX}", topic.len())));
    }
    Ok(Mqtt {
        broker: broker(&at.key("broker"), &at.need("broker", raw.broker)?, at.place)?,
        topic,
        format: raw.format.unwrap_or_default(),
        signals: signals(raw.signals, at)?,
    })
}

fn signals(raw: Option<Vec<RawSignal>>, at: &At<'_>) -> Result<Vec<(SignalName, Option<Unit>)>, SettingsError> {
    let raw = at.need("signals", raw)?;
    if raw.is_empty() || raw.len() > MAX_SIGNALS {
        return Err(at.refuse("signals", format!("{} signals are out of range: 1 to {MAX_SIGNALS}", raw.len())));
    }
    let mut signals: Vec<(SignalName, Option<Unit>)> = Vec::with_capacity(raw.len());
    for RawSignal { name, unit } in raw {
        if signals.iter().any(|(known, _)| *known == name) {
            return Err(at.refuse("signals", format!("{name} is named twice")));
        }
        signals.push((name, unit));
    }
    Ok(signals)
}

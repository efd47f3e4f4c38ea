//! `vedette backtest`: a model, or the built-in baseline, over a file, exactly as a device would score it.
//!
//! Local. The model is first tried in a child process with limits, as the registry and every device do, when its manifest
//! names a self-test; then the file goes through the device's own path. What is printed is what the device would have done.

mod scores;
mod text;
mod windows;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use serde::Serialize;
use vedette_protocol::{
    Digest, IdError, SignalName, Unit, cbor,
    manifest::{Blob, Manifest},
    settings::{DurationText, TimeText},
};
use vedette_scoring::{
    EngineChoice, Model,
    backtest::{self, BacktestError, Report},
    eval::EventRules,
    replay::{self, Disorder, Options, Problem},
    trial::{self, TrialError, TrialLimits, TrialReport},
};

use self::scores::Scores;
use super::{
    Screen,
    fault::Fault,
    progress, push,
    screen::{Format, say, say_json},
};

/// The step between rows when neither the file nor a manifest says.
const STEP_MS_DEFAULT: i64 = 60_000;

/// How often the progress bar moves.
const ROWS_A_TICK: usize = 1_024;

/// What runs the model's graph.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Engine {
    #[default]
    Auto,
    Tract,
    Native,
}

impl From<Engine> for EngineChoice {
    fn from(engine: Engine) -> EngineChoice {
        match engine {
            Engine::Auto => EngineChoice::Auto,
            Engine::Tract => EngineChoice::Tract,
            Engine::Native => EngineChoice::Native,
        }
    }
}

/// What `backtest` takes.
#[derive(Debug, Args)]
pub struct Backtest {
    /// The model
    #[arg(value_name = "MODEL.onnx", required_unless_present = "baseline", conflicts_with = "baseline")]
    model: Option<PathBuf>,
    /// Its manifest
    #[arg(long, value_name = "M.toml", required_unless_present = "baseline", conflicts_with = "baseline")]
    manifest: Option<PathBuf>,
    /// The built-in baseline instead of a model
    #[arg(long)]
    baseline: bool,
    /// What runs the model's graph: the best that can (auto), or one of them for comparison
    #[arg(long, value_enum, default_value_t, conflicts_with = "baseline")]
    engine: Engine,
    /// The telemetry: CSV, plain or gzip, one column a signal
    #[arg(long, value_name = "FILE.csv[.gz]")]
    data: PathBuf,
    /// A column with labels: 0 is normal, any other number anomalous
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// Labelled windows instead, as NAB has them: CSV with start,end or file,start,end (implies --unordered)
    #[arg(long, value_name = "FILE.csv", conflicts_with = "label")]
    windows: Option<PathBuf>,
    /// The column with the time; without it one named timestamp, time, datetime, date or ts, or else steps
    #[arg(long, value_name = "COLUMN")]
    time_column: Option<String>,
    /// The step between rows without a time column; without it the manifest's sampling
    #[arg(long, value_name = "DURATION")]
    step: Option<DurationText>,
    /// A column to leave out (may be given again)
    #[arg(long, value_name = "COLUMN")]
    skip: Vec<String>,
    /// The time of the first row without a time column, RFC 3339
    #[arg(long, value_name = "TIME", default_value = "1970-01-01T00:00:00Z")]
    start: TimeText,
    /// The unit in which the file gives a signal, or all others (may be given again); must be the manifest's
    #[arg(long, value_name = "[SIGNAL=]UNIT", value_parser = unit_of)]
    unit: Vec<(Option<SignalName>, Unit)>,
    /// Take rows that go back in time as they are
    #[arg(long)]
    unordered: bool,
    /// Write every row's score to this file
    #[arg(long, value_name = "OUT.csv")]
    scores: Option<PathBuf>,
}

/// A model ready to score, and what its trial said.
struct Candidate {
    model: Arc<Model>,
    trial: Option<TrialReport>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Outcome<'a> {
    data: String,
    model: String,
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    trial: Option<&'a TrialReport>,
}

fn unit_of(text: &str) -> Result<(Option<SignalName>, Unit), IdError> {
    match text.split_once('=') {
        Some((signal, unit)) => Ok((Some(signal.parse()?), unit.parse()?)),
        None => Ok((None, text.parse()?)),
    }
}

/// Runs a backtest.
///
/// # Errors
/// Not found for a missing file, usage for a manifest that makes no sense, refused for a model that cannot run or does not fit
/// manifest or file, failed for a file that cannot be read as telemetry.
pub fn run(args: &Backtest, screen: Screen) -> Result<(), Fault> {
    let candidate = candidate(args)?;
    let windows = args.windows.as_deref().map(|file| windows::read(file, &args.data)).transpose()?;
    if windows.as_ref().is_some_and(Vec::is_empty) {
        eprintln!("vedette: no window is of {}: there is nothing to judge", args.data.display());
    }
    let model = candidate.as_ref().map(|candidate| Arc::clone(&candidate.model));
    let backtest = backtest::Backtest {
        file: &args.data,
        options: options(args, model.as_deref()),
        model,
        windows: windows.unwrap_or_default(),
        rules: EventRules::default(),
    };
    let report = score(&backtest, args.scores.as_deref())?;
    let trial = candidate.as_ref().and_then(|candidate| candidate.trial.as_ref());
    let outcome =
        Outcome { data: args.data.display().to_string(), model: report.scored_by.to_string(), report: &report, trial };
    match screen.format {
        Format::Json => say_json(&[outcome]),
        Format::Text => say(&text::report(&outcome, screen)),
    }
}

/// Scores the file, writes the scores beside it if asked, and shows how far it is.
fn score(backtest: &backtest::Backtest<'_>, out: Option<&Path>) -> Result<Report, Fault> {
    let bar = progress::rows("scoring");
    let mut scores = out.map(Scores::create).transpose()?;
    let mut rows = 0_usize;
    let report = backtest::run(backtest, |row| {
        rows += 1;
        if rows.is_multiple_of(ROWS_A_TICK) {
            bar.inc(ROWS_A_TICK as u64);
        }
        if let Some(scores) = &mut scores {
            scores.write(row);
        }
    });
    bar.finish_and_clear();
    let report = report.map_err(|error| unscored(&error))?;
    scores.map_or(Ok(()), Scores::finish)?;
    Ok(report)
}

fn unscored(error: &BacktestError) -> Fault {
    let message = format!("couldn't score {error}");
    match error {
        BacktestError::Replay(replay::ReplayError { problem: Problem::Read(cause), place: _ })
            if cause.kind() == std::io::ErrorKind::NotFound =>
        {
            Fault::not_found(message)
        }
        BacktestError::Contract { .. } => Fault::refused(message),
        BacktestError::Replay(_) | BacktestError::TooLong(_) | BacktestError::Empty(_) => Fault::failed(message),
    }
}

fn options(args: &Backtest, model: Option<&Model>) -> Options {
    let sampling = model.and_then(|model| i64::try_from(model.manifest().contract.sampling_ms).ok());
    let step = args.step.and_then(|step| i64::try_from(step.get().as_millis()).ok());
    let mut options = Options::new(args.start.ms(), step.or(sampling).unwrap_or(STEP_MS_DEFAULT));
    if let Some(column) = &args.time_column {
        options.time = replay::Time::Column(column.clone());
    }
    options.label.clone_from(&args.label);
    options.skip.clone_from(&args.skip);
    for (signal, unit) in &args.unit {
        match signal {
            Some(signal) => drop(options.units.insert(signal.clone(), unit.clone())),
            None => options.default_unit = Some(unit.clone()),
        }
    }
    if args.unordered || args.windows.is_some() {
        options.disorder = Disorder::Keep;
    }
    options
}

/// The model, tried and loaded; none for the baseline.
fn candidate(args: &Backtest) -> Result<Option<Candidate>, Fault> {
    let (Some(model), Some(path)) = (&args.model, &args.manifest) else { return Ok(None) };
    let draft = push::read_draft(path)?;
    let artifact = push::artifact(model)?;
    let selftest = draft.selftest_file().map(|_| push::read_selftest(path, &draft)).transpose()?;
    let encoded = selftest.as_ref().map(|(_, selftest)| cbor::to_canonical(selftest));
    // Without a self-test the manifest names the digest of nothing: it is never signed or sent.
    let bytes = encoded.as_deref().unwrap_or_default();
    let blob = Blob { digest: Digest::of(bytes), length: (bytes.len() as u64).max(1) };
    let (manifest, _) = push::complete(&draft, artifact, blob, 0, path)?;
    if let Some((path, selftest)) = &selftest {
        push::check_selftest(path, selftest, &manifest)?;
    }
    let digest = Digest::of(&cbor::to_canonical(&manifest));
    let trial = encoded.map(|selftest| try_first(&manifest, digest, model, &selftest)).transpose()?;
    let onnx = fs::read(model).map_err(|error| Fault::file("read the model", model, &error))?;
    let loaded = Model::load_with(&manifest, digest, &onnx, args.engine.into())
        .map_err(|error| Fault::refused(format!("couldn't run the model {}: {error}", model.display())))?;
    Ok(Some(Candidate { model: Arc::new(loaded), trial }))
}

/// The trial that the registry and the devices make, in a child that may be lost.
fn try_first(manifest: &Manifest, digest: Digest, model: &Path, selftest: &[u8]) -> Result<TrialReport, Fault> {
    let program = std::env::current_exe()
        .map_err(|error| Fault::failed(format!("couldn't find the program's own file: {error}")))?;
    let trial = trial::run(&program, &["trial"], manifest, digest, model, selftest, TrialLimits::default());
    trial.map_err(|error| {
        let message = format!("couldn't run the model {}: {error}", model.display());
        match error {
            TrialError::Start { .. } => Fault::failed(message),
            TrialError::Refused { .. }
            | TrialError::TimedOut { .. }
            | TrialError::OutOfMemory { .. }
            | TrialError::Panicked { .. }
            | TrialError::Lost { .. } => Fault::refused(message),
        }
    })
}

//! The child's side: limits on itself first, then the model.

use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use vedette_protocol::{Digest, Exit, Manifest, SelfTest, cbor};

use super::{Answer, REQUEST_MAX, Request, TrialReport};
use crate::clock::Stopwatch;
use crate::engine::{EngineError, fenced};
use crate::model::{LoadError, Model, Session};
use crate::selftest;

/// Files that the child may have open: its three, the artifact, and some room.
const FILES_MAX: u64 = 32;
/// Windows that are timed, and how long at most.
const TIMED_RUNS: usize = 300;
const TIMED_NS: u64 = 500_000_000;
const KIB: u64 = 1024;

/// Runs one trial: the request comes on standard input, the report goes to standard output. Does not return an error: what went
/// wrong is in the report.
pub fn child_main() -> ExitCode {
    let answer = match fenced(try_model) {
        Ok(Ok(report)) => Answer::Passed(report),
        Ok(Err(answer)) => answer,
        Err(message) => Answer::Panicked { message },
    };
    let Ok(json) = serde_json::to_vec(&answer) else { return Exit::Failed.into() };
    match std::io::stdout().lock().write_all(&json) {
        Ok(()) => Exit::Ok.into(),
        Err(_) => Exit::Failed.into(), // nobody listens any more
    }
}

impl From<String> for Answer {
    fn from(reason: String) -> Self {
        Answer::Refused { reason }
    }
}

/// A panic that the engine's own fence caught is still a panic.
fn why(error: LoadError) -> Answer {
    match error {
        LoadError::Graph(EngineError::Panicked(message)) => Answer::Panicked { message },
        LoadError::Graph(_) | LoadError::Artifact { .. } | LoadError::Manifest { .. } => {
            Answer::from(error.to_string())
        }
    }
}

fn try_model() -> Result<TrialReport, Answer> {
    let mut bytes = Vec::new();
    let limit = REQUEST_MAX as u64 + 1;
    std::io::stdin()
        .lock()
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|e| format!("couldn't read the request: {e}"))?;
    let request: Request = cbor::decode(&bytes, REQUEST_MAX).map_err(|e| format!("the request makes no sense: {e}"))?;
    drop(bytes);
    limit_self(&request).map_err(|e| format!("couldn't set the trial's limits: {e}"))?;

    let manifest: Manifest =
        cbor::from_canonical(&request.manifest).map_err(|e| format!("the manifest can't be read: {e}"))?;
    if Digest::of(&request.selftest) != manifest.selftest.digest {
        return Err("the self-test is not the one that the manifest names".to_owned().into());
    }
    let tests: SelfTest =
        cbor::from_canonical(&request.selftest).map_err(|e| format!("the self-test can't be read: {e}"))?;
    let length = std::fs::metadata(&request.artifact).map_err(|e| format!("couldn't read the artifact: {e}"))?.len();
    if length != manifest.artifact.length {
        return Err(format!("the artifact has {length} bytes, the manifest says {}", manifest.artifact.length).into());
    }
    let onnx = std::fs::read(&request.artifact).map_err(|e| format!("couldn't read the artifact: {e}"))?;

    let watch = Stopwatch::start();
    let model = Model::load(&manifest, Digest::of(&request.manifest), &onnx).map_err(why)?;
    let load_ms = watch.ns() as f64 / 1e6;
    drop(onnx);
    let model = Arc::new(model);
    let largest_difference = selftest::check(&model, &tests).map_err(|e| e.to_string())?;
    let (row_p50_ns, row_p99_ns) = row_time(&model);
    let memory_bytes = status_kib("VmHWM:").unwrap_or(0) * KIB;
    let engine = model.engine();
    let report = TrialReport {
        engine,
        load_ms,
        row_p50_ns,
        row_p99_ns,
        memory_bytes,
        vectors: tests.vectors.len(),
        largest_difference,
    };
    within_limits(&manifest, &report)?;
    Ok(report)
}

/// Time and memory as the manifest promises.
fn within_limits(manifest: &Manifest, report: &TrialReport) -> Result<(), String> {
    let limits = &manifest.limits;
    if report.load_ms > limits.load_ms as f64 {
        return Err(format!("loading took {:.0} ms, the manifest allows {} ms", report.load_ms, limits.load_ms));
    }
    if report.row_p50_ns > limits.row_us.saturating_mul(1000) {
        return Err(format!("a row takes {} µs, the manifest allows {} µs", report.row_p50_ns / 1000, limits.row_us));
    }
    if report.memory_bytes > limits.memory_bytes {
        return Err(format!(
            "the model took {} MiB, the manifest allows {} MiB",
            report.memory_bytes >> 20,
            limits.memory_bytes >> 20
        ));
    }
    Ok(())
}

/// From here on this process can't take more, and dies with its parent.
fn limit_self(request: &Request) -> std::io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let own = status_kib("VmSize:").unwrap_or(0) * KIB;
    let set = |resource, wanted: u64| {
        let maximum = getrlimit(resource).maximum.map_or(wanted, |m| m.min(wanted));
        setrlimit(resource, Rlimit { current: Some(maximum), maximum: Some(maximum) })
    };
    set(Resource::Core, 0)?;
    set(Resource::Fsize, 0)?;
    set(Resource::Nofile, FILES_MAX)?;
    // The soft limit tells by its signal what happened; a second later the hard one ends whoever ignores that.
    let cpu = request.cpu_seconds.max(1);
    let hard = getrlimit(Resource::Cpu).maximum.map_or(cpu + 1, |m| m.min(cpu + 1));
    setrlimit(Resource::Cpu, Rlimit { current: Some(cpu.min(hard)), maximum: Some(hard) })?;
    set(Resource::As, own.saturating_add(request.memory_bytes))?;
    Ok(())
}

/// A line of `/proc/self/status`, in KiB.
fn status_kib(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|l| l.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

/// Times single windows of zeros: p50 and p99, nanoseconds.
fn row_time(model: &Arc<Model>) -> (u64, u64) {
    let window = vec![0.0; model.window_numbers()];
    let mut session = Session::new(Arc::clone(model));
    let watch = Stopwatch::start();
    let mut times = Vec::with_capacity(TIMED_RUNS);
    while times.len() < TIMED_RUNS && (times.is_empty() || watch.ns() < TIMED_NS) {
        let one = Stopwatch::start();
        session.run(&window);
        times.push(one.ns());
    }
    times.sort_unstable();
    let at = |part: usize| times.get((times.len() - 1) * part / 100).copied().unwrap_or(u64::MAX);
    (at(50), at(99))
}

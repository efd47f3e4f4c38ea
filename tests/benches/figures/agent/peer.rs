//! The agent that people write in Python (`tests/benches/peer_agent.py`: onnxruntime, numpy, paho), on the same rows with the same model.
//!
//! `VEDETTE_PYTHON` names a Python that has the three; without it, or without Mosquitto, its figures are skipped.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde::Deserialize;
use vedette_tests::broker::{Mosquitto, mosquitto_path};

use super::Took;
use crate::Effort;
use crate::report::{Cell, Section};

/// Seconds of each measurement.
const SECONDS: usize = 10;
/// Rows that it scores together where rate counts.
const TOGETHER: usize = 64;

/// What the peer says of itself.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Said {
    rows_s: f64,
    rows_core_s: f64,
    p50_us: f64,
    p99_us: f64,
}

/// A model and rows that both agents had.
pub(super) struct Compared<'a> {
    pub(super) name: &'static str,
    pub(super) onnx: &'a Path,
    pub(super) rows: &'a Path,
    pub(super) window: usize,
    /// Ours as fast as it goes, and row by row.
    pub(super) fast: &'a Took,
    pub(super) paced: &'a Took,
}

/// Runs the peer on each and lays both beside each other.
pub(super) fn run(dir: &Path, compared: &[Compared<'_>], effort: Effort) -> anyhow::Result<Section> {
    let mut rows = Vec::new();
    for one in compared {
        rows.extend(lines(one, ask(dir, one, TOGETHER, effort)?, ask(dir, one, 1, effort)?));
    }
    Ok(Section {
        title: "Agent, beside one in Python",
        columns: vec!["model", "figure", "ours", "Python", "unit", "ours / Python"],
        rows,
        notes: vec![
            "Python: onnxruntime (one thread), numpy and paho on the same file and model; it reads, scores and publishes anomalies, and has \
             neither journal nor signatures nor the built-in detector."
                .to_owned(),
            format!("Rates: rows in batches as each takes them (Python: {TOGETHER}). Delays: row by row; ours from the sample's arrival at 500 rows/s, Python's in its own loop, from text to decision."),
        ],
    })
}

fn lines(one: &Compared<'_>, together: Option<Said>, single: Option<Said>) -> [Vec<Cell>; 4] {
    let line = |figure: &str, ours: f64, peer: Option<f64>, decimals: usize, unit: &str| {
        let skipped = Cell::Skipped("skipped");
        vec![
            Cell::text(one.name),
            Cell::text(figure),
            Cell::Number(ours, decimals),
            peer.map_or(skipped.clone(), |peer| Cell::Number(peer, decimals)),
            Cell::text(unit),
            peer.map_or(skipped, |peer| Cell::Number(ours / peer, 2)),
        ]
    };
    let wall = one.fast.rows as f64 / one.fast.wall_s;
    [
        line("rows per second of one core", one.fast.per_core_s(), together.map(|said| said.rows_core_s), 0, "rows/s"),
        line("rows per second of wall time", wall, together.map(|said| said.rows_s), 0, "rows/s"),
        line("row to decision, p50", one.paced.p50_us, single.map(|said| said.p50_us), 1, "us"),
        line("row to decision, p99", one.paced.p99_us, single.map(|said| said.p99_us), 1, "us"),
    ]
}

fn ask(dir: &Path, one: &Compared<'_>, together: usize, effort: Effort) -> anyhow::Result<Option<Said>> {
    let (Some(python), Some(_)) = (std::env::var_os("VEDETTE_PYTHON"), mosquitto_path()) else {
        return Ok(None);
    };
    let broker = Mosquitto::start(dir)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peer_agent.py");
    let output = Command::new(python)
        .arg(script)
        .args([one.onnx, one.rows])
        .arg(broker.url().trim_start_matches("mqtt://"))
        .args(["--window", &one.window.to_string(), "--together", &together.to_string()])
        .args(["--seconds", &effort.of(SECONDS).to_string()])
        .output()
        .context("couldn't run VEDETTE_PYTHON")?;
    ensure!(output.status.success(), "the Python agent failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(Some(serde_json::from_slice(&output.stdout)?))
}

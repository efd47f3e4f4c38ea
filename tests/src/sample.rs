//! The sample telemetry with its labels: a server that loses a memory metric for good.

use std::ops::Range;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::data_dir;

/// Rows after an event's end in which an alarm still counts for it: the tolerance that the published baselines use.
pub const TOLERANCE_ROWS: u64 = 10;

/// The first row of the test part at which the server's memory metric collapses.
pub const COLLAPSE_ROW: u64 = 1742;

/// The row after the operators' incident; memory never returns, so from here on version 1 is stale.
pub const INCIDENT_END_ROW: u64 = 2520;

/// The row after the day that version 2 was trained on.
pub const TRAINED_ROW: u64 = 3960;

/// The first row of the next incident after [`TRAINED_ROW`]; it lasts three rows.
pub const NEXT_INCIDENT_ROW: u64 = 5013;

/// The labelled test part.
#[must_use]
pub fn test_file() -> PathBuf {
    data_dir().join("sample/machine-3-4_test_rows1000-7500.csv.gz")
}

/// The folder of a demo model: `model.onnx`, `manifest.toml` and its self-test.
#[must_use]
pub fn model_dir(version: &str) -> PathBuf {
    data_dir().join("demo").join(version)
}

/// The operators' label of each row of [`test_file`]: true inside an incident.
///
/// # Errors
/// When the file is missing or its label column is not 0 or 1.
pub fn labels() -> anyhow::Result<Vec<bool>> {
    let path = test_file();
    let file = std::fs::File::open(&path).with_context(|| format!("couldn't open {}", path.display()))?;
    let mut reader = csv::Reader::from_reader(flate2::read::GzDecoder::new(file));
    let column = reader.headers()?.iter().position(|name| name == "label").context("no label column")?;
    let rows = reader.records().map(|row| match row?.get(column) {
        Some("0" | "0.0") => Ok(false),
        Some("1" | "1.0") => Ok(true),
        other => anyhow::bail!("a label is 0 or 1, not {other:?}"),
    });
    rows.collect()
}

/// The incidents: ranges of rows whose label is true.
#[must_use]
pub fn incidents(labels: &[bool]) -> Vec<Range<u64>> {
    let mut found: Vec<Range<u64>> = Vec::new();
    for (row, _) in (0u64..).zip(labels).filter(|(_, label)| **label) {
        match found.last_mut() {
            Some(last) if last.end == row => last.end = row + 1,
            Some(_) | None => found.push(row..row + 1),
        }
    }
    found
}

//! Scoring, one thread: each kind of model by every engine, loading, memory, and a device's whole way from raw row to decision.

mod bound;
mod cases;
mod contender;
mod engines;
mod load;
pub(crate) mod memory;
mod path;

use crate::Effort;
use crate::ort::Runtime;
use crate::report::Section;

/// Measures everything.
pub(crate) fn run(effort: Effort) -> anyhow::Result<Vec<Section>> {
    let runtime = Runtime::from_env()?;
    let cases = cases::all()?;
    Ok(vec![
        engines::run(&cases, runtime.as_ref(), effort)?,
        load::run(&cases, runtime.as_ref(), effort)?,
        memory::run()?,
        path::run(runtime.as_ref(), effort)?,
    ])
}

/// Who the peer is, for a table's notes.
fn peer(runtime: Option<&Runtime>) -> String {
    match runtime {
        Some(runtime) => format!("ONNX Runtime {}, one thread, its buffers bound once.", runtime.version()),
        None => "ONNX Runtime skipped: VEDETTE_ORT does not name its library.".to_owned(),
    }
}

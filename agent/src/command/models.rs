//! `models list|show`

use comfy_table::Cell;
use vedette_protocol::exit::Exit;
use vedette_protocol::id::ModelRef;
use vedette_protocol::record::EngineKind;

use super::access::{Access, Trouble};
use super::print::{self, Out};
use crate::api::view::{ModelView, RunView, StepView};

pub(super) fn list(access: &Access, out: &Out) -> Result<Exit, Trouble> {
    let runs: Vec<RunView> = match access.live("/v1/models")? {
        Some(runs) => runs,
        None => access.stopped()?.answer(|facts| Ok(facts.runs(&|_| None)))?,
    };
    if out.json() {
        runs.iter().try_for_each(|run| out.object(run))?;
        return Ok(Exit::Ok);
    }
    if runs.is_empty() {
        out.line("no row has been scored yet")?;
    }
    table(&runs, out)?;
    Ok(Exit::Ok)
}

pub(super) fn show(model: &ModelRef, access: &Access, out: &Out) -> Result<Exit, Trouble> {
    let life: ModelView = match access.live(&format!("/v1/models/{model}"))? {
        Some(life) => life,
        None => access.stopped()?.answer(|facts| facts.model(model, &|_| None))?,
    };
    if out.json() {
        out.object(&life)?;
        return Ok(Exit::Ok);
    }
    let unknown = || "it never scored here".to_owned();
    out.pairs(&[
        ("model", life.model.to_string()),
        ("artifact", life.artifact.map_or_else(unknown, |d| d.to_string())),
        ("manifest", life.manifest.map_or_else(unknown, |d| d.to_string())),
    ])?;
    if !life.runs.is_empty() {
        out.line("")?;
        table(&life.runs, out)?;
    }
    if !life.steps.is_empty() {
        out.line("")?;
    }
    let row = |step: &StepView| {
        vec![
            Cell::new(print::time(&step.at)),
            Cell::new(&step.stream),
            Cell::new(print::word(&step.stage)),
            Cell::new(step.detail.clone().unwrap_or_default()),
        ]
    };
    out.table(&["TIME", "STREAM", "STAGE", "DETAIL"], life.steps.iter().map(row).collect())?;
    Ok(Exit::Ok)
}

fn table(runs: &[RunView], out: &Out) -> std::io::Result<()> {
    let row = |run: &RunView| {
        vec![
            Cell::new(&run.stream),
            Cell::new(print::scorer(&run.by)),
            Cell::new(run.engine.map_or("", EngineKind::as_str)),
            Cell::new(run.first_row),
            Cell::new(end(run)),
            Cell::new(print::time(&run.since)),
            Cell::new(print::word(&run.reason)),
            Cell::new(run.swap.sequence),
        ]
    };
    out.table(
        &["STREAM", "MODEL", "ENGINE", "FROM ROW", "TO ROW", "SINCE", "WHY", "RECORD"],
        runs.iter().map(row).collect(),
    )
}

/// Where a run ends: `801, running`, `801`, or `65536 at most` when a crash cut it off.
pub(super) fn end(run: &RunView) -> String {
    match (run.running, run.exact) {
        (true, _) => format!("{}, running", run.end_row),
        (false, true) => run.end_row.to_string(),
        (false, false) => format!("{} at most", run.end_row),
    }
}

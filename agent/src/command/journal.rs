//! `journal stat`: read from the files, also beside a running agent.

use std::collections::BTreeMap;

use comfy_table::Cell;
use serde::Serialize;
use vedette_journal::Reader;
use vedette_protocol::exit::Exit;
use vedette_protocol::record::RecordKind;

use super::access::{Access, Trouble};
use super::print::{self, Out};

/// What is in a journal.
#[derive(Debug, Serialize)]
struct StatView {
    folder: String,
    epoch: u64,
    first_sequence: u64,
    next_sequence: u64,
    segments: usize,
    bytes: u64,
    /// Stretches that cannot be read.
    damage: usize,
    /// Places passed over by reading all of it.
    skipped: u64,
    /// Records by kind.
    kinds: BTreeMap<String, u64>,
}

pub(super) fn stat(access: &Access, out: &Out) -> Result<Exit, Trouble> {
    let stopped = access.stopped()?;
    let mut kinds = BTreeMap::new();
    let mut reader = Reader::open(&access.journal(), 0).map_err(anyhow::Error::from)?;
    while let Some(entry) = reader.next().map_err(anyhow::Error::from)? {
        let name =
            RecordKind::from_code(entry.kind).map_or_else(|| format!("kind {}", entry.kind), |kind| print::word(&kind));
        *kinds.entry(name).or_insert(0) += 1;
    }
    let stat = StatView {
        folder: access.journal().display().to_string(),
        epoch: stopped.epoch(),
        first_sequence: stopped.stat.first_sequence,
        next_sequence: stopped.stat.next_sequence,
        segments: stopped.stat.segments,
        bytes: stopped.stat.bytes,
        damage: stopped.stat.damage.len(),
        skipped: reader.skipped(),
        kinds,
    };
    if out.json() {
        out.object(&stat)?;
        return Ok(Exit::Ok);
    }
    out.pairs(&[
        ("folder", stat.folder.clone()),
        ("epoch", stat.epoch.to_string()),
        ("records", format!("{} up to {}", stat.first_sequence, stat.next_sequence)),
        ("segments", format!("{}, {} bytes", stat.segments, stat.bytes)),
        (
            "damage",
            if stat.damage == 0 && stat.skipped == 0 {
                "none".to_owned()
            } else {
                format!("{} stretches, {} passed over", stat.damage, stat.skipped)
            },
        ),
    ])?;
    out.line("")?;
    out.table(
        &["KIND", "RECORDS"],
        stat.kinds.iter().map(|(kind, count)| vec![Cell::new(kind), Cell::new(count)]).collect(),
    )?;
    Ok(Exit::Ok)
}

//! `journal stat`: figures, read from the files.

use std::collections::BTreeMap;

use comfy_table::Cell;
use serde::Serialize;
use vedette_journal::Reader;
use vedette_protocol::exit::Exit;
use vedette_protocol::record::RecordKind;

use super::place::{self, Place};
use crate::command::access::Trouble;
use crate::command::print::{self, Out};

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
    /// Records of which the hash alone was kept.
    thinned: u64,
    /// Records by kind.
    kinds: BTreeMap<String, u64>,
}

pub(super) fn run(place: &Place, out: &Out) -> Result<Exit, Trouble> {
    let folder = place.folder()?;
    let unreadable = |error| place::unreadable(folder, error);
    let stat = vedette_journal::stat(folder).map_err(unreadable)?;
    let Some(epoch) = stat.epoch else {
        return Err(Trouble::NotFound(format!("there is no readable journal in {}", folder.display())));
    };
    let mut kinds = BTreeMap::new();
    let mut reader = Reader::open(folder, 0).map_err(unreadable)?;
    while let Some(entry) = reader.next().map_err(unreadable)? {
        let name =
            RecordKind::from_code(entry.kind).map_or_else(|| format!("kind {}", entry.kind), |kind| print::word(&kind));
        *kinds.entry(name).or_insert(0) += 1;
    }
    let stat = StatView {
        folder: folder.display().to_string(),
        epoch,
        first_sequence: stat.first_sequence,
        next_sequence: stat.next_sequence,
        segments: stat.segments,
        bytes: stat.bytes,
        damage: stat.damage.len(),
        skipped: reader.skipped(),
        thinned: reader.thinned(),
        kinds,
    };
    if out.json() {
        out.object(&stat)?;
        return Ok(Exit::Ok);
    }
    let damage = if stat.damage == 0 && stat.skipped == 0 {
        "none".to_owned()
    } else {
        format!("{} stretches, {} passed over; `journal verify` says where", stat.damage, stat.skipped)
    };
    out.pairs(&[
        ("folder", stat.folder.clone()),
        ("epoch", stat.epoch.to_string()),
        (
            "records",
            format!("{} up to {}, {} of them as hashes", stat.first_sequence, stat.next_sequence, stat.thinned),
        ),
        ("segments", format!("{}, {} bytes", stat.segments, stat.bytes)),
        ("damage", damage),
    ])?;
    out.line("")?;
    out.table(
        &["KIND", "RECORDS"],
        stat.kinds.iter().map(|(kind, count)| vec![Cell::new(kind), Cell::new(count)]).collect(),
    )?;
    Ok(Exit::Ok)
}

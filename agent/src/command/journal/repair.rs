//! `journal repair`: what can be made whole is, while the agent is down; what it did is said.

use serde_json::json;
use vedette_journal::{Mended, OpenError, RepairError, repair};
use vedette_protocol::exit::Exit;

use super::place::{self, Place};
use super::told;
use crate::command::access::Trouble;
use crate::command::print::Out;

pub(super) fn run(place: &Place, out: &Out) -> Result<Exit, Trouble> {
    let folder = place.folder()?;
    let done = repair(folder).map_err(|error| match error {
        RepairError::Open(OpenError::Locked { holder, .. }) => Trouble::Refused(format!(
            "the journal in {} is in use{holder}: stop the agent first, and repair it then",
            folder.display()
        )),
        RepairError::Open(error @ OpenError::NotWritable { .. }) => Trouble::Refused(error.to_string()),
        RepairError::Read(error) => place::unreadable(folder, error),
        error => Trouble::Failed(error.into()),
    })?;
    let mended: Vec<String> = done.mended.iter().map(said).collect();
    let left: Vec<String> = told::findings(&done.report, |_| false).into_iter().map(|finding| finding.text).collect();
    let copies: Vec<String> = done.copies.iter().map(|path| path.display().to_string()).collect();
    if out.json() {
        out.object(&json!({
            "folder": folder.display().to_string(), "mended": mended, "copies": copies, "left": left,
        }))?;
        return Ok(Exit::Ok);
    }
    if mended.is_empty() {
        out.line("nothing that can be mended")?;
    }
    for text in mended {
        out.line(&text)?;
    }
    for copy in copies {
        out.line(&format!("kept as it was: {copy}"))?;
    }
    for text in left {
        out.line(&format!("not mended: {text}"))?;
    }
    Ok(Exit::Ok)
}

fn said(mended: &Mended) -> String {
    match mended {
        Mended::End(spot) => format!(
            "cut an unfinished write of {} bytes from the end of segment {:08x} at byte {}",
            spot.bytes, spot.segment, spot.offset
        ),
        Mended::Page(spot) => format!(
            "wrote back {} bytes at {} of segment {:08x} that had rotted",
            spot.bytes, spot.offset, spot.segment
        ),
        Mended::Parity { segment } => format!("made the parity of segment {segment:08x} anew"),
        Mended::Front { segment } => format!("wrote the front of segment {segment:08x} anew"),
        other => format!("{other:?}"),
    }
}

//! `who-scored RECORD`

use vedette_protocol::exit::Exit;
use vedette_protocol::record::ScoredBy;

use super::access::{Access, Trouble};
use super::models;
use super::print::{self, Out};
use crate::api::answer::Asked;
use crate::api::view::WhoView;

pub(super) fn run(asked: &Asked, access: &Access, out: &Out) -> Result<Exit, Trouble> {
    let path = format!("/v1/who-scored/{}", spelled(asked).replace('#', "%23"));
    let who: WhoView = match access.live(&path)? {
        Some(who) => who,
        None => access.stopped()?.answer(|facts| facts.who_scored(asked, &|_| None))?,
    };
    if out.json() {
        out.object(&who)?;
        return Ok(Exit::Ok);
    }
    let mut pairs = vec![
        ("record", who.record.clone()),
        ("stream", format!("{} of {}, row {}", who.stream, who.device, who.row)),
        ("scored by", print::scorer(&who.by)),
    ];
    match &who.by {
        ScoredBy::Model { artifact, manifest, .. } => {
            pairs.push(("artifact", artifact.to_string()));
            pairs.push(("manifest", manifest.to_string()));
        }
        ScoredBy::Baseline { .. } => {
            pairs.push(("", "the built-in baseline: no model was in charge or able to score".to_owned()))
        }
    }
    let run = &who.run;
    pairs.push(("rows", format!("{} up to {}", run.first_row, models::end(run))));
    pairs.push(("since", format!("{}, {}", print::time(&run.since), why(&who))));
    pairs.push(("swap record", run.swap.to_string()));
    pairs.extend(who.note.iter().map(|note| ("note", note.clone())));
    out.pairs(&pairs)?;
    Ok(Exit::Ok)
}

fn why(who: &WhoView) -> &'static str {
    use vedette_protocol::record::SwapReason;
    match who.run.reason {
        SwapReason::Start => "when the agent started",
        SwapReason::Assigned => "assigned by the registry",
        SwapReason::Rollback => "rolled back to",
        SwapReason::Fault => "because the model before it failed",
        SwapReason::Extend => "going on",
    }
}

fn spelled(asked: &Asked) -> String {
    match asked {
        Asked::Record(id) => id.to_string(),
        Asked::Row(id) => id.to_string(),
        Asked::StreamRow(stream, row) => format!("{stream}#{row}"),
        Asked::Sequence(sequence) => sequence.to_string(),
    }
}

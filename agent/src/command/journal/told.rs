//! What is wrong with a log, in sentences and with the exit code of each.

use std::ops::Range;

use vedette_journal::{Earlier, Report};
use vedette_protocol::exit::Exit;

/// Places in files that are told to people; JSON has them all.
const SPOTS_TOLD: usize = 4;

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) exit: Exit,
    pub(super) text: String,
}

impl Finding {
    pub(super) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }

    /// How bad it is: lower is worse. Altered comes before forked: a log that contradicts itself proves nothing.
    pub(super) fn rank(&self) -> u8 {
        match self.exit {
            Exit::HashMismatch => 0,
            Exit::Fork => 1,
            Exit::BadSignature => 2,
            Exit::UnknownModel => 3,
            Exit::Incomplete => 4,
            Exit::Gap => 5,
            Exit::Torn => 6,
            Exit::Ok | Exit::Failed | Exit::Usage | Exit::NotFound | Exit::Refused | Exit::Offline => 7,
        }
    }
}

/// What a report finds wrong. `declares` says whether a later record of the log declares a gap.
pub(super) fn findings(report: &Report, declares: impl Fn(&Range<u64>) -> bool) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(report.mismatch.as_ref().map(|why| Finding::new(Exit::HashMismatch, why.to_string())));
    found.extend(report.fork.as_ref().map(|why| Finding::new(Exit::Fork, why.to_string())));
    found.extend(report.bad_signature.as_ref().map(|why| Finding::new(Exit::BadSignature, why.to_string())));
    found.extend(report.earlier.as_ref().and_then(|earlier| about_earlier(report, earlier)));
    found.extend(report.incomplete.as_ref().map(|why| Finding::new(Exit::Incomplete, why.to_string())));
    found.extend((report.lost > 0).then(|| Finding::new(Exit::Gap, gaps(report, declares))));
    for (segment, epoch) in &report.strangers {
        let text = format!("segment {segment:08x} is of another journal, epoch {epoch}");
        found.push(Finding::new(Exit::HashMismatch, text));
    }
    if report.epoch.is_none() && report.header_damage > 0 {
        let text = format!(
            "none of the {} segments has a readable header, so nothing tells whose records these are",
            report.header_damage
        );
        found.push(Finding::new(Exit::HashMismatch, text));
    } else if report.damaged_bytes > 0 || report.header_damage > 0 {
        let text = format!(
            "{} bytes and {} segment fronts are damaged, and no record is lost by it ({}); `journal repair` mends fronts",
            report.damaged_bytes,
            report.header_damage,
            places(report)
        );
        found.push(Finding::new(Exit::HashMismatch, text));
    }
    if report.healed_bytes > 0 || report.parity_damage > 0 {
        let text = format!(
            "{} bytes rotted and are read from their parity, {} parity files rotted, and nothing is lost by it ({}); \
             `journal repair` writes them anew",
            report.healed_bytes,
            report.parity_damage,
            places(report)
        );
        found.push(Finding::new(Exit::HashMismatch, text));
    }
    if report.torn_bytes > 0 {
        let behind = report.next_sequence.saturating_sub(1);
        let text = format!(
            "it ends in an unfinished write of {} bytes behind record {behind}; the agent cuts that when it starts",
            report.torn_bytes
        );
        found.push(Finding::new(Exit::Torn, text));
    }
    found
}

fn about_earlier(report: &Report, earlier: &Earlier) -> Option<Finding> {
    match earlier {
        Earlier::Unknown { size } => Some(Finding::new(
            Exit::Incomplete,
            format!(
                "the checkpoint given is about {size} records, and the log no longer has what it could be held against"
            ),
        )),
        Earlier::Stranger { origin } => {
            let own = report.origin.as_deref().unwrap_or("a log that has signed nothing");
            Some(Finding::new(Exit::Fork, format!("the checkpoint given is of the log {origin}, this is {own}")))
        }
        // A fork has its own finding.
        _ => None,
    }
}

fn gaps(report: &Report, declares: impl Fn(&Range<u64>) -> bool) -> String {
    let one = |gap: &Range<u64>| {
        let declared = if declares(gap) { " (declared in the log)" } else { "" };
        match gap.end - gap.start {
            1 => format!("{}{declared}", gap.start),
            _ => format!("{} to {}{declared}", gap.start, gap.end - 1),
        }
    };
    let named: Vec<String> = report.gaps.iter().map(one).collect();
    let more =
        if report.gaps_unnamed > 0 { format!(" and {} more stretches", report.gaps_unnamed) } else { String::new() };
    let noun = if report.lost == 1 { "record is" } else { "records are" };
    format!("{} {noun} missing: {}{more}", report.lost, named.join(", "))
}

fn places(report: &Report) -> String {
    let one = |spot: &vedette_journal::Spot| format!("segment {:08x} at byte {}", spot.segment, spot.offset);
    let named: Vec<String> = report.spots.iter().take(SPOTS_TOLD).map(one).collect();
    let more = if report.spots.len() > SPOTS_TOLD { " and more" } else { "" };
    format!("{}{more}", named.join(", "))
}

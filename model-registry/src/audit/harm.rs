//! What is wrong with a log, put into sentences and exit codes. Pure.

use vedette_journal::{Earlier, Report};
use vedette_protocol::exit::Exit;

/// Something that is wrong, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What the process ends with.
    pub exit: Exit,
    /// The sentence.
    pub text: String,
}

impl Finding {
    /// A finding.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }
}

/// What is wrong with a log, the most serious first, in the order of [`Report::worst`].
#[must_use]
pub fn findings(report: &Report) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(report.fork.as_ref().map(|why| Finding::new(Exit::Fork, why.to_string())));
    found.extend(report.bad_signature.as_ref().map(|why| Finding::new(Exit::BadSignature, why.to_string())));
    found.extend(report.mismatch.as_ref().map(|why| Finding::new(Exit::HashMismatch, why.to_string())));
    found.extend(report.incomplete.as_ref().map(|why| Finding::new(Exit::Incomplete, why.to_string())));
    found.extend(uncompared(report).map(|text| Finding::new(Exit::Incomplete, text)));
    found.extend((report.lost > 0).then(|| Finding::new(Exit::Gap, missing(report))));
    found.extend(damage(report).map(|text| Finding::new(Exit::HashMismatch, text)));
    found.extend((report.torn_bytes > 0).then(|| Finding::new(Exit::Torn, torn(report))));
    found
}

/// Why the checkpoint that was given says nothing about this log.
fn uncompared(report: &Report) -> Option<String> {
    let own = report.origin.as_deref().unwrap_or("a log that has signed nothing");
    match report.earlier.as_ref()? {
        Earlier::Stranger { origin } => Some(format!("the checkpoint given is of the log `{origin}`, this is `{own}`")),
        Earlier::Unknown { size } => Some(format!(
            "the checkpoint given is about the first {size} records, and too few of them are left to compare"
        )),
        // Another kind of answer than those is none that this program knows to be wrong.
        _ => None,
    }
}

fn missing(report: &Report) -> String {
    let named: Vec<String> = report.gaps.iter().map(|gap| format!("{} to {}", gap.start, gap.end - 1)).collect();
    let more = match report.gaps_unnamed {
        0 => String::new(),
        unnamed => format!(" and {unnamed} more stretches"),
    };
    format!("{} records are missing: {}{more}", report.lost, named.join(", "))
}

fn damage(report: &Report) -> Option<String> {
    if let Some((segment, epoch)) = report.strangers.first() {
        return Some(format!("segment {segment:08x} is of another journal, of epoch {epoch}"));
    }
    let (bytes, fronts) = (report.damaged_bytes, report.header_damage);
    if bytes > 0 || fronts > 0 {
        return Some(format!("{bytes} bytes and {fronts} segment fronts are damaged; no record was lost by that"));
    }
    let (bytes, files) = (report.healed_bytes, report.parity_damage);
    (bytes > 0 || files > 0).then(|| {
        format!(
            "{bytes} bytes rotted and are read from their parity, {files} parity files rotted; nothing is lost by that"
        )
    })
}

fn torn(report: &Report) -> String {
    let (bytes, last) = (report.torn_bytes, report.next_sequence.saturating_sub(1));
    format!("it ends in an unfinished write of {bytes} bytes behind record {last}")
}

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

/// What is wrong with a log, the most serious first: what was altered comes before what is missing.
#[must_use]
pub fn findings(report: &Report) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(report.mismatch.as_ref().map(|why| Finding::new(Exit::HashMismatch, why.to_string())));
    found.extend(report.fork.as_ref().map(|why| Finding::new(Exit::Fork, why.to_string())));
    if let Some(Earlier::Stranger { origin }) = &report.earlier {
        let own = report.origin.as_deref().unwrap_or("a log that has signed nothing");
        found.push(Finding::new(Exit::Fork, format!("the checkpoint given is of the log `{origin}`, this is `{own}`")));
    }
    found.extend(report.bad_signature.as_ref().map(|why| Finding::new(Exit::BadSignature, why.to_string())));
    found.extend(report.incomplete.as_ref().map(|why| Finding::new(Exit::Incomplete, why.to_string())));
    if report.lost > 0 {
        let named: Vec<String> = report.gaps.iter().map(|gap| format!("{} to {}", gap.start, gap.end - 1)).collect();
        let more = if report.gaps_unnamed > 0 {
            format!(" and {} more stretches", report.gaps_unnamed)
        } else {
            String::new()
        };
        let text = format!("{} records are missing: {}{more}", report.lost, named.join(", "));
        found.push(Finding::new(Exit::Gap, text));
    } else if report.damaged_bytes > 0 || report.header_damage > 0 {
        let text = format!(
            "{} bytes and {} segment fronts are damaged; no record is lost by it",
            report.damaged_bytes, report.header_damage
        );
        found.push(Finding::new(Exit::HashMismatch, text));
    }
    if report.torn_bytes > 0 {
        let text = format!(
            "it ends in an unfinished write of {} bytes behind record {}",
            report.torn_bytes,
            report.next_sequence.saturating_sub(1)
        );
        found.push(Finding::new(Exit::Torn, text));
    }
    found
}

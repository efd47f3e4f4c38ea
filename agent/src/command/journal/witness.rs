//! What the records of a log say about each other: every anomaly names a model that was swapped in before, and gaps are
//! declared by those who met them. Held beside the log's own proof, in one pass.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::Path;

use ring::digest::{Context, SHA256};
use vedette_journal::{Entry, Report};
use vedette_protocol::cbor::from_canonical;
use vedette_protocol::exit::Exit;
use vedette_protocol::id::{Digest, ModelRef};
use vedette_protocol::record::{Body, Record, ScoredBy};

use super::told::Finding;
use crate::command::access::Trouble;

/// Declared gaps that are remembered: more than a report names.
const DECLARED_MAX: usize = 1024;

/// Artifacts that are remembered, at 32 bytes each; a device that has seen more models says so and is not judged.
const ARTIFACTS_MAX: usize = 65_536;

/// A model that an anomaly names and nobody knows.
#[derive(Debug)]
struct Unknown {
    sequence: u64,
    model: ModelRef,
    artifact: Digest,
    count: u64,
}

/// What was heard in one pass over a log.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// Artifacts that may score, if somebody said which.
    listed: Option<BTreeSet<Digest>>,
    /// Artifacts that swap records brought in so far.
    swapped: BTreeSet<Digest>,
    /// Stretches that gap records declare.
    declared: Vec<Range<u64>>,
    /// Anomalies whose model no swap record before them names.
    not_swapped: Option<Unknown>,
    /// Anomalies whose model is not in the list.
    not_listed: Option<Unknown>,
    /// A record whose kind byte is not that of its content.
    mislabelled: Option<u64>,
    /// Records that this program can't decode.
    pub(super) undecoded: u64,
}

impl Witness {
    /// A witness who also knows which artifacts there are.
    pub(super) fn new(listed: Option<BTreeSet<Digest>>) -> Self {
        Self { listed, ..Self::default() }
    }

    pub(super) fn hear(&mut self, entry: &Entry) {
        let Ok(Record { body, .. }) = from_canonical::<Record>(&entry.payload) else {
            self.undecoded += 1;
            return;
        };
        if body.kind().code() != entry.kind {
            self.mislabelled.get_or_insert(entry.sequence);
        }
        match body {
            Body::Swap(swap) => {
                if let ScoredBy::Model { artifact, .. } = swap.by
                    && self.swapped.len() < ARTIFACTS_MAX
                {
                    self.swapped.insert(artifact);
                }
            }
            Body::Anomaly(anomaly) => {
                if let ScoredBy::Model { model, artifact, .. } = anomaly.by {
                    self.scored(entry.sequence, model, artifact);
                }
            }
            Body::Gap { from, to, .. } => {
                if from < to && self.declared.len() < DECLARED_MAX {
                    self.declared.push(from..to);
                }
            }
            Body::Boot { .. }
            | Body::Clock { .. }
            | Body::Config { .. }
            | Body::Drop(_)
            | Body::Verdict { .. }
            | Body::Ack { .. }
            | Body::Deploy(_) => {}
        }
    }

    fn scored(&mut self, sequence: u64, model: ModelRef, artifact: Digest) {
        let unknown = |before: &mut Option<Unknown>, model| match before {
            Some(unknown) => unknown.count += 1,
            None => *before = Some(Unknown { sequence, model, artifact, count: 1 }),
        };
        if self.listed.as_ref().is_some_and(|listed| !listed.contains(&artifact)) {
            unknown(&mut self.not_listed, model.clone());
        }
        if !self.swapped.contains(&artifact) && self.swapped.len() < ARTIFACTS_MAX {
            unknown(&mut self.not_swapped, model);
        }
    }

    /// Whether a gap was declared by a later record.
    pub(super) fn declares(&self, gap: &Range<u64>) -> bool {
        self.declared.iter().any(|declared| declared.start <= gap.start && gap.end <= declared.end)
    }

    /// Anomalies whose swap record may have been in a part of the log that is no longer there.
    pub(super) fn assumed(&self, report: &Report) -> u64 {
        self.not_swapped.as_ref().filter(|_| is_partial(report)).map_or(0, |unknown| unknown.count)
    }

    /// What is wrong with what the records say.
    pub(super) fn findings(&self, report: &Report) -> Vec<Finding> {
        let mut found = Vec::new();
        if let Some(sequence) = self.mislabelled {
            let text = format!("record {sequence} was altered: its kind is not that of its content");
            found.push(Finding::new(Exit::HashMismatch, text));
        }
        let mut named = |unknown: &Option<Unknown>, why: &str| {
            if let Some(Unknown { sequence, model, artifact, count }) = unknown {
                let text = format!(
                    "{count} anomalies, the first in record {sequence}, name the model {model} ({artifact}), {why}"
                );
                found.push(Finding::new(Exit::UnknownModel, text));
            }
        };
        named(&self.not_listed, "which is not among the models given by --models");
        if !is_partial(report) {
            named(&self.not_swapped, "which no record before them brought in");
        }
        found
    }
}

/// A part of the log is not there as records, so a record may have been in it.
fn is_partial(report: &Report) -> bool {
    report.first_sequence > 0 || report.thinned > 0 || report.lost > 0 || report.incomplete.is_some()
}

/// The artifacts that a folder holds (the SHA-256 of each of its files) or that a file lists, one digest a line.
pub(super) fn models_in(path: &Path) -> Result<BTreeSet<Digest>, Trouble> {
    let failed = |path: &Path, error: io::Error| {
        Trouble::Usage(format!("couldn't read the models in {}: {error}", path.display()))
    };
    let mut listed = BTreeSet::new();
    if !path.is_dir() {
        let text = fs::read_to_string(path).map_err(|error| failed(path, error))?;
        for word in text.lines().filter_map(|line| line.split_whitespace().next()).filter(|word| !word.starts_with('#'))
        {
            let whole = if word.starts_with("sha256:") { word.to_owned() } else { format!("sha256:{word}") };
            let digest = whole.parse().map_err(|_| {
                Trouble::Usage(format!(
                    "{}: {word:?} is not a SHA-256: 64 hexadecimal digits are expected",
                    path.display()
                ))
            })?;
            listed.insert(digest);
        }
        return Ok(listed);
    }
    for file in fs::read_dir(path).map_err(|error| failed(path, error))? {
        let file = file.map_err(|error| failed(path, error))?.path();
        if file.is_file() {
            listed.insert(digest_of(&file).map_err(|error| failed(&file, error))?);
        }
    }
    Ok(listed)
}

fn digest_of(path: &Path) -> io::Result<Digest> {
    let mut file = fs::File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut block = vec![0; 64 << 10];
    loop {
        match file.read(&mut block)? {
            0 => break,
            have => context.update(&block[..have]),
        }
    }
    let mut bytes = [0; Digest::BYTES];
    bytes.copy_from_slice(context.finish().as_ref());
    Ok(Digest::from_bytes(bytes))
}

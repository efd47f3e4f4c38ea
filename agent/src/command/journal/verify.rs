//! `journal verify`: one pass over a folder or a bundle, and the worst of what it found as exit code.

use std::fs::File;
use std::io::{BufReader, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};
use vedette_journal::{
    Against, BundleError, Checkpoint, Entry, PublicKey, RealDisk, Report, verify_bundle_against, verify_on,
};
use vedette_protocol::exit::Exit;

use super::place::{self, Folder, Place};
use super::told::{self, Finding};
use super::witness::{self, Witness};
use crate::command::access::Trouble;
use crate::command::print::Out;

pub(super) const EXIT_CODES: &str = "Exit codes: 0 sound; 10 ends in an unfinished write, 11 records are missing, \
     12 not what its hashes say, 13 not signed by the key, 14 two histories or the checkpoint of another log, \
     15 names a model that nothing brought in, 16 an incomplete bundle; 1 to 5 as everywhere.";

/// How often people are told how far it is: some twenty times a second.
const PROGRESS_RECORDS: u64 = 8192;

/// What `journal verify` does.
#[derive(Debug, Args)]
pub struct Verify {
    /// A bundle that `journal export` made, instead of a folder
    #[arg(value_name = "BUNDLE", conflicts_with = "folder")]
    bundle: Option<PathBuf>,
    #[command(flatten)]
    folder: Folder,
    /// The key that must have signed: base64, a file that holds it, or a `log.key`; the one beside the folder if absent
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// An earlier checkpoint of the same log, kept elsewhere: the log must continue it
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// The models that may have scored: a folder of them, or a file with one SHA-256 a line
    #[arg(long, value_name = "PATH")]
    models: Option<PathBuf>,
}

/// One pass and what it came to.
struct Pass {
    report: Report,
    witness: Witness,
}

impl Verify {
    pub(super) fn place(&self) -> Option<Place> {
        self.bundle.clone().map(Place::Bundle).or_else(|| self.folder.place())
    }

    pub(super) fn run(&self, place: &Place, out: &Out) -> Result<Exit, Trouble> {
        let earlier = self.checkpoint.as_deref().map(place::checkpoint_in).transpose()?;
        let key = self.key.as_deref().map(place::key_of).transpose()?.or_else(|| place.key());
        let said = earlier.as_ref().map(|(_, checkpoint)| checkpoint);
        let against = Against { key: key.as_ref(), earlier: said };
        let Pass { report, witness } = self.pass(place, &against)?;
        if matches!(place, Place::Folder(_)) && report.epoch.is_none() && report.header_damage == 0 {
            return Err(Trouble::NotFound(format!("there is no journal in {}", place.path().display())));
        }
        let mut findings = told::findings(&report, |gap| witness.declares(gap));
        findings.extend(witness.findings(&report));
        if let (Some(key), Some((note, _))) = (&key, &earlier)
            && let Err(error) = Checkpoint::open(note, key)
        {
            findings.push(Finding::new(Exit::BadSignature, format!("the checkpoint given: {error}")));
        }
        findings.sort_by_key(Finding::rank);
        let exit = findings.first().map_or(Exit::Ok, |worst| worst.exit);
        if out.json() {
            out.object(&object(place, &report, &witness, key.as_ref(), &findings))?;
        } else {
            tell(place, &report, &witness, key.as_ref(), &findings, out)?;
        }
        Ok(exit)
    }

    /// Reads all of it. What looks like an unfinished write beside a running agent may be one that is being finished:
    /// only what is still there at a second look is believed.
    fn pass(&self, place: &Place, against: &Against<'_>) -> Result<Pass, Trouble> {
        let mut first = self.pass_once(place, against)?;
        if matches!(place, Place::Folder(_)) && first.report.torn_bytes > 0 {
            let again = self.pass_once(place, against)?;
            let grew = again.report.next_sequence > first.report.next_sequence;
            first = again;
            if grew {
                first.report.torn_bytes = 0;
            }
        }
        Ok(first)
    }

    fn pass_once(&self, place: &Place, against: &Against<'_>) -> Result<Pass, Trouble> {
        let listed = self.models.as_deref().map(witness::models_in).transpose()?;
        let mut witness = Witness::new(listed);
        let mut progress = Progress::new();
        let mut visit = |entry: &Entry| {
            progress.step();
            witness.hear(entry);
        };
        let report = match place {
            Place::Folder(_) => {
                let folder = place.folder()?;
                verify_on(Arc::new(RealDisk), folder, against, &mut visit)
                    .map_err(|error| place::unreadable(folder, error))?
            }
            Place::Bundle(path) => read_bundle(path, against, &mut visit)?,
        };
        progress.end();
        Ok(Pass { report, witness })
    }
}

fn read_bundle(path: &Path, against: &Against<'_>, visit: &mut dyn FnMut(&Entry)) -> Result<Report, Trouble> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Trouble::NotFound(format!("there is no bundle {}", path.display())));
        }
        opened => opened.map_err(anyhow::Error::from)?,
    };
    verify_bundle_against(&mut BufReader::new(file), against, visit).map_err(|error| match error {
        BundleError::NotABundle | BundleError::FutureVersion(_) => {
            Trouble::Usage(format!("{}: {error}", path.display()))
        }
        error => Trouble::Failed(error.into()),
    })
}

fn object(place: &Place, report: &Report, witness: &Witness, key: Option<&PublicKey>, findings: &[Finding]) -> Value {
    let gap =
        |gap: &std::ops::Range<u64>| json!({ "from": gap.start, "to": gap.end, "declared": witness.declares(gap) });
    let spot =
        |spot: &vedette_journal::Spot| json!({ "segment": spot.segment, "offset": spot.offset, "bytes": spot.bytes });
    json!({
        "place": place.path().display().to_string(),
        "sound": findings.is_empty(),
        "findings": findings.iter().map(|one| json!({ "exit": one.exit.code(), "text": one.text })).collect::<Vec<_>>(),
        "log": report.origin,
        "epoch": report.epoch,
        "first": report.first_sequence,
        "next": report.next_sequence,
        "records": report.records,
        "thinned": report.thinned,
        "lost": report.lost,
        "gaps": report.gaps.iter().map(gap).collect::<Vec<_>>(),
        "torn_bytes": report.torn_bytes,
        "damaged_bytes": report.damaged_bytes,
        "damaged_fronts": report.header_damage,
        "healed_bytes": report.healed_bytes,
        "damaged_parity": report.parity_damage,
        "spots": report.spots.iter().map(spot).collect::<Vec<_>>(),
        "foreign": report.foreign,
        "checkpoints": { "agree": report.checkpoints_checked, "open": report.checkpoints_unchecked, "covered": report.covered },
        "key": key.map(ToString::to_string),
        "root": report.tree.as_ref().map(|tree| tree.root().to_string()),
        "models_assumed": witness.assumed(report),
        "undecoded": witness.undecoded,
    })
}

fn tell(
    place: &Place,
    report: &Report,
    witness: &Witness,
    key: Option<&PublicKey>,
    findings: &[Finding],
    out: &Out,
) -> std::io::Result<()> {
    let log = report.origin.clone().unwrap_or_else(|| "nothing in it is signed".to_owned());
    let epoch = report.epoch.map_or_else(|| "none readable".to_owned(), |epoch| epoch.to_string());
    let thinned = if report.thinned > 0 { format!(", {} as hashes", report.thinned) } else { String::new() };
    let records =
        format!("{} whole{thinned}, from {} up to {}", report.records, report.first_sequence, report.next_sequence);
    let by = key.map_or_else(|| "; give --key to check who signed".to_owned(), |key| format!(" by {key}"));
    let signed = format!("{} checkpoints{by}, over all below {}", report.checkpoints_checked, report.covered);
    let root = report.tree.as_ref().map_or_else(|| "unknown".to_owned(), |tree| tree.root().to_string());
    out.pairs(&[
        ("place", place.path().display().to_string()),
        ("log", log),
        ("epoch", epoch),
        ("records", records),
        ("signed", signed),
        ("root", root),
    ])?;
    if !report.foreign.is_empty() {
        out.line(&format!("not the journal's, and passed over: {}", report.foreign.join(", ")))?;
    }
    if witness.assumed(report) > 0 {
        out.line(&format!(
            "{} anomalies name a model that was brought in before the part that is left",
            witness.assumed(report)
        ))?;
    }
    if witness.undecoded > 0 {
        out.line(&format!("{} records can't be decoded by this version", witness.undecoded))?;
    }
    if findings.is_empty() {
        return out.line("sound");
    }
    findings.iter().try_for_each(|finding| out.line(&format!("not sound: {}", finding.text)))
}

/// How far it is, on standard error, for people at a terminal only.
struct Progress {
    records: u64,
    shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self { records: 0, shown: std::io::stderr().is_terminal() }
    }

    fn step(&mut self) {
        self.records += 1;
        if self.shown && self.records.is_multiple_of(PROGRESS_RECORDS) {
            // Not being able to tell how far it is is no reason to stop.
            write!(std::io::stderr(), "\rverifying: {} records", self.records).ok();
        }
    }

    fn end(&self) {
        if self.shown {
            write!(std::io::stderr(), "\r\x1b[K").ok();
        }
    }
}

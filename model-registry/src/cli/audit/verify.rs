//! `vedette audit verify`: is the log what it was? A folder or a bundle is read whole; a running registry is asked to prove
//! that it continues what it signed before.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use vedette_journal::{
    Against, Checkpoint, Entry, Fork, Hash, PublicKey, Report, SigningKey, verify_bundle_against, verify_consistency,
    verify_on,
};
use vedette_protocol::exit::Exit;
use vedette_protocol::id::DeviceId;

use super::folder_of;
use super::models::{Models, manifest_of};
use crate::audit::KEY_FILE;
use crate::audit::harm::{Finding, findings};
use crate::cli::Screen;
use crate::cli::client::Client;
use crate::cli::fault::Fault;
use crate::cli::progress;
use crate::cli::screen::{Format, facts, say, say_json};
use crate::view::{AuditProofView, CheckpointView, Page, TreeView};

pub(super) const EXIT_CODES: &str = "Exit codes: 0 sound; 10 ends in an unfinished write, 11 entries are missing, \
     12 not what its hashes say, 13 not signed by the key, 14 two histories, 15 names a model that was never published, \
     16 an incomplete bundle; 1 to 5 as everywhere.";

/// Models looked up at the registry for one bundle of a device.
const MODELS_MAX: usize = 1_000;

/// What `audit verify` does.
#[derive(Debug, Args)]
pub struct Verify {
    /// A bundle that `audit export --bundle` or `vedette-agent journal export` made; without it the registry is asked
    #[arg(value_name = "BUNDLE", conflicts_with = "folder")]
    bundle: Option<PathBuf>,
    /// The journal in this folder (a registry's state, or its `audit`, also a copy)
    #[arg(long, value_name = "PATH")]
    folder: Option<PathBuf>,
    /// The bundle is of this device: hold it against what the registry has accepted of it
    #[arg(long, requires = "bundle", conflicts_with_all = ["key", "checkpoint"])]
    device: Option<DeviceId>,
    /// The key that must have signed: base64, a file that holds it, or a key file; `audit.key` beside the folder if absent
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// An earlier checkpoint of the same log, kept in a file: the log must continue it
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Keep the registry's checkpoint in this file, for the next time
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bundle", "folder"])]
    save: Option<PathBuf>,
}

/// What is told of a log, sound or not.
struct Told {
    place: String,
    facts: Vec<(&'static str, String)>,
    json: Value,
    /// The most serious first.
    findings: Vec<Finding>,
}

impl Verify {
    pub(super) fn is_local(&self) -> bool {
        self.folder.is_some() || self.bundle.is_some() && self.device.is_none()
    }

    /// Verifies a folder or a bundle.
    pub(super) fn run_local(self, screen: Screen) -> Result<(), Fault> {
        let earlier = self.checkpoint.as_deref().map(read_note).transpose()?;
        let mut models = Models::default();
        let (report, place, key) = match (&self.folder, &self.bundle) {
            (Some(folder), _) => {
                let folder = folder_of(folder)?;
                let key = self.key.as_deref().map(key_of).transpose()?.or_else(|| key_beside(&folder));
                let against = Against { key: key.as_ref(), earlier: earlier.as_ref().map(|(_, said)| said) };
                (check_folder(&folder, &against, &mut |entry| models.note(entry))?, folder, key)
            }
            (None, bundle) => {
                let bundle = bundle.clone().unwrap_or_default();
                let key = self.key.as_deref().map(key_of).transpose()?;
                let against = Against { key: key.as_ref(), earlier: earlier.as_ref().map(|(_, said)| said) };
                (check_bundle(&bundle, &against, &mut |entry| models.note(entry))?, bundle, key)
            }
        };
        let mut findings = findings(&report);
        if let (Some(key), Some((note, _))) = (&key, &earlier)
            && let Err(error) = Checkpoint::open(note, key)
        {
            findings.push(Finding::new(Exit::BadSignature, format!("the checkpoint given by --checkpoint: {error}")));
        }
        findings.extend(models.findings(report.first_sequence));
        told(&report, &place, key.as_ref(), findings).end(screen)
    }

    /// Asks the registry.
    pub(super) async fn run(self, client: &Client, screen: Screen) -> Result<(), Fault> {
        match (&self.device, &self.bundle) {
            (Some(device), Some(bundle)) => verify_device(device, bundle, client, screen).await,
            _ => self.verify_running(client, screen).await,
        }
    }

    async fn verify_running(&self, client: &Client, screen: Screen) -> Result<(), Fault> {
        let earlier = self.checkpoint.as_deref().map(read_note).transpose()?;
        let asked =
            |from: u64| async move { client.get::<AuditProofView>(&["audit", "proof"], &[("from", from)]).await };
        let mut now = asked(1).await?;
        if let Some(from) = earlier.as_ref().map(|(_, said)| said.size).filter(|from| (2..=now.size).contains(from)) {
            now = asked(from).await?;
        }
        let key = match &self.key {
            Some(text) => key_of(text)?,
            None => now.key.parse().map_err(|error| Fault::failed(format!("the registry's key: {error}")))?,
        };
        let (checkpoint, findings) = judge_running(&now, &key, earlier.as_ref());
        if let Some(file) = self.save.as_ref().filter(|_| findings.is_empty()) {
            std::fs::write(file, &now.note).map_err(|error| Fault::file("write", file, &error))?;
        }
        let told_key = if self.key.is_some() {
            key.to_string()
        } else {
            format!("{key} (as the registry says; keep it and give it by --key)")
        };
        let earlier = earlier
            .map_or_else(|| "none given (--checkpoint)".to_owned(), |(_, said)| format!("{} entries", said.size));
        let size = checkpoint.as_ref().map_or(now.size, |checkpoint| checkpoint.size);
        let root = checkpoint.as_ref().map(|checkpoint| checkpoint.root.to_string()).unwrap_or_default();
        let place =
            checkpoint.map_or_else(|| "the registry's audit journal".to_owned(), |checkpoint| checkpoint.origin);
        Told {
            json: json!({ "log": place, "entries": size, "root": root, "key": key.to_string(), "earlier": earlier }),
            facts: vec![
                ("log", place.clone()),
                ("entries", size.to_string()),
                ("root", root),
                ("key", told_key),
                ("continues", earlier),
            ],
            place,
            findings,
        }
        .end(screen)
    }
}

/// What a running registry's answer is worth.
fn judge_running(
    now: &AuditProofView,
    key: &PublicKey,
    earlier: Option<&(String, Checkpoint)>,
) -> (Option<Checkpoint>, Vec<Finding>) {
    let said = match Checkpoint::open(&now.note, key) {
        Ok(said) => said,
        Err(error) => {
            return (None, vec![Finding::new(Exit::BadSignature, format!("the registry's checkpoint: {error}"))]);
        }
    };
    let mut findings = Vec::new();
    if let Some((note, before)) = earlier {
        let fork = |text: String| Finding::new(Exit::Fork, text);
        if let Err(error) = Checkpoint::open(note, key) {
            findings.push(Finding::new(Exit::BadSignature, format!("the checkpoint given by --checkpoint: {error}")));
        } else if before.origin != said.origin {
            let text = format!("the checkpoint given is of the log `{}`, this is `{}`", before.origin, said.origin);
            findings.push(Finding::new(Exit::Incomplete, text));
        } else if before.size > said.size {
            findings.push(fork(format!(
                "{} entries were signed, and the log has {} now: its end was taken away",
                before.size, said.size
            )));
        } else if !continues(now, before, &said) {
            findings.push(fork(format!("its first {} entries are not those that were signed before", before.size)));
        }
    }
    (Some(said), findings)
}

fn continues(now: &AuditProofView, before: &Checkpoint, said: &Checkpoint) -> bool {
    let proof: Option<Vec<Hash>> = now.proof.iter().map(|hash| hash.parse().ok()).collect();
    let proof = proof.filter(|_| now.from == before.size || before.size == said.size);
    let same = before.size == said.size && before.root == said.root;
    same || before.size == 0
        || proof.is_some_and(|proof| verify_consistency(before.size, &before.root, said.size, &said.root, &proof))
}

/// Holds a device's bundle against what the registry has accepted of it.
async fn verify_device(device: &DeviceId, bundle: &Path, client: &Client, screen: Screen) -> Result<(), Fault> {
    let path = ["devices", device.as_str(), "checkpoints"];
    let known: Page<CheckpointView> = client.get(&path, &()).await?;
    let epoch = check_bundle(bundle, &Against::default(), &mut |_| {})?.epoch.unwrap_or(0);
    let Some(known) = known.items.into_iter().find(|known| known.epoch == epoch) else {
        return Err(Fault::not_found(format!(
            "couldn't hold {} against the registry: it has accepted no checkpoint of epoch {epoch} of {device}",
            bundle.display()
        )));
    };
    let key: PublicKey = known.key.parse().map_err(|error| Fault::failed(format!("the key of {device}: {error}")))?;
    let accepted = Checkpoint::open(&known.note, &key)
        .map_err(|error| Fault::failed(format!("the registry's checkpoint of {device}: {error}")))?;
    let mut manifests = BTreeSet::new();
    let mut visit = |entry: &Entry| manifests.extend(manifest_of(entry));
    let against = Against { key: Some(&key), earlier: Some(&accepted) };
    let mut report = check_bundle(bundle, &against, &mut visit)?;
    let mut found = Vec::new();
    // An export from before the registry's last checkpoint is older, not another history: the registry's copies tell.
    if report.next_sequence < accepted.size
        && matches!(report.fork, Some(Fork::Shorter { size, .. }) if size == accepted.size)
    {
        let against = Against { key: Some(&key), earlier: None };
        report = check_bundle(bundle, &against, &mut |_| {})?;
        found.extend(compare_older(device, epoch, &report, client).await?);
    }
    found.extend(findings(&report));
    for manifest in manifests.iter().take(MODELS_MAX) {
        if let Err(fault) = client.head(&["manifests", &manifest.to_string()]).await {
            if fault.exit != Exit::NotFound {
                return Err(fault);
            }
            let text = format!("records name the model with manifest {manifest}, which was never published here");
            found.push(Finding::new(Exit::UnknownModel, text));
        }
    }
    told(&report, bundle, Some(&key), found).end(screen)
}

async fn compare_older(
    device: &DeviceId,
    epoch: u64,
    report: &Report,
    client: &Client,
) -> Result<Option<Finding>, Fault> {
    let Some(tree) = &report.tree else { return Ok(None) };
    let path = ["devices", device.as_str(), "tree", &epoch.to_string(), &tree.size().to_string()];
    let here: TreeView = client.get(&path, &()).await?;
    let fork = || {
        let text = format!(
            "vedette/{device}/{epoch}: its first {} records have the root {}, and those that the registry has {}",
            here.size,
            tree.root(),
            here.root
        );
        Finding::new(Exit::Fork, text)
    };
    Ok((here.root != tree.root().to_string()).then(fork))
}

fn check_folder(folder: &Path, against: &Against<'_>, visit: &mut dyn FnMut(&Entry)) -> Result<Report, Fault> {
    let bar = progress::records("verifying");
    let mut counted = |entry: &Entry| {
        bar.inc(1);
        visit(entry);
    };
    let disk = std::sync::Arc::new(vedette_journal::RealDisk);
    let report = verify_on(disk, folder, against, &mut counted);
    bar.finish_and_clear();
    report.map_err(|error| Fault::failed(format!("couldn't verify {}: {error}", folder.display())))
}

fn check_bundle(bundle: &Path, against: &Against<'_>, visit: &mut dyn FnMut(&Entry)) -> Result<Report, Fault> {
    let file = File::open(bundle).map_err(|error| Fault::file("read the bundle", bundle, &error))?;
    let bar = progress::records("verifying");
    let mut counted = |entry: &Entry| {
        bar.inc(1);
        visit(entry);
    };
    let report = verify_bundle_against(&mut BufReader::new(file), against, &mut counted);
    bar.finish_and_clear();
    report.map_err(|error| Fault::failed(format!("{}: {error}", bundle.display())))
}

fn told(report: &Report, place: &Path, key: Option<&PublicKey>, findings: Vec<Finding>) -> Told {
    let place = place.display().to_string();
    let log = report.origin.clone().unwrap_or_else(|| format!("epoch {}, nothing signed", report.epoch.unwrap_or(0)));
    let root = report.tree.as_ref().map(|tree| tree.root().to_string());
    let records = format!(
        "{} whole, {} of {} to {}",
        report.records,
        report.records + report.thinned,
        report.first_sequence,
        report.next_sequence
    );
    let signed = match key {
        Some(key) => {
            format!("{} checkpoints by {key}, covering all below {}", report.checkpoints_checked, report.covered)
        }
        None => format!(
            "{} checkpoints agree, below {}; give --key to check who signed",
            report.checkpoints_checked, report.covered
        ),
    };
    let gaps: Vec<[u64; 2]> = report.gaps.iter().map(|gap| [gap.start, gap.end]).collect();
    let json = json!({
        "place": place, "log": report.origin, "epoch": report.epoch, "first": report.first_sequence, "next": report.next_sequence,
        "records": report.records, "thinned": report.thinned, "lost": report.lost, "gaps": gaps, "torn_bytes": report.torn_bytes,
        "damaged_bytes": report.damaged_bytes, "checkpoints": report.checkpoints_checked, "covered": report.covered,
        "root": root, "key": key.map(ToString::to_string),
    });
    let mut facts = vec![("place", place.clone()), ("log", log), ("records", records), ("signed", signed)];
    facts.extend(root.map(|root| ("root", root)));
    Told { place, facts, json, findings }
}

impl Told {
    /// Prints what is so, and ends with the most serious thing that is wrong.
    fn end(mut self, screen: Screen) -> Result<(), Fault> {
        match screen.format {
            Format::Json => {
                let finding = |finding: &Finding| json!({ "exit": finding.exit.code(), "text": finding.text });
                self.json["sound"] = self.findings.is_empty().into();
                self.json["findings"] = self.findings.iter().map(finding).collect();
                say_json(&[self.json])?;
            }
            Format::Text => {
                self.facts.extend(self.findings.iter().map(|finding| ("wrong", finding.text.clone())));
                if self.findings.is_empty() {
                    self.facts.push(("sound", "yes".to_owned()));
                }
                say(&facts(&self.facts))?;
            }
        }
        match self.findings.into_iter().next() {
            None => Ok(()),
            Some(Finding { exit, text }) => Err(Fault { exit, message: format!("{}: {text}", self.place) }),
        }
    }
}

/// A note kept in a file.
fn read_note(file: &Path) -> Result<(String, Checkpoint), Fault> {
    let note = std::fs::read_to_string(file).map_err(|error| Fault::file("read the checkpoint", file, &error))?;
    let said = Checkpoint::read_unverified(&note)
        .map_err(|error| Fault::usage(format!("couldn't read the checkpoint {}: {error}", file.display())))?;
    Ok((note, said))
}

/// A public key: base64, a file that holds it, or the file of a signing key.
fn key_of(text: &str) -> Result<PublicKey, Fault> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let path = Path::new(text);
    let held = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Fault::usage(format!("couldn't use the key {text:?}: it is neither 32 bytes in base64 nor a file"))
        }
        _ => Fault::file("read the key", path, &error),
    })?;
    if let Ok(key) = held.trim().parse() {
        return Ok(key);
    }
    let signing =
        SigningKey::load(path).map_err(|error| Fault::usage(format!("couldn't use the key in {text}: {error}")))?;
    Ok(signing.public())
}

/// The registry's own key, where the folder is its state and may be read.
fn key_beside(folder: &Path) -> Option<PublicKey> {
    SigningKey::load(&folder.with_file_name(KEY_FILE)).ok().map(|key| key.public())
}

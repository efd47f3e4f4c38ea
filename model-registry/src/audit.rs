//! The audit journal: every change of the registry's state, in order, for ever. It is the truth; the store is a view of it.
//!
//! # Layout
//!
//! A [`vedette_journal::Journal`] in `STATE/audit`. The payload of an entry is one JSON document
//! `{"at": <Unix ms>, "by": "<who>", "change": {"kind": "<kind>", …}}` as [`Entry`] encodes it: fields in the order of the
//! types below, no spaces, no floats. The journal's checksums and hashes cover these bytes as they stand, so nobody has to
//! encode them again to check them. `STATE/audit.key` signs checkpoints of it, named `vedette-registry/<epoch>`.
//! Kinds and fields are added, never renamed or removed. What is large (manifest, lineage, artifact) is named by digest and
//! lies in the blobs.
//!
//! # Operations
//!
//! [`AuditLog::append`] is durable when it returns. One writer (the journal's lock is the registry's lock on its state
//! folder); readers need none and use [`list`].

mod entry;
pub mod harm;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use vedette_journal::{Journal, OpenError, Options, PublicKey, Reader, Signed, SigningKey, verify};

use crate::clock;

pub use self::entry::{AssignCause, Assigned, Change, DeviceStep, Entry, Evidence, Published, Quarantined};

/// The journal's kind byte of an [`Entry`] in JSON.
const KIND_JSON: u8 = 1;
/// A change is below 8 KiB (an assignment carries an envelope of 4 KiB in base64), so a segment holds at least 500 and a
/// fleet's year some dozen segments. Only a quarantine is longer: two records of 16 KiB in base64 are 43 KiB.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// A checkpoint costs a write and a sync; entries may come by the hundred.
const SIGN_EVERY: Duration = Duration::from_secs(1);
/// A log up to this size is verified whole at each start: a fleet's decade, read in a third of a second. A larger one is
/// verified by hand; its newest segment is looked at in any case.
const VERIFIED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The journal's signing key, beside its folder.
pub const KEY_FILE: &str = "audit.key";

/// The one writer of the audit journal. It signs what it holds: after a commit, at most every `SIGN_EVERY`, when
/// somebody asks, and at the end.
pub struct AuditLog {
    /// Gone once the log is closed.
    journal: Option<Journal>,
    folder: PathBuf,
    key: SigningKey,
    /// The last checkpoint, and when it was signed.
    signed: Option<(Signed, Instant)>,
}

impl AuditLog {
    /// Opens the journal in `folder`, or begins one with `epoch`. Its signing key lies beside the folder, in
    /// `audit.key`, and is made if need be.
    ///
    /// # Errors
    ///
    /// Another process holds it, or folder or key cannot be read or written; the message says the way out.
    pub fn open(folder: &Path, epoch: u64) -> anyhow::Result<AuditLog> {
        let options = Options {
            segment_bytes: SEGMENT_BYTES,
            // Each verb commits for itself; the group is never left waiting.
            commit_records: 1,
            commit_interval: Duration::ZERO,
            ..Options::new(epoch)
        };
        let (journal, recovery) = Journal::open(folder, options).map_err(|error| match error {
            OpenError::Locked { .. } => anyhow!(
                "couldn't open the state: a registry already runs on {} (ask it over REST, or stop it first)",
                folder.parent().unwrap_or(folder).display()
            ),
            other => anyhow::Error::new(other).context(format!("couldn't open the audit journal {}", folder.display())),
        })?;
        if recovery.cut_bytes > 0 || !recovery.damage.is_empty() {
            tracing::error!(
                folder = %folder.display(), cut_bytes = recovery.cut_bytes, damage = ?recovery.damage,
                "the audit journal was not closed cleanly: an unfinished end was cut, or a part is damaged; \
                 `vedette audit verify --folder` says what is left of it"
            );
        }
        let path = folder.with_file_name(KEY_FILE);
        let key = SigningKey::load_or_create(&path)
            .with_context(|| format!("couldn't use the key of the audit journal, {}", path.display()))?;
        if journal.segments() as u64 * SEGMENT_BYTES <= VERIFIED_BYTES_MAX {
            tell_harm(folder, &key.public());
        }
        Ok(AuditLog { journal: Some(journal), folder: folder.to_owned(), key, signed: None })
    }

    /// Sequence of the next entry: all below are durable.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.journal.as_ref().map_or(0, Journal::committed)
    }

    /// The key that checkpoints are signed with.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        self.key.public()
    }

    /// Makes durable what an earlier append left behind when the disk refused.
    ///
    /// # Errors
    ///
    /// The disk still refuses.
    pub fn settle(&mut self) -> anyhow::Result<()> {
        let journal = open_one(&mut self.journal)?;
        if journal.next_sequence() > journal.committed() {
            journal.commit().context("couldn't make the audit journal durable")?;
        }
        Ok(())
    }

    /// Appends the entries and makes them durable.
    ///
    /// # Errors
    ///
    /// The disk refused. The entries may still become durable with the next append, and are applied then.
    pub fn append(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        let journal = open_one(&mut self.journal)?;
        for entry in entries {
            let bytes = serde_json::to_vec(entry).context("couldn't encode an audit entry")?;
            journal.append(KIND_JSON, &bytes).context("couldn't append to the audit journal")?;
        }
        journal.commit().context("couldn't make the audit journal durable")?;
        if self.signed.as_ref().is_none_or(|(_, at)| at.elapsed() >= SIGN_EVERY) {
            // The entries are durable; a checkpoint that the disk does not take now comes with a later one.
            if let Err(error) = self.checkpoint() {
                tracing::warn!(error = format!("{error:#}"), "couldn't sign the audit journal");
            }
        }
        Ok(())
    }

    /// A signed checkpoint of all that is durable.
    ///
    /// # Errors
    ///
    /// The disk refused what must be durable before it is signed.
    pub fn checkpoint(&mut self) -> anyhow::Result<Signed> {
        let journal = open_one(&mut self.journal)?;
        if let Some((signed, _)) =
            self.signed.as_ref().filter(|(signed, _)| signed.checkpoint.size == journal.committed())
        {
            return Ok(signed.clone());
        }
        let origin = origin(journal.epoch());
        let signed = journal.checkpoint(&origin, &self.key).context("couldn't sign the audit journal")?;
        self.signed = Some((signed.clone(), clock::monotonic()));
        Ok(signed)
    }

    /// Signs what is there and ends the journal as a whole. Nothing can be appended behind it.
    ///
    /// # Errors
    ///
    /// The disk refused; what was durable still is.
    pub fn close(&mut self) -> anyhow::Result<()> {
        self.checkpoint()?;
        let Some(journal) = self.journal.take() else { return Ok(()) };
        journal.close().context("couldn't close the audit journal")
    }

    /// The entries from `from` on, up to what is durable, handed to `each` in order.
    ///
    /// # Errors
    ///
    /// The journal could not be read, an entry is not of a known shape, or `each` failed.
    pub fn replay(&self, from: u64, each: impl FnMut(u64, Entry) -> anyhow::Result<()>) -> anyhow::Result<()> {
        walk(&self.folder, from, self.next_sequence(), each)
    }
}

/// Says loudly what is wrong with the log. The registry runs all the same: it is needed, and nothing heals by waiting.
fn tell_harm(folder: &Path, key: &PublicKey) {
    match verify(folder, Some(key), &mut |_| {}) {
        Ok(report) => {
            for finding in harm::findings(&report) {
                tracing::error!(
                    folder = %folder.display(), finding = finding.text,
                    "the audit journal is not what it was; keep a copy, and see `vedette audit verify --folder`"
                );
            }
        }
        Err(error) => tracing::error!(folder = %folder.display(), %error, "couldn't verify the audit journal"),
    }
}

fn open_one(journal: &mut Option<Journal>) -> anyhow::Result<&mut Journal> {
    journal.as_mut().context("the audit journal is closed: the registry is ending")
}

/// The name that the registry's audit journal signs under.
#[must_use]
pub fn origin(epoch: u64) -> String {
    format!("vedette-registry/{epoch}")
}

/// Up to `limit` entries from `from` on and below `below` (what is durable), oldest first.
///
/// # Errors
///
/// The journal could not be read, or an entry is not of a known shape.
pub fn list(folder: &Path, from: u64, below: u64, limit: usize) -> anyhow::Result<Vec<(u64, Entry)>> {
    let below = below.min(from.saturating_add(limit as u64));
    let mut entries = Vec::with_capacity(limit.min(1000));
    walk(folder, from, below, |sequence, entry| {
        entries.push((sequence, entry));
        Ok(())
    })?;
    Ok(entries)
}

/// The first `limit` entries from `from` on that the journal in `folder` has, whoever writes it.
///
/// # Errors
///
/// The journal could not be read, or an entry is not of a known shape.
pub fn first(folder: &Path, from: u64, limit: usize) -> anyhow::Result<Vec<(u64, Entry)>> {
    let mut reader = Reader::open(folder, from).context("couldn't read the audit journal")?;
    let mut entries = Vec::new();
    while entries.len() < limit
        && let Some(entry) = reader.next().context("couldn't read the audit journal")?
    {
        entries.push((entry.sequence, decode(&entry)?));
    }
    Ok(entries)
}

/// Reads an entry of the journal.
///
/// # Errors
///
/// It is of a kind or a shape that this program does not know.
pub fn decode(entry: &vedette_journal::Entry) -> anyhow::Result<Entry> {
    let sequence = entry.sequence;
    anyhow::ensure!(
        entry.kind == KIND_JSON,
        "audit entry {sequence} has kind {}, which this program does not know",
        entry.kind
    );
    serde_json::from_slice(&entry.payload).with_context(|| format!("couldn't read audit entry {sequence}"))
}

fn walk(
    folder: &Path,
    from: u64,
    below: u64,
    mut each: impl FnMut(u64, Entry) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if from >= below {
        return Ok(());
    }
    let mut reader = Reader::open(folder, from).context("couldn't read the audit journal")?;
    while let Some(entry) = reader.next_below(below).context("couldn't read the audit journal")? {
        each(entry.sequence, decode(&entry)?)?;
    }
    Ok(())
}

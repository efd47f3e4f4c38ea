//! The rules about models and assignments: values and `now` in, a decision out. No store, no file, no clock.

use vedette_protocol::assignment::{Assignment, Slot};
use vedette_protocol::id::{DeviceId, Digest, ModelVersion};
use vedette_protocol::manifest::{Lineage, Manifest, ModelKind};
use vedette_protocol::time::format_ms;

/// Why a rule says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The place is taken by something else.
    #[error("{0}")]
    Taken(String),
    /// A rule is not met.
    #[error("{0}")]
    Rule(String),
}

/// A version that is here already, as far as the rules look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// The version.
    pub version: ModelVersion,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Its floor.
    pub floor: ModelVersion,
}

/// What a push means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// A version that is not here yet.
    New,
    /// The very version that is here: nothing to do.
    Known,
}

/// Decides whether a manifest may become a version beside its siblings (all of the same name, in any order).
///
/// # Errors
///
/// The version is taken by another manifest, is not above the latest, lowers the floor, or names a parent that is not here.
pub fn place(manifest: &Manifest, digest: &Digest, lineage: &Lineage, siblings: &[Sibling]) -> Result<Push, Refusal> {
    let model = &manifest.model;
    if let Some(same) = siblings.iter().find(|sibling| sibling.version == model.version) {
        if same.manifest == *digest {
            return Ok(Push::Known);
        }
        return Err(Refusal::Taken(format!(
            "{model} is taken: its manifest has digest {}, yours {digest}. A version never changes; push it as version {}",
            same.manifest,
            next_version(siblings)
        )));
    }
    let latest = siblings.iter().max_by_key(|sibling| sibling.version);
    if let Some(latest) = latest {
        if model.version < latest.version {
            return Err(Refusal::Taken(format!(
                "versions of {} only go up: the latest is {}, so push it as version {}",
                model.name,
                latest.version,
                next_version(siblings)
            )));
        }
        if manifest.floor < latest.floor {
            return Err(Refusal::Rule(format!(
                "the floor of {} only goes up: version {} has set it to {}, this manifest says {}",
                model.name, latest.version, latest.floor, manifest.floor
            )));
        }
    }
    match lineage.parent {
        Some(parent) if !siblings.iter().any(|sibling| sibling.version == parent) => Err(Refusal::Rule(format!(
            "the lineage names version {parent} as the parent, and {} has no such version here",
            model.name
        ))),
        Some(_) | None => Ok(Push::New),
    }
}

fn next_version(siblings: &[Sibling]) -> u64 {
    siblings.iter().map(|sibling| u64::from(sibling.version.get())).max().unwrap_or(0) + 1
}

/// Checks what a lineage's own rules cannot know: that the training lies in the past. (That it is complete is checked
/// when it is decoded.)
///
/// # Errors
///
/// The time of training is still to come.
pub fn check_trained(lineage: &Lineage, now_ms: i64) -> Result<(), Refusal> {
    if lineage.trained_ms <= now_ms.saturating_add(CLOCKS_APART_MS) {
        return Ok(());
    }
    Err(Refusal::Rule(format!(
        "the lineage says the model was trained at {}, which is still to come",
        format_ms(lineage.trained_ms)
    )))
}

/// How far the clock of a training machine may be ahead of ours before "trained" lies in the future: a day, which is more
/// than any time zone mistake.
const CLOCKS_APART_MS: i64 = 24 * 60 * 60 * 1000;

/// The kind of a model in a word.
#[must_use]
pub fn kind_word(kind: &ModelKind) -> &'static str {
    match kind {
        ModelKind::Autoencoder { .. } => "autoencoder",
        ModelKind::Forecaster { .. } => "forecaster",
        ModelKind::Score { .. } => "score",
    }
}

/// The assignment before, as far as the rules look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// Its version.
    pub version: u64,
    /// When it was signed, Unix ms.
    pub issued_ms: i64,
    /// When it expires, Unix ms.
    pub expires_ms: i64,
    /// Its slots, by stream.
    pub slots: Vec<Slot>,
}

/// The next assignment of a device; `None` when the one it has says the same and is not about to expire.
#[must_use]
pub fn next_assignment(
    device: &DeviceId,
    slots: Vec<Slot>,
    current: Option<&Current>,
    now_ms: i64,
    lifetime_ms: i64,
) -> Option<Assignment> {
    if current.is_some_and(|current| current.slots == slots && !due_for_renewal(current, now_ms)) {
        return None;
    }
    // Nothing assigned and nothing asked for: there is nothing to say to the device.
    if current.is_none() && slots.is_empty() {
        return None;
    }
    Some(Assignment {
        audience: device.clone(),
        version: current.map_or(0, |current| current.version) + 1,
        issued_ms: now_ms,
        expires_ms: now_ms.saturating_add(lifetime_ms),
        slots,
    })
}

/// Whether an assignment should be signed again: half of its life is over. A device that is away for the other half
/// still finds one that is valid.
#[must_use]
pub fn due_for_renewal(current: &Current, now_ms: i64) -> bool {
    let half = current.expires_ms.saturating_sub(current.issued_ms) / 2;
    now_ms >= current.issued_ms.saturating_add(half)
}

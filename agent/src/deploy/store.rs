//! What deploy remembers over a restart: one small file, replaced as a whole.
//!
//! # Layout
//!
//! `SHA-256 of the rest (32 bytes) | CBOR of [`Stored`]`, written to `deploy.cbor.new`, synced, renamed, folder synced.
//!
//! # Recovery
//!
//! After a power cut the file is the old or the new one. A file that does not hash right (rotten flash) is set aside as
//! `deploy.cbor.broken`: the box then scores with the baseline and asks for its assignment again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vedette_protocol::cbor;
use vedette_protocol::id::{Digest, ModelName, ModelRef, ModelVersion, StreamName};
use vedette_protocol::record::Stage;

/// 16 streams with three models of 300 bytes each and a detail of 256 are 19 KiB, 256 floors 17 KiB.
const STORED_BYTES_MAX: usize = 64 * 1024;

const DIGEST_BYTES: usize = 32;

/// Everything that deploy remembers.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Stored {
    /// The assignment that was taken last.
    pub assignment: Option<Taken>,
    /// The highest floor of each model name that was ever live here.
    pub floors: BTreeMap<ModelName, ModelVersion>,
    /// The streams that have, had or await a model.
    pub slots: BTreeMap<StreamName, Slot>,
}

/// An assignment that was taken.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Taken {
    /// Its version.
    pub version: u64,
    /// Its payload's digest.
    pub digest: Digest,
}

/// One stream.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Slot {
    /// What runs, and runs again after a restart.
    pub live: Option<Installed>,
    /// What ran before; its files are kept.
    pub previous: Option<Installed>,
    /// What is on its way.
    pub target: Target,
}

/// Where a stream is going.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub enum Target {
    /// Nowhere: what is live is what is assigned.
    #[default]
    Stay,
    /// To a model.
    Install(Order),
    /// To the baseline: no model is assigned any more.
    Remove,
}

/// A model that was live.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Installed {
    /// Which.
    pub model: ModelRef,
    /// Its manifest's digest.
    pub manifest: Digest,
    /// Its files.
    pub files: Files,
}

/// The files of a model, by digest.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Files {
    /// The ONNX file.
    pub artifact: Digest,
    /// The self-test.
    pub selftest: Digest,
}

/// A model on its way.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Order {
    /// Which.
    pub model: ModelRef,
    /// Its manifest's digest.
    pub manifest: Digest,
    /// How far it has come; the step after it is the one to do.
    pub stage: Stage,
    /// How often that step was begun and has not answered: the agent died over it.
    pub attempts: u32,
    /// Its files, known once the manifest is verified.
    pub files: Option<Files>,
    /// Why it was refused, in a sentence.
    pub detail: Option<String>,
}

/// What a file held.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// What was stored, or nothing when nothing was.
    Whole(Stored),
    /// Not what was stored; it now lies at this path.
    Broken(PathBuf),
}

/// Reads what was stored at `path`.
///
/// # Errors
/// When the file is there and cannot be read or set aside.
pub fn load(path: &Path) -> io::Result<Found> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Whole(Stored::default())),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Err(e),
        // A failing disk takes the models away and not the scoring.
        Err(error) => {
            tracing::error!(file = %path.display(), %error, "couldn't read what deploy remembered");
            Vec::new()
        }
    };
    if let Some(stored) = decode(&bytes) {
        return Ok(Found::Whole(stored));
    }
    let aside = path.with_extension("cbor.broken");
    match std::fs::rename(path, &aside) {
        Ok(()) => Ok(Found::Broken(aside)),
        // On a read-only disk it stays where it is.
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "couldn't set it aside");
            Ok(Found::Broken(path.to_owned()))
        }
    }
}

fn decode(bytes: &[u8]) -> Option<Stored> {
    let (sum, rest) = bytes.split_at_checked(DIGEST_BYTES)?;
    if Digest::of(rest).as_bytes() != sum {
        return None;
    }
    cbor::decode(rest, STORED_BYTES_MAX).ok()
}

/// Replaces what is stored at `path`; when it returns, a power cut cannot take it back.
///
/// # Errors
/// When the file cannot be written; the old one is still there.
pub fn save(path: &Path, stored: &Stored) -> io::Result<()> {
    let rest = cbor::encode(stored);
    let new = path.with_extension("cbor.new");
    let mut file = File::create(&new)?;
    file.write_all(Digest::of(&rest).as_bytes())?;
    file.write_all(&rest)?;
    file.sync_all()?;
    put_in_place(&new, path)
}

/// Renames a synced file into place and syncs the folder.
///
/// # Errors
/// When the system refuses.
pub fn put_in_place(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    match to.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(in super::super) fn order(model: &str, stage: Stage) -> Order {
        Order {
            model: model.parse().unwrap(),
            manifest: Digest::of(model.as_bytes()),
            stage,
            attempts: 0,
            files: None,
            detail: None,
        }
    }

    pub(in super::super) fn installed(model: &str) -> Installed {
        let files = Files {
            artifact: Digest::of(format!("{model} onnx").as_bytes()),
            selftest: Digest::of(format!("{model} selftest").as_bytes()),
        };
        Installed { model: model.parse().unwrap(), manifest: Digest::of(model.as_bytes()), files }
    }

    fn full() -> Stored {
        let mut stored =
            Stored { assignment: Some(Taken { version: 9, digest: Digest::of(b"a") }), ..Stored::default() };
        stored.floors.insert("pump".parse().unwrap(), ModelVersion::new(3).unwrap());
        let target = Target::Install(Order { detail: Some("why".to_owned()), ..order("pump@5", Stage::Refused) });
        stored
            .slots
            .insert("server".parse().unwrap(), Slot { live: Some(installed("pump@4")), previous: None, target });
        stored.slots.insert("host".parse().unwrap(), Slot { target: Target::Remove, ..Slot::default() });
        stored
    }

    #[test]
    fn what_is_saved_is_what_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deploy.cbor");
        assert_eq!(load(&path).unwrap(), Found::Whole(Stored::default()));
        save(&path, &full()).unwrap();
        assert_eq!(load(&path).unwrap(), Found::Whole(full()));
    }

    #[test]
    fn a_rotten_file_is_set_aside_and_never_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deploy.cbor");
        save(&path, &full()).unwrap();
        let good = std::fs::read(&path).unwrap();
        for at in [0, 31, 32, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert_eq!(load(&path).unwrap(), Found::Broken(dir.path().join("deploy.cbor.broken")), "byte {at}");
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_cut_before_the_rename_leaves_the_old_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deploy.cbor");
        save(&path, &full()).unwrap();
        std::fs::write(dir.path().join("deploy.cbor.new"), b"half").unwrap();
        assert_eq!(load(&path).unwrap(), Found::Whole(full()));
        save(&path, &Stored::default()).unwrap();
        assert_eq!(load(&path).unwrap(), Found::Whole(Stored::default()));
    }
}

//! Push: a version comes in, or is refused with the reason.
//!
//! The order is from cheap to dear, and nothing is written before all of it holds: the envelope's signatures, the
//! manifest, the lineage, the version's place among its siblings, the uploaded files, and at last the trial, which runs the
//! model in a child process. The trial happens outside the turn; the place is looked at again before the write.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use vedette_protocol::cbor;
use vedette_protocol::envelope::{self, Opened};
use vedette_protocol::id::{Digest, ModelName};
use vedette_protocol::manifest::{Blob, Lineage, Manifest};

use super::apply::VersionRecord;
use super::models::summary;
use super::{Error, Registry, Result};
use crate::admission;
use crate::audit::{Change, Published};
use crate::model::{self, Push, Refusal, Sibling};
use crate::view::{PushRequest, Trial, VersionSummary};

/// What a push did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// A new version.
    New(VersionSummary),
    /// The very same version was here already.
    Known(VersionSummary),
}

struct Candidate {
    manifest: Manifest,
    digest: Digest,
    envelope: Vec<u8>,
    lineage: Lineage,
    lineage_bytes: Vec<u8>,
}

impl Registry {
    /// Admits a version.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the envelope, manifest, lineage, place or files, or what the trial found.
    pub fn push(&self, name: &ModelName, request: &PushRequest, by: &str) -> Result<Pushed> {
        let candidate = self.read_candidate(name, request)?;
        if let Some(known) = self.place_of(&candidate)? {
            return Ok(Pushed::Known(known));
        }
        model::check_trained(&candidate.lineage, self.now_ms())?;
        self.check_file("the model", &candidate.manifest.artifact)?;
        self.check_file("the self-test", &candidate.manifest.selftest)?;
        let selftest = self.blobs().read_small(&candidate.manifest.selftest)?;
        let artifact = self.blobs().path(&candidate.manifest.artifact.digest);
        let trial =
            admission::admit(&self.inner.config.trial, &candidate.manifest, &candidate.digest, &artifact, &selftest)?;
        self.publish(candidate, trial, by)
    }

    fn read_candidate(&self, name: &ModelName, request: &PushRequest) -> Result<Candidate> {
        let envelope = decode_base64("manifest", &request.manifest)?;
        let lineage_bytes = decode_base64("lineage", &request.lineage)?;
        let Opened { value: manifest, digest } =
            envelope::open::<Manifest>(&envelope, &self.inner.keys.trust.models)
                .map_err(|error| Error::Refused(format!("the manifest is not accepted: {error}")))?;
        manifest.check().map_err(|error| Error::Refused(format!("the manifest is not accepted: {error}")))?;
        if manifest.model.name != *name {
            return Err(Error::Refused(format!(
                "the manifest is one of `{}`, and it was pushed to `{name}`",
                manifest.model.name
            )));
        }
        if Digest::of(&lineage_bytes) != manifest.lineage {
            return Err(Error::Refused(format!(
                "the lineage has digest {}, the manifest names {}",
                Digest::of(&lineage_bytes),
                manifest.lineage
            )));
        }
        let lineage: Lineage = cbor::from_canonical(&lineage_bytes)
            .map_err(|error| Error::BadRequest(format!("the lineage cannot be read: {error}")))?;
        Ok(Candidate { manifest, digest, envelope, lineage, lineage_bytes })
    }

    /// The version that is here already, when it is the very same; `None` when the place is free.
    fn place_of(&self, candidate: &Candidate) -> Result<Option<VersionSummary>> {
        let records = self.version_records(&candidate.manifest.model.name)?;
        let siblings: Vec<Sibling> = records.iter().map(sibling).collect();
        match model::place(&candidate.manifest, &candidate.digest, &candidate.lineage, &siblings)? {
            Push::New => Ok(None),
            Push::Known => Ok(self.version_record(&candidate.manifest.model)?.as_ref().map(summary)),
        }
    }

    fn check_file(&self, what: &str, blob: &Blob) -> Result<()> {
        match self.blobs().length(&blob.digest)? {
            None => Err(Error::Refused(format!(
                "{what} {} has not been uploaded: PUT it to /api/v1/blobs/{} first",
                blob.digest, blob.digest
            ))),
            Some(length) if length != blob.length => Err(Error::Refused(format!(
                "{what} {} is {length} bytes long, the manifest says {}",
                blob.digest, blob.length
            ))),
            Some(_) => Ok(()),
        }
    }

    fn publish(&self, candidate: Candidate, trial: Trial, by: &str) -> Result<Pushed> {
        // Files first: an entry never names a file that is not there.
        let envelope = self.blobs().store(&candidate.envelope)?;
        let lineage = self.blobs().store(&candidate.lineage_bytes)?;
        let turn = self.state().turn();
        if let Some(known) = self.place_of(&candidate)? {
            return Ok(Pushed::Known(known));
        }
        let manifest = candidate.manifest;
        let published = Published {
            model: manifest.model.clone(),
            manifest: candidate.digest,
            envelope,
            lineage,
            artifact: manifest.artifact,
            selftest: manifest.selftest,
            scoring: model::kind_word(&manifest.kind).to_owned(),
            floor: manifest.floor,
            parent: candidate.lineage.parent,
            author: candidate.lineage.author,
            reason: candidate.lineage.reason,
            trial,
        };
        self.state().change(turn, by, Change::Published(Box::new(published)))?;
        let record = self.version_record(&manifest.model)?;
        let record =
            record.ok_or_else(|| Error::Internal(anyhow::anyhow!("the version just admitted is not in the store")))?;
        Ok(Pushed::New(summary(&record)))
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        match refusal {
            Refusal::Taken(what) => Error::Conflict(what),
            Refusal::Rule(what) => Error::Refused(what),
        }
    }
}

fn sibling(record: &VersionRecord) -> Sibling {
    let published = &record.published;
    Sibling { version: published.model.version, manifest: published.manifest, floor: published.floor }
}

fn decode_base64(field: &str, text: &str) -> Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|error| Error::BadRequest(format!("`{field}` is not base64: {error}")))
}

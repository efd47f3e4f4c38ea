//! Reading models, versions, aliases and lineages; pointing aliases.

use std::collections::BTreeMap;

use anyhow::Context;
use vedette_protocol::cbor;
use vedette_protocol::envelope;
use vedette_protocol::id::{Digest, ModelName, ModelRef, ModelVersion};
use vedette_protocol::manifest::{Blob, Lineage, Manifest};
use vedette_protocol::time::format_ms;

use super::apply::VersionRecord;
use super::{Error, Registry, Result};
use crate::audit::Change;
use crate::store::{from_json, keys};
use crate::view::{ModelSummary, VersionDetail, VersionSummary};

/// Aliases of one model. Ten are many (champion, challenger, a stage or two); past 64 something writes them in a loop.
const ALIASES_MAX: usize = 64;

impl Registry {
    /// All models, by name.
    ///
    /// # Errors
    ///
    /// The store could not be read.
    pub fn models(&self) -> Result<Vec<ModelSummary>> {
        let mut latest: BTreeMap<ModelName, (VersionRecord, u32)> = BTreeMap::new();
        for entry in self.state().store().prefix(keys::models()) {
            let (_, value) = entry?;
            let record: VersionRecord = from_json(&value)?;
            let name = record.published.model.name.clone();
            let count = latest.get(&name).map_or(0, |(_, count)| *count) + 1;
            // Versions come in ascending order: the last one stays.
            latest.insert(name, (record, count));
        }
        latest.into_iter().map(|(name, (record, count))| self.summary_of(name, &record, count)).collect()
    }

    /// One model.
    ///
    /// # Errors
    ///
    /// There is none of this name.
    pub fn model(&self, name: &ModelName) -> Result<ModelSummary> {
        let versions = self.version_records(name)?;
        let count = u32::try_from(versions.len()).unwrap_or(u32::MAX);
        let latest = versions.last().ok_or_else(|| no_model(name))?;
        self.summary_of(name.clone(), latest, count)
    }

    fn summary_of(&self, name: ModelName, latest: &VersionRecord, versions: u32) -> Result<ModelSummary> {
        Ok(ModelSummary {
            latest: latest.published.model.version,
            versions,
            aliases: self.aliases(&name)?,
            updated: format_ms(latest.pushed_ms),
            name,
        })
    }

    /// All versions of a model, oldest first.
    ///
    /// # Errors
    ///
    /// There is no model of this name.
    pub fn versions(&self, name: &ModelName) -> Result<Vec<VersionSummary>> {
        let records = self.version_records(name)?;
        if records.is_empty() {
            return Err(no_model(name));
        }
        Ok(records.iter().map(summary).collect())
    }

    /// One version, with its manifest and lineage.
    ///
    /// # Errors
    ///
    /// There is no such version, or its files are damaged.
    pub fn version(&self, model: &ModelRef) -> Result<VersionDetail> {
        let record = self.version_record(model)?.ok_or_else(|| no_version(model))?;
        let envelope = self.blobs().read_small(&record.published.envelope)?;
        let manifest: Manifest = envelope::open(&envelope, &self.inner.keys.trust.models)
            .map(|opened| opened.value)
            .with_context(|| format!("couldn't open the manifest of {model} with the keys in trust.toml"))?;
        let lineage = self.blobs().read_small(&record.published.lineage)?;
        let made: Lineage =
            cbor::from_canonical(&lineage).with_context(|| format!("couldn't read the lineage of {model}"))?;
        Ok(VersionDetail { summary: summary(&record), content: manifest, made })
    }

    /// The canonical bytes of a lineage; `None` when no version has it.
    ///
    /// # Errors
    ///
    /// The store or the file could not be read.
    pub fn lineage(&self, digest: &Digest) -> Result<Option<Vec<u8>>> {
        let Some(length) = self.state().store().get_number(keys::lineage(digest))? else {
            return Ok(None);
        };
        Ok(Some(self.blobs().read_small(&Blob { digest: *digest, length })?))
    }

    /// Points an alias to a version.
    ///
    /// # Errors
    ///
    /// There is no such version, or the model has too many aliases.
    pub fn set_alias(
        &self,
        name: &ModelName,
        alias: &ModelName,
        version: ModelVersion,
        by: &str,
    ) -> Result<ModelSummary> {
        if alias.as_str().bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::BadRequest(format!("the alias `{alias}` reads like a version: give it a letter")));
        }
        let turn = self.state().turn();
        let model = ModelRef { name: name.clone(), version };
        self.version_record(&model)?.ok_or_else(|| no_version(&model))?;
        let aliases = self.aliases(name)?;
        let previous = aliases.get(alias.as_str()).copied();
        if previous.is_none() && aliases.len() >= ALIASES_MAX {
            return Err(Error::Full(format!("{name} has {ALIASES_MAX} aliases, which is the limit: remove one first")));
        }
        if previous != Some(version) {
            let change = Change::AliasSet { name: name.clone(), alias: alias.clone(), version, previous };
            self.state().change(turn, by, change)?;
        } else {
            drop(turn);
        }
        self.model(name)
    }

    /// Removes an alias.
    ///
    /// # Errors
    ///
    /// There is none of this name.
    pub fn remove_alias(&self, name: &ModelName, alias: &ModelName, by: &str) -> Result<()> {
        let turn = self.state().turn();
        let Some(version) = self.alias(name, alias)? else {
            return Err(Error::NotFound(format!("{name} has no alias `{alias}`")));
        };
        let change = Change::AliasRemoved { name: name.clone(), alias: alias.clone(), version };
        self.state().change(turn, by, change)
    }

    /// The version that `name@version` or `name@alias` means.
    ///
    /// # Errors
    ///
    /// It is neither, or there is no such version or alias here.
    pub(crate) fn resolve(&self, text: &str) -> Result<VersionRecord> {
        if let Ok(model) = text.parse::<ModelRef>() {
            return self.version_record(&model)?.ok_or_else(|| no_version(&model));
        }
        let (name, alias) = text
            .split_once('@')
            .ok_or_else(|| Error::BadRequest(format!("`{text}` is not a model: write NAME@VERSION or NAME@ALIAS")))?;
        let name: ModelName = name.parse().map_err(|error| Error::BadRequest(format!("{error}")))?;
        let alias: ModelName = alias.parse().map_err(|error| Error::BadRequest(format!("{error}")))?;
        let version =
            self.alias(&name, &alias)?.ok_or_else(|| Error::NotFound(format!("{name} has no alias `{alias}` here")))?;
        let model = ModelRef { name, version };
        self.version_record(&model)?.ok_or_else(|| no_version(&model))
    }

    fn alias(&self, name: &ModelName, alias: &ModelName) -> Result<Option<ModelVersion>> {
        let value = self.state().store().get(keys::aliases(name).raw(alias.as_str().as_bytes()).bytes())?;
        Ok(value.and_then(|bytes| number_of(&bytes)))
    }

    fn aliases(&self, name: &ModelName) -> Result<BTreeMap<String, ModelVersion>> {
        let prefix = keys::aliases(name).bytes();
        let mut aliases = BTreeMap::new();
        for entry in self.state().store().prefix(&prefix) {
            let (key, value) = entry?;
            let alias = key.get(prefix.len()..).and_then(|rest| std::str::from_utf8(rest).ok());
            if let (Some(alias), Some(version)) = (alias, number_of(&value)) {
                aliases.insert(alias.to_owned(), version);
            }
        }
        Ok(aliases)
    }

    pub(crate) fn version_record(&self, model: &ModelRef) -> Result<Option<VersionRecord>> {
        Ok(self.state().store().get_json(keys::version(&model.name, model.version))?)
    }

    pub(crate) fn version_records(&self, name: &ModelName) -> Result<Vec<VersionRecord>> {
        self.state().store().prefix(keys::versions(name).bytes()).map(|entry| Ok(from_json(&entry?.1)?)).collect()
    }

    /// The version whose manifest has this digest.
    pub(crate) fn version_of_manifest(&self, digest: &Digest) -> Result<Option<VersionRecord>> {
        match self.state().store().get(keys::manifest(digest))? {
            Some(key) => Ok(self.state().store().get_json(key)?),
            None => Ok(None),
        }
    }
}

/// A version as the API shows it.
pub(crate) fn summary(record: &VersionRecord) -> VersionSummary {
    let published = &record.published;
    VersionSummary {
        model: published.model.clone(),
        kind: published.scoring.clone(),
        manifest: published.manifest,
        artifact: published.artifact.digest,
        artifact_bytes: published.artifact.length,
        selftest: published.selftest.digest,
        lineage: published.lineage.digest,
        floor: published.floor,
        parent: published.parent,
        reason: published.reason.clone(),
        author: published.author.clone(),
        pushed_ms: record.pushed_ms,
        pushed: format_ms(record.pushed_ms),
        pushed_by: record.pushed_by.clone(),
        trial: published.trial.clone(),
    }
}

fn number_of(bytes: &[u8]) -> Option<ModelVersion> {
    let number = u32::from_be_bytes(bytes.try_into().ok()?);
    ModelVersion::new(number).ok()
}

fn no_model(name: &ModelName) -> Error {
    Error::NotFound(format!("there is no model `{name}` here"))
}

fn no_version(model: &ModelRef) -> Error {
    Error::NotFound(format!("there is no version {model} here"))
}

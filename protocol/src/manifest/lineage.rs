//! Where a model comes from, as the people who audit it need it.

use serde::{Deserialize, Serialize};

use super::ManifestError;
use crate::cbor::{DecodeError, Fields, FieldsWriter, Signed, Value, Wire};
use crate::id::{Digest, ModelVersion};
use crate::limit::{MAX_LINEAGE_BYTES, MAX_NOTE_BYTES};
use crate::number::Finite64;

/// Most entries of each list.
const MAX_ENTRIES: usize = 256;

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// What it is, as its author says it: "autoencoder 38-16-38", "isolation forest of 100 trees".
    pub architecture: String,
    /// Trained numbers in it.
    pub parameters: u64,
    /// How it was trained, strictly ascending by name.
    pub hyperparameters: Vec<(String, String)>,
    /// When it was trained, milliseconds since 1970 in UTC.
    pub trained_ms: i64,
    /// What it was trained on, 1 or more.
    pub data: Vec<TrainingData>,
    /// How good it was, strictly ascending by name, 1 or more.
    pub metrics: Vec<(String, Finite64)>,
    /// Who.
    pub author: String,
    /// Why there is this version.
    pub reason: String,
    /// The version that it follows.
    pub parent: Option<ModelVersion>,
}

/// Data that a model was trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingData {
    /// What people call it.
    pub name: String,
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// Time of the first row, milliseconds since 1970 in UTC.
    pub from_ms: i64,
    /// Time of the last row, milliseconds since 1970 in UTC.
    pub to_ms: i64,
    /// Rows used.
    pub rows: u64,
}

impl Lineage {
    /// Whether an auditor learns what they must. What is decoded has passed this.
    ///
    /// # Errors
    /// Names the first key that says too little or too much.
    pub fn check(&self) -> Result<(), ManifestError> {
        for (key, text) in [("architecture", &self.architecture), ("author", &self.author), ("reason", &self.reason)] {
            said(&format!("lineage.{key}"), text)?;
        }
        entries("data", self.data.len(), 1)?;
        entries("metrics", self.metrics.len(), 1)?;
        entries("hyperparameters", self.hyperparameters.len(), 0)?;
        ascending("metrics", &self.metrics)?;
        ascending("hyperparameters", &self.hyperparameters)?;
        self.data.iter().enumerate().try_for_each(|(index, data)| data.check(index))
    }
}

impl TrainingData {
    fn check(&self, index: usize) -> Result<(), ManifestError> {
        let key = |name: &str| format!("lineage.data[{index}].{name}");
        said(&key("name"), &self.name)?;
        if self.to_ms < self.from_ms {
            return Err(ManifestError::new(key("to"), "lies before `from`"));
        }
        if self.rows == 0 { Err(ManifestError::new(key("rows"), "must be above 0")) } else { Ok(()) }
    }
}

fn said(key: &str, text: &str) -> Result<(), ManifestError> {
    let fits = !text.trim().is_empty() && text.len() <= MAX_NOTE_BYTES;
    if fits { Ok(()) } else { Err(ManifestError::new(key, format!("must be a text of 1 to {MAX_NOTE_BYTES} bytes"))) }
}

fn entries(key: &str, count: usize, least: usize) -> Result<(), ManifestError> {
    if (least..=MAX_ENTRIES).contains(&count) {
        return Ok(());
    }
    Err(ManifestError::new(
        format!("lineage.{key}"),
        format!("must have {least} to {MAX_ENTRIES} entries, not {count}"),
    ))
}

fn ascending<T>(key: &str, pairs: &[(String, T)]) -> Result<(), ManifestError> {
    if pairs.windows(2).all(|pair| pair[0].0 < pair[1].0) {
        return Ok(());
    }
    Err(ManifestError::new(format!("lineage.{key}"), "must be strictly ascending by name"))
}

impl Signed for Lineage {
    const DOMAIN: &'static str = "vedette/v1/lineage";
    const MAX_BYTES: usize = MAX_LINEAGE_BYTES;
}

impl Wire for Lineage {
    fn to_value(&self) -> Value {
        FieldsWriter::new()
            .with(1, &self.architecture)
            .with(2, &self.parameters)
            .with(3, &self.hyperparameters)
            .with(4, &self.trained_ms)
            .with(5, &self.data)
            .with(6, &self.metrics)
            .with(7, &self.author)
            .with(8, &self.reason)
            .with_some(9, self.parent.as_ref())
            .end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("lineage", value)?;
        let lineage = Self {
            architecture: fields.required(1, "architecture")?,
            parameters: fields.required(2, "parameters")?,
            hyperparameters: fields.required(3, "hyperparameters")?,
            trained_ms: fields.required(4, "trained_ms")?,
            data: fields.required(5, "data")?,
            metrics: fields.required(6, "metrics")?,
            author: fields.required(7, "author")?,
            reason: fields.required(8, "reason")?,
            parent: fields.optional(9, "parent")?,
        };
        fields.end()?;
        lineage.check().map_err(|error| DecodeError::content(error.to_string()))?;
        Ok(lineage)
    }
}

impl Wire for TrainingData {
    fn to_value(&self) -> Value {
        FieldsWriter::new()
            .with(1, &self.name)
            .with(2, &self.digest)
            .with(3, &self.from_ms)
            .with(4, &self.to_ms)
            .with(5, &self.rows)
            .end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("data", value)?;
        let data = Self {
            name: fields.required(1, "name")?,
            digest: fields.required(2, "digest")?,
            from_ms: fields.required(3, "from_ms")?,
            to_ms: fields.required(4, "to_ms")?,
            rows: fields.required(5, "rows")?,
        };
        fields.end().map(|()| data)
    }
}

//! What a data scientist writes beside a model: a manifest without the digests that the tool computes, and its lineage.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Blob, Calibration, Contract, Fill, Lineage, Manifest, ManifestError, ModelKind, ModelLimits, Signal, StateTensor,
    Stateful, TensorSpec, TrainingData, Transform,
};
use crate::cbor;
use crate::id::{Digest, ModelName, ModelRef, ModelVersion, SignalName, Unit};
use crate::number::Finite64;
use crate::settings::{self, DurationText, SettingsError, SizeText, TimeText};

/// A manifest as it is written, in TOML.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    name: ModelName,
    version: ModelVersion,
    floor: Option<ModelVersion>,
    kind: Kind,
    /// File of the self-test, beside the draft.
    selftest: Option<String>,
    input: TensorSpecDraft,
    output: OutputDraft,
    contract: ContractDraft,
    calibration: CalibrationDraft,
    stateful: Option<StatefulDraft>,
    #[serde(default)]
    limits: LimitsDraft,
    lineage: LineageDraft,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Autoencoder,
    Forecaster,
    Score,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct TensorSpecDraft {
    name: String,
    shape: Vec<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatefulDraft {
    state: Vec<StateTensorDraft>,
    #[serde(default)]
    warm_rows: u32,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateTensorDraft {
    input: String,
    output: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutputDraft {
    reconstruction: Option<String>,
    forecast: Option<String>,
    score: Option<String>,
    contribution: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContractDraft {
    sampling: DurationText,
    #[serde(default = "one")]
    window: u32,
    #[serde(default = "one")]
    hop: u32,
    signals: Vec<SignalDraft>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignalDraft {
    name: SignalName,
    unit: Unit,
    transform: Option<Transform>,
    center: Option<Finite64>,
    scale: Option<Finite64>,
    clip: Option<Finite64>,
    #[serde(default)]
    fill: FillKind,
    fill_limit: Option<u32>,
    fill_value: Option<Finite64>,
    frozen_after: Option<u32>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FillKind {
    #[default]
    None,
    Hold,
    Constant,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct CalibrationDraft {
    threshold: Finite64,
    #[serde(default = "one")]
    smooth: u32,
    #[serde(default = "one")]
    hold: u32,
    #[serde(default)]
    tail: u32,
    #[serde(default)]
    residual: Vec<Finite64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsDraft {
    memory: SizeText,
    load: DurationText,
    row: DurationText,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct LineageDraft {
    architecture: String,
    parameters: u64,
    trained: TimeText,
    author: String,
    reason: String,
    parent: Option<ModelVersion>,
    data: Vec<TrainingDataDraft>,
    #[serde(default)]
    hyperparameters: BTreeMap<String, Plain>,
    metrics: BTreeMap<String, Finite64>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrainingDataDraft {
    name: String,
    digest: Digest,
    from: TimeText,
    to: TimeText,
    rows: u64,
}

/// A value as it is written, kept as text.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "toml::Value", into = "String")]
struct Plain(String);

const fn one() -> u32 {
    1
}

impl Default for LimitsDraft {
    fn default() -> Self {
        Self {
            memory: SizeText::new(64 * 1024 * 1024),
            load: DurationText::new(Duration::from_secs(5)),
            row: DurationText::new(Duration::from_millis(10)),
        }
    }
}

impl From<Plain> for String {
    fn from(plain: Plain) -> Self {
        plain.0
    }
}

impl TryFrom<toml::Value> for Plain {
    type Error = &'static str;

    fn try_from(value: toml::Value) -> Result<Self, Self::Error> {
        match value {
            toml::Value::String(text) => Ok(Self(text)),
            toml::Value::Table(_) => Err("must be a text, a number or a list, not a table"),
            other => Ok(Self(other.to_string())),
        }
    }
}

impl Draft {
    /// Reads a draft; `place` names it in errors, best as its path.
    ///
    /// # Errors
    /// When it is no TOML, has an unknown key, misses one, or has a value that does not fit.
    pub fn from_toml(text: &str, place: &str) -> Result<Self, SettingsError> {
        settings::from_toml(text, place)
    }

    /// Name and version.
    #[must_use]
    pub fn model(&self) -> ModelRef {
        ModelRef { name: self.name.clone(), version: self.version }
    }

    /// File of the self-test (JSON of [`super::SelfTest`]), relative to the draft's folder.
    #[must_use]
    pub fn selftest_file(&self) -> Option<&str> {
        self.selftest.as_deref()
    }

    /// The manifest and the lineage that it names, both checked.
    ///
    /// # Errors
    /// Names the first key whose value makes no sense.
    pub fn finish(&self, artifact: Blob, selftest: Blob, issued_ms: i64) -> Result<(Manifest, Lineage), ManifestError> {
        let lineage = self.lineage.finish();
        lineage.check()?;
        if lineage.parent.is_some_and(|parent| parent >= self.version) {
            return Err(ManifestError::new("lineage.parent", format!("must be below the version {}", self.version)));
        }
        let manifest = Manifest {
            model: self.model(),
            floor: self.floor.unwrap_or(ModelVersion::FIRST),
            kind: self.output.finish(self.kind)?,
            artifact,
            contract: self.contract.finish()?,
            input: TensorSpec { name: self.input.name.clone(), shape: self.input.shape.clone() },
            calibration: self.calibration.finish(),
            limits: self.limits.finish(),
            selftest,
            lineage: Digest::of(&cbor::to_canonical(&lineage)),
            issued_ms,
            stateful: self.stateful.as_ref().map(StatefulDraft::finish),
        };
        manifest.check()?;
        fits("contract.signals", &manifest)?;
        fits("lineage", &lineage)?;
        Ok((manifest, lineage))
    }
}

impl StatefulDraft {
    fn finish(&self) -> Stateful {
        let tensor =
            |draft: &StateTensorDraft| StateTensor { input: draft.input.clone(), output: draft.output.clone() };
        Stateful { state: self.state.iter().map(tensor).collect(), warm_rows: self.warm_rows }
    }
}

impl OutputDraft {
    fn finish(&self, kind: Kind) -> Result<ModelKind, ManifestError> {
        let wanted: &[&str] = match kind {
            Kind::Autoencoder => &["reconstruction"],
            Kind::Forecaster => &["forecast"],
            Kind::Score => &["score", "contribution"],
        };
        let given = [
            ("reconstruction", &self.reconstruction),
            ("forecast", &self.forecast),
            ("score", &self.score),
            ("contribution", &self.contribution),
        ];
        if let Some((extra, _)) = given.iter().find(|(key, value)| value.is_some() && !wanted.contains(key)) {
            return Err(ManifestError::new(
                format!("output.{extra}"),
                format!("is no output of this kind of model, which has {}", wanted.join(", ")),
            ));
        }
        let name = |key: &str, value: &Option<String>| {
            value
                .clone()
                .ok_or_else(|| ManifestError::new(format!("output.{key}"), "is missing: this kind of model needs it"))
        };
        match kind {
            Kind::Autoencoder => {
                Ok(ModelKind::Autoencoder { reconstruction: name("reconstruction", &self.reconstruction)? })
            }
            Kind::Forecaster => Ok(ModelKind::Forecaster { forecast: name("forecast", &self.forecast)? }),
            Kind::Score => {
                Ok(ModelKind::Score { score: name("score", &self.score)?, contribution: self.contribution.clone() })
            }
        }
    }
}

impl ContractDraft {
    fn finish(&self) -> Result<Contract, ManifestError> {
        let signals = self.signals.iter().enumerate().map(|(index, signal)| signal.finish(index));
        Ok(Contract {
            signals: signals.collect::<Result<_, _>>()?,
            sampling_ms: milliseconds(self.sampling),
            window: self.window,
            hop: self.hop,
        })
    }
}

impl SignalDraft {
    fn finish(&self, index: usize) -> Result<Signal, ManifestError> {
        Ok(Signal {
            name: self.name.clone(),
            unit: self.unit.clone(),
            transform: self.transform.unwrap_or(Transform::None),
            center: self.center.unwrap_or_default(),
            scale: self.scale.unwrap_or(Finite64::ONE),
            clip: self.clip,
            fill: self
                .fill()
                .map_err(|(key, problem)| ManifestError::new(format!("contract.signals[{index}].{key}"), problem))?,
            frozen_after: self.frozen_after,
        })
    }

    fn fill(&self) -> Result<Fill, (&'static str, &'static str)> {
        match (self.fill, self.fill_limit, self.fill_value) {
            (FillKind::None, None, None) => Ok(Fill::None),
            (FillKind::None, Some(_), _) => Err(("fill_limit", "needs `fill = \"hold\"` or `fill = \"constant\"`")),
            (FillKind::None | FillKind::Hold, _, Some(_)) => Err(("fill_value", "needs `fill = \"constant\"`")),
            (FillKind::Hold | FillKind::Constant, None, _) => Err(("fill_limit", "is missing: say for how many rows")),
            (FillKind::Hold, Some(limit), None) => Ok(Fill::Hold { limit }),
            (FillKind::Constant, Some(limit), Some(value)) => Ok(Fill::Constant { value, limit }),
            (FillKind::Constant, Some(_), None) => Err(("fill_value", "is missing: say which value")),
        }
    }
}

impl CalibrationDraft {
    fn finish(&self) -> Calibration {
        Calibration {
            threshold: self.threshold,
            smooth: self.smooth,
            hold: self.hold,
            residual: self.residual.clone(),
            tail: self.tail,
        }
    }
}

impl LimitsDraft {
    fn finish(&self) -> ModelLimits {
        let row_us = u64::try_from(self.row.get().as_micros()).unwrap_or(u64::MAX);
        ModelLimits { memory_bytes: self.memory.bytes(), load_ms: milliseconds(self.load), row_us }
    }
}

impl LineageDraft {
    fn finish(&self) -> Lineage {
        let data = self.data.iter().map(|data| TrainingData {
            name: data.name.clone(),
            digest: data.digest,
            from_ms: data.from.ms(),
            to_ms: data.to.ms(),
            rows: data.rows,
        });
        Lineage {
            architecture: self.architecture.clone(),
            parameters: self.parameters,
            hyperparameters: self.hyperparameters.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect(),
            trained_ms: self.trained.ms(),
            data: data.collect(),
            metrics: self.metrics.iter().map(|(name, value)| (name.clone(), *value)).collect(),
            author: self.author.clone(),
            reason: self.reason.clone(),
            parent: self.parent,
        }
    }
}

/// Each value may be in its range and the whole still too long to be read.
fn fits<T: cbor::Signed>(key: &str, value: &T) -> Result<(), ManifestError> {
    let length = cbor::to_canonical(value).len();
    if length <= T::MAX_BYTES {
        return Ok(());
    }
    let problem = format!("makes {length} bytes, more than the {} allowed", T::MAX_BYTES);
    Err(ManifestError::new(key, problem))
}

fn milliseconds(duration: DurationText) -> u64 {
    u64::try_from(duration.get().as_millis()).unwrap_or(u64::MAX)
}

//! Who scored a row: a model by its digests, or the built-in baseline.

use serde::{Deserialize, Serialize};

use crate::id::{Digest, ModelRef};

/// Who scored. As JSON: `{"model":"pump@2","artifact":"sha256:…","manifest":"sha256:…"}` or `{"baseline":1}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub enum ScoredBy {
    /// A model.
    Model {
        /// Name and version.
        model: ModelRef,
        /// SHA-256 of the ONNX bytes.
        artifact: Digest,
        /// SHA-256 of the signed manifest's payload.
        manifest: Digest,
    },
    /// The built-in streaming baseline.
    Baseline {
        /// Version of its rules.
        version: u32,
    },
}

impl std::fmt::Display for ScoredBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Model { model, .. } => model.fmt(f),
            Self::Baseline { version } => write!(f, "baseline {version}"),
        }
    }
}

/// What people and carried messages see.
#[derive(Clone, Serialize, Deserialize)]
struct Form {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<ModelRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    manifest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    baseline: Option<u32>,
}

impl From<ScoredBy> for Form {
    fn from(by: ScoredBy) -> Self {
        match by {
            ScoredBy::Model { model, artifact, manifest } => {
                Self { model: Some(model), artifact: Some(artifact), manifest: Some(manifest), baseline: None }
            }
            ScoredBy::Baseline { version } => {
                Self { model: None, artifact: None, manifest: None, baseline: Some(version) }
            }
        }
    }
}

impl TryFrom<Form> for ScoredBy {
    type Error = &'static str;

    fn try_from(form: Form) -> Result<Self, Self::Error> {
        match (form.model, form.artifact, form.manifest, form.baseline) {
            (Some(model), Some(artifact), Some(manifest), None) => Ok(Self::Model { model, artifact, manifest }),
            (None, None, None, Some(version)) => Ok(Self::Baseline { version }),
            _ => Err("who scored is a model with its artifact and manifest, or a baseline"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn people_see_the_model_or_the_baseline() {
        assert_eq!(serde_json::to_string(&ScoredBy::Baseline { version: 1 }).unwrap(), r#"{"baseline":1}"#);
        let digest = Digest::of(b"x");
        let by = ScoredBy::Model { model: "pump@2".parse().unwrap(), artifact: digest, manifest: digest };
        let json = serde_json::to_string(&by).unwrap();
        assert_eq!(json, format!(r#"{{"model":"pump@2","artifact":"{digest}","manifest":"{digest}"}}"#));
        assert_eq!(serde_json::from_str::<ScoredBy>(&json).unwrap(), by);
        assert!(serde_json::from_str::<ScoredBy>(r#"{"model":"pump@2"}"#).is_err());
    }
}

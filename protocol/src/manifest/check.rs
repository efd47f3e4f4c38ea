//! Whether a manifest makes sense in itself. Whether it fits its graph shows in the trial.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::{Calibration, Contract, Fill, Manifest, ModelKind, ModelLimits, Signal, Stateful, TensorSpec};
use crate::limit::{
    MAX_ARTIFACT_BYTES, MAX_SELFTEST_BYTES, MAX_SIGNALS, MAX_STATES, MAX_WINDOW_ROWS, MAX_WINDOW_VALUES,
};
use crate::number::Finite64;

/// Longest moving mean and longest hold, in rows.
const MAX_ROWS_OF_CALIBRATION: u32 = 4096;
/// Longest name of an input or output of a graph, in bytes.
const MAX_TENSOR_NAME_BYTES: usize = 128;
/// Most axes of an input beside the batch: rows, signals, and two of size 1 that exporters add.
const MAX_AXES: usize = 4;
const MAX_SAMPLING_MS: u64 = 7 * 24 * 3600 * 1000;
const MEMORY_BYTES: RangeInclusive<u64> = 1024 * 1024..=4 * 1024 * 1024 * 1024;
const LOAD_MS: RangeInclusive<u64> = 1..=10 * 60 * 1000;
const ROW_US: RangeInclusive<u64> = 1..=60 * 1_000_000;

/// A manifest, self-test or lineage that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` {problem}")]
pub struct ManifestError {
    /// Which key, with the tables around it, as in `contract.signals[2].scale`.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

impl ManifestError {
    pub(super) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into() }
    }

    fn within(self, outer: &str) -> Self {
        Self { key: format!("{outer}.{}", self.key), problem: self.problem }
    }
}

type Checked = Result<(), ManifestError>;

impl Manifest {
    /// Whether every value is in its range and the parts fit together. What is decoded has passed this.
    ///
    /// # Errors
    /// Names the first key that does not.
    pub fn check(&self) -> Checked {
        if self.floor > self.model.version {
            return Err(ManifestError::new(
                "floor",
                format!("must be at most the version {}, not {}", self.model.version, self.floor),
            ));
        }
        in_range("artifact.length", self.artifact.length, &(1..=MAX_ARTIFACT_BYTES))?;
        in_range("selftest.length", self.selftest.length, &(1..=MAX_SELFTEST_BYTES as u64))?;
        self.kind.check()?;
        self.contract.check().map_err(|error| error.within("contract"))?;
        self.input.check(self).map_err(|error| error.within("input"))?;
        self.calibration.check(&self.contract).map_err(|error| error.within("calibration"))?;
        if let Some(stateful) = &self.stateful {
            stateful.check(self)?;
        }
        self.limits.check().map_err(|error| error.within("limits"))
    }
}

impl ModelKind {
    fn check(&self) -> Checked {
        match self {
            Self::Autoencoder { reconstruction } => tensor_name("output.reconstruction", reconstruction),
            Self::Forecaster { forecast } => tensor_name("output.forecast", forecast),
            Self::Score { score, contribution } => {
                tensor_name("output.score", score)?;
                contribution.as_ref().map_or(Ok(()), |name| tensor_name("output.contribution", name))
            }
        }
    }
}

impl Contract {
    fn check(&self) -> Checked {
        in_range("signals", self.signals.len() as u64, &(1..=MAX_SIGNALS as u64))?;
        in_range("sampling", self.sampling_ms, &(1..=MAX_SAMPLING_MS))?;
        in_range("window", self.window.into(), &(1..=MAX_WINDOW_ROWS.into()))?;
        in_range("hop", self.hop.into(), &(1..=self.window.into()))?;
        let values = u64::from(self.window) * self.signals.len() as u64;
        if values > MAX_WINDOW_VALUES {
            return Err(ManifestError::new(
                "window",
                format!("times the signals makes {values} numbers, more than {MAX_WINDOW_VALUES}"),
            ));
        }
        let mut names = BTreeSet::new();
        for (index, signal) in self.signals.iter().enumerate() {
            let place = format!("signals[{index}]");
            signal.check().map_err(|error| error.within(&place))?;
            if !names.insert(&signal.name) {
                return Err(ManifestError::new(format!("{place}.name"), format!("`{}` is there twice", signal.name)));
            }
        }
        Ok(())
    }
}

impl Signal {
    fn check(&self) -> Checked {
        above_zero("scale", self.scale)?;
        if let Some(clip) = self.clip {
            above_zero("clip", clip)?;
        }
        match self.fill {
            Fill::None => {}
            Fill::Hold { limit } | Fill::Constant { limit, .. } => {
                in_range("fill_limit", limit.into(), &(1..=u32::MAX.into()))?
            }
        }
        self.frozen_after.map_or(Ok(()), |rows| in_range("frozen_after", rows.into(), &(2..=u32::MAX.into())))
    }
}

impl Stateful {
    /// The graph sees one row; a forecaster's window has the row that it foretells, too.
    fn check(&self, manifest: &Manifest) -> Checked {
        in_range("stateful.state", self.state.len() as u64, &(1..=MAX_STATES as u64))?;
        in_range("stateful.warm_rows", self.warm_rows.into(), &(0..=MAX_WINDOW_ROWS.into()))?;
        let window = match manifest.kind {
            ModelKind::Forecaster { .. } => 2,
            ModelKind::Autoencoder { .. } | ModelKind::Score { .. } => 1,
        };
        in_range("contract.window", manifest.contract.window.into(), &(window..=window))?;
        in_range("contract.hop", manifest.contract.hop.into(), &(1..=1))?;
        let signals = manifest.contract.signals.len() as u64;
        let seen = manifest.input.shape.iter().fold(1_u64, |product, axis| product.saturating_mul(u64::from(*axis)));
        if seen != signals {
            return Err(ManifestError::new(
                "input.shape",
                format!("holds {seen} numbers, but a stateful model takes one row of {signals} signals"),
            ));
        }
        let mut names = BTreeSet::from([&manifest.input.name]);
        let mut outputs = BTreeSet::new();
        for (index, tensor) in self.state.iter().enumerate() {
            for (side, name, taken) in [("input", &tensor.input, &mut names), ("output", &tensor.output, &mut outputs)]
            {
                let key = format!("stateful.state[{index}].{side}");
                tensor_name(&key, name)?;
                if !taken.insert(name) {
                    return Err(ManifestError::new(key, format!("`{name}` is there twice")));
                }
            }
        }
        Ok(())
    }
}

impl TensorSpec {
    /// A forecaster takes the rows before the one that it foretells, or its whole window; all others take the window.
    fn check(&self, manifest: &Manifest) -> Checked {
        tensor_name("name", &self.name)?;
        in_range("shape", self.shape.len() as u64, &(1..=MAX_AXES as u64)).map_err(|_| {
            ManifestError::new(
                "shape",
                format!("must have 1 to {MAX_AXES} axes beside the batch, not {}", self.shape.len()),
            )
        })?;
        let product = self.shape.iter().fold(1_u64, |product, axis| product.saturating_mul(u64::from(*axis)));
        let signals = manifest.contract.signals.len() as u64;
        let window = u64::from(manifest.contract.window);
        let before =
            matches!(manifest.kind, ModelKind::Forecaster { .. }) && window > 1 && product == (window - 1) * signals;
        if product == window * signals || before {
            return Ok(());
        }
        let shape = &self.shape;
        Err(ManifestError::new(
            "shape",
            format!(
                "{shape:?} holds {product} numbers, but window {window} × {signals} signals is {}",
                window * signals
            ),
        ))
    }
}

impl Calibration {
    fn check(&self, contract: &Contract) -> Checked {
        let rows = 1..=u64::from(MAX_ROWS_OF_CALIBRATION);
        in_range("smooth", self.smooth.into(), &rows)?;
        in_range("hold", self.hold.into(), &rows)?;
        in_range("tail", self.tail.into(), &(0..=contract.window.into()))?;
        let (given, signals) = (self.residual.len(), contract.signals.len());
        if given != 0 && given != signals {
            return Err(ManifestError::new(
                "residual",
                format!("must have one number a signal ({signals}) or none, not {given}"),
            ));
        }
        self.residual
            .iter()
            .enumerate()
            .try_for_each(|(index, residual)| above_zero(&format!("residual[{index}]"), *residual))
    }
}

impl ModelLimits {
    fn check(&self) -> Checked {
        let refuse = |key, range| Err(ManifestError::new(key, format!("must be {range}")));
        match () {
            () if !MEMORY_BYTES.contains(&self.memory_bytes) => refuse("memory", "1MiB to 4GiB"),
            () if !LOAD_MS.contains(&self.load_ms) => refuse("load", "1ms to 10m"),
            () if !ROW_US.contains(&self.row_us) => refuse("row", "1us to 60s"),
            () => Ok(()),
        }
    }
}

pub(super) fn in_range(key: &str, value: u64, range: &RangeInclusive<u64>) -> Checked {
    if range.contains(&value) {
        return Ok(());
    }
    Err(ManifestError::new(key, format!("must be {} to {}, not {value}", range.start(), range.end())))
}

pub(super) fn above_zero(key: &str, value: Finite64) -> Checked {
    if value.get() > 0.0 { Ok(()) } else { Err(ManifestError::new(key, format!("must be above 0, not {value}"))) }
}

fn tensor_name(key: &str, name: &str) -> Checked {
    let fits = (1..=MAX_TENSOR_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control);
    if fits {
        Ok(())
    } else {
        Err(ManifestError::new(key, format!("must be a name of 1 to {MAX_TENSOR_NAME_BYTES} bytes")))
    }
}

//! Windows with the score that they must give: a device runs them before a model may score anything else.

use serde::{Deserialize, Serialize};

use super::check::above_zero;
use super::{Manifest, ManifestError};
use crate::cbor::{DecodeError, Fields, FieldsWriter, Signed, Value, Wire};
use crate::limit::MAX_SELFTEST_BYTES;
use crate::number::{Finite32, Finite64};

/// Largest tolerance: beyond it a test tells nothing.
const MAX_TOLERANCE: f64 = 0.1;
/// Most vectors.
const MAX_VECTORS: usize = 1024;

/// What a model must answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTest {
    /// Largest difference between a score and the one given here, above 0 and at most 0.1.
    pub tolerance: Finite64,
    /// The cases, 1 to 1024.
    pub vectors: Vec<Vector>,
}

/// One case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vector {
    /// [`raw_rows`](super::Contract::raw_rows) rows × signals, row by row, as a source gives them: raw, in their units. Of a stateful model
    /// perhaps more rows: they run through it from its first state on, and the last one's score counts.
    pub window: Vec<Finite32>,
    /// The row score, before smoothing.
    pub score: Finite32,
}

impl SelfTest {
    /// Whether it can be run on this model.
    ///
    /// # Errors
    /// Names what does not fit.
    pub fn check(&self, manifest: &Manifest) -> Result<(), ManifestError> {
        let contract = &manifest.contract;
        above_zero("selftest.tolerance", self.tolerance)?;
        if self.tolerance.get() > MAX_TOLERANCE {
            return Err(ManifestError::new(
                "selftest.tolerance",
                format!("must be at most {MAX_TOLERANCE}, not {}", self.tolerance),
            ));
        }
        let count = self.vectors.len();
        if count == 0 || count > MAX_VECTORS {
            return Err(ManifestError::new("selftest.vectors", format!("must be 1 to {MAX_VECTORS}, not {count}")));
        }
        let (rows, signals) = (contract.raw_rows(), contract.signals.len());
        let values = rows as usize * signals;
        let fits = |numbers: usize| match manifest.stateful {
            None => numbers == values,
            Some(_) => numbers >= values && numbers % signals == 0,
        };
        match self.vectors.iter().position(|vector| !fits(vector.window.len())) {
            None => Ok(()),
            Some(index) => {
                let given = self.vectors[index].window.len();
                let key = format!("selftest.vectors[{index}].window");
                Err(ManifestError::new(
                    key,
                    format!("has {given} numbers, not {rows} rows × {signals} signals = {values}"),
                ))
            }
        }
    }
}

impl Signed for SelfTest {
    const DOMAIN: &'static str = "vedette/v1/selftest";
    const MAX_BYTES: usize = MAX_SELFTEST_BYTES;
}

impl Wire for SelfTest {
    fn to_value(&self) -> Value {
        FieldsWriter::new().with(1, &self.tolerance).with(2, &self.vectors).end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("selftest", value)?;
        let selftest = Self { tolerance: fields.required(1, "tolerance")?, vectors: fields.required(2, "vectors")? };
        fields.end().map(|()| selftest)
    }
}

impl Wire for Vector {
    fn to_value(&self) -> Value {
        FieldsWriter::new().with(1, &self.window).with(2, &self.score).end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("vector", value)?;
        let vector = Self { window: fields.required(1, "window")?, score: fields.required(2, "score")? };
        fields.end().map(|()| vector)
    }
}

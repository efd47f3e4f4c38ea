//! Telemetry rows as a source gives them, and the schema that names their columns.

use std::collections::HashMap;

use vedette_protocol::limit::MAX_SIGNALS;
use vedette_protocol::{SignalName, Unit};

/// The ordered signals of a stream. `None` as unit means that the source does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    signals: Box<[(SignalName, Option<Unit>)]>,
    index: HashMap<SignalName, usize>,
}

/// Why a list of signals is no schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Nothing to score.
    #[error("a stream needs at least one signal")]
    Empty,
    /// One name, two columns.
    #[error("signal `{0}` stands there twice")]
    Twice(SignalName),
    /// More signals than a contract may name.
    #[error("{found} signals are too many, the limit is {MAX_SIGNALS}")]
    TooMany {
        /// Signals given.
        found: usize,
    },
}

impl Schema {
    /// A schema of 1 to 512 signals with different names.
    ///
    /// # Errors
    /// [`SchemaError`] says which rule is broken.
    pub fn new(signals: Vec<(SignalName, Option<Unit>)>) -> Result<Schema, SchemaError> {
        if signals.is_empty() {
            return Err(SchemaError::Empty);
        }
        if signals.len() > MAX_SIGNALS {
            return Err(SchemaError::TooMany { found: signals.len() });
        }
        let mut index = HashMap::with_capacity(signals.len());
        for (i, (name, _)) in signals.iter().enumerate() {
            if index.insert(name.clone(), i).is_some() {
                return Err(SchemaError::Twice(name.clone()));
            }
        }
        Ok(Schema { signals: signals.into(), index })
    }

    /// Number of signals, at least 1.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.signals.len()
    }

    /// Position of a signal in every sample.
    pub fn index_of(&self, name: &SignalName) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// Name of the signal at `index`.
    pub fn name(&self, index: usize) -> Option<&SignalName> {
        self.signals.get(index).map(|(name, _)| name)
    }

    /// Unit of the signal at `index`, if the source says.
    pub fn unit(&self, index: usize) -> Option<&Unit> {
        self.signals.get(index).and_then(|(_, unit)| unit.as_ref())
    }

    /// All signals in the order of the samples.
    pub fn signals(&self) -> &[(SignalName, Option<Unit>)] {
        &self.signals
    }
}

/// One row of telemetry.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When it was measured, Unix milliseconds UTC.
    pub at_ms: i64,
    /// One number per signal of the schema, in its order and its units; NaN where the source had none. A sample with fewer
    /// numbers than the schema has signals counts the rest as absent.
    pub values: Box<[f32]>,
}

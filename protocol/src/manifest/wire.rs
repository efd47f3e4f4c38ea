//! Manifests as canonical CBOR. Keys are never reused; key 0 is free for a format number, should one ever be needed.

use super::{
    Blob, Calibration, Contract, Fill, Manifest, ModelKind, ModelLimits, Signal, StateTensor, Stateful, TensorSpec,
    Transform,
};
use crate::cbor::{Coded, DecodeError, Fields, FieldsWriter, Signed, Value, Wire};
use crate::limit::MAX_MANIFEST_BYTES;

impl Signed for Manifest {
    const DOMAIN: &'static str = "vedette/v1/manifest";
    const MAX_BYTES: usize = MAX_MANIFEST_BYTES;
}

impl Wire for Manifest {
    fn to_value(&self) -> Value {
        FieldsWriter::new()
            .with(1, &self.model)
            .with(2, &self.floor)
            .with(3, &self.kind)
            .with(4, &self.artifact)
            .with(5, &self.contract)
            .with(6, &self.input)
            .with(7, &self.calibration)
            .with(8, &self.limits)
            .with(9, &self.selftest)
            .with(10, &self.lineage)
            .with(11, &self.issued_ms)
            .with_some(12, self.stateful.as_ref())
            .end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("manifest", value)?;
        let manifest = Self {
            model: fields.required(1, "model")?,
            floor: fields.required(2, "floor")?,
            kind: fields.required(3, "kind")?,
            artifact: fields.required(4, "artifact")?,
            contract: fields.required(5, "contract")?,
            input: fields.required(6, "input")?,
            calibration: fields.required(7, "calibration")?,
            limits: fields.required(8, "limits")?,
            selftest: fields.required(9, "selftest")?,
            lineage: fields.required(10, "lineage")?,
            issued_ms: fields.required(11, "issued_ms")?,
            stateful: fields.optional(12, "stateful")?,
        };
        fields.end()?;
        manifest.check().map_err(|error| DecodeError::content(error.to_string()))?;
        Ok(manifest)
    }
}

impl Wire for Stateful {
    fn to_value(&self) -> Value {
        FieldsWriter::new().with(1, &self.state).with(2, &self.warm_rows).end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("stateful", value)?;
        let stateful = Self { state: fields.required(1, "state")?, warm_rows: fields.required(2, "warm_rows")? };
        fields.end().map(|()| stateful)
    }
}

impl Wire for StateTensor {
    fn to_value(&self) -> Value {
        FieldsWriter::new().with(1, &self.input).with(2, &self.output).end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("state", value)?;
        let tensor = Self { input: fields.required(1, "input")?, output: fields.required(2, "output")? };
        fields.end().map(|()| tensor)
    }
}

impl Wire for Blob {
    fn to_value(&self) -> Value {
        FieldsWriter::new().with(1, &self.digest).with(2, &self.length).end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("blob", value)?;
        let blob = Self { digest: fields.required(1, "digest")?, length: fields.required(2, "length")? };
        fields.end().map(|()| blob)
    }
}

const AUTOENCODER: u8 = 1;
const FORECASTER: u8 = 2;
const SCORE: u8 = 3;

impl Wire for ModelKind {
    fn to_value(&self) -> Value {
        let fields = FieldsWriter::new();
        match self {
            Self::Autoencoder { reconstruction } => fields.with(1, &AUTOENCODER).with(2, reconstruction).end(),
            Self::Forecaster { forecast } => fields.with(1, &FORECASTER).with(2, forecast).end(),
            Self::Score { score, contribution } => {
                fields.with(1, &SCORE).with(2, score).with_some(3, contribution.as_ref()).end()
            }
        }
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("kind", value)?;
        let kind = match fields.required(1, "kind")? {
            AUTOENCODER => Self::Autoencoder { reconstruction: fields.required(2, "reconstruction")? },
            FORECASTER => Self::Forecaster { forecast: fields.required(2, "forecast")? },
            SCORE => {
                Self::Score { score: fields.required(2, "score")?, contribution: fields.optional(3, "contribution")? }
            }
            other => return Err(DecodeError::content(format!("{other} is no kind of model"))),
        };
        fields.end().map(|()| kind)
    }
}

impl Wire for TensorSpec {
    fn to_value(&self) -> Value {
        FieldsWriter::new().with(1, &self.name).with(2, &self.shape).end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("input", value)?;
        let input = Self { name: fields.required(1, "name")?, shape: fields.required(2, "shape")? };
        fields.end().map(|()| input)
    }
}

impl Wire for Contract {
    fn to_value(&self) -> Value {
        FieldsWriter::new()
            .with(1, &self.signals)
            .with(2, &self.sampling_ms)
            .with(3, &self.window)
            .with(4, &self.hop)
            .end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("contract", value)?;
        let contract = Self {
            signals: fields.required(1, "signals")?,
            sampling_ms: fields.required(2, "sampling_ms")?,
            window: fields.required(3, "window")?,
            hop: fields.required(4, "hop")?,
        };
        fields.end().map(|()| contract)
    }
}

impl Coded for Transform {
    const WHAT: &'static str = "transform";
    const ALL: &'static [Self] = &[Self::None, Self::Difference, Self::Rate];

    fn code(self) -> u8 {
        self as u8
    }
}

impl Wire for Signal {
    fn to_value(&self) -> Value {
        FieldsWriter::new()
            .with(1, &self.name)
            .with(2, &self.unit)
            .with(3, &self.transform)
            .with(4, &self.center)
            .with(5, &self.scale)
            .with_some(6, self.clip.as_ref())
            .with(7, &self.fill)
            .with_some(8, self.frozen_after.as_ref())
            .end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("signal", value)?;
        let signal = Self {
            name: fields.required(1, "name")?,
            unit: fields.required(2, "unit")?,
            transform: fields.required(3, "transform")?,
            center: fields.required(4, "center")?,
            scale: fields.required(5, "scale")?,
            clip: fields.optional(6, "clip")?,
            fill: fields.required(7, "fill")?,
            frozen_after: fields.optional(8, "frozen_after")?,
        };
        fields.end().map(|()| signal)
    }
}

impl Wire for Fill {
    /// An empty map fills nothing.
    fn to_value(&self) -> Value {
        let fields = FieldsWriter::new();
        match self {
            Self::None => fields.end(),
            Self::Hold { limit } => fields.with(1, limit).end(),
            Self::Constant { value, limit } => fields.with(1, limit).with(2, value).end(),
        }
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("fill", value)?;
        let limit = fields.optional(1, "limit")?;
        let constant = fields.optional(2, "value")?;
        fields.end()?;
        match (limit, constant) {
            (None, None) => Ok(Self::None),
            (Some(limit), None) => Ok(Self::Hold { limit }),
            (Some(limit), Some(value)) => Ok(Self::Constant { value, limit }),
            (None, Some(_)) => Err(DecodeError::content("fill: a constant without its limit")),
        }
    }
}

impl Wire for Calibration {
    fn to_value(&self) -> Value {
        FieldsWriter::new()
            .with(1, &self.threshold)
            .with(2, &self.smooth)
            .with(3, &self.hold)
            .with(4, &self.residual)
            .with(5, &self.tail)
            .end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("calibration", value)?;
        let calibration = Self {
            threshold: fields.required(1, "threshold")?,
            smooth: fields.required(2, "smooth")?,
            hold: fields.required(3, "hold")?,
            residual: fields.required(4, "residual")?,
            tail: fields.required(5, "tail")?,
        };
        fields.end().map(|()| calibration)
    }
}

impl Wire for ModelLimits {
    fn to_value(&self) -> Value {
        FieldsWriter::new().with(1, &self.memory_bytes).with(2, &self.load_ms).with(3, &self.row_us).end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("limits", value)?;
        let limits = Self {
            memory_bytes: fields.required(1, "memory_bytes")?,
            load_ms: fields.required(2, "load_ms")?,
            row_us: fields.required(3, "row_us")?,
        };
        fields.end().map(|()| limits)
    }
}

//! Records as canonical CBOR: `{0: stamp, 1: kind, 2: body}`.

use super::{Anomaly, Body, Contribution, DeployStep, Dropped, Record, RecordKind, ScoredBy, Swap};
use crate::cbor::{DecodeError, Fields, FieldsWriter, Signed, Value, Wire};
use crate::limit::{MAX_DETAIL_BYTES, MAX_NOTE_BYTES, MAX_RECORD_BYTES, MAX_TOP};
use crate::time::Stamp;

impl Signed for Record {
    const DOMAIN: &'static str = "vedette/v1/record";
    const MAX_BYTES: usize = MAX_RECORD_BYTES;
}

impl Wire for Record {
    fn to_value(&self) -> Value {
        FieldsWriter::new()
            .with(0, &self.stamp)
            .with(1, &self.body.kind())
            .with(2, &BodyValue(body_to_value(&self.body)))
            .end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("record", value)?;
        let stamp = fields.required(0, "stamp")?;
        let kind: RecordKind = fields.required(1, "kind")?;
        let BodyValue(body) = fields.required(2, "body")?;
        fields.end()?;
        Ok(Self { stamp, body: body_from_value(kind, body)? })
    }
}

/// A body whose kind is not known yet.
struct BodyValue(Value);

impl Wire for BodyValue {
    fn to_value(&self) -> Value {
        self.0.clone()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        Ok(Self(value))
    }
}

fn body_to_value(body: &Body) -> Value {
    let fields = FieldsWriter::new();
    match body {
        Body::Boot { agent_version, previous } => fields.with(0, agent_version).with(1, previous).end(),
        Body::Swap(swap) => swap.to_value(),
        Body::Anomaly(anomaly) => anomaly.to_value(),
        Body::Gap { from, to, reason } => fields.with(0, from).with(1, to).with(2, reason).end(),
        Body::Clock { old_ms, new_ms, quality } => fields.with(0, old_ms).with(1, new_ms).with(2, quality).end(),
        Body::Config { digest } => fields.with(0, digest).end(),
        Body::Drop(dropped) => dropped.to_value(),
        Body::Verdict { record, verdict, by, note } => {
            fields.with(0, record).with(1, verdict).with(2, by).with_some(3, note.as_ref()).end()
        }
        Body::Ack { epoch, upto } => fields.with(0, epoch).with(1, upto).end(),
        Body::Deploy(step) => step.to_value(),
    }
}

fn body_from_value(kind: RecordKind, value: Value) -> Result<Body, DecodeError> {
    match kind {
        RecordKind::Boot => boot(value),
        RecordKind::Swap => Swap::from_value(value).map(Body::Swap),
        RecordKind::Anomaly => Anomaly::from_value(value).map(Body::Anomaly),
        RecordKind::Gap => gap(value),
        RecordKind::Clock => clock(value),
        RecordKind::Config => config(value),
        RecordKind::Drop => Dropped::from_value(value).map(Body::Drop),
        RecordKind::Verdict => verdict(value),
        RecordKind::Ack => ack(value),
        RecordKind::Deploy => DeployStep::from_value(value).map(Body::Deploy),
    }
}

fn boot(value: Value) -> Result<Body, DecodeError> {
    let mut fields = Fields::of("boot", value)?;
    let body =
        Body::Boot { agent_version: fields.required(0, "agent_version")?, previous: fields.required(1, "previous")? };
    fields.end().map(|()| body)
}

fn gap(value: Value) -> Result<Body, DecodeError> {
    let mut fields = Fields::of("gap", value)?;
    let body = Body::Gap {
        from: fields.required(0, "from")?,
        to: fields.required(1, "to")?,
        reason: short(fields.required(2, "reason")?, MAX_NOTE_BYTES)?,
    };
    fields.end().map(|()| body)
}

fn clock(value: Value) -> Result<Body, DecodeError> {
    let mut fields = Fields::of("clock", value)?;
    let body = Body::Clock {
        old_ms: fields.required(0, "old_ms")?,
        new_ms: fields.required(1, "new_ms")?,
        quality: fields.required(2, "quality")?,
    };
    fields.end().map(|()| body)
}

fn config(value: Value) -> Result<Body, DecodeError> {
    let mut fields = Fields::of("config", value)?;
    let body = Body::Config { digest: fields.required(0, "digest")? };
    fields.end().map(|()| body)
}

fn verdict(value: Value) -> Result<Body, DecodeError> {
    let mut fields = Fields::of("verdict", value)?;
    let body = Body::Verdict {
        record: fields.required(0, "record")?,
        verdict: fields.required(1, "verdict")?,
        by: short(fields.required(2, "by")?, MAX_NOTE_BYTES)?,
        note: fields.optional(3, "note")?.map(|note| short(note, MAX_NOTE_BYTES)).transpose()?,
    };
    fields.end().map(|()| body)
}

fn ack(value: Value) -> Result<Body, DecodeError> {
    let mut fields = Fields::of("ack", value)?;
    let body = Body::Ack { epoch: fields.required(0, "epoch")?, upto: fields.required(1, "upto")? };
    fields.end().map(|()| body)
}

/// A text that a person or program wrote, within its limit.
fn short(text: String, limit: usize) -> Result<String, DecodeError> {
    let length = text.len();
    if length <= limit {
        Ok(text)
    } else {
        Err(DecodeError::content(format!("a text of {length} bytes, more than {limit}")))
    }
}

impl Wire for Stamp {
    fn to_value(&self) -> Value {
        FieldsWriter::new()
            .with(0, &self.boot)
            .with(1, &self.monotonic_ns)
            .with(2, &self.wall_ms)
            .with(3, &self.quality)
            .end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("stamp", value)?;
        let stamp = Self {
            boot: fields.required(0, "boot")?,
            monotonic_ns: fields.required(1, "monotonic_ns")?,
            wall_ms: fields.required(2, "wall_ms")?,
            quality: fields.required(3, "quality")?,
        };
        fields.end().map(|()| stamp)
    }
}

impl Wire for ScoredBy {
    fn to_value(&self) -> Value {
        match self {
            Self::Model { model, artifact, manifest } => {
                FieldsWriter::new().with(0, model).with(1, artifact).with(2, manifest).end()
            }
            Self::Baseline { version } => FieldsWriter::new().with(3, version).end(),
        }
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("by", value)?;
        let by = match fields.optional(0, "model")? {
            Some(model) => Self::Model {
                model,
                artifact: fields.required(1, "artifact")?,
                manifest: fields.required(2, "manifest")?,
            },
            None => Self::Baseline { version: fields.required(3, "baseline")? },
        };
        fields.end().map(|()| by)
    }
}

impl Wire for Swap {
    fn to_value(&self) -> Value {
        FieldsWriter::new()
            .with(0, &self.stream)
            .with(1, &self.first_row)
            .with(2, &self.reserved)
            .with(3, &self.by)
            .with(4, &self.reason)
            .with_some(5, self.engine.as_ref())
            .end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("swap", value)?;
        let swap = Self {
            stream: fields.required(0, "stream")?,
            first_row: fields.required(1, "first_row")?,
            reserved: fields.required(2, "reserved")?,
            by: fields.required(3, "by")?,
            reason: fields.required(4, "reason")?,
            engine: fields.optional(5, "engine")?,
        };
        fields.end().map(|()| swap)
    }
}

impl Wire for Anomaly {
    fn to_value(&self) -> Value {
        FieldsWriter::new()
            .with(0, &self.stream)
            .with(1, &self.row)
            .with(2, &self.at_ms)
            .with(3, &self.cause)
            .with(4, &self.score)
            .with(5, &self.threshold)
            .with(6, &self.top)
            .with(7, &self.by)
            .with(8, &self.input)
            .end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("anomaly", value)?;
        let anomaly = Self {
            stream: fields.required(0, "stream")?,
            row: fields.required(1, "row")?,
            at_ms: fields.required(2, "at_ms")?,
            cause: fields.required(3, "cause")?,
            score: fields.required(4, "score")?,
            threshold: fields.required(5, "threshold")?,
            top: fields.required(6, "top")?,
            by: fields.required(7, "by")?,
            input: fields.required(8, "input")?,
        };
        fields.end()?;
        let top = anomaly.top.len();
        if top <= MAX_TOP {
            Ok(anomaly)
        } else {
            Err(DecodeError::content(format!("anomaly.top: {top} are more than {MAX_TOP}")))
        }
    }
}

impl Wire for Contribution {
    fn to_value(&self) -> Value {
        FieldsWriter::new().with(0, &self.signal).with(1, &self.share).with_some(2, self.value.as_ref()).end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("contribution", value)?;
        let contribution = Self {
            signal: fields.required(0, "signal")?,
            share: fields.required(1, "share")?,
            value: fields.optional(2, "value")?,
        };
        fields.end().map(|()| contribution)
    }
}

impl Wire for Dropped {
    fn to_value(&self) -> Value {
        FieldsWriter::new()
            .with_some(0, self.stream.as_ref())
            .with(1, &self.class)
            .with(2, &self.first_row)
            .with(3, &self.last_row)
            .with(4, &self.count)
            .with_some(5, self.max.as_ref())
            .end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("drop", value)?;
        let dropped = Self {
            stream: fields.optional(0, "stream")?,
            class: fields.required(1, "class")?,
            first_row: fields.required(2, "first_row")?,
            last_row: fields.required(3, "last_row")?,
            count: fields.required(4, "count")?,
            max: fields.optional(5, "max")?,
        };
        fields.end().map(|()| dropped)
    }
}

impl Wire for DeployStep {
    fn to_value(&self) -> Value {
        FieldsWriter::new()
            .with(0, &self.stream)
            .with(1, &self.model)
            .with(2, &self.manifest)
            .with(3, &self.stage)
            .with_some(4, self.detail.as_ref())
            .end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("deploy", value)?;
        let step = Self {
            stream: fields.required(0, "stream")?,
            model: fields.required(1, "model")?,
            manifest: fields.required(2, "manifest")?,
            stage: fields.required(3, "stage")?,
            detail: fields.optional(4, "detail")?.map(|detail| short(detail, MAX_DETAIL_BYTES)).transpose()?,
        };
        fields.end().map(|()| step)
    }
}

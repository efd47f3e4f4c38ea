//! What a device should run: signed by the fleet role, for one device, numbered, and good for a limited time.

use serde::{Deserialize, Serialize};

use crate::cbor::{DecodeError, Fields, FieldsWriter, Signed, Value, Wire};
use crate::id::{DeviceId, Digest, ModelRef, StreamName};
use crate::limit::{MAX_ASSIGNMENT_BYTES, MAX_SLOTS};

/// What one device should run, from the moment it reads this until a newer version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// For whom.
    pub audience: DeviceId,
    /// Rises with every change for this device; a device never goes back.
    pub version: u64,
    /// When it was signed, milliseconds since 1970 in UTC.
    pub issued_ms: i64,
    /// From when on nothing new is installed because of it, milliseconds since 1970 in UTC. What runs goes on.
    pub expires_ms: i64,
    /// The models, strictly ascending by stream, at most [`MAX_SLOTS`]. A stream that is not named runs the baseline.
    pub slots: Vec<Slot>,
}

/// Which model a stream should run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// The stream.
    pub stream: StreamName,
    /// Name and version, as people speak of it.
    pub model: ModelRef,
    /// The manifest's digest, which decides.
    pub manifest: Digest,
}

impl Assignment {
    fn check(&self) -> Result<(), DecodeError> {
        if self.expires_ms <= self.issued_ms {
            return Err(DecodeError::content("assignment: it expires before it is issued"));
        }
        if self.slots.len() > MAX_SLOTS {
            return Err(DecodeError::content(format!(
                "assignment: {} slots are more than {MAX_SLOTS}",
                self.slots.len()
            )));
        }
        if self.slots.windows(2).any(|pair| pair[0].stream >= pair[1].stream) {
            return Err(DecodeError::content("assignment: slots are not strictly ascending by stream"));
        }
        Ok(())
    }
}

impl Signed for Assignment {
    const DOMAIN: &'static str = "vedette/v1/assignment";
    const MAX_BYTES: usize = MAX_ASSIGNMENT_BYTES;
}

impl Wire for Assignment {
    fn to_value(&self) -> Value {
        FieldsWriter::new()
            .with(1, &self.audience)
            .with(2, &self.version)
            .with(3, &self.issued_ms)
            .with(4, &self.expires_ms)
            .with(5, &self.slots)
            .end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("assignment", value)?;
        let assignment = Self {
            audience: fields.required(1, "audience")?,
            version: fields.required(2, "version")?,
            issued_ms: fields.required(3, "issued_ms")?,
            expires_ms: fields.required(4, "expires_ms")?,
            slots: fields.required(5, "slots")?,
        };
        fields.end()?;
        assignment.check()?;
        Ok(assignment)
    }
}

impl Wire for Slot {
    fn to_value(&self) -> Value {
        FieldsWriter::new().with(1, &self.stream).with(2, &self.model).with(3, &self.manifest).end()
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let mut fields = Fields::of("slot", value)?;
        let slot = Self {
            stream: fields.required(1, "stream")?,
            model: fields.required(2, "model")?,
            manifest: fields.required(3, "manifest")?,
        };
        fields.end()?;
        Ok(slot)
    }
}

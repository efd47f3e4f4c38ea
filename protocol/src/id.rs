//! Names and numbers that identify things. Each can only be built by parsing, so whoever holds one need not check it again.

mod digest;
mod name;
mod text;

pub use digest::{BootId, Digest, Hasher};
pub use name::{DeviceId, ModelName, Name, NameRule, SignalName, StreamName, Unit, rule};

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not the identifier it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what}: {rule}")]
pub struct IdError {
    what: &'static str,
    text: String,
    rule: &'static str,
}

impl IdError {
    /// Longest part of a refused text that is repeated to the reader, in characters.
    const SHOWN_CHARS: usize = 80;

    pub(crate) fn new(what: &'static str, text: &str, rule: &'static str) -> Self {
        let text = text.chars().take(Self::SHOWN_CHARS).flat_map(char::escape_debug).collect();
        Self { what, text, rule }
    }
}

/// The version of a model: 1, 2, 3, … per name. It is the release sequence, not a label.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelVersion(NonZeroU32);

impl ModelVersion {
    /// The first version of any model.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// # Errors
    /// When the number is 0.
    pub fn new(number: u32) -> Result<Self, IdError> {
        NonZeroU32::new(number).map(Self).ok_or_else(|| Self::refuse(&number.to_string()))
    }

    /// The number, 1 or more.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    fn refuse(text: &str) -> IdError {
        IdError::new("model version", text, "a whole number from 1 to 4294967295 without leading zeros")
    }
}

impl FromStr for ModelVersion {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let number = text::number(text).and_then(|n| u32::try_from(n).ok()).ok_or_else(|| Self::refuse(text))?;
        Self::new(number)
    }
}

impl fmt::Debug for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ModelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for ModelVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ModelVersion {
    /// Takes the text form, and a whole number as people write it in TOML and JSON.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(text::TextOrNumber::new("a model version"))
    }
}

/// One version of one model, written `name@2`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelRef {
    /// The model's name.
    pub name: ModelName,
    /// Which version of it.
    pub version: ModelVersion,
}

impl FromStr for ModelRef {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (name, version) =
            text.rsplit_once('@').ok_or_else(|| IdError::new("model", text, "write NAME@VERSION, as in `pump@2`"))?;
        Ok(Self { name: name.parse()?, version: version.parse()? })
    }
}

impl fmt::Debug for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// A journal record: `device/epoch/sequence`. It exists without a clock.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Whose journal.
    pub device: DeviceId,
    /// Which life of that journal.
    pub epoch: u64,
    /// Position in it, from 0.
    pub sequence: u64,
}

impl FromStr for RecordId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let refuse = || IdError::new("record", text, "write DEVICE/EPOCH/SEQUENCE, as in `box-17/1/42`");
        let (device, rest) = text.split_once('/').ok_or_else(refuse)?;
        let (epoch, sequence) = rest.split_once('/').ok_or_else(refuse)?;
        Ok(Self {
            device: device.parse()?,
            epoch: text::number(epoch).ok_or_else(refuse)?,
            sequence: text::number(sequence).ok_or_else(refuse)?,
        })
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.device, self.epoch, self.sequence)
    }
}

/// A telemetry row that was scored, journalled or not: `device/epoch/stream#row`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId {
    /// Whose telemetry.
    pub device: DeviceId,
    /// The journal epoch in which the row was scored.
    pub epoch: u64,
    /// The stream.
    pub stream: StreamName,
    /// Row of the stream, from 0.
    pub row: u64,
}

impl FromStr for RowId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let refuse = || IdError::new("row", text, "write DEVICE/EPOCH/STREAM#ROW, as in `box-17/1/server#1742`");
        let (device, rest) = text.split_once('/').ok_or_else(refuse)?;
        let (epoch, rest) = rest.split_once('/').ok_or_else(refuse)?;
        let (stream, row) = rest.split_once('#').ok_or_else(refuse)?;
        Ok(Self {
            device: device.parse()?,
            epoch: text::number(epoch).ok_or_else(refuse)?,
            stream: stream.parse()?,
            row: text::number(row).ok_or_else(refuse)?,
        })
    }
}

impl fmt::Debug for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}#{}", self.device, self.epoch, self.stream, self.row)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_built_only_by_parsing() {
        assert!("box-17".parse::<DeviceId>().is_ok());
        for bad in ["", "Box", "-box", "a b", "a/b", "a+b", "é", &"a".repeat(65)] {
            assert!(bad.parse::<DeviceId>().is_err(), "{bad}");
        }
        assert!("cpu.core/0:load%".parse::<SignalName>().is_ok());
        assert!("By/s".parse::<Unit>().is_ok());
        assert!("a b".parse::<Unit>().is_err());
    }

    #[test]
    fn every_id_reads_back_what_it_prints() {
        for text in ["box-17/1/42", "a/0/18446744073709551615"] {
            assert_eq!(text.parse::<RecordId>().unwrap().to_string(), text);
        }
        assert_eq!("box/3/server#7".parse::<RowId>().unwrap().to_string(), "box/3/server#7");
        assert_eq!("pump@2".parse::<ModelRef>().unwrap().to_string(), "pump@2");
    }

    #[test]
    fn numbers_in_ids_have_one_spelling() {
        for bad in ["box/01/1", "box/+1/1", "box/1/", "box/1/-1", "box/1/18446744073709551616", "box/1/1/1"] {
            assert!(bad.parse::<RecordId>().is_err(), "{bad}");
        }
        for bad in ["pump", "pump@0", "pump@01", "pump@", "@1"] {
            assert!(bad.parse::<ModelRef>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refused_id_says_what_it_should_have_been() {
        let error = "Box 17".parse::<DeviceId>().unwrap_err().to_string();
        assert!(error.contains("`Box 17` is no device id: 1 to 64"), "{error}");
    }
}

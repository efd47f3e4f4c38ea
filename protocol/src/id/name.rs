//! Names: one parser, one rule a kind. A kind is a type that no value has, so a stream is never taken for a device.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{IdError, text};

/// What one kind of name may look like.
pub trait NameRule {
    /// What it is called in an error, as in "is no device id".
    const WHAT: &'static str;
    /// The rule, as a person reads it.
    const RULE: &'static str;
    /// Longest name, in bytes.
    const MAX_BYTES: usize;

    /// Whether a name may begin with this byte.
    fn begins(byte: u8) -> bool;

    /// Whether a name may go on with this byte.
    fn goes_on(byte: u8) -> bool;
}

/// The kinds of names. They are uninhabited: only [`Name`] uses them.
pub mod rule {
    use super::NameRule;

    /// Kind of a device id.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Device {}

    /// Kind of a model name.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Model {}

    /// Kind of a stream name.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Stream {}

    /// Kind of a signal name.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Signal {}

    /// Kind of a unit.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Unit {}

    fn lower_or_digit(byte: u8) -> bool {
        byte.is_ascii_lowercase() || byte.is_ascii_digit()
    }

    fn slug(byte: u8) -> bool {
        lower_or_digit(byte) || matches!(byte, b'.' | b'_' | b'-')
    }

    impl NameRule for Device {
        const WHAT: &'static str = "device id";
        const RULE: &'static str = "1 to 64 of a-z 0-9 . _ -, beginning with a letter or digit";
        const MAX_BYTES: usize = 64;

        fn begins(byte: u8) -> bool {
            lower_or_digit(byte)
        }

        fn goes_on(byte: u8) -> bool {
            slug(byte)
        }
    }

    impl NameRule for Model {
        const WHAT: &'static str = "model name";
        const RULE: &'static str = Device::RULE;
        const MAX_BYTES: usize = 64;

        fn begins(byte: u8) -> bool {
            lower_or_digit(byte)
        }

        fn goes_on(byte: u8) -> bool {
            slug(byte)
        }
    }

    impl NameRule for Stream {
        const WHAT: &'static str = "stream name";
        const RULE: &'static str = "1 to 48 of a-z 0-9 . _ -, beginning with a letter or digit";
        const MAX_BYTES: usize = 48;

        fn begins(byte: u8) -> bool {
            lower_or_digit(byte)
        }

        fn goes_on(byte: u8) -> bool {
            slug(byte)
        }
    }

    impl NameRule for Signal {
        const WHAT: &'static str = "signal name";
        const RULE: &'static str = "1 to 64 of A-Z a-z 0-9 _ . : / % -, beginning with a letter, digit or _";
        const MAX_BYTES: usize = 64;

        fn begins(byte: u8) -> bool {
            byte.is_ascii_alphanumeric() || byte == b'_'
        }

        fn goes_on(byte: u8) -> bool {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'/' | b'%' | b'-')
        }
    }

    impl NameRule for Unit {
        const WHAT: &'static str = "unit";
        const RULE: &'static str =
            "1 to 24 printable ASCII characters without spaces, as in `%`, `Cel`, `By/s`, or `1` for a plain ratio";
        const MAX_BYTES: usize = 24;

        fn begins(byte: u8) -> bool {
            byte.is_ascii_graphic()
        }

        fn goes_on(byte: u8) -> bool {
            byte.is_ascii_graphic()
        }
    }
}

/// A device: 1 to 64 of `a-z 0-9 . _ -`. Level 3 of every topic.
pub type DeviceId = Name<rule::Device>;
/// A model: 1 to 64 of `a-z 0-9 . _ -`.
pub type ModelName = Name<rule::Model>;
/// A telemetry stream of a device, also the slot that a model is assigned to: 1 to 48 of `a-z 0-9 . _ -`.
pub type StreamName = Name<rule::Stream>;
/// A signal (column) of a stream: 1 to 64 of `A-Z a-z 0-9 _ . : / % -`.
pub type SignalName = Name<rule::Signal>;
/// A unit in UCUM's spirit: `1`, `%`, `Cel`, `By/s`; 1 to 24 printable ASCII characters.
pub type Unit = Name<rule::Unit>;

/// A name of kind `K`, cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name<K> {
    text: Arc<str>,
    kind: PhantomData<K>,
}

impl<K> Name<K> {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl<K: NameRule> FromStr for Name<K> {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = text.as_bytes();
        let fits = bytes.len() <= K::MAX_BYTES
            && bytes.first().is_some_and(|first| K::begins(*first))
            && bytes.iter().all(|byte| K::goes_on(*byte));
        if !fits {
            return Err(IdError::new(K::WHAT, text, K::RULE));
        }
        Ok(Self { text: text.into(), kind: PhantomData })
    }
}

impl<K: NameRule> TryFrom<String> for Name<K> {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl<K: NameRule> TryFrom<&str> for Name<K> {
    type Error = IdError;

    fn try_from(text: &str) -> Result<Self, IdError> {
        text.parse()
    }
}

impl<K> AsRef<str> for Name<K> {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl<K> fmt::Display for Name<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl<K> fmt::Debug for Name<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl<K> Serialize for Name<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de, K: NameRule> Deserialize<'de> for Name<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text::deserialize(deserializer)
    }
}

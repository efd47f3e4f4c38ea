//! How plain values stand in signed and hashed things: whole numbers, texts, byte strings and arrays of them.

use super::{DecodeError, Value};
use crate::id::{BootId, Digest, ModelRef, ModelVersion, Name, NameRule, RecordId};
use crate::number::{Finite32, Finite64};

/// A value with one place in deterministic CBOR.
pub trait Wire: Sized {
    /// The value as CBOR.
    fn to_value(&self) -> Value;

    /// The value that this CBOR says.
    ///
    /// # Errors
    /// When it says something else.
    fn from_value(value: Value) -> Result<Self, DecodeError>;
}

/// A choice that stands as a small number.
pub trait Coded: Copy + PartialEq + 'static {
    /// What it is called in an error.
    const WHAT: &'static str;
    /// Every choice.
    const ALL: &'static [Self];

    /// The number of this choice; never reused for another.
    fn code(self) -> u8;
}

impl<T: Coded> Wire for T {
    fn to_value(&self) -> Value {
        Value::from(self.code())
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let code = u8::from_value(value)?;
        let found = T::ALL.iter().copied().find(|choice| choice.code() == code);
        found.ok_or_else(|| DecodeError::content(format!("{code} is no {}", T::WHAT)))
    }
}

fn unsigned<T: TryFrom<u64>>(value: &Value) -> Result<T, DecodeError> {
    let number = value.as_integer().and_then(|n| u64::try_from(n).ok()).and_then(|n| T::try_from(n).ok());
    number.ok_or_else(|| DecodeError::content("not a whole number in range"))
}

impl Wire for u8 {
    fn to_value(&self) -> Value {
        Value::from(*self)
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        unsigned(&value)
    }
}

impl Wire for u32 {
    fn to_value(&self) -> Value {
        Value::from(*self)
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        unsigned(&value)
    }
}

impl Wire for u64 {
    fn to_value(&self) -> Value {
        Value::from(*self)
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        unsigned(&value)
    }
}

impl Wire for i64 {
    fn to_value(&self) -> Value {
        Value::from(*self)
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let number = value.as_integer().and_then(|n| Self::try_from(n).ok());
        number.ok_or_else(|| DecodeError::content("not a whole number in range"))
    }
}

impl Wire for String {
    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        value.into_text().map_err(|_| DecodeError::content("not a text"))
    }
}

impl<K: NameRule> Wire for Name<K> {
    fn to_value(&self) -> Value {
        Value::from(self.as_str())
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        parsed(value)
    }
}

impl Wire for ModelRef {
    fn to_value(&self) -> Value {
        Value::from(self.to_string())
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        parsed(value)
    }
}

impl Wire for RecordId {
    fn to_value(&self) -> Value {
        Value::from(self.to_string())
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        parsed(value)
    }
}

fn parsed<T: std::str::FromStr<Err = crate::id::IdError>>(value: Value) -> Result<T, DecodeError> {
    String::from_value(value)?.parse().map_err(|error: crate::id::IdError| DecodeError::content(error.to_string()))
}

impl Wire for ModelVersion {
    fn to_value(&self) -> Value {
        Value::from(self.get())
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        Self::new(u32::from_value(value)?).map_err(|error| DecodeError::content(error.to_string()))
    }
}

fn fixed<const N: usize>(value: Value) -> Result<[u8; N], DecodeError> {
    let bytes = value.into_bytes().ok().and_then(|bytes| <[u8; N]>::try_from(bytes).ok());
    bytes.ok_or_else(|| DecodeError::content(format!("not a byte string of {N}")))
}

impl Wire for Digest {
    fn to_value(&self) -> Value {
        Value::from(&self.as_bytes()[..])
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        fixed(value).map(Self::from_bytes)
    }
}

impl Wire for BootId {
    fn to_value(&self) -> Value {
        Value::from(&self.as_bytes()[..])
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        fixed(value).map(Self::from_bytes)
    }
}

impl Wire for Finite32 {
    fn to_value(&self) -> Value {
        Value::from(self.get().to_bits())
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        Self::from_bits(u32::from_value(value)?).map_err(|error| DecodeError::content(error.to_string()))
    }
}

impl Wire for Finite64 {
    fn to_value(&self) -> Value {
        Value::from(self.get().to_bits())
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        Self::from_bits(u64::from_value(value)?).map_err(|error| DecodeError::content(error.to_string()))
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn to_value(&self) -> Value {
        Value::Array(self.iter().map(T::to_value).collect())
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let items = value.into_array().map_err(|_| DecodeError::content("not an array"))?;
        items.into_iter().map(T::from_value).collect()
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn to_value(&self) -> Value {
        Value::Array(vec![self.0.to_value(), self.1.to_value()])
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let pair = value.into_array().ok().and_then(|items| <[Value; 2]>::try_from(items).ok());
        let [a, b] = pair.ok_or_else(|| DecodeError::content("not a pair"))?;
        Ok((A::from_value(a)?, B::from_value(b)?))
    }
}

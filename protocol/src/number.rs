//! Numbers that are never NaN or infinite. In CBOR they are the unsigned integer of their IEEE 754 bits, because signed
//! things hold no floats; in JSON and TOML they are plain numbers.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A number that should have been finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a finite number, neither NaN nor infinite")]
pub struct NotFinite;

/// A finite `f32`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Finite32(f32);

/// A finite `f64`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Finite64(f64);

impl Eq for Finite32 {}
impl Eq for Finite64 {}

impl Finite32 {
    /// # Errors
    /// When `value` is NaN or infinite.
    pub fn new(value: f32) -> Result<Self, NotFinite> {
        if value.is_finite() { Ok(Self(value)) } else { Err(NotFinite) }
    }

    /// `value`, with the largest finite number in place of an infinity and 0 in place of NaN.
    #[must_use]
    pub fn saturating(value: f32) -> Self {
        if value.is_nan() { Self(0.0) } else { Self(value.clamp(f32::MIN, f32::MAX)) }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> f32 {
        self.0
    }

    /// # Errors
    /// When the bits are those of NaN or an infinity.
    pub fn from_bits(bits: u32) -> Result<Self, NotFinite> {
        Self::new(f32::from_bits(bits))
    }
}

impl Finite64 {
    /// 1.
    pub const ONE: Self = Self(1.0);

    /// # Errors
    /// When `value` is NaN or infinite.
    pub fn new(value: f64) -> Result<Self, NotFinite> {
        if value.is_finite() { Ok(Self(value)) } else { Err(NotFinite) }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }

    /// # Errors
    /// When the bits are those of NaN or an infinity.
    pub fn from_bits(bits: u64) -> Result<Self, NotFinite> {
        Self::new(f64::from_bits(bits))
    }
}

impl TryFrom<f32> for Finite32 {
    type Error = NotFinite;

    fn try_from(value: f32) -> Result<Self, NotFinite> {
        Self::new(value)
    }
}

impl TryFrom<f64> for Finite64 {
    type Error = NotFinite;

    fn try_from(value: f64) -> Result<Self, NotFinite> {
        Self::new(value)
    }
}

impl std::fmt::Display for Finite32 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for Finite64 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Finite32 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_f32(self.0)
        } else {
            serializer.serialize_u32(self.0.to_bits())
        }
    }
}

impl<'de> Deserialize<'de> for Finite32 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = if deserializer.is_human_readable() {
            Self::new(f32::deserialize(deserializer)?)
        } else {
            Self::from_bits(u32::deserialize(deserializer)?)
        };
        value.map_err(de::Error::custom)
    }
}

impl Serialize for Finite64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_f64(self.0)
        } else {
            serializer.serialize_u64(self.0.to_bits())
        }
    }
}

impl<'de> Deserialize<'de> for Finite64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = if deserializer.is_human_readable() {
            Self::new(f64::deserialize(deserializer)?)
        } else {
            Self::from_bits(u64::deserialize(deserializer)?)
        };
        value.map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nan_and_infinity_never_get_in() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(Finite32::new(value), Err(NotFinite));
            assert_eq!(Finite32::from_bits(value.to_bits()), Err(NotFinite));
            assert_eq!(Finite64::new(value.into()), Err(NotFinite));
        }
        assert!(serde_json::from_str::<Finite32>("1e300").is_err());
    }

    #[test]
    fn people_see_a_number_and_the_wire_sees_bits() {
        let value = Finite32::new(0.1).unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap(), "0.1");
        assert_eq!(crate::cbor::encode(&value), [0x1a, 0x3d, 0xcc, 0xcc, 0xcd]);
    }
}

//! Quantities with their unit beside them, so that nobody guesses: `30s`, `64MiB`, `2026-11-21T09:30:00Z`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::{format_ms, parse_ms};

/// A text that is no such quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what}")]
pub struct QuantityError {
    text: String,
    what: &'static str,
}

impl QuantityError {
    fn new(text: &str, what: &'static str) -> Self {
        Self { text: text.chars().take(40).collect(), what }
    }
}

/// A length of time: a whole number and `ns`, `us`, `ms`, `s`, `m`, `h` or `d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DurationText(Duration);

impl DurationText {
    const WHAT: &'static str = "length of time: write a whole number and its unit, as in 250ms, 30s, 5m, 2h or 7d";
    /// Units and their nanoseconds, largest first.
    const UNITS: [(&'static str, u64); 7] = [
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];

    /// A length of time that prints as `30s`; beyond 584 years it is 584 years.
    #[must_use]
    pub const fn new(duration: Duration) -> Self {
        Self(duration)
    }

    /// The length of time.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for DurationText {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let nanoseconds = quantity(text, &Self::UNITS).ok_or_else(|| QuantityError::new(text, Self::WHAT))?;
        Ok(Self(Duration::from_nanos(nanoseconds)))
    }
}

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        f.write_str(&in_largest_unit(nanoseconds, &Self::UNITS, "0s"))
    }
}

/// A number of bytes: a whole number and `B`, `KiB`, `MiB` or `GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SizeText(u64);

impl SizeText {
    const WHAT: &'static str = "size: write a whole number and its unit, as in 512B, 4KiB, 64MiB or 2GiB";
    /// Units and their bytes, largest first.
    const UNITS: [(&'static str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

    /// A size that prints as `64MiB`.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The bytes, or the largest number that a `usize` holds.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for SizeText {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        quantity(text, &Self::UNITS).map(Self).ok_or_else(|| QuantityError::new(text, Self::WHAT))
    }
}

impl fmt::Display for SizeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&in_largest_unit(self.0, &Self::UNITS, "0B"))
    }
}

/// A moment: RFC 3339 as a text or as TOML's own date-time with an offset. Milliseconds since 1970 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeText(i64);

impl TimeText {
    /// A moment that prints as RFC 3339.
    #[must_use]
    pub const fn new(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since 1970 in UTC.
    #[must_use]
    pub const fn ms(self) -> i64 {
        self.0
    }
}

impl FromStr for TimeText {
    type Err = crate::time::TimeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_ms(text).map(Self)
    }
}

impl fmt::Display for TimeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_ms(self.0))
    }
}

/// A whole number times the unit behind it.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start_matches(' '))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn in_largest_unit(amount: u64, units: &[(&str, u64)], zero: &str) -> String {
    let whole = units.iter().find(|(_, factor)| amount >= *factor && amount.is_multiple_of(*factor));
    whole.map_or_else(|| zero.to_owned(), |(name, factor)| format!("{}{name}", amount / factor))
}

impl Serialize for DurationText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Quantity {
            what: Self::WHAT,
            parse: |text| text.parse().map_err(|e: QuantityError| e.to_string()),
        })
    }
}

impl Serialize for SizeText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SizeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Quantity {
            what: Self::WHAT,
            parse: |text| text.parse().map_err(|e: QuantityError| e.to_string()),
        })
    }
}

impl Serialize for TimeText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Quantity {
            what: "time, as in 2026-11-21T09:30:00Z",
            parse: |text| text.parse().map_err(|e: crate::time::TimeError| e.to_string()),
        })
    }
}

/// Reads a quantity from text; a bare number is refused with a word on what is missing.
struct Quantity<T> {
    what: &'static str,
    parse: fn(&str) -> Result<T, String>,
}

impl<'de, T> Visitor<'de> for Quantity<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {}", self.what)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }

    /// TOML's own date-time comes as a map with one secret key.
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        let time = toml::value::Datetime::deserialize(MapAccessDeserializer::new(map))?;
        self.visit_str(&time.to_string())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn quantities_read_back_what_they_print() {
        for text in ["250ms", "30s", "5m", "2h", "7d", "10us", "1ns", "0s", "90s"] {
            assert_eq!(text.parse::<DurationText>().unwrap().to_string(), if text == "90s" { "90s" } else { text });
        }
        for text in ["512B", "4KiB", "64MiB", "2GiB", "0B"] {
            assert_eq!(text.parse::<SizeText>().unwrap().to_string(), text);
        }
        assert_eq!("64 MiB".parse::<SizeText>().unwrap().bytes(), 64 << 20);
    }

    #[test]
    fn a_quantity_without_its_unit_or_out_of_range_is_refused() {
        for bad in ["", "30", "s", "1.5s", "-1s", "30 parsecs", "99999999999999d"] {
            assert!(bad.parse::<DurationText>().is_err(), "{bad}");
        }
        for bad in ["64", "64MB", "64mib", "99999999999GiB"] {
            assert!(bad.parse::<SizeText>().is_err(), "{bad}");
        }
    }

    #[derive(Deserialize)]
    struct Sample {
        at: TimeText,
    }

    #[test]
    fn a_time_in_toml_may_be_quoted_or_not() {
        let quoted: Sample = crate::settings::from_toml("at = \"2026-11-21T09:30:00Z\"", "t").unwrap();
        let plain: Sample = crate::settings::from_toml("at = 2026-11-21T09:30:00Z", "t").unwrap();
        assert_eq!(quoted.at, plain.at);
        let error = crate::settings::from_toml::<Sample>("at = 2026-11-21", "t").err().unwrap().to_string();
        assert!(error.starts_with("t:1: `at`: `2026-11-21` is no time"), "{error}");
        let error = crate::settings::from_toml::<Sample>("at = 5", "t").err().unwrap().to_string();
        assert!(error.contains("as in 2026-11-21T09:30:00Z"), "{error}");
    }
}

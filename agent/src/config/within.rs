//! Values with a default and a range.

use std::ops::RangeInclusive;
use std::time::Duration;

use vedette_protocol::settings::{DurationText, SizeText};

use super::{ConfigError, Place};

/// A duration; default and range in ms.
pub(super) fn duration(place: &Place<'_>, key: &str, given: Option<DurationText>, default_ms: u64, range_ms: RangeInclusive<u64>) -> Result<Duration, ConfigError> {
    let value = given.map_or(Duration::from_millis(default_ms), DurationText::get);
    let range = Duration::from_millis(*range_ms.start())..=Duration::from_millis(*range_ms.end());
    if range.contains(&value) {
        return Ok(value);
    }
    Err(place.refuse(key, format!("{value:?} is out of range: {:?} to {:?}", range.start(), range.end())))
}

/// A size in bytes.
pub(super) fn size(place: &Place<'_>, key: &str, given: Option<SizeText>, default: u64, range: RangeInclusive<u64>) -> Result<u64, ConfigError> {
    let value = given.map_or(default, SizeText::get);
    if range.contains(&value) {
        return Ok(value);
    }
    Err(place.refuse(key, format!("{value} bytes are out of range: {} to {} KiB", range.start() / 1024, range.end() / 1024)))
}

/// A count.
pub(super) fn number(place: &Place<'_>, key: &str, given: Option<u32>, default: u32, range: RangeInclusive<u32>) -> Result<u32, ConfigError> {
    let value = given.unwrap_or(default);
    if range.contains(&value) {
        return Ok(value);
    }
    Err(place.refuse(key, format!("{value} is out of range: {} to {}", range.start(), range.end())))
}

//! Values with a default and a range.

use std::ops::RangeInclusive;
use std::time::Duration;

use vedette_protocol::settings::{DurationText, SettingsError, SizeText};

use super::Place;

/// A duration; default and range in ms.
pub(super) fn duration(
    place: &Place<'_>,
    key: &str,
    given: Option<DurationText>,
    default_ms: u64,
    range_ms: RangeInclusive<u64>,
) -> Result<Duration, SettingsError> {
    let value = given.map_or(Duration::from_millis(default_ms), DurationText::get);
    let range = Duration::from_millis(*range_ms.start())..=Duration::from_millis(*range_ms.end());
    if range.contains(&value) {
        return Ok(value);
    }
    Err(place.refuse(
        key,
        format!(
            "{} is out of range: {} to {}",
            DurationText::new(value),
            DurationText::new(*range.start()),
            DurationText::new(*range.end())
        ),
    ))
}

/// A size in bytes.
pub(super) fn size(
    place: &Place<'_>,
    key: &str,
    given: Option<SizeText>,
    default: u64,
    range: RangeInclusive<u64>,
) -> Result<u64, SettingsError> {
    let value = given.map_or(default, SizeText::bytes);
    if range.contains(&value) {
        return Ok(value);
    }
    Err(place.refuse(
        key,
        format!(
            "{} is out of range: {} to {}",
            SizeText::new(value),
            SizeText::new(*range.start()),
            SizeText::new(*range.end())
        ),
    ))
}

/// A count.
pub(super) fn number(
    place: &Place<'_>,
    key: &str,
    given: Option<u32>,
    default: u32,
    range: RangeInclusive<u32>,
) -> Result<u32, SettingsError> {
    let value = given.unwrap_or(default);
    if range.contains(&value) {
        return Ok(value);
    }
    Err(place.refuse(key, format!("{value} is out of range: {} to {}", range.start(), range.end())))
}

//! One sample as a message: `{"at": "2026-11-21T10:00:00Z" or Unix ms, "values": {"cpu": 0.5, "fan": null}}`, in JSON or
//! the same map in CBOR. Without `at` it is the time of arrival; a signal that is null or not named is absent.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use vedette_protocol::time::parse_ms;
use vedette_scoring::{Sample, Schema};

use crate::config::Format;

/// A sample of 1024 signals with names of 64 bytes and numbers of 25 takes 92 KB.
pub const MESSAGE_BYTES_MAX: usize = 96 * 1024;

/// Why a message is no sample; each names the signal where there is one.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum MessageError {
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("{bytes} bytes are too long for a sample, at most {MESSAGE_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not the shape above.
    #[error("not a sample: {0}")]
    Malformed(String),
    /// A signal that the stream does not have.
    #[error("unknown signal \"{0}\"")]
    UnknownSignal(String),
    /// A value that is no number.
    #[error("signal \"{signal}\": {found} is not a number")]
    NotANumber {
        /// The signal.
        signal: String,
        /// What was there.
        found: String,
    },
    /// A number that a 32-bit float cannot hold.
    #[error("signal \"{signal}\": {value:e} is out of range")]
    OutOfRange {
        /// The signal.
        signal: String,
        /// The number, as text so that errors can be compared.
        value: Text,
    },
    /// Earlier than the sample before it.
    #[error("time goes back: {at_ms} ms after {last_ms} ms")]
    Backwards {
        /// Its time, Unix ms.
        at_ms: i64,
        /// The time before it, Unix ms.
        last_ms: i64,
    },
}

/// A number for a message.
#[derive(Clone, Copy, Debug)]
pub struct Text(f64);

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Text {}

impl fmt::LowerExp for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerExp::fmt(&self.0, f)
    }
}

/// Reads one message; `now_ms` (Unix ms) is its time when it names none.
///
/// # Errors
/// When it is no sample of this schema.
pub fn parse(bytes: &[u8], format: Format, schema: &Schema, now_ms: i64) -> Result<Sample, MessageError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(MessageError::TooLong { bytes: bytes.len() });
    }
    let message: Message = match format {
        Format::Json => serde_json::from_slice(bytes).map_err(|e| MessageError::Malformed(e.to_string()))?,
        Format::Cbor => vedette_protocol::cbor::decode(bytes, MESSAGE_BYTES_MAX)
            .map_err(|e| MessageError::Malformed(e.to_string()))?,
    };
    let mut values = vec![f32::NAN; schema.len()].into_boxed_slice();
    for (name, reading) in message.values {
        let at = name.parse().ok().and_then(|signal| schema.index_of(&signal));
        let Some(value) = at.and_then(|at| values.get_mut(at)) else {
            return Err(MessageError::UnknownSignal(shortened(&name)));
        };
        *value = number(name, reading)?;
    }
    Ok(Sample { at_ms: message.at.map_or(now_ms, |at| at.0), values })
}

fn number(signal: String, reading: Reading) -> Result<f32, MessageError> {
    match reading {
        Reading::Absent => Ok(f32::NAN),
        Reading::Number(value) if value.is_nan() => Ok(f32::NAN),
        Reading::Number(value) if (value as f32).is_finite() => Ok(value as f32),
        Reading::Number(value) => Err(MessageError::OutOfRange { signal, value: Text(value) }),
        Reading::Other(found) => Err(MessageError::NotANumber { signal, found }),
    }
}

/// A name from outside, short enough for a message.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    at: Option<At>,
    values: BTreeMap<String, Reading>,
}

/// Unix ms, written as a number or as RFC 3339.
struct At(i64);

enum Reading {
    Number(f64),
    Absent,
    Other(String),
}

struct AtVisitor;

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AtVisitor)
    }
}

impl Visitor<'_> for AtVisitor {
    type Value = At;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time in RFC 3339 or Unix ms")
    }

    fn visit_i64<E: de::Error>(self, ms: i64) -> Result<At, E> {
        Ok(At(ms))
    }

    fn visit_u64<E: de::Error>(self, ms: u64) -> Result<At, E> {
        i64::try_from(ms).map(At).map_err(|_| E::custom(format!("{ms} is not a time in Unix ms")))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<At, E> {
        parse_ms(text).map(At).map_err(|e| E::custom(format!("\"{}\": {e}", shortened(text))))
    }
}

struct ReadingVisitor;

impl<'de> Deserialize<'de> for Reading {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ReadingVisitor)
    }
}

impl<'de> Visitor<'de> for ReadingVisitor {
    type Value = Reading;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number or null")
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Reading, E> {
        Ok(Reading::Number(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Reading, E> {
        Ok(Reading::Number(value as f64))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Reading, E> {
        Ok(Reading::Number(value as f64))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Reading, E> {
        Ok(Reading::Absent)
    }

    fn visit_none<E: de::Error>(self) -> Result<Reading, E> {
        Ok(Reading::Absent)
    }

    // What is no number is kept as words, so that the error can name the signal.
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Reading, E> {
        Ok(Reading::Other(value.to_string()))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Reading, E> {
        Ok(Reading::Other(format!("\"{}\"", shortened(text))))
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Reading, E> {
        Ok(Reading::Other(format!("a string of {} bytes", bytes.len())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Reading, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Reading::Other("a list".to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Reading, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Reading::Other("a map".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn schema() -> Schema {
        Schema::new(vec![("cpu".parse().unwrap(), None), ("fan".parse().unwrap(), None)]).unwrap()
    }

    fn json(text: &str) -> Result<Sample, MessageError> {
        parse(text.as_bytes(), Format::Json, &schema(), 77)
    }

    fn values(sample: &Sample) -> Vec<Option<f32>> {
        sample.values.iter().map(|v| (!v.is_nan()).then_some(*v)).collect()
    }

    #[test]
    fn a_sample_is_read_in_any_order_of_signals() {
        let sample = json(r#"{"values": {"fan": 1200, "cpu": 0.5}, "at": "2026-11-21T10:00:00Z"}"#).unwrap();
        assert_eq!(values(&sample), [Some(0.5), Some(1200.0)]);
        assert_eq!(sample.at_ms, parse_ms("2026-11-21T10:00:00Z").unwrap());
    }

    #[test]
    fn a_signal_that_is_null_or_not_named_is_absent_and_a_missing_time_is_now() {
        let sample = json(r#"{"values": {"cpu": null}}"#).unwrap();
        assert_eq!((values(&sample), sample.at_ms), (vec![None, None], 77));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_signal() {
        assert_eq!(json(r#"{"values": {"gpu": 1}}"#).unwrap_err(), MessageError::UnknownSignal("gpu".into()));
        let said = |text: &str| json(text).unwrap_err().to_string();
        assert_eq!(said(r#"{"values": {"cpu": "high"}}"#), r#"signal "cpu": "high" is not a number"#);
        assert_eq!(said(r#"{"values": {"cpu": [1, [2]]}}"#), r#"signal "cpu": a list is not a number"#);
        assert_eq!(said(r#"{"values": {"fan": 1e300}}"#), r#"signal "fan": 1e300 is out of range"#);
        assert!(said(r#"{"at": "noon", "values": {}}"#).contains("noon"));
        assert!(said(r#"{"at": 5, "value": {}}"#).contains("value"));
        assert!(said("{").starts_with("not a sample"));
    }

    #[test]
    fn the_same_map_in_cbor_is_the_same_sample() {
        let value = serde_json::json!({"at": 5, "values": {"cpu": 0.25, "fan": null}});
        let bytes = vedette_protocol::cbor::encode(&value);
        let sample = parse(&bytes, Format::Cbor, &schema(), 0).unwrap();
        assert_eq!((sample.at_ms, values(&sample)), (5, vec![Some(0.25), None]));
        assert!(parse(&bytes[..bytes.len() - 1], Format::Cbor, &schema(), 0).is_err());
    }

    #[test]
    fn a_message_longer_than_the_limit_is_refused_before_it_is_read() {
        let long = format!("{{\"values\": {{}}{}}}", " ".repeat(MESSAGE_BYTES_MAX));
        assert!(matches!(json(&long), Err(MessageError::TooLong { .. })));
    }
}

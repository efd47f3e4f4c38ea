//! CBOR (RFC 8949) with limits.
//!
//! Whatever is read is walked over (`cbor/shape.rs`) first: definite lengths that the input really holds, no tags, nesting of at
//! most [`crate::limit::MAX_DEPTH`], nothing behind the one item. So no number in the input makes the reader reserve memory
//! that the input does not pay for: reading `n` bytes allocates at most [`ALLOCATION_FACTOR`]` * n + `[`ALLOCATION_BASE_BYTES`].
//!
//! Carried messages use serde with text keys and ignore fields that they do not know. Signed and hashed things use
//! [`Fields`]: integer keys in ascending order, nothing unknown, no floats; and [`from_canonical`] encodes what it read
//! again and compares, so that one meaning has one spelling.

mod bytes;
mod fields;
mod shape;
mod wire;

pub use bytes::Bytes;
pub use fields::{Fields, FieldsWriter};
pub use wire::{Coded, Wire};

pub use ciborium::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes allocated (alive at once) for each byte read: a tree node of 32 bytes for a one-byte item, doubled while its
/// vector grows, doubled again while it moves, plus the thing itself. Held by `tests/allocation.rs`.
pub const ALLOCATION_FACTOR: usize = 160;

/// Bytes allocated on top, whatever the input: error texts and the first growth of small vectors, and what serde may
/// reserve for a vector of large elements before it has seen them (1 MiB, its own bound).
pub const ALLOCATION_BASE_BYTES: usize = 1024 * 1024 + 16 * 1024;

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than this kind of thing may be.
    #[error("{length} bytes are more than the {limit} allowed")]
    TooLong {
        /// Bytes given.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Nested deeper than anything of ours.
    #[error("nested deeper than {} levels", crate::limit::MAX_DEPTH)]
    TooDeep,
    /// Not CBOR, or a part of it that we do not use (tags, indefinite lengths).
    #[error("not the CBOR that we read: {problem} at byte {at}")]
    Malformed {
        /// What is wrong.
        problem: &'static str,
        /// Where, from 0.
        at: usize,
    },
    /// CBOR, but another thing than expected.
    #[error("{0}")]
    Content(String),
    /// The right thing in another spelling than the one that is signed.
    #[error("not in the one canonical encoding")]
    NotCanonical,
}

impl DecodeError {
    /// An error about what the CBOR says: `problem` reads as a sentence that names the field.
    pub fn content(problem: impl Into<String>) -> Self {
        Self::Content(problem.into())
    }
}

/// A thing that is signed or hashed: it has one encoding, a domain and a largest size.
pub trait Signed: Wire {
    /// Says what a signature is about, so that it is worth nothing for another kind of thing. The external AAD.
    const DOMAIN: &'static str;
    /// Largest encoding in bytes.
    const MAX_BYTES: usize;
}

/// Encodes a carried message.
///
/// # Panics
/// When a `Serialize` of ours refuses its own value, which none does; memory does not fail to take bytes.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    match ciborium::into_writer(value, &mut bytes) {
        Ok(()) => bytes,
        Err(error) => unreachable!("a value of ours refused to be encoded: {error}"),
    }
}

/// Decodes a carried message of at most `max_bytes`.
///
/// # Errors
/// When it is longer, deeper than [`crate::limit::MAX_DEPTH`], not CBOR, another message, or followed by anything.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], max_bytes: usize) -> Result<T, DecodeError> {
    if bytes.len() > max_bytes {
        return Err(DecodeError::TooLong { length: bytes.len(), limit: max_bytes });
    }
    shape::check(bytes)?;
    // The shape bounds the depth; serde spends up to three of its levels on one of CBOR's.
    let depth = 4 * crate::limit::MAX_DEPTH;
    ciborium::de::from_reader_with_recursion_limit(bytes, depth).map_err(|error| reason(&error))
}

/// The one encoding of a signed or hashed thing.
#[must_use]
pub fn to_canonical<T: Signed>(value: &T) -> Vec<u8> {
    encode(&value.to_value())
}

/// Reads a signed or hashed thing, and refuses every spelling but [`to_canonical`]'s.
///
/// # Errors
/// When it is too long, malformed, another thing, or not canonical.
pub fn from_canonical<T: Signed>(bytes: &[u8]) -> Result<T, DecodeError> {
    let value = T::from_value(decode(bytes, T::MAX_BYTES)?)?;
    if to_canonical(&value) == bytes { Ok(value) } else { Err(DecodeError::NotCanonical) }
}

fn reason<E: std::fmt::Debug>(error: &ciborium::de::Error<E>) -> DecodeError {
    match error {
        ciborium::de::Error::Io(_) => DecodeError::Malformed { problem: "ends too early", at: 0 },
        ciborium::de::Error::Syntax(at) => DecodeError::Malformed { problem: "bad syntax", at: *at },
        ciborium::de::Error::Semantic(_, problem) => DecodeError::content(shorten(problem)),
        ciborium::de::Error::RecursionLimitExceeded => DecodeError::TooDeep,
    }
}

/// Foreign texts may repeat the whole input: keep what a line of a log can hold.
fn shorten(problem: &str) -> String {
    const SHOWN_CHARS: usize = 200;
    problem.chars().take(SHOWN_CHARS).collect()
}

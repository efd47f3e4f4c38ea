//! The signed envelope: `[payload, [+ signature], nil]`, each signature a detached COSE_Sign1 (RFC 9052) with Ed25519.
//!
//! ```text
//! envelope  = [ payload: bstr, [ + [ protected: bstr, {}, nil, signature: bstr ] ], nil ]
//! protected = { 1: -19 (Ed25519, RFC 9864), 4: key id (8 bytes) }
//! signed    = [ "Signature1", protected, domain: bstr, payload ]
//! ```
//!
//! The domain is the external AAD: a signature under a manifest is worth nothing under an assignment. The received bytes
//! are signed and hashed, never re-encoded ones. Signatures stand in ascending order of key id, each key once. A key that
//! the role does not list counts for nothing, so that old and new keys can both sign while keys are exchanged; what a
//! listed key signed must verify. The third place is for a proof of the registry's log, and empty for now.

use crate::cbor::{self, DecodeError, Fields, FieldsWriter, Signed, Value, Wire};
use crate::id::Digest;
use crate::key::{KeyId, KeySet, PublicKey, SigningKey};
use crate::limit::{MAX_ENVELOPE_OVERHEAD_BYTES, MAX_SIGNATURES};

/// COSE algorithm of Ed25519, fully specified (RFC 9864).
const ALGORITHM: i64 = -19;
const HEADER_ALGORITHM: u8 = 1;
const HEADER_KEY_ID: u8 = 4;

/// Why an envelope is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Longer than such a thing may be.
    #[error("{length} bytes are more than the {limit} allowed")]
    TooLong {
        /// Bytes given.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Not an envelope.
    #[error("not a signed envelope: {0}")]
    Malformed(DecodeError),
    /// Properly signed, but the payload is not such a thing.
    #[error("the signed payload is not what it should be: {0}")]
    Payload(DecodeError),
    /// The right things in another spelling.
    #[error("not in the one canonical encoding")]
    NotCanonical,
    /// Nobody whom the role lists has signed.
    #[error("signed by {0}, whom the role does not list")]
    UnknownKey(KeyId),
    /// A listed key's signature does not belong to this payload and this kind of thing.
    #[error("the signature of key {0} does not match")]
    BadSignature(KeyId),
    /// One key has signed twice.
    #[error("key {0} has signed twice")]
    DuplicateKey(KeyId),
    /// Too few listed keys have signed.
    #[error("{have} of the {need} signatures needed")]
    BelowThreshold {
        /// Distinct listed keys whose signature matches.
        have: usize,
        /// Signatures that the role asks for.
        need: usize,
    },
}

/// What was in an envelope that is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened<T> {
    /// The thing.
    pub value: T,
    /// SHA-256 of the payload bytes: the thing's name wherever it is referred to.
    pub digest: Digest,
}

/// Signs `value` with each of `keys` (1 to [`MAX_SIGNATURES`]).
#[must_use]
pub fn seal<T: Signed>(value: &T, keys: &[&SigningKey]) -> Vec<u8> {
    seal_bytes(cbor::to_canonical(value), T::DOMAIN, keys)
}

fn seal_bytes(payload: Vec<u8>, domain: &str, keys: &[&SigningKey]) -> Vec<u8> {
    let mut signatures: Vec<Signature> = keys.iter().map(|key| Signature::make(key, domain, &payload)).collect();
    signatures.sort_by_key(|signature| signature.key);
    signatures.dedup_by_key(|signature| signature.key);
    Envelope { payload, signatures }.encode()
}

/// Verifies an envelope under `role` and reads what is in it. The payload is not parsed before it is believed.
///
/// # Errors
/// Says which rule is broken.
pub fn open<T: Signed>(bytes: &[u8], role: &KeySet) -> Result<Opened<T>, EnvelopeError> {
    let envelope = Envelope::decode(bytes, T::MAX_BYTES)?;
    envelope.verify(T::DOMAIN, role)?;
    let value = cbor::from_canonical(&envelope.payload).map_err(payload_error)?;
    Ok(Opened { value, digest: Digest::of(&envelope.payload) })
}

/// The digest of an envelope's payload, and nothing about whether to believe it.
///
/// # Errors
/// When it is no envelope.
pub fn digest_of_payload(bytes: &[u8]) -> Result<Digest, EnvelopeError> {
    Ok(Digest::of(&Envelope::decode(bytes, bytes.len())?.payload))
}

/// The thing in an envelope, and nothing about whether to believe it: for showing what was refused.
///
/// # Errors
/// When it is no envelope of such a thing.
pub fn peek<T: Signed>(bytes: &[u8]) -> Result<T, EnvelopeError> {
    cbor::from_canonical(&Envelope::decode(bytes, T::MAX_BYTES)?.payload).map_err(payload_error)
}

/// Who has signed, and nothing about whether to believe it.
///
/// # Errors
/// When it is no envelope.
pub fn signers(bytes: &[u8]) -> Result<Vec<KeyId>, EnvelopeError> {
    let envelope = Envelope::decode(bytes, bytes.len())?;
    Ok(envelope.signatures.iter().map(|signature| signature.key).collect())
}

fn payload_error(error: DecodeError) -> EnvelopeError {
    match error {
        DecodeError::NotCanonical => EnvelopeError::NotCanonical,
        DecodeError::TooLong { length, limit } => EnvelopeError::TooLong { length, limit },
        DecodeError::TooDeep | DecodeError::Malformed { .. } | DecodeError::Content(_) => EnvelopeError::Payload(error),
    }
}

struct Envelope {
    payload: Vec<u8>,
    signatures: Vec<Signature>,
}

impl Envelope {
    fn encode(&self) -> Vec<u8> {
        let signatures = self.signatures.iter().map(Signature::to_value).collect();
        let payload = Value::Bytes(self.payload.clone());
        cbor::encode(&Value::Array(vec![payload, Value::Array(signatures), Value::Null]))
    }

    fn decode(bytes: &[u8], max_payload_bytes: usize) -> Result<Self, EnvelopeError> {
        let limit = max_payload_bytes.saturating_add(MAX_ENVELOPE_OVERHEAD_BYTES);
        if bytes.len() > limit {
            return Err(EnvelopeError::TooLong { length: bytes.len(), limit });
        }
        let value: Value = cbor::decode(bytes, limit).map_err(EnvelopeError::Malformed)?;
        let envelope = Self::from_value(value).map_err(EnvelopeError::Malformed)?;
        envelope.signatures_in_order()?;
        if envelope.encode() == bytes { Ok(envelope) } else { Err(EnvelopeError::NotCanonical) }
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let [payload, signatures, proof] = parts(value, "the envelope")?;
        let payload = payload.into_bytes().map_err(|_| DecodeError::content("the payload is no byte string"))?;
        let signatures = signatures.into_array().map_err(|_| DecodeError::content("the signatures are no array"))?;
        if signatures.is_empty() || signatures.len() > MAX_SIGNATURES {
            return Err(DecodeError::content(format!("{} signatures, not 1 to {MAX_SIGNATURES}", signatures.len())));
        }
        if !proof.is_null() {
            return Err(DecodeError::content("the place of the proof is not empty"));
        }
        let signatures = signatures.into_iter().map(Signature::from_value).collect::<Result<_, _>>()?;
        Ok(Self { payload, signatures })
    }

    fn signatures_in_order(&self) -> Result<(), EnvelopeError> {
        for pair in self.signatures.windows(2) {
            match pair[0].key.cmp(&pair[1].key) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Err(EnvelopeError::DuplicateKey(pair[0].key)),
                std::cmp::Ordering::Greater => return Err(EnvelopeError::NotCanonical),
            }
        }
        Ok(())
    }

    /// Keys are distinct here, so counting signatures counts keys.
    fn verify(&self, domain: &str, role: &KeySet) -> Result<(), EnvelopeError> {
        let mut have = 0;
        for signature in &self.signatures {
            if let Some(key) = role.find(signature.key) {
                signature.verify(key, domain, &self.payload)?;
                have += 1;
            }
        }
        let need = usize::from(role.threshold).max(1);
        match self.signatures.first() {
            Some(first) if have == 0 => Err(EnvelopeError::UnknownKey(first.key)),
            _ if have < need => Err(EnvelopeError::BelowThreshold { have, need }),
            _ => Ok(()),
        }
    }
}

struct Signature {
    key: KeyId,
    bytes: [u8; 64],
}

impl Signature {
    fn make(key: &SigningKey, domain: &str, payload: &[u8]) -> Self {
        let id = key.public().id();
        Self { key: id, bytes: key.sign(&to_be_signed(id, domain, payload)) }
    }

    fn verify(&self, key: &PublicKey, domain: &str, payload: &[u8]) -> Result<(), EnvelopeError> {
        let message = to_be_signed(self.key, domain, payload);
        if key.verifies(&message, &self.bytes) { Ok(()) } else { Err(EnvelopeError::BadSignature(self.key)) }
    }

    fn to_value(&self) -> Value {
        let signature = Value::from(&self.bytes[..]);
        Value::Array(vec![Value::Bytes(protected(self.key)), Value::Map(Vec::new()), Value::Null, signature])
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let [headers, unprotected, payload, signature] = parts(value, "a signature")?;
        if unprotected.as_map().is_none_or(|map| !map.is_empty()) || !payload.is_null() {
            return Err(DecodeError::content("a signature has unprotected headers or a payload of its own"));
        }
        let headers = headers.into_bytes().map_err(|_| DecodeError::content("protected headers are no byte string"))?;
        let key = key_of(&headers)?;
        let bytes = signature.into_bytes().ok().and_then(|bytes| bytes.try_into().ok());
        let bytes = bytes.ok_or_else(|| DecodeError::content("a signature is no byte string of 64"))?;
        Ok(Self { key, bytes })
    }
}

/// The protected headers of a signature by `key`.
fn protected(key: KeyId) -> Vec<u8> {
    cbor::encode(&FieldsWriter::new().with(HEADER_ALGORITHM, &ALGORITHM).with(HEADER_KEY_ID, &key).end())
}

/// The key that protected headers name. That they are canonical shows when the envelope is encoded again.
fn key_of(protected: &[u8]) -> Result<KeyId, DecodeError> {
    let value = cbor::decode(protected, protected.len())?;
    let mut headers = Fields::of("protected headers", value)?;
    let algorithm: i64 = headers.required(HEADER_ALGORITHM, "algorithm")?;
    if algorithm != ALGORITHM {
        return Err(DecodeError::content(format!("algorithm {algorithm} is not Ed25519 ({ALGORITHM})")));
    }
    let key = headers.required(HEADER_KEY_ID, "key id")?;
    headers.end()?;
    Ok(key)
}

impl Wire for KeyId {
    fn to_value(&self) -> Value {
        Value::from(&self.as_bytes()[..])
    }

    fn from_value(value: Value) -> Result<Self, DecodeError> {
        let bytes = value.into_bytes().ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self::from_bytes).ok_or_else(|| DecodeError::content("not a byte string of 8"))
    }
}

/// The `Sig_structure` of RFC 9052, section 4.4.
fn to_be_signed(key: KeyId, domain: &str, payload: &[u8]) -> Vec<u8> {
    cbor::encode(&Value::Array(vec![
        Value::from("Signature1"),
        Value::Bytes(protected(key)),
        Value::from(domain.as_bytes()),
        Value::from(payload),
    ]))
}

fn parts<const N: usize>(value: Value, what: &str) -> Result<[Value; N], DecodeError> {
    let parts = value.into_array().ok().and_then(|items| items.try_into().ok());
    parts.ok_or_else(|| DecodeError::content(format!("{what} is no array of {N}")))
}

//! Ed25519 keys (by ring), the sets of them that make a role, and the file that says whom a device trusts.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::id::Digest;
use crate::limit::MAX_SIGNATURES;
use crate::settings::{self, SettingsError};

/// A key that is not what it should be. It never repeats what it read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The machine gave no random numbers.
    #[error("the system gave no random numbers")]
    NoRandomness,
    /// Not an Ed25519 private key.
    #[error("not an Ed25519 private key in PKCS#8: {0}")]
    Private(String),
    /// Not a public key's text.
    #[error("not a public key: write ed25519: and the base64 of 32 bytes")]
    Public,
    /// A role that nobody, or anybody, could fill.
    #[error("{0}")]
    Role(String),
}

/// A private key. It is not cloned, not printed and not serialized.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    const PEM_BEGIN: &'static str = "-----BEGIN PRIVATE KEY-----";
    const PEM_END: &'static str = "-----END PRIVATE KEY-----";

    /// A new key, and its PKCS#8 bytes (DER) to be kept secret.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn generate() -> Result<(Self, Vec<u8>), KeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::NoRandomness)?;
        let key = Self::from_pkcs8(document.as_ref())?;
        Ok((key, document.as_ref().to_vec()))
    }

    /// Reads PKCS#8 (DER), version 2 as [`Self::generate`] writes it or version 1 as OpenSSL does.
    ///
    /// # Errors
    /// When it is no Ed25519 key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map(Self).map_err(|error| KeyError::Private(error.to_string()))
    }

    /// The PEM text of PKCS#8 bytes: what a key file holds.
    #[must_use]
    pub fn pem(der: &[u8]) -> String {
        format!("{}\n{}\n{}\n", Self::PEM_BEGIN, STANDARD.encode(der), Self::PEM_END)
    }

    /// Reads the text of a key file as [`Self::pem`] or OpenSSL writes it.
    ///
    /// # Errors
    /// When it is no PEM text of an Ed25519 key.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let inner = text.trim().strip_prefix(Self::PEM_BEGIN).and_then(|rest| rest.strip_suffix(Self::PEM_END));
        let inner =
            inner.ok_or_else(|| KeyError::Private("no BEGIN PRIVATE KEY and END PRIVATE KEY around it".into()))?;
        let base64: String = inner.split_ascii_whitespace().collect();
        let der = STANDARD.decode(base64).map_err(|error| KeyError::Private(format!("not base64: {error}")))?;
        Self::from_pkcs8(&der)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(bytes)
    }

    /// The 64 bytes of an Ed25519 signature over `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.0.sign(message).as_ref());
        bytes
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

/// A public key, written `ed25519:<base64>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    const PREFIX: &'static str = "ed25519:";

    /// The key of these raw bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What a signature names it by.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let mut id = [0; 8];
        id.copy_from_slice(&Digest::of(&self.0).as_bytes()[..8]);
        KeyId(id)
    }

    /// Whether `signature` over `message` was made with the private half.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let base64 = text.strip_prefix(Self::PREFIX).ok_or(KeyError::Public)?;
        let bytes = STANDARD.decode(base64).map_err(|_| KeyError::Public)?;
        bytes.try_into().map(Self).map_err(|_| KeyError::Public)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", Self::PREFIX, STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The first 8 bytes of the SHA-256 of a raw public key, written as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// The id of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The 8 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A role: the keys that may sign for it, and how many of them must.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawKeySet")]
pub struct KeySet {
    /// How many distinct keys must sign, from 1 to the number of keys.
    pub threshold: u8,
    /// The keys, 1 to [`MAX_SIGNATURES`], each once.
    pub keys: Vec<PublicKey>,
}

impl KeySet {
    /// A role that `key` alone fills.
    #[must_use]
    pub fn single(key: PublicKey) -> Self {
        Self { threshold: 1, keys: vec![key] }
    }

    /// # Errors
    /// When nobody or anybody could fill the role: no key, a key twice, a threshold of 0 or above the number of keys.
    pub fn check(&self) -> Result<(), KeyError> {
        let count = self.keys.len();
        if count == 0 || count > MAX_SIGNATURES {
            return Err(KeyError::Role(format!("a role has 1 to {MAX_SIGNATURES} keys, not {count}")));
        }
        if self.threshold == 0 || usize::from(self.threshold) > count {
            return Err(KeyError::Role(format!(
                "threshold must be 1 to {count}, the number of keys, not {}",
                self.threshold
            )));
        }
        let mut ids: Vec<KeyId> = self.keys.iter().map(PublicKey::id).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() < count { Err(KeyError::Role("a key is listed twice".into())) } else { Ok(()) }
    }

    /// The key that a signature names.
    #[must_use]
    pub fn find(&self, id: KeyId) -> Option<&PublicKey> {
        self.keys.iter().find(|key| key.id() == id)
    }
}

/// A role as it is read, before [`KeySet::check`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKeySet {
    threshold: u8,
    keys: Vec<PublicKey>,
}

impl TryFrom<RawKeySet> for KeySet {
    type Error = KeyError;

    fn try_from(raw: RawKeySet) -> Result<Self, KeyError> {
        let set = Self { threshold: raw.threshold, keys: raw.keys };
        set.check()?;
        Ok(set)
    }
}

/// Whom a device believes: `models` says what is genuine, `fleet` what it should run. A model runs only if both agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Signs manifests.
    pub models: KeySet,
    /// Signs assignments.
    pub fleet: KeySet,
}

impl Trust {
    /// Reads `trust.toml`.
    ///
    /// # Errors
    /// When it is no TOML, has an unknown key, or a role that nobody or anybody could fill.
    pub fn from_toml(text: &str) -> Result<Self, SettingsError> {
        settings::from_toml(text, "trust.toml")
    }

    /// Writes `trust.toml`.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let role = |name: &str, set: &KeySet| {
            let keys: Vec<String> = set.keys.iter().map(|key| format!("  \"{key}\",\n")).collect();
            format!("[{name}]\nthreshold = {}\nkeys = [\n{}]\n", set.threshold, keys.concat())
        };
        format!("{}\n{}", role("models", &self.models), role("fleet", &self.fleet))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// RFC 8032, section 7.1, test 1.
    const PUBLIC: [u8; 32] = [
        0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e, 0xe1,
        0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
    ];

    #[test]
    fn a_key_file_reads_back_as_the_same_key() {
        let (key, der) = SigningKey::generate().unwrap();
        assert_eq!(SigningKey::from_pkcs8(&der).unwrap().public(), key.public());
        assert_eq!(SigningKey::from_pem(&SigningKey::pem(&der)).unwrap().public(), key.public());
        assert!(SigningKey::from_pkcs8(&der[1..]).is_err());
        assert!(SigningKey::from_pem("-----BEGIN PRIVATE KEY-----").is_err());
    }

    #[test]
    fn a_private_key_is_never_printed() {
        let (key, der) = SigningKey::generate().unwrap();
        let shown = format!("{key:?}");
        assert_eq!(shown, format!("SigningKey({})", key.public().id()));
        let error = SigningKey::from_pkcs8(&der[..40]).unwrap_err().to_string();
        assert!(!error.contains(&STANDARD.encode(&der[..12])));
    }

    #[test]
    fn a_public_key_has_one_text() {
        let key = PublicKey::from_bytes(PUBLIC);
        assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
        for bad in ["", "ed25519:", "ed25519:AAAA", &key.to_string()[8..], &format!("{key}=")] {
            assert_eq!(bad.parse::<PublicKey>(), Err(KeyError::Public), "{bad}");
        }
    }

    #[test]
    fn a_role_that_nobody_or_anybody_fills_is_refused() {
        let key = PublicKey::from_bytes(PUBLIC);
        assert!(KeySet::single(key).check().is_ok());
        for (threshold, keys) in [(0, vec![key]), (2, vec![key]), (1, vec![]), (2, vec![key, key])] {
            assert!(KeySet { threshold, keys }.check().is_err());
        }
    }

    #[test]
    fn trust_reads_back_what_it_writes_and_names_the_line_of_a_mistake() {
        let key = PublicKey::from_bytes(PUBLIC);
        let trust = Trust { models: KeySet::single(key), fleet: KeySet::single(key) };
        let text = trust.to_toml();
        assert_eq!(Trust::from_toml(&text).unwrap(), trust);
        let error = Trust::from_toml(&text.replacen("threshold = 1", "threshold = 0", 1)).unwrap_err().to_string();
        assert!(error.contains("models") && error.contains("threshold must be 1 to 1"), "{error}");
        let error = Trust::from_toml(&text.replace("[fleet]", "[fleets]")).unwrap_err().to_string();
        assert!(error.contains("trust.toml:7") && error.contains("`fleet`"), "{error}");
    }
}

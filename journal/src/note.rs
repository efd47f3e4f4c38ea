//! Signed notes: a text with signatures under it, as C2SP *signed-note* defines them, and the keys that sign.
//!
//! A note is a text that ends in a newline, an empty line, and one line a signature:
//! `— <key name> <base64 of key id and signature>`. The key id is the first four bytes of
//! SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key), 0x01 being Ed25519. Notes come from outside: parsing takes hostile text, is
//! bounded in length and count, and what a note says is believed only after its signature.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

/// Longest note that is read: a checkpoint is some 250 bytes, sixteen signatures more are some 2,600.
pub const NOTE_BYTES_MAX: usize = 4096;

/// Most signatures that a note may have.
pub const NOTE_SIGNATURES_MAX: usize = 16;

/// The kind of signature in a key id: Ed25519.
const TYPE_ED25519: u8 = 1;
const KEY_ID_BYTES: usize = 4;
const SIGNATURE_MARK: &str = "\u{2014} ";

/// Why a note isn't believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// It is not a signed note, or not one with a checkpoint in it.
    #[error("couldn't read the checkpoint: {why}")]
    Malformed {
        /// What is wrong with it.
        why: &'static str,
    },
    /// No signature is by this key under this name; others don't count.
    #[error("couldn't believe the checkpoint of {origin}: it has no signature by the key {key}")]
    NoSignature {
        /// Who the note says it is from.
        origin: String,
        /// The key that it should be signed with.
        key: PublicKey,
    },
    /// A signature that claims to be by this key is not.
    #[error("couldn't believe the checkpoint of {origin}: its signature is not by the key {key} that it names")]
    BadSignature {
        /// Who the note says it is from.
        origin: String,
        /// The key that it claims.
        key: PublicKey,
    },
}

fn malformed(why: &'static str) -> NoteError {
    NoteError::Malformed { why }
}

/// An Ed25519 public key. Shown and parsed as the base64 of its 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// A text that is not a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a public key: the base64 of 32 bytes is expected")]
pub struct NotAKey;

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl FromStr for PublicKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let mut key = [0; 32];
        match STANDARD.decode_slice(text, &mut key) {
            Ok(32) => Ok(Self(key)),
            Ok(_) | Err(_) => Err(NotAKey),
        }
    }
}

impl PublicKey {
    /// What names this key in a signature under `name`: a hint to find the key by, no proof of anything.
    pub fn id(&self, name: &str) -> [u8; KEY_ID_BYTES] {
        let mut context = Context::new(&SHA256);
        context.update(name.as_bytes());
        context.update(&[b'\n', TYPE_ED25519]);
        context.update(&self.0);
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&context.finish().as_ref()[..KEY_ID_BYTES]);
        id
    }

    fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(text.as_bytes(), signature).is_ok()
    }
}

/// An Ed25519 key that signs. It never shows its secret.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// The system had no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("couldn't make a signing key: the system gave no random bytes")]
pub struct NoRandom;

impl SigningKey {
    /// The key that this seed makes, always the same one.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let Ok(pair) = Ed25519KeyPair::from_seed_unchecked(seed) else {
            unreachable!("any 32 bytes are the seed of an Ed25519 key");
        };
        let mut public = [0; 32];
        public.copy_from_slice(pair.public_key().as_ref());
        Self { pair, public: PublicKey(public) }
    }

    /// A new key, and the seed to keep.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate() -> Result<(Self, [u8; 32]), NoRandom> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| NoRandom)?;
        Ok((Self::from_seed(&seed), seed))
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The note of `text` with this key's signature as `name`. The text ends in a newline and the name has neither
    /// spaces nor a plus sign; else nobody will read the note.
    pub(crate) fn note(&self, text: &str, name: &str) -> String {
        let mut signature = self.public.id(name).to_vec();
        signature.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        format!("{text}\n{SIGNATURE_MARK}{name} {}\n", STANDARD.encode(signature))
    }
}

/// A note taken apart; nothing of it is believed yet.
#[derive(Debug)]
pub(crate) struct Note<'a> {
    /// What is signed.
    pub(crate) text: &'a str,
    signatures: Vec<Signature<'a>>,
}

#[derive(Debug)]
struct Signature<'a> {
    name: &'a str,
    id: [u8; KEY_ID_BYTES],
    bytes: Vec<u8>,
}

impl<'a> Note<'a> {
    pub(crate) fn parse(note: &'a str) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(malformed("it is longer than 4096 bytes"));
        }
        if note.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return Err(malformed("it has control characters"));
        }
        // The text ends with the first of these two newlines.
        let Some(end) = note.rfind("\n\n") else {
            return Err(malformed("no empty line stands before its signatures"));
        };
        let (text, signatures) = (&note[..=end], &note[end + 2..]);
        let Some(signatures) = signatures.strip_suffix('\n') else {
            return Err(malformed("no signature with a newline stands at its end"));
        };
        let signatures: Vec<_> =
            signatures.split('\n').take(NOTE_SIGNATURES_MAX + 1).map(Signature::parse).collect::<Result<_, _>>()?;
        if signatures.len() > NOTE_SIGNATURES_MAX {
            return Err(malformed("it has more than 16 signatures"));
        }
        Ok(Self { text, signatures })
    }

    /// Checks the signature by `key` as `name`. Signatures by others are neither believed nor minded.
    pub(crate) fn verify(&self, name: &str, key: &PublicKey) -> Result<(), NoteError> {
        let id = key.id(name);
        let mut found = false;
        for signature in self.signatures.iter().filter(|signature| signature.name == name && signature.id == id) {
            if !key.verifies(self.text, &signature.bytes) {
                return Err(NoteError::BadSignature { origin: name.to_owned(), key: *key });
            }
            found = true;
        }
        if found { Ok(()) } else { Err(NoteError::NoSignature { origin: name.to_owned(), key: *key }) }
    }
}

impl<'a> Signature<'a> {
    fn parse(line: &'a str) -> Result<Self, NoteError> {
        let parts = line.strip_prefix(SIGNATURE_MARK).and_then(|rest| rest.split_once(' '));
        let Some((name, encoded)) = parts else {
            return Err(malformed("a signature is not a dash, a name and base64"));
        };
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '+') {
            return Err(malformed("a signature's name is not a key name"));
        }
        let Ok(bytes) = STANDARD.decode(encoded) else {
            return Err(malformed("a signature is not base64"));
        };
        match bytes.split_first_chunk() {
            Some((id, signature)) if !signature.is_empty() => Ok(Self { name, id: *id, bytes: signature.to_vec() }),
            Some(_) | None => Err(malformed("a signature is shorter than a key id")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    // The published pair and note of Go's golang.org/x/mod/sumdb/note, from which the format comes.
    const SEED: &str = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const PUBLIC: &str = "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const NAME: &str = "PeterNeumann";
    const TEXT: &str =
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    const SIGNATURE: &str =
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";

    /// The 32 bytes behind the type byte.
    fn bytes(text: &str) -> [u8; 32] {
        STANDARD.decode(text).unwrap()[1..].try_into().unwrap()
    }

    fn published() -> String {
        format!("{TEXT}\n\u{2014} {NAME} {SIGNATURE}\n")
    }

    #[test]
    fn the_published_key_signs_the_published_note() {
        let key = SigningKey::from_seed(&bytes(SEED));
        assert_eq!(key.public(), PublicKey(bytes(PUBLIC)));
        assert_eq!(key.public().id(NAME), [0xc7, 0x4f, 0x20, 0xa3]);
        assert_eq!(key.note(TEXT, NAME), published());
    }

    #[test]
    fn the_published_note_is_believed_and_no_altered_one_is() {
        let key = PublicKey(bytes(PUBLIC));
        let note = published();
        let parsed = Note::parse(&note).unwrap();
        assert_eq!(parsed.text, TEXT);
        parsed.verify(NAME, &key).unwrap();
        for at in 0..note.len() {
            for altered in [b'A', b'\n', b' ', b'1'] {
                let mut bytes = note.clone().into_bytes();
                bytes[at] = if bytes[at] == altered { b'x' } else { altered };
                let believed = String::from_utf8(bytes)
                    .is_ok_and(|text| Note::parse(&text).and_then(|note| note.verify(NAME, &key)).is_ok());
                assert!(!believed, "byte {at} as {altered}");
            }
        }
    }

    #[test]
    fn signatures_by_others_are_not_minded_and_a_false_one_by_the_key_is() {
        let (ours, theirs) = (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]));
        let line = |note: &str| note.rsplit_once("\n\n").unwrap().1.to_owned();
        let (by_us, by_them) = (ours.note("text\n", "us"), theirs.note("text\n", "them"));
        let both = format!("text\n\n{}{}", line(&by_them), line(&by_us));
        Note::parse(&both).unwrap().verify("us", &ours.public()).unwrap();
        Note::parse(&both).unwrap().verify("them", &theirs.public()).unwrap();
        let origin = "us".to_owned();
        let missing = Note::parse(&by_them).unwrap().verify("us", &ours.public());
        assert_eq!(missing, Err(NoteError::NoSignature { origin: origin.clone(), key: ours.public() }));
        let false_one = format!("{by_us}{}", line(&ours.note("other\n", "us")));
        let believed = Note::parse(&false_one).unwrap().verify("us", &ours.public());
        assert_eq!(believed, Err(NoteError::BadSignature { origin, key: ours.public() }));
    }

    #[test]
    fn what_is_not_a_note_is_named() {
        let line = format!("\u{2014} {NAME} {SIGNATURE}\n");
        let long = "x".repeat(NOTE_BYTES_MAX);
        for (text, why) in [
            (String::new(), "no empty line"),
            ("text\n".to_owned(), "no empty line"),
            ("text\n\n".to_owned(), "no signature"),
            (format!("text\n\n{}", line.trim_end()), "no signature"),
            (format!("text\n\n{line}more\n"), "not a dash"),
            (format!("text\n\n- {NAME} {SIGNATURE}\n"), "not a dash"),
            (format!("text\n\n\u{2014} {SIGNATURE}\n"), "not a dash"),
            (format!("text\n\n\u{2014} a+b {SIGNATURE}\n"), "not a key name"),
            (format!("text\n\n\u{2014} a\u{3000}b {SIGNATURE}\n"), "not a key name"),
            (format!("text\n\n\u{2014} {NAME} !\n"), "not base64"),
            (format!("text\n\n\u{2014} {NAME} AAAAAA==\n"), "shorter"),
            (format!("te\rxt\n\n{line}"), "control"),
            (format!("{long}\n\n{line}"), "longer"),
            (format!("text\n\n{}", "\u{2014} a AAAAAAA=\n".repeat(17)), "more than 16"),
        ] {
            let found = Note::parse(&text).map(|_| ()).unwrap_err().to_string();
            assert!(found.contains(why), "{text:?}: {found}");
        }
    }

    #[test]
    fn public_keys_come_back_from_their_text_and_other_texts_do_not() {
        let key = SigningKey::from_seed(&[3; 32]).public();
        assert_eq!(key.to_string().parse(), Ok(key));
        for wrong in ["", "AAAA", PUBLIC, &STANDARD.encode([0; 31]), &"A".repeat(4000), "not base64"] {
            assert_eq!(wrong.parse::<PublicKey>(), Err(NotAKey), "{wrong}");
        }
    }
}

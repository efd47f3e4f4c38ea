//! Checkpoints: what a log was when somebody signed it, as C2SP *tlog-checkpoint* in a signed note.
//!
//! Three lines: the origin (which log this is, and the name of its key), the number of records in decimal, the Merkle
//! root over them in base64. Ed25519 signs the same text always the same way, so one size and root have one note.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::merkle::Hash;
use crate::note::{Note, NoteError, PublicKey, SigningKey};

/// What a log says about itself: it has had `size` records, and `root` is over just those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: no spaces, no plus sign, not empty.
    pub origin: String,
    /// Records in the log.
    pub size: u64,
    /// Merkle root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The checkpoint as a note signed with `key` in the origin's name.
    pub fn sign(&self, key: &SigningKey) -> String {
        key.note(&self.body(), &self.origin)
    }

    /// The checkpoint in a note that `key` signed.
    ///
    /// # Errors
    /// When the note is malformed, has no signature by this key, or a false one.
    pub fn open(note: &str, key: &PublicKey) -> Result<Self, NoteError> {
        let note = Note::parse(note)?;
        let checkpoint = Self::parse(note.text)?;
        note.verify(&checkpoint.origin, key)?;
        Ok(checkpoint)
    }

    /// The checkpoint in a note, whoever wrote it.
    ///
    /// # Errors
    /// When the note is malformed.
    pub fn read_unverified(note: &str) -> Result<Self, NoteError> {
        Self::parse(Note::parse(note)?.text)
    }

    /// The text that is signed.
    fn body(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0))
    }

    fn parse(body: &str) -> Result<Self, NoteError> {
        let malformed = |why| Err(NoteError::Malformed { why });
        let mut lines = body.strip_suffix('\n').unwrap_or(body).split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return malformed("it is not an origin, a size and a root");
        };
        if origin.is_empty() || origin.contains(|c: char| c.is_whitespace() || c == '+') {
            return malformed("its origin is not a key name");
        }
        let Some(size) = decimal(size) else {
            return malformed("its size is not a number");
        };
        let mut hash = [0; 32];
        if STANDARD.decode_slice(root, &mut hash) != Ok(hash.len()) {
            return malformed("its root is not the base64 of 32 bytes");
        }
        // Lines behind these are other people's extensions: signed with the rest, and nothing to us.
        if lines.any(str::is_empty) {
            return malformed("it has an empty line");
        }
        Ok(Self { origin: origin.to_owned(), size, root: Hash(hash) })
    }
}

/// A number as it is written in one way only: digits, and no zero in front.
fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::merkle::leaf;

    fn sample() -> (Checkpoint, SigningKey) {
        let origin = "vedette/pump-7/1234".to_owned();
        (Checkpoint { origin, size: 20_852_163, root: leaf(b"") }, SigningKey::from_seed(&[7; 32]))
    }

    /// Added to, never edited: another text is another signature, and every stored checkpoint would be refused.
    const GOLDEN: &str = "\
vedette/pump-7/1234
20852163
bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=

\u{2014} vedette/pump-7/1234 +iJr0yGT5xAjKN2aUaRartc9AuHV2tk85sm+nItO6wyJ9fSiwoyQ668UalJumxGkbwKkHEft0p6wixTd1NOwPQDMtwE=
";

    #[test]
    fn the_text_of_a_signed_checkpoint_is_pinned() {
        let (checkpoint, key) = sample();
        assert_eq!(checkpoint.sign(&key), GOLDEN);
        assert_eq!(Checkpoint::open(GOLDEN, &key.public()).unwrap(), checkpoint);
        assert_eq!(Checkpoint::read_unverified(GOLDEN).unwrap(), checkpoint);
    }

    #[test]
    fn a_checkpoint_is_believed_from_its_own_key_alone() {
        let (checkpoint, key) = sample();
        let other = SigningKey::from_seed(&[8; 32]).public();
        let refused = Checkpoint::open(&checkpoint.sign(&key), &other);
        assert_eq!(refused, Err(NoteError::NoSignature { origin: checkpoint.origin.clone(), key: other }));
        // Signed by the key, but in another log's name.
        let elsewhere = key.note(&checkpoint.body(), "vedette/pump-8/1234");
        assert!(matches!(Checkpoint::open(&elsewhere, &key.public()), Err(NoteError::NoSignature { .. })));
        // A later size under the old signature.
        let note = checkpoint.sign(&key).replace("20852163", "20852164");
        assert!(matches!(Checkpoint::open(&note, &key.public()), Err(NoteError::BadSignature { .. })));
    }

    #[test]
    fn what_is_signed_and_not_a_checkpoint_is_named() {
        let (_, key) = sample();
        let root = STANDARD.encode([1; 32]);
        for (body, why) in [
            ("x\n".to_owned(), "not an origin"),
            (format!("\n1\n{root}\n"), "key name"),
            (format!("a b\n1\n{root}\n"), "key name"),
            (format!("x\n01\n{root}\n"), "size"),
            (format!("x\n+1\n{root}\n"), "size"),
            (format!("x\n\n{root}\n"), "size"),
            (format!("x\n18446744073709551616\n{root}\n"), "size"),
            (format!("x\n1\n{}\n", STANDARD.encode([1; 31])), "root"),
            (format!("x\n1\n{}\n", STANDARD.encode([1; 33])), "root"),
            (format!("x\n1\n{root}=\n"), "root"),
            (format!("x\n1\n{root}\n\nmore\n"), "empty line"),
        ] {
            let found = Checkpoint::read_unverified(&key.note(&body, "x")).unwrap_err().to_string();
            assert!(found.contains(why), "{body:?}: {found}");
        }
        let largest = Checkpoint { origin: "x".to_owned(), size: u64::MAX, root: leaf(b"") };
        assert_eq!(Checkpoint::open(&largest.sign(&key), &key.public()).unwrap(), largest);
        let extended = key.note(&format!("x\n1\n{root}\nfuture\n"), "x");
        assert_eq!(Checkpoint::open(&extended, &key.public()).unwrap().size, 1);
    }
}

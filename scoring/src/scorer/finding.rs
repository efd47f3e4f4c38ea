//! Findings about signals and models: when they are said, and what they say.

use vedette_protocol::{Cause, Digest, Hasher};

use super::FINDING_REPEAT_ROWS;
use crate::decision::{Decision, Top};

/// When a state that lasts is said: as it begins, as it grows, and now and then.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lasting {
    size: usize,
    rows: u64,
}

impl Lasting {
    /// Takes the size of the state in this row (0 = it is over), says whether this is a row to say it.
    pub(super) fn due(&mut self, size: usize) -> bool {
        let due = size > self.size || (size > 0 && self.rows >= FINDING_REPEAT_ROWS);
        self.rows = if due || size == 0 { 1 } else { self.rows + 1 };
        self.size = size;
        due
    }
}

/// A finding about `columns`.
pub(super) fn found(cause: Cause, columns: &[u16], decision: Decision, values: &[f32]) -> Decision {
    let count = columns.len() as f32;
    let top = Top::of(columns.iter().map(|c| (usize::from(*c), 1.0))).with_values(values);
    Decision { cause, score: count, row_score: count, threshold: 0.0, over: true, alarm: true, top, ..decision }
}

/// The decision with the digest of what it is about.
pub(super) fn with_digest(decision: Decision, seen: &[f32]) -> Decision {
    Decision { input: Some(digest(seen)), ..decision }
}

/// Numbers that are hashed in one piece: 1 KiB on the stack.
const HASH_NUMBERS: usize = 256;

/// SHA-256 of the numbers as f32 little-endian.
fn digest(numbers: &[f32]) -> Digest {
    let mut hasher = Hasher::new();
    let mut bytes = [0; 4 * HASH_NUMBERS];
    for chunk in numbers.chunks(HASH_NUMBERS) {
        for (into, number) in bytes.chunks_exact_mut(4).zip(chunk) {
            into.copy_from_slice(&number.to_le_bytes());
        }
        hasher.update(&bytes[..4 * chunk.len()]);
    }
    hasher.finish()
}

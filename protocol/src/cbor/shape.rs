//! Walks over CBOR without building anything, to know that its lengths are true before somebody believes them.

use super::DecodeError;
use crate::limit::MAX_DEPTH;

const MAJOR_BYTES: u8 = 2;
const MAJOR_TEXT: u8 = 3;
const MAJOR_ARRAY: u8 = 4;
const MAJOR_MAP: u8 = 5;
const MAJOR_TAG: u8 = 6;

/// One item, definite lengths, no tags, at most [`MAX_DEPTH`] arrays or maps inside one another, nothing behind.
pub(super) fn check(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut walk = Walk { bytes, at: 0 };
    // Items still to come on each level; its length is bounded by MAX_DEPTH.
    let mut open: Vec<u64> = Vec::with_capacity(MAX_DEPTH);
    loop {
        let children = walk.item()?;
        if children > 0 {
            if open.len() == MAX_DEPTH {
                return Err(DecodeError::TooDeep);
            }
            open.push(children);
            continue;
        }
        while let Some(left) = open.last_mut() {
            *left -= 1;
            if *left > 0 {
                break;
            }
            open.pop();
        }
        if open.is_empty() {
            return walk.end();
        }
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    /// Steps over one head and its content; answers how many items stand inside it.
    fn item(&mut self) -> Result<u64, DecodeError> {
        let start = self.at;
        let head = self.take(1)?[0];
        let argument = self.argument(head & 0x1f, start)?;
        match head >> 5 {
            MAJOR_BYTES | MAJOR_TEXT => {
                self.take(argument)?;
                Ok(0)
            }
            MAJOR_ARRAY => self.paid(argument, start),
            MAJOR_MAP => self.paid(argument.saturating_mul(2), start),
            MAJOR_TAG => Err(DecodeError::Malformed { problem: "a tag", at: start }),
            // Whole numbers, and the simple values and floats of major type 7: the argument is the value.
            _ => Ok(0),
        }
    }

    /// A count of items is believed only when there is at least a byte for each.
    fn paid(&self, items: u64, start: usize) -> Result<u64, DecodeError> {
        let left = (self.bytes.len() - self.at) as u64;
        if items <= left {
            Ok(items)
        } else {
            Err(DecodeError::Malformed { problem: "a count beyond the end", at: start })
        }
    }

    fn argument(&mut self, info: u8, start: usize) -> Result<u64, DecodeError> {
        let wide = match info {
            0..=23 => return Ok(info.into()),
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => {
                return Err(DecodeError::Malformed { problem: "an indefinite or reserved length", at: start });
            }
        };
        let bytes = self.take(wide)?;
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn take(&mut self, length: u64) -> Result<&[u8], DecodeError> {
        let short = DecodeError::Malformed { problem: "ends too early", at: self.at };
        let length = usize::try_from(length).map_err(|_| short.clone())?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or(short)?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn end(&self) -> Result<(), DecodeError> {
        let left = self.bytes.len() - self.at;
        if left == 0 {
            Ok(())
        } else {
            Err(DecodeError::Malformed { problem: "something follows the end", at: self.at })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> Vec<u8> {
        let mut bytes = vec![0x81; depth];
        bytes.push(0x00);
        bytes
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        assert_eq!(check(&nested(MAX_DEPTH)), Ok(()));
        assert_eq!(check(&nested(MAX_DEPTH + 1)), Err(DecodeError::TooDeep));
    }

    #[test]
    fn a_count_that_the_input_does_not_hold_is_not_believed() {
        for bad in [
            &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..],
            &[0xbb, 0x80, 0, 0, 0, 0, 0, 0, 0],
            &[0x82, 0x00],
            &[0x5a, 0, 0, 0, 9, 1],
        ] {
            assert!(matches!(check(bad), Err(DecodeError::Malformed { .. })), "{bad:02x?}");
        }
    }

    #[test]
    fn tags_indefinite_lengths_and_leftovers_are_refused() {
        for bad in [&[0xc1, 0x00][..], &[0x9f, 0xff], &[0x5f, 0xff], &[0x1c], &[0x00, 0x00], &[]] {
            assert!(check(bad).is_err(), "{bad:02x?}");
        }
        for good in [&[0x80][..], &[0xa0], &[0x82, 0x80, 0xa1, 0x00, 0xf6], &[0xfb, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(check(good), Ok(()), "{good:02x?}");
        }
    }
}

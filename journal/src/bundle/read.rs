//! Reading a bundle that somebody handed over: every byte of it is theirs, none of it is believed.

use std::io::{self, Read};
use std::ops::Range;

use ring::digest::{Context, SHA256};

use super::{FRONT_BYTES, HASH_BYTES, HEAD_BYTES, MAGIC, Tag, VERSION};
use crate::check::{Against, Check, Mismatch};
use crate::merkle::{Frontier, Hash, leaf};
use crate::note::PublicKey;
use crate::reader::Entry;
use crate::record::{self, u32_at, u64_at};
use crate::verify::{Incomplete, Report};

/// Why something isn't a bundle.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// It begins otherwise.
    #[error("couldn't verify it: it is not a bundle that `journal export` made")]
    NotABundle,
    /// A newer program made it.
    #[error("couldn't verify the bundle: format {0} is from a newer version of this program, update it")]
    FutureVersion(u32),
    /// It can't be read.
    #[error("couldn't read the bundle: {0}")]
    Io(#[from] io::Error),
}

/// Verifies a bundle and shows every record to `visit` that is what its hash says. With a `key`, the checkpoints in it
/// must be signed by it.
///
/// # Errors
/// When it can't be read, is not a bundle, or is of a newer format. Whatever else is wrong is in the report.
pub fn verify_bundle(
    input: &mut dyn Read,
    key: Option<&PublicKey>,
    visit: &mut dyn FnMut(&Entry),
) -> Result<Report, BundleError> {
    verify_bundle_against(input, &Against { key, earlier: None }, visit)
}

/// As [`verify_bundle`], against more than a key.
///
/// # Errors
/// As [`verify_bundle`].
pub fn verify_bundle_against(
    input: &mut dyn Read,
    against: &Against<'_>,
    visit: &mut dyn FnMut(&Entry),
) -> Result<Report, BundleError> {
    let mut frames = Frames { input, sum: Context::new(&SHA256), body: Vec::new() };
    let epoch = frames.front()?;
    let mut pass =
        Pass { epoch, report: Report { epoch: Some(epoch), ..Report::default() }, against, check: None, hole: None };
    loop {
        let sum = frames.sum.clone();
        match frames.next()? {
            Next::Frame(head) => {
                if pass.take(head, &frames.body, sum, visit) {
                    break;
                }
            }
            Next::Garbled => {
                let behind = pass.behind();
                pass.check().mismatch(Mismatch::Checksum { behind });
                break;
            }
            Next::Nothing => {
                let at = pass.check().next();
                pass.report.incomplete.get_or_insert(Incomplete::Ends { at });
                break;
            }
        }
    }
    Ok(pass.conclude())
}

/// A frame's head.
#[derive(Clone, Copy, Debug)]
struct Head {
    tag: Tag,
    kind: u8,
    sequence: u64,
}

enum Next {
    Frame(Head),
    /// No frame looks like this.
    Garbled,
    /// The input ends, at a frame's border or within one.
    Nothing,
}

struct Frames<'a> {
    input: &'a mut dyn Read,
    /// Over everything that was read.
    sum: Context,
    body: Vec<u8>,
}

impl Frames<'_> {
    fn front(&mut self) -> Result<u64, BundleError> {
        let mut front = [0; FRONT_BYTES];
        if !self.read(&mut front)? || front[..8] != *MAGIC {
            return Err(BundleError::NotABundle);
        }
        match u32_at(&front, 8) {
            VERSION => Ok(u64_at(&front, 12)),
            version => Err(BundleError::FutureVersion(version)),
        }
    }

    fn next(&mut self) -> io::Result<Next> {
        let mut head = [0; HEAD_BYTES];
        if !self.read(&mut head)? {
            return Ok(Next::Nothing);
        }
        let length = u32_at(&head, 4) as usize;
        let whole = u32_at(&head, 16) == crc32c::crc32c(&head[..16]);
        let Some(tag) = Tag::of(head[0]).filter(|tag| whole && tag.allows(length)) else {
            return Ok(Next::Garbled);
        };
        let mut body = std::mem::take(&mut self.body);
        body.resize(length, 0);
        let whole = self.read(&mut body)?;
        self.body = body;
        Ok(if whole { Next::Frame(Head { tag, kind: head[1], sequence: u64_at(&head, 8) }) } else { Next::Nothing })
    }

    /// Fills `buffer`; `false` when the input ends before.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        match self.input.read_exact(buffer) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
        self.sum.update(buffer);
        Ok(true)
    }
}

/// One pass over a bundle.
struct Pass<'a> {
    epoch: u64,
    report: Report,
    against: &'a Against<'a>,
    check: Option<Check<'a>>,
    /// Records that should have come and did not, the first stretch; what stands behind it.
    hole: Option<Range<u64>>,
}

impl<'a> Pass<'a> {
    /// The check, begun at the start when nothing said where.
    fn check(&mut self) -> &mut Check<'a> {
        let against = self.against;
        self.check.get_or_insert_with(|| Check::new(against.clone(), 0, None))
    }

    fn behind(&mut self) -> u64 {
        self.check().next().saturating_sub(1)
    }

    /// Takes a frame, before which the bytes had the checksum `sum`. `true` at the end.
    fn take(&mut self, head: Head, body: &[u8], sum: Context, visit: &mut dyn FnMut(&Entry)) -> bool {
        let Head { tag, kind, sequence } = head;
        match tag {
            Tag::Tree => self.noted(sequence, body),
            Tag::Note => self.check().note(body),
            Tag::Lost => {
                if self.comes(sequence) {
                    self.check().lose_below(u64_at(body, 0));
                }
            }
            Tag::Leaf => {
                if let Some(kept) = first_hash(body)
                    && self.comes(sequence)
                {
                    self.report.thinned += u64::from(self.check().leaf(sequence, kept));
                }
            }
            Tag::Record => self.record(kind, sequence, body, visit),
            Tag::End => {
                self.end(sequence, body, sum);
                return true;
            }
        }
        false
    }

    fn next(&mut self) -> u64 {
        self.check().next()
    }

    fn record(&mut self, kind: u8, sequence: u64, body: &[u8], visit: &mut dyn FnMut(&Entry)) {
        let (Some(kept), Some(payload)) = (first_hash(body), body.get(HASH_BYTES..)) else { return };
        if !self.comes(sequence) {
            return;
        }
        let found = leaf(payload);
        if found != kept {
            self.check().mismatch(Mismatch::Record { sequence });
        }
        if self.check().leaf(sequence, kept) && found == kept {
            self.report.records += 1;
            visit(&Entry { epoch: self.epoch, sequence, kind, payload: payload.to_vec() });
        }
    }

    /// Whether record `sequence` may come now: it is the next one, or those before it are missing, which is kept in mind.
    fn comes(&mut self, sequence: u64) -> bool {
        let expected = self.next();
        if sequence < expected {
            let expected =
                self.hole.as_ref().filter(|hole| hole.contains(&sequence)).map_or(expected, |hole| hole.start);
            self.check().mismatch(Mismatch::Order { expected, found: sequence });
            return false;
        }
        if sequence > expected {
            self.hole.get_or_insert(expected..sequence);
            self.check().leap(sequence);
        }
        true
    }

    fn noted(&mut self, size: u64, body: &[u8]) {
        let tree = Frontier::from_parts(size, record::hashes(body).collect());
        if self.check.is_none() {
            self.report.first_sequence = size;
            self.check = Some(Check::new(self.against.clone(), size, tree));
            return;
        }
        match tree {
            // Behind a hole a tree would close it in silence.
            Some(tree) if size <= self.next() => self.check().noted(tree),
            Some(_) => {
                let expected = self.next();
                self.hole.get_or_insert(expected..size);
                self.check().leap(size);
            }
            None => {
                let behind = self.behind();
                self.check().mismatch(Mismatch::Checksum { behind });
            }
        }
    }

    fn end(&mut self, sequence: u64, body: &[u8], sum: Context) {
        let next = self.next();
        if sequence > next {
            self.hole.get_or_insert(next..sequence);
            self.check().leap(sequence);
        }
        let behind = self.behind();
        let whole = first_hash(body).is_some_and(|hash| hash.0 == *sum.finish().as_ref());
        if !whole && self.hole.is_none() {
            self.check().mismatch(Mismatch::Checksum { behind });
        }
    }

    fn conclude(mut self) -> Report {
        if let Some(hole) = self.hole.take()
            && !matches!(self.check().findings.mismatch, Some(Mismatch::Order { .. }))
        {
            self.report.incomplete = Some(Incomplete::Removed(hole));
        }
        self.check().end();
        if let Some(check) = self.check.take() {
            self.report.conclude(check);
        }
        self.report
    }
}

fn first_hash(body: &[u8]) -> Option<Hash> {
    body.first_chunk().map(|bytes| Hash(*bytes))
}

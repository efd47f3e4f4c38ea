//! Small trees without walking: every branch is asked, and every "no" strikes out the leaves on its left.
//!
//! A tree of up to 64 leaves has a bit for each, leftmost lowest. A branch whose answer is no (`x <= t` does not hold, which a
//! missing value never does) leaves only what is not in its left half; what was struck out by none is where the row ends, and
//! of that the leftmost bit. No step waits for the one before and no place depends on the data, so sixteen rows are asked at
//! once by plain vector instructions (Lucchese et al., QuickScorer, SIGIR 2015; here without its sorting by feature, which
//! pays for one row but not for sixteen).

use std::array::from_fn;

use super::forest::Node;
use super::layout::NO_LEAF;
use crate::kernel::lanes::{Block, WIDTH};

/// Leaves of a tree that is asked and not walked.
const LEAVES_MAX: usize = 64;
/// Nodes that are looked at while ballots are made: a file may name one tree many times, and each time is a copy. Beyond it
/// trees are walked.
const VISITS_MAX: usize = 1 << 22;

/// A branch, and the leaves that its "no" leaves over.
#[derive(Clone, Copy, Debug)]
struct Question {
    threshold: f32,
    feature: u32,
    low: u32,
    high: u32,
}

/// One tree among [`Ballots`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Ballot {
    first_question: u32,
    pub(super) questions: u32,
    first_end: u32,
    wide: bool,
}

/// The questions of all small trees, and the places of their leaves, tree by tree from left to right.
#[derive(Clone, Debug, Default)]
pub(super) struct Ballots {
    questions: Vec<Question>,
    ends: Vec<u32>,
    visits: usize,
}

impl Ballots {
    /// Takes one tree in; None, and nothing taken, for one with too many leaves or when it has been enough.
    pub(super) fn add(&mut self, nodes: &[Node], leaf: &[u32], root: u32) -> Option<Ballot> {
        let (first_question, first_end) = (self.questions.len(), self.ends.len());
        // Every branch is met twice: before its left side, with no question yet, and after it, with the leaves before it.
        let mut way: Vec<(u32, Option<usize>)> = vec![(root, None)];
        while let Some((place, left_from)) = way.pop() {
            let node = nodes[place as usize];
            let leaves = self.ends.len() - first_end;
            self.visits += 1;
            match left_from {
                Some(from) => self.questions.push(Question::new(node, bits(from, leaves))),
                None if leaves == LEAVES_MAX || self.visits > VISITS_MAX => {
                    self.questions.truncate(first_question);
                    self.ends.truncate(first_end);
                    return None;
                }
                None if leaf[place as usize] != NO_LEAF => self.ends.push(place),
                None if node.threshold.is_nan() => way.push((node.child + 1, None)),
                None => way.extend([(node.child + 1, None), (place, Some(leaves)), (node.child, None)]),
            }
        }
        Some(Ballot {
            first_question: first_question as u32,
            questions: (self.questions.len() - first_question) as u32,
            first_end: first_end as u32,
            wide: self.ends.len() - first_end > 32,
        })
    }

    /// The places of all leaves.
    pub(super) fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// Where sixteen rows end, as places in [`Ballots::ends`].
    #[inline(always)]
    pub(super) fn count(&self, ballot: Ballot, block: &[Block]) -> [u32; WIDTH] {
        let first = ballot.first_question as usize;
        let questions = &self.questions[first..first + ballot.questions as usize];
        let left = if ballot.wide { wide(questions, block) } else { narrow(questions, block) };
        from_fn(|i| ballot.first_end.wrapping_add(left[i]))
    }
}

/// The leftmost leaf that nobody struck out, of up to 32.
#[inline(always)]
fn narrow(questions: &[Question], block: &[Block]) -> [u32; WIDTH] {
    let mut low = [u32::MAX; WIDTH];
    for question in questions {
        let yes = question.answers(block);
        low = from_fn(|i| low[i] & (yes[i] | question.low));
    }
    from_fn(|i| lowest(low[i]))
}

/// The same of up to 64.
#[inline(always)]
fn wide(questions: &[Question], block: &[Block]) -> [u32; WIDTH] {
    let (mut low, mut high) = ([u32::MAX; WIDTH], [u32::MAX; WIDTH]);
    for question in questions {
        let yes = question.answers(block);
        low = from_fn(|i| low[i] & (yes[i] | question.low));
        high = from_fn(|i| high[i] & (yes[i] | question.high));
    }
    from_fn(|i| {
        let word = if low[i] == 0 { high[i] } else { low[i] };
        let skipped = if low[i] == 0 { 32 } else { 0 };
        skipped | lowest(word)
    })
}

impl Question {
    fn new(node: Node, struck: u64) -> Question {
        Question {
            threshold: node.threshold,
            feature: node.feature,
            low: !(struck as u32),
            high: !((struck >> 32) as u32),
        }
    }

    /// All bits for yes, none for no.
    #[inline(always)]
    fn answers(&self, block: &[Block]) -> [u32; WIDTH] {
        let xs = block[self.feature as usize];
        from_fn(|i| if xs[i] <= self.threshold { u32::MAX } else { 0 })
    }
}

/// The place of the lowest bit that is set, by the exponent of that bit as a number: what every vector unit can do, where not
/// every one counts zeros.
#[inline(always)]
fn lowest(word: u32) -> u32 {
    let bit = (word & word.wrapping_neg()) as i32;
    ((bit as f32).to_bits() >> 23 & 0xff).wrapping_sub(127)
}

/// The bits from one to before another.
fn bits(from: usize, to: usize) -> u64 {
    let below = |n: usize| if n >= 64 { u64::MAX } else { (1 << n) - 1 };
    below(to) & !below(from)
}

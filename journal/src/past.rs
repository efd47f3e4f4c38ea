//! The recent past of a tree that is read through: what a log says about an earlier size comes a little later.

use std::collections::VecDeque;

use crate::merkle::{Frontier, Hash};

/// Leaves in one piece of the past; so many at most are hashed again to know an earlier root.
const PIECE_LEAVES: usize = 256;
/// Pieces kept: a checkpoint stands in the log at most one group behind what it is about, and a group is due at 64
/// records. 64 pieces are 16,384 records and 0.6 MiB.
const PIECES: usize = 64;

/// The last leaves and the trees that they were added to, so that the root at a recent size can be told.
#[derive(Debug, Default)]
pub(crate) struct Past {
    pieces: VecDeque<Piece>,
}

#[derive(Debug)]
struct Piece {
    before: Frontier,
    leaves: Vec<Hash>,
}

impl Past {
    /// Adds the leaf that comes behind the tree `before`.
    pub(crate) fn push(&mut self, leaf: Hash, before: &Frontier) {
        if self.pieces.back().is_none_or(|newest| newest.leaves.len() == PIECE_LEAVES) {
            if self.pieces.len() == PIECES {
                self.pieces.pop_front();
            }
            self.pieces.push_back(Piece::behind(before.clone()));
        }
        if let Some(newest) = self.pieces.back_mut() {
            newest.leaves.push(leaf);
        }
    }

    /// The root of the tree over the first `size` records, if that is still known.
    pub(crate) fn root(&self, size: u64) -> Option<Hash> {
        let piece = self.pieces.iter().rev().find(|piece| piece.before.size() <= size)?;
        let leaves = usize::try_from(size - piece.before.size()).ok()?;
        (leaves <= piece.leaves.len()).then(|| piece.tree_with(leaves).root())
    }

    /// The leaf of a record, if that is still known.
    pub(crate) fn leaf(&self, sequence: u64) -> Option<Hash> {
        let piece = self.pieces.iter().rev().find(|piece| piece.before.size() <= sequence)?;
        piece.leaves.get(usize::try_from(sequence - piece.before.size()).ok()?).copied()
    }
}

impl Piece {
    fn behind(before: Frontier) -> Self {
        Self { before, leaves: Vec::with_capacity(PIECE_LEAVES) }
    }

    fn tree_with(&self, leaves: usize) -> Frontier {
        let mut tree = self.before.clone();
        self.leaves[..leaves].iter().for_each(|leaf| tree.push(*leaf));
        tree
    }
}

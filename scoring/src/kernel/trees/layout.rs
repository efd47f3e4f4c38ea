//! From checked trees to a [`Forest`]: every mode becomes `x <= t`, shared nodes become jumps, circles are found.
//!
//! `x < t` is `x <= the f32 before t`; `>=` and `>` swap the sides; `==` is two questions; a set is searched by halves. A
//! missing value goes right by itself, since nothing compares with NaN, and left where the node reads the copy of the features
//! in which NaN is minus infinity.

use std::collections::VecDeque;

use super::forest::{Forest, Node, Root};
use super::planted::{Branch, Link, Planted, Test};
use crate::kernel::Refused;

/// Nodes after laying out: at most four for a branch and one for a leaf, and a margin for large sets.
const LAID_MAX: usize = 1 << 24;
/// Steps from a root to its deepest leaf. Real trees are some tens deep; a chain that spells out a category some hundreds.
const DEPTH_MAX: u32 = 4096;
/// Steps of all trees together for one row: some tens of milliseconds.
const STEPS_MAX: u64 = 1 << 24;

/// A forest and, for each of its nodes, the leaf that it is (`NO_LEAF` for the others).
pub(super) struct Laid {
    pub(super) forest: Forest,
    pub(super) leaf: Vec<u32>,
}

pub(super) const NO_LEAF: u32 = u32::MAX;

/// What a node still to be laid has to do.
#[derive(Clone, Copy)]
enum Goal {
    Link(Link),
    /// The second half of `== t`, for the branch: the value is not above.
    NotAbove(u32, f32),
    /// Is the value of the branch's set from one place to before another?
    Among(u32, u32, u32),
}

struct Layout<'a> {
    planted: &'a Planted,
    features: u32,
    nodes: Vec<Node>,
    leaf: Vec<u32>,
    /// Where each branch was laid; 0 before.
    laid: Vec<u32>,
    open: VecDeque<(u32, Goal)>,
    mirrored: bool,
}

/// Lays all trees out.
pub(super) fn lay(planted: &Planted, features: usize) -> Result<Laid, Refused> {
    let columns = u32::try_from(features).ok().filter(|f| *f > 0 && *f <= u32::MAX / 2);
    let Some(columns) = columns else {
        return Err(Refused(format!("trees over {features} features cannot be run")));
    };
    if planted.roots.is_empty() {
        return Err(Refused("an ensemble without trees has nothing to say".into()));
    }
    let mut layout = Layout {
        planted,
        features: columns,
        // Place 0 is nobody's, so that "before" exists for every other.
        nodes: vec![Node { threshold: f32::NAN, feature: 0, child: 0 }],
        leaf: vec![NO_LEAF],
        laid: vec![0; planted.branches.len()],
        open: VecDeque::new(),
        mirrored: false,
    };
    let mut places = Vec::with_capacity(planted.roots.len());
    for root in &planted.roots {
        places.push(layout.tree(*root)?);
    }
    layout.finish(places, features)
}

/// The largest f32 below `t`; none below minus infinity.
fn before(t: f32) -> Option<f32> {
    (t > f32::NEG_INFINITY).then(|| t.next_down())
}

impl Layout<'_> {
    fn tree(&mut self, root: Link) -> Result<u32, Refused> {
        let place = self.push_nodes(1)?;
        self.open.push_back((place, Goal::Link(root)));
        while let Some((place, goal)) = self.open.pop_front() {
            self.settle(place, goal)?;
        }
        Ok(place)
    }

    fn push_nodes(&mut self, count: usize) -> Result<u32, Refused> {
        let place = self.nodes.len();
        if place + count > LAID_MAX {
            return Err(Refused(format!("the trees need more than {LAID_MAX} places")));
        }
        self.nodes.resize(place + count, Node { threshold: f32::NAN, feature: 0, child: 0 });
        self.leaf.resize(place + count, NO_LEAF);
        Ok(place as u32)
    }

    fn settle(&mut self, place: u32, goal: Goal) -> Result<(), Refused> {
        match goal {
            Goal::Link(Link::Leaf(leaf)) => {
                self.leaf[place as usize] = leaf;
                self.always(place, place);
                Ok(())
            }
            Goal::Link(Link::Branch(branch)) => match self.laid[branch as usize] {
                0 => {
                    self.laid[branch as usize] = place;
                    self.branch(place, branch)
                }
                known => {
                    self.always(place, known);
                    Ok(())
                }
            },
            Goal::NotAbove(branch, t) => self.not_above(place, branch, t),
            Goal::Among(branch, from, to) => self.among(place, branch, from, to),
        }
    }

    /// Whatever the value, to `target`, which is never place 0.
    fn always(&mut self, place: u32, target: u32) {
        self.nodes[place as usize] = Node { threshold: f32::NAN, feature: 0, child: target - 1 };
    }

    /// `x <= t` to the left, everything else to the right, a missing value as told.
    fn split(
        &mut self,
        place: u32,
        feature: u32,
        t: f32,
        missing: Side,
        left: Goal,
        right: Goal,
    ) -> Result<(), Refused> {
        let child = self.push_nodes(2)?;
        let feature = match missing {
            Side::Right => feature,
            Side::Left => {
                self.mirrored = true;
                feature + self.features
            }
        };
        self.nodes[place as usize] = Node { threshold: t, feature, child };
        self.open.push_back((child, left));
        self.open.push_back((child + 1, right));
        Ok(())
    }

    /// Only a missing value is told apart.
    fn missing_only(&mut self, place: u32, feature: u32, present: Goal, missing: Goal) -> Result<(), Refused> {
        self.split(place, feature, f32::INFINITY, Side::Right, present, missing)
    }

    fn branch(&mut self, place: u32, at: u32) -> Result<(), Refused> {
        let Branch { feature, ref test, missing_is_yes, yes, no } = self.planted.branches[at as usize];
        let (yes, no) = (Goal::Link(yes), Goal::Link(no));
        let (if_yes, if_no) = if missing_is_yes { (Side::Left, Side::Right) } else { (Side::Right, Side::Left) };
        let missing = if missing_is_yes { yes } else { no };
        match test {
            Test::Leq(t) => self.split(place, feature, *t, if_yes, yes, no),
            Test::Gt(t) => self.split(place, feature, *t, if_no, no, yes),
            Test::Lt(t) => match before(*t) {
                Some(t) => self.split(place, feature, t, if_yes, yes, no),
                None => self.missing_only(place, feature, no, missing),
            },
            Test::Gte(t) => match before(*t) {
                Some(t) => self.split(place, feature, t, if_no, no, yes),
                None => self.missing_only(place, feature, yes, missing),
            },
            Test::Eq(t) => self.split(place, feature, *t, if_yes, Goal::NotAbove(at, *t), no),
            // A missing value differs from everything.
            Test::Neq(t) => self.split(place, feature, *t, Side::Right, Goal::NotAbove(at, *t), yes),
            Test::Member(set) if set.is_empty() => self.missing_only(place, feature, no, missing),
            Test::Member(set) => self.among(place, at, 0, set.len() as u32),
        }
    }

    /// `x <= t` holds, or the value is missing and counts as equal: is it `t`?
    fn not_above(&mut self, place: u32, at: u32, t: f32) -> Result<(), Refused> {
        let Branch { feature, ref test, yes, no, .. } = self.planted.branches[at as usize];
        let (equal, below) = match test {
            Test::Neq(_) => (no, yes),
            Test::Leq(_) | Test::Lt(_) | Test::Gte(_) | Test::Gt(_) | Test::Eq(_) | Test::Member(_) => (yes, no),
        };
        match before(t) {
            Some(t) => self.split(place, feature, t, Side::Right, Goal::Link(below), Goal::Link(equal)),
            None => self.settle(place, Goal::Link(equal)),
        }
    }

    fn among(&mut self, place: u32, at: u32, from: u32, to: u32) -> Result<(), Refused> {
        let Branch { feature, ref test, missing_is_yes, no, .. } = self.planted.branches[at as usize];
        let Test::Member(set) = test else {
            return Err(Refused("a set is asked of a node without one".into()));
        };
        let missing = if missing_is_yes { Side::Left } else { Side::Right };
        let middle = from + (to - from - 1) / 2;
        let t = set[middle as usize];
        if to - from == 1 {
            return self.split(place, feature, t, missing, Goal::NotAbove(at, t), Goal::Link(no));
        }
        self.split(place, feature, t, missing, Goal::Among(at, from, middle + 1), Goal::Among(at, middle + 1, to))
    }

    fn finish(self, places: Vec<u32>, features: usize) -> Result<Laid, Refused> {
        let depths =
            Depths { nodes: &self.nodes, leaf: &self.leaf, known: vec![UNKNOWN; self.nodes.len()] }.of(&places)?;
        let roots: Vec<Root> = places.into_iter().zip(depths).map(|(node, depth)| Root { node, depth }).collect();
        let steps: u64 = roots.iter().map(|r| 1 + u64::from(r.depth)).sum();
        if steps > STEPS_MAX {
            return Err(Refused(format!("one row takes {steps} steps through all trees, more than {STEPS_MAX}")));
        }
        let forest = Forest::new(self.nodes, &self.leaf, roots, features, self.mirrored);
        Ok(Laid { forest, leaf: self.leaf })
    }
}

/// Where a missing value goes.
#[derive(Clone, Copy)]
enum Side {
    Left,
    Right,
}

const UNKNOWN: u32 = u32::MAX;
/// On the way that is being followed: to come back to it is a circle.
const OPEN: u32 = u32::MAX - 1;

/// Longest ways to a leaf.
struct Depths<'a> {
    nodes: &'a [Node],
    leaf: &'a [u32],
    known: Vec<u32>,
}

impl Depths<'_> {
    fn of(mut self, places: &[u32]) -> Result<Vec<u32>, Refused> {
        let mut depths = Vec::with_capacity(places.len());
        for (tree, place) in places.iter().enumerate() {
            let depth = self.from(*place).ok_or_else(|| Refused(format!("tree {tree} runs in a circle")))?;
            if depth > DEPTH_MAX {
                return Err(Refused(format!("tree {tree} is {depth} steps deep, more than {DEPTH_MAX}")));
            }
            depths.push(depth);
        }
        Ok(depths)
    }

    /// The places that a node can lead to: one for a jump, two otherwise.
    fn next(&self, place: u32) -> (u32, u32) {
        let node = self.nodes[place as usize];
        let right = node.child + 1;
        (if node.threshold.is_nan() { right } else { node.child }, right)
    }

    /// None for a circle.
    fn from(&mut self, root: u32) -> Option<u32> {
        let mut way = vec![root];
        while let Some(place) = way.last().copied() {
            if self.leaf[place as usize] != NO_LEAF {
                self.known[place as usize] = 0;
                way.pop();
                continue;
            }
            self.known[place as usize] = self.known[place as usize].min(OPEN);
            let (left, right) = self.next(place);
            match [left, right].into_iter().find(|p| self.known[*p as usize] >= OPEN) {
                Some(p) if self.known[p as usize] == OPEN => return None,
                Some(p) => way.push(p),
                None => {
                    self.known[place as usize] = 1 + self.known[left as usize].max(self.known[right as usize]);
                    way.pop();
                }
            }
        }
        Some(self.known[root as usize])
    }
}

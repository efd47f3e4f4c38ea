//! Steps that become one: a product takes up the addition and the activation behind it. Steps whose result nobody needs go.

use crate::engine::graph::Values;

use super::build::{Draft, Source};
use super::pair::Behind;
use super::plan::{Buffer, Kernel};

/// Rewrites the list of steps; `kept` are the results.
pub(super) fn fuse(drafts: &mut Vec<Draft>, constants: &mut [Values], made: &[Buffer], kept: &[Source]) {
    drop_unneeded(drafts, made.len(), kept);
    // Twice, because a sum behind a product may have an activation behind it.
    for _ in 0..2 {
        take_up(drafts, constants, made, kept);
    }
}

fn drop_unneeded(drafts: &mut Vec<Draft>, made: usize, kept: &[Source]) {
    let mut needed = vec![false; made];
    let need = |source: &Source, needed: &mut Vec<bool>| {
        if let Source::Made(m) = source {
            needed[*m] = true;
        }
    };
    kept.iter().for_each(|source| need(source, &mut needed));
    let mut keep = Vec::with_capacity(drafts.len());
    for draft in drafts.drain(..).rev() {
        if draft.outputs.iter().any(|m| needed[*m]) {
            draft.inputs.iter().for_each(|(source, _)| need(source, &mut needed));
            keep.push(draft);
        }
    }
    keep.reverse();
    *drafts = keep;
}

/// Lets each product take up the step that alone reads its result.
fn take_up(drafts: &mut Vec<Draft>, constants: &mut [Values], made: &[Buffer], kept: &[Source]) {
    let mut uses = vec![0_usize; made.len()];
    let mut maker = vec![usize::MAX; made.len()];
    for source in drafts.iter().flat_map(|d| d.inputs.iter().map(|(s, _)| s)).chain(kept) {
        if let Source::Made(m) = source {
            uses[*m] += 1;
        }
    }
    let mut gone = vec![false; drafts.len()];
    for at in 0..drafts.len() {
        drafts[at].outputs.iter().for_each(|m| maker[*m] = at);
        let Some((product, behind)) = taken(&drafts[at], constants, made, &uses) else { continue };
        let before = maker[product];
        if before >= at || gone[before] {
            continue;
        }
        let (earlier, later) = drafts.split_at_mut(at);
        if earlier[before].kernel.take_up(behind) {
            earlier[before].outputs.clone_from(&later[0].outputs);
            earlier[before].outputs.iter().for_each(|m| maker[*m] = before);
            gone[at] = true;
        }
    }
    let mut gone = gone.into_iter();
    drafts.retain(|_| !gone.next().unwrap_or(false));
}

/// What `draft` does to the result of one step, if it is something that a product can do itself.
fn taken<'c>(draft: &Draft, constants: &'c [Values], made: &[Buffer], uses: &[usize]) -> Option<(usize, Behind<'c>)> {
    let alone = |source: Source| match source {
        Source::Made(m) => (uses[m] == 1 && made[m].numbers == made[*draft.outputs.first()?].numbers).then_some(m),
        Source::Input | Source::Constant(_) => None,
    };
    match (&draft.kernel, draft.inputs.as_slice()) {
        (Kernel::Unary(unary), [(source, _)]) => Some((alone(*source)?, Behind::Function(unary.function()?))),
        (Kernel::Pair(pair), [(a, _), (b, _)]) if pair.adds() => {
            let (product, constant) = match (alone(*a), alone(*b)) {
                (Some(m), _) => (m, b),
                (None, Some(m)) => (m, a),
                (None, None) => return None,
            };
            let Source::Constant(c) = constant else { return None };
            let Values::F32(added) = constants.get(*c)? else { return None };
            Some((product, Behind::Added(added)))
        }
        _ => None,
    }
}

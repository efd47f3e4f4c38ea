//! Operator set 5: branches and leaves numbered apart, sets, and trees that share their parts.
#![allow(clippy::unwrap_used)]

use super::{Dice, FEATURES, run};
use crate::kernel::trees::{EnsembleAttributes, Trees};

/// One heap of branches that several roots lead into, some branches with a set, leaves that weigh their own number.
fn ensemble(dice: &mut Dice, branches: usize) -> EnsembleAttributes {
    let mut a = EnsembleAttributes { n_targets: 1, tree_roots: vec![0], ..EnsembleAttributes::default() };
    for branch in 0..branches {
        a.nodes_featureids.push(dice.below(FEATURES) as i64);
        a.nodes_modes.push(dice.below(7) as u8);
        a.nodes_splits.push(dice.threshold());
        a.nodes_missing_value_tracks_true.push(dice.below(2) as i64);
        let link = |child: usize| match child.checked_sub(branches) {
            Some(leaf) => (leaf as i64, 1),
            None => (child as i64, 0),
        };
        let (yes, no) = (link(2 * branch + 1), link(2 * branch + 2));
        a.nodes_truenodeids.push(yes.0);
        a.nodes_trueleafs.push(yes.1);
        a.nodes_falsenodeids.push(no.0);
        a.nodes_falseleafs.push(no.1);
        if dice.below(3) == 0 {
            a.tree_roots.push(branch as i64);
        }
        if a.nodes_modes[branch] == 6 {
            for _ in 0..dice.below(6) {
                a.membership_values.push(dice.threshold());
            }
            a.membership_values.push(f32::NAN);
        }
    }
    for leaf in 0..=branches {
        a.leaf_targetids.push(0);
        a.leaf_weights.push(leaf as f32 + 1.0);
    }
    a
}

fn is_yes(a: &EnsembleAttributes, branch: usize, x: f32) -> bool {
    let t = a.nodes_splits[branch];
    let yes = match a.nodes_modes[branch] {
        0 => x <= t,
        1 => x < t,
        2 => x >= t,
        3 => x > t,
        4 => x == t,
        5 => x != t,
        _ => {
            let nth = a.nodes_modes[..branch].iter().filter(|m| **m == 6).count();
            a.membership_values.split(|v| v.is_nan()).nth(nth).unwrap().contains(&x)
        }
    };
    yes || (x.is_nan() && a.nodes_missing_value_tracks_true[branch] == 1)
}

fn walked(a: &EnsembleAttributes, root: i64, row: &[f32]) -> f32 {
    let (mut at, mut leaf) = (root as usize, 0);
    while leaf == 0 {
        (at, leaf) = if is_yes(a, at, row[a.nodes_featureids[at] as usize]) {
            (a.nodes_truenodeids[at] as usize, a.nodes_trueleafs[at])
        } else {
            (a.nodes_falsenodeids[at] as usize, a.nodes_falseleafs[at])
        };
    }
    a.leaf_weights[at]
}

#[test]
fn every_row_ends_where_a_plain_walk_over_shared_trees_ends() {
    let mut dice = Dice(11);
    for round in 0..200 {
        let branches = 1 + dice.below([4, 30, 150][round % 3]);
        let a = ensemble(&mut dice, branches);
        let rows = 1 + dice.below(40);
        let input: Vec<f32> = (0..rows * FEATURES).map(|_| dice.value()).collect();
        let expected: Vec<f32> = input
            .chunks(FEATURES)
            .map(|row| a.tree_roots.iter().fold(0.0, |sum, root| sum + walked(&a, *root, row)))
            .collect();
        let made = Trees::ensemble(FEATURES, &a).unwrap();
        assert_eq!(run(&made, rows, &input), expected, "round {round}");
    }
}

/// Changes one number of one list, or a list's length.
fn spoil(dice: &mut Dice, a: &mut EnsembleAttributes) {
    let odd = [-1, 0, 1, 2, 3, 1 << 33, i64::MAX, i64::MIN];
    let value = odd[dice.below(odd.len())];
    let list = match dice.below(11) {
        0 => &mut a.tree_roots,
        1 => &mut a.nodes_featureids,
        2 | 3 => &mut a.nodes_truenodeids,
        4 | 5 => &mut a.nodes_falsenodeids,
        6 => &mut a.nodes_trueleafs,
        7 => &mut a.nodes_falseleafs,
        8 => &mut a.leaf_targetids,
        9 => return a.nodes_modes[0] = dice.below(9) as u8,
        _ => return a.membership_values.truncate(1),
    };
    let at = dice.below(list.len().max(1));
    match list.get_mut(at) {
        Some(number) if dice.below(8) > 0 => *number = value,
        Some(_) | None => list.truncate(at),
    }
}

#[test]
fn spoiled_ensembles_are_refused_or_run_but_never_panic() {
    let mut dice = Dice(13);
    let (mut refused, mut ran) = (0, 0);
    for _ in 0..4000 {
        let branches = 1 + dice.below(8);
        let mut a = ensemble(&mut dice, branches);
        for _ in 0..1 + dice.below(3) {
            spoil(&mut dice, &mut a);
        }
        match Trees::ensemble(FEATURES, &a) {
            Err(_) => refused += 1,
            Ok(made) => {
                ran += 1;
                let input: Vec<f32> = (0..20 * FEATURES).map(|_| dice.value()).collect();
                assert!(run(&made, 20, &input).iter().all(|y| y.is_finite()));
            }
        }
    }
    assert!(refused > 1000 && ran > 200, "{refused} refused, {ran} ran");
}

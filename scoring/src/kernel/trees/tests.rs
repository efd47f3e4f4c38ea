#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::kernel::lanes::forced;

const FEATURES: usize = 4;

/// A small random source, the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }

    /// Few values, so that they meet the thresholds, and all that is odd among them.
    fn value(&mut self) -> f32 {
        const ODD: [f32; 6] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::MAX, f32::MIN_POSITIVE];
        match self.below(4) {
            0 => ODD[self.below(ODD.len())],
            _ => self.below(9) as f32 * 0.5 - 2.0,
        }
    }

    fn threshold(&mut self) -> f32 {
        loop {
            let t = self.value();
            if !t.is_nan() {
                return t;
            }
        }
    }
}

const MODES: [&str; 6] = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"];

/// Trees of random shape whose every leaf weighs its own number; some branches lead to a node that another one leads to.
fn lists(dice: &mut Dice, trees: usize, nodes: usize) -> (NodeLists, WeightLists) {
    let (mut lists, mut weights) = (NodeLists::default(), WeightLists::default());
    for tree in 0..trees {
        let branches = dice.below(nodes);
        for node in 0..2 * branches + 1 {
            lists.nodes_treeids.push(tree as i64);
            lists.nodes_nodeids.push(node as i64);
            lists.nodes_featureids.push(dice.below(FEATURES) as i64);
            lists.nodes_missing_value_tracks_true.push(dice.below(2) as i64);
            let leaf = node >= branches;
            lists.nodes_modes.push(if leaf { "LEAF" } else { MODES[dice.below(6)] }.into());
            lists.nodes_values.push(dice.threshold());
            let (yes, no) = (2 * node + 1, 2 * node + 2);
            let shared = if dice.below(6) == 0 { yes } else { no };
            lists.nodes_truenodeids.push(if leaf { 0 } else { yes as i64 });
            lists.nodes_falsenodeids.push(if leaf { 0 } else { shared as i64 });
            if leaf {
                weights.treeids.push(tree as i64);
                weights.nodeids.push(node as i64);
                weights.ids.push(0);
                weights.weights.push((tree * 1000 + node) as f32);
            }
        }
    }
    (lists, weights)
}

/// Node by node, as the operator's text has it.
fn walked(lists: &NodeLists, tree: usize, row: &[f32]) -> f32 {
    let first = lists.nodes_treeids.iter().position(|t| *t == tree as i64).unwrap();
    let mut at = first;
    while lists.nodes_modes[at] != "LEAF" {
        let (x, t) = (row[lists.nodes_featureids[at] as usize], lists.nodes_values[at]);
        let yes = match lists.nodes_modes[at].as_str() {
            "BRANCH_LEQ" => x <= t,
            "BRANCH_LT" => x < t,
            "BRANCH_GTE" => x >= t,
            "BRANCH_GT" => x > t,
            "BRANCH_EQ" => x == t,
            _ => x != t,
        };
        let yes = yes || (x.is_nan() && lists.nodes_missing_value_tracks_true[at] == 1);
        at = first + if yes { lists.nodes_truenodeids[at] } else { lists.nodes_falsenodeids[at] } as usize;
    }
    (tree * 1000 + at - first) as f32
}

fn sum(lists: &NodeLists, trees: usize, row: &[f32]) -> f32 {
    (0..trees).fold(0.0, |sum, tree| sum + walked(lists, tree, row))
}

fn regressor(nodes: NodeLists, targets: WeightLists) -> Result<Trees, Refused> {
    Trees::regressor(FEATURES, &RegressorAttributes { nodes, targets, n_targets: 1, ..RegressorAttributes::default() })
}

fn run(trees: &Trees, rows: usize, input: &[f32]) -> Vec<f32> {
    let mut scratch = vec![f32::NAN; trees.scratch(rows)];
    let mut out = vec![f32::NAN; rows * trees.outputs()];
    trees.run(rows, input, &mut scratch, &mut out);
    out
}

#[test]
fn every_row_ends_where_a_plain_walk_ends() {
    let mut dice = Dice(1);
    for round in 0..300 {
        let trees = 1 + dice.below(20);
        // From stumps to trees that are too large to be asked at once.
        let (nodes, weights) = lists(&mut dice, trees, [3, 20, 200][round % 3]);
        let made = if round % 5 == 0 {
            forced::portable(|| regressor(nodes.clone(), weights))
        } else {
            regressor(nodes.clone(), weights)
        };
        let rows = 1 + dice.below(40);
        let input: Vec<f32> = (0..rows * FEATURES).map(|_| dice.value()).collect();
        let expected: Vec<f32> = input.chunks(FEATURES).map(|row| sum(&nodes, trees, row)).collect();
        assert_eq!(run(&made.unwrap(), rows, &input), expected, "round {round}");
    }
}

fn stump() -> (NodeLists, WeightLists) {
    let nodes = NodeLists {
        nodes_treeids: vec![0; 3],
        nodes_nodeids: vec![0, 1, 2],
        nodes_featureids: vec![1, 0, 0],
        nodes_modes: vec!["BRANCH_LEQ".into(), "LEAF".into(), "LEAF".into()],
        nodes_values: vec![0.5, 0.0, 0.0],
        nodes_truenodeids: vec![1, 0, 0],
        nodes_falsenodeids: vec![2, 0, 0],
        nodes_missing_value_tracks_true: vec![],
    };
    let weights = WeightLists { treeids: vec![0; 2], nodeids: vec![1, 2], ids: vec![0; 2], weights: vec![10.0, 20.0] };
    (nodes, weights)
}

/// Every way to spoil a stump, and a word of the sentence that refuses it.
#[test]
fn what_cannot_be_run_is_refused_in_a_sentence_that_names_it() {
    type Spoil = fn(&mut NodeLists, &mut WeightLists);
    let spoils: [(&str, Spoil); 17] = [
        ("circle", |n, _| {
            n.nodes_modes = vec!["BRANCH_LEQ".into(); 3];
            n.nodes_truenodeids = vec![1, 2, 0];
            n.nodes_falsenodeids = vec![1, 2, 0];
        }),
        ("circle", |n, _| n.nodes_truenodeids[0] = 0),
        ("does not have", |n, _| n.nodes_falsenodeids[0] = 7),
        ("does not have", |n, _| n.nodes_truenodeids[0] = i64::MIN),
        ("two nodes", |n, _| n.nodes_nodeids[2] = 1),
        ("nodes_values has 2", |n, _| n.nodes_values.truncate(2)),
        ("nodes_featureids has 4", |n, _| n.nodes_featureids.push(0)),
        ("nodes_missing_value_tracks_true has 1", |n, _| n.nodes_missing_value_tracks_true.push(1)),
        ("NaN", |n, _| n.nodes_values[0] = f32::NAN),
        ("feature 4 of 4", |n, _| n.nodes_featureids[0] = 4),
        ("feature -1", |n, _| n.nodes_featureids[0] = -1),
        ("BRANCH_ODD", |n, _| n.nodes_modes[0] = "BRANCH_ODD".into()),
        ("without trees", |n, w| (*n, *w) = (NodeLists::default(), WeightLists::default())),
        ("no weight", |_, w| {
            w.treeids.pop();
            w.nodeids.pop();
            w.ids.pop();
            w.weights.pop();
        }),
        ("column 1 of 1", |_, w| w.ids[0] = 1),
        ("inf", |_, w| w.weights[0] = f32::INFINITY),
        ("the leaves' ids have 3", |_, w| w.ids.push(0)),
    ];
    for (word, spoil) in spoils {
        let (mut nodes, mut weights) = stump();
        spoil(&mut nodes, &mut weights);
        let sentence = regressor(nodes, weights).err().map(|r| r.to_string()).unwrap_or_default();
        assert!(sentence.contains(word), "{word}: {sentence:?}");
    }
}

#[test]
fn trees_that_come_back_and_targets_without_end_are_refused() {
    let (mut nodes, weights) = stump();
    nodes.nodes_treeids = vec![0, 1, 0];
    assert!(regressor(nodes, weights).is_err());
    let (nodes, targets) = stump();
    for n_targets in [0, -1, i64::MAX] {
        let a = RegressorAttributes { nodes: nodes.clone(), targets: targets.clone(), n_targets, ..Default::default() };
        assert!(Trees::regressor(FEATURES, &a).is_err_and(|r| r.0.contains("n_targets")));
    }
    assert!(Trees::regressor(0, &RegressorAttributes { nodes, targets, n_targets: 1, ..Default::default() }).is_err());
}

/// A tree that is a chain of `branches`, each asking for one more value of the same feature.
fn chain(branches: usize) -> EnsembleAttributes {
    let next = |i: usize| if i + 1 < branches { (i + 1, 0) } else { (1, 1) };
    EnsembleAttributes {
        tree_roots: vec![0],
        nodes_featureids: vec![0; branches],
        nodes_modes: vec![0; branches],
        nodes_splits: (0..branches).map(|i| i as f32).collect(),
        nodes_truenodeids: vec![0; branches],
        nodes_trueleafs: vec![1; branches],
        nodes_falsenodeids: (0..branches).map(|i| next(i).0 as i64).collect(),
        nodes_falseleafs: (0..branches).map(|i| next(i).1).collect(),
        leaf_targetids: vec![0, 0],
        leaf_weights: vec![1.0, 2.0],
        n_targets: 1,
        ..EnsembleAttributes::default()
    }
}

#[test]
fn a_chain_runs_as_long_as_a_record_can_wait_for_it() {
    let made = Trees::ensemble(FEATURES, &chain(4000)).unwrap();
    assert_eq!(run(&made, 2, &[3999.0, 0.0, 0.0, 0.0, 3999.5, 0.0, 0.0, 0.0]), [1.0, 2.0]);
    let sentence = Trees::ensemble(FEATURES, &chain(5000)).err().unwrap().to_string();
    assert!(sentence.contains("5000 steps deep"), "{sentence}");
    let mut many = chain(4000);
    many.tree_roots = vec![0; 10_000];
    assert!(Trees::ensemble(FEATURES, &many).is_err_and(|r| r.0.contains("steps through all trees")));
}

#[test]
fn spoiled_numbers_are_refused_or_run_but_never_panic() {
    let mut dice = Dice(7);
    let (mut refused, mut ran) = (0, 0);
    for _ in 0..4000 {
        let trees = 1 + dice.below(3);
        let (mut nodes, mut weights) = lists(&mut dice, trees, 8);
        let odd = [-1, 0, 1, 2, 5, 1 << 40, i64::MAX, i64::MIN];
        for _ in 0..1 + dice.below(3) {
            let (which, value) = (dice.below(9), odd[dice.below(odd.len())]);
            let list = match which {
                0 => &mut nodes.nodes_treeids,
                1 => &mut nodes.nodes_nodeids,
                2 => &mut nodes.nodes_featureids,
                3 | 4 => &mut nodes.nodes_truenodeids,
                5 | 6 => &mut nodes.nodes_falsenodeids,
                7 => &mut weights.nodeids,
                _ => &mut weights.ids,
            };
            let at = dice.below(list.len());
            list[at] = value;
        }
        match regressor(nodes, weights) {
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

#[test]
fn buffers_that_are_too_short_change_nothing() {
    let (nodes, weights) = stump();
    let made = regressor(nodes, weights).unwrap();
    let mut out = [7.0; 2];
    made.run(2, &[0.0; 2 * FEATURES], &mut [], &mut out);
    made.run(2, &[0.0; FEATURES], &mut [0.0; 1000], &mut out);
    made.run(3, &[0.0; 3 * FEATURES], &mut [0.0; 1000], &mut out);
    assert_eq!(out, [7.0; 2]);
}

#[test]
fn a_merged_forest_adds_the_mapped_leaves_in_their_order() {
    let mut dice = Dice(3);
    let parts: Vec<MergedTree> = (0..30)
        .map(|_| {
            let (nodes, targets) = lists(&mut dice, 1, 20);
            let mapped = targets.weights.iter().map(|w| (w * 0.37).sin()).collect();
            MergedTree { nodes, targets, mapped }
        })
        .collect();
    let input: Vec<f32> = (0..25 * FEATURES).map(|_| dice.value()).collect();
    let expected: Vec<f32> = input
        .chunks(FEATURES)
        .map(|row| parts.iter().fold(0.0, |sum, p| sum + (walked(&p.nodes, 0, row) * 0.37).sin()))
        .collect();
    assert_eq!(run(&Trees::merged(FEATURES, &parts).unwrap(), 25, &input), expected);
    let short = [MergedTree { mapped: vec![1.0], ..parts[1].clone() }];
    assert!(parts[1].targets.weights.len() > 1 && Trees::merged(FEATURES, &short).is_err());
}

#[test]
fn a_threshold_in_double_precision_splits_floats_where_it_did() {
    let mut dice = Dice(5);
    for _ in 0..10_000 {
        let t = f64::from(dice.value()) + (dice.below(1000) as f64 - 500.0) * 1e-12;
        let near = t as f32;
        for x in [near.next_down(), near, near.next_up()] {
            assert_eq!(f64::from(x) <= t, x <= threshold(t), "{x} {t}");
        }
    }
}

//! Every operator of ai.onnx.ml gives what ONNX Runtime gave for the same attributes: `tests/data/operators/ml.json`, made by
//! `tests/training/operators_ml.py`.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::labels::{Entries, LabelEncoder, Labels, OneHotEncoder};
use super::linear::{LinearClassifier, LinearClassifierAttributes, LinearRegressor, LinearRegressorAttributes};
use super::scale::{Binarizer, Imputer, Norm, Normalizer, Scaler};
use super::scores::Transform;
use super::svm::{KernelType, SvmClassifier, SvmClassifierAttributes, SvmRegressor, SvmRegressorAttributes};
use super::trees::{
    Aggregate, ClassifierAttributes, EnsembleAttributes, NodeLists, RegressorAttributes, TreeClassifier, Trees,
    WeightLists,
};

#[derive(Deserialize)]
struct Case {
    name: String,
    op: String,
    features: usize,
    attributes: BTreeMap<String, Value>,
    input: Vec<Option<f64>>,
    columns: usize,
    y: Vec<Option<f64>>,
    labels: Option<Value>,
}

/// What an operator answered.
struct Answer {
    columns: usize,
    scores: Vec<f32>,
    labels: Vec<i64>,
    named: Labels,
}

fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/operators/ml.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn numbers(list: &[Option<f64>]) -> Vec<f32> {
    list.iter().map(|x| x.map_or(f32::NAN, |x| x as f32)).collect()
}

impl Case {
    fn rows(&self) -> usize {
        self.input.len() / self.features
    }

    fn get<T: DeserializeOwned + Default>(&self, name: &str) -> T {
        self.attributes.get(name).map(|v| serde_json::from_value(v.clone()).unwrap()).unwrap_or_default()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        numbers(&self.get::<Vec<Option<f64>>>(name))
    }

    fn transform(&self) -> Transform {
        self.attributes
            .get("post_transform")
            .map_or(Transform::None, |v| Transform::named(v.as_str().unwrap()).unwrap())
    }

    fn aggregate(&self) -> Aggregate {
        match self.attributes.get("aggregate_function") {
            None => Aggregate::Sum,
            Some(v) => Aggregate::named(v.as_str().unwrap()).unwrap(),
        }
    }

    fn nodes(&self) -> NodeLists {
        NodeLists {
            nodes_treeids: self.get("nodes_treeids"),
            nodes_nodeids: self.get("nodes_nodeids"),
            nodes_featureids: self.get("nodes_featureids"),
            nodes_modes: self.get("nodes_modes"),
            nodes_values: self.floats("nodes_values"),
            nodes_truenodeids: self.get("nodes_truenodeids"),
            nodes_falsenodeids: self.get("nodes_falsenodeids"),
            nodes_missing_value_tracks_true: self.get("nodes_missing_value_tracks_true"),
        }
    }

    fn weights(&self, of: &str) -> WeightLists {
        WeightLists {
            treeids: self.get(&format!("{of}_treeids")),
            nodeids: self.get(&format!("{of}_nodeids")),
            ids: self.get(&format!("{of}_ids")),
            weights: self.floats(&format!("{of}_weights")),
        }
    }

    fn named(&self, ints: &str) -> Labels {
        let strings: Vec<String> = self.get("classlabels_strings");
        if strings.is_empty() { Labels::Ints(self.get(ints)) } else { Labels::Strings(strings) }
    }

    fn ensemble(&self) -> EnsembleAttributes {
        let number = |name: &str| self.attributes.get(name).map(|v| v.as_i64().unwrap());
        EnsembleAttributes {
            tree_roots: self.get("tree_roots"),
            nodes_featureids: self.get("nodes_featureids"),
            nodes_modes: self.get("nodes_modes"),
            nodes_splits: self.floats("nodes_splits"),
            nodes_truenodeids: self.get("nodes_truenodeids"),
            nodes_trueleafs: self.get("nodes_trueleafs"),
            nodes_falsenodeids: self.get("nodes_falsenodeids"),
            nodes_falseleafs: self.get("nodes_falseleafs"),
            nodes_missing_value_tracks_true: self.get("nodes_missing_value_tracks_true"),
            membership_values: self.floats("membership_values"),
            leaf_targetids: self.get("leaf_targetids"),
            leaf_weights: self.floats("leaf_weights"),
            n_targets: self.get("n_targets"),
            aggregate_function: Aggregate::numbered(number("aggregate_function").unwrap_or(1)).unwrap(),
            post_transform: Transform::numbered(number("post_transform").unwrap_or(0)).unwrap(),
        }
    }

    fn tree_classifier(&self) -> ClassifierAttributes {
        ClassifierAttributes {
            nodes: self.nodes(),
            classes: self.weights("class"),
            labels: self.named("classlabels_int64s"),
            base_values: self.floats("base_values"),
            post_transform: self.transform(),
        }
    }

    fn tree_regressor(&self) -> RegressorAttributes {
        RegressorAttributes {
            nodes: self.nodes(),
            targets: self.weights("target"),
            n_targets: self.get("n_targets"),
            base_values: self.floats("base_values"),
            aggregate_function: self.aggregate(),
            post_transform: self.transform(),
        }
    }

    fn kernel(&self) -> KernelType {
        KernelType::named(&self.get::<String>("kernel_type")).unwrap()
    }

    fn svm_regressor(&self) -> SvmRegressorAttributes {
        SvmRegressorAttributes {
            kernel_type: self.kernel(),
            kernel_params: self.floats("kernel_params"),
            support_vectors: self.floats("support_vectors"),
            n_supports: self.get("n_supports"),
            coefficients: self.floats("coefficients"),
            rho: self.floats("rho"),
            one_class: self.get("one_class"),
        }
    }

    fn svm_classifier(&self) -> SvmClassifierAttributes {
        SvmClassifierAttributes {
            kernel_type: self.kernel(),
            kernel_params: self.floats("kernel_params"),
            vectors_per_class: self.get("vectors_per_class"),
            support_vectors: self.floats("support_vectors"),
            coefficients: self.floats("coefficients"),
            rho: self.floats("rho"),
            prob_a: self.floats("prob_a"),
            prob_b: self.floats("prob_b"),
            labels: self.named("classlabels_ints"),
            post_transform: self.transform(),
        }
    }

    /// Runs the case's rows, `at_once` together.
    fn run(&self, at_once: usize) -> Answer {
        let input = numbers(&self.input);
        let mut answer = Answer { columns: 0, scores: vec![], labels: vec![], named: Labels::default() };
        for part in input.chunks(at_once * self.features) {
            let some = self.run_rows(part.len() / self.features, part);
            answer.columns = some.columns;
            answer.scores.extend(some.scores);
            answer.labels.extend(some.labels);
            answer.named = some.named;
        }
        answer
    }

    fn run_rows(&self, rows: usize, input: &[f32]) -> Answer {
        let features = self.features;
        match self.op.as_str() {
            "TreeEnsembleRegressor" => trees(&Trees::regressor(features, &self.tree_regressor()).unwrap(), rows, input),
            "TreeEnsemble" => trees(&Trees::ensemble(features, &self.ensemble()).unwrap(), rows, input),
            "TreeEnsembleClassifier" => {
                let made = TreeClassifier::new(features, &self.tree_classifier()).unwrap();
                let mut scratch = vec![f32::NAN; made.scratch(rows)];
                classes(rows, made.outputs(), made.labels(), |l, s| made.run(rows, input, &mut scratch, l, s))
            }
            "SVMRegressor" => {
                let made = SvmRegressor::new(features, &self.svm_regressor()).unwrap();
                let mut scratch = vec![f32::NAN; made.scratch()];
                plain(rows, 1, |out| made.run(rows, input, &mut scratch, out))
            }
            "SVMClassifier" => {
                let made = SvmClassifier::new(features, &self.svm_classifier()).unwrap();
                let mut scratch = vec![f32::NAN; made.scratch()];
                classes(rows, made.outputs(), made.labels(), |l, s| made.run(rows, input, &mut scratch, l, s))
            }
            "LinearRegressor" => {
                let made = LinearRegressor::new(features, &self.linear_regressor()).unwrap();
                plain(rows, made.outputs(), |out| made.run(rows, input, out))
            }
            "LinearClassifier" => {
                let made = LinearClassifier::new(features, &self.linear_classifier()).unwrap();
                classes(rows, made.outputs(), made.labels(), |l, s| made.run(rows, input, l, s))
            }
            _ => self.run_columns(rows, input),
        }
    }

    fn linear_regressor(&self) -> LinearRegressorAttributes {
        LinearRegressorAttributes {
            coefficients: self.floats("coefficients"),
            intercepts: self.floats("intercepts"),
            targets: self.get("targets"),
            post_transform: self.transform(),
        }
    }

    fn linear_classifier(&self) -> LinearClassifierAttributes {
        LinearClassifierAttributes {
            coefficients: self.floats("coefficients"),
            intercepts: self.floats("intercepts"),
            labels: self.named("classlabels_ints"),
            post_transform: self.transform(),
        }
    }

    fn run_columns(&self, rows: usize, input: &[f32]) -> Answer {
        let features = self.features;
        let single = |name: &str| self.get::<Option<f32>>(name).unwrap_or(f32::NAN);
        match self.op.as_str() {
            "Scaler" => {
                let made = Scaler::new(features, &self.floats("offset"), &self.floats("scale")).unwrap();
                plain(rows, features, |out| made.run(rows, input, out))
            }
            "Normalizer" => {
                let made = Normalizer::new(features, Norm::named(&self.get::<String>("norm")).unwrap()).unwrap();
                plain(rows, features, |out| made.run(rows, input, out))
            }
            "Imputer" => {
                let replaced = single("replaced_value_float");
                let made = Imputer::new(features, &self.floats("imputed_value_floats"), replaced).unwrap();
                plain(rows, features, |out| made.run(rows, input, out))
            }
            "Binarizer" => {
                let made = Binarizer::new(single("threshold")).unwrap();
                plain(rows, features, |out| made.run(input, out))
            }
            "OneHotEncoder" => {
                let made = OneHotEncoder::new(&Entries::Ints(self.get("cats_int64s"))).unwrap();
                plain(rows, features * made.categories(), |out| made.run_floats(input, out))
            }
            "LabelEncoder" => {
                let keys = Entries::Floats(self.floats("keys_floats"));
                let values = Entries::Floats(self.floats("values_floats"));
                let made = LabelEncoder::new(&keys, &values, &Entries::Floats(vec![single("default_float")])).unwrap();
                let value = |x: &f32| made.float_at(made.place_of_float(*x));
                plain(rows, features, |out| out.copy_from_slice(&input.iter().map(value).collect::<Vec<_>>()))
            }
            other => panic!("no test runs {other}"),
        }
    }
}

fn plain(rows: usize, columns: usize, run: impl FnOnce(&mut [f32])) -> Answer {
    let mut scores = vec![f32::NAN; rows * columns];
    run(&mut scores);
    Answer { columns, scores, labels: vec![], named: Labels::default() }
}

fn classes(rows: usize, columns: usize, named: &Labels, run: impl FnOnce(&mut [i64], &mut [f32])) -> Answer {
    let mut labels = vec![i64::MIN; rows];
    let answer = plain(rows, columns, |scores| run(&mut labels, scores));
    Answer { labels, named: named.clone(), ..answer }
}

fn trees(made: &Trees, rows: usize, input: &[f32]) -> Answer {
    let mut scratch = vec![f32::NAN; made.scratch(rows)];
    plain(rows, made.outputs(), |out| made.run(rows, input, &mut scratch, out))
}

fn near(a: f32, b: f32) -> bool {
    (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= 1e-5 * (1.0 + b.abs())
}

/// What is wrong with an answer, in words.
fn wrong(case: &Case, answer: &Answer) -> Option<String> {
    if answer.columns != case.columns {
        return Some(format!("{} columns instead of {}", answer.columns, case.columns));
    }
    for (i, (ours, theirs)) in answer.scores.iter().zip(numbers(&case.y)).enumerate() {
        if !near(*ours, theirs) {
            return Some(format!("row {}: {ours} instead of {theirs}", i / case.columns));
        }
    }
    let labels: Value = match &answer.named {
        Labels::Ints(_) => answer.labels.clone().into(),
        Labels::Strings(names) => answer.labels.iter().map(|l| names[*l as usize].clone()).collect(),
    };
    let theirs = case.labels.clone().unwrap_or(Value::Array(vec![]));
    (labels != theirs).then(|| format!("labels {labels} instead of {theirs}"))
}

#[test]
fn every_operator_answers_as_onnx_runtime() {
    let cases = cases();
    assert!(cases.len() > 250);
    let faults: Vec<String> = cases
        .iter()
        .filter_map(|c| wrong(c, &c.run(c.rows())).map(|fault| format!("{} {}: {fault}", c.op, c.name)))
        .collect();
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), cases.len(), faults.join("\n"));
}

#[test]
fn a_row_has_the_same_bits_alone_and_among_others() {
    for case in cases() {
        let together = case.run(case.rows());
        for at_once in [1, 3, 9] {
            let apart = case.run(at_once);
            let same = together.scores.iter().zip(&apart.scores).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same && together.labels == apart.labels, "{} {}: {at_once} at once", case.op, case.name);
        }
    }
}

fn one_of(op: &str, name: &str) -> Case {
    cases().into_iter().find(|c| c.op == op && c.name.contains(name)).unwrap()
}

/// The case with one of its lists an entry shorter.
fn shortened(case: &Case, list: &str) -> Case {
    let mut attributes = case.attributes.clone();
    let short = case.attributes[list].as_array().unwrap()[1..].to_vec();
    attributes.insert(list.into(), Value::Array(short));
    Case { attributes, ..one_of(&case.op, "") }
}

#[test]
fn machines_and_linear_models_with_a_list_too_short_are_refused() {
    let lists =
        ["support_vectors", "coefficients", "vectors_per_class", "rho", "prob_a", "kernel_params", "classlabels_ints"];
    let cases = [
        one_of("SVMRegressor", "RBF"),
        one_of("SVMClassifier", "RBF [0.2, 0.0, 3.0], 3 classes, NONE, probabilities True"),
        one_of("LinearClassifier", "3 products, classlabels_ints"),
    ];
    for case in &cases {
        assert!(!case.refused());
        for list in lists.iter().filter(|l| case.attributes.contains_key(**l)) {
            assert!(shortened(case, list).refused(), "{} {}: {list}", case.op, case.name);
        }
    }
    let linear = one_of("SVMClassifier", "without vectors");
    assert!(!linear.refused() && shortened(&linear, "rho").refused() && shortened(&linear, "coefficients").refused());
}

impl Case {
    fn refused(&self) -> bool {
        match self.op.as_str() {
            "SVMRegressor" => SvmRegressor::new(self.features, &self.svm_regressor()).is_err(),
            "SVMClassifier" => SvmClassifier::new(self.features, &self.svm_classifier()).is_err(),
            _ => LinearClassifier::new(self.features, &self.linear_classifier()).is_err(),
        }
    }
}

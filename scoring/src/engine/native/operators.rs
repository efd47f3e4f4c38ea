//! The native set: which operators are compiled, from which version of their operator set, and by what.

mod arithmetic;
mod learned;
mod matrix;
mod pool;
mod quantized;
mod reduce;
mod sequence;
mod shape;
mod shuffle;
mod trees;

use std::collections::BTreeSet;

use crate::engine::graph::{Graph, Kind};
use crate::kernel::trees::{NodeLists, WeightLists};

use super::Unfit;
use super::attributes::At;
use super::build::{Builder, Slot};
use super::forest::Forest;
use super::learned::Learner;

type Compile = fn(&mut Builder, &At<'_>) -> Result<Vec<Slot>, Unfit>;

/// An operator of the native set.
struct Operator {
    domain: &'static str,
    name: &'static str,
    /// The oldest operator set whose form of it is compiled.
    since: i64,
    compile: Compile,
}

const fn onnx(name: &'static str, since: i64, compile: Compile) -> Operator {
    Operator { domain: "", name, since, compile }
}

const fn microsoft(name: &'static str, compile: Compile) -> Operator {
    Operator { domain: "com.microsoft", name, since: 1, compile }
}

const fn ml(name: &'static str, compile: Compile) -> Operator {
    Operator { domain: "ai.onnx.ml", name, since: 1, compile }
}

/// All of it. A new operator is a line here, a line in the README's table and a test.
const OPERATORS: &[Operator] = &[
    onnx("Abs", 6, arithmetic::unary),
    onnx("Neg", 6, arithmetic::unary),
    onnx("Sqrt", 6, arithmetic::unary),
    onnx("Exp", 6, arithmetic::unary),
    onnx("Log", 6, arithmetic::unary),
    onnx("Reciprocal", 6, arithmetic::unary),
    onnx("Floor", 6, arithmetic::unary),
    onnx("Ceil", 6, arithmetic::unary),
    onnx("Round", 11, arithmetic::unary),
    onnx("Sign", 9, arithmetic::unary),
    onnx("Erf", 9, arithmetic::unary),
    onnx("Relu", 6, arithmetic::unary),
    onnx("LeakyRelu", 6, arithmetic::unary),
    onnx("Elu", 6, arithmetic::unary),
    onnx("Selu", 6, arithmetic::unary),
    onnx("Celu", 12, arithmetic::unary),
    onnx("ThresholdedRelu", 10, arithmetic::unary),
    onnx("Mish", 18, arithmetic::unary),
    onnx("IsInf", 10, arithmetic::unary),
    onnx("HardSigmoid", 6, arithmetic::unary),
    onnx("HardSwish", 14, arithmetic::unary),
    onnx("Sigmoid", 6, arithmetic::unary),
    onnx("Tanh", 6, arithmetic::unary),
    onnx("Softplus", 1, arithmetic::unary),
    onnx("Softsign", 1, arithmetic::unary),
    onnx("Swish", 24, arithmetic::unary),
    onnx("Gelu", 20, arithmetic::unary),
    onnx("Not", 1, arithmetic::unary),
    onnx("IsNaN", 9, arithmetic::unary),
    onnx("Clip", 6, arithmetic::clip),
    onnx("Add", 7, arithmetic::pair),
    onnx("Sub", 7, arithmetic::pair),
    onnx("Mul", 7, arithmetic::pair),
    onnx("Div", 7, arithmetic::pair),
    onnx("Pow", 7, arithmetic::pair),
    onnx("Mod", 10, arithmetic::pair),
    onnx("PRelu", 7, arithmetic::pair),
    onnx("Equal", 7, arithmetic::pair),
    onnx("Less", 7, arithmetic::pair),
    onnx("LessOrEqual", 12, arithmetic::pair),
    onnx("Greater", 7, arithmetic::pair),
    onnx("GreaterOrEqual", 12, arithmetic::pair),
    onnx("And", 7, arithmetic::pair),
    onnx("Or", 7, arithmetic::pair),
    onnx("Xor", 7, arithmetic::pair),
    onnx("Min", 8, arithmetic::many),
    onnx("Max", 8, arithmetic::many),
    onnx("Sum", 8, arithmetic::many),
    onnx("Mean", 8, arithmetic::many),
    onnx("Where", 9, arithmetic::choice),
    onnx("Cast", 6, arithmetic::cast),
    onnx("CastLike", 15, arithmetic::cast),
    onnx("Gemm", 7, matrix::gemm),
    onnx("MatMul", 1, matrix::matmul),
    onnx("ReduceSum", 1, reduce::reduce),
    onnx("ReduceMean", 1, reduce::reduce),
    onnx("ReduceMax", 1, reduce::reduce),
    onnx("ReduceMin", 1, reduce::reduce),
    onnx("ReduceProd", 1, reduce::reduce),
    onnx("ReduceSumSquare", 1, reduce::reduce),
    onnx("ReduceL1", 1, reduce::reduce),
    onnx("ReduceL2", 1, reduce::reduce),
    onnx("ReduceLogSum", 1, reduce::reduce),
    onnx("ReduceLogSumExp", 1, reduce::reduce),
    onnx("ArgMax", 1, reduce::arg),
    onnx("ArgMin", 1, reduce::arg),
    onnx("TopK", 1, reduce::top),
    onnx("CumSum", 11, reduce::running),
    onnx("Softmax", 1, reduce::softmax),
    onnx("LogSoftmax", 1, reduce::softmax),
    onnx("LayerNormalization", 17, reduce::layer_normalization),
    onnx("BatchNormalization", 7, reduce::batch_normalization),
    onnx("Identity", 1, shape::same),
    onnx("Dropout", 7, shape::same),
    onnx("Reshape", 1, shape::reshape),
    onnx("Flatten", 1, shape::flatten),
    onnx("Squeeze", 1, shape::squeeze),
    onnx("Unsqueeze", 1, shape::unsqueeze),
    onnx("Shape", 1, shape::shape),
    onnx("Size", 1, shape::shape),
    onnx("Constant", 1, shape::constant),
    onnx("ConstantOfShape", 9, shape::constant_of_shape),
    onnx("Range", 11, shape::range),
    onnx("Transpose", 1, shuffle::transpose),
    onnx("Slice", 1, shuffle::slice),
    onnx("Split", 2, shuffle::split),
    onnx("Gather", 1, shuffle::gather),
    onnx("Expand", 8, shuffle::expand),
    onnx("Tile", 6, shuffle::tile),
    onnx("Pad", 2, shuffle::pad),
    onnx("Trilu", 14, shuffle::triangle),
    onnx("Concat", 4, shuffle::concat),
    onnx("LSTM", 7, sequence::recurrent),
    onnx("GRU", 7, sequence::recurrent),
    onnx("Conv", 1, sequence::convolution),
    onnx("ConvTranspose", 1, sequence::convolution),
    onnx("AveragePool", 1, pool::pool),
    onnx("MaxPool", 1, pool::pool),
    onnx("GlobalAveragePool", 1, pool::global_pool),
    onnx("GlobalMaxPool", 1, pool::global_pool),
    onnx("InstanceNormalization", 6, pool::instance_normalization),
    onnx("LpNormalization", 1, pool::lp_normalization),
    onnx("Scan", 9, pool::scan),
    onnx("QuantizeLinear", 10, quantized::quantize),
    onnx("DequantizeLinear", 10, quantized::dequantize),
    onnx("DynamicQuantizeLinear", 11, quantized::dynamic_quantize),
    onnx("MatMulInteger", 10, quantized::matmul_integer),
    onnx("QLinearMatMul", 10, quantized::qlinear_matmul),
    microsoft("QGemm", quantized::qgemm),
    microsoft("QLinearAdd", quantized::qlinear_pair),
    microsoft("QLinearMul", quantized::qlinear_pair),
    ml("Scaler", learned::scaler),
    ml("Normalizer", learned::normalizer),
    ml("Imputer", learned::imputer),
    ml("Binarizer", learned::binarizer),
    ml("LinearRegressor", learned::linear_regressor),
    ml("LinearClassifier", learned::linear_classifier),
    ml("SVMRegressor", learned::svm_regressor),
    ml("SVMClassifier", learned::svm_classifier),
    ml("TreeEnsembleRegressor", trees::regressor),
    ml("TreeEnsembleClassifier", trees::classifier),
    ml("TreeEnsemble", trees::ensemble),
    ml("LabelEncoder", learned::label_encoder),
    ml("OneHotEncoder", learned::one_hot_encoder),
    ml("ArrayFeatureExtractor", learned::array_feature_extractor),
    ml("FeatureVectorizer", learned::feature_vectorizer),
    ml("ZipMap", learned::zip_map),
];

fn find(domain: &str, name: &str) -> Option<&'static Operator> {
    OPERATORS.iter().find(|o| o.name == name && o.domain == domain)
}

/// Operators of the graph that are not in the set; those of a body are its owner's matter.
pub(super) fn unknown(graph: &Graph) -> Vec<String> {
    let lacking = graph.nodes.iter().filter(|n| find(&n.domain, &n.operator).is_none());
    lacking.map(|n| n.title()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// What the node's outputs are.
pub(super) fn compile(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let Some(operator) = find(&at.node.domain, &at.node.operator) else {
        return Err(Unfit::Unknown(vec![at.node.title()]));
    };
    if at.opset < operator.since && operator.domain.is_empty() {
        return Err(at.unsupported(&format!("is from operator set {}, which is too old", at.opset)));
    }
    (operator.compile)(builder, at)
}

/// The lists of a regressor that is one tree with one target and nothing before or behind.
pub(super) fn lists_of_one_tree(at: &mut At<'_>) -> Option<(NodeLists, WeightLists)> {
    let plain = at.int_or("n_targets", 1).ok()? == 1
        && at.text_or("aggregate_function", "SUM").ok()? == "SUM"
        && at.text_or("post_transform", "NONE").ok()? == "NONE"
        && at.floats("base_values").ok()?.is_empty();
    let (nodes, targets) = (trees::node_lists(at).ok()?, trees::weight_lists(at, "target").ok()?);
    let first = nodes.nodes_treeids.first()?;
    (plain && nodes.nodes_treeids.iter().all(|t| t == first)).then_some((nodes, targets))
}

/// A whole forest as one step.
pub(super) fn forest(builder: &mut Builder, forest: &Forest, input: Option<&Slot>) -> Result<Vec<Slot>, Unfit> {
    let x = input.ok_or_else(|| Unfit::Refused(format!("trees look at `{}`, which nothing makes", forest.input)))?;
    let (Kind::F32, [lines, columns]) = (x.kind, &*x.shape) else {
        return Err(Unfit::Unsupported("trees look at something that is no table".into()));
    };
    let trees = forest.grown(*columns)?;
    learned::numbers(builder, x, (*lines, 1), Learner::Trees(Box::new(trees)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_lists_every_operator_with_its_oldest_set() {
        let readme = include_str!("../../../../README.md");
        let lacking = OPERATORS.iter().map(|o| format!("`{}` {}", o.name, o.since));
        let lacking: Vec<String> = lacking.filter(|entry| !readme.contains(entry.as_str())).collect();
        assert!(lacking.is_empty(), "README.md, \"What runs natively\", lacks {lacking:?}");
    }

    #[test]
    fn no_operator_is_listed_twice() {
        let names: BTreeSet<_> = OPERATORS.iter().map(|o| (o.domain, o.name)).collect();
        assert_eq!(names.len(), OPERATORS.len());
    }
}

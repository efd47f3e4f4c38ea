//! ai.onnx.ml: attributes as the file has them into the kernels.

use crate::engine::graph::{Kind, Values};
use crate::engine::native::Unfit;
use crate::engine::native::attributes::At;
use crate::engine::native::build::{Builder, Slot};
use crate::engine::native::learned::{Learned, Learner};
use crate::engine::native::pair::{Binary, What};
use crate::engine::native::plan::Kernel;
use crate::kernel::labels::{Entries, LabelEncoder, Labels, OneHotEncoder};
use crate::kernel::linear::{LinearClassifier, LinearClassifierAttributes, LinearRegressor, LinearRegressorAttributes};
use crate::kernel::scale::{Binarizer, Imputer, Norm, Normalizer};
use crate::kernel::scores::Transform;
use crate::kernel::svm::{KernelType, SvmClassifier, SvmClassifierAttributes, SvmRegressor, SvmRegressorAttributes};

use super::arithmetic::meet;
use super::shuffle::{joined, looked_up, taken};

/// The rows of features that the operator is given: lines, and numbers in each.
pub(super) fn features(at: &At<'_>, x: &Slot) -> Result<(usize, usize), Unfit> {
    if x.kind != Kind::F32 {
        return Err(at.unsupported(&format!("takes numbers of kind {:?}", x.kind)));
    }
    match *x.shape {
        [n] if n > 0 => Ok((1, n)),
        [lines, n] if n > 0 && lines > 0 => Ok((lines, n)),
        _ => Err(at.unsupported(&format!("takes a tensor of shape {:?}", x.shape))),
    }
}

pub(super) fn ints(at: &At<'_>, name: &str) -> Result<Vec<i64>, Unfit> {
    Ok(at.ints(name)?.unwrap_or_default().to_vec())
}

pub(super) fn transform(at: &At<'_>) -> Result<Transform, Unfit> {
    let name = at.text_or("post_transform", "NONE")?;
    Transform::named(name).ok_or_else(|| at.refused(&format!("has the post_transform {name}")))
}

/// `classlabels_*`.
pub(super) fn labels(at: &At<'_>, integers: &str) -> Result<Labels, Unfit> {
    let strings = at.texts("classlabels_strings")?;
    Ok(if strings.is_empty() { Labels::Ints(ints(at, integers)?) } else { Labels::Strings(strings.to_vec()) })
}

/// A step that gives `columns` numbers a line.
pub(super) fn numbers(
    builder: &mut Builder,
    x: &Slot,
    (lines, columns): (usize, usize),
    model: Learner,
) -> Result<Vec<Slot>, Unfit> {
    let kernel = Kernel::Learned(Learned { lines, model });
    Ok(vec![builder.emit_one(kernel, &[x], Kind::F32, &[lines, columns])?])
}

/// A step that gives a label and `columns` scores a line.
pub(super) fn verdicts(
    builder: &mut Builder,
    x: &Slot,
    (lines, columns): (usize, usize),
    model: Learner,
) -> Result<Vec<Slot>, Unfit> {
    let kernel = Kernel::Learned(Learned { lines, model });
    builder.emit(kernel, &[x], &[(Kind::I64, &[lines]), (Kind::F32, &[lines, columns])])
}

pub(super) fn scaler(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let mut x = at.input(0)?.clone();
    features(at, &x)?;
    for (with, name) in [(Binary::Sub, "offset"), (Binary::Mul, "scale")] {
        let list = at.floats(name)?.to_vec();
        if !list.is_empty() {
            let constant = builder.floats(&[list.len()], list)?;
            x = meet(builder, at, What::Compute(with), &x, &constant)?;
        }
    }
    Ok(vec![x])
}

pub(super) fn normalizer(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let (lines, columns) = features(at, &x)?;
    let name = at.text_or("norm", "MAX")?;
    let norm = Norm::named(name).ok_or_else(|| at.refused(&format!("has the norm {name}")))?;
    let model = Normalizer::new(columns, norm).map_err(|e| at.refused(&e.to_string()))?;
    numbers(builder, &x, (lines, columns), Learner::Normalizer(model))
}

pub(super) fn imputer(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let (lines, columns) = features(at, &x)?;
    let replaced = at.float_or("replaced_value_float", 0.0)?;
    let model =
        Imputer::new(columns, at.floats("imputed_value_floats")?, replaced).map_err(|e| at.refused(&e.to_string()))?;
    numbers(builder, &x, (lines, columns), Learner::Imputer(model))
}

pub(super) fn binarizer(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let size = features(at, &x)?;
    let model = Binarizer::new(at.float_or("threshold", 0.0)?).map_err(|e| at.refused(&e.to_string()))?;
    numbers(builder, &x, size, Learner::Binarizer(model))
}

pub(super) fn linear_regressor(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let (lines, columns) = features(at, &x)?;
    let attributes = LinearRegressorAttributes {
        coefficients: at.floats("coefficients")?.to_vec(),
        intercepts: at.floats("intercepts")?.to_vec(),
        targets: at.int_or("targets", 1)?,
        post_transform: transform(at)?,
    };
    let model = LinearRegressor::new(columns, &attributes).map_err(|e| at.refused(&e.to_string()))?;
    let outputs = model.outputs();
    numbers(builder, &x, (lines, outputs), Learner::LinearRegressor(model))
}

pub(super) fn linear_classifier(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let (lines, columns) = features(at, &x)?;
    let attributes = LinearClassifierAttributes {
        coefficients: at.floats("coefficients")?.to_vec(),
        intercepts: at.floats("intercepts")?.to_vec(),
        labels: labels(at, "classlabels_ints")?,
        post_transform: transform(at)?,
    };
    let model = LinearClassifier::new(columns, &attributes).map_err(|e| at.refused(&e.to_string()))?;
    let outputs = model.outputs();
    verdicts(builder, &x, (lines, outputs), Learner::LinearClassifier(model))
}

fn kernel_type(at: &At<'_>) -> Result<KernelType, Unfit> {
    let name = at.text_or("kernel_type", "LINEAR")?;
    KernelType::named(name).ok_or_else(|| at.refused(&format!("has the kernel {name}")))
}

pub(super) fn svm_regressor(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let (lines, columns) = features(at, &x)?;
    let attributes = SvmRegressorAttributes {
        kernel_type: kernel_type(at)?,
        kernel_params: at.floats("kernel_params")?.to_vec(),
        support_vectors: at.floats("support_vectors")?.to_vec(),
        n_supports: at.int_or("n_supports", 0)?,
        coefficients: at.floats("coefficients")?.to_vec(),
        rho: at.floats("rho")?.to_vec(),
        one_class: at.int_or("one_class", 0)?,
    };
    let model = SvmRegressor::new(columns, &attributes).map_err(|e| at.refused(&e.to_string()))?;
    numbers(builder, &x, (lines, 1), Learner::SvmRegressor(Box::new(model)))
}

pub(super) fn svm_classifier(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let (lines, columns) = features(at, &x)?;
    let attributes = SvmClassifierAttributes {
        kernel_type: kernel_type(at)?,
        kernel_params: at.floats("kernel_params")?.to_vec(),
        vectors_per_class: ints(at, "vectors_per_class")?,
        support_vectors: at.floats("support_vectors")?.to_vec(),
        coefficients: at.floats("coefficients")?.to_vec(),
        rho: at.floats("rho")?.to_vec(),
        prob_a: at.floats("prob_a")?.to_vec(),
        prob_b: at.floats("prob_b")?.to_vec(),
        labels: labels(at, "classlabels_ints")?,
        post_transform: transform(at)?,
    };
    let model = SvmClassifier::new(columns, &attributes).map_err(|e| at.refused(&e.to_string()))?;
    let outputs = model.outputs();
    verdicts(builder, &x, (lines, outputs), Learner::SvmClassifier(Box::new(model)))
}

/// `keys_*` or `values_*`, whichever the node has.
fn entries(at: &At<'_>, what: &str) -> Result<Entries, Unfit> {
    if let Some(list) = at.ints(&format!("{what}_int64s"))? {
        return Ok(Entries::Ints(list.to_vec()));
    }
    let floats = at.floats(&format!("{what}_floats"))?;
    if !floats.is_empty() {
        return Ok(Entries::Floats(floats.to_vec()));
    }
    if let Some(tensor) = at.tensor(&format!("{what}_tensor"))? {
        match &tensor.values {
            Values::I64(list) => return Ok(Entries::Ints(list.clone())),
            Values::F32(list) => return Ok(Entries::Floats(list.clone())),
            Values::Text(list) => return Ok(Entries::Strings(list.clone())),
            Values::F64(_) | Values::U8(_) | Values::I8(_) => return Err(at.unsupported("has entries of that kind")),
        }
    }
    Ok(Entries::Strings(at.texts(&format!("{what}_strings"))?.to_vec()))
}

pub(super) fn label_encoder(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    let classes = at.texts("classes_strings")?;
    let (keys, values) = if classes.is_empty() {
        (entries(at, "keys")?, entries(at, "values")?)
    } else {
        (Entries::Ints((0..classes.len() as i64).collect()), Entries::Strings(classes.to_vec()))
    };
    let default = match (&values, at.tensor("default_tensor")?.map(|t| &t.values)) {
        (Entries::Floats(_), Some(Values::F32(v))) => Entries::Floats(v.clone()),
        (Entries::Ints(_), Some(Values::I64(v))) => Entries::Ints(v.clone()),
        (Entries::Floats(_), _) => Entries::Floats(vec![at.float_or("default_float", -0.0)?]),
        (Entries::Ints(_), _) => Entries::Ints(vec![at.int_or("default_int64", -1)?]),
        (Entries::Strings(_), _) => Entries::Strings(vec![at.text_or("default_string", "_Unused")?.to_owned()]),
    };
    let (keys, values) = by_place(builder, &x, keys, values);
    let fits = matches!((&keys, x.kind), (Entries::Ints(_), Kind::I64) | (Entries::Floats(_), Kind::F32));
    let kind = match &values {
        Entries::Floats(_) => Kind::F32,
        // Strings are known by their place among the values.
        Entries::Ints(_) | Entries::Strings(_) => Kind::I64,
    };
    if !fits {
        return Err(at.unsupported(&format!("looks up keys of another kind than its numbers, which are {:?}", x.kind)));
    }
    let model = LabelEncoder::new(&keys, &values, &default).map_err(|e| at.refused(&e.to_string()))?;
    let words = match model.values() {
        Entries::Strings(words) => Some(words.clone()),
        Entries::Ints(_) | Entries::Floats(_) => None,
    };
    let kernel = Kernel::Learned(Learned { lines: 1, model: Learner::Labels(model) });
    let made = builder.emit_one(kernel, &[&x], kind, &x.shape)?;
    if let Some(words) = words {
        builder.spell(&made, words);
    }
    Ok(vec![made])
}

/// Keys that are words by the places that stand for them, where it is known which do.
fn by_place(builder: &Builder, x: &Slot, keys: Entries, values: Entries) -> (Entries, Entries) {
    let (Entries::Strings(words), Some(known)) = (&keys, builder.words(x)) else { return (keys, values) };
    let place = |word: &String| known.iter().position(|k| k == word);
    let found: Vec<(i64, usize)> =
        words.iter().enumerate().filter_map(|(i, word)| place(word).map(|p| (p as i64, i))).collect();
    let kept = found.iter().map(|(_, i)| *i);
    let values = match values {
        Entries::Ints(v) => Entries::Ints(kept.filter_map(|i| v.get(i).copied()).collect()),
        Entries::Floats(v) => Entries::Floats(kept.filter_map(|i| v.get(i).copied()).collect()),
        Entries::Strings(v) => Entries::Strings(kept.filter_map(|i| v.get(i).cloned()).collect()),
    };
    (Entries::Ints(found.iter().map(|(p, _)| *p).collect()), values)
}

pub(super) fn one_hot_encoder(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let x = at.input(0)?.clone();
    if !matches!(x.kind, Kind::F32 | Kind::I64) {
        return Err(at.unsupported(&format!("takes numbers of kind {:?}", x.kind)));
    }
    let model =
        OneHotEncoder::new(&Entries::Ints(ints(at, "cats_int64s")?)).map_err(|e| at.unsupported(&e.to_string()))?;
    let mut shape = x.shape.to_vec();
    shape.push(model.categories());
    Builder::room(&shape)?;
    let kernel = Kernel::Learned(Learned { lines: 1, model: Learner::OneHot(model) });
    Ok(vec![builder.emit_one(kernel, &[&x], Kind::F32, &shape)?])
}

/// The scores as they are: who asks for one number per class gets the tensor.
pub(super) fn zip_map(_: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    Ok(vec![at.input(0)?.clone()])
}

pub(super) fn array_feature_extractor(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let (x, indices) = (at.input(0)?.clone(), at.input(1)?.clone());
    let Some((columns, outer)) = x.shape.split_last() else { return Err(at.refused("takes columns of no table")) };
    // A vector becomes a table of one line.
    let mut shape = if outer.is_empty() { vec![1] } else { outer.to_vec() };
    shape.push(indices.numbers());
    if indices.kind != Kind::I64 || *columns == 0 {
        return Err(at.refused("takes columns that are no whole numbers"));
    }
    let axis = x.shape.len() - 1;
    if let Some(Values::I64(list)) = builder.known(&indices) {
        let list = list.iter().map(|i| at.axis(*i, *columns)).collect::<Result<Vec<_>, _>>()?;
        return Ok(vec![taken(builder, &x, axis, &list, &shape)?]);
    }
    if x.kind == Kind::Text {
        // Words are known by their place in the list that they come from.
        return Ok(vec![indices.reshaped(shape)?]);
    }
    Ok(vec![looked_up(builder, (&x, axis), &indices, &shape)?])
}

pub(super) fn feature_vectorizer(builder: &mut Builder, at: &At<'_>) -> Result<Vec<Slot>, Unfit> {
    let all: Vec<Slot> = at.inputs().cloned().collect();
    for (slot, width) in all.iter().zip(ints(at, "inputdimensions")?) {
        if slot.shape.last().and_then(|n| i64::try_from(*n).ok()) != Some(width) {
            return Err(at.unsupported("cuts or fills its inputs"));
        }
    }
    let first = at.input(0)?;
    let axis = first.shape.len().saturating_sub(1);
    joined(builder, at, &all.iter().collect::<Vec<_>>(), axis).map(|slot| vec![slot])
}

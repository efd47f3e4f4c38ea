//! Names and numbers for classes: `LabelEncoder`, `OneHotEncoder`, and the two that pick and join columns,
//! `ArrayFeatureExtractor` and `FeatureVectorizer`. `ZipMap` is nothing here: the scores stay a tensor.

use std::collections::HashMap;

use crate::kernel::Refused;

/// `classlabels_*`: what a classifier may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Labels {
    Ints(Vec<i64>),
    Strings(Vec<String>),
}

impl Default for Labels {
    fn default() -> Labels {
        Labels::Ints(Vec::new())
    }
}

impl Labels {
    pub(crate) fn len(&self) -> usize {
        match self {
            Labels::Ints(ints) => ints.len(),
            Labels::Strings(strings) => strings.len(),
        }
    }

    /// The label of a class: the number itself, or for strings the class, which indexes them. 0 beyond the last.
    pub(crate) fn of(&self, class: usize) -> i64 {
        match self {
            Labels::Ints(ints) => ints.get(class).copied().unwrap_or(0),
            Labels::Strings(strings) => {
                if class < strings.len() {
                    class as i64
                } else {
                    0
                }
            }
        }
    }
}

/// What a [`LabelEncoder`] maps from or to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Entries {
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Strings(Vec<String>),
}

impl Entries {
    pub(crate) fn len(&self) -> usize {
        match self {
            Entries::Ints(list) => list.len(),
            Entries::Floats(list) => list.len(),
            Entries::Strings(list) => list.len(),
        }
    }
}

/// Entries of one encoder, categories of one hot.
const ENTRIES_MAX: usize = 1 << 22;

/// A place for each key.
#[derive(Clone, Debug)]
enum Index {
    Ints(HashMap<i64, u32>),
    /// By the bits that [`bits`] gives.
    Floats(HashMap<u32, u32>),
    Strings(HashMap<String, u32>),
}

/// Equal numbers have equal bits: one zero, one NaN.
fn bits(x: f32) -> u32 {
    if x.is_nan() { f32::NAN.to_bits() } else { (x + 0.0).to_bits() }
}

impl Index {
    /// The first of equal keys counts.
    fn of(keys: &Entries) -> Index {
        fn index<K: std::hash::Hash + Eq>(keys: impl Iterator<Item = K>) -> HashMap<K, u32> {
            let mut index = HashMap::new();
            for (place, key) in keys.enumerate() {
                index.entry(key).or_insert(place as u32);
            }
            index
        }
        match keys {
            Entries::Ints(list) => Index::Ints(index(list.iter().copied())),
            Entries::Floats(list) => Index::Floats(index(list.iter().map(|x| bits(*x)))),
            Entries::Strings(list) => Index::Strings(index(list.iter().cloned())),
        }
    }

    fn int(&self, key: i64) -> Option<usize> {
        match self {
            Index::Ints(index) => index.get(&key).map(|p| *p as usize),
            Index::Floats(_) | Index::Strings(_) => None,
        }
    }

    fn float(&self, key: f32) -> Option<usize> {
        match self {
            Index::Floats(index) => index.get(&bits(key)).map(|p| *p as usize),
            Index::Ints(_) | Index::Strings(_) => None,
        }
    }

    fn string(&self, key: &str) -> Option<usize> {
        match self {
            Index::Strings(index) => index.get(key).map(|p| *p as usize),
            Index::Ints(_) | Index::Floats(_) => None,
        }
    }
}

/// `LabelEncoder`: key to value, anything unknown to the default. Two NaN are one key, as operator set 4 has it.
#[derive(Clone, Debug)]
pub(crate) struct LabelEncoder {
    index: Index,
    /// One value a key, then the default.
    values: Entries,
}

impl LabelEncoder {
    /// `keys_*`, `values_*` and `default_*` as one entry of the values' type. For operator set 1, `classes_strings` are the keys
    /// or the values, and the numbers from 0 the others.
    ///
    /// # Errors
    /// For lists of unlike length, or a default of another type.
    pub(crate) fn new(keys: &Entries, values: &Entries, default: &Entries) -> Result<LabelEncoder, Refused> {
        if keys.len() != values.len() || keys.len() > ENTRIES_MAX {
            return Err(Refused(format!("LabelEncoder has {} keys for {} values", keys.len(), values.len())));
        }
        let values = match (values, default) {
            (Entries::Ints(v), Entries::Ints(d)) if d.len() == 1 => Entries::Ints([&v[..], d].concat()),
            (Entries::Floats(v), Entries::Floats(d)) if d.len() == 1 => Entries::Floats([&v[..], d].concat()),
            (Entries::Strings(v), Entries::Strings(d)) if d.len() == 1 => Entries::Strings([&v[..], d].concat()),
            _ => return Err(Refused("LabelEncoder's default is not one value of the values' type".into())),
        };
        Ok(LabelEncoder { index: Index::of(keys), values })
    }

    /// What [`LabelEncoder::place_of_int`] and its like point into: the values, and at the end the default.
    pub(crate) fn values(&self) -> &Entries {
        &self.values
    }

    /// The place in [`LabelEncoder::values`] for a key.
    pub(crate) fn place_of_int(&self, key: i64) -> usize {
        self.index.int(key).unwrap_or(self.values.len() - 1)
    }

    /// As [`LabelEncoder::place_of_int`].
    pub(crate) fn place_of_float(&self, key: f32) -> usize {
        self.index.float(key).unwrap_or(self.values.len() - 1)
    }

    /// As [`LabelEncoder::place_of_int`].
    pub(crate) fn place_of_string(&self, key: &str) -> usize {
        self.index.string(key).unwrap_or(self.values.len() - 1)
    }

    /// The value at a place as a number: for strings the place itself, which [`LabelEncoder::values`] resolves.
    pub(crate) fn int_at(&self, place: usize) -> i64 {
        match &self.values {
            Entries::Ints(list) => list.get(place).copied().unwrap_or(0),
            Entries::Floats(list) => list.get(place).map_or(0, |x| *x as i64),
            Entries::Strings(_) => place as i64,
        }
    }

    /// The value at a place as a float; 0 for strings.
    pub(crate) fn float_at(&self, place: usize) -> f32 {
        match &self.values {
            Entries::Ints(list) => list.get(place).map_or(0.0, |x| *x as f32),
            Entries::Floats(list) => list.get(place).copied().unwrap_or(0.0),
            Entries::Strings(_) => 0.0,
        }
    }
}

/// `OneHotEncoder`: a 1 at the value's category, zeros for a value without one (also where `zeros` is 0 and ONNX Runtime stops).
#[derive(Clone, Debug)]
pub(crate) struct OneHotEncoder {
    index: Index,
    categories: usize,
}

impl OneHotEncoder {
    /// `cats_int64s` or `cats_strings`.
    ///
    /// # Errors
    /// Without categories, or for floats.
    pub(crate) fn new(categories: &Entries) -> Result<OneHotEncoder, Refused> {
        if matches!(categories, Entries::Floats(_)) || !(1..=ENTRIES_MAX).contains(&categories.len()) {
            return Err(Refused("OneHotEncoder wants cats_int64s or cats_strings, and at least one of them".into()));
        }
        Ok(OneHotEncoder { index: Index::of(categories), categories: categories.len() })
    }

    /// Columns that one value becomes.
    pub(crate) fn categories(&self) -> usize {
        self.categories
    }

    /// `out[values x categories]`; the fraction of a float is cut off.
    pub(crate) fn run_floats(&self, input: &[f32], out: &mut [f32]) {
        self.run(input.iter().map(|x| self.index.int(*x as i64)), out);
    }

    /// As [`OneHotEncoder::run_floats`].
    pub(crate) fn run_ints(&self, input: &[i64], out: &mut [f32]) {
        self.run(input.iter().map(|x| self.index.int(*x)), out);
    }

    fn run(&self, places: impl Iterator<Item = Option<usize>>, out: &mut [f32]) {
        for (place, row) in places.zip(out.chunks_exact_mut(self.categories)) {
            row.fill(0.0);
            if let Some(one) = place.and_then(|p| row.get_mut(p)) {
                *one = 1.0;
            }
        }
    }
}

/// `ArrayFeatureExtractor`: chosen columns, in the chosen order.
#[derive(Clone, Debug)]
pub(crate) struct ArrayFeatureExtractor {
    features: usize,
    columns: Vec<usize>,
}

impl ArrayFeatureExtractor {
    /// # Errors
    /// For a column that rows of `features` numbers do not have, or none at all.
    pub(crate) fn new(features: usize, columns: &[i64]) -> Result<ArrayFeatureExtractor, Refused> {
        if columns.is_empty() {
            return Err(Refused("ArrayFeatureExtractor picks no column".into()));
        }
        let checked = columns.iter().map(|c| match usize::try_from(*c) {
            Ok(column) if column < features => Ok(column),
            Ok(_) | Err(_) => Err(Refused(format!("ArrayFeatureExtractor picks column {c} of {features}"))),
        });
        Ok(ArrayFeatureExtractor { features, columns: checked.collect::<Result<_, _>>()? })
    }

    /// Columns of the output.
    pub(crate) fn outputs(&self) -> usize {
        self.columns.len()
    }

    /// `out[rows x outputs]` from `input[rows x features]`, of whatever type the numbers are.
    pub(crate) fn run<T: Copy>(&self, rows: usize, input: &[T], out: &mut [T]) {
        let outs = out.chunks_exact_mut(self.columns.len());
        for (row, out) in input.chunks_exact(self.features).zip(outs).take(rows) {
            for (out, column) in out.iter_mut().zip(&self.columns) {
                *out = row[*column];
            }
        }
    }
}

/// `FeatureVectorizer`: inputs side by side, each cut or filled with zeros to its own number of columns.
#[derive(Clone, Debug)]
pub(crate) struct FeatureVectorizer {
    widths: Vec<usize>,
    outputs: usize,
}

impl FeatureVectorizer {
    /// `inputdimensions`.
    ///
    /// # Errors
    /// For a negative number of columns, or more than memory is for.
    pub(crate) fn new(dimensions: &[i64]) -> Result<FeatureVectorizer, Refused> {
        let widths: Option<Vec<usize>> = dimensions.iter().map(|d| usize::try_from(*d).ok()).collect();
        let outputs = widths.iter().flatten().try_fold(0_usize, |sum, w| sum.checked_add(*w));
        match (widths, outputs) {
            (Some(widths), Some(outputs)) if (1..=ENTRIES_MAX).contains(&outputs) => {
                Ok(FeatureVectorizer { widths, outputs })
            }
            _ => Err(Refused(format!("FeatureVectorizer's inputdimensions {dimensions:?} do not make a row"))),
        }
    }

    /// Columns of the output.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// `out[rows x outputs]` from each input's numbers and its columns.
    pub(crate) fn run(&self, rows: usize, inputs: &[(&[f32], usize)], out: &mut [f32]) {
        for (i, row) in out.chunks_exact_mut(self.outputs).take(rows).enumerate() {
            row.fill(0.0);
            let mut at = 0;
            for ((input, columns), width) in inputs.iter().zip(&self.widths) {
                let given = input.get(i * columns..(i + 1) * columns).unwrap_or(&[]);
                for (out, x) in row[at..at + width].iter_mut().zip(given) {
                    *out = *x;
                }
                at += width;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn strings(list: &[&str]) -> Entries {
        Entries::Strings(list.iter().map(|s| (*s).to_owned()).collect())
    }

    #[test]
    fn an_encoder_maps_every_kind_of_key_to_every_kind_of_value() {
        let keys = [Entries::Ints(vec![7, -1]), Entries::Floats(vec![0.5, f32::NAN]), strings(&["calm", "storm"])];
        let values = [Entries::Ints(vec![70, 71]), Entries::Floats(vec![7.5, 8.5]), strings(&["a", "b"])];
        let defaults = [Entries::Ints(vec![-9]), Entries::Floats(vec![-9.0]), strings(&["none"])];
        for keys in &keys {
            for (values, default) in values.iter().zip(&defaults) {
                let made = LabelEncoder::new(keys, values, default).unwrap();
                let places = match keys {
                    Entries::Ints(_) => [7, -1, 8].map(|k| made.place_of_int(k)),
                    Entries::Floats(_) => [0.5, f32::NAN, 0.25].map(|k| made.place_of_float(k)),
                    Entries::Strings(_) => ["calm", "storm", "flood"].map(|k| made.place_of_string(k)),
                };
                assert_eq!(places, [0, 1, 2]);
                let (ints, floats) = (places.map(|p| made.int_at(p)), places.map(|p| made.float_at(p)));
                match values {
                    Entries::Ints(_) => assert_eq!((ints, floats), ([70, 71, -9], [70.0, 71.0, -9.0])),
                    Entries::Floats(_) => assert_eq!((ints, floats), ([7, 8, -9], [7.5, 8.5, -9.0])),
                    Entries::Strings(_) => assert_eq!((ints, floats), ([0, 1, 2], [0.0; 3])),
                }
            }
        }
    }

    #[test]
    fn both_zeros_are_one_key_and_the_first_of_equal_keys_counts() {
        let keys = Entries::Floats(vec![-0.0, 3.0, 3.0]);
        let made = LabelEncoder::new(&keys, &Entries::Ints(vec![1, 2, 3]), &Entries::Ints(vec![0])).unwrap();
        assert_eq!([0.0, -0.0, 3.0].map(|k| made.place_of_float(k)), [0, 0, 1]);
        // A key of another kind is unknown, not a fault.
        assert_eq!((made.place_of_int(3), made.place_of_string("3")), (3, 3));
    }

    #[test]
    fn lists_that_do_not_fit_are_refused() {
        let (two, one) = (Entries::Ints(vec![1, 2]), Entries::Ints(vec![1]));
        assert!(LabelEncoder::new(&two, &one, &one).is_err());
        assert!(LabelEncoder::new(&two, &two, &two).is_err());
        assert!(LabelEncoder::new(&two, &two, &Entries::Floats(vec![1.0])).is_err());
        assert!(OneHotEncoder::new(&Entries::Floats(vec![1.0])).is_err());
        assert!(OneHotEncoder::new(&Entries::Ints(vec![])).is_err());
        assert!(ArrayFeatureExtractor::new(3, &[]).is_err());
        assert!(ArrayFeatureExtractor::new(3, &[0, 3]).is_err() && ArrayFeatureExtractor::new(3, &[-1]).is_err());
        assert!(FeatureVectorizer::new(&[]).is_err() && FeatureVectorizer::new(&[2, -1]).is_err());
        assert!(FeatureVectorizer::new(&[i64::MAX, i64::MAX]).is_err());
    }

    #[test]
    fn columns_are_picked_in_the_order_asked_for() {
        let made = ArrayFeatureExtractor::new(3, &[2, 0, 2]).unwrap();
        let mut out = [0; 6];
        made.run(2, &[1, 2, 3, 4, 5, 6], &mut out);
        assert_eq!(out, [3, 1, 3, 6, 4, 6]);
    }

    #[test]
    fn inputs_stand_side_by_side_cut_or_filled_to_their_columns() {
        let made = FeatureVectorizer::new(&[2, 3]).unwrap();
        let mut out = [9.0; 10];
        made.run(2, &[(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3), (&[7.0, 8.0], 1)], &mut out);
        assert_eq!(out, [1.0, 2.0, 7.0, 0.0, 0.0, 4.0, 5.0, 8.0, 0.0, 0.0]);
    }

    #[test]
    fn a_category_is_one_hot_and_an_unknown_one_is_none() {
        let made = OneHotEncoder::new(&Entries::Ints(vec![5, 2])).unwrap();
        let mut out = [9.0; 6];
        made.run_ints(&[2, 5, 4], &mut out);
        assert_eq!(out, [0.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
        made.run_floats(&[5.9, f32::NAN, f32::INFINITY], &mut out);
        assert_eq!(out, [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }
}

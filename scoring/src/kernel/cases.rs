//! Single operators as ONNX Runtime answered them (`tests/training/operators.py` made the files), for the kernels' tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
pub(super) struct Case {
    pub(super) operator: String,
    pub(super) attributes: BTreeMap<String, Value>,
    pub(super) inputs: BTreeMap<String, Tensor>,
    pub(super) outputs: BTreeMap<String, Tensor>,
}

#[derive(Deserialize)]
pub(super) struct Tensor {
    pub(super) shape: Vec<usize>,
    pub(super) numbers: Vec<f64>,
}

impl Tensor {
    pub(super) fn floats(&self) -> Vec<f32> {
        self.numbers.iter().map(|x| *x as f32).collect()
    }
}

impl Case {
    pub(super) fn input(&self, name: &str) -> Option<Vec<f32>> {
        self.inputs.get(name).map(Tensor::floats)
    }

    pub(super) fn output(&self, name: &str) -> Vec<f32> {
        self.outputs[name].floats()
    }

    pub(super) fn integer(&self, name: &str) -> Option<i64> {
        self.attributes.get(name).and_then(Value::as_i64)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).and_then(Value::as_str)
    }

    pub(super) fn list<'a, T>(&'a self, name: &str, read: impl Fn(&'a Value) -> Option<T>) -> Vec<T> {
        let values = self.attributes.get(name).and_then(Value::as_array);
        values.into_iter().flatten().filter_map(read).collect()
    }

    pub(super) fn floats(&self, name: &str) -> Vec<f32> {
        self.list(name, |v| v.as_f64().map(|x| x as f32))
    }

    pub(super) fn whole(&self, name: &str) -> Vec<usize> {
        self.list(name, |v| v.as_u64().and_then(|x| usize::try_from(x).ok()))
    }
}

pub(super) fn read(file: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/operators").join(file);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The largest difference relative to 1 + |want|.
pub(super) fn difference(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter()
        .zip(want)
        .map(|(g, w)| (g - w).abs() / (1.0 + w.abs()))
        .fold(0.0, |most, d| if d <= most { most } else { d })
}

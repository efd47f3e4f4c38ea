//! Models with inputs and what ONNX Runtime gives for them, from `tests/data/zoo` and `tests/data/coverage`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

/// A line of the zoo's manifest; see `tests/data/zoo/README.md`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Animal {
    pub(crate) name: String,
    pub(crate) family: String,
    pub(crate) exporter: String,
    pub(crate) batch: Batch,
    model: PathBuf,
    inputs: Vec<Input>,
    pub(crate) outputs: Vec<Output>,
}

/// How rows go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Batch {
    /// Any number, each on its own.
    Any,
    /// The graph fixes its batch at one.
    One,
    /// A row's result depends on the rows beside it.
    Whole,
}

#[derive(Clone, Debug, Deserialize)]
struct Input {
    name: String,
    shape: Vec<usize>,
    file: PathBuf,
}

/// An output as ONNX Runtime gave it, all rows in one batch.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Output {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    pub(crate) shape: Vec<usize>,
    /// Words, and the list that they are from.
    #[serde(default)]
    values: Vec<String>,
    #[serde(default)]
    words: Vec<String>,
}

/// What an output's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    F32,
    I64,
    String,
}

/// What came out, or should.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Numbers {
    F32(Vec<f32>),
    /// Labels and places; a word as its place in its list.
    I64(Vec<i64>),
}

/// The whole zoo.
pub(crate) fn all() -> anyhow::Result<Vec<Animal>> {
    Ok(serde_json::from_slice(&read(Path::new("manifest.json"))?)?)
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let path = vedette_tests::data_dir().join("zoo").join(file);
    std::fs::read(&path).with_context(|| format!("couldn't read {}", path.display()))
}

impl Animal {
    /// The model's bytes.
    pub(crate) fn onnx(&self) -> anyhow::Result<Vec<u8>> {
        let file = read(&self.model)?;
        if self.model.extension().is_none_or(|extension| extension != "gz") {
            return Ok(file);
        }
        let mut onnx = Vec::new();
        flate2::read::GzDecoder::new(&file[..]).read_to_end(&mut onnx)?;
        Ok(onnx)
    }

    /// Its input's name.
    pub(crate) fn input_name(&self) -> anyhow::Result<&str> {
        Ok(&self.inputs.first().context("a model without inputs")?.name)
    }

    /// Shape of one row.
    pub(crate) fn row_shape(&self) -> &[usize] {
        self.inputs.first().and_then(|input| input.shape.get(1..)).unwrap_or_default()
    }

    /// The rows that it is asked, one after the other.
    pub(crate) fn rows(&self) -> anyhow::Result<Vec<f32>> {
        let bytes = read(&self.inputs.first().context("a model without inputs")?.file)?;
        Ok(floats(&bytes))
    }

    /// What ONNX Runtime gave, per output.
    pub(crate) fn reference(&self) -> anyhow::Result<Vec<Numbers>> {
        let stored = read(Path::new(&format!("{}.out", self.name)))?;
        let mut rest = &stored[..];
        self.outputs.iter().map(|output| output.take(&mut rest)).collect()
    }
}

impl Output {
    fn take(&self, rest: &mut &[u8]) -> anyhow::Result<Numbers> {
        let count: usize = self.shape.iter().product();
        let mut cut = |bytes: usize| {
            let (numbers, behind) = rest.split_at_checked(count * bytes).context("the outputs' file is too short")?;
            *rest = behind;
            anyhow::Ok(numbers)
        };
        Ok(match self.kind {
            Kind::F32 => Numbers::F32(floats(cut(4)?)),
            Kind::I64 => Numbers::I64(cut(8)?.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()),
            Kind::String => {
                let place = |word: &String| self.words.iter().position(|w| w == word).map_or(-1, |place| place as i64);
                Numbers::I64(self.values.iter().map(place).collect())
            }
        })
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// The largest difference of numbers, of 1 + the expected size; labels differ by nothing or without end, as do other lengths.
pub(crate) fn difference(found: &Numbers, expected: &Numbers) -> f32 {
    match (found, expected) {
        (Numbers::F32(found), Numbers::F32(expected)) if found.len() == expected.len() => {
            found.iter().zip(expected).map(|(f, e)| apart(*f, *e)).fold(0.0, f32::max)
        }
        (Numbers::I64(found), Numbers::I64(expected)) if found == expected => 0.0,
        (Numbers::F32(_) | Numbers::I64(_), Numbers::F32(_) | Numbers::I64(_)) => f32::INFINITY,
    }
}

fn apart(found: f32, expected: f32) -> f32 {
    if found == expected || (found.is_nan() && expected.is_nan()) {
        return 0.0;
    }
    let apart = (found - expected).abs() / (1.0 + expected.abs());
    if apart.is_nan() { f32::INFINITY } else { apart }
}

//! The small dense autoencoder (32-16-8-16-32, one row at a time) as something to push, and the rows for it: the first 32 signals
//! of the sample's three quiet days.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use vedette_protocol::{Blob, Digest, Draft};
use vedette_scoring::Model;
use vedette_tests::data_dir;

/// Numbers of a row.
const SIGNALS: usize = 32;

/// Writes `model.onnx`, `manifest.toml`, `selftest.json` and `rows.csv`.
pub(super) fn write(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let columns = write_rows(&folder.join("rows.csv"))?;
    let onnx = std::fs::read(data_dir().join("coverage/dense_ae_ts.onnx"))?;
    std::fs::write(folder.join("model.onnx"), &onnx)?;
    let manifest = manifest(&columns);
    std::fs::write(folder.join("manifest.toml"), &manifest)?;
    // The model's own answer: what is measured is how fast it comes.
    let draft = Draft::from_toml(&manifest, "manifest.toml")?;
    let (manifest, _) = draft.finish(Blob::of(&onnx), Blob::of(b"not yet"), 0)?;
    let model = Arc::new(Model::load(&manifest, Digest::of(b"not signed"), &onnx)?);
    let window = [0.5; SIGNALS];
    let score = model.row_scores(&window).first().copied().context("no score")?;
    let vector = serde_json::json!({"window": window, "score": score});
    let selftest = serde_json::json!({"tolerance": 1e-4, "vectors": [vector]});
    Ok(std::fs::write(folder.join("selftest.json"), selftest.to_string())?)
}

/// The first columns of the sample; gives their names.
fn write_rows(file: &Path) -> anyhow::Result<Vec<String>> {
    let packed = std::fs::File::open(data_dir().join("sample/machine-3-4_train_3d.csv.gz"))?;
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).from_reader(flate2::read::MultiGzDecoder::new(packed));
    let mut writer = std::io::BufWriter::new(std::fs::File::create(file)?);
    let mut header = Vec::new();
    for record in reader.records() {
        let fields: Vec<String> = record?.iter().take(SIGNALS).map(str::to_owned).collect();
        writeln!(writer, "{}", fields.join(","))?;
        if header.is_empty() {
            header = fields;
        }
    }
    writer.flush()?;
    Ok(header)
}

fn manifest(columns: &[String]) -> String {
    let signals: Vec<String> =
        columns.iter().map(|name| format!("  {{ name = \"{name}\", unit = \"1\" }},\n")).collect();
    format!(
        "name = \"small\"\nversion = 1\nkind = \"autoencoder\"\nselftest = \"selftest.json\"\n\
         [input]\nname = \"x\"\nshape = [{SIGNALS}]\n[output]\nreconstruction = \"y\"\n\
         [contract]\nsampling = \"60s\"\nsignals = [\n{}]\n[calibration]\nthreshold = 100.0\n\
         [lineage]\narchitecture = \"dense 32-16-8-16-32\"\nparameters = 1352\ntrained = \"2026-11-01T00:00:00Z\"\n\
         author = \"the benchmark\"\nreason = \"how fast rows are scored\"\n\
         data = [{{ name = \"generated\", digest = \"{}\", from = \"2026-10-01T00:00:00Z\", to = \"2026-10-02T00:00:00Z\", rows = 1440 }}]\n\
         [lineage.metrics]\nloss = 1.0\n",
        signals.concat(),
        Digest::of(b"generated")
    )
}

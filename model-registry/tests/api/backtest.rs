//! `vedette backtest` as a data scientist runs it, and all that may be wrong with what it is given.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data").join(file)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn backtest(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vedette")).arg("backtest").args(args).output().unwrap()
}

fn demo(version: &str, more: &[&str]) -> Output {
    let (model, manifest) =
        (text(&data(&format!("demo/{version}/model.onnx"))), text(&data(&format!("demo/{version}/manifest.toml"))));
    let mut args = vec![model.as_str(), "--manifest", &manifest];
    args.extend(more);
    backtest(&args)
}

fn report(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

const SAMPLE: &str = "sample/machine-3-4_test_rows1000-7500.csv.gz";

#[test]
fn the_sample_tells_the_story_of_the_demo() {
    let sample = text(&data(SAMPLE));
    let one = report(&demo("v1", &["--data", &sample, "--label", "label", "--json"]));
    assert_eq!((&one["rows"], &one["judgement"]["events_total"]), (&6500.into(), &3.into()));
    assert_eq!(one["judgement"]["events"][0]["delay_rows"], 10, "the alarm comes two minutes after row 1742");
    assert!(one["judgement"]["normal_rows_alarmed"].as_f64().unwrap() > 0.6, "version 1 is stale after the incident");
    assert!(one["judgement"]["vus_pr"].as_f64().unwrap() > 0.8);
    assert_eq!(one["trial"]["vectors"], 3);
    let two = report(&demo("v2", &["--data", &sample, "--label", "label", "--json"]));
    assert_eq!(two["judgement"]["events"][2]["delay_rows"], 2, "the next incident is still caught");
}

#[test]
fn every_row_has_its_score_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let scores = folder.path().join("scores.csv");
    let output = demo("v1", &["--data", &text(&data(SAMPLE)), "--label", "label", "--scores", &text(&scores)]);
    let said = String::from_utf8(output.stdout).unwrap();
    for fact in
        ["rows scored    6500", "rows alarmed   4", "time per row", "events found   3 of 3", " a day", "VUS-PR", "NAB"]
    {
        assert!(said.contains(fact), "{fact}: {said}");
    }
    let mut reader = csv::Reader::from_path(&scores).unwrap();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 6500);
    assert!(rows[1744][9].contains("mem_u_e"), "{:?}", rows[1744]);
    let alarmed = rows.iter().filter(|row| &row[6] == "1").count();
    assert!(alarmed > 4000, "{alarmed}");
}

#[test]
fn the_baseline_is_judged_by_nabs_windows() {
    let (series, windows) =
        (text(&data("sample/machine_temperature_system_failure.csv")), text(&data("nab/windows.csv")));
    let found = report(&backtest(&["--baseline", "--data", &series, "--windows", &windows, "--json"]));
    assert_eq!((&found["rows"], &found["judgement"]["events_total"]), (&22695.into(), &4.into()));
    assert!(found["judgement"]["nab"]["standard"].as_f64().unwrap() > 40.0, "{found}");
}

struct Bad {
    folder: TempDir,
}

impl Bad {
    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        text(&path)
    }

    fn refused(&self, output: &Output, code: i32, says: &[&str]) {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        for word in says {
            assert!(stderr.contains(word), "{stderr:?} does not say {word:?}");
        }
        assert_eq!(stderr.lines().count(), 1, "one sentence: {stderr}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_bad_file_is_named_with_its_line_and_column() {
    let bad = Bad { folder: tempfile::tempdir().unwrap() };
    let baseline = |file: &str| backtest(&["--baseline", "--data", file]);
    bad.refused(&baseline("/nowhere/none.csv"), 3, &["/nowhere/none.csv"]);
    bad.refused(
        &baseline(&bad.file("ragged.csv", "timestamp,a\n2026-01-01T00:00:00Z,1\n2026-01-01T00:01:00Z\n")),
        1,
        &["ragged.csv:3", "1 field"],
    );
    bad.refused(&baseline(&bad.file("words.csv", "a,b\n1,2\n3,many\n")), 1, &["words.csv:3:2", "`many`", "`b`"]);
    bad.refused(
        &baseline(&bad.file("back.csv", "timestamp,a\n2026-01-01T00:01:00Z,1\n2026-01-01T00:00:00Z,2\n")),
        1,
        &["back.csv:3", "backwards"],
    );
    bad.refused(&baseline(&bad.file("empty.csv", "a,b\n")), 1, &["empty.csv", "no rows"]);
    let packed = std::fs::read(data(SAMPLE)).unwrap();
    bad.refused(&baseline(&bad.file("cut.csv.gz", &packed[..packed.len() / 2])), 1, &["cut.csv.gz", "cut off"]);
    let sample = text(&data(SAMPLE));
    bad.refused(&backtest(&["--baseline", "--data", &sample, "--label", "lable"]), 1, &["`lable`", SAMPLE]);
}

#[test]
fn a_file_that_does_not_fit_the_model_is_refused() {
    let bad = Bad { folder: tempfile::tempdir().unwrap() };
    let few = bad.file("few.csv", "cpu_r,load_1\n1,2\n");
    bad.refused(&demo("v1", &["--data", &few]), 4, &["few.csv", "`load_5`"]);
    let sample = text(&data(SAMPLE));
    bad.refused(
        &demo("v1", &["--data", &sample, "--label", "label", "--unit", "mem_u=%"]),
        4,
        &["`mem_u`", "`%`", "`1`"],
    );
    let wrong_unit = demo("bad/unit", &["--data", &sample, "--label", "label", "--unit", "1"]);
    assert_eq!(wrong_unit.status.code(), Some(4));
}

#[test]
fn a_model_that_cannot_run_is_refused_before_a_row_is_scored() {
    let bad = Bad { folder: tempfile::tempdir().unwrap() };
    let sample = text(&data(SAMPLE));
    let manifest = text(&data("demo/v1/manifest.toml"));
    let whole = std::fs::read(data("demo/v1/model.onnx")).unwrap();
    let with = |model: &str| backtest(&[model, "--manifest", &manifest, "--data", &sample, "--label", "label"]);
    bad.refused(
        &with(&bad.file("cut.onnx", &whole[..whole.len() / 2])),
        4,
        &["cut.onnx", "no ONNX model, or its end is cut off"],
    );
    bad.refused(&with(&bad.file("text.onnx", "this is not a model")), 4, &["text.onnx", "no ONNX model"]);
    bad.refused(&with(&bad.file("empty.onnx", "")), 4, &["empty.onnx", "0 bytes"]);
    bad.refused(&with("/nowhere/none.onnx"), 3, &["/nowhere/none.onnx"]);
    bad.refused(&demo("bad/shape", &["--data", &sample]), 4, &["shape", "[1, 38]"]);
    bad.refused(&demo("bad/nan", &["--data", &sample]), 4, &["self-test vector 1"]);
    let unknown = whole.windows(6).position(|w| w == b"MatMul").map(|at| {
        let mut changed = whole.clone();
        changed[at..at + 6].copy_from_slice(b"MatMux");
        changed
    });
    bad.refused(&with(&bad.file("unknown.onnx", unknown.unwrap())), 4, &["unknown.onnx", "MatMux"]);
}

#[test]
fn a_manifest_that_makes_no_sense_is_usage_and_names_the_key() {
    let bad = Bad { folder: tempfile::tempdir().unwrap() };
    let sample = text(&data(SAMPLE));
    let model = text(&data("demo/v1/model.onnx"));
    let good = std::fs::read_to_string(data("demo/v1/manifest.toml")).unwrap();
    std::fs::copy(data("demo/v1/selftest.json"), bad.folder.path().join("selftest.json")).unwrap();
    let with = |text: String| {
        let manifest = bad.file("m.toml", text);
        backtest(&[&model, "--manifest", &manifest, "--data", &sample])
    };
    bad.refused(&with(good.replace("threshold =", "treshold =")), 2, &["m.toml", "treshold", "threshold"]);
    bad.refused(&with(good.replace("window = 1", "window = 0")), 2, &["m.toml", "window"]);
    bad.refused(&with(good.replace("selftest.json", "none.json")), 3, &["none.json"]);
    bad.refused(&with("not toml".to_owned()), 2, &["m.toml"]);
    bad.file("selftest.json", "{\"tolerance\": 1e-5, \"vectors\": [{\"window\": [1, 2], \"score\": 1}]}");
    let wrong = with(good);
    assert!(matches!(wrong.status.code(), Some(2 | 4)), "{}", String::from_utf8_lossy(&wrong.stderr));
}

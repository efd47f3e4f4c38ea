//! What a data scientist writes becomes a manifest, or an error that names the thing and the place.

use vedette_protocol::cbor::{from_canonical, to_canonical};
use vedette_protocol::{
    Blob, Digest, Draft, Fill, Finite32, Finite64, Lineage, Manifest, ModelKind, SelfTest, StateTensor, Stateful,
    Transform, Vector,
};

const PUMP: &str = include_str!("pump.toml");

fn finish(text: &str) -> Result<(Manifest, Lineage), String> {
    let draft = Draft::from_toml(text, "pump.toml").map_err(|error| error.to_string())?;
    draft.finish(Blob::of(b"artifact"), Blob::of(b"selftest"), 5).map_err(|error| error.to_string())
}

/// The error after `from` is replaced by `to`.
fn refused(from: &str, to: &str) -> String {
    assert!(PUMP.contains(from), "{from}");
    finish(&PUMP.replacen(from, to, 1)).unwrap_err()
}

#[test]
fn a_draft_becomes_its_manifest_and_lineage() {
    let draft = Draft::from_toml(PUMP, "pump.toml").unwrap();
    assert_eq!(draft.model().to_string(), "pump-38@2");
    assert_eq!(draft.selftest_file(), Some("pump.selftest.json"));
    let (manifest, lineage) = finish(PUMP).unwrap();
    assert_eq!(manifest.kind, ModelKind::Score { score: "score".into(), contribution: Some("parts".into()) });
    assert_eq!(manifest.contract.sampling_ms, 60_000);
    let counter = &manifest.contract.signals[1];
    assert_eq!((counter.transform, counter.fill), (Transform::Rate, Fill::Hold { limit: 5 }));
    assert_eq!(counter.clip.map(Finite64::get), Some(8.0));
    assert_eq!(manifest.limits.row_us, 10_000);
    assert_eq!(manifest.lineage, Digest::of(&to_canonical(&lineage)));
    assert_eq!(lineage.hyperparameters, [("components".into(), "10".into()), ("solver".into(), "full".into())]);
    assert_eq!(lineage.data[0].to_ms - lineage.data[0].from_ms, 86_400_000);
    assert_eq!(from_canonical::<Manifest>(&to_canonical(&manifest)).unwrap(), manifest);
    assert_eq!(from_canonical::<Lineage>(&to_canonical(&lineage)).unwrap(), lineage);
}

#[test]
fn what_is_left_out_has_its_default() {
    let text = PUMP
        .replace("[limits]\nmemory = \"64MiB\"\nload = \"5s\"\nrow = \"10ms\"\n", "")
        .replace("floor = 1\n", "")
        .replace("smooth = 5\nhold = 2\n", "");
    let (manifest, _) = finish(&text).unwrap();
    assert_eq!(
        (manifest.limits.memory_bytes, manifest.limits.load_ms, manifest.limits.row_us),
        (64 << 20, 5000, 10_000)
    );
    assert_eq!((manifest.floor.get(), manifest.calibration.smooth, manifest.calibration.hold), (1, 1, 1));
    let plain = &manifest.contract.signals[0];
    assert_eq!((plain.transform, plain.fill, plain.clip), (Transform::None, Fill::None, None));
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one() {
    assert_eq!(
        refused("sampling =", "samplng ="),
        "pump.toml:17: `contract.samplng`: unknown key; did you mean `sampling`?"
    );
    assert_eq!(
        refused("transform =", "transfrom ="),
        "pump.toml:30: `contract.signals[1].transfrom`: unknown key; did you mean `transform`?"
    );
}

#[test]
fn a_wrong_value_names_its_key_and_line() {
    let error = refused("unit = \"By\"", "unit = \"B y\"");
    assert!(error.starts_with("pump.toml:29: `contract.signals[1].unit`: `B y` is no unit"), "{error}");
    let error = refused("version = 2", "version = 0");
    assert!(error.starts_with("pump.toml:3: `version`: `0` is no model version"), "{error}");
    let error = refused("kind = \"score\"", "kind = \"skore\"");
    assert!(error.starts_with("pump.toml:5: `kind`: ") && error.contains("score"), "{error}");
    let error = refused("threshold = 3.5", "threshold = nan");
    assert!(error.starts_with("pump.toml:39: `calibration.threshold`: must be a finite number"), "{error}");
    let error = refused("sampling = \"60s\"", "sampling = 60");
    assert!(error.starts_with("pump.toml:17: `contract.sampling`: ") && error.contains("30s"), "{error}");
    let error = refused("rows = 1440\n", "");
    assert!(error.contains("`lineage.data[0].rows`: is missing"), "{error}");
}

#[test]
fn values_that_make_no_sense_together_are_refused_by_name() {
    let cases = [
        ("scale = 0.5", "scale = 0", "`contract.signals[0].scale` must be above 0, not 0"),
        ("clip = 8", "clip = -8", "`contract.signals[1].clip` must be above 0, not -8"),
        ("hop = 1", "hop = 17", "`contract.hop` must be 1 to 16, not 17"),
        ("window = 16", "window = 0", "`contract.window` must be 1 to 4096, not 0"),
        ("shape = [16, 2]", "shape = [38]", "`input.shape` [38] holds 38 numbers, but window 16 × 2 signals is 32"),
        ("shape = [16, 2]", "shape = [4294967295, 4294967295, 4294967295]", "holds 18446744073709551615 numbers"),
        ("shape = [16, 2]", "shape = []", "`input.shape` must have 1 to 4 axes beside the batch, not 0"),
        ("name = \"eth1_fi\"", "name = \"cpu_r\"", "`contract.signals[1].name` `cpu_r` is there twice"),
        ("frozen_after = 120", "frozen_after = 1", "`contract.signals[1].frozen_after` must be 2 to"),
        ("fill_limit = 5\n", "", "`contract.signals[1].fill_limit` is missing"),
        ("fill = \"hold\" ", "fill = \"none\" ", "`contract.signals[1].fill_limit` needs"),
        ("fill = \"hold\" ", "fill = \"constant\" ", "`contract.signals[1].fill_value` is missing"),
        ("smooth = 5", "smooth = 0", "`calibration.smooth` must be 1 to 4096, not 0"),
        ("hold = 2", "hold = 2\ntail = 17", "`calibration.tail` must be 0 to 16, not 17"),
        (
            "hold = 2",
            "hold = 2\nresidual = [1.0]",
            "`calibration.residual` must have one number a signal (2) or none, not 1",
        ),
        ("hold = 2", "hold = 2\nresidual = [1.0, 0.0]", "`calibration.residual[1]` must be above 0"),
        ("floor = 1", "floor = 3", "`floor` must be at most the version 2, not 3"),
        ("parent = 1", "parent = 2", "`lineage.parent` must be below the version 2"),
        ("memory = \"64MiB\"", "memory = \"1KiB\"", "`limits.memory` must be 1MiB to 4GiB"),
        ("row = \"10ms\"", "row = \"10m\"", "`limits.row` must be 1us to 60s"),
        ("contribution = \"parts\"", "forecast = \"y\"", "`output.forecast` is no output of this kind of model"),
        (
            "kind = \"score\"",
            "kind = \"autoencoder\"",
            "`output.score` is no output of this kind of model, which has reconstruction",
        ),
        ("score = \"score\"\ncontribution = \"parts\"", "contribution = \"parts\"", "`output.score` is missing"),
        ("author = \"Ada Lovelace <ada@example.org>\"", "author = \" \"", "`lineage.author` must be a text"),
        ("vus_pr = 0.54", "", "`lineage.metrics` must have 1 to 256 entries, not 0"),
        ("rows = 1440", "rows = 0", "`lineage.data[0].rows` must be above 0"),
        ("to = \"2026-11-20", "to = \"2026-11-18", "`lineage.data[0].to` lies before `from`"),
    ];
    for (from, to, problem) in cases {
        let error = refused(from, to);
        assert!(error.contains(problem), "{from} -> {to}: {error}");
    }
}

#[test]
fn a_manifest_that_makes_no_sense_is_refused_on_the_wire_too() {
    let (mut manifest, _) = finish(PUMP).unwrap();
    manifest.contract.hop = 0;
    let error = from_canonical::<Manifest>(&to_canonical(&manifest)).unwrap_err().to_string();
    assert_eq!(error, "`contract.hop` must be 1 to 16, not 0");
}

#[test]
fn a_selftest_must_fit_the_windows_of_its_contract() {
    let (manifest, _) = finish(PUMP).unwrap();
    let contract = &manifest.contract;
    assert_eq!(contract.raw_rows(), 17, "a rate looks back at the row before the window");
    let zero = Finite32::new(0.0).unwrap();
    let selftest = |rows: usize, tolerance| SelfTest {
        tolerance: Finite64::new(tolerance).unwrap(),
        vectors: vec![Vector { window: vec![zero; rows * 2], score: zero }],
    };
    assert_eq!(selftest(17, 1e-5).check(&manifest), Ok(()));
    let error = selftest(16, 1e-5).check(&manifest).unwrap_err().to_string();
    assert_eq!(error, "`selftest.vectors[0].window` has 32 numbers, not 17 rows × 2 signals = 34");
    assert!(selftest(17, 0.0).check(&manifest).is_err() && selftest(17, 0.5).check(&manifest).is_err());
    assert!(SelfTest { vectors: vec![], ..selftest(17, 1e-5) }.check(&manifest).is_err());
    let manifest = Manifest { stateful: Some(Stateful { state: vec![], warm_rows: 0 }), ..manifest };
    assert_eq!(selftest(40, 1e-5).check(&manifest), Ok(()), "a stateful model runs through more rows");
    assert!(selftest(16, 1e-5).check(&manifest).is_err());
}

#[test]
fn a_selftest_is_written_as_json() {
    let json = r#"{"tolerance": 1e-5, "vectors": [{"window": [1, -0.5], "score": 0.25}]}"#;
    let selftest: SelfTest = serde_json::from_str(json).unwrap();
    assert_eq!(selftest.vectors[0].window[0].get(), 1.0);
    assert!(serde_json::from_str::<SelfTest>(&json.replace("score", "skore")).is_err());
}

/// The pump's draft as one of a model that keeps a state.
fn stateful(text: &str) -> String {
    let stateful = "\n[stateful]\nstate = [{ input = \"h_in\", output = \"h_out\" }]\nwarm_rows = 64\n";
    text.replace("window = 16", "window = 1").replace("shape = [16, 2]", "shape = [1, 2]") + stateful
}

#[test]
fn a_stateful_draft_says_which_state_goes_where_and_what_contradicts_it_is_named() {
    let text = stateful(PUMP);
    let (manifest, _) = finish(&text).unwrap();
    let state = vec![StateTensor { input: "h_in".into(), output: "h_out".into() }];
    assert_eq!(manifest.stateful, Some(Stateful { state, warm_rows: 64 }));
    assert_eq!(from_canonical::<Manifest>(&to_canonical(&manifest)).unwrap(), manifest);
    let cases = [
        ("window = 1\n", "window = 3\n", "`input.shape` [1, 2] holds 2 numbers"),
        ("h_in", "x", "`stateful.state[0].input` `x` is there twice"),
        ("warm_rows = 64", "warm_rows = 4097", "`stateful.warm_rows` must be 0 to 4096, not 4097"),
        ("[{ input = \"h_in\", output = \"h_out\" }]", "[]", "`stateful.state` must be 1 to 16, not 0"),
    ];
    for (from, to, problem) in cases {
        let error = finish(&text.replace(from, to)).map(|_| ()).unwrap_err();
        assert!(error.contains(problem), "{from} -> {to}: {error}");
    }
}

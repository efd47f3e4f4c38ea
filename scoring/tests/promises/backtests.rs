//! A backtest is the device's path over a file; its figures are those of the training scripts.

use vedette_protocol::ScoredBy;
use vedette_scoring::backtest::{Backtest, BacktestError, Report, run};
use vedette_scoring::eval::EventRules;
use vedette_scoring::replay::{Disorder, Options};

use crate::made::{MINUTE_MS, Shared, data, score_kind, tiny};

fn labelled() -> Options {
    Options { label: Some("label".into()), ..Options::new(0, MINUTE_MS) }
}

fn over_the_server(model: Option<std::sync::Arc<vedette_scoring::Model>>) -> (Report, Vec<u64>) {
    let file = data("sample/machine-3-4_test_rows1000-7500.csv.gz");
    let backtest = Backtest { file: &file, options: labelled(), model, windows: vec![], rules: EventRules::default() };
    let mut alarms = Vec::new();
    let report = run(&backtest, |row| alarms.extend(row.decision.alarm.then_some(row.decision.row))).unwrap();
    (report, alarms)
}

#[test]
fn the_demos_first_model_finds_the_incident_and_is_stale_after_it() {
    let v1 = data("demo/v1");
    let shared = Shared::at(&v1.join("manifest.toml"), &v1.join("model.onnx"));
    let (report, alarms) = over_the_server(Some(shared.load()));
    println!("{}", serde_json::to_string_pretty(&report).unwrap());
    assert_eq!(report.rows, 6500);
    assert!(matches!(report.scored_by, ScoredBy::Model { .. }));
    assert!(alarms.iter().all(|row| *row >= 1734), "{alarms:?}");
    assert_eq!(alarms[0], 1744, "two minutes after memory fell");
    let judgement = report.judgement.unwrap();
    assert_eq!(judgement.events[0].delay_rows, Some(10));
    assert!(judgement.normal_rows_alarmed > 0.6);
    assert_eq!(judgement.vus_width, 242);
    assert!(judgement.vus_pr.unwrap() > 0.0 && report.row_time.p50_ns > 0);
}

#[test]
fn the_baseline_backtests_a_benchmark_file_with_windows_by_time() {
    let file = data("sample/machine_temperature_system_failure.csv");
    let at = |text: &str| vedette_protocol::time::parse_ms(text).unwrap();
    let windows = vec![
        (at("2013-12-15T07:25:00Z"), at("2013-12-17T13:35:00Z")),
        (at("2014-01-27T14:20:00Z"), at("2014-01-29T13:15:00Z")),
        (at("2014-02-07T14:55:00Z"), at("2014-02-09T14:05:00Z")),
    ];
    let options = Options { disorder: Disorder::Keep, ..Options::new(0, MINUTE_MS) };
    let backtest = Backtest { file: &file, options, model: None, windows, rules: EventRules::default() };
    let report = run(&backtest, |_| {}).unwrap();
    println!("{}", serde_json::to_string_pretty(&report).unwrap());
    assert_eq!(report.rows, 22_695);
    let judgement = report.judgement.unwrap();
    // The second window is a precursor that people saw only afterwards.
    assert_eq!((judgement.events_found, judgement.events_total), (2, 3));
    assert!(judgement.nab.standard > 50.0 && judgement.false_episodes_per_day < 1.0);
    assert!(judgement.nab.standard >= judgement.nab.standard_as_deployed);
}

#[test]
fn a_file_without_the_models_signals_is_refused_by_name() {
    let file = data("sample/machine_temperature_system_failure.csv");
    let model = Some(tiny("score", score_kind(), |_| {}));
    let options = Options::new(0, MINUTE_MS);
    let backtest = Backtest { file: &file, options, model, windows: vec![], rules: EventRules::default() };
    let error = run(&backtest, |_| {}).unwrap_err();
    assert!(matches!(error, BacktestError::Contract { .. }));
    let said = error.to_string();
    assert!(said.contains("machine_temperature") && said.contains("`a`, `b`") && said.contains("`value`"), "{said}");
}

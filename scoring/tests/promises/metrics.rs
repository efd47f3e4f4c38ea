//! Metrics equal those of the scripts that the field's figures were computed with.

use vedette_scoring::eval::{period, vus_pr};

use crate::made::server;

/// The same little generator as in the script that gave the pinned values.
fn noise(count: usize) -> Vec<f64> {
    let mut state = 12_345_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / (1_u64 << 31) as f64
    };
    (0..count).map(|_| next()).collect()
}

fn labelled(rows: usize, ranges: &[(usize, usize)]) -> Vec<bool> {
    (0..rows).map(|row| ranges.iter().any(|(from, to)| (*from..*to).contains(&row))).collect()
}

#[test]
fn vus_pr_is_the_one_of_the_reference_implementation() {
    let labels = labelled(3000, &[(200, 230), (260, 262), (1500, 1600)]);
    let mut scores: Vec<f64> = noise(3000).iter().zip(&labels).map(|(n, l)| n + if *l { 0.3 } else { 0.0 }).collect();
    scores[1490..1500].iter_mut().for_each(|s| *s += 0.5);
    for (width, pinned) in VUS_NOISE {
        let found = vus_pr(&labels, &scores, width).unwrap();
        assert!((found - pinned).abs() < 1e-12, "{width}: {found}");
    }
    // Ties, an anomaly at each end, and one segment that swallows another.
    let labels = labelled(400, &[(0, 5), (100, 110), (118, 120), (390, 400)]);
    let scores: Vec<f64> =
        noise(400).iter().zip(&labels).map(|(n, l)| (n * 4.0).floor() + f64::from(u8::from(*l))).collect();
    for (width, pinned) in VUS_TIES {
        let found = vus_pr(&labels, &scores, width).unwrap();
        assert!((found - pinned).abs() < 1e-12, "{width}: {found}");
    }
    assert_eq!(vus_pr(&[false; 10], &[0.0; 10], 5), None);
}

#[test]
fn the_period_is_the_reference_implementations() {
    let (schema, rows) = server();
    for (signal, pinned) in PERIODS {
        let column = schema.index_of(&signal.parse().unwrap()).unwrap();
        let values: Vec<f32> = rows.iter().map(|r| r.sample.values[column]).collect();
        assert_eq!(period(&values), pinned, "{signal}");
    }
    let wave: Vec<f32> = (0..1000).map(|i| (f64::from(i) * std::f64::consts::TAU / 40.0).sin() as f32).collect();
    assert_eq!(period(&wave), 40);
    assert_eq!(period(&[1.0; 100]), 125);
    assert_eq!(period(&[]), 125);
}

const VUS_NOISE: [(usize, f64); 3] = [(0, 0.26436044259310143), (20, 0.29453937541071257), (125, 0.41573548156239654)];
const VUS_TIES: [(usize, f64); 2] = [(7, 0.3669657836413691), (30, 0.47099729926756245)];
const PERIODS: [(&str, usize); 3] = [("cpu_r", 242), ("load_1", 10), ("eth1_fi", 19)];

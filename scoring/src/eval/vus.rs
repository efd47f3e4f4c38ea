//! VUS-PR: the volume under the surface of precision, recall and buffer width. Needs no threshold and forgives labels whose
//! edges are a little off.
//!
//! Paparrizos et al., "Volume Under the Surface: A New Accuracy Evaluation Measure for Time-Series Anomaly Detection", VLDB
//! 2022, in the form that TSB-AD uses (buffered labels, existence reward, 250 thresholds); agrees with its code within
//! 1e-12 (the tests pin that).

/// Thresholds, evenly spaced by rank.
const THRESHOLDS: usize = 250;

/// The period that TSB-AD takes when a series shows none.
pub const PERIOD_DEFAULT: usize = 125;
/// Lags among which a period is looked for, and rows that are looked at.
const PERIOD_LAGS: usize = 400;
const PERIOD_FIRST: usize = 3;
const PERIOD_LAST: usize = 300;
const PERIOD_ROWS: usize = 20_000;

/// VUS-PR of `scores` (any scale, higher is more anomalous, NaN counts as lowest) against `labels`, with buffers from 0 to
/// `width` rows; 0 to 1. `None` when no row is labelled, or the lengths differ.
pub fn vus_pr(labels: &[bool], scores: &[f64], width: usize) -> Option<f64> {
    let rows = labels.len();
    let segments = segments(labels);
    if segments.is_empty() || scores.len() != rows {
        return None;
    }
    let scores: Vec<f64> = scores.iter().map(|s| if s.is_nan() { f64::NEG_INFINITY } else { *s }).collect();
    let mut order: Vec<usize> = (0..rows).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let step = (rows - 1) as f64 / (THRESHOLDS - 1) as f64;
    let rank = |i: usize| if i + 1 == THRESHOLDS { rows - 1 } else { (i as f64 * step) as usize };
    let thresholds: Vec<f64> = (0..THRESHOLDS).map(|i| scores[order[rank(i)]]).collect();
    let predicted: Vec<usize> = thresholds.iter().map(|t| order.partition_point(|r| scores[*r] >= *t)).collect();

    let surface = Surface {
        labels,
        scores: &scores,
        order: &order,
        segments: &segments,
        thresholds: &thresholds,
        predicted: &predicted,
    };
    let sum: f64 = (0..=width).map(|w| surface.area(w)).sum();
    Some(sum / (width + 1) as f64)
}

struct Surface<'a> {
    labels: &'a [bool],
    scores: &'a [f64],
    order: &'a [usize],
    segments: &'a [(usize, usize)],
    thresholds: &'a [f64],
    predicted: &'a [usize],
}

impl Surface<'_> {
    /// Area under precision over recall for one buffer width.
    fn area(&self, width: usize) -> f64 {
        let soft = self.soft_labels(width);
        let anomalies = self.labels.iter().filter(|l| **l).count() as f64;
        let highest = self.highest_in_buffers(width / 2);
        let (mut hits, mut buffered, mut done) = (0.0, 0.0, 0);
        let (mut area, mut recall_before) = (0.0, 0.0);
        for (threshold, predicted) in self.thresholds.iter().zip(self.predicted) {
            for row in &self.order[done..*predicted] {
                hits += soft[*row];
                buffered += if self.labels[*row] { 0.0 } else { soft[*row] };
            }
            done = *predicted;
            let positives = (anomalies + buffered + anomalies) / 2.0;
            let exist = highest.iter().filter(|h| **h >= *threshold).count() as f64 / highest.len() as f64;
            let recall = (hits / positives).min(1.0) * exist;
            area += (recall - recall_before) * (hits / *predicted as f64);
            recall_before = recall;
        }
        area
    }

    /// 1 inside an anomaly, falling as a root towards half a width outside.
    fn soft_labels(&self, width: usize) -> Vec<f64> {
        let rows = self.labels.len();
        let mut soft: Vec<f64> = self.labels.iter().map(|l| f64::from(u8::from(*l))).collect();
        let fall = |distance: usize| if width == 0 { 0.0 } else { (1.0 - distance as f64 / width as f64).sqrt() };
        for (first, last) in self.segments {
            let after = last + 1..(last + width / 2 + 1).min(rows);
            soft[after].iter_mut().zip(1..).for_each(|(s, distance)| *s += fall(distance));
            let before = first.saturating_sub(width / 2)..*first;
            soft[before].iter_mut().rev().zip(1..).for_each(|(s, distance)| *s += fall(distance));
        }
        soft.iter_mut().for_each(|s| *s = s.min(1.0));
        soft
    }

    /// The highest score in each anomaly widened by `margin`, where those that touch are one.
    fn highest_in_buffers(&self, margin: usize) -> Vec<f64> {
        let mut merged: Vec<(usize, usize)> = Vec::new();
        for (first, last) in self.segments {
            let (first, last) = (first.saturating_sub(margin), (last + margin).min(self.labels.len() - 1));
            match merged.last_mut() {
                Some(before) if first <= before.1 => before.1 = last,
                Some(_) | None => merged.push((first, last)),
            }
        }
        merged
            .iter()
            .map(|(first, last)| self.scores[*first..=*last].iter().copied().fold(f64::NEG_INFINITY, f64::max))
            .collect()
    }
}

/// First and last row of each run of labelled rows.
pub(super) fn segments(labels: &[bool]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut begin = None;
    for (row, label) in labels.iter().enumerate() {
        match (label, begin) {
            (true, None) => begin = Some(row),
            (false, Some(first)) => {
                found.push((first, row - 1));
                begin = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
    found.extend(begin.map(|first| (first, labels.len() - 1)));
    found
}

/// The period of a series by TSB-AD's rule: the strongest local maximum of its autocorrelation at lags 4 to 303, or 125 when
/// there is none. VUS-PR's usual buffer width.
pub fn period(values: &[f32]) -> usize {
    let values: Vec<f64> = values.iter().take(PERIOD_ROWS).map(|v| f64::from(*v)).collect();
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    let centred: Vec<f64> = values.iter().map(|v| v - mean).collect();
    let power: f64 = centred.iter().map(|v| v * v).sum();
    let at = |lag: usize| centred.iter().zip(centred.iter().skip(lag)).map(|(a, b)| a * b).sum::<f64>() / power;
    let lags = PERIOD_LAGS.min(values.len().saturating_sub(1));
    let correlation: Vec<f64> = (PERIOD_FIRST..=lags).map(at).collect();
    let best = correlation
        .windows(3)
        .enumerate()
        .filter(|(_, w)| w[1] > w[0] && w[1] > w[2])
        .max_by(|a, b| a.1[1].total_cmp(&b.1[1]))
        .map(|(i, _)| i + 1);
    best.filter(|k| (PERIOD_FIRST..=PERIOD_LAST).contains(k)).map_or(PERIOD_DEFAULT, |k| k + PERIOD_FIRST)
}

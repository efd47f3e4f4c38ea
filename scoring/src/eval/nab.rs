//! Scores detections as the Numenta Anomaly Benchmark does: early hits in a labelled window earn, misses and false alarms
//! cost, one threshold for a whole corpus.
//!
//! Source of the rules: Lavin & Ahmad, "Evaluating Real-time Anomaly Detection Algorithms", 2015, sections II.B and
//! II.C, and NAB's published cost profiles. Held to the published scoreboard by `tests/nab.rs` (Numenta HTM 70.1011,
//! windowedGaussian 39.6495 / 20.8680 / 47.4100).

/// Share of a file's first rows that earn and cost nothing (a detector may learn there), and its ceiling in rows.
const PROBATION_SHARE: f64 = 0.15;
/// The share counts at most this many rows, so probation never exceeds 750 rows.
const PROBATION_ROWS_MAX: f64 = 5000.0;
/// A false alarm later than this many widths after a window costs in full.
const FAR_WIDTHS: f64 = 3.0;

/// What a hit earns and a miss or false alarm costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Hit 1, false alarm 0.11, miss 1.
    Standard,
    /// False alarms cost twice: 0.22.
    LowFalsePositives,
    /// Misses cost twice: 2.
    LowFalseNegatives,
}

impl Profile {
    /// All three, in the order of the published tables.
    pub const ALL: [Profile; 3] = [Profile::Standard, Profile::LowFalsePositives, Profile::LowFalseNegatives];

    /// (hit, false alarm, miss)
    const fn weights(self) -> (f64, f64, f64) {
        match self {
            Profile::Standard => (1.0, 0.11, 1.0),
            Profile::LowFalsePositives => (1.0, 0.22, 1.0),
            Profile::LowFalseNegatives => (1.0, 0.11, 2.0),
        }
    }
}

/// A labelled anomaly window: first and last row, both inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First row of the window, counted from 0.
    pub first: usize,
    /// Last row of the window, `>= first`.
    pub last: usize,
}

/// One file of a corpus: a score for every row and the windows in ascending order, not overlapping.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    /// Anomaly score per row, any scale, higher is more anomalous; a NaN row never alarms.
    pub scores: &'a [f64],
    /// Labelled windows; rows beyond the end of `scores` are ignored.
    pub windows: &'a [Window],
}

/// Where the alarm threshold comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// The best one for this corpus and profile: NAB's own way, so no blind test of the threshold.
    Optimised,
    /// A given one: a row alarms when its score is at or above it.
    Fixed(f64),
}

/// A corpus score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// 0 is the detector that never alarms, 100 the perfect one; may be negative.
    pub value: f64,
    /// The threshold used; above every score when nothing is best.
    pub threshold: f64,
}

fn sigmoid(x: f64) -> f64 {
    2.0 / (1.0 + (5.0 * x).exp()) - 1.0
}

/// Rows at the start of a file of `rows` rows that are not scored.
pub fn probation(rows: usize) -> usize {
    (PROBATION_SHARE * rows as f64).floor().min(PROBATION_SHARE * PROBATION_ROWS_MAX) as usize
}

/// One scored row: its score, what it earns or costs, and the window it lies in.
struct Point {
    score: f64,
    worth: f64,
    window: Option<usize>,
}

fn points(series: &Series<'_>, profile: Profile, windows_before: usize, out: &mut Vec<Point>) {
    let (hit, false_alarm, _) = profile.weights();
    let rows = series.scores.len();
    let mut current: Option<usize> = None; // the latest window that has begun
    for row in 0..rows {
        while let Some(next) = series.windows.get(current.map_or(0, |c| c + 1)) {
            if next.first > row {
                break;
            }
            current = Some(current.map_or(0, |c| c + 1));
        }
        if row < probation(rows) {
            continue;
        }
        let (worth, window) = match current.and_then(|c| series.windows.get(c).map(|w| (c, w))) {
            Some((index, w)) if row <= w.last => {
                let width = (w.last - w.first + 1) as f64;
                let position = -((w.last - row + 1) as f64) / width;
                (sigmoid(position) * hit / sigmoid(-1.0), Some(windows_before + index))
            }
            Some((_, w)) => {
                let after = (row - w.last) as f64 / ((w.last - w.first).max(1) as f64);
                (if after > FAR_WIDTHS { -false_alarm } else { sigmoid(after) * false_alarm }, None)
            }
            None => (-false_alarm, None),
        };
        let score = series.scores.get(row).copied().filter(|s| !s.is_nan()).unwrap_or(f64::NEG_INFINITY);
        out.push(Point { score, worth, window });
    }
}

/// The NAB score of a corpus with one threshold for all files.
///
/// With no window at all there is nothing to earn and the score is 0.
pub fn score(corpus: &[Series<'_>], profile: Profile, threshold: Threshold) -> Score {
    let (hit, _, miss) = profile.weights();
    let mut all = Vec::new();
    let mut windows = 0;
    for series in corpus {
        points(series, profile, windows, &mut all);
        windows += series.windows.len();
    }
    let mut best = vec![None; windows];
    let reachable = {
        let mut seen = vec![false; windows];
        all.iter().filter_map(|p| p.window).for_each(|w| seen[w] = true);
        seen.iter().filter(|s| **s).count()
    };
    all.sort_by(|a, b| b.score.total_cmp(&a.score));

    let mut total = -miss * reachable as f64; // nothing alarms yet; windows wholly in probation count nothing
    let mut top = Score { value: total, threshold: f64::INFINITY };
    let mut rest = all.as_slice();
    while let Some(level) = rest.first().map(|p| p.score) {
        let below = match threshold {
            Threshold::Fixed(at) => level < at,
            Threshold::Optimised => false,
        };
        if below || level == f64::NEG_INFINITY {
            break;
        }
        let equal = rest.iter().take_while(|p| p.score == level).count();
        let (group, tail) = rest.split_at(equal.max(1));
        for point in group {
            total += match point.window {
                None => point.worth,
                Some(window) => {
                    let so_far = best[window].unwrap_or(-miss);
                    let gain = (point.worth - so_far).max(0.0);
                    best[window] = Some(so_far + gain);
                    gain
                }
            };
        }
        rest = tail;
        if total > top.value {
            top = Score { value: total, threshold: level };
        }
    }
    let (raw, at) = match threshold {
        Threshold::Optimised => (top.value, top.threshold),
        Threshold::Fixed(at) => (total, at),
    };
    let nothing = -miss * windows as f64;
    let perfect = hit * windows as f64;
    let value = if windows == 0 { 0.0 } else { 100.0 * (raw - nothing) / (perfect - nothing) };
    Score { value, threshold: at }
}

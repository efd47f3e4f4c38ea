//! From votes between pairs of classes to one probability a class (Wu, Lin, Weng: Probability estimates for multi-class
//! classification by pairwise coupling, 2004, second method), in the order of operations that libsvm made the custom: the rule
//! stops early, so another order would give other digits.

/// Rounds after which it is taken as it is.
const ROUNDS: usize = 100;

/// Numbers of scratch for `classes`.
pub(super) fn scratch(classes: usize) -> usize {
    classes * classes + classes
}

/// `p[classes]` from `r[classes x classes]`, where `r[i][j]` is how probable `i` is between `i` and `j`.
pub(super) fn couple(classes: usize, r: &[f32], scratch: &mut [f32], p: &mut [f32]) {
    let (q, rest) = scratch.split_at_mut(classes * classes);
    let qp = &mut rest[..classes];
    fill(classes, r, q);
    p.fill(1.0 / classes as f32);
    let near = 0.005 / classes as f32;
    for _ in 0..ROUNDS {
        let mut total = 0.0;
        for (i, row) in q.chunks_exact(classes).enumerate() {
            qp[i] = row.iter().zip(p.iter()).fold(0.0, |sum, (q, p)| sum + q * p);
            total += p[i] * qp[i];
        }
        let worst = qp.iter().fold(0.0, |worst: f32, q| worst.max((q - total).abs()));
        if worst < near {
            return;
        }
        improve(q, qp, p, total);
    }
}

fn fill(classes: usize, r: &[f32], q: &mut [f32]) {
    for i in 0..classes {
        let mut own = 0.0;
        for j in (0..classes).filter(|j| *j != i) {
            let other = r[j * classes + i];
            own += other * other;
            q[i * classes + j] = -other * r[i * classes + j];
        }
        q[i * classes + i] = own;
    }
}

fn improve(q: &[f32], qp: &mut [f32], p: &mut [f32], mut total: f32) {
    for (i, row) in q.chunks_exact(p.len()).enumerate() {
        let step = (total - qp[i]) / row[i];
        p[i] += step;
        total = (total + step * (step * row[i] + 2.0 * qp[i])) / (1.0 + step) / (1.0 + step);
        for ((qp, p), q) in qp.iter_mut().zip(p.iter_mut()).zip(row) {
            *qp = (*qp + step * q) / (1.0 + step);
            *p /= 1.0 + step;
        }
    }
}

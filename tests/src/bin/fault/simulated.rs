//! Power cuts at every operation of the disk: seeded scripts over the real journal on a simulated disk. Before each operation a
//! picture of the disk is taken, cut, opened again, and what was acknowledged by then is asked for.

mod model;
mod script;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use vedette_tests::sim_disk;

use crate::setting::Setting;
use crate::table::Row;
use model::Finding;
use script::{Script, Told};

/// Cuts of a quick run and of a long one.
const CUTS: (u64, u64) = (100_000, 1_000_000);
/// Scripts that run before the sum is looked at; which ones run does not depend on how fast each of them is.
const SCRIPTS_AT_ONCE: u64 = 16;
/// A bug has to show within this many scripts.
const SCRIPTS_PER_BUG: u64 = 300;
/// Findings that are described one by one.
const FINDINGS_SHOWN: usize = 3;

/// A bug that the suite has to notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Of the disk.
    Disk(sim_disk::Bug),
    /// The program says "it is safe" when it has only appended.
    AcknowledgeEarly,
}

const BUGS: [(Bug, &str); 3] = [
    (Bug::Disk(sim_disk::Bug::SkipFileSync), "a skipped fsync"),
    (Bug::Disk(sim_disk::Bug::SkipFolderSync), "a skipped folder sync"),
    (Bug::AcknowledgeEarly, "an acknowledgement before the commit"),
];

/// Runs the scripts, then the bugs.
pub(crate) fn run(setting: &Setting) -> anyhow::Result<Row> {
    let cuts = setting.tries(CUTS.0, CUTS.1);
    let mut row = Row::default();
    let mut findings = Vec::new();
    let (mut scripts, mut signed) = (0, 0);
    while row.tries < cuts {
        setting.progress(row.tries, cuts, "cuts")?;
        for (seed, told) in side_by_side(setting.seed().wrapping_add(scripts)) {
            row.tries += told.cuts;
            row.acknowledged += told.acknowledged;
            signed += told.signed;
            for finding in told.findings {
                match finding {
                    Finding::Lost(..) => row.lost += 1,
                    Finding::Wrong(..) => row.wrong += 1,
                    Finding::Closed(..) => row.open_failures += 1,
                }
                findings.push(format!("{finding} (--only simulated --seed {seed})"));
            }
        }
        scripts += SCRIPTS_AT_ONCE;
    }
    row.figures.push(format!("{scripts} scripts, {signed} checkpoints given out"));
    row.misses.extend(findings.into_iter().take(FINDINGS_SHOWN));
    for (bug, name) in BUGS {
        setting.progress(cuts, cuts, name)?;
        let first = setting.seed();
        let caught = (0..SCRIPTS_PER_BUG).find(|at| !told(first.wrapping_add(*at), Some(bug)).findings.is_empty());
        match caught {
            Some(at) => row.figures.push(format!("{name} is caught by script {}", at + 1)),
            None => row.misses.push(format!("{name} went unnoticed in {SCRIPTS_PER_BUG} scripts")),
        }
    }
    Ok(row)
}

/// Runs some scripts on all cores; in the order of their seeds.
fn side_by_side(first: u64) -> Vec<(u64, Told)> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed) as u64;
                    if at >= SCRIPTS_AT_ONCE {
                        return;
                    }
                    let seed = first.wrapping_add(at);
                    let told = told(seed, None);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((seed, told));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(seed, _)| seed.wrapping_sub(first));
    results
}

/// One script to its end, a panic included.
fn told(seed: u64, bug: Option<Bug>) -> Told {
    catch_unwind(AssertUnwindSafe(|| Script::new(seed, bug).run())).unwrap_or_else(|_panic| Told {
        findings: vec![Finding::Closed("the journal panicked".to_owned())],
        ..Told::default()
    })
}

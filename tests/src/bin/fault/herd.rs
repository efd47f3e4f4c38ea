//! A herd: ten thousand devices whose broker comes back and admits five hundred connections a second. The agent's own rule for
//! waiting, in virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use vedette_agent::backoff::{Reconnect, Waits};
use vedette_tests::random::Random;

use crate::setting::Setting;
use crate::table::Row;

const CLIENTS: usize = 10_000;
/// Connections a second that the broker admits; what comes beyond is refused.
const RATE: u32 = 500;
/// Tries a client, at most.
const TRIES_MAX: f64 = 1.1;
/// How long the broker was away before it came back.
const OUTAGES_S: [u64; 5] = [0, 5, 60, 600, 6 * 3600];
/// The waits that ship.
const WAITS: Waits = Waits {
    start: Duration::from_secs(10),
    spread: Duration::from_secs(30),
    base: Duration::from_secs(1),
    cap: Duration::from_secs(300),
};
/// The same without spreading: it must look bad.
const BARE: Waits = Waits { start: Duration::ZERO, spread: Duration::ZERO, ..WAITS };

/// How a herd came back.
struct Came {
    /// Tries a client once the broker was there.
    tries: f64,
    /// Tries in the busiest second once it was there.
    peak: u32,
    all_in: Duration,
}

/// Lets the herds come.
pub(crate) fn run(setting: &Setting) -> anyhow::Result<Row> {
    let mut random = Random::new(setting.random("herd").number());
    let mut row = Row::default();
    for outage in OUTAGES_S {
        setting.check()?;
        let came = come(WAITS, Duration::from_secs(outage), &mut random);
        row.tries += CLIENTS as u64;
        row.expect(came.tries <= TRIES_MAX, || format!("{:.2} tries each after {outage} s", came.tries));
        row.expect(came.peak <= RATE, || format!("{} tries in one second after {outage} s", came.peak));
        row.figures.push(format!(
            "after {outage} s: {:.2} tries each, {}/s at most, all in {:.0} s",
            came.tries,
            came.peak,
            came.all_in.as_secs_f64()
        ));
    }
    let bare = come(BARE, Duration::ZERO, &mut random);
    row.expect(bare.peak > RATE && bare.tries > TRIES_MAX, || "a herd that does not spread went unnoticed".to_owned());
    row.figures.push(format!("without spreading: {:.1} tries each, {}/s at most", bare.tries, bare.peak));
    Ok(row)
}

/// All lose a good connection at 0, the broker is back after `outage`.
fn come(waits: Waits, outage: Duration, random: &mut Random) -> Came {
    let mut clients: Vec<Reconnect> = (0..CLIENTS).map(|_| Reconnect::new(waits)).collect();
    let mut due = BinaryHeap::new();
    for (at, client) in clients.iter_mut().enumerate() {
        due.push(Reverse((client.lost(Duration::ZERO, random.draw()), at)));
    }
    let (mut admitted, mut tries) = (BTreeMap::<u64, u32>::new(), BTreeMap::<u64, u32>::new());
    let mut all_in = Duration::ZERO;
    while let Some(Reverse((now, at))) = due.pop() {
        if now >= outage {
            let second = (now - outage).as_secs();
            *tries.entry(second).or_default() += 1;
            let admitted = admitted.entry(second).or_default();
            if *admitted < RATE {
                *admitted += 1;
                all_in = all_in.max(now - outage);
                continue;
            }
        }
        // Refused, or nobody there: both are quick beside the waits.
        let wait = clients[at].lost(now.max(Duration::from_nanos(1)), random.draw());
        due.push(Reverse((now + wait.max(Duration::from_millis(1)), at)));
    }
    let total: u32 = tries.values().sum();
    Came { tries: f64::from(total) / CLIENTS as f64, peak: tries.values().copied().max().unwrap_or(0), all_in }
}

//! A script: what a program does with its journal in several lives, drawn from a seed, with a cut beside every operation.

use std::path::{Path, PathBuf};
use std::time::Duration;

use vedette_journal::{Checkpoint, Journal, Options, SEGMENT_BYTES_MIN, SigningKey};
use vedette_tests::random::Random;
use vedette_tests::sim_disk::SimDisk;

use super::Bug;
use super::model::{Draft, Finding, Found, Model};

/// Turns of a script.
const TURNS: u64 = 120;
/// Longest record that is drawn often; some are longer than a segment.
const PAYLOAD_BYTES: u64 = 400;
/// Whose checkpoints they are.
const ORIGIN: &str = "vedette/box-1/7";
/// Operations within which a cut that ends a life comes.
const CUT_WITHIN: u64 = 12;

/// What came of a script.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// Cuts that were tried.
    pub(crate) cuts: u64,
    /// Records acknowledged, over the script.
    pub(crate) acknowledged: u64,
    /// Checkpoints given out, over the script.
    pub(crate) signed: u64,
    pub(crate) findings: Vec<Finding>,
}

/// One script.
pub(crate) struct Script {
    random: Random,
    bug: Option<Bug>,
    disk: SimDisk,
    folder: PathBuf,
    key: SigningKey,
    model: Model,
    /// The disk fails now and then.
    fails: bool,
    told: Told,
}

/// Ends a script at its first finding.
type Turn<T> = Result<T, Finding>;

impl Script {
    pub(crate) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut random = Random::new(seed);
        let disk = SimDisk::new(random.number());
        let fails = bug.is_none() && random.chance(1, 4);
        let model = Model::default();
        let key = SigningKey::from_seed(&[7; 32]);
        Self { random, bug, disk, folder: "/journal".into(), key, model, fails, told: Told::default() }
    }

    /// Runs it to its end or its first finding.
    pub(crate) fn run(mut self) -> Told {
        let outcome = self.lives();
        self.told.acknowledged = self.model.acknowledged();
        self.told.signed = self.model.signed;
        self.told.findings.extend(outcome.err());
        self.told
    }

    fn lives(&mut self) -> Turn<()> {
        let mut turns = 0;
        while turns < TURNS {
            turns += 1;
            self.begin_life();
            let mut open = self.open()?;
            while let Some(journal) = open {
                turns += 1;
                open = if turns < TURNS && !self.disk.is_off() { self.turn(journal)? } else { None };
            }
            if self.disk.is_off() {
                self.disk = self.disk.still().after_cut(self.random.number());
            }
        }
        Ok(())
    }

    fn begin_life(&mut self) {
        let bug = match self.bug {
            Some(Bug::Disk(bug)) => Some(bug),
            Some(Bug::AcknowledgeEarly) | None => None,
        };
        self.disk.set_bug(bug);
        self.disk.set_errors(0);
        self.disk.set_capacity(None);
        self.disk.photograph_every(Some(1));
    }

    fn options(&self) -> Options {
        Options { segment_bytes: SEGMENT_BYTES_MIN, commit_interval: Duration::ZERO, ..Options::new(7) }
    }

    /// Opens the journal for a life of its own; `None` when the power went meanwhile.
    fn open(&mut self) -> Turn<Option<Journal>> {
        if self.random.chance(1, 4) {
            self.disk.cut_power_at(Some(self.disk.operations() + self.random.below(CUT_WITHIN)));
        }
        let checked = self.model.check(&self.disk, &self.folder, self.options());
        let found = match checked {
            Err(_) if self.disk.is_off() => None,
            other => Some(other?),
        };
        self.look_at_cuts()?;
        let Some(found) = found else { return Ok(None) };
        self.model.live_on(&found);
        self.look_now()?;
        Ok(Some(found.journal))
    }

    /// One thing that a program does; gives the journal back unless this life is over.
    fn turn(&mut self, mut journal: Journal) -> Turn<Option<Journal>> {
        if self.fails {
            self.weather();
        }
        let mut over = false;
        match self.random.below(100) {
            0..=49 => self.append(&mut journal),
            50..=65 => either_way(journal.commit()),
            66..=75 => self.checkpoint(&mut journal)?,
            76..=79 => self.prune(&mut journal),
            80..=84 => self.thin(&mut journal),
            85..=87 => self.skip(&mut journal),
            88..=91 => {}
            92..=94 => self.disk.cut_power_at(Some(self.disk.operations() + self.random.below(CUT_WITHIN))),
            95..=97 => return self.close(journal),
            _ => over = true,
        }
        self.look_at_cuts()?;
        if !self.disk.is_off() {
            self.model.acknowledge(self.acknowledged(&journal));
        }
        self.look_now()?;
        Ok((!over).then_some(journal))
    }

    /// What the program tells others is safe.
    fn acknowledged(&self, journal: &Journal) -> u64 {
        match self.bug {
            Some(Bug::AcknowledgeEarly) => journal.next_sequence(),
            Some(Bug::Disk(_)) | None => journal.committed(),
        }
    }

    /// The disk gets full, fails, or recovers.
    fn weather(&mut self) {
        self.model.failed = true;
        match self.random.below(12) {
            0 => self.disk.set_errors(self.random.between(1, 300)),
            1 => self.disk.set_capacity(Some(self.random.between(0, 100_000))),
            2 | 3 => self.disk.set_errors(0),
            4 | 5 => self.disk.set_capacity(None),
            _ => {}
        }
    }

    fn append(&mut self, journal: &mut Journal) {
        for _ in 0..self.random.between(1, 8) {
            let bytes = match self.random.below(200) {
                0 => self.random.between(0, 2 * SEGMENT_BYTES_MIN),
                1..=9 => self.random.between(0, 4000),
                _ => self.random.between(0, PAYLOAD_BYTES),
            };
            let kind = (self.random.number() & 0xff) as u8;
            let payload = self.random.bytes(bytes as usize);
            if let Ok(sequence) = journal.append(kind, &payload) {
                self.model.appended(sequence, Draft { kind, payload: payload.into() });
            }
        }
    }

    /// What is signed was durable before, so it counts as acknowledged however much else is cut.
    fn checkpoint(&mut self, journal: &mut Journal) -> Turn<()> {
        let signed = journal.checkpoint(ORIGIN, &self.key);
        self.look_at_cuts()?;
        let Ok(signed) = signed else { return Ok(()) };
        self.model.acknowledge(journal.committed());
        self.model.sign(&signed)?;
        match Checkpoint::open(&signed.note, &self.key.public()) {
            Ok(checkpoint) if checkpoint == signed.checkpoint => Ok(()),
            other => Err(Finding::Wrong(format!("the note of {:?} says {other:?}", signed.checkpoint))),
        }
    }

    fn prune(&mut self, journal: &mut Journal) {
        let below = self.random.below(self.model.acknowledged() + 1);
        self.model.prune(below);
        either_way(journal.prune_below(below));
    }

    /// Removes some records of some finished segment.
    fn thin(&mut self, journal: &mut Journal) {
        let segments = journal.segment_list();
        let finished = segments.len().saturating_sub(1);
        if finished == 0 {
            return;
        }
        let index = segments[self.random.index(finished)].index;
        let keeps = self.random.below(4);
        let (random, model) = (&mut self.random, &mut self.model);
        either_way(journal.thin(index, &mut |entry| {
            let keep = random.below(4) < keeps;
            if !keep {
                model.thin(entry.sequence);
            }
            keep
        }));
    }

    fn skip(&mut self, journal: &mut Journal) {
        let to = journal.next_sequence() + self.random.between(1, 20);
        self.model.skip(to);
        either_way(journal.skip_to(to));
    }

    /// Ends a life as it should end.
    fn close(&mut self, journal: Journal) -> Turn<Option<Journal>> {
        let all = journal.next_sequence();
        let closed = journal.close();
        self.look_at_cuts()?;
        if closed.is_ok() {
            self.model.acknowledge(all);
        }
        self.look_now()?;
        Ok(None)
    }

    /// Cuts each picture that was taken since the last look, and checks what is left against what was acknowledged when
    /// the first of them was taken.
    fn look_at_cuts(&mut self) -> Turn<()> {
        for (operation, still) in self.disk.photographs() {
            let seed = self.random.number();
            self.try_cut(&still.after_cut(seed), operation, seed)?;
        }
        Ok(())
    }

    /// A cut between two turns: everything acknowledged by now has to be there.
    fn look_now(&mut self) -> Turn<()> {
        if self.disk.is_off() {
            return Ok(());
        }
        let seed = self.random.number();
        self.try_cut(&self.disk.still().after_cut(seed), self.disk.operations(), seed)
    }

    fn try_cut(&mut self, disk: &SimDisk, operation: u64, seed: u64) -> Turn<()> {
        self.told.cuts += 1;
        let checked = self.model.check(disk, Path::new(&self.folder), self.options());
        checked.map(|_: Found| ()).map_err(|finding| self.said(finding, operation, seed))
    }

    /// A finding with its place in the script.
    fn said(&self, finding: Finding, operation: u64, seed: u64) -> Finding {
        let disk = if self.model.failed { " of a failing disk" } else { "" };
        let place = |what: String| format!("{what}, after a cut at operation {operation}{disk} ({seed:016x})");
        match finding {
            Finding::Lost(what) => Finding::Lost(place(what)),
            Finding::Wrong(what) => Finding::Wrong(place(what)),
            Finding::Closed(what) => Finding::Closed(place(what)),
        }
    }
}

/// What counts is what the journal calls committed afterwards, not what a call said.
fn either_way<T, E>(_said: Result<T, E>) {}

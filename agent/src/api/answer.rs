//! Who scored what, from the ledger and the journal: the same answers for the running agent and for a command that reads
//! a stopped agent's folder.

use std::path::Path;
use std::str::FromStr;

use vedette_journal::Reader;
use vedette_protocol::cbor;
use vedette_protocol::id::{DeviceId, IdError, ModelRef, RecordId, RowId, StreamName};
use vedette_protocol::record::{Body, DeployStep, Record, RecordKind, ScoredBy};
use vedette_protocol::time::format_ms;

use super::view::{ModelView, RunView, StepView, WhoView};
use crate::index;
use crate::ledger::{Answer, Ledger};

/// A row or record as people name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `device/epoch/sequence`
    Record(RecordId),
    /// `device/epoch/stream#row`
    Row(RowId),
    /// `stream#row`
    StreamRow(StreamName, u64),
    /// `sequence`
    Sequence(u64),
}

/// A text that names neither a row nor a record.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "\"{0}\" names no record: write a sequence (42), a row (server#1742), or either with its device and epoch (box-17/1/42, box-17/1/server#1742)"
)]
pub struct NotAsked(String);

impl FromStr for Asked {
    type Err = NotAsked;

    fn from_str(text: &str) -> Result<Self, NotAsked> {
        let refuse = |_: IdError| NotAsked(text.chars().take(80).collect());
        let number = |n: &str| n.parse().map_err(|_| NotAsked(text.chars().take(80).collect()));
        Ok(match (text.contains('/'), text.split_once('#')) {
            (true, Some(_)) => Self::Row(text.parse().map_err(refuse)?),
            (true, None) => Self::Record(text.parse().map_err(refuse)?),
            (false, Some((stream, row))) => Self::StreamRow(stream.parse().map_err(refuse)?, number(row)?),
            (false, None) => Self::Sequence(number(text)?),
        })
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nothing of that name here; the sentence says what is missing.
    #[error("{0}")]
    NotFound(String),
    /// The journal cannot be read.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// What answers are made from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Whose journal it is.
    pub device: &'a DeviceId,
    /// Its epoch.
    pub epoch: u64,
    /// Its ledger.
    pub ledger: &'a Ledger,
    /// Its folder.
    pub journal: &'a Path,
}

/// A stream's rows in the life of the agent that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The first.
    pub first_row: u64,
    /// The next to come.
    pub next_row: u64,
}

/// Tells a stream's life; `None` when the agent is down or no longer has the stream.
pub type Lives<'a> = &'a dyn Fn(&StreamName) -> Option<Life>;

impl Facts<'_> {
    /// Who scored a row or the row of a record.
    ///
    /// # Errors
    /// When it is of another device or epoch, was never scored, or is no record of a row.
    pub fn who_scored(&self, asked: &Asked, lives: Lives<'_>) -> Result<WhoView, NoAnswer> {
        match asked {
            Asked::Record(id) => {
                self.is_here(&id.device, id.epoch)?;
                self.who_scored_record(id.sequence, lives)
            }
            Asked::Sequence(sequence) => self.who_scored_record(*sequence, lives),
            Asked::Row(id) => {
                self.is_here(&id.device, id.epoch)?;
                self.who_scored_row(&id.stream, id.row, lives)
            }
            Asked::StreamRow(stream, row) => self.who_scored_row(stream, *row, lives),
        }
    }

    /// All runs of rows with one scorer, by stream, oldest first.
    #[must_use]
    pub fn runs(&self, lives: Lives<'_>) -> Vec<RunView> {
        let streams = self.ledger.streams();
        streams.flat_map(|stream| self.ledger.runs(stream).map(|run| self.run(stream, run, lives))).collect()
    }

    /// A model's life on this device.
    ///
    /// # Errors
    /// When it was never here.
    pub fn model(&self, model: &ModelRef, lives: Lives<'_>) -> Result<ModelView, NoAnswer> {
        let is_it = |run: &RunView| matches!(&run.by, ScoredBy::Model { model: of, .. } if of == model);
        let runs: Vec<RunView> = self.runs(lives).into_iter().filter(is_it).collect();
        let steps = self.steps(model)?;
        let (mut artifact, mut manifest) = (None, steps.last().map(|(step, _)| step.manifest));
        if let Some(RunView { by: ScoredBy::Model { artifact: a, manifest: m, .. }, .. }) = runs.last() {
            (artifact, manifest) = (Some(*a), Some(*m));
        }
        if runs.is_empty() && steps.is_empty() {
            return Err(NoAnswer::NotFound(format!("{model} was never on this device")));
        }
        let steps = steps.into_iter().map(|(step, at)| StepView {
            at,
            stream: step.stream,
            stage: step.stage,
            detail: step.detail,
        });
        Ok(ModelView { model: model.clone(), artifact, manifest, runs, steps: steps.collect() })
    }

    fn is_here(&self, device: &DeviceId, epoch: u64) -> Result<(), NoAnswer> {
        if device != self.device {
            return Err(NoAnswer::NotFound(format!("that is a record of {device}; this device is {}", self.device)));
        }
        if epoch != self.epoch {
            return Err(NoAnswer::NotFound(format!(
                "that is a record of epoch {epoch}; this device's journal has epoch {}",
                self.epoch
            )));
        }
        Ok(())
    }

    fn who_scored_record(&self, sequence: u64, lives: Lives<'_>) -> Result<WhoView, NoAnswer> {
        let Some((_, record)) = index::one(self.journal, sequence)? else {
            return Err(NoAnswer::NotFound(format!("there is no record {sequence} in the journal")));
        };
        let Body::Anomaly(anomaly) = record.body else {
            let kind = format!("{:?}", record.body.kind()).to_lowercase();
            return Err(NoAnswer::NotFound(format!("record {sequence} is a {kind} record: nothing was scored in it")));
        };
        let mut who = self.who_scored_row(&anomaly.stream, anomaly.row, lives)?;
        who.record = RecordId { device: self.device.clone(), epoch: self.epoch, sequence }.to_string();
        if who.by != anomaly.by {
            who.note =
                Some(format!("{} was in charge; for this row {} stood in, as the record says", who.by, anomaly.by));
            who.by = anomaly.by;
        }
        Ok(who)
    }

    fn who_scored_row(&self, stream: &StreamName, row: u64, lives: Lives<'_>) -> Result<WhoView, NoAnswer> {
        let life = lives(stream);
        if let Some(Life { next_row, .. }) = life.filter(|life| row >= life.next_row) {
            return Err(NoAnswer::NotFound(format!(
                "row {row} of stream {stream} is not scored yet: the next row is {next_row}"
            )));
        }
        let Some(run) = self.ledger.who_scored(stream, row) else {
            let known = self.ledger.streams().any(|s| s == stream);
            let why =
                if known { "was never promised to a scorer" } else { "cannot be: this device never had that stream" };
            return Err(NoAnswer::NotFound(format!("row {row} of stream {stream} {why}")));
        };
        let id = RowId { device: self.device.clone(), epoch: self.epoch, stream: stream.clone(), row };
        let (by, run) = (run.by.clone(), self.run(stream, run, lives));
        let note = (!run.exact).then(|| {
            "the agent was cut off in this run: rows at its end were promised to the scorer and perhaps never scored".to_owned()
        });
        let (record, RowId { device, stream, row, .. }) = (id.to_string(), id);
        Ok(WhoView { record, device, stream, row, by, run, note })
    }

    fn run(&self, stream: &StreamName, run: Answer, lives: Lives<'_>) -> RunView {
        let life = lives(stream).filter(|life| run.newest && run.first_row >= life.first_row);
        RunView {
            stream: stream.clone(),
            by: run.by,
            first_row: run.first_row,
            end_row: life.map_or(run.end_row, |life| life.next_row),
            exact: life.is_some() || run.exact,
            since: format_ms(run.since_ms),
            reason: run.reason,
            engine: run.engine,
            swap: RecordId { device: self.device.clone(), epoch: self.epoch, sequence: run.sequence },
            running: life.is_some(),
        }
    }

    fn steps(&self, model: &ModelRef) -> anyhow::Result<Vec<(DeployStep, String)>> {
        let mut steps = Vec::new();
        let mut reader = Reader::open(self.journal, 0)?;
        while let Some(entry) = reader.next()? {
            if entry.kind != RecordKind::Deploy as u8 {
                continue;
            }
            if let Ok(Record { stamp, body: Body::Deploy(step) }) = cbor::from_canonical(&entry.payload)
                && step.model == *model
            {
                steps.push((step, format_ms(stamp.wall_ms)));
            }
        }
        Ok(steps)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use vedette_protocol::record::{Swap, SwapReason};

    #[test]
    fn rows_and_records_are_understood_in_each_form() {
        let asked = |text: &str| text.parse::<Asked>();
        assert_eq!(asked("42"), Ok(Asked::Sequence(42)));
        assert_eq!(asked("server#1742"), Ok(Asked::StreamRow("server".parse().unwrap(), 1742)));
        assert_eq!(asked("box-17/1/42"), Ok(Asked::Record("box-17/1/42".parse().unwrap())));
        assert_eq!(asked("box-17/1/server#7"), Ok(Asked::Row("box-17/1/server#7".parse().unwrap())));
        for wrong in ["", "server", "server#", "#4", "box-17/1", "-1", "box/1/x"] {
            assert!(asked(wrong).unwrap_err().to_string().contains("server#1742"), "{wrong}");
        }
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        let by = ScoredBy::Baseline { version: 1 };
        ledger.note(
            3,
            1000,
            &Swap {
                stream: "s".parse().unwrap(),
                first_row: 0,
                reserved: 100,
                by,
                reason: SwapReason::Start,
                engine: None,
            },
        );
        ledger
    }

    #[test]
    fn another_device_another_epoch_and_rows_to_come_are_not_found() {
        let (device, ledger) = ("box".parse().unwrap(), ledger());
        let facts = Facts { device: &device, epoch: 7, ledger: &ledger, journal: Path::new("nowhere") };
        let ask = |text: &str, next: Option<u64>| {
            let life = next.map(|next_row| Life { first_row: 0, next_row });
            facts.who_scored(&text.parse().unwrap(), &|_| life).map_err(|e| e.to_string())
        };
        assert!(ask("other/7/s#1", None).unwrap_err().contains("this device is box"));
        assert!(ask("box/6/s#1", None).unwrap_err().contains("epoch 7"));
        assert!(ask("s#50", Some(50)).unwrap_err().contains("not scored yet"));
        assert!(ask("s#100", None).unwrap_err().contains("never promised"));
        assert!(ask("t#1", None).unwrap_err().contains("never had that stream"));
    }

    #[test]
    fn a_run_ends_at_the_next_row_while_the_agent_runs_and_is_in_doubt_while_it_is_down() {
        let (device, ledger) = ("box".parse().unwrap(), ledger());
        let facts = Facts { device: &device, epoch: 7, ledger: &ledger, journal: Path::new("nowhere") };
        let life = |first_row| move |_: &StreamName| Some(Life { first_row, next_row: 50 });
        let who = facts.who_scored(&"box/7/s#49".parse().unwrap(), &life(0)).unwrap();
        assert_eq!((who.run.end_row, who.run.running, who.note), (50, true, None));
        let who = facts.who_scored(&"s#9".parse().unwrap(), &life(20)).unwrap();
        assert!(!who.run.running && who.note.is_some(), "a run of a life that was cut off");
        let who = facts.who_scored(&"s#49".parse().unwrap(), &|_| None).unwrap();
        assert_eq!((who.run.end_row, who.run.running), (100, false));
        assert!(who.note.is_some());
    }
}

//! The records of a device's journal: what was found and what happened. Canonical CBOR with integer keys, because they
//! are hashed. A record's identity (device, epoch, sequence) is the journal's and not repeated inside.

mod code;
mod scored_by;
mod wire;

pub use scored_by::ScoredBy;

use serde::{Deserialize, Serialize};

use crate::id::{Digest, ModelRef, RecordId, SignalName, StreamName};
use crate::number::Finite32;
use crate::time::{Quality, Stamp};

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When it was written.
    pub stamp: Stamp,
    /// What it says.
    pub body: Body,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Body {
    /// The agent started.
    Boot {
        /// Version of the agent, as it prints it.
        agent_version: String,
        /// How the life before this one ended.
        previous: PreviousEnd,
    },
    /// Another model scores a stream from some row on.
    Swap(Swap),
    /// Something is not as usual.
    Anomaly(Anomaly),
    /// Records of this journal were lost.
    Gap {
        /// First lost sequence.
        from: u64,
        /// First sequence that is there again.
        to: u64,
        /// Why, as a sentence.
        reason: String,
    },
    /// The wall clock was set.
    Clock {
        /// What it would have shown, milliseconds since 1970 in UTC.
        old_ms: i64,
        /// What it shows, milliseconds since 1970 in UTC.
        new_ms: i64,
        /// How far to believe it now.
        quality: Quality,
    },
    /// The agent runs with another configuration.
    Config {
        /// SHA-256 of the configuration as it was read.
        digest: Digest,
    },
    /// Something was dropped, and this is how much.
    Drop(Dropped),
    /// A person judged an earlier record.
    Verdict {
        /// Which record.
        record: RecordId,
        /// What they said.
        verdict: Verdict,
        /// Who, as they named themselves.
        by: String,
        /// Why, in their words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// The registry has received the journal up to here.
    Ack {
        /// The journal's life.
        epoch: u64,
        /// First sequence that the registry does not have.
        upto: u64,
    },
    /// A model took a step on its way in.
    Deploy(DeployStep),
}

/// The kind of a record: also the kind byte of its journal entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum RecordKind {
    /// [`Body::Boot`]
    Boot = 1,
    /// [`Body::Swap`]
    Swap = 2,
    /// [`Body::Anomaly`]
    Anomaly = 3,
    /// [`Body::Gap`]
    Gap = 4,
    /// [`Body::Clock`]
    Clock = 5,
    /// [`Body::Config`]
    Config = 6,
    /// [`Body::Drop`]
    Drop = 7,
    /// [`Body::Verdict`]
    Verdict = 8,
    /// [`Body::Ack`]
    Ack = 9,
    /// [`Body::Deploy`]
    Deploy = 10,
}

impl RecordKind {
    /// The number of this kind.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The kind of this number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        <Self as crate::cbor::Coded>::ALL.iter().copied().find(|kind| kind.code() == code)
    }
}

/// How much a record is worth when room or time is short, the highest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// What happened to the device and its log: without it nothing else can be judged.
    Control,
    /// What was found.
    Anomaly,
    /// Media around a finding.
    Clip,
    /// Raw telemetry.
    Telemetry,
}

impl Class {
    /// All of them, the most valuable first.
    pub const ALL: [Self; 4] = [Self::Control, Self::Anomaly, Self::Clip, Self::Telemetry];

    /// What a drop of this class is recorded as.
    #[must_use]
    pub const fn dropped(self) -> DropClass {
        match self {
            Self::Control => DropClass::Control,
            Self::Anomaly => DropClass::Anomaly,
            Self::Clip => DropClass::Clip,
            Self::Telemetry => DropClass::Sample,
        }
    }
}

impl RecordKind {
    /// The class that records of this kind are of.
    #[must_use]
    pub const fn class(self) -> Class {
        match self {
            Self::Anomaly => Class::Anomaly,
            Self::Boot
            | Self::Swap
            | Self::Gap
            | Self::Clock
            | Self::Config
            | Self::Drop
            | Self::Verdict
            | Self::Ack
            | Self::Deploy => Class::Control,
        }
    }
}

impl Body {
    /// Which kind it is.
    #[must_use]
    pub const fn kind(&self) -> RecordKind {
        match self {
            Self::Boot { .. } => RecordKind::Boot,
            Self::Swap(_) => RecordKind::Swap,
            Self::Anomaly(_) => RecordKind::Anomaly,
            Self::Gap { .. } => RecordKind::Gap,
            Self::Clock { .. } => RecordKind::Clock,
            Self::Config { .. } => RecordKind::Config,
            Self::Drop(_) => RecordKind::Drop,
            Self::Verdict { .. } => RecordKind::Verdict,
            Self::Ack { .. } => RecordKind::Ack,
            Self::Deploy(_) => RecordKind::Deploy,
        }
    }
}

/// How the agent's last life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum PreviousEnd {
    /// There was none.
    First = 0,
    /// It was asked to stop and did.
    Clean = 1,
    /// It was killed, crashed, or lost its power.
    Unclean = 2,
}

/// From `first_row` on, `by` scores `stream`. These records are the score ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// The stream.
    pub stream: StreamName,
    /// First row that `by` scores.
    pub first_row: u64,
    /// Rows promised to this entry before the next one is written; an `Extend` promises more.
    pub reserved: u64,
    /// Who scores.
    pub by: ScoredBy,
    /// Why it changed.
    pub reason: SwapReason,
    /// What runs the model's graph; nothing for the built-in detector and in records of older agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineKind>,
}

/// Which program runs a model's graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum EngineKind {
    /// A plan of the house's own.
    Native = 0,
    /// tract.
    Tract = 1,
    /// tract, with operators of the house in it.
    Mixed = 2,
}

impl EngineKind {
    /// As status, reports and tables write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Tract => "tract",
            Self::Mixed => "mixed",
        }
    }
}

/// Why another model scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum SwapReason {
    /// The agent started.
    Start = 0,
    /// The registry assigned it.
    Assigned = 1,
    /// Its successor was taken back.
    Rollback = 2,
    /// Its predecessor failed.
    Fault = 3,
    /// Nothing changed: the reserved rows are used up.
    Extend = 4,
}

/// A row that is not as usual.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomaly {
    /// The stream.
    pub stream: StreamName,
    /// The row of the stream, from 0.
    pub row: u64,
    /// When the row was sampled, milliseconds since 1970 in UTC.
    pub at_ms: i64,
    /// What found it.
    pub cause: Cause,
    /// The smoothed score.
    pub score: Finite32,
    /// What the score was held against.
    pub threshold: Finite32,
    /// The signals that contributed most, largest first, at most [`crate::limit::MAX_TOP`].
    pub top: Vec<Contribution>,
    /// Who scored.
    pub by: ScoredBy,
    /// SHA-256 of the input window (f32, little endian, row by row).
    pub input: Digest,
}

/// How much of a score comes from one signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contribution {
    /// The signal.
    pub signal: SignalName,
    /// Its part of the summed contributions, 0 to 1.
    pub share: Finite32,
    /// Its raw value, when there was one.
    pub value: Option<Finite32>,
}

/// What found an anomaly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Cause {
    /// The model.
    Model = 0,
    /// The built-in baseline.
    Baseline = 1,
    /// A signal is missing for longer than may be filled.
    Missing = 2,
    /// A signal has not changed for too long.
    Frozen = 3,
    /// The model gave no usable number: a fault of the model, not of the telemetry.
    ModelFault = 4,
}

/// What was dropped because a limit was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// The stream whose rows they were; without it they were records of this journal, and the rows are their sequences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamName>,
    /// What of it.
    pub class: DropClass,
    /// First row concerned.
    pub first_row: u64,
    /// Last row concerned.
    pub last_row: u64,
    /// How many.
    pub count: u64,
    /// The highest score among them, of those that had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Finite32>,
}

/// What can be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum DropClass {
    /// Samples that were never scored.
    Sample = 0,
    /// Anomalies that were found and not written, or written and removed again.
    Anomaly = 1,
    /// Records of class control.
    Control = 2,
    /// Pieces of media.
    Clip = 3,
}

/// What a person says of an anomaly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Verdict {
    /// There was nothing.
    FalseAlarm = 0,
    /// There was something.
    Confirmed = 1,
    /// There was something that does not matter.
    Ignored = 2,
}

/// A step of a model on its way in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployStep {
    /// The stream that it is for.
    pub stream: StreamName,
    /// The model.
    pub model: ModelRef,
    /// Its manifest.
    pub manifest: Digest,
    /// How far it is.
    pub stage: Stage,
    /// Why, when it was refused, at most [`crate::limit::MAX_DETAIL_BYTES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// How far a model is on its way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Stage {
    /// A signed assignment names it.
    Assigned = 0,
    /// Its manifest is signed and may run here.
    Verified = 1,
    /// Its artifact is here and hashes right.
    Fetched = 2,
    /// It passed its trial.
    Tried = 3,
    /// It scores, and its digest was reported.
    Live = 4,
    /// It will not run; the one before it goes on.
    Refused = 5,
}

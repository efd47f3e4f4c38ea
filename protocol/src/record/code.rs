//! The numbers of the choices in records. A number is never reused.

use super::{Cause, DropClass, EngineKind, PreviousEnd, RecordKind, Stage, SwapReason, Verdict};
use crate::cbor::Coded;
use crate::time::Quality;

impl Coded for Quality {
    const WHAT: &'static str = "quality of time";
    const ALL: &'static [Self] = &[Self::None, Self::Floor, Self::System, Self::Attested];

    fn code(self) -> u8 {
        self as u8
    }
}

impl Coded for RecordKind {
    const WHAT: &'static str = "kind of record";
    const ALL: &'static [Self] = &[
        Self::Boot,
        Self::Swap,
        Self::Anomaly,
        Self::Gap,
        Self::Clock,
        Self::Config,
        Self::Drop,
        Self::Verdict,
        Self::Ack,
        Self::Deploy,
    ];

    fn code(self) -> u8 {
        self as u8
    }
}

impl Coded for PreviousEnd {
    const WHAT: &'static str = "end of a life";
    const ALL: &'static [Self] = &[Self::First, Self::Clean, Self::Unclean];

    fn code(self) -> u8 {
        self as u8
    }
}

impl Coded for SwapReason {
    const WHAT: &'static str = "reason of a swap";
    const ALL: &'static [Self] = &[Self::Start, Self::Assigned, Self::Rollback, Self::Fault, Self::Extend];

    fn code(self) -> u8 {
        self as u8
    }
}

impl Coded for EngineKind {
    const WHAT: &'static str = "engine of a model";
    const ALL: &'static [Self] = &[Self::Native, Self::Tract, Self::Mixed];

    fn code(self) -> u8 {
        self as u8
    }
}

impl Coded for Cause {
    const WHAT: &'static str = "cause of an anomaly";
    const ALL: &'static [Self] = &[Self::Model, Self::Baseline, Self::Missing, Self::Frozen, Self::ModelFault];

    fn code(self) -> u8 {
        self as u8
    }
}

impl Coded for DropClass {
    const WHAT: &'static str = "class of drops";
    const ALL: &'static [Self] = &[Self::Sample, Self::Anomaly, Self::Control, Self::Clip];

    fn code(self) -> u8 {
        self as u8
    }
}

impl Coded for Verdict {
    const WHAT: &'static str = "verdict";
    const ALL: &'static [Self] = &[Self::FalseAlarm, Self::Confirmed, Self::Ignored];

    fn code(self) -> u8 {
        self as u8
    }
}

impl Coded for Stage {
    const WHAT: &'static str = "stage of a deployment";
    const ALL: &'static [Self] =
        &[Self::Assigned, Self::Verified, Self::Fetched, Self::Tried, Self::Live, Self::Refused];

    fn code(self) -> u8 {
        self as u8
    }
}

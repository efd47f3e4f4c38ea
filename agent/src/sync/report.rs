//! What the device says about itself.

use std::sync::Arc;

use vedette_protocol::id::{DeviceId, StreamName};
use vedette_protocol::limit::MAX_NOTE_BYTES;
use vedette_protocol::message::{Birth, Status, StreamState};

use crate::AGENT_VERSION;
use crate::clock::Clock;
use crate::deploy;
use crate::recorder::Recorder;
use crate::scorer::Board;

/// Where what is said comes from.
#[derive(Debug)]
pub(super) struct Reporter {
    pub(super) device: DeviceId,
    pub(super) clock: Clock,
    pub(super) recorder: Recorder,
    pub(super) board: Arc<Board>,
}

impl Reporter {
    /// Who we are and what runs, without details: it is retained and must stay small.
    pub(super) fn birth(&self, deploy: &deploy::View) -> Birth {
        let mut streams = self.streams(deploy);
        for stage in streams.iter_mut().filter_map(|stream| stream.stage.as_mut()) {
            stage.detail = None;
        }
        Birth { online: true, streams, assignment_version: deploy.assignment_version, ..self.will() }
    }

    /// What the broker says for us when we are gone.
    pub(super) fn will(&self) -> Birth {
        Birth {
            device: self.device.clone(),
            online: false,
            boot: self.clock.boot(),
            agent_version: AGENT_VERSION.to_owned(),
            epoch: self.recorder.epoch(),
            streams: Vec::new(),
            assignment_version: 0,
        }
    }

    /// How we do; `talk` says what is wrong with the talk itself.
    pub(super) fn status(&self, deploy: &deploy::View, acked: u64, talk: Option<String>) -> Status {
        let report = self.recorder.report();
        let lanes = self.board.lanes();
        Status {
            device: self.device.clone(),
            stamp: self.clock.stamp(),
            streams: self.streams(deploy),
            assignment_version: deploy.assignment_version,
            epoch: self.recorder.epoch(),
            next_sequence: report.next_sequence,
            acked,
            rows: lanes.iter().map(|lane| lane.rows()).sum(),
            anomalies: lanes.iter().map(|lane| lane.anomalies()).sum(),
            dropped: lanes.iter().map(|lane| lane.dropped()).sum::<u64>() + report.lost,
            degraded: degraded(report.degraded.or(talk), deploy),
            memory_bytes: resident_bytes(),
            uptime_s: self.clock.uptime().as_secs(),
        }
    }

    fn streams(&self, deploy: &deploy::View) -> Vec<StreamState> {
        let stage = |name: &StreamName| deploy.steps.iter().find(|step| step.stream == *name).cloned();
        let state = |lane: &Arc<crate::scorer::LaneReport>| StreamState {
            stream: lane.stream().clone(),
            by: lane.running().by,
            stage: stage(lane.stream()),
            row: lane.next_row(),
        };
        self.board.lanes().iter().map(state).collect()
    }
}

/// Why we do less than we should: the disk first, then the talk, then a refused assignment, then a model that does not come.
fn degraded(disk: Option<String>, deploy: &deploy::View) -> Option<String> {
    let refusal = || deploy.refusal.as_ref().map(|why| format!("an assignment was refused: {why}"));
    let waiting =
        || deploy.waiting.first().map(|(stream, why)| format!("the model of stream {stream} does not come: {why}"));
    let mut text = disk.or_else(refusal).or_else(waiting)?;
    while text.len() > MAX_NOTE_BYTES {
        text.pop();
    }
    Some(text)
}

/// Resident memory of this process, bytes; 0 where the kernel does not tell.
pub(crate) fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_wrong_with_the_disk_is_said_before_what_is_wrong_with_models() {
        let view = deploy::View {
            refusal: Some("expired".to_owned()),
            waiting: vec![("server".parse().unwrap(), "no route".to_owned())],
            ..deploy::View::default()
        };
        assert_eq!(degraded(Some("disk full".to_owned()), &view).unwrap(), "disk full");
        assert!(degraded(None, &view).unwrap().contains("expired"));
        let view = deploy::View { refusal: None, ..view };
        assert!(degraded(None, &view).unwrap().contains("server does not come: no route"));
        assert_eq!(degraded(None, &deploy::View::default()), None);
    }

    #[test]
    fn resident_memory_is_known_on_linux() {
        assert!(resident_bytes() > 100_000);
    }
}

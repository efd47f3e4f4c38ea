//! Every MQTT topic, built and parsed here and nowhere else.
//!
//! | topic | retained | QoS | payload |
//! |---|---|---|---|
//! | `vedette/v1/<device>/up/birth` | yes, also the last will | 1 | [`crate::message::Birth`] |
//! | `vedette/v1/<device>/up/journal` | no | 1 | [`crate::message::JournalBatch`] |
//! | `vedette/v1/<device>/up/status` | no | 1 | [`crate::message::Status`] |
//! | `vedette/v1/<device>/up/request` | no | 1 | [`crate::message::ArtifactRequest`] |
//! | `vedette/v1/<device>/down/assignment` | yes | 1 | envelope of [`crate::Assignment`] |
//! | `vedette/v1/<device>/down/chunk` | no | 1 | [`crate::message::Chunk`] |
//! | `vedette/v1/<device>/down/ack` | no | 1 | [`crate::message::BatchAck`] |
//!
//! The device is level 3, so that one rule of a broker keeps devices apart.

use std::fmt;
use std::str::FromStr;

use crate::id::DeviceId;

const ROOT: &str = "vedette/v1/";

/// What the registry subscribes to: everything that devices say.
pub const ALL_UP: &str = "vedette/v1/+/up/#";

/// What a device subscribes to: everything said to it.
#[must_use]
pub fn down_of(device: &DeviceId) -> String {
    format!("{ROOT}{device}/down/#")
}

/// What a device says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Up {
    /// Who it is and what it runs; its last will when it goes.
    Birth,
    /// Records of its journal.
    Journal,
    /// How it does.
    Status,
    /// Which bytes it wants.
    Request,
}

impl Up {
    /// Everything a device says.
    pub const ALL: [Self; 4] = [Self::Birth, Self::Journal, Self::Status, Self::Request];

    /// The last level of the topic.
    #[must_use]
    pub const fn level(self) -> &'static str {
        match self {
            Self::Birth => "birth",
            Self::Journal => "journal",
            Self::Status => "status",
            Self::Request => "request",
        }
    }
}

/// What is said to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Down {
    /// What it should run.
    Assignment,
    /// Bytes that it asked for.
    Chunk,
    /// How far its journal is received.
    Ack,
}

impl Down {
    /// Everything said to a device.
    pub const ALL: [Self; 3] = [Self::Assignment, Self::Chunk, Self::Ack];

    /// The last level of the topic.
    #[must_use]
    pub const fn level(self) -> &'static str {
        match self {
            Self::Assignment => "assignment",
            Self::Chunk => "chunk",
            Self::Ack => "ack",
        }
    }
}

/// Which way, and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the device.
    Up(Up),
    /// To the device.
    Down(Down),
}

/// One topic of one device.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Topic {
    /// Whose.
    pub device: DeviceId,
    /// Which way, and what.
    pub direction: Direction,
}

impl Topic {
    /// What `device` says.
    #[must_use]
    pub fn up(device: &DeviceId, up: Up) -> Self {
        Self { device: device.clone(), direction: Direction::Up(up) }
    }

    /// What is said to `device`.
    #[must_use]
    pub fn down(device: &DeviceId, down: Down) -> Self {
        Self { device: device.clone(), direction: Direction::Down(down) }
    }

    /// Whether the broker keeps the last message for who subscribes later.
    #[must_use]
    pub const fn retained(&self) -> bool {
        matches!(self.direction, Direction::Up(Up::Birth) | Direction::Down(Down::Assignment))
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.direction {
            Direction::Up(up) => write!(f, "{ROOT}{}/up/{}", self.device, up.level()),
            Direction::Down(down) => write!(f, "{ROOT}{}/down/{}", self.device, down.level()),
        }
    }
}

/// A topic that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no topic of ours")]
pub struct TopicError(String);

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        parse(text).ok_or_else(|| TopicError(text.chars().take(100).collect()))
    }
}

fn parse(text: &str) -> Option<Topic> {
    let (device, rest) = text.strip_prefix(ROOT)?.split_once('/')?;
    let (way, level) = rest.split_once('/')?;
    let direction = match way {
        "up" => Direction::Up(Up::ALL.into_iter().find(|up| up.level() == level)?),
        "down" => Direction::Down(Down::ALL.into_iter().find(|down| down.level() == level)?),
        _ => return None,
    };
    Some(Topic { device: device.parse().ok()?, direction })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_topic_reads_back_what_it_prints() {
        let device: DeviceId = "box-17".parse().unwrap();
        let ups = Up::ALL.map(|up| Topic::up(&device, up));
        let downs = Down::ALL.map(|down| Topic::down(&device, down));
        for topic in ups.into_iter().chain(downs) {
            assert_eq!(topic.to_string().parse::<Topic>().unwrap(), topic);
        }
        assert_eq!(Topic::up(&device, Up::Journal).to_string(), "vedette/v1/box-17/up/journal");
    }

    #[test]
    fn only_birth_and_assignment_are_retained() {
        let device: DeviceId = "a".parse().unwrap();
        let kept: Vec<_> = Up::ALL.into_iter().filter(|up| Topic::up(&device, *up).retained()).collect();
        assert_eq!(kept, [Up::Birth]);
        let kept: Vec<_> = Down::ALL.into_iter().filter(|down| Topic::down(&device, *down).retained()).collect();
        assert_eq!(kept, [Down::Assignment]);
    }

    #[test]
    fn foreign_topics_are_refused() {
        for bad in [
            "",
            "vedette/v2/a/up/birth",
            "vedette/v1/a/up/ack",
            "vedette/v1/a/down/birth",
            "vedette/v1//up/birth",
            "vedette/v1/a/up/birth/x",
            "vedette/v1/+/up/birth",
            "x/vedette/v1/a/up/birth",
        ] {
            assert!(bad.parse::<Topic>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_longest_topic_fits_what_brokers_take() {
        let device: DeviceId = "a".repeat(64).parse().unwrap();
        let longest = Topic::down(&device, Down::Assignment).to_string();
        assert!(longest.len() <= 256 && longest.split('/').count() <= 7);
    }
}

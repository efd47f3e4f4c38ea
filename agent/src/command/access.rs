//! Two ways to the same answers: the running agent's socket, or a stopped agent's journal.

use std::path::{Path, PathBuf};

use hyper::StatusCode;
use serde::de::DeserializeOwned;
use vedette_journal::Stat;
use vedette_protocol::id::DeviceId;

use super::client::{Client, NoReply};
use crate::api::answer::{Facts, NoAnswer};
use crate::api::view::AnomalyView;
use crate::config::Config;
use crate::index::{self, Query};
use crate::ledger::Ledger;
use crate::state::State;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// Nothing of that name.
    #[error("{0}")]
    NotFound(String),
    /// Not allowed.
    #[error("{0}")]
    Refused(String),
    /// It needs the running agent.
    #[error("{0}")]
    Down(String),
    /// It makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Anything else.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<serde_json::Error> for Trouble {
    fn from(error: serde_json::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<NoAnswer> for Trouble {
    fn from(why: NoAnswer) -> Self {
        match why {
            NoAnswer::NotFound(detail) => Self::NotFound(detail),
            NoAnswer::Failed(error) => Self::Failed(error),
        }
    }
}

/// Where a device's answers come from.
#[derive(Debug)]
pub(super) struct Access {
    client: Client,
    device: DeviceId,
    state: State,
    socket: PathBuf,
}

/// A stopped agent's journal.
#[derive(Debug)]
pub(super) struct Stopped<'a> {
    device: &'a DeviceId,
    folder: PathBuf,
    /// What the journal's files are.
    pub(super) stat: Stat,
    epoch: u64,
}

impl Access {
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let socket = config.api.socket.clone();
        Ok(Self {
            client: Client::new(&socket)?,
            device: config.device.clone(),
            state: State::paths(&config.state),
            socket,
        })
    }

    pub(super) fn device(&self) -> &DeviceId {
        &self.device
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.state.journal()
    }

    /// Asks the running agent; `None` when it is down.
    pub(super) fn live<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Trouble> {
        match self.client.get(path) {
            Ok(answer) => Ok(Some(answer)),
            Err(NoReply::Down) => Ok(None),
            Err(error) => Err(self.trouble(error)),
        }
    }

    /// Tells the running agent something.
    pub(super) fn tell<T: DeserializeOwned>(&self, path: &str, body: &impl serde::Serialize) -> Result<T, Trouble> {
        self.client.post(path, serde_json::to_vec(body)?).map_err(|error| self.trouble(error))
    }

    fn trouble(&self, error: NoReply) -> Trouble {
        match error {
            NoReply::Down => Trouble::Down(format!(
                "the agent is down (nobody listens on {}); this needs it: start it with `vedette-agent run`",
                self.socket.display()
            )),
            NoReply::Problem(StatusCode::NOT_FOUND, detail) => Trouble::NotFound(detail),
            NoReply::Problem(StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE, detail) => Trouble::Usage(detail),
            NoReply::Problem(StatusCode::FORBIDDEN, detail) => Trouble::Refused(detail),
            NoReply::Problem(status, detail) => {
                Trouble::Failed(anyhow::anyhow!("the agent answered {status}: {detail}"))
            }
            NoReply::Failed(error) => Trouble::Failed(error),
        }
    }

    /// The journal of the agent that is down.
    pub(super) fn stopped(&self) -> Result<Stopped<'_>, Trouble> {
        let folder = self.journal();
        let never = || {
            Trouble::NotFound(format!(
                "the agent is down and there is no journal in {}: it has never run here",
                folder.display()
            ))
        };
        if !folder.exists() {
            return Err(never());
        }
        let stat = vedette_journal::stat(&folder).map_err(anyhow::Error::from)?;
        let epoch = stat.epoch.ok_or_else(never)?;
        Ok(Stopped { device: &self.device, folder, stat, epoch })
    }

    /// Anomalies, from the agent or from its journal; waits for news only at a running agent.
    pub(super) fn anomalies(&self, query: &Query, wait_s: u64) -> Result<Vec<AnomalyView>, Trouble> {
        match self.live(&path(query, wait_s))? {
            Some(found) => Ok(found),
            None => self.stopped()?.anomalies(query),
        }
    }
}

impl Stopped<'_> {
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn ledger(&self) -> Result<Ledger, Trouble> {
        Ok(Ledger::read(&self.folder)?)
    }

    /// Answers a question about scorers.
    pub(super) fn answer<T>(&self, answer: impl FnOnce(&Facts<'_>) -> Result<T, NoAnswer>) -> Result<T, Trouble> {
        let ledger = self.ledger()?;
        Ok(answer(&Facts { device: self.device, epoch: self.epoch, ledger: &ledger, journal: &self.folder })?)
    }

    fn anomalies(&self, query: &Query) -> Result<Vec<AnomalyView>, Trouble> {
        let found = index::scan(&self.folder, query)?;
        Ok(found.into_iter().map(|one| AnomalyView::new(self.device, self.epoch, one)).collect())
    }
}

/// A query as the interface takes it.
fn path(query: &Query, wait_s: u64) -> String {
    let mut path = format!("/v1/anomalies?limit={}", query.limit());
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={value}"));
        }
    };
    // Names of streams and times need no escaping in a query.
    add("stream", query.stream.as_ref().map(ToString::to_string));
    add("since", query.since_ms.map(vedette_protocol::time::format_ms));
    add("until", query.until_ms.map(vedette_protocol::time::format_ms));
    add("after", query.after.map(|after| after.to_string()));
    add("wait", (wait_s > 0).then(|| wait_s.to_string()));
    path
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_query_is_written_as_the_interface_takes_it() {
        let query =
            Query { stream: Some("s".parse().unwrap()), since_ms: Some(0), until_ms: None, after: Some(7), limit: 5 };
        assert_eq!(path(&query, 3), "/v1/anomalies?limit=5&stream=s&since=1970-01-01T00:00:00.000Z&after=7&wait=3");
        assert_eq!(path(&Query { limit: 1, ..Query::default() }, 0), "/v1/anomalies?limit=1");
    }
}

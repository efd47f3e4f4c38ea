//! A checked configuration in a few lines, for `check-config`.

use std::fmt;

use serde::Serialize;

use super::{Config, Source};

/// What a configuration means. Secrets and keys are counted, not shown.
#[derive(Debug, Serialize)]
pub struct Summary {
    device: String,
    state: String,
    broker: Option<String>,
    url: Option<String>,
    models_keys: usize,
    fleet_keys: usize,
    socket: String,
    http: Option<String>,
    streams: Vec<StreamSummary>,
}

#[derive(Debug, Serialize)]
struct StreamSummary {
    name: String,
    source: &'static str,
    from: String,
}

impl Config {
    /// What this configuration means.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let registry = self.registry.as_ref();
        Summary {
            device: self.device.to_string(),
            state: self.state.display().to_string(),
            broker: registry.map(|r| r.broker.to_string()),
            url: registry.and_then(|r| r.url.clone()),
            models_keys: registry.map_or(0, |r| r.trust.models.keys.len()),
            fleet_keys: registry.map_or(0, |r| r.trust.fleet.keys.len()),
            socket: self.api.socket.display().to_string(),
            http: self.api.http.map(|http| http.to_string()),
            streams: self.streams.iter().map(stream).collect(),
        }
    }
}

fn stream(stream: &super::Stream) -> StreamSummary {
    let (source, from) = match &stream.source {
        Source::Replay(replay) => ("replay", replay.file.display().to_string()),
        Source::Host(host) => ("host", format!("every {:?}", host.interval)),
        Source::Mqtt(mqtt) => ("mqtt", format!("{} {}, {} signals", mqtt.broker, mqtt.topic, mqtt.signals.len())),
        Source::Push(push) => ("push", format!("{} signals", push.signals.len())),
    };
    StreamSummary { name: stream.name.to_string(), source, from }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "device    {}", self.device)?;
        writeln!(f, "state     {}", self.state)?;
        match (&self.broker, &self.url) {
            (None, _) => writeln!(f, "registry  none: this box works alone")?,
            (Some(broker), None) => writeln!(f, "registry  {broker} (model files in chunks)")?,
            (Some(broker), Some(url)) => writeln!(f, "registry  {broker} {url}")?,
        }
        if self.broker.is_some() {
            writeln!(f, "trust     keys: {} for models, {} for the fleet", self.models_keys, self.fleet_keys)?;
        }
        let http = self.http.as_ref().map(|http| format!(" and http://{http}")).unwrap_or_default();
        write!(f, "api       {}{http}", self.socket)?;
        for stream in &self.streams {
            write!(f, "\nstream    {} ({}: {})", stream.name, stream.source, stream.from)?;
        }
        Ok(())
    }
}

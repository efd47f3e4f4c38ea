//! Reading what the devices found.

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use vedette_protocol::id::{ModelRef, RecordId};
use vedette_protocol::record::{Anomaly, Body, Record};
use vedette_protocol::time::{format_ms, parse_ms};

use super::indexed::{Received, read_record};
use super::{Error, Registry, Result};
use crate::store::keys;
use crate::view::{AnomalyQuery, AnomalyView, Page, SignalShare, VerdictView};

/// Entries of a page when nobody says.
const LIMIT: u32 = 100;
/// Entries of a page at most: at some 700 bytes of JSON each, 700 KB.
pub(crate) const LIMIT_MAX: u32 = 1000;
/// Keys looked at for one page. A filter that matches seldom gets a short page and a cursor instead of a long wait:
/// 20,000 keys are walked in some 20 ms.
const WALK_MAX: usize = 20_000;

/// The conditions that are checked on each entry of the index.
struct Filter {
    stream: Option<String>,
    model: Option<String>,
}

impl Registry {
    /// Anomalies that match, newest sample first.
    ///
    /// # Errors
    ///
    /// A condition cannot be read, or the store.
    pub fn anomalies(&self, query: &AnomalyQuery) -> Result<Page<AnomalyView>> {
        let limit = page_limit(query.limit)?;
        let (prefix, filter) = choose_index(query);
        let since = query.since.as_deref().map(|text| time("since", text)).transpose()?;
        let until = query.until.as_deref().map(|text| time("until", text)).transpose()?;
        let from = prefix.clone().time(since.unwrap_or(i64::MIN)).bytes();
        let end = match &query.cursor {
            Some(cursor) => prefix.clone().raw(&read_cursor(cursor)?).bytes(),
            // Nothing sorts above the last moment of all with an id behind it.
            None => until.map_or_else(
                || prefix.clone().number(u64::MAX).raw(&[0xff; 1]).bytes(),
                |ms| prefix.clone().time(ms).bytes(),
            ),
        };
        let skip = prefix.bytes().len();
        let mut items = Vec::new();
        let mut last = None;
        for (walked, entry) in self.state().store().range(from, end).rev().enumerate() {
            if items.len() == limit || walked == WALK_MAX {
                return Ok(Page { items, next: last });
            }
            let (key, value) = entry?;
            if filter.matches(&value)
                && let Some(id) = keys::record_of(&key, skip + 8)
            {
                items.push(self.anomaly(&id)?);
            }
            last = key.get(skip..).map(|place| URL_SAFE_NO_PAD.encode(place));
        }
        Ok(Page { items, next: None })
    }

    /// One anomaly.
    ///
    /// # Errors
    ///
    /// There is no such record here, or it is of another kind.
    pub fn anomaly(&self, id: &RecordId) -> Result<AnomalyView> {
        let (received, record) = self.record(id)?;
        let Body::Anomaly(anomaly) = record.body else {
            return Err(Error::NotFound(format!(
                "record {id} is not an anomaly but a {} record",
                kind_word(&record.body)
            )));
        };
        Ok(view(id, &anomaly, received, self.verdict(id)?))
    }

    /// A record as it came, and when.
    ///
    /// # Errors
    ///
    /// It is not here, or cannot be read.
    pub fn record(&self, id: &RecordId) -> Result<(Received, Record)> {
        let value = self
            .state()
            .store()
            .get(keys::record(id))?
            .ok_or_else(|| Error::NotFound(format!("record {id} has not been received here")))?;
        let (received, bytes) = value.split_first_chunk::<8>().context("a record in the store is too short")?;
        let record = read_record(bytes)
            .map_err(|why| Error::NotFound(format!("record {id} is kept, but this registry cannot read it: {why}")))?;
        let (at_ms, late) = keys::read_received(u64::from_be_bytes(*received));
        Ok((Received { at_ms, late }, record))
    }

    fn verdict(&self, id: &RecordId) -> Result<Option<VerdictView>> {
        let Some(key) = self.state().store().get(keys::verdict(id))? else {
            return Ok(None);
        };
        let by = keys::record_of(&key, 0).context("a verdict's key in the store cannot be read")?;
        let (_, record) = self.record(&by)?;
        match record.body {
            Body::Verdict { record: _, verdict, by, note } => {
                Ok(Some(VerdictView { verdict: word(&verdict)?, by, note }))
            }
            Body::Boot { .. }
            | Body::Swap(_)
            | Body::Anomaly(_)
            | Body::Gap { .. }
            | Body::Clock { .. }
            | Body::Config { .. }
            | Body::Drop(_)
            | Body::Ack { .. }
            | Body::Deploy(_) => Ok(None),
        }
    }
}

/// The narrowest index for the query, and what is left to check.
fn choose_index(query: &AnomalyQuery) -> (keys::Key, Filter) {
    let mut filter =
        Filter { stream: query.stream.as_ref().map(|stream| stream.as_str().to_owned()), model: query.model.clone() };
    if let Some(device) = &query.device {
        return (keys::Key::new(b'd').name(device.as_str()), filter);
    }
    // Only a whole `name@version` or `baseline` is a key of its own; a bare name is checked entry by entry.
    if let Some(model) = filter.model.take_if(|model| model.as_str() == "baseline" || model.parse::<ModelRef>().is_ok())
    {
        return (keys::Key::new(b'm').name(&model), filter);
    }
    if let Some(stream) = filter.stream.take() {
        return (keys::Key::new(b's').name(&stream), filter);
    }
    (keys::Key::new(b't'), filter)
}

impl Filter {
    fn matches(&self, value: &[u8]) -> bool {
        let mut parts = value.split(|byte| *byte == 0).map(|part| std::str::from_utf8(part).unwrap_or_default());
        let stream = parts.next().unwrap_or_default();
        let scorer = parts.next().unwrap_or_default();
        let model =
            |wanted: &String| scorer == wanted || scorer.split_once('@').is_some_and(|(name, _)| name == wanted);
        self.stream.as_ref().is_none_or(|wanted| wanted == stream) && self.model.as_ref().is_none_or(model)
    }
}

/// Entries of a page.
pub(crate) fn page_limit(asked: Option<u32>) -> Result<usize> {
    match asked.unwrap_or(LIMIT) {
        limit @ 1..=LIMIT_MAX => Ok(limit as usize),
        other => Err(Error::BadRequest(format!("`limit` is {other}: give 1 to {LIMIT_MAX}"))),
    }
}

/// Reads a time of a query.
pub(crate) fn time(what: &str, text: &str) -> Result<i64> {
    parse_ms(text).map_err(|error| Error::BadRequest(format!("`{what}`: {error}")))
}

fn read_cursor(text: &str) -> Result<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| {
        Error::BadRequest("`cursor` is not one that this API gave: pass the `next` of a page as it is".to_owned())
    })
}

/// The word that stands for a value in JSON.
pub(crate) fn word<T: Serialize>(value: &T) -> Result<String> {
    match serde_json::to_value(value).context("couldn't encode a word")? {
        serde_json::Value::String(word) => Ok(word),
        other => Ok(other.to_string()),
    }
}

/// The kind of a record in a word.
pub(crate) fn kind_word(body: &Body) -> &'static str {
    match body {
        Body::Boot { .. } => "boot",
        Body::Swap(_) => "swap",
        Body::Anomaly(_) => "anomaly",
        Body::Gap { .. } => "gap",
        Body::Clock { .. } => "clock",
        Body::Config { .. } => "config",
        Body::Drop(_) => "drop",
        Body::Verdict { .. } => "verdict",
        Body::Ack { .. } => "ack",
        Body::Deploy(_) => "deploy",
    }
}

fn view(id: &RecordId, anomaly: &Anomaly, received: Received, verdict: Option<VerdictView>) -> AnomalyView {
    AnomalyView {
        record: id.to_string(),
        device: id.device.clone(),
        stream: anomaly.stream.clone(),
        row: anomaly.row,
        at_ms: anomaly.at_ms,
        at: format_ms(anomaly.at_ms),
        cause: word(&anomaly.cause).unwrap_or_default(),
        score: anomaly.score.get(),
        threshold: anomaly.threshold.get(),
        top: anomaly
            .top
            .iter()
            .map(|part| SignalShare {
                signal: part.signal.to_string(),
                share: part.share.get(),
                value: part.value.map(|value| value.get()),
            })
            .collect(),
        by: anomaly.by.clone(),
        input: anomaly.input,
        received: format_ms(received.at_ms),
        late: received.late,
        verdict,
    }
}

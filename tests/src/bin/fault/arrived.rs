//! What has arrived at the registry, asked at its REST API as anybody would.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use vedette_tests::registry::Registry;

/// How long an answer may take: a page of a thousand on a machine with other things to do.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Entries of a page.
const PAGE: usize = 1000;

/// What the registry has of one device.
#[derive(Debug, Default)]
pub(crate) struct Arrived {
    /// The row of each anomaly, by epoch and sequence.
    pub(crate) rows: BTreeMap<(u64, u64), u64>,
    /// Listed more than once.
    pub(crate) doubled: u64,
}

/// Asks once, gives the answer's body.
///
/// # Errors
/// When there is no answer, or one that is not a success.
pub(crate) fn get(registry: &Registry, path: &str) -> anyhow::Result<Value> {
    let host = registry.url().trim_start_matches("http://").trim_end_matches('/');
    let mut socket = TcpStream::connect(host)?;
    socket.set_read_timeout(Some(ANSWER_WITHIN))?;
    let token = registry.token();
    write!(socket, "GET /api/v1{path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    anyhow::ensure!(head.split_whitespace().nth(1) == Some("200"), "{path}: {}", answer.trim());
    Ok(serde_json::from_str(body)?)
}

/// How far the journal of a device has come: below this everything is there or said to be gone; and how much is gone.
///
/// # Errors
/// When the registry does not answer.
pub(crate) fn upto(registry: &Registry, device: &str, epoch: u64) -> anyhow::Result<(u64, u64)> {
    let view = get(registry, &format!("/devices/{device}"))?;
    anyhow::ensure!(view["quarantine"].is_null(), "{device} is in quarantine: {}", view["quarantine"]);
    let journals = view["journals"].as_array().cloned().unwrap_or_default();
    let journal = journals.iter().find(|journal| journal["epoch"] == epoch);
    let number = |key: &str| journal.and_then(|journal| journal[key].as_u64()).unwrap_or(0);
    Ok((number("upto"), number("absent")))
}

/// All anomalies of a device.
///
/// # Errors
/// When the registry does not answer.
pub(crate) fn anomalies(registry: &Registry, device: &str) -> anyhow::Result<Arrived> {
    let mut arrived = Arrived::default();
    let mut cursor = String::new();
    loop {
        let page = get(registry, &format!("/anomalies?device={device}&limit={PAGE}{cursor}"))?;
        for item in page["items"].as_array().context("a page without items")? {
            let id = item["record"].as_str().context("an anomaly without an id")?;
            let mut parts = id.rsplit('/').map(str::parse::<u64>);
            let (Some(Ok(sequence)), Some(Ok(epoch))) = (parts.next(), parts.next()) else {
                anyhow::bail!("`{id}` is no record id");
            };
            let row = item["row"].as_u64().context("an anomaly without a row")?;
            arrived.doubled += u64::from(arrived.rows.insert((epoch, sequence), row).is_some());
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(arrived),
        }
    }
}

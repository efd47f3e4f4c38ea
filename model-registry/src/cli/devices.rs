//! `vedette devices`: what each runs and has sent, what ran when, and what shall run.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use reqwest::Method;
use vedette_protocol::id::{DeviceId, IdError, StreamName};

use super::{
    Screen,
    client::Client,
    fault::Fault,
    screen::{Column, Format, Sheet, Tone, facts, mebibytes, say, say_json, time},
};
use crate::view::{
    AssignRequest, AssignmentView, DeviceAt, DeviceView, JournalView, QuarantineView, ReleaseRequest, StreamView,
};

/// Verbs on devices.
#[derive(Debug, Subcommand)]
pub enum Devices {
    /// All devices
    List,
    /// What one device runs and how far its journal has come
    Show {
        /// The device
        device: DeviceId,
    },
    /// What ran on a device at a time
    At {
        /// The device
        device: DeviceId,
        /// The time, RFC 3339 (2026-01-31T12:00:00Z)
        time: String,
    },
    /// Say which models a device shall run
    Assign(Assign),
    /// Lift the quarantine of a device: what it sends is taken again, and it is sent assignments again
    Release(Release),
}

/// What `devices release` does.
#[derive(Debug, Args)]
pub struct Release {
    /// The device
    device: DeviceId,
    /// What you found out, for the audit journal
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// What `devices assign` does.
#[derive(Debug, Args)]
pub struct Assign {
    /// The device
    device: DeviceId,
    /// STREAM=NAME@VERSION, STREAM=NAME@ALIAS, or STREAM= to take the model away (the baseline scores then)
    #[arg(required = true, value_name = "STREAM=MODEL")]
    slots: Vec<Wish>,
    /// Take the models of all other streams away; without it they stay as they are
    #[arg(long)]
    only: bool,
}

/// A stream and the model it shall have; none takes it away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    stream: StreamName,
    model: Option<String>,
}

impl std::str::FromStr for Wish {
    type Err = WishError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (stream, model) = text.split_once('=').ok_or(WishError::Shape)?;
        let stream = stream.parse()?;
        if model.is_empty() {
            return Ok(Self { stream, model: None });
        }
        // The version may be an alias, which only the registry knows.
        let (name, version) =
            model.rsplit_once('@').filter(|(_, version)| !version.is_empty()).ok_or(WishError::Version)?;
        name.parse::<vedette_protocol::ModelName>()?;
        Ok(Self { stream, model: Some(format!("{name}@{version}")) })
    }
}

/// Why a wish was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// There is no `=`.
    #[error("write STREAM=NAME@VERSION")]
    Shape,
    /// The model has no version.
    #[error("write NAME@VERSION or NAME@ALIAS: an assignment names one version")]
    Version,
    /// A name is none.
    #[error(transparent)]
    Id(#[from] IdError),
}

/// Runs a verb on devices.
///
/// # Errors
/// Offline, or what the registry answered.
pub async fn run(verb: Devices, client: &Client, screen: Screen) -> Result<(), Fault> {
    match verb {
        Devices::List => {
            let devices: Vec<DeviceView> = client.all(&["devices"]).await?;
            match screen.format {
                Format::Json => say_json(&devices),
                Format::Text => say(&list_text(&devices, screen)),
            }
        }
        Devices::Show { device } => {
            let device: DeviceView = client.get(&["devices", device.as_str()], &()).await?;
            match screen.format {
                Format::Json => say_json(&[device]),
                Format::Text => say(&show_text(&device, screen)),
            }
        }
        Devices::At { device, time } => {
            let at: DeviceAt = client.get(&["devices", device.as_str(), "at"], &[("time", time)]).await?;
            match screen.format {
                Format::Json => say_json(&[at]),
                Format::Text => say(&at_text(&at, screen)),
            }
        }
        Devices::Assign(wishes) => assign(wishes, client, screen).await,
        Devices::Release(Release { device, reason }) => {
            let path = ["devices", device.as_str(), "release"];
            let (_, released): (_, DeviceView) =
                client.send_json(Method::POST, &path, &ReleaseRequest { reason }).await?;
            match screen.format {
                Format::Json => say_json(&[released]),
                Format::Text => say(&format!("{device} is released; its next checkpoint pins its key again.\n")),
            }
        }
    }
}

async fn assign(wishes: Assign, client: &Client, screen: Screen) -> Result<(), Fault> {
    let path = ["devices", wishes.device.as_str(), "assignment"];
    let held = if wishes.only { None } else { held(client, &path).await? };
    let request = AssignRequest { slots: wanted(held.as_ref(), wishes.slots) };
    let (_, made): (_, AssignmentView) = client.send_json(Method::PUT, &path, &request).await?;
    match screen.format {
        Format::Json => say_json(&[made]),
        Format::Text => say(&assigned_text(&made)),
    }
}

/// The assignment in force; none when the device never had one.
async fn held(client: &Client, path: &[&str]) -> Result<Option<AssignmentView>, Fault> {
    match client.get(path, &()).await {
        Ok(assignment) => Ok(Some(assignment)),
        Err(fault) if fault.exit == vedette_protocol::Exit::NotFound => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// What is held, with the wishes laid over it.
fn wanted(held: Option<&AssignmentView>, wishes: Vec<Wish>) -> BTreeMap<StreamName, String> {
    let slots = held.into_iter().flat_map(|held| &held.slots);
    let mut wanted: BTreeMap<_, _> = slots.map(|slot| (slot.stream.clone(), slot.model.to_string())).collect();
    for wish in wishes {
        match wish.model {
            Some(model) => drop(wanted.insert(wish.stream, model)),
            None => drop(wanted.remove(&wish.stream)),
        }
    }
    wanted
}

fn assigned_text(made: &AssignmentView) -> String {
    let slots: Vec<String> = made.slots.iter().map(|slot| format!("{}={}", slot.stream, slot.model)).collect();
    let slots = if slots.is_empty() { "nothing (the baseline scores)".to_owned() } else { slots.join(" ") };
    format!("{} shall run {slots}: assignment {}, valid until {}.\n", made.device, made.version, time(&made.expires))
}

fn list_text(devices: &[DeviceView], screen: Screen) -> String {
    let mut sheet = Sheet::new(&[
        Column::Text("DEVICE"),
        Column::Text("STATE"),
        Column::Text("LAST SEEN"),
        Column::Text("RUNS"),
        Column::Text("ASSIGNMENT"),
        Column::Number("RECEIVED"),
        Column::Text("AGENT"),
    ]);
    for device in devices {
        let runs: Vec<String> =
            device.streams.iter().map(|stream| format!("{}={}", stream.stream, stream.by)).collect();
        sheet.toned([
            (device.device.to_string(), Tone::Plain),
            state(device),
            (last_seen(device), Tone::Plain),
            (runs.join(", "), Tone::Plain),
            assignment(device),
            (device.journals.last().map_or_else(|| "-".to_owned(), |journal| journal.upto.to_string()), Tone::Plain),
            (device.agent_version.clone(), Tone::Plain),
        ]);
    }
    sheet.render(screen.colour, "no devices yet; a device appears when it first connects")
}

/// Whether it is there, and whether it is believed.
fn state(device: &DeviceView) -> (String, Tone) {
    match (device.online, &device.quarantine) {
        (true, None) => ("online".to_owned(), Tone::Good),
        (false, None) => ("offline".to_owned(), Tone::Bad),
        (true, Some(_)) => ("online, in quarantine".to_owned(), Tone::Bad),
        (false, Some(_)) => ("offline, in quarantine".to_owned(), Tone::Bad),
    }
}

/// A device that was assigned something may not have come yet.
fn last_seen(device: &DeviceView) -> String {
    if device.last_seen_ms == 0 { "never".to_owned() } else { time(&device.last_seen) }
}

/// Held and desired version in a word.
fn assignment(device: &DeviceView) -> (String, Tone) {
    match device.desired_version {
        None => ("none".to_owned(), Tone::Plain),
        Some(desired) if device.assignment_version >= desired => (desired.to_string(), Tone::Good),
        Some(desired) => (format!("{} of {desired}", device.assignment_version), Tone::Bad),
    }
}

fn show_text(device: &DeviceView, screen: Screen) -> String {
    let mut head = vec![
        ("device", device.device.to_string()),
        ("state", state(device).0),
        ("last seen", last_seen(device)),
        ("agent", device.agent_version.clone()),
        ("assignment", assignment(device).0),
    ];
    if let Some(status) = &device.status {
        head.push(("rows", status.rows.to_string()));
        head.push(("anomalies", status.anomalies.to_string()));
        head.push(("dropped", status.dropped.to_string()));
        head.push(("memory", mebibytes(status.memory_bytes)));
        head.push(("up", format!("{} s", status.uptime_s)));
        head.extend(status.degraded.clone().map(|why| ("degraded", why)));
    }
    if let Some(quarantine) = &device.quarantine {
        let QuarantineView { since, epoch, reason } = quarantine;
        head.push(("quarantine", format!("since {}, epoch {epoch}: {reason}", time(since))));
        head.push((
            "",
            "nothing of it is taken until `vedette devices release`; `vedette audit list` has both sides".to_owned(),
        ));
    }
    head.extend(device.key.clone().map(|key| ("log key", key)));
    head.extend(
        device.checkpoint_left.clone().map(|why| ("checkpoint", format!("the last one was left aside: {why}"))),
    );
    head.extend(device.journals.iter().map(|journal| ("journal", journal_text(journal))));
    format!("{}\n{}", facts(&head), streams_text(&device.streams, screen))
}

/// How far a journal has come, and what is special about it.
fn journal_text(journal: &JournalView) -> String {
    let written = journal.written.map_or_else(String::new, |written| format!(" of {written}"));
    let mut text = format!("epoch {}: {}{written} records received", journal.epoch, journal.upto);
    for (count, what) in [
        (journal.absent, "gone for good"),
        (journal.restored, "came after all"),
        (journal.late, "came late"),
        (journal.checkpoint, "signed"),
        (journal.proven, "signed and the same here"),
    ] {
        if count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    text
}

fn streams_text(streams: &[StreamView], screen: Screen) -> String {
    let mut sheet = Sheet::new(&[
        Column::Text("STREAM"),
        Column::Text("MODEL"),
        Column::Number("NEXT ROW"),
        Column::Text("LAST DEPLOYMENT"),
    ]);
    for stream in streams {
        let model = stream.stage_model.as_ref().map_or_else(String::new, |model| format!("{model} "));
        let stage = stream.stage.clone().unwrap_or_else(|| "-".to_owned());
        let detail = stream.detail.as_ref().map_or_else(String::new, |detail| format!(": {detail}"));
        let tone = if stage == "refused" { Tone::Bad } else { Tone::Plain };
        sheet.toned([
            (stream.stream.to_string(), Tone::Plain),
            (stream.by.to_string(), Tone::Plain),
            (stream.row.to_string(), Tone::Plain),
            (format!("{model}{stage}{detail}"), tone),
        ]);
    }
    sheet.render(screen.colour, "no streams reported yet")
}

fn at_text(at: &DeviceAt, screen: Screen) -> String {
    let mut sheet = Sheet::new(&[
        Column::Text("STREAM"),
        Column::Text("MODEL"),
        Column::Text("SINCE"),
        Column::Number("FIRST ROW"),
        Column::Text("RECORD"),
    ]);
    for ran in &at.streams {
        sheet.row([
            ran.stream.to_string(),
            ran.by.to_string(),
            time(&ran.since),
            ran.first_row.to_string(),
            ran.swap.clone(),
        ]);
    }
    let assignment =
        at.assignment.as_ref().map_or_else(|| "none".to_owned(), |made| format!("{} by {}", made.version, made.by));
    let head = facts(&[("device", at.device.to_string()), ("time", time(&at.time)), ("assignment", assignment)]);
    format!(
        "{head}\n{}",
        sheet.render(screen.colour, "nothing had started by then, as far as the device's records have come")
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::cli::screen::Colour;

    const SCREEN: Screen = Screen { format: Format::Text, colour: Colour::No };

    fn held() -> AssignmentView {
        let digest = vedette_protocol::Digest::of(b"m").to_string();
        serde_json::from_value(json!({
            "device": "box-1", "version": 3, "issued": "i", "expires": "e", "by": "token:a", "envelope": "",
            "slots": [{"stream": "host", "model": "cpu@1", "manifest": digest}, {"stream": "server", "model": "pump@1", "manifest": digest}]
        }))
        .unwrap()
    }

    fn wanted_text(held: Option<&AssignmentView>, wishes: &[&str]) -> String {
        let wishes = wishes.iter().map(|wish| wish.parse().unwrap()).collect();
        let slots: Vec<String> =
            wanted(held, wishes).iter().map(|(stream, model)| format!("{stream}={model}")).collect();
        slots.join(" ")
    }

    #[test]
    fn assigning_one_stream_leaves_the_others_alone() {
        assert_eq!(wanted_text(Some(&held()), &["server=pump@2"]), "host=cpu@1 server=pump@2");
        assert_eq!(wanted_text(Some(&held()), &["host="]), "server=pump@1");
        assert_eq!(wanted_text(None, &["server=pump@champion"]), "server=pump@champion");
    }

    #[test]
    fn a_wish_names_a_stream_and_one_version() {
        for bad in ["server", "server=pump", "server=pump@", "Server=pump@1", "server=PUMP@1"] {
            assert!(bad.parse::<Wish>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_device_behind_its_assignment_says_so() {
        let device: DeviceView = serde_json::from_value(json!({
            "device": "box-1", "online": true, "last_seen_ms": 0, "last_seen": "t", "agent_version": "0.1.0",
            "assignment_version": 1, "desired_version": 2, "journals": [{"epoch": 5, "upto": 17, "written": 20}],
            "streams": []
        }))
        .unwrap();
        assert!(list_text(std::slice::from_ref(&device), SCREEN).contains("1 of 2"));
        assert!(show_text(&device, SCREEN).contains("epoch 5: 17 of 20 records received\n"));
    }

    #[test]
    fn a_device_in_quarantine_is_seen_in_the_list_and_says_why() {
        let device: DeviceView = serde_json::from_value(json!({
            "device": "box-1", "online": true, "last_seen_ms": 0, "last_seen": "t", "agent_version": "0.1.0",
            "assignment_version": 0, "streams": [], "quarantine": {"since": "2026-01-01T00:00:00.000Z", "epoch": 5, "reason": "two roots"},
            "journals": [{"epoch": 5, "upto": 17, "absent": 3, "checkpoint": 16, "proven": 12}]
        }))
        .unwrap();
        assert!(list_text(std::slice::from_ref(&device), SCREEN).contains("online, in quarantine"));
        let shown = show_text(&device, SCREEN);
        assert!(shown.contains("since 2026-01-01 00:00:00Z, epoch 5: two roots"), "{shown}");
        assert!(
            shown.contains("17 records received, 3 gone for good, 16 signed, 12 signed and the same here"),
            "{shown}"
        );
    }
}

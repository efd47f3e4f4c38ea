//! `vedette audit`: who changed what, as the registry's journal has it, and whether that journal is what it was.
//!
//! `--folder` reads the journal's folder itself, whether the registry runs, is down, or was never on this machine.

mod models;
mod verify;

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::Value;
use vedette_journal::export_bundle;

use self::verify::Verify;
use super::{
    Screen,
    client::Client,
    fault::Fault,
    screen::{Column, Format, Sheet, say, say_json, time},
};
use crate::audit;
use crate::registry::audit_view;
use crate::view::{AuditQuery, AuditView, Page};

/// Entries asked for at once: the API's own limit.
const PAGE_ENTRIES: u32 = 1_000;

/// Longest text of one field in the table; `--json` has all of it.
const FIELD_CHARS_MAX: usize = 60;

/// Verbs on the audit journal.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// Entries, oldest first
    List(List),
    /// All entries as JSON lines, oldest first, for keeping or for another program
    Export(Export),
    /// Check the audit journal, or an exported bundle, against its hashes and signatures
    #[command(after_help = verify::EXIT_CODES)]
    Verify(Verify),
}

/// What `audit list` asks.
#[derive(Debug, Args)]
pub struct List {
    /// Only entries after this sequence
    #[arg(long, value_name = "SEQUENCE")]
    after: Option<u64>,
    /// How many at most
    #[arg(long, default_value = "100", value_name = "N")]
    limit: NonZeroU32,
    /// Read the journal in this folder (the registry's state, or its `audit`) instead of asking the registry
    #[arg(long, value_name = "PATH")]
    folder: Option<PathBuf>,
}

/// What `audit export` asks.
#[derive(Debug, Args)]
pub struct Export {
    /// Only entries after this sequence: what an earlier export has not
    #[arg(long, value_name = "SEQUENCE")]
    after: Option<u64>,
    /// Read the journal in this folder (the registry's state, or its `audit`) instead of asking the registry
    #[arg(long, value_name = "PATH")]
    folder: Option<PathBuf>,
    /// Write a bundle that proves itself (`audit verify` reads it) instead of JSON lines
    #[arg(long, value_name = "FILE", requires = "folder")]
    bundle: Option<PathBuf>,
}

impl Audit {
    /// Whether the verb needs no registry.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Audit::List(list) => list.folder.is_some(),
            Audit::Export(export) => export.folder.is_some(),
            Audit::Verify(verify) => verify.is_local(),
        }
    }
}

/// Runs a verb on files.
///
/// # Errors
/// When they cannot be read, or are not what they should be.
pub fn run_local(verb: Audit, screen: Screen) -> Result<(), Fault> {
    match verb {
        Audit::List(List { after, limit, folder }) => {
            let folder = folder_of(&folder.unwrap_or_default())?;
            print(&read(&folder, after, limit.get())?, screen)
        }
        Audit::Export(Export { after, folder, bundle }) => {
            let folder = folder_of(&folder.unwrap_or_default())?;
            match bundle {
                Some(bundle) => write_bundle(&folder, after, &bundle, screen),
                None => export_lines(after, |after| read(&folder, after, PAGE_ENTRIES)),
            }
        }
        Audit::Verify(verify) => verify.run_local(screen),
    }
}

/// Runs a verb that asks the registry.
///
/// # Errors
/// Offline, or what the registry answered.
pub async fn run(verb: Audit, client: &Client, screen: Screen) -> Result<(), Fault> {
    match verb {
        Audit::List(list) => print(&page(client, list.after, list.limit.get()).await?, screen),
        Audit::Export(export) => {
            let mut after = export.after;
            loop {
                let entries = page(client, after, PAGE_ENTRIES).await?;
                let Some(last) = entries.last() else { return Ok(()) };
                after = Some(last.sequence);
                say_json(&entries)?;
            }
        }
        Audit::Verify(verify) => verify.run(client, screen).await,
    }
}

fn print(entries: &[AuditView], screen: Screen) -> Result<(), Fault> {
    match screen.format {
        Format::Json => say_json(entries),
        Format::Text => say(&list_text(entries, screen)),
    }
}

/// The journal's folder, also when the one around it was given.
fn folder_of(path: &Path) -> Result<PathBuf, Fault> {
    let inner = path.join("audit");
    let folder = if inner.is_dir() { inner } else { path.to_owned() };
    match std::fs::metadata(&folder) {
        Ok(found) if found.is_dir() => Ok(folder),
        Ok(_) => {
            Err(Fault::usage(format!("couldn't read {}: it is a file, and --folder names a folder", folder.display())))
        }
        Err(error) => Err(Fault::file("read the folder", &folder, &error)),
    }
}

fn read(folder: &Path, after: Option<u64>, limit: u32) -> Result<Vec<AuditView>, Fault> {
    let from = after.map_or(0, |after| after.saturating_add(1));
    let unread = |error: anyhow::Error| Fault::failed(format!("{error:#} in {}", folder.display()));
    let entries = audit::first(folder, from, limit as usize).map_err(unread)?;
    entries
        .iter()
        .map(|(sequence, entry)| audit_view(*sequence, entry).map_err(|error| Fault::failed(error.to_string())))
        .collect()
}

fn export_lines(
    mut after: Option<u64>,
    mut page: impl FnMut(Option<u64>) -> Result<Vec<AuditView>, Fault>,
) -> Result<(), Fault> {
    loop {
        let entries = page(after)?;
        let Some(last) = entries.last() else { return Ok(()) };
        after = Some(last.sequence);
        say_json(&entries)?;
    }
}

fn write_bundle(folder: &Path, after: Option<u64>, bundle: &Path, screen: Screen) -> Result<(), Fault> {
    let file = |error: &std::io::Error| Fault::file("write the bundle", bundle, error);
    let mut out = BufWriter::new(File::create_new(bundle).map_err(|error| file(&error))?);
    let from = after.map_or(0, |after| after.saturating_add(1));
    let exported = export_bundle(folder, from..u64::MAX, &mut out)
        .map_err(|error| Fault::failed(format!("couldn't export {}: {error}", folder.display())))?;
    out.flush().and_then(|()| out.get_ref().sync_all()).map_err(|error| file(&error))?;
    match screen.format {
        Format::Json => say_json(&[serde_json::json!({
            "bundle": bundle, "first": exported.first_sequence, "next": exported.next_sequence, "entries": exported.records,
        })]),
        Format::Text => say(&format!(
            "{} entries, {} to {}, are in {}.\n",
            exported.records,
            exported.first_sequence,
            exported.next_sequence.saturating_sub(1),
            bundle.display()
        )),
    }
}

async fn page(client: &Client, mut after: Option<u64>, limit: u32) -> Result<Vec<AuditView>, Fault> {
    let mut entries: Vec<AuditView> = Vec::new();
    loop {
        let left = limit.saturating_sub(u32::try_from(entries.len()).unwrap_or(limit));
        if left == 0 {
            return Ok(entries);
        }
        let query = AuditQuery { after, limit: Some(left.min(PAGE_ENTRIES)) };
        let page: Page<AuditView> = client.get(&["audit"], &query).await?;
        let Some(last) = page.items.last() else { return Ok(entries) };
        after = Some(last.sequence);
        entries.extend(page.items);
    }
}

fn list_text(entries: &[AuditView], screen: Screen) -> String {
    let mut sheet = Sheet::new(&[
        Column::Number("SEQUENCE"),
        Column::Text("TIME"),
        Column::Text("BY"),
        Column::Text("CHANGE"),
        Column::Text("ABOUT"),
    ]);
    for entry in entries {
        let kind = entry.change.get("kind").and_then(Value::as_str).unwrap_or("?");
        sheet.row([
            entry.sequence.to_string(),
            time(&entry.at),
            entry.by.clone(),
            kind.to_owned(),
            about(&entry.change),
        ]);
    }
    sheet.render(screen.colour, "no entries")
}

/// What a change says, as `name=value`, without what only programs read: digests, envelopes, milliseconds.
fn about(change: &Value) -> String {
    let Value::Object(fields) = change else { return change.to_string() };
    let told = |(name, value): (&String, &Value)| {
        let hidden = ["kind", "envelope"].contains(&name.as_str()) || name.ends_with("_ms");
        // A signed note has lines of its own.
        let shown = |text: &String| !hidden && !text.is_empty() && !text.starts_with("sha256:") && !text.contains('\n');
        let text = plain(value).filter(shown)?;
        let cut = text.char_indices().nth(FIELD_CHARS_MAX).map_or(text.clone(), |(at, _)| format!("{}…", &text[..at]));
        // A sentence is set off from the names around it.
        Some(if cut.contains(' ') { format!("{name}=\"{cut}\"") } else { format!("{name}={cut}") })
    };
    let told: Vec<String> = fields.iter().filter_map(told).collect();
    told.join(" ")
}

/// A value in a word; of slots, which stream gets which model. Other objects have none.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Object(_) => None,
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => {
            let slot =
                |item: &Value| Some(format!("{}:{}", item.get("stream")?.as_str()?, item.get("model")?.as_str()?));
            let slots: Vec<String> = items.iter().filter_map(slot).collect();
            Some(slots.join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::screen::Colour;

    #[test]
    fn an_entry_says_who_did_what_about_what() {
        let entry = AuditView {
            sequence: 4,
            at_ms: 0,
            at: "2026-01-01T00:00:00.000Z".to_owned(),
            by: "token:ci".to_owned(),
            change: json!({"kind": "version-published", "model": "pump@2", "note": "x".repeat(100),
                "artifact": {"digest": "sha256:00"}, "manifest": "sha256:11", "issued_ms": 5, "slots": [{"stream": "s", "model": "m@1"}]}),
        };
        let text = list_text(&[entry], Screen { format: Format::Text, colour: Colour::No });
        assert!(text.contains("token:ci  version-published  model=pump@2"), "{text}");
        assert!(text.contains("slots=s:m@1") && !text.contains("sha256") && !text.contains("issued"), "{text}");
        assert!(text.contains('…') && !text.contains(&"x".repeat(100)), "{text}");
    }
}

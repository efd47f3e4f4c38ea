//! `journal export`: a stretch of the log for somebody else, as a bundle that proves itself or as JSON lines.

use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use vedette_journal::{Entry, ExportError, Reader, export_bundle};
use vedette_protocol::cbor::from_canonical;
use vedette_protocol::exit::Exit;
use vedette_protocol::record::{Record, RecordKind};

use super::place::{self, Folder, Place};
use crate::command::access::Trouble;
use crate::command::print::{self, Out};

/// How an export is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One file that proves itself: `journal verify` reads it anywhere
    Bundle,
    /// One JSON object a record, for people and their tools; it proves nothing
    Jsonl,
}

/// What `journal export` does.
#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    folder: Folder,
    /// First record; the first that is left if absent
    #[arg(long, value_name = "SEQUENCE", default_value = "0", hide_default_value = true)]
    from: u64,
    /// The record behind the last one; the end if absent
    #[arg(long, value_name = "SEQUENCE", default_value_t = u64::MAX, hide_default_value = true)]
    to: u64,
    /// What to write
    #[arg(long, default_value = "bundle")]
    format: Format,
    /// The file to make; standard output if absent
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Export {
    pub(super) fn place(&self) -> Option<Place> {
        self.folder.place()
    }

    pub(super) fn run(&self, place: &Place, out: &Out) -> Result<Exit, Trouble> {
        let folder = place.folder()?;
        let Some(path) = &self.output else {
            if self.format == Format::Bundle && io::stdout().is_terminal() {
                return Err(Trouble::Usage("a bundle is not for a terminal: name a file with --output".to_owned()));
            }
            let mut stdout = BufWriter::new(io::stdout().lock());
            self.write(folder, &mut stdout)?;
            stdout.flush()?;
            return Ok(Exit::Ok);
        };
        if path.exists() {
            return Err(Trouble::Usage(format!("{} is there already; name a new file", path.display())));
        }
        let said = self.write_file(folder, path)?;
        if out.json() {
            out.object(&said)?;
        } else {
            out.line(&format!(
                "{} records from {} up to {}: {}",
                said["records"],
                said["first"],
                said["next"],
                path.display()
            ))?;
        }
        Ok(Exit::Ok)
    }

    /// Writes the file under another name first, so that half an export is never taken for one.
    fn write_file(&self, folder: &Path, path: &Path) -> Result<Value, Trouble> {
        let mut part = path.to_path_buf().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let failed = |error: io::Error| Trouble::Failed(anyhow::anyhow!("couldn't write {}: {error}", path.display()));
        let mut file = BufWriter::new(File::create(&part).map_err(failed)?);
        let written = self.write(folder, &mut file).and_then(|said| {
            let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
            file.sync_all().and_then(|()| fs::rename(&part, path)).map_err(failed)?;
            Ok(said)
        });
        if written.is_err()
            && let Err(error) = fs::remove_file(&part)
        {
            tracing::warn!(file = %part.display(), %error, "couldn't remove half an export");
        }
        written
    }

    fn write(&self, folder: &Path, out: &mut dyn Write) -> Result<Value, Trouble> {
        match self.format {
            Format::Bundle => {
                let done = export_bundle(folder, self.from..self.to, out).map_err(|error| match error {
                    ExportError::NothingThere { .. } => Trouble::NotFound(error.to_string()),
                    ExportError::Read(error) => place::unreadable(folder, error),
                    // The reader went away, which is no failure of ours.
                    ExportError::Write(error) => error.into(),
                    error => Trouble::Failed(error.into()),
                })?;
                Ok(json!({
                    "first": done.first_sequence, "next": done.next_sequence, "records": done.records,
                    "thinned": done.thinned, "lost": done.lost, "checkpoints": done.checkpoints,
                }))
            }
            Format::Jsonl => self.write_lines(folder, out),
        }
    }

    fn write_lines(&self, folder: &Path, out: &mut dyn Write) -> Result<Value, Trouble> {
        let unreadable = |error| place::unreadable(folder, error);
        let mut reader = Reader::open(folder, self.from).map_err(unreadable)?;
        let (mut records, mut first) = (0u64, None);
        while let Some(entry) = reader.next_below(self.to).map_err(unreadable)? {
            serde_json::to_writer(&mut *out, &line(&entry))?;
            out.write_all(b"\n")?;
            first = first.or(Some(entry.sequence));
            records += 1;
        }
        Ok(json!({
            "first": first.unwrap_or(self.from), "next": reader.position(), "records": records,
            "thinned": reader.thinned(), "lost": reader.skipped(),
        }))
    }
}

/// A record as people read it; one that can't be decoded as its bytes in hexadecimal.
fn line(entry: &Entry) -> Value {
    let mut line = json!({ "epoch": entry.epoch, "sequence": entry.sequence });
    match from_canonical::<Record>(&entry.payload) {
        Ok(record) => {
            line["stamp"] = json!(record.stamp);
            line["body"] = json!(record.body);
        }
        Err(_) => {
            let hex: String = entry.payload.iter().map(|byte| format!("{byte:02x}")).collect();
            line["kind"] = json!(RecordKind::from_code(entry.kind).map(|kind| print::word(&kind)));
            line["bytes"] = json!(hex);
        }
    }
    line
}

//! Every row's score as CSV, for whoever plots or compares them.

use std::{fs::File, io::BufWriter, path::PathBuf};

use vedette_protocol::time::format_ms;
use vedette_scoring::backtest::ScoredRow;

use crate::cli::fault::Fault;

/// Signals named in a row.
const TOP_SIGNALS: usize = 3;

/// A file of scores being written; the first failure is kept until the end.
pub(super) struct Scores {
    path: PathBuf,
    writer: csv::Writer<BufWriter<File>>,
    failed: Option<csv::Error>,
}

impl Scores {
    /// Makes the file and writes its header.
    pub(super) fn create(path: &std::path::Path) -> Result<Self, Fault> {
        let file = File::create(path).map_err(|error| Fault::file("write the scores", path, &error))?;
        let mut writer = csv::Writer::from_writer(BufWriter::new(file));
        let header = ["row", "time", "row_score", "score", "threshold", "over", "alarm", "cause", "label", "signals"];
        let failed = writer.write_record(header).err();
        Ok(Self { path: path.to_owned(), writer, failed })
    }

    /// Writes a row. `score` is what was held against the threshold, `row_score` the window's own before smoothing.
    pub(super) fn write(&mut self, row: ScoredRow<'_>) {
        let ScoredRow { decision, label, schema } = row;
        let names =
            decision.top.as_slice().iter().take(TOP_SIGNALS).filter_map(|share| schema.name(share.signal.into()));
        let signals: Vec<&str> = names.map(|name| name.as_str()).collect();
        let written = self.writer.write_record([
            decision.row.to_string(),
            format_ms(decision.at_ms),
            decision.row_score.to_string(),
            decision.score.to_string(),
            decision.threshold.to_string(),
            u8::from(decision.over).to_string(),
            u8::from(decision.alarm).to_string(),
            super::text::cause(decision.cause).to_owned(),
            label.map_or_else(String::new, |label| u8::from(label).to_string()),
            signals.join(" "),
        ]);
        self.failed = self.failed.take().or(written.err());
    }

    /// Ends the file.
    pub(super) fn finish(mut self) -> Result<(), Fault> {
        let flushed = self.writer.flush().map_err(csv::Error::from).err();
        match self.failed.take().or(flushed) {
            None => Ok(()),
            Some(error) => Err(Fault::failed(format!("couldn't write the scores {}: {error}", self.path.display()))),
        }
    }
}

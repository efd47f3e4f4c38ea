//! CSV files, plain or gzip, as telemetry: a header, a column per signal, perhaps one for the time and one for a label.
//!
//! Reads row by row in constant memory. Numbers are parsed as f32; an empty field or `nan` is an absent value. Every error
//! names the file, the line (the header is line 1), the column, and what to do about it.

mod number;
mod time;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use csv::ByteRecord;
use flate2::bufread::MultiGzDecoder;
use vedette_protocol::{SignalName, Unit};

use crate::features::listed;
use crate::sample::{Rows, Sample, Schema};

/// First bytes of a gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Columns that are taken for the time when none is named.
const TIME_COLUMNS: [&str; 5] = ["timestamp", "time", "datetime", "date", "ts"];
/// Characters of a wrong field that are shown.
const SHOWN: usize = 40;

/// Where a row's time comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Time {
    /// This column: RFC 3339, `YYYY-MM-DD HH:MM:SS[.f]` (UTC), or Unix seconds or milliseconds.
    Column(String),
    /// No column: the first row's time and the step, in milliseconds.
    Steps {
        /// Unix milliseconds of the first row.
        start_ms: i64,
        /// Milliseconds from row to row.
        step_ms: i64,
    },
    /// A column named `timestamp`, `time`, `datetime`, `date` or `ts` if there is one, else steps.
    ColumnOrSteps {
        /// Unix milliseconds of the first row.
        start_ms: i64,
        /// Milliseconds from row to row.
        step_ms: i64,
    },
}

/// What to do with a row that is earlier than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disorder {
    /// End with an error.
    Refuse,
    /// Take it as it is: benchmark files have clock changes in them.
    Keep,
}

/// How to read a file.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the time comes from.
    pub time: Time,
    /// Column with labels: 0 is normal, any other number anomalous. Not a signal.
    pub label: Option<String>,
    /// Columns to leave out.
    pub skip: Vec<String>,
    /// Unit of signals not named in `units`; `None` = the file does not say.
    pub default_unit: Option<Unit>,
    /// Units of single signals.
    pub units: BTreeMap<SignalName, Unit>,
    /// Rows that go back in time.
    pub disorder: Disorder,
}

impl Options {
    /// Time from a column if there is one, no label, units unknown, order required.
    pub fn new(start_ms: i64, step_ms: i64) -> Options {
        Options {
            time: Time::ColumnOrSteps { start_ms, step_ms },
            label: None,
            skip: Vec::new(),
            default_unit: None,
            units: BTreeMap::new(),
            disorder: Disorder::Refuse,
        }
    }
}

/// A place in a file; `line` and `column` count from 1, 0 = the whole file or line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// As it was opened.
    pub file: PathBuf,
    /// The header is line 1.
    pub line: u64,
    /// Number of the field in its line.
    pub column: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.file.display())?;
        match (self.line, self.column) {
            (0, _) => Ok(()),
            (line, 0) => write!(f, ":{line}"),
            (line, column) => write!(f, ":{line}:{column}"),
        }
    }
}

/// What is wrong with a file, where, and the way out.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ReplayError {
    /// Where.
    pub place: Place,
    /// What and what to do.
    pub problem: Problem,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file can't be opened or read.
    #[error("can't be read: {0}")]
    Read(#[source] std::io::Error),
    /// The gzip stream ends before its end.
    #[error("the gzip stream ends early: the file is cut off; copy it again")]
    CutOff,
    /// No rows or no header.
    #[error("the file has no header; the first line must name the columns")]
    NoHeader,
    /// A header field that can't name a signal.
    #[error("{0}; rename the column, or leave it out")]
    Name(String),
    /// The header can't be a schema.
    #[error("{0}")]
    Schema(#[from] crate::sample::SchemaError),
    /// A column that should be there.
    #[error("there is no column `{wanted}`; the file has {have}")]
    NoColumn {
        /// The column that was asked for.
        wanted: String,
        /// The header, shortened.
        have: String,
    },
    /// A line with too few or too many fields.
    #[error("the line has {found} fields, the header has {expected}; complete or remove it")]
    Ragged {
        /// Fields in the line.
        found: usize,
        /// Fields in the header.
        expected: usize,
    },
    /// A field that is no number.
    #[error(
        "`{found}` in column `{column}` is not a finite number; write a number, or leave the field empty for an absent value"
    )]
    Number {
        /// The field, shortened.
        found: String,
        /// Its column's name.
        column: String,
    },
    /// A field that is no time.
    #[error(
        "`{found}` in column `{column}` is no time; write RFC 3339, `YYYY-MM-DD HH:MM:SS`, or Unix seconds or milliseconds"
    )]
    Time {
        /// The field, shortened.
        found: String,
        /// Its column's name.
        column: String,
    },
    /// A row earlier than the one before it.
    #[error("time goes backwards, from {before} to {found}; sort the file by time, or remove the line")]
    Backwards {
        /// Time of the row before.
        before: String,
        /// Time of this row.
        found: String,
    },
    /// A line that is not CSV or not UTF-8.
    #[error("the line can't be read as CSV: {0}")]
    Csv(String),
}

/// One row of a file.
#[derive(Clone, Debug)]
pub struct Row {
    /// Line of the file.
    pub line: u64,
    /// The telemetry.
    pub sample: Sample,
    /// Whether the row is labelled anomalous; `None` without a label column.
    pub label: Option<bool>,
}

enum Clock {
    Column(usize),
    Steps { next_ms: i64, step_ms: i64 },
}

/// An open file: its schema, and its rows as an iterator that ends after an error.
pub struct Replay {
    file: PathBuf,
    schema: Arc<Schema>,
    reader: csv::Reader<Box<dyn Read + Send>>,
    header: Vec<String>,
    columns: Vec<usize>,
    label: Option<usize>,
    clock: Clock,
    disorder: Disorder,
    record: ByteRecord,
    before_ms: Option<i64>,
    ended: bool,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").field("file", &self.file).field("header", &self.header).finish_non_exhaustive()
    }
}

impl Replay {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// [`ReplayError`] names the file, the column and what to do.
    pub fn open(file: &Path, options: &Options) -> Result<Replay, ReplayError> {
        let at = |column: usize, problem: Problem| ReplayError {
            place: Place { file: file.to_owned(), line: u64::from(column > 0), column },
            problem,
        };
        let bytes = decompressed(file).map_err(|e| at(0, Problem::Read(e)))?;
        // Ragged lines are our own to complain about: the reader would not name the file and the way out.
        let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::Headers).from_reader(bytes);
        let mut header: Vec<String> =
            reader.headers().map_err(|e| at(0, problem_of(e)))?.iter().map(str::to_owned).collect();
        if let Some(first) = header.first_mut() {
            *first = first.trim_start_matches('\u{feff}').to_owned();
        }
        if header.iter().all(String::is_empty) {
            return Err(at(0, Problem::NoHeader));
        }
        let find = |name: &str| {
            header.iter().position(|h| h == name).ok_or_else(|| {
                let have = listed(&header);
                at(0, Problem::NoColumn { wanted: name.to_owned(), have })
            })
        };
        let label = options.label.as_deref().map(find).transpose()?;
        let clock = match &options.time {
            Time::Column(name) => Clock::Column(find(name)?),
            Time::Steps { start_ms, step_ms } => Clock::Steps { next_ms: *start_ms, step_ms: *step_ms },
            Time::ColumnOrSteps { start_ms, step_ms } => {
                let named = header.iter().position(|h| TIME_COLUMNS.contains(&h.to_ascii_lowercase().as_str()));
                named.map_or(Clock::Steps { next_ms: *start_ms, step_ms: *step_ms }, Clock::Column)
            }
        };
        let skipped = options.skip.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>()?;
        // A unit for a signal that is not there is a misspelt name, not a wish.
        options.units.keys().try_for_each(|name| find(name.as_str()).map(drop))?;
        let timed = match clock {
            Clock::Column(column) => Some(column),
            Clock::Steps { .. } => None,
        };
        let (mut columns, mut signals) = (Vec::new(), Vec::new());
        for (i, name) in header.iter().enumerate() {
            if Some(i) == label || Some(i) == timed || skipped.contains(&i) {
                continue;
            }
            let name: SignalName = name.parse().map_err(|e| at(i + 1, Problem::Name(format!("{e}"))))?;
            let unit = options.units.get(&name).or(options.default_unit.as_ref()).cloned();
            columns.push(i);
            signals.push((name, unit));
        }
        let schema = Arc::new(Schema::new(signals).map_err(|e| at(0, Problem::Schema(e)))?);
        Ok(Replay {
            file: file.to_owned(),
            schema,
            reader,
            header,
            columns,
            label,
            clock,
            disorder: options.disorder,
            record: ByteRecord::new(),
            before_ms: None,
            ended: false,
        })
    }

    /// The signals of the file, in the order of its columns.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    fn error(&self, line: u64, column: usize, problem: Problem) -> ReplayError {
        ReplayError { place: Place { file: self.file.clone(), line, column }, problem }
    }

    /// Reads the next line into `record`: its number, or `None` at the end.
    fn read_line(&mut self) -> Result<Option<u64>, ReplayError> {
        let more = self.reader.read_byte_record(&mut self.record);
        let line = self.record.position().map_or(0, csv::Position::line);
        if !more.map_err(|e| self.error(self.reader.position().line(), 0, problem_of(e)))? {
            return Ok(None);
        }
        let (found, expected) = (self.record.len(), self.header.len());
        if found != expected {
            return Err(self.error(line, 0, Problem::Ragged { found, expected }));
        }
        Ok(Some(line))
    }

    fn read_row(&mut self) -> Result<Option<Row>, ReplayError> {
        let Some(line) = self.read_line()? else { return Ok(None) };
        let at_ms = self.row_time(line)?;
        let values = self.columns.iter().map(|c| self.number(line, *c)).collect::<Result<_, _>>()?;
        let label = self.label.map(|c| self.number(line, c).map(|n| n != 0.0 && !n.is_nan())).transpose()?;
        Ok(Some(Row { line, sample: Sample { at_ms, values }, label }))
    }

    /// Adds the next rows to `rows`, at most `most`, and says how many there were: none at the end. Labels are read but not kept.
    ///
    /// # Errors
    /// As the iterator's; the rows before the wrong line have been added.
    pub fn read_rows(&mut self, rows: &mut Rows, most: usize) -> Result<usize, ReplayError> {
        let mut read = 0;
        while read < most && !self.ended {
            self.ended = true;
            let Some(line) = self.read_line()? else { break };
            let at_ms = self.row_time(line)?;
            if let Some(label) = self.label {
                self.number(line, label)?;
            }
            rows.try_push(at_ms, self.columns.iter().map(|column| self.number(line, *column)))?;
            self.ended = false;
            read += 1;
        }
        Ok(read)
    }

    fn field(&self, column: usize) -> &str {
        self.record.get(column).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("\u{fffd}").trim()
    }

    fn number(&self, line: u64, column: usize) -> Result<f32, ReplayError> {
        if let Some(number) = self.record.get(column).and_then(number::plain) {
            return Ok(number);
        }
        let field = self.field(column);
        if field.is_empty() || field.eq_ignore_ascii_case("nan") {
            return Ok(f32::NAN);
        }
        field.parse::<f32>().ok().filter(|n| n.is_finite()).ok_or_else(|| {
            let (found, column_name) = (field.chars().take(SHOWN).collect(), self.header[column].clone());
            self.error(line, column + 1, Problem::Number { found, column: column_name })
        })
    }

    fn row_time(&mut self, line: u64) -> Result<i64, ReplayError> {
        let (at_ms, column) = match &mut self.clock {
            Clock::Steps { next_ms, step_ms } => {
                let at_ms = *next_ms;
                *next_ms = next_ms.saturating_add(*step_ms);
                (at_ms, 0)
            }
            Clock::Column(column) => {
                let column = *column;
                let field = self.field(column);
                let at_ms = time::parse(field).ok_or_else(|| {
                    let (found, column_name) = (field.chars().take(SHOWN).collect(), self.header[column].clone());
                    self.error(line, column + 1, Problem::Time { found, column: column_name })
                })?;
                (at_ms, column + 1)
            }
        };
        if let (Some(before), Disorder::Refuse) = (self.before_ms, self.disorder)
            && at_ms < before
        {
            let (before, found) = (vedette_protocol::time::format_ms(before), vedette_protocol::time::format_ms(at_ms));
            return Err(self.error(line, column, Problem::Backwards { before, found }));
        }
        self.before_ms = Some(at_ms);
        Ok(at_ms)
    }
}

impl Iterator for Replay {
    type Item = Result<Row, ReplayError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let row = self.read_row().transpose();
        self.ended = !matches!(row, Some(Ok(_)));
        row
    }
}

/// The bytes of the file, unpacked if it is gzip, whatever its name.
fn decompressed(file: &Path) -> std::io::Result<Box<dyn Read + Send>> {
    let mut reader = BufReader::new(File::open(file)?);
    let head = std::io::BufRead::fill_buf(&mut reader)?;
    if head.starts_with(&GZIP) { Ok(Box::new(MultiGzDecoder::new(reader))) } else { Ok(Box::new(reader)) }
}

fn problem_of(error: csv::Error) -> Problem {
    let text = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Problem::CutOff,
        csv::ErrorKind::Io(e) => Problem::Read(e),
        _ => Problem::Csv(text),
    }
}

//! Labelled windows of time, as NAB keeps them beside its series: `start,end`, or `file,start,end` for many files.

use std::path::Path;

use vedette_protocol::time::parse_ms;

use crate::cli::fault::Fault;

/// Most windows of one file: NAB has 116 in its whole corpus.
const WINDOWS_MAX: usize = 100_000;

/// The windows of `data` in Unix ms, first and last moment, in the file's order.
///
/// # Errors
/// Not found when the file is missing; failed, with the line, when it cannot be understood.
pub(super) fn read(file: &Path, data: &Path) -> Result<Vec<(i64, i64)>, Fault> {
    let opened = std::fs::File::open(file).map_err(|error| Fault::file("read the windows", file, &error))?;
    let wrong =
        |line: u64, why: &str| Fault::failed(format!("couldn't read the windows {}:{line}: {why}", file.display()));
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(opened);
    let header = reader.headers().map_err(|error| wrong(1, &error.to_string()))?.clone();
    let column = |name: &str| header.iter().position(|field| field == name);
    let (Some(start), Some(end)) = (column("start"), column("end")) else {
        return Err(wrong(1, "the first line must name the columns start and end, and file if there are several"));
    };
    let series = column("file");
    let mut windows = Vec::new();
    for record in reader.records() {
        let record =
            record.map_err(|error| wrong(error.position().map_or(0, csv::Position::line), &error.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        if series.and_then(|series| record.get(series)).is_some_and(|name| !is_of(name, data)) {
            continue;
        }
        let time = |column: usize| {
            let text = record.get(column).unwrap_or_default();
            moment(text).ok_or_else(|| wrong(line, &format!("`{text}` is no time; write 2014-04-10 07:15:00")))
        };
        windows.push((time(start)?, time(end)?));
        if windows.len() > WINDOWS_MAX {
            return Err(wrong(line, "too many windows"));
        }
    }
    Ok(windows)
}

/// Whether a series' name is that of the data file: `group/name.csv` is the end of its path, or its file's name is the same.
fn is_of(name: &str, data: &Path) -> bool {
    let data = data.to_string_lossy();
    let data = Path::new(data.strip_suffix(".gz").unwrap_or(&data));
    data.ends_with(name) || data.file_name() == Path::new(name).file_name()
}

/// RFC 3339, or NAB's `YYYY-MM-DD HH:MM:SS.ffffff`, which is UTC.
fn moment(text: &str) -> Option<i64> {
    parse_ms(text).or_else(|_| parse_ms(&format!("{}Z", text.replacen(' ', "T", 1)))).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use vedette_protocol::Exit;

    use super::*;

    fn windows(text: &str, data: &str) -> Result<Vec<(i64, i64)>, Fault> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path(), Path::new(data))
    }

    #[test]
    fn the_windows_of_a_file_are_found_among_those_of_others() {
        let text = "file,start,end\na/x.csv,2014-04-10 07:15:00.000000,2014-04-10 08:15:00\nb/y.csv,2014-01-01 00:00:00,2014-01-02 00:00:00\n";
        assert_eq!(windows(text, "nab/a/x.csv.gz").unwrap(), [(1_397_114_100_000, 1_397_117_700_000)]);
        assert_eq!(windows(text, "x.csv").unwrap().len(), 1);
        assert!(windows(text, "z.csv").unwrap().is_empty());
        assert_eq!(windows("start,end\n2014-04-10T07:15:00Z,2014-04-11T07:15:00Z\n", "z.csv").unwrap().len(), 1);
    }

    #[test]
    fn a_wrong_window_names_its_line() {
        let fault = windows("start,end\n2014-04-10 07:15:00,soon\n", "z.csv").unwrap_err();
        assert!(fault.message.contains(":2: `soon` is no time"), "{fault}");
        assert_eq!(read(Path::new("/nowhere.csv"), Path::new("z.csv")).unwrap_err().exit, Exit::NotFound);
    }
}

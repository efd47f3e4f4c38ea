//! Files as streams, and files that are not what they should be: each error names the file, the place and the way out.

use std::io::Write;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use vedette_scoring::replay::{Disorder, Options, Replay, Row, Time};

use crate::made::MINUTE_MS;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn options() -> Options {
    Options::new(0, MINUTE_MS)
}

fn all(text: &str, options: &Options) -> Result<Vec<Row>, String> {
    let folder = Folder::new();
    let path = folder.file("data.csv", text.as_bytes());
    let said = |e: vedette_scoring::replay::ReplayError| e.to_string().replace(&path.display().to_string(), "data.csv");
    Replay::open(&path, options).map_err(said)?.collect::<Result<_, _>>().map_err(said)
}

fn complaint(text: &str) -> String {
    all(text, &Options { label: Some("label".into()), ..options() }).unwrap_err()
}

#[test]
fn columns_times_labels_and_absent_values_are_told_apart() {
    let text = "timestamp, a ,b,label\n2026-09-01 00:00:00,1.5,,0\n2026-09-01T00:01:00Z,nan,-2e-3,1\n";
    let options = Options { label: Some("label".into()), default_unit: Some("1".parse().unwrap()), ..options() };
    let folder = Folder::new();
    let mut replay = Replay::open(&folder.file("x.csv", text.as_bytes()), &options).unwrap();
    let names: Vec<String> = replay.schema().signals().iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(replay.schema().unit(0).unwrap().to_string(), "1");
    let rows: Vec<Row> = replay.by_ref().map(Result::unwrap).collect();
    assert_eq!(rows[0].sample.values[0], 1.5);
    assert!(rows[0].sample.values[1].is_nan() && rows[1].sample.values[0].is_nan());
    assert_eq!(rows[1].sample.at_ms - rows[0].sample.at_ms, 60_000);
    assert_eq!((rows[0].label, rows[1].label), (Some(false), Some(true)));
    assert_eq!((rows[0].line, rows[1].line), (2, 3));
}

#[test]
fn without_a_time_column_rows_are_a_step_apart_and_gzip_needs_no_name() {
    let folder = Folder::new();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(b"a\n1\n2\n").unwrap();
    let path = folder.file("no_suffix", &packed.finish().unwrap());
    let rows: Vec<Row> = Replay::open(&path, &Options::new(5000, 10)).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.iter().map(|r| r.sample.at_ms).collect::<Vec<_>>(), [5000, 5010]);
    assert_eq!(rows[0].label, None);
}

#[test]
fn every_broken_line_is_named_with_its_place_and_the_way_out() {
    assert_eq!(
        complaint("a,b,label\n1,2,0\n1,2\n"),
        "data.csv:3: the line has 2 fields, the header has 3; complete or remove it"
    );
    assert_eq!(
        complaint("a,b,label\n1,2,0\n1,high,0\n"),
        "data.csv:3:2: `high` in column `b` is not a finite number; write a number, or leave the field empty for an absent value"
    );
    assert!(complaint("a,b,label\n1,inf,0\n").starts_with("data.csv:2:2: `inf` in column `b` is not a finite number"));
    assert_eq!(complaint("a,b\n1,2\n"), "data.csv: there is no column `label`; the file has `a`, `b`");
    assert_eq!(
        complaint("time,a,label\n2026-01-01T00:01:00Z,1,0\n2026-01-01T00:00:00Z,1,0\n"),
        "data.csv:3:1: time goes backwards, from 2026-01-01T00:01:00.000Z to 2026-01-01T00:00:00.000Z; \
         sort the file by time, or remove the line"
    );
    assert!(
        complaint("time,a,label\nnoon,1,0\n")
            .starts_with("data.csv:2:1: `noon` in column `time` is no time; write RFC 3339")
    );
    assert!(complaint("a,a,label\n1,2,0\n").contains("`a` stands there twice"));
    assert!(complaint("a b,label\n1,0\n").contains("rename the column"));
    assert_eq!(complaint(""), "data.csv: the file has no header; the first line must name the columns");
    assert_eq!(complaint("label\n0\n"), "data.csv: a stream needs at least one signal");
}

#[test]
fn clock_changes_in_benchmark_files_can_be_kept() {
    let text = "ts,a\n2,1\n1,1\n";
    assert!(all(text, &options()).is_err());
    assert_eq!(all(text, &Options { disorder: Disorder::Keep, ..options() }).unwrap().len(), 2);
    assert!(
        all(text, &Options { time: Time::Column("when".into()), ..options() })
            .unwrap_err()
            .contains("no column `when`")
    );
}

#[test]
fn a_unit_for_a_signal_that_is_not_there_is_a_misspelt_name() {
    let units = [("presure".parse().unwrap(), "Pa".parse().unwrap())].into();
    let complaint = all("pressure,label\n1,0\n", &Options { units, ..options() }).unwrap_err();
    assert!(complaint.contains("no column `presure`; the file has `pressure`, `label`"), "{complaint}");
}

#[test]
fn a_gzip_file_that_was_cut_off_is_said_to_be_and_the_rows_before_are_kept() {
    let folder = Folder::new();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(b"a,b\n").unwrap();
    let mut state = 1_u32;
    for _ in 0..20_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        writeln!(packed, "{},{}", state, state >> 7).unwrap();
    }
    let bytes = packed.finish().unwrap();
    let path = folder.file("cut.csv.gz", &bytes[..bytes.len() / 2]);
    let mut rows = Replay::open(&path, &options()).unwrap();
    let good = rows.by_ref().take_while(Result::is_ok).count();
    assert!(good > 1000);
    assert!(rows.next().is_none(), "nothing comes after an error");
    let error = Replay::open(&path, &options()).unwrap().find_map(Result::err).unwrap();
    assert!(error.to_string().contains("the gzip stream ends early"), "{error}");
    assert!(error.place.line > 1000, "{error}");
    let missing = Replay::open(&folder.0.path().join("none.csv"), &options()).unwrap_err().to_string();
    assert!(missing.contains("none.csv: can't be read"), "{missing}");
}

//! `golden/NAME.hex` pins the bytes of each sample: what is out in the field must be read for ever. Files are added, never
//! edited. `VEDETTE_GOLDEN=add` writes those that are missing; see `golden/README.md`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use crate::samples::{self, Sample};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(format!("{name}.hex"))
}

/// The bytes of a file: hexadecimal digits, with comments from `#` to the end of the line.
fn read(text: &str) -> Vec<u8> {
    let digits: String =
        text.lines().filter_map(|line| line.split('#').next()).flat_map(str::split_whitespace).collect();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn add_if_missing(sample: &Sample) {
    if env::var_os("VEDETTE_GOLDEN").is_some_and(|value| value == "add") && !path(sample.name).exists() {
        fs::write(path(sample.name), write(sample)).unwrap();
    }
}

#[test]
fn the_bytes_of_every_sample_are_those_of_its_golden_file() {
    for sample in samples::all() {
        add_if_missing(&sample);
        let text =
            fs::read_to_string(path(sample.name)).unwrap_or_else(|error| panic!("golden/{}.hex: {error}", sample.name));
        let golden = read(&text);
        assert_eq!(
            sample.bytes, golden,
            "{} is written with other bytes than golden/{}.hex",
            sample.shown, sample.name
        );
        assert!((sample.reads_back)(&golden), "golden/{}.hex does not read back", sample.name);
    }
}

#[test]
fn no_golden_file_is_left_without_its_sample() {
    let names: Vec<&str> = samples::all().iter().map(|sample| sample.name).collect();
    for entry in fs::read_dir(path("x").parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            path.extension().is_none_or(|extension| extension != "hex") || names.contains(&name),
            "golden/{name}.hex pins nothing"
        );
    }
}

/// The value in comments, then its bytes, one item of CBOR a line with what it says.
fn write(sample: &Sample) -> String {
    let mut text = String::new();
    for line in sample.shown.lines() {
        writeln!(text, "# {line}").unwrap();
    }
    text.push('\n');
    let mut rest = sample.bytes.as_slice();
    item(&mut rest, 0, "", &mut text);
    assert!(rest.is_empty());
    text
}

fn item(rest: &mut &[u8], depth: usize, role: &str, text: &mut String) {
    let start = *rest;
    let (major, argument) = head(rest);
    let content = if matches!(major, 2 | 3) { take(rest, argument as usize) } else { &[] };
    let used = &start[..start.len() - rest.len()];
    let says = match major {
        0 => argument.to_string(),
        1 => format!("-{}", argument + 1),
        2 => format!("{argument} bytes"),
        3 => format!("{:?}", std::str::from_utf8(content).unwrap()),
        4 => format!("array of {argument}"),
        5 => format!("map of {argument}"),
        _ => ["false", "true", "nil"][argument as usize - 20].to_owned(),
    };
    let hex: String = used.iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(text, "{}{hex} # {role}{says}", "  ".repeat(depth)).unwrap();
    for index in 0..if matches!(major, 4 | 5) { argument } else { 0 } {
        if major == 5 {
            item(rest, depth + 1, "key ", text);
            item(rest, depth + 2, "", text);
        } else {
            item(rest, depth + 1, &format!("[{index}] "), text);
        }
    }
}

fn head(rest: &mut &[u8]) -> (u8, u64) {
    let first = take(rest, 1)[0];
    let wide = match first & 0x1f {
        info @ 0..=23 => return (first >> 5, info.into()),
        info => 1 << (info - 24),
    };
    (first >> 5, take(rest, wide).iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, left) = rest.split_at(length);
    *rest = left;
    taken
}

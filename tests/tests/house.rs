//! The rules of the house that no compiler keeps: which crate may know which, which room alone may name what, how files
//! are called and begin. The README's map says the same in words.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Who may know whom inside the house, with tests and builds included.
const ARROWS: [(&str, &[&str]); 6] = [
    ("vedette-protocol", &[]),
    ("vedette-scoring", &["vedette-protocol"]),
    ("vedette-journal", &["vedette-protocol"]),
    ("vedette-agent", &["vedette-protocol", "vedette-scoring", "vedette-journal"]),
    ("vedette-model-registry", &["vedette-protocol", "vedette-scoring", "vedette-journal"]),
    (
        "vedette-tests",
        &["vedette-protocol", "vedette-scoring", "vedette-journal", "vedette-agent", "vedette-model-registry"],
    ),
];

/// Folders with the code that ships.
const PRODUCT: [&str; 5] = ["protocol", "scoring", "journal", "agent", "model-registry"];

/// Names that only one room may use: what is looked for, and the files (or folders of rooms) that may hold it.
const ROOMS: [(&[&str], &[&str]); 4] = [
    (&["tract_onnx", "tract_core", "tract_hir"], &["scoring/src/engine"]),
    (&["rumqttc::"], &["agent/src/mqtt.rs", "model-registry/src/mqtt.rs"]),
    (&["rumqttd::"], &["model-registry/src/broker"]),
    (
        &["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now"],
        &["journal/src/clock.rs", "scoring/src/clock.rs", "agent/src/clock.rs", "model-registry/src/clock.rs"],
    ),
];

/// File names that say nothing.
const EMPTY_NAMES: [&str; 8] = ["mod", "util", "utils", "helper", "helpers", "common", "manager", "misc"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every Rust file of the repository, with its path from the root.
fn rust_files() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders: Vec<PathBuf> = PRODUCT.iter().chain(&["tests"]).map(|name| root().join(name)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                files.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(files.len() > 30, "looked in the wrong place: {} files", files.len());
    files
}

/// The lines of a product file that ship: no comments, nothing from its test module on.
fn shipped_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| *line != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number + 1, line))
}

fn is_product(name: &str) -> bool {
    let in_src = PRODUCT.iter().any(|folder| name.starts_with(&format!("{folder}/src/")));
    in_src && !name.ends_with("/tests.rs") && !name.contains("/tests/")
}

fn assert_none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

#[test]
fn crates_know_only_what_the_map_allows() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let allowed = BTreeMap::from(ARROWS);
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let Some(may_know) = allowed.get(name) else {
            wrong.push(format!("{name} has no place on the map"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let known = dependency["name"].as_str().unwrap();
            if known.starts_with("vedette-") && known != name && !may_know.contains(&known) {
                wrong.push(format!("{name} knows {known}"));
            }
        }
    }
    assert_none(&wrong, "arrows go protocol <- {scoring, journal} <- {agent, model-registry} <- tests");
}

#[test]
fn engines_brokers_and_the_clock_have_one_room_each() {
    let mut wrong = Vec::new();
    for (name, text) in rust_files().iter().filter(|(name, _)| is_product(name)) {
        for (words, rooms) in ROOMS {
            if rooms.iter().any(|room| name.starts_with(room)) {
                continue;
            }
            for (number, line) in shipped_lines(text) {
                if words.iter().any(|word| line.contains(word)) {
                    wrong.push(format!("{name}:{number}: {}", line.trim()));
                }
            }
        }
    }
    assert_none(&wrong, "tract, rumqttc, rumqttd and now() are named in their own rooms only");
}

#[test]
fn files_have_names_that_say_something_and_begin_with_what_they_are() {
    let mut wrong = Vec::new();
    for (name, text) in rust_files() {
        let stem = Path::new(&name).file_stem().unwrap().to_str().unwrap().to_owned();
        if EMPTY_NAMES.contains(&stem.as_str()) {
            wrong.push(format!("{name}: its name says nothing"));
        }
        if !text.starts_with("//! ") {
            wrong.push(format!("{name}: does not begin with a sentence about itself (//!)"));
        }
    }
    assert_none(&wrong, "a file is called what it is and begins with it");
}

#[test]
fn no_file_is_everything() {
    /// Lines before the tests of a file. Our measure is 400; the one file that may name the engine needs a little more.
    const LINES_MAX: usize = 450;
    let mut wrong = Vec::new();
    for (name, text) in rust_files().iter().filter(|(name, _)| is_product(name)) {
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        if lines > LINES_MAX {
            wrong.push(format!("{name}: {lines} lines"));
        }
    }
    assert_none(&wrong, "a file that long holds two rooms");
}

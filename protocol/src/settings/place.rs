//! From a byte offset back to the document, the line and the key.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Document, SettingsError};

/// Least likeness (Jaro-Winkler, 0 to 1) of a known key that is worth naming.
const WORTH_NAMING: f64 = 0.75;

/// Where each document's bytes lie in the one numbering that all share.
#[derive(Default)]
pub(super) struct Places {
    spans: Vec<Place>,
    end: usize,
}

struct Place {
    name: String,
    range: Range<usize>,
    text: String,
    lines: bool,
}

impl Places {
    /// Takes a file; answers its text behind the padding that gives its bytes their numbers.
    pub(super) fn add_file(&mut self, document: &Document) -> String {
        self.add(document.place.clone(), &document.text, true)
    }

    /// Takes an override by a variable of the environment.
    pub(super) fn add_variable(&mut self, name: &str, line: &str) -> String {
        self.add(format!("environment variable {name}"), line, false)
    }

    fn add(&mut self, name: String, text: &str, lines: bool) -> String {
        let start = self.end;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        // One number is left free behind each, so that an error at its very end is still its own.
        self.end = start + text.len() + 1;
        self.spans.push(Place { name, range: start..self.end, text: text.to_owned(), lines });
        let mut padded = "\n".repeat(start);
        padded.push_str(text);
        padded
    }

    /// Says an error of the TOML library in our words. `merged` is what the keys are looked up in.
    pub(super) fn explain(&self, error: &toml::de::Error, merged: &DeTable<'_>) -> SettingsError {
        let at = error.span().map_or(0, |span| span.start);
        let mut path = path_at(merged, at);
        let message = error.message().trim_end();
        let mut nearest = None;
        let problem = if let Some((unknown, known)) = unknown_key(message) {
            if path.last().is_none_or(|last| *last != unknown) {
                path.push(unknown.clone());
            }
            nearest = nearest_of(&unknown, &known);
            if nearest.is_some() || known.is_empty() {
                "unknown key".to_owned()
            } else {
                format!("unknown key; known here: {}", known.join(", "))
            }
        } else if let Some(missing) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
            path.push(missing.to_owned());
            "is missing".to_owned()
        } else {
            message.to_owned()
        };
        let (place, line) = self.find(at);
        let key = (!path.is_empty()).then(|| dotted(&path));
        SettingsError { place, line, key, problem, nearest }
    }

    fn find(&self, at: usize) -> (String, Option<usize>) {
        let Some(place) = self.spans.iter().find(|place| place.range.contains(&at)).or(self.spans.last()) else {
            return ("settings".to_owned(), None);
        };
        let within = at.saturating_sub(place.range.start).min(place.text.len());
        let line = 1 + place.text.as_bytes()[..within].iter().filter(|byte| **byte == b'\n').count();
        (place.name.clone(), place.lines.then_some(line))
    }
}

/// The keys around byte `at`, outermost first. A table that was only begun (`[a]`) counts when `at` is in its head.
fn path_at(table: &DeTable<'_>, at: usize) -> Vec<String> {
    let mut best = Vec::new();
    if at > 0 || !table.is_empty() {
        search(table, at, &mut Vec::new(), &mut best);
    }
    best
}

fn search(table: &DeTable<'_>, at: usize, path: &mut Vec<String>, best: &mut Vec<String>) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        if key.span().contains(&at) {
            best.clone_from(path);
        }
        search_value(value, at, path, best);
        path.pop();
    }
}

fn search_value(value: &Spanned<DeValue<'_>>, at: usize, path: &mut Vec<String>, best: &mut Vec<String>) {
    if value.span().contains(&at) && path.len() > best.len() {
        best.clone_from(path);
    }
    match value.get_ref() {
        DeValue::Table(inner) => search(inner, at, path, best),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.push(format!("[{index}]"));
                search_value(item, at, path, best);
                path.pop();
            }
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
}

fn dotted(path: &[String]) -> String {
    let mut text = String::new();
    for part in path {
        if !text.is_empty() && !part.starts_with('[') {
            text.push('.');
        }
        text.push_str(part);
    }
    text
}

/// The unknown key and the known ones out of serde's sentence "unknown field `x`, expected one of `a`, `b`".
fn unknown_key(message: &str) -> Option<(String, Vec<String>)> {
    let rest = message.strip_prefix("unknown field `")?;
    let (unknown, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    Some((unknown.to_owned(), known))
}

fn nearest_of(unknown: &str, known: &[String]) -> Option<String> {
    let likeness = |key: &String| (strsim::jaro_winkler(unknown, key), key.clone());
    let best = known.iter().map(likeness).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= WORTH_NAMING).then_some(best.1)
}

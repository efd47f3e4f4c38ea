//! Lays documents over one another and reads the result.
//!
//! Each document is parsed behind as many line breaks as the documents before it have bytes. So a byte offset in any
//! value belongs to exactly one document, and an error that surfaces after the merge still finds its file and line.

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::SettingsError;
use super::place::Places;

/// One text of settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// How errors name it, best as its path.
    pub place: String,
    /// The TOML text.
    pub text: String,
}

/// Reads `documents` laid over one another in their order, and over them `environment`: pairs of the process's
/// environment, of which `VEDETTE_A__B=value` sets `a.b` and `VEDETTE__A=value` sets `a`; all others are passed over. A value
/// that is TOML is taken as such (`5`, `true`, `["a"]`) unless a text stands in its place; anything else is a text.
///
/// # Errors
/// When a document is no TOML, or the result has an unknown key, misses one, or has a value that does not fit. The error
/// names the document that is to blame.
pub fn layered<T: DeserializeOwned>(
    documents: &[Document],
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<T, SettingsError> {
    let mut places = Places::default();
    let files: Vec<String> = documents.iter().map(|document| places.add_file(document)).collect();
    let merged = lay_over(DeTable::new(), &files, &places)?;
    let overrides = overrides(&merged, environment);
    let overrides: Vec<String> = overrides.iter().map(|(name, line)| places.add_variable(name, line)).collect();
    let merged = lay_over(merged, &overrides, &places)?;
    let root = Spanned::new(0..0, merged.clone());
    T::deserialize(toml::Deserializer::from(root)).map_err(|error| places.explain(&error, &merged))
}

fn lay_over<'i>(mut merged: DeTable<'i>, texts: &'i [String], places: &Places) -> Result<DeTable<'i>, SettingsError> {
    for text in texts {
        let table = DeTable::parse(text).map_err(|error| places.explain(&error, &merged))?;
        merge(&mut merged, table.into_inner());
    }
    Ok(merged)
}

/// The variables that set something, in the order of their paths, each with its line of TOML.
fn overrides(merged: &DeTable<'_>, environment: impl IntoIterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut found: Vec<_> =
        environment.into_iter().filter_map(|(name, value)| Some((path_of(&name)?, name, value))).collect();
    found.sort();
    let line = |(path, name, value): (Vec<String>, String, String)| {
        (name, override_line(&path, &value, holds_text(merged, &path)))
    };
    found.into_iter().map(line).collect()
}

/// Lays `over` onto `under`: tables merge, arrays of tables grow, everything else is replaced.
fn merge<'i>(under: &mut DeTable<'i>, over: DeTable<'i>) {
    for (key, mut value) in over {
        if let Some(old) = under.get_mut(key.get_ref().as_ref()) {
            match (old.get_mut(), value.get_mut()) {
                (DeValue::Table(old), DeValue::Table(new)) => {
                    merge(old, std::mem::take(new));
                    continue;
                }
                (DeValue::Array(old), DeValue::Array(new)) if of_tables(old) && of_tables(new) => {
                    for item in std::mem::replace(new, DeArray::new()) {
                        old.push(item);
                    }
                    continue;
                }
                _ => {}
            }
            // The key is removed first, because inserting keeps the old key and with it the old place.
            under.remove(key.get_ref().as_ref());
        }
        under.insert(key, value);
    }
}

fn of_tables(array: &DeArray<'_>) -> bool {
    !array.is_empty() && array.iter().all(|item| item.get_ref().is_table())
}

/// `VEDETTE_A__B` sets `a.b`, and `VEDETTE__A` sets `a`.
///
/// Two underscores make a setting. Names with single ones are options of the programs (`VEDETTE_CONFIG`) or come from
/// elsewhere: a container platform adds `VEDETTE_SERVICE_HOST` for a service called vedette, and nothing may fail for it.
fn path_of(variable: &str) -> Option<Vec<String>> {
    let name = variable.strip_prefix("VEDETTE_")?;
    let path = name.strip_prefix('_').or(name.contains("__").then_some(name))?;
    Some(path.split("__").map(str::to_ascii_lowercase).collect())
}

fn holds_text(table: &DeTable<'_>, path: &[String]) -> bool {
    let Some((last, parents)) = path.split_last() else {
        return false;
    };
    let mut table = table;
    for key in parents {
        match table.get(key.as_str()).map(Spanned::get_ref) {
            Some(DeValue::Table(inner)) => table = inner,
            _ => return false,
        }
    }
    table.get(last.as_str()).is_some_and(|value| value.get_ref().is_str())
}

/// A line of TOML that sets `path`.
fn override_line(path: &[String], value: &str, as_text: bool) -> String {
    let key: Vec<String> = path.iter().map(|part| toml::Value::from(part.as_str()).to_string()).collect();
    let is_toml = !as_text && DeValue::parse(value).is_ok();
    let value = if is_toml { value.to_owned() } else { toml::Value::from(value).to_string() };
    format!("{} = {value}\n", key.join("."))
}

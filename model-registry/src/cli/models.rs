//! `vedette models`: what there is, what differs between two versions, what an alias points to.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde::Serialize;
use serde_json::Value;
use vedette_protocol::id::{ModelName, ModelVersion};
use vedette_protocol::time::format_ms;

use super::{
    Screen,
    client::Client,
    fault::Fault,
    screen::{Column, Format, Sheet, facts, mebibytes, say, say_json, short, time},
};
use crate::view::{AliasRequest, ModelSummary, VersionDetail, VersionSummary};

/// Verbs on models.
#[derive(Debug, Subcommand)]
pub enum Models {
    /// All models
    List,
    /// A model's versions (NAME), or all about one version (NAME@VERSION or NAME@ALIAS)
    Show {
        /// NAME, NAME@VERSION or NAME@ALIAS
        model: Named,
    },
    /// What differs between two versions: contract, calibration, limits, lineage
    Diff {
        /// The model
        name: ModelName,
        /// The earlier version or alias
        before: String,
        /// The later version or alias
        after: String,
    },
    /// Point an alias to a version, or take it away
    Alias(Alias),
}

/// What `models alias` does.
#[derive(Debug, Args)]
pub struct Alias {
    /// The model
    name: ModelName,
    /// The alias, as in `champion`
    alias: String,
    /// The version it shall point to
    #[arg(required_unless_present = "delete", conflicts_with = "delete")]
    version: Option<ModelVersion>,
    /// Take the alias away
    #[arg(long)]
    delete: bool,
}

/// A model, perhaps one version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    name: ModelName,
    version: Option<String>,
}

impl std::str::FromStr for Named {
    type Err = vedette_protocol::IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.rsplit_once('@') {
            Some((name, version)) => Ok(Self { name: name.parse()?, version: Some(version.to_owned()) }),
            None => Ok(Self { name: text.parse()?, version: None }),
        }
    }
}

/// One difference between two versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Difference {
    field: String,
    /// Absent: the earlier version does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    /// Absent: the later version does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
}

/// Runs a verb on models.
///
/// # Errors
/// Offline, or what the registry answered.
pub async fn run(verb: Models, client: &Client, screen: Screen) -> Result<(), Fault> {
    match verb {
        Models::List => list(client, screen).await,
        Models::Show { model: Named { name, version: None } } => show_all(&name, client, screen).await,
        Models::Show { model: Named { name, version: Some(version) } } => {
            let detail = detail(&name, &version, client).await?;
            match screen.format {
                Format::Json => say_json(&[detail]),
                Format::Text => say(&detail_text(&detail, screen)),
            }
        }
        Models::Diff { name, before, after } => {
            let (before, after) = (detail(&name, &before, client).await?, detail(&name, &after, client).await?);
            let differences = differences(&before, &after)?;
            match screen.format {
                Format::Json => say_json(&differences),
                Format::Text => say(&diff_text(&before, &after, &differences, screen)),
            }
        }
        Models::Alias(alias) => point(alias, client, screen).await,
    }
}

async fn list(client: &Client, screen: Screen) -> Result<(), Fault> {
    let models: Vec<ModelSummary> = client.all(&["models"]).await?;
    match screen.format {
        Format::Json => say_json(&models),
        Format::Text => say(&list_text(&models, screen)),
    }
}

async fn show_all(name: &ModelName, client: &Client, screen: Screen) -> Result<(), Fault> {
    let versions: Vec<VersionSummary> = client.all(&["models", name.as_str(), "versions"]).await?;
    match screen.format {
        Format::Json => say_json(&versions),
        Format::Text => say(&versions_text(&versions, screen)),
    }
}

/// All about one version, named by number or alias.
async fn detail(name: &ModelName, version: &str, client: &Client) -> Result<VersionDetail, Fault> {
    let number = match version.parse::<ModelVersion>() {
        Ok(number) => number,
        Err(_) => {
            let model: ModelSummary = client.get(&["models", name.as_str()], &()).await?;
            *model.aliases.get(version).ok_or_else(|| {
                Fault::not_found(format!(
                    "{name} has no version and no alias {version}; `vedette models show {name}` lists them"
                ))
            })?
        }
    };
    client.get(&["models", name.as_str(), "versions", &number.to_string()], &()).await
}

async fn point(alias: Alias, client: &Client, screen: Screen) -> Result<(), Fault> {
    let path = ["models", alias.name.as_str(), "aliases", &alias.alias];
    let done = match alias.version {
        Some(version) => {
            client.tell(Method::PUT, &path, Some(&AliasRequest { version })).await?;
            format!("{}@{} is version {version} now.\n", alias.name, alias.alias)
        }
        None => {
            client.tell(Method::DELETE, &path, None::<&AliasRequest>).await?;
            format!("{} has no alias {} any more.\n", alias.name, alias.alias)
        }
    };
    match screen.format {
        Format::Json => say_json(&[serde_json::json!({
            "model": alias.name, "alias": alias.alias, "version": alias.version.map(ModelVersion::get)
        })]),
        Format::Text => say(&done),
    }
}

fn list_text(models: &[ModelSummary], screen: Screen) -> String {
    let mut sheet = Sheet::new(&[
        Column::Text("MODEL"),
        Column::Number("LATEST"),
        Column::Number("VERSIONS"),
        Column::Text("ALIASES"),
        Column::Text("UPDATED"),
    ]);
    for model in models {
        let aliases: Vec<String> = model.aliases.iter().map(|(alias, version)| format!("{alias}={version}")).collect();
        sheet.row([
            model.name.to_string(),
            model.latest.to_string(),
            model.versions.to_string(),
            aliases.join(" "),
            time(&model.updated),
        ]);
    }
    sheet.render(screen.colour, "no models yet; `vedette push` brings the first")
}

fn versions_text(versions: &[VersionSummary], screen: Screen) -> String {
    let mut sheet = Sheet::new(&[
        Column::Text("VERSION"),
        Column::Text("KIND"),
        Column::Number("PARENT"),
        Column::Number("BYTES"),
        Column::Number("ROW µs"),
        Column::Text("PUSHED"),
        Column::Text("BY"),
        Column::Text("REASON"),
    ]);
    for version in versions {
        sheet.row([
            version.model.to_string(),
            version.kind.clone(),
            version.parent.map_or_else(|| "-".to_owned(), |parent| parent.to_string()),
            version.artifact_bytes.to_string(),
            micros(version.trial.row_ns),
            time(&version.pushed),
            version.pushed_by.clone(),
            version.reason.clone(),
        ]);
    }
    sheet.render(screen.colour, "no versions")
}

/// Nanoseconds as microseconds with one decimal.
fn micros(ns: u64) -> String {
    format!("{}.{}", ns / 1_000, ns % 1_000 / 100)
}

fn detail_text(detail: &VersionDetail, screen: Screen) -> String {
    let VersionDetail { summary, content, made } = detail;
    let trial = &summary.trial;
    let head = facts(&[
        ("model", summary.model.to_string()),
        ("kind", summary.kind.clone()),
        ("manifest", summary.manifest.to_string()),
        ("artifact", format!("{} ({} bytes)", summary.artifact, summary.artifact_bytes)),
        ("lineage", summary.lineage.to_string()),
        ("floor", summary.floor.to_string()),
        ("parent", summary.parent.map_or_else(|| "none".to_owned(), |parent| parent.to_string())),
        ("pushed", format!("{} by {}", time(&summary.pushed), summary.pushed_by)),
        (
            "trial",
            format!(
                "{}: {} self-test vectors right, loaded in {} ms, {} µs a row, {} of memory",
                trial.engine,
                trial.vectors,
                trial.load_us / 1_000,
                micros(trial.row_ns),
                mebibytes(trial.memory_bytes)
            ),
        ),
        ("author", made.author.clone()),
        ("reason", made.reason.clone()),
        ("made", format!("{}, {} parameters", made.architecture, made.parameters)),
        ("trained", time(&format_ms(made.trained_ms))),
        ("metrics", pairs(made.metrics.iter().map(|(name, value)| (name.as_str(), value.get().to_string())))),
        ("settings", pairs(made.hyperparameters.iter().map(|(name, value)| (name.as_str(), value.clone())))),
        (
            "contract",
            format!(
                "{} signals every {} ms, window {}, hop {}",
                content.contract.signals.len(),
                content.contract.sampling_ms,
                content.contract.window,
                content.contract.hop
            ),
        ),
        (
            "calibration",
            format!(
                "threshold {}, smooth {}, hold {}",
                content.calibration.threshold.get(),
                content.calibration.smooth,
                content.calibration.hold
            ),
        ),
    ]);
    let mut data = Sheet::new(&[
        Column::Text("TRAINED ON"),
        Column::Number("ROWS"),
        Column::Text("FROM"),
        Column::Text("TO"),
        Column::Text("DIGEST"),
    ]);
    for set in &made.data {
        data.row([
            set.name.clone(),
            set.rows.to_string(),
            time(&format_ms(set.from_ms)),
            time(&format_ms(set.to_ms)),
            short(&set.digest),
        ]);
    }
    format!("{head}\n{}", data.render(screen.colour, "no training data named"))
}

fn pairs<'a>(pairs: impl Iterator<Item = (&'a str, String)>) -> String {
    let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(" ")
}

fn diff_text(before: &VersionDetail, after: &VersionDetail, differences: &[Difference], screen: Screen) -> String {
    let mut sheet = Sheet::new(&[Column::Text("FIELD"), Column::Text("BEFORE"), Column::Text("AFTER")]);
    let said = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    for difference in differences {
        sheet.row([difference.field.clone(), said(&difference.before), said(&difference.after)]);
    }
    let nothing = "no difference in contract, calibration, limits or lineage";
    format!("{} → {}\n{}", before.summary.model, after.summary.model, sheet.render(screen.colour, nothing))
}

/// What two versions say differently about themselves, by the path of the field.
fn differences(before: &VersionDetail, after: &VersionDetail) -> Result<Vec<Difference>, Fault> {
    let (before, after) = (fields(before)?, fields(after)?);
    let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differing = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    let difference = |name: &String| Difference {
        field: name.clone(),
        before: before.get(name).cloned(),
        after: after.get(name).cloned(),
    };
    Ok(differing.map(difference).collect())
}

fn fields(detail: &VersionDetail) -> Result<BTreeMap<String, String>, Fault> {
    let mut fields = BTreeMap::new();
    for (part, value) in [("", serde_json::to_value(&detail.content)), ("lineage", serde_json::to_value(&detail.made))]
    {
        let value = value.map_err(|error| Fault::failed(format!("couldn't compare: {error}")))?;
        flatten(part, &value, &mut fields);
    }
    // Which version it is, and when it was signed, differ always and say nothing.
    fields.retain(|name, _| !["model", "issued_ms", "lineage"].contains(&name.as_str()));
    Ok(fields)
}

/// Leaves of a JSON value under their paths; entries of a list that have a name stand under it, so that one more signal
/// is one difference and not a shift of all that follow.
fn flatten(path: &str, value: &Value, fields: &mut BTreeMap<String, String>) {
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(object) => object.iter().for_each(|(name, value)| flatten(&join(name), value, fields)),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                match named(item) {
                    Some((name, rest)) => flatten(&join(name), &rest, fields),
                    None => flatten(&join(&index.to_string()), item, fields),
                }
            }
        }
        Value::String(text) => drop(fields.insert(path.to_owned(), text.clone())),
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) => drop(fields.insert(path.to_owned(), value.to_string())),
    }
}

/// A list entry's name and what it says: `{name, …}` or `[name, value]`.
fn named(item: &Value) -> Option<(&str, Value)> {
    match item {
        Value::Object(object) => {
            let name = object.get("name")?.as_str()?;
            let rest = object.iter().filter(|(key, _)| *key != "name").map(|(key, value)| (key.clone(), value.clone()));
            Some((name, Value::Object(rest.collect())))
        }
        Value::Array(pair) => match pair.as_slice() {
            [Value::String(name), value] => Some((name, value.clone())),
            _ => None,
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;
    use crate::cli::screen::Colour;

    const SCREEN: Screen = Screen { format: Format::Text, colour: Colour::No };

    #[test]
    fn a_signal_more_is_one_difference_and_not_a_shift() {
        let fields_of = |signals: Value| {
            let mut fields = BTreeMap::new();
            flatten("contract", &json!({"signals": signals, "metrics": [["auc", 0.5]]}), &mut fields);
            fields
        };
        let before = fields_of(json!([{"name": "b", "scale": 1.0}]));
        let after = fields_of(json!([{"name": "a", "scale": 2.0}, {"name": "b", "scale": 1.0}]));
        let changed: Vec<_> = after.iter().filter(|(name, value)| before.get(*name) != Some(value)).collect();
        assert_eq!(changed, [(&"contract.signals.a.scale".to_owned(), &"2.0".to_owned())]);
        assert_eq!(before["contract.metrics.auc"], "0.5");
    }

    #[test]
    fn models_are_listed_with_their_aliases() {
        let model: ModelSummary = serde_json::from_value(json!({
            "name": "pump", "latest": 2, "versions": 2, "aliases": {"champion": 1}, "updated": "2026-01-01T00:00:00.000Z"
        }))
        .unwrap();
        let text = list_text(&[model], SCREEN);
        assert!(text.lines().nth(1).unwrap().starts_with("pump"), "{text}");
        assert!(text.contains("champion=1"), "{text}");
        assert!(list_text(&[], SCREEN).contains("no models yet"));
    }

    #[test]
    fn a_model_is_named_with_or_without_a_version() {
        assert_eq!("pump".parse::<Named>().unwrap().version, None);
        assert_eq!("pump@champion".parse::<Named>().unwrap().version.as_deref(), Some("champion"));
        assert!("PUMP@1".parse::<Named>().is_err());
    }
}

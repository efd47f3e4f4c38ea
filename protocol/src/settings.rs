//! Settings as people write them: TOML, read strictly, for the agent, the registry and model drafts.
//!
//! Documents are laid over one another (main file, drop-ins, environment) before they are read into a type. A later
//! document replaces values, merges tables and appends to arrays of tables (so a drop-in can add a `[[stream]]`). Types
//! derive `Deserialize` with `deny_unknown_fields`; an unknown key is refused by name, file and line with the nearest known one.
//! Everything here is pure: the caller reads the files.

mod layer;
mod place;
mod quantity;

pub use layer::{Document, layered};
pub use quantity::{DurationText, QuantityError, SizeText, TimeText};

use std::fmt;

use serde::de::DeserializeOwned;

/// A mistake in settings: which key, where, what is wrong, and what may have been meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// The file or variable, as the caller named it.
    pub place: String,
    /// Line in it, from 1, when known.
    pub line: Option<usize>,
    /// The key with the tables around it, as in `registry.broker` or `stream[0].speed`, when known.
    pub key: Option<String>,
    /// What is wrong, as a sentence without its subject.
    pub problem: String,
    /// The known key nearest to an unknown one.
    pub nearest: Option<String>,
}

impl SettingsError {
    /// A mistake that shows only when a checked value is made: `key` is the dotted path, `problem` what is wrong with it.
    pub fn of_key(place: impl Into<String>, key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: place.into(), line: None, key: Some(key.into()), problem: problem.into(), nearest: None }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        match &self.key {
            Some(key) => write!(f, ": `{key}`: {}", self.problem)?,
            None => write!(f, ": {}", self.problem)?,
        }
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean `{nearest}`?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SettingsError {}

/// Reads one document. `place` names it in errors, best as its path.
///
/// # Errors
/// When it is no TOML, has a key that `T` does not know, misses one, or has a value that does not fit.
pub fn from_toml<T: DeserializeOwned>(text: &str, place: &str) -> Result<T, SettingsError> {
    layered(&[Document { place: place.to_owned(), text: text.to_owned() }], [])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        device: String,
        #[serde(default)]
        registry: Option<Registry>,
        #[serde(default)]
        stream: Vec<Stream>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Registry {
        broker: String,
        timeout: Option<DurationText>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Stream {
        name: crate::StreamName,
        speed: Option<f64>,
    }

    fn refused(text: &str) -> SettingsError {
        from_toml::<Sample>(text, "agent.toml").unwrap_err()
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one() {
        let error = refused("device = \"a\"\n\n[registry]\nbrokr = \"x\"\n");
        assert_eq!(error.to_string(), "agent.toml:4: `registry.brokr`: unknown key; did you mean `broker`?");
        let error = refused("device = \"a\"\n[[stream]]\nname = \"s\"\nspeeed = 1.0\n");
        assert_eq!(error.to_string(), "agent.toml:4: `stream[0].speeed`: unknown key; did you mean `speed`?");
    }

    #[test]
    fn a_key_like_nothing_known_names_the_known_ones() {
        let error = refused("device = \"a\"\nzzzzzzzz = 1\n");
        assert_eq!(error.nearest, None);
        assert!(error.to_string().contains("known here: device, registry, stream"), "{error}");
    }

    #[test]
    fn a_value_that_does_not_fit_names_its_key_and_line() {
        let error = refused("device = 5\n");
        assert!(error.to_string().starts_with("agent.toml:1: `device`: "), "{error}");
        let error = refused("device = \"a\"\n[registry]\nbroker = \"b\"\ntimeout = \"5 parsecs\"\n");
        assert!(error.to_string().starts_with("agent.toml:4: `registry.timeout`: `5 parsecs`"), "{error}");
        let error = refused("device = \"a\"\n[[stream]]\nname = \"s\"\n[[stream]]\nname = \"Not So\"\n");
        assert!(error.to_string().starts_with("agent.toml:5: `stream[1].name`: `Not So` is no stream name"), "{error}");
    }

    #[test]
    fn a_missing_key_is_named_with_its_table() {
        let error = refused("device = \"a\"\n[registry]\ntimeout = \"5s\"\n");
        assert_eq!(error.to_string(), "agent.toml:2: `registry.broker`: is missing");
        let error = refused("");
        assert_eq!(error.to_string(), "agent.toml:1: `device`: is missing");
    }

    #[test]
    fn what_is_no_toml_is_refused_with_its_line() {
        let error = refused("device = \"a\"\n[registry\n");
        assert!(error.to_string().starts_with("agent.toml:2: "), "{error}");
        let error = refused("device = \"a\"\ndevice = \"b\"\n");
        assert!(error.to_string().starts_with("agent.toml:2: "), "{error}");
    }

    fn documents() -> Vec<Document> {
        [
            ("agent.toml", "device = \"a\"\n[registry]\nbroker = \"b\"\n[[stream]]\nname = \"s\"\n"),
            ("agent.d/10.toml", "[registry]\ntimeout = \"5s\"\n[[stream]]\nname = \"t\"\n"),
        ]
        .map(|(place, text)| Document { place: place.into(), text: text.into() })
        .into()
    }

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn drop_ins_and_the_environment_lie_over_the_main_file() {
        let environment = variables(&[
            ("VEDETTE_REGISTRY__BROKER", "c"),
            ("VEDETTE__DEVICE", "17"),
            ("VEDETTE_CONFIG", "x"),
            ("VEDETTE_SERVICE_HOST", "10.0.0.1"),
            ("HOME", "/"),
        ]);
        let sample: Sample = layered(&documents(), environment).unwrap();
        assert_eq!(sample.device, "17");
        let registry = sample.registry.unwrap();
        assert_eq!(registry.broker, "c");
        assert_eq!(registry.timeout.unwrap().get(), std::time::Duration::from_secs(5));
        assert_eq!(sample.stream.len(), 2);
    }

    #[test]
    fn a_mistake_in_a_layer_is_blamed_on_that_layer() {
        let mut layers = documents();
        layers.push(Document { place: "agent.d/20.toml".into(), text: "# more\n[registry]\nbrocker = \"d\"\n".into() });
        let error = layered::<Sample>(&layers, []).unwrap_err();
        assert_eq!(error.to_string(), "agent.d/20.toml:3: `registry.brocker`: unknown key; did you mean `broker`?");
        let environment = variables(&[("VEDETTE_REGISTRY__TIMEOUT", "never")]);
        let error = layered::<Sample>(&documents(), environment).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("environment variable VEDETTE_REGISTRY__TIMEOUT: `registry.timeout`: `never`"),
            "{error}"
        );
        let environment = variables(&[("VEDETTE_REGISTRY__BROKR", "x")]);
        let error = layered::<Sample>(&documents(), environment).unwrap_err();
        assert_eq!(
            error.to_string(),
            "environment variable VEDETTE_REGISTRY__BROKR: `registry.brokr`: unknown key; did you mean `broker`?"
        );
    }

    #[test]
    fn a_merge_that_makes_no_sense_is_refused() {
        let mut layers = documents();
        layers.push(Document { place: "agent.d/20.toml".into(), text: "registry = 5\n".into() });
        assert!(layered::<Sample>(&layers, []).is_err());
        let environment = variables(&[("VEDETTE_DEVICE__X", "1")]);
        let error = layered::<Sample>(&documents(), environment).unwrap_err();
        assert!(error.to_string().contains("VEDETTE_DEVICE__X"), "{error}");
    }
}

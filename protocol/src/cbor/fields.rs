//! Reads and writes a map with small integer keys in ascending order: the shape of everything signed or hashed.

use std::iter::Peekable;
use std::vec::IntoIter;

use super::{DecodeError, Value, Wire};

/// The fields of one map, taken in the order of their keys. A key that nobody takes is refused by [`Fields::end`].
#[derive(Debug)]
pub struct Fields {
    what: &'static str,
    rest: Peekable<IntoIter<(Value, Value)>>,
}

impl Fields {
    /// The fields of `value`, which is a map that describes `what`.
    ///
    /// # Errors
    /// When it is no map.
    pub fn of(what: &'static str, value: Value) -> Result<Self, DecodeError> {
        let entries = value.into_map().map_err(|_| DecodeError::content(format!("{what}: not a map")))?;
        Ok(Self { what, rest: entries.into_iter().peekable() })
    }

    /// The value of `key`, called `name` in errors.
    ///
    /// # Errors
    /// When it is not the next key, or not such a value.
    pub fn required<T: Wire>(&mut self, key: u8, name: &str) -> Result<T, DecodeError> {
        let value = self.optional(key, name)?;
        value.ok_or_else(|| DecodeError::content(format!("{}: {name} is missing", self.what)))
    }

    /// The value of `key` when it is the next one.
    ///
    /// # Errors
    /// When it is not such a value.
    pub fn optional<T: Wire>(&mut self, key: u8, name: &str) -> Result<Option<T>, DecodeError> {
        let key = Value::from(key);
        let Some((_, value)) = self.rest.next_if(|(next, _)| *next == key) else {
            return Ok(None);
        };
        T::from_value(value).map(Some).map_err(|error| self.inside(name, error))
    }

    /// Nothing is left.
    ///
    /// # Errors
    /// When a key is unknown, doubled or out of order.
    pub fn end(mut self) -> Result<(), DecodeError> {
        match self.rest.next() {
            None => Ok(()),
            Some((Value::Integer(key), _)) => {
                let key = i128::from(key);
                Err(DecodeError::content(format!("{}: key {key} is unknown, doubled or out of order", self.what)))
            }
            Some(_) => Err(DecodeError::content(format!("{}: a key is no whole number", self.what))),
        }
    }

    fn inside(&self, name: &str, error: DecodeError) -> DecodeError {
        match error {
            DecodeError::Content(problem) => DecodeError::Content(format!("{}.{name}: {problem}", self.what)),
            other @ (DecodeError::TooLong { .. }
            | DecodeError::TooDeep
            | DecodeError::Malformed { .. }
            | DecodeError::NotCanonical) => other,
        }
    }
}

/// Writes what [`Fields`] reads. Keys are given in ascending order.
#[derive(Debug, Default)]
pub struct FieldsWriter {
    entries: Vec<(Value, Value)>,
}

impl FieldsWriter {
    /// A map with nothing in it yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a field.
    #[must_use]
    pub fn with<T: Wire>(mut self, key: u8, value: &T) -> Self {
        self.entries.push((Value::from(key), value.to_value()));
        self
    }

    /// Adds a field when there is something to say.
    #[must_use]
    pub fn with_some<T: Wire>(self, key: u8, value: Option<&T>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// The map.
    #[must_use]
    pub fn end(self) -> Value {
        Value::Map(self.entries)
    }
}

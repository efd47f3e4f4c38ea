//! Names and numbers for classes.

/// `classlabels_*`: what a classifier may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Labels {
    Ints(Vec<i64>),
    Strings(Vec<String>),
}

impl Default for Labels {
    fn default() -> Labels {
        Labels::Ints(Vec::new())
    }
}

impl Labels {
    pub(crate) fn len(&self) -> usize {
        match self {
            Labels::Ints(ints) => ints.len(),
            Labels::Strings(strings) => strings.len(),
        }
    }

    /// The label of a class: the number itself, or for strings the class, which indexes them. 0 beyond the last.
    pub(crate) fn of(&self, class: usize) -> i64 {
        match self {
            Labels::Ints(ints) => ints.get(class).copied().unwrap_or(0),
            Labels::Strings(strings) => {
                if class < strings.len() {
                    class as i64
                } else {
                    0
                }
            }
        }
    }
}

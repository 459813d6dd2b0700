//! Which params, tags and metrics of runs are wanted.

use std::collections::BTreeSet;

/// Keys that are wanted.
#[derive(Debug)]
pub(super) enum Keys {
    All,
    Some(BTreeSet<String>),
}

impl Default for Keys {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

impl Keys {
    /// Whether the key is wanted.
    pub(super) fn hold(&self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(keys) => keys.contains(key),
        }
    }

    /// Adds one key; `None` is all of them.
    pub(super) fn add(&mut self, key: Option<String>) {
        match (&mut *self, key) {
            (Self::All, _) => {}
            (_, None) => *self = Self::All,
            (Self::Some(keys), Some(key)) => {
                keys.insert(key);
            }
        }
    }
}

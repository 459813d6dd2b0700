//! Which params, tags and metrics of runs are wanted.

use std::collections::BTreeSet;

use sea_orm::{ColumnTrait, Condition};

/// Keys that are wanted.
#[derive(Debug)]
pub(crate) enum Keys {
    All,
    Some(BTreeSet<String>),
}

impl Default for Keys {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

impl Keys {
    /// The condition on the column that holds the key.
    pub(crate) fn condition(&self, column: impl ColumnTrait) -> Condition {
        match self {
            Self::All => Condition::all(),
            Self::Some(keys) => Condition::all().add(column.is_in(keys.iter().map(String::as_str))),
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

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Some(keys) if keys.is_empty())
    }
}

//! The online store: the newest row per view and key, and reads from it.
//!
//! Invariant: a row never replaces a newer one, by event time, then by the time it was written, then by who comes last; the
//! same order in which [`super::asof`] ranks rows. Rows of another origin (source, keys) or layout (features) are never
//! misread. This module must not know where rows come from.

mod embedded;
mod key;
mod read;
mod row;
mod value;

use std::fmt;

use futures::future::BoxFuture;
use uuid::Uuid;

use super::definitions::View;
use crate::error::Result;

pub(super) use embedded::EmbeddedStore;
pub(super) use key::KeyEncoder;
pub(super) use read::{key_encoder, not_online, read};
pub(super) use row::{Row, encode_rows};

/// A place for online rows. Calls may come from any number of tasks at once.
pub(super) trait OnlineStore: Send + Sync + fmt::Debug {
    /// The rows of these keys, in their order.
    fn read(
        &self,
        table: &TableId,
        keys: Vec<Vec<u8>>,
    ) -> BoxFuture<'static, Result<Vec<Option<Row>>>>;

    /// Stores each row that is not older than what is there for its key. All or nothing.
    fn write(&self, table: &TableId, rows: Vec<(Vec<u8>, Row)>) -> BoxFuture<'static, Result<()>>;

    /// What the features of a layout are called, and their types.
    fn layout(&self, table: &TableId, layout: u64) -> BoxFuture<'static, Result<Option<Layout>>>;

    /// Takes note of a layout.
    fn put_layout(&self, table: &TableId, layout: Layout) -> BoxFuture<'static, Result<()>>;
}

/// Identifies the rows of one view.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct TableId {
    /// Project.
    pub(super) project: Uuid,
    /// View.
    pub(super) view: String,
    /// Where its rows come from; rows of another origin count as not there.
    pub(super) origin: u64,
}

impl TableId {
    /// The table of a view.
    pub(super) fn of(project: Uuid, view: &View) -> Self {
        Self {
            project,
            view: view.definition.name.clone(),
            origin: digest(&[&view.origin]),
        }
    }
}

/// The features that a stored row has, in its order: name and Arrow type.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Layout(pub(super) Vec<(String, String)>);

impl Layout {
    /// All features of a view.
    pub(super) fn of(view: &View) -> Self {
        let features = view.definition.features.iter();
        Self(
            features
                .map(|f| (f.name.clone(), f.data_type.clone()))
                .collect(),
        )
    }

    /// Identifies the layout.
    pub(super) fn id(&self) -> u64 {
        let parts: Vec<&str> = self
            .0
            .iter()
            .flat_map(|(name, data_type)| [name.as_str(), data_type.as_str()])
            .collect();
        digest(&parts)
    }
}

/// What the watermark of a view belongs to: with another origin or layout, materialization begins anew.
pub(super) fn shape(view: &View) -> String {
    format!("{}-{:016x}", view.origin, Layout::of(view).id())
}

fn digest(parts: &[&str]) -> u64 {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let bytes = hash.finalize();
    bytes[..8]
        .iter()
        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

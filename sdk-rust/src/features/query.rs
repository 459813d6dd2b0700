//! What a historical retrieval asks for: features, the way they are joined, and the entity rows.
//!
//! Invariant: a query is only described here; what it means is the server's business, but for what cannot be sent at all.

use std::{collections::BTreeMap, fmt, time::SystemTime};

use arrow::{
    array::{RecordBatch, RecordBatchIterator, RecordBatchReader},
    datatypes::SchemaRef,
};
use mlplat_proto::features::v1 as pb;

use crate::{
    convert::{range, system_time, timestamp},
    error::{Error, Result},
};

/// Which rows count as known at the time of an entity row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KnownAt {
    /// A row counts from its event time.
    #[default]
    Event,
    /// A row counts only once it was written too, so that late corrections do not leak into the past.
    Entity,
}

/// A view joined under other key columns, and under a name of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewAlias {
    /// Name that the query uses in `name:feature`.
    pub name: String,
    /// The feature view.
    pub feature_view: String,
    /// Key column of the view -> column of the entity table.
    pub join_keys: BTreeMap<String, String>,
}

impl ViewAlias {
    /// The view under another name; keys that are not renamed keep theirs.
    pub fn new(name: impl Into<String>, feature_view: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            feature_view: feature_view.into(),
            join_keys: BTreeMap::new(),
        }
    }

    /// Takes a key of the view from this column of the entity table.
    #[must_use]
    pub fn join_key(mut self, key: impl Into<String>, column: impl Into<String>) -> Self {
        self.join_keys.insert(key.into(), column.into());
        self
    }

    pub(super) fn into_proto(self) -> pb::ViewAlias {
        pb::ViewAlias {
            name: self.name,
            feature_view: self.feature_view,
            join_keys: self.join_keys.into_iter().collect(),
        }
    }
}

/// What a source was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSnapshot {
    /// Name of the source.
    pub source: String,
    /// Its files, by path.
    pub files: Vec<FileSnapshot>,
}

/// What a file was when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSnapshot {
    /// Path or `s3://` address.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Modification time.
    pub modified_at: Option<SystemTime>,
    /// ETag where the store gives one; else empty.
    pub etag: String,
}

impl From<SourceSnapshot> for pb::SourceSnapshot {
    fn from(s: SourceSnapshot) -> Self {
        let file = |f: FileSnapshot| pb::FileSnapshot {
            path: f.path,
            size_bytes: f.size_bytes,
            modified_at: f.modified_at.map(timestamp),
            etag: f.etag,
        };
        Self {
            source: s.source,
            files: s.files.into_iter().map(file).collect(),
        }
    }
}

impl From<pb::SourceSnapshot> for SourceSnapshot {
    fn from(s: pb::SourceSnapshot) -> Self {
        let file = |f: pb::FileSnapshot| FileSnapshot {
            path: f.path,
            size_bytes: f.size_bytes,
            modified_at: f.modified_at.map(system_time),
            etag: f.etag,
        };
        Self {
            source: s.source,
            files: s.files.into_iter().map(file).collect(),
        }
    }
}

/// Which features to read, and how.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct HistoricalQuery {
    pub(super) message: pb::HistoricalFeaturesQuery,
}

impl HistoricalQuery {
    /// Features as `view:feature`, or the name of one feature service.
    pub fn new<S: Into<String>>(features: impl IntoIterator<Item = S>) -> Self {
        let features = features.into_iter().map(Into::into).collect();
        Self {
            message: pb::HistoricalFeaturesQuery {
                features,
                ..Default::default()
            },
        }
    }

    /// Adds features, as in [`HistoricalQuery::new`].
    pub fn features<S: Into<String>>(mut self, features: impl IntoIterator<Item = S>) -> Self {
        self.message
            .features
            .extend(features.into_iter().map(Into::into));
        self
    }

    /// Column of the entity table with the time of each row.
    pub fn timestamp(mut self, column: impl Into<String>) -> Self {
        self.message.timestamp_column = column.into();
        self
    }

    /// Which rows count as known; default from their event time.
    pub fn known_at(mut self, known_at: KnownAt) -> Self {
        self.message.known_at = match known_at {
            KnownAt::Event => pb::KnownAt::Event,
            KnownAt::Entity => pb::KnownAt::Entity,
        }
        .into();
        self
    }

    /// Whether result columns are named `view__feature`; default false.
    pub fn full_names(mut self, full_names: bool) -> Self {
        self.message.full_names = full_names;
        self
    }

    /// Adds a view under other keys.
    pub fn alias(mut self, alias: ViewAlias) -> Self {
        self.message.aliases.push(alias.into_proto());
        self
    }

    /// Instead of an entity table: the rows of the one view that is named whose event time is in the window, both ends
    /// inclusive, both optional (but not both left out).
    pub fn window(mut self, start: Option<SystemTime>, end: Option<SystemTime>) -> Self {
        self.message.window = range(start, end);
        self
    }

    /// Instead of an entity table: the rows of this query over the sources and views of the project.
    pub fn sql(mut self, query: impl Into<String>) -> Self {
        self.message.entity_sql = query.into();
        self
    }

    /// What the sources must still be, from an earlier [`TrainingSet`](super::TrainingSet).
    pub fn snapshots(mut self, snapshots: impl IntoIterator<Item = SourceSnapshot>) -> Self {
        self.message.snapshots = snapshots.into_iter().map(Into::into).collect();
        self
    }

    /// The run that reads; the training set becomes its input in the lineage.
    pub fn run(mut self, run_id: impl Into<String>) -> Self {
        self.message.run_id = run_id.into();
        self
    }

    /// Name of the training set in the lineage.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.message.name = name.into();
        self
    }
}

/// The entity rows to join features to.
pub enum Entities {
    /// None: the query has a window or SQL instead.
    None,
    /// A reader, taken batch by batch while the result comes in. It may block.
    Reader(Box<dyn RecordBatchReader + Send>),
}

impl Entities {
    /// A table in memory.
    pub fn batches(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self::Reader(Box::new(RecordBatchIterator::new(
            batches.into_iter().map(Ok),
            schema,
        )))
    }
}

impl From<RecordBatch> for Entities {
    fn from(batch: RecordBatch) -> Self {
        Self::batches(batch.schema(), vec![batch])
    }
}

impl From<Box<dyn RecordBatchReader + Send>> for Entities {
    fn from(reader: Box<dyn RecordBatchReader + Send>) -> Self {
        Self::Reader(reader)
    }
}

impl fmt::Debug for Entities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("Entities::None"),
            Self::Reader(reader) => write!(f, "Entities::Reader({:?})", reader.schema()),
        }
    }
}

/// The entity rows must come from exactly one place.
pub(super) fn check_entities(
    entities: &Entities,
    query: &pb::HistoricalFeaturesQuery,
) -> Result<()> {
    let instead = query.window.is_some() || !query.entity_sql.is_empty();
    match entities {
        Entities::None if !instead => Err(Error::misuse(
            "there are no entity rows: give a table, a SQL query, or a window of time (start, end)",
        )),
        Entities::Reader(_) if instead => Err(Error::misuse(
            "give either an entity table, or a SQL query or window of time in its place, not both",
        )),
        Entities::Reader(_) if query.timestamp_column.is_empty() => Err(Error::misuse(
            "which column of the entity table has the time of each row? name it with `timestamp`",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;

    use super::*;

    #[test]
    fn the_entity_rows_come_from_one_place() {
        let table = || Entities::batches(Arc::new(Schema::empty()), vec![]);
        let query = || HistoricalQuery::new(["weather:temp"]);
        let check =
            |entities: &Entities, query: HistoricalQuery| check_entities(entities, &query.message);
        assert!(check(&Entities::None, query()).is_err());
        assert!(check(&table(), query()).is_err());
        assert!(check(&table(), query().timestamp("t")).is_ok());
        assert!(check(&table(), query().timestamp("t").sql("SELECT 1")).is_err());
        assert!(check(&Entities::None, query().sql("SELECT 1")).is_ok());
        assert!(
            check(
                &Entities::None,
                query().window(Some(SystemTime::now()), None)
            )
            .is_ok()
        );
    }
}

//! Features: the semantics, through the API.

mod golden;
mod properties;
mod refusals;

use std::{path::Path, sync::Arc, time::Duration};

use arrow::{
    array::{ArrayRef, RecordBatch, TimestampMicrosecondArray},
    compute::concat_batches,
};
use mlplat::{
    Client,
    features::{ApplyOptions, Definitions, Entity, FeatureView, ParquetSource, TrainingSet},
};

/// A day.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// A table from named columns.
pub(crate) fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(
        columns
            .into_iter()
            .map(|(name, column)| (name, column, true)),
    )
    .expect("a table")
}

/// Instants from `2026-01-02T03:04:05.000006Z`; empty text is null.
pub(crate) fn instants(texts: &[&str]) -> ArrayRef {
    let micros = texts.iter().map(|text| match *text {
        "" => None,
        text => Some(
            mlplat_server::clock::Timestamp::parse(text)
                .expect("a time")
                .micros(),
        ),
    });
    Arc::new(
        micros
            .collect::<TimestampMicrosecondArray>()
            .with_timezone("UTC"),
    )
}

/// Applies one view over a Parquet file that is written here: keys `keys`, event time `event`, created time `created`.
pub(crate) async fn apply_view(
    client: &Client,
    folder: &Path,
    name: &str,
    rows: &RecordBatch,
    keys: &[&str],
    ttl: Option<Duration>,
) {
    let path = folder.join(format!("{name}.parquet"));
    mlplat_tests::parquet::write(&path, rows);
    let mut source = ParquetSource::new(path.display().to_string());
    if rows.column_by_name("event").is_some() {
        source = source.timestamp("event");
    }
    if rows.column_by_name("created").is_some() {
        source = source.created("created");
    }
    let entity = format!("{name}_entity");
    let mut view = FeatureView::new(name, name);
    let mut definitions = Definitions::new().with(source);
    if !keys.is_empty() {
        definitions = definitions.with(Entity::new(&entity, keys.iter().copied()));
        view = view.entities([entity]);
    }
    if let Some(ttl) = ttl {
        view = view.ttl(ttl);
    }
    client
        .features()
        .apply(definitions.with(view), ApplyOptions::default())
        .await
        .expect("applied");
}

/// The whole result as one table.
pub(crate) fn whole(result: &TrainingSet) -> RecordBatch {
    concat_batches(&result.schema, &result.batches).expect("one table")
}

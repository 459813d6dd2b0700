//! What applying a view means for the lineage: a run of its own job, from the sources to the view.

use std::collections::BTreeSet;

use mlplat_proto::features::v1::source::Location;
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::{
    Catalog,
    names::split,
    plan::{Dependency, Found},
};
use crate::{
    auth::Scope,
    clock::Timestamp,
    error::Result,
    lineage::{self, Dataset, EventType, Names, RunEvent},
};

/// What a view rests on: its source, and all sources and views that the queries below it name.
pub(super) fn inputs_of(
    names: &Names,
    catalog: &Catalog,
    found: &Found,
    view: &str,
) -> Vec<Dataset> {
    if let Some(computed) = catalog.on_demand_views.get(view) {
        let read: BTreeSet<&str> = computed
            .inputs
            .iter()
            .filter_map(|input| Some(split(input)?.0))
            .collect();
        let read = read.into_iter();
        return read
            .filter_map(|view| Some(names.feature_view(view, catalog.views.get(view)?.version())))
            .collect();
    }
    let Some(view) = catalog.views.get(view) else {
        return Vec::new();
    };
    found
        .references
        .closure(&view.definition.source)
        .iter()
        .filter_map(|dependency| match dependency {
            Dependency::Source(source) => Some(source_dataset(names, catalog, found, source)),
            Dependency::View(view) => {
                let version = catalog.views.get(view)?.version();
                Some(names.feature_view(view, version))
            }
        })
        .collect()
}

/// A source as it was found: files with their digest, so that a retrieval that reads the same ones reads the same dataset.
fn source_dataset(names: &Names, catalog: &Catalog, found: &Found, source: &str) -> Dataset {
    let defined = catalog.sources.get(source);
    match defined.and_then(|source| source.location.as_ref()) {
        Some(Location::Parquet(files)) => {
            let digest = found.digests.get(source).map(String::as_str);
            names
                .file_source(&files.uri, digest)
                .also_known_as(&names.sql_source(source, None))
        }
        Some(Location::Sql(_)) | None => {
            let version = defined
                .and_then(|source| source.info.as_ref())
                .map(|info| info.version.to_string());
            names.sql_source(source, version.as_deref())
        }
    }
}

/// Records that a view got a version.
pub(super) async fn record_applied(
    connection: &impl ConnectionTrait,
    scope: &Scope,
    names: &Names,
    inputs: Vec<Dataset>,
    view: (&str, u32),
    now: Timestamp,
) -> Result<()> {
    let (name, version) = view;
    let run_id = Uuid::now_v7();
    let outputs = vec![names.feature_view(name, version)];
    for event_type in [EventType::Start, EventType::Complete] {
        let event = RunEvent::new(event_type, run_id, names.apply(name), now)
            .inputs(inputs.clone())
            .outputs(outputs.clone());
        lineage::store::record(connection, scope, &event, now).await?;
    }
    Ok(())
}

//! What applying a view means for the lineage: a run of its own job, from the sources to the view.

use mlplat_proto::features::v1::source::Location;
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::Catalog;
use crate::{
    auth::Scope,
    clock::Timestamp,
    error::Result,
    lineage::{self, Dataset, EventType, Names, RunEvent},
};

/// The dataset of a source as it is defined, whatever its files hold.
pub(in crate::features) fn source_dataset(
    names: &Names,
    catalog: &Catalog,
    source: &str,
) -> Dataset {
    let defined = catalog.sources.get(source);
    let by_name = names.sql_source(source, None);
    match defined.and_then(|source| source.location.as_ref()) {
        Some(Location::Parquet(files)) => {
            names.file_source(&files.uri, None).also_known_as(&by_name)
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
    catalog: &Catalog,
    view: (&str, u32),
    now: Timestamp,
) -> Result<()> {
    let (name, version) = view;
    let run_id = Uuid::now_v7();
    let source = catalog.views.get(name).map(|view| &view.definition.source);
    let inputs = source
        .map(|source| source_dataset(names, catalog, source))
        .into_iter()
        .collect::<Vec<_>>();
    let outputs = vec![names.feature_view(name, version)];
    for event_type in [EventType::Start, EventType::Complete] {
        let event = RunEvent::new(event_type, run_id, names.apply(name), now)
            .inputs(inputs.clone())
            .outputs(outputs.clone());
        lineage::store::record(connection, scope, &event, now).await?;
    }
    Ok(())
}

//! The bytes of artifacts that neither a record nor a model version names.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use sea_orm::DatabaseTransaction;
use uuid::Uuid;

use crate::{app::App, auth::Scope, catalogue::store as catalogue, error::Result, tracking};

/// Removes them, in one project or in all; the answer is how many contents went.
pub(super) async fn collect(app: &App, project: Option<Uuid>) -> Result<u64> {
    tracking::collect_orphans(app, project, captured).await
}

/// How many contents no record of the project names; those of model versions among them stay.
pub(super) async fn count(app: &App, scope: &Scope) -> Result<u64> {
    tracking::count_orphans(app, scope).await
}

fn captured<'a>(
    txn: &'a DatabaseTransaction,
    project_id: Uuid,
    digests: &'a [String],
) -> BoxFuture<'a, Result<BTreeSet<String>>> {
    Box::pin(async move {
        let scope = Scope::of_server_in(project_id);
        catalogue::captured_digests(txn, &scope, digests).await
    })
}

/// Collects again and again, as the settings say; ends never. To be dropped when the server stops.
pub(crate) async fn collect_orphans_forever(app: Arc<App>) {
    let every = Duration::from_secs(app.config.artifacts.collect_every_s);
    if every.is_zero() {
        return;
    }
    loop {
        tokio::time::sleep(every).await;
        match collect(&app, None).await {
            Ok(0) => {}
            Ok(contents) => tracing::info!(contents, "removed bytes that nothing led to"),
            Err(error) => {
                tracing::warn!(error = format!("{error:?}"), "bytes could not be collected");
            }
        }
    }
}

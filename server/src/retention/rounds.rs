//! The collections that the server makes by itself.

use std::{sync::Arc, time::Duration};

use super::{collect, days_before};
use crate::{
    admin::store as admin,
    app::App,
    auth::{Action, Caller},
    error::Result,
};

/// After the start, and between two rounds. Several replicas may do it at once; each finds less to do.
const FIRST: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(3600);

/// Collects in every project, again and again; ends never. To be dropped when the server stops: what is under way is rolled
/// back, or goes on in the next round.
pub(crate) async fn rounds(app: Arc<App>) {
    let mut pause = FIRST;
    loop {
        tokio::time::sleep(pause).await;
        pause = PAUSE;
        if let Err(error) = round(&app).await {
            tracing::warn!(%error, "what was deleted could not be collected; the next round tries again");
        }
    }
}

async fn round(app: &App) -> Result<()> {
    let cutoff = days_before(app.now(), app.config.tracking.deleted_retention_days);
    for project in admin::project_names(app.db.read()).await? {
        let server = Caller::local_owner();
        let scope = server
            .authorize(app, Action::ManageProject, &project)
            .await?;
        let collected = collect(app, &scope, cutoff, false).await?;
        if collected.runs + collected.experiments + collected.objects > 0 {
            tracing::info!(project, ?collected, "collected what was deleted");
        }
    }
    Ok(())
}

//! LogBatch: points, params and tags of one run, stored all or not at all, together with what others send at the same time.

use mlplat_proto::tracking::v1 as pb;
use tonic::Request;

use super::{convert::NewBatch, group::Job, queue::LogQueue};
use crate::{
    app::App,
    auth::{Action, Caller},
    error::{Error, Result},
    request,
};

/// Up to this many points are prepared at once; more go to a thread of their own, for that takes milliseconds.
const POINTS_IN_PLACE: usize = 4096;

/// Stores a batch.
pub(crate) async fn log_batch(
    app: &App,
    queue: &LogQueue,
    request: Request<pb::LogBatchRequest>,
) -> Result<pb::LogBatchResponse> {
    let caller = Caller::of(&request)?;
    let message = request.into_inner();
    let project = request::project_name(&message.project);
    let _memory = queue.reserve(size(&message)).await?;
    let batch = NewBatch::parse(message, app.now())?;
    let scope = caller.authorize(app, Action::WriteRuns, &project).await?;

    let batch = if batch.points <= POINTS_IN_PLACE {
        batch.prepare()
    } else {
        tokio::task::spawn_blocking(move || batch.prepare())
            .await
            .map_err(Error::internal)?
    };
    queue.store(Job { scope, batch }).await
}

/// About how much memory the message takes.
fn size(message: &pb::LogBatchRequest) -> usize {
    let points: usize = message.metrics.iter().map(|s| s.values.len()).sum();
    let texts = message.params.iter().chain(&message.tags);
    points * 24
        + texts
            .map(|(key, value)| key.len() + value.len())
            .sum::<usize>()
}

//! TrackingService over gRPC: each call goes to the module of its resource.

use std::sync::Arc;

use mlplat_proto::tracking::v1 as pb;
use tonic::{Request, Response, Status};

use super::{
    experiments, inputs,
    metrics::{self, CompactorHandle, LogQueue},
    runs,
};
use crate::app::App;

/// The service.
#[derive(Debug, Clone)]
pub struct Tracking {
    app: Arc<App>,
    queue: LogQueue,
    compactor: CompactorHandle,
}

impl Tracking {
    /// The service over `app`.
    pub(super) fn new(app: Arc<App>, queue: LogQueue, compactor: CompactorHandle) -> Self {
        Self {
            app,
            queue,
            compactor,
        }
    }
}

#[tonic::async_trait]
impl pb::tracking_service_server::TrackingService for Tracking {
    type ReadMetricHistoryStream = metrics::HistoryStream;

    async fn create_experiment(
        &self,
        request: Request<pb::CreateExperimentRequest>,
    ) -> Result<Response<pb::CreateExperimentResponse>, Status> {
        Ok(Response::new(
            experiments::create_experiment(&self.app, request).await?,
        ))
    }

    async fn get_experiment(
        &self,
        request: Request<pb::GetExperimentRequest>,
    ) -> Result<Response<pb::GetExperimentResponse>, Status> {
        Ok(Response::new(
            experiments::get_experiment(&self.app, request).await?,
        ))
    }

    async fn list_experiments(
        &self,
        request: Request<pb::ListExperimentsRequest>,
    ) -> Result<Response<pb::ListExperimentsResponse>, Status> {
        Ok(Response::new(
            experiments::list_experiments(&self.app, request).await?,
        ))
    }

    async fn update_experiment(
        &self,
        request: Request<pb::UpdateExperimentRequest>,
    ) -> Result<Response<pb::UpdateExperimentResponse>, Status> {
        Ok(Response::new(
            experiments::update_experiment(&self.app, request).await?,
        ))
    }

    async fn delete_experiment(
        &self,
        request: Request<pb::DeleteExperimentRequest>,
    ) -> Result<Response<pb::DeleteExperimentResponse>, Status> {
        Ok(Response::new(
            experiments::delete_experiment(&self.app, request).await?,
        ))
    }

    async fn restore_experiment(
        &self,
        request: Request<pb::RestoreExperimentRequest>,
    ) -> Result<Response<pb::RestoreExperimentResponse>, Status> {
        Ok(Response::new(
            experiments::restore_experiment(&self.app, request).await?,
        ))
    }

    async fn create_run(
        &self,
        request: Request<pb::CreateRunRequest>,
    ) -> Result<Response<pb::CreateRunResponse>, Status> {
        Ok(Response::new(runs::create_run(&self.app, request).await?))
    }

    async fn get_run(
        &self,
        request: Request<pb::GetRunRequest>,
    ) -> Result<Response<pb::GetRunResponse>, Status> {
        Ok(Response::new(runs::get_run(&self.app, request).await?))
    }

    async fn update_run(
        &self,
        request: Request<pb::UpdateRunRequest>,
    ) -> Result<Response<pb::UpdateRunResponse>, Status> {
        Ok(Response::new(runs::update_run(&self.app, request).await?))
    }

    async fn end_run(
        &self,
        request: Request<pb::EndRunRequest>,
    ) -> Result<Response<pb::EndRunResponse>, Status> {
        let ended = runs::end_run(&self.app, &self.compactor, request).await?;
        Ok(Response::new(ended))
    }

    async fn delete_runs(
        &self,
        request: Request<pb::DeleteRunsRequest>,
    ) -> Result<Response<pb::DeleteRunsResponse>, Status> {
        Ok(Response::new(runs::delete_runs(&self.app, request).await?))
    }

    async fn restore_runs(
        &self,
        request: Request<pb::RestoreRunsRequest>,
    ) -> Result<Response<pb::RestoreRunsResponse>, Status> {
        Ok(Response::new(runs::restore_runs(&self.app, request).await?))
    }

    async fn move_runs(
        &self,
        request: Request<pb::MoveRunsRequest>,
    ) -> Result<Response<pb::MoveRunsResponse>, Status> {
        Ok(Response::new(runs::move_runs(&self.app, request).await?))
    }

    async fn delete_params_and_tags(
        &self,
        request: Request<pb::DeleteParamsAndTagsRequest>,
    ) -> Result<Response<pb::DeleteParamsAndTagsResponse>, Status> {
        Ok(Response::new(
            runs::delete_params_and_tags(&self.app, request).await?,
        ))
    }

    async fn log_inputs(
        &self,
        request: Request<pb::LogInputsRequest>,
    ) -> Result<Response<pb::LogInputsResponse>, Status> {
        Ok(Response::new(inputs::log_inputs(&self.app, request).await?))
    }

    async fn resume_run(
        &self,
        request: Request<pb::ResumeRunRequest>,
    ) -> Result<Response<pb::ResumeRunResponse>, Status> {
        Ok(Response::new(runs::resume_run(&self.app, request).await?))
    }

    async fn heartbeat_runs(
        &self,
        request: Request<pb::HeartbeatRunsRequest>,
    ) -> Result<Response<pb::HeartbeatRunsResponse>, Status> {
        Ok(Response::new(
            runs::heartbeat_runs(&self.app, request).await?,
        ))
    }

    async fn search_runs(
        &self,
        request: Request<pb::SearchRunsRequest>,
    ) -> Result<Response<pb::SearchRunsResponse>, Status> {
        Ok(Response::new(runs::search_runs(&self.app, request).await?))
    }

    async fn log_batch(
        &self,
        request: Request<pb::LogBatchRequest>,
    ) -> Result<Response<pb::LogBatchResponse>, Status> {
        let logged = metrics::log_batch(&self.app, &self.queue, request).await?;
        Ok(Response::new(logged))
    }

    async fn read_metric_history(
        &self,
        request: Request<pb::ReadMetricHistoryRequest>,
    ) -> Result<Response<metrics::HistoryStream>, Status> {
        Ok(Response::new(
            metrics::read_metric_history(&self.app, &self.compactor, request).await?,
        ))
    }
}

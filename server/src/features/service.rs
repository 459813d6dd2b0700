//! FeatureStoreService over gRPC.

use std::sync::Arc;

use futures::{StreamExt as _, stream::BoxStream};
use mlplat_proto::features::v1 as pb;
use tonic::{Request, Response, Status};

use super::{
    Features,
    definitions::{View, apply::apply, read},
    materialize::materialize,
    online,
};
use crate::auth::Caller;

/// The service.
#[derive(Debug, Clone)]
pub struct FeatureStore {
    features: Arc<Features>,
}

impl FeatureStore {
    /// The service over `features`.
    pub fn new(features: Arc<Features>) -> Self {
        Self { features }
    }
}

/// The handlers that read definitions are the same for every kind.
macro_rules! get {
    ($self:ident, $request:ident, $kind:ty, $version:expr) => {{
        let caller = Caller::of(&$request)?;
        let message = $request.into_inner();
        let version = $version(&message);
        let app = &$self.features.app;
        read::get::<$kind>(app, &caller, &message.project, &message.name, version).await?
    }};
}

macro_rules! list {
    ($self:ident, $request:ident, $kind:ty) => {{
        let caller = Caller::of(&$request)?;
        let message = $request.into_inner();
        let app = &$self.features.app;
        let (project, token) = (&message.project, &message.page_token);
        read::list::<$kind>(app, &caller, project, message.page_size, token).await?
    }};
}

#[tonic::async_trait]
impl pb::feature_store_service_server::FeatureStoreService for FeatureStore {
    type MaterializeStream = BoxStream<'static, Result<pb::MaterializeResponse, Status>>;

    async fn apply(
        &self,
        request: Request<pb::ApplyRequest>,
    ) -> Result<Response<pb::ApplyResponse>, Status> {
        let caller = Caller::of(&request)?;
        let response = apply(&self.features, &caller, request.into_inner()).await?;
        Ok(Response::new(response))
    }

    async fn get_entity(
        &self,
        request: Request<pb::GetEntityRequest>,
    ) -> Result<Response<pb::GetEntityResponse>, Status> {
        let entity = get!(self, request, pb::Entity, |_: &_| 0);
        Ok(Response::new(pb::GetEntityResponse {
            entity: Some(entity),
        }))
    }

    async fn list_entities(
        &self,
        request: Request<pb::ListEntitiesRequest>,
    ) -> Result<Response<pb::ListEntitiesResponse>, Status> {
        let (entities, next_page_token) = list!(self, request, pb::Entity);
        Ok(Response::new(pb::ListEntitiesResponse {
            entities,
            next_page_token,
        }))
    }

    async fn get_source(
        &self,
        request: Request<pb::GetSourceRequest>,
    ) -> Result<Response<pb::GetSourceResponse>, Status> {
        let source = get!(self, request, pb::Source, |_: &_| 0);
        Ok(Response::new(pb::GetSourceResponse {
            source: Some(source),
        }))
    }

    async fn list_sources(
        &self,
        request: Request<pb::ListSourcesRequest>,
    ) -> Result<Response<pb::ListSourcesResponse>, Status> {
        let (sources, next_page_token) = list!(self, request, pb::Source);
        Ok(Response::new(pb::ListSourcesResponse {
            sources,
            next_page_token,
        }))
    }

    async fn get_feature_view(
        &self,
        request: Request<pb::GetFeatureViewRequest>,
    ) -> Result<Response<pb::GetFeatureViewResponse>, Status> {
        let view = get!(
            self,
            request,
            View,
            |message: &pb::GetFeatureViewRequest| { message.version }
        );
        Ok(Response::new(pb::GetFeatureViewResponse {
            feature_view: Some(view.definition),
        }))
    }

    async fn list_feature_views(
        &self,
        request: Request<pb::ListFeatureViewsRequest>,
    ) -> Result<Response<pb::ListFeatureViewsResponse>, Status> {
        let (views, next_page_token) = list!(self, request, View);
        Ok(Response::new(pb::ListFeatureViewsResponse {
            feature_views: views.into_iter().map(|view| view.definition).collect(),
            next_page_token,
        }))
    }

    async fn get_on_demand_feature_view(
        &self,
        request: Request<pb::GetOnDemandFeatureViewRequest>,
    ) -> Result<Response<pb::GetOnDemandFeatureViewResponse>, Status> {
        let view = get!(self, request, pb::OnDemandFeatureView, |_: &_| 0);
        Ok(Response::new(pb::GetOnDemandFeatureViewResponse {
            on_demand_feature_view: Some(view),
        }))
    }

    async fn list_on_demand_feature_views(
        &self,
        request: Request<pb::ListOnDemandFeatureViewsRequest>,
    ) -> Result<Response<pb::ListOnDemandFeatureViewsResponse>, Status> {
        let (on_demand_feature_views, next_page_token) =
            list!(self, request, pb::OnDemandFeatureView);
        Ok(Response::new(pb::ListOnDemandFeatureViewsResponse {
            on_demand_feature_views,
            next_page_token,
        }))
    }

    async fn get_feature_service(
        &self,
        request: Request<pb::GetFeatureServiceRequest>,
    ) -> Result<Response<pb::GetFeatureServiceResponse>, Status> {
        let service = get!(self, request, pb::FeatureService, |_: &_| 0);
        Ok(Response::new(pb::GetFeatureServiceResponse {
            feature_service: Some(service),
        }))
    }

    async fn list_feature_services(
        &self,
        request: Request<pb::ListFeatureServicesRequest>,
    ) -> Result<Response<pb::ListFeatureServicesResponse>, Status> {
        let (feature_services, next_page_token) = list!(self, request, pb::FeatureService);
        Ok(Response::new(pb::ListFeatureServicesResponse {
            feature_services,
            next_page_token,
        }))
    }

    async fn materialize(
        &self,
        request: Request<pb::MaterializeRequest>,
    ) -> Result<Response<Self::MaterializeStream>, Status> {
        let caller = Caller::of(&request)?;
        let reports = materialize(&self.features, &caller, request.into_inner()).await?;
        Ok(Response::new(reports.boxed()))
    }

    async fn get_online_features(
        &self,
        request: Request<pb::GetOnlineFeaturesRequest>,
    ) -> Result<Response<pb::GetOnlineFeaturesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let response = online::read(&self.features, &caller, request.into_inner()).await?;
        Ok(Response::new(response))
    }
}

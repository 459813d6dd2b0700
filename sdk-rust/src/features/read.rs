//! Reading definitions back, one or all.

use mlplat_proto::features::v1 as pb;

use super::{
    Entity, FeatureService, FeatureView, Features, OnDemandFeatureView, Source, feature_store,
};
use crate::{
    call::rpc,
    error::{Error, Result},
    page::Paged,
};

/// The get and list calls of one sort of definition, which differ only in names.
macro_rules! definition_calls {
    ($what:literal, $type:ident, $get:ident($get_request:ident).$one:ident,
     $list:ident($list_request:ident).$many:ident) => {
        impl Features {
            #[doc = concat!("One ", $what, " by name, as it is now.")]
            ///
            /// # Errors
            /// [`Error::NotFound`] when there is none of that name.
            #[allow(
                clippy::needless_update,
                reason = "only the request for a feature view has a version too"
            )]
            pub async fn $get(&self, name: &str) -> Result<$type> {
                let request = pb::$get_request {
                    project: self.project(),
                    name: name.to_owned(),
                    ..Default::default()
                };
                let answer = rpc!(self.client, Repeatable, feature_store.$get, request)?;
                answer
                    .$one
                    .map($type::from)
                    .ok_or_else(|| Error::protocol($what))
            }

            #[doc = concat!("All of the sort ", $what, " in the project, by name.")]
            pub fn $list(&self) -> Paged<$type> {
                let client = self.client.clone();
                Paged::new(move |page_token| {
                    let client = client.clone();
                    async move {
                        let project = client.project().to_owned();
                        let request = pb::$list_request {
                            project,
                            page_size: 0,
                            page_token,
                        };
                        let answer = rpc!(client, Repeatable, feature_store.$list, request)?;
                        Ok((
                            answer.$many.into_iter().map($type::from).collect(),
                            answer.next_page_token,
                        ))
                    }
                })
            }
        }
    };
}

definition_calls!(
    "entity",
    Entity,
    get_entity(GetEntityRequest).entity,
    list_entities(ListEntitiesRequest).entities
);
definition_calls!(
    "source",
    Source,
    get_source(GetSourceRequest).source,
    list_sources(ListSourcesRequest).sources
);
definition_calls!(
    "feature view",
    FeatureView,
    get_feature_view(GetFeatureViewRequest).feature_view,
    list_feature_views(ListFeatureViewsRequest).feature_views
);
definition_calls!(
    "on-demand feature view",
    OnDemandFeatureView,
    get_on_demand_feature_view(GetOnDemandFeatureViewRequest).on_demand_feature_view,
    list_on_demand_feature_views(ListOnDemandFeatureViewsRequest).on_demand_feature_views
);
definition_calls!(
    "feature service",
    FeatureService,
    get_feature_service(GetFeatureServiceRequest).feature_service,
    list_feature_services(ListFeatureServicesRequest).feature_services
);

impl Features {
    /// One feature view in an older version.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none of that name and version.
    pub async fn get_feature_view_version(&self, name: &str, version: u32) -> Result<FeatureView> {
        let request = pb::GetFeatureViewRequest {
            project: self.project(),
            name: name.to_owned(),
            version,
        };
        let answer = rpc!(
            self.client,
            Repeatable,
            feature_store.get_feature_view,
            request
        )?;
        answer
            .feature_view
            .map(FeatureView::from)
            .ok_or_else(|| Error::protocol("feature view"))
    }
}

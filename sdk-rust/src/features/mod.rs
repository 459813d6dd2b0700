//! The feature store: definitions, historical retrieval, materialization, online retrieval.
//!
//! Invariant: what a definition means is the server's business; this module only carries definitions and tables. How
//! tables travel is `historical.rs` and `batches.rs`.

mod apply;
mod batches;
mod convert;
mod definitions;
mod historical;
mod materialize;
mod online;
mod query;
mod read;

use mlplat_proto::features::v1::feature_store_service_client::FeatureStoreServiceClient;
use tonic::transport::Channel;

pub use apply::{Applied, ApplyOptions, Change, ChangeAction, DefinitionKind, FieldChange};
pub use definitions::{
    DefinitionInfo, Definitions, Entity, Feature, FeatureService, FeatureView, OnDemandFeature,
    OnDemandFeatureView, ParquetSource, Source, SourceLocation, SqlSource,
};
pub use historical::{HistoricalStream, TrainingSet};
pub use materialize::{Materialize, MaterializeProgress, MaterializeStream};
pub use online::{FeatureStatus, OnlineFeature, OnlineFeatures, OnlineQuery};
pub use query::{Entities, FileSnapshot, HistoricalQuery, KnownAt, SourceSnapshot, ViewAlias};

use crate::{call::MAX_MESSAGE_BYTES, client::Client};

/// Calls about features; from [`Client::features`].
#[derive(Debug, Clone)]
pub struct Features {
    client: Client,
}

fn feature_store(channel: Channel) -> FeatureStoreServiceClient<Channel> {
    FeatureStoreServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

impl Features {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    fn project(&self) -> String {
        self.client.project().to_owned()
    }
}

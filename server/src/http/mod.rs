//! What is spoken over plain HTTP on the same port: health, metrics, the front page, and other people's protocols.

pub mod error;
mod openlineage;
mod status;

use std::sync::Arc;

use axum::{Router, routing::get};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::app::App;

/// What the HTTP handlers have at hand.
#[derive(Clone)]
pub(crate) struct HttpState {
    pub(crate) app: Arc<App>,
    pub(crate) metrics: PrometheusHandle,
}

/// All HTTP routes.
pub(crate) fn router(state: HttpState) -> Router {
    Router::new()
        .route("/", get(status::front_page))
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .route("/metrics", get(status::metrics))
        .route("/api/v1/events/lineage", get(openlineage::list_events))
        .with_state(state)
}

//! Health, metrics and the front page. Open to everybody; none of it tells what is stored.

use axum::{
    Json,
    extract::State,
    response::{Html, IntoResponse, Response},
};
use http::{StatusCode, header::CONTENT_TYPE};
use serde_json::json;

use super::HttpState;

/// `GET /`: what this is.
pub(super) async fn front_page(State(state): State<HttpState>) -> Html<String> {
    let (version, address) = (env!("CARGO_PKG_VERSION"), state.app.config.listen);
    Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>mlplat</title>\
         <style>body{{font:16px/1.6 system-ui,sans-serif;max-width:42rem;margin:4rem auto;padding:0 1rem}}\
         code{{background:#f2f2f2;padding:.1em .3em}}</style>\
         <h1>mlplat {version}</h1>\
         <p>Experiment tracking, feature store, model catalogue and lineage on one port: gRPC, gRPC-web and HTTP.</p>\
         <ul><li>Python: <code>mlplat.connect(\"http://{address}\")</code></li>\
         <li>Services: <code>grpcurl -plaintext {address} list</code></li>\
         <li>OpenLineage events: <a href=\"/api/v1/events/lineage\">/api/v1/events/lineage</a></li>\
         <li><a href=\"/readyz\">/readyz</a>, <a href=\"/healthz\">/healthz</a>, <a href=\"/metrics\">/metrics</a></li></ul>"
    ))
}

/// `GET /healthz`: the process lives.
pub(super) async fn healthz() -> &'static str {
    "ok"
}

/// `GET /readyz`: the database answers, and objects can be stored.
pub(super) async fn readyz(State(state): State<HttpState>) -> Response {
    let (database, objects) = tokio::join!(state.app.db.check(), state.app.objects.check());
    let ready = database.is_ok() && objects.is_ok();
    let shown = |check: crate::error::Result<()>| {
        check.map_or_else(|error| error.to_string(), |()| "ok".to_owned())
    };
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(json!({ "ready": ready, "database": shown(database), "objects": shown(objects) })),
    )
        .into_response()
}

/// `GET /metrics`: for Prometheus.
pub(super) async fn metrics(State(state): State<HttpState>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        state.metrics.render(),
    )
}

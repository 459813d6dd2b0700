//! `GET /api/v1/events/lineage`: the events as the API of Marquez gives them, for tools that speak OpenLineage.
//!
//! Invariant: the events are the stored text, byte for byte; parsing and printing them again could change numbers.

use axum::{
    extract::{Query, State},
    response::{IntoResponse, Response},
};
use http::{Extensions, header::CONTENT_TYPE};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{HttpState, error::HttpError};
use crate::{auth::Caller, error::Error, lineage::store};

const DEFAULT_LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 1000;

/// The query string.
#[derive(Debug, Deserialize)]
pub(super) struct Paging {
    #[serde(default, deserialize_with = "number")]
    limit: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    offset: Option<u64>,
}

/// A number; `limit=` with nothing is the same as no limit.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(D::Error::custom)
}

/// The events of all projects that the caller may read, newest first, with their number in all.
pub(super) async fn list_events(
    State(state): State<HttpState>,
    extensions: Extensions,
    paging: std::result::Result<Query<Paging>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, HttpError> {
    let caller = Caller::from_extensions(&extensions)?;
    let Query(paging) = paging.map_err(|error| Error::invalid("query", error.body_text()))?;
    let limit = paging.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_LIMIT);
    let offset = paging.offset.unwrap_or(0);
    if i64::try_from(offset).is_err() {
        return Err(Error::invalid("offset", "is too large").into());
    }
    let projects = caller.readable_projects(&state.app).await?;
    let (events, total) =
        store::page(state.app.db.read(), projects.as_deref(), limit, offset).await?;
    let body = format!(
        r#"{{"events":[{}],"totalCount":{total}}}"#,
        events.join(",")
    );
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

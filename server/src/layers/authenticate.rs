//! Puts the caller into the request.
//!
//! Invariant: a request without credentials goes on without a caller, and is refused where one is needed; wrong credentials
//! are refused here.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tonic::Status;

use crate::{auth::Authenticator, http::error::HttpError};

/// The layer.
pub async fn authenticate(
    State(authenticator): State<Arc<dyn Authenticator>>,
    mut request: Request,
    next: Next,
) -> Response {
    // What a client sends cannot be a caller; only this layer makes one.
    match authenticator.caller(request.headers()) {
        Ok(Some(caller)) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Ok(None) => next.run(request).await,
        Err(error) if super::status::is_grpc(request.headers()) => Status::from(error).into_http(),
        Err(error) => HttpError(error).into_response(),
    }
}

//! One span, one count and one time limit per request.
//!
//! The span continues the trace of the caller (W3C `traceparent`), and carries the request id (`x-request-id`, made here
//! where the caller has none), which is sent back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode};
use opentelemetry::propagation::Extractor;
use tonic::{Code, Status};
use tracing::Instrument as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use uuid::Uuid;

use crate::{config::Config, error::Error, http::error::HttpError};

const REQUEST_ID: &str = "x-request-id";
const MAX_REQUEST_ID: usize = 100;
/// Route of what does not exist.
const UNKNOWN: &str = "unknown";

/// Calls that stream in: their answer begins only when the stream has ended, so the limit of time is not for them.
const STREAMS_IN: [&str; 4] = [
    "/mlplat.tracking.v1.ArtifactService/UploadArtifact",
    "/mlplat.tracking.v1.ArtifactService/UploadArtifacts",
    "/mlplat.tracking.v1.ArtifactService/UploadPart",
    "/arrow.flight.protocol.FlightService/DoExchange",
];

/// The layer.
pub async fn trace(State(config): State<Arc<Config>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let grpc = super::status::is_grpc(request.headers());
    let route = route(&request, grpc);
    let id = request_id(request.headers());
    let span = tracing::info_span!(
        "request",
        otel.name = %route,
        otel.kind = "server",
        request_id = %id,
        method = %request.method(),
        code = tracing::field::Empty,
    );
    let parent = opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.extract(&Headers(request.headers()))
    });
    // Fails only when no OpenTelemetry layer is there, and then nobody reads it.
    let _ = span.set_parent(parent);

    let limit = time_limit(&request, &config);
    let mut response = async {
        let response = match limit {
            None => next.run(request).await,
            Some(limit) => match tokio::time::timeout(limit, next.run(request)).await {
                Ok(response) => response,
                Err(_) => late(limit, grpc),
            },
        };
        let elapsed = started.elapsed();
        let code = code(&response, grpc);
        // The services take every path below their name: a method that does not exist must not become a label.
        let route = if code == "Unimplemented" {
            UNKNOWN.to_owned()
        } else {
            route
        };
        tracing::Span::current().record("code", code.as_str());
        tracing::debug!(route, code, elapsed_ms = elapsed.as_millis(), "request");
        metrics::counter!("mlplat_requests_total", "route" => route.clone(), "code" => code)
            .increment(1);
        metrics::histogram!("mlplat_request_duration_seconds", "route" => route)
            .record(elapsed.as_secs_f64());
        response
    }
    .instrument(span)
    .await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// The method or route. Callers can make up methods, so it is a label only once the method was found.
fn route(request: &Request, grpc: bool) -> String {
    match request.extensions().get::<MatchedPath>() {
        Some(_) if grpc => request.uri().path().to_owned(),
        Some(path) => path.as_str().to_owned(),
        None => UNKNOWN.to_owned(),
    }
}

fn request_id(headers: &HeaderMap) -> String {
    headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| !id.is_empty() && id.len() <= MAX_REQUEST_ID)
        .map_or_else(|| Uuid::now_v7().to_string(), ToOwned::to_owned)
}

/// What the caller asks for by `grpc-timeout`, at most what the settings allow.
fn time_limit(request: &Request, config: &Config) -> Option<Duration> {
    let asked = request
        .headers()
        .get("grpc-timeout")
        .and_then(|value| grpc_timeout(value.to_str().ok()?));
    if STREAMS_IN.contains(&request.uri().path()) {
        return asked;
    }
    let most = Duration::from_millis(config.limits.request_timeout_ms);
    Some(asked.map_or(most, |asked| asked.min(most)))
}

/// The gRPC notation: up to eight digits and a unit.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

fn late(limit: Duration, grpc: bool) -> Response {
    let error = Error::DeadlineExceeded {
        message: format!("the request took longer than {limit:?}, and was given up"),
    };
    if grpc {
        Status::from(error).into_http()
    } else {
        HttpError(error).into_response()
    }
}

fn code(response: &Response, grpc: bool) -> String {
    if grpc && response.status() == StatusCode::OK {
        let code =
            Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
        format!("{code:?}")
    } else {
        response.status().as_u16().to_string()
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_of_grpc() {
        assert_eq!(grpc_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(grpc_timeout("3S"), Some(Duration::from_secs(3)));
        for bad in ["", "S", "3", "-3S", "123456789S", "3ä"] {
            assert_eq!(grpc_timeout(bad), None, "{bad:?}");
        }
    }
}

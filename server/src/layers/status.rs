//! Gives every gRPC status a reason, also those that the gRPC library makes by itself (a message that is too large, that does
//! not decode, a method that does not exist), so that clients can rely on one.

use axum::{extract::Request, middleware::Next, response::Response};
use http::{HeaderMap, header::CONTENT_TYPE};
use mlplat_proto::ERROR_DOMAIN;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The layer.
pub async fn give_reasons(request: Request, next: Next) -> Response {
    let grpc = is_grpc(request.headers());
    let response = next.run(request).await;
    if !grpc || response.headers().contains_key("grpc-status-details-bin") {
        return response;
    }
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != Code::Ok => {
            let mut with_reason: Response = explained(&status).into_http();
            // gRPC-web answers have a content type of their own.
            if let Some(content_type) = response.headers().get(CONTENT_TYPE) {
                with_reason
                    .headers_mut()
                    .insert(CONTENT_TYPE, content_type.clone());
            }
            with_reason
        }
        _ => response,
    }
}

/// Whether the request is gRPC or gRPC-web.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn explained(status: &Status) -> Status {
    let text = status.message();
    let (code, reason, message) = match status.code() {
        Code::OutOfRange if text.contains("length too large") => (
            Code::ResourceExhausted,
            "MESSAGE_TOO_LARGE",
            format!("the message is too large: {text}; send it in several"),
        ),
        Code::Unimplemented => (
            Code::Unimplemented,
            "METHOD_NOT_FOUND",
            non_empty(text, "this server has no such method"),
        ),
        Code::DeadlineExceeded | Code::Cancelled => (
            status.code(),
            "DEADLINE_EXCEEDED",
            non_empty(text, "the deadline passed"),
        ),
        Code::Internal if text.contains("decode") || text.contains("protocol") => (
            Code::InvalidArgument,
            "MALFORMED_MESSAGE",
            format!("the message does not fit the contract: {text}"),
        ),
        code => (code, "UNSPECIFIED", text.to_owned()),
    };
    Status::with_error_details(
        code,
        message,
        ErrorDetails::with_error_info(reason, ERROR_DOMAIN, []),
    )
}

fn non_empty(text: &str, otherwise: &str) -> String {
    if text.is_empty() { otherwise } else { text }.to_owned()
}

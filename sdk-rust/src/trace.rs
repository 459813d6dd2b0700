//! The trace context that goes with every call: the active OpenTelemetry context, or one given by hand.
//!
//! Invariant: only well-formed W3C `traceparent` values are sent. This module does not export spans and has no global
//! state; what is given by hand lives in the task it was given to.

use std::{future::Future, str::FromStr};

use opentelemetry::{Context, TraceFlags, trace::TraceContextExt as _};
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::error::{Error, Result};

tokio::task_local! {
    static PARENT: TraceParent;
}

/// A W3C `traceparent` header with its optional `tracestate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent {
    parent: String,
    state: String,
}

impl TraceParent {
    /// Adds the `tracestate` header.
    #[must_use]
    pub fn with_state(mut self, state: impl Into<String>) -> Self {
        self.state = state.into();
        self
    }

    /// Runs `future` so that its calls carry this context, for callers whose tracing is not the Rust one.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        PARENT.scope(self, future).await
    }

    /// The context to send: the one given by hand, else the active OpenTelemetry span.
    fn current() -> Option<Self> {
        if let Ok(parent) = PARENT.try_with(Clone::clone) {
            return Some(parent);
        }
        let context = Context::current();
        let span = context.span();
        let span = span.span_context();
        span.is_valid().then(|| Self {
            parent: format!(
                "00-{}-{}-{:02x}",
                span.trace_id(),
                span.span_id(),
                span.trace_flags() & TraceFlags::SAMPLED
            ),
            state: span.trace_state().header(),
        })
    }
}

impl FromStr for TraceParent {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('-').collect();
        let hex = |part: &str, length: usize| {
            part.len() == length
                && part
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let zero = |part: &str| part.bytes().all(|b| b == b'0');
        match parts[..] {
            [version, trace, span, flags]
                if hex(version, 2)
                    && version != "ff"
                    && hex(trace, 32)
                    && !zero(trace)
                    && hex(span, 16)
                    && !zero(span)
                    && hex(flags, 2) =>
            {
                Ok(Self {
                    parent: text.to_owned(),
                    state: String::new(),
                })
            }
            _ => Err(Error::misuse(format!(
                "`{text}` is not a W3C traceparent (00-<trace id>-<span id>-<flags>)"
            ))),
        }
    }
}

/// Puts the current trace context into the headers of a call.
pub(crate) fn inject(headers: &mut MetadataMap) {
    let Some(current) = TraceParent::current() else {
        return;
    };
    if let Ok(value) = MetadataValue::try_from(current.parent) {
        headers.insert("traceparent", value);
    }
    if !current.state.is_empty()
        && let Ok(value) = MetadataValue::try_from(current.state)
    {
        headers.insert("tracestate", value);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceId, TraceState};

    use super::*;

    const PARENT_TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn malformed_parents_are_refused() {
        for bad in [
            "",
            "00-0-0-00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "ff-x",
        ] {
            assert!(bad.parse::<TraceParent>().is_err(), "{bad}");
        }
        assert!(PARENT_TEXT.parse::<TraceParent>().is_ok());
    }

    #[tokio::test]
    async fn a_parent_given_by_hand_is_sent() {
        let parent: TraceParent = PARENT_TEXT.parse().unwrap();
        let headers = parent
            .with_state("vendor=1")
            .scope(async {
                let mut headers = MetadataMap::new();
                inject(&mut headers);
                headers
            })
            .await;
        assert_eq!(headers.get("traceparent").unwrap(), PARENT_TEXT);
        assert_eq!(headers.get("tracestate").unwrap(), "vendor=1");
    }

    #[test]
    fn the_active_span_is_sent_and_nothing_without_one() {
        let mut headers = MetadataMap::new();
        inject(&mut headers);
        assert!(headers.is_empty());
        let span = SpanContext::new(
            TraceId::from_hex("0af7651916cd43dd8448eb211c80319c").unwrap(),
            SpanId::from_hex("b7ad6b7169203331").unwrap(),
            TraceFlags::SAMPLED,
            true,
            TraceState::default(),
        );
        let _guard = Context::new().with_remote_span_context(span).attach();
        inject(&mut headers);
        assert_eq!(headers.get("traceparent").unwrap(), PARENT_TEXT);
    }
}

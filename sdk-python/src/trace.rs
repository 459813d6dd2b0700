//! The trace that a call belongs to: that of the OpenTelemetry span which is active in Python.
//!
//! Invariant: never in the way. OpenTelemetry is not imported (a program that traces has done that), and whatever goes wrong
//! with it leaves a call without a trace.

use mlplat::TraceParent;
use pyo3::{prelude::*, types::PyDict};

/// The context to send along, where a span is active.
pub(crate) fn active(py: Python<'_>) -> Option<TraceParent> {
    context(py).unwrap_or_default()
}

fn context(py: Python<'_>) -> PyResult<Option<TraceParent>> {
    let modules = py
        .import("sys")?
        .getattr("modules")?
        .cast_into::<PyDict>()?;
    let Some(api) = modules.get_item("opentelemetry.trace")? else {
        return Ok(None);
    };
    let span = api
        .call_method0("get_current_span")?
        .call_method0("get_span_context")?;
    if !span.getattr("is_valid")?.is_truthy()? {
        return Ok(None);
    }
    let (trace, id): (u128, u64) = (
        span.getattr("trace_id")?.extract()?,
        span.getattr("span_id")?.extract()?,
    );
    let flags: u8 = span.getattr("trace_flags")?.extract()?;
    let state: String = span
        .getattr("trace_state")?
        .call_method0("to_header")?
        .extract()?;
    let parent = format!("00-{trace:032x}-{id:016x}-{flags:02x}").parse::<TraceParent>();
    Ok(parent.ok().map(|parent| parent.with_state(state)))
}

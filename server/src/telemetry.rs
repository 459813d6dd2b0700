//! Logs, traces and metrics of the server itself.
//!
//! Invariant: set up once per process, and never in the way: without an OTLP endpoint no trace is exported, and an endpoint that is down
//! costs nothing but its traces.

use std::{io::IsTerminal as _, sync::OnceLock};

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tracing::Level;
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::config::{LogFormat, TelemetryConfig};

/// Upper bounds of the buckets of durations, in seconds.
const DURATION_BUCKETS: [f64; 12] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

/// What must be flushed at the end.
#[derive(Debug, Default)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts logs and traces. Call it once, inside of the runtime.
    pub fn start(config: &TelemetryConfig, instance_id: &str) -> anyhow::Result<Self> {
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        let filter = EnvFilter::try_new(&config.log)
            .with_context(|| format!("telemetry.log = {:?} is not a filter", config.log))?;
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let lines = match config.log_format {
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
            LogFormat::Text => lines
                .with_ansi(std::io::stderr().is_terminal())
                .with_target(false)
                .boxed(),
        };
        let provider = config
            .otlp_endpoint
            .as_deref()
            .map(|endpoint| provider(endpoint, config.sample_ratio, instance_id))
            .transpose()?;
        let traces = provider.as_ref().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("mlplat-server"))
                // Our own spans and those of the database; not those of the exporter's transport, which would trace itself.
                .with_filter(
                    Targets::new()
                        .with_target("mlplat_server", Level::DEBUG)
                        .with_target("sea_orm", Level::INFO),
                )
        });
        tracing_subscriber::registry()
            .with(lines.with_filter(filter))
            .with(traces)
            .try_init()
            .context("logging was set up before")?;
        Ok(Self { provider })
    }

    /// Sends what is left.
    pub fn stop(self) {
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces could not be exported");
        }
    }
}

fn provider(
    endpoint: &str,
    sample_ratio: f64,
    instance_id: &str,
) -> anyhow::Result<SdkTracerProvider> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .with_context(|| format!("telemetry.otlp_endpoint = {endpoint:?} cannot be used"))?;
    let resource = Resource::builder()
        .with_service_name("mlplat-server")
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance_id.to_owned()),
        ])
        .build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
            sample_ratio,
        ))))
        .with_resource(resource)
        .build())
}

/// The metrics of this process. Servers that share a process (in tests) share them.
pub fn metrics() -> anyhow::Result<PrometheusHandle> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(
            Matcher::Suffix("_duration_seconds".to_owned()),
            &DURATION_BUCKETS,
        )?
        .build_recorder();
    let handle = recorder.handle();
    // When another thread was first, its recorder stays, and so does its handle.
    if metrics::set_global_recorder(recorder).is_ok() {
        metrics::describe_counter!("mlplat_requests_total", "Requests by route and code.");
        metrics::describe_histogram!(
            "mlplat_request_duration_seconds",
            "Time until the answer begins, by route."
        );
        let _ = HANDLE.set(handle.clone());
    }
    Ok(HANDLE.get().cloned().unwrap_or(handle))
}

//! One port for gRPC, gRPC-web and HTTP: puts services, layers and connections together.
//!
//! Invariant: every request passes the layers of this file, in this order: panics become errors, trace, reasons, authenticate.
//! A new service is one line in [`grpc_routes`].

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use arrow_flight::flight_service_server::FlightServiceServer;
use axum::{
    Router,
    extract::Request,
    middleware,
    response::{IntoResponse as _, Response},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use metrics_exporter_prometheus::PrometheusHandle;
use mlplat_proto::{
    admin::v1::admin_service_server::AdminServiceServer,
    catalogue::v1::catalogue_service_server::CatalogueServiceServer,
    features::v1::feature_store_service_server::FeatureStoreServiceServer,
    lineage::v1::lineage_service_server::LineageServiceServer,
    tracking::v1::{
        artifact_service_server::ArtifactServiceServer,
        tracking_service_server::TrackingServiceServer,
    },
};
use tokio::net::{TcpListener, TcpStream};
use tonic::{Status, codec::CompressionEncoding, service::Routes};
use tonic_health::server::HealthReporter;
use tonic_web::GrpcWebLayer;
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    admin::Admin,
    app::App,
    auth::Authenticator,
    catalogue::Catalogue,
    error::Error,
    features::{FeatureFlight, FeatureStore, Features},
    http::{self as plain_http, HttpState, error::HttpError},
    layers::{authenticate, status, trace},
    lineage::Lineage,
    retention, telemetry,
    tracking::{Artifacts, Background, Tracking},
};

/// Flow control of HTTP/2: enough for a full pipe on a long fat link, per stream and per connection.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const MAX_STREAMS: u32 = 1024;
/// Largest frame; few large ones cost less than many small ones.
const MAX_FRAME: u32 = 256 << 10;
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// How often measured durations are summed up. Between two times they are kept one by one, also where nobody reads `/metrics`.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    listener: TcpListener,
    router: Router,
    health: HealthReporter,
    metrics: PrometheusHandle,
    background: Background,
}

impl Server {
    /// Opens the port, and makes everything ready to serve.
    pub async fn bind(
        app: Arc<App>,
        authenticator: Arc<dyn Authenticator>,
    ) -> anyhow::Result<Self> {
        let listen = app.config.listen;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}"))?;
        let metrics = telemetry::metrics()?;
        let (background, tracking) = Background::start(&app);
        let (grpc, health) = grpc_routes(&app, tracking).await?;
        let http = plain_http::router(HttpState {
            app: Arc::clone(&app),
            metrics: metrics.clone(),
        });
        let router = grpc
            .merge(http)
            .fallback(not_found)
            .layer(middleware::from_fn_with_state(
                authenticator,
                authenticate::authenticate,
            ))
            .layer(middleware::from_fn(status::give_reasons))
            .layer(middleware::from_fn_with_state(
                Arc::clone(&app.config),
                trace::trace,
            ))
            .layer(CatchPanicLayer::custom(panicked));
        Ok(Self {
            app,
            listener,
            router,
            health,
            metrics,
            background,
        })
    }

    /// The address it listens on.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves until `shutdown`, then lets open requests end, for as long as the settings allow.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
        let graceful = GracefulShutdown::new();
        let rounds = tokio::spawn(retention::rounds(Arc::clone(&self.app)));
        let orphans = tokio::spawn(retention::collect_orphans_forever(Arc::clone(&self.app)));
        tokio::pin!(shutdown);
        let mut upkeep = tokio::time::interval(METRICS_UPKEEP);
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => serve_connection(stream, self.router.clone(), &graceful),
                    // Out of file descriptors, or the peer was gone already: neither is the end of the server.
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                _ = upkeep.tick() => self.metrics.run_upkeep(),
                () = &mut shutdown => break,
            }
        }
        drop(self.listener);
        rounds.abort();
        // Cancelled, as it should be; its transaction is rolled back before the database is closed.
        let _ = rounds.await;
        self.health
            .set_service_status("", tonic_health::ServingStatus::NotServing)
            .await;
        let drain = Duration::from_millis(self.app.config.limits.drain_timeout_ms);
        if tokio::time::timeout(drain, graceful.shutdown())
            .await
            .is_err()
        {
            tracing::warn!(?drain, "open requests were cut off");
        }
        self.background.stop().await;
        orphans.abort();
        self.app.db.clone().close().await?;
        Ok(())
    }
}

/// All gRPC services, with their health.
async fn grpc_routes(
    app: &Arc<App>,
    tracking: Tracking,
) -> anyhow::Result<(Router, HealthReporter)> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let mut routes = Routes::builder();
    // Every service has the same limits and encodings.
    macro_rules! add {
        ($server:ident, $service:expr) => {
            routes.add_service(
                $server::new($service)
                    .max_decoding_message_size(app.config.limits.max_message_bytes)
                    .accept_compressed(CompressionEncoding::Gzip)
                    .accept_compressed(CompressionEncoding::Zstd),
            );
            health
                .set_service_status(
                    service_name::<$server<()>>(),
                    tonic_health::ServingStatus::Serving,
                )
                .await;
        };
    }
    add!(AdminServiceServer, Admin::new(Arc::clone(app)));
    add!(TrackingServiceServer, tracking);
    add!(ArtifactServiceServer, Artifacts::new(Arc::clone(app)));
    add!(CatalogueServiceServer, Catalogue::new(Arc::clone(app)));
    add!(LineageServiceServer, Lineage::new(Arc::clone(app)));
    let features = Features::open(Arc::clone(app))?;
    add!(
        FeatureStoreServiceServer,
        FeatureStore::new(Arc::clone(&features))
    );
    add!(FlightServiceServer, FeatureFlight::new(features));

    routes.add_service(health_service);
    routes.add_service(reflection().build_v1()?);
    routes.add_service(reflection().build_v1alpha()?);
    let router = routes
        .routes()
        .prepare()
        .into_axum_router()
        .route_layer(GrpcWebLayer::new());
    Ok((router, health))
}

/// The full name of a service, e.g. `mlplat.admin.v1.AdminService`.
fn service_name<S: tonic::server::NamedService>() -> &'static str {
    S::NAME
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(mlplat_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        // The details of errors, so that grpcurl shows them as text.
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
}

fn serve_connection(stream: TcpStream, router: Router, graceful: &GracefulShutdown) {
    // Answers are small and somebody waits for each of them.
    let _ = stream.set_nodelay(true);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30));
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(KEEP_ALIVE);
    let connection = builder
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .into_owned();
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %error, "a connection ended badly");
        }
    });
}

async fn not_found(request: Request) -> Response {
    if status::is_grpc(request.headers()) {
        Status::unimplemented(format!(
            "this server has no method {}",
            request.uri().path()
        ))
        .into_http()
    } else {
        HttpError(Error::not_found("page", request.uri().path())).into_response()
    }
}

fn panicked(cause: Box<dyn std::any::Any + Send>) -> Response {
    let text = cause
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| cause.downcast_ref::<&str>().copied());
    HttpError(Error::internal(anyhow::anyhow!(
        "panic: {}",
        text.unwrap_or("?")
    )))
    .into_response()
}

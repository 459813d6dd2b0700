//! The traces of the server, as a collector receives them.

use std::{sync::Arc, time::Duration};

use mlplat::{Client, TraceParent, tracking::NewRun};
use mlplat_tests::binary::ServerProcess;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use tokio::{net::TcpListener, sync::Mutex};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Keeps the spans that it is sent.
#[derive(Debug, Default, Clone)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let spans = request
            .into_inner()
            .resource_spans
            .into_iter()
            .flat_map(|resource| resource.scope_spans);
        self.0
            .lock()
            .await
            .extend(spans.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_from_the_caller_to_the_statements() {
    let collector = Collector::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let service = TraceServiceServer::new(collector.clone());
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );

    let folder = tempfile::tempdir().expect("a folder");
    let environment = [("MLPLAT_SERVER__TELEMETRY__OTLP_ENDPOINT", endpoint.as_str())];
    let data = folder.path().join("data");
    let server = ServerProcess::start_with(&data, &[], &environment);
    let trace_id = "0af7651916cd43dd8448eb211c80319c";
    let parent: TraceParent = format!("00-{trace_id}-b7ad6b7169203331-01")
        .parse()
        .expect("a context");
    let client = Client::builder()
        .url(server.url())
        .journal_home(folder.path().join("home"))
        .build()
        .expect("a client");
    let file = folder.path().join("model.pkl");
    std::fs::write(&file, b"a model").expect("written");
    parent
        .scope(async {
            let run = client.start_run(NewRun::new("e")).await.expect("started");
            run.log_artifact(&file).await.expect("uploaded");
        })
        .await;
    // The last spans are sent before the server ends.
    let ended = tokio::task::spawn_blocking(move || server.terminate(Duration::from_secs(20)))
        .await
        .expect("no panic");
    assert!(ended.success());

    let spans = collector.0.lock().await;
    let ours: Vec<&Span> = spans
        .iter()
        .filter(|span| hex::encode(&span.trace_id) == trace_id)
        .collect();
    let names: Vec<&str> = ours.iter().map(|span| span.name.as_str()).collect();
    let create = ours
        .iter()
        .find(|span| span.name.ends_with("/CreateRun"))
        .unwrap_or_else(|| panic!("{names:?}"));
    assert_eq!(hex::encode(&create.parent_span_id), "b7ad6b7169203331");
    assert!(
        ours.iter()
            .any(|span| span.name.starts_with("sea_orm") && span.parent_span_id == create.span_id),
        "{names:?}"
    );
    assert!(names.contains(&"objects.put"), "{names:?}");
}

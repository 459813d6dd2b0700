//! How calls behave when the other side fails, over a real connection to a server that follows a script.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use mlplat::{Client, Error, RetryPolicy, TraceParent};
use mlplat_proto::admin::v1::{
    self as pb,
    admin_service_server::{AdminService, AdminServiceServer},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, metadata::MetadataMap, transport::Server};

/// What the server does with one call.
enum Act {
    Answer,
    Fail(Status),
    Hang,
}

#[derive(Clone, Default)]
struct Script {
    acts: Arc<Mutex<VecDeque<Act>>>,
    seen: Arc<Mutex<Vec<MetadataMap>>>,
}

impl Script {
    async fn next(&self, headers: &MetadataMap) -> Result<(), Status> {
        self.seen.lock().unwrap().push(headers.clone());
        let act = self.acts.lock().unwrap().pop_front().unwrap_or(Act::Answer);
        match act {
            Act::Answer => Ok(()),
            Act::Fail(status) => Err(status),
            Act::Hang => std::future::pending().await,
        }
    }

    fn header(&self, call: usize, name: &str) -> String {
        let seen = self.seen.lock().unwrap();
        seen[call]
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
            .unwrap_or_default()
    }

    fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

#[tonic::async_trait]
impl AdminService for Script {
    async fn get_server_info(
        &self,
        request: Request<pb::GetServerInfoRequest>,
    ) -> Result<Response<pb::GetServerInfoResponse>, Status> {
        self.next(request.metadata()).await?;
        Ok(Response::new(pb::GetServerInfoResponse {
            version: "1.2.3".into(),
            ..Default::default()
        }))
    }

    async fn create_project(
        &self,
        request: Request<pb::CreateProjectRequest>,
    ) -> Result<Response<pb::CreateProjectResponse>, Status> {
        self.next(request.metadata()).await?;
        // The request id comes back as the description, so that a test can see it.
        let project = pb::Project {
            description: request.into_inner().request_id,
            ..Default::default()
        };
        Ok(Response::new(pb::CreateProjectResponse {
            project: Some(project),
        }))
    }

    async fn get_project(
        &self,
        request: Request<pb::GetProjectRequest>,
    ) -> Result<Response<pb::GetProjectResponse>, Status> {
        self.next(request.metadata()).await?;
        Ok(Response::new(pb::GetProjectResponse { project: None }))
    }

    async fn list_projects(
        &self,
        request: Request<pb::ListProjectsRequest>,
    ) -> Result<Response<pb::ListProjectsResponse>, Status> {
        self.next(request.metadata()).await?;
        let (name, next_page_token) = match request.get_ref().page_token.as_str() {
            "" => ("a", "more"),
            "more" => ("b", ""),
            _ => return Err(Status::invalid_argument("unknown page token")),
        };
        let projects = vec![pb::Project {
            name: name.into(),
            ..Default::default()
        }];
        Ok(Response::new(pb::ListProjectsResponse {
            projects,
            next_page_token: next_page_token.into(),
        }))
    }

    async fn update_project(
        &self,
        request: Request<pb::UpdateProjectRequest>,
    ) -> Result<Response<pb::UpdateProjectResponse>, Status> {
        self.next(request.metadata()).await?;
        Ok(Response::new(pb::UpdateProjectResponse {
            project: request.into_inner().project,
        }))
    }

    async fn collect_garbage(
        &self,
        request: Request<pb::CollectGarbageRequest>,
    ) -> Result<Response<pb::CollectGarbageResponse>, Status> {
        self.next(request.metadata()).await?;
        Ok(Response::new(pb::CollectGarbageResponse::default()))
    }
}

/// A server with a script, and a client that does not wait long.
async fn start(acts: impl IntoIterator<Item = Act>) -> (Script, Client) {
    let script = Script::default();
    script.acts.lock().unwrap().extend(acts);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::builder().add_service(AdminServiceServer::new(script.clone()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let retry = RetryPolicy::default().backoff(Duration::from_millis(2), Duration::from_millis(5));
    let client = Client::builder()
        .url(url)
        .retry(retry)
        .timeout(Duration::from_secs(2))
        .build()
        .unwrap();
    (script, client)
}

fn unavailable() -> Act {
    Act::Fail(Status::unavailable("draining"))
}

#[tokio::test]
async fn a_safe_call_is_tried_again_as_the_same_request() {
    let (script, client) = start([unavailable(), unavailable()]).await;
    assert_eq!(client.admin().server_info().await.unwrap().version, "1.2.3");
    assert_eq!(script.calls(), 3);
    let ids: Vec<String> = (0..3)
        .map(|call| script.header(call, "x-request-id"))
        .collect();
    assert!(
        !ids[0].is_empty() && ids.iter().all(|id| id == &ids[0]),
        "{ids:?}"
    );
    assert!(script.header(0, "user-agent").starts_with("mlplat-rust/"));
    assert!(!script.header(0, "grpc-timeout").is_empty());
}

#[tokio::test]
async fn a_create_carries_a_request_id_and_is_tried_again() {
    let (script, client) = start([unavailable()]).await;
    let project = client
        .admin()
        .create_project("p", "", Default::default())
        .await
        .unwrap();
    assert_eq!(script.calls(), 2);
    assert!(!project.description.is_empty());
}

#[tokio::test]
async fn a_change_is_not_repeated() {
    let (script, client) = start([unavailable()]).await;
    let error = client
        .admin()
        .update_project("p", Some("x".into()), None)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
    assert_eq!(script.calls(), 1);
}

#[tokio::test]
async fn retries_end_with_the_servers_own_words() {
    let (script, client) = start((0..9).map(|_| unavailable())).await;
    let error = client.admin().server_info().await.unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), script.calls()),
        ("draining", 5)
    );
    assert_eq!(error.request_id(), script.header(0, "x-request-id"));
}

#[tokio::test]
async fn what_is_wrong_is_not_tried_again() {
    for code in [
        Code::InvalidArgument,
        Code::NotFound,
        Code::Internal,
        Code::ResourceExhausted,
    ] {
        let (script, client) = start([Act::Fail(Status::new(code, "no"))]).await;
        assert!(client.admin().server_info().await.is_err());
        assert_eq!(script.calls(), 1, "{code:?}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_meets_the_deadline() {
    let (_script, client) = start([Act::Hang]).await;
    let client = client
        .to_builder()
        .timeout(Duration::from_millis(200))
        .build()
        .unwrap();
    let begin = Instant::now();
    let error = client.admin().server_info().await.unwrap_err();
    assert!(matches!(error, Error::DeadlineExceeded(_)), "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn an_answer_without_its_content_is_data_loss() {
    let (_script, client) = start([]).await;
    let error = client.admin().get_project("p").await.unwrap_err();
    assert!(matches!(error, Error::DataLoss(_)), "{error:?}");
}

#[tokio::test]
async fn lists_go_on_over_pages_and_failures() {
    let (script, client) = start([Act::Answer, unavailable()]).await;
    let projects = client.admin().list_projects().collect(None).await.unwrap();
    assert_eq!(
        projects.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!(script.calls(), 3);
    assert_eq!(
        client
            .admin()
            .list_projects()
            .collect(Some(1))
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(script.calls(), 4, "the second page is not asked for");
}

#[tokio::test]
async fn a_trace_context_goes_along() {
    let (script, client) = start([]).await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace: TraceParent = parent.parse().unwrap();
    trace.scope(client.admin().server_info()).await.unwrap();
    client.admin().server_info().await.unwrap();
    assert_eq!(script.header(0, "traceparent"), parent);
    assert_eq!(script.header(1, "traceparent"), "");
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let retry = RetryPolicy::default()
        .max_attempts(40)
        .backoff(Duration::from_millis(20), Duration::from_millis(50));
    let client = Client::builder()
        .url(format!("http://{address}"))
        .retry(retry)
        .build()
        .unwrap();
    // Nothing was sent before, so even a call that must not be repeated waits for the server.
    let admin = client.admin();
    let call = tokio::spawn(async move { admin.update_project("p", Some("x".into()), None).await });
    tokio::time::sleep(Duration::from_millis(150)).await;
    let listener = TcpListener::bind(address).await.unwrap();
    let server = Server::builder().add_service(AdminServiceServer::new(Script::default()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    assert_eq!(call.await.unwrap().unwrap().description, "x");
}

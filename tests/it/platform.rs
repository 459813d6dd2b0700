//! What belongs to no service: health, reflection, limits, errors of the transport, starting and stopping.

use std::time::Duration;

use mlplat::{
    Error,
    tracking::{NewRun, new_run_id},
};
use mlplat_proto::{
    admin::v1::{self as pb, admin_service_client::AdminServiceClient},
    tracking::v1::{self as tracking, tracking_service_client::TrackingServiceClient},
};
use mlplat_tests::{CALLER, TestDatabase, TestServer, binary::ServerProcess, rpc};
use prost::Message as _;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

const CREATE_PROJECT: &str = "/mlplat.admin.v1.AdminService/CreateProject";

fn reason(status: &tonic::Status) -> String {
    status
        .get_error_details()
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

/// A plain HTTP/1.1 request; the status and the body.
async fn http_get(server: &TestServer, path: &str) -> (u16, String) {
    http_get_as(server, path, "").await
}

/// As another caller, said by a header line.
async fn http_get_as(server: &TestServer, path: &str, header: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = server.url().trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address)
        .await
        .expect("a connection");
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .expect("a status");
    (
        status,
        answer
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned())
            .unwrap_or_default(),
    )
}

#[tokio::test]
async fn health_is_told_per_service() {
    let server = TestServer::start().await;
    let mut health = HealthClient::new(server.channel().await);
    for service in ["", "mlplat.admin.v1.AdminService"] {
        let answer = health
            .check(HealthCheckRequest {
                service: service.to_owned(),
            })
            .await
            .expect("an answer")
            .into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let unknown = health
        .check(HealthCheckRequest {
            service: "no.such.Service".to_owned(),
        })
        .await
        .expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn the_pages_answer() {
    let server = TestServer::start().await;
    assert_eq!(http_get(&server, "/healthz").await, (200, "ok".to_owned()));
    let (status, ready) = http_get(&server, "/readyz").await;
    assert_eq!(
        (status, ready.contains("\"ready\":true")),
        (200, true),
        "{ready}"
    );
    let (status, front) = http_get(&server, "/").await;
    assert!(status == 200 && front.contains("mlplat"), "{front}");
    let (status, metrics) = http_get(&server, "/metrics").await;
    assert!(
        status == 200 && metrics.contains("mlplat_requests_total"),
        "{metrics}"
    );
    let (status, missing) = http_get(&server, "/nothing").await;
    assert!(
        status == 404 && missing.contains("PAGE_NOT_FOUND"),
        "{missing}"
    );
    server.stop().await;
}

#[tokio::test]
async fn ready_is_false_when_objects_cannot_be_stored() {
    let server = TestServer::start().await;
    std::fs::remove_dir_all(server.folder().join("data/artifacts")).expect("removed");
    let (status, ready) = http_get(&server, "/readyz").await;
    assert!(
        status == 503 && ready.contains("\"ready\":false"),
        "{ready}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_with_a_reason() {
    let server = TestServer::start().await;
    let message = pb::CreateProjectRequest {
        description: "x".repeat(300 << 20),
        ..Default::default()
    };
    let refused = rpc::call(
        server.channel().await,
        CREATE_PROJECT,
        message.encode_to_vec(),
    )
    .await
    .expect_err("too large");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
        "{refused:?}"
    );
    server.stop().await;
}

/// What does not fit into headers does not arrive, and takes the connection along.
#[tokio::test]
async fn errors_about_long_things_arrive() {
    let server = TestServer::start().await;
    let client = server.client();
    let long = "ü".repeat(1 << 20);
    for error in [
        client
            .tracking()
            .get_experiment(&long)
            .await
            .expect_err("nothing"),
        client
            .catalogue()
            .get_model(&long)
            .await
            .expect_err("nothing"),
        client
            .admin()
            .get_project(&long)
            .await
            .expect_err("nothing"),
    ] {
        assert!(
            matches!(error, Error::NotFound(_) | Error::InvalidArgument(_)),
            "{error:?}"
        );
        assert!(!error.request_id().is_empty() && error.to_string().len() < 5000);
    }
    let bad = (0..5000).map(|n| tracking::MetricSeries {
        key: format!("bad`{n}"),
        values: vec![1.0],
        ..Default::default()
    });
    let request = tracking::LogBatchRequest {
        run_id: new_run_id(),
        metrics: bad.collect(),
        ..Default::default()
    };
    let mut client = TrackingServiceClient::new(server.channel().await);
    let refused = client.log_batch(request).await.expect_err("bad keys");
    let violations = refused.get_details_bad_request().expect("bad fields");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert!(violations.field_violations.len() > 10, "{violations:?}");
    assert!(refused.message().contains("more"), "{refused}");
    server.stop().await;
}

#[tokio::test]
async fn nonsense_is_refused_with_a_reason() {
    let server = TestServer::start().await;
    let malformed = rpc::call(server.channel().await, CREATE_PROJECT, vec![0xff; 20])
        .await
        .expect_err("malformed");
    assert_eq!(
        (malformed.code(), reason(&malformed).as_str()),
        (Code::InvalidArgument, "MALFORMED_MESSAGE"),
        "{malformed:?}"
    );
    for path in [
        "/mlplat.admin.v1.AdminService/Nothing",
        "/no.such.Service/Nothing",
    ] {
        let unknown = rpc::call(server.channel().await, path, Vec::new())
            .await
            .expect_err("unknown");
        assert_eq!(
            (unknown.code(), reason(&unknown).as_str()),
            (Code::Unimplemented, "METHOD_NOT_FOUND"),
            "{path}"
        );
    }
    server.stop().await;
}

/// Whoever makes up names must not fill the memory with their counters.
#[tokio::test]
async fn methods_that_do_not_exist_are_no_labels() {
    let server = TestServer::start().await;
    for path in [
        "/mlplat.admin.v1.AdminService/MadeUp",
        "/made.up.Service/MadeUp",
    ] {
        rpc::call(server.channel().await, path, Vec::new())
            .await
            .expect_err("unknown");
    }
    let (_, metrics) = http_get(&server, "/metrics").await;
    assert!(
        metrics.contains("route=\"unknown\",code=\"Unimplemented\""),
        "{metrics}"
    );
    assert!(!metrics.to_lowercase().contains("madeup"), "{metrics}");
    server.stop().await;
}

#[tokio::test]
async fn what_was_stored_survives_a_restart() {
    let mut server = TestServer::start().await;
    let mut admin = AdminServiceClient::new(server.channel().await);
    let request = pb::CreateProjectRequest {
        name: "kept".to_owned(),
        ..Default::default()
    };
    admin.create_project(request).await.expect("created");
    server.restart().await;
    let mut admin = AdminServiceClient::new(server.channel().await);
    admin
        .get_project(pb::GetProjectRequest {
            name: "kept".to_owned(),
        })
        .await
        .expect("still there");
    server.stop().await;
}

#[test]
fn a_second_server_on_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let _first = ServerProcess::start(&data, &[]);
    let second = std::process::Command::new(mlplat_tests::binary::path())
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data)
        .output()
        .expect("it runs");
    assert!(!second.status.success());
    let message = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(message.contains("another mlplat-server"), "{message}");
}

#[test]
fn sigterm_ends_it_in_good_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = ServerProcess::start(&folder.path().join("data"), &[]);
    let status = server.terminate(Duration::from_secs(10));
    assert!(status.success(), "{status}");
}

/// Replicas share a PostgreSQL; a SQLite file has one server.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_at_once_migrate_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = TestDatabase::create(folder.path())
        .await
        .expect("a database");
    let replicas = if matches!(database, TestDatabase::Postgres { .. }) {
        4
    } else {
        1
    };
    let starting: Vec<_> = (0..replicas)
        .map(|replica| {
            let (data, flags) = (
                folder.path().join(format!("data-{replica}")),
                database.flags(),
            );
            tokio::task::spawn_blocking(move || {
                let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
                ServerProcess::start(&data, &flags)
            })
        })
        .collect();
    for (number, replica) in starting.into_iter().enumerate() {
        let server = replica.await.expect("it started");
        let client = mlplat::Client::connect(server.url()).expect("a client");
        client
            .admin()
            .create_project(&format!("p{number}"), "", Default::default())
            .await
            .expect("it serves");
    }
    database.drop().await.expect("the database is removed");
}

#[tokio::test]
async fn openlineage_events_are_only_for_those_who_may_read() {
    let server = TestServer::start().await;
    let run = server.client().start_run(NewRun::new("e")).await;
    assert!(run.expect("started").flush().await);
    let (status, events) = http_get(&server, "/api/v1/events/lineage?limit=10&offset=0").await;
    assert!(
        status == 200 && events.contains("\"totalCount\":1"),
        "{events}"
    );
    let path = "/api/v1/events/lineage";
    let (status, refused) = http_get_as(&server, path, &format!("{CALLER}: anonymous\r\n")).await;
    assert!(
        status == 401 && refused.contains("UNAUTHENTICATED"),
        "{refused}"
    );
    let (status, nothing) = http_get_as(&server, path, &format!("{CALLER}: outsider\r\n")).await;
    assert!(
        status == 200 && nothing.contains("\"totalCount\":0"),
        "{nothing}"
    );
    let (status, events) = http_get(&server, &format!("{path}?limit=&offset=")).await;
    assert!(
        status == 200 && events.contains("\"totalCount\":1"),
        "{events}"
    );
    for bad in ["?limit=x", "?limit=-1", "?offset=no"] {
        let (status, refused) = http_get(&server, &format!("{path}{bad}")).await;
        assert!(
            status == 400 && refused.contains("INVALID_ARGUMENT"),
            "{bad}: {refused}"
        );
    }
    server.stop().await;
}

/// A browser's call: HTTP/1.1, one frame in, a frame and the trailers in the body out.
#[tokio::test]
async fn grpc_web_answers_over_http_1() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let server = TestServer::start().await;
    let address = server.url().trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address)
        .await
        .expect("a connection");
    let head = format!(
        "POST /mlplat.admin.v1.AdminService/GetServerInfo HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/grpc-web+proto\r\n\
         Content-Length: 5\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(&[0; 5]).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("read");
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("application/grpc-web"),
        "{answer}"
    );
    assert!(
        answer.contains(env!("CARGO_PKG_VERSION")) && answer.contains("grpc-status:0"),
        "{answer}"
    );
    server.stop().await;
}

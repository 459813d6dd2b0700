//! Projects.

use std::collections::HashMap;

use mlplat_proto::admin::v1::{self as pb, admin_service_client::AdminServiceClient};
use mlplat_tests::TestServer;
use prost_types::FieldMask;
use tonic::Code;
use tonic_types::StatusExt as _;
use uuid::Uuid;

fn new_project(name: &str) -> pb::CreateProjectRequest {
    pb::CreateProjectRequest {
        name: name.to_owned(),
        description: "for a test".to_owned(),
        tags: HashMap::from([
            ("team".to_owned(), "a".to_owned()),
            ("stage".to_owned(), "b".to_owned()),
        ]),
        request_id: String::new(),
    }
}

#[tokio::test]
async fn a_project_is_created_read_changed_and_listed() {
    let server = TestServer::start().await;
    let mut admin = AdminServiceClient::new(server.channel().await);
    let created = admin
        .create_project(new_project("alpha"))
        .await
        .expect("created")
        .into_inner()
        .project
        .expect("it");
    assert_eq!(
        (created.name.as_str(), created.created_by.as_str()),
        ("alpha", "local")
    );

    let change = pb::UpdateProjectRequest {
        project: Some(pb::Project {
            name: "alpha".to_owned(),
            description: "new".to_owned(),
            ..Default::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["description".to_owned()],
        }),
    };
    admin.update_project(change).await.expect("changed");
    let read = admin
        .get_project(pb::GetProjectRequest {
            name: "alpha".to_owned(),
        })
        .await
        .expect("read")
        .into_inner()
        .project;
    let read = read.expect("it");
    assert_eq!((read.description.as_str(), read.tags.len()), ("new", 2));

    let listed = admin
        .list_projects(pb::ListProjectsRequest::default())
        .await
        .expect("listed")
        .into_inner();
    assert_eq!(
        listed
            .projects
            .iter()
            .map(|p| p.name.as_str())
            .collect::<Vec<_>>(),
        ["alpha", "default"]
    );
    server.stop().await;
}

#[tokio::test]
async fn pages_follow_one_another() {
    let server = TestServer::start().await;
    let mut admin = AdminServiceClient::new(server.channel().await);
    for name in ["a", "b", "c", "e"] {
        admin
            .create_project(new_project(name))
            .await
            .expect("created");
    }
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let page = admin
            .list_projects(pb::ListProjectsRequest {
                page_size: 2,
                page_token: token,
            })
            .await
            .expect("a page")
            .into_inner();
        assert!(page.projects.len() <= 2);
        names.extend(page.projects.into_iter().map(|p| p.name));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["a", "b", "c", "default", "e"]);
    let error = admin
        .list_projects(pb::ListProjectsRequest {
            page_size: 2,
            page_token: "nonsense".to_owned(),
        })
        .await
        .expect_err("a bad token");
    assert_eq!(error.code(), Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test]
async fn a_repeated_create_gets_the_first_answer() {
    let server = TestServer::start().await;
    let mut admin = AdminServiceClient::new(server.channel().await);
    let request = pb::CreateProjectRequest {
        request_id: Uuid::new_v4().to_string(),
        ..new_project("alpha")
    };
    let first = admin
        .create_project(request.clone())
        .await
        .expect("created")
        .into_inner();
    let second = admin
        .create_project(request.clone())
        .await
        .expect("repeated")
        .into_inner();
    assert_eq!(first, second);
    let other = pb::CreateProjectRequest {
        name: "beta".to_owned(),
        ..request
    };
    assert_eq!(
        admin
            .create_project(other)
            .await
            .expect_err("another request")
            .code(),
        Code::InvalidArgument
    );
    assert_eq!(
        admin
            .create_project(new_project("alpha"))
            .await
            .expect_err("taken")
            .code(),
        Code::AlreadyExists
    );
    server.stop().await;
}

#[tokio::test]
async fn all_bad_fields_are_named_at_once() {
    let server = TestServer::start().await;
    let mut admin = AdminServiceClient::new(server.channel().await);
    let request = pb::CreateProjectRequest {
        name: "Not Good".to_owned(),
        description: "x".repeat(10_001),
        tags: HashMap::new(),
        request_id: "no uuid".to_owned(),
    };
    let status = admin.create_project(request).await.expect_err("refused");
    let details = status.get_error_details();
    let info = details.error_info().expect("a reason");
    assert_eq!(
        (info.reason.as_str(), info.domain.as_str()),
        ("INVALID_ARGUMENT", "mlplat")
    );
    let fields: Vec<_> = details
        .bad_request()
        .expect("fields")
        .field_violations
        .iter()
        .map(|v| v.field.as_str())
        .collect();
    assert_eq!(fields, ["name", "description", "request_id"]);
    server.stop().await;
}

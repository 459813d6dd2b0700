//! Artifacts, the same on local disk and in S3.

use mlplat::{Error, artifacts::UploadOptions, tracking::NewRun};
use mlplat_proto::tracking::v1::{
    self as pb, artifact_service_client::ArtifactServiceClient, upload_artifact_request::Part,
};
use mlplat_tests::{TestServer, s3::TestS3};
use sha2::{Digest as _, Sha256};
use tonic::Code;

/// Larger than a part of an S3 upload, so that there are several.
const LARGE: usize = 40 << 20;

async fn local_and_s3() -> (TestServer, TestServer, TestS3) {
    let s3 = TestS3::start(&["artifacts"]).await;
    let in_s3 = TestServer::builder()
        .config(|config| {
            config.s3 = s3.config();
            config.artifact_root = Some("s3://artifacts/some/prefix".to_owned());
        })
        .start()
        .await;
    (TestServer::start().await, in_s3, s3)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_directories_come_back_as_they_went() {
    let (local, in_s3, _s3) = local_and_s3().await;
    for server in [local, in_s3] {
        let client = server.client();
        let source = server.folder().join("model");
        std::fs::create_dir_all(source.join("weights/deep")).expect("folders");
        let large: Vec<u8> = (0..LARGE).map(|at| (at * 31 % 251) as u8).collect();
        let files = [
            ("README.md", b"hello".to_vec()),
            ("weights/large.bin", large),
            ("weights/deep/empty", Vec::new()),
        ];
        for (path, content) in &files {
            std::fs::write(source.join(path), content).expect("written");
        }
        let run = client.start_run(NewRun::new("e")).await.expect("started");
        run.log_artifact(&source).await.expect("uploaded");
        let one = UploadOptions::default().directory("notes");
        run.log_artifact_with(source.join("README.md"), one)
            .await
            .expect("uploaded");

        let listed = client
            .artifacts()
            .list(run.id(), "")
            .collect(None)
            .await
            .expect("listed");
        let paths: Vec<_> = listed
            .iter()
            .map(|artifact| artifact.path.as_str())
            .collect();
        assert_eq!(
            paths,
            [
                "model/README.md",
                "model/weights/deep/empty",
                "model/weights/large.bin",
                "notes/README.md"
            ]
        );
        let below = client
            .artifacts()
            .list(run.id(), "model/weights")
            .collect(None)
            .await
            .expect("listed");
        assert_eq!(below.len(), 2);

        let target = server.folder().join("back");
        let model = client
            .artifacts()
            .download(run.id(), "model", &target)
            .await
            .expect("downloaded");
        for (path, content) in &files {
            assert!(
                std::fs::read(model.join(path)).expect("there") == *content,
                "{path} differs"
            );
        }
        server.stop().await;
    }
}

fn header(run_id: &str, path: &str, content: &[u8]) -> pb::ArtifactHeader {
    pb::ArtifactHeader {
        run_id: run_id.to_owned(),
        path: path.to_owned(),
        size_bytes: content.len() as u64,
        sha256: hex::encode(Sha256::digest(content)),
        ..Default::default()
    }
}

fn messages(header: pb::ArtifactHeader, content: &'static [u8]) -> Vec<pb::UploadArtifactRequest> {
    [Part::Header(header), Part::Chunk(content.into())]
        .map(|part| pb::UploadArtifactRequest { part: Some(part) })
        .into()
}

#[tokio::test]
async fn what_does_not_fit_its_digest_leaves_no_record() {
    let (local, in_s3, _s3) = local_and_s3().await;
    for server in [local, in_s3] {
        let run = server
            .client()
            .start_run(NewRun::new("e"))
            .await
            .expect("started");
        assert!(run.flush().await);
        let mut artifacts = ArtifactServiceClient::new(server.channel().await);
        let good = header(run.id(), "x", b"content");
        let bad = [
            pb::ArtifactHeader {
                sha256: "0".repeat(64),
                ..good.clone()
            },
            pb::ArtifactHeader {
                size_bytes: 3,
                ..good.clone()
            },
            pb::ArtifactHeader {
                size_bytes: 300,
                ..good.clone()
            },
            pb::ArtifactHeader {
                sha256: "nonsense".to_owned(),
                ..good.clone()
            },
        ];
        for header in bad {
            let stream = tokio_stream::iter(messages(header, b"content"));
            let refused = artifacts
                .upload_artifact(stream)
                .await
                .expect_err("refused");
            assert!(
                matches!(refused.code(), Code::InvalidArgument | Code::DataLoss),
                "{refused:?}"
            );
        }
        let stream = tokio_stream::iter(Vec::<pb::UploadArtifactRequest>::new());
        assert_eq!(
            artifacts
                .upload_artifact(stream)
                .await
                .expect_err("no header")
                .code(),
            Code::InvalidArgument
        );
        let listed = artifacts
            .list_artifacts(pb::ListArtifactsRequest {
                run_id: run.id().to_owned(),
                ..Default::default()
            })
            .await;
        assert!(listed.expect("listed").into_inner().artifacts.is_empty());
        artifacts
            .upload_artifact(tokio_stream::iter(messages(good, b"content")))
            .await
            .expect("good");
        server.stop().await;
    }
}

#[tokio::test]
async fn paths_cannot_leave_the_run() {
    let server = TestServer::start().await;
    let run = server
        .client()
        .start_run(NewRun::new("e"))
        .await
        .expect("started");
    let mut artifacts = ArtifactServiceClient::new(server.channel().await);
    let long = "x".repeat(2_000);
    for path in [
        "..",
        "../x",
        "a/../b",
        "/etc/passwd",
        "a//b",
        "",
        ".",
        "a/./b",
        "a\\b",
        "a\0b",
        "a\nb",
        "a/",
        "a／b",
        "．．/b",
        "a\u{2215}b",
        "a\u{202e}b",
        "C:/x",
        "a/.. /b",
        &long,
    ] {
        let stream = tokio_stream::iter(messages(header(run.id(), path, b"content"), b"content"));
        let refused = artifacts.upload_artifact(stream).await.expect_err(path);
        assert_eq!(
            refused.code(),
            Code::InvalidArgument,
            "{path:?}: {refused:?}"
        );
    }
    // A file cannot be a directory too.
    artifacts
        .upload_artifact(tokio_stream::iter(messages(
            header(run.id(), "a/b", b"content"),
            b"content",
        )))
        .await
        .expect("good");
    for path in ["a", "a/b/c"] {
        let stream = tokio_stream::iter(messages(header(run.id(), path, b"content"), b"content"));
        let refused = artifacts.upload_artifact(stream).await.expect_err(path);
        assert!(
            matches!(
                refused.code(),
                Code::FailedPrecondition | Code::InvalidArgument | Code::AlreadyExists
            ),
            "{path}: {refused:?}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_said_clearly() {
    let s3 = TestS3::start(&[]).await;
    let server = TestServer::builder()
        .config(|config| {
            config.s3 = s3.config();
            config.artifact_root = Some("s3://no-such-bucket".to_owned());
        })
        .start()
        .await;
    let run = server
        .client()
        .start_run(NewRun::new("e"))
        .await
        .expect("started");
    let file = server.folder().join("x");
    std::fs::write(&file, b"content").expect("written");
    let error = run.log_artifact(&file).await.expect_err("no bucket");
    assert!(
        matches!(&error, Error::FailedPrecondition(_)) && error.reason() == "BUCKET_NOT_FOUND",
        "{error:?}"
    );
    server.stop().await;
}

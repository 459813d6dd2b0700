//! Large files in parts.

use std::{collections::BTreeMap, path::Path, sync::atomic::Ordering};

use mlplat::{artifacts::UploadOptions, tracking::NewRun};
use mlplat_proto::tracking::v1::{
    self as pb, begin_upload_response::Outcome, upload_part_request::Part,
};
use mlplat_tests::{TestServer, s3::TestS3};
use tonic::Code;

use super::{
    Artifacts, LARGE, begin, content, finish, local_and_s3, objects, outcome, reason, send_part,
    session, sha256, start,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_where_it_was_broken_off() {
    let (servers, _s3) = local_and_s3(|builder| builder).await;
    for (mut server, _) in servers {
        let run = start(&server).await;
        let content = content(LARGE, 1);
        let request = begin(&run, "large.bin", &content);
        let mut artifacts = Artifacts::new(server.channel().await);
        let first = session(&mut artifacts, request.clone()).await;
        assert_eq!((first.part_bytes, first.stored_parts), (16 << 20, vec![]));
        let first = session(&mut artifacts, request.clone()).await;
        send_part(&mut artifacts, &first, &content, 3, true)
            .await
            .expect("stored");
        let torn = send_part(&mut artifacts, &first, &content, 1, false).await;
        assert_eq!(reason(&torn.expect_err("too short")), "SIZE_MISMATCH");
        let early = finish(&mut artifacts, &first, sha256(&content)).await;
        assert_eq!(reason(&early.expect_err("too early")), "PARTS_MISSING");
        for number in [0, 4] {
            let header = pb::UploadPartHeader {
                upload_id: first.upload_id.clone(),
                number,
                ..Default::default()
            };
            let message = pb::UploadPartRequest {
                part: Some(Part::Header(header)),
            };
            let refused = artifacts.upload_part(tokio_stream::iter([message])).await;
            assert_eq!(
                refused.expect_err("no such part").code(),
                Code::InvalidArgument
            );
        }

        server.restart().await;
        let mut artifacts = Artifacts::new(server.channel().await);
        let second = session(&mut artifacts, request.clone()).await;
        assert_eq!(second.upload_id, first.upload_id);
        assert_eq!(second.stored_parts, [3]);
        // Another state of the file is another upload.
        let other = pb::BeginUploadRequest {
            source: "changed".to_owned(),
            ..request.clone()
        };
        let other = session(&mut artifacts, other).await;
        assert_ne!(other.upload_id, first.upload_id);
        for number in [2, 1] {
            send_part(&mut artifacts, &second, &content, number, true)
                .await
                .expect("stored");
        }
        let record = finish(&mut artifacts, &second, sha256(&content))
            .await
            .expect("recorded");
        assert_eq!(record.size_bytes, LARGE as u64);
        // The answer may be lost: asked again, the content is there.
        let again = finish(&mut artifacts, &second, sha256(&content)).await;
        assert_eq!(again.expect_err("over").code(), Code::NotFound);
        let again = outcome(&mut artifacts, request).await;
        assert!(matches!(again, Outcome::Artifact(known) if known == record));
        let back = server.client().artifacts();
        let back = back
            .download(run.id(), "large.bin", server.folder().join("back"))
            .await
            .expect("downloaded");
        assert!(std::fs::read(back).expect("there") == content);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_does_not_fit_its_digest_is_thrown_away() {
    let (servers, _s3) = local_and_s3(|builder| builder).await;
    for (server, folder) in servers {
        let run = start(&server).await;
        let content = content(LARGE, 2);
        let mut artifacts = Artifacts::new(server.channel().await);
        let unknown = pb::BeginUploadRequest {
            sha256: String::new(),
            ..begin(&run, "x", &content)
        };
        let session = session(&mut artifacts, unknown.clone()).await;
        for number in [1, 2, 3] {
            send_part(&mut artifacts, &session, &content, number, true)
                .await
                .expect("stored");
        }
        let refused = finish(&mut artifacts, &session, "0".repeat(64))
            .await
            .expect_err("another digest");
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, "DIGEST_MISMATCH")
        );
        let listed = server.client().artifacts().list(run.id(), "");
        assert!(listed.collect(None).await.expect("listed").is_empty());
        let left: Vec<_> = objects(&folder)
            .into_iter()
            .filter(|l| *l > 10_000)
            .collect();
        assert_eq!(left, [0_u64; 0]);
        // Nothing of that size is known, so the digest is not asked for.
        let begun = outcome(&mut artifacts, unknown).await;
        assert!(matches!(begun, Outcome::Session(_)));
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_go_past_the_server_where_it_offers_that() {
    let s3 = TestS3::start(&["artifacts"]).await;
    for offered in [true, false] {
        let server = TestServer::builder()
            .config(|config| {
                config.s3 = s3.config();
                config.artifact_root = Some("s3://artifacts".to_owned());
                config.artifacts.direct_transfers = offered;
            })
            .start()
            .await;
        let run = start(&server).await;
        let before = s3.presigned().load(Ordering::Relaxed);
        for (number, options) in [
            UploadOptions::default(),
            UploadOptions::default().through_server(),
        ]
        .into_iter()
        .enumerate()
        {
            let (name, content) = (format!("large-{number}"), content(LARGE, number + 3));
            let file = server.folder().join(&name);
            std::fs::write(&file, &content).expect("written");
            run.log_artifact_with(&file, options)
                .await
                .expect("uploaded");
            let into = server.folder().join("back");
            let back = server.client().artifacts();
            let back = back.download(run.id(), &name, into).await.expect("back");
            assert!(std::fs::read(back).expect("there") == content);
        }
        let direct = s3.presigned().load(Ordering::Relaxed) - before;
        // Three parts up of the first file, five ranges down of both.
        assert_eq!(direct, if offered { 3 + 5 + 5 } else { 0 });
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_content_is_stored_once_per_project() {
    let (servers, _s3) = local_and_s3(|builder| builder).await;
    for (server, folder) in servers {
        let client = server.client();
        client
            .admin()
            .create_project("other", "", BTreeMap::new())
            .await
            .expect("a project");
        let source = server.folder().join("model");
        std::fs::create_dir_all(source.join("copies")).expect("folders");
        for (name, size) in [("small", 5000), ("middling", 3 << 20), ("large", LARGE)] {
            for copy in ["a", "copies/b"] {
                let file = source.join(format!("{copy}-{name}"));
                std::fs::write(file, content(size, 4)).expect("written");
            }
        }
        let stored = |folder: &Path| {
            let mut sizes = objects(folder);
            sizes.retain(|size| *size >= 5000);
            sizes.sort_unstable();
            sizes
        };
        let once = vec![5000, 3 << 20, LARGE as u64];
        for _ in 0..2 {
            let run = start(&server).await;
            run.log_artifact(&source).await.expect("uploaded");
        }
        assert_eq!(stored(&folder), once);
        let other = client.with_project("other");
        let run = other.start_run(NewRun::new("e")).await.expect("started");
        run.log_artifact(&source).await.expect("uploaded");
        assert_eq!(stored(&folder).len(), 2 * once.len());
        let back = other.artifacts();
        let back = back.download(run.id(), "", server.folder().join("back"));
        let back = back.await.expect("downloaded");
        let file = std::fs::read(back.join("model/copies/b-large")).expect("there");
        assert!(file == content(LARGE, 4));
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_never_recorded_half() {
    let server = TestServer::start().await;
    let run = start(&server).await;
    let file = server.folder().join("large");
    let old = content(LARGE, 5);
    std::fs::write(&file, &old).expect("written");
    // Parts of what the file was, left by a client that went away, under the name of its present state.
    let modified = std::fs::metadata(&file).and_then(|file| file.modified());
    let since = modified
        .expect("a time")
        .duration_since(std::time::UNIX_EPOCH);
    let state = format!(
        "{}\0{LARGE}\0{}",
        file.canonicalize().expect("a path").display(),
        since.expect("after 1970").as_nanos()
    );
    let mut artifacts = Artifacts::new(server.channel().await);
    let stale = content(LARGE, 6);
    let request = pb::BeginUploadRequest {
        sha256: String::new(),
        source: sha256(state.as_bytes()),
        ..begin(&run, "large", &stale)
    };
    let left = session(&mut artifacts, request).await;
    send_part(&mut artifacts, &left, &stale, 1, true)
        .await
        .expect("stored");
    run.log_artifact(&file).await.expect("uploaded anew");
    let record = server.client().artifacts().get(run.id(), "large").await;
    assert_eq!(record.expect("a record").sha256, sha256(&old));
    server.stop().await;
}

//! Many small files, ranges of files, and files from before.

use std::time::Instant;

use mlplat_proto::tracking::v1 as pb;
use mlplat_tests::TestServer;
use tonic::Code;

use super::{Artifacts, LARGE, content, local_and_s3, objects, sha256, start};

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_small_files_are_one_object() {
    let (servers, _s3) = local_and_s3(|builder| builder).await;
    for (server, folder) in servers {
        let source = server.folder().join("many");
        std::fs::create_dir_all(&source).expect("a folder");
        for number in 0..1000 {
            let content = content(4096 + number % 3, number)
                .into_iter()
                .chain(number.to_le_bytes())
                .collect::<Vec<u8>>();
            std::fs::write(source.join(format!("file-{number}")), content).expect("written");
        }
        std::fs::write(source.join("nothing"), "").expect("written");
        let run = start(&server).await;
        let started = Instant::now();
        run.log_artifact(&source).await.expect("uploaded");
        let up = started.elapsed();
        let sizes = objects(&folder);
        let packs = sizes.iter().filter(|size| **size > 4_000_000).count();
        assert_eq!(packs, 1, "{sizes:?}");
        let started = Instant::now();
        let back = server.client().artifacts();
        let back = back.download(run.id(), "many", server.folder().join("back"));
        let back = back.await.expect("downloaded");
        eprintln!("1,001 files: up {up:?}, down {:?}", started.elapsed());
        for entry in std::fs::read_dir(&source).expect("folder") {
            let entry = entry.expect("an entry");
            let same = std::fs::read(back.join(entry.file_name())).expect("there")
                == std::fs::read(entry.path()).expect("there");
            assert!(same, "{entry:?}");
        }
        // Again with one file changed: only that one is new.
        std::fs::write(source.join("file-7"), "changed").expect("written");
        run.log_artifact(&source).await.expect("uploaded");
        assert!(objects(&folder).len() > sizes.len());
        let one = server.client().artifacts();
        let one = one.read(run.id(), "many/file-7", 0, 100).await;
        assert_eq!(one.expect("read"), "changed");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_many_files_are_recorded_or_none() {
    let server = TestServer::start().await;
    let run = start(&server).await;
    let mut artifacts = Artifacts::new(server.channel().await);
    let file = |path: &str, content: &'static [u8]| pb::SmallArtifact {
        path: path.to_owned(),
        sha256: sha256(content),
        content: content.into(),
        ..Default::default()
    };
    let wrong = pb::SmallArtifact {
        sha256: "0".repeat(64),
        ..file("w", b"w")
    };
    let mut large = file("l", b"");
    large.content = vec![0; (1 << 20) + 1].into();
    for bad in [
        vec![file("a", b"1"), wrong],
        vec![file("a", b"1"), file("../a", b"1")],
        vec![file("a", b"1"), file("a", b"2")],
        vec![file("a", b"1"), file("a/b", b"2")],
        vec![file("u\u{308}", b"1"), file("ü", b"1")],
        vec![file("a", b"1"), large],
    ] {
        let message = pb::UploadArtifactsRequest {
            run_id: run.id().to_owned(),
            files: bad,
            ..Default::default()
        };
        let refused = artifacts
            .upload_artifacts(tokio_stream::iter([message]))
            .await;
        let refused = refused.expect_err("refused");
        assert!(
            matches!(
                refused.code(),
                Code::InvalidArgument | Code::FailedPrecondition
            ),
            "{refused:?}"
        );
    }
    let none = tokio_stream::iter(Vec::<pb::UploadArtifactsRequest>::new());
    let none = artifacts.upload_artifacts(none).await.expect_err("nothing");
    assert_eq!(none.code(), Code::InvalidArgument);
    let listed = server.client().artifacts().list(run.id(), "");
    assert!(listed.collect(None).await.expect("listed").is_empty());
    assert_eq!(objects(&server.folder().join("data/artifacts")), [0; 0]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_files() {
    let (servers, _s3) = local_and_s3(|builder| builder).await;
    for (server, _) in servers {
        let run = start(&server).await;
        let source = server.folder().join("files");
        std::fs::create_dir(&source).expect("a folder");
        let files = [
            ("a", content(10, 0)),
            ("b", content(5000, 1)),
            ("c", content(LARGE, 2)),
            ("d", Vec::new()),
        ];
        for (name, content) in &files {
            std::fs::write(source.join(name), content).expect("written");
        }
        run.log_artifact(&source).await.expect("uploaded");
        let artifacts = server.client().artifacts();
        for (name, content) in &files {
            let path = format!("files/{name}");
            let record = artifacts.get(run.id(), &path).await.expect("a record");
            let size = content.len();
            let ranges = [
                (0, 1),
                (3, 4),
                (size / 2, size),
                (size, 5),
                (size + 9, 5),
                (0, size),
            ];
            for (start, length) in ranges {
                let expected = &content[start.min(size)..(start + length).min(size)];
                let (start, length) = (start as u64, length as u64);
                let read = artifacts.read(run.id(), &path, start, length).await;
                assert!(read.expect("read") == expected, "{name} {start} {length}");
                let read = artifacts
                    .read_of(run.id(), &path, &record.sha256, start, length)
                    .await;
                assert!(read.expect("read") == expected, "{name} {start} {length}");
            }
        }
        let old = artifacts.get(run.id(), "files/a").await.expect("a record");
        std::fs::write(source.join("a"), "other").expect("written");
        run.log_artifact(&source).await.expect("uploaded");
        let changed = artifacts
            .read_of(run.id(), &old.path, &old.sha256, 0, 3)
            .await;
        assert_eq!(changed.expect_err("changed").reason(), "ARTIFACT_CHANGED");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_before_there_were_objects_is_read() {
    use sea_orm::{ConnectionTrait as _, Database};
    let server = TestServer::start().await;
    let run = start(&server).await;
    let file = server.folder().join("old");
    std::fs::write(&file, "old content").expect("written");
    run.log_artifact(&file).await.expect("uploaded");
    // As it was then: the bytes under their digest, and nothing that says where.
    let folder = server.folder().join("data/artifacts");
    let objects = folder.join("objects");
    let project = std::fs::read_dir(&objects)
        .expect("projects")
        .next()
        .expect("one")
        .expect("an entry");
    let digest = sha256(b"old content");
    let below = folder
        .join("blobs")
        .join(project.file_name())
        .join(&digest[..2]);
    std::fs::create_dir_all(&below).expect("folders");
    std::fs::write(below.join(&digest[2..]), "old content").expect("written");
    std::fs::remove_dir_all(objects).expect("removed");
    let database = Database::connect(server.database_url())
        .await
        .expect("connected");
    for change in [
        "UPDATE artifact_blobs SET object_id = NULL",
        "DELETE FROM artifact_blobs",
    ] {
        database.execute_unprepared(change).await.expect("changed");
        let read = server
            .client()
            .artifacts()
            .read(run.id(), "old", 4, 7)
            .await;
        assert_eq!(read.expect("read"), "content", "after {change}");
    }
    server.stop().await;
}

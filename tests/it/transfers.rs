//! Artifacts on their way: in parts, resumed, past the server, many at once, in ranges; and what is left behind is removed.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use mlplat::{
    artifacts::UploadOptions,
    tracking::{ActiveRun, NewRun},
};
use mlplat_proto::tracking::v1::{
    self as pb, artifact_service_client::ArtifactServiceClient, begin_upload_response::Outcome,
    finish_upload_response::Progress, upload_part_request::Part,
};
use mlplat_server::clock::{Clock as _, SystemClock, TestClock};
use mlplat_tests::{TestServer, TestServerBuilder, s3::TestS3};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

type Artifacts = ArtifactServiceClient<Channel>;

/// More than two parts.
const LARGE: usize = 40 << 20;

/// A server on local disk, and one on S3, with the folder of the objects of each.
async fn local_and_s3(
    configure: impl Fn(TestServerBuilder) -> TestServerBuilder,
) -> (Vec<(TestServer, std::path::PathBuf)>, TestS3) {
    let s3 = TestS3::start(&["artifacts"]).await;
    let local = configure(TestServer::builder()).start().await;
    let in_s3 = configure(TestServer::builder().config(|config| {
        config.s3 = s3.config();
        config.artifact_root = Some("s3://artifacts/p".to_owned());
    }));
    let in_s3 = in_s3.start().await;
    let folder = local.folder().join("data/artifacts");
    let bucket = s3.bucket_folder("artifacts");
    (vec![(local, folder), (in_s3, bucket)], s3)
}

/// Sizes of the files that hold content, below a folder.
fn objects(folder: &Path) -> Vec<u64> {
    let mut sizes = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else {
        return sizes;
    };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            sizes.extend(objects(&path));
        } else if !name.to_string_lossy().ends_with(".parts") {
            sizes.extend(entry.metadata().map(|file| file.len()));
        }
    }
    sizes
}

fn content(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251 + seed) as u8).collect()
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

async fn start(server: &TestServer) -> ActiveRun {
    let run = server.client().start_run(NewRun::new("e")).await;
    run.expect("started")
}

fn begin(run: &ActiveRun, path: &str, content: &[u8]) -> pb::BeginUploadRequest {
    pb::BeginUploadRequest {
        run_id: run.id().to_owned(),
        path: path.to_owned(),
        size_bytes: content.len() as u64,
        sha256: sha256(content),
        source: "the test".to_owned(),
        ..Default::default()
    }
}

async fn outcome(artifacts: &mut Artifacts, request: pb::BeginUploadRequest) -> Outcome {
    let begun = artifacts.begin_upload(request).await.expect("begun");
    begun.into_inner().outcome.expect("an outcome")
}

async fn session(artifacts: &mut Artifacts, request: pb::BeginUploadRequest) -> pb::UploadSession {
    match outcome(artifacts, request).await {
        Outcome::Session(session) => session,
        other => panic!("{other:?}"),
    }
}

/// Sends a part, or (`whole` is false) only half of what it should have.
async fn send_part(
    artifacts: &mut Artifacts,
    session: &pb::UploadSession,
    content: &[u8],
    number: u32,
    whole: bool,
) -> Result<(), Status> {
    let header = pb::UploadPartHeader {
        upload_id: session.upload_id.clone(),
        number,
        ..Default::default()
    };
    let size = session.part_bytes as usize;
    let start = (number as usize - 1) * size;
    let part = &content[start..content.len().min(start + size)];
    let part = if whole { part } else { &part[..part.len() / 2] };
    let chunks = part
        .chunks(1 << 20)
        .map(|chunk| Part::Chunk(Bytes::copy_from_slice(chunk)));
    let messages: Vec<_> = std::iter::once(Part::Header(header))
        .chain(chunks)
        .map(|part| pb::UploadPartRequest { part: Some(part) })
        .collect();
    artifacts
        .upload_part(tokio_stream::iter(messages))
        .await
        .map(|_| ())
}

async fn finish(
    artifacts: &mut Artifacts,
    session: &pb::UploadSession,
    sha256: String,
) -> Result<pb::Artifact, Status> {
    let request = pb::FinishUploadRequest {
        upload_id: session.upload_id.clone(),
        sha256,
        ..Default::default()
    };
    let mut stream = artifacts.finish_upload(request).await?.into_inner();
    while let Some(message) = stream.message().await? {
        if let Some(Progress::Artifact(record)) = message.progress {
            return Ok(record);
        }
    }
    panic!("it ended without a record")
}

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

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_nothing_leads_to_are_removed() {
    let clock = Arc::new(TestClock::new(SystemClock.now()));
    let (servers, _s3) = local_and_s3(|builder| {
        builder
            .clock(clock.clone())
            .config(|config| config.artifacts.collect_every_s = 1)
    })
    .await;
    for (server, folder) in servers {
        let run = start(&server).await;
        let file = server.folder().join("file");
        let small = server.folder().join("small");
        for seed in [1, 2] {
            std::fs::write(&file, content(3 << 20, seed)).expect("written");
            std::fs::write(&small, content(5000, seed)).expect("written");
            for path in [&file, &small] {
                run.log_artifact(path).await.expect("uploaded");
            }
        }
        // One upload that is never finished, one whose client goes away in the middle.
        let mut artifacts = Artifacts::new(server.channel().await);
        let large = content(LARGE, 3);
        let broken = session(&mut artifacts, begin(&run, "broken", &large)).await;
        send_part(&mut artifacts, &broken, &large, 2, true)
            .await
            .expect("stored");
        let stored = || {
            let mut sizes = objects(&folder);
            sizes.retain(|size| *size >= 5000);
            sizes.sort_unstable();
            sizes
        };
        assert!(stored().len() >= 5, "{:?}", stored());
        // Within the time of grace all of it stays.
        clock.advance(Duration::from_secs(20 * 3600));
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let again = session(&mut artifacts, begin(&run, "broken", &large)).await;
        assert_eq!(again.stored_parts, [2]);
        // What is recorded again just before is kept: the content of the first small file.
        std::fs::write(&small, content(5000, 1)).expect("written");
        run.log_artifact_with(&small, UploadOptions::default().directory("kept"))
            .await
            .expect("uploaded");
        clock.advance(Duration::from_secs(25 * 3600));
        let expected = [5000, 5000, 3 << 20];
        eventually("the rest is removed", async || stored() == expected).await;
        let gone = send_part(&mut artifacts, &broken, &large, 1, true).await;
        assert_eq!(gone.expect_err("given up").code(), Code::NotFound);
        let back = server.client().artifacts();
        let back = back.download(run.id(), "", server.folder().join("back"));
        let back = back.await.expect("all records have their bytes");
        for (path, seed, size) in [
            ("file", 2, 3 << 20),
            ("small", 2, 5000),
            ("kept/small", 1, 5000),
        ] {
            let read = std::fs::read(back.join(path)).expect("there");
            assert!(read == content(size, seed), "{path}");
        }
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

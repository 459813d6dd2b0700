//! Artifacts on their way: in parts, resumed, past the server, many at once, in ranges; and what is left behind is removed.

mod crash;
mod heavy;
mod many;
mod orphans;
mod parts;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use mlplat::tracking::{ActiveRun, NewRun};
use mlplat_proto::tracking::v1::{
    self as pb, artifact_service_client::ArtifactServiceClient, begin_upload_response::Outcome,
    finish_upload_response::Progress, upload_part_request::Part,
};
use mlplat_tests::{TestServer, TestServerBuilder, s3::TestS3};
use sha2::{Digest as _, Sha256};
use tonic::{Status, transport::Channel};
use tonic_types::StatusExt as _;

pub(super) type Artifacts = ArtifactServiceClient<Channel>;

/// More than two parts.
pub(super) const LARGE: usize = 40 << 20;

/// A server on local disk, and one on S3, with the folder of the objects of each.
pub(super) async fn local_and_s3(
    configure: impl Fn(TestServerBuilder) -> TestServerBuilder,
) -> (Vec<(TestServer, PathBuf)>, TestS3) {
    let s3 = TestS3::start(&["artifacts"]).await;
    let local = configure(TestServer::builder()).start().await;
    let in_s3 = configure(TestServer::builder().config(|config| {
        config.s3 = s3.config();
        config.artifact_root = Some("s3://artifacts/p".to_owned());
    }));
    let in_s3 = in_s3.start().await;
    let folder = local.folder().join("data/artifacts");
    // Parts lie beside the buckets.
    let bucket = s3.bucket_folder("");
    (vec![(local, folder), (in_s3, bucket)], s3)
}

/// Sizes of the files that hold content, below a folder.
pub(super) fn objects(folder: &Path) -> Vec<u64> {
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

pub(super) fn content(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251 + seed) as u8).collect()
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

pub(super) fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

pub(super) async fn start(server: &TestServer) -> ActiveRun {
    let run = server.client().start_run(NewRun::new("e")).await;
    let run = run.expect("started");
    assert!(run.flush().await);
    run
}

pub(super) fn begin(run: &ActiveRun, path: &str, content: &[u8]) -> pb::BeginUploadRequest {
    pb::BeginUploadRequest {
        run_id: run.id().to_owned(),
        path: path.to_owned(),
        size_bytes: content.len() as u64,
        sha256: sha256(content),
        source: "the test".to_owned(),
        ..Default::default()
    }
}

pub(super) async fn outcome(artifacts: &mut Artifacts, request: pb::BeginUploadRequest) -> Outcome {
    let begun = artifacts.begin_upload(request).await.expect("begun");
    begun.into_inner().outcome.expect("an outcome")
}

pub(super) async fn session(
    artifacts: &mut Artifacts,
    request: pb::BeginUploadRequest,
) -> pb::UploadSession {
    match outcome(artifacts, request).await {
        Outcome::Session(session) => session,
        other => panic!("{other:?}"),
    }
}

/// Sends a part, or (`whole` is false) only half of what it should have.
pub(super) async fn send_part(
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

pub(super) async fn finish(
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

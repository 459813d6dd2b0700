//! What takes long, and what is measured: `cargo test --workspace --test it -- --ignored --nocapture transfers::heavy`.

use std::{fs::File, path::Path, time::Instant};

use mlplat::{Client, artifacts::UploadOptions, tracking::NewRun};
use mlplat_tests::{TestServer, binary::ServerProcess, s3::TestS3};

/// Greatest memory of a process so far, in MiB.
fn peak_mib(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("its state");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().nth(1))
        .and_then(|kib| kib.parse().ok())
        .expect("a number");
    kib / 1024
}

/// A file with some content at both ends, and holes between.
fn sparse(path: &Path, size: u64) {
    use std::os::unix::fs::FileExt as _;
    let file = File::create(path).expect("made");
    file.set_len(size).expect("sized");
    file.write_all_at(b"first", 0).expect("written");
    file.write_all_at(b"last!", size - 5).expect("written");
}

async fn there_and_back(client: &Client, folder: &Path, size: u64, options: UploadOptions) {
    let file = folder.join("large");
    sparse(&file, size);
    let run = client.start_run(NewRun::new("e")).await.expect("started");
    let started = Instant::now();
    run.log_artifact_with(&file, options)
        .await
        .expect("uploaded");
    let up = started.elapsed();
    std::fs::remove_file(&file).expect("removed");
    let started = Instant::now();
    let artifacts = client.artifacts();
    let back = artifacts.download(run.id(), "large", folder).await;
    let back = back.expect("downloaded, and fits its digest");
    eprintln!(
        "{} MiB: up {up:?}, down {:?}",
        size >> 20,
        started.elapsed()
    );
    assert_eq!(std::fs::metadata(&back).expect("there").len(), size);
    let end = artifacts.read(run.id(), "large", size - 5, 5).await;
    assert_eq!(end.expect("read"), "last!");
    std::fs::remove_file(back).expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "moves many GB"]
async fn memory_does_not_grow_with_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = ServerProcess::start(&folder.path().join("data"), &[]);
    let client = Client::connect(server.url()).expect("a client");
    let id = server.id().to_string();
    there_and_back(&client, folder.path(), 64 << 20, UploadOptions::default()).await;
    let before = (peak_mib(&id), peak_mib("self"));
    for size in [2 << 30, (6 << 30) + 12_345] {
        there_and_back(&client, folder.path(), size, UploadOptions::default()).await;
        let after = (peak_mib(&id), peak_mib("self"));
        eprintln!("peak memory in MiB, server and client: {before:?}, then {after:?}");
        assert!(after.0 < before.0 + 128 && after.1 < before.1 + 128);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "moves many GB"]
async fn more_than_five_gigabytes_in_s3() {
    let s3 = TestS3::start(&["artifacts"]).await;
    let server = TestServer::builder()
        .config(|config| {
            config.s3 = s3.config();
            config.artifact_root = Some("s3://artifacts".to_owned());
        })
        .start()
        .await;
    let size = (5 << 30) + (100 << 20) + 1;
    let folder = server.folder();
    there_and_back(&server.client(), &folder, size, UploadOptions::default()).await;
    server.stop().await;
}

//! A disk that is full, on a small tmpfs. Needs the right to mount; without it the test says so and passes.

use std::{path::Path, process::Command};

use mlplat::{Client, Error, RetryPolicy, tracking::NewRun};
use mlplat_proto::tracking::v1::{self as pb, tracking_service_client::TrackingServiceClient};
use mlplat_tests::{binary::ServerProcess, random_text};
use tonic_types::StatusExt as _;

/// Unmounted when dropped.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn mount(path: &'a Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(path).expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(path)
            .output();
        mounted
            .is_ok_and(|mount| mount.status.success())
            .then_some(Self(path))
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_nothing_is_half_stored() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = folder.path().join("disk");
    let Some(_mounted) = Tmpfs::mount(&disk, "12m") else {
        eprintln!("skipped: this user cannot mount a tmpfs");
        return;
    };
    std::fs::write(disk.join("ballast"), vec![0; 4 << 20]).expect("written");
    let server = ServerProcess::start(&disk.join("data"), &[]);
    let client = Client::builder()
        .url(server.url())
        .journal_home(folder.path().join("home"))
        .retry(RetryPolicy::none())
        .build()
        .expect("a client");
    let run = client.start_run(NewRun::new("e")).await.expect("started");

    let large = folder.path().join("large.bin");
    std::fs::write(&large, vec![7; 20 << 20]).expect("written");
    let full = run.log_artifact(&large).await.expect_err("it does not fit");
    assert!(
        matches!(&full, Error::ResourceExhausted(_)) && full.reason() == "STORAGE_FULL",
        "{full:?}"
    );
    assert!(
        client
            .artifacts()
            .list(run.id(), "")
            .collect(None)
            .await
            .expect("listed")
            .is_empty()
    );

    // The journal would keep what the server does not take, so this goes past it.
    assert!(run.flush().await);
    let channel = tonic::transport::Channel::from_shared(server.url().to_owned()).expect("a URL");
    let mut tracking = TrackingServiceClient::new(channel.connect().await.expect("a connection"));
    let mut stored = 0;
    let full = loop {
        let request = pb::LogBatchRequest {
            run_id: run.id().to_owned(),
            params: [(format!("p{stored}"), random_text(30_000))].into(),
            ..Default::default()
        };
        match tracking.log_batch(request).await {
            Ok(_) => stored += 1,
            Err(status) => break status,
        }
    };
    assert_eq!(full.code(), tonic::Code::ResourceExhausted, "{full:?}");
    let info = full.get_error_details();
    let reason = info.error_info().map(|info| info.reason.as_str());
    assert_eq!(reason, Some("STORAGE_FULL"), "{full:?}");
    // It still answers, and has all that it acknowledged.
    assert_eq!(
        client.get_run(run.id()).await.expect("read").params.len(),
        stored
    );
    // With room again everything works as before, and what is acknowledged is kept.
    let point = |key: &str, value: f64| pb::LogBatchRequest {
        run_id: run.id().to_owned(),
        metrics: vec![pb::MetricSeries {
            key: key.to_owned(),
            values: vec![value],
            ..Default::default()
        }],
        ..Default::default()
    };
    for _ in 0..3 {
        let still_full = tracking.log_batch(point("full", 1.0)).await;
        still_full.expect_err("still full");
    }
    std::fs::remove_file(disk.join("ballast")).expect("room");
    for value in 0..3 {
        let stored = tracking.log_batch(point("after", f64::from(value))).await;
        stored.expect("there is room");
    }
    let other = client.start_run(NewRun::new("e")).await.expect("started");
    let check = async |client: Client| {
        let found = client.get_run(run.id()).await.expect("read");
        assert_eq!(found.metrics.get("after").map(|m| m.last_value), Some(2.0));
        client.get_run(other.id()).await.expect("read");
    };
    check(client.clone()).await;
    server.kill();
    let server = ServerProcess::start(&disk.join("data"), &[]);
    check(Client::connect(server.url()).expect("a client")).await;
}

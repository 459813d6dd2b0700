//! A disk that is full, on a small tmpfs. Needs the right to mount; without it the test says so and passes.

use std::{path::Path, process::Command};

use mlplat::{Client, Error, RetryPolicy, tracking::NewRun};
use mlplat_tests::{binary::ServerProcess, random_text};

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

    let mut stored = 0;
    let full = loop {
        match run
            .log_param(format!("p{stored}"), random_text(30_000))
            .await
        {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&full, Error::ResourceExhausted(_)) && full.reason() == "STORAGE_FULL",
        "{full:?}"
    );
    // It still answers, and has all that it acknowledged.
    assert_eq!(
        client.get_run(run.id()).await.expect("read").params.len(),
        stored
    );
    // With room again everything works as before, and what is acknowledged is kept.
    for _ in 0..3 {
        run.log_metric("full", 1.0, None)
            .await
            .expect_err("still full");
    }
    std::fs::remove_file(disk.join("ballast")).expect("room");
    for value in 0..3 {
        run.log_metric("after", f64::from(value), None)
            .await
            .expect("there is room");
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

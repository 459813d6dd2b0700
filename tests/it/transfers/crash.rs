//! The server is killed while files are on their way: every record has its bytes, and the rest is removed.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use mlplat::{Client, RetryPolicy, tracking::NewRun};
use mlplat_tests::{TestDatabase, binary::ServerProcess};

use super::{content, objects};

const WRITERS: usize = 3;
/// Bytes of the files of one directory: packed, in one stream, in parts.
const SIZES: [usize; 4] = [3_000, 70_000, 2 << 20, 20 << 20];

fn client(url: &str) -> Client {
    Client::builder()
        .url(url)
        .retry(RetryPolicy::none())
        .build()
        .expect("a client")
}

/// Uploads directories until the server is gone; the answer is the run, and those that were acknowledged.
async fn write(client: Client, folder: PathBuf, writer: usize) -> Option<(String, usize)> {
    let run = client.start_run(NewRun::new("crash")).await.ok()?;
    for number in 0.. {
        let source = folder.join(format!("{writer}/d{number}"));
        std::fs::create_dir_all(&source).expect("a folder");
        for size in SIZES {
            let seed = writer * 50 + number;
            std::fs::write(source.join(size.to_string()), content(size, seed)).expect("written");
        }
        if run.log_artifact(&source).await.is_err() {
            return Some((run.id().to_owned(), number));
        }
    }
    None
}

/// Compares all that the run has with what was uploaded; the answer is how many bytes that is.
async fn check(client: &Client, folder: &Path, writer: usize, (run, told): (String, usize)) -> u64 {
    let listed = client.artifacts().list(&run, "").collect(None).await;
    let listed = listed.expect("listed");
    let whole = listed
        .iter()
        .filter(|file| file.path.ends_with("/20971520"))
        .count();
    assert!(whole >= told, "{whole} of {told}");
    let into = folder.join(format!("back-{writer}"));
    // What does not fit its digest, or is not there, is an error.
    let back = client.artifacts().download(&run, "", &into).await;
    let back = back.expect("every record has its bytes");
    for file in &listed {
        let source = folder.join(format!("{writer}/{}", file.path));
        let same = std::fs::read(back.join(&file.path)).expect("there")
            == std::fs::read(source).expect("there");
        assert!(same, "{}", file.path);
    }
    std::fs::remove_dir_all(&into).expect("removed");
    listed.iter().map(|file| file.size_bytes).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_leaves_no_record_without_bytes_and_no_bytes_for_long() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let database = TestDatabase::create(folder.path())
        .await
        .expect("a database");
    let flags = database.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let quick = [
        ("MLPLAT_SERVER__ARTIFACTS__ORPHAN_GRACE_S", "2"),
        ("MLPLAT_SERVER__ARTIFACTS__COLLECT_EVERY_S", "1"),
    ];
    let mut recorded = 0;
    for round in 0..3_u64 {
        let server = ServerProcess::start(&data, &flags);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let writer = round as usize * WRITERS + writer;
                let own = folder.path().to_owned();
                tokio::spawn(write(client(server.url()), own, writer))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(900 + 333 * round)).await;
        server.kill();

        let server = ServerProcess::start_with(&data, &flags, &quick);
        let client = client(server.url());
        for (number, writer) in writers.into_iter().enumerate() {
            let writer_number = round as usize * WRITERS + number;
            if let Some(run) = writer.await.expect("no panic") {
                recorded += check(&client, folder.path(), writer_number, run).await;
            }
        }
        // In the end there is nothing but the bytes of the records, each once.
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let stored: u64 = objects(&data.join("artifacts")).iter().sum();
            if stored == recorded {
                break;
            }
            assert!(Instant::now() < deadline, "{stored} of {recorded}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        server.kill();
    }
    database.drop().await.expect("the database is removed");
}

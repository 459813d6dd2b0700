//! The server dies in the middle of a stream of writes: what it had acknowledged is there afterwards.

use std::{path::Path, sync::Arc, time::Duration};

use arrow::{array::AsArray as _, datatypes::Float64Type};
use mlplat::{
    Client, RetryPolicy,
    tracking::{HistoryRange, NewRun},
};
use mlplat_tests::{TestDatabase, binary::ServerProcess};
use tokio::sync::Mutex;

const WRITERS: usize = 4;

/// What one writer was told is stored.
#[derive(Debug, Default)]
struct Acknowledged {
    run_id: String,
    values: Vec<f64>,
    artifacts: Vec<String>,
}

/// Logs until the server is gone.
async fn write(
    client: Client,
    folder: std::path::PathBuf,
    writer: usize,
    acknowledged: Arc<Mutex<Acknowledged>>,
) {
    let run = client.start_run(NewRun::new("crash")).await.expect("begun");
    if !run.flush_within(Duration::from_secs(2)).await {
        return;
    }
    acknowledged.lock().await.run_id = run.id().to_owned();
    for number in 0.. {
        run.log_metric("m", f64::from(number), Some(i64::from(number)))
            .expect("logged");
        if !run.flush_within(Duration::from_secs(2)).await {
            return;
        }
        acknowledged.lock().await.values.push(f64::from(number));
        if number % 10 == 0 {
            let name = format!("file-{writer}-{number}");
            std::fs::write(folder.join(&name), format!("content {name}")).expect("written");
            if run.log_artifact(folder.join(&name)).await.is_err() {
                return;
            }
            acknowledged.lock().await.artifacts.push(name);
        }
    }
}

fn client(url: &str, home: &Path) -> Client {
    Client::builder()
        .url(url)
        .journal_home(home)
        .retry(RetryPolicy::none())
        .build()
        .expect("a client")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_write_survives_kill_9() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let database = TestDatabase::create(folder.path())
        .await
        .expect("a database");
    let flags = database.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    for round in 0..3_u64 {
        let server = ServerProcess::start(&data, &flags);
        let acknowledged: Vec<Arc<Mutex<Acknowledged>>> =
            (0..WRITERS).map(|_| Arc::default()).collect();
        let writers: Vec<_> = acknowledged
            .iter()
            .enumerate()
            .map(|(writer, own)| {
                tokio::spawn(write(
                    client(server.url(), &folder.path().join(format!("home-{writer}"))),
                    folder.path().to_owned(),
                    writer,
                    Arc::clone(own),
                ))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(700 + 150 * round)).await;
        server.kill();
        for writer in writers {
            writer.await.expect("no panic");
        }

        let server = ServerProcess::start(&data, &flags);
        let client = client(server.url(), &folder.path().join("home"));
        let mut checked = 0;
        for own in &acknowledged {
            let own = own.lock().await;
            if own.run_id.is_empty() {
                continue;
            }
            let history = client
                .tracking()
                .metric_history(&own.run_id, "m", HistoryRange::default())
                .await
                .expect("read");
            let stored = history
                .column_by_name("value")
                .expect("values")
                .as_primitive::<Float64Type>()
                .values()
                .to_vec();
            // One more may have been stored whose answer did not arrive; never two of one, never one less.
            assert!(
                stored.starts_with(&own.values) && stored.len() <= own.values.len() + 1,
                "{} stored, {} told",
                stored.len(),
                own.values.len()
            );
            for name in &own.artifacts {
                let into = folder.path().join("back");
                let file = client
                    .artifacts()
                    .download(&own.run_id, name, &into)
                    .await
                    .expect("downloaded");
                assert_eq!(
                    std::fs::read_to_string(file).expect("there"),
                    format!("content {name}")
                );
            }
            checked += own.values.len();
        }
        assert!(checked > WRITERS, "only {checked} writes in round {round}");
        server.kill();
    }
    database.drop().await.expect("the database is removed");
}

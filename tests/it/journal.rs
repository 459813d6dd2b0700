//! The client journal, through the Rust SDK: starting without a server, refused records, clocks, many runs at once. What only
//! processes show (kill -9, forks, full disks) is in tests/python/test_journal.py.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use arrow::{
    array::AsArray as _,
    datatypes::{Float64Type, Int64Type},
};
use mlplat::{
    Client, Error,
    journal::{self, SyncOptions},
    tracking::{HistoryRange, NewRun, RunStatus},
};
use mlplat_tests::{TestDatabase, TestServer, binary::ServerProcess};

/// Steps and values of a metric, as stored.
async fn stored(client: &Client, run_id: &str, key: &str) -> (Vec<i64>, Vec<f64>) {
    let history = client
        .tracking()
        .metric_history(run_id, key, HistoryRange::default())
        .await
        .expect("read");
    let column = |name| history.column_by_name(name).expect("a column");
    (
        column("step").as_primitive::<Int64Type>().values().to_vec(),
        column("value")
            .as_primitive::<Float64Type>()
            .values()
            .to_vec(),
    )
}

fn journals(home: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(home.join("journal"))
        .map(|entries| {
            entries
                .map(|entry| entry.expect("an entry").path())
                .collect()
        })
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_begins_before_its_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = TestDatabase::create(folder.path())
        .await
        .expect("a database");
    let flags = database.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    // Once, to have a port that is free.
    let first = ServerProcess::start(&folder.path().join("data"), &flags);
    let url = first.url().to_owned();
    drop(first);

    let client = Client::builder()
        .url(&url)
        .journal_home(folder.path().join("home"))
        .build()
        .expect("a client");
    let began = SystemTime::now();
    let run = client
        .start_run(NewRun::new("e").tag("t", "x"))
        .await
        .expect("needs no server");
    assert!(began.elapsed().expect("time goes on") < Duration::from_secs(1));
    assert!(!run.started().name.is_empty(), "names are made here");
    for step in 0..1000 {
        run.log_metric("m", step as f64, Some(step))
            .expect("logged");
    }
    run.log_param("p", 1).expect("logged");
    assert!(!run.flush_within(Duration::from_millis(300)).await);
    assert!(matches!(
        client.get_run(run.id()).await,
        Err(Error::Unavailable(_))
    ));

    let address = url.trim_start_matches("http://");
    let mut again = flags.clone();
    again.extend(["--listen", address]);
    let _server = ServerProcess::start(&folder.path().join("data"), &again);
    let ended = run.end(RunStatus::Finished, "done").await.expect("ended");
    assert_eq!(ended.params["p"], "1", "as the server knows it");
    assert_eq!(
        ended.name,
        run.started().name,
        "both sides make the same name"
    );
    assert_eq!(ended.metrics["m"].count, 1000);
    let (steps, _) = stored(&client, run.id(), "m").await;
    assert_eq!(steps, (0..1000).collect::<Vec<_>>());
    assert_eq!(journals(&folder.path().join("home")), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_at_once_keep_their_order() {
    let server = TestServer::start().await;
    let client = server.client();
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(client.start_run(NewRun::new("e")).await.expect("started"));
    }
    for value in 0..2000 {
        for run in &runs {
            // Counted by the server, so that order matters.
            run.log_metric("m", f64::from(value), None).expect("logged");
        }
    }
    for run in &runs {
        run.end(RunStatus::Finished, "").await.expect("ended");
        let (steps, values) = stored(&client, run.id(), "m").await;
        assert_eq!(steps, (0..2000).collect::<Vec<_>>());
        assert!(
            values
                .iter()
                .zip(0..)
                .all(|(value, at)| *value == f64::from(at))
        );
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn misuse_is_said_at_the_call() {
    let server = TestServer::start().await;
    let client = server.client();
    let run = client.start_run(NewRun::new("e")).await.expect("started");
    let refused = run.log_metric("a`b", 1.0, None).expect_err("a bad key");
    assert_eq!(refused.violations()[0].field, "metrics[0].key");
    let refused = run.log_param("", 1).expect_err("a bad key");
    assert!(matches!(refused, Error::InvalidArgument(_)), "{refused:?}");
    let refused = run
        .log_param("k", "x".repeat(70_000))
        .expect_err("too long");
    assert!(matches!(refused, Error::InvalidArgument(_)), "{refused:?}");
    let refused = run.log_series("m", Some(&[1]), &[1.0, 2.0], None);
    assert!(matches!(refused, Err(Error::Misuse(_))));
    let refused = client.start_run(NewRun::new(" e")).await;
    assert!(matches!(refused, Err(Error::InvalidArgument(_))));
    run.log_metric("nan", f64::NAN, Some(1))
        .expect("a NaN is a value");
    let ended = run.end(RunStatus::Finished, "").await.expect("ended");
    assert_eq!(ended.metrics.len(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_loses_nothing() {
    let server = TestServer::start().await;
    let client = server.client();
    // It started an hour ahead of the clock, as it is now.
    let ahead = SystemTime::now() + Duration::from_secs(3600);
    let run = client
        .start_run(NewRun::new("e").started_at(ahead))
        .await
        .expect("started");
    let times: Vec<i64> = (0..100).map(|at| 1_700_000_000_000_000 - at).collect();
    for (at, time) in times.iter().enumerate() {
        let pair = [("m", at as f64)];
        run.log_pairs(pair.into_iter(), Some(at as i64), Some(*time))
            .expect("logged");
    }
    let ended = run.end(RunStatus::Finished, "").await.expect("ended");
    assert_eq!(ended.status, RunStatus::Finished);
    assert!(ended.ended_at >= Some(ended.started_at));
    let (steps, _) = stored(&client, run.id(), "m").await;
    assert_eq!(steps, (0..100).collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_of_a_million_points() {
    let server = TestServer::start().await;
    let client = server.client();
    let run = client.start_run(NewRun::new("e")).await.expect("started");
    let steps: Vec<i64> = (0..1_000_000).collect();
    let values: Vec<f64> = steps.iter().map(|step| (*step as f64).sqrt()).collect();
    run.log_series("m", Some(&steps), &values, None)
        .expect("logged");
    run.end(RunStatus::Finished, "").await.expect("ended");
    assert_eq!(stored(&client, run.id(), "m").await, (steps, values));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_resumed_and_joined() {
    let server = TestServer::start().await;
    let client = server.client();
    let first = client
        .start_run(NewRun::new("e").name("mine"))
        .await
        .expect("started");
    for step in 0..10 {
        first.log_metric("m", 1.0, Some(step)).expect("logged");
    }
    first.end(RunStatus::Failed, "").await.expect("ended");

    let other = client.start_run(NewRun::new("f").id(first.id())).await;
    assert!(matches!(other, Err(Error::AlreadyExists(_))), "{other:?}");
    let missing = NewRun::new("e").id("01890a5d-ac96-774b-bcce-b302099a8057");
    let missing = client.start_run(missing.resume_from(3)).await;
    assert!(matches!(missing, Err(Error::NotFound(_))), "{missing:?}");
    let ended = client.tracking().join_run(first.id()).await;
    assert!(
        matches!(ended, Err(Error::FailedPrecondition(_))),
        "{ended:?}"
    );

    let again = client
        .start_run(
            NewRun::default()
                .id(first.id())
                .keep_experiment()
                .resume_from(5),
        )
        .await
        .expect("resumed");
    assert_eq!(
        (
            again.started().name.as_str(),
            again.started().experiment.as_str()
        ),
        ("mine", "e")
    );
    for step in 5..8 {
        again.log_metric("m", 2.0, Some(step)).expect("logged");
    }
    let rank = client
        .tracking()
        .join_run(first.id())
        .await
        .expect("joined");
    rank.log_metric("rank", 1.0, None).expect("logged");
    assert!(matches!(
        rank.end_soon(RunStatus::Finished, ""),
        Err(Error::Misuse(_))
    ));
    let done = again.end(RunStatus::Finished, "").await.expect("ended");
    assert_eq!(
        (done.status, done.metrics["rank"].count),
        (RunStatus::Finished, 1)
    );
    let (steps, values) = stored(&client, first.id(), "m").await;
    assert_eq!(steps, (0..8).collect::<Vec<_>>());
    assert_eq!(values, [1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_has_nothing_to_do_where_nothing_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Client::builder().journal_home(folder.path());
    let report = journal::sync(settings, SyncOptions::new())
        .await
        .expect("done");
    assert!(report.journals.is_empty());
    assert_eq!((report.live, report.rejected), (0, 0));
}

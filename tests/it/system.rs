//! Measurements of the machine, as metrics of a run.

use std::time::Duration;

use mlplat::{
    Error,
    tracking::{HistoryRange, NewRun, RunStatus},
};
use mlplat_tests::TestServer;

#[tokio::test(flavor = "multi_thread")]
async fn system_metrics_are_logged_until_they_are_stopped() {
    let server = TestServer::start().await;
    let client = server.client();
    let run = client.start_run(NewRun::new("e")).await.expect("started");
    let sampling = run
        .log_system_metrics(Duration::from_millis(200))
        .expect("within a runtime");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    sampling.stop();
    let ended = run.end(RunStatus::Finished, "").await.expect("ended");
    let cpu = ended.metric("system/cpu_percent").expect("sampled");
    assert!((0.0..=100.0).contains(&cpu), "{cpu}");
    assert!(ended.metric("system/process_rss_mb").expect("sampled") > 1.0);
    let count = ended.metrics["system/memory_percent"].count;
    assert!((2..=8).contains(&count), "{count} samples");

    // Nothing comes after the end.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let tracking = client.tracking();
    let history =
        tracking.metric_history(run.id(), "system/memory_percent", HistoryRange::default());
    assert_eq!(history.await.expect("read").num_rows() as u64, count);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_short_an_interval_is_misuse() {
    let server = TestServer::start().await;
    let run = server
        .client()
        .start_run(NewRun::new("e"))
        .await
        .expect("started");
    let refused = run.log_system_metrics(Duration::from_millis(1));
    assert!(matches!(refused, Err(Error::Misuse(_))));
}

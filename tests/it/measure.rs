//! Measurements of the metric store, printed: `cargo test --workspace --test it -- --ignored --nocapture --test-threads 1 measure`.
//! They assert nothing of time; benchmarks/ compares.

use std::time::{Duration, Instant};

use mlplat_proto::tracking::v1::{self as pb, tracking_service_client::TrackingServiceClient};
use mlplat_tests::TestServer;
use tonic::transport::Channel;
use uuid::Uuid;

type Tracking = TrackingServiceClient<Channel>;

async fn create_run(tracking: &mut Tracking) -> String {
    let run_id = Uuid::now_v7().to_string();
    let request = pb::CreateRunRequest {
        run_id: run_id.clone(),
        experiment: "e".to_owned(),
        ..Default::default()
    };
    tracking.create_run(request).await.expect("created");
    run_id
}

/// A noisy curve of float32 values, about fifty points a second, in whole milliseconds.
fn curve(key: &str, first: i64, count: i64) -> pb::MetricSeries {
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ first.cast_unsigned();
    let mut noise = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f64 / f64::from(1 << 24) - 0.5
    };
    let mut at_ms = 1_700_000_000_000 + first * 20;
    let mut series = pb::MetricSeries {
        key: key.to_owned(),
        ..Default::default()
    };
    for step in first..first + count {
        at_ms += 20 + (noise() * 6.0) as i64;
        let loss = 2.0 / (1.0 + step as f64 / 50_000.0) * (1.0 + 0.2 * noise());
        series.steps.push(step);
        series.timestamps_us.push(at_ms * 1000);
        series.values.push(f64::from(loss as f32));
    }
    series
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

/// Batches of the given size for a while, by so many writers with a run each; gives batches a second.
async fn write(server: &TestServer, writers: usize, keys: usize, points: i64, seconds: f64) -> f64 {
    let mut tasks = Vec::new();
    let start = Instant::now();
    for _ in 0..writers {
        let mut tracking = TrackingServiceClient::new(server.channel().await);
        tasks.push(tokio::spawn(async move {
            let run_id = create_run(&mut tracking).await;
            let mut batches = 0;
            while start.elapsed().as_secs_f64() < seconds {
                let metrics = (0..keys)
                    .map(|key| curve(&format!("m{key}"), batches * points, points))
                    .collect();
                let request = pb::LogBatchRequest {
                    run_id: run_id.clone(),
                    writer_id: run_id.clone(),
                    sequence: u64::try_from(batches).expect("rising") + 1,
                    metrics,
                    ..Default::default()
                };
                tracking.log_batch(request).await.expect("logged");
                batches += 1;
            }
            batches
        }));
    }
    let mut batches = 0;
    for task in tasks {
        batches += task.await.expect("no panic");
    }
    batches as f64 / start.elapsed().as_secs_f64()
}

#[ignore = "a measurement"]
#[tokio::test(flavor = "multi_thread")]
async fn measure_writing() {
    let server = TestServer::start().await;
    for writers in [1, 8, 50] {
        let rate = write(&server, writers, 3, 1, 3.0).await;
        println!("{writers} writers, 3 keys x 1 point: {rate:.0} batches/s");
    }
    for (writers, keys, points) in [(1, 1, 50_000), (1, 3, 33_000), (8, 3, 17_000), (8, 3, 300)] {
        let rate = write(&server, writers, keys, points, 3.0).await;
        let total = rate * keys as f64 * points as f64;
        println!(
            "{writers} writers, {keys} keys x {points} points: {rate:.0} batches/s, {total:.0} points/s"
        );
    }
    server.stop().await;
}

#[ignore = "a measurement"]
#[tokio::test(flavor = "multi_thread")]
async fn measure_reading() {
    const POINTS: i64 = 1_000_000;
    let server = TestServer::start().await;
    let mut tracking =
        TrackingServiceClient::new(server.channel().await).max_decoding_message_size(64 << 20);
    let run_id = create_run(&mut tracking).await;
    for first in (0..POINTS).step_by(50_000) {
        let request = pb::LogBatchRequest {
            run_id: run_id.clone(),
            metrics: vec![curve("loss", first, 50_000)],
            ..Default::default()
        };
        tracking.log_batch(request).await.expect("logged");
    }
    for (name, max_buckets, last_points) in [
        ("all of 1,000,000 points", 0, 0),
        ("1,000 buckets of 1,000,000 points", 1000, 0),
        ("the last 100 of 1,000,000 points", 0, 100),
    ] {
        let mut times = Vec::new();
        let mut count = 0;
        for _ in 0..15 {
            let start = Instant::now();
            let request = pb::ReadMetricHistoryRequest {
                run_id: run_id.clone(),
                keys: vec!["loss".to_owned()],
                max_buckets,
                last_points,
                ..Default::default()
            };
            let mut parts = tracking
                .read_metric_history(request)
                .await
                .expect("read")
                .into_inner();
            count = 0;
            while let Some(part) = parts.message().await.expect("a part") {
                count += part.series.expect("points").values.len();
            }
            times.push(start.elapsed());
        }
        println!("{name}: {:.1} ms ({count} points)", median(times));
    }
    server.stop().await;
}

#[ignore = "a measurement"]
#[tokio::test(flavor = "multi_thread")]
async fn measure_runs() {
    let server = TestServer::start().await;
    let mut tracking = TrackingServiceClient::new(server.channel().await);
    create_run(&mut tracking).await;
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        create_run(&mut tracking).await;
        times.push(start.elapsed());
    }
    println!("create_run: {:.2} ms", median(times));
    server.stop().await;
}

#[ignore = "a measurement"]
#[tokio::test(flavor = "multi_thread")]
async fn measure_room() {
    const POINTS: i64 = 3_000_000;
    let server = TestServer::start().await;
    let mut tracking = TrackingServiceClient::new(server.channel().await);
    let run_id = create_run(&mut tracking).await;
    for first in (0..POINTS).step_by(3000) {
        let request = pb::LogBatchRequest {
            run_id: run_id.clone(),
            metrics: vec![curve("loss", first, 3000)],
            ..Default::default()
        };
        tracking.log_batch(request).await.expect("logged");
    }
    let end = pb::EndRunRequest {
        run_id,
        status: pb::RunStatus::Finished.into(),
        ..Default::default()
    };
    tracking.end_run(end).await.expect("ended");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let folder = server.folder();
    let database = folder.join("mlplat.db");
    let size = |path: &std::path::Path| path.metadata().map_or(0, |file| file.len());
    let wal = size(&folder.join("mlplat.db-wal"));
    let file = size(&database);
    println!(
        "{POINTS} points in batches of 3,000: file {file}, log {wal}: {:.2} bytes a point in the file",
        file as f64 / POINTS as f64
    );
    server.stop().await;
}

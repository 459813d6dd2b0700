//! The metric store: histories that are read whole, in parts or for a chart, while others write; group commit; compaction.

use std::{collections::BTreeMap, time::Duration};

use mlplat_proto::tracking::v1::{self as pb, tracking_service_client::TrackingServiceClient};
use mlplat_tests::TestServer;
use tonic::{Code, transport::Channel};
use uuid::Uuid;

type Tracking = TrackingServiceClient<Channel>;

async fn tracking(server: &TestServer) -> Tracking {
    TrackingServiceClient::new(server.channel().await)
}

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

async fn end_run(tracking: &mut Tracking, run_id: &str) {
    let request = pb::EndRunRequest {
        run_id: run_id.to_owned(),
        status: pb::RunStatus::Finished.into(),
        ..Default::default()
    };
    tracking.end_run(request).await.expect("ended");
}

fn series(key: &str, steps: Vec<i64>, values: Vec<f64>) -> pb::MetricSeries {
    pb::MetricSeries {
        key: key.to_owned(),
        timestamps_us: (0..).take(values.len()).map(|at| 7 * at).collect(),
        steps,
        values,
    }
}

fn batch(run_id: &str, metrics: Vec<pb::MetricSeries>) -> pb::LogBatchRequest {
    pb::LogBatchRequest {
        run_id: run_id.to_owned(),
        metrics,
        ..Default::default()
    }
}

fn query(run_id: &str, keys: &[&str]) -> pb::ReadMetricHistoryRequest {
    pb::ReadMetricHistoryRequest {
        run_id: run_id.to_owned(),
        keys: keys.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

/// (step, bits of the value) by key.
async fn read(
    tracking: &mut Tracking,
    query: pb::ReadMetricHistoryRequest,
) -> BTreeMap<String, Vec<(i64, u64)>> {
    let answer = tracking.read_metric_history(query).await;
    let mut parts = answer.expect("read").into_inner();
    let mut found: BTreeMap<String, Vec<(i64, u64)>> = BTreeMap::new();
    while let Some(part) = parts.message().await.expect("a part") {
        let series = part.series.expect("points");
        assert!(!series.values.is_empty(), "no part is empty");
        assert_eq!(series.steps.len(), series.timestamps_us.len());
        let points = series.steps.into_iter().zip(series.values);
        let list = found.entry(series.key).or_default();
        list.extend(points.map(|(step, value)| (step, value.to_bits())));
    }
    found
}

/// A curve with peaks, valleys and gaps.
fn curve(step: i64) -> f64 {
    match step {
        4_321 => 1e9,
        33_333 => -1e9,
        50_000..50_010 => f64::NAN,
        _ => (step as f64 / 500.0).sin(),
    }
}

#[tokio::test]
async fn a_chart_shows_every_peak_and_gap() {
    let server = TestServer::start().await;
    let mut tracking = tracking(&server).await;
    let run = create_run(&mut tracking).await;
    const POINTS: i64 = 200_000;
    for start in (0..POINTS).step_by(30_000) {
        let steps: Vec<i64> = (start..POINTS.min(start + 30_000)).collect();
        let values = steps.iter().map(|step| curve(*step)).collect();
        let request = batch(&run, vec![series("m", steps, values)]);
        tracking.log_batch(request).await.expect("logged");
    }
    let chart = pb::ReadMetricHistoryRequest {
        max_buckets: 100,
        ..query(&run, &["m"])
    };
    let shown = read(&mut tracking, chart).await.remove("m").expect("shown");
    assert!(shown.len() <= 500, "{} points", shown.len());
    assert!(shown.is_sorted_by(|a, b| a.0 < b.0), "each once, in order");
    for (step, bits) in &shown {
        assert_eq!(*bits, curve(*step).to_bits(), "step {step}");
    }
    for step in [0, 4_321, 33_333, 50_000, POINTS - 1] {
        assert!(shown.iter().any(|(found, _)| *found == step), "step {step}");
    }

    let few = pb::ReadMetricHistoryRequest {
        start_step: Some(10),
        end_step: Some(19),
        max_buckets: 100,
        ..query(&run, &["m"])
    };
    let few = read(&mut tracking, few).await.remove("m").expect("shown");
    assert_eq!(
        few.iter().map(|(step, _)| *step).collect::<Vec<_>>(),
        (10..20).collect::<Vec<_>>()
    );
    server.stop().await;
}

#[tokio::test]
async fn the_last_points_are_found() {
    let server = TestServer::start().await;
    let mut tracking = tracking(&server).await;
    let run = create_run(&mut tracking).await;
    // In order, against the order, and all over the place.
    type Order = fn(i64) -> i64;
    let orders: [(&str, Order); 3] = [
        ("up", |at| at),
        ("down", |at| 9_999 - at),
        ("mixed", |at| (at * 7_919) % 10_000),
    ];
    for (key, step) in orders {
        for start in (0..10_000).step_by(900) {
            let steps: Vec<i64> = (start..10_000.min(start + 900)).map(step).collect();
            let values = steps.iter().map(|step| *step as f64).collect();
            let request = batch(&run, vec![series(key, steps, values)]);
            tracking.log_batch(request).await.expect("logged");
        }
        for (last_points, end_step, expected) in [
            (1, None, 9_999..10_000),
            (1_234, None, 8_766..10_000),
            (100, Some(5_555), 5_456..5_556),
            (20_000, None, 0..10_000),
        ] {
            let last = pb::ReadMetricHistoryRequest {
                last_points,
                end_step,
                ..query(&run, &[key])
            };
            let found = read(&mut tracking, last).await.remove(key).expect("found");
            let expected: Vec<(i64, u64)> = expected
                .map(|step| (step, (step as f64).to_bits()))
                .collect();
            assert_eq!(found, expected, "{key}: last {last_points} to {end_step:?}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn one_that_is_refused_does_no_harm_to_the_others() {
    let server = TestServer::start().await;
    let mut first = tracking(&server).await;
    let run = create_run(&mut first).await;
    let used_up = batch(&run, vec![series("used up", vec![i64::MAX], vec![1.0])]);
    first.log_batch(used_up).await.expect("logged");

    let mut writers = Vec::new();
    for writer in 0..40 {
        let mut tracking = first.clone();
        let run = run.clone();
        writers.push(tokio::spawn(async move {
            for at in 0..20 {
                let own = format!("own{writer}");
                let good = pb::LogBatchRequest {
                    params: [(format!("p{writer}"), at.to_string())].into(),
                    ..batch(
                        &run,
                        vec![
                            series("shared", vec![at], vec![f64::from(writer)]),
                            series(&own, vec![], vec![at as f64]),
                        ],
                    )
                };
                let bad = match writer % 4 {
                    0 => batch(&run, vec![series("used up", vec![], vec![1.0])]),
                    1 => batch(
                        &Uuid::now_v7().to_string(),
                        vec![series("x", vec![], vec![1.0])],
                    ),
                    2 => pb::LogBatchRequest {
                        params: (0..10_001)
                            .map(|n| (n.to_string(), String::new()))
                            .collect(),
                        ..batch(&run, vec![series("shared", vec![at], vec![-1.0])])
                    },
                    _ => good.clone(),
                };
                if writer % 4 != 3 {
                    let refused = tracking.log_batch(bad).await.expect_err("refused").code();
                    let code = if writer % 4 == 1 {
                        Code::NotFound
                    } else {
                        Code::InvalidArgument
                    };
                    assert_eq!(refused, code);
                }
                tracking.log_batch(good).await.expect("logged");
            }
        }));
    }
    for writer in writers {
        writer.await.expect("no panic");
    }
    let shared = read(&mut first, query(&run, &["shared"]))
        .await
        .remove("shared");
    let shared = shared.expect("logged");
    assert_eq!(shared.len(), 800);
    assert!(shared.iter().all(|(_, bits)| f64::from_bits(*bits) >= 0.0));
    let own = read(&mut first, query(&run, &["own7"]))
        .await
        .remove("own7");
    let expected: Vec<(i64, u64)> = (0..20).map(|at| (at, (at as f64).to_bits())).collect();
    assert_eq!(own.expect("logged"), expected);
    server.stop().await;
}

#[tokio::test]
async fn what_is_read_stays_the_same_while_chunks_are_merged() {
    let server = TestServer::start().await;
    let mut tracking = tracking(&server).await;
    let run = create_run(&mut tracking).await;
    // Chunks of a few hundred points each.
    const BATCH: i64 = 600;
    const BATCHES: i64 = 400;
    let value = |step: i64| ((step * 31) % 1009) as f64;
    for number in 0..BATCHES {
        let steps: Vec<i64> = (number * BATCH..(number + 1) * BATCH).collect();
        let values = steps.iter().map(|step| value(*step)).collect();
        let request = batch(&run, vec![series("m", steps, values)]);
        tracking.log_batch(request).await.expect("logged");
        if number % 50 == 49 {
            let count = (number + 1) * BATCH;
            let expected: Vec<(i64, u64)> = (0..count)
                .map(|step| (step, value(step).to_bits()))
                .collect();
            let found = read(&mut tracking, query(&run, &["m"])).await.remove("m");
            assert!(found.expect("points") == expected, "after {count} points");
        }
    }
    // A slow reader, and the last merging under it.
    let answer = tracking.read_metric_history(query(&run, &["m"])).await;
    let mut parts = answer.expect("read").into_inner();
    end_run(&mut tracking, &run).await;
    let mut next = 0;
    while let Some(part) = parts.message().await.expect("a part") {
        let series = part.series.expect("points");
        for (step, found) in series.steps.iter().zip(&series.values) {
            assert_eq!((*step, *found), (next, value(next)));
            next += 1;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(next, BATCH * BATCHES);

    // An ended run takes what comes late.
    let late = batch(&run, vec![series("m", vec![], vec![0.5])]);
    tracking.log_batch(late).await.expect("logged");
    let last = pb::ReadMetricHistoryRequest {
        last_points: 2,
        ..query(&run, &["m"])
    };
    let found = read(&mut tracking, last).await.remove("m").expect("points");
    let end = BATCH * BATCHES;
    assert_eq!(
        found,
        [(end - 1, value(end - 1).to_bits()), (end, 0.5f64.to_bits())]
    );
    server.stop().await;
}

#[tokio::test]
async fn ten_thousand_metrics_of_one_run() {
    let server = TestServer::start().await;
    let mut tracking = tracking(&server).await;
    let run = create_run(&mut tracking).await;
    for step in 0..3 {
        let metrics = (0..10_000)
            .map(|key| series(&format!("k{key}"), vec![step], vec![f64::from(key)]))
            .collect();
        tracking
            .log_batch(batch(&run, metrics))
            .await
            .expect("logged");
    }
    let keys: Vec<String> = (9_000..10_000).map(|key| format!("k{key}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = read(&mut tracking, query(&run, &keys)).await;
    assert_eq!(found.len(), 1000);
    for key in 9_000..10_000 {
        let value = f64::from(key).to_bits();
        assert_eq!(
            found[&format!("k{key}")],
            [(0, value), (1, value), (2, value)]
        );
    }
    let request = pb::GetRunRequest {
        run_id: run,
        ..Default::default()
    };
    let run = tracking.get_run(request).await.expect("read").into_inner();
    assert_eq!(run.run.expect("a run").metrics.len(), 10_000);
    server.stop().await;
}

#[tokio::test]
async fn a_run_of_the_most_metrics_is_still_read() {
    let server = TestServer::start().await;
    let mut tracking = tracking(&server).await.max_decoding_message_size(64 << 20);
    let run = create_run(&mut tracking).await;
    // As long as keys may be.
    let key = |number: i32| format!("{number:0>250}");
    let of = |numbers: std::ops::Range<i32>| {
        numbers
            .map(|number| series(&key(number), vec![0], vec![f64::from(number)]))
            .collect()
    };
    for start in (0..100_000).step_by(10_000) {
        let metrics = of(start..start + 10_000);
        let logged = tracking.log_batch(batch(&run, metrics)).await;
        logged.expect("logged");
    }
    let refused = tracking.log_batch(batch(&run, of(99_999..100_001))).await;
    let refused = refused.expect_err("too many");
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(
        refused.message().contains("100001 metric keys"),
        "{refused}"
    );
    let known = batch(&run, vec![series(&key(7), vec![1], vec![0.5])]);
    tracking.log_batch(known).await.expect("of a known key");

    let request = pb::GetRunRequest {
        run_id: run.clone(),
        ..Default::default()
    };
    let found = tracking.get_run(request).await.expect("read").into_inner();
    assert_eq!(found.run.expect("a run").metrics.len(), 100_000);
    let end = pb::EndRunRequest {
        run_id: run,
        status: pb::RunStatus::Finished.into(),
        ..Default::default()
    };
    tracking.end_run(end).await.expect("ended");
    server.stop().await;
}

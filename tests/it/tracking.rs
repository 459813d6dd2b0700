//! Runs, params, tags, metrics, search.

use std::collections::BTreeMap;

use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::{Float64Type, Int64Type},
};
use mlplat::{
    Error,
    tracking::{HistoryRange, MetricPoint, NewRun, RunQuery, RunStatus, RunUpdate},
};
use mlplat_proto::tracking::v1::{self as pb, tracking_service_client::TrackingServiceClient};
use mlplat_tests::TestServer;
use tonic::Code;
use uuid::Uuid;

fn steps(history: &RecordBatch) -> Vec<i64> {
    history
        .column_by_name("step")
        .expect("steps")
        .as_primitive::<Int64Type>()
        .values()
        .to_vec()
}

fn values(history: &RecordBatch) -> Vec<f64> {
    history
        .column_by_name("value")
        .expect("values")
        .as_primitive::<Float64Type>()
        .values()
        .to_vec()
}

#[tokio::test]
async fn a_run_holds_what_was_logged() {
    let server = TestServer::start().await;
    let client = server.client();
    let run = client
        .start_run(NewRun::new("delays").name("first").tag("team", "a"))
        .await
        .expect("started");
    run.log_param("depth", 3).expect("logged");
    run.log_param("depth", 4).expect("logged");
    run.log_metrics([
        MetricPoint::new("mae", 14.2).at_step(Some(1)),
        MetricPoint::new("mae", 13.9).at_step(Some(2)),
        MetricPoint::new("rmse", 20.1).at_step(Some(2)),
    ])
    .expect("logged");
    let ended = run.end(RunStatus::Finished, "").await.expect("ended");
    assert_eq!(
        (ended.status, ended.ended_at.is_some()),
        (RunStatus::Finished, true)
    );

    let read = client.get_run(run.id()).await.expect("read");
    assert_eq!(
        (read.name.as_str(), read.experiment.as_str()),
        ("first", "delays")
    );
    assert_eq!(
        read.params,
        BTreeMap::from([("depth".to_owned(), "4".to_owned())])
    );
    assert_eq!(read.tags["team"], "a");
    assert_eq!(
        (read.metric("mae"), read.metric("rmse")),
        (Some(13.9), Some(20.1))
    );
    server.stop().await;
}

#[tokio::test]
async fn a_history_is_by_step_then_as_logged_and_bit_exact() {
    let server = TestServer::start().await;
    let client = server.client();
    let run = client.start_run(NewRun::new("e")).await.expect("started");
    let odd_nan = f64::from_bits(0x7ff8_dead_beef_0001);
    let logged = [
        (5, 1.0),
        (-3, f64::NEG_INFINITY),
        (5, 2.0),
        (0, -0.0),
        (5, odd_nan),
        (7, f64::INFINITY),
        (0, 0.5),
    ];
    for (step, value) in logged {
        run.log_metric("m", value, Some(step)).expect("logged");
    }
    let history = client
        .tracking()
        .metric_history(run.id(), "m", HistoryRange::default())
        .await
        .expect("read");
    assert_eq!(steps(&history), [-3, 0, 0, 5, 5, 5, 7]);
    let bits: Vec<u64> = values(&history)
        .iter()
        .map(|value| value.to_bits())
        .collect();
    let expected = [
        f64::NEG_INFINITY,
        -0.0,
        0.5,
        1.0,
        2.0,
        odd_nan,
        f64::INFINITY,
    ]
    .map(f64::to_bits);
    assert_eq!(bits, expected);

    let part = client
        .tracking()
        .metric_history(run.id(), "m", HistoryRange::steps(Some(0), Some(5)))
        .await
        .expect("read");
    assert_eq!(steps(&part), [0, 0, 5, 5, 5]);
    let summary = client.get_run(run.id()).await.expect("read").metrics["m"].clone();
    assert_eq!((summary.last_step, summary.count), (7, 7));
    assert_eq!(
        (summary.min, summary.max),
        (Some(f64::NEG_INFINITY), Some(f64::INFINITY))
    );
    server.stop().await;
}

#[tokio::test]
async fn a_step_that_is_left_out_counts_on() {
    let server = TestServer::start().await;
    let client = server.client();
    let run = client.start_run(NewRun::new("e")).await.expect("started");
    for (value, step) in [(1.0, None), (2.0, None), (3.0, Some(10)), (4.0, None)] {
        run.log_metric("m", value, step).expect("logged");
    }
    run.log_metric("only-nan", f64::NAN, None).expect("logged");
    let history = client
        .tracking()
        .metric_history(run.id(), "m", HistoryRange::default())
        .await
        .expect("read");
    assert_eq!(
        (steps(&history), values(&history)),
        (vec![0, 1, 10, 11], vec![1.0, 2.0, 3.0, 4.0])
    );
    let summary = client.get_run(run.id()).await.expect("read").metrics["only-nan"].clone();
    assert!(summary.last_value.is_nan() && summary.min.is_none() && summary.max.is_none());
    server.stop().await;
}

#[tokio::test]
async fn many_points_in_any_order_come_back_sorted() {
    let server = TestServer::start().await;
    let mut tracking = TrackingServiceClient::new(server.channel().await);
    let run_id = Uuid::now_v7().to_string();
    let new = pb::CreateRunRequest {
        run_id: run_id.clone(),
        experiment: "e".to_owned(),
        ..Default::default()
    };
    tracking.create_run(new).await.expect("created");
    // Batches of several sizes whose steps overlap: one after the other, and all over the place.
    const POINTS: i64 = 150_000;
    let step = |at: i64| (at * 7_919) % POINTS;
    let (mut at, mut size) = (0, 1);
    while at < POINTS {
        let range = at..(at + size).min(POINTS);
        let series = pb::MetricSeries {
            key: "m".to_owned(),
            steps: range.clone().map(step).collect(),
            timestamps_us: range.clone().collect(),
            values: range.clone().map(|at| at as f64).collect(),
        };
        let batch = pb::LogBatchRequest {
            run_id: run_id.clone(),
            metrics: vec![series],
            ..Default::default()
        };
        tracking.log_batch(batch).await.expect("logged");
        at = range.end;
        size = (size * 3).min(70_000);
    }
    let request = pb::ReadMetricHistoryRequest {
        run_id: run_id.clone(),
        keys: vec!["m".to_owned()],
        ..Default::default()
    };
    let mut stream = tracking
        .read_metric_history(request)
        .await
        .expect("read")
        .into_inner();
    let mut next = 0;
    while let Some(part) = stream.message().await.expect("a part") {
        let series = part.series.expect("points");
        for (found, value) in series.steps.iter().zip(&series.values) {
            assert_eq!((*found, step(*value as i64)), (next, next));
            next += 1;
        }
    }
    assert_eq!(next, POINTS);
    server.stop().await;
}

#[tokio::test]
async fn a_batch_that_is_sent_again_is_stored_once() {
    let server = TestServer::start().await;
    let mut tracking = TrackingServiceClient::new(server.channel().await);
    let run_id = Uuid::now_v7().to_string();
    let new = pb::CreateRunRequest {
        run_id: run_id.clone(),
        ..Default::default()
    };
    let first = tracking
        .create_run(new.clone())
        .await
        .expect("created")
        .into_inner();
    let again = tracking
        .create_run(new)
        .await
        .expect("the same")
        .into_inner();
    assert_eq!(first.run.expect("a run").id, again.run.expect("a run").id);

    let batch = |sequence| pb::LogBatchRequest {
        run_id: run_id.clone(),
        writer_id: "0197b4e4-0000-7000-8000-000000000001".to_owned(),
        sequence,
        metrics: vec![pb::MetricSeries {
            key: "m".to_owned(),
            steps: vec![],
            timestamps_us: vec![0],
            values: vec![1.0],
        }],
        ..Default::default()
    };
    for (sequence, replayed) in [
        (1, false),
        (1, true),
        (2, false),
        (1, true),
        (2, true),
        (3, false),
    ] {
        let answer = tracking
            .log_batch(batch(sequence))
            .await
            .expect("logged")
            .into_inner();
        assert_eq!(answer.replayed, replayed, "sequence {sequence}");
    }
    let run = tracking
        .get_run(pb::GetRunRequest {
            run_id,
            ..Default::default()
        })
        .await
        .expect("read")
        .into_inner()
        .run;
    assert_eq!(run.expect("a run").metrics[0].count, 3);
    server.stop().await;
}

#[tokio::test]
async fn writers_at_once_lose_nothing() {
    let server = TestServer::start().await;
    let client = server.client();
    let run = client.start_run(NewRun::new("e")).await.expect("started");
    assert!(run.flush().await);
    let writers = (0..8).map(|writer| {
        // Each with a journal of its own, as another process would have.
        let client = server.client_at(&format!("writer-{writer}"));
        let id = run.id().to_owned();
        tokio::spawn(async move {
            let run = client.tracking().join_run(&id).await.expect("joined");
            for step in 0..25 {
                run.log_metric("m", f64::from(writer), Some(step))
                    .expect("logged");
            }
            assert!(run.flush().await);
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("no panic");
    }
    let history = client
        .tracking()
        .metric_history(run.id(), "m", HistoryRange::default())
        .await
        .expect("read");
    assert_eq!(history.num_rows(), 200);
    let sum: f64 = values(&history).iter().sum();
    assert_eq!(sum, (0..8).map(|w| f64::from(w) * 25.0).sum::<f64>());
    server.stop().await;
}

#[tokio::test]
async fn runs_are_nested_and_end_once() {
    let server = TestServer::start().await;
    let client = server.client();
    let parent = client.start_run(NewRun::new("e")).await.expect("started");
    let child = client
        .start_run(NewRun::new("e").parent(parent.id()))
        .await
        .expect("started");
    assert_eq!(child.started().parent_run_id.as_deref(), Some(parent.id()));
    let orphan = client
        .start_run(NewRun::new("e").parent(Uuid::now_v7().to_string()))
        .await
        .expect("no server is asked");
    // The server refuses it, and says so when somebody asks.
    let refused = client.get_run(orphan.id()).await;
    assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");

    let tracking = client.tracking();
    tracking
        .end_run(child.id(), RunStatus::Failed, "out of memory")
        .await
        .expect("ended");
    tracking
        .end_run(child.id(), RunStatus::Failed, "out of memory")
        .await
        .expect("the same again");
    let other = tracking
        .end_run(child.id(), RunStatus::Finished, "")
        .await
        .expect_err("ended otherwise");
    assert_eq!(other.reason(), "RUN_ENDED");
    let read = client.get_run(child.id()).await.expect("read");
    assert_eq!(
        (read.status, read.status_message.as_str()),
        (RunStatus::Failed, "out of memory")
    );

    let update = RunUpdate::default()
        .name("renamed")
        .tags(BTreeMap::from([("a".to_owned(), "b".to_owned())]));
    let renamed = tracking
        .update_run(child.id(), update)
        .await
        .expect("changed");
    assert_eq!((renamed.name.as_str(), renamed.tags.len()), ("renamed", 1));
    server.stop().await;
}

#[tokio::test]
async fn search_filters_orders_and_pages() {
    let server = TestServer::start().await;
    let client = server.client();
    for number in 0..10 {
        let run = client
            .start_run(
                NewRun::new("delays")
                    .name(format!("run-{number}"))
                    .tag("odd", (number % 2).to_string()),
            )
            .await
            .expect("started");
        run.log_param("depth", number).expect("logged");
        if number != 4 {
            run.log_metric("mae", 20.0 - f64::from(number), None)
                .expect("logged");
        }
        run.end(
            if number == 9 {
                RunStatus::Failed
            } else {
                RunStatus::Finished
            },
            "",
        )
        .await
        .expect("ended");
    }
    let search = |query: RunQuery| {
        let tracking = client.tracking();
        async move {
            let runs = tracking.search_runs(query.page_size(3)).collect(None).await;
            runs.map(|runs| runs.into_iter().map(|run| run.name).collect::<Vec<_>>())
        }
    };
    let filter = |filter: &str| {
        RunQuery::new()
            .filter(filter)
            .order_by("attributes.name ASC")
    };
    let cases = [
        ("metrics.mae < 13", vec!["run-8", "run-9"]),
        (
            "metrics.mae <= 13 AND attributes.status = 'FINISHED'",
            vec!["run-7", "run-8"],
        ),
        (
            "params.depth = '3' OR tags.odd = \"1\" AND metrics.mae > 18",
            vec!["run-1", "run-3"],
        ),
        ("(params.depth IN ('0', '9')) and not_there", vec![]),
        (
            "attributes.name LIKE 'run-%' AND tags.odd != '1' AND metrics.mae >= 18",
            vec!["run-0", "run-2"],
        ),
        ("params.`depth` IN ('0', '9')", vec!["run-0", "run-9"]),
        ("attributes.name ILIKE 'RUN-4'", vec!["run-4"]),
    ];
    for (text, expected) in cases {
        match search(filter(text)).await {
            Ok(found) => assert_eq!(found, expected, "{text}"),
            Err(error) => assert!(
                text.contains("not_there") && matches!(error, Error::InvalidArgument(_)),
                "{text}: {error}"
            ),
        }
    }
    // Without the metric a run comes last, either way.
    let by = |order: &str| RunQuery::new().experiment("delays").order_by(order);
    let ascending = search(by("metrics.mae ASC")).await.expect("found");
    assert_eq!(
        (ascending[0].as_str(), ascending[9].as_str()),
        ("run-9", "run-4")
    );
    let descending = search(by("metrics.mae DESC")).await.expect("found");
    assert_eq!(
        (descending[0].as_str(), descending[9].as_str()),
        ("run-0", "run-4")
    );
    let newest_first = search(RunQuery::new()).await.expect("found");
    assert_eq!(
        (newest_first.len(), newest_first[0].as_str()),
        (10, "run-9")
    );

    for bad in [
        "metrics.mae <",
        "mae < 3",
        "params.depth = ",
        "metrics.mae < 'x' )",
        "'",
        "metrics.mae LIKE 'x'",
        "drop table runs",
    ] {
        let error = search(RunQuery::new().filter(bad)).await.expect_err(bad);
        assert!(
            matches!(&error, Error::InvalidArgument(detail) if detail.violations.iter().any(|v| v.field == "filter")),
            "{bad}: {error:?}"
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn bad_requests_are_refused_with_all_bad_fields() {
    let server = TestServer::start().await;
    let mut tracking = TrackingServiceClient::new(server.channel().await);
    let unknown = tracking
        .get_run(pb::GetRunRequest {
            run_id: Uuid::now_v7().to_string(),
            ..Default::default()
        })
        .await
        .expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
    let run_id = Uuid::now_v7().to_string();
    tracking
        .create_run(pb::CreateRunRequest {
            run_id: run_id.clone(),
            ..Default::default()
        })
        .await
        .expect("created");
    let series = |key: &str, times: usize, values: usize| pb::MetricSeries {
        key: key.to_owned(),
        steps: vec![],
        timestamps_us: vec![0; times],
        values: vec![0.0; values],
    };
    let requests = [
        pb::LogBatchRequest {
            run_id: "no uuid".to_owned(),
            ..Default::default()
        },
        pb::LogBatchRequest {
            run_id: run_id.clone(),
            metrics: vec![series("m", 2, 1)],
            ..Default::default()
        },
        pb::LogBatchRequest {
            run_id: run_id.clone(),
            metrics: vec![series("", 1, 1)],
            ..Default::default()
        },
        pb::LogBatchRequest {
            run_id: run_id.clone(),
            metrics: vec![series("a\u{0}b", 1, 1)],
            ..Default::default()
        },
        pb::LogBatchRequest {
            run_id: run_id.clone(),
            params: [("p".to_owned(), "x".repeat(70_000))].into(),
            ..Default::default()
        },
        pb::LogBatchRequest {
            run_id,
            writer_id: "w".to_owned(),
            ..Default::default()
        },
    ];
    for request in requests {
        let refused = tracking
            .log_batch(request.clone())
            .await
            .expect_err("refused");
        assert_eq!(refused.code(), Code::InvalidArgument, "{request:?}");
    }
    let bad_time = pb::CreateRunRequest {
        started_at: Some(prost_types::Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        }),
        run_id: "x".to_owned(),
        ..Default::default()
    };
    let refused = tracking.create_run(bad_time).await.expect_err("refused");
    assert!(
        refused.message().contains("started_at") && refused.message().contains("run_id"),
        "{}",
        refused.message()
    );
    server.stop().await;
}

/// A run that does not fit into a message could neither be read nor ended.
#[tokio::test]
async fn a_run_always_fits_into_a_message() {
    let server = TestServer::start().await;
    let client = server.client();
    let large = |from: usize, count: usize| {
        (from..from + count).map(|n| (format!("k{n}"), "x".repeat(60_000)))
    };
    let mut tracking = TrackingServiceClient::new(server.channel().await);
    let mut runs = Vec::new();
    for _ in 0..3 {
        let run = client.start_run(NewRun::new("e")).await.expect("started");
        run.log_params(large(0, 100)).expect("it fits");
        assert!(run.flush().await);
        // The journal would keep what the server does not take, so this goes past it.
        let request = pb::LogBatchRequest {
            run_id: run.id().to_owned(),
            params: large(100, 100).collect(),
            ..Default::default()
        };
        let refused = tracking.log_batch(request).await.expect_err("too much");
        assert!(
            refused.code() == Code::InvalidArgument && refused.message().contains("bytes"),
            "{refused:?}"
        );
        run.end(RunStatus::Finished, "").await.expect("ended");
        runs.push(run.id().to_owned());
    }
    let found = client
        .tracking()
        .search_runs(RunQuery::new())
        .collect(None)
        .await
        .expect("in several pages");
    let found: Vec<_> = found.iter().rev().map(|run| run.id.clone()).collect();
    assert_eq!(found, runs);
    server.stop().await;
}

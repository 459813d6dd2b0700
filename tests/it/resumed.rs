//! Runs whose processes die, come back late, or go on from an earlier step.

use std::{sync::Arc, time::Duration};

use mlplat_proto::{
    lineage::v1::{self as lineage, lineage_service_client::LineageServiceClient},
    tracking::v1::{self as pb, tracking_service_client::TrackingServiceClient},
};
use mlplat_server::clock::{Clock as _, TestClock, Timestamp};
use mlplat_tests::TestServer;
use tonic::{Code, transport::Channel};
use uuid::Uuid;

const START: i64 = 1_767_312_000_000_000;
const SECOND: i64 = 1_000_000;

fn at(micros: i64) -> Option<prost_types::Timestamp> {
    Some(Timestamp(micros).to_proto())
}

struct Platform {
    server: TestServer,
    clock: Arc<TestClock>,
    tracking: TrackingServiceClient<Channel>,
    lineage: LineageServiceClient<Channel>,
}

impl Platform {
    /// A server whose clock is turned by the test, and that looks for silent runs every second.
    async fn start() -> Self {
        let clock = Arc::new(TestClock::new(Timestamp(START)));
        let server = TestServer::builder()
            .clock(Arc::clone(&clock) as Arc<_>)
            .config(|config| {
                config.tracking.heartbeat_interval_s = 1;
                config.tracking.heartbeat_timeout_s = 100;
            })
            .start()
            .await;
        let channel = server.channel().await;
        Self {
            server,
            clock,
            tracking: TrackingServiceClient::new(channel.clone()),
            lineage: LineageServiceClient::new(channel),
        }
    }

    async fn create_run(&mut self) -> String {
        let run_id = Uuid::now_v7().to_string();
        let request = pb::CreateRunRequest {
            run_id: run_id.clone(),
            experiment: "e".to_owned(),
            ..Default::default()
        };
        self.tracking.create_run(request).await.expect("created");
        run_id
    }

    async fn run(&mut self, run_id: &str) -> pb::Run {
        let request = pb::GetRunRequest {
            run_id: run_id.to_owned(),
            ..Default::default()
        };
        let answer = self.tracking.get_run(request).await.expect("read");
        answer.into_inner().run.expect("a run")
    }

    async fn beat(&mut self, run_id: &str) -> pb::HeartbeatRunsResponse {
        let request = pb::HeartbeatRunsRequest {
            run_ids: vec![run_id.to_owned()],
            ..Default::default()
        };
        let answer = self.tracking.heartbeat_runs(request).await.expect("heard");
        answer.into_inner()
    }

    async fn end(&mut self, run_id: &str, ended_at: Option<prost_types::Timestamp>) -> pb::Run {
        let request = pb::EndRunRequest {
            run_id: run_id.to_owned(),
            status: pb::RunStatus::Finished.into(),
            ended_at,
            ..Default::default()
        };
        let answer = self.tracking.end_run(request).await.expect("ended");
        answer.into_inner().run.expect("a run")
    }

    async fn log(&mut self, run_id: &str, steps: &[i64], values: &[f64]) {
        let now = self.clock.now().micros();
        let request = pb::LogBatchRequest {
            run_id: run_id.to_owned(),
            metrics: vec![pb::MetricSeries {
                key: "m".to_owned(),
                steps: steps.to_vec(),
                timestamps_us: vec![now; values.len()],
                values: values.to_vec(),
            }],
            ..Default::default()
        };
        self.tracking.log_batch(request).await.expect("logged");
    }

    async fn history(&mut self, run_id: &str, branch: Option<u32>) -> Vec<(i64, f64)> {
        let request = pb::ReadMetricHistoryRequest {
            run_id: run_id.to_owned(),
            keys: vec!["m".to_owned()],
            branch,
            ..Default::default()
        };
        let answer = self.tracking.read_metric_history(request).await;
        let mut parts = answer.expect("read").into_inner();
        let mut points = Vec::new();
        while let Some(part) = parts.message().await.expect("a part") {
            let series = part.series.expect("points");
            points.extend(series.steps.into_iter().zip(series.values));
        }
        points
    }

    async fn resume(&mut self, run_id: &str, from_step: Option<i64>, request_id: Uuid) -> pb::Run {
        let request = pb::ResumeRunRequest {
            run_id: run_id.to_owned(),
            from_step,
            request_id: request_id.to_string(),
            ..Default::default()
        };
        let answer = self.tracking.resume_run(request).await.expect("resumed");
        answer.into_inner().run.expect("a run")
    }

    /// Waits until the run is in this state.
    async fn until(&mut self, run_id: &str, status: pb::RunStatus) -> pb::Run {
        for _ in 0..100 {
            let run = self.run(run_id).await;
            if run.status() == status {
                return run;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the run does not become {}", status.as_str_name())
    }

    /// The types of the lineage events of a run, oldest first.
    async fn events(&mut self, run_id: &str) -> Vec<String> {
        let request = lineage::ListEventsRequest {
            run_id: run_id.to_owned(),
            ..Default::default()
        };
        let answer = self.lineage.list_events(request).await.expect("listed");
        let mut types: Vec<String> = answer
            .into_inner()
            .events
            .iter()
            .map(|event| event.event_type.clone())
            .collect();
        types.reverse();
        types
    }
}

#[tokio::test]
async fn a_silent_run_is_shown_as_crashed_until_it_is_heard_of() {
    let mut platform = Platform::start().await;
    let run = platform.create_run().await;
    let quiet = platform.create_run().await;
    assert_eq!(platform.beat(&run).await.interval_s, 1);
    assert_eq!(platform.run(&run).await.heartbeat_at, at(START));

    platform.clock.advance(Duration::from_secs(99));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(platform.run(&run).await.status(), pb::RunStatus::Running);
    platform.clock.advance(Duration::from_secs(2));
    let crashed = platform.until(&run, pb::RunStatus::Crashed).await;
    assert_eq!(crashed.ended_at, at(START), "when it was last heard of");
    assert!(crashed.status_message.contains("last heard of"));
    // It never sent one.
    assert_eq!(platform.run(&quiet).await.status(), pb::RunStatus::Running);

    platform.beat(&run).await;
    let back = platform.run(&run).await;
    assert_eq!(
        (back.status(), back.ended_at, back.status_message.as_str()),
        (pb::RunStatus::Running, None, "")
    );
    platform.clock.advance(Duration::from_secs(101));
    platform.until(&run, pb::RunStatus::Crashed).await;
    // What was logged long ago is no sign of life; what is logged now is.
    let old = pb::LogBatchRequest {
        run_id: run.clone(),
        metrics: vec![pb::MetricSeries {
            key: "m".to_owned(),
            timestamps_us: vec![START],
            values: vec![1.0],
            ..Default::default()
        }],
        ..Default::default()
    };
    platform.tracking.log_batch(old).await.expect("logged");
    assert_eq!(platform.run(&run).await.status(), pb::RunStatus::Crashed);
    platform.log(&run, &[], &[2.0]).await;
    assert_eq!(platform.run(&run).await.status(), pb::RunStatus::Running);
    platform.clock.advance(Duration::from_secs(101));
    platform.until(&run, pb::RunStatus::Crashed).await;

    // Its own clock is far behind; its end comes last all the same.
    let ended = platform.end(&run, at(START + 5 * SECOND)).await;
    assert_eq!(ended.status(), pb::RunStatus::Finished);
    assert_eq!(ended.ended_at, at(START + 5 * SECOND));
    assert_eq!(
        platform.events(&run).await,
        [
            "START", "ABORT", "RUNNING", "ABORT", "RUNNING", "ABORT", "COMPLETE"
        ]
    );
    assert_eq!(platform.beat(&run).await.ended_run_ids, [run]);
    assert!(
        platform
            .beat(&Uuid::now_v7().to_string())
            .await
            .ended_run_ids
            .is_empty(),
        "it may be created yet"
    );
    platform.server.stop().await;
}

#[tokio::test]
async fn a_crash_that_is_told_late_is_dated_when_it_was() {
    let mut platform = Platform::start().await;
    let run = platform.create_run().await;
    platform.clock.advance(Duration::from_secs(500));
    let told = |seconds: i64| pb::HeartbeatRunsRequest {
        run_ids: vec![run.clone()],
        last_heard_at: at(START + seconds * SECOND),
        ..Default::default()
    };
    let heard = platform.tracking.heartbeat_runs(told(30)).await;
    heard.expect("heard");
    let crashed = platform.until(&run, pb::RunStatus::Crashed).await;
    assert_eq!(crashed.ended_at, at(START + 30 * SECOND));
    assert_eq!(crashed.heartbeat_at, crashed.ended_at);

    // Somebody else knows more; who knows less changes nothing.
    for seconds in [200, 100] {
        let heard = platform.tracking.heartbeat_runs(told(seconds)).await;
        heard.expect("heard");
        let still = platform.run(&run).await;
        assert_eq!(still.status(), pb::RunStatus::Crashed);
        assert_eq!(still.ended_at, at(START + 200 * SECOND));
    }
    // A clock that is ahead brings no run back, and says nothing of the future.
    let heard = platform.tracking.heartbeat_runs(told(5000)).await;
    heard.expect("heard");
    let still = platform.run(&run).await;
    assert_eq!(still.status(), pb::RunStatus::Crashed);
    assert_eq!(still.heartbeat_at, at(START + 500 * SECOND));
    platform.server.stop().await;
}

#[tokio::test]
async fn a_journal_that_comes_late_changes_nothing_twice() {
    let mut platform = Platform::start().await;
    let run_id = Uuid::now_v7().to_string();
    let create = pb::CreateRunRequest {
        run_id: run_id.clone(),
        experiment: "e".to_owned(),
        started_at: at(START - 50 * SECOND),
        ..Default::default()
    };
    platform
        .tracking
        .create_run(create.clone())
        .await
        .expect("created");
    // The clock was set back while it ran.
    let ended = platform.end(&run_id, at(START - 60 * SECOND)).await;
    assert_eq!(ended.ended_at, at(START - 50 * SECOND));
    let again = platform.end(&run_id, at(START - 60 * SECOND)).await;
    assert_eq!(again.ended_at, ended.ended_at);
    let same = platform
        .tracking
        .create_run(create)
        .await
        .expect("the same");
    assert_eq!(
        same.into_inner().run.expect("a run").status(),
        pb::RunStatus::Finished
    );
    platform.server.stop().await;
}

#[tokio::test]
async fn numbered_records_are_stored_once() {
    let mut platform = Platform::start().await;
    let run_id = platform.create_run().await;
    let batch = |first_sequence, sequence| pb::LogBatchRequest {
        run_id: run_id.clone(),
        writer_id: "0197b4e4-0000-7000-8000-000000000001".to_owned(),
        first_sequence,
        sequence,
        metrics: vec![pb::MetricSeries {
            key: "m".to_owned(),
            values: vec![0.0; 1],
            ..Default::default()
        }],
        ..Default::default()
    };
    // (first, last) -> (replayed, stored)
    for (first, last, replayed, stored) in [
        (1, 10, false, 10),
        (1, 10, true, 10),
        (5, 8, true, 10),
        (8, 20, true, 10),
        (11, 20, false, 20),
        (0, 20, true, 20),
        (0, 21, false, 21),
        (30, 40, false, 40),
    ] {
        let answer = platform.tracking.log_batch(batch(first, last)).await;
        let answer = answer.expect("answered").into_inner();
        assert_eq!(
            (answer.replayed, answer.stored_sequence),
            (replayed, stored),
            "{first}..={last}"
        );
    }
    let refused = platform.tracking.log_batch(batch(51, 50)).await;
    assert_eq!(
        refused.expect_err("turned round").code(),
        Code::InvalidArgument
    );
    assert_eq!(platform.history(&run_id, None).await.len(), 4);
    platform.server.stop().await;
}

#[tokio::test]
async fn a_run_goes_on_from_an_earlier_step() {
    let mut platform = Platform::start().await;
    let run = platform.create_run().await;
    platform
        .log(&run, &[0, 1, 2, 3], &[1.0, f64::NAN, 0.5, -9.0])
        .await;
    platform.end(&run, None).await;

    let request_id = Uuid::now_v7();
    let resumed = platform.resume(&run, Some(2), request_id).await;
    assert_eq!(resumed.status(), pb::RunStatus::Running);
    assert_eq!(resumed.ended_at, None);
    assert_eq!(resumed.branches.len(), 1);
    let branch = &resumed.branches[0];
    assert_eq!((branch.number, branch.parent, branch.from_step), (1, 0, 2));
    let summary = &resumed.metrics[0];
    assert_eq!((summary.count, summary.last_step), (2, 1));
    assert_eq!((summary.min, summary.max), (Some(1.0), Some(1.0)));
    assert!(summary.last_value.is_nan());

    // No step: counts on in the new branch.
    platform.log(&run, &[], &[0.25]).await;
    let again = platform.resume(&run, Some(2), request_id).await;
    assert_eq!(again.branches.len(), 1, "the same resumption");
    platform.log(&run, &[3], &[0.125]).await;

    let shown = |points: Vec<(i64, f64)>| {
        points
            .into_iter()
            .map(|(step, value)| (step, value.to_bits()))
            .collect::<Vec<_>>()
    };
    let nan = f64::NAN;
    let old = shown(vec![(0, 1.0), (1, nan), (2, 0.5), (3, -9.0)]);
    let new = shown(vec![(0, 1.0), (1, nan), (2, 0.25), (3, 0.125)]);
    assert_eq!(shown(platform.history(&run, Some(0)).await), old);
    assert_eq!(shown(platform.history(&run, Some(1)).await), new);
    assert_eq!(shown(platform.history(&run, None).await), new);

    // All is rewound: the metric has no points, and comes back with the next one.
    let empty = platform.resume(&run, Some(i64::MIN), Uuid::now_v7()).await;
    assert!(empty.metrics.is_empty());
    platform.log(&run, &[], &[7.0]).await;
    assert_eq!(platform.history(&run, None).await, [(0, 7.0)]);
    assert_eq!(shown(platform.history(&run, Some(1)).await), new);
    let unknown = pb::ReadMetricHistoryRequest {
        run_id: run.clone(),
        keys: vec!["m".to_owned()],
        branch: Some(3),
        ..Default::default()
    };
    let refused = platform.tracking.read_metric_history(unknown).await;
    assert_eq!(refused.expect_err("unknown").code(), Code::NotFound);
    assert_eq!(
        platform.events(&run).await,
        ["START", "COMPLETE", "RUNNING"]
    );
    platform.server.stop().await;
}

/// Rewinds of rewinds, against copies of what was visible.
#[tokio::test]
async fn branches_equal_copies() {
    use rand::{RngExt as _, SeedableRng as _};

    let mut platform = Platform::start().await;
    for seed in 0..4 {
        let mut random = rand::rngs::StdRng::seed_from_u64(seed);
        let run = platform.create_run().await;
        // What each branch shows, as logged.
        let mut branches: Vec<Vec<(i64, f64)>> = vec![Vec::new()];
        for turn in 0..40 {
            if random.random_range(0..5) == 0 {
                let from_step = random.random_range(-5..45);
                platform.resume(&run, Some(from_step), Uuid::now_v7()).await;
                let mut copy = branches.last().expect("a branch").clone();
                copy.retain(|(step, _)| *step < from_step);
                branches.push(copy);
            } else {
                // Now and then enough for chunks of their own.
                let count = if random.random_range(0..6) == 0 {
                    700
                } else {
                    3
                };
                let steps: Vec<i64> = (0..count).map(|_| random.random_range(0..40)).collect();
                let values: Vec<f64> = (0..count).map(|at| f64::from(turn * 1000 + at)).collect();
                platform.log(&run, &steps, &values).await;
                let current = branches.last_mut().expect("a branch");
                current.extend(steps.into_iter().zip(values));
            }
            if turn == 20 {
                platform.end(&run, None).await;
                platform.resume(&run, None, Uuid::now_v7()).await;
            }
        }
        for (number, points) in (0..).zip(&branches) {
            let mut expected = points.clone();
            expected.sort_by_key(|(step, _)| *step);
            let found = platform.history(&run, Some(number)).await;
            assert_eq!(found, expected, "seed {seed}, branch {number}");
        }
        let current = branches.last().expect("a branch");
        let known = platform.run(&run).await;
        let summary = known.metrics.first();
        assert_eq!(summary.map_or(0, |s| s.count), current.len() as u64);
        if let Some(summary) = summary {
            let values = || current.iter().map(|(_, value)| *value);
            assert_eq!(summary.min, values().reduce(f64::min));
            assert_eq!(summary.max, values().reduce(f64::max));
            let last = current.iter().max_by_key(|(step, _)| *step);
            assert_eq!(
                last.map(|(step, value)| (*step, *value)),
                Some((summary.last_step, summary.last_value))
            );
        }
        assert_eq!(known.branches.len() + 1, branches.len());
    }
    platform.server.stop().await;
}

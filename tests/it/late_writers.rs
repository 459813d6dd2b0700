//! Processes whose run another one has taken up again from an earlier step, and what arrives late of them.

use mlplat_proto::tracking::v1::{self as pb, tracking_service_client::TrackingServiceClient};
use mlplat_tests::TestServer;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tonic::transport::Channel;
use uuid::Uuid;

/// A process that logs to the run.
#[derive(Debug, Clone)]
struct Process {
    writer: Uuid,
    origin: Option<Uuid>,
    sequence: u64,
}

impl Process {
    fn new(origin: Option<Uuid>) -> Self {
        Self {
            writer: Uuid::now_v7(),
            origin,
            sequence: 0,
        }
    }
}

struct Platform {
    server: TestServer,
    tracking: TrackingServiceClient<Channel>,
}

impl Platform {
    async fn start() -> Self {
        let server = TestServer::start().await;
        let tracking = TrackingServiceClient::new(server.channel().await);
        Self { server, tracking }
    }

    async fn create_run(&mut self, process: &Process) -> String {
        let run_id = Uuid::now_v7().to_string();
        let request = pb::CreateRunRequest {
            run_id: run_id.clone(),
            experiment: "e".to_owned(),
            writer_id: process.writer.to_string(),
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

    async fn resume(&mut self, run_id: &str, from_step: i64, request_id: Uuid, process: &Process) {
        let request = rewind(run_id, from_step, request_id, process);
        self.tracking.resume_run(request).await.expect("resumed");
    }

    async fn end(&mut self, run_id: &str, process: &Process) -> pb::Run {
        let request = pb::EndRunRequest {
            run_id: run_id.to_owned(),
            status: pb::RunStatus::Failed.into(),
            writer_id: process.writer.to_string(),
            ..Default::default()
        };
        let answer = self.tracking.end_run(request).await.expect("answered");
        answer.into_inner().run.expect("a run")
    }

    async fn log(
        &mut self,
        run_id: &str,
        process: &mut Process,
        change: impl FnOnce(&mut pb::LogBatchRequest),
    ) {
        process.sequence += 1;
        let mut request = pb::LogBatchRequest {
            run_id: run_id.to_owned(),
            writer_id: process.writer.to_string(),
            sequence: process.sequence,
            origin_writer_id: process.origin.map(|id| id.to_string()).unwrap_or_default(),
            ..Default::default()
        };
        change(&mut request);
        let answer = self.tracking.log_batch(request.clone()).await;
        assert!(!answer.expect("logged").into_inner().replayed);
        let again = self.tracking.log_batch(request).await;
        assert!(again.expect("logged").into_inner().replayed);
    }

    async fn points(&mut self, run_id: &str, process: &mut Process, steps: &[i64], values: &[f64]) {
        self.log(run_id, process, |request| {
            request.metrics = vec![pb::MetricSeries {
                key: "m".to_owned(),
                steps: steps.to_vec(),
                timestamps_us: vec![1; values.len()],
                values: values.to_vec(),
            }];
        })
        .await;
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
}

fn rewind(
    run_id: &str,
    from_step: i64,
    request_id: Uuid,
    process: &Process,
) -> pb::ResumeRunRequest {
    pb::ResumeRunRequest {
        run_id: run_id.to_owned(),
        from_step: Some(from_step),
        request_id: request_id.to_string(),
        writer_id: process.writer.to_string(),
        ..Default::default()
    }
}

/// Metrics that the current branch shows nothing of are known all the same, and stay for the branches that show them.
#[tokio::test]
async fn a_metric_may_come_late_as_a_whole() {
    let mut platform = Platform::start().await;
    let mut first = Process::new(None);
    let run = platform.create_run(&first).await;
    let second = Process::new(None);
    platform.resume(&run, 5, Uuid::now_v7(), &second).await;
    platform
        .points(&run, &mut first, &[5, 9], &[0.5, 0.9])
        .await;
    assert!(platform.run(&run).await.metrics.is_empty());
    assert_eq!(platform.history(&run, None).await, []);
    assert_eq!(platform.history(&run, Some(0)).await, [(5, 0.5), (9, 0.9)]);
    platform.server.stop().await;
}

/// A process that took the run up while it had no network, and was followed by another one, does not take it back.
#[tokio::test]
async fn a_resumption_that_comes_late_is_of_the_time_before() {
    let mut platform = Platform::start().await;
    let mut first = Process::new(None);
    let run = platform.create_run(&first).await;
    platform
        .points(&run, &mut first, &[0, 1, 2], &[0.0, 1.0, 2.0])
        .await;
    let (mut offline, mut second) = (Process::new(None), Process::new(None));
    platform.resume(&run, 2, Uuid::now_v7(), &second).await;
    platform.points(&run, &mut second, &[2], &[12.0]).await;
    platform.end(&run, &second).await;

    let request = pb::ResumeRunRequest {
        resumed_at: Some(prost_types::Timestamp {
            seconds: 1_700_000_000,
            nanos: 0,
        }),
        ..rewind(&run, 1, Uuid::now_v7(), &offline)
    };
    for _ in 0..2 {
        let answer = platform.tracking.resume_run(request.clone()).await;
        let still = answer.expect("answered").into_inner().run.expect("a run");
        assert_eq!(still.status(), pb::RunStatus::Failed, "it has ended");
        assert_eq!(still.branches.len(), 1);
    }
    platform.points(&run, &mut offline, &[2], &[22.0]).await;
    assert_eq!(
        platform.end(&run, &offline).await.status(),
        pb::RunStatus::Failed
    );
    assert_eq!(
        platform.history(&run, None).await,
        [(0, 0.0), (1, 1.0), (2, 12.0)]
    );
    assert_eq!(
        platform.history(&run, Some(0)).await,
        [(0, 0.0), (1, 1.0), (2, 2.0), (2, 22.0)]
    );
    // Where nobody followed, it is a resumption like any other.
    let alone = platform.create_run(&first).await;
    let late = pb::ResumeRunRequest {
        run_id: alone.clone(),
        ..request
    };
    platform.tracking.resume_run(late).await.expect("resumed");
    assert_eq!(platform.run(&alone).await.branches.len(), 1);
    platform.server.stop().await;
}

#[tokio::test]
async fn what_comes_late_belongs_to_the_older_branch() {
    let mut platform = Platform::start().await;
    let mut first = Process::new(None);
    let run = platform.create_run(&first).await;
    let mut forked = Process::new(Some(first.writer));
    let mut second = Process::new(None);
    let rewind = Uuid::now_v7();
    platform.resume(&run, 2, rewind, &second).await;
    platform
        .points(&run, &mut second, &[2, 3], &[12.0, 13.0])
        .await;
    platform
        .log(&run, &mut second, |request| {
            request.params.insert("lr".to_owned(), "0.2".to_owned());
            request.tags.insert("who".to_owned(), "second".to_owned());
        })
        .await;

    platform
        .points(
            &run,
            &mut first,
            &[0, 1, 2, 3, 9],
            &[0.0, 1.0, 2.0, 3.0, 9.0],
        )
        .await;
    // Counted on from what its own branch has.
    platform.points(&run, &mut forked, &[], &[10.0]).await;
    platform
        .log(&run, &mut first, |request| {
            request.params.insert("lr".to_owned(), "0.1".to_owned());
            request.params.insert("depth".to_owned(), "3".to_owned());
            request.tags.insert("who".to_owned(), "first".to_owned());
        })
        .await;
    // One that neither began the run nor took it up logs to the current branch.
    let mut other = Process::new(None);
    platform.points(&run, &mut other, &[], &[14.0]).await;

    let old = [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0), (9, 9.0), (10, 10.0)];
    let new = [(0, 0.0), (1, 1.0), (2, 12.0), (3, 13.0), (4, 14.0)];
    assert_eq!(platform.history(&run, Some(0)).await, old);
    assert_eq!(platform.history(&run, None).await, new);
    let known = platform.run(&run).await;
    let summary = &known.metrics[0];
    assert_eq!((summary.count, summary.last_step), (5, 4));
    assert_eq!((summary.min, summary.max), (Some(0.0), Some(14.0)));
    assert_eq!(
        (&*known.params["lr"], &*known.params["depth"]),
        ("0.2", "3")
    );
    assert_eq!(known.tags["who"], "second");

    assert_eq!(
        platform.end(&run, &first).await.status(),
        pb::RunStatus::Running,
        "its end is not that of the run"
    );
    // A call that is repeated moves nobody, not even when others have rewound since.
    let third = Process::new(None);
    platform.resume(&run, 3, Uuid::now_v7(), &third).await;
    platform.resume(&run, 2, rewind, &second).await;
    platform.points(&run, &mut second, &[7], &[17.0]).await;
    assert_eq!(platform.history(&run, None).await, new[..3]);
    assert_eq!(
        platform.history(&run, Some(1)).await.last(),
        Some(&(7, 17.0))
    );
    let ended = platform.end(&run, &third).await;
    assert_eq!(ended.status(), pb::RunStatus::Failed);
    platform.server.stop().await;
}

/// Ranks that joined the run are named by nobody; what comes late of them is placed by its time.
#[tokio::test]
async fn ranks_that_come_late_are_of_the_branch_of_their_time() {
    let mut platform = Platform::start().await;
    let first = Process::new(None);
    let run = platform.create_run(&first).await;
    let second = Process::new(None);
    platform.resume(&run, 5, Uuid::now_v7(), &second).await;
    let now = i64::try_from(
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970")
            .as_micros(),
    )
    .expect("fits");
    // (joined, when) -> the branch
    for (key, joined, at, late_branch) in [
        ("before", true, 1, true),
        ("now", true, now, false),
        ("imported", false, 1, false),
    ] {
        let mut rank = Process::new(None);
        platform
            .log(&run, &mut rank, |request| {
                request.late = true;
                request.joined = joined;
                request.metrics = vec![pb::MetricSeries {
                    key: key.to_owned(),
                    steps: vec![7],
                    timestamps_us: vec![at],
                    values: vec![1.0],
                }];
            })
            .await;
        let shown = platform.run(&run).await.metrics;
        let is_shown = shown.iter().any(|summary| summary.key == key);
        assert_eq!(is_shown, !late_branch, "{key}");
    }
    platform.server.stop().await;
}

/// What each branch shows: its own points, and those of older ones below the steps that newer ones begin with.
#[derive(Default)]
struct Model {
    own: Vec<Vec<(i64, f64)>>,
    from_steps: Vec<i64>,
}

impl Model {
    fn shown(&self, branch: usize) -> Vec<(i64, f64)> {
        let mut shown = Vec::new();
        for (number, own) in self.own.iter().enumerate().take(branch + 1) {
            let cut = self.from_steps[number + 1..=branch].iter().min();
            let points = own.iter().copied();
            shown.extend(points.filter(|(step, _)| cut.is_none_or(|cut| step < cut)));
        }
        shown.sort_by_key(|(step, _)| *step);
        shown
    }

    fn log(&mut self, branch: usize, steps: &[i64], values: &[f64]) {
        for (at, value) in values.iter().enumerate() {
            let last = self.shown(branch).last().map(|(step, _)| *step);
            let step = match steps.get(at) {
                Some(step) => *step,
                None => last.map_or(0, |last| last + 1),
            };
            self.own[branch].push((step, *value));
        }
    }
}

/// Against the plain meaning, with several processes that come early and late, large and small batches, and compaction.
#[tokio::test]
async fn late_writers_equal_a_model() {
    let mut platform = Platform::start().await;
    for seed in 0..6 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut processes = vec![(Process::new(None), 0)];
        let run = platform.create_run(&processes[0].0).await;
        let mut model = Model {
            own: vec![Vec::new()],
            from_steps: vec![0],
        };
        for turn in 0..70 {
            let current = model.own.len() - 1;
            match random.random_range(0..14) {
                0 => {
                    let from_step = random.random_range(-5..45);
                    if random.random_range(0..3) > 0 {
                        processes.push((Process::new(None), 0));
                    }
                    let last = processes.last_mut().expect("a process");
                    platform
                        .resume(&run, from_step, Uuid::now_v7(), &last.0)
                        .await;
                    last.1 = current + 1;
                    model.own.push(Vec::new());
                    model.from_steps.push(from_step);
                }
                1 => {
                    let (of, branch) = processes.choose(&mut random).expect("one").clone();
                    processes.push((Process::new(Some(of.writer)), branch));
                    let forked = processes.last_mut().expect("a process");
                    platform.points(&run, &mut forked.0, &[3], &[0.5]).await;
                    model.log(branch, &[3], &[0.5]);
                    // A forked one takes no run up.
                    let at = random.random_range(0..processes.len());
                    processes.swap(0, at);
                    processes.rotate_left(1);
                }
                2 => {
                    // What is there already becomes few chunks.
                    let newest = processes.iter().find(|(_, branch)| *branch == current);
                    let (process, _) = newest.expect("one").clone();
                    platform.end(&run, &process).await;
                    let request = pb::ResumeRunRequest {
                        run_id: run.clone(),
                        ..Default::default()
                    };
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    platform
                        .tracking
                        .resume_run(request)
                        .await
                        .expect("resumed");
                }
                _ => {
                    let at = random.random_range(0..processes.len());
                    let (process, branch) = &mut processes[at];
                    let count = if random.random_range(0..6) == 0 {
                        700
                    } else {
                        3
                    };
                    let steps: Vec<i64> = match random.random_range(0..4) {
                        0 if count == 3 => Vec::new(),
                        _ => (0..count).map(|_| random.random_range(0..40)).collect(),
                    };
                    let values: Vec<f64> =
                        (0..count).map(|at| f64::from(turn * 1000 + at)).collect();
                    platform.points(&run, process, &steps, &values).await;
                    model.log(*branch, &steps, &values);
                }
            }
        }
        for number in 0..model.own.len() {
            let branch = u32::try_from(number).expect("few");
            let found = platform.history(&run, Some(branch)).await;
            assert_eq!(found, model.shown(number), "seed {seed}, branch {number}");
        }
        let current = model.shown(model.own.len() - 1);
        let known = platform.run(&run).await;
        let summary = known.metrics.first();
        assert_eq!(summary.map_or(0, |s| s.count), current.len() as u64);
        if let Some(summary) = summary {
            let values = || current.iter().map(|(_, value)| *value);
            assert_eq!(summary.min, values().reduce(f64::min));
            assert_eq!(summary.max, values().reduce(f64::max));
            let last = current.last().map(|(step, _)| *step);
            assert_eq!(Some(summary.last_step), last);
        }
    }
    platform.server.stop().await;
}

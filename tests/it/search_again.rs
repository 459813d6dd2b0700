//! Searching again: runs that a search has read before come from memory, and never as they no longer are.

use std::{sync::Arc, time::Duration};

use mlplat_proto::tracking::v1::{
    self as pb, tracking_service_client::TrackingServiceClient as Tracking,
};
use mlplat_server::clock::{Clock as _, TestClock, Timestamp};
use mlplat_tests::TestServer;
use tonic::transport::Channel;
use uuid::Uuid;

/// A run that is looked at again after every change.
struct Watched {
    tracking: Tracking<Channel>,
    run_id: String,
    seen: Option<pb::Run>,
}

impl Watched {
    async fn new(server: &TestServer, create: pb::CreateRunRequest) -> Self {
        let mut tracking = Tracking::new(server.channel().await);
        let created = tracking.create_run(create).await.expect("created");
        let mut run = Self {
            tracking,
            run_id: created.into_inner().run.expect("a run").id,
            seen: None,
        };
        run.changed_by("CreateRun").await;
        run
    }

    /// The run as a search shows it, asked for twice, as the second answer may come from memory.
    async fn found(&mut self, fields: &[&str]) -> pb::Run {
        let mut last = None;
        for _ in 0..2 {
            let request = pb::SearchRunsRequest {
                filter: format!("attributes.run_id = '{}'", self.run_id),
                fields: fields.iter().map(|field| (*field).to_owned()).collect(),
                view: pb::View::All.into(),
                ..Default::default()
            };
            let found = self.tracking.search_runs(request).await.expect("searched");
            last = found.into_inner().runs.pop();
            assert!(last.is_some(), "the run is found");
        }
        last.expect("the run")
    }

    /// Whether the search shows what there is after something has changed.
    async fn changed_by(&mut self, what: &str) {
        let request = pb::GetRunRequest {
            run_id: self.run_id.clone(),
            view: pb::View::All.into(),
            ..Default::default()
        };
        let run = self.tracking.get_run(request).await.expect("read");
        let run = run.into_inner().run.expect("a run");
        assert_eq!(self.found(&[]).await, run, "after {what}");
        assert_ne!(self.seen.as_ref(), Some(&run), "{what} changes something");
        self.seen = Some(run);
    }

    async fn log(&mut self, batch: pb::LogBatchRequest) {
        let batch = pb::LogBatchRequest {
            run_id: self.run_id.clone(),
            ..batch
        };
        self.tracking.log_batch(batch).await.expect("logged");
    }

    async fn resume(&mut self, from_step: Option<i64>) {
        let request = pb::ResumeRunRequest {
            run_id: self.run_id.clone(),
            from_step,
            request_id: Uuid::now_v7().to_string(),
            ..Default::default()
        };
        self.tracking.resume_run(request).await.expect("resumed");
    }

    async fn end(&mut self) {
        let request = pb::EndRunRequest {
            run_id: self.run_id.clone(),
            status: pb::RunStatus::Finished.into(),
            ..Default::default()
        };
        self.tracking.end_run(request).await.expect("ended");
    }
}

async fn rename(tracking: &mut Tracking<Channel>, experiment: &str, name: &str) {
    let get = pb::GetExperimentRequest {
        name: experiment.to_owned(),
        ..Default::default()
    };
    let found = tracking.get_experiment(get).await.expect("read");
    let update = pb::UpdateExperimentRequest {
        experiment: Some(pb::Experiment {
            id: found.into_inner().experiment.expect("an experiment").id,
            name: name.to_owned(),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["name".to_owned()],
        }),
        ..Default::default()
    };
    tracking.update_experiment(update).await.expect("renamed");
}

fn text(key: &str, value: &str) -> std::collections::HashMap<String, String> {
    [(key.to_owned(), value.to_owned())].into()
}

fn loss(now: Timestamp, step: i64, value: f64) -> Vec<pb::MetricSeries> {
    vec![pb::MetricSeries {
        key: "loss".to_owned(),
        steps: vec![step],
        timestamps_us: vec![now.micros()],
        values: vec![value],
    }]
}

#[tokio::test]
async fn what_has_changed_is_read_anew() {
    let clock = Arc::new(TestClock::new(Timestamp(1_700_000_000_000_000)));
    let server = TestServer::builder().clock(clock.clone()).start().await;
    let create = pb::CreateRunRequest {
        experiment: "first".to_owned(),
        tags: text("team", "a"),
        ..Default::default()
    };
    let mut run = Watched::new(&server, create).await;

    // Most changes come in the same microsecond: it is not the time of a change that tells them apart.
    let now = clock.now();
    let batches = [
        (
            "a point",
            pb::LogBatchRequest {
                metrics: loss(now, 0, 2.0),
                ..Default::default()
            },
        ),
        (
            "another point",
            pb::LogBatchRequest {
                metrics: loss(now, 1, 1.0),
                ..Default::default()
            },
        ),
        (
            "a param",
            pb::LogBatchRequest {
                params: text("lr", "0.1"),
                ..Default::default()
            },
        ),
        (
            "a tag",
            pb::LogBatchRequest {
                tags: text("team", "b"),
                ..Default::default()
            },
        ),
    ];
    for (what, batch) in batches {
        run.log(batch).await;
        run.changed_by(what).await;
    }

    let update = pb::UpdateRunRequest {
        run: Some(pb::Run {
            id: run.run_id.clone(),
            name: "another name".to_owned(),
            tags: text("only", "this"),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["name".to_owned(), "tags".to_owned()],
        }),
        ..Default::default()
    };
    run.tracking.update_run(update).await.expect("updated");
    run.changed_by("UpdateRun").await;

    let inputs = pb::LogInputsRequest {
        run_id: run.run_id.clone(),
        inputs: vec![pb::DatasetInput {
            name: "flights".to_owned(),
            digest: "d1".to_owned(),
            ..Default::default()
        }],
        ..Default::default()
    };
    run.tracking.log_inputs(inputs).await.expect("logged");
    run.changed_by("LogInputs").await;

    let heartbeat = pb::HeartbeatRunsRequest {
        run_ids: vec![run.run_id.clone()],
        ..Default::default()
    };
    run.tracking.heartbeat_runs(heartbeat).await.expect("heard");
    run.changed_by("HeartbeatRuns").await;
    clock.advance(Duration::from_secs(3600));
    run.log(pb::LogBatchRequest {
        metrics: loss(clock.now(), 2, 0.5),
        ..Default::default()
    })
    .await;
    run.changed_by("a point that is a sign of life").await;

    run.resume(Some(1)).await;
    run.changed_by("ResumeRun from a step").await;
    run.end().await;
    run.changed_by("EndRun").await;
    run.resume(None).await;
    run.changed_by("ResumeRun").await;

    let delete = pb::DeleteParamsAndTagsRequest {
        run_id: run.run_id.clone(),
        params: vec!["lr".to_owned()],
        tags: vec!["only".to_owned()],
        ..Default::default()
    };
    let deleted = run.tracking.delete_params_and_tags(delete).await;
    deleted.expect("deleted");
    run.changed_by("DeleteParamsAndTags").await;
    server.stop().await;
}

#[tokio::test]
async fn what_was_moved_deleted_or_renamed_is_read_anew() {
    let server = TestServer::start().await;
    let create = pb::CreateRunRequest {
        experiment: "first".to_owned(),
        ..Default::default()
    };
    let mut run = Watched::new(&server, create).await;
    let run_ids = vec![run.run_id.clone()];

    let delete = pb::DeleteRunsRequest {
        run_ids: run_ids.clone(),
        ..Default::default()
    };
    run.tracking.delete_runs(delete).await.expect("deleted");
    run.changed_by("DeleteRuns").await;
    let restore = pb::RestoreRunsRequest {
        run_ids: run_ids.clone(),
        ..Default::default()
    };
    run.tracking.restore_runs(restore).await.expect("restored");
    run.changed_by("RestoreRuns").await;
    let to_second = pb::MoveRunsRequest {
        run_ids,
        experiment: "second".to_owned(),
        ..Default::default()
    };
    run.tracking.move_runs(to_second).await.expect("moved");
    run.changed_by("MoveRuns").await;

    rename(&mut run.tracking, "second", "third").await;
    run.changed_by("UpdateExperiment").await;
    let delete = pb::DeleteExperimentRequest {
        name: "third".to_owned(),
        ..Default::default()
    };
    let deleted = run.tracking.delete_experiment(delete).await;
    deleted.expect("deleted");
    run.changed_by("DeleteExperiment").await;
    let restore = pb::RestoreExperimentRequest {
        name: "third".to_owned(),
        ..Default::default()
    };
    let restored = run.tracking.restore_experiment(restore).await;
    restored.expect("restored");
    run.changed_by("RestoreExperiment").await;
    server.stop().await;
}

#[tokio::test]
async fn a_run_whose_parent_is_removed_is_read_anew() {
    let server = TestServer::start().await;
    let mut tracking = Tracking::new(server.channel().await);
    let parent_run_id = Uuid::now_v7().to_string();
    let run_id = Uuid::now_v7().to_string();
    for (run_id, parent_run_id) in [(&parent_run_id, ""), (&run_id, parent_run_id.as_str())] {
        let new = pb::CreateRunRequest {
            run_id: run_id.clone(),
            parent_run_id: parent_run_id.to_owned(),
            ..Default::default()
        };
        tracking.create_run(new).await.expect("created");
    }
    let mut run = Watched {
        tracking,
        run_id,
        seen: None,
    };
    run.changed_by("CreateRun").await;
    let delete = pb::DeleteRunsRequest {
        run_ids: vec![parent_run_id],
        ..Default::default()
    };
    run.tracking.delete_runs(delete).await.expect("deleted");
    let admin = server.client().admin();
    let collected = admin.collect_garbage(Some(0), false).await;
    assert_eq!(collected.expect("collected").runs, 1);
    run.changed_by("CollectGarbage").await;
    assert_eq!(run.found(&[]).await.parent_run_id, "");
    server.stop().await;
}

#[tokio::test]
async fn a_name_is_that_of_the_experiment_that_has_it_now() {
    let server = TestServer::start().await;
    let mut tracking = Tracking::new(server.channel().await);
    for (round, order) in ["", "metrics.loss ASC"].into_iter().enumerate() {
        let experiment = format!("sweep {round}");
        let mut ids = Vec::new();
        for _ in 0..2 {
            let create = pb::CreateRunRequest {
                experiment: experiment.clone(),
                ..Default::default()
            };
            let created = tracking.create_run(create).await.expect("created");
            let run_id = created.into_inner().run.expect("a run").id;
            let log = pb::LogBatchRequest {
                run_id: run_id.clone(),
                metrics: loss(Timestamp(1_700_000_000_000_000), 0, 1.0),
                ..Default::default()
            };
            tracking.log_batch(log).await.expect("logged");
            ids.push(run_id);
            for _ in 0..2 {
                let search = pb::SearchRunsRequest {
                    experiments: vec![experiment.clone()],
                    order_by: Some(order.to_owned())
                        .filter(|order| !order.is_empty())
                        .into_iter()
                        .collect(),
                    ..Default::default()
                };
                let found = tracking.search_runs(search).await.expect("searched");
                let found = found.into_inner().runs.into_iter().map(|run| run.id);
                assert_eq!(found.collect::<Vec<_>>(), ids[ids.len() - 1..]);
            }
            // Its name is free for another one now.
            rename(
                &mut tracking,
                &experiment,
                &format!("{experiment}, {}", ids.len()),
            )
            .await;
            let search = pb::SearchRunsRequest {
                experiments: vec![experiment.clone()],
                ..Default::default()
            };
            let none = tracking.search_runs(search).await.expect("searched");
            assert!(none.into_inner().runs.is_empty());
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_part_of_what_is_in_memory_is_that_part() {
    let server = TestServer::start().await;
    let create = pb::CreateRunRequest {
        tags: [("one", "1"), ("two", "2")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ..Default::default()
    };
    let mut run = Watched::new(&server, create).await;
    let metrics = loss(Timestamp(1_700_000_000_000_000), 0, 0.25);
    run.log(pb::LogBatchRequest {
        metrics,
        params: text("lr", "0.1"),
        ..Default::default()
    })
    .await;
    let fields = ["tags.two", "metrics.loss"];
    let before = run.found(&fields).await;
    let all = run.found(&[]).await;
    assert_eq!((all.tags.len(), all.params.len()), (2, 1));
    let after = run.found(&fields).await;
    assert_eq!(before, after);
    assert_eq!(after.tags, text("two", "2"));
    assert!(after.params.is_empty());
    assert_eq!(after.metrics, all.metrics);
    server.stop().await;
}

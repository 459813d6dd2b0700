//! Keeping runs: deletion and restoration, moves, renaming, inputs, the collection of garbage.

use std::{sync::Arc, time::Duration};

use mlplat::{
    Client, Error,
    tracking::{ActiveRun, DatasetInput, NewRun, RunQuery, RunSet, RunStatus, View},
};
use mlplat_proto::{
    admin::v1 as admin,
    tracking::v1::{self as pb, tracking_service_client::TrackingServiceClient},
};
use mlplat_server::clock::{TestClock, Timestamp};
use mlplat_tests::{TestServer, rpc};
use prost::Message as _;
use tonic::Code;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A run that the server knows.
async fn begin(client: &Client, new: NewRun) -> ActiveRun {
    let run = client.start_run(new).await.expect("started");
    assert!(run.flush().await, "delivered");
    run
}

async fn start(client: &Client, experiment: &str) -> ActiveRun {
    begin(client, NewRun::new(experiment)).await
}

async fn names(client: &Client, view: View) -> Vec<String> {
    let query = RunQuery::new().view(view).order_by("name ASC");
    let runs = client.tracking().search_runs(query).collect(None).await;
    runs.expect("found")
        .into_iter()
        .map(|run| run.name)
        .collect()
}

fn reason(error: &Error) -> &str {
    error.detail().map_or("", |detail| detail.reason.as_str())
}

#[tokio::test]
async fn deleted_runs_are_hidden_and_come_back() {
    let server = TestServer::start().await;
    let client = server.client();
    let tracking = client.tracking();
    let new = |name: &str| NewRun::new("e").name(name);
    let outer = begin(&client, new("outer")).await;
    let inner = begin(&client, new("inner").parent(outer.id())).await;
    begin(&client, new("deepest").parent(inner.id())).await;
    begin(&client, new("other")).await;

    let tree = tracking.run_tree(outer.id()).await.expect("a tree");
    assert_eq!(tree.children[0].children[0].run.name, "deepest");
    let children = tracking.child_runs(outer.id()).await.expect("children");
    assert_eq!(children.len(), 1);

    let all = || RunSet::new([outer.id()]).with_nested();
    assert_eq!(tracking.delete_runs(all()).await.expect("deleted"), 3);
    assert_eq!(tracking.delete_runs(all()).await.expect("again"), 0);
    assert_eq!(names(&client, View::Active).await, ["other"]);
    assert_eq!(
        names(&client, View::Deleted).await,
        ["deepest", "inner", "outer"]
    );
    assert_eq!(names(&client, View::All).await.len(), 4);
    let hidden = client.get_run(inner.id()).await.expect_err("hidden");
    assert!(matches!(hidden, Error::NotFound(_)), "{hidden}");
    let seen = tracking
        .find_run(inner.id(), View::All)
        .await
        .expect("seen");
    assert!(seen.deleted_at.is_some());
    // What its process logs is kept all the same.
    inner.log_metric("loss", 0.5, None).expect("kept");
    inner.end(RunStatus::Finished, "").await.expect("ended");

    let one = RunSet::new([inner.id()]);
    assert_eq!(tracking.restore_runs(one).await.expect("restored"), 1);
    let back = client.get_run(inner.id()).await.expect("back");
    assert_eq!((back.metric("loss"), back.deleted_at), (Some(0.5), None));
    let missing = RunSet::new([outer.id().to_owned(), mlplat::tracking::new_run_id()]);
    let missing = tracking.restore_runs(missing).await;
    assert!(matches!(missing, Err(Error::NotFound(_))), "{missing:?}");
    assert_eq!(names(&client, View::Deleted).await, ["deepest", "outer"]);
    server.stop().await;
}

#[tokio::test]
async fn an_experiment_takes_its_runs_along() {
    let server = TestServer::start().await;
    let client = server.client();
    let tracking = client.tracking();
    let kept = start(&client, "sweep").await;
    let gone = start(&client, "sweep").await;
    let by_hand = RunSet::new([gone.id()]);
    tracking.delete_runs(by_hand).await.expect("deleted");

    let deleted = tracking.delete_experiment("sweep").await.expect("deleted");
    assert!(deleted.deleted_at.is_some());
    tracking.delete_experiment("sweep").await.expect("again");
    assert!(names(&client, View::Active).await.is_empty());
    let listed = tracking.list_experiments().collect(None).await;
    assert!(listed.expect("listed").is_empty());
    let found = tracking.find_experiments(View::Deleted).collect(None).await;
    assert_eq!(found.expect("found")[0].name, "sweep");
    for refused in [
        tracking
            .restore_runs(RunSet::new([kept.id()]))
            .await
            .map(|_| ()),
        tracking
            .move_runs(RunSet::new([kept.id()]), "sweep")
            .await
            .map(|_| ()),
        tracking
            .rename_experiment("sweep", "other")
            .await
            .map(|_| ())
            .map_err(|error| match error {
                // A deleted experiment is not found by who would rename it.
                Error::NotFound(detail) => Error::FailedPrecondition(detail),
                other => other,
            }),
    ] {
        let error = refused.expect_err("refused");
        assert!(matches!(error, Error::FailedPrecondition(_)), "{error}");
    }

    let new = pb::CreateRunRequest {
        experiment: "sweep".to_owned(),
        ..Default::default()
    };
    let refused = TrackingServiceClient::new(server.channel().await)
        .create_run(new)
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::FailedPrecondition);

    let restored = tracking
        .restore_experiment("sweep")
        .await
        .expect("restored");
    assert_eq!(restored.deleted_at, None);
    // What was deleted by hand before stays deleted.
    assert!(client.get_run(kept.id()).await.is_ok());
    assert!(client.get_run(gone.id()).await.is_err());
    let default = tracking.delete_experiment("default").await;
    assert_eq!(reason(&default.expect_err("refused")), "DEFAULT_EXPERIMENT");
    server.stop().await;
}

#[tokio::test]
async fn renaming_and_moving_leave_the_lineage_alone() {
    let server = TestServer::start().await;
    let client = server.client();
    let tracking = client.tracking();
    let run = start(&client, "first").await;
    start(&client, "taken").await;
    let renamed = tracking
        .rename_experiment("first", "second")
        .await
        .expect("renamed");
    assert_eq!(renamed.name, "second");
    assert!(renamed.artifact_location.contains("/objects/"));
    let taken = tracking.rename_experiment("second", "taken").await;
    assert!(matches!(taken, Err(Error::AlreadyExists(_))), "{taken:?}");
    let read = client.get_run(run.id()).await.expect("read");
    assert_eq!(read.experiment, "second");

    let moved = tracking.move_runs(RunSet::new([run.id()]), "third").await;
    assert_eq!(moved.expect("moved"), 1);
    let again = tracking.move_runs(RunSet::new([run.id()]), "third").await;
    assert_eq!(again.expect("moved"), 0);
    // All of an experiment, deleted ones too.
    let second = start(&client, "third").await;
    tracking
        .delete_runs(RunSet::new([second.id()]))
        .await
        .expect("deleted");
    let moved = tracking.move_experiment("third", "fourth").await;
    assert_eq!(moved.expect("moved"), 2);
    tracking
        .restore_runs(RunSet::new([second.id()]))
        .await
        .expect("restored");
    let read = client.get_run(second.id()).await.expect("read");
    assert_eq!(read.experiment, "fourth");
    assert_eq!(
        tracking
            .move_experiment("third", "fourth")
            .await
            .expect("none"),
        0
    );
    let unknown = tracking.move_experiment("nowhere", "fourth").await;
    assert!(matches!(unknown, Err(Error::NotFound(_))), "{unknown:?}");
    let ended = run.end(RunStatus::Finished, "").await.expect("ended");
    assert_eq!(ended.experiment, "fourth");
    let events = client.lineage().events(Some(run.id())).collect(None).await;
    let jobs: Vec<String> = events
        .expect("events")
        .into_iter()
        .map(|event| event.job_name)
        .collect();
    assert_eq!(jobs, ["experiments/first", "experiments/first"]);
    server.stop().await;
}

#[tokio::test]
async fn params_and_tags_can_be_taken_back() {
    let server = TestServer::start().await;
    let client = server.client();
    let run = start(&client, "e").await;
    let pair = |key: &str| (key.to_owned(), "1".to_owned());
    run.log_params([pair("a"), pair("b")]).expect("logged");
    run.set_tags([pair("c"), pair("d")]).expect("logged");
    let keys = |keys: &[&str]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
    let tracking = client.tracking();
    let deleted = tracking
        .delete_params_and_tags(run.id(), keys(&["a", "x", "n\0"]), keys(&["c"]))
        .await;
    assert_eq!(deleted.expect("deleted"), 2);
    let left = client.get_run(run.id()).await.expect("read");
    assert_eq!(left.params.into_keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(left.tags.into_keys().collect::<Vec<_>>(), ["d"]);
    let nothing = tracking
        .delete_params_and_tags(run.id(), Vec::new(), Vec::new())
        .await;
    assert!(matches!(nothing, Err(Error::InvalidArgument(_))));
    server.stop().await;
}

#[tokio::test]
async fn inputs_are_kept_and_become_lineage() {
    let server = TestServer::start().await;
    let client = server.client();
    let run = start(&client, "e").await;
    let flights = || {
        DatasetInput::new("flights", "d1")
            .source("/data/flights.parquet", "local")
            .context("training")
            .field("origin", "string")
            .rows(336_776)
    };
    let frame = || DatasetInput::new("frame", "d2").context("validation");
    let tracking = client.tracking();
    let logged = tracking.log_inputs(run.id(), [flights(), frame()]).await;
    assert_eq!(logged.expect("logged"), 2);
    // The same again changes nothing and is no event.
    let again = tracking.log_inputs(run.id(), [flights(), frame()]).await;
    assert_eq!(again.expect("logged"), 0);
    let read = client.get_run(run.id()).await.expect("read");
    assert_eq!(read.inputs, [flights(), frame()]);
    run.end(RunStatus::Finished, "").await.expect("ended");

    let events = client.lineage().events(Some(run.id())).collect(None).await;
    let events = events.expect("events");
    assert_eq!(events.len(), 3, "{events:?}");
    let event: serde_json::Value = events
        .iter()
        .find(|event| event.event_type == "RUNNING")
        .map(|event| serde_json::from_str(&event.openlineage).expect("JSON"))
        .expect("an event");
    let inputs = event["inputs"].as_array().expect("inputs");
    let input = inputs
        .iter()
        .find(|input| input["name"] == "/data/flights.parquet")
        .expect("the file");
    assert_eq!(input["namespace"], "file");
    assert_eq!(input["facets"]["version"]["datasetVersion"], "d1");
    assert_eq!(
        input["facets"]["schema"]["fields"][0]["name"], "origin",
        "{input}"
    );
    let graph = client.lineage().upstream(&read).await.expect("a graph");
    let names: Vec<&str> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
    assert!(names.contains(&"datasets/frame"), "{names:?}");

    let found =
        RunQuery::new().filter("datasets.name = 'flights' AND dataset.context = 'training'");
    let found = client.tracking().search_runs(found).collect(None).await;
    assert_eq!(found.expect("found").len(), 1);
    server.stop().await;
}

/// Contents that the server keeps.
fn contents(server: &TestServer) -> Vec<String> {
    fn read(folder: &std::path::Path, found: &mut Vec<String>) {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return;
        };
        for path in entries.map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                read(&path, found);
            } else {
                found.push(std::fs::read_to_string(path).expect("a text"));
            }
        }
    }
    let mut found = Vec::new();
    read(&server.folder().join("data/artifacts/objects"), &mut found);
    found.sort();
    found
}

/// How many contents the server keeps.
fn objects(server: &TestServer) -> usize {
    contents(server).len()
}

#[tokio::test]
async fn garbage_goes_when_it_is_due_and_never_what_is_named() {
    let clock = Arc::new(TestClock::new(Timestamp(1_800_000_000_000_000)));
    let server = TestServer::builder().clock(clock.clone()).start().await;
    let client = server.client();
    let tracking = client.tracking();
    let write = |name: &str, content: &str| {
        let path = server.folder().join(name);
        std::fs::write(&path, content).expect("written");
        path
    };
    let (shared, own, model) = (
        write("shared", "shared"),
        write("own", "own"),
        write("model.pkl", "model"),
    );
    let doomed = start(&client, "old").await;
    let kept = start(&client, "e").await;
    let published = start(&client, "old").await;
    doomed.log_artifact(&shared).await.expect("uploaded");
    doomed.log_artifact(&own).await.expect("uploaded");
    kept.log_artifact(&shared).await.expect("uploaded");
    published
        .publish_model("delay", &model)
        .await
        .expect("published");
    doomed.log_metric("loss", 1.0, None).expect("logged");
    tracking.delete_experiment("old").await.expect("deleted");

    let admin = client.admin();
    let none = admin.collect_garbage(None, false).await.expect("collected");
    assert_eq!((none.runs, none.experiments), (0, 0));
    assert_eq!(objects(&server), 3);
    clock.advance(30 * DAY);
    let dry = admin.collect_garbage(None, true).await.expect("a dry run");
    assert_eq!((dry.runs, dry.kept_runs), (1, 1));
    let seen = tracking.find_run(doomed.id(), View::All).await;
    assert!(seen.is_ok());
    let collected = admin.collect_garbage(None, false).await.expect("collected");
    assert_eq!(
        (collected.runs, collected.kept_runs, collected.experiments),
        (1, 1, 0)
    );
    // The bytes go with it, but for those that a record names.
    assert_eq!((collected.objects, objects(&server)), (1, 2));
    let gone = tracking.find_run(doomed.id(), View::All).await;
    assert!(matches!(gone, Err(Error::NotFound(_))));
    // The experiment still holds the run that a model was published from, and can be restored with it.
    tracking.restore_experiment("old").await.expect("restored");
    client.get_run(published.id()).await.expect("back");

    let folder = server.folder().join("down");
    client
        .artifacts()
        .download(kept.id(), "shared", &folder)
        .await
        .expect("still there");
    server.stop().await;
}

#[tokio::test]
async fn bytes_that_are_uploaded_again_are_not_collected() {
    let clock = Arc::new(TestClock::new(Timestamp(1_800_000_000_000_000)));
    let server = TestServer::builder().clock(clock.clone()).start().await;
    let client = server.client();
    let file = server.folder().join("file");
    std::fs::write(&file, "content").expect("written");
    let first = start(&client, "e").await;
    first.log_artifact(&file).await.expect("uploaded");
    let tracking = client.tracking();
    let set = RunSet::new([first.id()]);
    tracking.delete_runs(set).await.expect("deleted");
    let admin = client.admin();
    let collected = admin.collect_garbage(Some(0), false).await;
    assert_eq!(collected.expect("collected").runs, 1);
    let second = start(&client, "e").await;
    second.log_artifact(&file).await.expect("uploaded");
    clock.advance(2 * DAY);
    let collected = admin.collect_garbage(Some(0), false).await;
    assert_eq!(collected.expect("collected").objects, 0);
    assert_eq!(objects(&server), 1);
    server.stop().await;
}

#[tokio::test]
async fn what_a_model_version_captured_outlives_its_record() {
    let clock = Arc::new(TestClock::new(Timestamp(1_800_000_000_000_000)));
    let server = TestServer::builder().clock(clock.clone()).start().await;
    let client = server.client();
    let folder = server.folder().join("up");
    std::fs::create_dir_all(&folder).expect("a folder");
    let (model, notes) = (folder.join("model.pkl"), folder.join("notes"));
    let write = |path: &std::path::Path, content: &str| {
        std::fs::write(path, content).expect("written");
    };
    let run = start(&client, "e").await;
    write(&model, "captured");
    write(&notes, "first");
    run.publish_model("delay", &model).await.expect("published");
    run.log_artifact(&notes).await.expect("uploaded");
    // Both records get other contents, so neither of the first ones has one any more.
    write(&model, "other model");
    write(&notes, "second");
    run.log_artifact(&model).await.expect("uploaded");
    run.log_artifact(&notes).await.expect("uploaded");
    assert_eq!(objects(&server), 4);

    clock.advance(30 * DAY);
    let admin = client.admin();
    for due in [1, 0] {
        let collected = admin.collect_garbage(Some(0), false).await;
        assert_eq!(collected.expect("collected").objects, due);
        assert_eq!(contents(&server), ["captured", "other model", "second"]);
    }
    let version = client.catalogue().get_version("delay", 1).await;
    assert_eq!(version.expect("a version").files.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn only_owners_collect() {
    let server = TestServer::start().await;
    let request = admin::CollectGarbageRequest {
        project: "default".to_owned(),
        ..Default::default()
    };
    let refused = rpc::call(
        server.channel_as("outsider").await,
        "/mlplat.admin.v1.AdminService/CollectGarbage",
        request.encode_to_vec(),
    )
    .await
    .expect_err("refused");
    assert_eq!(refused.code(), Code::NotFound);
    server.stop().await;
}

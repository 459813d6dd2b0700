//! The lineage over a real database: merging of events, walks, lists.

use std::sync::Arc;

use mlplat_proto::lineage::v1::{self as pb, NodeRef, node_ref::Node as Ref};
use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};
use sea_orm::{ActiveModelTrait as _, EntityTrait as _, QueryOrder as _};
use uuid::Uuid;

use super::{
    Dataset, EventType, Names, RunEvent, convert,
    entity::{dataset, edge, event, run, symlink},
    graph::{self, Limits, Way},
    start::{self, Wanted},
    store,
};
use crate::{
    app::App,
    auth::{Action, Caller, Scope},
    clock::{TestClock, Timestamp},
    config::Config,
    error::{Error, Result},
    request::Violations,
};

const UP: &[Way] = &[Way::Up];
const DOWN: &[Way] = &[Way::Down];
const WIDE: Limits = Limits {
    depth: 50,
    max_nodes: 1000,
};
const TRAINING: Uuid = Uuid::from_u128(0x7_0001);

struct Bench {
    app: App,
    scope: Scope,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            data_dir: folder.path().to_owned(),
            ..Config::default()
        };
        let app = App::open(config, Arc::new(TestClock::new(Timestamp(1))))
            .await
            .unwrap();
        let scope = Caller::local_owner()
            .authorize(&app, Action::Read, "default")
            .await
            .unwrap();
        Self {
            app,
            scope,
            _folder: folder,
        }
    }

    fn names(&self) -> Names {
        Names::new(&self.app.instance, "default")
    }

    async fn record(&self, events: &[RunEvent]) {
        let txn = self.app.db.begin().await.unwrap();
        for event in events {
            store::record(&txn, &self.scope, event, self.app.now())
                .await
                .unwrap();
        }
        txn.commit().await.unwrap();
    }

    async fn lineage(
        &self,
        from: Ref,
        ways: &[Way],
        limits: Limits,
    ) -> Result<pb::GetLineageResponse> {
        let mut violations = Violations::new();
        let node = Some(NodeRef { node: Some(from) });
        let wanted = Wanted::parse(&mut violations, node, &self.names()).unwrap();
        let conn = self.app.db.read();
        let start = start::find(conn, &self.scope, wanted, limits.max_nodes).await?;
        let graph = graph::walk(conn, &self.scope, &start.nodes, ways, limits).await?;
        Ok(convert::graph(graph, start, ways))
    }

    /// Everything that the events say together.
    async fn state(&self) -> String {
        let conn = self.app.db.read();
        // The default project has another id in every database.
        let none = Uuid::nil();
        let mut runs = run::Entity::find()
            .order_by_asc(run::Column::Id)
            .all(conn)
            .await
            .unwrap();
        runs.iter_mut().for_each(|row| row.project_id = none);
        let mut datasets = dataset::Entity::find()
            .order_by_asc(dataset::Column::Id)
            .all(conn)
            .await
            .unwrap();
        datasets.iter_mut().for_each(|row| row.project_id = none);
        let mut edges = edge::Entity::find()
            .order_by_asc(edge::Column::RunId)
            .order_by_asc(edge::Column::Written)
            .order_by_asc(edge::Column::DatasetId)
            .all(conn)
            .await
            .unwrap();
        edges.iter_mut().for_each(|row| row.project_id = none);
        let mut symlinks = symlink::Entity::find()
            .order_by_asc(symlink::Column::NameId)
            .all(conn)
            .await
            .unwrap();
        symlinks.iter_mut().for_each(|row| row.project_id = none);
        format!("{runs:#?}{datasets:#?}{edges:#?}{symlinks:#?}")
    }
}

/// Start and end of a run of a job that reads and writes.
fn instant(
    run: u128,
    job: &super::Job,
    at: i64,
    inputs: &[Dataset],
    outputs: &[Dataset],
) -> [RunEvent; 2] {
    [EventType::Start, EventType::Complete].map(|kind| {
        RunEvent::new(kind, Uuid::from_u128(run), job.clone(), Timestamp(at))
            .inputs(inputs.to_vec())
            .outputs(outputs.to_vec())
    })
}

/// From a raw file to a model version.
fn history(names: &Names) -> Vec<RunEvent> {
    let file = names
        .file_source("/data/weather.parquet", Some("d1"))
        .also_known_as(&names.sql_source("weather", None));
    let view = names.feature_view("weather", 1);
    let set = names.training_set("delays").at_version("h1");
    let artifact = names.artifact(TRAINING, "model.pkl", "9f86");
    let training = names.experiment("delays");
    let of_training = |kind, at| RunEvent::new(kind, TRAINING, training.clone(), Timestamp(at));
    let mut events = Vec::new();
    events.extend(instant(
        1,
        &names.apply("weather"),
        10,
        std::slice::from_ref(&file),
        std::slice::from_ref(&view),
    ));
    events.push(
        of_training(EventType::Start, 20).parent(Uuid::from_u128(99), &names.experiment("sweep")),
    );
    events.extend(instant(
        2,
        &names.historical_features(),
        30,
        &[view, file],
        std::slice::from_ref(&set),
    ));
    events.push(of_training(EventType::Running, 31).inputs(vec![set]));
    events.push(of_training(EventType::Complete, 40));
    events.push(of_training(EventType::Other, 50).outputs(vec![artifact.clone()]));
    events.extend(
        instant(
            3,
            &names.publish("delay"),
            50,
            &[artifact],
            &[names.model_version("delay", 1)],
        )
        .map(|event| event.parent(TRAINING, &training)),
    );
    events
}

fn model(version: u32) -> Ref {
    Ref::ModelVersion(pb::ModelVersionRef {
        model: "delay".to_owned(),
        version,
    })
}

fn node_names(graph: &pb::GetLineageResponse) -> Vec<&str> {
    graph.nodes.iter().map(|node| node.name.as_str()).collect()
}

/// The edges by the names of their ends.
fn edge_names(graph: &pb::GetLineageResponse) -> Vec<(&str, &str)> {
    let name = |id: &str| {
        graph
            .nodes
            .iter()
            .find(|node| node.id == id)
            .unwrap()
            .name
            .as_str()
    };
    let mut edges: Vec<_> = graph
        .edges
        .iter()
        .map(|edge| (name(&edge.from), name(&edge.to)))
        .collect();
    edges.sort_unstable();
    edges
}

const ARTIFACT: &str = "runs/00000000-0000-0000-0000-000000070001/artifacts/model.pkl";

#[tokio::test]
async fn a_model_version_leads_back_to_the_raw_file() {
    let bench = Bench::new().await;
    bench.record(&history(&bench.names())).await;
    let graph = bench.lineage(model(1), UP, WIDE).await.unwrap();
    assert_eq!(
        node_names(&graph),
        [
            "models/delay",
            "publish/delay",
            ARTIFACT,
            "experiments/delays",
            "training_sets/delays",
            "historical_features",
            "feature_views/weather",
            "apply/weather",
            "/data/weather.parquet",
        ]
    );
    assert_eq!(
        edge_names(&graph),
        [
            ("/data/weather.parquet", "apply/weather"),
            ("apply/weather", "feature_views/weather"),
            ("experiments/delays", ARTIFACT),
            ("feature_views/weather", "historical_features"),
            ("historical_features", "training_sets/delays"),
            ("publish/delay", "models/delay"),
            (ARTIFACT, "publish/delay"),
            ("training_sets/delays", "experiments/delays"),
        ]
    );
    assert!(!graph.truncated);
    let training = &graph.nodes[3];
    assert_eq!(
        (training.state.as_str(), training.r#type.as_str()),
        ("COMPLETE", "EXPERIMENT")
    );
    assert_eq!(training.run_id, TRAINING.to_string());
}

#[tokio::test]
async fn the_source_leads_forward_to_the_model_version_by_any_of_its_names() {
    let bench = Bench::new().await;
    bench.record(&history(&bench.names())).await;
    let file = pb::DatasetRef {
        namespace: "file".to_owned(),
        name: "/data/weather.parquet".to_owned(),
        ..Default::default()
    };
    let by_file = bench.lineage(Ref::Dataset(file), DOWN, WIDE).await.unwrap();
    let by_source = bench
        .lineage(Ref::Source("weather".to_owned()), DOWN, WIDE)
        .await
        .unwrap();
    assert_eq!(by_file, by_source);
    assert_eq!(by_file.nodes[0].name, "/data/weather.parquet");
    assert_eq!(by_file.nodes.last().unwrap().name, "models/delay");
    assert_eq!(by_file.nodes.len(), 9);
}

#[tokio::test]
async fn the_order_of_arrival_and_repetition_change_nothing() {
    let in_order = Bench::new().await;
    let events = history(&in_order.names());
    in_order.record(&events).await;
    let expected = in_order.state().await;
    assert_eq!(
        event::Entity::find()
            .all(in_order.app.db.read())
            .await
            .unwrap()
            .len(),
        events.len()
    );
    for seed in 0..6 {
        let bench = Bench::new().await;
        let mut shuffled: Vec<RunEvent> = events.iter().chain(&events).cloned().collect();
        shuffled.shuffle(&mut StdRng::seed_from_u64(seed));
        bench.record(&shuffled).await;
        assert_eq!(bench.state().await, expected, "seed {seed}");
        let stored = event::Entity::find()
            .all(bench.app.db.read())
            .await
            .unwrap();
        assert_eq!(
            stored.len(),
            events.len(),
            "an event that is sent again is stored once"
        );
    }
}

#[tokio::test]
async fn a_later_event_that_says_less_takes_no_edge_away() {
    let bench = Bench::new().await;
    let events = history(&bench.names());
    bench.record(&events).await;
    let before = bench.lineage(model(1), UP, WIDE).await.unwrap().edges;
    let bare = RunEvent::new(
        EventType::Complete,
        TRAINING,
        bench.names().experiment("delays"),
        Timestamp(60),
    );
    bench.record(&[bare]).await;
    assert_eq!(
        bench.lineage(model(1), UP, WIDE).await.unwrap().edges,
        before
    );
}

#[tokio::test]
async fn upstream_of_a_version_is_who_wrote_that_version() {
    let bench = Bench::new().await;
    let names = bench.names();
    bench
        .record(&instant(
            1,
            &names.apply("weather"),
            10,
            &[],
            &[names.feature_view("weather", 1)],
        ))
        .await;
    bench
        .record(&instant(
            2,
            &names.apply("weather"),
            20,
            &[],
            &[names.feature_view("weather", 2)],
        ))
        .await;
    let version = |version: &str| {
        Ref::Dataset(pb::DatasetRef {
            namespace: names.namespace().to_owned(),
            name: "feature_views/weather".to_owned(),
            version: version.to_owned(),
        })
    };
    let one = bench.lineage(version("2"), UP, WIDE).await.unwrap();
    assert_eq!(one.nodes.len(), 2);
    assert_eq!(one.nodes[1].run_id, Uuid::from_u128(2).to_string());

    // The name alone stands for both, and is joined to them the way the data goes.
    let all = bench
        .lineage(Ref::FeatureView("weather".to_owned()), UP, WIDE)
        .await
        .unwrap();
    let versions: Vec<&str> = all.nodes.iter().map(|node| node.version.as_str()).collect();
    assert_eq!(versions, ["", "2", "1", "", ""]);
    assert_eq!(
        all.edges
            .iter()
            .filter(|edge| edge.to == all.nodes[0].id)
            .count(),
        2
    );
    let down = bench
        .lineage(Ref::FeatureView("weather".to_owned()), DOWN, WIDE)
        .await
        .unwrap();
    assert_eq!(
        down.edges
            .iter()
            .filter(|edge| edge.from == down.nodes[0].id)
            .count(),
        2
    );
}

#[tokio::test]
async fn walks_are_bounded_and_say_so() {
    let bench = Bench::new().await;
    bench.record(&history(&bench.names())).await;
    let near = bench
        .lineage(model(1), UP, Limits { depth: 2, ..WIDE })
        .await
        .unwrap();
    assert_eq!(
        node_names(&near),
        ["models/delay", "publish/delay", ARTIFACT]
    );
    assert!(near.truncated);
    let few = bench
        .lineage(
            model(1),
            UP,
            Limits {
                max_nodes: 4,
                ..WIDE
            },
        )
        .await
        .unwrap();
    assert_eq!(
        (few.nodes.len(), few.edges.len(), few.truncated),
        (4, 3, true)
    );
    // The farthest is seven edges away: the file is read by the retrieval too, but shown by way of the view.
    let all = bench
        .lineage(model(1), UP, Limits { depth: 7, ..WIDE })
        .await
        .unwrap();
    assert_eq!(
        (all.nodes.len(), all.edges.len(), all.truncated),
        (9, 8, false)
    );
}

#[tokio::test]
async fn a_file_that_changed_since_the_view_was_applied_keeps_its_own_edge() {
    let bench = Bench::new().await;
    let names = bench.names();
    let file = |digest| names.file_source("/w.parquet", Some(digest));
    let (view, derived) = (names.feature_view("w", 1), names.feature_view("busy", 1));
    let query = names.sql_source("busy", Some("1"));
    let set = |name| names.training_set(name);
    bench
        .record(&instant(
            1,
            &names.apply("w"),
            10,
            &[file("d1")],
            std::slice::from_ref(&view),
        ))
        .await;
    bench
        .record(&instant(
            2,
            &names.apply("busy"),
            11,
            &[query.clone(), view.clone(), file("d1")],
            std::slice::from_ref(&derived),
        ))
        .await;
    let read = |digest| [derived.clone(), query.clone(), file(digest)];
    bench
        .record(&instant(
            3,
            &names.historical_features(),
            20,
            &read("d1"),
            &[set("same")],
        ))
        .await;
    bench
        .record(&instant(
            4,
            &names.historical_features(),
            30,
            &read("d2"),
            &[set("changed")],
        ))
        .await;

    let same = bench
        .lineage(Ref::TrainingSet("same".to_owned()), UP, WIDE)
        .await
        .unwrap();
    assert_eq!(
        edge_names(&same),
        [
            ("/w.parquet", "apply/w"),
            ("apply/busy", "feature_views/busy"),
            ("apply/w", "feature_views/w"),
            ("feature_views/busy", "historical_features"),
            ("feature_views/w", "apply/busy"),
            ("historical_features", "training_sets/same"),
            ("sources/busy", "apply/busy"),
        ]
    );
    assert_eq!(same.nodes.last().unwrap().name, "/w.parquet");
    let changed = bench
        .lineage(Ref::TrainingSet("changed".to_owned()), UP, WIDE)
        .await
        .unwrap();
    assert!(edge_names(&changed).contains(&("/w.parquet", "historical_features")));
    let versions: Vec<&str> = changed
        .nodes
        .iter()
        .filter(|node| node.name == "/w.parquet")
        .map(|node| node.version.as_str())
        .collect();
    assert_eq!(versions, ["d2", "d1"]);
}

#[tokio::test]
async fn both_ways_are_two_walks_and_cycles_end() {
    let bench = Bench::new().await;
    let names = bench.names();
    let (a, b, c) = (names.online("a"), names.online("b"), names.online("c"));
    let (there, back, aside) = (
        names.materialize("a"),
        names.materialize("b"),
        names.materialize("c"),
    );
    bench
        .record(&instant(
            1,
            &there,
            10,
            std::slice::from_ref(&a),
            std::slice::from_ref(&b),
        ))
        .await;
    bench
        .record(&instant(
            2,
            &back,
            20,
            std::slice::from_ref(&b),
            std::slice::from_ref(&a),
        ))
        .await;
    let both = bench
        .lineage(
            Ref::RunId(Uuid::from_u128(1).to_string()),
            &[Way::Up, Way::Down],
            WIDE,
        )
        .await
        .unwrap();
    assert_eq!((both.nodes.len(), both.edges.len()), (4, 4));

    // A sibling, made from what this was made from, is neither up nor down.
    bench
        .record(&instant(
            3,
            &aside,
            30,
            &[names.feature_view("w", 1)],
            std::slice::from_ref(&c),
        ))
        .await;
    bench
        .record(&instant(
            4,
            &names.apply("x"),
            30,
            &[names.feature_view("w", 1)],
            &[names.online("d")],
        ))
        .await;
    let of_c = bench
        .lineage(
            Ref::RunId(Uuid::from_u128(3).to_string()),
            &[Way::Up, Way::Down],
            WIDE,
        )
        .await
        .unwrap();
    assert_eq!(
        node_names(&of_c),
        ["materialize/c", "feature_views/w", "online/c"]
    );
}

#[tokio::test]
async fn what_the_lineage_does_not_know_is_not_found() {
    let bench = Bench::new().await;
    for unknown in [
        model(7),
        Ref::FeatureView("x".to_owned()),
        Ref::RunId(Uuid::nil().to_string()),
    ] {
        let answer = bench.lineage(unknown, UP, WIDE).await;
        assert!(matches!(answer, Err(Error::NotFound { .. })), "{answer:?}");
    }
}

#[tokio::test]
async fn a_project_sees_its_own_lineage_only() {
    let bench = Bench::new().await;
    crate::admin::entity::project::ActiveModel {
        id: sea_orm::ActiveValue::Set(Uuid::from_u128(5)),
        name: sea_orm::ActiveValue::Set("other".to_owned()),
        description: sea_orm::ActiveValue::Set(String::new()),
        tags: sea_orm::ActiveValue::Set("{}".to_owned()),
        created_at: sea_orm::ActiveValue::Set(0),
        updated_at: sea_orm::ActiveValue::Set(0),
        created_by: sea_orm::ActiveValue::Set(String::new()),
    }
    .insert(bench.app.db.read())
    .await
    .unwrap();
    bench.record(&history(&bench.names())).await;
    let other = Caller::local_owner()
        .authorize(&bench.app, Action::Read, "other")
        .await
        .unwrap();
    let conn = bench.app.db.read();
    assert_eq!(store::count(conn, &other, None).await.unwrap(), 0);
    let (events, total) = store::page(conn, Some(&[other.project_id()]), 10, 0)
        .await
        .unwrap();
    assert!(events.is_empty() && total == 0);
    let answer = start::find(conn, &other, Wanted::Run(TRAINING), 10).await;
    assert!(matches!(answer, Err(Error::NotFound { .. })), "{answer:?}");
}

#[tokio::test]
async fn events_come_newest_first_and_verbatim() {
    let bench = Bench::new().await;
    let events = history(&bench.names());
    bench.record(&events).await;
    let conn = bench.app.db.read();
    let newest: Vec<String> = events.iter().rev().map(RunEvent::to_json).collect();

    let (all, total) = store::page(conn, None, 100, 0).await.unwrap();
    assert_eq!((all, total), (newest.clone(), events.len() as u64));
    let (part, _) = store::page(conn, None, 2, 3).await.unwrap();
    assert_eq!(part, newest[3..5]);

    let of_training = store::list(conn, &bench.scope, Some(TRAINING), None, 2)
        .await
        .unwrap();
    let types: Vec<&str> = of_training
        .iter()
        .map(|event| event.event_type.as_str())
        .collect();
    assert_eq!(types, ["OTHER", "COMPLETE"]);
    let last = of_training.last().unwrap();
    let after = store::After {
        event_time: last.event_time_at,
        id: last.id,
    };
    let rest = store::list(conn, &bench.scope, Some(TRAINING), Some(after), 10)
        .await
        .unwrap();
    let types: Vec<&str> = rest.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(types, ["RUNNING", "START"]);
}

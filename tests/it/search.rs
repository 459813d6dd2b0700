//! The search over runs against a plain evaluation of the same meaning, on whichever database the tests run.

use std::collections::BTreeSet;

use mlplat_proto::tracking::v1::{
    self as pb, tracking_service_client::TrackingServiceClient as Tracking,
};
use mlplat_tests::TestServer;
use tonic::transport::Channel;
use uuid::Uuid;

const START: i64 = 1_700_000_000;

/// A run as the test knows it.
#[derive(Debug, Clone, Default)]
struct Known {
    id: String,
    name: String,
    experiment: &'static str,
    failed: Option<bool>,
    started_at: i64,
    depth: Option<&'static str>,
    team: Option<&'static str>,
    mae: Option<f64>,
}

/// Runs in which every field is missing somewhere, equal somewhere, and odd somewhere.
fn runs() -> Vec<Known> {
    let depths = [
        None,
        Some("3"),
        Some("10"),
        Some("three"),
        Some("3.0"),
        Some(""),
        Some("1e1"),
        Some("inf"),
    ];
    let teams = [Some("Alpha"), Some("alpha"), None, Some("50%_\\*?[x]")];
    let values = [
        None,
        Some(1.5),
        Some(-2.0),
        Some(f64::NAN),
        Some(f64::INFINITY),
        Some(1.5),
        Some(0.0),
    ];
    (0..28)
        .map(|number: usize| Known {
            id: Uuid::now_v7().to_string(),
            name: format!("run-{}", number % 9),
            experiment: if number.is_multiple_of(3) { "b" } else { "a" },
            failed: [None, Some(false), Some(true)][number % 3],
            started_at: START + (number as i64 * 7) % 5,
            depth: depths[number % depths.len()],
            team: teams[number % teams.len()],
            mae: values[number % values.len()],
        })
        .collect()
}

async fn create(tracking: &mut Tracking<Channel>, run: &Known) {
    let text = |key: &str, value: Option<&str>| {
        value
            .map(|value| (key.to_owned(), value.to_owned()))
            .into_iter()
    };
    let new = pb::CreateRunRequest {
        run_id: run.id.clone(),
        experiment: run.experiment.to_owned(),
        name: run.name.clone(),
        tags: text("the team", run.team).collect(),
        started_at: Some(prost_types::Timestamp {
            seconds: run.started_at,
            nanos: 0,
        }),
        ..Default::default()
    };
    tracking.create_run(new).await.expect("created");
    let metrics = run.mae.map(|value| pb::MetricSeries {
        key: "mae".to_owned(),
        values: vec![value],
        ..Default::default()
    });
    let batch = pb::LogBatchRequest {
        run_id: run.id.clone(),
        metrics: metrics.into_iter().collect(),
        params: text("depth", run.depth).collect(),
        ..Default::default()
    };
    tracking.log_batch(batch).await.expect("logged");
    if let Some(failed) = run.failed {
        let status = if failed {
            pb::RunStatus::Failed
        } else {
            pb::RunStatus::Finished
        };
        let ended_at = Some(prost_types::Timestamp {
            seconds: run.started_at + 1,
            nanos: 0,
        });
        let end = pb::EndRunRequest {
            run_id: run.id.clone(),
            status: status.into(),
            ended_at,
            ..Default::default()
        };
        tracking.end_run(end).await.expect("ended");
    }
}

async fn filled() -> (TestServer, Tracking<Channel>, Vec<Known>) {
    let server = TestServer::start().await;
    let mut tracking = Tracking::new(server.channel().await);
    let runs = runs();
    for run in &runs {
        create(&mut tracking, run).await;
    }
    (server, tracking, runs)
}

/// All ids that fit, page by page.
async fn search(
    tracking: &mut Tracking<Channel>,
    mut request: pb::SearchRunsRequest,
) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let page = tracking
            .search_runs(request.clone())
            .await
            .unwrap_or_else(|status| panic!("{request:?}: {status:?}"))
            .into_inner();
        ids.extend(page.runs.into_iter().map(|run| run.id));
        if page.next_page_token.is_empty() {
            return ids;
        }
        request.page_token = page.next_page_token;
    }
}

type Fits = fn(&Known) -> bool;

/// A param as a number, as the language has it.
fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

#[tokio::test]
async fn filters_mean_what_they_say() {
    let (server, mut tracking, runs) = filled().await;
    let cases: [(&str, Fits); 29] = [
        ("", |_| true),
        ("metrics.mae < 1.5", |r| r.mae.is_some_and(|v| v < 1.5)),
        ("metrics.mae != 1.5", |r| {
            r.mae.is_some_and(|v| !v.is_nan() && v != 1.5)
        }),
        ("metrics.mae > 1000000", |r| r.mae == Some(f64::INFINITY)),
        ("metrics.mae IN (0, -2)", |r| {
            r.mae == Some(0.0) || r.mae == Some(-2.0)
        }),
        ("metrics.mae NOT IN (0, -2)", |r| {
            r.mae.is_some_and(|v| !v.is_nan() && v != 0.0 && v != -2.0)
        }),
        ("metrics.mae IS NULL", |r| r.mae.is_none_or(f64::is_nan)),
        ("metrics.mae IS NOT NULL", |r| {
            r.mae.is_some_and(|v| !v.is_nan())
        }),
        ("params.depth = '3'", |r| r.depth == Some("3")),
        ("params.depth = 3", |r| {
            r.depth.and_then(number) == Some(3.0)
        }),
        ("params.depth > 3", |r| {
            r.depth.and_then(number).is_some_and(|v| v > 3.0)
        }),
        ("params.depth != 10", |r| {
            r.depth.and_then(number).is_some_and(|v| v != 10.0)
        }),
        ("params.depth > '3'", |r| r.depth.is_some_and(|v| v > "3")),
        ("params.depth != '3'", |r| r.depth.is_some_and(|v| v != "3")),
        ("params.depth NOT IN ('3', '')", |r| {
            r.depth.is_some_and(|v| v != "3" && !v.is_empty())
        }),
        ("params.depth IS NULL", |r| r.depth.is_none()),
        ("tags.`the team` = 'Alpha'", |r| r.team == Some("Alpha")),
        ("tags.\"the team\" LIKE '%lpha'", |r| {
            r.team.is_some_and(|v| v.ends_with("lpha"))
        }),
        ("tags.`the team` LIKE 'a%'", |r| r.team == Some("alpha")),
        ("tags.`the team` ILIKE 'A_PHA'", |r| {
            r.team.is_some_and(|v| v.eq_ignore_ascii_case("alpha"))
        }),
        (r"tags.`the team` LIKE '50\%\_\\*?[x]'", |r| {
            r.team.is_some_and(|v| v.starts_with("50"))
        }),
        (r"tags.`the team` ILIKE '__\%%[X]'", |r| {
            r.team.is_some_and(|v| v.starts_with("50"))
        }),
        ("status = 'FAILED' OR status = 'RUNNING'", |r| {
            r.failed != Some(false)
        }),
        ("status NOT IN ('FAILED')", |r| r.failed != Some(true)),
        ("experiment = 'b' AND ended_at IS NULL", |r| {
            r.experiment == "b" && r.failed.is_none()
        }),
        ("started_at >= 1700000003000", |r| r.started_at >= START + 3),
        ("ended_at <= '2023-11-14T22:13:22Z'", |r| {
            r.failed.is_some() && r.started_at < START + 2
        }),
        (
            "(name = 'run-1' OR name = 'run-2') AND NOT_A_FIELD = 1",
            |_| false,
        ),
        (
            "name IN ('run-1', 'run-2') AND metrics.mae <= 1.5 OR params.depth = 'three'",
            |r| {
                ["run-1", "run-2"].contains(&r.name.as_str()) && r.mae.is_some_and(|v| v <= 1.5)
                    || r.depth == Some("three")
            },
        ),
    ];
    for (filter, fits) in cases {
        let request = pb::SearchRunsRequest {
            filter: filter.to_owned(),
            page_size: 5,
            ..Default::default()
        };
        if filter.contains("NOT_A_FIELD") {
            tracking.search_runs(request).await.expect_err(filter);
            continue;
        }
        let found: BTreeSet<String> = search(&mut tracking, request).await.into_iter().collect();
        let expected: BTreeSet<String> = runs
            .iter()
            .filter(|run| fits(run))
            .map(|run| run.id.clone())
            .collect();
        assert_eq!(found, expected, "{filter}");
    }
    let request = pb::SearchRunsRequest {
        experiments: vec!["b".to_owned(), "none of this name".to_owned()],
        ..Default::default()
    };
    let of_b = runs.iter().filter(|run| run.experiment == "b").count();
    assert_eq!(search(&mut tracking, request).await.len(), of_b);
    server.stop().await;
}

/// As MLflow's users write them, whether the runs were logged here or imported: an import keeps the user as a tag only.
#[tokio::test]
async fn tags_of_mlflow_find_what_is_an_attribute_here() {
    let server = TestServer::start().await;
    let mut tracking = Tracking::new(server.channel().await);
    let (outer, inner) = (Uuid::now_v7(), Uuid::now_v7());
    let user = ("mlflow.user".to_owned(), "root".to_owned());
    let runs = [
        pb::CreateRunRequest {
            run_id: outer.to_string(),
            experiment: "a".to_owned(),
            name: "outer".to_owned(),
            description: "# Notes".to_owned(),
            tags: [user].into(),
            ..Default::default()
        },
        pb::CreateRunRequest {
            run_id: inner.to_string(),
            experiment: "a".to_owned(),
            name: "inner".to_owned(),
            parent_run_id: outer.to_string(),
            ..Default::default()
        },
    ];
    for run in runs {
        tracking.create_run(run).await.expect("created");
    }
    let of_outer = format!("tags.mlflow.parentRunId = '{}'", outer.simple());
    for (filter, found) in [
        ("tags.mlflow.runName = 'outer'", outer),
        ("tags.`mlflow.runName` LIKE 'inn%'", inner),
        ("tags.mlflow.parentRunId IS NULL", outer),
        ("tags.mlflow.user = 'root'", outer),
        (of_outer.as_str(), inner),
    ] {
        let request = pb::SearchRunsRequest {
            filter: filter.to_owned(),
            ..Default::default()
        };
        let ids = search(&mut tracking, request).await;
        assert_eq!(ids, [found.to_string()], "{filter}");
    }
    for (order, first) in [("ASC", inner), ("DESC", outer)] {
        let request = pb::SearchRunsRequest {
            order_by: vec![format!("tags.mlflow.runName {order}")],
            ..Default::default()
        };
        let ids = search(&mut tracking, request).await;
        assert_eq!(ids.len(), 2);
        assert_eq!(ids[0], first.to_string(), "{order}");
    }
    server.stop().await;
}

/// What is missing comes last either way; what is equal is ordered by id, newest first.
fn ordered<K: PartialOrd>(
    runs: &[Known],
    descending: bool,
    key: impl Fn(&Known) -> Option<K>,
) -> Vec<String> {
    let mut sorted: Vec<&Known> = runs.iter().collect();
    sorted.sort_by(|a, b| b.id.cmp(&a.id));
    sorted.sort_by(|a, b| match (key(a), key(b)) {
        (Some(a), Some(b)) => {
            let order = a.partial_cmp(&b).expect("comparable");
            if descending { order.reverse() } else { order }
        }
        (a, b) => a.is_none().cmp(&b.is_none()),
    });
    sorted.into_iter().map(|run| run.id.clone()).collect()
}

#[tokio::test]
async fn every_order_is_the_same_in_pages_of_any_size() {
    let (server, mut tracking, runs) = filled().await;
    for descending in [false, true] {
        let cases = [
            (
                "metrics.mae",
                ordered(&runs, descending, |r| r.mae.filter(|v| !v.is_nan())),
            ),
            ("tags.`the team`", ordered(&runs, descending, |r| r.team)),
            (
                "started_at",
                ordered(&runs, descending, |r| Some(r.started_at)),
            ),
            (
                "attributes.ended_at",
                ordered(&runs, descending, |r| r.failed.map(|_| r.started_at + 1)),
            ),
            ("name", ordered(&runs, descending, |r| Some(r.name.clone()))),
            ("run_id", ordered(&runs, descending, |r| Some(r.id.clone()))),
            (
                "experiment",
                ordered(&runs, descending, |r| Some(r.experiment)),
            ),
            (
                "params.nobody_has_it",
                ordered(&runs, descending, |_| None::<i64>),
            ),
        ];
        for (field, expected) in cases {
            for page_size in [1, 4, 1000] {
                let order = format!("{field} {}", if descending { "DESC" } else { "ASC" });
                let request = pb::SearchRunsRequest {
                    order_by: vec![order.clone()],
                    page_size,
                    ..Default::default()
                };
                let found = search(&mut tracking, request).await;
                assert_eq!(found, expected, "{order}, {page_size} a page");
            }
        }
    }
    // Numbers come first and as numbers, then other texts, then what has none.
    let request = pb::SearchRunsRequest {
        order_by: vec!["params.depth".to_owned(), "name DESC".to_owned()],
        page_size: 3,
        ..Default::default()
    };
    let depth = |id: &String| {
        runs.iter()
            .find(|run| run.id == *id)
            .and_then(|run| run.depth)
    };
    let mut depths: Vec<_> = search(&mut tracking, request)
        .await
        .iter()
        .map(depth)
        .collect();
    depths.dedup();
    let of_tens: BTreeSet<_> = depths
        .iter()
        .filter(|d| matches!(d, Some("10" | "1e1")))
        .collect();
    assert_eq!(of_tens.len(), 2, "{depths:?}");
    let rank = |depth: &Option<&str>| match depth {
        Some("3" | "3.0") => 0,
        Some("10" | "1e1") => 1,
        Some("") => 2,
        Some("inf") => 3,
        Some(_) => 4,
        None => 5,
    };
    assert!(depths.is_sorted_by_key(rank), "{depths:?}");
    server.stop().await;
}

#[tokio::test]
async fn runs_that_come_in_between_do_not_shift_pages() {
    let (server, mut tracking, runs) = filled().await;
    let mut request = pb::SearchRunsRequest {
        page_size: 6,
        ..Default::default()
    };
    let mut found = Vec::new();
    loop {
        let page = tracking
            .search_runs(request.clone())
            .await
            .expect("found")
            .into_inner();
        found.extend(page.runs.into_iter().map(|run| run.id));
        let late = Known {
            id: Uuid::now_v7().to_string(),
            name: "late".to_owned(),
            experiment: "a",
            started_at: START + 100,
            ..Default::default()
        };
        create(&mut tracking, &late).await;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(found, ordered(&runs, true, |run| Some(run.started_at)));

    request.filter = "name = 'late'".to_owned();
    let foreign = tracking
        .search_runs(request)
        .await
        .expect_err("a token of another request");
    assert_eq!(foreign.code(), tonic::Code::InvalidArgument);
    server.stop().await;
}

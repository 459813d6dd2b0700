//! How long a search takes over 2,000 and over 100,000 runs. Not part of every test: it fills a database.
//!
//! `cargo test --workspace --test it -- --ignored --nocapture search_speed`

use std::time::{Duration, Instant};

use mlplat::tracking::RunQuery;
use mlplat_proto::tracking::v1::{
    self as pb, tracking_service_client::TrackingServiceClient as Tracking,
};
use mlplat_tests::TestServer;
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, DbBackend};
use tonic::transport::Channel;

const FEW: usize = 2000;
const MANY: usize = 100_000;
const REPEATS: usize = 21;

/// Fills the project of the run `like` with copies of it: 10 params, 10 metrics, 3 tags each.
async fn fill(db: &DatabaseConnection, experiment: &str, from: usize, to: usize) {
    let postgres = db.get_database_backend() == DbBackend::Postgres;
    // A number as the last bytes of an id, and a random-looking share of it that is the same everywhere.
    let id = |kind: u8, number: &str| {
        if postgres {
            format!("CAST(lpad(to_hex({kind}), 8, '0') || lpad(to_hex({number}), 24, '0') AS uuid)")
        } else {
            format!("unhex(printf('%08x%024x', {kind}, {number}))")
        }
    };
    let share = |of: &str, times: &str| format!("((({of}) * {times}) % 10007) / 10007.0");
    let numbers = format!(
        "WITH RECURSIVE numbers(n) AS (SELECT {from} UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {to})"
    );
    let ten = "(SELECT 0 AS k UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 \
               UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9) AS keys";
    let key = |first: &str, rest: &str| {
        format!("CASE WHEN k = 0 THEN '{first}' ELSE '{rest}' || CAST(k AS text) END")
    };
    // Not in step with the metrics.
    let lr = "CASE (n / 7) % 10 WHEN 0 THEN '0.1' WHEN 1 THEN '0.03' WHEN 2 THEN '0.01' WHEN 3 THEN '0.003' ELSE '1e-' || CAST((n / 7) % 10 AS text) END";
    let statements = [
        format!(
            "INSERT INTO runs (id, project_id, experiment_id, experiment_at_creation, name, status, status_message, description, \
             started_at, ended_at, created_at, updated_at, created_by) {numbers} \
             SELECT {}, e.project_id, e.id, e.name, 'run-' || CAST(n AS text), 'FINISHED', '', '', \
             1700000000000000 + n, 1700000001000000 + n, 1, 1, 'local' FROM numbers, experiments e WHERE e.name = '{experiment}'",
            id(1, "n")
        ),
        format!(
            "INSERT INTO run_params (run_id, key, value, number) {numbers} \
             SELECT {}, {}, CASE WHEN k = 0 THEN {lr} ELSE CAST((n * (k + 3)) % 50 AS text) END, \
             CASE WHEN k = 0 THEN (n / 7) % 10 ELSE (n * (k + 3)) % 50 END FROM numbers, {ten}",
            id(1, "n"),
            key("lr", "param_")
        ),
        format!(
            "INSERT INTO run_tags (run_id, key, value, number) {numbers} \
             SELECT {}, 'tag_' || CAST(k AS text), 'value-' || CAST(n % 7 AS text), NULL FROM numbers, {ten} WHERE k < 3",
            id(1, "n")
        ),
        format!(
            "INSERT INTO metric_series (id, run_id, key, last_bits, last_value, last_step, last_timestamp_us, min_value, max_value, \
             count, tail_number, tail_count) {numbers} SELECT {}, {}, {}, 0, {share}, 9, 0, {share} / 2, {share} * 2, 10, 0, 0 \
             FROM numbers, {ten}",
            id(2, "n * 10 + k"),
            id(1, "n"),
            key("loss", "metric_"),
            share = share("n + k * 17", "(7919 + k * 346)")
        ),
    ];
    for statement in statements {
        db.execute_unprepared(&statement).await.expect("filled");
    }
}

async fn median(
    tracking: &mut Tracking<Channel>,
    request: &pb::SearchRunsRequest,
) -> (Duration, usize) {
    let (mut times, mut found) = (Vec::new(), 0);
    for _ in 0..REPEATS {
        let begun = Instant::now();
        let answer = tracking.search_runs(request.clone()).await.expect("found");
        times.push(begun.elapsed());
        found = answer.into_inner().runs.len();
    }
    times.sort();
    (times[REPEATS / 2], found)
}

fn searches() -> Vec<(&'static str, pb::SearchRunsRequest)> {
    let search = |filter: &str, order: &str| pb::SearchRunsRequest {
        filter: filter.to_owned(),
        order_by: [order.to_owned()]
            .into_iter()
            .filter(|o| !o.is_empty())
            .collect(),
        page_size: 100,
        ..Default::default()
    };
    let wanted = r#"metrics.loss < 0.3 AND params.lr = "0.01""#;
    let mut lean = search(wanted, "metrics.loss ASC");
    lean.fields = vec!["metrics.loss".to_owned(), "params.lr".to_owned()];
    vec![
        ("wanted, by metric", search(wanted, "metrics.loss ASC")),
        ("wanted, by metric, two columns", lean),
        (
            "wanted, by another metric",
            search(wanted, "metrics.metric_3 DESC"),
        ),
        ("wanted, newest first", search(wanted, "")),
        ("everything, newest first", search("", "")),
        ("everything, by metric", search("", "metrics.loss DESC")),
        (
            "everything, by least of a metric",
            search("", "min(metrics.loss) ASC"),
        ),
        (
            "nothing fits",
            search("params.lr = 'none' AND metrics.loss < 0.9", ""),
        ),
        ("one fits", search("name = 'run-77'", "")),
        ("of one experiment, by metric", {
            let mut of_one = search("metrics.loss < 0.3", "metrics.loss ASC");
            of_one.experiments = vec!["few".to_owned()];
            of_one
        }),
    ]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "fills a database with 100,000 runs; run it alone"]
async fn search_speed() {
    let server = TestServer::start().await;
    let mut tracking = Tracking::new(server.channel().await);
    for name in ["few", "speed"] {
        let experiment = pb::CreateExperimentRequest {
            name: name.to_owned(),
            ..Default::default()
        };
        tracking
            .create_experiment(experiment)
            .await
            .expect("created");
    }
    let db = Database::connect(server.database_url())
        .await
        .expect("a connection");
    fill(&db, "few", 0, 300).await;
    fill(&db, "speed", 300, FEW).await;
    db.execute_unprepared("ANALYZE").await.expect("analyzed");
    let mut few = Vec::new();
    for (_, request) in searches() {
        few.push(median(&mut tracking, &request).await);
    }
    for fields in [&[][..], &["metrics.loss", "params.lr"]] {
        let whole = |query: RunQuery, field: &&str| query.field(*field);
        let query = fields.iter().fold(RunQuery::new().page_size(1000), whole);
        let begun = Instant::now();
        let found = server.client().tracking().search_runs(query).collect(None);
        let found = found.await.expect("found").len();
        println!("all {found} runs with {fields:?}: {:?}", begun.elapsed());
        assert_eq!(found, FEW);
    }
    let begun = Instant::now();
    fill(&db, "speed", FEW, MANY).await;
    println!(
        "filled in {:?} ({:?})",
        begun.elapsed(),
        db.get_database_backend()
    );
    db.execute_unprepared("ANALYZE").await.expect("analyzed");
    println!(
        "{:34} {:>12} {:>12} {:>7}",
        "search", "2,000 runs", "100,000", "ratio"
    );
    let mut ratio_of_wanted = 0.0;
    for ((name, request), (time, _)) in searches().into_iter().zip(few) {
        let (many, found) = median(&mut tracking, &request).await;
        let ratio = many.as_secs_f64() / time.as_secs_f64();
        if name == "wanted, by metric" {
            assert_eq!(found, 100);
            ratio_of_wanted = ratio;
        }
        println!(
            "{name:34} {:>9.2} ms {:>9.2} ms {ratio:>6.1}x   ({found} found)",
            time.as_secs_f64() * 1e3,
            many.as_secs_f64() * 1e3
        );
    }
    assert!(ratio_of_wanted < 5.0, "{ratio_of_wanted}");
    db.close().await.expect("closed");
    server.stop().await;
}

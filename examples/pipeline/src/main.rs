//! A pipeline in Rust beside the Python one of `examples/flight_delays`: it reads the weather features that the latter
//! defined, as they were known at the scheduled departure of a few flights, logs what it found as a run, and shows where
//! that came from.
//!
//! ```text
//! MLPLAT_URL=http://127.0.0.1:5000 cargo run -p flight-pipeline
//! ```

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, bail};
use arrow::{
    array::{
        Array as _, ArrayRef, AsArray as _, RecordBatch, StringArray, TimestampMicrosecondArray,
    },
    compute::{cast, concat_batches},
    datatypes::{DataType, Float64Type},
    util::pretty::pretty_format_batches,
};
use mlplat::{
    Client, Error,
    features::{HistoricalQuery, OnlineQuery},
    tracking::{ActiveRun, HistoryRange, NewRun, RunStatus},
};

const VIEW: &str = "weather";
const FEATURES: [&str; 2] = ["weather:temp", "weather:wind_speed"];
/// 2013-07-01 00:00 UTC.
const FIRST_DEPARTURE_US: i64 = 1_372_636_800_000_000;
const HOUR_US: i64 = 3_600_000_000;
/// 2013-12-20 20:00 UTC, up to which the Python example materializes.
const MATERIALIZED_US: u64 = 1_387_569_600_000_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::from_env()?;
    let server = client.admin().server_info().await?;
    println!(
        "mlplat {} at {}, project {}",
        server.version,
        client.url(),
        client.project()
    );
    require_view(&client).await?;

    let run = client
        .start_run(
            NewRun::new("pipeline")
                .name("weather at departure")
                .tag("language", "rust"),
        )
        .await?;
    println!("run {} ({})", run.started().name, run.id());
    // Whatever happens, the run gets an end.
    match work(&client, &run).await {
        Ok(()) => run.end(RunStatus::Finished, "").await?,
        Err(error) => {
            run.end(RunStatus::Failed, &format!("{error:#}")).await?;
            return Err(error);
        }
    };
    show(&client, &run).await
}

/// The definitions belong to the Python example; this one only reads.
async fn require_view(client: &Client) -> anyhow::Result<()> {
    match client.features().get_feature_view(VIEW).await {
        Ok(view) => {
            println!(
                "feature view {} version {}, by {}",
                view.name,
                view.info.version,
                view.join_keys.join(", ")
            );
            Ok(())
        }
        Err(Error::NotFound(_)) => bail!(
            "the server at {} has no feature view `{VIEW}` in project `{}`; run `python examples/flight_delays/main.py` \
             first (`make demo` does both)",
            client.url(),
            client.project()
        ),
        Err(error) => Err(error).context("cannot read the feature view"),
    }
}

async fn work(client: &Client, run: &ActiveRun) -> anyhow::Result<()> {
    let flights = departures(72)?;
    run.log_param("flights", flights.num_rows())?;
    run.log_param("features", FEATURES.join(", "))?;

    let query = HistoricalQuery::new(FEATURES)
        .timestamp("departure")
        .run(run.id());
    let train = client
        .features()
        .historical(query, flights)
        .await?
        .collect()
        .await?;
    println!("training set {} of {} rows", train.name, train.num_rows());
    let table = concat_batches(&train.schema, &train.batches)?;
    println!(
        "{}",
        pretty_format_batches(&[table.slice(0, table.num_rows().min(6))])?
    );

    // One point per hour: the mean temperature over the airports that reported one.
    let temp = numbers(&table, "temp")?;
    let temp = temp.as_primitive::<Float64Type>();
    for (hour, rows) in (0..table.num_rows()).step_by(AIRPORTS.len()).enumerate() {
        let known: Vec<f64> = (rows..rows + AIRPORTS.len())
            .filter(|&row| temp.is_valid(row))
            .map(|row| temp.value(row))
            .collect();
        if !known.is_empty() {
            let mean = known.iter().sum::<f64>() / known.len() as f64;
            run.log_metric("mean_temp", mean, Some(hour as i64))?;
        }
    }
    run.log_metric("rows_without_weather", temp.null_count() as f64, None)?;
    log_report(run, &table).await?;
    read_online(client).await
}

const AIRPORTS: [&str; 3] = ["EWR", "JFK", "LGA"];

/// Entity rows: a departure per airport and hour.
fn departures(hours: i64) -> anyhow::Result<RecordBatch> {
    let mut origins = Vec::new();
    let mut times = Vec::new();
    for hour in 0..hours {
        origins.extend(AIRPORTS);
        times.extend([FIRST_DEPARTURE_US + hour * HOUR_US; AIRPORTS.len()]);
    }
    let times = TimestampMicrosecondArray::from(times).with_timezone("UTC");
    let columns: [(&str, ArrayRef); 2] = [
        ("origin", Arc::new(StringArray::from(origins))),
        ("departure", Arc::new(times)),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// A column as 64-bit floats, whatever number type the source has.
fn numbers(table: &RecordBatch, name: &str) -> anyhow::Result<ArrayRef> {
    let column = table
        .column_by_name(name)
        .with_context(|| format!("the training set has no column `{name}`"))?;
    Ok(cast(column, &DataType::Float64)?)
}

async fn log_report(run: &ActiveRun, table: &RecordBatch) -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("flight-pipeline-{}", run.id()));
    let report: PathBuf = folder.join("weather.txt");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(
        &report,
        pretty_format_batches(std::slice::from_ref(table))?.to_string(),
    )?;
    let uploaded = run.log_artifact(&report).await;
    std::fs::remove_dir_all(&folder)?;
    for artifact in uploaded?.artifacts {
        println!(
            "artifact {} ({} bytes, sha256 {:.12}…)",
            artifact.path, artifact.size_bytes, artifact.sha256
        );
    }
    Ok(())
}

/// The weather that the Python example materialized, at the end of its window.
async fn read_online(client: &Client) -> anyhow::Result<()> {
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_micros(MATERIALIZED_US);
    let query = OnlineQuery::new(FEATURES).columns(["origin"]).at(at);
    let query = AIRPORTS
        .iter()
        .fold(query, |query, airport| query.row([*airport]));
    let online = client.features().online(query).await?;
    println!(
        "online:\n{}",
        pretty_format_batches(&[online.to_record_batch()?])?
    );
    Ok(())
}

async fn show(client: &Client, run: &ActiveRun) -> anyhow::Result<()> {
    let done = run.refresh().await?;
    let history = client
        .tracking()
        .metric_history(run.id(), "mean_temp", HistoryRange::default())
        .await?;
    println!(
        "{} {}: {} points of mean_temp, last {:.1}",
        done.name,
        done.status,
        history.num_rows(),
        done.metric("mean_temp").unwrap_or(f64::NAN)
    );
    println!("{}", client.lineage().upstream(run).await?);
    Ok(())
}

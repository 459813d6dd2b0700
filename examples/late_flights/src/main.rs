//! A training in Rust, tracked with the Rust crate: which of the flights that left New York come in late? A small sweep over
//! learning rates, a run for each, a point for each batch; then the best one is found again, checked and published.
//!
//! ```text
//! python examples/flight_delays/main.py     # prepares the table
//! MLPLAT_URL=http://127.0.0.1:5000 cargo run -p late-flights [flights.parquet]
//! ```

mod data;
mod model;
mod picture;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use arrow::{array::AsArray as _, datatypes::Float64Type};
use data::{Flight, Flights, LATE_MINUTES};
use mlplat::{
    Client,
    catalogue::NewModelVersion,
    tracking::{ActiveRun, HistoryRange, NewRun, Run, RunQuery, RunStatus},
};
use model::{Model, Score};
use rand::{SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

const EXPERIMENT: &str = "late-flights";
const TABLE: &str = ".cache/flight_delays/tables/flights.parquet";
const MODEL_FILE: &str = "model.json";
const LEARNING_RATES: [f64; 3] = [0.01, 0.1, 1.0];
const EPOCHS: usize = 4;
const BATCH: usize = 256;
const CALIBRATION_BUCKETS: usize = 20;
const SYSTEM_METRICS_EVERY: Duration = Duration::from_millis(200);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let client = Client::from_env()?;
    let table = std::env::args_os()
        .nth(1)
        .map_or_else(|| PathBuf::from(TABLE), PathBuf::from);
    let flights = Flights::read(&table)?;
    println!(
        "{} flights to train on, {} to validate with, {} features",
        flights.training.len(),
        flights.validation.len(),
        flights.features.len() + 1
    );
    let sweep = client
        .start_run(
            NewRun::new(EXPERIMENT)
                .name("learning rates")
                .description("Logistic regression by stochastic gradient descent, in Rust.")
                .tag("language", "rust"),
        )
        .await?;
    let machine = sweep.log_system_metrics(SYSTEM_METRICS_EVERY)?;
    for rate in LEARNING_RATES {
        let run = client
            .start_run(
                NewRun::new(EXPERIMENT)
                    .name(format!("rate {rate}"))
                    .parent(sweep.id())
                    .tag("sweep", sweep.id()),
            )
            .await?;
        // Whatever happens, every run gets an end.
        if let Err(error) = train(&run, &flights, rate).await {
            let text = format!("{error:#}");
            run.end(RunStatus::Failed, &text).await?;
            sweep.end(RunStatus::Failed, &text).await?;
            return Err(error);
        }
        run.end(RunStatus::Finished, "").await?;
    }
    machine.stop();
    sweep.end(RunStatus::Finished, "").await?;
    publish_best(&client, &sweep, &flights).await
}

/// One training: a point per batch, a validation per epoch, and at the end the model and how well it is calibrated.
async fn train(run: &ActiveRun, flights: &Flights, rate: f64) -> anyhow::Result<()> {
    for (key, value) in [
        ("learning_rate", rate.to_string()),
        ("epochs", EPOCHS.to_string()),
        ("batch", BATCH.to_string()),
        ("late_minutes", LATE_MINUTES.to_string()),
    ] {
        run.log_param(key, value)?;
    }
    let mut model = Model::new(flights.features.len());
    let mut order: Vec<&Flight> = flights.training.iter().collect();
    let mut source = StdRng::seed_from_u64(2013);
    let mut step = 0;
    for epoch in 0..EPOCHS {
        order.shuffle(&mut source);
        for batch in order.chunks_exact(BATCH) {
            let loss = model.learn(batch, rate);
            run.log_metric("loss", loss, Some(step))?;
            step += 1;
        }
        let Score { loss, auc } = model.score(&flights.validation);
        run.log_metric("val_loss", loss, Some(step))?;
        run.log_metric("val_auc", auc, Some(step))?;
        println!("  rate {rate:<5} epoch {epoch}: validation loss {loss:.4}, AUC {auc:.3}");
    }
    let calibration = model.calibration(&flights.validation, CALIBRATION_BUCKETS);
    run.log_series("late_share_by_prediction", None, &calibration, None)?;
    log_model(run, &model).await
}

async fn log_model(run: &ActiveRun, model: &Model) -> anyhow::Result<()> {
    let folder = Scratch::new(run.id())?;
    let file = folder.0.join(MODEL_FILE);
    std::fs::write(&file, serde_json::to_string(model)?)?;
    run.log_artifact(&file).await?;
    Ok(())
}

/// Finds the best run of the sweep as anybody would, checks that its model is what it was, and publishes it.
async fn publish_best(client: &Client, sweep: &ActiveRun, flights: &Flights) -> anyhow::Result<()> {
    let query = RunQuery::new()
        .experiment(EXPERIMENT)
        .filter(format!(
            "tags.sweep = '{}' AND metrics.val_auc > 0.5",
            sweep.id()
        ))
        .order_by("metrics.val_loss ASC");
    let runs = client.tracking().search_runs(query).collect(None).await?;
    for run in &runs {
        println!("{}", line(client, run).await?);
    }
    let best = runs.first().context("no run of the sweep is any good")?;
    let folder = Scratch::new(&best.id)?;
    let file = client
        .artifacts()
        .download(&best.id, MODEL_FILE, &folder.0)
        .await?;
    check(&file, best, flights)?;
    let version = client
        .catalogue()
        .publish(NewModelVersion::new(EXPERIMENT, &best.id), MODEL_FILE)
        .await?;
    println!(
        "model version {EXPERIMENT} {}, of {}",
        version.version, best.name
    );
    Ok(())
}

/// A run in one line, with the picture of its loss.
async fn line(client: &Client, run: &Run) -> anyhow::Result<String> {
    let history = client
        .tracking()
        .metric_history(&run.id, "loss", HistoryRange::default())
        .await?;
    let values = history.column_by_name("value").context("no values")?;
    let losses = values.as_primitive::<Float64Type>().values();
    Ok(format!(
        "{:<10} {}  validation loss {:.4}, AUC {:.3}  {} ({} points)",
        run.name,
        run.status,
        run.metric("val_loss").unwrap_or(f64::NAN),
        run.metric("val_auc").unwrap_or(f64::NAN),
        picture::sparkline(losses, 40),
        losses.len()
    ))
}

fn check(file: &Path, run: &Run, flights: &Flights) -> anyhow::Result<()> {
    let model: Model = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    let score = model.score(&flights.validation);
    ensure!(
        // Weights that were read back from JSON may differ in their last bit.
        run.metric("val_loss")
            .is_some_and(|logged| (logged - score.loss).abs() < 1e-9),
        "the model of {} scores {} now",
        run.id,
        score.loss
    );
    Ok(())
}

/// A temporary folder that is gone when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("late-flights-{name}"));
        std::fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is only a temporary file.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

//! The Rust client of mlplat: experiment tracking, features, model catalogue and lineage behind one handle.
//!
//! ```no_run
//! use mlplat::{Client, features::{HistoricalQuery, Entities}, tracking::{NewRun, RunQuery, RunStatus}};
//!
//! # async fn example() -> mlplat::Result<()> {
//! // Needs no running server yet; MLPLAT_URL and MLPLAT_PROJECT say which one.
//! let client = Client::from_env()?;
//!
//! let run = client.start_run(NewRun::new("delays").name("first")).await?;
//! run.log_param("depth", 3)?;
//! for (step, mae) in [14.2, 13.9].into_iter().enumerate() {
//!     run.log_metric("mae", mae, Some(step as i64))?;
//! }
//! run.log_artifact("model.pkl").await?;
//!
//! // Features as they were known at the time of each row; what is read becomes lineage of the run.
//! let query = HistoricalQuery::new(["weather:temp"]).sql("SELECT origin, time_hour AS event_timestamp FROM flights")
//!     .timestamp("event_timestamp").run(run.id());
//! let train = client.features().historical(query, Entities::None).await?.collect().await?;
//! println!("{} rows", train.num_rows());
//!
//! let version = run.publish_model("arrival-delay", "model.pkl").await?;
//! run.end(RunStatus::Finished, "").await?;
//!
//! let good = client.tracking().search_runs(RunQuery::new().filter("metrics.mae < 15")).collect(Some(10)).await?;
//! println!("{} runs, model version {}", good.len(), version.version);
//! println!("{}", client.lineage().upstream(&version).await?);
//! # Ok(())
//! # }
//! ```
//!
//! Every call has a deadline, and is tried again where that is safe ([`RetryPolicy`]). Errors have a class, a stable
//! reason and a message that says what to do ([`Error`]).
//!
//! What is logged goes to a journal on this machine first: that takes microseconds, needs no server, and survives the death
//! of the process. A thread delivers it; [`tracking::ActiveRun::flush`] and [`tracking::ActiveRun::end`] wait for that, and
//! [`journal::sync`] delivers what dead processes left.

pub mod admin;
pub mod artifacts;
mod call;
pub mod catalogue;
mod client;
mod convert;
mod error;
pub mod features;
pub mod journal;
pub mod lineage;
mod outgoing;
mod page;
mod retry;
mod trace;
pub mod tracking;
mod value;

pub use client::{Client, ClientBuilder, DEFAULT_PROJECT, DEFAULT_URL};
pub use error::{Detail, Error, FieldViolation, Result};
pub use page::Paged;
pub use retry::RetryPolicy;
pub use trace::TraceParent;
pub use value::Value;

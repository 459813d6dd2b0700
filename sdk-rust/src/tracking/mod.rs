//! Experiment tracking: experiments, runs, and what is logged to them.
//!
//! Invariant: ids of runs are made here (UUIDv7), so that starting a run can be repeated safely and a run has its id
//! before any server answered. The road of logged data is `crate::journal`; files are in `artifacts`.

mod active;
mod branch;
mod check;
mod digest;
mod experiments;
mod found;
mod history;
mod import;
mod inputs;
mod lifecycle;
mod metrics;
mod run;
mod search;
mod start;
mod tree;
mod view;

use mlplat_proto::tracking::v1::{self as pb, tracking_service_client::TrackingServiceClient};
use tonic::transport::Channel;
use uuid::Uuid;

pub use active::ActiveRun;
pub use branch::RunBranch;
pub use digest::TableDigest;
pub use experiments::Experiment;
pub use history::HistoryRange;
pub use import::{Imported, ImportedBatch, ImportedSeries};
pub use inputs::DatasetInput;
pub use lifecycle::RunSet;
pub use metrics::{MetricPoint, MetricSummary};
pub use run::{NewRun, Run, RunStatus, RunUpdate};
pub use search::{RunPage, RunQuery};
pub use tree::RunTree;
pub use view::View;

use crate::{
    call::{MAX_MESSAGE_BYTES, rpc},
    client::Client,
    convert::timestamp,
    error::{Error, Result},
};

/// Calls about experiments and runs; from [`Client::tracking`].
#[derive(Debug, Clone)]
pub struct Tracking {
    client: Client,
}

fn tracking(channel: Channel) -> TrackingServiceClient<Channel> {
    TrackingServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// A new id for a run: a UUIDv7, so that ids sort by time.
pub fn new_run_id() -> String {
    Uuid::now_v7().to_string()
}

/// The id as the wire wants it.
///
/// # Errors
/// [`Error::Misuse`] when it is no UUID.
pub(crate) fn checked_run_id(text: &str) -> Result<String> {
    match Uuid::try_parse(text.trim()) {
        Ok(id) => Ok(id.to_string()),
        Err(_) => Err(Error::misuse(format!(
            "`{text}` is not the id of a run; ids look like {}",
            "01941f29-7c00-7000-8000-000000000000"
        ))),
    }
}

impl Tracking {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// One run with its params, tags and metric summaries.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such run, [`Error::Misuse`] when the id is no UUID.
    pub async fn get_run(&self, run_id: &str) -> Result<Run> {
        self.find_run(run_id, View::Active).await
    }

    /// Changes name, notes or labels of a run, ended or not.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such run, [`Error::InvalidArgument`] for bad values.
    pub async fn update_run(&self, run_id: &str, update: RunUpdate) -> Result<Run> {
        let (run, paths) = update.into_parts(checked_run_id(run_id)?);
        let request = pb::UpdateRunRequest {
            project: self.client.project().to_owned(),
            run: Some(run),
            update_mask: Some(prost_types::FieldMask { paths }),
        };
        let answer = rpc!(self.client, Once, tracking.update_run, request)?;
        answer
            .run
            .map(Run::from)
            .ok_or_else(|| Error::protocol("run"))
    }

    /// Ends a run. Repeating it with the same status changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::FailedPrecondition`] when it ended with another status; [`Error::Misuse`] for
    /// [`RunStatus::Running`].
    pub async fn end_run(&self, run_id: &str, status: RunStatus, message: &str) -> Result<Run> {
        if status == RunStatus::Running {
            return Err(Error::misuse(
                "a run ends as finished, failed or killed, not as running",
            ));
        }
        let request = pb::EndRunRequest {
            project: self.client.project().to_owned(),
            run_id: checked_run_id(run_id)?,
            status: pb::RunStatus::from(status).into(),
            status_message: message.to_owned(),
            ended_at: Some(timestamp(std::time::SystemTime::now())),
            writer_id: String::new(),
        };
        let answer = rpc!(self.client, Repeatable, tracking.end_run, request)?;
        answer
            .run
            .map(Run::from)
            .ok_or_else(|| Error::protocol("run"))
    }
}

//! Runs that happened elsewhere, written with the times, ids and numbers that they have there.
//!
//! Invariant: every call can be repeated and changes nothing the second time; the caller makes the ids and numbers, and
//! nothing here waits in between or goes on in the background.

use std::{collections::BTreeMap, time::SystemTime};

use mlplat_proto::tracking::v1 as pb;

use super::{NewRun, Run, RunStatus, Tracking, checked_run_id, tracking};
use crate::{
    call::rpc,
    convert::timestamp,
    error::{Error, Result},
};

/// Points of one metric as columns of one length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImportedSeries {
    /// The metric key.
    pub key: String,
    /// Step of each point.
    pub steps: Vec<i64>,
    /// Time of each point, microseconds since 1970 UTC.
    pub timestamps_us: Vec<i64>,
    /// The values.
    pub values: Vec<f64>,
}

/// Some records of one run. They are numbered, so that the server stores each of them once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImportedBatch {
    /// UUID of the run.
    pub run_id: String,
    /// UUID of the writer, the same at every import of these records.
    pub writer_id: String,
    /// Number of the first record among those of the writer, from 1.
    pub first_sequence: u64,
    /// Number of the last record.
    pub sequence: u64,
    /// Points; several entries with one key are taken in order.
    pub series: Vec<ImportedSeries>,
    /// Params to set.
    pub params: BTreeMap<String, String>,
    /// Labels to set.
    pub tags: BTreeMap<String, String>,
}

/// What the server has of a writer after a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// True when nothing was stored, as all of it, or its beginning, had been stored before.
    pub replayed: bool,
    /// The greatest number that is stored; less than the one sent: send again from the number after this one.
    pub stored_sequence: u64,
}

impl Tracking {
    /// Creates a run without becoming the process that does it: no journal, no heartbeat. One that exists is returned.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for bad names or labels, [`Error::NotFound`] for an unknown parent run.
    pub async fn import_run(&self, new: NewRun) -> Result<Run> {
        let request = pb::CreateRunRequest {
            project: self.client.project().to_owned(),
            run_id: new
                .id
                .as_deref()
                .map(checked_run_id)
                .transpose()?
                .unwrap_or_default(),
            experiment: new.experiment,
            name: new.name,
            parent_run_id: new
                .parent_run_id
                .as_deref()
                .map(checked_run_id)
                .transpose()?
                .unwrap_or_default(),
            description: new.description,
            tags: new.tags.into_iter().collect(),
            started_at: new.started_at.map(timestamp),
            request_id: String::new(),
            heartbeats: false,
            writer_id: String::new(),
        };
        let answer = rpc!(self.client, Repeatable, tracking.create_run, request)?;
        answer
            .run
            .map(Run::from)
            .ok_or_else(|| Error::protocol("run"))
    }

    /// Stores numbered records of a run, ended or not.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for bad keys, or values that are too long.
    pub async fn import_batch(&self, batch: ImportedBatch) -> Result<Imported> {
        let series = batch.series.into_iter().map(|one| pb::MetricSeries {
            key: one.key,
            steps: one.steps,
            timestamps_us: one.timestamps_us,
            values: one.values,
        });
        let request = pb::LogBatchRequest {
            project: self.client.project().to_owned(),
            run_id: checked_run_id(&batch.run_id)?,
            writer_id: batch.writer_id,
            first_sequence: batch.first_sequence,
            sequence: batch.sequence,
            metrics: series.collect(),
            params: batch.params.into_iter().collect(),
            tags: batch.tags.into_iter().collect(),
            origin_writer_id: String::new(),
            late: true,
            joined: false,
        };
        let answer = rpc!(self.client, Repeatable, tracking.log_batch, request)?;
        Ok(Imported {
            replayed: answer.replayed,
            stored_sequence: answer.stored_sequence,
        })
    }

    /// Takes up a run again that has ended, without becoming the process that does it. One that is running stays as it is.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such run, [`Error::Misuse`] when the id is no UUID.
    pub async fn import_resume(&self, run_id: &str) -> Result<Run> {
        let request = pb::ResumeRunRequest {
            project: self.client.project().to_owned(),
            run_id: checked_run_id(run_id)?,
            from_step: None,
            request_id: String::new(),
            writer_id: String::new(),
            resumed_at: None,
        };
        let answer = rpc!(self.client, Repeatable, tracking.resume_run, request)?;
        answer
            .run
            .map(Run::from)
            .ok_or_else(|| Error::protocol("run"))
    }

    /// Ends a run at a time of the past.
    ///
    /// # Errors
    /// As [`Tracking::end_run`].
    pub async fn import_end(
        &self,
        run_id: &str,
        status: RunStatus,
        message: &str,
        ended_at: SystemTime,
    ) -> Result<Run> {
        let request = pb::EndRunRequest {
            project: self.client.project().to_owned(),
            run_id: checked_run_id(run_id)?,
            status: pb::RunStatus::from(status).into(),
            status_message: message.to_owned(),
            ended_at: Some(timestamp(ended_at)),
            writer_id: String::new(),
        };
        let answer = rpc!(self.client, Repeatable, tracking.end_run, request)?;
        answer
            .run
            .map(Run::from)
            .ok_or_else(|| Error::protocol("run"))
    }
}

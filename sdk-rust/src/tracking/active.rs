//! The handle of the process that does a run.
//!
//! Invariant: what a handle logs is in the journal when the call returns, in the order of the calls; no call but those that
//! are async waits for the network. Dropping a handle does not end the run; only its owner knows whether it went well.

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use mlplat_proto::{rules, tracking::v1 as pb};
use uuid::Uuid;

use super::{
    MetricPoint, Run, RunStatus,
    check::{self, Violations},
};
use crate::{
    artifacts::{self, UploadOptions, Uploaded},
    catalogue::{ModelVersion, NewModelVersion},
    client::Client,
    convert::{micros, timestamp},
    error::{Detail, Error, Result},
    journal::{self, Patience, RunLog, SpoolSource, Timestamps},
};

/// Most bytes of params or tags in one record.
const TEXT_PER_RECORD: usize = 1 << 20;

/// The handle of a process that does a run. Cheap to clone; clones share one ordered road to the server, so threads and
/// tasks may log through it at the same time, and so may a process that is forked off.
#[derive(Debug, Clone)]
pub struct ActiveRun {
    client: Client,
    started: Arc<Run>,
    log: Arc<RunLog>,
    /// How this handle, or a clone of it, has ended the run.
    ended: Arc<OnceLock<RunStatus>>,
}

impl ActiveRun {
    pub(super) fn new(client: Client, started: Run, own: bool) -> Result<Self> {
        let id = Uuid::try_parse(&started.id)
            .map_err(|e| Error::misuse(format!("`{}`: {e}", started.id)))?;
        let log = Arc::new(RunLog::new(client.clone(), id, own));
        Ok(Self {
            client,
            started: Arc::new(started),
            log,
            ended: Arc::default(),
        })
    }

    pub(super) fn open(
        &self,
        create: &pb::CreateRunRequest,
        resume: Option<&pb::ResumeRunRequest>,
    ) {
        self.log.open(create, resume);
    }

    pub(super) fn update(&self, message: &pb::UpdateRunRequest) {
        self.log.update(message);
    }

    pub(super) fn put_inputs(&self, message: &pb::LogInputsRequest) {
        self.log.inputs(message);
    }

    /// UUIDv7 of the run.
    pub fn id(&self) -> &str {
        &self.started.id
    }

    /// The run as it was when this handle was made.
    pub fn started(&self) -> &Run {
        &self.started
    }

    /// The client that this run goes through.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The same run through another client, for what needs a connection in a process that was forked off. Logging does not.
    #[must_use]
    pub fn with_client(&self, client: Client) -> Self {
        Self {
            client,
            started: Arc::clone(&self.started),
            log: Arc::clone(&self.log),
            ended: Arc::clone(&self.ended),
        }
    }

    /// The run as the server knows it now.
    ///
    /// # Errors
    /// As [`Tracking::get_run`](super::Tracking::get_run).
    pub async fn refresh(&self) -> Result<Run> {
        self.client.get_run(self.id()).await
    }

    /// Logs one param; a key logged again holds the last value.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a bad key or too long a value.
    pub fn log_param(&self, key: impl Into<String>, value: impl fmt::Display) -> Result<()> {
        self.log_params([(key.into(), value.to_string())])
    }

    /// Logs params, as text.
    ///
    /// # Errors
    /// As [`ActiveRun::log_param`].
    pub fn log_params(&self, params: impl IntoIterator<Item = (String, String)>) -> Result<()> {
        let params: BTreeMap<String, String> = params.into_iter().collect();
        check::labels("params", &params)?;
        for params in parts(params) {
            self.log.batch(&pb::LogBatchRequest {
                params: params.into_iter().collect(),
                ..Default::default()
            });
        }
        Ok(())
    }

    /// Sets one label.
    ///
    /// # Errors
    /// As [`ActiveRun::log_param`].
    pub fn set_tag(&self, key: impl Into<String>, value: impl fmt::Display) -> Result<()> {
        self.set_tags([(key.into(), value.to_string())])
    }

    /// Sets labels.
    ///
    /// # Errors
    /// As [`ActiveRun::log_param`].
    pub fn set_tags(&self, tags: impl IntoIterator<Item = (String, String)>) -> Result<()> {
        let tags: BTreeMap<String, String> = tags.into_iter().collect();
        check::labels("tags", &tags)?;
        for tags in parts(tags) {
            self.log.batch(&pb::LogBatchRequest {
                tags: tags.into_iter().collect(),
                ..Default::default()
            });
        }
        Ok(())
    }

    /// Logs one point of a metric, now. Without a step it is one more than the last of this key, from 0.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a bad key. A run that has ended still takes what arrives late.
    #[inline]
    pub fn log_metric(&self, key: impl AsRef<str>, value: f64, step: Option<i64>) -> Result<()> {
        let pair = std::iter::once((key.as_ref(), value));
        self.log_pairs(pair, step, None)
    }

    /// Logs points of any number of metrics, in order.
    ///
    /// # Errors
    /// As [`ActiveRun::log_metric`].
    pub fn log_metrics(&self, points: impl IntoIterator<Item = MetricPoint>) -> Result<()> {
        let points: Vec<MetricPoint> = points.into_iter().collect();
        let mut violations = Violations::default();
        for (at, point) in points.iter().enumerate() {
            violations.check(format!("metrics[{at}].key"), rules::metric_key(&point.key));
        }
        violations.finish()?;
        let same = |a: &MetricPoint, b: &MetricPoint| {
            a.step == b.step && micros(a.timestamp) == micros(b.timestamp)
        };
        for moment in points.chunk_by(same) {
            let pairs = moment.iter().map(|point| (point.key.as_str(), point.value));
            self.log_pairs(pairs, moment[0].step, Some(micros(moment[0].timestamp)))?;
        }
        Ok(())
    }

    /// Logs values of several metrics at one moment, by default now: what [`ActiveRun::log_metric`] does, for all of them
    /// in one record, without making a copy of the keys.
    ///
    /// # Errors
    /// As [`ActiveRun::log_metric`].
    #[inline]
    pub fn log_pairs<'k>(
        &self,
        pairs: impl Iterator<Item = (&'k str, f64)> + Clone,
        step: Option<i64>,
        timestamp_us: Option<i64>,
    ) -> Result<()> {
        let at = timestamp_us.unwrap_or_else(|| micros(SystemTime::now()));
        self.log.metrics(step, at, pairs)
    }

    /// Logs many values of one metric: with one step each, or counted on by the server; with one time each (microseconds
    /// since 1970), or now.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a bad key, [`Error::Misuse`] when the columns differ in length.
    pub fn log_series(
        &self,
        key: &str,
        steps: Option<&[i64]>,
        values: &[f64],
        timestamps_us: Option<&[i64]>,
    ) -> Result<()> {
        for (what, column) in [("steps", steps), ("timestamps", timestamps_us)] {
            if let Some(column) = column.filter(|column| column.len() != values.len()) {
                let (given, wanted) = (column.len(), values.len());
                return Err(Error::misuse(format!(
                    "metric `{key}` has {given} {what} for {wanted} values; give one each"
                )));
            }
        }
        let times = timestamps_us.map_or_else(
            || Timestamps::All(micros(SystemTime::now())),
            Timestamps::Each,
        );
        if values.is_empty() {
            return rules::metric_key(key).map_err(|why| Error::invalid("metrics[0].key", why));
        }
        self.log.series(key, steps, times, values)
    }

    /// Waits until the server has stored all that this process logged before, for the time that `MLPLAT_FLUSH_TIMEOUT` and
    /// `MLPLAT_OFFLINE_TIMEOUT` allow. Where it could not be done, this is told on stderr and the answer is false; what is left
    /// is safe in the journal. It is false too where records of this process were refused or lost, now or before.
    pub async fn flush(&self) -> bool {
        self.wait(Patience::from_env()).await
    }

    /// As [`ActiveRun::flush`], but for this long.
    pub async fn flush_within(&self, timeout: Duration) -> bool {
        self.wait(Patience::of(timeout)).await
    }

    async fn wait(&self, patience: Patience) -> bool {
        let Some(journal) = self.log.journal() else {
            return false;
        };
        let delivered = journal.delivered(journal.appended(), patience).await;
        journal::tell(journal, &delivered);
        journal.has_stored_all(&delivered)
    }

    /// Keeps a file in the journal, and uploads it in the background to `artifact_path` in the run. A disk that takes no more
    /// is told on stderr, and is no error.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be read, [`Error::Misuse`] for a path that artifacts cannot have.
    pub fn spool_artifact(
        &self,
        local: impl AsRef<Path>,
        artifact_path: &str,
        media_type: &str,
    ) -> Result<()> {
        self.spool(SpoolSource::File(local.as_ref()), artifact_path, media_type)
    }

    /// As [`ActiveRun::spool_artifact`], for what is in memory.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a path that artifacts cannot have.
    pub fn spool_bytes(&self, content: &[u8], artifact_path: &str, media_type: &str) -> Result<()> {
        self.spool(SpoolSource::Bytes(content), artifact_path, media_type)
    }

    fn spool(&self, source: SpoolSource<'_>, path: &str, media_type: &str) -> Result<()> {
        let path = artifacts::checked_path(path)?;
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", &path));
        self.log.spool(source, directory, name, media_type)
    }

    /// Uploads a file, or a directory with all below it, under its own name.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Misuse`] for names that artifacts cannot have.
    pub async fn log_artifact(&self, local: impl AsRef<Path>) -> Result<Uploaded> {
        self.log_artifact_with(local, UploadOptions::default())
            .await
    }

    /// As [`ActiveRun::log_artifact`], into a directory of the run, with a media type, or with progress.
    ///
    /// # Errors
    /// As [`ActiveRun::log_artifact`].
    pub async fn log_artifact_with(
        &self,
        local: impl AsRef<Path>,
        options: UploadOptions,
    ) -> Result<Uploaded> {
        self.client
            .artifacts()
            .upload(self.id(), local, options)
            .await
    }

    /// Publishes a local file or directory (uploaded where the run does not have it yet), or else an artifact of the run,
    /// as the next version of a model.
    ///
    /// # Errors
    /// [`Error::NotFound`] when `path` is neither a local file nor an artifact of the run.
    pub async fn publish_model(
        &self,
        model: impl Into<String>,
        path: impl AsRef<Path>,
    ) -> Result<ModelVersion> {
        self.client
            .catalogue()
            .publish(NewModelVersion::new(model, self.id()), path)
            .await
    }

    /// Ends the run, without waiting for the server.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a status that is no end, or a run that was joined; [`Error::InvalidArgument`] for too long a
    /// message; [`Error::FailedPrecondition`] when it has been ended with another status.
    pub fn end_soon(&self, status: RunStatus, message: &str) -> Result<Run> {
        if matches!(status, RunStatus::Running | RunStatus::Crashed) {
            return Err(Error::misuse(
                "a run ends as finished, failed or killed, not as running",
            ));
        }
        if !self.log.is_own() {
            return Err(Error::misuse(format!(
                "run {} was joined; the process that started it ends it",
                self.id()
            )));
        }
        rules::text(message, rules::MAX_DESCRIPTION)
            .map_err(|why| Error::invalid("status_message", why))?;
        let ended = *self.ended.get_or_init(|| status);
        if ended != status {
            return Err(Error::FailedPrecondition(Box::new(Detail {
                message: format!("run {} has ended as {ended} already", self.id()),
                reason: "RUN_ENDED".into(),
                ..Default::default()
            })));
        }
        // The clock may have been set back.
        let ended_at = SystemTime::now().max(self.started.started_at);
        self.log.end(&pb::EndRunRequest {
            project: self.client.project().to_owned(),
            run_id: self.id().to_owned(),
            status: pb::RunStatus::from(status).into(),
            status_message: message.to_owned(),
            ended_at: Some(timestamp(ended_at)),
            // Whoever delivers it says so.
            writer_id: String::new(),
        });
        Ok(Run {
            status,
            status_message: message.to_owned(),
            ended_at: Some(ended_at),
            updated_at: ended_at,
            ..self.started.as_ref().clone()
        })
    }

    /// Ends the run, and waits as [`ActiveRun::flush`] does. The answer is what the server says, or where that is not known
    /// (yet), what this process knows of the run.
    ///
    /// # Errors
    /// As [`ActiveRun::end_soon`].
    pub async fn end(&self, status: RunStatus, message: &str) -> Result<Run> {
        let ended = self.end_soon(status, message)?;
        self.flush().await;
        let Some(journal) = self.log.journal() else {
            return Ok(ended);
        };
        journal.close().await;
        let id = Uuid::try_parse(self.id()).unwrap_or_default();
        Ok(journal.ended(id).map_or(ended, Run::from))
    }
}

/// Labels or params in records of bounded size.
fn parts(entries: BTreeMap<String, String>) -> Vec<BTreeMap<String, String>> {
    let mut parts: Vec<BTreeMap<String, String>> = Vec::new();
    let mut size = usize::MAX;
    for (key, value) in entries {
        let bytes = key.len() + value.len();
        if size.saturating_add(bytes) > TEXT_PER_RECORD {
            parts.push(BTreeMap::new());
            size = 0;
        }
        size += bytes;
        if let Some(part) = parts.last_mut() {
            part.insert(key, value);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_params_become_several_records() {
        assert!(parts(BTreeMap::new()).is_empty());
        let many: BTreeMap<String, String> = (0..40)
            .map(|i| (format!("p{i}"), "x".repeat(60_000)))
            .collect();
        let parts = parts(many);
        assert_eq!(parts.iter().map(BTreeMap::len).sum::<usize>(), 40);
        let size = |part: &BTreeMap<String, String>| part.values().map(String::len).sum::<usize>();
        assert!(parts.len() > 1 && parts.iter().all(|part| size(part) <= TEXT_PER_RECORD));
    }
}

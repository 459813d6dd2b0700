//! Where one run is logged to: what is said about it becomes records.
//!
//! Invariant: a call takes the lock of the writer once per record, and waits for nothing but that and the disk.

use std::{
    fmt,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use mlplat_proto::tracking::v1 as pb;
use uuid::Uuid;

use super::{
    Journal,
    folder::Folder,
    fork, notice,
    record::{self, Column, Id, RunDefinition},
};
use crate::{
    client::Client,
    error::{Error, Result},
};

/// Points of one series in one record.
const SERIES_POINTS: usize = 1 << 16;
/// Metrics in one record.
const METRICS: usize = 5_000;

/// Where one run is logged to, in every process that has it.
pub(crate) struct RunLog {
    client: Client,
    run: Uuid,
    own: bool,
    places: fork::PerProcess<Place>,
}

impl fmt::Debug for RunLog {
    /// Without the journal, which holds what was logged.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunLog")
            .field("run", &self.run)
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Place {
    journal: Arc<Journal>,
    run: Id,
}

impl RunLog {
    /// `own`: this process starts and ends the run. A process that is forked off only takes part in it.
    pub(crate) fn new(client: Client, run: Uuid, own: bool) -> Self {
        let log = Self {
            client,
            run,
            own,
            places: fork::PerProcess::new(),
        };
        log.make_place(own);
        log
    }

    fn make_place(&self, own: bool) -> Option<&Place> {
        self.places.get().or_else(|| {
            let Some(journal) = Journal::of(&self.client) else {
                fork::warn_of_depth();
                return None;
            };
            let ancestor = self.places.of_ancestor();
            let run = journal.run(RunDefinition {
                run: self.run,
                own,
                origin: ancestor.map(|place| place.journal.writer_id),
            });
            journal.start();
            self.places.get_or_init(|| Place { journal, run })
        })
    }

    #[inline]
    fn place(&self) -> Option<&Place> {
        match self.places.get() {
            Some(place) => Some(place),
            None => self.make_place(false),
        }
    }

    /// Whether this process starts and ends the run.
    pub(crate) fn is_own(&self) -> bool {
        self.own
    }

    /// The journal of this process.
    pub(crate) fn journal(&self) -> Option<&Arc<Journal>> {
        self.place().map(|place| &place.journal)
    }

    /// Logs values of some metrics at one moment.
    pub(crate) fn metrics<'k>(
        &self,
        step: Option<i64>,
        timestamp_us: i64,
        pairs: impl Iterator<Item = (&'k str, f64)> + Clone,
    ) -> Result<()> {
        let Some(place) = self.place() else {
            return Ok(());
        };
        let (mut at, mut rest) = (0, pairs);
        if rest.clone().next().is_none() {
            return Ok(());
        }
        let mut writer = place.journal.writer.lock();
        loop {
            let part = rest.clone().take(METRICS);
            writer
                .metrics(place.run, step, timestamp_us, part)
                .map_err(|(index, complaint)| {
                    Error::invalid(format!("metrics[{}].key", at + index), complaint)
                })?;
            if rest.nth(METRICS - 1).is_none() || rest.clone().next().is_none() {
                return Ok(());
            }
            at += METRICS;
        }
    }

    /// Logs many values of one metric.
    pub(crate) fn series(
        &self,
        key: &str,
        steps: Option<&[i64]>,
        timestamps_us: Timestamps<'_>,
        values: &[f64],
    ) -> Result<()> {
        let Some(place) = self.place() else {
            return Ok(());
        };
        for start in (0..values.len().max(1)).step_by(SERIES_POINTS) {
            let part = start..values.len().min(start + SERIES_POINTS);
            let at = match timestamps_us {
                Timestamps::All(start) => Column::Even { start, stride: 0 },
                Timestamps::Each(times) => Column::of(&times[part.clone()]),
            };
            let steps = steps.map_or(Column::Absent, |steps| Column::of(&steps[part.clone()]));
            let mut writer = place.journal.writer.lock();
            writer
                .series(place.run, key, steps, at, &values[part])
                .map_err(|(_, complaint)| Error::invalid("metrics[0].key", complaint))?;
        }
        Ok(())
    }

    /// Logs what a batch holds beside metrics. It must be small enough for one message.
    pub(crate) fn batch(&self, message: &pb::LogBatchRequest) {
        let bytes = prost::Message::encode_to_vec(message);
        self.record(false, |buffer, run| record::put_batch(buffer, run, &bytes));
    }

    /// Notes data sets that the run read.
    pub(crate) fn inputs(&self, message: &pb::LogInputsRequest) {
        let bytes = prost::Message::encode_to_vec(message);
        self.record(false, |buffer, run| record::put_inputs(buffer, run, &bytes));
    }

    /// Changes what the run is called, or what is said of it.
    pub(crate) fn update(&self, message: &pb::UpdateRunRequest) {
        let bytes = prost::Message::encode_to_vec(message);
        self.record(false, |buffer, run| record::put_update(buffer, run, &bytes));
    }

    /// Begins the run, or goes on with it where `resume` is given and it exists.
    pub(crate) fn open(
        &self,
        create: &pb::CreateRunRequest,
        resume: Option<&pb::ResumeRunRequest>,
    ) {
        let create = prost::Message::encode_to_vec(create);
        let resume = resume.map(prost::Message::encode_to_vec);
        if let Some(place) = self.place() {
            // What the server said of it before is of the time before.
            place.journal.shared.begun.lock().remove(&self.run);
            place
                .journal
                .shared
                .ended_elsewhere
                .lock()
                .remove(&self.run.to_string());
            place.journal.shared.under_way.lock().insert(self.run);
        }
        self.record(true, |buffer, run| {
            record::put_open(buffer, run, &create, resume.as_deref());
        });
    }

    /// Ends the run.
    pub(crate) fn end(&self, message: &pb::EndRunRequest) {
        let bytes = prost::Message::encode_to_vec(message);
        self.record(true, |buffer, run| record::put_end(buffer, run, &bytes));
        if let Some(place) = self.place() {
            place.journal.shared.under_way.lock().remove(&self.run);
        }
    }

    /// Keeps a file in the journal, and uploads it later as `directory/file_name`. A disk that takes no more is told, and is
    /// no error.
    pub(crate) fn spool(
        &self,
        source: SpoolSource<'_>,
        directory: &str,
        file_name: &str,
        media_type: &str,
    ) -> Result<()> {
        let Some(place) = self.place() else {
            return Ok(());
        };
        if let SpoolSource::File(path) = source
            && !std::fs::metadata(path)
                .map_err(|e| Error::io(path, e))?
                .is_file()
        {
            return Err(Error::misuse(format!("`{}` is not a file", path.display())));
        }
        let held = place.journal.writer.lock().hold();
        let kept = held.and_then(|folder| {
            let kept = place.journal.keep(&folder, source, file_name);
            if let Ok(spooled) = &kept {
                self.record(false, |buffer, run| {
                    record::put_artifact(buffer, run, spooled, directory, media_type);
                });
            }
            place.journal.writer.lock().release();
            kept
        });
        if let Err(error) = kept {
            place.journal.shared.dropped.fetch_add(1, Ordering::Relaxed);
            notice::warn(&format!(
                "`{file_name}` of run {} IS LOST: it cannot be kept in {}: {error}",
                self.run,
                place.journal.place()
            ));
        }
        Ok(())
    }

    fn record(&self, vital: bool, put: impl FnOnce(&mut Vec<u8>, Id)) {
        if let Some(place) = self.place() {
            let mut writer = place.journal.writer.lock();
            writer.record(place.run, vital, |buffer| put(buffer, place.run));
        }
    }
}

/// When the points of a series were measured.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Timestamps<'a> {
    All(i64),
    Each(&'a [i64]),
}

/// A file to keep.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SpoolSource<'a> {
    File(&'a Path),
    Bytes(&'a [u8]),
}

impl Journal {
    /// Copies a file into the folder.
    fn keep(
        &self,
        folder: &Folder,
        source: SpoolSource<'_>,
        file_name: &str,
    ) -> std::io::Result<String> {
        let (name, path) = folder.new_spooled(file_name)?;
        let size = match source {
            SpoolSource::File(from) => std::fs::copy(from, &path)?,
            SpoolSource::Bytes(bytes) => {
                std::fs::write(&path, bytes)?;
                bytes.len() as u64
            }
        };
        self.shared.stored.fetch_add(size, Ordering::Relaxed);
        Ok(name)
    }
}

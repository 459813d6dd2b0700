//! Brings the records of a window to the server.
//!
//! Invariant: a window is delivered when each of its records was stored by the server or refused for good; what was refused
//! is kept under `rejected`, and told. Calls may be repeated as often as it takes: the server recognizes records by their
//! numbers, and runs by their ids.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use mlplat_proto::tracking::v1::{self as pb, tracking_service_client::TrackingServiceClient};
use parking_lot::Mutex;
use prost::Message as _;
use tonic::transport::Channel;
use uuid::Uuid;

use super::{
    Shared,
    folder::{self, Folder, Meta},
    limits::Limits,
    notice,
    owner::Owner,
    reader::{Definitions, Reader, RunDefinition},
    record::{self, Record},
    window::{Call, Piece, Step, Window},
    writer::Writer,
};
use crate::{
    artifacts::UploadOptions,
    call::{MAX_MESSAGE_BYTES, rpc},
    client::Client,
    error::{Error, Result},
};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// How long a server may fail over one call before its records are taken for the cause.
const DOUBTED: Duration = Duration::from_secs(300);
/// How long the run of another process may be missing before it is taken for deleted.
const AWAITED: Duration = Duration::from_secs(3600);

/// Delivery was given up for now.
#[derive(Debug)]
pub(super) struct GivenUp(pub(super) Error);

/// Who waits for the delivery.
#[derive(Debug)]
pub(super) enum Manner {
    /// The process that writes the journal: it goes on for ever.
    Own(Arc<Shared>),
    /// Somebody who has found it: gives up after this long without success. A run that is not there is not waited for when
    /// the journal is `old`.
    Found { give_up: Duration, old: bool },
}

/// What a failure means for the call that failed.
enum Verdict {
    /// It will work later.
    Later,
    /// It works when the run is there, which another process begins.
    WhenBegun,
    /// It may work later, or never.
    Doubtful,
    /// It will never work.
    Refused,
}

fn verdict(error: &Error, run: RunDefinition) -> Verdict {
    match error {
        Error::Unavailable(_)
        | Error::DeadlineExceeded(_)
        | Error::Cancelled(_)
        | Error::Unauthenticated(_)
        | Error::ResourceExhausted(_)
        | Error::Aborted(_) => Verdict::Later,
        Error::NotFound(_) if !run.own => Verdict::WhenBegun,
        Error::Internal(_) | Error::DataLoss(_) | Error::Unimplemented(_) => Verdict::Doubtful,
        _ => Verdict::Refused,
    }
}

/// Brings records of one journal to the server.
#[derive(Debug)]
pub(super) struct Courier {
    /// A client that does not wait for the journal.
    client: Client,
    writer_id: Uuid,
    folder: Option<Folder>,
    home: Option<PathBuf>,
    manner: Manner,
    rejects: Option<Mutex<Writer>>,
    said: notice::Once,
    pub(super) rejected: u64,
    /// Runs of the journal's own process that it has not ended so far.
    unended: HashSet<Uuid>,
}

pub(super) fn tracking(channel: Channel) -> TrackingServiceClient<Channel> {
    TrackingServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

impl Courier {
    pub(super) fn new(
        client: Client,
        writer_id: Uuid,
        folder: Option<Folder>,
        home: Option<PathBuf>,
        manner: Manner,
    ) -> Self {
        Self {
            client,
            writer_id,
            folder,
            home,
            manner,
            rejects: None,
            said: notice::Once::default(),
            rejected: 0,
            unended: HashSet::new(),
        }
    }

    /// Delivers a window.
    pub(super) async fn deliver(
        &mut self,
        window: &Window,
        definitions: &Definitions,
    ) -> Result<(), GivenUp> {
        for Call { run, step } in &window.calls {
            match step {
                Step::Log(pieces) => self.log(window, *run, pieces, definitions).await?,
                Step::Open(piece) => self.open(window, *run, piece, definitions).await?,
                Step::End(piece) => self.end(window, *run, piece, definitions).await?,
                Step::Artifact(piece) => self.artifact(window, *run, piece, definitions).await?,
                Step::Unknown(piece) => {
                    let pieces = std::slice::from_ref(piece);
                    let why = Error::misuse("this version of mlplat does not know what it means");
                    self.reject(window, *run, pieces, definitions, &why);
                }
            }
        }
        Ok(())
    }

    /// Stores records of one run. When some of them are refused, the others are found by halving.
    async fn log(
        &mut self,
        window: &Window,
        run: RunDefinition,
        pieces: &[Piece],
        definitions: &Definitions,
    ) -> Result<(), GivenUp> {
        let mut parts = vec![pieces];
        while let Some(part) = parts.pop() {
            let (mut batch, count) = window.batch(part, definitions);
            let (now, later) = part.split_at(count);
            if !later.is_empty() {
                parts.push(later);
            }
            self.client.project().clone_into(&mut batch.project);
            batch.run_id = run.run.to_string();
            batch.writer_id = self.writer_id.to_string();
            let last = batch.sequence;
            let sent = self
                .until_done(run, || async {
                    rpc!(self.client, Repeatable, tracking.log_batch, batch.clone())
                })
                .await?;
            match sent {
                Ok(answer) => {
                    if run.own {
                        self.unended.insert(run.run);
                    }
                    let stored = answer.stored_sequence;
                    if answer.replayed && stored > 0 && stored < last {
                        // Another deliverer was here, and had cut the records into other batches.
                        let rest = now.partition_point(|piece| piece.number <= stored);
                        parts.push(&now[rest..]);
                    }
                }
                Err(error) if now.len() == 1 || concerns_the_run(&error) => {
                    self.reject(window, run, now, definitions, &error);
                }
                Err(_) => {
                    let (first, second) = now.split_at(now.len() / 2);
                    parts.extend([second, first]);
                }
            }
        }
        Ok(())
    }

    /// Begins a run, or goes on with it.
    async fn open(
        &mut self,
        window: &Window,
        run: RunDefinition,
        piece: &Piece,
        definitions: &Definitions,
    ) -> Result<(), GivenUp> {
        let Record::Open { create, resume, .. } = window.record(piece) else {
            return Ok(());
        };
        if let Some(resume) = resume.and_then(|bytes| pb::ResumeRunRequest::decode(bytes).ok()) {
            let sent = self
                .until_done(run, || async {
                    rpc!(self.client, Repeatable, tracking.resume_run, resume.clone())
                })
                .await?;
            match sent {
                Ok(_) => {
                    self.begun(run);
                    return Ok(());
                }
                Err(Error::NotFound(_)) => {}
                Err(error) => {
                    self.reject(
                        window,
                        run,
                        std::slice::from_ref(piece),
                        definitions,
                        &error,
                    );
                    return Ok(());
                }
            }
        }
        let request = pb::CreateRunRequest::decode(create).unwrap_or_default();
        let sent = self
            .until_done(run, || async {
                rpc!(
                    self.client,
                    Repeatable,
                    tracking.create_run,
                    request.clone()
                )
            })
            .await?;
        match sent {
            Ok(_) => self.begun(run),
            Err(error) => {
                self.reject(
                    window,
                    run,
                    std::slice::from_ref(piece),
                    definitions,
                    &error,
                );
            }
        }
        Ok(())
    }

    /// The server knows the run from now on.
    fn begun(&mut self, run: RunDefinition) {
        self.unended.insert(run.run);
        if let Manner::Own(shared) = &self.manner {
            shared.begun.lock().insert(run.run);
        }
    }

    async fn end(
        &mut self,
        window: &Window,
        run: RunDefinition,
        piece: &Piece,
        definitions: &Definitions,
    ) -> Result<(), GivenUp> {
        let Record::End { message, .. } = window.record(piece) else {
            return Ok(());
        };
        let request = pb::EndRunRequest::decode(message).unwrap_or_default();
        let sent = self
            .until_done(run, || async {
                rpc!(self.client, Repeatable, tracking.end_run, request.clone())
            })
            .await?;
        self.unended.remove(&run.run);
        match sent {
            Ok(answer) => {
                if let (Manner::Own(shared), Some(ended)) = (&self.manner, answer.run) {
                    shared.note_end(run.run, ended);
                }
            }
            Err(error) => {
                self.reject(
                    window,
                    run,
                    std::slice::from_ref(piece),
                    definitions,
                    &error,
                );
            }
        }
        Ok(())
    }

    /// Uploads a file that was kept. One that is gone was uploaded by another deliverer.
    async fn artifact(
        &mut self,
        window: &Window,
        run: RunDefinition,
        piece: &Piece,
        definitions: &Definitions,
    ) -> Result<(), GivenUp> {
        let Record::Artifact {
            spooled,
            directory,
            media_type,
            ..
        } = window.record(piece)
        else {
            return Ok(());
        };
        let Some(path) = self.folder.as_ref().map(|folder| folder.spooled(spooled)) else {
            return Ok(());
        };
        let Ok(size) = std::fs::metadata(&path).map(|found| found.len()) else {
            return Ok(());
        };
        let run_id = run.run.to_string();
        let sent = self
            .until_done(run, || async {
                let options = UploadOptions::default()
                    .directory(directory)
                    .media_type(media_type);
                self.client
                    .artifacts()
                    .upload(&run_id, &path, options)
                    .await
            })
            .await?;
        match sent {
            Ok(_) => {
                // Its folder has nothing else in it.
                if let Some(parent) = path.parent() {
                    let _ = std::fs::remove_dir_all(parent);
                }
                if let Manner::Own(shared) = &self.manner {
                    shared.give_back(size);
                }
            }
            Err(Error::Io(..)) if !path.exists() => {}
            Err(error) => {
                self.keep_file(&path);
                self.reject(
                    window,
                    run,
                    std::slice::from_ref(piece),
                    definitions,
                    &error,
                );
            }
        }
        Ok(())
    }

    /// Tries a call until it is done or refused; the inner error says that it is refused.
    async fn until_done<R, F, Fut>(&self, run: RunDefinition, call: F) -> Result<Result<R>, GivenUp>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<R>>,
    {
        let (began, mut wait) = (Instant::now(), FIRST_WAIT);
        loop {
            let error = match call().await {
                Ok(answer) => {
                    self.note(None, false);
                    return Ok(Ok(answer));
                }
                Err(error) => error,
            };
            let given_up = match verdict(&error, run) {
                Verdict::Refused => return Ok(Err(error)),
                Verdict::Doubtful if began.elapsed() > DOUBTED => return Ok(Err(error)),
                Verdict::WhenBegun if began.elapsed() > AWAITED || self.is_old() => {
                    return Ok(Err(error));
                }
                Verdict::WhenBegun => self.note(Some(&error), true),
                Verdict::Later | Verdict::Doubtful => self.note(Some(&error), false),
            };
            if given_up.is_some_and(|after| began.elapsed() >= after) {
                return Err(GivenUp(error));
            }
            self.pause(wait.mul_f64(0.5 + 0.5 * rand::random::<f64>()))
                .await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Tells who waits how it goes; the answer is how long to try.
    fn note(&self, error: Option<&Error>, waits_for_run: bool) -> Option<Duration> {
        match &self.manner {
            Manner::Own(shared) => {
                shared.note(error, waits_for_run);
                None
            }
            Manner::Found { give_up, .. } => Some(*give_up),
        }
    }

    fn is_old(&self) -> bool {
        matches!(self.manner, Manner::Found { old: true, .. })
    }

    async fn pause(&self, time: Duration) {
        match &self.manner {
            // Who waits for the delivery wants it to be tried now.
            Manner::Own(shared) => {
                let _ = tokio::time::timeout(time, shared.wake.notified()).await;
            }
            Manner::Found { .. } => tokio::time::sleep(time).await,
        }
    }

    /// Keeps records that the server does not take where they can be found.
    fn reject(
        &mut self,
        window: &Window,
        run: RunDefinition,
        pieces: &[Piece],
        definitions: &Definitions,
        error: &Error,
    ) {
        let place = self.keep_records(window, run, pieces, definitions);
        self.rejected += pieces.len() as u64;
        if let Manner::Own(shared) = &self.manner {
            shared.progress.send_modify(|progress| {
                progress.rejected += pieces.len() as u64;
            });
        }
        let kind = format!("{}/{}", error.reason(), run.run);
        self.said.warn(&kind, || {
            format!(
                "THE SERVER REFUSES what was logged to run {}: {error}. It is kept in {place}; `mlplat sync --rejected` tries \
                 it again",
                run.run
            )
        });
    }

    /// A journal of what is refused, in the same form.
    fn keep_records(
        &mut self,
        window: &Window,
        run: RunDefinition,
        pieces: &[Piece],
        definitions: &Definitions,
    ) -> String {
        let Some(home) = &self.home else {
            return "no place, as there is no home folder".to_owned();
        };
        let rejects = self.rejects.get_or_insert_with(|| {
            let writer_id = Uuid::now_v7();
            let folder = Folder::at(folder::rejected(home).join(writer_id.to_string()));
            let (url, project) = (self.client.url(), self.client.project());
            let meta = Meta::new(writer_id, url, project, Owner::default());
            let limits = Limits::from_env();
            Mutex::new(Writer::new(
                meta,
                Some(folder),
                limits,
                Arc::new(Shared::new()),
            ))
        });
        let mut writer = rejects.lock();
        for piece in pieces {
            writer.copy(|buffer| {
                define(buffer, window, run, piece, definitions);
                buffer.extend_from_slice(window.frame(piece));
            });
        }
        writer.place()
    }

    /// Keeps a file whose record is refused.
    fn keep_file(&self, path: &std::path::Path) {
        let Some(home) = &self.home else {
            return;
        };
        let files = folder::rejected(home).join("files");
        let kept = std::fs::create_dir_all(&files).and_then(|()| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            std::fs::copy(
                path,
                files.join(format!("{}-{name}", Uuid::now_v7().simple())),
            )
        });
        if let Err(error) = kept {
            tracing::debug!(%error, "a refused file could not be kept");
        }
    }

    /// Lets the server find out that runs of a dead process are not under way any more: it was heard of once, and then never
    /// again.
    pub(super) async fn last_heartbeat(&self) {
        const MOST: usize = 1000;
        if self.unended.is_empty() {
            return;
        }
        let request = pb::HeartbeatRunsRequest {
            project: self.client.project().to_owned(),
            run_ids: self
                .unended
                .iter()
                .take(MOST)
                .map(Uuid::to_string)
                .collect(),
        };
        let told = rpc!(self.client, Repeatable, tracking.heartbeat_runs, request);
        if let Err(error) = told {
            tracing::debug!(%error, "a last heartbeat failed");
        }
    }

    /// Removes segments that are delivered; those in which something is damaged are kept elsewhere.
    pub(super) fn remove_segments(&self, reader: &Reader, below: u64) {
        let Some(folder) = &self.folder else {
            return;
        };
        let Ok(segments) = folder.segments() else {
            return;
        };
        for segment in segments.into_iter().filter(|&segment| segment < below) {
            if reader.damaged().contains(&segment)
                && let Some(home) = &self.home
            {
                let kept = folder::rejected(home);
                let name = format!("damaged-{}-{segment:06}.seg", self.writer_id);
                let moved = std::fs::create_dir_all(&kept)
                    .and_then(|()| std::fs::rename(folder.segment(segment), kept.join(name)));
                if let Err(error) = moved {
                    tracing::debug!(%error, "a damaged segment could not be kept");
                }
            }
            let bytes = folder.remove_segment(segment);
            if let Manner::Own(shared) = &self.manner {
                shared.give_back(bytes);
            }
        }
    }
}

/// Whether a refusal is about the run or the caller, and so about all records.
fn concerns_the_run(error: &Error) -> bool {
    matches!(
        error,
        Error::NotFound(_) | Error::PermissionDenied(_) | Error::FailedPrecondition(_)
    )
}

/// Writes the definitions that a record needs.
fn define(
    buffer: &mut Vec<u8>,
    window: &Window,
    run: RunDefinition,
    piece: &Piece,
    definitions: &Definitions,
) {
    let (run_id, keys): (record::Id, Vec<record::Id>) = match window.record(piece) {
        Record::Metrics(metrics) => (metrics.run, metrics.pairs().map(|pair| pair.0).collect()),
        Record::Series(series) => (series.run, vec![series.key]),
        Record::Batch { run, .. }
        | Record::Open { run, .. }
        | Record::End { run, .. }
        | Record::Artifact { run, .. } => (run, Vec::new()),
        _ => return,
    };
    record::put_run(buffer, run_id, run.run, run.own);
    for key in keys {
        if let Some(name) = definitions.key(key) {
            record::put_key(buffer, key, name);
        }
    }
}

impl Shared {
    fn give_back(&self, bytes: u64) {
        let update = |stored: u64| Some(stored.saturating_sub(bytes));
        // The closure never refuses.
        let _ = self
            .stored
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    fn note(&self, error: Option<&Error>, waits_for_run: bool) {
        self.progress.send_modify(|progress| {
            progress.attempts += 1;
            progress.waits_for_run = waits_for_run;
            progress.trouble = error.map(|error| {
                let since = progress.trouble.as_ref().map(|trouble| trouble.0);
                (since.unwrap_or_else(Instant::now), error.to_string().into())
            });
        });
    }

    /// The runs that the server knows, and that this process does.
    pub(super) fn heartbeats(&self) -> Vec<String> {
        const MOST: usize = 1000;
        let (under_way, mut begun) = (self.under_way.lock(), self.begun.lock());
        begun.retain(|run| under_way.contains(run));
        begun.iter().take(MOST).map(Uuid::to_string).collect()
    }

    /// Somebody else has ended a run of this process.
    pub(super) fn note_ended_elsewhere(&self, run: &str) {
        // Its end may have been on the way.
        let id = Uuid::try_parse(run).unwrap_or_default();
        if self.under_way.lock().contains(&id) && self.ended_elsewhere.lock().insert(run.to_owned())
        {
            notice::warn(&format!(
                "run {run} was ended by somebody else, or deleted, while this process goes on with it"
            ));
        }
    }

    fn note_end(&self, run: Uuid, ended: pb::Run) {
        const KEPT: usize = 64;
        let mut ends = self.ended.lock();
        if ends.len() >= KEPT {
            ends.clear();
        }
        ends.insert(run, ended);
    }
}
